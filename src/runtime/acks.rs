//! Owns the sockets on which Einhorn's workers acknowledge that they run: one for each pool that speaks so. Who acknowledges is told by the
//! kernel, not by the message.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use super::dialects::ACKS;
use super::master::Master;
use super::pools::PoolRun;
use super::token::Token;
use crate::os::epoll::{Epoll, Interest};
use crate::os::handover::{BoundState, Taken};
use crate::os::io as fdio;
use crate::os::process::session_of;
use crate::os::unix::{Accepted, ControlListener};
use crate::supervisor::{Event, Notification, PoolId};

/// Connections that may be open at once, for all pools; beyond, the oldest goes.
const CONNECTIONS: usize = 64;
/// Longest message.
const LONGEST: usize = 4096;
/// Connections taken in one turn.
const ACCEPTS: usize = 32;

/// One connection.
#[derive(Debug)]
struct Ack {
    fd: OwnedFd,
    pid: i32,
    pool: PoolId,
    text: Vec<u8>,
}

/// Where the workers of a pool acknowledge.
#[derive(Debug)]
struct AckSocket {
    pool: PoolId,
    listener: ControlListener,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// By numbers that are never used twice. A pool has several only while a config is tried in which they are elsewhere.
    sockets: BTreeMap<u64, AckSocket>,
    open: BTreeMap<u64, Ack>,
    next: u64,
}

impl Acks {
    /// A worker is saying something.
    pub(super) fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    /// For the next image of the master.
    pub(super) fn state(&self) -> std::io::Result<BTreeMap<PoolId, BoundState>> {
        self.sockets.values().map(|socket| Ok((socket.pool, socket.listener.state()?))).collect()
    }

    /// As the image before has left them.
    pub(super) fn restore(state: BTreeMap<PoolId, BoundState>, taken: &mut Taken) -> std::io::Result<Acks> {
        let mut one =
            |(number, (pool, socket))| Ok((number, AckSocket { pool, listener: ControlListener::restore(socket, taken)? }));
        let sockets: BTreeMap<_, _> = (0..).zip(state).map(&mut one).collect::<std::io::Result<_>>()?;
        Ok(Acks { next: u64::try_from(sockets.len()).unwrap_or(0), sockets, ..Acks::default() })
    }

    /// From now on they are heard.
    pub(super) fn watch(&self, epoll: &Epoll) -> std::io::Result<()> {
        self.sockets
            .iter()
            .try_for_each(|(number, socket)| epoll.add(socket.listener.as_fd(), Token::Acks(*number).into(), Interest::Read))
    }

    fn of(&self, pool: PoolId) -> impl Iterator<Item = (u64, &AckSocket)> {
        self.sockets.iter().filter(move |(_, socket)| socket.pool == pool).map(|(number, socket)| (*number, socket))
    }
}

impl Master {
    /// Opens the socket of a pool that needs one and has none, at the place where its workers look. One that is there keeps its owner.
    pub(super) fn open_acks(&mut self, id: PoolId, run: &PoolRun) -> std::io::Result<()> {
        let Some(path) = place_of(run) else { return Ok(()) };
        if self.acks.of(id).any(|(_, socket)| socket.listener.path() == path) {
            return Ok(());
        }
        let listener = ControlListener::bind(&path, 0o600)?;
        let number = self.acks.next;
        self.acks.next += 1;
        self.epoll.add(listener.as_fd(), Token::Acks(number).into(), Interest::Read)?;
        let owned = run.workers.uid().map_or(Ok(()), |uid| listener.set_owner(uid));
        self.acks.sockets.insert(number, AckSocket { pool: id, listener });
        owned
    }

    /// Gives it to the user of these workers.
    pub(super) fn give_acks(&self, run: &PoolRun) -> std::io::Result<()> {
        let (Some(path), uid) = (place_of(run), run.workers.uid().unwrap_or(self.uid)) else { return Ok(()) };
        let socket = self.acks.of(run.config.spec.id).find(|(_, socket)| socket.listener.path() == path);
        socket.map_or(Ok(()), |(_, socket)| socket.listener.set_owner(uid))
    }

    /// Closes those of the pool in which none of these acknowledge.
    pub(super) fn keep_acks(&mut self, id: PoolId, runs: &[Rc<PoolRun>]) {
        let places: Vec<PathBuf> = runs.iter().filter_map(|run| place_of(run)).collect();
        let others = self.acks.of(id).filter(|(_, socket)| places.iter().all(|place| socket.listener.path() != place));
        let others: Vec<u64> = others.map(|(number, _)| number).collect();
        others.into_iter().for_each(|number| self.close_ack_socket(number));
    }

