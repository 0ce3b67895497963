//! Owns who of a pool's workers gets new connections where each slot has a socket of its own (`reuseport`): those that are ready. Before the
//! worker of a slot that goes for good is told to stop, it serves who waits at that socket; then the socket is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::master::Master;
use super::pools::PoolRun;
use super::sockets::{FIRST, Slots, Socket};
use crate::supervisor::{PoolId, Reason, Time, WorkerId, WorkerState, count};

/// Between two looks at a queue.
const PAUSE: Duration = Duration::from_millis(10);
/// A handshake that began before the slot was taken out comes to its queue at its end: this much later on a long line.
const HANDSHAKE: Duration = Duration::from_millis(250);

/// Pools to look at, and workers that have to go once nobody waits for them.
#[derive(Debug, Default)]
pub(super) struct Steering {
    changed: BTreeSet<PoolId>,
    draining: BTreeMap<WorkerId, Drain>,
    look_at: Option<Time>,
    /// Pools whose sockets could not be steered: told once.
    told: BTreeSet<PoolId>,
}

/// A release that waits for a queue.
#[derive(Debug)]
struct Drain {
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

/// Who uses a listener, by slot.
#[derive(Default)]
struct Users {
    /// Of a ready worker.
    ready: BTreeSet<u32>,
    /// Of any worker that is wanted.
    coming: BTreeSet<u32>,
    /// Of a process that has its socket.
    held: BTreeSet<u32>,
    /// Pools that start workers with it.
    pools: Vec<PoolId>,
}

impl Users {
    /// New connections go to slots with a ready worker; as long as there is none, to those that will have one; without any, to the first,
    /// where they wait.
    fn takes(&self, slot: u32) -> bool {
        match (self.ready.is_empty(), self.coming.is_empty()) {
            (false, _) => self.ready.contains(&slot),
            (true, false) => self.coming.contains(&slot),
            (true, true) => slot == FIRST,
        }
    }
}

impl Master {
    /// The listeners with a socket for each slot that a pool's workers have, those of an earlier config included.
    fn slotted(&self, pool: PoolId) -> Vec<Rc<Socket>> {
        let current = self.runs.get(&pool);
        let mut found: Vec<Rc<Socket>> = Vec::new();
        let earlier = self
            .processes
            .all()
            .map(|p| (p.id.pool, &p.run))
            .filter(|(of, run)| *of == pool && current.is_none_or(|current| !Rc::ptr_eq(run, current)));
        for socket in current.into_iter().chain(earlier.map(|(_, run)| run)).flat_map(|run| &run.sockets) {
            if socket.slots.is_some() && !found.iter().any(|other| Rc::ptr_eq(other, socket)) {
                found.push(Rc::clone(socket));
            }
        }
        found
    }

    /// Who uses it: workers of any pool and any config, for a pool may have got it from another.
    fn users(&self, socket: &Rc<Socket>) -> Users {
        let has = |run: &PoolRun| run.sockets.iter().any(|other| Rc::ptr_eq(other, socket));
        let mut users = Users::default();
        let mut pools = BTreeSet::new();
        for process in self.processes.all().filter(|process| has(&process.run)) {
            users.held.insert(process.id.slot);
            pools.insert(process.id.pool);
        }
        users.pools = self.runs.iter().filter(|(_, run)| has(run)).map(|(pool, _)| *pool).collect();
        pools.extend(&users.pools);
        for worker in pools.iter().flat_map(|pool| self.core.workers(*pool)).filter(|worker| worker.stopping.is_none()) {
            let started = self.processes.of(worker.id).map(|process| has(&process.run));
            if started.unwrap_or_else(|| users.pools.contains(&worker.id.pool)) {
                users.coming.insert(worker.id.slot);
                if matches!(worker.state, WorkerState::Ready | WorkerState::Good) {
                    users.ready.insert(worker.id.slot);
                }
            }
        }
        users
    }

    /// A worker in this slot is or will be there for those who wait at its socket.
    fn is_served(&self, slot: u32, users: &Users) -> bool {
        users.takes(slot) || users.coming.contains(&slot) || users.pools.iter().any(|pool| self.core.wants(*pool, slot))
    }

    /// Sends new connections where they are served, and closes the sockets of slots that are gone.
    pub(super) fn steer(&mut self) {
        while let Some(pool) = self.steering.changed.pop_first() {
            let sockets: Vec<(Rc<Socket>, Users)> =
                self.slotted(pool).into_iter().map(|socket| (Rc::clone(&socket), self.users(&socket))).collect();
            for (socket, users) in &sockets {
                let Some(slots) = &socket.slots else { continue };
                let failed = {
                    let mut group = slots.group.borrow_mut();
                    // At its end a worker may shut down what it has.
                    group.notice(|slot| !users.coming.contains(&slot));
                    group.direct(|slot| users.takes(slot)).err()
                };
                if let Some(e) = failed
                    && self.steering.told.insert(pool)
                {
                    tracing::warn!(
                        pool = self.name_of(pool),
                        "cannot keep new connections from slots that are not ready: {e}; the kernel spreads them over all slots"
                    );
                }
                self.close_unused(pool, slots, users);
            }
            self.let_go_of_the_needless(pool, &sockets);
        }
    }

