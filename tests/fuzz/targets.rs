//! What is done with hostile bytes, and what has to hold whatever they are. Used by the bounded fuzzer beside this file and by the
//! libFuzzer targets in `fuzz/`.

use std::path::{Path, PathBuf};

use poolmaster::config::template::{Vars, escape, expand};
use poolmaster::config::{Facts, Flag, Sources, env_file, explain, words};
use poolmaster::protocol::{Call, LineBuffer, MAX_FRAME, Reply};
use poolmaster::supervisor::Notification;
use poolmaster::telemetry::systemd;

fn sources(text: String, name: &str) -> Sources {
    // Nothing there to include.
    let facts = Facts { cpus: 4, uid: 1000, cwd: PathBuf::from("/nowhere/at/all"), ..Facts::default() };
    Sources { path: Some(PathBuf::from(name)), text: Some(text), facts, ..Sources::default() }
}

/// Loads it; what is said about it can be shown to anybody.
fn judge(sources: &Sources) {
    match explain(sources) {
        Ok(loaded) => {
            let shown = loaded.show_toml();
            assert!(loaded.show_json().is_object());
            // What is in force can be written down and means the same, but for what must not be shown.
            if !shown.contains("***") {
                let mut again = self::sources(shown.clone(), "pools.toml");
                again.env = sources.env.iter().filter(|(name, _)| !name.starts_with("POOLMASTER__")).cloned().collect();
                match explain(&again) {
                    Ok(again) => assert_eq!(again.show_toml(), shown),
                    Err(diags) => panic!("what is shown cannot be read again:\n{shown}\n{diags}"),
                }
            }
        }
        Err(diags) => {
            let said = diags.to_string();
            assert!(diags.failed() && !said.is_empty());
            assert!(said.chars().all(|c| !c.is_control() || c == '\n'), "control characters are passed on: {said:?}");
            assert!(diags.errors().all(|d| d.json().is_object()));
        }
    }
}

/// A config file; JSON when it begins with a brace.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let name = if text.starts_with('{') { "pools.json" } else { "pools.toml" };
    judge(&sources(text.to_owned(), name));
}

/// Only loads it, and says what is wrong.
pub fn load(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let name = if text.starts_with('{') { "pools.json" } else { "pools.toml" };
    if let Err(diags) = explain(&sources(text, name)) {
        assert!(!diags.to_string().is_empty());
    }
}

/// Lines `NAME=VALUE`: variables that set keys, and flags where a line begins with `--`.
pub fn environment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut sources = sources("[pool.web]\ncommand = \"server\"\n[defaults]\nsettle = \"2s\"\n".to_owned(), "pools.toml");
    for line in text.lines().filter(|line| !line.contains('\0')) {
        match line.strip_prefix("--") {
            Some(flag) => sources.flags.extend(Flag::set(flag).or_else(|_| Flag::workers(flag))),
            None => sources.env.extend(line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))),
        }
    }
    judge(&sources);
}

/// Bytes from a client, in pieces as long as the first byte says.
pub fn frames(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let mut buffer = LineBuffer::new(MAX_FRAME);
    for piece in bytes.chunks(usize::from(*size).max(1)) {
        buffer.push(piece);
        while let Ok(Some(frame)) = buffer.next_frame() {
            assert!(frame.len() <= MAX_FRAME && !frame.contains(&b'\n') && !frame.is_empty());
            if let Ok(call) = Call::parse(&frame) {
                let bytes = call.encode().unwrap_or_else(|e| panic!("a call that was read cannot be written: {e:?}"));
                let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
                assert_eq!(Call::parse(line).as_ref(), Ok(&call));
            }
            let _ = Reply::parse(&frame);
        }
        assert!(buffer.held() <= MAX_FRAME + piece.len());
    }
}

/// A datagram of a worker.
pub fn notify(data: &[u8]) {
    let said = systemd::parse(data);
    assert!(said.len() <= 64);
    for word in said {
        if let Notification::Status(text) = word {
            // Each byte may become a replacement of three, or an escape.
            assert!(text.len() <= 256 * 8 && text.chars().all(|c| !c.is_control() || c == '\t'), "{text:?}");
        }
    }
    if let Some(systemd::StoreOrder::Keep { name, .. } | systemd::StoreOrder::Remove { name }) = systemd::store_order(data) {
        assert!(!name.contains(':') && name.len() <= 255);
    }
}

/// A file of variables; and, as a command line and as a template, anything.
pub fn variables(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(found) = env_file::parse(text) {
        assert!(found.iter().all(|(name, value)| !name.is_empty() && !name.contains('=') && !value.contains('\0')));
    }
    if let Ok(split) = words::split(text) {
        assert_eq!(words::split(&words::join(&split)), Ok(split));
    }
    let vars = Vars {
        pool: "web",
        slot: 2,
        generation: 7,
        fds: &[("http", 3)],
        cpus: 8,
        runtime: Path::new("/run/p"),
        port: Some(9000),
    };
    assert_eq!(expand(&escape(text), &vars), text);
}
