//! What differs between two configs: each key of the sheet changed alone, layers, templates, spellings, pools that come and go.

use std::collections::BTreeSet;

use poolmaster::config::diff::{Change, Class, Diff, What, diff};
use poolmaster::config::keys::{self, Kind};
use poolmaster::config::spec::Config;
use proptest::prelude::*;

use super::{good, good_with};

/// The sheet of all keys.
const FULL: &str = include_str!("full.toml");

/// The changes of all tables, in order.
fn all(diff: &Diff) -> Vec<&Change> {
    diff.master.iter().chain(diff.pools.iter().flat_map(|pool| &pool.changes)).collect()
}

/// The keys that differ.
fn changed(old: &Config, new: &Config) -> Vec<String> {
    all(&diff(old, new)).iter().map(|change| change.key.clone()).collect()
}

/// `KEY: OLD (ORIGIN) -> NEW (ORIGIN), CLASS`
fn told(old: &Config, new: &Config) -> Vec<String> {
    let value = |shown: &Option<poolmaster::config::diff::Shown>| {
        shown.as_ref().map_or("-".to_owned(), |shown| format!("{} ({})", shown.value, shown.origin))
    };
    let line = |c: &&Change| format!("{}: {} -> {}, {}", c.key, value(&c.old), value(&c.new), c.class);
    all(&diff(old, new)).iter().map(line).collect()
}

/// Another value than the sheet's, for keys whose type alone does not say one that is right.
fn special(path: &str) -> Option<&'static str> {
    Some(match path {
        "master.default_pool" => "'cache'",
        "master.daemon" => "true",
        "pool.web.use" => "[]",
        "pool.web.listen.admin.address" => "'unix:/run/shop/other.sock'",
        "pool.api.listen.web.share" => "'web.http'",
        "pool.web.after" => "['api']",
        "pool.web.command" => "'server --fd {fd:http}'",
        "pool.web.argv0" => "'other'",
        "pool.web.protocols" => "['systemd', 'einhorn']",
        "pool.web.env_files" => "['.other']",
        "pool.web.ready" => "'exec'",
        "pool.web.stop_signal" => "'QUIT'",
        "pool.web.quick_signal" | "pool.web.reopen_signal" => "'USR1'",
        "pool.web.scale.restart_signal" => "'RTMIN+9'",
        "pool.web.scale.min" => "3",
        "pool.web.scale.max" => "20",
        "pool.web.min_ready" => "2",
        "pool.web.workers" => "5",
        "pool.web.rollout.max_surge" | "pool.web.rollout.max_unavailable" => "2",
        "pool.web.rollout.canary" => "2",
        "pool.web.listen.http.device" => "'lo'",
        "pool.web.listen.http.v6only" => "true",
        "pool.web.listen.http.address" => "'[::]:8008'",
        "pool.web.listen.metrics" => "'127.0.0.1:9109'",
        "pool.web.listen.admin.mode" => "'0600'",
        "pool.web.restart.backoff.max" => "'40s'",
        "pool.web.restart.backoff.first" | "pool.web.restart.backoff.base" => "'700ms'",
        "pool.web.restart.backoff.jitter" => "0.3",
        "pool.web.recycle.lifetime_jitter" => "0.3",
        "pool.web.no_new_privileges" | "pool.web.required" => "false",
        "pool.web.listen.http.nodelay" | "pool.web.listen.http.keepalive" => "false",
        _ => return None,
    })
}

