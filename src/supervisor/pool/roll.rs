//! Owns the rolling replacement of workers: new ones good before old ones stop, within `max_surge` and `max_unavailable`.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::super::action::Next;
use super::super::chance::draw_for;
use super::super::{Level, Phase, PoolSpec, Reason, What, WorkerId, WorkerState};
use super::{Cx, Pool};

/// A roll under way.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Roll {
    /// Workers still to be replaced.
    queue: VecDeque<WorkerId>,
    /// Slots whose replacement is started and not yet good.
    in_flight: BTreeSet<u32>,
    /// New workers in a row that did not get good.
    failures: u32,
    /// Workers that were to be replaced when it began.
    total: u32,
    /// So many new workers have to get good before others are begun, and the first of them that does not ends it.
    canaries: u32,
}

/// Why a roll has ended before its time.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Halt {
    pub(in super::super) why: String,
    /// Nobody old was touched.
    pub(in super::super) untouched: bool,
}

/// What a roll would do next.
pub(super) enum Step {
    /// Start a replacement beside the worker of this slot.
    Beside(u32),
    /// Stop this worker first; its empty slot is then filled as any other.
    StopFirst(WorkerId),
}

impl Roll {
    pub(super) fn has_in_flight(&self, slot: u32) -> bool {
        self.in_flight.contains(&slot)
    }

    pub(super) fn left(&self) -> u32 {
        u32::try_from(self.queue.len() + self.in_flight.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }
}

impl Pool {
    /// Begins to replace the workers of these slots. Of a roll that runs, the plan is made anew from the workers as they are.
    pub(in super::super) fn roll_slots(&mut self, cx: &mut Cx<'_>, only: &BTreeSet<u32>) {
        let slots = only.intersection(&self.active).copied().collect();
        self.roll_over(cx, slots, only, self.spec.canaries(self.target()));
    }

    /// Begins to replace all workers: those there are now are of an old edition from now on.
    pub(in super::super) fn roll_all(&mut self, cx: &mut Cx<'_>, edition: u32) {
        self.renew(edition, Rc::clone(&self.spec));
        self.roll_editions(cx, self.spec.canaries(self.target()));
    }

    /// From now on this spec and edition are the present ones.
    pub(super) fn renew(&mut self, edition: u32, spec: Rc<PoolSpec>) {
        self.spec = spec;
        self.edition = edition;
        self.crashed = None;
    }

    /// Begins to replace the workers of other editions than the present one, the oldest first. Canaries have been tried.
    pub(in super::super) fn roll_outdated(&mut self, cx: &mut Cx<'_>) {
        self.roll_editions(cx, 0);
    }

    fn roll_editions(&mut self, cx: &mut Cx<'_>, canaries: u32) {
        let mut slots: Vec<(u32, u32)> = self.outdated().collect();
        slots.sort_unstable();
        self.roll_over(cx, slots.into_iter().map(|(_, number)| number).collect(), &BTreeSet::new(), canaries);
    }

    /// Replaces the workers of these slots, and those that an earlier roll has left. A replacement that is not good yet goes, if it is in one
    /// of `anew` or of an old edition: another one comes.
    fn roll_over(&mut self, cx: &mut Cx<'_>, mut wanted: Vec<u32>, anew: &BTreeSet<u32>, canaries: u32) {
        self.roll_halted = None;
        let mut in_flight = BTreeSet::new();
        if let Some(old) = self.roll.take() {
            // Whatever is in the place of one that went meanwhile is new already.
            let there = |id: &&WorkerId| self.slots.get(&id.slot).is_some_and(|slot| slot.current == Some(id.generation));
            wanted.extend(old.queue.iter().filter(there).map(|id| id.slot));
            for number in old.in_flight {
                let slot = self.slots.get(&number);
                let coming = slot.and_then(|s| s.incoming.or(s.current)).and_then(|g| self.workers.get(&(number, g)));
                let present = coming.is_some_and(|w| w.edition == self.edition && !w.is_stopping());
                // A canary that took the old one's place is good before the roll goes on.
                let through = coming.is_some_and(|w| w.state == WorkerState::Good && !w.incoming);
                if present && !anew.contains(&number) {
                    if !through {
                        in_flight.insert(number);
                    }
                } else {
                    wanted.push(number);
                    self.dismiss_incoming(cx, number);
                }
            }
        }
        let mut seen = BTreeSet::new();
        let current = |slot: u32| {
            let generation = self.slots.get(&slot)?.current?;
            // One that this very order has started is new already.
            let old = self.workers.get(&(slot, generation)).is_some_and(|w| w.started < cx.now || w.edition != self.edition);
            old.then_some(WorkerId { pool: self.spec.id, slot, generation })
        };
        wanted.retain(|slot| !in_flight.contains(slot) && seen.insert(*slot));
        let queue: VecDeque<WorkerId> = wanted.into_iter().filter_map(current).collect();
        if !queue.is_empty() || !in_flight.is_empty() {
            let total = u32::try_from(queue.len() + in_flight.len()).unwrap_or(u32::MAX);
            self.note(cx, Level::Info, What::RollStarted { workers: total, at_once: self.rolls_at_once().min(total) });
            self.roll = Some(Roll { queue, in_flight, failures: 0, total, canaries });
        }
        self.fill(cx);
        self.bound_generations(cx);
    }

