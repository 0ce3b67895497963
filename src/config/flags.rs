//! Owns the layer of the command line: `--set pool.web.workers=8` and the short flags that stand for it.

use std::sync::Arc;

use super::diagnostics::{Diagnostic, Diagnostics};
use super::node::{At, Layer, Node, Place};
use super::{Sources, read_value, template};

/// One setting from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// `pool.web.workers`.
    pub key: String,
    /// Its value, lists and tables in TOML syntax.
    pub value: String,
    /// What was typed: `--workers web=8`.
    pub shown_as: String,
}

impl Flag {
    /// Reads the argument of `--set`: `KEY=VALUE`. `Err` says what to write.
    pub fn set(argument: &str) -> Result<Flag, String> {
        match argument.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                let shown = if key.to_ascii_lowercase().contains("secret") { "***" } else { value };
                let shown_as = format!("--set {}={shown}", key.trim());
                Ok(Flag { key: key.trim().to_owned(), value: value.to_owned(), shown_as })
            }
            Some(_) => Err(format!("--set {argument}: the key is missing; write KEY=VALUE, as in --set pool.web.workers=8")),
            None => Err(format!("--set {argument}: has no \"=\"; write KEY=VALUE, as in --set pool.web.workers=8")),
        }
    }

    /// Reads the argument of `--workers`: `POOL=N`.
    pub fn workers(argument: &str) -> Result<Flag, String> {
        match argument.split_once('=') {
            Some((pool, count)) if !pool.is_empty() && !count.is_empty() => Ok(Flag {
                key: format!("pool.{pool}.workers"),
                value: count.to_owned(),
                shown_as: format!("--workers {argument}"),
            }),
            Some(_) => Err(format!("--workers {argument}: half of it is missing; write POOL=N, as in --workers web=8")),
            None => Err(format!("--workers {argument}: which pool? Write POOL=N, as in --workers web=8")),
        }
    }
}

impl Sources {
    /// One pool named main without a file, as `run --listen :8000 --workers 4 -- COMMAND` asks for it. The caller adds the
    /// environment and the facts. The command is taken as it stands, but for the `{word}`s of a spawn.
    pub fn adhoc(listen: &[String], workers: Option<String>, command: Vec<String>) -> Sources {
        let flag = |key: &str, value: String, shown: String| Flag { key: format!("pool.main.{key}"), value, shown_as: shown };
        let list = |words: Vec<String>| toml::Value::from(words).to_string();
        let command = command.iter().map(|word| template::escape_variables(word)).collect();
        let mut flags = vec![flag("command", list(command), "the command line".to_owned())];
        if !listen.is_empty() {
            flags.push(flag("listen", list(listen.to_vec()), format!("--listen {}", listen.join(" --listen "))));
        }
        flags.extend(workers.map(|n| flag("workers", n.clone(), format!("--workers {n}"))));
        Sources { text: Some(String::new()), flags, ..Sources::default() }
    }
}

/// Reads all flags; of two for one key the later wins.
pub(super) fn layer(flags: &[Flag], diags: &mut Diagnostics) -> Node {
    let place = |shown: &str| Place { layer: Layer::Flag, at: At::Flag(Arc::from(shown)) };
    let mut root = Node::root(place("command line"));
    for flag in flags {
        let place = place(&flag.shown_as);
        match key_path(&flag.key) {
            Ok(path) => {
                if let Some(raw) = read_value(&path, &flag.value, &place, diags) {
                    root.insert(&path, Node { key: place.clone(), place, raw });
                }
            }
            Err(why) => {
                let error = Diagnostic::error(Some(place), format!("`{}` is no key: {why}", flag.key));
                diags.push(
                    error.help("its parts stand between dots, those with dots of their own in quotes: pool.web.env.\"A.B\""),
                );
            }
        }
    }
    root
}

/// Splits a dotted key; parts with dots of their own are quoted: `pool.web.env."A.B"`.
pub fn key_path(key: &str) -> Result<Vec<String>, &'static str> {
    let mut path = Vec::new();
    let mut rest = key.trim();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a \" is not closed")?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if part.is_empty() {
            return Err("a part of it is empty");
        }
        path.push(part.to_owned());
        match after.strip_prefix('.') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(path),
            None => return Err("a dot is missing after a quoted part"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_split_at_dots() {
        for (key, want) in [
            ("a.b.c", Some(&["a", "b", "c"][..])),
            (" a ", Some(&["a"])),
            ("env.\"A.B\".c", Some(&["env", "A.B", "c"])),
            ("", None),
            ("a..b", None),
            ("a.", None),
            ("a.\"b", None),
            ("a.\"b\"c", None),
        ] {
            let got = key_path(key).ok();
            assert_eq!(got, want.map(|p| p.iter().map(|s| (*s).to_owned()).collect()), "{key:?}");
        }
    }

    #[test]
    fn arguments_of_flags() {
        let flag = Flag::set("pool.web.env.A=b=c").expect("valid");
        assert_eq!(
            (flag.key.as_str(), flag.value.as_str(), flag.shown_as.as_str()),
            ("pool.web.env.A", "b=c", "--set pool.web.env.A=b=c")
        );
        assert_eq!(Flag::workers("web=8").expect("valid").key, "pool.web.workers");
        assert_eq!(Flag::set("pool.web.secrets.A=file:/x").expect("valid").shown_as, "--set pool.web.secrets.A=***");
        assert!(
            Flag::set("x").is_err()
                && Flag::set("=x").is_err()
                && Flag::workers("web").is_err()
                && Flag::workers("web=").is_err()
        );
    }
}
