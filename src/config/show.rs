//! Owns `config show` and `config origin`: the effective values, and for each what it hides. Secrets are shown as `***`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Loaded;
use super::flags::key_path;
use super::keys::{self, Found};
use super::merge::Part;
use super::node::{Node, Place, Raw};
use super::template::{self, Use};

/// A value and the place it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// In TOML syntax.
    pub value: String,
    /// `pools.toml:4:11`, `variable ...`, `flag ...`, `built-in default`.
    pub place: String,
    /// `[defaults]`, `[template.python]`; `None`: the key's own table.
    pub part: Option<String>,
}

/// A key, its value in force, and the weaker ones that it hides, strongest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The key.
    pub key: String,
    /// The value in force.
    pub effective: Setting,
    /// What it hides.
    pub hidden: Vec<Setting>,
}

impl Loaded {
    /// All effective values as a config file that means the same, each with what it costs to change it.
    pub fn show_toml(&self) -> String {
        let mut out = String::new();
        let tables = std::iter::once(("master".to_owned(), &self.trees.master))
            .chain(self.trees.pools.iter().map(|(name, tree)| (format!("pool.{name}"), tree)));
        for (title, tree) in tables {
            if !out.is_empty() {
                out.push('\n');
            }
            let _ = writeln!(out, "[{title}]");
            let path: Vec<String> = title.split('.').map(str::to_owned).collect();
            for (leaf, node) in self.leaves(tree, &path) {
                let key: Vec<String> = leaf[path.len()..].iter().map(|part| quoted_key(part)).collect();
                let shown = self.shown(&leaf, node);
                let refs: Vec<&str> = leaf.iter().map(String::as_str).collect();
                let class = match keys::find(&refs) {
                    Found::Key(key) | Found::KeyOrTable(key) => key.class.word(),
                    Found::Table | Found::Nothing => "",
                };
                let _ = match self.operator_of(&leaf) {
                    Some(number) => {
                        writeln!(
                            out,
                            "{} = {number} # {class}; the operator's, in the running master; else {shown}",
                            key.join(".")
                        )
                    }
                    None => writeln!(out, "{} = {shown} # {class}", key.join(".")),
                };
            }
        }
        out
    }

    /// All effective values as JSON, with the name and the path of the config.
    pub fn show_json(&self) -> Value {
        let mut pools = Map::new();
        for (name, tree) in &self.trees.pools {
            pools.insert(name.clone(), self.json_of(tree, &mut vec!["pool".to_owned(), name.clone()]));
        }
        let order: Vec<&str> = self.trees.pools.iter().map(|(name, _)| name.as_str()).collect();
        json!({
            "path": self.config.path,
            "master": self.json_of(&self.trees.master, &mut vec!["master".to_owned()]),
            "pool": pools,
            "order": order,
            "operator": self.operators,
        })
    }

    /// Where the value of a key comes from; of a table, of all keys in it. `Err` says what is wrong with the key.
    pub fn origin(&self, key: &str) -> Result<Vec<Origin>, String> {
        let path = key_path(key).map_err(|why| format!("{key:?} is no key: {why}"))?;
        let refs: Vec<&str> = path.iter().map(String::as_str).collect();
        if keys::find(&refs) == Found::Nothing {
            let help = keys::meant(&refs).map(|help| format!("; {help}")).unwrap_or_default();
            return Err(format!("{key}: there is no such key{help}"));
        }
        let (tree, depth) = match refs[..] {
            ["master", ..] => (&self.trees.master, 1),
            ["pool", name, ..] => match self.trees.pools.iter().find(|(pool, _)| pool == name) {
                Some((_, tree)) => (tree, 2),
                None => {
                    let names: Vec<&str> = self.trees.pools.iter().map(|(pool, _)| pool.as_str()).collect();
                    return Err(format!("{key}: there is no pool {name:?}; the pools: {}", names.join(", ")));
                }
            },
            _ => return Err(format!("{key}: ask for a key of a pool or of the master: pool.NAME.workers")),
        };
        let Some(node) = tree.find(&path[depth..]) else {
            return Err(match keys::find(&refs) {
                Found::Key(k) | Found::KeyOrTable(k) => format!("{key}: not set, and without a default ({})", k.about),
                Found::Table | Found::Nothing => format!("{key}: nothing in it is set"),
            });
        };
        let leaves = match node.raw {
            Raw::Table(_) => self.leaves(node, &path),
            _ => vec![(path.clone(), node)],
        };
        Ok(leaves.into_iter().map(|(leaf, node)| self.origin_of(&leaf, depth, node)).collect())
    }

    /// The operator's number, when this is what it is about.
    fn operator_of(&self, leaf: &[String]) -> Option<u32> {
        match leaf {
            [pool, name, workers] if pool == "pool" && workers == "workers" => self.operators.get(name).copied(),
            _ => None,
        }
    }

    fn origin_of(&self, leaf: &[String], depth: usize, node: &Node) -> Origin {
        let pool = (depth == 2).then(|| leaf[1].as_str());
        let mut settings: Vec<(Setting, &Place)> = Vec::new();
        for (part, title, section) in self.sections(pool) {
            if let Some(found) = section.find(&leaf[depth..]).filter(|found| !matches!(found.raw, Raw::Table(_))) {
                let title = matches!(part, Part::Defaults | Part::Template(_)).then_some(title);
                settings
                    .push((Setting { value: self.shown(leaf, found), place: found.place.words(), part: title }, &found.place));
            }
        }
        let winner = settings.iter().rposition(|(_, place)| **place == node.place);
        let fallback = Setting { value: self.shown(leaf, node), place: node.place.words(), part: None };
        let effective =
            winner.map_or_else(|| fallback.clone(), |at| Setting { value: fallback.value.clone(), ..settings.remove(at).0 });
        let effective = match self.operator_of(leaf) {
            Some(number) => {
                settings.push((effective, &node.place));
                let place = "the operator, in the running master (`poolmaster scale` sets it, `scale POOL config` forgets it)";
                Setting { value: number.to_string(), place: place.to_owned(), part: None }
            }
            None => effective,
        };
        Origin { key: shown_path(leaf), effective, hidden: settings.into_iter().rev().map(|(setting, _)| setting).collect() }
    }

