//! Owns who of a pool's workers gets new connections where each has a socket of its own (`reuseport`): those that are ready. Before a worker
//! whose socket goes with it is told to stop, it serves who waits there; then the socket is closed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::time::Duration;

use super::master::Master;
use super::pools::PoolRun;
use super::processes::Process;
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

/// Who uses a listener, by the members of its group.
#[derive(Default)]
struct Users {
    /// Of a ready worker.
    ready: BTreeSet<u32>,
    /// Of any worker that is wanted.
    coming: BTreeSet<u32>,
    /// Of a process that has it.
    held: BTreeSet<u32>,
    /// Slots with a process that is wanted.
    seated: BTreeSet<(PoolId, u32)>,
    /// Pools that start workers with it.
    pools: Vec<PoolId>,
    /// It has left the config, and nobody who is wanted has it.
    deserted: bool,
}

impl Users {
    /// New connections go to ready workers; as long as there is none, to those that will be; without any, to the first, where they wait.
    fn takes(&self, member: u32) -> bool {
        match (self.ready.is_empty(), self.coming.is_empty()) {
            (false, _) => self.ready.contains(&member),
            (true, false) => self.coming.contains(&member),
            (true, true) => member == FIRST,
        }
    }

    /// Whoever comes there is served, now or later.
    fn serves(&self, member: u32) -> bool {
        self.takes(member) && !self.deserted
    }
}

/// Sockets that a config has.
struct Kept(HashSet<*const Socket>);

impl Kept {
    /// Listeners of a worker that no config has any more: their last workers serve who waits there.
    fn left_behind(&self, process: &Process) -> Vec<Rc<Socket>> {
        let own = process.run.config.listeners.iter().map(|listener| listener.reuseport).chain(std::iter::repeat(false));
        let left =
            |(socket, own): &(&Rc<Socket>, bool)| (!own || socket.slots().is_none()) && !self.0.contains(&Rc::as_ptr(socket));
        process.run.sockets.iter().zip(own).filter(left).map(|(socket, _)| Rc::clone(socket)).collect()
    }
}

