//! Owns a table of the raw tree: its entries in the order written, each found by name without looking at all of them. A config of a mebibyte
//! may have tens of thousands.

use std::collections::BTreeMap;
use std::ops::Deref;

use super::node::Node;

/// Names and nodes, in the order written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    entries: Vec<(String, Node)>,
    index: BTreeMap<String, usize>,
}

impl Table {
    /// The entry of that name; of several the first.
    pub fn named(&self, name: &str) -> Option<&Node> {
        self.index.get(name).and_then(|at| self.entries.get(*at)).map(|(_, node)| node)
    }

    /// The same, to be changed.
    pub fn named_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.index.get(name).and_then(|at| self.entries.get_mut(*at)).map(|(_, node)| node)
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, name: String, node: Node) {
        self.index.entry(name.clone()).or_insert(self.entries.len());
        self.entries.push((name, node));
    }
}

impl Deref for Table {
    type Target = [(String, Node)];

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl FromIterator<(String, Node)> for Table {
    fn from_iter<I: IntoIterator<Item = (String, Node)>>(entries: I) -> Table {
        let mut table = Table::default();
        entries.into_iter().for_each(|(name, node)| table.push(name, node));
        table
    }
}
