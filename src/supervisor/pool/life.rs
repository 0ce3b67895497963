//! Owns the phases of a pool: started, stopped, parked, failed, completed, removed; and the count that was asked for.

use std::rc::Rc;

use super::super::worker::Worker;
use super::super::{Action, Cause, Level, Phase, PoolSpec, Reason, RestartPolicy, Scope, Time, What, WorkerId, WorkerState};
use super::{Cx, Pool};

impl Pool {
    fn enter(&mut self, cx: &mut Cx<'_>, phase: Phase, reason: Reason) {
        if self.phase != phase {
            self.phase = phase;
            self.note(cx, Level::Info, What::PoolHalted { phase, reason });
        }
    }

    /// Keeps its workers from now on. Waits, failures and finished jobs of an earlier life are forgotten.
    pub(in super::super) fn run(&mut self, cx: &mut Cx<'_>) {
        self.phase = Phase::Running;
        self.why = None;
        self.probe_at = None;
        self.forgive(cx);
        self.resize(cx, Reason::ScaleDown);
        self.fill(cx);
    }

    /// Will be started once the pools before it are ready.
    pub(in super::super) fn wait_for(&mut self, cx: &mut Cx<'_>, pools: Vec<String>) {
        self.phase = Phase::Waiting;
        self.why = Some(format!("waits for {}", pools.join(", ")));
        self.note(cx, Level::Info, What::WaitingFor { pools });
    }

    /// Stops all its workers and keeps it so.
    pub(in super::super) fn halt(&mut self, cx: &mut Cx<'_>, phase: Phase, reason: Reason) {
        self.roll_end(cx, None);
        self.why = None;
        self.probe_at = None;
        self.resources_at = None;
        self.enter(cx, phase, reason);
        self.end_trial(cx, reason);
        self.resize(cx, reason);
        if phase == Phase::Removed {
            // If it comes back, it has everything to show again.
            self.ever_good = false;
        }
        self.fill(cx);
    }

    /// A job pool whose slots are all done is completed, or failed when some ended badly.
    pub(super) fn settle_jobs(&mut self, cx: &mut Cx<'_>) {
        let active = u32::try_from(self.active.len()).unwrap_or(u32::MAX);
        // A canary is a job that is not done.
        if !self.may_roll() || self.is_trying() || active == 0 || self.finished < active {
            return;
        }
        if self.finished_badly == 0 {
            self.note(cx, Level::Info, What::PoolCompleted);
            self.phase = Phase::Completed;
            self.why = None;
            self.resize(cx, Reason::Stopped);
        } else {
            let why = format!("{} of its {active} jobs ended badly, and restart.policy forbade another try", self.finished_badly);
            self.fail(cx, 1, why);
        }
    }

    pub(super) fn restarts_always(&self) -> bool {
        self.spec.restart.policy == RestartPolicy::Always
    }

    /// Puts an operator's number in force; `None` goes back to the config's.
    pub(in super::super) fn set_operator(&mut self, cx: &mut Cx<'_>, operator: Option<u32>, by: String) {
        let from = self.target();
        self.operator = operator;
        let to = self.target();
        if from != to {
            self.note(cx, Level::Info, What::Scaled { from, to, by });
        }
        if self.phase == Phase::Completed && to > 0 {
            return;
        }
        self.resize(cx, Reason::ScaleDown);
        self.settle_jobs(cx);
        self.fill(cx);
    }

    /// Takes over the spec of a config that is in force from now on. The operator's number stands unless the config's own number changed.
    /// Workers of another edition than this one keep the spec that they were started by; the others live by the new one at once.
    /// `live`: nothing differs but what running workers can take over, whatever else becomes of them.
    pub(in super::super) fn adopt(&mut self, cx: &mut Cx<'_>, spec: PoolSpec, (edition, live): (u32, bool), revision: u32) {
        if spec.workers != self.spec.workers || self.operator.is_some_and(|n| spec.max.is_some_and(|max| n > max)) {
            self.operator = None;
        }
        let (tried, spec) = (self.trial.is_some(), Rc::new(spec));
        if live || edition == self.edition {
            self.live_by(cx, self.edition, &spec);
        }
        if edition != self.edition {
            self.live_by(cx, edition, &spec);
        }
        self.renew(edition, spec);
        self.revision = revision;
        self.accept_trial(cx);
        if self.restarts_always() && self.may_roll() {
            // A job is done by the policy that was; by this one its slot is empty.
            for number in self.active.clone() {
                if self.slots.get_mut(&number).and_then(|slot| slot.finished.take()).is_some() {
                    self.index(number);
                }
            }
        }
        // A pool that is about to be started keeps the canaries that it has.
        if !tried || self.may_roll() {
            self.resize(cx, Reason::ScaleDown);
        }
        self.fill(cx);
    }

