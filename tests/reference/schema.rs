//! The schema of a config: checked in as it is made, and of one mind with `check`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use poolmaster::config::keys::{self, Key};
use poolmaster::config::schema;
use poolmaster::config::{Facts, Sources, load};
use serde_json::{Value, json};

use super::drift;
use super::validator::{errors, valid};

#[test]
fn the_checked_in_schema_is_the_made_one() {
    drift::same("schemas/pools.schema.json", &schema::text());
}

fn from_toml(text: &str) -> Option<Value> {
    serde_json::to_value(text.parse::<toml::Table>().ok()?).ok()
}

/// Whether `check` accepts a config.
fn accepted(text: &str) -> Result<(), String> {
    let facts = Facts { cpus: 4, uid: 1000, cwd: PathBuf::from("/srv/shop"), ..Facts::default() };
    let env = vec![("VAR".to_owned(), "x".to_owned())];
    let sources = Sources { path: Some("pools.toml".into()), text: Some(text.to_owned()), env, facts, ..Sources::default() };
    load(&sources).map(drop).map_err(|diagnostics| diagnostics.to_string())
}

fn files(folder: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(drift::root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .map(|path| (shown(&path), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} has no configs");
    files
}

fn shown(path: &Path) -> String {
    path.strip_prefix(drift::root()).unwrap_or(path).display().to_string()
}

#[test]
fn shipped_configs_and_the_whole_sheet_are_valid() {
    let schema = schema::document();
    for (name, text) in
        files("examples").into_iter().chain(files("tests/config").into_iter().filter(|(n, _)| n.ends_with("full.toml")))
    {
        assert_eq!(errors(&schema, &from_toml(&text).unwrap()), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn wrong_configs_are_refused() {
    let schema = schema::document();
    for bad in [
        "wrokers = 1",
        "[pools.web]\ncommand = 'x'",
        "[master]\nnmae = 'x'",
        "[pool.Web]\ncommand = 'x'",
        "[pool.all]\ncommand = 'x'",
        "[pool.a--b]\ncommand = 'x'",
        "[pool.web]\ncommand = ''",
        "[pool.web]\ncommand = []",
        "[pool.web]\nwrokers = 1",
        "[pool.web]\nworkers = 'many'",
        "[pool.web]\nworkers = -1",
        "[pool.web]\ngraceful_timeout = '30 parsecs'",
        "[pool.web]\nstart_timeout = '0s'",
        "[pool.web]\nstop_signal = 'T E R M'",
        "[pool.web]\nlisten = 8000",
        "[pool.web]\nlisten = 'example.org:80'",
        "[pool.web]\nlisten = '/run/x.sock'",
        "[pool.web.listen]\naddress = ':8000'",
        "[pool.web.listen.http]\naddress = ':8000'\nbacklog = 0",
        "[pool.web.listen.http]\nbocklag = 10",
        "[pool.web]\nrestart = { policy = 'sometimes' }",
        "[pool.web]\nscale = 3",
        "[pool.web]\nnice = 20",
        "[pool.web]\nenv = { A = true }",
        "[pool.web.log]\nstderr = 'stderr'",
        "[template.a]\nuse = ['b']",
    ] {
        let value = from_toml(bad).unwrap_or_else(|| panic!("no TOML: {bad}"));
        assert!(!valid(&schema, &value), "accepted:\n{bad}");
        assert!(accepted(bad).is_err(), "check takes it:\n{bad}");
    }
}

/// Values of every kind, right and wrong, in TOML syntax.
const VALUES: &[&str] = &[
    "true",
    "false",
    "0",
    "1",
    "-1",
    "3",
    "15",
    "34",
    "64",
    "65",
    "300",
    "5000",
    "70000",
    "4294967295",
    "4294967296",
    "0.0",
    "0.5",
    "1.0",
    "2.5",
    "1e30",
    "''",
    "' '",
    "'x'",
    "'3'",
    "'-3'",
    "'0'",
    "'true'",
    "'${VAR}'",
    "'${VAR:-30s}'",
    "'30s'",
    "'0s'",
    "'0m 0s'",
    "'1m 30s'",
    "'1.5h'",
    "'500ms'",
    "' 2h '",
    "'1min30s'",
    "'5 parsecs'",
    "'10'",
    "'16K'",
    "'1.5G'",
    "'10 kb'",
    "'2MiB'",
    "'1X'",
    "'K'",
    "'TERM'",
    "'sigterm'",
    "'SIGRTMIN+3'",
    "'RTMIN'",
    "'RTMIN+1'",
    "'RTMAX-2'",
    "'rtmin+30'",
    "'QUIT'",
    "'TREM 1'",
    "'auto'",
    "'auto*2'",
    "'auto * 0.5'",
    "'auto+1'",
    "'many'",
    "'exec'",
    "'accepting'",
    "'notify'",
    "'delay:2s'",
    "'delay'",
    "'fd:5'",
    "'fd:x'",
    "'tcp::80'",
    "'http:http://x/'",
    "'command:./ok'",
    "'command:'",
    "'25%'",
    "' 25 % '",
    "'x%'",
    "'100%/1s'",
    "'4/10s'",
    "'4'",
    "'0600'",
    "'0o660'",
    "'888'",
    "'0007777'",
    "'77777'",
    "'inherit'",
    "'null'",
    "'capture'",
    "'stdout'",
    "'stderr'",
    "'file:/x'",
    "'file:'",
    "':8000'",
    "':80000'",
    "'127.0.0.1:80'",
    "'[::1]:80'",
    "'[::]:80'",
    "'tcp://0.0.0.0:80'",
    "'tcp6://[::]:80'",
    "'localhost:80'",
    "'unix:/run/x'",
    "'unix:x.sock'",
    "'unix:'",
    "'unix:@a'",
    "'inherit:web'",
    "'udp://:53'",
    "'example.org:80'",
    "'http://x'",
    "'root'",
    "'www-data'",
    "'a:b'",
    "'-x'",
    "'unlimited'",
    "'max'",
    "'infinity'",
    "'1024:65536'",
    "'8M:unlimited'",
    "'04:00'",
    "'24:00'",
    "'4:00'",
    "[]",
    "['x']",
    "['']",
    "[1]",
    "[300]",
    "[1, 'x']",
    "['3']",
    "['QUIT', '10s']",
    "['QUIT', '10s', 'TERM']",
    "['10s']",
    "['QUIT', 'TERM']",
    "['${VAR}']",
    "['systemd']",
    "['s6', 'port']",
    "['x y']",
    "['net_bind_service']",
    "['CAP_CHOWN']",
    "['chown', 'x']",
    "['web']",
    "['root', 5]",
    "['a:b']",
    "['/x', '-y']",
    "[':8000', 'unix:/x']",
    "[':8000', 'x']",
    "[{ from = '08:00', to = '20:00', days = 'mon-fri', min = 6 }]",
    "[{ from = '08:00' }]",
    "[{ from = '8', to = '9' }]",
    "[{ from = '08:00', to = '09:00', days = 'mon, tue', max = 2 }]",
    "[{ from = '08:00', to = '09:00', odd = 1 }]",
    "{ a = 1 }",
    "{}",
    "1979-05-27",
    "'fail'",
    "'retry'",
    "'strict'",
    "'omit'",
    "'stop'",
    "'keep'",
    "'never'",
    "'all-down'",
    "'start'",
    "'wait'",
    "'info'",
    "'text'",
    "'json'",
    "'raw'",
    "'daily'",
    "'restart'",
    "'reload'",
    "'ignore'",
    "'park'",
    "'first-beat'",
    "'ready'",
    "'process'",
    "'cgroup'",
    "'always'",
    "'on-failure'",
    "'manual'",
    "'advise'",
    "'oldest'",
    "'highest-slot'",
    "'rollback'",
    "'halt'",
    "'drop'",
    "'block'",
    "'shop-2'",
    "'shop--2'",
    "'Shop'",
    "'all'",
];

/// The value for a key, where the same table makes the rest of it right.
fn config(key: &Key, value: &str) -> String {
    let (base, path) = match key.path.strip_prefix("pool.*.") {
        Some("command") => ("pool.web.listen.http.address = ':1'\n", "pool.web.command".to_owned()),
        Some("listen") => ("pool.web.command = 'x'\n", "pool.web.listen".to_owned()),
        Some("listen.*") => ("pool.web.command = 'x'\n", "pool.web.listen.http".to_owned()),
        Some("listen.*.address") => ("pool.web.command = 'x'\n", "pool.web.listen.http.address".to_owned()),
        Some(rest) => (
            "pool.web.command = 'x'\npool.web.listen.http.address = ':1'\n",
            format!("pool.web.{}", rest.replace("listen.*", "listen.http").replace('*', "NAME")),
        ),
        None => ("pool.web.command = 'x'\n", key.path.to_owned()),
    };
    format!("{base}{path} = {value}\n")
}

/// What a schema cannot judge, with the words of `check` about it.
const BEYOND: &[&str] = &[
    // Against other values, or the host.
    "there is no template",
    "there is no pool",
    "start after itself",
    "include: cannot read",
    "no worker could ever be",
    "is below scale.min",
    "is above max",
    "has no address",
    "has no permission bits",
    "listener has no ",
    "is as its owner has it",
    "soft limit is above",
    // Inside a text or a list, where a pattern says less than the reader.
    "is no port",
    "after delay",
    "a signal is due",
    "a wait is due",
    "there is no signal",
    "is no IP address",
    "has to be at least",
    "the command is empty",
    "names no file",
    "there is no stderr to log to",
    "the port is missing",
    "this looks like a path",
    // JSON does not tell 1.0 from 1.
    "this cannot be a fraction, found",
    "a fraction needs a unit",
    "a variable is text",
];

#[test]
fn the_schema_and_check_are_of_one_mind() {
    let schema = schema::document();
    let (mut taken, mut refused, mut beyond) = (0, 0, 0);
    let (mut quarrels, mut seen) = (String::new(), BTreeSet::new());
    for key in keys::all() {
        // All values for one key of each type; those that are right for it, for every key.
        let all = seen.insert(format!("{:?}", key.kind));
        let own = [key.default, &key.example()].map(str::to_owned).into_iter().filter(|value| !value.is_empty());
        let values: Vec<String> = VALUES.iter().filter(|_| all).map(|value| (*value).to_owned()).chain(own).collect();
        for value in &values {
            let text = config(key, value);
            let Some(json) = from_toml(&text) else { panic!("no TOML: {text}") };
            let errors = errors(&schema, &json);
            match (accepted(&text), errors.is_empty()) {
                (Ok(()), true) => taken += 1,
                (Err(_), false) => refused += 1,
                (Ok(()), false) => quarrels.push_str(&format!("check takes, the schema refuses:\n{text}{errors:#?}\n")),
                // What a variable holds is known only at load.
                (Err(why), true) if value.contains("${") || BEYOND.iter().any(|words| why.contains(words)) => beyond += 1,
                (Err(why), true) => quarrels.push_str(&format!("check refuses, the schema takes:\n{text}{why}\n")),
            }
        }
    }
    assert!(quarrels.is_empty(), "{quarrels}");
    // Most of what is wrong is seen while it is typed.
    assert!(taken > 800 && refused > 5000 && beyond * 10 < refused, "{taken} {refused} {beyond}");
}

#[test]
fn every_key_is_described_with_type_default_and_unit() {
    let schema = schema::document();
    for key in keys::all() {
        let mut at = &schema;
        for segment in key.path.split('.') {
            at = if at.get("anyOf").is_some() {
                at["anyOf"].as_array().unwrap().iter().find(|way| way["type"] == "object").unwrap()
            } else {
                at
            };
            at = match segment {
                "*" if !at["additionalProperties"].is_object() => panic!("{}", key.path),
                "*" => &at["additionalProperties"],
                name => &at["properties"][name],
            };
            if at["$ref"] == "#/definitions/pool" {
                at = &schema["definitions"]["pool"];
            }
        }
        let about = at["description"].as_str().unwrap_or_else(|| panic!("{} is not described", key.path));
        assert!(about.len() > 20 && about.ends_with('.'), "{}: {about}", key.path);
        assert!(["type", "anyOf", "allOf", "enum"].iter().any(|word| at.get(word).is_some()), "{} has no type", key.path);
        assert_eq!(at.get("default").is_some(), !key.default.is_empty(), "{}: default", key.path);
        assert!(at["examples"][0] != Value::Null, "{}: example", key.path);
        assert_eq!(at["x-unit"].as_str(), key.unit(), "{}: unit", key.path);
        assert_eq!(at["x-change"].as_str(), Some(key.class.word()), "{}: change class", key.path);
        let said = key.unit().is_none_or(|unit| about.contains(unit));
        assert!(said, "{}: {about}", key.path);
    }
}

#[test]
fn nothing_but_the_keys_is_allowed() {
    let schema = schema::document();
    for (path, value) in [
        ("/properties/master/additionalProperties", json!(false)),
        ("/additionalProperties", json!(false)),
        ("/definitions/pool/additionalProperties", json!(false)),
        ("/definitions/pool/properties/scale/properties/queue/additionalProperties", json!(false)),
    ] {
        assert_eq!(schema.pointer(path), Some(&value), "{path}");
    }
}
