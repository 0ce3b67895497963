//! Owns one pool: its slots, its workers, its breaker and its roll. Nothing in here can see another pool, so a failing pool
//! cannot harm one.

mod breaker;
mod deaths;
mod due;
mod facts;
mod life;
mod roll;
mod slots;
mod spawn;
mod stop;
mod trial;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use self::roll::{Halt, Roll};
use self::slots::Slot;
pub(super) use self::stop::UNKILLABLE_AFTER;
pub(super) use self::trial::Finding;
use self::trial::Trial;
use super::timers::{Key, Timers};
use super::worker::Worker;
use super::{Action, Level, Note, Phase, PoolId, PoolSpec, PoolView, Time, What, WorkerId, WorkerState, WorkerView};

/// What a pool needs of its surroundings while it handles one event.
pub(super) struct Cx<'a> {
    pub(super) now: Time,
    pub(super) out: &'a mut Vec<Action>,
    pub(super) timers: &'a mut Timers,
    pub(super) seed: u64,
    /// False once the master is shutting down.
    pub(super) may_spawn: bool,
}

impl Cx<'_> {
    pub(super) fn note(&mut self, level: Level, pool: Option<PoolId>, worker: Option<WorkerId>, what: What) {
        self.out.push(Action::Note(Note { level, pool, worker, what }));
    }
}

/// One pool.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pool {
    #[serde(with = "super::snapshot::shared")]
    pub(super) spec: Rc<PoolSpec>,
    /// The config revision that new workers are started from.
    pub(super) revision: u32,
    /// What new workers are: one of another edition is to be replaced.
    pub(super) edition: u32,
    /// Workers of each edition.
    #[serde(skip)]
    editions: BTreeMap<u32, u32>,
    /// A config that is tried and not in force.
    trial: Option<Trial>,
    /// The last worker of the present edition that ended badly, unasked.
    pub(super) crashed: Option<(Time, String)>,
    /// How long workers take to get ready, on average.
    pub(super) start_takes: Option<std::time::Duration>,
    pub(super) phase: Phase,
    /// Why it is where it is, when that is not normal life.
    pub(super) why: Option<String>,
    /// What the last attempt to start a worker failed by, while the next one is waited for.
    trouble: Option<String>,
    /// The edition of which a worker was seen to be ready.
    seen_ready: Option<u32>,
    /// The operator's number.
    pub(super) operator: Option<u32>,
    /// The exit code that its failure means for the master.
    pub(super) fail_code: i32,
    /// It failed as that one did, which it is to start after.
    failed_for: Option<PoolId>,
    /// A worker of it was good at some time.
    pub(super) ever_good: bool,
    /// Unasked exits that were followed by a new worker.
    pub(super) restarts: u64,
    pub(super) roll: Option<Roll>,
    /// Why the last roll stopped before its end.
    pub(super) roll_halted: Option<Halt>,

    /// Generations begin above this one: those up to it belong to an earlier pool of this name.
    floor: u32,
    #[serde(with = "super::snapshot::by_place")]
    workers: BTreeMap<(u32, u32), Worker>,
    slots: BTreeMap<u32, Slot>,
    /// Slots that are wanted.
    active: BTreeSet<u32>,
    /// Active slots without a current worker.
    #[serde(skip)]
    empty: BTreeSet<u32>,
    /// Empty slots that may be filled now (not waiting, not finished).
    #[serde(skip)]
    vacant: BTreeSet<u32>,
    /// Active slots whose worker is on its way out, with none beside it.
    #[serde(skip)]
    leaving: BTreeSet<u32>,
    /// Slots below the highest ever used that are not active.
    #[serde(skip)]
    free: BTreeSet<u32>,
    /// Current workers of active slots, oldest first.
    #[serde(skip)]
    by_age: BTreeSet<(Time, u32)>,

    #[serde(skip)]
    spawning: u32,
    #[serde(skip)]
    starting: u32,
    /// Wanted and not yet good.
    #[serde(skip)]
    unsettled: u32,
    /// Probes that did not get good and are not gone yet.
    #[serde(skip)]
    probing: u32,
    #[serde(skip)]
    stopping: u32,
    /// Active slots whose current worker is ready.
    #[serde(skip)]
    slots_ready: u32,
    #[serde(skip)]
    finished: u32,
    #[serde(skip)]
    finished_badly: u32,
    /// The last ready count that was told.
    told: Option<(u32, u32)>,

    /// Early deaths within the budget's stretch.
    early: VecDeque<Time>,
    /// How many waits in a row the pool has had.
    level: u32,
    failed_probes: u32,
    probe_at: Option<Time>,
    closed_at: Option<Time>,
    spawned_at: Option<Time>,
    resources_at: Option<Time>,
    resource_tries: u32,
    armed: Option<Time>,
}

