//! Tests of the change of a running log, with its thread and real files. What concerns stderr runs in a process of its own.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use tracing::dispatcher::with_default;

use super::log::{Log, LogError, LogOptions, Source};
use crate::os::clock;

fn options(level: &str, json: bool, file: Option<&Path>) -> LogOptions {
    LogOptions { level: level.to_owned(), json, file: file.map(Path::to_owned) }
}

fn change(log: &mut Log, options: &LogOptions) {
    let prepared = log.prepare(options).expect("a file that can be opened");
    log.switch(prepared);
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("a log")
}

/// The numbers in the lines of a file, each line whole and in its form.
fn numbers(path: &Path, json: bool) -> Vec<u32> {
    let text = text(path);
    assert!(text.is_empty() || text.ends_with('\n'));
    let message = |line: &str| match json {
        true => serde_json::from_str::<serde_json::Value>(line).expect(line)["message"].as_str().expect(line).to_owned(),
        false => line.split_once("Z INFO  ").expect(line).1.to_owned(),
    };
    text.lines().map(|line| message(line).strip_prefix("number ").expect(line).parse().expect(line)).collect()
}

fn wait_until(what: &str, mut check: impl FnMut() -> bool) {
    let end = clock::now() + u64::try_from(Duration::from_secs(20).as_nanos()).expect("it fits");
    while !check() {
        assert!(clock::now() < end, "{what}");
        std::thread::yield_now();
    }
}

/// Descriptors of this process that lead to the file.
fn opened(path: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").expect("/proc").filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link == path).count()
}

fn dir() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = dir.path().canonicalize().expect("its path");
    (dir, move |name: &str| root.join(name))
}

#[test]
fn each_line_goes_where_the_log_went_when_it_was_logged_and_in_its_form() {
    let (_dir, at) = dir();
    let name = |turn: u32| at(&format!("log.{turn}"));
    let (mut log, lines) = Log::make(&options("info", false, Some(&name(0)))).expect("a log");
    const TURNS: u32 = 20;
    const EACH: u32 = 300;
    with_default(&lines, || {
        for turn in 0..TURNS {
            if turn > 0 {
                change(&mut log, &options("info", turn % 2 == 1, Some(&name(turn))));
            }
            (0..EACH).for_each(|n| tracing::info!("number {}", turn * EACH + n));
        }
    });
    drop(log);
    for turn in 0..TURNS {
        assert_eq!(numbers(&name(turn), turn % 2 == 1), (turn * EACH..(turn + 1) * EACH).collect::<Vec<_>>(), "{turn}");
    }
}

