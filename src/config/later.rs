//! Owns the list of what a config asks for and this version does not have: accepted by `check`, refused by `run`.

use super::build::Trees;
use super::keys::{self, Found, When};
use super::kind::Around;
use super::node::{Layer, Node, Place, Raw};

/// So many are said; the others are only counted.
const SAID: usize = 100;

/// One line for each, in the order of layers and lines; what several pools inherit from one place is said once.
pub(super) fn list(trees: &Trees, around: Around<'_>) -> Vec<String> {
    let mut found: Vec<(&Place, String)> = Vec::new();
    walk(&trees.master, &mut vec!["master"], around, &mut found);
    for (name, tree) in &trees.pools {
        walk(tree, &mut vec!["pool", name], around, &mut found);
    }
    found.sort_by(|a, b| a.0.order().cmp(&b.0.order()));
    found.dedup_by(|a, b| a.0 == b.0);
    let more = found.len().saturating_sub(SAID);
    let lines = found.iter().take(SAID).map(|(place, what)| format!("{what}not in this version yet ({})", place.words()));
    lines.chain((more > 0).then(|| format!("and {more} more that are not in this version yet"))).collect()
}

fn walk<'n>(node: &'n Node, path: &mut Vec<&'n str>, around: Around<'_>, found: &mut Vec<(&'n Place, String)>) {
    for (name, child) in node.entries() {
        path.push(name);
        match (keys::find(path), &child.raw) {
            (Found::Table | Found::KeyOrTable(_), Raw::Table(_)) => walk(child, path, around, found),
            (Found::Key(key) | Found::KeyOrTable(key), _) if child.place.layer > Layer::BuiltIn => {
                found.extend(not_yet(key, child, around).map(|what| (&child.place, format!("{}: {what}", path.join(".")))));
            }
            _ => {}
        }
        path.pop();
    }
}

/// What of a key is not there yet: `""` is the key itself, else "VALUE is ".
fn not_yet(key: &keys::Key, node: &Node, around: Around<'_>) -> Option<String> {
    let checked = key.kind.check(node, around).ok()?;
    match (key.when, checked.later) {
        (When::Now, None) => None,
        (When::Now, Some(value)) => Some(format!("{value} is ")),
        (When::Later, _) => {
            let default = super::build::default_node(key).and_then(|node| key.kind.check(&node, around).ok());
            // Two values that are only known to be valid cannot be called equal.
            let same =
                default.is_some_and(|default| default.value == checked.value && checked.value != super::kind::Typed::Other);
            let same = same || matches!((&node.raw, key.default), (Raw::Str(text), "\"\"") if text.is_empty());
            let same = same || matches!((&node.raw, key.default), (Raw::List(items), "[]") if items.is_empty());
            let same = same || matches!(&node.raw, Raw::Str(text) if format!("{text:?}") == key.default);
            (!same).then(String::new)
        }
    }
}