impl Pool {
    pub(super) fn new(spec: PoolSpec, revision: u32, edition: u32, floor: u32) -> Pool {
        Pool {
            spec: Rc::new(spec),
            floor,
            revision,
            edition,
            editions: BTreeMap::new(),
            trial: None,
            crashed: None,
            start_takes: None,
            phase: Phase::Stopped,
            why: None,
            trouble: None,
            seen_ready: None,
            operator: None,
            fail_code: 1,
            failed_for: None,
            ever_good: false,
            restarts: 0,
            roll: None,
            roll_halted: None,
            workers: BTreeMap::new(),
            slots: BTreeMap::new(),
            active: BTreeSet::new(),
            empty: BTreeSet::new(),
            vacant: BTreeSet::new(),
            leaving: BTreeSet::new(),
            free: BTreeSet::new(),
            by_age: BTreeSet::new(),
            spawning: 0,
            starting: 0,
            unsettled: 0,
            probing: 0,
            stopping: 0,
            slots_ready: 0,
            finished: 0,
            finished_badly: 0,
            told: None,
            early: VecDeque::new(),
            level: 0,
            failed_probes: 0,
            probe_at: None,
            closed_at: None,
            spawned_at: None,
            resources_at: None,
            resource_tries: 0,
            armed: None,
        }
    }

    /// The highest generation of any slot.
    pub(super) fn last_generation(&self) -> u32 {
        self.slots.values().map(|s| s.generation).max().unwrap_or(self.floor)
    }

    pub(super) fn id(&self) -> PoolId {
        self.spec.id
    }

    /// The number of workers asked for, by operator or config.
    pub(super) fn target(&self) -> u32 {
        self.operator.unwrap_or(self.spec.workers)
    }

    /// The number of workers it should have in the phase it is in.
    pub(super) fn wanted(&self) -> u32 {
        match self.phase {
            Phase::Running | Phase::BackingOff => self.target(),
            Phase::Waiting | Phase::Stopped | Phase::Parked | Phase::Failed | Phase::Completed | Phase::Removed => {
                self.trial.as_ref().map_or(0, Trial::count)
            }
        }
    }

    /// The spec that a worker lives by: that of its start, and what came live since.
    fn spec_for(&self, id: WorkerId) -> &PoolSpec {
        self.worker(id).map_or(&self.spec, |w| &w.spec)
    }

    /// No process of it is left.
    pub(super) fn is_down(&self) -> bool {
        self.workers.is_empty()
    }

    /// Ready enough for the pools that are started after it.
    pub(super) fn is_ready(&self) -> bool {
        match self.phase {
            // Finite jobs are there to be done: what comes after them needs their result.
            Phase::Running | Phase::BackingOff if self.is_of_jobs() => false,
            Phase::Running | Phase::BackingOff => self.slots_ready >= self.spec.min_ready.max(1).min(self.target()),
            Phase::Completed => true,
            Phase::Waiting | Phase::Stopped | Phase::Parked | Phase::Failed | Phase::Removed => false,
        }
    }

    /// Its workers end by themselves, and serve nobody: the policy says so, and nothing will ever show that they serve.
    fn is_of_jobs(&self) -> bool {
        !self.restarts_always() && !self.spec.ready.proves()
    }