/// Somebody waits at it.
fn waits_at(socket: &Rc<Socket>) -> bool {
    socket.queue().is_some_and(|(waiting, _)| waiting > 0)
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
            if socket.slots().is_some() && !found.iter().any(|other| Rc::ptr_eq(other, socket)) {
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
        for process in self.processes.all() {
            if let Some(member) = process.seat_of(socket) {
                users.held.insert(member);
                pools.insert(process.id.pool);
            }
        }
        users.pools = self.runs.iter().filter(|(_, run)| has(run)).map(|(pool, _)| *pool).collect();
        pools.extend(&users.pools);
        for worker in pools.iter().flat_map(|pool| self.core.workers(*pool)).filter(|worker| worker.stopping.is_none()) {
            let (pool, slot) = (worker.id.pool, worker.id.slot);
            match self.processes.of(worker.id) {
                Some(process) => {
                    let Some(member) = process.seat_of(socket) else { continue };
                    users.seated.insert((pool, slot));
                    users.coming.insert(member);
                    if matches!(worker.state, WorkerState::Ready | WorkerState::Good) {
                        users.ready.insert(member);
                    }
                }
                // One of these will be its own.
                None if users.pools.contains(&pool) => {
                    let free = socket.slots().into_iter().flat_map(|slots| slots.members_for(pool, slot));
                    users.coming.extend(free.filter(|member| !users.held.contains(member)));
                }
                None => {}
            }
        }
        users.deserted = users.coming.is_empty() && !self.kept_sockets().0.contains(&Rc::as_ptr(socket));
        users
    }

    /// Somebody is or will be there for those who wait at a member.
    fn is_served(&self, slots: &Slots, member: u32, users: &Users) -> bool {
        // A slot without a worker gets one, which takes over what is there.
        let comes = |owner: (PoolId, u32)| {
            users.pools.contains(&owner.0) && self.core.wants(owner.0, owner.1) && !users.seated.contains(&owner)
        };
        users.serves(member) || users.coming.contains(&member) || slots.owner(member).is_some_and(comes)
    }

    /// Sends new connections where they are served, and closes the sockets of slots that are gone.
    pub(super) fn steer(&mut self) {
        while let Some(pool) = self.steering.changed.pop_first() {
            let sockets: Vec<(Rc<Socket>, Users)> =
                self.slotted(pool).into_iter().map(|socket| (Rc::clone(&socket), self.users(&socket))).collect();
            for (socket, users) in &sockets {
                let Some(slots) = socket.slots() else { continue };
                let failed = {
                    let mut group = slots.group.borrow_mut();
                    // At its end a worker may shut down what it has.
                    group.notice(|member| !users.coming.contains(&member));
                    group.direct(|member| users.takes(member)).err()
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
                slots.tidy();
            }
            self.let_go_of_the_needless(pool, &sockets);
        }
    }

    /// Closes the sockets that nobody is coming for and no process has.
    fn close_unused(&self, pool: PoolId, slots: &Slots, users: &Users) {
        let unused = |member: u32| !users.held.contains(&member) && !self.is_served(slots, member, users);
        let gone: Vec<u32> = slots.group.borrow().members().map(|(member, _)| member).filter(|member| unused(*member)).collect();
        for member in gone {
            let mut group = slots.group.borrow_mut();
            let slot = slots.owner(member).map_or(member, |(_, slot)| slot);
            let waiting = group.waiting(member).unwrap_or(0);
            if waiting > 0 {
                tracing::warn!(
                    pool = self.name_of(pool),
                    slot,
                    "the slot is gone, and {} waiting at its socket with it (sysctl net.ipv4.tcp_migrate_req=1 moves them to the others)",
                    count(waiting as usize, "connection")
                );
            }
            let closed = match member {
                // It stays with the listener.
                FIRST if waiting == 0 => Ok(()),
                FIRST => group.empty(member, slots.backlog(), |member| users.takes(member)),
                _ => {
                    slots.forget(member);
                    group.leave(member, |member| users.takes(member))
                }
            };
            if let Err(e) = closed {
                tracing::warn!(pool = self.name_of(pool), slot, "cannot close its socket in order: {e}");
            }
        }
    }

    /// The sockets of the config in force, and of one that is tried.
    fn kept_sockets(&self) -> Kept {
        let staged = self.staged.values().flat_map(|staged| staged.runs.values());
        let in_force = self.runs.iter().filter(|(id, _)| self.is_in_force(**id)).map(|(_, run)| run);
        Kept(in_force.chain(staged).flat_map(|run| &run.sockets).map(Rc::as_ptr).collect())
    }

    /// Those of these listeners that no other worker has who stays for now: it serves who comes.
    fn last_of(&self, worker: WorkerId, mut left: Vec<Rc<Socket>>) -> Vec<Rc<Socket>> {
        let stays = |process: &&Process| {
            let view = self.core.worker(process.id);
            !process.exited && process.id != worker && view.is_some_and(|view| view.ready_at.is_some() && view.stopping.is_none())
        };
        left.retain(|socket| {
            let others = self.processes.all().filter(|p| p.run.sockets.iter().any(|other| Rc::ptr_eq(other, socket)));
            !others.into_iter().any(|process| stays(&process))
        });
        left
    }

    /// A worker whose sockets go with it, its own or those of a listener that left the config, goes only once nobody waits there. True: it is
    /// seen to.
    pub(super) fn drain_first(&mut self, worker: WorkerId) -> bool {
        let Some(process) = self.processes.of(worker) else { return false };
        let left = self.last_of(worker, self.kept_sockets().left_behind(process));
        if process.exited || (process.seats().next().is_none() && left.is_empty()) {
            return false;
        }
        let Some(view) = self.core.worker(worker) else { return false };
        let goes = [Reason::ScaleDown, Reason::Replaced, Reason::Stopped, Reason::Parked, Reason::Removed];
        if view.ready_at.is_none() || !view.stopping.is_some_and(|reason| goes.contains(&reason)) {
            return false;
        }
        for listening in left.iter().flat_map(|socket| socket.all()) {
            if let Err(e) = listening.let_nobody_in() {
                tracing::debug!("listener {}: cannot keep new connections out: {e}", listening.local_addr());
            }
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
        if !self.steering.draining.keys().any(|worker| worker.pool == pool) {
            return;
        }
        let kept = self.kept_sockets();
        let alone = |worker: &WorkerId| {
            let Some(process) = self.processes.of(*worker) else { return false };
            let left = self.last_of(*worker, kept.left_behind(process)).iter().any(waits_at);
            left || sockets.iter().any(|(socket, users)| match (socket.slots(), process.seat_of(socket)) {
                (Some(slots), Some(member)) => !self.is_served(slots, member, users),
                _ => false,
            })
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
        let kept = self.kept_sockets();
        let done = |worker: &WorkerId, drain: &Drain| {
            let waiting = || {
                let seats = self.processes.of(*worker).into_iter().flat_map(Process::seats);
                let queues = seats.filter_map(|(socket, member)| socket.slots()?.group.borrow().waiting(member));
                let own = queues.into_iter().any(|waiting| waiting > 0);
                own || self.processes.of(*worker).is_some_and(|p| self.last_of(*worker, kept.left_behind(p)).iter().any(waits_at))
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
