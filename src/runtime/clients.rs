//! Owns the control clients: a bounded number of them, with bounded buffers. One that stalls or floods costs itself only.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::handover::ClientState;
use super::master::Master;
use super::progress::Watch;
use super::throttle::Repeated;
use super::token::Token;
use crate::os::epoll::{Epoll, Interest};
use crate::os::handover::{Passed, Taken};
use crate::os::io as fdio;
use crate::os::unix::{Accepted, PeerCred};
use crate::protocol::{ErrorName, Failure, LineBuffer, MAX_FRAME, encode_failure};
use crate::supervisor::{CommandId, Event, Time, human};

/// Clients at once. Beyond it the one that has been idle longest makes room; when all of them wait for their orders, there is no place.
const CLIENTS: usize = 256;
/// A client that has asked for nothing for so long may have to make room.
const AT_REST: Duration = Duration::from_millis(100);
/// After an error, clients are not looked at for so long.
const DEAF: Duration = Duration::from_millis(100);
/// Bytes read from one client in one turn.
const SLICE: usize = 16 * 1024;
/// Requests of one client served in one go. More of them wait for the next turn.
const REQUESTS: usize = 16;
/// Bytes of unsent replies beyond which a client's next request waits until it has read some.
const UNSENT: usize = 256 * 1024;
/// Bytes of replies held for all clients together, beyond which the slowest reader is dropped.
const HELD: usize = 64 * 1024 * 1024;
/// Connections taken in one turn.
const ACCEPTS: usize = 16;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// The effect of an order.
    Order(CommandId),
    /// A config that has to be read first.
    Plan,
    /// Another program in the place of this one.
    Upgrade,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    fd: OwnedFd,
    pub(super) peer: PeerCred,
    input: LineBuffer,
    output: Vec<u8>,
    sent: usize,
    /// What it waits for. Its next request is read only after the answer.
    pub(super) waiting: Option<Awaits>,
    /// It wants to hear how that goes.
    pub(super) watch: Option<Watch>,
    /// Close once everything is sent.
    closing: bool,
    /// It has sent all that it will.
    ended: bool,
    interest: Interest,
    /// When it last came, or sent something: for the choice of the longest idle.
    used: Time,
}

