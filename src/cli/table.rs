//! Owns aligned tables: columns as wide as their widest cell, numbers to the right, remarks below their row.

use super::words::{Tone, printable, wrapped};

/// Of a terminal.
const WIDTH: usize = 80;

/// On which side a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table. The first row added is below the heading.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Row>,
    indent: usize,
}

#[derive(Debug)]
struct Row {
    cells: Vec<(String, Tone)>,
    below: String,
}

impl Table {
    /// An empty one, indented by so many columns.
    pub(super) fn new(indent: usize, columns: &[(&'static str, Side)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new(), indent }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: Vec<(String, Tone)>) {
        let cells = cells.into_iter().map(|(text, tone)| (printable(&text), tone)).collect();
        self.rows.push(Row { cells, below: String::new() });
    }

    /// Adds a remark below the last row.
    pub(super) fn remark(&mut self, text: &str) {
        let indent = self.indent + 4;
        if let Some(row) = self.rows.last_mut() {
            row.below.push_str(&wrapped(&printable(text), indent));
        }
    }

    /// Adds lines as they are below the last row.
    pub(super) fn below(&mut self, lines: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.below.push_str(lines);
        }
    }

    /// The lines. A column in which every cell is empty is left out.
    pub(super) fn render(&self, colours: bool) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| {
                let widest = self.rows.iter().filter_map(|r| r.cells.get(i)).map(|(t, _)| t.chars().count()).max().unwrap_or(0);
                if widest == 0 { 0 } else { widest.max(self.columns[i].0.len()) }
            })
            .collect();
        let heading = self.columns.iter().map(|(name, _)| ((*name).to_owned(), Tone::Plain)).collect::<Vec<_>>();
        let mut out = self.line(&heading, &widths, colours);
        for row in &self.rows {
            let (cells, rest) = self.fit(&row.cells, &widths);
            out.push_str(&self.line(&cells, &widths, colours));
            out.push_str(&rest);
            out.push_str(&row.below);
        }
        out
    }

    /// Words at the end of a row that do not fit go to lines of their own.
    fn fit(&self, cells: &[(String, Tone)], widths: &[usize]) -> (Vec<(String, Tone)>, String) {
        let mut cells = cells.to_vec();
        let before: usize = widths.iter().rev().skip(1).filter(|width| **width > 0).map(|width| width + 2).sum();
        let long = |text: &str| self.indent + before + text.chars().count() > WIDTH;
        match (cells.last_mut(), self.columns.last()) {
            (Some((text, _)), Some((_, Side::Left))) if long(text) && text.contains(' ') => {
                let rest = wrapped(&std::mem::take(text), self.indent + 4);
                (cells, rest)
            }
            _ => (cells, String::new()),
        }
    }

    fn line(&self, cells: &[(String, Tone)], widths: &[usize], colours: bool) -> String {
        let mut out = " ".repeat(self.indent);
        let mut gap = 0;
        for (((text, tone), width), (_, side)) in cells.iter().zip(widths).zip(&self.columns) {
            if *width == 0 {
                continue;
            }
            let pad = width.saturating_sub(text.chars().count());
            let (before, after) = if *side == Side::Right { (pad, 0) } else { (0, pad) };
            if text.is_empty() {
                gap += width + 2;
                continue;
            }
            out.push_str(&" ".repeat(gap + before));
            out.push_str(&tone.paint(text, colours));
            gap = after + 2;
        }
        out.push('\n');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_remark_goes_below_its_row() {
        let mut table = Table::new(2, &[("POOL", Side::Left), ("REMARKS", Side::Left)]);
        let words = "waits for its READY=1, or for being seen accepting on tcp://127.0.0.1:8000".to_owned();
        table.row(vec![("p".repeat(32), Tone::Plain), (words, Tone::Plain)]);
        table.row(vec![("q".to_owned(), Tone::Plain), ("short".to_owned(), Tone::Plain)]);
        let text = table.render(false);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH && line == line.trim_end()), "{text}");
        assert!(text.contains("      waits for its READY=1"), "{text}");
    }

    #[test]
    fn cells_stand_below_their_heading() {
        let mut table =
            Table::new(0, &[("POOL", Side::Left), ("READY", Side::Right), ("NONE", Side::Left), ("WHERE", Side::Left)]);
        let cell = |t: &str| (t.to_owned(), Tone::Plain);
        table.row(vec![cell("web"), ("12/12".to_owned(), Tone::Good), cell(""), cell("here")]);
        table.row(vec![cell("scheduler"), cell(""), cell(""), cell("")]);
        table.remark("as it is");
        assert_eq!(table.render(false), "POOL       READY  WHERE\nweb        12/12  here\nscheduler\n    as it is\n");
        assert!(table.render(true).contains("\x1b[32m12/12\x1b[0m"));
    }
}
