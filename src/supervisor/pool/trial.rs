//! Owns the canaries of a pool: workers of a config that is not in force yet, beside those of the one that is, or in the place of one where two
//! cannot run in one slot. Until the commit nothing else is touched; taking them back leaves the pool as it was.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::super::{Level, Phase, PoolSpec, Reason, What, WorkerId};
use super::spawn::Start;
use super::{Cx, Pool};

/// A config that the pool tries out.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Trial {
    #[serde(with = "super::super::snapshot::shared")]
    pub(super) spec: Rc<PoolSpec>,
    pub(super) edition: u32,
    pub(super) revision: u32,
    /// How many workers try it.
    count: u32,
    /// Where.
    slots: BTreeMap<u32, Canary>,
    /// Starts that the host could not make.
    lacks: u32,
    /// Why the config is no good.
    failed: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Canary {
    /// `None`: to be started.
    generation: Option<u32>,
    /// It runs beside the worker of its slot.
    beside: bool,
    good: bool,
}

/// How a trial goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Finding {
    /// The pool takes no part, or no more.
    NoTrial,
    /// Not known yet.
    Open,
    /// All canaries are good.
    Good,
    /// One is not.
    Bad(String),
}

impl Trial {
    pub(super) fn has_slot(&self, number: u32) -> bool {
        self.slots.contains_key(&number)
    }

    /// The slot is to be filled by a canary and nobody else.
    pub(super) fn keeps(&self, number: u32) -> bool {
        self.slots.get(&number).is_some_and(|c| !c.beside)
    }

    /// The slots that are kept for it in a pool that does not run.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The slot of a canary in place that is not good yet, where there are more than are wanted.
    pub(super) fn too_many(&self) -> Option<u32> {
        let beyond = self.slots.len() > self.count as usize;
        self.slots.iter().rev().find(|(_, c)| beyond && !c.beside && !c.good).map(|(slot, _)| *slot)
    }

    fn lacks_slots(&self) -> bool {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX) < self.count
    }

    fn is_canary(&self, id: WorkerId) -> bool {
        self.slots.get(&id.slot).is_some_and(|c| c.generation == Some(id.generation))
    }
}

impl Pool {
    /// Starts to try a config.
    pub(in super::super) fn try_out(&mut self, cx: &mut Cx<'_>, spec: PoolSpec, edition: u32, revision: u32) {
        let target = if self.wanted() > 0 { self.wanted() } else { self.operator.unwrap_or(spec.workers) };
        let count = spec.canaries(target);
        self.roll_recall(cx);
        self.trial =
            Some(Trial { spec: Rc::new(spec), edition, revision, count, slots: BTreeMap::new(), lacks: 0, failed: None });
        self.resize(cx, Reason::ScaleDown);
        self.choose_canaries(cx);
        self.fill(cx);
    }

    /// The pool may have become smaller: no more canaries than so many workers get.
    pub(super) fn limit_canaries(&mut self) {
        let target = self.target();
        let (Phase::Running | Phase::BackingOff, Some(trial)) = (self.phase, self.trial.as_mut()) else { return };
        trial.count = trial.count.min(trial.spec.canaries(target));
        while trial.slots.len() > trial.count as usize {
            // Those for which nothing was begun yet.
            let serves = |slot: &u32| {
                let current = self.slots.get(slot).and_then(|s| s.current);
                current.and_then(|g| self.workers.get(&(*slot, g))).is_some_and(|w| !w.is_stopping())
            };
            let idle = trial.slots.iter().rev().find(|(slot, c)| c.generation.is_none() && serves(slot));
            let Some(slot) = idle.map(|(slot, _)| *slot) else { return };
            trial.slots.remove(&slot);
        }
    }

    /// Finds slots for the canaries that have none (any more).
    pub(super) fn choose_canaries(&mut self, cx: &mut Cx<'_>) {
        loop {
            let Some(trial) = self.trial.as_ref().filter(|t| t.lacks_slots()) else { return };
            let surge = trial.spec.rollout.max_surge.of(self.target().max(1)) > 0;
            let free = |slot: &&u32| !trial.slots.contains_key(slot);
            let filled = |slot: &&u32| {
                let outdated =
                    |g: u32| self.workers.get(&(**slot, g)).is_some_and(|w| w.edition != trial.edition && !w.is_stopping());
                self.slots.get(slot).is_some_and(|s| s.incoming.is_none() && s.current.is_some_and(outdated))
            };
            let beside = self.active.iter().filter(free).find(filled).copied();
            let instead = self.vacant_for_canary();
            // A pool that is backing off lets the canary be its probe.
            let chosen = match (self.phase, surge) {
                (Phase::Running, true) => beside.map(|slot| (slot, true)).or(instead.map(|slot| (slot, false))),
                // Nobody is stopped for it where somebody is missing anyway.
                (Phase::Running, false) => instead.or(beside).map(|slot| (slot, false)),
                (
                    Phase::BackingOff
                    | Phase::Waiting
                    | Phase::Stopped
                    | Phase::Parked
                    | Phase::Failed
                    | Phase::Completed
                    | Phase::Removed,
                    _,
                ) => instead.map(|slot| (slot, false)).or(beside.map(|slot| (slot, surge))),
            };
            let Some((slot, beside)) = chosen else { return };
            if let Some(trial) = self.trial.as_mut() {
                trial.slots.insert(slot, Canary { generation: None, beside, good: false });
            }
            if !beside {
                self.arm_slot(cx, slot, None);
            }
        }
    }