    /// What the roll would do next, if anything; ends it when all is done.
    pub(super) fn roll_step(&mut self, cx: &mut Cx<'_>) -> Option<Step> {
        if self.trial.is_some() {
            // It may turn out that other workers are wanted.
            return None;
        }
        loop {
            let target = self.target();
            let surge = self.spec.rollout.max_surge.of(target);
            // Without room beside the old ones at least one has to go first.
            let may_miss = self.spec.rollout.max_unavailable.of(target).max(u32::from(surge == 0));
            let roll = self.roll.as_mut()?;
            let Some(id) = roll.queue.front().copied() else {
                if roll.in_flight.is_empty() {
                    self.roll = None;
                    self.note(cx, Level::Info, What::RollDone);
                }
                return None;
            };
            let slot = self.slots.get(&id.slot);
            if slot.is_none_or(|s| s.current != Some(id.generation)) || !self.active.contains(&id.slot) {
                // It died or went meanwhile; whatever is in its place is new already.
                roll.queue.pop_front();
                continue;
            }
            if slot.is_some_and(|s| s.retry_at.is_some()) {
                return None;
            }
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            if roll.canaries > 0 && count(roll.in_flight.len()) >= roll.canaries {
                return None;
            }
            let is_beside = |number: &&u32| self.slots.get(number).is_some_and(|slot| slot.incoming.is_some());
            let beside = count(roll.in_flight.iter().filter(is_beside).count());
            if beside < surge {
                return Some(Step::Beside(id.slot));
            }
            let stopped_first = count(roll.in_flight.len()) - beside;
            let missing = count(self.active.len()).saturating_sub(self.slots_ready + self.finished);
            return (stopped_first.max(missing) < may_miss).then_some(Step::StopFirst(id));
        }
    }

    /// Carries out the first half of a step: the worker is no longer in the queue but under way.
    pub(super) fn roll_take(&mut self, number: u32) {
        if let Some(roll) = self.roll.as_mut() {
            roll.queue.pop_front();
            roll.in_flight.insert(number);
        }
    }

    /// A worker is good: if it replaces one, the old one goes and the roll goes on.
    pub(super) fn roll_good(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let Some(slot) = self.slots.get(&id.slot) else { return };
        if slot.incoming.is_some_and(|g| g != id.generation) {
            // The old worker got good while its replacement is under way: that one still has to.
            return;
        }
        let old = slot.current.filter(|_| slot.incoming == Some(id.generation));
        if slot.incoming == Some(id.generation) {
            if let Some(slot) = self.slots.get_mut(&id.slot) {
                slot.current = None;
            }
            self.promote(cx, id.slot);
        }
        if let Some(generation) = old {
            self.stop_worker(cx, WorkerId { generation, ..id }, Reason::Replaced);
        }
        if let Some(roll) = self.roll.as_mut()
            && roll.in_flight.remove(&id.slot)
        {
            roll.failures = 0;
            roll.canaries = roll.canaries.saturating_sub(1);
        }
        self.bound_generations(cx);
    }

    /// Old generations beyond the bound are stopped the quick way, the oldest first.
    fn bound_generations(&mut self, cx: &mut Cx<'_>) {
        let most = self.spec.rollout.max_old_generations;
        let old = self.editions.keys().filter(|e| **e != self.edition).count();
        let Some(beyond) = old.checked_sub(most as usize).filter(|n| *n > 0) else { return };
        // By age, which a rollback makes another order than that of the numbers.
        let mut ages: Vec<(super::Time, u32)> = Vec::new();
        for edition in self.editions.keys().copied().filter(|e| *e != self.edition) {
            let last = self.workers.values().filter(|w| w.edition == edition).map(|w| w.started).max();
            ages.extend(last.map(|at| (at, edition)));
        }
        ages.sort_unstable();
        let doomed: BTreeSet<u32> = ages.into_iter().take(beyond).map(|(_, edition)| edition).collect();
        let slow = |w: &&super::Worker| doomed.contains(&w.edition) && w.leaving.is_some() && !w.quick;
        let ids: Vec<WorkerId> = self.workers.values().filter(slow).map(|w| w.id).collect();
        if !ids.is_empty() {
            self.note(cx, Level::Warn, What::TooManyGenerations { most });
        }
        for id in ids {
            self.quicken_worker(cx, id, Reason::Superseded);
        }
    }

