//! Owns one conversation with a master: a request goes out, a reply comes in, within a bounded time.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use super::ClientError;
use crate::protocol::{Call, LineBuffer, MAX_REPLY, Reply};
use crate::supervisor::human;

/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// A connection to a master.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    path: PathBuf,
    lines: LineBuffer,
}

/// A point in time until which something has to be done. `None`: no bound.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

#[expect(clippy::disallowed_methods, reason = "a client has no loop that could hand it the time")]
fn now() -> Instant {
    Instant::now()
}

impl Deadline {
    fn after(patience: Option<Duration>) -> Deadline {
        Deadline(patience.and_then(|p| now().checked_add(p)))
    }

    /// What is left for one system call. `Some(zero)` is never returned: sockets take that as "no bound".
    fn left(self) -> Result<Option<Duration>, ()> {
        match self.0.map(|at| at.saturating_duration_since(now())) {
            Some(left) if left.is_zero() => Err(()),
            left => Ok(left),
        }
    }
}

impl Connection {
    pub(super) fn new(stream: UnixStream, path: &Path) -> Connection {
        Connection { stream, path: path.to_owned(), lines: LineBuffer::new(MAX_REPLY) }
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The master's pid as it is seen from here; `None`: it lives in a pid namespace that this one does not see.
    pub fn peer_pid(&self) -> Option<i32> {
        crate::os::unix::peer_of(&self.stream).ok().map(|peer| peer.pid).filter(|pid| *pid > 0)
    }

    /// Asks, and waits for one reply. With `patience` the whole exchange takes no longer, however the master dribbles.
    pub fn ask(&mut self, call: &Call, patience: Option<Duration>) -> Result<Reply, ClientError> {
        self.follow(call, patience, None, |_| {})
    }

    /// The same; `each` sees the replies before the last, where the call takes several. Ends early when SIGINT comes in at `interrupt`.
    pub fn follow(
        &mut self,
        call: &Call,
        patience: Option<Duration>,
        interrupt: Option<&SignalFd>,
        mut each: impl FnMut(&Reply),
    ) -> Result<Reply, ClientError> {
        let mut reply = self.ask_first(call, patience, interrupt)?;
        let deadline = Deadline::after(patience);
        while reply.continues {
            each(&reply);
            reply = self.receive(deadline, interrupt).unwrap_or_else(|| Err(self.late(patience)))?;
        }
        Ok(reply)
    }

    fn ask_first(&mut self, call: &Call, patience: Option<Duration>, interrupt: Option<&SignalFd>) -> Result<Reply, ClientError> {
        let line = call.encode().map_err(ClientError::Answered)?;
        let deadline = Deadline::after(patience);
        // A master that refuses (not permitted, too many clients) answers and closes without reading: its words matter more
        // than our broken pipe.
        let sent = self.send(&line, deadline);
        match (self.receive(deadline, interrupt), sent) {
            (None, _) => Err(self.late(patience)),
            (Some(Err(ClientError::Lost(_))), Err(lost)) => Err(lost),
            (Some(result), _) => result,
        }
    }

    /// Waits until the master has closed the connection, which its end does after everything else is gone.
    pub fn wait_closed(&mut self, patience: Duration) -> bool {
        let deadline = Deadline::after(Some(patience));
        let mut piece = [0; 512];
        loop {
            let Ok(left) = deadline.left() else { return false };
            if self.stream.set_read_timeout(left).is_err() {
                return false;
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == ErrorKind::ConnectionReset,
            }
        }
    }

    fn send(&mut self, mut rest: &[u8], deadline: Deadline) -> Result<(), ClientError> {
        while !rest.is_empty() {
            let Ok(left) = deadline.left() else { return Ok(()) };
            let written = self.stream.set_write_timeout(left).and_then(|()| self.stream.write(rest));
            match written {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if timed_out(&e) => return Ok(()),
                Err(e) => return Err(self.lost(&e.to_string())),
            }
        }
        Ok(())
    }

    /// `None`: the deadline passed.
    fn receive(&mut self, deadline: Deadline, interrupt: Option<&SignalFd>) -> Option<Result<Reply, ClientError>> {
        let mut piece = vec![0; PIECE];
        loop {
            match self.lines.next_frame() {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    return Some(match Reply::parse(&frame) {
                        Ok(answer) => answer.map_err(|failure| match failure.code {
                            6 => ClientError::NotPermitted(format!("the master on {}: {failure}", self.path.display())),
                            _ => ClientError::Answered(failure),
                        }),
                        Err(e) => Err(self.garbled(&e.to_string())),
                    });
                }
                Err(e) => return Some(Err(self.garbled(&e.to_string()))),
            }
            let left = deadline.left().ok()?;
            if let Some(interrupt) = interrupt
                && wait_for_either(&self.stream, interrupt, left)
            {
                return Some(Err(ClientError::Interrupted(format!(
                    "interrupted: the order was given to the master on {} and goes on",
                    self.path.display()
                ))));
            }
            match self.stream.set_read_timeout(left).and_then(|()| self.stream.read(&mut piece)) {
                Ok(0) if self.lines.unfinished() == 0 => return Some(Err(self.lost("it closed the connection"))),
                Ok(0) => return Some(Err(self.lost("it closed the connection in the middle of a reply"))),
                Ok(n) => self.lines.push(piece.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::Interrupted || timed_out(&e) => {}
                Err(e) => return Some(Err(self.lost(&e.to_string()))),
            }
        }
    }

    fn late(&self, patience: Option<Duration>) -> ClientError {
        let within = patience.map(|p| format!(" within {}", human(p))).unwrap_or_default();
        ClientError::TimedOut(format!(
            "the master on {} did not answer{within}: it is stopped or very busy; what was ordered may still be done",
            self.path.display()
        ))
    }

    fn lost(&self, why: &str) -> ClientError {
        ClientError::Lost(format!("no answer from the master on {}: {why}; its log may tell more", self.path.display()))
    }

    fn garbled(&self, why: &str) -> ClientError {
        ClientError::Garbled(format!("what answers on {} does not speak poolmaster's protocol: {why}", self.path.display()))
    }
}

/// Waits until the stream has something to read, or SIGINT is there: true.
fn wait_for_either(stream: &UnixStream, interrupt: &SignalFd, left: Option<Duration>) -> bool {
    let timeout = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN), PollFd::new(interrupt.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, timeout);
    fds[1].any().unwrap_or(false)
}

fn timed_out(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
