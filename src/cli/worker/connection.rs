//! Owns one accepted connection: its descriptor, what of its output the kernel has not taken yet, and what it waits for.
//! Refuses to read while it has output to write: a client that does not read its answers is not served more of them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::{read, write};

use super::reply::Site;
use super::session::{Session, Step};

/// How long a half-closed connection may take to be closed by the client.
const LINGER: Duration = Duration::from_secs(1);

/// Buffers that all connections use in turn: a connection holds memory of its own only for what is left over.
#[derive(Debug)]
pub(super) struct Scratch {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Scratch { input: vec![0; 16 * 1024], output: Vec::with_capacity(16 * 1024) }
    }
}

/// One accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) fd: OwnedFd,
    session: Session,
    /// Responses that the kernel had no room for.
    output: Vec<u8>,
    /// What follows when they are written.
    next: Step,
    /// Half-closed by us; waiting for the client to close.
    lingering: bool,
    /// When something came or went last.
    pub(super) active: Instant,
    /// When [`Connection::expire`] has to be called.
    pub(super) timer: Option<Instant>,
}

/// What becomes of a connection after a turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Closed,
    Crash,
}

impl Connection {
    pub(super) fn new(fd: OwnedFd, now: Instant) -> Self {
        Connection {
            fd,
            session: Session::default(),
            output: Vec::new(),
            next: Step::Read,
            lingering: false,
            active: now,
            timer: None,
        }
    }

    /// The events to wait for. None while an answer is due later: the kernel reports a broken connection anyway, and a
    /// client that only half-closed still gets its answer.
    pub(super) fn interest(&self) -> EpollFlags {
        if !self.output.is_empty() {
            EpollFlags::EPOLLOUT
        } else if self.session.is_waiting() {
            EpollFlags::empty()
        } else {
            EpollFlags::EPOLLIN
        }
    }

    /// A request was received whose answer the kernel does not have yet.
    pub(super) fn is_answering(&self) -> bool {
        self.session.is_waiting() || !self.output.is_empty()
    }

    /// The kernel reported these events.
    pub(super) fn turn(&mut self, events: EpollFlags, scratch: &mut Scratch, site: &mut Site, now: Instant) -> Fate {
        if !self.output.is_empty() {
            return self.write_on(scratch, site, now);
        }
        if self.session.is_waiting() {
            let broken = events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
            return if broken { Fate::Closed } else { Fate::Open };
        }
        match read(&self.fd, &mut scratch.input) {
            Ok(0) => Fate::Closed,
            Ok(_) if self.lingering => Fate::Open,
            Ok(n) => {
                self.active = now;
                scratch.output.clear();
                let step = self.session.advance(&scratch.input[..n], site, &mut scratch.output);
                self.proceed(step, scratch, site, now)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Fate::Open,
            Err(_) => Fate::Closed,
        }
    }

    /// The time of [`Connection::timer`] has come.
    pub(super) fn expire(&mut self, scratch: &mut Scratch, site: &mut Site, now: Instant) -> Fate {
        self.timer = None;
        if self.lingering || !self.session.is_waiting() {
            return Fate::Closed;
        }
        self.active = now;
        // Answers to requests before this one may still be unwritten: they go first.
        scratch.output.clear();
        scratch.output.append(&mut self.output);
        let step = self.session.resume(site, &mut scratch.output);
        self.proceed(step, scratch, site, now)
    }

    /// Ends a connection from our side. A client that was just about to send sees the end of the stream, not a reset.
    pub(super) fn finish(&mut self, now: Instant) -> Fate {
        if self.lingering {
            return Fate::Open;
        }
        if shutdown(self.fd.as_raw_fd(), Shutdown::Write).is_err() {
            return Fate::Closed;
        }
        self.lingering = true;
        self.timer = Some(now + LINGER);
        Fate::Open
    }

    /// Writes the responses in `scratch`, then does what the session asks for.
    fn proceed(&mut self, mut step: Step, scratch: &mut Scratch, site: &mut Site, now: Instant) -> Fate {
        loop {
            let written = match self.write(&scratch.output) {
                Ok(written) => written,
                Err(_) => return Fate::Closed,
            };
            if let Step::Wait(time) = step {
                self.timer = Some(now + time);
                step = Step::Read;
            }
            if written < scratch.output.len() {
                self.output.extend_from_slice(&scratch.output[written..]);
                self.next = step;
                return Fate::Open;
            }
            match step {
                Step::Flush => {
                    scratch.output.clear();
                    step = self.session.advance(b"", site, &mut scratch.output);
                }
                Step::Read | Step::Wait(_) => return Fate::Open,
                Step::Close { linger: true } => return self.finish(now),
                Step::Close { linger: false } => return Fate::Closed,
                Step::Crash => return Fate::Crash,
            }
        }
    }

    /// Goes on writing what was left over.
    fn write_on(&mut self, scratch: &mut Scratch, site: &mut Site, now: Instant) -> Fate {
        self.active = now;
        scratch.output.clear();
        scratch.output.append(&mut self.output);
        let step = std::mem::replace(&mut self.next, Step::Read);
        self.proceed(step, scratch, site, now)
    }

    /// As much as the kernel takes now.
    fn write(&self, output: &[u8]) -> Result<usize, Errno> {
        let mut written = 0;
        while written < output.len() {
            match write(&self.fd, &output[written..]) {
                Ok(n) => written += n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}