    /// A replacement died beside the worker that it was to replace.
    pub(super) fn incoming_died(&mut self, cx: &mut Cx<'_>, id: WorkerId, words: &str) -> Next {
        let failures = self.slots.get_mut(&id.slot).map_or(1, |slot| {
            slot.failures = slot.failures.saturating_add(1);
            slot.failures
        });
        self.roll_retry(id.slot);
        self.roll_failed(cx, id.slot, words);
        if self.roll.is_none() {
            return Next::RollHalted;
        }
        let wait = self.spec.restart.backoff.wait(failures, draw_for(cx.seed, id));
        if wait.is_zero() {
            return Next::Restart;
        }
        self.arm_slot(cx, id.slot, Some(cx.now + wait));
        Next::RestartIn(wait)
    }

    /// The replacement of this slot is gone before it was good: its old worker is to be replaced again.
    pub(super) fn roll_retry(&mut self, number: u32) {
        let current = self.slots.get(&number).and_then(|s| s.current);
        let id = self.spec.id;
        if let (Some(roll), Some(generation)) = (self.roll.as_mut(), current)
            && roll.in_flight.remove(&number)
        {
            roll.queue.push_front(WorkerId { pool: id, slot: number, generation });
        }
    }

    /// A new worker did not get good; too many in a row stop the roll where it is.
    pub(super) fn roll_failed(&mut self, cx: &mut Cx<'_>, slot: u32, words: &str) {
        let most = self.spec.rollout.failures.max(1);
        let Some(roll) = self.roll.as_mut() else { return };
        roll.failures += 1;
        if roll.canaries > 0 {
            let untouched = self.slots.get(&slot).is_some_and(|slot| slot.current.is_some());
            let why = format!("the canary in slot {slot} did not get good: {words}");
            self.roll_end(cx, Some(Halt { why, untouched }));
        } else if roll.failures >= most {
            let why =
                format!("{most} new workers in a row did not get good (rollout.failures), the last one in slot {slot}: {words}");
            self.roll_end(cx, Some(Halt { why, untouched: false }));
        }
    }

    /// The slot is no longer wanted, or stays empty: the roll has nothing to do there.
    pub(super) fn roll_forget(&mut self, number: u32) {
        if let Some(roll) = self.roll.as_mut() {
            roll.in_flight.remove(&number);
        }
    }

    /// Ends the roll where it is. Replacements that are not good yet go, the old workers stay.
    pub(super) fn roll_end(&mut self, cx: &mut Cx<'_>, halt: Option<Halt>) {
        let Some(roll) = self.roll.take() else { return };
        if let Some(Halt { why, untouched }) = halt {
            self.note(cx, Level::Error, What::RollHalted { why: why.clone() });
            let why = format!("replacing its workers stopped: {why}");
            self.roll_halted = Some(Halt { why, untouched });
        }
        for number in roll.in_flight {
            self.dismiss_incoming(cx, number);
        }
        // Waits between replacements end with it; those of empty slots are their own.
        let filled: Vec<u32> = self.active.difference(&self.empty).copied().collect();
        for number in filled {
            self.arm_slot(cx, number, None);
        }
    }

    /// Nobody wants the roll any more: what is left of the pool's wishes is seen to.
    pub(in super::super) fn roll_abandon(&mut self, cx: &mut Cx<'_>) {
        self.roll_end(cx, None);
        self.fill(cx);
    }

    /// A config is to be tried: replacements that are not good yet go, for the canaries, and their turn comes again.
    pub(super) fn roll_recall(&mut self, cx: &mut Cx<'_>) {
        let beside = |number: &u32| self.slots.get(number).is_some_and(|slot| slot.incoming.is_some());
        let coming: Vec<u32> = self.roll.iter().flat_map(|roll| &roll.in_flight).copied().filter(beside).collect();
        for number in coming {
            self.roll_retry(number);
            self.dismiss_incoming(cx, number);
        }
    }

    fn dismiss_incoming(&mut self, cx: &mut Cx<'_>, number: u32) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let Some(generation) = slot.incoming.take() else { return };
        self.index(number);
        self.stop_worker(cx, WorkerId { pool: self.spec.id, slot: number, generation }, Reason::Superseded);
    }

    /// A roll that stopped halfway, or never began, left workers of an older edition.
    pub(in super::super) fn has_outdated(&self) -> bool {
        self.editions.keys().any(|edition| *edition != self.edition) && self.outdated().next().is_some()
    }

    /// Editions and slots of the workers of other editions than the present one. What stops already is none: its slot is filled anew.
    fn outdated(&self) -> impl Iterator<Item = (u32, u32)> {
        self.active.iter().filter_map(|number| {
            let generation = self.slots.get(number)?.current?;
            let worker = self.workers.get(&(*number, generation))?;
            (worker.edition != self.edition && !worker.is_stopping()).then_some((worker.edition, *number))
        })
    }

    /// A roll runs.
    pub(in super::super) fn is_rolling(&self) -> bool {
        self.roll.is_some()
    }

    /// Workers can be replaced in this phase.
    pub(in super::super) fn may_roll(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::BackingOff)
    }
}