    /// Each wanted worker is ready (or its job is done).
    pub(super) fn all_ready(&self) -> bool {
        match self.phase {
            Phase::Running => self.slots_ready + self.finished == self.wanted(),
            Phase::Completed => true,
            Phase::BackingOff | Phase::Waiting | Phase::Stopped | Phase::Parked | Phase::Failed | Phase::Removed => false,
        }
    }

    /// Workers that are ready and wanted, one for each slot.
    pub(super) fn ready_count(&self) -> u32 {
        self.slots_ready
    }

    /// A worker that has to go for this reason is still there.
    pub(super) fn has_leaving(&self, is: impl Fn(super::Reason) -> bool) -> bool {
        self.stopping > 0 && self.workers.values().any(|w| w.leaving.is_some_and(&is))
    }

    /// A worker of a slot that is not wanted any more is still there, for whatever reason it was told to go.
    pub(super) fn has_surplus(&self) -> bool {
        self.stopping > 0 && self.workers.values().any(|w| !self.active.contains(&w.id.slot))
    }

    pub(super) fn note(&self, cx: &mut Cx<'_>, level: Level, what: What) {
        cx.note(level, Some(self.spec.id), None, what);
    }

    /// Changes a worker; the pool's counts and the timers follow.
    fn edit(&mut self, cx: &mut Cx<'_>, id: WorkerId, change: impl FnOnce(&mut Worker)) {
        let Some(mut worker) = self.workers.remove(&(id.slot, id.generation)) else { return };
        self.tally(&worker, false);
        change(&mut worker);
        self.tally(&worker, true);
        let next = worker.next_deadline();
        cx.timers.arm(Key::Worker(id), &mut worker.armed, next);
        self.workers.insert((id.slot, id.generation), worker);
        self.index(id.slot);
    }

    /// Forgets a worker whose last process is gone.
    fn forget(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let Some(mut worker) = self.workers.remove(&(id.slot, id.generation)) else { return };
        self.tally(&worker, false);
        cx.timers.arm(Key::Worker(id), &mut worker.armed, None);
        if let Some(left) = self.editions.get_mut(&worker.edition) {
            *left -= 1;
            if *left == 0 {
                self.editions.remove(&worker.edition);
            }
        }
        self.index(id.slot);
    }

    /// Makes anew what follows from its slots and workers, and what the timers hold for it.
    pub(super) fn rebuild(&mut self, timers: &mut Timers) {
        let id = self.id();
        for worker in std::mem::take(&mut self.workers).into_values() {
            self.tally(&worker, true);
            *self.editions.entry(worker.edition).or_insert(0) += 1;
            timers.restore(Key::Worker(worker.id), worker.armed);
            self.workers.insert((worker.id.slot, worker.id.generation), worker);
        }
        self.share_specs();
        for (number, slot) in &self.slots {
            timers.restore(Key::Slot(id, *number), slot.retry_at);
        }
        self.free = self.slots.keys().copied().filter(|number| !self.active.contains(number)).collect();
        for number in self.slots.keys().copied().collect::<Vec<_>>() {
            self.index(number);
        }
        timers.restore(Key::Pool(id), self.armed);
    }

    /// Workers that live by the same spec as the pool, or as another one of its workers, share it again.
    fn share_specs(&mut self) {
        let mut known: Vec<Rc<PoolSpec>> = vec![Rc::clone(&self.spec)];
        let of_trial = self.trial.as_mut().map(|trial| &mut trial.spec);
        for spec in of_trial.into_iter().chain(self.workers.values_mut().map(|worker| &mut worker.spec)) {
            match known.iter().find(|other| ***other == **spec) {
                Some(same) => *spec = Rc::clone(same),
                None => known.push(Rc::clone(spec)),
            }
        }
    }

