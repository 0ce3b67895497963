//! Owns the way to the writing thread: a queue bounded in lines and in bytes. What does not fit is dropped and counted; those who log
//! never wait, and a flood of long lines takes no more memory than one of short ones.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64, AtomicUsize, Ordering};

use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the writing thread.
const QUEUED_LINES: usize = 16 * 1024;
/// Places of the queue: some more, for calls to the thread that are no lines ([`Queue::wake`]).
pub(super) const PLACES: usize = QUEUED_LINES + 64;
/// Bytes of them.
const QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// What waits, seen from both sides.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    /// All that were ever let in.
    queued: AtomicU64,
    /// Dropped since the last line that was written.
    dropped: AtomicU64,
}

/// Lines of what is queued as one.
pub(super) fn lines_of(text: &[u8]) -> u64 {
    text.iter().filter(|b| **b == b'\n').count() as u64
}

impl Waiting {
    /// Room for one more? Only the loop's thread asks, so the answer holds.
    fn admit(&self, text: &[u8]) -> bool {
        let length = text.len();
        let bytes = self.bytes.load(Ordering::Acquire);
        if self.lines.load(Ordering::Acquire) >= QUEUED_LINES || (bytes > 0 && bytes + length > QUEUED_BYTES) {
            self.dropped.fetch_add(lines_of(text), Ordering::Relaxed);
            return false;
        }
        self.queued.fetch_add(1, Ordering::AcqRel);
        self.lines.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(length, Ordering::AcqRel);
        true
    }

    /// The writing thread is done with one.
    pub(super) fn done(&self, length: usize) {
        self.lines.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(length, Ordering::AcqRel);
    }

    /// All is written.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.load(Ordering::Acquire) == 0
    }

    /// How many were dropped since it was last asked.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// The loop's end of the queue.
#[derive(Clone)]
pub(super) struct Queue {
    writer: NonBlocking,
    waiting: Arc<Waiting>,
}

impl Queue {
    pub(super) fn new(writer: NonBlocking, waiting: Arc<Waiting>) -> Queue {
        Queue { writer, waiting }
    }

    /// How many lines were ever queued: the writing thread, which counts them as they come, knows by that number where one ends and the
    /// next begins.
    pub(super) fn queued(&self) -> u64 {
        self.waiting.queued.load(Ordering::Acquire)
    }

    /// Has the writing thread look for news although there may be no line for a while. Where lines wait, it looks when it is done with them.
    pub(super) fn wake(&mut self) {
        // The news first, then the question: the thread does it the other way round.
        atomic::fence(Ordering::SeqCst);
        if self.waiting.lines.load(Ordering::Acquire) == 0 {
            let _ = self.writer.write(&[]);
        }
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // An empty one would not be seen by the thread that counts them.
        if !line.is_empty() && self.waiting.admit(line) { self.writer.write(line) } else { Ok(line.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Queue;

    fn make_writer(&'a self) -> Queue {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_bytes_are_bounded_and_a_huge_line_passes_alone() {
        let waiting = Waiting::default();
        assert!(waiting.admit(&vec![b'x'; QUEUED_BYTES * 2]), "into an empty queue");
        assert!(!waiting.admit(b"a\n"));
        waiting.done(QUEUED_BYTES * 2);
        for _ in 0..QUEUED_LINES {
            assert!(waiting.admit(b"\n"));
        }
        assert!(!waiting.admit(b"two\nlines\n"));
        assert_eq!((waiting.take_dropped(), waiting.take_dropped()), (3, 0));
        waiting.done(1);
        assert!(waiting.admit(b"\n"));
    }
}
