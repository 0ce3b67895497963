//! Owns how a worker is stopped: its stop sequence, the quick way, and KILL, each at its deadline and not before.

use std::time::Duration;

use super::super::{ABRT, Action, Cause, KILL, KillMode, Level, Reason, Scope, What, WorkerId, WorkerState};
use super::{Cx, Pool};

/// A process that KILL has not ended after this long hangs in the kernel.
pub(in super::super) const UNKILLABLE_AFTER: Duration = Duration::from_secs(10);

/// From the end of a release's time to the stop signal: what it may take to end a hook that has had its time.
const RELEASE_GRACE: Duration = Duration::from_secs(3);

impl Pool {
    fn signal(&self, cx: &mut Cx<'_>, worker: WorkerId, signal: i32, cause: Cause) {
        let scope = match self.spec_for(worker).kill_mode {
            KillMode::Group => Scope::Group,
            KillMode::Mixed if signal == KILL => Scope::Group,
            KillMode::Mixed | KillMode::Process => Scope::Leader,
        };
        cx.out.push(Action::Signal { worker, signal, scope, cause });
    }

    /// Asks a worker to stop, once what comes before is done. One that is stopping already is left to its deadline, never signalled twice.
    pub(super) fn stop_worker(&mut self, cx: &mut Cx<'_>, id: WorkerId, reason: Reason) {
        let Some(worker) = self.worker(id) else { return };
        match worker.state {
            WorkerState::Spawning | WorkerState::Starting | WorkerState::Ready | WorkerState::Good => {
                // One whose program does not run yet has nothing to be released from.
                let may_leave = matches!(reason, Reason::Replaced | Reason::Removed);
                let release = worker.spec.release.or(worker.spec.farewell.filter(|_| may_leave));
                let release = release.filter(|_| worker.state != WorkerState::Spawning);
                let (now, settle, steps) = (cx.now, worker.spec.settle, worker.spec.stop.iter().copied().collect());
                self.edit(cx, id, |w| {
                    w.stop_steps = steps;
                    w.was_good = w.has_settled(now, settle);
                    w.leave(reason);
                });
                let Some(within) = release else { return self.tell_to_stop(cx, id) };
                self.edit(cx, id, |w| w.enter(WorkerState::Leaving, now, Some(now + within + RELEASE_GRACE)));
                cx.note(Level::Debug, Some(id.pool), Some(id), What::Leaving { reason, within });
                cx.out.push(Action::Release { worker: id });
            }
            WorkerState::Leaving
            | WorkerState::Stopping
            | WorkerState::Aborting
            | WorkerState::Killed
            | WorkerState::Lingering => {
                self.edit(cx, id, |w| w.leaving = w.leaving.or(Some(reason)));
            }
        }
    }

    /// The first signal of its stop sequence, from which its time to stop is counted.
    fn tell_to_stop(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let Some(worker) = self.worker(id) else { return };
        let Some(step) = worker.stop_steps.front().copied() else { return };
        let (now, reason) = (cx.now, worker.leaving.unwrap_or(Reason::Shutdown));
        self.edit(cx, id, |w| {
            w.stop_steps.pop_front();
            w.mark_sent(step.signal);
            w.enter(WorkerState::Stopping, now, Some(now + step.wait));
        });
        cx.note(Level::Info, Some(id.pool), Some(id), What::Stopping { reason, signal: step.signal });
        self.signal(cx, id, step.signal, Cause::Stop);
    }

    /// What came before its stop signal is done.
    pub(in super::super) fn released(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let Some(worker) = self.worker(id) else { return self.stale(cx, id, "a release") };
        match worker.state {
            WorkerState::Leaving => self.tell_to_stop(cx, id),
            // It was cut short.
            WorkerState::Stopping | WorkerState::Aborting | WorkerState::Killed | WorkerState::Lingering => {}
            WorkerState::Spawning | WorkerState::Starting | WorkerState::Ready | WorkerState::Good => {
                self.stale(cx, id, "a release");
            }
        }
    }

    /// The quick way for one worker: the quick signal unless it was sent that one before, and KILL after `quick_timeout`.
    pub(super) fn quicken_worker(&mut self, cx: &mut Cx<'_>, id: WorkerId, reason: Reason) {
        let Some(worker) = self.worker(id) else { return };
        let now = cx.now;
        let spec = &worker.spec;
        let (signal, by) = (spec.quick_signal, now + spec.quick_timeout);
        match worker.state {
            WorkerState::Spawning
            | WorkerState::Starting
            | WorkerState::Ready
            | WorkerState::Good
            | WorkerState::Leaving
            | WorkerState::Stopping => {
                let mut first = false;
                self.edit(cx, id, |w| {
                    let deadline = w.deadline.filter(|_| w.state == WorkerState::Stopping).map_or(by, |at| at.min(by));
                    w.leave(reason);
                    w.quick = true;
                    w.stop_steps.clear();
                    first = w.mark_sent(signal);
                    if w.state != WorkerState::Stopping {
                        w.enter(WorkerState::Stopping, now, None);
                    }
                    w.deadline = Some(deadline);
                });
                if first {
                    cx.note(Level::Info, Some(id.pool), Some(id), What::Stopping { reason, signal });
                    self.signal(cx, id, signal, Cause::Quick);
                }
            }
            WorkerState::Aborting | WorkerState::Lingering => {
                self.edit(cx, id, |w| w.deadline = w.deadline.map(|at| at.min(by)));
            }
            WorkerState::Killed => {}
        }
    }