    fn tally(&mut self, worker: &Worker, present: bool) {
        let mut count = |counter: fn(&mut Pool) -> &mut u32, applies: bool| {
            let counter = counter(self);
            if applies {
                *counter = if present { *counter + 1 } else { *counter - 1 };
            }
        };
        count(|p| &mut p.spawning, worker.state == WorkerState::Spawning);
        count(|p| &mut p.starting, worker.is_starting());
        count(|p| &mut p.unsettled, worker.is_starting() || worker.state == WorkerState::Ready);
        count(|p| &mut p.stopping, worker.is_stopping());
        count(|p| &mut p.probing, worker.is_failing_probe());
    }

    /// How this worker is known to be ready.
    pub(super) fn ready_kind(&self, id: WorkerId) -> Option<super::ReadyKind> {
        self.worker(id).map(|worker| worker.spec.ready)
    }

    fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&(id.slot, id.generation))
    }

    pub(super) fn view(&self) -> PoolView<'_> {
        let held_back = self.probe_at.filter(|_| self.phase == Phase::BackingOff).or(self.resources_at);
        let slots = self.empty.iter().filter_map(|s| self.slots.get(s)?.retry_at).min();
        let retry_at = [held_back, slots].into_iter().flatten().min();
        PoolView {
            spec: &self.spec,
            phase: self.phase,
            target: self.target(),
            operator: self.operator,
            starting: self.starting,
            ready: self.slots_ready,
            stopping: self.stopping,
            live: u32::try_from(self.workers.len()).unwrap_or(u32::MAX),
            restarts: self.restarts,
            rolling: self.roll.as_ref().map_or(0, Roll::left),
            start_takes: self.start_takes,
            retry_at,
            why: self
                .why
                .as_deref()
                .or(self.roll_halted.as_ref().map(|halt| halt.why.as_str()))
                .or(self.trouble.as_deref().filter(|_| retry_at.is_some())),
        }
    }

    /// Workers that were replaced, or are not wanted any more, are still there.
    pub(super) fn is_draining(&self) -> bool {
        use super::Reason::{Replaced, ScaleDown, Superseded, Undone};
        self.has_leaving(|reason| matches!(reason, Replaced | Superseded | Undone | ScaleDown))
    }

    /// How far its workers are those of the present edition; the stage is for whoever asks.
    pub(super) fn progress(&self) -> super::PoolProgress {
        let present = self.trial.as_ref().map_or(self.edition, |t| t.edition);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let new = |w: &&Worker| w.edition == present && !w.is_stopping();
        let good = |w: &&Worker| w.state == WorkerState::Good;
        // A roll of single slots is of the same edition.
        let (replaced, total) = match self.roll.as_ref().filter(|_| self.editions.keys().all(|edition| *edition == present)) {
            Some(roll) => (roll.total() - roll.left(), roll.total()),
            None => (count(self.workers.values().filter(new).filter(good).count()), count(self.active.len())),
        };
        // In turns of as many as may be begun at once.
        let turns = total.saturating_sub(replaced).div_ceil(self.rolls_at_once());
        let left = self.start_takes.filter(|_| turns > 0).map(|takes| (takes + self.spec.settle) * turns);
        super::PoolProgress {
            pool: self.spec.id,
            left,
            stage: super::ReloadStage::Rolling,
            replaced: replaced.min(total),
            total,
            starting: count(self.workers.values().filter(new).filter(|w| w.state != WorkerState::Good).count()),
            draining: count(self.workers.values().filter(|w| w.edition != present && w.is_stopping()).count()),
        }
    }

    /// How many replacements may be under way at one time.
    pub(super) fn rolls_at_once(&self) -> u32 {
        let (rollout, target) = (&self.spec.rollout, self.target());
        (rollout.max_surge.of(target) + rollout.max_unavailable.of(target)).max(1)
    }

    pub(super) fn worker_view(&self, id: WorkerId) -> Option<WorkerView<'_>> {
        self.worker(id).map(Worker::view)
    }

    pub(super) fn worker_views(&self) -> Vec<WorkerView<'_>> {
        self.workers.values().map(Worker::view).collect()
    }
}