    /// The canary to start now. One that takes the place of an old worker has that one stopped first.
    pub(super) fn next_canary(&mut self, cx: &mut Cx<'_>) -> Option<Start> {
        self.choose_canaries(cx);
        let trial = self.trial.as_ref().filter(|t| t.failed.is_none())?;
        let waiting: Vec<(u32, bool)> =
            trial.slots.iter().filter(|(_, c)| c.generation.is_none()).map(|(slot, c)| (*slot, c.beside)).collect();
        let surge = trial.spec.rollout.max_surge.of(self.target().max(1));
        for (number, beside) in waiting {
            let Some(slot) = self.slots.get(&number) else { continue };
            if beside {
                let coming = self.slots.values().filter(|s| s.incoming.is_some()).count();
                if slot.incoming.is_none() && coming < surge as usize {
                    return Some(Start { slot: number, incoming: true, probe: false, canary: true });
                }
                continue;
            }
            let Some(generation) = slot.current else {
                return Some(Start { slot: number, incoming: false, probe: false, canary: true });
            };
            if !self.may_make_room(number) {
                // Until others are ready; or one of them is missing, whose place it may have.
                if let Some(vacant) = self.vacant_for_canary()
                    && let Some(trial) = self.trial.as_mut()
                    && let Some(canary) = trial.slots.remove(&number)
                {
                    trial.slots.insert(vacant, canary);
                    self.arm_slot(cx, vacant, None);
                    return Some(Start { slot: vacant, incoming: false, probe: false, canary: true });
                }
                continue;
            }
            self.stop_worker(cx, WorkerId { pool: self.spec.id, slot: number, generation }, Reason::Replaced);
        }
        None
    }

    /// The worker of this slot may be stopped for its canary without more missing than may be. One that is not ready is missing already.
    fn may_make_room(&self, number: u32) -> bool {
        let runs = matches!(self.phase, Phase::Running | Phase::BackingOff);
        let Some(trial) = self.trial.as_ref().filter(|_| runs) else { return true };
        let ready = |slot: &u32| {
            let current = self.slots.get(slot).and_then(|s| s.current);
            current.and_then(|g| self.workers.get(&(*slot, g))).is_some_and(|w| w.ready_at.is_some() && !w.is_stopping())
        };
        // Of as many as are wanted by now, which may be fewer than when the canaries were counted.
        let may_miss = trial.spec.rollout.max_unavailable.of(self.target().max(1)).max(1);
        let missing = u32::try_from(self.active.len()).unwrap_or(u32::MAX).saturating_sub(self.slots_ready + self.finished);
        !ready(&number) || missing < may_miss
    }

    /// A slot that wants a worker, has none, and is not tried already.
    fn vacant_for_canary(&self) -> Option<u32> {
        let trial = self.trial.as_ref()?;
        let vacant = |slot: &&u32| self.slots.get(slot).is_some_and(|s| s.current.is_none() && s.finished.is_none());
        self.active.iter().filter(|slot| !trial.has_slot(**slot)).find(vacant).copied()
    }

    pub(super) fn canary_started(&mut self, id: WorkerId) {
        if let Some(canary) = self.trial.as_mut().and_then(|t| t.slots.get_mut(&id.slot)) {
            canary.generation = Some(id.generation);
        }
    }

    /// A replacement beside the worker of this slot is only tried.
    pub(super) fn is_tried(&self, number: u32) -> bool {
        self.trial.as_ref().is_some_and(|t| t.slots.get(&number).is_some_and(|c| c.beside && c.generation.is_some()))
    }

    /// True: it was a canary, and stays what it is until the commit.
    pub(super) fn canary_good(&mut self, cx: &mut Cx<'_>, id: WorkerId) -> bool {
        let Some(trial) = self.trial.as_mut().filter(|t| t.is_canary(id)) else { return false };
        if let Some(canary) = trial.slots.get_mut(&id.slot) {
            canary.good = true;
        }
        cx.note(Level::Info, Some(id.pool), Some(id), What::CanaryGood);
        true
    }

    /// A canary does not get good, or does not stay it.
    pub(super) fn canary_failed(&mut self, id: WorkerId, why: &str) {
        if let Some(trial) = self.trial.as_mut().filter(|t| t.is_canary(id)) {
            trial.failed.get_or_insert_with(|| format!("the canary in slot {} did not get good: {why}", id.slot));
        }
    }

