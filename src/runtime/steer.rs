//! Owns who of a pool's workers gets new connections where each slot has a socket of its own (`reuseport`): those that are ready. Before the
//! worker of a slot that goes for good is told to stop, it serves who waits at that socket; then the socket is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::master::Master;
use super::sockets::{FIRST, Slots, Socket};
use crate::supervisor::{Event, KILL, PoolId, Reason, Scope, Time, WorkerId, WorkerState, WorkerView, count};

/// Between two looks at a queue.
const PAUSE: Duration = Duration::from_millis(10);
/// A handshake that began before the slot was taken out comes to its queue at its end: this much later on a long line.
const HANDSHAKE: Duration = Duration::from_millis(250);

/// Pools to look at, and stop signals that are held back.
#[derive(Debug, Default)]
pub(super) struct Steering {
    changed: BTreeSet<PoolId>,
    draining: BTreeMap<WorkerId, Drain>,
    look_at: Option<Time>,
    /// Pools whose sockets could not be steered: told once.
    told: BTreeSet<PoolId>,
}

/// A stop signal that waits for a queue.
#[derive(Debug)]
struct Drain {
    signal: i32,
    scope: Scope,
    /// Not before.
    from: Time,
    /// Not after.
    until: Time,
}

impl Steering {
    /// Something happened to a worker of this pool.
    pub(super) fn changed(&mut self, pool: PoolId) {
        self.changed.insert(pool);
    }

    /// When to look at the queues again.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.look_at
    }
}

