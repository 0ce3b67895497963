//! The page of section 5: all keys of a config from their definitions, within prose by hand.

use poolmaster::config::keys::{self, Key, Kind, When};
use poolmaster::config::{Facts, Sources, explain, load};

use super::drift;
use super::man::{filled, reads_well};
use super::roff::{Page, bold, placeholder};

/// Where the flat keys of a pool turn to something else, by the first key of each part.
const PARTS: [(&str, &str); 4] = [
    ("use", "Program and number"),
    ("user", "Identity and environment"),
    ("ready", "Start, health and stop"),
    ("listen", "Listeners in short"),
];

/// The table that a key stands in.
fn table_of(key: &Key) -> &'static str {
    key.path.rsplit_once('.').map_or("", |(table, _)| table)
}

/// `[pool.NAME.scale]`
fn heading(table: &str) -> String {
    let mut names = ["NAME", "LISTENER"].into_iter();
    let shown: Vec<&str> = table.split('.').map(|part| if part == "*" { names.next().unwrap() } else { part }).collect();
    format!("[{}]", shown.join("."))
}

/// All tables with keys, in the order of the manual, below this one.
fn sections(root: &str) -> Vec<(&'static str, &'static str, Vec<&'static Key>)> {
    keys::tables()
        .filter(|(table, _)| table.split('.').next() == Some(root))
        .map(|(table, about)| (table, about, keys::all().filter(|key| table_of(key) == table).collect()))
        .collect()
}

fn term(key: &Key) -> String {
    match key.path.rsplit('.').next() {
        Some("*") if key.path.ends_with("listen.*") => placeholder("LISTENER"),
        Some("*") => placeholder("VARIABLE"),
        Some(name) => bold(name),
        None => String::new(),
    }
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default() + chars.as_str()
}

/// Type, default, unit, merging, change class, version, example.
fn entry(page: &mut Page, key: &Key) {
    // A default that depends on something is part of the description.
    let (about, default) = match (key.about.split_once("default: "), key.default) {
        (Some((about, default)), "") => (about.trim_end_matches(['.', ';', ' ']), default.to_owned()),
        (_, "") => (key.about, "none".to_owned()),
        (_, default) => (key.about, format!("`{default}`")),
    };
    page.item(&term(key), &format!("{}.", upper_first(about)));
    page.raw(".br");
    let one_of = if matches!(key.kind, Kind::Choice(_)) { "one of " } else { "" };
    let mut facts = format!("Type: {one_of}{}. Default: {default}.", key.kind.allowed());
    // Durations and sizes say it in their type.
    if let Some(unit) = key.unit().filter(|_| !matches!(key.kind, Kind::Duration { .. } | Kind::Size(_))) {
        facts.push_str(&format!(" Unit: {unit}."));
    }
    for said in [layers(key), merging(key).said()].into_iter().flatten() {
        facts.push_str(&format!(" {said}"));
    }
    facts.push_str(&format!(" Change: {}.", key.class));
    match key.since() {
        Some(version) => facts.push_str(&format!(" Since {version}.")),
        None => facts.push_str(" Not in this version yet."),
    }
    let to_come = key.kind.words_to_come();
    if key.since().is_some() && !to_come.is_empty() {
        facts.push_str(&format!(" Not in this version yet: {}.", to_come.join(", ")));
    }
    page.words(&super::roff::inline(&facts));
    page.raw(".br");
    page.words(&super::roff::inline(&format!("Example: `{}`", key.example_line())));
}

/// Where a key is set, when that is another place than its table in every layer.
fn layers(key: &Key) -> Option<&'static str> {
    match key.path {
        "include" => Some("Layers: the file itself, environment, flags."),
        "pool.*.use" => Some("Not in a template."),
        "pool.*.workers" => Some("Layers: all, and above them the operator's number."),
        _ => None,
    }
}

/// What a stronger value of a key does to a weaker one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Merging {
    /// It takes its place.
    Replaces,
    /// It takes its place, and nothing is appended.
    ListReplaces,
    /// Tables of listeners are merged; addresses replace.
    Listeners,
    /// What has another name stays.
    ByName,
}

impl Merging {
    fn said(self) -> Option<&'static str> {
        match self {
            Merging::Replaces => None,
            Merging::ListReplaces => Some("Merged: as a whole."),
            Merging::Listeners => Some("Merged: tables by the names of the listeners; anything else as a whole."),
            Merging::ByName => Some("Merged: by name."),
        }
    }
}

