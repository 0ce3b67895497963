//! The rules of the house, read from the sources themselves: which room may use which, where `unsafe` may stand, that decisions name
//! every case, that the pure rooms touch nothing outside. Each rule is also tried on small samples that break it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod read;

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenTree};
use read::{ident, inside, module_of, paths, punct, tokens};

/// A room, and the rooms that it may use: of those above it in the table of `lib.rs`, the ones that its work needs.
const ROOMS: [(&str, &[&str]); 8] = [
    ("supervisor", &[]),
    ("protocol", &["supervisor"]),
    ("config", &["supervisor"]),
    ("os", &[]),
    ("telemetry", &["supervisor", "os"]),
    ("runtime", &["supervisor", "protocol", "config", "os", "telemetry"]),
    ("client", &["supervisor", "protocol", "os"]),
    ("cli", &["supervisor", "protocol", "config", "os", "telemetry", "runtime", "client"]),
];

/// Rooms that decide or describe, and do nothing.
const PURE: [&str; 2] = ["supervisor", "protocol"];

/// What only the outside has: folders of `std`, crates, and types that read a clock or iterate in no fixed order.
const OUTSIDE_STD: [&str; 7] = ["fs", "net", "process", "thread", "env", "os", "io"];
const OUTSIDE_CRATES: [&str; 7] = ["nix", "libc", "tracing", "tracing_subscriber", "tracing_appender", "figment", "clap"];
const OUTSIDE_TYPES: [&str; 4] = ["Instant", "SystemTime", "HashMap", "HashSet"];

/// What makes, changes or removes something by its path. A master, often root, does so by the folder's descriptor: `os/entry.rs`.
const BY_PATH: [&str; 11] = [
    "OpenOptions",
    "DirBuilder",
    "set_permissions",
    "chown",
    "lchown",
    "create_dir",
    "create_dir_all",
    "remove_file",
    "remove_dir",
    "remove_dir_all",
    "hard_link",
];
/// The same, where the name alone says too little.
const BY_PATH_IN_FS: [&str; 3] = ["write", "rename", "copy"];
/// Who may: the entry itself, what writes to /proc, and what runs with the rights of who typed it or is a worker itself.
const MAY_BY_PATH: [&str; 4] = ["os/entry.rs", "os/attributes.rs", "cli/init.rs", "cli/worker/listener.rs"];

/// A broken rule: the line, and what is wrong there.
#[derive(Debug, PartialEq)]
struct Breach {
    line: usize,
    what: String,
}

// -- the rules

