//! Replays recorded runs (`poolmaster run --trace FILE`) through the core: the same events give the same actions and
//! times. A trace from a bug report becomes a regression test by putting it into `tests/replay/traces`.
//!
//! `BLESS=1` writes what the core does now into the files: after a change that is meant, and read by somebody.
#![allow(clippy::disallowed_methods, reason = "BLESS comes from the environment")]

use std::fs;
use std::path::{Path, PathBuf};

use poolmaster::supervisor::Action;

use recording::Recording;

#[path = "../sim/facts.rs"]
mod facts;
#[path = "../sim/invariants.rs"]
#[allow(dead_code, reason = "what only the simulator can ask for")]
mod invariants;
#[path = "../sim/judge.rs"]
mod judge;
mod recording;
#[path = "../sim/shadow.rs"]
#[allow(dead_code, reason = "what only the simulator can ask for")]
mod shadow;

fn traces() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/traces");
    let entries = fs::read_dir(&folder).expect("the folder of traces");
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "jsonl"));
    files.sort();
    files
}

fn read(file: &Path) -> Recording {
    let text = fs::read_to_string(file).expect("a readable trace");
    Recording::read(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

#[test]
fn every_recorded_run_replays_to_the_same_actions() {
    let files = traces();
    assert!(!files.is_empty(), "no traces to replay");
    for file in files {
        let recording = read(&file);
        assert!(recording.turns.len() > 10, "{}: too short to prove anything", file.display());
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, recording.replayed().written().expect("JSON")).expect("a writable trace");
            continue;
        }
        recording.replays().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

#[test]
fn every_recorded_run_keeps_the_promises_that_the_simulator_holds_the_core_to() {
    for file in traces() {
        let recording = read(&file);
        recording.facts_are_in_order().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        recording.keeps_its_promises().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

#[test]
fn a_recorded_run_ends_as_it_did_and_shows_what_happened_in_it() {
    let file = traces().into_iter().find(|f| f.ends_with("scale-crash-restart-reload-term.jsonl")).expect("the trace");
    let actions: Vec<Action> = read(&file).replayed().turns.into_iter().flat_map(|t| t.actions).collect();
    let count = |is: fn(&Action) -> bool| actions.iter().filter(|a| is(a)).count();
    assert!(count(|a| matches!(a, Action::Spawn { .. })) >= 8, "three, one by scale, a crash, the jobs, a reload");
    assert_eq!(count(|a| matches!(a, Action::ReadConfig { .. })), 1);
    assert!(matches!(actions.last(), Some(Action::Exit { code: 0, .. })));
}

#[test]
fn a_changed_recording_is_noticed() {
    // What the tests above would miss is worth nothing: an exit that is left out, one that comes twice, an action of another kind.
    let whole = read(&traces()[0]);
    let with = |change: &dyn Fn(&mut Vec<recording::Turn>)| {
        let mut turns = whole.turns.clone();
        change(&mut turns);
        Recording { head: whole.head.clone(), turns }
    };
    let exit = whole.turns.iter().position(|t| matches!(t.event, poolmaster::supervisor::Event::Exited { .. })).expect("an exit");
    assert!(with(&|t| drop(t.remove(exit))).facts_are_in_order().is_err());
    assert!(with(&|t| t.insert(exit, whole.turns[exit].clone())).facts_are_in_order().is_err());
    assert!(with(&|t| t[exit].actions.clear()).replays().is_err());
    assert!(with(&|t| drop(t.remove(exit))).replays().is_err());
}

#[test]
fn what_is_written_reads_back_the_same() {
    for file in traces() {
        let text = fs::read_to_string(&file).expect("a readable trace");
        assert_eq!(read(&file).written().expect("JSON"), text, "{}", file.display());
    }
}