#[test]
fn a_form_that_changes_in_one_file_changes_between_two_lines() {
    let (_dir, at) = dir();
    let (mut log, lines) = Log::make(&options("info", false, Some(&at("log")))).expect("a log");
    let mut relay = log.relay();
    with_default(&lines, || {
        for json in [false, true, false] {
            change(&mut log, &options("info", json, Some(&at("log"))));
            tracing::info!(pool = "web", slot = 1_u32, pid = 7, "ready");
            relay.batch(Source { pool: "web", slot: 1, pid: 7, stream: "stderr" }).line(b"said");
        }
    });
    drop(log);
    let text = text(&at("log"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    for plain in [&lines[..2], &lines[4..]] {
        assert!(plain[0].ends_with(" INFO  web:1 ready (pid 7)") && plain[1] == "web:1 | said", "{text}");
    }
    for (line, message) in lines[2..4].iter().zip(["ready", "said"]) {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((&line["message"], &line["pool"], &line["level"]), (&message.into(), &"web".into(), &"INFO".into()));
        assert!(line.get("target").is_none() && line["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')), "{line}");
    }
}

#[test]
fn the_level_changes_with_the_rest_and_alone() {
    let (_dir, at) = dir();
    let (mut log, lines) = Log::make(&options("warn", false, Some(&at("one")))).expect("a log");
    with_default(&lines, || {
        tracing::info!("number 1");
        change(&mut log, &options("info", false, Some(&at("two"))));
        tracing::info!("number 2");
        change(&mut log, &options("error", false, Some(&at("two"))));
        tracing::info!("number 3");
        change(&mut log, &options("info", false, Some(&at("two"))));
        tracing::info!("number 4");
    });
    drop(log);
    assert_eq!(text(&at("one")), "");
    assert_eq!(numbers(&at("two"), false), [2, 4]);
}

#[test]
fn what_is_prepared_changes_nothing_and_what_cannot_be_opened_is_told() {
    let (_dir, at) = dir();
    let (log, lines) = Log::make(&options("info", false, Some(&at("log")))).expect("a log");
    with_default(&lines, || {
        drop(log.prepare(&options("error", true, Some(&at("other")))).expect("a file that can be opened"));
        tracing::info!("number 1");
        match log.prepare(&options("error", true, Some(&at("no/such/folder/log")))) {
            Err(LogError::Open { path, cause }) => {
                assert_eq!((path, cause.kind()), (at("no/such/folder/log"), std::io::ErrorKind::NotFound));
            }
            _ => panic!("it cannot be opened"),
        }
        tracing::info!("number 2");
    });
    drop(log);
    assert_eq!(numbers(&at("log"), false), [1, 2]);
    assert_eq!(text(&at("other")), "");
}

#[test]
fn the_same_options_open_nothing_anew_and_reopen_opens_the_new_file() {
    let (_dir, at) = dir();
    let (mut log, lines) = Log::make(&options("info", false, Some(&at("first")))).expect("a log");
    with_default(&lines, || {
        fs::rename(at("first"), at("first.1")).expect("moved");
        change(&mut log, &options("info", false, Some(&at("first"))));
        tracing::info!("number 1");
        assert!(!at("first").exists());
        change(&mut log, &options("info", false, Some(&at("second"))));
        tracing::info!("number 2");
        wait_until("the second file", || text(&at("second")).ends_with('\n'));
        fs::rename(at("second"), at("second.1")).expect("moved");
        assert_eq!(log.reopen().expect("a new file"), Some(at("second").as_path()));
        tracing::info!("number 3");
        wait_until("the new file", || text(&at("second")).ends_with('\n'));
        // What cannot be opened is not left for nothing.
        fs::rename(at("second"), at("second.2")).expect("moved");
        fs::create_dir(at("second")).expect("in the way");
        let told = log.reopen().expect_err("a directory").to_string();
        assert!(told.starts_with("cannot reopen the log file ") && told.contains("the old one stays in use"), "{told}");
        tracing::info!("number 4");
    });
    drop(log);
    assert_eq!(numbers(&at("first.1"), false), [1]);
    assert_eq!(numbers(&at("second.1"), false), [2]);
    assert_eq!(numbers(&at("second.2"), false), [3, 4]);
    assert!(!at("first").exists());
}

#[test]
fn a_file_that_is_left_is_closed_although_nothing_is_logged() {
    let (_dir, at) = dir();
    let (mut log, lines) = Log::make(&options("info", false, Some(&at("one")))).expect("a log");
    with_default(&lines, || tracing::info!("number 1"));
    wait_until("the line", || text(&at("one")).ends_with('\n'));
    for (from, to) in [("one", "two"), ("two", "one"), ("one", "three")] {
        assert_eq!(opened(&at(from)), 1);
        change(&mut log, &options("info", false, Some(&at(to))));
        wait_until("the old file is closed", || opened(&at(from)) == 0);
        assert_eq!(opened(&at(to)), 1);
    }
}

#[test]
fn lines_that_wait_for_a_slow_target_still_go_there() {
    let (_dir, at) = dir();
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    // Both ends, so that it need not wait for the other.
    let reader = fs::OpenOptions::new().read(true).write(true).open(at("pipe")).expect("its end");
    let (mut log, lines) = Log::make(&options("info", false, Some(&at("pipe")))).expect("a log");
    // More than a pipe holds: the thread that writes waits in the middle of it.
    const EACH: u32 = 4000;
    with_default(&lines, || {
        (0..EACH).for_each(|n| tracing::info!("number {n}"));
        change(&mut log, &options("info", true, Some(&at("file"))));
        (EACH..2 * EACH).for_each(|n| tracing::info!("number {n}"));
    });
    assert_eq!(text(&at("file")), "");
    let mut read = BufReader::new(reader).lines();
    for n in 0..EACH {
        let line = read.next().expect("a line").expect("text");
        assert!(line.ends_with(&format!(" INFO  number {n}")), "{n}: {line}");
    }
    drop(log);
    assert_eq!(numbers(&at("file"), true), (EACH..2 * EACH).collect::<Vec<_>>());
}

/// Where the process of its own logs to, between its lines to stderr.
const FILE: &str = "POOLMASTER_TEST_LOG";

#[test]
#[ignore = "in its own process"]
fn from_stderr_to_a_file_and_back() {
    let Some(file) = std::env::var_os(FILE).map(PathBuf::from) else { return };
    let (mut log, lines) = Log::make(&options("info", false, None)).expect("a log");
    with_default(&lines, || {
        tracing::info!("number 1");
        change(&mut log, &options("info", false, Some(&file)));
        tracing::info!("number 2");
        change(&mut log, &options("info", false, None));
        tracing::info!("number 3");
        change(&mut log, &options("info", true, None));
        tracing::info!("number 4");
        change(&mut log, &options("info", false, None));
        tracing::info!("number 5");
    });
}

fn own_process(file: &Path, stderr: Stdio) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "telemetry::tests::from_stderr_to_a_file_and_back", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(FILE, file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    command.spawn().expect("started")
}

fn assert_stderr(text: &str, file: &Path, level: &str) {
    assert_eq!(numbers(file, false), [2], "no colours in a file");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for (line, number) in [(lines[0], 1), (lines[1], 3), (lines[3], 5)] {
        assert!(line.ends_with(&format!("Z {level} number {number}")), "{text:?}");
    }
    let json: serde_json::Value = serde_json::from_str(lines[2]).expect("JSON, without colours");
    assert_eq!(json["message"], "number 4");
}

#[test]
fn stderr_is_left_and_taken_again() {
    let (_dir, at) = dir();
    let child = own_process(&at("log"), Stdio::piped());
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success());
    assert_stderr(&String::from_utf8_lossy(&output.stderr), &at("log"), "INFO ");
}

#[test]
fn colours_are_for_a_terminal_and_no_file() {
    let (_dir, at) = dir();
    // Close-on-exec from their birth: other tests start children meanwhile.
    let mut terminal = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("a terminal of ours");
    let theirs = ptsname_r(&terminal).expect("its name");
    let theirs = fs::OpenOptions::new().write(true).custom_flags(libc::O_NOCTTY).open(theirs).expect("its other end");
    let mut child = own_process(&at("log"), theirs.into());
    let mut text = Vec::new();
    // The end of a terminal is an error.
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = terminal.read(&mut chunk) {
        text.extend_from_slice(&chunk[..n]);
    }
    assert!(child.wait().expect("its end").success());
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    assert_stderr(&text, &at("log"), "\x1b[32mINFO \x1b[0m");
}
