//! `config origin` and `config show`.

use poolmaster::config::load;

use super::{explained, sources};

const FILE: &str = "[defaults]
workers = 2
[template.t]
workers = 3
[pool.web]
use = ['t']
command = 'x ${HOME}'
workers = 4
listen.http = { address = ':80', backlog = 5 }
[pool.web.env]
'A.B' = 'a\"b'
[pool.web.secrets]
PASSWORD = 'file:/run/secrets/password'
[pool.api]
command = ['y']
";

#[test]
fn an_origin_names_the_winner_and_all_that_it_hides() {
    let loaded = explained(FILE, &[("POOLMASTER__POOL__WEB__WORKERS", "5"), ("HOME", "/h")], &["pool.web.workers=6"]);
    let origins = loaded.origin("pool.web.workers").expect("a key");
    let want = "pool.web.workers = 6
  from flag --set pool.web.workers=6
  hides 5 from variable POOLMASTER__POOL__WEB__WORKERS
  hides 4 from pools.toml:8:11
  hides 3 from pools.toml:4:11 [template.t]
  hides 2 from pools.toml:2:11 [defaults]
  hides 1 from built-in default
";
    assert_eq!(origins[0].text(), want);
    assert_eq!(origins[0].json()["hidden"].as_array().map(Vec::len), Some(5));
    let api = loaded.origin("pool.api.workers").expect("a key");
    assert_eq!(
        (api[0].effective.value.as_str(), api[0].effective.part.as_deref(), api[0].hidden.len()),
        ("2", Some("[defaults]"), 1)
    );
}

#[test]
fn an_origin_of_a_table_lists_its_keys_and_wrong_keys_are_explained() {
    let loaded = explained(FILE, &[("HOME", "/h")], &[]);
    let listen = loaded.origin("pool.web.listen").expect("a table");
    let keys: Vec<&str> = listen.iter().map(|o| o.key.as_str()).collect();
    assert_eq!(keys, ["pool.web.listen.http.address", "pool.web.listen.http.backlog"]);
    let quoted = loaded.origin("pool.web.env.\"A.B\"").expect("a key");
    assert_eq!(quoted[0].key, "pool.web.env.\"A.B\"");
    let said = |key: &str| loaded.origin(key).expect_err(key);
    assert!(said("pool.web.wokers").contains("did you mean `workers`?"));
    assert!(said("pool.wbe.workers").contains("the pools: web, api"));
    assert!(said("pool.web.nice").contains("not set"));
    assert!(said("pool.api.secrets").contains("nothing in it is set"));
    assert!(said("a..b").contains("is no key"));
    assert!(said("defaults.workers").contains("ask for a key of a pool"));
}

#[test]
fn secrets_are_never_shown() {
    let loaded = explained(FILE, &[("HOME", "/h")], &[]);
    let shown = [
        loaded.show_toml(),
        loaded.show_json().to_string(),
        loaded.origin("pool.web.secrets.PASSWORD").expect("a key").iter().map(|o| o.text() + &o.json().to_string()).collect(),
    ];
    for text in shown {
        assert!(text.contains("***") && !text.contains("/run/secrets/password"), "{text}");
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same_config() {
    let without_secrets = FILE.replace("[pool.web.secrets]\nPASSWORD = 'file:/run/secrets/password'\n", "");
    let env = [("HOME", "/h"), ("POOLMASTER__POOL__WEB__TIMEOUT", "5s"), ("POOLMASTER__POOL__API__AFTER", "[\"web\"]")];
    let first = explained(&without_secrets, &env, &["pool.web.restart.backoff.factor=3", "master.name=x"]);
    let shown = first.show_toml();
    let again = load(&sources(&shown, &env[..1], &[])).unwrap_or_else(|diags| panic!("{diags}\n{shown}"));
    assert_eq!(format!("{:?}", again.pools), format!("{:?}", first.config.pools), "{shown}");
    assert_eq!(format!("{:?}", again.master), format!("{:?}", first.config.master), "{shown}");
    assert!(shown.contains("restart.backoff.jitter = 0.2"), "{shown}");
}

#[test]
fn a_default_that_bounds_override_is_shown_as_it_is_in_force() {
    for (bounds, workers) in [("scale.min = 3", "3"), ("scale.min = 0", "1"), ("scale.max = 9", "1")] {
        let first = explained(&format!("[pool.a]\ncommand = 'x'\n{bounds}\n"), &[], &[]);
        let shown = first.show_toml();
        assert!(shown.contains(&format!("\nworkers = {workers} # live\n")), "{shown}");
        let origin = first.origin("pool.a.workers").expect("a key");
        assert_eq!((origin[0].effective.value.as_str(), origin[0].hidden.len()), (workers, 0));
        let again = load(&sources(&shown, &[], &[])).unwrap_or_else(|diags| panic!("{diags}\n{shown}"));
        assert_eq!(format!("{:?}", again.pools), format!("{:?}", first.config.pools));
    }
}
