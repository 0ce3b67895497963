//! Owns what facts about a living worker mean, for each state it can be in.

use super::super::{Level, Notification, ReadyKind, Reason, SpawnError, SpawnFault, What, WorkerId, WorkerState};
use super::deaths::Death;
use super::{Cx, Pool};

impl Pool {
    pub(super) fn stale(&self, cx: &mut Cx<'_>, id: WorkerId, fact: &str) {
        let fact = match self.worker(id) {
            Some(w) => format!("{fact} from a worker that is {:?}", w.state),
            None => format!("{fact} from a worker that is no longer there"),
        };
        cx.note(Level::Debug, Some(id.pool), Some(id), What::Stale { fact });
    }

    /// The hooks before its start are done, and it was forked.
    pub(in super::super) fn prepared(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let Some(worker) = self.worker(id) else { return self.stale(cx, id, "the end of its hooks") };
        match worker.state {
            WorkerState::Spawning => {
                let (now, within) = (cx.now, worker.spec.start_timeout);
                if worker.forked.is_none() {
                    self.edit(cx, id, |w| {
                        w.forked = Some(now);
                        w.asleep = std::time::Duration::ZERO;
                        w.deadline = Some(now + within);
                    });
                }
            }
            // It was told to stop before.
            WorkerState::Leaving
            | WorkerState::Stopping
            | WorkerState::Aborting
            | WorkerState::Killed
            | WorkerState::Lingering => {}
            WorkerState::Starting | WorkerState::Ready | WorkerState::Good => self.stale(cx, id, "the end of its hooks"),
        }
    }

    /// The worker's program runs.
    pub(in super::super) fn spawned(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let Some(worker) = self.worker(id) else { return self.stale(cx, id, "exec") };
        match worker.state {
            WorkerState::Spawning => {
                let (now, kind) = (cx.now, worker.spec.ready);
                let deadline = worker.deadline.or(Some(now + worker.spec.start_timeout));
                self.resources_are_back();
                self.edit(cx, id, |w| {
                    w.forked = w.forked.or(Some(now));
                    w.enter(WorkerState::Starting, now, deadline);
                    w.begin_waiting(now, kind);
                });
                cx.note(Level::Info, Some(id.pool), Some(id), What::Started);
                if kind == ReadyKind::Exec {
                    self.becomes_ready(cx, id);
                }
                self.fill(cx);
            }
            // It was told to stop before its program ran; that still holds.
            WorkerState::Stopping | WorkerState::Aborting | WorkerState::Killed => {}
            WorkerState::Starting | WorkerState::Ready | WorkerState::Good | WorkerState::Leaving | WorkerState::Lingering => {
                self.stale(cx, id, "exec");
            }
        }
    }

    /// The worker never came to run its program; there is no process.
    pub(in super::super) fn spawn_failed(&mut self, cx: &mut Cx<'_>, id: WorkerId, error: SpawnError) {
        let Some(worker) = self.worker(id) else { return self.stale(cx, id, "failed spawn") };
        match worker.state {
            WorkerState::Spawning => match error.fault {
                SpawnFault::Resources => {
                    self.lack_of_resources(cx, id, error);
                    self.fill(cx);
                }
                SpawnFault::Setup | SpawnFault::Exec => self.ended(cx, id, Death::Unspawned(error)),
            },
            WorkerState::Stopping | WorkerState::Aborting | WorkerState::Killed => self.ended(cx, id, Death::Unspawned(error)),
            WorkerState::Starting | WorkerState::Ready | WorkerState::Good | WorkerState::Leaving | WorkerState::Lingering => {
                self.stale(cx, id, "failed spawn");
            }
        }
    }

    /// The answer to a look.
    pub(in super::super) fn looked(&mut self, cx: &mut Cx<'_>, id: WorkerId, accepting: bool) {
        let Some(worker) = self.worker(id) else { return self.stale(cx, id, "a look") };
        match worker.state {
            WorkerState::Starting if accepting => {
                self.becomes_ready(cx, id);
                self.fill(cx);
            }
            WorkerState::Starting => {
                let now = cx.now;
                self.edit(cx, id, |w| w.look_later(now));
            }
            // READY=1 or a stop came first.
            WorkerState::Ready
            | WorkerState::Good
            | WorkerState::Leaving
            | WorkerState::Stopping
            | WorkerState::Aborting
            | WorkerState::Killed
            | WorkerState::Lingering => {}
            WorkerState::Spawning => self.stale(cx, id, "a look"),
        }
    }

