//! Owns all open connections: their places, their registration with epoll and their timers. A connection's place is its
//! token in epoll. Refuses to accept; that is the listener's.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::connection::{Connection, Fate, Scratch};
use super::reply::Site;

/// All open connections.
#[derive(Debug)]
pub(super) struct Connections {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    open: usize,
    answering: usize,
    /// The connections' own timers (delayed answers, lingering), soonest first.
    timers: BTreeSet<(Instant, usize)>,
    /// When the next connection may have been idle for too long. Looked at once for all, not moved at every request.
    sweep: Option<Instant>,
    idle_timeout: Duration,
    /// The grace for idle connections is over: whoever has no answer due is closed.
    no_idling: bool,
    scratch: Scratch,
    /// A client asked for a crash, and it is allowed.
    pub(super) crash: bool,
}

#[derive(Debug)]
struct Place {
    connection: Connection,
    registered: Option<EpollFlags>,
    timer: Option<Instant>,
    answering: bool,
}

/// What a turn works with.
pub(super) struct Surroundings<'a> {
    pub(super) epoll: &'a Epoll,
    pub(super) site: &'a mut Site,
    pub(super) now: Instant,
}

impl Connections {
    pub(super) fn new(idle_timeout: Duration) -> Self {
        Connections {
            places: Vec::new(),
            free: Vec::new(),
            open: 0,
            answering: 0,
            timers: BTreeSet::new(),
            sweep: None,
            idle_timeout,
            no_idling: false,
            scratch: Scratch::new(),
            crash: false,
        }
    }

    /// Open connections.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Those among them with a request received whose answer is not out yet.
    pub(super) fn answering(&self) -> usize {
        self.answering
    }

    /// When [`Connections::expire`] has to be called.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.timers.first().map(|(at, _)| *at), self.sweep].into_iter().flatten().min()
    }

    /// Takes a new connection in. Its first request has mostly arrived by now: reading at once saves a turn of the loop,
    /// and a short connection is never registered at all.
    pub(super) fn admit(&mut self, fd: OwnedFd, around: &mut Surroundings<'_>) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let connection = Connection::new(fd, around.now);
        self.places[index] = Some(Place { connection, registered: None, timer: None, answering: false });
        self.open += 1;
        if self.sweep.is_none() {
            self.sweep = Some(around.now + self.idle_timeout);
        }
        self.turn(index, EpollFlags::EPOLLIN, around);
    }

    /// Epoll reported events for the connection at this place.
    pub(super) fn turn(&mut self, index: usize, events: EpollFlags, around: &mut Surroundings<'_>) {
        self.with(index, around, |connection, scratch, around| connection.turn(events, scratch, around.site, around.now));
    }

    /// Serves the timers that are due, and closes connections that were idle for too long.
    pub(super) fn expire(&mut self, around: &mut Surroundings<'_>) {
        while let Some((_, index)) = self.timers.first().copied().filter(|(at, _)| *at <= around.now) {
            self.with(index, around, |connection, scratch, around| connection.expire(scratch, around.site, around.now));
        }
        if self.sweep.is_some_and(|at| at <= around.now) {
            let limit = self.idle_timeout;
            self.each(around, |connection, now| {
                let idle = connection.timer.is_none() && connection.active + limit <= now;
                if !idle {
                    return Fate::Open;
                }
                // Idle with output left: the client does not read. There is nobody to say goodbye to.
                if connection.is_answering() { Fate::Closed } else { connection.finish(now) }
            });
            let oldest = self.places.iter().flatten().filter(|p| p.timer.is_none()).map(|p| p.connection.active).min();
            self.sweep = (self.open > 0).then(|| oldest.unwrap_or(around.now) + limit);
        }
    }

    /// The grace for idle connections is over. A connection with an answer due gets it; the others are ended.
    pub(super) fn end_idling(&mut self, around: &mut Surroundings<'_>) {
        self.no_idling = true;
        self.each(around, |connection, now| if connection.is_answering() { Fate::Open } else { connection.finish(now) });
    }

    fn each(&mut self, around: &mut Surroundings<'_>, mut act: impl FnMut(&mut Connection, Instant) -> Fate) {
        for index in 0..self.places.len() {
            self.with(index, around, |connection, _, around| act(connection, around.now));
        }
    }

    /// Lets a connection act, then puts registration, timer and counts in agreement with what it has become.
    fn with(
        &mut self,
        index: usize,
        around: &mut Surroundings<'_>,
        act: impl FnOnce(&mut Connection, &mut Scratch, &mut Surroundings<'_>) -> Fate,
    ) {
        let Some(place) = self.places.get_mut(index).and_then(Option::as_mut) else { return };
        let mut fate = act(&mut place.connection, &mut self.scratch, around);
        self.crash |= fate == Fate::Crash;
        if self.no_idling && fate == Fate::Open && !place.connection.is_answering() {
            fate = place.connection.finish(around.now);
        }
        if fate == Fate::Open && register(place, index, around.epoll).is_err() {
            fate = Fate::Closed;
        }
        let open = fate == Fate::Open;
        let timer = place.connection.timer.filter(|_| open);
        if timer != place.timer {
            if let Some(at) = place.timer {
                self.timers.remove(&(at, index));
            }
            if let Some(at) = timer {
                self.timers.insert((at, index));
            }
            place.timer = timer;
        }
        let answering = open && place.connection.is_answering();
        if answering != place.answering {
            place.answering = answering;
            self.answering = if answering { self.answering + 1 } else { self.answering - 1 };
        }
        if !open {
            // Closing the descriptor takes it out of epoll: nobody else holds this connection.
            self.places[index] = None;
            self.free.push(index);
            self.open -= 1;
            if self.open == 0 {
                self.sweep = None;
            }
        }
    }
}

/// Tells epoll what the connection waits for, if that changed.
fn register(place: &mut Place, index: usize, epoll: &Epoll) -> Result<(), Errno> {
    let wanted = place.connection.interest();
    if place.registered == Some(wanted) {
        return Ok(());
    }
    let mut event = EpollEvent::new(wanted, index as u64);
    match place.registered {
        None => epoll.add(&place.connection.fd, event)?,
        Some(_) => epoll.modify(&place.connection.fd, &mut event)?,
    }
    place.registered = Some(wanted);
    Ok(())
}
