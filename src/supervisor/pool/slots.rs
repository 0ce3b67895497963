//! Owns the numbered places of a pool: which are wanted, which are empty, and which goes first when there are too many.

use serde::{Deserialize, Serialize};

use super::super::timers::Key;
use super::super::worker::Worker;
use super::super::{Reason, Remove, Time, WorkerId};
use super::trial::Trial;
use super::{Cx, Pool};

/// A numbered place for one worker (and, during a roll, for its replacement beside it).
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Slot {
    /// Generation of the worker that fills it.
    pub(super) current: Option<u32>,
    /// Generation of the worker that will replace the current one.
    pub(super) incoming: Option<u32>,
    /// The last generation given out.
    pub(super) generation: u32,
    /// Early deaths in a row.
    pub(super) failures: u32,
    /// Not before this.
    pub(super) retry_at: Option<Time>,
    /// Its job is done: `Some(well)`.
    pub(super) finished: Option<bool>,
    /// What the indexes of the pool hold for it.
    #[serde(skip)]
    aged: Option<Time>,
    #[serde(skip)]
    counted_ready: bool,
    #[serde(skip)]
    counted_finished: Option<bool>,
}

impl Pool {
    /// Brings the number of wanted slots to what the phase wants; surplus workers are stopped for `reason`.
    pub(super) fn resize(&mut self, cx: &mut Cx<'_>, reason: Reason) {
        self.limit_canaries();
        let wanted = self.wanted() as usize;
        while self.active.len() > wanted {
            let Some(slot) = self.next_to_remove() else { break };
            self.deactivate(cx, slot, reason);
        }
        while self.active.len() < wanted {
            // The lowest free number; without one, the slots in use are exactly 0..len.
            let slot = self.free.pop_first().unwrap_or(self.active.len() as u32);
            self.active.insert(slot);
            let floor = self.floor;
            self.slots.entry(slot).or_insert_with(|| Slot { generation: floor, ..Slot::default() });
            self.index(slot);
        }
        self.choose_canaries(cx);
    }

    /// Slots without a live worker first, then those whose worker is going anyway, then by the pool's rule.
    fn next_to_remove(&self) -> Option<u32> {
        // A canary in place of an old worker that is one too many by now: nobody serves there yet.
        if let Some(slot) = self.trial.as_ref().and_then(Trial::too_many) {
            return Some(slot);
        }
        // Those of the others last of all: they decide more than old workers.
        let tried = |slot: &u32| self.trial.as_ref().is_some_and(|t| t.has_slot(*slot));
        let plain = |slot: &&u32| !tried(slot);
        let idle = self.empty.iter().rev().find(plain).or_else(|| self.leaving.iter().rev().find(plain)).copied();
        let by_age = |first: bool| {
            let mut ages = self.by_age.iter().map(|(_, slot)| *slot).filter(|slot| !tried(slot));
            if first { ages.next() } else { ages.next_back() }
        };
        let chosen = idle.or_else(|| match self.spec.remove {
            Remove::Oldest => by_age(true),
            Remove::Newest => by_age(false),
            Remove::HighestSlot => self.active.iter().rev().find(plain).copied(),
        });
        chosen.or_else(|| self.active.last().copied())
    }

    fn deactivate(&mut self, cx: &mut Cx<'_>, number: u32, reason: Reason) {
        let id = self.id();
        let Some(slot) = self.slots.get_mut(&number) else { return };
        slot.finished = None;
        cx.timers.arm(Key::Slot(id, number), &mut slot.retry_at, None);
        let live = [slot.current.take(), slot.incoming.take()];
        self.active.remove(&number);
        self.free.insert(number);
        self.index(number);
        for generation in live.into_iter().flatten() {
            self.stop_worker(cx, WorkerId { pool: id, slot: number, generation }, reason);
        }
        self.roll_forget(number);
        self.canary_forget(number);
    }

    /// Brings the indexes over the slots in line with one slot. To be called after each change of a slot or its workers.
    pub(super) fn index(&mut self, number: u32) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let active = self.active.contains(&number);
        let current = slot.current.and_then(|generation| self.workers.get(&(number, generation)));
        set(&mut self.empty, number, active && slot.current.is_none());
        set(&mut self.vacant, number, active && slot.current.is_none() && slot.retry_at.is_none() && slot.finished.is_none());

        let incoming = slot.incoming.and_then(|generation| self.workers.get(&(number, generation)));
        let leaving = current.is_some_and(|w| w.is_stopping()) && incoming.is_none_or(|w| w.is_stopping());
        set(&mut self.leaving, number, active && leaving);
        let aged = current.filter(|_| active).map(|w| w.started);
        if slot.aged != aged {
            slot.aged.map(|at| self.by_age.remove(&(at, number)));
            aged.map(|at| self.by_age.insert((at, number)));
            slot.aged = aged;
        }
        let ready = active && [current, incoming].into_iter().flatten().any(Worker::counts);
        if slot.counted_ready != ready {
            slot.counted_ready = ready;
            self.slots_ready = if ready { self.slots_ready + 1 } else { self.slots_ready - 1 };
        }
        let finished = slot.finished.filter(|_| active);
        if slot.counted_finished != finished {
            self.finished -= u32::from(slot.counted_finished.is_some());
            self.finished_badly -= u32::from(slot.counted_finished == Some(false));
            self.finished += u32::from(finished.is_some());
            self.finished_badly += u32::from(finished == Some(false));
            slot.counted_finished = finished;
        }
    }

    /// Lets every waiting slot try again now; `forgive` clears their counts as well.
    pub(super) fn clear_waits(&mut self, cx: &mut Cx<'_>, forgive: bool) {
        let id = self.id();
        // Slots that are not wanted now may be wanted again: what is forgiven is forgiven for them too.
        let numbers: Vec<u32> =
            if forgive { self.slots.keys().copied().collect() } else { self.active.iter().copied().collect() };
        for number in numbers {
            if let Some(slot) = self.slots.get_mut(&number) {
                cx.timers.arm(Key::Slot(id, number), &mut slot.retry_at, None);
                if forgive {
                    slot.failures = 0;
                }
            }
            self.index(number);
        }
    }
}

fn set(index: &mut std::collections::BTreeSet<u32>, number: u32, member: bool) {
    if member {
        index.insert(number);
    } else {
        index.remove(&number);
    }
}
