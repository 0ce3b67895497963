//! The corpus of wrong configs, environments and command lines. Each file in `cases/` has what is wrong, the command that is tried on it, and
//! all that poolmaster says: read it as its user would. `BLESS=1 cargo test --test diagnostics` writes anew what is said.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod case;
mod host;
mod texts;

use std::path::{Path, PathBuf};

use case::Case;

fn cases() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics/cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read_to_string(&file).unwrap())).collect()
}

fn name(file: &Path) -> String {
    file.file_stem().unwrap().to_string_lossy().into_owned()
}

#[test]
fn everything_that_is_said_is_as_checked_in() {
    let bless = std::env::var_os("BLESS").is_some();
    let cases = cases();
    assert!(cases.len() >= 80, "{} cases", cases.len());
    let mut different = Vec::new();
    for (file, text) in &cases {
        let case = Case::read(text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        if case.needs_root() && poolmaster::os::process::effective_uid() != 0 {
            eprintln!("skipped: {} needs root", file.display());
            continue;
        }
        let now = format!("{}{}", case.given, case.said());
        if now == *text {
            continue;
        }
        match bless {
            true => std::fs::write(file, now).unwrap(),
            false => different.push(format!("{}:\n{}", file.display(), difference(text, &now))),
        }
    }
    assert!(different.is_empty(), "BLESS=1 writes these anew; read them before committing:\n\n{}", different.join("\n\n"));
}

/// The lines that are not in both, with one line around them.
fn difference(was: &str, is: &str) -> String {
    let (was, is): (Vec<&str>, Vec<&str>) = (was.lines().collect(), is.lines().collect());
    let same = was.iter().zip(&is).take_while(|(a, b)| a == b).count();
    let end = was.iter().rev().zip(is.iter().rev()).take_while(|(a, b)| a == b).count();
    let end = end.min(was.len() - same).min(is.len() - same);
    let part = |sign: &str, lines: &[&str]| {
        lines[same..lines.len() - end].iter().map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    part("-", &was) + &part("+", &is)
}

/// 96 columns, but for what cannot be broken: a path, a command line.
#[test]
fn what_is_said_can_be_read_in_96_columns() {
    for (file, text) in cases() {
        let (_, said) = text.split_once("\n== exit").unwrap();
        for line in said.lines() {
            let unbreakable = line.split_whitespace().any(|word| word.chars().count() > 60);
            let source = line.split_once(" | ").is_some_and(|(number, _)| number.trim().parse::<u32>().is_ok());
            let caret = line.trim_start().starts_with("| ") && line.contains('^');
            // For programs, and what clients say of a master.
            let json = line.starts_with(['{']) || line.starts_with("poolmaster: ");
            assert!(line.chars().count() <= 96 || unbreakable || source || caret || json, "{}: {line}", file.display());
        }
    }
}

/// What the texts themselves have to be: whole, without control characters, without the last line said twice.
#[test]
fn what_is_said_keeps_the_rules() {
    for (file, text) in cases() {
        let (_, said) = text.split_once("\n== exit").unwrap();
        let at = name(&file);
        assert!(!said.contains("XYZZY"), "{at}: a secret is shown");
        assert!(said.chars().all(|c| !c.is_control() || c == '\n'), "{at}: a control character is passed on");
        assert!(said.matches("(exit").count() <= 1, "{at}: the exit code is said twice");
        let failed = !said.trim_start().starts_with('0');
        assert_eq!(failed, said.contains("(exit code "), "{at}: a failure ends with what its code means");
    }
}

/// Each topic that a user can get wrong has its cases.
#[test]
fn all_topics_are_there() {
    let names: Vec<String> = cases().iter().map(|(file, _)| name(file)).collect();
    for (topic, least) in [
        ("toml-", 6),
        ("json-", 3),
        ("keys-", 8),
        ("types-", 10),
        ("env-", 6),
        ("flags-", 8),
        ("layers-", 3),
        ("include-", 5),
        ("words-", 5),
        ("names-", 3),
        ("listen-", 6),
        ("after-", 3),
        ("signals-", 4),
        ("times-", 3),
        ("secrets-", 3),
        ("later-", 4),
        ("host-", 12),
        ("verbs-", 3),
        ("hooks-", 1),
        ("master-", 2),
    ] {
        let there = names.iter().filter(|name| name.starts_with(topic)).count();
        assert!(there >= least, "{topic}: {there} cases, want {least}");
    }
}
