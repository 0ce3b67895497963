//! Owns the one definition of all keys: path, type, default, meaning, and whether this version has it. The checks, the built-in
//! layer, `config show` and the manual are made from it.

mod index;
mod master;
mod meant;
mod pool;
mod samples;
mod tables;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::diff::Class;
pub use super::kind::{Kind, When};
use index::INDEX;
pub(super) use meant::meant;
pub(super) use tables::about_table;
pub use tables::tables;

/// One key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// Its path; `*` stands for a name. `[defaults]` and `[template.*]` take the same keys as `pool.*`.
    pub path: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its default in TOML syntax; empty: none, or one that depends on other keys.
    pub default: &'static str,
    /// Whether this version has it.
    pub when: When,
    /// What its change costs at a reload.
    pub class: Class,
    /// What it means, with its unit.
    pub about: &'static str,
}

const fn now(path: &'static str, class: Class, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default, when: When::Now, class, about }
}

const fn later(path: &'static str, class: Class, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default, when: When::Later, class, about }
}

const INCLUDE: Key = now(
    "include",
    Class::None,
    Kind::Strings,
    "[]",
    "more config files, relative to this one's folder; * and ? in the last part of the path",
);

/// All keys, in the order of the manual.
pub fn all() -> impl Iterator<Item = &'static Key> {
    std::iter::once(&INCLUDE).chain(master::KEYS).chain(pool::KEYS)
}

/// The place of a key in that order.
pub(super) fn position(key: &Key) -> usize {
    static PLACES: LazyLock<BTreeMap<&'static str, usize>> = LazyLock::new(|| all().map(|key| key.path).zip(0..).collect());
    PLACES.get(key.path).copied().unwrap_or(usize::MAX)
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found {
    /// A value.
    Key(&'static Key),
    /// A table of more keys.
    Table,
    /// Either.
    KeyOrTable(&'static Key),
    /// Nothing.
    Nothing,
}

/// The path in the words of the definitions: the keys of `[defaults]` and of templates are those of a pool.
fn in_definitions<'a>(path: &[&'a str]) -> Vec<&'a str> {
    match path {
        ["defaults", rest @ ..] => [&["pool", "*"], rest].concat(),
        ["template", name, rest @ ..] => [&["pool", *name], rest].concat(),
        ["template"] => vec!["pool"],
        _ => path.to_vec(),
    }
}

/// Looks a path up.
pub(super) fn find(path: &[&str]) -> Found {
    let nodes = INDEX.at(&in_definitions(path));
    let key = nodes.iter().rev().find_map(|node| node.key);
    let table = path.is_empty() || nodes.iter().any(|node| !node.below.is_empty());
    match (key, table) {
        (Some(key), false) => Found::Key(key),
        (Some(key), true) => Found::KeyOrTable(key),
        (None, true) => Found::Table,
        (None, false) => Found::Nothing,
    }
}

/// The definition of a pool's key, by its path within the pool; `*` where names are.
pub(super) fn of_pool(path: &str) -> Option<&'static Key> {
    INDEX.key(["pool", "*"].into_iter().chain(path.split('.')))
}

/// The definition of a master's key, by its path below `master`.
pub(super) fn of_master(path: &str) -> Option<&'static Key> {
    INDEX.key(std::iter::once("master").chain(path.split('.')))
}

/// The names that can follow a path: keys and tables. `*` where any name can.
pub(super) fn below(path: &[&str]) -> Vec<&'static str> {
    let nodes = INDEX.at(&in_definitions(path));
    let mut names: Vec<&str> = nodes
        .iter()
        .flat_map(|node| node.below.keys().copied())
        .chain(if path.is_empty() { &["defaults", "template"][..] } else { &[] }.iter().copied())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::super::kind::Around;
    use super::super::node::{Node, Place};
    use super::super::toml_text;
    use super::*;

    #[test]
    fn paths_are_unique_and_described() {
        let mut seen = std::collections::BTreeSet::new();
        for key in all() {
            assert!(seen.insert(key.path), "{} is there twice", key.path);
            assert!(key.about.len() > 10 && !key.about.ends_with('.'), "{}: {:?}", key.path, key.about);
        }
        assert!(seen.len() > 130, "{}", seen.len());
    }

    /// True for types whose values are bare numbers of something.
    fn counts(kind: Kind) -> bool {
        let numbers = matches!(kind, Kind::Int(..) | Kind::Float(..) | Kind::Duration { .. } | Kind::Size(_) | Kind::Ints(..));
        numbers || matches!(kind, Kind::Workers | Kind::AtOnce | Kind::Share | Kind::Limit)
    }

    #[test]
    fn every_number_has_a_unit_and_every_key_an_example_that_is_right() {
        let (env, place) = (BTreeMap::new(), Place::BUILT_IN);
        let around = Around { env: &env, cwd: std::path::Path::new("/") };
        for key in all() {
            assert_eq!(key.unit().is_some(), counts(key.kind), "{}: unit {:?}", key.path, key.unit());
            for text in [key.default, &key.example()].into_iter().filter(|text| !text.is_empty()) {
                let raw = toml_text::value(text, &place).expect("TOML");
                let node = Node { key: place.clone(), place: place.clone(), raw };
                assert!(key.kind.check(&node, around).is_ok(), "{} = {text}", key.path);
            }
            // Of a choice, the default may be all that this version has.
            let fixed = matches!(key.kind, Kind::Choice(_) | Kind::Choices(_));
            assert!(fixed || key.example() != key.default, "{}: the default is no example", key.path);
        }
        let unknown = samples::paths().find(|path| all().all(|key| key.path != *path));
        assert_eq!(unknown, None, "an example of no key");
    }

    #[test]
    fn every_table_is_described_and_nothing_else() {
        let parents = |key: &'static Key| key.path.match_indices('.').map(|(dot, _)| &key.path[..dot]);
        let mut want: std::collections::BTreeSet<&str> = all().flat_map(parents).collect();
        want.remove("pool");
        want.insert("");
        assert_eq!(tables().map(|(path, _)| path).collect::<std::collections::BTreeSet<_>>(), want);
        assert_eq!(about_table(&["master", "log"]), Some("the master's own log"));
    }

    #[test]
    fn defaults_and_templates_have_the_keys_of_a_pool() {
        let key = of_pool("workers").expect("workers");
        for path in [&["pool", "web", "workers"][..], &["defaults", "workers"], &["template", "x", "workers"]] {
            assert_eq!(find(path), Found::Key(key), "{path:?}");
        }
        assert_eq!(find(&["pool"]), Found::Table);
        assert_eq!(find(&["template", "x"]), Found::Table);
        assert!(matches!(find(&["pool", "web", "listen"]), Found::KeyOrTable(_)));
        assert!(matches!(find(&["pool", "web", "listen", "http"]), Found::KeyOrTable(_)));
        assert!(matches!(find(&["defaults", "env", "A"]), Found::Key(_)));
        assert_eq!(find(&["pool", "web", "wokers"]), Found::Nothing);
        assert_eq!(find(&["workers"]), Found::Nothing);
        assert_eq!(find(&["pool", "web", "workers", "x"]), Found::Nothing);
    }
}
