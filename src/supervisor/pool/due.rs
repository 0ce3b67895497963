//! Owns what a passed deadline means.

use super::super::timers::Key;
use super::super::{Action, Level, ReadyKind, Reason, What, WorkerId, WorkerState};
use super::{Cx, Pool};

impl Pool {
    /// A worker's earliest deadline has passed.
    pub(in super::super) fn worker_due(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let now = cx.now;
        let Some(worker) = self.workers.get_mut(&(id.slot, id.generation)) else { return };
        worker.armed = None;
        let passed = |at: Option<super::Time>| at.is_some_and(|at| at <= now);
        let (deadline, look, beat) = (passed(worker.deadline), passed(worker.look_at), passed(worker.beat_by));
        match worker.state {
            WorkerState::Spawning | WorkerState::Starting if deadline => self.start_timeout(cx, id),
            WorkerState::Spawning | WorkerState::Starting if look => self.look(cx, id),
            WorkerState::Ready | WorkerState::Good if beat => {
                let timeout = worker.timeout.unwrap_or_default();
                cx.note(Level::Error, Some(id.pool), Some(id), What::HeartbeatLost { timeout });
                self.abort_worker(cx, id, Reason::HeartbeatLost);
            }
            WorkerState::Ready if deadline => self.becomes_good(cx, id),
            WorkerState::Leaving
            | WorkerState::Stopping
            | WorkerState::Aborting
            | WorkerState::Killed
            | WorkerState::Lingering
                if deadline =>
            {
                self.escalate(cx, id);
            }
            WorkerState::Spawning
            | WorkerState::Starting
            | WorkerState::Ready
            | WorkerState::Good
            | WorkerState::Leaving
            | WorkerState::Stopping
            | WorkerState::Aborting
            | WorkerState::Killed
            | WorkerState::Lingering => {}
        }
        // Whatever was not due yet is armed again.
        self.edit(cx, id, |_| {});
        self.fill(cx);
    }

    /// `start_timeout` is over. With `auto` a living worker is taken as ready: it may serve in a way the kernel does not show.
    fn start_timeout(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        if let Some(worker) = self.worker(id).filter(|w| w.forked.is_none()) {
            let (reason, within) = (Reason::Unprepared, cx.now - worker.started);
            cx.note(Level::Error, Some(id.pool), Some(id), What::Unprepared { within });
            self.canary_failed(id, reason.verdict());
            return self.stop_worker(cx, id, reason);
        }
        let state = self.worker(id).map(|w| w.state);
        let (ready, timeout) = (self.spec_for(id).ready, self.spec_for(id).start_timeout);
        let waited = self.worker(id).is_some_and(|w| w.look_at.is_some_and(|at| at <= cx.now));
        if matches!(ready, ReadyKind::Delay(_)) && waited {
            // It was ready before, and nobody was awake to see it.
            return self.look(cx, id);
        }
        if ready == ReadyKind::NotifyOrAccepting && state == Some(WorkerState::Starting) {
            cx.note(Level::Warn, Some(id.pool), Some(id), What::AssumedReady);
            self.becomes_ready(cx, id);
            return;
        }
        cx.note(Level::Error, Some(id.pool), Some(id), What::StartTimeout { timeout });
        self.canary_failed(id, &format!("was not ready within start_timeout ({})", super::super::human(timeout)));
        self.stop_worker(cx, id, Reason::StartTimeout);
    }

    fn look(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        self.edit(cx, id, |w| w.look_at = None);
        match self.spec_for(id).ready {
            ReadyKind::Delay(_) => self.becomes_ready(cx, id),
            ReadyKind::Accepting | ReadyKind::NotifyOrAccepting => cx.out.push(Action::Look { worker: id }),
            // The kind was changed while the worker was starting: it counts as ready by the new one when it says so.
            ReadyKind::Exec => self.becomes_ready(cx, id),
            ReadyKind::Notify => {}
        }
    }

    /// A slot's wait is over.
    pub(in super::super) fn slot_due(&mut self, cx: &mut Cx<'_>, number: u32) {
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.retry_at = None;
        }
        self.index(number);
        self.fill(cx);
    }

    /// The pool's next attempt may be made.
    pub(in super::super) fn pool_due(&mut self, cx: &mut Cx<'_>) {
        self.armed = None;
        self.fill(cx);
    }

    /// The loop was away for long: silence in that time is no sign of sickness.
    pub(in super::super) fn grant_grace(&mut self, cx: &mut Cx<'_>, by: std::time::Duration) {
        let now = cx.now;
        let ids: Vec<WorkerId> = self.workers.values().filter(|w| w.beat_by.is_some() || w.is_starting()).map(|w| w.id).collect();
        for id in ids {
            self.edit(cx, id, |w| {
                if w.is_starting() {
                    w.deadline = w.deadline.map(|at| at + by);
                    w.asleep += by;
                }
                if let (Some(_), Some(timeout)) = (w.beat_by, w.timeout) {
                    w.beat_by = Some(now + timeout);
                }
            });
        }
    }

    /// What the timers hold for a slot.
    pub(super) fn arm_slot(&mut self, cx: &mut Cx<'_>, number: u32, at: Option<super::Time>) {
        let id = self.id();
        if let Some(slot) = self.slots.get_mut(&number) {
            cx.timers.arm(Key::Slot(id, number), &mut slot.retry_at, at);
        }
        self.index(number);
    }
}
