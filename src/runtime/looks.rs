//! Owns the looks from outside at workers that are starting: an address that takes connections, a page that answers, a command that ends
//! well. Nothing of it waits: each look is a descriptor in epoll or a child, and has a time limit. Every look is answered exactly once.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::launch;
use super::master::Master;
use super::token::Token;
use crate::config::spec::Look;
use crate::config::target::{self, Target};
use crate::os::connect;
use crate::os::epoll::Interest;
use crate::os::io as fdio;
use crate::os::signals::kill_group;
use crate::supervisor::{Event, KILL, Time, WorkerId};

/// A look that has no answer by then has none.
const LIMIT: Duration = Duration::from_secs(5);
/// Of a page, only the first line counts.
const FIRST_LINE: usize = 512;

/// A look that is under way.
#[derive(Debug)]
struct Open {
    worker: WorkerId,
    by: Time,
    how: How,
}

#[derive(Debug)]
enum How {
    /// To be connected.
    Tcp(OwnedFd),
    /// To be connected, asked, and heard.
    Http { fd: OwnedFd, request: Vec<u8>, reply: Vec<u8> },
    /// A child, which leads its own group.
    Command { pid: i32 },
}

/// All of them, by numbers that are never used twice.
#[derive(Debug, Default)]
pub(super) struct Looks {
    open: BTreeMap<u64, Open>,
    next: u64,
}

impl Looks {
    /// When the next one has taken too long.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.open.values().map(|look| look.by).min()
    }

    /// One is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    fn of_pid(&self, wanted: i32) -> Option<u64> {
        let is = |look: &Open| matches!(look.how, How::Command { pid } if pid == wanted);
        self.open.iter().find(|(_, look)| is(look)).map(|(number, _)| *number)
    }
}

impl Master {
    /// Begins a look.
    pub(super) fn look_from_outside(&mut self, worker: WorkerId, look: &Look) {
        match self.begin_look(worker, look) {
            Ok(how) => {
                let number = self.looks.next;
                self.looks.next += 1;
                let fd = match &how {
                    How::Tcp(fd) | How::Http { fd, .. } => Some(fd),
                    How::Command { .. } => None,
                };
                let watched = fd.map_or(Ok(()), |fd| self.epoll.add(fd, Token::Look(number).into(), Interest::Write));
                if let Err(e) = watched {
                    tracing::debug!("cannot watch a look at a worker: {e}");
                    return self.facts.push_back(Event::Looked { worker, accepting: false });
                }
                self.looks.open.insert(number, Open { worker, by: Master::now() + LIMIT, how });
            }
            Err(why) => {
                let pool = self.name_of(worker.pool);
                tracing::debug!(pool, slot = worker.slot, "not ready: {why}");
                self.facts.push_back(Event::Looked { worker, accepting: false });
            }
        }
    }

    fn begin_look(&self, worker: WorkerId, look: &Look) -> Result<How, String> {
        let process = self.processes.of(worker).filter(|p| !p.exited).ok_or("the worker is gone")?;
        let fill = |text: &str| launch::fill(text, worker, &process.run, &self.common);
        let connect = |target: &Target| match target {
            Target::Tcp(addr) => connect::begin_tcp(*addr).map_err(|e| format!("cannot connect to {addr}: {e}")),
            Target::Unix(path) => connect::begin_unix(path).map_err(|e| format!("cannot connect to {}: {e}", path.display())),
        };
        match look {
            Look::Tcp(text) => Ok(How::Tcp(connect(&target::target(&fill(text))?)?)),
            Look::Http(text) => {
                let page = target::page(&fill(text))?;
                let request = format!(
                    "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: poolmaster\r\nAccept: */*\r\nConnection: close\r\n\r\n",
                    page.path, page.host
                );
                Ok(How::Http { fd: connect(&page.target)?, request: request.into_bytes(), reply: Vec::new() })
            }
            Look::Command(words) => {
                let argv: Vec<String> = words.iter().map(|word| fill(word)).collect();
                let pid = launch::run_beside(&argv, worker, &process.run, &self.common)?;
                Ok(How::Command { pid })
            }
        }
    }

    /// The descriptor of a look has something to say.
    pub(super) fn continue_look(&mut self, number: u64) {
        let Some(look) = self.looks.open.get_mut(&number) else { return };
        let answer = match &mut look.how {
            How::Command { .. } => return,
            How::Tcp(fd) => Some(connect::outcome(&*fd).is_ok()),
            How::Http { fd, request, reply } => match ask(fd, request, reply) {
                Asked::Unsent => None,
                Asked::Unheard => match self.epoll.modify(&*fd, Token::Look(number).into(), Interest::Read) {
                    Ok(()) => None,
                    Err(_) => Some(false),
                },
                Asked::Answered(good) => Some(good),
            },
        };
        if let Some(accepting) = answer {
            self.answer_look(number, accepting);
        }
    }