    /// The worker said something.
    pub(in super::super) fn notified(&mut self, cx: &mut Cx<'_>, id: WorkerId, message: Notification) {
        let Some(worker) = self.worker(id) else { return self.stale(cx, id, "a notification") };
        let spec = &worker.spec;
        let (now, from, state, listens) = (cx.now, spec.timeout_from, worker.state, spec.ready.listens());
        let running = !worker.is_stopping();
        match message {
            Notification::Ready if state == WorkerState::Starting && listens => {
                self.becomes_ready(cx, id);
                self.fill(cx);
            }
            Notification::Ready | Notification::Reloading => {}
            Notification::Stopping if running => self.announced(cx, id),
            Notification::Stopping => {}
            Notification::Beat => self.edit(cx, id, |w| {
                w.last_beat = Some(now);
                w.arm_heartbeat(now, from);
            }),
            Notification::Trigger if running => {
                cx.note(Level::Error, Some(id.pool), Some(id), What::Triggered);
                self.abort_worker(cx, id, Reason::Trigger);
                self.fill(cx);
            }
            Notification::Trigger => {}
            Notification::Timeout(timeout) => self.edit(cx, id, |w| {
                w.timeout = Some(timeout).filter(|t| !t.is_zero());
                w.chose = true;
                w.arm_heartbeat(now, from);
            }),
            Notification::Extend(by) => self.edit(cx, id, |w| {
                // Only the phases with an end can be made longer, and never a quick stop.
                let extends = w.is_starting() || (w.state == WorkerState::Stopping && !w.quick);
                if extends {
                    w.extended = true;
                    w.deadline = w.deadline.map(|at| at.max(now + by));
                }
            }),
            Notification::Status(text) => self.edit(cx, id, |w| w.status = Some(text)),
            Notification::Busy { busy, of } => self.edit(cx, id, |w| w.busy = Some((busy, of))),
            // From one that is not good yet it would only be a way around the budget.
            Notification::RestartReset if !self.worker(id).is_some_and(|w| w.has_settled(cx.now, w.spec.settle)) => {}
            Notification::RestartReset => {
                if let Some(slot) = self.slots.get_mut(&id.slot) {
                    slot.failures = 0;
                }
                self.early.clear();
            }
            Notification::MainPid(pid) => {
                let first = self.worker(id).is_some_and(|w| !w.told_main_pid);
                self.edit(cx, id, |w| w.told_main_pid = true);
                if first {
                    cx.note(Level::Info, Some(id.pool), Some(id), What::OtherMainPid { pid });
                }
            }
        }
    }

    /// STOPPING=1: it goes by itself. A worker that was good may be replaced before it is gone; from an earlier one it is only the
    /// first half of an early death.
    fn announced(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let now = cx.now;
        let spec = self.spec_for(id);
        let bound: std::time::Duration = spec.stop.iter().map(|s| s.wait).sum();
        let settle = spec.settle;
        self.canary_failed(id, "announced its own stop");
        let good = self.worker(id).is_some_and(|w| w.has_settled(now, settle));
        let replace = good && self.restarts_always();
        cx.note(Level::Info, Some(id.pool), Some(id), What::Announced);
        self.edit(cx, id, |w| {
            w.leave(Reason::Announced);
            w.was_good = good;
            // It is on its way: no signal is sent but KILL, in the end.
            w.stop_steps.clear();
            w.enter(WorkerState::Stopping, now, Some(now + bound));
        });
        if replace {
            let was_incoming = self.slots.get(&id.slot).is_some_and(|s| s.incoming == Some(id.generation));
            self.vacate(id);
            if was_incoming {
                // It goes before the look at the clock that would have given it the old one's place: that one is to be replaced still.
                self.roll_retry(id.slot);
            } else if !self.promote(cx, id.slot) {
                // None stood beside it that was to replace it anyway.
                self.restarts += 1;
            }
        }
        self.fill(cx);
    }

    /// The worker is ready.
    pub(super) fn becomes_ready(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let Some(worker) = self.worker(id) else { return };
        let spec = &worker.spec;
        let (now, from, settle, shown) = (cx.now, spec.timeout_from, spec.settle, spec.ready != ReadyKind::Exec);
        let after = now - worker.started;
        if spec.ready.proves() {
            self.seen_ready = Some(worker.edition);
        }
        // An average that follows: three parts of what was, one of what is.
        self.start_takes = Some(self.start_takes.map_or(after, |was| (was * 3 + after) / 4));
        self.edit(cx, id, |w| {
            w.enter(WorkerState::Ready, now, Some(now + settle));
            w.look_at = None;
            w.ready_at = Some(now);
            w.arm_heartbeat(now, from);
        });
        // Of a program that was only started, time will tell.
        if shown {
            cx.note(Level::Info, Some(id.pool), Some(id), What::Ready { after });
        }
        if settle.is_zero() {
            self.becomes_good(cx, id);
        }
    }

    /// The worker is ready and settled.
    pub(super) fn becomes_good(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let now = cx.now;
        if let Some(after) = self.worker(id).filter(|w| w.spec.ready == ReadyKind::Exec).map(|w| now - w.started) {
            cx.note(Level::Info, Some(id.pool), Some(id), What::Ready { after });
        }
        self.edit(cx, id, |w| w.enter(WorkerState::Good, now, None));
        self.count_good(cx, id);
        self.fill(cx);
    }

    /// What a good worker means for its pool.
    pub(super) fn count_good(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        self.edit(cx, id, |w| w.was_good = true);
        if !self.canary_good(cx, id) {
            self.ever_good = true;
            self.close_breaker(cx, true);
            self.roll_good(cx, id);
        }
    }
}
