//! Owns the writing end of the log: stderr or a file that can be reopened. A failed write is counted and told later, never an error
//! for those who log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the loop and the writing thread share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The file was moved: open it anew before the next write.
    pub(super) reopen: AtomicBool,
    /// Writes that failed since the master started.
    pub(super) lost: AtomicU64,
}

/// Opens a log file for appending; made with mode 0640 when missing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
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
    gap: Option<(u64, io::Error)>,
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
                    let _ = writeln!(
                        file,
                        "poolmaster: cannot reopen the log file {}: {e}; the old one stays in use",
                        path.display()
                    );
                }
            }
        }
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
        if let Some((lost, e)) = self.gap.take() {
            let words = format!("poolmaster: {lost} log lines before this one are lost: {e}\n");
            if self.put(words.as_bytes()).is_err() {
                self.gap = Some((lost, e));
            }
        }
        match self.put(line) {
            Ok(()) => {}
            Err(e) => {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                let lost = self.gap.take().map_or(0, |(n, _)| n) + 1;
                self.gap = Some((lost, e));
            }
        }
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
        assert_eq!(shared.lost.load(Ordering::Relaxed), 2);
        let path = dir.path().join("log");
        sink.target = Target::File { path: path.clone(), file: open(&path).expect("a new file") };
        sink.write_all(b"three\n").expect("written");
        let text = std::fs::read_to_string(path).expect("the log");
        assert!(text.starts_with("poolmaster: 2 log lines before this one are lost: "), "{text}");
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
