//! The page of section 5: all keys of a config from their definitions, within prose by hand.

use poolmaster::config::keys::{self, Key, Kind, When};
use poolmaster::config::{Facts, Sources, load};

use super::drift;
use super::man::{filled, reads_well};
use super::roff::{Page, bold, placeholder};

/// Where the flat keys of a pool turn to something else, by the first key of each part.
const PARTS: [(&str, &str); 4] =
    [("use", "Program and number"), ("user", "Identity and environment"), ("ready", "Start, health and stop"), ("env_clear", "")];

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
        Some("*") => placeholder("NAME"),
        Some(name) => bold(name),
        None => String::new(),
    }
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default() + chars.as_str()
}

/// Type, default, unit, version, example.
fn entry(page: &mut Page, key: &Key) {
    page.item(&term(key), &format!("{}.", upper_first(key.about)));
    page.raw(".br");
    let mut facts = format!("Type: {}.", key.kind.allowed());
    match (key.default, key.about.contains("default:")) {
        ("", true) => {}
        ("", false) => facts.push_str(" Default: none."),
        (default, _) => facts.push_str(&format!(" Default: `{default}`.")),
    }
    // Durations and sizes say it in their type.
    if let Some(unit) = key.unit().filter(|_| !matches!(key.kind, Kind::Duration { .. } | Kind::Size(_))) {
        facts.push_str(&format!(" Unit: {unit}."));
    }
    if let Some(merge) = merge(key) {
        facts.push_str(&format!(" {merge}"));
    }
    if let Some(layers) = layers(key) {
        facts.push_str(&format!(" {layers}"));
    }
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

/// What becomes of a weaker value, where that is not plain.
fn merge(key: &Key) -> Option<&'static str> {
    match key.kind {
        _ if key.path.ends_with(".*") => Some("Merge: by name."),
        Kind::Argv { .. }
        | Kind::Strings
        | Kind::Ints(..)
        | Kind::Choices(_)
        | Kind::Steps
        | Kind::Users
        | Kind::Capabilities
        | Kind::Listen
        | Kind::Schedule => Some("Merge: the whole list is replaced."),
        _ => None,
    }
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

#[test]
fn every_key_and_every_table_is_on_the_page() {
    let page = page();
    for key in keys::all() {
        let about = super::roff::inline(&format!("{}.", upper_first(key.about)));
        let flat = page.replace('\n', " ");
        assert!(flat.contains(&about), "{}: {about}", key.path);
        assert!(page.contains(&term(key)), "{}", key.path);
        assert_eq!(key.since().is_none(), key.when != When::Now, "{}", key.path);
    }
    for (table, _) in keys::tables().filter(|(table, _)| keys::all().any(|key| table_of(key) == *table)) {
        assert!(table.is_empty() || page.contains(&heading(table)[1..]) || ["master", "pool.*"].contains(&table), "{table}");
    }
    for (first, _) in PARTS {
        assert!(keys::all().any(|key| key.path == format!("pool.*.{first}")), "{first}");
    }
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