/// A value that is right for the type, and not the sheet's.
fn another(key: &keys::Key, now: &toml::Value) -> String {
    let taken = now.to_string();
    let candidates: &[&str] = match key.kind {
        Kind::Bool => &["true", "false"],
        Kind::Int(..) => &["11", "12"],
        Kind::Float(..) => &["1.5", "2.5"],
        Kind::Text | Kind::Name => &["'x'"],
        Kind::Path => &["'/x'"],
        Kind::Duration { .. } => &["'77s'"],
        Kind::Size(_) => &["'77K'"],
        Kind::Signal { .. } => &["'USR2'"],
        Kind::RealTime => &["'RTMIN+5'"],
        Kind::Choice(choices) => {
            let word = choices.iter().map(|(word, _)| *word).find(|word| format!("{word:?}") != taken);
            return format!("'{}'", word.expect("a second choice"));
        }
        Kind::Workers | Kind::AtOnce | Kind::Share | Kind::User | Kind::Limit => &["3"],
        Kind::Argv { .. } => &["['x']"],
        Kind::Strings => &["['x']"],
        Kind::Ints(..) | Kind::Users => &["[1]"],
        Kind::Capabilities => &["['net_bind_service']"],
        Kind::Choices(_) => &["['s6']"],
        Kind::Steps => &["['QUIT', '5s']"],
        Kind::Ready => &["'exec'"],
        Kind::Rate => &["'10%/5s'"],
        Kind::Mode => &["'0007'"],
        Kind::Output(_) => &["'null'"],
        Kind::Listen | Kind::Address => &["':7'"],
        Kind::Env => &["'x'"],
        Kind::Secret => &["'file:/x'"],
        Kind::Clock => &["'04:00'"],
        Kind::Schedule => &["[{ from = '08:00', to = '09:00', min = 2 }]"],
    };
    candidates.iter().find(|text| **text != taken).expect("another").to_string()
}

/// The values of a table with their paths.
fn leaves(value: &toml::Value, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, toml::Value)>) {
    match value {
        toml::Value::Table(table) => {
            for (name, inner) in table {
                path.push(name.clone());
                leaves(inner, path, out);
                path.pop();
            }
        }
        _ => out.push((path.clone(), value.clone())),
    }
}

fn set(table: &mut toml::Table, path: &[String], value: toml::Value) {
    match path {
        [last] => drop(table.insert(last.clone(), value)),
        [first, rest @ ..] => match table.get_mut(first) {
            Some(toml::Value::Table(inner)) => set(inner, rest, value),
            other => panic!("{first} is {other:?}"),
        },
        [] => {}
    }
}

/// The definition of a path of the sheet.
fn definition(path: &[String]) -> &'static keys::Key {
    let fits = |key: &&keys::Key| {
        let pattern: Vec<&str> = key.path.split('.').collect();
        pattern.len() == path.len() && pattern.iter().zip(path).all(|(a, b)| a == b || *a == "*")
    };
    // The most exact of several: `listen.*` fits `listen.admin`, and nothing else does.
    keys::all().filter(fits).min_by_key(|key| key.path.matches('*').count()).unwrap_or_else(|| panic!("{path:?}"))
}

#[test]
fn each_key_of_the_sheet_changed_alone_is_one_change_with_its_class() {
    // A socket that is shared cannot be one for each slot.
    let sheet: toml::Table = FULL.replace("web.http", "web.metrics").parse().expect("TOML");
    let text = |table: &toml::Table| toml::to_string(table).expect("TOML");
    let before = good(&text(&sheet));
    let mut found = Vec::new();
    leaves(&toml::Value::Table(sheet.clone()), &mut Vec::new(), &mut found);
    let mut seen = BTreeSet::new();
    for (path, value) in found.iter().filter(|(path, _)| matches!(&path[0][..], "master" | "pool")) {
        let (key, shown) = (definition(path), path.join("."));
        let other = special(&shown).map_or_else(|| another(key, value), str::to_owned);
        let other: toml::Table = format!("v = {other}").parse().expect("TOML");
        let mut changed = sheet.clone();
        set(&mut changed, path, other["v"].clone());
        if shown == "master.daemon" {
            set(&mut changed, &["master".to_owned(), "log".to_owned(), "file".to_owned()], "/x".into());
        }
        let after = good(&text(&changed));
        let difference = diff(&before, &after);
        let changes: Vec<&Change> =
            all(&difference).into_iter().filter(|c| shown != "master.daemon" || c.key != "master.log.file").collect();
        seen.insert(key.path);
        match &shown[..] {
            // What it stands for changes.
            "pool.web.use" => {
                let keys: Vec<&str> = changes.iter().map(|c| &c.key[..]).collect();
                assert_eq!(keys, ["pool.web.env.PYTHONUNBUFFERED"]);
                continue;
            }
            // Comes to nothing without env_clear.
            "pool.web.env_pass" => assert_eq!(changes[0].class, Class::None),
            _ => assert_eq!(changes.first().map(|c| c.class), Some(key.class), "{shown}"),
        }
        assert_eq!(changes.len(), 1, "{shown}: {changes:?}");
        assert_eq!(changes[0].key, shown);
        let (old, new) = (changes[0].old.as_ref().expect("old"), changes[0].new.as_ref().expect("new"));
        assert!(old.value != new.value || old.value == "\"***\"", "{shown}: {old:?}");
        assert!(old.origin.starts_with("pools.toml:") && new.origin.starts_with("pools.toml:"), "{shown}: {old:?}");
        // In that pool alone, and the reverse is the same the other way round.
        for pool in &difference.pools {
            let own = path[0] == "pool" && path[1] == pool.name;
            assert_eq!(pool.what, if own { What::Changed } else { What::Same }, "{shown}: {}", pool.name);
            if own && pool.class() != Class::None {
                assert_eq!(difference.classes().get(pool.name.as_str()).copied().unwrap_or(Class::None), key.class, "{shown}");
            }
        }
        let back = diff(&after, &before);
        let back: Vec<&Change> = all(&back).into_iter().filter(|c| c.key == shown).collect();
        assert_eq!((&back[0].old, &back[0].new), (&changes[0].new, &changes[0].old), "{shown}");
    }
    let left: Vec<&str> = keys::all().map(|key| key.path).filter(|path| !seen.contains(path) && *path != "include").collect();
    assert_eq!(left, Vec::<&str>::new(), "changed by no row");
}

