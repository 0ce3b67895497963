//! The layers: what beats what, how each is read, and where files are looked for.

use std::fs;
use std::path::PathBuf;

use poolmaster::config::{Sources, load};

use super::{facts, good_with, wrong};

const FILE: &str = "
[defaults]
settle = '2s'
graceful_timeout = '11s'
env = { FROM = 'defaults', D = '1' }
[template.a]
settle = '3s'
env = { FROM = 'a', A = '1' }
boot_error_codes = [5]
[template.b]
settle = '4s'
env = { FROM = 'b', B = '1' }
[pool.web]
use = ['a', 'b']
command = 'x'
workers = 2
env = { W = '1' }
[pool.my-pool]
command = 'x'
";

#[test]
fn a_pool_inherits_key_by_key() {
    let config = good_with(FILE, &[], &[]);
    let (web, other) = (&config.pools[0], &config.pools[1]);
    assert_eq!((web.spec.settle.as_secs(), other.spec.settle.as_secs()), (4, 2), "the later template is stronger");
    assert_eq!(web.spec.stop[0].wait.as_secs(), 11);
    assert_eq!(web.spec.boot_error_codes, [5], "lists replace");
    let env: Vec<String> = web.launch.env.iter().map(|(n, v)| format!("{n}={}", v.as_deref().unwrap_or("-"))).collect();
    assert_eq!(env, ["A=1", "B=1", "D=1", "FROM=b", "W=1"], "tables merge");
}

#[test]
fn the_environment_beats_the_file_and_flags_beat_both() {
    let env = [
        ("POOLMASTER__POOL__WEB__WORKERS", "8"),
        ("POOLMASTER__POOL__MY_POOL__WORKERS", "5"),
        ("POOLMASTER__POOL__WEB__ENV__Mixed__Case", "false"),
        ("POOLMASTER__POOL__WEB__REQUIRED", "true"),
        ("POOLMASTER__POOL__WEB__BOOT_ERROR_CODES", "[9, 10]"),
        ("POOLMASTER__POOL__WEB__SCALE", "{ min = 2, max = 20 }"),
        ("POOLMASTER__POOL__WEB__COMMAND", "server 'a b' {slot}"),
        ("POOLMASTER__POOL__WEB__LISTEN", "[::]:8000"),
        ("POOLMASTER__POOL__WEB__SETTLE", ""),
        ("POOLMASTER__MASTER__LOG__LEVEL", "debug"),
        ("POOLMASTER_POOL", "never a setting"),
        ("POOLMASTER_WORKERS", "never a setting"),
    ];
    let config = good_with(FILE, &env, &["pool.web.workers=9", "pool.web.workers=10", "pool.my-pool.settle=7"]);
    let (web, other) = (&config.pools[0], &config.pools[1]);
    assert_eq!((web.spec.workers, other.spec.workers), (10, 5));
    assert_eq!((web.spec.settle.as_secs(), other.spec.settle.as_secs()), (4, 7), "empty is unset; 7 is seconds");
    assert!(web.spec.required);
    assert_eq!(web.spec.boot_error_codes, [9, 10]);
    assert_eq!((web.spec.min, web.spec.max), (2, Some(20)));
    assert_eq!(web.launch.argv, ["server", "a b", "{slot}"]);
    assert_eq!(web.listeners.len(), 1);
    assert_eq!(config.master.log.level, "debug");
    assert!(web.launch.env.contains(&("Mixed__Case".to_owned(), Some("false".to_owned()))), "{:?}", web.launch.env);
}

#[test]
fn a_specific_table_beats_a_strong_layer() {
    let env = [("POOLMASTER__DEFAULTS__WORKERS", "8"), ("POOLMASTER__TEMPLATE__A__WORKERS", "7")];
    let config = good_with(FILE, &env, &["defaults.settle=9s"]);
    assert_eq!(config.pools[0].spec.workers, 2, "[pool.web] of the file");
    assert_eq!(config.pools[0].spec.settle.as_secs(), 4, "the file's template");
    assert_eq!((config.pools[1].spec.workers, config.pools[1].spec.settle.as_secs()), (8, 9));
}

#[test]
fn lists_and_tables_of_flags_are_toml() {
    let config = good_with(
        FILE,
        &[],
        &[
            "pool.web.after=[\"my-pool\"]",
            "pool.web.command=[\"a\", \"b c\"]",
            "pool.web.env.\"A.B\"=x",
            "pool.web.env={C=\"1\"}",
        ],
    );
    let web = &config.pools[0];
    assert_eq!((web.launch.argv.as_slice(), web.spec.after.len()), (&["a".to_owned(), "b c".to_owned()][..], 1));
    assert!(web.launch.env.contains(&("C".to_owned(), Some("1".to_owned()))));
}

#[test]
fn variables_are_resolved_in_values_of_every_type() {
    let text = "
        [pool.web]
        command = \"server --name '${NAME}' --port ${PORT:-80 81} $HOME $${X} {slot}\"
        workers = '${N:-3}'
        required = '${REQUIRED}'
        boot_error_codes = '${CODES}'
        listen = '127.0.0.1:${PORT:-8000}'
        working_dir = '${DIR}/x'
        env = { A = '${TRICKY}', B = 'x${EMPTY:-y}' }
    ";
    let env = [("NAME", "a b"), ("REQUIRED", "true"), ("CODES", "[1]"), ("DIR", "/d"), ("TRICKY", "{slot}"), ("EMPTY", "")];
    let config = good_with(text, &env, &[]);
    let pool = &config.pools[0];
    assert_eq!(pool.launch.argv, ["server", "--name", "a b", "--port", "80 81", "$HOME", "${X}", "{slot}"]);
    assert_eq!((pool.spec.workers, pool.spec.required, pool.spec.boot_error_codes.as_slice()), (3, true, &[1][..]));
    assert_eq!(pool.launch.working_dir, Some(PathBuf::from("/d/x")));
    assert_eq!(pool.launch.env, [("A".to_owned(), Some("{{slot}}".to_owned())), ("B".to_owned(), Some("xy".to_owned()))]);
}

