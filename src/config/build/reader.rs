//! Owns reading typed values out of a merged tree, with the definition's default where there is none or a wrong one.

use std::path::PathBuf;
use std::time::Duration;

use super::super::keys::Key;
use super::super::kind::{Around, Typed};
use super::super::node::{Layer, Node, Place, Raw};
use super::super::spec::{Account, Bounds, Output};
use super::super::toml_text;
use super::super::value::address;
use super::super::value::start::{Ready, Workers};
use crate::supervisor::Share;

/// A merged table and the definitions of its keys.
pub(super) struct Reader<'a> {
    pub(super) node: &'a Node,
    /// `master`, or `pool.web`.
    pub(super) path: String,
    definition: fn(&str) -> Option<&'static Key>,
    around: Around<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        node: &'a Node,
        path: &str,
        definition: fn(&str) -> Option<&'static Key>,
        around: Around<'a>,
    ) -> Reader<'a> {
        Reader { node, path: path.to_owned(), definition, around }
    }

    /// The node of a key that was set, a built-in default included.
    pub(super) fn find(&self, key: &str) -> Option<&'a Node> {
        self.node.find(&key.split('.').collect::<Vec<_>>())
    }

    /// Where a key was set; of one that was not, where the table is.
    pub(super) fn place(&self, key: &str) -> Place {
        self.find(key).map_or_else(|| self.node.key.clone(), |node| node.place.clone())
    }

    /// True when a layer above the built-in one sets the key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.find(key).is_some_and(|node| node.place.layer > Layer::BuiltIn)
    }

    /// The value of a key.
    fn get(&self, key: &str) -> Option<Typed> {
        self.get_as(self.find(key), key)
    }

    /// False: the key has a wrong value, which was said, and its default stands in.
    pub(super) fn sound(&self, key: &str) -> bool {
        self.find(key).is_none_or(|node| (self.definition)(key).is_some_and(|key| key.kind.check(node, self.around).is_ok()))
    }

    /// The value of a node by the definition of a pattern: `listen.*.backlog`.
    pub(super) fn get_as(&self, node: Option<&Node>, pattern: &str) -> Option<Typed> {
        let key = (self.definition)(pattern)?;
        let checked = node.and_then(|node| key.kind.check(node, self.around).ok());
        checked.or_else(|| key.kind.check(&default_node(key)?, self.around).ok()).map(|checked| checked.value)
    }

    pub(super) fn bool(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Typed::Bool(true)))
    }

    pub(super) fn count(&self, key: &str) -> Option<u32> {
        match self.get(key) {
            Some(Typed::Int(n)) => u32::try_from(n).ok(),
            _ => None,
        }
    }

    pub(super) fn codes(&self, key: &str) -> Vec<i32> {
        match self.get(key) {
            Some(Typed::Ints(list)) => list.into_iter().filter_map(|n| i32::try_from(n).ok()).collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn account(&self, key: &str) -> Option<Account> {
        match self.get(key) {
            Some(Typed::Account(account)) => account,
            _ => None,
        }
    }

    pub(super) fn accounts(&self, key: &str) -> Vec<Account> {
        match self.get(key) {
            Some(Typed::Accounts(list)) => list,
            _ => Vec::new(),
        }
    }

    pub(super) fn capabilities(&self, key: &str) -> Vec<u8> {
        match self.get(key) {
            Some(Typed::Capabilities(list)) => list,
            _ => Vec::new(),
        }
    }

    pub(super) fn limit(&self, key: &str) -> Option<Bounds> {
        match self.get(key) {
            Some(Typed::Limit(bounds)) => Some(bounds),
            _ => None,
        }
    }

    pub(super) fn numbers(&self, key: &str) -> Vec<u32> {
        match self.get(key) {
            Some(Typed::Ints(list)) => list.into_iter().filter_map(|n| u32::try_from(n).ok()).collect(),
            _ => Vec::new(),
        }
    }

    /// A whole number that may be negative; `None`: not set.
    pub(super) fn integer(&self, key: &str) -> Option<i32> {
        match self.get(key) {
            Some(Typed::Int(n)) => i32::try_from(n).ok(),
            _ => None,
        }
    }

    pub(super) fn float(&self, key: &str) -> f64 {
        match self.get(key) {
            Some(Typed::Float(f)) => f,
            _ => 0.0,
        }
    }

    /// A string, or the word of a choice.
    pub(super) fn text(&self, key: &str) -> String {
        match self.get(key) {
            Some(Typed::Text(text)) => text,
            _ => String::new(),
        }
    }

    pub(super) fn path_of(&self, key: &str) -> Option<PathBuf> {
        match self.get(key) {
            Some(Typed::Path(path)) => path,
            _ => None,
        }
    }

    /// A path that is part of a value, made absolute as others are.
    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        address::absolute(path, self.around.cwd)
    }

    pub(super) fn duration(&self, key: &str) -> Duration {
        match self.get(key) {
            Some(Typed::Duration(d)) => d,
            _ => Duration::ZERO,
        }
    }

    pub(super) fn size(&self, key: &str) -> u64 {
        match self.get(key) {
            Some(Typed::Size(n)) => n,
            _ => 0,
        }
    }

    pub(super) fn mode(&self, key: &str) -> Option<u32> {
        match self.get(key) {
            Some(Typed::Mode(mode)) => Some(mode),
            _ => None,
        }
    }

    pub(super) fn signal(&self, key: &str) -> Option<i32> {
        match self.get(key) {
            Some(Typed::Signal(signal)) => signal,
            _ => None,
        }
    }

    pub(super) fn words(&self, key: &str) -> Vec<String> {
        match self.get(key) {
            Some(Typed::Words(words)) => words,
            _ => Vec::new(),
        }
    }

    pub(super) fn share(&self, key: &str) -> Share {
        match self.get(key) {
            Some(Typed::Share(share)) => share,
            _ => Share::Count(0),
        }
    }

    pub(super) fn workers(&self, key: &str) -> Workers {
        match self.get(key) {
            Some(Typed::Workers(workers)) => workers,
            _ => Workers::Count(1),
        }
    }

    /// `None`: "auto".
    pub(super) fn at_once(&self, key: &str) -> Option<u32> {
        match self.get(key) {
            Some(Typed::AtOnce(n)) => n,
            _ => None,
        }
    }

    pub(super) fn ready(&self, key: &str) -> Ready {
        match self.get(key) {
            Some(Typed::Ready(ready)) => ready,
            _ => Ready::Auto,
        }
    }

    pub(super) fn output(&self, key: &str) -> Output {
        match self.get(key) {
            Some(Typed::Output(output)) => output,
            _ => Output::Inherit,
        }
    }

    /// The place of the item of a list, by its number.
    pub(super) fn item_place(&self, key: &str, at: usize) -> Place {
        match self.find(key).map(|node| &node.raw) {
            Some(Raw::List(items)) => items.get(at).map_or_else(|| self.place(key), |item| item.place.clone()),
            _ => self.place(key),
        }
    }
}

/// A key's default as a node of the built-in layer.
pub(in super::super) fn default_node(key: &Key) -> Option<Node> {
    let raw = toml_text::value(key.default, &Place::BUILT_IN).ok().filter(|_| !key.default.is_empty())?;
    Some(Node { key: Place::BUILT_IN, place: Place::BUILT_IN, raw })
}
