//! Owns captured output: bytes from a worker's pipe become lines in the log and in the worker's tail. Bounded work for each turn; the
//! end of the pipe is never waited for, since a grandchild may hold it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::os::io as fdio;
use crate::telemetry::{Lines, Relay, Tail};

/// Most bytes read from one pipe in one turn of the loop.
const SLICE: usize = 64 * 1024;
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

impl Capture {
    pub(super) fn new(fd: OwnedFd, max_line: usize, stream: &'static str) -> Capture {
        Capture { fd, lines: Lines::new(max_line), stream }
    }

    /// A config is in force that has another limit.
    pub(super) fn set_max_line(&mut self, max: usize) {
        self.lines.set_max(max);
    }

    /// Reads what is there, one turn's share at most; at the end of the pipe an unfinished line included.
    pub(super) fn read(&mut self, label: &Label<'_>, tail: &mut Tail, relay: &mut Relay) -> Drained {
        let drained = self.read_up_to(SLICE, label, tail, relay);
        if drained == Drained::Ended {
            self.end_line(label, tail, relay);
        }
        drained
    }

    /// Reads what is left after the worker's end, an unfinished line included.
    pub(super) fn finish(&mut self, label: &Label<'_>, tail: &mut Tail, relay: &mut Relay) {
        self.read_up_to(LAST, label, tail, relay);
        self.end_line(label, tail, relay);
    }

    fn end_line(&mut self, label: &Label<'_>, tail: &mut Tail, relay: &mut Relay) {
        let stream = self.stream;
        self.lines.finish(|line| {
            tail.push(line);
            relay.line(label.pool, label.slot, label.pid, stream, line);
        });
    }

    fn read_up_to(&mut self, most: usize, label: &Label<'_>, tail: &mut Tail, relay: &mut Relay) -> Drained {
        let mut buffer = [0u8; 16 * 1024];
        let mut total = 0;
        while total < most {
            match fdio::read(self.fd.as_fd(), &mut buffer) {
                Ok(0) => return Drained::Ended,
                Ok(n) => {
                    total += n;
                    let stream = self.stream;
                    self.lines.push(buffer.get(..n).unwrap_or_default(), |line| {
                        tail.push(line);
                        relay.line(label.pool, label.slot, label.pid, stream, line);
                    });
                    if n < buffer.len() {
                        return Drained::Open;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Drained::Open,
                Err(_) => return Drained::Ended,
            }
        }
        Drained::Open
    }
}
