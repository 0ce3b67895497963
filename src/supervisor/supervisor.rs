//! Owns the entry points of the core: one event in, actions out, one computed deadline.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::history::History;
use super::pending::Pending;
use super::pool::{Cx, Pool};
use super::reload::{Kept, Reload};
use super::shutdown::Ending;
use super::timers::{Key, Timers};
use super::view::{PoolView, WorkerView};
use super::wishes::Wish;
use super::{Action, CommandId, Event, Level, MasterSignal, MasterSpec, PoolId, Time, What, WorkerId};

/// An absence that people should hear of; a shorter one is what a busy host does.
const LONG_ABSENCE: Duration = Duration::from_secs(1);

/// Everything the core knows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Supervisor {
    pub(super) seed: u64,
    pub(super) master: Option<MasterSpec>,
    pub(super) revision: u32,
    pub(super) pools: BTreeMap<PoolId, Pool>,
    /// Pools in the order of the config.
    pub(super) order: Vec<PoolId>,
    /// The pools of that order that start after this one, in it.
    #[serde(skip)]
    pub(super) followers: BTreeMap<PoolId, Vec<PoolId>>,
    #[serde(skip)]
    pub(super) timers: Timers,
    pub(super) pending: BTreeMap<CommandId, Pending>,
    /// The master is ending.
    pub(super) ending: Option<Ending>,
    pub(super) shutdown_armed: Option<Time>,
    pub(super) linger_armed: Option<Time>,
    /// Pools that the current event may have changed.
    pub(super) touched: BTreeSet<PoolId>,
    /// The highest generation of each pool that left the config: should its name come back, its workers are not mistaken for the old ones.
    pub(super) retired: BTreeMap<PoolId, u32>,
    /// Pools that gave up what they tried for a newer config: nothing is started in them before it is known what that makes of them.
    pub(super) superseded: BTreeSet<PoolId>,
    /// A reload that is committed and not through, while a newer one is tried.
    pub(super) behind: Option<Reload>,
    /// Orders for another config that have not begun; the first one is being read, if any is.
    pub(super) wishes: VecDeque<Wish>,
    /// A config was asked for and has not come yet.
    pub(super) reading: bool,
    /// The transaction under way.
    pub(super) reload: Option<Reload>,
    pub(super) reload_armed: Option<Time>,
    /// What a rollback goes back to.
    pub(super) kept: Option<Kept>,
    /// The config in force has proved itself: no reload to it failed.
    pub(super) in_force_good: bool,
    /// The last reload failed, and none has succeeded since.
    pub(super) failed_at: Option<(Time, String)>,
    pub(super) history: History,
    /// The last edition given out.
    pub(super) next_edition: u32,
    pub(super) all_ready_told: bool,
    /// Pools that failed for no other reason than that one before them did.
    pub(super) failed_after: BTreeSet<PoolId>,
}

impl Supervisor {
    /// An empty core; `seed` feeds the jitter of back-off.
    pub fn new(seed: u64) -> Supervisor {
        Supervisor {
            seed,
            master: None,
            revision: 0,
            pools: BTreeMap::new(),
            order: Vec::new(),
            followers: BTreeMap::new(),
            timers: Timers::default(),
            pending: BTreeMap::new(),
            ending: None,
            shutdown_armed: None,
            linger_armed: None,
            touched: BTreeSet::new(),
            retired: BTreeMap::new(),
            superseded: BTreeSet::new(),
            behind: None,
            wishes: VecDeque::new(),
            reading: false,
            reload: None,
            reload_armed: None,
            kept: None,
            in_force_good: false,
            failed_at: None,
            history: History::default(),
            next_edition: 0,
            all_ready_told: false,
            failed_after: BTreeSet::new(),
        }
    }