#[test]
fn the_same_config_differs_in_nothing() {
    for text in [FULL, "[pool.a]\ncommand = 'x'\n"] {
        let (one, other) = (good(text), good(text));
        let same = diff(&one, &other);
        assert_eq!(all(&same), Vec::<&Change>::new());
        assert!(same.pools.iter().all(|pool| pool.what == What::Same) && same.class() == Class::None);
    }
}

#[test]
fn another_spelling_is_no_change() {
    let pool = |rest: &str| good(&format!("[pool.a]\ncommand = 'srv --x 1'\n{rest}\n"));
    for (one, other) in [
        ("settle = '90s'", "settle = '1m 30s'"),
        ("settle = 30", "settle = '30s'"),
        ("log.max_line = '16K'", "log.max_line = 16384"),
        ("stop_signal = 'SIGTERM'", "stop_signal = 'TERM'"),
        ("listen = ':8000'", "listen = 'tcp://[::]:8000'"),
        ("listen = ':8000'", "listen = [':8000']"),
        ("listen = ':8000'", "listen.main = ':8000'"),
        ("listen = ':8000'", "listen.main = { address = ':8000' }"),
        ("listen = [':8000', ':8001']", "listen = { main = ':8000', main-2 = ':8001' }"),
        ("listen.x = ':8000'", "listen.x = { address = ':8000', backlog = 1024, nodelay = true }"),
        // Set to what holds anyway.
        ("", "graceful_timeout = '30s'\nworkers = 1\nargv0 = ''\nlog.stdout = 'inherit'"),
        ("", "user = ''\nquick_signal = ''\nchroot = ''"),
        ("umask = '0022'", "umask = '022'"),
        ("env.A = '1'", "env.A = 1"),
        ("env.A = '1'", "env = { A = '1' }"),
    ] {
        assert_eq!(told(&pool(one), &pool(other)), Vec::<String>::new(), "{one} and {other}");
        assert_eq!(told(&pool(other), &pool(one)), Vec::<String>::new(), "{other} and {one}");
    }
    let argv = |command: &str| good(&format!("[pool.a]\ncommand = {command}\n"));
    assert_eq!(changed(&argv("'srv --x 1'"), &argv("['srv', '--x', '1']")), Vec::<String>::new());
}