fn merging(key: &Key) -> Merging {
    match key.kind {
        Kind::Listen => Merging::Listeners,
        _ if key.path.ends_with(".*") => Merging::ByName,
        Kind::Argv { .. }
        | Kind::Strings
        | Kind::Ints(..)
        | Kind::Choices(_)
        | Kind::Steps
        | Kind::Users
        | Kind::Capabilities
        | Kind::Schedule => Merging::ListReplaces,
        Kind::Bool
        | Kind::Int(..)
        | Kind::Float(..)
        | Kind::Text
        | Kind::Name
        | Kind::Path
        | Kind::Duration { .. }
        | Kind::Size(_)
        | Kind::Signal { .. }
        | Kind::RealTime
        | Kind::Choice(_)
        | Kind::Workers
        | Kind::AtOnce
        | Kind::Ready
        | Kind::Share
        | Kind::Rate
        | Kind::Mode
        | Kind::Output(_)
        | Kind::Address
        | Kind::Env
        | Kind::Secret
        | Kind::User
        | Kind::Limit
        | Kind::Clock => Merging::Replaces,
    }
}

/// The page.
fn page() -> String {
    let mut top = Page::default();
    keys::all().filter(|key| table_of(key).is_empty()).for_each(|key| entry(&mut top, key));
    let section = |root: &str| {
        let mut page = Page::default();
        for (table, about, keys) in sections(root) {
            if keys.is_empty() {
                continue;
            }
            // The table itself has its heading already.
            if table != "master" && table != "pool.*" {
                page.subsection(&heading(table));
                page.paragraph(&format!("{}.", upper_first(about)));
            }
            for key in keys {
                let name = key.path.rsplit('.').next().unwrap();
                if let Some((_, title)) =
                    PARTS.iter().find(|(first, title)| table == "pool.*" && *first == name && !title.is_empty())
                {
                    page.subsection(title);
                }
                entry(&mut page, key);
            }
        }
        page.done()
    };
    filled(
        "man/pools.toml.5.in",
        &Page::new("POOLS.TOML", 5, "poolmaster manual").done(),
        &[("@TOP@", top.done()), ("@MASTER@", section("master")), ("@POOL@", section("pool"))],
    )
}

#[test]
fn the_checked_in_page_is_the_made_one() {
    drift::same("man/pools.toml.5", &page());
}

#[test]
fn the_page_reads_well() {
    reads_well("pools.toml.5", &page());
}

/// True for types that take bare numbers of something.
fn counts(kind: Kind) -> bool {
    match kind {
        Kind::Int(..)
        | Kind::Float(..)
        | Kind::Duration { .. }
        | Kind::Size(_)
        | Kind::Ints(..)
        | Kind::Workers
        | Kind::AtOnce
        | Kind::Share
        | Kind::Limit => true,
        Kind::Bool
        | Kind::Text
        | Kind::Name
        | Kind::Path
        | Kind::Signal { .. }
        | Kind::RealTime
        | Kind::Choice(_)
        | Kind::Argv { .. }
        | Kind::Strings
        | Kind::Choices(_)
        | Kind::Steps
        | Kind::Ready
        | Kind::Rate
        | Kind::Mode
        | Kind::Output(_)
        | Kind::Listen
        | Kind::Address
        | Kind::Env
        | Kind::Secret
        | Kind::User
        | Kind::Users
        | Kind::Capabilities
        | Kind::Clock
        | Kind::Schedule => false,
    }
}

fn entry_alone(key: &Key) -> String {
    let mut page = Page::default();
    entry(&mut page, key);
    page.done()
}

/// The parts that the entry of a key has not.
fn lacking(key: &Key) -> Vec<&'static str> {
    let flat = entry_alone(key).replace('\n', " ");
    let (about, facts) = flat.split_once(" .br Type: ").unwrap_or_default();
    let about = about.split_once(&term(key)).unwrap_or_default().1;
    let has = |start: &str| facts.split_once(start).is_some_and(|(_, rest)| rest.starts_with(|c: char| c != '.' && c != ' '));
    let unit = has("Unit: ") || facts.contains("bare number is seconds") || facts.contains("bare number is bytes");
    [
        ("a description", about.len() > 10),
        ("a type", facts.trim_start_matches("one of ").starts_with(|c: char| c != '.')),
        ("a default", has("Default: ")),
        ("a unit", unit || !counts(key.kind)),
        ("an example", has(".br Example: ")),
        ("a version", has("Since ") || facts.contains("Not in this version yet.")),
    ]
    .into_iter()
    .filter_map(|(part, there)| (!there).then_some(part))
    .collect()
}

#[test]
fn every_key_has_an_entry_with_all_its_parts() {
    let page = page();
    for key in keys::all() {
        assert_eq!(lacking(key), Vec::<&str>::new(), "{}:\n{}", key.path, entry_alone(key));
        assert!(page.contains(&entry_alone(key)), "{}", key.path);
        assert_eq!(key.since().is_none(), key.when != When::Now, "{}", key.path);
    }
    // As many as there are: none twice.
    let made = &page[page.find("\n.SS At the top\n").unwrap()..page.find("\n.SH EXAMPLES\n").unwrap()];
    assert_eq!(made.matches("\n.TP\n").count(), keys::all().count());
}

