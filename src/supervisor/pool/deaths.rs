//! Owns what the end of a worker means: whether anybody asked for it, whether it counts, and what follows.

use std::time::Duration;

use super::super::action::Next;
use super::super::{
    Action, Cause, ExitStatus, KillMode, Level, ReadyKind, Reason, RestartPolicy, Scope, SpawnError, SpawnFault, Time, What,
    WorkerId, WorkerState,
};
use super::{Cx, Pool};

/// Between two starts in a slot whose workers end well by themselves.
const SHORTEST_LIFE: Duration = Duration::from_millis(100);

/// How a worker ended.
pub(super) enum Death {
    /// Its process ended.
    Exit(ExitStatus),
    /// It never came to run its program.
    Unspawned(SpawnError),
}

impl Pool {
    /// The worker's leader has ended.
    pub(in super::super) fn exited(&mut self, cx: &mut Cx<'_>, id: WorkerId, status: ExitStatus, stragglers: bool) {
        let Some(worker) = self.worker(id) else {
            let fact = format!("exit of a worker that is no longer there ({status})");
            return cx.note(Level::Debug, Some(id.pool), Some(id), What::Stale { fact });
        };
        match worker.state {
            WorkerState::Lingering => {
                let fact = format!("second exit of the same worker ({status})");
                cx.note(Level::Warn, Some(id.pool), Some(id), What::Stale { fact });
            }
            WorkerState::Spawning
            | WorkerState::Starting
            | WorkerState::Ready
            | WorkerState::Good
            | WorkerState::Leaving
            | WorkerState::Stopping
            | WorkerState::Aborting
            | WorkerState::Killed => {
                let lingers = stragglers && worker.spec.kill_mode != KillMode::Process;
                if self.has_recycled(id, status) {
                    // It is gone, and nobody to be told anything.
                    if worker.state == WorkerState::Ready {
                        self.count_good(cx, id);
                    } else {
                        self.edit(cx, id, |w| w.was_good = true);
                    }
                }
                if lingers {
                    self.linger(cx, id);
                }
                self.ended(cx, id, Death::Exit(status));
            }
        }
    }

    /// It has shown that it was ready, and ended well by itself: that is its way, and no early death, however soon it came. So it is where the
    /// kernel shows who is ready, and others of its edition were seen: it may have served all that it wanted to between two looks. One that is
    /// still to take the place of another has to last.
    fn has_recycled(&self, id: WorkerId, status: ExitStatus) -> bool {
        let death = Death::Exit(status);
        self.worker(id).is_some_and(|w| {
            let unasked = w.leaving.is_none_or(|reason| reason == Reason::Announced);
            let looked_at = matches!(w.spec.ready, ReadyKind::Accepting | ReadyKind::NotifyOrAccepting);
            let ready = w.ready_at.is_some() && w.spec.ready.proves()
                || w.state == WorkerState::Starting && looked_at && self.seen_ready == Some(w.edition);
            unasked && !w.incoming && ready && self.is_success(&death)
        })
    }

    /// Its leader is gone, its group is not. After a stop that was asked for, the others have what is left of the time, and those who were left
    /// to the leader so far are told; else they are killed before anything new is started in their place.
    fn linger(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        let now = cx.now;
        let settle = self.spec_for(id).settle;
        let was = self.worker(id).map(|w| w.state);
        // One that was not told yet: the others have the whole time of the first step.
        let untold = was == Some(WorkerState::Leaving);
        let patient = untold || was == Some(WorkerState::Stopping);
        self.edit(cx, id, |w| {
            w.was_good = w.has_settled(now, settle);
            let first = w.spec.stop.first().map(|step| now + step.wait);
            let deadline = if untold { first } else { w.deadline.filter(|_| patient) };
            w.look_at = None;
            w.beat_by = None;
            w.enter(WorkerState::Lingering, now, deadline);
        });
        let Some(worker) = self.worker(id) else { return };
        let (quick, spec) = (worker.quick, &worker.spec);
        if !patient {
            self.kill_worker(cx, id, Reason::Shutdown);
        } else if untold || spec.kill_mode == KillMode::Mixed {
            let signal = spec.stop.first().filter(|_| !quick).map_or(spec.quick_signal, |step| step.signal);
            let cause = if quick { Cause::Quick } else { Cause::Stop };
            cx.out.push(Action::Signal { worker: id, signal, scope: Scope::Group, cause });
        }
    }