#[test]
fn a_change_of_defaults_shows_in_the_pools_that_have_them() {
    let config = |settle: &str| {
        good(&format!(
            "[defaults]\nsettle = {settle}\n[pool.a]\ncommand = 'x'\n[pool.b]\ncommand = 'x'\nsettle = 7\n[pool.c]\ncommand = 'x'\n"
        ))
    };
    assert_eq!(
        told(&config("2"), &config("3")),
        [
            "pool.a.settle: 2 (pools.toml:2:10) -> 3 (pools.toml:2:10), live",
            "pool.c.settle: 2 (pools.toml:2:10) -> 3 (pools.toml:2:10), live",
        ]
    );
    // What was the built-in default.
    let bare = good("[pool.a]\ncommand = 'x'\n[pool.b]\ncommand = 'x'\nsettle = 7\n[pool.c]\ncommand = 'x'\n");
    assert_eq!(told(&bare, &config("3"))[0], "pool.a.settle: \"1s\" (built-in default) -> 3 (pools.toml:2:10), live");
    assert_eq!(told(&config("3"), &bare)[0], "pool.a.settle: 3 (pools.toml:2:10) -> \"1s\" (built-in default), live");
    assert_eq!(changed(&bare, &config("1")), Vec::<String>::new());
}

#[test]
fn a_change_of_a_template_shows_where_it_is_used_and_not_hidden() {
    let config = |env: &str| {
        good(&format!(
            "[template.py]\nenv = {{ P = '{env}' }}\n[pool.a]\nuse = ['py']\ncommand = 'x'\n[pool.b]\nuse = ['py']\ncommand = 'x'\nenv.P = '9'\n[pool.c]\ncommand = 'x'\n"
        ))
    };
    assert_eq!(told(&config("1"), &config("2")), ["pool.a.env.P: \"1\" (pools.toml:2:13) -> \"2\" (pools.toml:2:13), rolling"]);
}

#[test]
fn layers_above_the_file_show_as_origins() {
    let text = "[pool.a]\ncommand = 'x'\nworkers = 2\n";
    let with = |env: &[(&str, &str)], set: &[&str]| good_with(text, env, set);
    let bare = with(&[], &[]);
    assert_eq!(
        told(&bare, &with(&[("POOLMASTER__POOL__A__WORKERS", "4")], &[])),
        ["pool.a.workers: 2 (pools.toml:3:11) -> 4 (variable POOLMASTER__POOL__A__WORKERS), live"]
    );
    let flag = told(&bare, &with(&[], &["pool.a.workers=5"]));
    assert_eq!(flag, ["pool.a.workers: 2 (pools.toml:3:11) -> 5 (flag --set pool.a.workers=5), live"]);
    // From elsewhere, the same.
    assert_eq!(told(&bare, &with(&[], &["pool.a.workers=2"])), Vec::<String>::new());
}

#[test]
fn variables_of_the_environment_are_compared_by_what_they_stand_for() {
    let text = "[pool.a]\ncommand = 'srv ${TOKEN}'\nworking_dir = '/srv/${WHERE}'\nenv.KEY = '${TOKEN}'\n";
    let with = |token: &str, place: &str| good_with(text, &[("TOKEN", token), ("WHERE", place)], &[]);
    assert_eq!(
        told(&with("x", "a"), &with("x", "b")),
        ["pool.a.working_dir: \"/srv/a\" (pools.toml:3:15) -> \"/srv/b\" (pools.toml:3:15), rolling"]
    );
    let told = told(&with("hush", "a"), &with("whist", "a"));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("pool.a.command: \"srv ${TOKEN}\" ") && told[0].ends_with(", rolling"), "{told:?}");
    assert!(told[1].starts_with("pool.a.env.KEY: \"${TOKEN}\" (pools.toml:4:11) -> \"${TOKEN}\" # "), "{told:?}");
    assert!(!told.concat().contains("hush") && !told.concat().contains("whist"), "{told:?}");
}

#[test]
fn secrets_are_never_shown() {
    let with = |path: &str| good(&format!("[pool.a]\ncommand = 'x'\nsecrets.DB = 'file:{path}'\n"));
    let bare = good("[pool.a]\ncommand = 'x'\n");
    assert_eq!(
        told(&with("/one"), &with("/two")),
        ["pool.a.secrets.DB: \"***\" (pools.toml:3:14) -> \"***\" (pools.toml:3:14), rolling"]
    );
    assert_eq!(told(&with("/one"), &bare), ["pool.a.secrets.DB: \"***\" (pools.toml:3:14) -> -, rolling"]);
}