    /// KILL, now.
    pub(super) fn kill_worker(&mut self, cx: &mut Cx<'_>, id: WorkerId, reason: Reason) {
        let Some(worker) = self.worker(id) else { return };
        let now = cx.now;
        match worker.state {
            WorkerState::Spawning
            | WorkerState::Starting
            | WorkerState::Ready
            | WorkerState::Good
            | WorkerState::Leaving
            | WorkerState::Stopping
            | WorkerState::Aborting => {
                let waited = now - worker.since;
                let what = if worker.leaving.is_some() && worker.state != WorkerState::Leaving {
                    What::Escalated { signal: KILL, waited }
                } else {
                    What::Stopping { reason, signal: KILL }
                };
                self.edit(cx, id, |w| {
                    w.leave(reason);
                    w.mark_sent(KILL);
                    w.enter(WorkerState::Killed, now, Some(now + UNKILLABLE_AFTER));
                });
                cx.note(Level::Warn, Some(id.pool), Some(id), what);
                self.signal(cx, id, KILL, Cause::Kill);
            }
            WorkerState::Lingering => {
                let mut first = false;
                self.edit(cx, id, |w| {
                    first = w.mark_sent(KILL);
                    if first {
                        w.deadline = Some(now + UNKILLABLE_AFTER);
                    }
                });
                if first {
                    cx.out.push(Action::Signal { worker: id, signal: KILL, scope: Scope::Group, cause: Cause::Kill });
                }
            }
            WorkerState::Killed => {}
        }
    }

    /// The deadline of a stopping worker has passed: the next step of its sequence, in the end KILL.
    pub(super) fn escalate(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let Some(worker) = self.worker(id) else { return };
        let now = cx.now;
        let waited = now - worker.since;
        match worker.state {
            WorkerState::Leaving => {
                cx.note(Level::Warn, Some(id.pool), Some(id), What::ReleaseOverdue { within: waited });
                self.tell_to_stop(cx, id);
            }
            WorkerState::Stopping => match worker.stop_steps.front().copied() {
                Some(step) => {
                    self.edit(cx, id, |w| {
                        w.stop_steps.pop_front();
                        w.mark_sent(step.signal);
                        w.deadline = Some(now + step.wait);
                    });
                    cx.note(Level::Warn, Some(id.pool), Some(id), What::Escalated { signal: step.signal, waited });
                    self.signal(cx, id, step.signal, Cause::Stop);
                }
                None => self.kill_worker(cx, id, Reason::Shutdown),
            },
            WorkerState::Aborting => self.kill_worker(cx, id, Reason::HeartbeatLost),
            WorkerState::Killed => {
                self.edit(cx, id, |w| w.deadline = None);
                cx.note(Level::Error, Some(id.pool), Some(id), What::Unkillable { waited });
            }
            WorkerState::Lingering if !worker.was_sent(KILL) => self.kill_worker(cx, id, Reason::Shutdown),
            WorkerState::Lingering => {
                self.edit(cx, id, |w| w.deadline = None);
                cx.note(Level::Error, Some(id.pool), Some(id), What::Unkillable { waited });
            }
            WorkerState::Spawning | WorkerState::Starting | WorkerState::Ready | WorkerState::Good => {}
        }
    }

    /// A worker that is sick by its own silence or word: ABRT, so that it leaves a trace, then KILL.
    pub(super) fn abort_worker(&mut self, cx: &mut Cx<'_>, id: WorkerId, reason: Reason) {
        let spec = self.spec_for(id);
        let (now, grace, settle) = (cx.now, spec.abort_grace, spec.settle);
        self.canary_failed(id, reason.verdict());
        self.edit(cx, id, |w| {
            w.was_good = w.has_settled(now, settle);
            w.leave(reason);
            w.mark_sent(ABRT);
            w.enter(WorkerState::Aborting, now, Some(now + grace));
        });
        cx.out.push(Action::Signal { worker: id, signal: ABRT, scope: Scope::Leader, cause: Cause::Abort });
    }

    fn all_ids(&self) -> Vec<WorkerId> {
        self.workers.values().map(|w| w.id).collect()
    }

    /// The longest time that one of its workers has after the quick signal.
    pub(in super::super) fn longest_quick(&self) -> Duration {
        self.workers.values().map(|w| w.spec.quick_timeout).max().unwrap_or_default()
    }

    /// The quick way for all of them.
    pub(in super::super) fn quicken(&mut self, cx: &mut Cx<'_>, reason: Reason) {
        for id in self.all_ids() {
            self.quicken_worker(cx, id, reason);
        }
    }

    /// KILL for all of them.
    pub(in super::super) fn kill_all(&mut self, cx: &mut Cx<'_>, reason: Reason) {
        for id in self.all_ids() {
            self.kill_worker(cx, id, reason);
        }
    }
}