    /// Closes the sockets of slots that nobody wants and no process has.
    fn close_unused(&self, pool: PoolId, slots: &Slots, users: &Users) {
        let mut group = slots.group.borrow_mut();
        let unused = |slot: u32| !users.held.contains(&slot) && !self.is_served(slot, users);
        let gone: Vec<u32> = group.members().map(|(slot, _)| slot).filter(|slot| unused(*slot)).collect();
        for slot in gone {
            let waiting = group.waiting(slot).unwrap_or(0);
            if waiting > 0 {
                tracing::warn!(
                    pool = self.name_of(pool),
                    slot,
                    "the slot is gone, and {} waiting at its socket with it (sysctl net.ipv4.tcp_migrate_req=1 moves them to the others)",
                    count(waiting as usize, "connection")
                );
            }
            let closed = match slot {
                // It stays with the listener.
                FIRST if waiting == 0 => Ok(()),
                FIRST => group.empty(slot, slots.backlog(), |slot| users.takes(slot)),
                _ => group.leave(slot, |slot| users.takes(slot)),
            };
            if let Err(e) = closed {
                tracing::warn!(pool = self.name_of(pool), slot, "cannot close its socket in order: {e}");
            }
        }
    }

    /// A worker that serves sockets of its slot goes only once nobody waits there. True: it is seen to.
    pub(super) fn drain_first(&mut self, worker: WorkerId) -> bool {
        let Some(process) = self.processes.of(worker) else { return false };
        if process.exited || !process.run.sockets.iter().any(|socket| socket.slots.is_some()) {
            return false;
        }
        let Some(view) = self.core.worker(worker) else { return false };
        let goes = [Reason::ScaleDown, Reason::Replaced, Reason::Stopped, Reason::Parked, Reason::Removed];
        if view.ready_at.is_none() || !view.stopping.is_some_and(|reason| goes.contains(&reason)) {
            return false;
        }
        let now = Master::now();
        let until = now + self.config.spec.linger.max(HANDSHAKE);
        self.steering.draining.insert(worker, Drain { from: (now + HANDSHAKE).min(until), until });
        self.steering.look_at = Some(self.steering.look_at.map_or(now + PAUSE, |at| at.min(now + PAUSE)));
        // At the end of this turn it is seen whether there is anything to wait for.
        self.steering.changed(worker.pool);
        true
    }

    /// Lets workers go whose sockets somebody else serves, or will.
    fn let_go_of_the_needless(&mut self, pool: PoolId, sockets: &[(Rc<Socket>, Users)]) {
        let alone = |worker: &WorkerId| {
            let run = self.processes.of(*worker).map(|process| &process.run);
            let has = |socket: &Rc<Socket>| run.is_some_and(|run| run.sockets.iter().any(|other| Rc::ptr_eq(other, socket)));
            sockets.iter().any(|(socket, users)| has(socket) && !self.is_served(worker.slot, users))
        };
        let of_pool = self.steering.draining.keys().filter(|worker| worker.pool == pool);
        let needless: Vec<WorkerId> = of_pool.filter(|worker| !alone(worker)).copied().collect();
        self.end_drains(needless);
    }

    fn end_drains(&mut self, workers: Vec<WorkerId>) {
        for worker in workers {
            if self.steering.draining.remove(&worker).is_some() {
                self.release_past_queue(worker);
            }
        }
    }

    /// Looks whether somebody still waits for a worker that is to stop.
    pub(super) fn look_at_drains(&mut self) {
        let now = Master::now();
        if self.steering.look_at.is_none_or(|at| at > now) {
            return;
        }
        let done = |worker: &WorkerId, drain: &Drain| {
            let waiting = || {
                let sockets = self.processes.of(*worker).into_iter().flat_map(|process| &process.run.sockets);
                let slots = sockets.filter_map(|socket| socket.slots.as_ref());
                slots.filter_map(|slots| slots.group.borrow().waiting(worker.slot)).any(|waiting| waiting > 0)
            };
            drain.until <= now || (drain.from <= now && !waiting())
        };
        let draining = self.steering.draining.iter();
        let done: Vec<WorkerId> = draining.filter(|(worker, drain)| done(worker, drain)).map(|(worker, _)| *worker).collect();
        self.end_drains(done);
        self.steering.look_at = (!self.steering.draining.is_empty()).then(|| now + PAUSE);
    }

    /// Nobody waits for its queue any more: it has ended, or is told to stop.
    pub(super) fn forget_drain(&mut self, worker: WorkerId) {
        self.steering.draining.remove(&worker);
        self.steering.changed(worker.pool);
    }
}
