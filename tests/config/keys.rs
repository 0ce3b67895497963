//! The table of keys against the sheet: all are accepted by `check`, and what is not there yet is refused by `run`'s list.

use poolmaster::config::keys::{self, Kind, When};

use super::{good, good_with};

/// The sheet of all keys, with values that mean something.
const FULL: &str = include_str!("full.toml");

#[test]
fn every_key_of_the_sheet_is_accepted_and_every_key_is_on_the_sheet() {
    let config = good(FULL);
    assert_eq!(config.pools.len(), 3);
    let sheet: toml::Table = FULL.parse().expect("TOML");
    for key in keys::all() {
        let segments: Vec<&str> = key.path.split('.').collect();
        assert!(reaches(&toml::Value::Table(sheet.clone()), &segments), "{} is not on the sheet", key.path);
    }
}

/// True when some path of the table fits the pattern.
fn reaches(value: &toml::Value, pattern: &[&str]) -> bool {
    match (pattern, value) {
        ([], _) => true,
        (["*", rest @ ..], toml::Value::Table(table)) => table.values().any(|inner| reaches(inner, rest)),
        ([name, rest @ ..], toml::Value::Table(table)) => table.get(*name).is_some_and(|inner| reaches(inner, rest)),
        _ => false,
    }
}

/// A value other than the default, that is right for the type.
fn another(key: &keys::Key) -> &'static str {
    match key.kind {
        Kind::Bool => {
            if key.default == "true" {
                "false"
            } else {
                "true"
            }
        }
        Kind::Int(..) => "11",
        Kind::Float(..) => "0.5",
        Kind::Text | Kind::Name => "\"x\"",
        Kind::Path => "\"/x\"",
        Kind::Duration { .. } => "\"77s\"",
        Kind::Size(_) => "\"77K\"",
        Kind::Signal { .. } => "\"USR2\"",
        Kind::RealTime => "\"RTMIN+5\"",
        Kind::Choice(choices) => {
            choices.iter().map(|(word, _)| *word).find(|word| format!("{word:?}") != key.default).expect("a second choice")
        }
        Kind::Workers | Kind::AtOnce | Kind::Share | Kind::User | Kind::Limit => "3",
        Kind::Argv { .. } => "[\"x\"]",
        Kind::Strings => "[\"x\"]",
        Kind::Ints(..) | Kind::Users => "[1]",
        Kind::Capabilities => "[\"net_bind_service\"]",
        Kind::Choices(_) => "[\"s6\"]",
        Kind::Steps => "[\"QUIT\", \"5s\"]",
        Kind::Ready => "\"exec\"",
        Kind::Rate => "\"10%/5s\"",
        Kind::Mode => "\"0007\"",
        Kind::Output(_) => "\"null\"",
        Kind::Listen | Kind::Address => "\":7\"",
        Kind::Env => "\"x\"",
        Kind::Secret => "\"file:/x\"",
        Kind::Clock => "\"04:00\"",
        Kind::Schedule => "[{ from = \"08:00\", to = \"09:00\", min = 2 }]",
    }
}

/// A config with one pool, one listener and this one key.
fn with(path: &str, value: &str) -> String {
    let mut parts = path.split('.');
    let named: Vec<&str> = match path.strip_prefix("pool.*.") {
        Some(rest) if rest.starts_with("listen.*") => {
            ["pool", "web", "listen", "http"].into_iter().chain(rest.split('.').skip(2)).collect()
        }
        Some(rest) => ["pool", "web"].into_iter().chain(rest.split('.').map(|s| if s == "*" { "NAME" } else { s })).collect(),
        None => parts.by_ref().collect(),
    };
    format!("pool.web.command = 'x'\npool.web.listen.http.address = ':8000'\n{} = {value}\n", named.join("."))
}

#[test]
fn what_comes_later_is_listed_and_its_default_changes_nothing() {
    let mut later = 0;
    for key in keys::all().filter(|key| key.when != When::Now) {
        later += 1;
        let value = another(key);
        let value = if matches!(key.kind, Kind::Choice(_)) { format!("{value:?}") } else { value.to_owned() };
        let config = good(&with(key.path, &value));
        let name = key.path.replace('*', "");
        assert_eq!(config.not_yet.len(), 1, "{name} = {value}: {:?}", config.not_yet);
        assert!(config.not_yet[0].contains(": not in this version yet (pools.toml:3:"), "{:?}", config.not_yet);
        if !key.default.is_empty() {
            let listed = good(&with(key.path, key.default)).not_yet.len();
            assert_eq!(listed, 0, "{} = {} (the default)", key.path, key.default);
        }
    }
    assert!(later > 30, "{later}");
}

#[test]
fn defaults_are_right_for_their_types_and_asked_for_explicitly_change_nothing() {
    let bare = good(&with("pool.*.command", "'x'").replace("\npool.web.command = 'x'\n", "\n"));
    for key in keys::all().filter(|key| key.when == When::Now && !key.default.is_empty()) {
        let config = good(&with(key.path, key.default));
        assert_eq!(config.not_yet, Vec::<String>::new(), "{}", key.path);
        assert_eq!(
            format!("{:?}{:?}", config.pools, config.master),
            format!("{:?}{:?}", bare.pools, bare.master),
            "{}",
            key.path
        );
    }
}

#[test]
fn values_that_come_later_are_listed_by_name() {
    for (key, value) in [
        ("master.on_master_death", "keep"),
        ("pool.web.kill_mode", "cgroup"),
        ("pool.web.scale.mode", "auto"),
        ("pool.web.scale.remove", "largest"),
    ] {
        let config = good_with("[pool.web]\ncommand = 'x'\n", &[], &[&format!("{key}={value}")]);
        assert_eq!(config.not_yet.len(), 1, "{key}={value}: {:?}", config.not_yet);
        assert!(
            config.not_yet[0].starts_with(&format!("{key}: ")) && config.not_yet[0].contains("is not in this version yet"),
            "{:?}",
            config.not_yet
        );
    }
}

#[test]
fn what_is_inherited_is_listed_once_and_what_is_hidden_is_not() {
    let text = "[defaults]\nlog.format = 'json'\n[template.unused]\nrecycle.at = '04:00'\n[pool.a]\ncommand='x'\n[pool.b]\ncommand='x'\n[pool.c]\ncommand='x'\nlog.format = 'text'\n";
    assert_eq!(good(text).not_yet, ["pool.a.log.format: not in this version yet (pools.toml:2:14)"]);
}

/// `..` after a symbolic link leads where the kernel says: no key that is a path folds it.
#[test]
fn no_path_is_folded() {
    let mut walked = 0;
    for key in keys::all().filter(|key| key.when == When::Now) {
        let value = match key.kind {
            Kind::Path => "\"link/../x\"",
            Kind::Output(_) | Kind::Secret => "\"file:link/../x\"",
            Kind::Listen | Kind::Address => "\"unix:link/../x\"",
            _ if key.path == "pool.*.env_files" => "[\"link/../x\"]",
            _ => continue,
        };
        let mut text = with(key.path, value);
        if matches!(key.kind, Kind::Listen | Kind::Address) {
            text = text.replace("pool.web.listen.http.address = ':8000'\n", "");
        }
        let config = format!("{:?}", good(&text));
        assert!(config.contains("/srv/shop/link/../x"), "{}: {config}", key.path);
        walked += 1;
    }
    assert!(walked >= 13, "{walked}");
}