    fn answer_look(&mut self, number: u64, accepting: bool) {
        let Some(look) = self.looks.open.remove(&number) else { return };
        match &look.how {
            // A child may hold a copy of the descriptor for a moment: it would stay in the set.
            How::Tcp(fd) | How::Http { fd, .. } => drop(self.epoll.remove(fd)),
            // It may have ended, and be reaped soon: what is left of its group goes.
            How::Command { pid } => drop(kill_group(*pid, KILL)),
        }
        self.facts.push_back(Event::Looked { worker: look.worker, accepting });
    }

    /// A child has ended. True: it was a command that looked.
    pub(super) fn look_ended(&mut self, pid: i32, well: bool) -> bool {
        let Some(number) = self.looks.of_pid(pid) else { return false };
        self.answer_look(number, well);
        true
    }

    /// Answers the looks that have taken too long.
    pub(super) fn expire_looks(&mut self) {
        if self.looks.open.is_empty() {
            return;
        }
        let now = Master::now();
        let late: Vec<u64> = self.looks.open.iter().filter(|(_, look)| look.by <= now).map(|(number, _)| *number).collect();
        for number in late {
            self.answer_look(number, false);
        }
    }

    /// The worker is gone: there is nothing left to look at.
    pub(super) fn end_looks_at(&mut self, worker: WorkerId) {
        let its: Vec<u64> = self.looks.open.iter().filter(|(_, look)| look.worker == worker).map(|(number, _)| *number).collect();
        for number in its {
            self.answer_look(number, false);
        }
    }
}

enum Asked {
    /// Some of the request is still to be written.
    Unsent,
    /// All of it was written.
    Unheard,
    /// The status is known, or never will be.
    Answered(bool),
}

fn ask(fd: &OwnedFd, request: &mut Vec<u8>, reply: &mut Vec<u8>) -> Asked {
    let waits = |e: &std::io::Error| e.kind() == std::io::ErrorKind::WouldBlock;
    if !request.is_empty() {
        if connect::outcome(fd).is_err() {
            return Asked::Answered(false);
        }
        return match fdio::write(fd.as_fd(), request) {
            Ok(n) => {
                request.drain(..n.min(request.len()));
                if request.is_empty() { Asked::Unheard } else { Asked::Unsent }
            }
            Err(e) if waits(&e) => Asked::Unsent,
            Err(_) => Asked::Answered(false),
        };
    }
    let mut buffer = [0u8; FIRST_LINE];
    match fdio::read(fd.as_fd(), &mut buffer) {
        Ok(0) => Asked::Answered(status_is_good(reply).unwrap_or(false)),
        Ok(n) => {
            reply.extend(buffer.iter().take(n));
            match status_is_good(reply) {
                Some(good) => Asked::Answered(good),
                None if reply.len() >= FIRST_LINE => Asked::Answered(false),
                None => Asked::Unheard,
            }
        }
        Err(e) if waits(&e) => Asked::Unheard,
        Err(_) => Asked::Answered(false),
    }
}

/// 200 to 399; `None`: the first line is not whole yet.
fn status_is_good(reply: &[u8]) -> Option<bool> {
    let line = reply.split(|b| *b == b'\n').next().filter(|line| line.len() < reply.len())?;
    let mut words = line.split(|b| *b == b' ');
    let http = words.next().is_some_and(|word| word.starts_with(b"HTTP/"));
    let status = words.next().and_then(|word| std::str::from_utf8(word).ok()?.trim_end().parse::<u16>().ok());
    Some(http && status.is_some_and(|status| (200..400).contains(&status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_judged_once_it_is_whole() {
        for (reply, want) in [
            ("HTTP/1.1 200 OK\r\n", Some(true)),
            ("HTTP/1.0 399\r\nmore", Some(true)),
            ("HTTP/1.1 404 Not Found\r\n", Some(false)),
            ("HTTP/1.1 100 Continue\r\n", Some(false)),
            ("HTTP/1.1 503 x\n", Some(false)),
            ("SSH-2.0-OpenSSH\r\n", Some(false)),
            ("\n", Some(false)),
            ("HTTP/1.1 200 OK", None),
            ("", None),
        ] {
            assert_eq!(status_is_good(reply.as_bytes()), want, "{reply:?}");
        }
    }
}
