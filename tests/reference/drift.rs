//! Owns comparing a made file with the one that is checked in, and writing it anew when that is asked for.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the project.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Fails when the file is not what the definitions give; `BLESS=1` writes it.
pub(crate) fn same(file: &str, made: &str) {
    let path = root().join(file);
    if blessing() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, made).unwrap();
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    if let Some(difference) = difference(&there, made) {
        panic!("{file} is not what the definitions give: {difference}\n`BLESS=1 cargo test --test reference` writes it anew");
    }
}

/// Fails for files of this folder and ending that nothing makes any more; `BLESS=1` removes them.
pub(crate) fn no_others(folder: &str, belongs: impl Fn(&str) -> bool, made: &[String]) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !belongs(&name) || made.contains(&name) {
            continue;
        }
        assert!(blessing(), "{} is made by nothing: `BLESS=1 cargo test --test reference` removes it", shown(&path));
        fs::remove_file(&path).unwrap();
    }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}

/// The first line that differs.
fn difference(there: &str, made: &str) -> Option<String> {
    if there == made {
        return None;
    }
    let (mut old, mut new) = (there.split('\n'), made.split('\n'));
    for number in 1.. {
        match (old.next(), new.next()) {
            (old, new) if old != new => {
                let line = |line: Option<&str>| line.map_or("the end of the file".to_owned(), |line| format!("{line:?}"));
                return Some(format!("line {number} is {}, not {}", line(old), line(new)));
            }
            (None, None) => break,
            _ => {}
        }
    }
    Some("it differs".to_owned())
}

#[test]
fn a_difference_is_seen_and_named() {
    assert_eq!(difference("a\nb\n", "a\nb\n"), None);
    assert_eq!(difference("a\nb\n", "a\nc\n").as_deref(), Some("line 2 is \"b\", not \"c\""));
    assert_eq!(difference("a\n", "a").as_deref(), Some("line 2 is \"\", not the end of the file"));
    assert_eq!(difference("", "a\n").as_deref(), Some("line 1 is \"\", not \"a\""));
}
