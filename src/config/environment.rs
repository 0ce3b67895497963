//! Owns the environment layer: `POOLMASTER__POOL__WEB__WORKERS=8`. Plain `POOLMASTER_...` names are never settings.

use std::sync::Arc;

use super::diagnostics::{Diagnostic, Diagnostics};
use super::keys;
use super::node::{At, Layer, Node, Place, Raw};
use super::read_value;

/// What the names of settings start with.
const PREFIX: &str = "POOLMASTER__";

/// Reads all settings among the variables. An empty one is unset.
pub(super) fn layer(env: &[(String, String)], diags: &mut Diagnostics) -> Node {
    let place = |name: &str| Place { layer: Layer::Environment, at: At::Variable(Arc::from(name)) };
    let mut root = Node::root(place(PREFIX));
    let mut settings: Vec<(&str, &str, &str)> =
        env.iter().filter_map(|(name, value)| Some((name.as_str(), name.strip_prefix(PREFIX)?, value.as_str()))).collect();
    // The process environment has no order that means anything.
    settings.sort_unstable();
    for (variable, name, value) in settings.into_iter().filter(|(_, _, value)| !value.is_empty()) {
        let place = place(variable);
        if variable.contains('\u{fffd}') || value.contains('\u{fffd}') {
            let error = Diagnostic::error(Some(place), format!("{variable}: it is not UTF-8 text"));
            diags.push(error.help("set it anew, or unset it"));
            continue;
        }
        let path = match path_of(name) {
            Ok(path) => path,
            Err(why) => {
                let error = Diagnostic::error(Some(place), format!("{variable}: {why}"));
                diags.push(
                    error.help("settings are written POOLMASTER__POOL__WEB__WORKERS, in capitals, with __ between the parts"),
                );
                continue;
            }
        };
        if let Some(other) = (1..=path.len()).find_map(|n| taken(&root, &path[..n], n == path.len())) {
            let error = Diagnostic::error(Some(place), format!("{}: {other} sets it already", path.join(".")));
            diags.push(error.help("variables have no order: only one of them may set a key, or the whole of a table"));
            continue;
        }
        if let Some(raw) = read_value(&path, value, &place, diags) {
            root.insert(&path, Node { key: place.clone(), place, raw });
        }
    }
    root
}

/// The variable that sets this path to something that nothing can be added to, or that is there at all when it is the `whole` key.
fn taken(root: &Node, path: &[String], whole: bool) -> Option<String> {
    let node = root.find(path).filter(|node| whole || !matches!(node.raw, Raw::Table(_)))?;
    Some(node.place.words())
}

/// The key's path. What stands where a name does has `_` for `-`; what follows `ENV__` is taken as it is.
fn path_of(name: &str) -> Result<Vec<String>, String> {
    let mut path: Vec<String> = Vec::new();
    let mut rest = name;
    loop {
        let refs: Vec<&str> = path.iter().map(String::as_str).collect();
        if matches!(refs.last(), Some(&("env" | "secrets"))) && keys::below(&refs) == ["*"] {
            path.push(rest.to_owned());
            return if rest.is_empty() { Err("the variable's name is missing".to_owned()) } else { Ok(path) };
        }
        let (segment, after) = rest.split_once("__").map_or((rest, None), |(segment, after)| (segment, Some(after)));
        if segment.is_empty() {
            return Err("a part of the key is empty".to_owned());
        }
        if segment.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(format!("{segment:?} is not in capitals"));
        }
        let lower = segment.to_ascii_lowercase();
        let open = keys::below(&refs).contains(&"*");
        path.push(if open { lower.replace('_', "-") } else { lower });
        match after {
            Some(after) => rest = after,
            None => return Ok(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        for (name, want) in [
            ("POOL__WEB__WORKERS", Ok("pool|web|workers")),
            ("POOL__MY_POOL__GRACEFUL_TIMEOUT", Ok("pool|my-pool|graceful_timeout")),
            ("POOL__WEB__LISTEN__MY_HTTP__BACKLOG", Ok("pool|web|listen|my-http|backlog")),
            ("POOL__WEB__ENV__Some__odd_NAME", Ok("pool|web|env|Some__odd_NAME")),
            ("DEFAULTS__ENV__RAILS_ENV", Ok("defaults|env|RAILS_ENV")),
            ("TEMPLATE__MY_T__SCALE__MIN", Ok("template|my-t|scale|min")),
            ("MASTER__LOG__LEVEL", Ok("master|log|level")),
            ("NONSENSE", Ok("nonsense")),
            ("", Err(())),
            ("POOL____WORKERS", Err(())),
            ("POOL__WEB__workers", Err(())),
            ("POOL__WEB__ENV__", Err(())),
        ] {
            assert_eq!(path_of(name).map(|p| p.join("|")).map_err(drop), want.map(str::to_owned), "{name}");
        }
    }
}
