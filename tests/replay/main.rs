//! Replays recorded runs (`poolmaster run --trace FILE`) through the core: the same events give the same actions and
//! times. A trace from a bug report becomes a regression test by putting it into `tests/replay/traces`.
//!
//! `BLESS=1` writes what the core does now into the files: after a change that is meant, and read by somebody.
#![allow(clippy::disallowed_methods, reason = "BLESS comes from the environment")]

use std::fs;
use std::path::{Path, PathBuf};

use poolmaster::supervisor::{Action, Event, Supervisor, Time};
use serde::{Deserialize, Serialize};

/// The first line.
#[derive(Clone, Serialize, Deserialize)]
struct Head {
    poolmaster: String,
    seed: u64,
}

/// Each further line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Turn {
    now: Time,
    event: Event,
    actions: Vec<Action>,
}

fn read(text: &str) -> Result<(Head, Vec<Turn>), serde_json::Error> {
    let mut lines = text.lines();
    let head = serde_json::from_str(lines.next().unwrap_or_default())?;
    Ok((head, lines.map(serde_json::from_str).collect::<Result<_, _>>()?))
}

fn written(head: &Head, turns: &[Turn]) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string(head)? + "\n";
    for turn in turns {
        text += &(serde_json::to_string(turn)? + "\n");
    }
    Ok(text)
}

/// What the core does today with these events.
fn replayed(head: &Head, turns: &[Turn]) -> Vec<Turn> {
    let mut core = Supervisor::new(head.seed);
    let replay = |turn: &Turn| {
        let mut actions = Vec::new();
        core.handle(turn.now, turn.event.clone(), &mut actions);
        Turn { actions, ..turn.clone() }
    };
    turns.iter().map(replay).collect()
}

fn traces() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/traces");
    let entries = fs::read_dir(&folder).expect("the folder of traces");
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "jsonl"));
    files.sort();
    files
}

#[test]
fn every_recorded_run_replays_to_the_same_actions() {
    let files = traces();
    assert!(!files.is_empty(), "no traces to replay");
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable trace");
        let (head, turns) = read(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(turns.len() > 10, "{}: too short to prove anything", file.display());
        let now = replayed(&head, &turns);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, written(&head, &now).expect("JSON")).expect("a writable trace");
            continue;
        }
        for (i, (then, now)) in turns.iter().zip(&now).enumerate() {
            assert_eq!(then.actions, now.actions, "{}:{}: at {} after {:?}", file.display(), i + 2, then.now, then.event);
        }
    }
}

#[test]
fn a_recorded_run_ends_as_it_did_and_shows_what_happened_in_it() {
    let file = traces().into_iter().find(|f| f.ends_with("scale-crash-restart-reload-term.jsonl")).expect("the trace");
    let (head, turns) = read(&fs::read_to_string(file).expect("a readable trace")).expect("a trace");
    let actions: Vec<Action> = replayed(&head, &turns).into_iter().flat_map(|t| t.actions).collect();
    let count = |is: fn(&Action) -> bool| actions.iter().filter(|a| is(a)).count();
    assert!(count(|a| matches!(a, Action::Spawn { .. })) >= 8, "three, one by scale, a crash, the jobs, a reload");
    assert_eq!(count(|a| matches!(a, Action::ReadConfig)), 1);
    assert!(matches!(actions.last(), Some(Action::Exit { code: 0, .. })));
}

#[test]
fn what_is_written_reads_back_the_same() {
    for file in traces() {
        let text = fs::read_to_string(&file).expect("a readable trace");
        let (head, turns) = read(&text).expect("a trace");
        assert_eq!(written(&head, &turns).expect("JSON"), text, "{}", file.display());
    }
}
