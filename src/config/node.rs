//! Owns the raw tree that every layer is read into: values with the exact place they were written at, tables in the order of
//! the file. Knows nothing of keys and their types.

use std::ops::Range;
use std::sync::Arc;

use super::table::Table;

/// Where a setting comes from, weakest first: the order of the variants *is* the precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// The program's own default.
    BuiltIn,
    /// The config file.
    File,
    /// An include file; the number is its place in the sorted list.
    Include(u32),
    /// A `POOLMASTER__...` variable.
    Environment,
    /// The command line.
    Flag,
}

/// A text that settings were read from, kept for the source lines of diagnostics.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    /// As the user knows it: the path as given.
    pub name: String,
    /// All of it.
    pub body: String,
    /// Where its lines start.
    starts: Vec<usize>,
}

impl Text {
    /// A text of that name.
    pub fn new(name: impl Into<String>, body: impl Into<String>) -> Text {
        let body = body.into();
        let starts = std::iter::once(0).chain(body.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Text { name: name.into(), body, starts }
    }

    /// Line and column, both from 1, of a byte offset; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.before(offset);
        let line = self.starts.partition_point(|start| *start <= before.len());
        (line, before[self.starts[line - 1]..].chars().count() + 1)
    }

    /// The line that holds a byte offset, without its end, and where in the text it starts.
    pub fn line(&self, offset: usize) -> (&str, usize) {
        let start = self.starts[self.starts.partition_point(|start| *start <= self.before(offset).len()) - 1];
        let line = self.body[start..].split('\n').next().unwrap_or_default();
        (line.strip_suffix('\r').unwrap_or(line), start)
    }

    /// True when the line at an offset is one of secrets, by its own words or by the table that it stands in: it is not shown.
    pub fn may_hold_secrets(&self, offset: usize) -> bool {
        let speaks = |line: &str| line.to_ascii_lowercase().contains("secret");
        speaks(self.line(offset).0) || self.header(offset).is_some_and(|header| speaks(self.line(header).0))
    }

    /// Where the table starts that an offset lies in: its `[...]`. `None`: before the first.
    pub fn header(&self, offset: usize) -> Option<usize> {
        let line = self.starts.partition_point(|start| *start <= self.before(offset).len());
        self.starts[..line].iter().rev().copied().find(|start| self.body[*start..].starts_with('['))
    }

    /// The text up to an offset, moved down to a character boundary.
    fn before(&self, offset: usize) -> &str {
        let mut end = offset.min(self.body.len());
        while !self.body.is_char_boundary(end) {
            end -= 1;
        }
        &self.body[..end]
    }
}

/// The place a key or a value was written at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its layer.
    pub layer: Layer,
    /// Where in that layer.
    pub at: At,
}

/// Where in its layer something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// Nowhere: the program's own default.
    BuiltIn,
    /// In a text, at these bytes.
    Text(Arc<Text>, Range<usize>),
    /// In this environment variable.
    Variable(Arc<str>),
    /// On the command line, as typed.
    Flag(Arc<str>),
}

impl Place {
    /// The place of built-in values.
    pub const BUILT_IN: Place = Place { layer: Layer::BuiltIn, at: At::BuiltIn };

    /// By this places are sorted: layers, then where in the text.
    pub(super) fn order(&self) -> (Layer, usize, &str) {
        match &self.at {
            At::BuiltIn => (self.layer, 0, ""),
            At::Text(_, span) => (self.layer, span.start, ""),
            At::Variable(name) => (self.layer, 0, name),
            // In the order of the command line.
            At::Flag(_) => (self.layer, 0, ""),
        }
    }

