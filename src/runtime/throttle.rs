//! Owns the patience of the log with lines that others can have written as often as they like: some of a kind in a row, then a count.

use std::collections::BTreeMap;
use std::time::Duration;

use super::master::Master;
use crate::supervisor::{Time, count, human, signal_name};

/// Lines of one kind within one window; those beyond are counted.
const LINES: u32 = 5;
/// From the first of them on.
const WINDOW: Duration = Duration::from_secs(10);
/// Kinds that are told apart at once: others are one together.
const KINDS: usize = 64;

/// What is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Repeated {
    /// A client of a user that may not.
    Stranger(u32),
    /// A client for whom there is no place.
    NoPlace,
    /// An idle client that makes room.
    Idle,
    /// A client that does not read.
    Slow,
    /// Clients cannot be accepted.
    Accept,
    /// A signal that means nothing here.
    Signal(i32),
    /// One that does, by its name.
    MasterSignal(&'static str),
    /// A datagram of a stranger.
    Datagram,
    /// Descriptors that are not kept.
    Store,
    /// One of the others.
    Other,
}

impl Repeated {
    fn words(self) -> String {
        match self {
            Repeated::Stranger(uid) => format!("control clients of uid {uid} turned away"),
            Repeated::NoPlace => "control clients turned away for want of a place".to_owned(),
            Repeated::Idle => "idle control clients closed".to_owned(),
            Repeated::Slow => "control clients closed that did not read".to_owned(),
            Repeated::Accept => "failed tries to accept a control client".to_owned(),
            Repeated::Signal(signal) => format!("times {}", signal_name(signal)),
            Repeated::MasterSignal(name) => format!("times SIG{name}"),
            Repeated::Datagram => "notify datagrams dropped".to_owned(),
            Repeated::Store => "descriptors not kept".to_owned(),
            Repeated::Other => "lines like those before".to_owned(),
        }
    }
}

#[derive(Debug)]
struct Window {
    end: Time,
    told: u32,
    untold: u32,
}

/// The windows that are open.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    open: BTreeMap<Repeated, Window>,
}

impl Throttle {
    /// May one more be told of? Else it is counted.
    pub(super) fn lets(&mut self, kind: Repeated, now: Time) -> bool {
        let kind = if self.open.len() >= KINDS && !self.open.contains_key(&kind) { Repeated::Other } else { kind };
        let window = self.open.entry(kind).or_insert(Window { end: now + WINDOW, told: 0, untold: 0 });
        let lets = window.told < LINES;
        if lets {
            window.told += 1;
        } else {
            window.untold = window.untold.saturating_add(1);
        }
        lets
    }

    /// When there is a count to be told. A window without one needs nobody to be woken: it closes with the next look.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.open.values().filter(|window| window.untold > 0).map(|window| window.end).min()
    }

    /// Closes the windows that are over; gives what was counted.
    pub(super) fn close(&mut self, now: Time) -> Vec<(Repeated, u32)> {
        let mut counted = Vec::new();
        self.open.retain(|kind, window| {
            let open = window.end > now;
            if !open && window.untold > 0 {
                counted.push((*kind, window.untold));
            }
            open
        });
        counted
    }
}

impl Master {
    /// May a line of this kind be logged once more?
    pub(super) fn tells(&mut self, kind: Repeated) -> bool {
        let now = Master::now();
        self.tell_repeated(now);
        self.throttle.lets(kind, now)
    }

    /// Tells what was counted.
    pub(super) fn tell_repeated(&mut self, now: Time) {
        for (kind, more) in self.throttle.close(now) {
            let more = count(more, "more line");
            tracing::warn!("{more} of the last {} not shown: {}", human(WINDOW), kind.words());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    #[test]
    fn a_flood_is_some_lines_and_a_count() {
        let mut throttle = Throttle::default();
        let told = (0..1000).filter(|_| throttle.lets(Repeated::NoPlace, at(1))).count();
        assert_eq!((told, throttle.next_deadline()), (5, Some(at(11))));
        assert!(throttle.lets(Repeated::Slow, at(2)), "another kind has its own");
        assert_eq!(throttle.close(at(10)), []);
        assert_eq!(throttle.close(at(11)), [(Repeated::NoPlace, 995)]);
        assert!(throttle.lets(Repeated::NoPlace, at(12)), "a new window");
        assert_eq!(throttle.next_deadline(), None, "nothing to tell: nobody is woken");
    }

    #[test]
    fn kinds_are_bounded() {
        let mut throttle = Throttle::default();
        let told = (0..1000).filter(|uid| throttle.lets(Repeated::Stranger(*uid), at(1))).count();
        assert_eq!(told, KINDS + 5);
        assert!(throttle.open.len() <= KINDS + 1);
    }
}