#[test]
fn errors_of_all_layers_come_in_one_run() {
    let said = wrong(FILE, &[("POOLMASTER__POOL__WEB__TIMEOUT", "soon")], &["master.log.level=loud", "pool.web.x=1"]).to_string();
    for part in
        ["variable POOLMASTER__POOL__WEB__TIMEOUT", "flag --set master.log.level=loud", "pool.web.x: there is no such key"]
    {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

fn at(dir: &std::path::Path, path: Option<&str>) -> Sources {
    let mut s = Sources { path: path.map(PathBuf::from), facts: facts(), ..Sources::default() };
    s.facts.cwd = dir.to_owned();
    s
}

#[test]
fn include_files_are_sorted_and_stronger_than_the_file() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("conf.d")).expect("conf.d");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    write(
        "pools.toml",
        "include = ['conf.d/*.toml', 'conf.d/10-a.toml']\n[pool.web]\ncommand='x'\nworkers=1\nsettle=1\ntimeout=1\n",
    );
    write("conf.d/10-a.toml", "[pool.web]\nworkers=2\nsettle=2\n[pool.extra]\ncommand='y'\n");
    write("conf.d/20-b.toml", "[pool.web]\nworkers=3\n");
    write("conf.d/.hidden.toml", "[pool.web]\nworkers=99\n");
    write("conf.d/note.txt", "no config");
    let config = load(&at(dir.path(), None)).unwrap_or_else(|diags| panic!("{diags}"));
    let web = &config.pools[0].spec;
    assert_eq!((web.workers, web.settle.as_secs(), web.timeout.map(|d| d.as_secs())), (3, 2, Some(1)));
    assert_eq!(config.pools[1].spec.name, "extra");
    assert_eq!(config.path, Some(dir.path().join("pools.toml")));

    write("conf.d/30-c.toml", "include = []\n[pool.web]\nwokers=3\n");
    let said = load(&at(dir.path(), None)).expect_err("wrong").to_string();
    assert!(said.contains("conf.d/30-c.toml:3:1") && said.contains("cannot include others"), "{said}");

    write("conf.d/30-c.toml", "");
    write("pools.toml", "include = ['${PLACE}/20-b.toml', '${NONE:-conf.d}/10-a.toml']\n[pool.web]\ncommand='x'\n");
    let mut named = at(dir.path(), None);
    named.env.push(("PLACE".to_owned(), "conf.d".to_owned()));
    let config = load(&named).unwrap_or_else(|diags| panic!("{diags}"));
    assert_eq!((config.pools[0].spec.workers, config.pools.len()), (2, 2), "variables lead to both, in their order");
    write("pools.toml", "include = ['missing.toml']\n[pool.web]\ncommand='x'\n");
    let said = load(&at(dir.path(), None)).expect_err("wrong").to_string();
    assert!(said.contains("missing.toml: there is no such file") && said.contains("pools.toml:1:12"), "{said}");
}

#[test]
fn a_missing_config_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let said = |s: &Sources| load(s).expect_err("nothing there").to_string().replace('\n', " ");
    let named = said(&at(dir.path(), Some("nope.toml")));
    assert!(named.contains(&format!("cannot read the config {}/nope.toml", dir.path().display())), "{named}");
    assert!(named.contains("/etc/poolmaster/pools.toml"), "{named}");
    let searched = said(&at(dir.path(), None));
    assert!(
        searched.contains(&format!("{}/pools.toml", dir.path().display())) && searched.contains("/etc/poolmaster/pools.toml"),
        "{searched}"
    );
    assert!(said(&at(dir.path(), Some("."))).contains("it is a folder"));
}

#[test]
fn files_that_are_too_large_or_no_text_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("a file");
    write("big.toml", " ".repeat((1 << 20) + 1).as_bytes());
    write("edge.toml", format!("[pool.a]\ncommand='x'\n{}", " ".repeat((1 << 20) - 21)).as_bytes());
    write("bin.toml", b"a = \"\xff\"");
    let said = |name: &str| load(&at(dir.path(), Some(name))).map(|_| ()).map_err(|d| d.to_string());
    assert!(said("big.toml").expect_err("too large").contains("larger than 1 MiB"));
    assert_eq!(said("edge.toml"), Ok(()));
    assert!(said("bin.toml").expect_err("no text").contains("not UTF-8"));
}

#[test]
fn root_is_warned_about_files_that_others_may_write() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("pools.toml");
    fs::write(&path, "[pool.a]\ncommand='x'\n").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
    let mut s = at(dir.path(), None);
    s.facts.uid = 0;
    let config = load(&s).expect("valid");
    assert!(config.warnings.iter().any(|w| w.contains("other users may write this file")), "{:?}", config.warnings);
    s.facts.uid = 1000;
    assert_eq!(load(&s).expect("valid").warnings, Vec::<String>::new());
}
