//! Owns when a worker is started: never more at once than allowed, never sooner than allowed, one probe at a time in back-off.

use std::time::Duration;

use super::super::timers::Key;
use super::super::worker::Worker;
use super::super::{Action, Level, Phase, Reason, SpawnError, Time, What, WorkerId};
use super::roll::Step;
use super::{Cx, Pool};

/// Workers of one pool between fork and exec at once. Bounds what a burst (or a hung working directory) costs the others.
const SPAWNING_AT_ONCE: u32 = 32;
/// Waits of a pool whose workers the host cannot start: this, doubled each time, up to the longest.
const RESOURCES_FIRST: Duration = Duration::from_millis(100);
const RESOURCES_LONGEST: Duration = Duration::from_secs(10);

/// Why no worker is started now.
enum Held {
    /// Nothing to start, or an event will bring it on.
    Idle,
    /// Not before this.
    Until(Time),
}

impl Pool {
    /// Starts what may be started now and arms the time of the next attempt.
    pub(in super::super) fn fill(&mut self, cx: &mut Cx<'_>) {
        let held = loop {
            match self.next_start(cx) {
                Ok(start) => self.spawn(cx, start),
                Err(held) => break held,
            }
        };
        let at = match held {
            Held::Idle => None,
            Held::Until(at) => Some(at),
        };
        let key = Key::Pool(self.id());
        cx.timers.arm(key, &mut self.armed, at);
    }

    fn next_start(&mut self, cx: &mut Cx<'_>) -> Result<Start, Held> {
        if !cx.may_spawn {
            return Err(Held::Idle);
        }
        let start = if let Some(canary) = self.next_canary(cx) { canary } else { self.next_of_config(cx)? };
        if self.spawning >= SPAWNING_AT_ONCE || self.spec.max_starting.is_some_and(|most| self.starting >= most.max(1)) {
            return Err(Held::Idle);
        }
        if let Some(at) = self.resources_at.filter(|at| *at > cx.now) {
            return Err(Held::Until(at));
        }
        let from = self.spawned_at.map_or(cx.now, |at| at + self.spec.spawn_interval);
        if from > cx.now {
            return Err(Held::Until(from));
        }
        if start.incoming && !start.canary {
            self.roll_take(start.slot);
        }
        Ok(start)
    }

    /// The next worker of the config that is in force.
    fn next_of_config(&mut self, cx: &mut Cx<'_>) -> Result<Start, Held> {
        Ok(match self.phase {
            Phase::Running => self.next_wanted(cx).ok_or(Held::Idle)?,
            Phase::BackingOff => {
                if self.unsettled > 0 || self.probing > 0 {
                    // One at a time: its end or its good health decides.
                    return Err(Held::Idle);
                }
                if self.trial.is_some() {
                    // The canary is the probe.
                    return Err(Held::Idle);
                }
                let Some(slot) = self.vacant.first().copied() else {
                    // Nothing is missing any more: there is nothing to probe with, and no need to.
                    self.close_breaker(cx, false);
                    return self.next_of_config(cx);
                };
                if let Some(at) = self.probe_at.filter(|at| *at > cx.now) {
                    return Err(Held::Until(at));
                }
                Start { slot, incoming: false, probe: true, canary: false }
            }
            Phase::Waiting | Phase::Stopped | Phase::Parked | Phase::Failed | Phase::Completed | Phase::Removed => {
                return Err(Held::Idle);
            }
        })
    }

    /// Empty slots first; then what a roll wants to start beside an old worker.
    fn next_wanted(&mut self, cx: &mut Cx<'_>) -> Option<Start> {
        loop {
            // Slots that a canary is to have wait for it.
            let kept = |slot: &&u32| self.trial.as_ref().is_some_and(|t| t.keeps(**slot));
            if let Some(slot) = self.vacant.iter().find(|slot| !kept(slot)) {
                return Some(Start { slot: *slot, incoming: false, probe: false, canary: false });
            }
            match self.roll_step(cx)? {
                Step::Beside(slot) => return Some(Start { slot, incoming: true, probe: false, canary: false }),
                Step::StopFirst(id) => {
                    self.roll_take(id.slot);
                    self.stop_worker(cx, id, Reason::Replaced);
                }
            }
        }
    }

    fn spawn(&mut self, cx: &mut Cx<'_>, start: Start) {
        let Some(slot) = self.slots.get_mut(&start.slot) else { return };
        slot.generation += 1;
        if start.incoming {
            slot.incoming = Some(slot.generation);
        } else {
            slot.current = Some(slot.generation);
        }
        let id = WorkerId { pool: self.spec.id, slot: start.slot, generation: slot.generation };
        if start.probe {
            self.probe_at = None;
        }
        self.spawned_at = Some(cx.now);
        let tried = self.trial.as_ref().filter(|_| start.canary).map(|t| (t.revision, t.edition, &t.spec));
        let (revision, edition, spec) = tried.unwrap_or((self.revision, self.edition, &self.spec));
        let mut worker = Worker::new(id, (revision, edition), cx.now, spec, self.workers.len());
        *self.editions.entry(edition).or_insert(0) += 1;
        worker.incoming = start.incoming;
        worker.probe = start.probe;
        worker.tried = start.canary;
        self.tally(&worker, true);
        let next = worker.next_deadline();
        cx.timers.arm(Key::Worker(id), &mut worker.armed, next);
        self.workers.insert((id.slot, id.generation), worker);
        if start.canary {
            self.canary_started(id);
        }
        self.index(id.slot);
        cx.out.push(Action::Spawn { worker: id, revision });
    }

    /// The host could not start a worker: no fault of the pool, tried again later and later.
    pub(super) fn lack_of_resources(&mut self, cx: &mut Cx<'_>, id: WorkerId, error: SpawnError) {
        let was_probe = self.worker(id).is_some_and(|w| w.probe);
        self.canary_lacks(id, &error.message);
        self.forget(cx, id);
        if let Some(slot) = self.slots.get_mut(&id.slot) {
            slot.current = slot.current.filter(|g| *g != id.generation);
            slot.incoming = slot.incoming.filter(|g| *g != id.generation);
        }
        self.index(id.slot);
        self.roll_retry(id.slot);
        if was_probe {
            self.probe_at = Some(cx.now);
        }
        let fresh = self.resources_at.is_none_or(|at| at <= cx.now);
        if fresh {
            let wait = RESOURCES_FIRST.saturating_mul(1 << self.resource_tries.min(10)).min(RESOURCES_LONGEST);
            self.resource_tries = self.resource_tries.saturating_add(1);
            self.resources_at = Some(cx.now + wait);
        }
        self.trouble = Some(error.message.clone());
        // One warning for each wait, not for each of the workers that ran into it together.
        let level = if fresh { Level::Warn } else { Level::Debug };
        let retry_in = self.resources_at.map(|at| at - cx.now);
        cx.note(level, Some(id.pool), Some(id), What::SpawnFailed { error, retry_in });
    }

    /// A worker came to run its program: the host has what it takes again.
    pub(super) fn resources_are_back(&mut self) {
        self.resource_tries = 0;
        self.resources_at = None;
    }
}

/// Where the next worker is started.
pub(super) struct Start {
    pub(super) slot: u32,
    /// Beside the worker of that slot.
    pub(super) incoming: bool,
    pub(super) probe: bool,
    /// By the config that is tried.
    pub(super) canary: bool,
}