impl Client {
    /// Bytes of replies that it has not taken yet.
    pub(super) fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Whole requests wait here for their turn.
    fn has_requests(&self) -> bool {
        self.waiting.is_none() && !self.closing && self.input.has_frame()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Clients {
    by_number: BTreeMap<u64, Client>,
    next: u64,
    /// Clients that have something to send.
    dirty: Vec<u64>,
    /// Until when nobody is accepted.
    pub(super) deaf_until: Option<Time>,
}

impl Clients {
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Client> {
        self.by_number.get_mut(&number)
    }

    /// Puts bytes into a client's output.
    pub(super) fn send(&mut self, number: u64, bytes: &[u8]) {
        if let Some(client) = self.by_number.get_mut(&number) {
            client.output.extend_from_slice(bytes);
            self.dirty.push(number);
        }
    }

    /// The answer to a `plan`.
    pub(super) fn answer_plan(&mut self, number: u64, line: &[u8]) {
        if let Some(client) = self.by_number.get_mut(&number) {
            client.waiting = None;
            self.send(number, line);
        }
    }

    /// Somebody wants to hear how an order goes.
    pub(super) fn has_watchers(&self) -> bool {
        self.by_number.values().any(|client| client.watch.is_some())
    }

    /// Who does.
    pub(super) fn watchers(&self) -> Vec<u64> {
        self.by_number.iter().filter(|(_, client)| client.watch.is_some()).map(|(number, _)| *number).collect()
    }

    fn held(&self) -> usize {
        self.by_number.values().map(Client::unsent).sum()
    }

    fn slowest(&self) -> Option<u64> {
        self.by_number.iter().max_by_key(|(_, c)| c.unsent()).map(|(n, _)| *n)
    }

    /// The longest idle one of those that wait for no answer. One that has just come may be about to ask something.
    fn to_evict(&self, now: Time) -> Option<u64> {
        let rests = |c: &Client| c.waiting.is_none() && c.unsent() == 0 && !c.has_requests() && now - c.used >= AT_REST;
        let idle = self.by_number.iter().filter(|(_, c)| rests(c));
        idle.min_by_key(|(_, c)| c.used).map(|(n, _)| *n)
    }
}

impl Clients {
    /// For the next image of the master.
    pub(super) fn state(&self) -> io::Result<Vec<ClientState>> {
        let one = |(number, client): (&u64, &Client)| {
            Ok(ClientState {
                number: *number,
                fd: Passed::of(&client.fd)?,
                peer: client.peer,
                input: client.input.rest().to_vec(),
                output: client.output.get(client.sent..).unwrap_or_default().to_vec(),
                order: client.waiting.and_then(|awaits| match awaits {
                    Awaits::Order(id) => Some(id),
                    Awaits::Plan | Awaits::Upgrade => None,
                }),
            })
        };
        // One that is on its way out has heard all that it will.
        self.by_number.iter().filter(|(_, client)| !client.closing && !client.ended).map(one).collect()
    }

    /// As the image before has left them.
    pub(super) fn restore(state: Vec<ClientState>, now: Time, taken: &mut Taken) -> io::Result<Clients> {
        let mut clients = Clients::default();
        for one in state {
            clients.next = clients.next.max(one.number + 1);
            if !one.output.is_empty() {
                clients.dirty.push(one.number);
            }
            let client = Client {
                fd: taken.take(&one.fd)?,
                peer: one.peer,
                input: LineBuffer::resume(MAX_FRAME, &one.input),
                output: one.output,
                sent: 0,
                waiting: one.order.map(Awaits::Order),
                watch: None,
                closing: false,
                ended: false,
                interest: Interest::Read,
                used: now,
            };
            clients.by_number.insert(one.number, client);
        }
        Ok(clients)
    }

    /// From now on they are heard.
    pub(super) fn watch(&self, epoll: &Epoll) -> io::Result<()> {
        self.by_number
            .iter()
            .try_for_each(|(number, client)| epoll.add(client.fd.as_fd(), Token::Client(*number).into(), Interest::Read))
    }

    /// One waits for what is done beside the loop.
    pub(super) fn plans(&self) -> bool {
        self.by_number.values().any(|client| client.waiting == Some(Awaits::Plan))
    }
}

/// The other side is closed altogether, not only for sending.
fn is_gone(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    let asked = poll(&mut fds, PollTimeout::ZERO);
    asked.is_ok() && fds[0].revents().is_some_and(|r| r.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

impl Master {
    /// Who comes to the name that the master has, or to one that it is about to take.
    fn next_client(&self) -> io::Result<Accepted> {
        let offered = self.staged.values().filter_map(|staged| staged.names.control());
        for control in std::iter::once(&self.files.control).chain(offered) {
            match control.accept()? {
                Accepted::Idle => {}
                came => return Ok(came),
            }
        }
        Ok(Accepted::Idle)
    }

    /// Takes new connections.
    pub(super) fn accept_clients(&mut self) {
        for _ in 0..ACCEPTS {
            match self.next_client() {
                Ok(Accepted::Client(fd, peer)) => self.welcome(fd, peer),
                Ok(Accepted::Last(fd, peer)) => {
                    if self.may_give_orders(&fd, peer) && self.make_room("no descriptor is left (ulimit -n)") {
                        self.welcome_in(fd, peer);
                    } else {
                        self.has_no_place(&fd, peer, "no descriptor is left for another one: raise the limit (ulimit -n)");
                    }
                }
                Ok(Accepted::Gone) => {}
                Ok(Accepted::Idle) => return,
                Err(e) => {
                    if self.tells(Repeated::Accept) {
                        tracing::warn!("cannot accept a control client: {e}; trying again in {}", human(DEAF));
                    }
                    // It is still there, and would wake the loop at once.
                    let _ = self.epoll.modify(self.files.control.as_fd(), Token::Control.into(), Interest::Hangup);
                    self.clients.deaf_until = Some(Master::now() + DEAF);
                    return;
                }
            }
        }
    }

    /// Clients are looked at again.
    pub(super) fn hear_again(&mut self) {
        if self.clients.deaf_until.is_some_and(|at| at <= Master::now()) {
            self.clients.deaf_until = None;
            let _ = self.epoll.modify(self.files.control.as_fd(), Token::Control.into(), Interest::Read);
        }
    }

    /// Else it is told.
    fn may_give_orders(&mut self, fd: &OwnedFd, peer: PeerCred) -> bool {
        let allowed = peer.uid == 0 || peer.uid == self.uid || self.socket_uids.contains(&peer.uid);
        if !allowed {
            if self.tells(Repeated::Stranger(peer.uid)) {
                let (uid, pid) = (peer.uid, peer.pid);
                tracing::warn!(uid, pid, "a control client was turned away: its user may not (master.socket_users)");
            }
            let text = format!("uid {} may not control this master; see master.socket_users", peer.uid);
            let _ = fdio::write(fd.as_fd(), &encode_failure(&Failure::new(ErrorName::NotPermitted, text)));
        }
        allowed
    }

    /// Closes the longest idle client. False: all of them wait for an answer.
    fn make_room(&mut self, why: &str) -> bool {
        let Some(idle) = self.clients.to_evict(Master::now()) else { return false };
        if self.tells(Repeated::Idle) {
            tracing::warn!("{why}: the longest idle control client was closed for a new one");
        }
        self.drop_client(idle);
        true
    }

    fn has_no_place(&mut self, fd: &OwnedFd, peer: PeerCred, why: &str) {
        if self.tells(Repeated::NoPlace) {
            let (uid, pid) = (peer.uid, peer.pid);
            tracing::warn!(uid, pid, "a control client was turned away: {why}");
        }
        let text = format!("the master has no place for another client: {why}; try again");
        let _ = fdio::write(fd.as_fd(), &encode_failure(&Failure::new(ErrorName::Busy, text)));
    }

    fn welcome(&mut self, fd: OwnedFd, peer: PeerCred) {
        if !self.may_give_orders(&fd, peer) {
            return;
        }
        let full = self.clients.by_number.len() >= CLIENTS;
        if full && !self.make_room(&format!("{CLIENTS} control clients at once")) {
            let why = format!("{CLIENTS} wait for the effect of their orders already (--no-wait does not)");
            return self.has_no_place(&fd, peer, &why);
        }
        self.welcome_in(fd, peer);
    }

    fn welcome_in(&mut self, fd: OwnedFd, peer: PeerCred) {
        let number = self.clients.next;
        if let Err(e) = self.epoll.add(fd.as_fd(), Token::Client(number).into(), Interest::Read) {
            return self.has_no_place(&fd, peer, &format!("it cannot be watched: {e}"));
        }
        self.clients.next += 1;
        let client = Client {
            fd,
            peer,
            input: LineBuffer::new(MAX_FRAME),
            output: Vec::new(),
            sent: 0,
            waiting: None,
            watch: None,
            closing: false,
            ended: false,
            interest: Interest::Read,
            used: Master::now(),
        };
        self.clients.by_number.insert(number, client);
    }

    /// A client can be read from or written to.
    pub(super) fn serve_client(&mut self, number: u64, readable: bool, writable: bool) {
        if readable && !self.read_client(number) {
            return self.drop_client(number);
        }
        self.serve_requests(number);
        if writable {
            self.clients.dirty.push(number);
        }
    }

    /// One turn's share; false when the connection is over.
    fn read_client(&mut self, number: u64) -> bool {
        let used = Master::now();
        let Some(client) = self.clients.get_mut(number) else { return true };
        client.used = used;
        let mut buffer = [0u8; SLICE];
        match fdio::read(client.fd.as_fd(), &mut buffer) {
            Ok(0) => {
                // It may have closed only its sending side, and still want its answers (`echo ... | socat`).
                client.ended = true;
                !is_gone(client.fd.as_fd())
            }
            Ok(n) => {
                client.input.push(buffer.get(..n).unwrap_or_default());
                true
            }
            Err(e) => matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// Serves the requests that have come whole, one after the other, as many as one turn allows.
    fn serve_requests(&mut self, number: u64) {
        for _ in 0..REQUESTS {
            let Some(client) = self.clients.get_mut(number) else { return };
            if client.waiting.is_some() || client.closing || client.unsent() >= UNSENT {
                break;
            }
            match client.input.next_frame() {
                Ok(Some(frame)) => self.serve_request(number, &frame),
                Ok(None) => {
                    client.closing = client.ended;
                    break;
                }
                Err(e) => {
                    client.closing = true;
                    let failure = Failure::new(ErrorName::BadMessage, format!("{e}; the connection is closed"));
                    self.clients.send(number, &encode_failure(&failure));
                    break;
                }
            }
        }
        self.clients.dirty.push(number);
    }

    /// Sends what can be sent; called once a turn, after all replies of the turn are known.
    pub(super) fn flush_clients(&mut self) {
        let mut dirty = std::mem::take(&mut self.clients.dirty);
        for number in dirty.drain(..) {
            if !self.flush_client(number) {
                self.drop_client(number);
            }
        }
        // The vector's room is kept for the next turn.
        if self.clients.dirty.is_empty() {
            self.clients.dirty = dirty;
        }
        while self.clients.held() > HELD {
            let Some(slowest) = self.clients.slowest() else { break };
            if self.tells(Repeated::Slow) {
                tracing::warn!("a control client does not read its replies: closed");
            }
            self.drop_client(slowest);
        }
    }

    fn flush_client(&mut self, number: u64) -> bool {
        let Some(client) = self.clients.by_number.get_mut(&number) else { return true };
        while let Some(rest) = client.output.get(client.sent..).filter(|r| !r.is_empty()) {
            match fdio::write(client.fd.as_fd(), rest) {
                Ok(n) => client.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        let all_sent = client.sent == client.output.len();
        if all_sent {
            client.output = Vec::new();
            client.sent = 0;
            if client.closing || (client.ended && client.waiting.is_none() && !client.input.has_frame()) {
                return false;
            }
        } else if client.sent >= UNSENT {
            // One that always reads a little, and never all, must not make us keep what it has.
            client.output.drain(..client.sent);
            client.sent = 0;
        }
        // A client that waits for an answer, has requests left, or does not read its replies is not read: what it sends meanwhile waits
        // in its own socket. Its end is still seen. Requests that are left go on as soon as there is room for a reply.
        let left = client.has_requests();
        let reads = client.waiting.is_none() && !client.closing && !client.ended && !left && client.unsent() < UNSENT;
        let interest = match (reads, all_sent && !left) {
            (true, true) => Interest::Read,
            (true, false) => Interest::ReadWrite,
            (false, false) => Interest::Write,
            (false, true) => Interest::Hangup,
        };
        if interest != client.interest {
            client.interest = interest;
            return self.epoll.modify(client.fd.as_fd(), Token::Client(number).into(), interest).is_ok();
        }
        true
    }

    /// Closes a connection; an order of its that is not done yet goes on without an answer.
    pub(super) fn drop_client(&mut self, number: u64) {
        let Some(client) = self.clients.by_number.remove(&number) else { return };
        if let Some(Awaits::Order(id)) = client.waiting {
            self.forget_order(id);
            self.feed(Event::Abandoned { id });
        }
    }

    /// The last replies, before the master ends: what the sockets take at once.
    pub(super) fn say_goodbye(&mut self) {
        let all: Vec<u64> = self.clients.by_number.keys().copied().collect();
        for number in all {
            self.flush_client(number);
        }
    }
}