    /// The workers of an edition live by this spec from now on: deadlines that run are its. One that is stopping goes on as it began.
    fn live_by(&mut self, cx: &mut Cx<'_>, edition: u32, spec: &Rc<PoolSpec>) {
        let now = cx.now;
        let of_it = |w: &&Worker| w.edition == edition;
        let ids: Vec<WorkerId> = self.workers.values().filter(of_it).map(|w| w.id).collect();
        for id in ids {
            self.edit(cx, id, |w| {
                w.spec = Rc::clone(spec);
                match w.state {
                    // Its hooks were begun under the spec before, and have its time.
                    WorkerState::Spawning if w.forked.is_none() => {}
                    WorkerState::Spawning | WorkerState::Starting => {
                        let by = w.forked.map(|at| at + w.asleep + spec.start_timeout);
                        w.deadline = if w.extended { w.deadline.max(by) } else { by };
                    }
                    WorkerState::Ready => w.deadline = w.ready_at.map(|at| at + spec.settle),
                    WorkerState::Good
                    | WorkerState::Leaving
                    | WorkerState::Stopping
                    | WorkerState::Aborting
                    | WorkerState::Killed
                    | WorkerState::Lingering => {}
                }
                if !w.is_stopping() {
                    w.watch_by(now, spec.timeout, spec.timeout_from);
                }
            });
        }
    }

    /// A new pool that starts with its canary, by the config that brings it: one that comes back has nothing of its life before.
    pub(in super::super) fn wait_for_canary(&mut self, spec: PoolSpec, edition: u32, revision: u32) {
        self.renew(edition, Rc::new(spec));
        self.phase = Phase::Waiting;
        self.operator = None;
        self.why = Some(format!("waits for its canary (reload to config {revision})"));
    }

    /// Each wanted worker is good (or its job is done).
    pub(in super::super) fn is_settled(&self) -> bool {
        self.unsettled == 0 && self.all_ready()
    }

    /// An operator wants the next try now.
    pub(in super::super) fn retry(&mut self, cx: &mut Cx<'_>) {
        self.forgive(cx);
        if self.phase == Phase::BackingOff {
            self.probe_at = Some(cx.now);
        }
        self.fill(cx);
    }

    /// Tells the count of ready workers once it has come to rest.
    pub(in super::super) fn tell_count(&mut self, cx: &mut Cx<'_>) {
        let count = (self.slots_ready, self.wanted());
        // Those that only time will tell of are waited for, as those that start are.
        let open = self.starting > 0 || (self.unsettled > 0 && !self.spec.ready.proves());
        // On the way down the end of each worker is told, and that is enough.
        if !cx.may_spawn || self.told == Some(count) || open || (self.told.is_none() && count == (0, 0)) {
            return;
        }
        self.told = Some(count);
        self.note(cx, Level::Info, What::ReadyCount { ready: count.0, target: count.1 });
    }

    /// The slot is wanted.
    pub(in super::super) fn has_slot(&self, slot: u32) -> bool {
        self.active.contains(&slot)
    }

    /// The probe that a retry asked for has not been started yet.
    pub(in super::super) fn probe_is_due(&self, since: Time) -> bool {
        self.probe_at.is_some_and(|at| at <= since)
    }

    /// Sends a signal to the living workers of one slot or all; what follows is up to them. Gives those it goes to.
    pub(in super::super) fn send_signal(&mut self, cx: &mut Cx<'_>, slot: Option<u32>, signal: i32) -> Vec<WorkerId> {
        let mut ids = Vec::new();
        let meant = |w: &&mut Worker| w.state != WorkerState::Lingering && slot.is_none_or(|s| s == w.id.slot);
        for worker in self.workers.values_mut().filter(meant) {
            worker.ordered = Some(signal);
            cx.out.push(Action::Signal { worker: worker.id, signal, scope: Scope::Leader, cause: Cause::Order });
            ids.push(worker.id);
        }
        ids
    }

    /// Tells the workers that log files were moved, when the pool wants them told.
    pub(in super::super) fn pass_reopen(&mut self, cx: &mut Cx<'_>) {
        let Some(signal) = self.spec.reopen_signal else { return };
        let runs = |w: &&Worker| w.is_ready() || matches!(w.state, WorkerState::Starting | WorkerState::Leaving);
        for worker in self.workers.values().filter(runs) {
            cx.out.push(Action::Signal { worker: worker.id, signal, scope: Scope::Leader, cause: Cause::Reopen });
        }
    }
}
