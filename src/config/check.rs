//! Owns judging one layer by itself: unknown keys, names, types. A value is judged even where a stronger layer hides it.

use super::diagnostics::{Diagnostic, Diagnostics};
use super::keys::{self, Found};
use super::kind::Around;
use super::node::{Layer, Node, Raw};
use super::value::scalar;

/// Judges all keys and values of a layer.
pub(super) fn layer(root: &Node, around: Around<'_>, diags: &mut Diagnostics) {
    if matches!(root.place.layer, Layer::Include(_))
        && let Some(include) = root.get("include")
    {
        diags.error(
            &include.key,
            "include: an included file cannot include others",
            "list all files in the main config's include",
        );
    }
    table(root, &mut Vec::new(), around, diags);
}

fn table<'n>(node: &'n Node, path: &mut Vec<&'n str>, around: Around<'_>, diags: &mut Diagnostics) {
    for (name, child) in node.entries() {
        if diags.full() {
            return;
        }
        path.push(name);
        entry(child, path, around, diags);
        path.pop();
    }
}

fn entry<'n>(node: &'n Node, path: &mut Vec<&'n str>, around: Around<'_>, diags: &mut Diagnostics) {
    let shown = || shown(path);
    if let Some(what) = named(path)
        && let Some(name) = path.last()
        && let Err(why) = scalar::name(name)
    {
        let near = scalar::sanitized_name(name);
        let near = if near == **name || near.is_empty() || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            String::new()
        } else {
            format!("write \"{near}\"; ")
        };
        let help = format!("{near}names have a-z, 0-9 and single -, start with a letter and have at most 32 characters");
        diags.error(&node.key, format!("{}: cannot name a {what}: {why}", shown()), help);
    }
    // `listen = { address = ":8000", backlog = 64 }` would be two listeners of odd names.
    if named(path) == Some("listener") && keys::of_pool(&format!("listen.*.{}", path.last().unwrap_or(&""))).is_some() {
        let parent = path[..path.len() - 1].join(".");
        let help = format!("name the listener: [{parent}.main] with the options below it, or {parent} = \":8000\" without any");
        diags.error(&node.key, format!("{}: an option of a listener stands where its name does", shown()), help);
        return;
    }
    if matches!(path[..], ["template", _, "use"]) {
        diags.error(
            &node.key,
            format!("{}: a template cannot use other templates", shown()),
            "list all of them in the pool's `use`, in order",
        );
    }
    match (keys::find(path), &node.raw) {
        (Found::Table | Found::KeyOrTable(_), Raw::Table(_)) => table(node, path, around, diags),
        (Found::Table, raw) => {
            let found = if path.contains(&"secrets") { raw.what().to_owned() } else { raw.shown() };
            diags.error(&node.place, format!("{}: takes a table, found {found}", shown()), table_help(path));
        }
        (Found::Key(key) | Found::KeyOrTable(key), _) => {
            if let Err(mut problem) = key.kind.check(node, around) {
                let more = std::mem::take(&mut problem.more);
                for problem in std::iter::once(problem).chain(more) {
                    let place = problem.place.unwrap_or_else(|| node.place.clone());
                    let error = Diagnostic::error(Some(place), format!("{}: {}", shown(), problem.message)).help(problem.help);
                    diags.push(Diagnostic { secret: path.contains(&"secrets"), ..error });
                }
            }
        }
        (Found::Nothing, _) => {
            let unknown = unknown(node, path, diags);
            diags.push(unknown);
        }
    }
}

/// A path as TOML would write it.
fn shown(path: &[&str]) -> String {
    let bare = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    path.iter().map(|name| if bare(name) { (*name).to_owned() } else { format!("{name:?}") }).collect::<Vec<_>>().join(".")
}

/// How a table is written, with its keys unless they are too many.
pub(super) fn table_help(path: &[&str]) -> String {
    let (names, shown) = (keys::below(path), path.join("."));
    match names[..] {
        ["*"] if matches!(keys::find(&[path, &["*"]].concat()), Found::Key(_)) => {
            format!("write [{shown}] and NAME = VALUE below it")
        }
        ["*"] => format!("write [{shown}.NAME] and its keys below it"),
        _ if names.len() > LONG_LIST => format!("write [{shown}] and its keys below it"),
        _ => format!("its keys: {}", names.join(", ")),
    }
}

/// What kind of name the last part of the path is, if it is one that the user chose.
fn named(path: &[&str]) -> Option<&'static str> {
    match path {
        ["pool", _] => Some("pool"),
        ["template", _] => Some("template"),
        ["defaults", "listen", _] | ["pool" | "template", _, "listen", _] => Some("listener"),
        _ => None,
    }
}

/// More names than this are listed once; whoever has many unknown keys needs the list no oftener.
const LONG_LIST: usize = 20;

fn unknown(node: &Node, path: &[&str], diags: &Diagnostics) -> Diagnostic {
    let error = Diagnostic::error(Some(node.key.clone()), format!("{}: there is no such key", shown(path)));
    if let Some(help) = keys::meant(path) {
        return error.help(help);
    }
    let parent = &path[..path.len() - 1];
    let names = keys::below(parent);
    let of = match parent {
        [] => "a config".to_owned(),
        ["defaults"] | ["pool" | "template", _] => "a pool".to_owned(),
        _ => shown(parent),
    };
    let list = format!("the keys of {of}: {}", names.join(", "));
    if names.len() > LONG_LIST && diags.helps_with(&list) {
        return error.help(format!("the keys of {of} are listed above"));
    }
    error.help(list)
}