    /// The last process of its group is gone.
    pub(in super::super) fn group_gone(&mut self, cx: &mut Cx<'_>, id: WorkerId) {
        if self.worker(id).is_some_and(|w| w.state == WorkerState::Lingering) {
            self.forget(cx, id);
            self.fill(cx);
        }
    }

    /// Takes the worker out of its slot, tells of its end, and decides what follows.
    pub(super) fn ended(&mut self, cx: &mut Cx<'_>, id: WorkerId, death: Death) {
        let Some(worker) = self.worker(id) else { return };
        let facts = Facts {
            leaving: worker.leaving,
            ordered: worker.ordered,
            early: !worker.has_settled(cx.now, worker.spec.settle),
            probe: worker.probe,
            canary: worker.tried,
            present: worker.edition == self.edition,
            healthy: worker.ready_at.is_some_and(|at| cx.now - at >= self.spec.restart.backoff.reset_after),
            age: cx.now - worker.started,
        };
        let lingers = worker.state == WorkerState::Lingering;
        self.ever_good |= !facts.early && !facts.canary && facts.leaving != Some(Reason::Removed);
        let was_incoming = self.slots.get(&id.slot).is_some_and(|s| s.incoming == Some(id.generation));
        let was_current = self.vacate(id);
        if !lingers {
            self.forget(cx, id);
        }
        if facts.healthy
            && let Some(slot) = self.slots.get_mut(&id.slot)
        {
            slot.failures = 0;
        }
        // Its own word (STOPPING) and our own verdicts (no heartbeat, no readiness) are no requests.
        let asked = facts.leaving.filter(|r| r.was_asked());
        let at = cx.out.len();
        if asked.is_none() && facts.present && !self.is_success(&death) {
            self.crashed = Some((cx.now, format!("slot {}: {}", id.slot, death.words())));
        }
        let next = if facts.canary {
            // Whoever asked for it: without it nothing is known of its config.
            self.canary_failed(id, &death.words());
            Next::CanaryFailed
        } else if asked.is_some() {
            Next::Nothing
        } else if was_incoming {
            self.incoming_died(cx, id, &death.words())
        } else if was_current {
            self.current_died(cx, id, &death, &facts)
        } else if self.active.contains(&id.slot) {
            Next::Replaced
        } else {
            Next::Unwanted
        };
        self.tell_end(cx, at, id, death, &facts, next);
        self.settle_jobs(cx);
        self.fill(cx);
    }