fn upward_imports(file: &Path, source: &str) -> Vec<Breach> {
    let module = module_of(file);
    let Some((room, may_use)) = module.get(1).and_then(|room| ROOMS.iter().find(|(name, _)| name == room)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    paths(&tokens(source), &module, &mut found);
    found
        .into_iter()
        .filter(|f| f.path.first().is_some_and(|root| root == "crate" || root == "poolmaster"))
        .filter_map(|f| {
            let used = f.path.get(1)?.clone();
            let known = ROOMS.iter().any(|(name, _)| *name == used);
            let allowed = used == *room || may_use.contains(&used.as_str());
            (!known || !allowed).then(|| Breach { line: f.line, what: format!("{room} uses {}", f.path.join("::")) })
        })
        .collect()
}

fn unsafe_code(file: &Path, source: &str) -> Vec<Breach> {
    if file.starts_with("os") {
        return Vec::new();
    }
    // The one place where a lint may be lifted, for the one room.
    let lifts = if file == Path::new("lib.rs") { 1 } else { 0 };
    let mut breaches = Vec::new();
    let mut words = Vec::new();
    flat(&tokens(source), &mut words);
    for (line, word) in &words {
        if word == "unsafe" {
            breaches.push(Breach { line: *line, what: "unsafe outside os/".to_owned() });
        }
    }
    for (line, _) in words.iter().filter(|(_, word)| word == "unsafe_code").skip(lifts) {
        breaches.push(Breach { line: *line, what: "the lint on unsafe code is touched".to_owned() });
    }
    breaches
}

fn flat(tokens: &[TokenTree], out: &mut Vec<(usize, String)>) {
    for token in tokens {
        match inside(token) {
            Some((_, within)) => flat(&within, out),
            None => out.extend(ident(Some(token)).map(|word| (token.span().start().line, word))),
        }
    }
}

/// A `match` whose cases are named (enums, options, structs) must name them all: a catch-all arm (`_`, `(_, _)`, a lone variable),
/// not narrowed by a guard, would swallow a case that is added later. Free are matches over numbers, texts and characters, which
/// cannot name all, and `matches!`, which asks for one.
fn catch_alls(tokens: &[TokenTree], out: &mut Vec<Breach>) {
    for (at, token) in tokens.iter().enumerate() {
        if let Some((_, within)) = inside(token) {
            catch_alls(&within, out);
        }
        if ident(Some(token)).is_some_and(|word| word == "match") && !punct(tokens.get(at + 1), '!') {
            let body = tokens[at + 1..]
                .iter()
                .filter_map(inside)
                .find_map(|(d, t)| (d == Delimiter::Brace && has_arrow(&t)).then_some(t));
            let patterns = body.map(|b| patterns(&b)).unwrap_or_default();
            let named = patterns.iter().any(|p| !is_literal(p) && !is_catch_all(p));
            for wild in patterns.iter().filter(|p| named && is_catch_all(p)) {
                let what = format!("catch-all arm {}", wild.iter().map(ToString::to_string).collect::<String>());
                out.push(Breach { line: wild[0].span().start().line, what });
            }
        }
    }
}

fn arrow(tokens: &[TokenTree], at: usize) -> bool {
    matches!(&tokens[at], TokenTree::Punct(p) if p.as_char() == '=' && p.spacing() == Spacing::Joint)
        && punct(tokens.get(at + 1), '>')
}

fn has_arrow(tokens: &[TokenTree]) -> bool {
    (0..tokens.len()).any(|at| arrow(tokens, at))
}

/// The patterns of a match's arms, each with its guard.
fn patterns(body: &[TokenTree]) -> Vec<Vec<TokenTree>> {
    let (mut patterns, mut from, mut at) = (Vec::new(), 0, 0);
    while at < body.len() {
        if !arrow(body, at) {
            at += 1;
            continue;
        }
        patterns.push(body[from..at].to_vec());
        at += 2;
        let block = body.get(at).and_then(inside).is_some_and(|(d, _)| d == Delimiter::Brace);
        at = if block { at + 1 } else { (at..body.len()).find(|i| punct(body.get(*i), ',')).unwrap_or(body.len()) };
        if punct(body.get(at), ',') {
            at += 1;
        }
        from = at;
    }
    patterns.into_iter().map(without_attributes).filter(|p| !p.is_empty()).collect()
}

fn without_attributes(mut pattern: Vec<TokenTree>) -> Vec<TokenTree> {
    while punct(pattern.first(), '#') {
        pattern.drain(..2.min(pattern.len()));
    }
    pattern
}

fn is_catch_all(pattern: &[TokenTree]) -> bool {
    let lone_variable =
        |t: &TokenTree| ident(Some(t)).is_some_and(|w| w.starts_with(|c: char| c.is_lowercase()) && w != "true" && w != "false");
    match pattern {
        [one] if lone_variable(one) => true,
        _ => pattern.iter().all(|t| match t {
            TokenTree::Ident(word) => word == "_",
            TokenTree::Punct(p) => matches!(p.as_char(), ',' | '.' | '|'),
            TokenTree::Group(g) => {
                g.delimiter() == Delimiter::Parenthesis && is_catch_all(&g.stream().into_iter().collect::<Vec<_>>())
            }
            TokenTree::Literal(_) => false,
        }),
    }
}

fn is_literal(pattern: &[TokenTree]) -> bool {
    // A guard (`0..5 if x`) does not change what is listed.
    let bare = pattern.split(|t| ident(Some(t)).is_some_and(|w| w == "if")).next().unwrap_or_default();
    bare.iter().all(|t| match t {
        TokenTree::Literal(_) => true,
        TokenTree::Punct(p) => matches!(p.as_char(), '.' | '=' | '|' | '-'),
        TokenTree::Ident(_) | TokenTree::Group(_) => false,
    })
}

fn wildcards(file: &Path, source: &str) -> Vec<Breach> {
    let mut out = Vec::new();
    if file.starts_with("supervisor") {
        catch_alls(&tokens(source), &mut out);
    }
    out
}

fn by_path(file: &Path, source: &str) -> Vec<Breach> {
    let is_test = file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
    if is_test || MAY_BY_PATH.iter().any(|may| file == Path::new(may)) {
        return Vec::new();
    }
    // Tests are the last thing in a file.
    let own = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut words = Vec::new();
    flat(&tokens(own), &mut words);
    let in_fs = |at: usize| at > 0 && words[at - 1].1 == "fs" && BY_PATH_IN_FS.contains(&words[at].1.as_str());
    let create = |at: usize| at > 0 && words[at - 1].1 == "File" && words[at].1.starts_with("create");
    (0..words.len())
        .filter(|at| BY_PATH.contains(&words[*at].1.as_str()) || in_fs(*at) || create(*at))
        .map(|at| Breach { line: words[at].0, what: format!("{} takes a path that others may lead elsewhere", words[at].1) })
        .collect()
}

fn impurities(file: &Path, source: &str) -> Vec<Breach> {
    if !PURE.iter().any(|room| file.starts_with(room)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    paths(&tokens(source), &module_of(file), &mut found);
    let outside = |path: &[String]| match path {
        [std, folder, ..] if std == "std" && OUTSIDE_STD.contains(&folder.as_str()) => true,
        [first, _, ..] if OUTSIDE_CRATES.contains(&first.as_str()) => true,
        _ => path.iter().any(|word| OUTSIDE_TYPES.contains(&word.as_str())),
    };
    found.into_iter().filter(|f| outside(&f.path)).map(|f| Breach { line: f.line, what: f.path.join("::") }).collect()
}

// -- the house keeps them

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, root: &Path, out: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push((path.strip_prefix(root).unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut out = Vec::new();
    walk(&root, &root, &mut out);
    assert!(out.len() > 100, "only {} files found in {}", out.len(), root.display());
    out
}

fn keep(rule: fn(&Path, &str) -> Vec<Breach>) {
    let breaches: Vec<String> = sources()
        .iter()
        .flat_map(|(file, source)| {
            rule(file, source).into_iter().map(|b| format!("src/{}:{}: {}", file.display(), b.line, b.what))
        })
        .collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn no_room_uses_one_below_it() {
    keep(upward_imports);
}

#[test]
fn only_os_has_unsafe_code() {
    keep(unsafe_code);
}

#[test]
fn decisions_name_every_case() {
    keep(wildcards);
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    keep(impurities);
}

#[test]
fn nothing_is_made_changed_or_removed_by_its_path() {
    keep(by_path);
}

#[test]
fn the_rooms_are_those_of_the_library() {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let table: Vec<&str> = lib.lines().filter_map(|l| l.strip_prefix("//! | [`")?.split('`').next()).collect();
    assert_eq!(table, ROOMS.map(|(name, _)| name));
    for (index, (room, uses)) in ROOMS.iter().enumerate() {
        let above: Vec<&str> = ROOMS[..index].iter().map(|(name, _)| *name).collect();
        assert!(uses.iter().all(|u| above.contains(u)), "{room} may only use what is above it");
    }
    let mut modules: Vec<&str> = lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let mut names = ROOMS.map(|(name, _)| name);
    modules.sort_unstable();
    names.sort_unstable();
    assert_eq!(modules, names);
}

// -- each rule can be broken

fn lines(rule: fn(&Path, &str) -> Vec<Breach>, file: &str, source: &str) -> Vec<usize> {
    rule(Path::new(file), source).into_iter().map(|b| b.line).collect()
}

#[test]
fn an_upward_import_is_seen_however_it_is_written() {
    for (file, bad) in [
        ("supervisor/pool/spawn.rs", "use crate::runtime::Settings;"),
        ("supervisor/mod.rs", "use super::os::clock;"),
        ("supervisor/pool/mod.rs", "use super::super::{config::spec, supervisor::Time};"),
        ("supervisor/pool/spawn.rs", "use super::super::super::os;"),
        ("protocol/frame.rs", "use crate::{supervisor::{Event, Time}, os::io};"),
        ("config/check.rs", "fn f() { let x = crate::os::io::read(1); }"),
        ("config/check.rs", "fn f() { log!(\"{}\", crate::os::words(1)); }"),
        ("os/spawn/child.rs", "use crate::supervisor::Time;"),
        ("os/spawn.rs", "mod tests { use super::super::super::runtime; }"),
        ("client/dial.rs", "pub use crate::cli::Exit as E;"),
        ("telemetry/log.rs", "impl crate::runtime::Thing for X {}"),
        ("runtime/turn.rs", "use poolmaster::cli::main;"),
        ("runtime/turn.rs", "use crate::no_room_at_all::X;"),
    ] {
        assert_eq!(lines(upward_imports, file, bad), [1], "{file}: {bad}");
    }
    for (file, good) in [
        ("supervisor/pool/spawn.rs", "use super::super::{Action, Level};\nuse super::{Cx, Pool};\nuse std::time::Duration;"),
        (
            "runtime/turn.rs",
            "use crate::os::clock;\nuse crate::supervisor::{Event, Time};\n// use crate::cli;\nconst X: &str = \"crate::cli\";",
        ),
        ("os/spawn.rs", "/// Used by [`crate::runtime`].\nmod tests { use super::super::errno::check; }"),
        ("cli/run.rs", "use crate::{client::Connection, runtime};"),
        ("main.rs", "use poolmaster::cli::main;"),
    ] {
        assert_eq!(lines(upward_imports, file, good), [], "{file}: {good}");
    }
}

#[test]
fn unsafe_is_seen_outside_os_only() {
    assert_eq!(lines(unsafe_code, "runtime/turn.rs", "fn f() {\n    unsafe { g() }\n}"), [2]);
    assert_eq!(lines(unsafe_code, "telemetry/mod.rs", "#![allow(unsafe_code)]"), [1]);
    assert_eq!(lines(unsafe_code, "lib.rs", "#[allow(unsafe_code)]\npub mod os;\n#[allow(unsafe_code)]\npub mod cli;"), [3]);
    assert_eq!(lines(unsafe_code, "os/io.rs", "fn f() { unsafe { g() } }"), []);
    assert_eq!(lines(unsafe_code, "runtime/turn.rs", "// unsafe\nconst X: &str = \"unsafe\";"), []);
}

#[test]
fn a_change_by_path_is_seen() {
    for bad in [
        "fn f() { std::fs::write(a, b) }",
        "fn f() { fs::rename(a, b) }",
        "use std::fs::OpenOptions;",
        "fn f() { std::os::unix::fs::lchown(a, b, c) }",
        "fn f() { File::create(a) }",
        "fn f() { let _ = std::fs::remove_dir_all(a); }",
    ] {
        assert_eq!(lines(by_path, "runtime/files.rs", bad), [1], "{bad}");
        assert_eq!(lines(by_path, "os/entry.rs", bad), [], "{bad}");
        assert_eq!(lines(by_path, "os/tests/entry.rs", bad), [], "{bad}");
    }
    for good in [
        "fn f() { fdio::write(a, b); entry.rename(b); fs::read(a) }",
        "// fs::write\n#[cfg(test)]\nmod tests { fn f() { fs::write(a) } }",
    ] {
        assert_eq!(lines(by_path, "runtime/files.rs", good), [], "{good}");
    }
}

#[test]
fn a_catch_all_over_named_cases_is_seen() {
    for bad in [
        "match x { A::B => 1, _ => 2 }",
        "match x { Some(1) => 1, other => other.len() }",
        "match (x, y) { (A, B) => 1, (_, _) => 2 }",
        "match (x, y) { (A, B) => {} (..) => {} }",
        "match x { Event::A { b } if b => 1, Event::A { .. } | Event::C => { f(match y { 1 => 2, _ => 3 }) } _ => unreachable!() }",
        "fn f() { g(|x| match x { None => 1, #[allow(x)] _ => 2 }) }",
        "match f(|a| { a }) { A => 1, _ => 2 }",
    ] {
        assert_eq!(lines(wildcards, "supervisor/pool/mod.rs", bad), [1], "{bad}");
        assert_eq!(lines(wildcards, "runtime/turn.rs", bad), [], "the rule is for the core");
    }
    for good in [
        "match ms { 0..1_000 => a, 1_000..=2_000 if b => c, _ => d }",
        "match word { \"a\" | \"b\" => 1, _ => 2 }",
        "match code { 0 => Outcome::Done(x), -1 => y, _ => Outcome::Failed(z) }",
        "match x { A(_) => 1, B { .. } => 2, (None, _) => 3 }",
        "if matches!(x, A | B) { 1 } else { 2 }",
        "match x { A => 1, _ if y => 2, B => 3 }",
        "match x { true => 1, false => 2 }",
        "let _ = x; for _ in 0..3 {}",
    ] {
        assert_eq!(lines(wildcards, "supervisor/pool/mod.rs", good), [], "{good}");
    }
}

#[test]
fn an_impure_touch_is_seen() {
    for bad in [
        "use std::fs;",
        "use std::{fmt, net::TcpStream};",
        "use std::collections::{BTreeMap, HashMap};",
        "fn f() { std::process::exit(1) }",
        "fn f() { let t = std::time::Instant::now(); }",
        "fn f() { let t = Instant::now(); }",
        "use std::time::SystemTime;",
        "fn f() { libc::getpid(); }",
        "use nix::unistd;",
        "fn f() { tracing::info!(\"x\"); }",
        "fn f() { std::env::var(\"X\"); std::thread::yield_now() }",
    ] {
        assert!(!lines(impurities, "supervisor/time.rs", bad).is_empty(), "{bad}");
        assert!(!lines(impurities, "protocol/frame.rs", bad).is_empty(), "{bad}");
        assert_eq!(lines(impurities, "runtime/turn.rs", bad), [], "{bad}");
    }
    for good in
        ["use std::collections::BTreeMap;\nuse std::time::Duration;", "// std::fs\nconst X: &str = \"std::fs\";", "fn nix() {}"]
    {
        assert_eq!(lines(impurities, "supervisor/time.rs", good), [], "{good}");
    }
}
