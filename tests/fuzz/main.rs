//! Hostile bytes for everything that reads what others write: config files, variables and flags, control frames, datagrams of workers, files
//! of variables. Every input in `corpus/` is tried as it is; then a fuzzer of our own changes them, the same way in each run, for as long as
//! POOLMASTER_FUZZ_SECONDS says (1 each by default). What it finds goes into the corpus. `fuzz/` has the same targets for libFuzzer.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, unreachable_pub, reason = "tests")]

mod mutate;
mod size;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use mutate::{Chance, mutated};

/// The inputs of a target, and the texts that other tests have anyway.
fn corpus(target: &str, more: &[&str]) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = more
        .iter()
        .map(|folder| root.join(folder))
        .chain([root.join("tests/fuzz/corpus").join(target)])
        .flat_map(|folder| std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let inputs: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(inputs.len() >= 8, "only {} inputs for {target}", inputs.len());
    inputs
}

/// Fails with the input, as it can be pasted into a file of the corpus.
fn try_it(target: &str, input: &[u8], run: fn(&[u8])) {
    let shown = || input.escape_ascii().to_string();
    assert!(catch_unwind(AssertUnwindSafe(|| run(input))).is_ok(), "{target} fell over: printf '%b' '{}'", shown());
}

fn fuzz(target: &str, more: &[&str], words: &[&str], run: fn(&[u8])) {
    let mut corpus = corpus(target, more);
    for input in &corpus {
        try_it(target, input, run);
    }
    // The configs that others keep are long: pieces of them are tried, too.
    corpus.push(Vec::new());
    let budget = std::env::var("POOLMASTER_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let until = Instant::now() + Duration::from_secs_f64(budget);
    let mut chance = Chance::new(0x706f_6f6c);
    let mut tried = 0_u64;
    while Instant::now() < until {
        let input = mutated(&corpus[chance.below(corpus.len())], &corpus, words, &mut chance);
        try_it(target, &input, run);
        tried += 1;
    }
    eprintln!("{target}: {} inputs, {tried} changed ones in {budget} s", corpus.len());
    assert!(tried > 0);
}

/// Words that mean something in a config.
fn config_words() -> Vec<&'static str> {
    let mut words = vec![
        "[pool.web]\n",
        "[[pool.web]]\n",
        "[pool.a.listen.http]\n",
        "[defaults]\n",
        "[template.t]\n",
        "use = [\"t\"]\n",
        "= ",
        " = { ",
        " }",
        "\"",
        "'",
        "'''",
        "\"\"\"",
        "[",
        "]",
        "\n",
        "\r\n",
        "#",
        "${",
        "${X:-",
        "}",
        "{fd}",
        "{fd:http}",
        "{slot}",
        "{{",
        "auto*2",
        "\"10s\"",
        "\"1.5G\"",
        "\"50%\"",
        "\"RTMIN+3\"",
        "unix:/a",
        "[::]:80",
        "true",
        "nan",
        "inf",
        "1979-05-27",
        "\\u0000",
        "\\",
        "\u{feff}",
        "é",
        "\u{1b}[31m",
        "include = [\"*.toml\"]\n",
        "***",
        "file:/x",
        "secrets",
        ".",
        ",",
        ":",
        "null",
        "{\"pool\":",
        "0x",
        "1_000",
        "-",
    ];
    words.extend(poolmaster::config::keys::all().map(|key| key.path.rsplit('.').next().unwrap()));
    words
}

#[test]
fn config_files() {
    fuzz("config", &["tests/config", "tests/config/bad", "examples"], &config_words(), targets::config);
}

#[test]
fn variables_and_flags() {
    let mut words = config_words();
    words.extend([
        "POOLMASTER__",
        "POOL__",
        "WEB__",
        "__",
        "ENV__",
        "SECRETS__",
        "LISTEN__",
        "MASTER__",
        "DEFAULTS__",
        "TEMPLATE__",
        "--pool.web.",
    ]);
    fuzz("environment", &[], &words, targets::environment);
}

#[test]
fn control_frames() {
    let words = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "\n",
        "\r\n",
        "method",
        "parameters",
        "more",
        "continues",
        "error",
        "null",
        "true",
        "poolmaster.",
        "1e400",
        "-0",
        "\\ud800",
        "\\u0000",
        "[[[[[[[[[[[[[[[[",
        "pool",
        "slot",
        "workers",
        "web:3",
        "all",
        "+1",
        "-2",
        "50%",
        "\u{feff}",
    ];
    fuzz("frames", &[], &words, targets::frames);
}

#[test]
fn datagrams_of_workers() {
    let words = [
        "READY=1",
        "STOPPING=1",
        "RELOADING=1",
        "WATCHDOG=1",
        "WATCHDOG=trigger",
        "WATCHDOG_USEC=",
        "EXTEND_TIMEOUT_USEC=",
        "STATUS=",
        "FDSTORE=1",
        "FDSTOREREMOVE=1",
        "FDNAME=",
        "FDPOLL=0",
        "\n",
        "=",
        "\0",
        "18446744073709551615",
        "18446744073709551616",
        "+5",
        "\u{1b}[31m",
        "\u{9b}",
    ];
    fuzz("notify", &[], &words, targets::notify);
}

#[test]
fn files_of_variables() {
    let words = [
        "export ", "A=", "=", "\"", "'", "\\", "\\\n", "\n", "\r\n", "#", ";", "$", "${", "}", "{", "{fd}", "{{", "}}", "{slot}",
        "{fd:", "\u{feff}", "\0", " ", "\t", "é",
    ];
    fuzz("variables", &[], &words, targets::variables);
}