    fn current_died(&mut self, cx: &mut Cx<'_>, id: WorkerId, death: &Death, facts: &Facts) -> Next {
        if facts.early && self.roll.as_ref().is_some_and(|r| r.has_in_flight(id.slot)) {
            self.roll_failed(cx, id.slot, &death.words());
        }
        if self.promote(cx, id.slot) {
            return Next::Replaced;
        }
        if !self.active.contains(&id.slot) {
            return Next::Unwanted;
        }
        if facts.early
            && let Some(code) = self.boot_error(death, cx.now)
        {
            self.fail(cx, code, format!("its first workers cannot boot: {}", death.words()));
            return Next::PoolFailed;
        }
        let well = facts.leaving.is_none_or(|r| r == Reason::Announced) && self.is_success(death);
        let again = match self.spec.restart.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !well,
            RestartPolicy::Never => false,
        };
        if !again {
            if let Some(slot) = self.slots.get_mut(&id.slot) {
                slot.finished = Some(well);
            }
            self.index(id.slot);
            // Nobody comes in its place: the roll goes on without it.
            self.roll_forget(id.slot);
            return Next::Nothing;
        }
        self.restarts += 1;
        // A wait between replacements beside it does not hold back the one in its place.
        self.arm_slot(cx, id.slot, None);
        if facts.early {
            return self.early_death(cx, id, facts.probe, &death.words());
        }
        // One that ends well as soon as it is ready, again and again, must not spin.
        let wait = SHORTEST_LIFE.saturating_sub(facts.age);
        if well && !wait.is_zero() {
            self.arm_slot(cx, id.slot, Some(cx.now + wait));
            return Next::RestartIn(wait);
        }
        Next::Restart
    }

    /// A worker of it was good at some time, or is by now: the loop may have been away, and no look at the clock has shown it yet.
    pub(super) fn was_ever_good(&self, now: Time) -> bool {
        self.ever_good
            || self.workers.values().any(|w| w.has_settled(now, w.spec.settle) && !w.tried && w.leaving != Some(Reason::Removed))
    }

    fn is_success(&self, death: &Death) -> bool {
        match death {
            Death::Exit(ExitStatus::Code(code)) => self.spec.restart.success_codes.contains(code),
            Death::Exit(ExitStatus::Signal { .. } | ExitStatus::Unknown) | Death::Unspawned(_) => false,
        }
    }

    /// The master's exit code, when this early death fails a pool that was never good at once.
    fn boot_error(&self, death: &Death, now: Time) -> Option<i32> {
        if self.was_ever_good(now) || self.spec.boot == super::super::OnBootFailure::Retry {
            return None;
        }
        match death {
            Death::Exit(ExitStatus::Code(code)) if self.spec.boot_error_codes.contains(code) => {
                Some(if *code == 4 { 4 } else { 3 })
            }
            Death::Unspawned(error) if error.fault == SpawnFault::Exec => Some(3),
            Death::Exit(_) | Death::Unspawned(_) => None,
        }
    }

    /// Takes the worker out of its slot; true when it filled the slot (and not merely stood beside).
    pub(super) fn vacate(&mut self, id: WorkerId) -> bool {
        let Some(slot) = self.slots.get_mut(&id.slot) else { return false };
        let current = slot.current == Some(id.generation);
        if current {
            slot.current = None;
        }
        slot.incoming = slot.incoming.filter(|g| *g != id.generation);
        self.index(id.slot);
        current
    }

    /// The replacement that stood beside a worker takes its place.
    pub(super) fn promote(&mut self, cx: &mut Cx<'_>, number: u32) -> bool {
        if self.is_tried(number) {
            // A canary stands beside others until the commit.
            return false;
        }
        let Some(slot) = self.slots.get_mut(&number) else { return false };
        let Some(generation) = slot.incoming.take() else { return false };
        slot.current = Some(generation);
        let id = WorkerId { pool: self.spec.id, slot: number, generation };
        self.edit(cx, id, |w| w.incoming = false);
        self.index(number);
        true
    }

    /// Puts the line about the end before what follows from it.
    fn tell_end(&self, cx: &mut Cx<'_>, at: usize, id: WorkerId, death: Death, facts: &Facts, next: Next) {
        let later = cx.out.split_off(at);
        let asked = facts.leaving;
        match death {
            Death::Exit(status) => {
                // A job that is done may well be done early.
                let done = self.slots.get(&id.slot).is_some_and(|s| s.finished == Some(true));
                let calm = asked.is_some_and(Reason::was_asked) || done || (status == ExitStatus::Code(0) && !facts.early);
                let level = if calm { Level::Info } else { Level::Warn };
                let by_order = matches!(status, ExitStatus::Signal { signal, .. } if Some(signal) == facts.ordered);
                cx.note(
                    level,
                    Some(id.pool),
                    Some(id),
                    What::Exited { status, asked, by_order, early: facts.early && !done, age: facts.age, next },
                );
            }
            Death::Unspawned(error) => {
                let retry_in = match next {
                    Next::Restart => Some(std::time::Duration::ZERO),
                    Next::RestartIn(d) => Some(d),
                    Next::AwaitProbe => self.probe_at.map(|at| at - cx.now),
                    Next::Replaced
                    | Next::Nothing
                    | Next::Unwanted
                    | Next::PoolFailed
                    | Next::RollHalted
                    | Next::CanaryFailed => None,
                };
                let level = if asked.is_some_and(Reason::was_asked) { Level::Info } else { Level::Error };
                cx.note(level, Some(id.pool), Some(id), What::SpawnFailed { error, retry_in });
            }
        }
        cx.out.extend(later);
    }
}

impl Death {
    fn words(&self) -> String {
        match self {
            Death::Exit(status) => status.to_string(),
            Death::Unspawned(error) => error.message.clone(),
        }
    }
}

/// What is known of a worker at its end.
struct Facts {
    leaving: Option<Reason>,
    ordered: Option<i32>,
    /// It was never good.
    early: bool,
    probe: bool,
    /// It tried a config that is not in force.
    canary: bool,
    /// It is of the edition that is in force.
    present: bool,
    /// It was ready long enough to clear its slot's count.
    healthy: bool,
    age: std::time::Duration,
}