    /// The leaves of a tree with their whole paths, in the order of the definitions.
    fn leaves<'n>(&self, tree: &'n Node, path: &[String]) -> Vec<(Vec<String>, &'n Node)> {
        let mut out = Vec::new();
        collect(tree, &mut path.to_vec(), &mut out);
        out.sort_by_key(|(leaf, _)| {
            let refs: Vec<&str> = leaf.iter().map(String::as_str).collect();
            let position = match keys::find(&refs) {
                Found::Key(key) | Found::KeyOrTable(key) => Some(keys::position(key)),
                Found::Table | Found::Nothing => None,
            };
            (position.unwrap_or(usize::MAX), leaf.clone())
        });
        // Templates are merged in already.
        out.retain(|(leaf, _)| !matches!(leaf.iter().map(String::as_str).collect::<Vec<_>>()[..], ["pool", _, "use"]));
        out
    }

    fn json_of(&self, node: &Node, path: &mut Vec<String>) -> Value {
        if is_secret(path) {
            return json!("***");
        }
        match &node.raw {
            Raw::Bool(b) => json!(b),
            Raw::Int(n) => json!(n),
            Raw::Float(f) => json!(f),
            Raw::Str(text) => json!(resolved(path, text, &self.env)),
            Raw::Odd(what) => json!(what),
            Raw::List(items) => items.iter().map(|item| self.json_of(item, path)).collect(),
            Raw::Table(entries) => {
                let mut map = Map::new();
                // Templates are merged in already.
                let of_pool = path.len() == 2 && path[0] == "pool";
                for (name, child) in entries.iter().filter(|(name, _)| !of_pool || name != "use") {
                    path.push(name.clone());
                    map.insert(name.clone(), self.json_of(child, path));
                    path.pop();
                }
                Value::Object(map)
            }
        }
    }

    fn shown(&self, path: &[String], node: &Node) -> String {
        shown(path, node, &self.env)
    }
}

/// A value in TOML syntax.
pub(super) fn shown(path: &[String], node: &Node, env: &BTreeMap<String, String>) -> String {
    if is_secret(path) {
        return "\"***\"".to_owned();
    }
    match &node.raw {
        Raw::Bool(b) => b.to_string(),
        Raw::Int(n) => n.to_string(),
        Raw::Float(f) => toml::Value::Float(*f).to_string(),
        Raw::Str(text) => text_value(&resolved(path, text, env)),
        Raw::Odd(what) => format!("\"{what}\""),
        Raw::List(items) => format!("[{}]", items.iter().map(|item| shown(path, item, env)).collect::<Vec<_>>().join(", ")),
        Raw::Table(entries) => {
            let inner: Vec<String> =
                entries.iter().map(|(name, child)| format!("{} = {}", quoted_key(name), shown(path, child, env))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
    }
}

/// A string in TOML syntax.
pub(super) fn text_value(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A path in TOML syntax.
pub(super) fn shown_path(path: &[String]) -> String {
    path.iter().map(|part| quoted_key(part)).collect::<Vec<_>>().join(".")
}

/// `${VAR}` is shown resolved, but not in commands and variables, which stay templates (and may hold what is nobody's
/// business).
fn resolved(path: &[String], text: &str, env: &BTreeMap<String, String>) -> String {
    let template = path.iter().any(|part| matches!(part.as_str(), "env" | "command" | "hooks" | "run"));
    let lookup = |name: &str| env.get(name).map(String::as_str);
    match template {
        true => text.to_owned(),
        false => template::resolve(text, &lookup, Use::Value).unwrap_or_else(|_| text.to_owned()),
    }
}

impl Origin {
    /// For people, several lines.
    pub fn text(&self) -> String {
        let mut out = format!("{} = {}\n  from {}\n", self.key, self.effective.value, self.effective.where_from());
        for hidden in &self.hidden {
            let _ = writeln!(out, "  hides {} from {}", hidden.value, hidden.where_from());
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let setting = |s: &Setting| json!({ "value": s.value, "place": s.place, "part": s.part });
        json!({
            "key": self.key,
            "effective": setting(&self.effective),
            "hidden": self.hidden.iter().map(setting).collect::<Vec<_>>(),
        })
    }
}

impl Setting {
    fn where_from(&self) -> String {
        match &self.part {
            Some(part) => format!("{} {part}", self.place),
            None => self.place.clone(),
        }
    }
}

/// The values below a table, with their whole paths.
pub(super) fn collect<'n>(node: &'n Node, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, &'n Node)>) {
    for (name, child) in node.entries() {
        path.push(name.clone());
        match child.raw {
            Raw::Table(_) => collect(child, path, out),
            _ => out.push((path.clone(), child)),
        }
        path.pop();
    }
}

fn is_secret(path: &[String]) -> bool {
    path.len() > 3 && path[0] == "pool" && path[2] == "secrets"
}

/// A part of a key, quoted where TOML asks for it.
fn quoted_key(part: &str) -> String {
    let bare = !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { part.to_owned() } else { toml::Value::String(part.to_owned()).to_string() }
}