#[test]
fn an_entry_that_lacks_a_part_is_seen() {
    let key = keys::all().find(|key| key.path == "pool.*.min_ready").unwrap();
    assert_eq!(lacking(&Key { about: "", ..*key }), ["a description"]);
    assert_eq!(lacking(&Key { path: "pool.*.new", ..*key }), ["a unit"]);
    assert_eq!(lacking(&Key { kind: Kind::Choice(&[]), ..*key }), ["a type"]);
    assert_eq!(lacking(&Key { default: "", about: "ready workers; default: ", ..*key }), ["a default"]);
}

#[test]
fn every_table_has_its_heading_and_every_part_its_key() {
    let page = page();
    for (table, _) in keys::tables().filter(|(table, _)| keys::all().any(|key| table_of(key) == *table)) {
        assert!(table.is_empty() || page.contains(&heading(table)[1..]) || ["master", "pool.*"].contains(&table), "{table}");
    }
    for (first, _) in PARTS {
        assert!(keys::all().any(|key| key.path == format!("pool.*.{first}")), "{first}");
    }
}

/// A config that says the same of a key in `[defaults]` and in the pool.
fn said_twice(key: &Key) -> Option<(String, String)> {
    let path = key.path.strip_prefix("pool.*.")?;
    let value = key.example();
    let base = "command = 'x'\nprotocols = ['systemd']\n";
    // What stands elsewhere in this config, or in a place that depends on others, has a test of its own.
    if ["use", "command", "listen", "protocols", "after"].contains(&path) || path.starts_with("listen.*") || key.when != When::Now
    {
        return None;
    }
    let path = path.replace('*', "NAME");
    Some((format!("[defaults]\n{path} = {value}\n[pool.web]\n{base}{path} = {value}\n"), path))
}

#[test]
fn keys_are_merged_as_the_page_says() {
    let explained = |text: &str| {
        let facts = Facts { cpus: 4, uid: 1000, cwd: "/srv/shop".into(), ..Facts::default() };
        let sources = Sources { path: Some("pools.toml".into()), text: Some(text.to_owned()), facts, ..Sources::default() };
        explain(&sources).unwrap_or_else(|diagnostics| panic!("{diagnostics}\nin:\n{text}"))
    };
    let mut seen = 0;
    for (text, path) in keys::all().filter_map(said_twice) {
        let origins = explained(&text).origin(&format!("pool.web.{path}")).unwrap();
        let [origin] = origins.as_slice() else { panic!("{path}: {origins:?}") };
        // A list that was appended to would be twice as long.
        let weaker = origin.hidden.first().unwrap_or_else(|| panic!("{path}: {origin:?}"));
        assert_eq!((&origin.effective.part, &weaker.part.as_deref()), (&None, &Some("[defaults]")), "{path}");
        assert_eq!(origin.effective.value, weaker.value, "{path}");
        seen += 1;
    }
    assert!(seen > 70, "{seen}");
    let loaded = explained(
        "[defaults]\nenv = { A = '1', B = '2' }\nlisten = { http = ':1', admin = ':2' }\nscale = { min = 2, max = 9 }\n\
         [pool.web]\ncommand = 'x'\nworkers = 3\nscale.max = 5\nenv = { B = false }\nlisten.http = ':3'\n\
         [pool.one]\ncommand = 'x'\nworkers = 2\nlisten = ':4'\n",
    );
    let value = |key: &str| loaded.origin(key).map(|found| found[0].effective.value.clone());
    assert_eq!(value("pool.web.env.A").as_deref(), Ok("\"1\""));
    assert_eq!(value("pool.web.env.B").as_deref(), Ok("false"));
    assert_eq!(value("pool.web.scale.min").as_deref(), Ok("2"));
    assert_eq!(value("pool.web.scale.max").as_deref(), Ok("5"));
    assert_eq!(value("pool.web.listen.http").as_deref(), Ok("\":3\""));
    assert_eq!(value("pool.web.listen.admin").as_deref(), Ok("\":2\""));
    assert_eq!(value("pool.one.listen").as_deref(), Ok("\":4\""));
    assert!(value("pool.one.listen.admin").is_err());
}

/// The texts between .EX and .EE that are configs, as they were meant.
fn examples() -> Vec<String> {
    let page = page();
    let blocks = page.split("\n.EX\n").skip(1).map(|rest| rest.split("\n.EE").next().unwrap().to_owned());
    blocks
        .map(|block| block.replace("\\-", "-").replace("\\(aq", "'").replace("\\&", ""))
        .filter(|block| block.starts_with('['))
        .collect()
}

#[test]
fn the_examples_are_right() {
    let examples = examples();
    assert_eq!(examples.len(), 4, "{examples:#?}");
    for text in examples {
        let facts = Facts { cpus: 4, uid: 1000, cwd: "/srv/shop".into(), ..Facts::default() };
        let sources = Sources { path: Some("pools.toml".into()), text: Some(text.clone()), facts, ..Sources::default() };
        let config = load(&sources).unwrap_or_else(|diagnostics| panic!("{diagnostics}\nin:\n{text}"));
        assert!(
            config.not_yet.is_empty() && config.warnings.is_empty(),
            "{:?} {:?}\nin:\n{text}",
            config.not_yet,
            config.warnings
        );
    }
}