    /// The pool is gone.
    pub(super) fn close_acks(&mut self, id: PoolId) {
        let all: Vec<u64> = self.acks.of(id).map(|(number, _)| number).collect();
        all.into_iter().for_each(|number| self.close_ack_socket(number));
    }

    fn close_ack_socket(&mut self, number: u64) {
        if let Some(AckSocket { listener, .. }) = self.acks.sockets.remove(&number) {
            let _ = self.epoll.remove(listener.as_fd());
            let _ = listener.unlink();
        }
    }

    /// Takes new connections of a pool's workers.
    pub(super) fn accept_acks(&mut self, number: u64) {
        let Some(AckSocket { pool, listener: socket }) = self.acks.sockets.get(&number) else { return };
        let id = *pool;
        let mut new = Vec::new();
        for _ in 0..ACCEPTS {
            match socket.accept() {
                Ok(Accepted::Client(fd, peer)) => new.push((fd, peer.pid)),
                // A worker that finds nobody says what it has to say with its next try.
                Ok(Accepted::Last(..) | Accepted::Gone) => {}
                Ok(Accepted::Idle) | Err(_) => break,
            }
        }
        for (fd, pid) in new {
            if self.acks.open.len() >= CONNECTIONS
                && let Some((_, oldest)) = self.acks.open.pop_first()
            {
                let _ = self.epoll.remove(oldest.fd.as_fd());
            }
            let number = self.acks.next;
            self.acks.next += 1;
            if self.epoll.add(fd.as_fd(), Token::Ack(number).into(), Interest::Read).is_ok() {
                self.acks.open.insert(number, Ack { fd, pid, pool: id, text: Vec::new() });
            }
        }
    }

    /// A worker says something on its connection.
    pub(super) fn read_ack(&mut self, number: u64) {
        let Some(ack) = self.acks.open.get_mut(&number) else { return };
        let mut buffer = [0u8; LONGEST];
        let ended = match fdio::read(ack.fd.as_fd(), &mut buffer) {
            Ok(0) => true,
            Ok(n) => {
                ack.text.extend(buffer.iter().take(n));
                ack.text.contains(&b'\n') || ack.text.len() >= LONGEST
            }
            Err(e) => e.kind() != std::io::ErrorKind::WouldBlock,
        };
        if !ended {
            return;
        }
        let Some(ack) = self.acks.open.remove(&number) else { return };
        let _ = self.epoll.remove(ack.fd.as_fd());
        if is_ack(&ack.text) {
            // The worker itself, or a process of its session.
            let leader = [Some(ack.pid), session_of(ack.pid)].into_iter().flatten();
            let process = leader.into_iter().find_map(|pid| self.processes.number_of_pid(pid));
            let worker = process.and_then(|number| self.processes.get(number)).map(|p| p.id).filter(|id| id.pool == ack.pool);
            match worker {
                Some(worker) => {
                    if let Some(number) = process {
                        self.read_exec(number);
                    }
                    self.feed(Event::Notified { worker, message: Notification::Ready });
                }
                None => tracing::debug!(pid = ack.pid, "dropped an acknowledgement of a process that is no worker of the pool"),
            }
        }
    }
}

/// Where its workers acknowledge; `None`: they speak otherwise.
fn place_of(run: &PoolRun) -> Option<PathBuf> {
    run.config.launch.protocols.einhorn.then(|| run.notify_dir.join(ACKS))
}

/// JSON as Einhorn's documentation has it, or the escaped YAML that its own library sends.
fn is_ack(text: &[u8]) -> bool {
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    match serde_json::from_slice::<serde_json::Value>(line) {
        Ok(message) => message["command"] == "worker:ack",
        Err(_) => String::from_utf8_lossy(line).replace("%0A", "\n").lines().any(|line| {
            let (key, value) = line.split_once(':').unwrap_or_default();
            key.trim_matches(['"', '\'', ':', ' ']) == "command" && value.trim_matches(['"', '\'', ' ']) == "worker:ack"
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_known_in_both_spellings() {
        for (text, want) in [
            ("{\"command\":\"worker:ack\",\"pid\":12}\n", true),
            ("---%0Acommand: worker:ack%0Apid: 12%0A\n", true),
            ("--- %0A\"command\": \"worker:ack\"%0A\n", true),
            ("{\"command\":\"ehlo\"}\n", false),
            ("---%0Acommand: ehlo%0Anote: worker:ack%0A\n", false),
            ("worker:ack\n", false),
            ("", false),
            ("\u{0}\n", false),
        ] {
            assert_eq!(is_ack(text.as_bytes()), want, "{text:?}");
        }
    }
}
