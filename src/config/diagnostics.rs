//! Owns what is wrong with a config: all of it in one run, each with its place, what is allowed and what was probably meant.
//! Formats for people at 80 to 100 columns without colour, and for programs as JSON.

use std::fmt::{self, Write as _};
use std::ops::Range;

use serde_json::{Value, json};

use super::node::{At, Place, Text};

/// Text is wrapped at this column.
const WIDTH: usize = 96;
/// So many are kept; the others are only counted. Nobody reads more, and a file full of mistakes costs no more.
const KEPT: usize = 100;
/// Longest part of a source line that is shown.
const EXCERPT: usize = 84;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is started.
    Error,
    /// Suspicious, but usable.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it was written; `None`: it is about the config as a whole.
    pub place: Option<Place>,
    /// `pool.web.workers: ...`.
    pub message: String,
    /// What is allowed, what was probably meant, what to do.
    pub help: Vec<String>,
    /// The source line holds a secret and is not shown.
    pub secret: bool,
}

impl Diagnostic {
    /// An error.
    pub fn error(place: Option<Place>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Error, place, message: message.into(), help: Vec::new(), secret: false }
    }

    /// It is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// A warning.
    pub fn warning(place: Option<Place>, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(place, message) }
    }

    /// Adds a line of help.
    #[must_use]
    pub fn help(mut self, line: impl Into<String>) -> Diagnostic {
        self.help.push(line.into());
        self
    }

    /// One line: the message and its place.
    pub fn line(&self) -> String {
        match &self.place {
            Some(place) => format!("{} ({})", self.message, place.words()),
            None => self.message.clone(),
        }
    }

    fn write_help(&self, f: &mut fmt::Formatter<'_>, gutter: &str) -> fmt::Result {
        self.help.iter().try_for_each(|help| f.write_str(&wrapped(help, &format!(" {gutter} = "), &format!(" {gutter}   "))))
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let mut out = json!({ "message": self.message, "help": self.help });
        match self.place.as_ref().map(|place| &place.at) {
            Some(At::Text(text, span)) => {
                let (line, column) = text.position(span.start);
                out["file"] = json!(text.name);
                out["line"] = json!(line);
                out["column"] = json!(column);
            }
            Some(At::Variable(name)) => out["variable"] = json!(&**name),
            Some(At::Flag(shown)) => out["flag"] = json!(&**shown),
            Some(At::BuiltIn) | None => {}
        }
        out
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        f.write_str(&wrapped(&format!("{word}: {}", self.message), "", "       "))?;
        let gutter = match self.place.as_ref().map(|place| (&place.at, place)) {
            Some((At::Text(text, span), place)) => {
                let number = text.position(span.start).0.to_string();
                let pad = " ".repeat(number.len());
                writeln!(f, " {pad}--> {}", place.words())?;
                if self.secret || text.may_hold_secrets(span.start) {
                    return self.write_help(f, &pad);
                }
                let (line, from, width) = excerpt(text, span);
                writeln!(f, " {pad} |")?;
                writeln!(f, " {number} | {line}")?;
                writeln!(f, " {pad} | {}{}", " ".repeat(from), "^".repeat(width))?;
                pad
            }
            Some((At::Variable(_) | At::Flag(_), place)) => {
                writeln!(f, "  --> {}", place.words())?;
                " ".to_owned()
            }
            Some((At::BuiltIn, _)) | None => " ".to_owned(),
        };
        self.write_help(f, &gutter)
    }
}