/// The slots that new connections go to: those with a ready worker; as long as there is none, those that will have one; without any, the
/// first, where they wait.
fn takers(workers: &[WorkerView<'_>]) -> BTreeSet<u32> {
    let wanted = || workers.iter().filter(|w| w.stopping.is_none());
    let ready: BTreeSet<u32> =
        wanted().filter(|w| matches!(w.state, WorkerState::Ready | WorkerState::Good)).map(|w| w.id.slot).collect();
    if !ready.is_empty() {
        return ready;
    }
    let coming: BTreeSet<u32> = wanted().map(|w| w.id.slot).collect();
    if coming.is_empty() { BTreeSet::from([FIRST]) } else { coming }
}

impl Master {
    /// The sockets of a pool's slots, those of an earlier config included as long as a worker has them.
    fn slotted(&self, pool: PoolId) -> Vec<Rc<Socket>> {
        let current = self.runs.get(&pool).into_iter().flat_map(|run| run.sockets.iter());
        let mut found: Vec<Rc<Socket>> = Vec::new();
        for socket in current.filter(|socket| socket.slots.is_some()) {
            found.push(Rc::clone(socket));
        }
        found
    }

    /// Sends new connections where they are served, and closes the sockets of slots that are gone.
    pub(super) fn steer(&mut self) {
        while let Some(pool) = self.steering.changed.pop_first() {
            let sockets = self.slotted(pool);
            if sockets.is_empty() {
                continue;
            }
            let workers = self.core.workers(pool);
            let takers = takers(&workers);
            let takes = |slot: u32| takers.contains(&slot);
            for slots in sockets.iter().filter_map(|socket| socket.slots.as_ref()) {
                let failed = slots.group.borrow_mut().direct(takes).err();
                if let Some(e) = failed
                    && self.steering.told.insert(pool)
                {
                    tracing::warn!(
                        pool = self.name_of(pool),
                        "cannot keep new connections from slots that are not ready: {e}; the kernel spreads them over all slots"
                    );
                }
                self.close_unused(pool, slots, takes);
            }
        }
    }

    /// Closes the sockets of slots that nobody wants and no process has.
    fn close_unused(&self, pool: PoolId, slots: &Slots, takes: impl Fn(u32) -> bool + Copy) {
        let unwanted = |slot: &u32| *slot != FIRST && !self.core.wants(pool, *slot);
        let mut unused: BTreeSet<u32> = slots.group.borrow().members().map(|(slot, _)| slot).filter(unwanted).collect();
        if unused.is_empty() {
            return;
        }
        for process in self.processes.all().filter(|process| process.id.pool == pool) {
            unused.remove(&process.id.slot);
        }
        for slot in unused {
            let waiting = slots.group.borrow().waiting(slot).unwrap_or(0);
            if waiting > 0 {
                tracing::warn!(
                    pool = self.name_of(pool),
                    slot,
                    "the slot is gone, and {} waiting at its socket with it (sysctl net.ipv4.tcp_migrate_req=1 moves them to the others)",
                    count(waiting as usize, "connection")
                );
            }
            if let Err(e) = slots.group.borrow_mut().leave(slot, takes) {
                tracing::warn!(pool = self.name_of(pool), slot, "cannot close its socket in order: {e}");
            }
        }
    }

    /// The first stop signal to a worker that alone serves the queue of its slot is held back until nobody waits there. True: it is.
    pub(super) fn gate_of_queue(&mut self, worker: WorkerId, signal: i32, scope: Scope) -> bool {
        if let Some(held) = self.steering.draining.remove(&worker) {
            // A harder one comes first.
            self.facts.push_back(Event::Signalled { worker, signal: held.signal });
            return false;
        }
        let sockets = self.slotted(worker.pool);
        if sockets.is_empty() || signal == KILL {
            return false;
        }
        let goes = |reason: Option<Reason>| matches!(reason, Some(Reason::ScaleDown | Reason::Stopped | Reason::Parked));
        let workers = self.core.workers(worker.pool);
        let served = workers.iter().any(|w| w.id == worker && goes(w.stopping) && w.ready_at.is_some());
        // Of the slot's two, the other one serves on.
        let alone = !workers.iter().any(|w| w.id.slot == worker.slot && w.id != worker && w.stopping.is_none());
        let first = self.processes.of(worker).is_some_and(|p| {
            !p.exited && !p.told_to_stop && p.run.config.spec.stop.first().is_some_and(|step| step.signal == signal)
        });
        // Who waits at the last socket of all waits for the pool's return.
        let takers = takers(&workers);
        if !served || !alone || !first || takers.contains(&worker.slot) {
            return false;
        }
        // Its own time to stop runs already: half of it is left for the stop itself.
        let half = self.processes.of(worker).and_then(|p| p.run.config.spec.stop.first().map(|step| step.wait / 2));
        let longest = self.config.spec.linger.max(HANDSHAKE).min(half.unwrap_or(Duration::ZERO));
        let now = Master::now();
        let drain = Drain { signal, scope, from: now + HANDSHAKE.min(longest), until: now + longest };
        self.steering.draining.insert(worker, drain);
        self.steering.look_at = Some(self.steering.look_at.map_or(now + PAUSE, |at| at.min(now + PAUSE)));
        self.steering.changed(worker.pool);
        true
    }

    /// Looks whether somebody still waits for a worker that is to stop.
    pub(super) fn look_at_drains(&mut self) {
        let now = Master::now();
        if self.steering.look_at.is_none_or(|at| at > now) {
            return;
        }
        let done = |worker: &WorkerId, drain: &Drain| {
            let waiting = || {
                let sockets = self.slotted(worker.pool);
                let slots = sockets.iter().filter_map(|socket| socket.slots.as_ref());
                slots.filter_map(|slots| slots.group.borrow().waiting(worker.slot)).sum::<u32>()
            };
            // At the end of all, the queues were served before this one's turn, or are not to be.
            self.core.is_ending() || drain.until <= now || (drain.from <= now && waiting() == 0)
        };
        let done: Vec<WorkerId> =
            self.steering.draining.iter().filter(|(worker, drain)| done(worker, drain)).map(|(worker, _)| *worker).collect();
        for worker in done {
            if let Some(Drain { signal, scope, .. }) = self.steering.draining.remove(&worker) {
                self.signal_past_queue(worker, signal, scope);
            }
        }
        self.steering.look_at = (!self.steering.draining.is_empty()).then(|| now + PAUSE);
    }

    /// The worker has ended: a stop signal that was held back has nobody to go to.
    pub(super) fn forget_drain(&mut self, worker: WorkerId) {
        if let Some(held) = self.steering.draining.remove(&worker) {
            self.facts.push_back(Event::Signalled { worker, signal: held.signal });
        }
        self.steering.changed(worker.pool);
    }
}
