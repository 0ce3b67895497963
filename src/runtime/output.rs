//! Owns captured output: bytes from a worker's pipe become lines in the log and in the worker's tail. Bounded work for each turn, in bytes and in
//! time; the end of the pipe is never waited for, since a grandchild may hold it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::handover::CaptureState;
use super::master::Master;
use crate::os::handover::{Passed, Taken};
use crate::os::io as fdio;
use crate::supervisor::Time;
use crate::telemetry::{Batch, Lines, Relay, Source, Tail};

/// Most bytes read from one pipe in one turn of the loop.
const SLICE: usize = 64 * 1024;
/// Bytes read at once, between two looks at the clock: all of them may be line ends.
const PIECE: usize = 2 * 1024;
/// Longest time given to one pipe in one turn.
const SHARE: Duration = Duration::from_micros(500);
/// Longest time given to all pipes in one turn: so long at most waits whatever else has happened. Pipes that got nothing are first in the next.
pub(super) const TURN: Duration = Duration::from_millis(2);
/// Longest time given in one turn to what ended workers have left, so that it stands before the news of their end; the rest comes after.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(5);
/// Most bytes read from one pipe once its worker has ended.
const LAST: usize = 1024 * 1024;

/// The reading end of one captured stream.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) fd: OwnedFd,
    lines: Lines,
    stream: &'static str,
}

/// Where the lines go.
#[derive(Clone, Copy)]
pub(super) struct Label<'a> {
    pub(super) pool: &'a str,
    pub(super) slot: u32,
    pub(super) pid: i32,
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// The pipe is empty, or the turn's share is used up.
    Open,
    /// Nobody can write to it any more.
    Ended,
}

/// What an ended worker has left in a pipe beyond what one turn can show.
#[derive(Debug)]
pub(super) struct Leftover {
    pool: String,
    slot: u32,
    pid: i32,
    stream: &'static str,
    lines: Lines,
    bytes: Vec<u8>,
    at: usize,
}

impl Leftover {
    pub(super) fn pool(&self) -> &str {
        &self.pool
    }

    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    /// In bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Lines that were not shown yet.
    pub(super) fn lines_left(&self) -> usize {
        self.bytes.iter().skip(self.at).filter(|b| **b == b'\n').count()
    }

    /// Shows a piece of it. True: that was the last.
    pub(super) fn show(&mut self, relay: &mut Relay) -> bool {
        let source = Source { pool: &self.pool, slot: self.slot, pid: self.pid, stream: self.stream };
        let mut batch = relay.batch(source);
        let end = self.bytes.len().min(self.at + PIECE);
        self.lines.push(self.bytes.get(self.at..end).unwrap_or_default(), |line| batch.line(line));
        self.at = end;
        if self.at == self.bytes.len() {
            self.lines.finish(|line| batch.line(line));
        }
        self.at == self.bytes.len()
    }
}

impl Capture {
    pub(super) fn new(fd: OwnedFd, max_line: usize, stream: &'static str) -> Capture {
        Capture { fd, lines: Lines::new(max_line), stream }
    }

    /// For the next image of the master.
    pub(super) fn state(&self) -> io::Result<CaptureState> {
        Ok(CaptureState { fd: Passed::of(&self.fd)?, partial: self.lines.partial().to_vec() })
    }

    /// As the image before has left it.
    pub(super) fn restore(state: CaptureState, max_line: usize, stream: &'static str, taken: &mut Taken) -> io::Result<Capture> {
        Ok(Capture { fd: taken.take(&state.fd)?, lines: Lines::resume(max_line, state.partial), stream })
    }

    /// A config is in force that has another limit.
    pub(super) fn set_max_line(&mut self, max: usize) {
        self.lines.set_max(max);
    }

    fn source<'a>(&self, label: &Label<'a>) -> Source<'a> {
        Source { pool: label.pool, slot: label.slot, pid: label.pid, stream: self.stream }
    }

    /// Reads what is there, one turn's share at most; at the end of the pipe an unfinished line included.
    pub(super) fn read(&mut self, label: &Label<'_>, tail: &mut Tail, relay: &mut Relay) -> Drained {
        let mut batch = relay.batch(self.source(label));
        let until = Master::now() + SHARE;
        let drained = self.read_until(until, SLICE, tail, &mut batch);
        if drained == Drained::Ended {
            self.end_line(tail, &mut batch);
        }
        drained
    }

    /// Reads what is left after the worker's end, an unfinished line included. What is too much for now is given back, its last lines in the
    /// tail already.
    pub(super) fn finish(&mut self, label: &Label<'_>, tail: &mut Tail, relay: &mut Relay, until: Time) -> Option<Leftover> {
        let mut batch = relay.batch(self.source(label));
        if self.read_until(until, LAST, tail, &mut batch) == Drained::Open {
            // Empty, or out of time.
            let bytes = self.read_rest();
            if !bytes.is_empty() {
                let mut last = self.lines.clone();
                last.push_last(&bytes, tail.most(), |line| tail.push(line));
                let Label { pool, slot, pid } = *label;
                let lines = self.lines.clone();
                return Some(Leftover { pool: pool.to_owned(), slot, pid, stream: self.stream, lines, bytes, at: 0 });
            }
        }
        self.end_line(tail, &mut batch);
        None
    }

    fn end_line(&mut self, tail: &mut Tail, batch: &mut Batch<'_>) {
        self.lines.finish(|line| {
            tail.push(line);
            batch.line(line);
        });
    }

    fn read_until(&mut self, until: Time, most: usize, tail: &mut Tail, batch: &mut Batch<'_>) -> Drained {
        let mut buffer = [0u8; PIECE];
        let mut total = 0;
        while total < most {
            match fdio::read(self.fd.as_fd(), &mut buffer) {
                Ok(0) => return Drained::Ended,
                Ok(n) => {
                    total += n;
                    self.lines.push(buffer.get(..n).unwrap_or_default(), |line| {
                        tail.push(line);
                        batch.line(line);
                    });
                    if n < buffer.len() || Master::now() >= until {
                        return Drained::Open;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Drained::Open,
                Err(_) => return Drained::Ended,
            }
        }
        Drained::Open
    }

    /// What is there now, unsplit.
    fn read_rest(&mut self) -> Vec<u8> {
        let (mut bytes, mut buffer) = (Vec::new(), [0u8; 16 * 1024]);
        while bytes.len() < LAST {
            match fdio::read(self.fd.as_fd(), &mut buffer) {
                Ok(n) if n > 0 => bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                _ => break,
            }
        }
        bytes
    }
}