/// The source line of a span, cut around it when it is long and cleaned of what a terminal would obey; then the caret's column and
/// width.
fn excerpt(text: &Text, span: &Range<usize>) -> (String, usize, usize) {
    let (line, start) = text.line(span.start);
    let mut shown = Vec::new();
    let (mut from, mut to) = (None, 0);
    for (offset, c) in line.char_indices() {
        let at = start + offset;
        if at >= span.start && from.is_none() {
            from = Some(shown.len());
        }
        match c {
            '\t' => shown.extend([' '; 4]),
            c if c.is_control() => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
        if at < span.end {
            to = shown.len();
        }
    }
    let from = from.unwrap_or(shown.len());
    let mut width = to.saturating_sub(from).max(1);
    let skip = if shown.len() > EXCERPT && from > EXCERPT / 2 { (from - EXCERPT / 3).min(shown.len() - EXCERPT) } else { 0 };
    let mut part: String = shown.iter().skip(skip).take(EXCERPT).collect();
    if skip + EXCERPT < shown.len() {
        part.push_str("...");
    }
    let mut caret = from - skip;
    if skip > 0 {
        part.insert_str(0, "...");
        caret += 3;
    }
    width = width.min((EXCERPT + 6).saturating_sub(caret)).max(1);
    (part.trim_end().to_owned(), caret, width)
}

/// Breaks at spaces; `first` stands before the first line and `rest` before the others. Ends with a newline.
fn wrapped(text: &str, first: &str, rest: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    let (mut out, mut line) = (String::new(), first.to_owned());
    let mut empty = true;
    for word in clean.split([' ', '\n']) {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            line = rest.to_owned();
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
    out
}

/// A note in one or more lines, wrapped like everything else.
pub fn note(text: &str) -> String {
    wrapped(&format!("note: {text}"), "", "      ")
}

/// All that is wrong with a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Errors beyond those kept.
    dropped: usize,
    /// What the config asks for and this version does not have, one line each.
    pub not_yet: Vec<String>,
    /// Some of the text could not be read: what seems to be missing may be there.
    partial: bool,
}

impl Diagnostics {
    /// Adds one; what is already known is not said twice.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.contains(&diagnostic) {
            return;
        }
        if self.list.len() < KEPT {
            self.list.push(diagnostic);
            return;
        }
        // A kept warning never stands in the way of an error: the config has to fail.
        if diagnostic.severity == Severity::Error {
            self.dropped += 1;
        }
    }

    /// That help was given already.
    pub(super) fn helps_with(&self, help: &str) -> bool {
        self.list.iter().any(|d| d.help.iter().any(|line| line == help))
    }

    /// Nothing more is kept.
    pub(super) fn full(&self) -> bool {
        self.dropped > 0
    }

    /// Adds an error and gives it back, for [`Diagnostic::help`]'s sake in one expression.
    pub(super) fn error(&mut self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.push(Diagnostic::error(Some(place.clone()), message).help(help));
    }

    /// Adds an error about what is not there, unless it may be in text that could not be read.
    pub(super) fn missing(&mut self, diagnostic: Diagnostic) {
        if !self.partial {
            self.push(diagnostic);
        }
    }

    /// The same in one expression: `what` needs something that is not there.
    pub(super) fn lacks(&mut self, place: &Place, what: impl Into<String>, help: impl Into<String>) {
        self.missing(Diagnostic::error(Some(place.clone()), what).help(help));
    }

    /// From now on not all of the text is there.
    pub(super) fn go_on_without_some_text(&mut self) {
        self.partial = true;
    }

    /// Adds a warning: none where text that could not be read may have taken care of it.
    pub(super) fn warn(&mut self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        if self.partial {
            return;
        }
        self.push(Diagnostic::warning(Some(place.clone()), message).help(help));
    }

    /// How many, warnings included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Nothing at all is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// There is at least one error.
    pub fn failed(&self) -> bool {
        self.dropped > 0 || self.errors().next().is_some()
    }

    /// How many errors there are beyond those kept.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The errors.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().filter(|d| d.severity == Severity::Error)
    }

    /// The warnings.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().filter(|d| d.severity == Severity::Warning)
    }

    /// Puts them in the order of layers, files and lines; what has no place comes last.
    pub fn sort(&mut self) {
        self.list.sort_by(|a, b| match (&a.place, &b.place) {
            (Some(a), Some(b)) => a.order().cmp(&b.order()),
            (a, b) => a.is_none().cmp(&b.is_none()),
        });
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        if self.dropped > 0 {
            writeln!(f, "\nerror: and more, not shown: mend these first")?;
        }
        if self.partial {
            write!(f, "\n{}", note("what an included file that cannot be read may hold was not judged: pools, templates, keys"))?;
        }
        for (i, line) in self.not_yet.iter().enumerate() {
            write!(f, "{}{}", if i == 0 && !self.list.is_empty() { "\n" } else { "" }, note(line))?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::node::Layer;
    use super::*;

    fn at(body: &str, span: Range<usize>) -> Option<Place> {
        let text = Arc::new(Text::new("p.toml", body));
        Some(Place { layer: Layer::File, at: At::Text(text, span) })
    }

    #[test]
    fn a_caret_stands_under_the_span() {
        let d =
            Diagnostic::error(at("x = 1\nwokers = 4\n", 6..12), "pool.web.wokers: no such key").help("did you mean `workers`?");
        let want = "error: pool.web.wokers: no such key\n  --> p.toml:2:1\n   |\n 2 | wokers = 4\n   | ^^^^^^\n   = did you mean `workers`?\n";
        assert_eq!(d.to_string(), want);
    }

    #[test]
    fn long_lines_are_cut_around_the_span_and_control_characters_are_not_passed_on() {
        let body = format!("{}\u{1b}[31mBAD{}", "a".repeat(300), "b".repeat(300));
        let shown = Diagnostic::error(at(&body, 305..308), "m").to_string();
        assert!(!shown.contains('\u{1b}'));
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[4].find('^').expect("a caret");
        let under: String = lines[3].chars().skip(caret).take(3).collect();
        assert_eq!(under, "BAD", "{shown}");
        assert!(lines.iter().all(|l| l.chars().count() <= 100), "{shown}");
    }

    #[test]
    fn long_messages_are_wrapped() {
        let shown = Diagnostic::error(None, "word ".repeat(60)).help("help ".repeat(60)).to_string();
        assert!(shown.lines().all(|l| l.chars().count() <= WIDTH), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn any_span_can_be_shown(body in "[\\PC\\n\\t\\r]{0,200}", start in 0usize..300, len in 0usize..300) {
            let shown = Diagnostic::error(at(&body, start..start + len), "m").to_string();
            proptest::prop_assert!(shown.lines().all(|l| l.chars().count() <= 110));
        }
    }
}