    /// Takes one fact, appends what has to be done about it. Deadlines are acted on at [`Event::Tick`] only, so that facts which
    /// were already waiting when a deadline passed are heard before it is judged.
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        if self.has_exited() {
            // Nothing is left to be decided, but how long the hooks of the last moment may take.
            if let Event::Signal { signal: MasterSignal::Term | MasterSignal::Int | MasterSignal::Quit, .. } = event {
                self.harden();
            }
            return;
        }
        match event {
            Event::Configure { revision, base, master, pools, roll, changes } => {
                self.configure(now, (revision, base), master, (pools, changes), &roll, out);
            }
            Event::ConfigRejected { reason, invalid } => self.config_rejected(now, &reason, invalid, out),
            Event::PreStarted { pool, revision, failed } => self.pre_started(now, pool, revision, failed, out),
            Event::Prepared { worker } => self.on_worker(now, worker, out, |p, cx| p.prepared(cx, worker)),
            Event::Spawned { worker } => self.on_worker(now, worker, out, |p, cx| p.spawned(cx, worker)),
            Event::SpawnFailed { worker, error } => self.on_worker(now, worker, out, |p, cx| p.spawn_failed(cx, worker, error)),
            Event::Notified { worker, message } => self.on_worker(now, worker, out, |p, cx| p.notified(cx, worker, message)),
            Event::Looked { worker, accepting } => self.on_worker(now, worker, out, |p, cx| p.looked(cx, worker, accepting)),
            Event::Exited { worker, status, stragglers } => {
                self.on_worker(now, worker, out, |p, cx| p.exited(cx, worker, status, stragglers));
            }
            Event::GroupGone { worker } => self.on_worker(now, worker, out, |p, cx| p.group_gone(cx, worker)),
            Event::Released { worker } => self.on_worker(now, worker, out, |p, cx| p.released(cx, worker)),
            Event::Signalled { worker, signal } => self.kill_done(worker, signal, None, out),
            Event::SignalFailed { worker, signal, errno } => {
                self.cx(now, out).note(Level::Warn, Some(worker.pool), Some(worker), What::SignalFailed { signal, errno });
                self.kill_done(worker, signal, Some(errno), out);
            }
            Event::Signal { signal, sender } => self.signal(now, signal, sender, out),
            Event::ScaleSignals { pool, by, sender } => self.scale_by_signal(now, pool, by, sender, out),
            Event::RestartSignal { pool, sender } => self.restart_by_signal(now, pool, sender, out),
            Event::Command { id, command, sender, timeout } => self.command(now, id, command, sender, timeout, out),
            Event::Abandoned { id } => self.abandon(id),
            Event::Quiet => self.stop_lingering(),
            Event::Tick => self.tick(now, out),
            Event::Late { by } => {
                let level = if by >= LONG_ABSENCE { Level::Warn } else { Level::Debug };
                self.cx(now, out).note(level, None, None, What::Late { by });
                for id in self.pools.keys().copied().collect::<Vec<_>>() {
                    self.on_pool(now, id, out, |p, cx| p.grant_grace(cx, by));
                }
            }
        }
        if !self.has_exited() {
            self.follow_up(now, out);
        }
    }

    /// When to call again with [`Event::Tick`] if nothing happens. `None`: nothing can change by waiting.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// All pools, in config order, and those that left the config and are still stopping.
    pub fn pools(&self) -> Vec<PoolView<'_>> {
        let gone = self.pools.keys().filter(|id| !self.order.contains(id));
        self.order.iter().chain(gone).filter_map(|id| self.pools.get(id)).map(Pool::view).collect()
    }

    /// All workers of a pool, by slot and generation.
    pub fn workers(&self, pool: PoolId) -> Vec<WorkerView<'_>> {
        self.pools.get(&pool).map(Pool::worker_views).unwrap_or_default()
    }

    /// Is this slot of the pool to have a worker?
    pub fn wants(&self, pool: PoolId, slot: u32) -> bool {
        self.pools.get(&pool).is_some_and(|pool| pool.has_slot(slot))
    }

    /// One worker.
    pub fn worker(&self, id: WorkerId) -> Option<WorkerView<'_>> {
        self.pools.get(&id.pool)?.worker_view(id)
    }

    /// One pool.
    pub fn pool(&self, pool: PoolId) -> Option<PoolView<'_>> {
        self.pools.get(&pool).map(Pool::view)
    }

    /// The master is shutting down.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// It does so at once: nothing is waited for.
    pub fn is_ending_now(&self) -> bool {
        self.ending.as_ref().is_some_and(super::shutdown::Ending::is_now)
    }

    pub(super) fn cx<'a>(&'a mut self, now: Time, out: &'a mut Vec<Action>) -> Cx<'a> {
        Cx { now, out, timers: &mut self.timers, seed: self.seed, may_spawn: self.ending.is_none() }
    }

    /// Runs `change` on one pool.
    pub(super) fn on_pool<R>(
        &mut self,
        now: Time,
        id: PoolId,
        out: &mut Vec<Action>,
        change: impl FnOnce(&mut Pool, &mut Cx<'_>) -> R,
    ) -> Option<R> {
        let pool = self.pools.get_mut(&id)?;
        self.touched.insert(id);
        let mut cx = Cx { now, out, timers: &mut self.timers, seed: self.seed, may_spawn: self.ending.is_none() };
        Some(change(pool, &mut cx))
    }

    fn on_worker(&mut self, now: Time, worker: WorkerId, out: &mut Vec<Action>, change: impl FnOnce(&mut Pool, &mut Cx<'_>)) {
        if self.on_pool(now, worker.pool, out, change).is_none() {
            let fact = "a fact about a worker of a pool that is no longer there".to_owned();
            self.cx(now, out).note(Level::Debug, None, Some(worker), What::Stale { fact });
        }
    }

    /// Acts on every deadline that has passed.
    fn tick(&mut self, now: Time, out: &mut Vec<Action>) {
        while let Some(key) = self.timers.pop_due(now) {
            match key {
                Key::Shutdown => {
                    self.shutdown_armed = None;
                    self.shutdown_due(now, out);
                    if self.has_exited() {
                        return;
                    }
                }
                Key::Linger => {
                    self.linger_armed = None;
                    self.stop_lingering();
                }
                Key::Worker(id) => {
                    self.on_pool(now, id.pool, out, |p, cx| p.worker_due(cx, id));
                }
                Key::Slot(id, slot) => {
                    self.on_pool(now, id, out, |p, cx| p.slot_due(cx, slot));
                }
                Key::Pool(id) => {
                    self.on_pool(now, id, out, |p, cx| p.pool_due(cx));
                }
                Key::Reload => {
                    self.reload_armed = None;
                    self.reload_due(now, out);
                }
                Key::Command(id) => self.command_due(id, out),
            }
        }
    }

    /// What an event means beyond the pool it was about: pools that waited for it, orders that are fulfilled, the end of it all.
    fn follow_up(&mut self, now: Time, out: &mut Vec<Action>) {
        let (mut changed, mut awaited) = (BTreeSet::new(), BTreeSet::new());
        loop {
            while let Some(id) = self.touched.pop_first() {
                changed.insert(id);
                self.on_pool(now, id, out, |p, cx| p.tell_count(cx));
                self.touched.remove(&id);
                awaited.insert(id);
                self.follow_failure(now, id, out);
                self.drop_if_gone(now, id, out);
                self.reload_saw(now, id, out);
            }
            if self.reload_advance(now, out) {
                continue;
            }
            // Nothing is started that what is committed by now has taken away.
            if let Some(id) = self.superseded.pop_first() {
                self.on_pool(now, id, out, |p, cx| p.fill(cx));
            } else if let Some(id) = awaited.pop_first() {
                self.start_those_after(now, id, out);
            } else {
                break;
            }
        }
        // Of what is so once all of that is done.
        for id in changed {
            self.answer_settled(id, out);
        }
        self.answer_resting(out);
        self.judge(now, out);
        self.continue_ending(now, out);
    }
}
