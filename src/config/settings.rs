//! Owns the keys of a config as they were given, after defaults, templates and `${VAR}`: what two configs are compared by. Built-in defaults
//! are not kept, the definitions have them: a config of many pools is small.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::build::{Trees, default_node};
use super::class::Class;
use super::diff::Shown;
use super::keys::{self, Found, Key};
use super::kind::{Around, Typed};
use super::node::{Layer, Node, Place};
use super::show;

/// What a config gives, table by table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Settings {
    pub(super) master: Arc<Vec<Given>>,
    pools: BTreeMap<String, Arc<Vec<Given>>>,
}

/// A key that is given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// Its path below the table, the same however it is written: a listener's address is `listen.NAME.address`.
    pub(super) path: Vec<String>,
    /// Its whole path as written.
    pub(super) key: String,
    pub(super) definition: &'static Key,
    /// What it means; `None`: the same as not given.
    pub(super) value: Option<Typed>,
    pub(super) shown: Shown,
}

/// The same in the state that one master hands to the next.
#[derive(Serialize, Deserialize)]
struct Written {
    master: Vec<WrittenKey>,
    pools: BTreeMap<String, Vec<WrittenKey>>,
}

#[derive(Serialize, Deserialize)]
struct WrittenKey {
    path: Vec<String>,
    key: String,
    /// The path of its definition.
    of: String,
    value: Option<Typed>,
    shown: Shown,
}

impl From<Settings> for Written {
    fn from(settings: Settings) -> Written {
        let one = |given: &Given| WrittenKey {
            path: given.path.clone(),
            key: given.key.clone(),
            of: given.definition.path.to_owned(),
            value: given.value.clone(),
            shown: given.shown.clone(),
        };
        let table = |given: &Arc<Vec<Given>>| given.iter().map(one).collect();
        let pools = settings.pools.iter().map(|(name, given)| (name.clone(), table(given))).collect();
        Written { master: table(&settings.master), pools }
    }
}

impl From<Written> for Settings {
    fn from(written: Written) -> Settings {
        let definitions: BTreeMap<&str, &'static Key> = keys::all().map(|key| (key.path, key)).collect();
        // A key that this version does not know differs from nothing.
        let one = |key: WrittenKey| {
            let definition = definitions.get(key.of.as_str()).copied()?;
            Some(Given { path: key.path, key: key.key, definition, value: key.value, shown: key.shown })
        };
        let table = |keys: Vec<WrittenKey>| Arc::new(keys.into_iter().filter_map(one).collect::<Vec<_>>());
        let master = table(written.master);
        Settings { master, pools: written.pools.into_iter().map(|(name, keys)| (name, table(keys))).collect() }
    }
}

impl Settings {
    pub(super) fn of(trees: &Trees, around: Around<'_>) -> Settings {
        let pools = trees.pools.iter().map(|(name, tree)| (name.clone(), Arc::new(table(&["pool", name], tree, around))));
        Settings { master: Arc::new(table(&["master"], &trees.master, around)), pools: pools.collect() }
    }

    /// Takes the settings of one pool from another config. Where that has none, neither has this one from then on.
    pub fn take_pool(&mut self, name: &str, other: &Settings) {
        match other.pools.get(name) {
            Some(given) => drop(self.pools.insert(name.to_owned(), Arc::clone(given))),
            None => drop(self.pools.remove(name)),
        }
    }

    /// Takes the keys from another config that a running master cannot take over.
    pub(super) fn take_fixed(&mut self, other: &Settings) {
        let fixed = |given: &&Given| given.definition.class == Class::Master;
        let mut master: Vec<Given> = self.master.iter().filter(|given| !fixed(given)).cloned().collect();
        master.extend(other.master.iter().filter(fixed).cloned());
        master.sort_by(|a, b| order(a).cmp(&order(b)));
        self.master = Arc::new(master);
    }

    pub(super) fn of_pool(&self, name: &str) -> &[Given] {
        self.pools.get(name).map_or(&[], |given| given)
    }
}

/// The keys below a table that a layer above the built-in one gives, in the order of the definitions.
fn table(root: &[&str], tree: &Node, around: Around<'_>) -> Vec<Given> {
    let root: Vec<String> = root.iter().map(|part| (*part).to_owned()).collect();
    let mut leaves = Vec::new();
    show::collect(tree, &mut root.clone(), &mut leaves);
    let given = leaves.into_iter().filter(|(_, node)| node.place.layer > Layer::BuiltIn);
    let mut out: Vec<Given> = given.filter_map(|(path, node)| one(&root, &path, node, around)).collect();
    out.sort_by(|a, b| order(a).cmp(&order(b)));
    out
}

fn one(root: &[String], path: &[String], node: &Node, around: Around<'_>) -> Option<Given> {
    let refs: Vec<&str> = path.iter().map(String::as_str).collect();
    let (Found::Key(definition) | Found::KeyOrTable(definition)) = keys::find(&refs) else { return None };
    // What it stands for is given by its templates' keys.
    if definition.path == "pool.*.use" {
        return None;
    }
    let value = definition.kind.check(node, around).ok()?.value;
    let value = match value {
        // Of a type that is not read yet: what is written differs, or not.
        Typed::Other => Typed::Text(show::shown(path, node, around.env)),
        value => value,
    };
    let mut within = path[root.len()..].to_vec();
    if definition.path == "pool.*.listen.*" {
        within.push("address".to_owned());
    }
    let shown = Shown { value: show::shown(path, node, around.env), origin: node.place.words() };
    Some(Given { path: within, key: show::shown_path(path), definition, value: meant(value), shown })
}

/// By this the keys of a table are sorted.
pub(super) fn order(given: &Given) -> (usize, &[String]) {
    (keys::position(given.definition), &given.path)
}

/// `""` for none is the same as nothing at all.
fn meant(value: Typed) -> Option<Typed> {
    match value {
        Typed::Account(None) | Typed::Path(None) | Typed::Signal(None) => None,
        value => Some(value),
    }
}

/// What holds where a key is not given.
pub(super) fn built_in(definition: &'static Key) -> (Option<Typed>, Option<Shown>) {
    let env = BTreeMap::new();
    let around = Around { env: &env, cwd: Path::new("/") };
    let Some(node) = default_node(definition) else { return (None, None) };
    let value = definition.kind.check(&node, around).ok().map(|checked| checked.value);
    let value = match value {
        Some(Typed::Other) => Some(Typed::Text(definition.default.to_owned())),
        value => value,
    };
    let shown = Shown { value: definition.default.to_owned(), origin: Place::BUILT_IN.words() };
    (value.and_then(meant), Some(shown))
}

/// The addresses of a list, each under the name that its listener gets.
pub(super) fn named(list: &Given) -> Vec<Given> {
    let Some(Typed::Addresses(addresses)) = &list.value else { return Vec::new() };
    let one = |(at, address): (usize, &super::spec::Address)| {
        let name = super::build::listener_name(at);
        let path = ["listen".to_owned(), name, "address".to_owned()].to_vec();
        Given { path, value: Some(Typed::Addresses(vec![address.clone()])), ..list.clone() }
    };
    addresses.iter().enumerate().map(one).collect()
}
