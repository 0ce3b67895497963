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
        path.push(name);
        entry(child, path, around, diags);
        path.pop();
    }
}

fn entry<'n>(node: &'n Node, path: &mut Vec<&'n str>, around: Around<'_>, diags: &mut Diagnostics) {
    let shown = || path.join(".");
    if let Some(what) = named(path)
        && let Some(Err(why)) = path.last().map(|name| scalar::name(name))
    {
        let help = "names have a-z, 0-9 and single -, start with a letter and have at most 32 characters";
        diags.error(&node.key, format!("{}: no name for a {what}: {why}", shown()), help);
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
            let names = keys::below(path);
            let help = match names[..] {
                ["*"] => format!("write [{}.NAME] and its keys below it", shown()),
                _ => format!("its keys: {}", names.join(", ")),
            };
            diags.error(&node.place, format!("{}: takes a table, found {}", shown(), raw.shown()), help);
        }
        (Found::Key(key) | Found::KeyOrTable(key), _) => {
            if let Err(problem) = key.kind.check(node, around) {
                let place = problem.place.unwrap_or_else(|| node.place.clone());
                let error = Diagnostic::error(Some(place), format!("{}: {}", shown(), problem.message)).help(problem.help);
                diags.push(Diagnostic { secret: path.contains(&"secrets"), ..error });
            }
        }
        (Found::Nothing, _) => diags.push(unknown(node, path)),
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

fn unknown(node: &Node, path: &[&str]) -> Diagnostic {
    let error = Diagnostic::error(Some(node.key.clone()), format!("{}: there is no such key", path.join(".")));
    match keys::meant(path) {
        Some(help) => error.help(help),
        None => {
            let parent = &path[..path.len() - 1];
            let names = keys::below(parent);
            let of = if parent.is_empty() { "a config".to_owned() } else { parent.join(".") };
            error.help(format!("the keys of {of}: {}", names.join(", ")))
        }
    }
}