#[test]
fn pools_come_go_and_are_named_anew() {
    let pools = |names: &[&str]| good(&names.iter().map(|name| format!("[pool.{name}]\ncommand = 'x'\n")).collect::<String>());
    let what = |old: &[&str], new: &[&str]| -> Vec<(String, What)> {
        diff(&pools(old), &pools(new)).pools.into_iter().map(|pool| (pool.name, pool.what)).collect()
    };
    let is = |name: &str, what: What| (name.to_owned(), what);
    // In the order of the new config, those that leave it last.
    assert_eq!(what(&["a", "b"], &["c", "b"]), [is("c", What::Added), is("b", What::Same), is("a", What::Removed)]);
    // A name is all that a pool is known by.
    assert_eq!(what(&["a"], &["z"]), [is("z", What::Added), is("a", What::Removed)]);
    // The order of the file is no setting.
    assert_eq!(what(&["a", "b"], &["b", "a"]), [is("b", What::Same), is("a", What::Same)]);
    let added = diff(&pools(&["a"]), &pools(&["a", "b"]));
    assert_eq!(
        (
            added.class(),
            added.classes().get("b").copied().unwrap_or(Class::None),
            added.classes().get("a").copied().unwrap_or(Class::None)
        ),
        (Class::Rolling, Class::Rolling, Class::None)
    );
    assert_eq!(all(&added), Vec::<&Change>::new());
}

#[test]
fn listeners_come_go_and_are_named_anew() {
    let pool = |listen: &str| good(&format!("[pool.a]\ncommand = 'x'\n{listen}\n"));
    let (two, one) = (pool("listen.x = ':1'\nlisten.y = { address = ':2', backlog = 5 }"), pool("listen.x = ':1'"));
    assert_eq!(
        told(&one, &two),
        [
            "pool.a.listen.y.address: - -> \":2\" (pools.toml:4:24), rebind",
            "pool.a.listen.y.backlog: - -> 5 (pools.toml:4:40), live",
        ]
    );
    assert_eq!(changed(&two, &one), ["pool.a.listen.y.address", "pool.a.listen.y.backlog"]);
    // The name is told to the workers.
    let renamed = diff(&one, &pool("listen.z = ':1'"));
    assert_eq!((all(&renamed).len(), renamed.class()), (2, Class::Rebind));
    let moved = diff(&pool("listen = ':1'"), &pool("listen = { main = ':2' }"));
    assert_eq!(all(&moved).iter().map(|c| (&c.key[..], c.class)).collect::<Vec<_>>(), [("pool.a.listen.main", Class::Rebind)]);
    // The address that a listener in short form has is not touched by its options.
    assert_eq!(changed(&one, &pool("listen.x = { address = ':1', backlog = 9 }")), ["pool.a.listen.x.backlog"]);
    assert_eq!(diff(&one, &pool("listen.x = { address = ':1', backlog = 9 }")).class(), Class::Live);
}

#[test]
fn what_comes_to_nothing_costs_nothing() {
    let pool = |rest: &str| good(&format!("[pool.a]\ncommand = 'x'\nlisten.x.address = 'tcp://[::]:1'\n{rest}\n"));
    for rest in ["env_pass = ['A']", "listen.x.v6only = false"] {
        let difference = diff(&pool(""), &pool(rest));
        assert_eq!((all(&difference).len(), difference.class()), (1, Class::None), "{rest}");
    }
    assert_eq!(diff(&pool("env_clear = true"), &pool("env_clear = true\nenv_pass = ['A']")).class(), Class::Rolling);
}

