//! Owns the order of deadlines. One armed deadline for each holder; the earliest of all is what the driver waits for.

use std::collections::BTreeSet;

use super::{CommandId, PoolId, Time, WorkerId};

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// The whole shutdown.
    Shutdown,
    /// The connections that still wait when it begins.
    Linger,
    /// The end of a time of watching.
    Reload,
    /// A worker's earliest deadline.
    Worker(WorkerId),
    /// A slot's next attempt.
    Slot(PoolId, u32),
    /// A pool's next spawn or probe.
    Pool(PoolId),
    /// A command's answer.
    Command(CommandId),
}

/// All armed deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeSet<(Time, Key)>,
}

impl Timers {
    /// Moves the holder's deadline; `armed` is where the holder keeps what it has armed.
    pub(super) fn arm(&mut self, key: Key, armed: &mut Option<Time>, at: Option<Time>) {
        if *armed == at {
            return;
        }
        if let Some(old) = armed.take() {
            let held = self.set.remove(&(old, key));
            debug_assert!(held, "the holder and the timers agree on {key:?}");
        }
        if let Some(at) = at {
            self.set.insert((at, key));
            *armed = Some(at);
        }
    }

    /// Takes over what a holder has armed.
    pub(super) fn restore(&mut self, key: Key, armed: Option<Time>) {
        self.set.extend(armed.map(|at| (at, key)));
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Time> {
        self.set.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest holder whose deadline has passed. The holder's own `armed` has to be cleared by the caller.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Key> {
        let first = *self.set.first()?;
        (first.0 <= now).then(|| {
            self.set.remove(&first);
            first.1
        })
    }
}
