//! Owns the rolling replacement of workers: new ones good before old ones stop, within `max_surge` and `max_unavailable`.

use std::collections::{BTreeSet, VecDeque};

use super::super::action::Next;
use super::super::chance::draw_for;
use super::super::{Level, Phase, Reason, What, WorkerId};
use super::{Cx, Pool};

/// A roll under way.
#[derive(Debug)]
pub(in super::super) struct Roll {
    /// Workers still to be replaced.
    queue: VecDeque<WorkerId>,
    /// Slots whose replacement is started and not yet good.
    in_flight: BTreeSet<u32>,
    /// New workers in a row that did not get good.
    failures: u32,
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
}

impl Pool {
    /// Begins to replace the workers of these slots (all when `None`). Of a roll that runs, the plan is made anew from the workers as
    /// they are.
    pub(in super::super) fn roll_start(&mut self, cx: &mut Cx<'_>, only: Option<&BTreeSet<u32>>) {
        self.roll_halted = None;
        let mut wanted: BTreeSet<u32> = match only {
            Some(slots) => slots.intersection(&self.active).copied().collect(),
            None => self.active.clone(),
        };
        if let Some(old) = self.roll.take() {
            wanted.extend(old.queue.iter().map(|id| id.slot));
            for number in old.in_flight {
                // A replacement that is not good yet is of the old plan: it goes, and another one comes.
                wanted.insert(number);
                self.dismiss_incoming(cx, number);
            }
        }
        let current = |slot: u32| {
            let generation = self.slots.get(&slot)?.current?;
            // One that this very order has started is new already.
            let old = self.workers.get(&(slot, generation)).is_some_and(|w| w.started < cx.now);
            old.then_some(WorkerId { pool: self.spec.id, slot, generation })
        };
        let queue: VecDeque<WorkerId> = wanted.into_iter().filter_map(current).collect();
        if !queue.is_empty() {
            self.note(cx, Level::Info, What::RollStarted { workers: u32::try_from(queue.len()).unwrap_or(u32::MAX) });
            self.roll = Some(Roll { queue, in_flight: BTreeSet::new(), failures: 0 });
        }
        self.fill(cx);
    }

    /// What the roll would do next, if anything; ends it when all is done.
    pub(super) fn roll_step(&mut self, cx: &mut Cx<'_>) -> Option<Step> {
        loop {
            let target = self.target();
            let surge = self.spec.rollout.max_surge.of(target);
            let may_miss = self.spec.rollout.max_unavailable.of(target).max(1);
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
            let in_flight = u32::try_from(roll.in_flight.len()).unwrap_or(u32::MAX);
            if surge > 0 {
                return (in_flight < surge).then_some(Step::Beside(id.slot));
            }
            let missing = u32::try_from(self.active.len()).unwrap_or(u32::MAX).saturating_sub(self.slots_ready + self.finished);
            return (in_flight.max(missing) < may_miss).then_some(Step::StopFirst(id));
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
        }
    }

    /// A replacement died beside the worker that it was to replace.
    pub(super) fn incoming_died(&mut self, cx: &mut Cx<'_>, id: WorkerId) -> Next {
        let failures = self.slots.get_mut(&id.slot).map_or(1, |slot| {
            slot.failures = slot.failures.saturating_add(1);
            slot.failures
        });
        self.roll_retry(id.slot);
        self.roll_failed(cx);
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
    pub(super) fn roll_failed(&mut self, cx: &mut Cx<'_>) {
        let most = self.spec.rollout.failures.max(1);
        let Some(roll) = self.roll.as_mut() else { return };
        roll.failures += 1;
        if roll.failures >= most {
            self.roll_end(cx, Some(format!("{most} new workers in a row did not get good (rollout.failures)")));
        }
    }

    /// The slot is no longer wanted: the roll has nothing to do there.
    pub(super) fn roll_forget(&mut self, number: u32) {
        if let Some(roll) = self.roll.as_mut() {
            roll.in_flight.remove(&number);
        }
    }

    /// Ends the roll where it is. Replacements that are not good yet go, the old workers stay.
    pub(in super::super) fn roll_end(&mut self, cx: &mut Cx<'_>, why: Option<String>) {
        let Some(roll) = self.roll.take() else { return };
        if let Some(why) = why {
            self.note(cx, Level::Error, What::RollHalted { why: why.clone() });
            self.roll_halted = Some(format!("replacing its workers stopped: {why}"));
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

    fn dismiss_incoming(&mut self, cx: &mut Cx<'_>, number: u32) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let Some(generation) = slot.incoming.take() else { return };
        self.index(number);
        self.stop_worker(cx, WorkerId { pool: self.spec.id, slot: number, generation }, Reason::Superseded);
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
