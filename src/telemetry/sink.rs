//! Owns the writing end of the log: stderr or a file, which can be reopened, or left for another between two lines. A failed write is
//! counted and told later, never an error for those who log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{self, AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::queue::{Waiting, lines_of};
use crate::os::io::wait_writable;

/// What the loop and the writing thread share.
#[derive(Default)]
pub(super) struct Shared {
    /// What the loop has queued.
    pub(super) waiting: Arc<Waiting>,
    /// Something is in `changes`: asked for each line, so without the lock.
    changing: AtomicBool,
    changes: Mutex<VecDeque<Change>>,
}

/// Another target or form.
pub(super) struct Change {
    /// With the line after so many, counted from the first one.
    pub(super) after: u64,
    /// Lines are JSON from there on.
    pub(super) json: bool,
    /// Where they go from there on; `None`: where they went before.
    pub(super) target: Option<Target>,
}

impl Shared {
    /// Before the first line that it is for.
    pub(super) fn change(&self, change: Change) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.push_back(change);
        self.changing.store(true, Ordering::Release);
    }

    /// The next one that comes after no more than so many lines.
    fn due(&self, taken: u64) -> Option<Change> {
        if !self.changing.load(Ordering::Acquire) {
            return None;
        }
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let due = if changes.front()?.after <= taken { changes.pop_front() } else { None };
        self.changing.store(!changes.is_empty(), Ordering::Release);
        due
    }
}

/// A line of the writer's own, in the form of the others.
fn own_line(json: bool, words: &str) -> Vec<u8> {
    let line =
        if json { serde_json::json!({ "level": "WARN", "message": words }).to_string() } else { format!("poolmaster: {words}") };
    format!("{line}\n").into_bytes()
}

/// Where lines go.
pub(super) enum Target {
    /// By a description of our own where that can be had.
    Stderr(Option<File>),
    File(File),
}

/// The writer behind the log thread.
pub(super) struct Sink {
    target: Target,
    /// Lines of its own are JSON.
    json: bool,
    shared: Arc<Shared>,
    /// Lines that came, ever.
    taken: u64,
    /// Lines that came together are written together.
    batch: Vec<u8>,
    /// Their lengths.
    lengths: Vec<usize>,
    /// Lines lost since the last one that was written, and why.
    gap: Option<(u64, String)>,
}

/// A batch is written when it has so many bytes, or when no more lines wait.
pub(super) const BATCH: usize = 32 * 1024;

impl Sink {
    pub(super) fn new(target: Target, json: bool, shared: Arc<Shared>) -> Sink {
        Sink { target, json, shared, taken: 0, batch: Vec::new(), lengths: Vec::new(), gap: None }
    }

    /// Makes the changes that come before the next line; what came before them is written first.
    fn change(&mut self) {
        while let Some(change) = self.shared.due(self.taken) {
            self.write_batch();
            self.json = change.json;
            if let Some(target) = change.target {
                self.target = target;
            }
        }
    }

    fn lost(&mut self, lines: u64, why: &str) {
        let before = self.gap.take().map_or(0, |(lost, _)| lost);
        self.gap = Some((before + lines, why.to_owned()));
    }

    /// Writes all of it, or says how much was written before the error.
    fn put(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let written = match &mut self.target {
                Target::Stderr(Some(file)) | Target::File(file) => file.write(rest),
                Target::Stderr(None) => io::stderr().write(rest),
            };
            match written {
                Ok(0) => return Err((done, io::ErrorKind::WriteZero.into())),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // A program that shares it has asked not to wait; we do, so that lines stay whole.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let waited = match &self.target {
                        Target::Stderr(Some(file)) | Target::File(file) => wait_writable(file),
                        Target::Stderr(None) => wait_writable(io::stderr()),
                    };
                    waited.map_err(|e| (done, e))?;
                }
                Err(e) => return Err((done, e)),
            }
        }
        Ok(())
    }

    fn write_batch(&mut self) {
        if self.lengths.is_empty() {
            return;
        }
        let dropped = self.shared.waiting.take_dropped();
        if dropped > 0 {
            self.lost(dropped, "the log was written slower than it came");
        }
        if let Some((lost, why)) = self.gap.take() {
            let words = format!("{lost} log lines about here are lost: {why}");
            if self.put(&own_line(self.json, &words)).is_err() {
                self.gap = Some((lost, why));
            }
        }
        let (mut batch, mut lengths) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.lengths));
        if let Err((written, e)) = self.put(&batch) {
            self.lost(lines_of(batch.get(written..).unwrap_or_default()), &e.to_string());
        }
        for length in lengths.drain(..) {
            self.shared.waiting.done(length);
        }
        // The room is kept, unless one huge line made it.
        batch.clear();
        batch.shrink_to(2 * BATCH);
        (self.batch, self.lengths) = (batch, lengths);
    }
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.change();
        self.batch.extend_from_slice(line);
        self.lengths.push(line.len());
        self.taken += 1;
        if self.batch.len() >= BATCH {
            self.write_batch();
        }
        Ok(line.len())
    }

    /// No more lines wait.
    fn flush(&mut self) -> io::Result<()> {
        self.write_batch();
        // What is written counts as no longer waiting before this look: see `Queue::wake`.
        atomic::fence(Ordering::SeqCst);
        self.change();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::os::io::append_to;

    fn sink(file: File, shared: &Arc<Shared>) -> Sink {
        Sink::new(Target::File(file), false, Arc::clone(shared))
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_so_once_there_is_room() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let shared = Arc::new(Shared::default());
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let mut sink = sink(full, &shared);
        sink.write_all(b"one\n").expect("counted, not refused");
        sink.flush().expect("never an error");
        sink.write_all(b"two\n").expect("counted, not refused");
        sink.flush().expect("never an error");
        let path = dir.path().join("log");
        sink.target = Target::File(append_to(&path).expect("a new file"));
        sink.write_all(b"three\n").expect("written");
        sink.flush().expect("never an error");
        let text = std::fs::read_to_string(path).expect("the log");
        assert!(text.starts_with("poolmaster: 2 log lines about here are lost: "), "{text}");
        assert!(text.ends_with("three\n"), "{text}");
    }

    #[test]
    fn lines_that_come_together_are_written_together_and_counted_one_by_one() {
        let shared = Arc::new(Shared::default());
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let mut sink = sink(full, &shared);
        for _ in 0..3 {
            sink.write_all(b"line\n").expect("counted, not refused");
        }
        assert!(sink.gap.is_none(), "not yet");
        sink.flush().expect("never an error");
        assert_eq!(sink.gap.as_ref().map(|(lost, _)| *lost), Some(3));
        sink.write_all(&[vec![b'x'; BATCH], b"\n".to_vec()].concat()).expect("counted, not refused");
        assert_eq!(sink.gap.as_ref().map(|(lost, _)| *lost), Some(4), "a full batch goes at once");
    }
}
