//! Owns the writing end of the log: stderr or a file that can be reopened. A failed write is counted and told later, never an error
//! for those who log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::queue::Waiting;

/// What the loop and the writing thread share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The file was moved: open it anew before the next write.
    pub(super) reopen: AtomicBool,
    /// What the loop has queued.
    pub(super) waiting: Arc<Waiting>,
    /// Lines are JSON.
    json: bool,
}

impl Shared {
    pub(super) fn new(json: bool) -> Shared {
        Shared { json, ..Shared::default() }
    }
}

/// Opens a log file for appending; made with mode 0640 when missing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// A line of the writer's own, in the form of the others.
fn own_line(json: bool, words: &str) -> Vec<u8> {
    let line =
        if json { serde_json::json!({ "level": "WARN", "message": words }).to_string() } else { format!("poolmaster: {words}") };
    format!("{line}\n").into_bytes()
}

enum Target {
    Stderr,
    File { path: PathBuf, file: File },
}

/// The writer behind the log thread.
pub(super) struct Sink {
    target: Target,
    shared: Arc<Shared>,
    /// Lines lost since the last one that was written, and why.
    gap: Option<(u64, String)>,
}

impl Sink {
    pub(super) fn stderr(shared: Arc<Shared>) -> Sink {
        Sink { target: Target::Stderr, shared, gap: None }
    }

    pub(super) fn file(path: PathBuf, file: File, shared: Arc<Shared>) -> Sink {
        Sink { target: Target::File { path, file }, shared, gap: None }
    }

    /// The new file first; the old one stays in use when that fails.
    fn reopen(&mut self) {
        if let Target::File { path, file } = &mut self.target {
            match open(path) {
                Ok(new) => *file = new,
                Err(e) => {
                    let words = format!("cannot reopen the log file {}: {e}; the old one stays in use", path.display());
                    let _ = file.write_all(&own_line(self.shared.json, &words));
                }
            }
        }
    }

    fn lost(&mut self, lines: u64, why: &str) {
        let before = self.gap.take().map_or(0, |(lost, _)| lost);
        self.gap = Some((before + lines, why.to_owned()));
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        match &mut self.target {
            Target::Stderr => io::stderr().write_all(line),
            Target::File { file, .. } => file.write_all(line),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            self.reopen();
        }
        let dropped = self.shared.waiting.take_dropped();
        if dropped > 0 {
            self.lost(dropped, "the log was written slower than it came");
        }
        if let Some((lost, why)) = self.gap.take() {
            let words = format!("{lost} log lines about here are lost: {why}");
            if self.put(&own_line(self.shared.json, &words)).is_err() {
                self.gap = Some((lost, why));
            }
        }
        if let Err(e) = self.put(line) {
            self.lost(1, &e.to_string());
        }
        self.shared.waiting.done(line.len());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_loses_lines_and_says_so_once_there_is_room() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let shared = Arc::new(Shared::default());
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let mut sink = Sink::file("/dev/full".into(), full, Arc::clone(&shared));
        sink.write_all(b"one\n").expect("counted, not refused");
        sink.write_all(b"two\n").expect("counted, not refused");
        let path = dir.path().join("log");
        sink.target = Target::File { path: path.clone(), file: open(&path).expect("a new file") };
        sink.write_all(b"three\n").expect("written");
        let text = std::fs::read_to_string(path).expect("the log");
        assert!(text.starts_with("poolmaster: 2 log lines about here are lost: "), "{text}");
        assert!(text.ends_with("three\n"), "{text}");
    }

    #[test]
    fn a_moved_file_is_opened_anew_and_a_vanished_folder_keeps_the_old_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let shared = Arc::new(Shared::default());
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let mut sink = Sink::file(path.clone(), open(&path).expect("a file"), Arc::clone(&shared));
        sink.write_all(b"one\n").expect("written");
        std::fs::rename(&path, &moved).expect("moved");
        sink.write_all(b"two\n").expect("written");
        shared.reopen.store(true, Ordering::Release);
        sink.write_all(b"three\n").expect("written");
        assert_eq!(std::fs::read_to_string(&moved).expect("the old file"), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).expect("the new file"), "three\n");
        if let Target::File { path, .. } = &mut sink.target {
            *path = "/nonexistent/log".into();
        }
        shared.reopen.store(true, Ordering::Release);
        sink.write_all(b"four\n").expect("written");
        let text = std::fs::read_to_string(&path).expect("the file in use");
        assert!(text.contains("cannot reopen the log file /nonexistent/log") && text.ends_with("four\n"), "{text}");
    }
}