    /// The host could not start a canary: it is tried again, not for ever.
    pub(super) fn canary_lacks(&mut self, id: WorkerId, message: &str) {
        let most = self.spec.rollout.failures.max(1);
        if let Some(trial) = self.trial.as_mut().filter(|t| t.is_canary(id)) {
            trial.lacks += 1;
            if trial.lacks >= most {
                trial.failed.get_or_insert_with(|| {
                    format!("the canary in slot {} could not be started, by no fault of its own: {message}", id.slot)
                });
            }
            if let Some(canary) = trial.slots.get_mut(&id.slot) {
                canary.generation = None;
            }
        }
    }

    /// The slot is no longer wanted: another one is tried.
    pub(super) fn canary_forget(&mut self, number: u32) {
        if let Some(trial) = self.trial.as_mut() {
            trial.slots.remove(&number);
        }
    }

    /// How the trial goes.
    pub(in super::super) fn finding(&self) -> Finding {
        let Some(trial) = &self.trial else { return Finding::NoTrial };
        match &trial.failed {
            Some(why) => Finding::Bad(why.clone()),
            None if trial.slots.values().any(|c| !c.good) => Finding::Open,
            None if trial.lacks_slots() && self.has_untried(trial) => Finding::Open,
            // Nothing is wanted any more, or all of it is as it would be: there is nothing to try.
            None if trial.slots.is_empty() => Finding::NoTrial,
            None => Finding::Good,
        }
    }

    /// A slot could have a canary, if not now.
    fn has_untried(&self, trial: &Trial) -> bool {
        let untried = |number: &u32| {
            let Some(slot) = self.slots.get(number) else { return false };
            match slot.current.and_then(|g| self.workers.get(&(*number, g))) {
                Some(worker) => worker.edition != trial.edition,
                None => slot.finished.is_none(),
            }
        };
        self.active.iter().any(|number| !trial.has_slot(*number) && untried(number))
    }

    /// The canaries that run.
    pub(in super::super) fn canary_ids(&self) -> Vec<WorkerId> {
        let slots = self.trial.iter().flat_map(|t| &t.slots);
        let id = |(slot, c): (&u32, &Canary)| Some(WorkerId { pool: self.spec.id, slot: *slot, generation: c.generation? });
        slots.filter_map(id).collect()
    }

    /// A config is being tried.
    pub(in super::super) fn is_trying(&self) -> bool {
        self.trial.is_some()
    }

    /// The config is not taken: the canaries go, and what they took the place of comes back, with the next [`Pool::fill`].
    pub(in super::super) fn end_trial(&mut self, cx: &mut Cx<'_>, reason: Reason) {
        let Some(trial) = self.drop_trial() else { return };
        for (number, canary) in trial {
            let Some(generation) = canary.generation else { continue };
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.incoming = slot.incoming.filter(|g| *g != generation);
            }
            self.index(number);
            self.stop_worker(cx, WorkerId { pool: self.spec.id, slot: number, generation }, reason);
        }
        // Old workers that stood beside canaries in a pool that does not run go for that reason.
        let reason = match self.phase {
            Phase::Failed => Reason::PoolFailed,
            Phase::Parked => Reason::Parked,
            Phase::Stopped => Reason::Stopped,
            Phase::Running | Phase::BackingOff | Phase::Waiting | Phase::Completed | Phase::Removed => reason,
        };
        self.resize(cx, reason);
        self.settle_jobs(cx);
    }

    /// Ends the pool's part without a word to its canaries.
    fn drop_trial(&mut self) -> Option<BTreeMap<u32, Canary>> {
        let trial = self.trial.take()?;
        Some(trial.slots)
    }

    /// The config is in force: canaries beside old workers take their places.
    pub(super) fn accept_trial(&mut self, cx: &mut Cx<'_>) {
        let Some(trial) = self.trial.take() else { return };
        for (number, canary) in trial.slots {
            self.ever_good |= canary.good;
            let Some(generation) = canary.generation else { continue };
            // It may have begun where a job was done: that slot has another one now.
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.finished = None;
            }
            self.edit(cx, WorkerId { pool: self.spec.id, slot: number, generation }, |w| w.tried = false);
            if !canary.beside {
                continue;
            }
            let Some(slot) = self.slots.get_mut(&number) else { continue };
            if slot.incoming != Some(generation) {
                continue;
            }
            slot.incoming = None;
            let old = slot.current.replace(generation);
            let id = WorkerId { pool: self.spec.id, slot: number, generation };
            self.edit(cx, id, |w| w.incoming = false);
            self.index(number);
            self.arm_slot(cx, number, None);
            if let Some(generation) = old {
                self.stop_worker(cx, WorkerId { generation, ..id }, Reason::Replaced);
            }
        }
    }
}