#[test]
fn the_names_that_follow_from_others_are_compared_by_what_they_come_to() {
    let master = |rest: &str| good(&format!("[master]\n{rest}\n[pool.a]\ncommand = 'x'\n"));
    let bare = master("");
    let own = bare.master.socket.display().to_string();
    assert_eq!(told(&bare, &master(&format!("socket = '{own}'"))), Vec::<String>::new());
    assert_eq!(
        told(&bare, &master("socket = '/x.sock'")),
        [format!("master.socket: \"{own}\" (built-in default) -> \"/x.sock\" (pools.toml:2:10), live")]
    );
    // What follows from it is not listed.
    assert_eq!(changed(&bare, &master("name = 'other'")), ["master.name"]);
    assert_eq!(changed(&bare, &master("name = 'shop'")), Vec::<String>::new(), "its folder is called so");
}

/// Values of a few keys of a pool; `None`: not set.
fn some_values() -> impl Strategy<Value = Vec<Option<usize>>> {
    prop::collection::vec(prop::option::of(0usize..3), KEYS.len())
}

/// Keys with values of which none is the default.
const KEYS: [(&str, [&str; 3]); 8] = [
    ("workers", ["2", "3", "'auto*2'"]),
    ("settle", ["2", "'3s'", "'4s'"]),
    ("nice", ["1", "2", "3"]),
    ("working_dir", ["'/a'", "'/b'", "'/c'"]),
    ("env.A", ["'1'", "'2'", "false"]),
    ("listen.x.address", ["':1'", "':2'", "'unix:/a'"]),
    ("restart.policy", ["'never'", "'on-failure'", "'never'"]),
    ("rollout.bake", ["'1s'", "'2s'", "'3s'"]),
];

fn config_of(values: &[Option<usize>]) -> Config {
    let lines = KEYS.iter().zip(values).filter_map(|((key, all), at)| Some(format!("{key} = {}\n", all[(*at)?])));
    good(&format!("[pool.a]\ncommand = 'x'\n{}", lines.collect::<String>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn just_what_differs_is_told_both_ways(one in some_values(), other in some_values()) {
        let (a, b) = (config_of(&one), config_of(&other));
        let value = |values: &[Option<usize>], at: usize| values[at].map(|n| KEYS[at].1[n]);
        let mut want: Vec<String> = (0..KEYS.len()).filter(|at| value(&one, *at) != value(&other, *at)).map(|at| format!("pool.a.{}", KEYS[at].0)).collect();
        want.sort();
        let (there, back) = (diff(&a, &b), diff(&b, &a));
        let mut keys: Vec<String> = all(&there).iter().map(|c| c.key.clone()).collect();
        keys.sort();
        prop_assert_eq!(keys, want);
        let turned: Vec<_> = all(&back).iter().map(|c| (c.key.clone(), c.new.clone(), c.old.clone(), c.class)).collect();
        let forth: Vec<_> = all(&there).iter().map(|c| (c.key.clone(), c.old.clone(), c.new.clone(), c.class)).collect();
        prop_assert_eq!(forth, turned);
        prop_assert_eq!(diff(&a, &a.clone()).class(), Class::None);
        // The strongest of what differs.
        let class = all(&there).iter().map(|c| c.class).max().unwrap_or(Class::None);
        prop_assert_eq!((there.class(), there.classes().get("a").copied().unwrap_or(Class::None)), (class, class));
    }

    #[test]
    fn one_pool_taken_from_another_config_leaves_the_others(one in some_values(), other in some_values()) {
        let two = |values: &[Option<usize>]| {
            let lines = |skip: &str| KEYS.iter().zip(values).filter(|((key, _), _)| *key != skip).filter_map(|((key, all), at)| Some(format!("{key} = {}\n", all[(*at)?]))).collect::<String>();
            good(&format!("[pool.a]\ncommand = 'x'\n{}[pool.b]\ncommand = 'x'\n{}", lines(""), lines("listen.x.address")))
        };
        let (old, new) = (two(&one), two(&other));
        let mut merged = old.clone();
        merged.pools[1] = new.pools[1].clone();
        merged.settings.take_pool("b", &new.settings);
        let (whole, part) = (diff(&old, &new), diff(&old, &merged));
        prop_assert_eq!(&part.pools[1], &whole.pools[1]);
        prop_assert_eq!(part.pools[0].what, What::Same);
        prop_assert_eq!(all(&diff(&merged, &merged.clone())).len(), 0);
    }
}
