//! Owns the way from a path to its definition: a config of many pools asks for it a million times.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{Key, all};

/// All keys by the names of their paths.
pub(super) static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut root = Index::default();
    for key in all() {
        let mut at = &mut root;
        for name in key.path.split('.') {
            at = at.below.entry(name).or_default();
        }
        at.key = Some(key);
    }
    root
});

/// A place in the tree of all paths.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The key with this path.
    pub(super) key: Option<&'static Key>,
    /// The names that can follow; `*`: any.
    pub(super) below: BTreeMap<&'static str, Index>,
}

impl Index {
    /// The places that a path leads to: a name stands for itself and for any name.
    pub(super) fn at(&self, path: &[&str]) -> Vec<&Index> {
        let mut places = vec![self];
        for name in path {
            let itself = (*name != "*").then_some(*name);
            places = places
                .into_iter()
                .flat_map(|place| [place.below.get("*"), itself.and_then(|name| place.below.get(name))])
                .flatten()
                .collect();
        }
        places
    }

    /// The key with just this path, `*` where any name stands.
    pub(super) fn key<'a>(&self, mut path: impl Iterator<Item = &'a str>) -> Option<&'static Key> {
        path.try_fold(self, |place, name| place.below.get(name))?.key
    }
}