    /// In words: `pools.toml:4:11`, `variable POOLMASTER__...`, `flag --workers web=8`, `built-in default`.
    /// Without what a terminal would obey: names of files and variables may hold anything.
    pub fn words(&self) -> String {
        let words = match &self.at {
            At::BuiltIn => "built-in default".to_owned(),
            At::Text(text, span) => {
                let (line, column) = text.position(span.start);
                format!("{}:{line}:{column}", text.name)
            }
            At::Variable(name) => format!("variable {name}"),
            At::Flag(shown) if shown.starts_with('-') => format!("flag {shown}"),
            At::Flag(shown) => shown.to_string(),
        };
        words.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where its key is.
    pub key: Place,
    /// Where the value is.
    pub place: Place,
    /// The value.
    pub raw: Raw,
}

/// A value as its layer's syntax has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A string.
    Str(String),
    /// A list.
    List(Vec<Node>),
    /// A table, in the order written.
    Table(Table),
    /// Something that no key takes, in words ("a date", "null").
    Odd(&'static str),
}

impl Raw {
    /// What it is, in words, for "this is ...".
    pub fn what(&self) -> &'static str {
        match self {
            Raw::Bool(_) => "a boolean",
            Raw::Int(_) => "a whole number",
            Raw::Float(_) => "a fraction",
            Raw::Str(_) => "a string",
            Raw::List(_) => "a list",
            Raw::Table(_) => "a table",
            Raw::Odd(what) => what,
        }
    }

    /// The value as one would type it, cut to a readable length.
    pub fn shown(&self) -> String {
        let full = match self {
            Raw::Bool(b) => b.to_string(),
            Raw::Int(n) => n.to_string(),
            Raw::Float(f) => f.to_string(),
            Raw::Str(s) => format!("{s:?}"),
            Raw::List(_) | Raw::Table(_) | Raw::Odd(_) => return self.what().to_owned(),
        };
        if full.chars().count() <= 60 { full } else { full.chars().take(57).chain("...".chars()).collect() }
    }
}

impl Node {
    /// An empty table without a place of its own: the root of a layer.
    pub fn root(place: Place) -> Node {
        Node { key: place.clone(), place, raw: Raw::Table(Table::default()) }
    }

    /// The entries of a table; of anything else, none.
    pub fn entries(&self) -> &[(String, Node)] {
        match &self.raw {
            Raw::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.raw {
            Raw::Table(entries) => entries.named(name),
            _ => None,
        }
    }

    /// The node at a path of names.
    pub fn find<S: AsRef<str>>(&self, path: &[S]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name.as_ref()))
    }

    /// Puts `node` at `path`, making tables on the way. A value that stands in the way, or at the end, is replaced: within one
    /// layer the later one wins.
    pub fn insert(&mut self, path: &[String], node: Node) {
        let Some((name, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self.raw, Raw::Table(_)) {
            self.raw = Raw::Table(Table::default());
        }
        let Raw::Table(entries) = &mut self.raw else { return };
        match entries.named_mut(name) {
            Some(there) => there.insert(rest, node),
            None => {
                let mut child = Node::root(node.place.clone());
                child.insert(rest, node);
                entries.push(name.clone(), child);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_survive_odd_offsets() {
        let text = Text::new("x", "a\nbé = 1\r\nc");
        assert_eq!(text.position(0), (1, 1));
        assert_eq!(text.position(2), (2, 1));
        assert_eq!(text.position(4), (2, 2), "inside é: its start");
        assert_eq!(text.position(5), (2, 3));
        assert_eq!(text.position(999), (3, 2));
        assert_eq!(text.line(5), ("bé = 1", 2));
        assert_eq!(text.line(999), ("c", 11));
    }

    #[test]
    fn layers_are_ordered_by_strength() {
        let order = [Layer::BuiltIn, Layer::File, Layer::Include(0), Layer::Include(1), Layer::Environment, Layer::Flag];
        assert!(order.is_sorted() && order.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn inserting_makes_tables_and_replaces_values() {
        let path = |p: &str| p.split('.').map(str::to_owned).collect::<Vec<_>>();
        let leaf = |n| Node { key: Place::BUILT_IN, place: Place::BUILT_IN, raw: Raw::Int(n) };
        let mut root = Node::root(Place::BUILT_IN);
        root.insert(&path("a.b"), leaf(1));
        root.insert(&path("a.c"), leaf(2));
        root.insert(&path("a.b.d"), leaf(3));
        assert_eq!(root.find(&["a", "c"]), Some(&leaf(2)));
        assert_eq!(root.find(&["a", "b", "d"]), Some(&leaf(3)));
        assert_eq!(root.find(&["a", "x"]), None);
    }
}
