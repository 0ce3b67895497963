//! Owns what the numbers from the signalfd mean: the classic set, and the real-time signals that belong to pools.

use std::collections::BTreeMap;

use crate::config::spec::Pool;
use crate::protocol::SignalEntry;
use crate::supervisor::{Event, MasterSignal, PoolId, Sender};

/// The classic signals, with what each does, in the words of `poolmaster signals`.
pub(super) const CLASSIC: [(i32, MasterSignal, &str); 9] = [
    (1, MasterSignal::Hup, "re-read the config, replace all workers"),
    (2, MasterSignal::Int, "stop quickly; again: SIGKILL to all"),
    (3, MasterSignal::Quit, "as SIGINT"),
    (10, MasterSignal::Usr1, "reopen log files (and reopen_signal)"),
    (12, MasterSignal::Usr2, "start a second master on the same sockets"),
    (15, MasterSignal::Term, "stop gracefully; again: quickly, then KILL"),
    (21, MasterSignal::Ttin, "one worker more"),
    (22, MasterSignal::Ttou, "one worker fewer, never below one"),
    (28, MasterSignal::Winch, "park all pools (ignored on a terminal)"),
];

/// SIGHUP's number.
pub(super) const HUP: i32 = 1;
/// SIGTERM's number.
pub(super) const TERM: i32 = 15;
/// SIGCHLD's number.
pub(super) const CHLD: i32 = 17;
/// SIGWINCH's number.
pub(super) const WINCH: i32 = 28;

/// What a real-time signal means for a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Up,
    Down,
    Restart,
}

/// The real-time signals of all pools.
#[derive(Debug, Default)]
pub(super) struct SignalMap {
    by_number: BTreeMap<i32, (PoolId, Meaning)>,
}

impl SignalMap {
    pub(super) fn of(pools: &[Pool]) -> SignalMap {
        let mut by_number = BTreeMap::new();
        for pool in pools {
            let own =
                [(pool.signals.up, Meaning::Up), (pool.signals.down, Meaning::Down), (pool.signals.restart, Meaning::Restart)];
            for (number, meaning) in own {
                if let Some(number) = number {
                    by_number.insert(number, (pool.spec.id, meaning));
                }
            }
        }
        SignalMap { by_number }
    }

    /// A signal that would mean two things.
    pub(super) fn twice(pools: &[Pool]) -> Option<i32> {
        let mut seen = std::collections::BTreeSet::new();
        let all = pools.iter().flat_map(|p| [p.signals.up, p.signals.down, p.signals.restart]).flatten();
        all.into_iter().find(|number| !seen.insert(*number))
    }

    /// Every signal that does something, for people.
    pub(super) fn entries(&self, pid: i32, default_pool: Option<&str>, name: impl Fn(PoolId) -> String) -> Vec<SignalEntry> {
        let mut entries: Vec<SignalEntry> = CLASSIC
            .iter()
            .map(|(number, signal, effect)| {
                let of_pool = matches!(signal, MasterSignal::Ttin | MasterSignal::Ttou);
                let pool = default_pool.filter(|_| of_pool);
                let effect = if of_pool && pool.is_none() { "nothing: several pools, no master.default_pool" } else { effect };
                SignalEntry::new(*number, effect, pool.map(str::to_owned), pid)
            })
            .collect();
        for (number, (pool, meaning)) in &self.by_number {
            let effect = match meaning {
                Meaning::Up => "one worker more",
                Meaning::Down => "one worker fewer, never below one",
                Meaning::Restart => "replace all workers",
            };
            entries.push(SignalEntry::new(*number, effect, Some(name(*pool)), pid));
        }
        entries.sort_by_key(|e| e.number);
        entries
    }
}

/// The signals of one turn. The kernel hands real-time signals out by number, not by time: those that scale are summed for each pool.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) child: bool,
    events: Vec<Event>,
    sums: BTreeMap<PoolId, (i64, Sender)>,
    unknown: Vec<(i32, Sender)>,
}

impl Heard {
    pub(super) fn add(&mut self, signal: i32, sender: Sender, map: &SignalMap) {
        if signal == CHLD {
            self.child = true;
        } else if let Some((_, known, _)) = CLASSIC.iter().find(|(n, ..)| *n == signal) {
            self.events.push(Event::Signal { signal: *known, sender });
        } else {
            match map.by_number.get(&signal) {
                Some((pool, Meaning::Up)) => self.sum(*pool, 1, sender),
                Some((pool, Meaning::Down)) => self.sum(*pool, -1, sender),
                Some((pool, Meaning::Restart)) => {
                    let event = Event::RestartSignal { pool: *pool, sender };
                    if !self.events.contains(&event) {
                        self.events.push(event);
                    }
                }
                None => self.unknown.push((signal, sender)),
            }
        }
    }

    fn sum(&mut self, pool: PoolId, by: i64, sender: Sender) {
        let entry = self.sums.entry(pool).or_insert((0, sender));
        *entry = (entry.0 + by, sender);
    }

    /// The facts, and the signals that mean nothing.
    pub(super) fn finish(self) -> (Vec<Event>, Vec<(i32, Sender)>) {
        let mut events = self.events;
        // New workers are started before surplus ones are stopped.
        let (grow, shrink): (Vec<_>, Vec<_>) = self.sums.into_iter().partition(|(_, (by, _))| *by > 0);
        let sums = grow.into_iter().chain(shrink);
        events.extend(sums.map(|(pool, (by, sender))| Event::ScaleSignals { pool, by, sender }));
        (events, self.unknown)
    }
}
