//! Owns the failure budget and the half-open breaker. Only early deaths count: a worker that dies later in its life is replaced at once.

use super::super::action::Next;
use super::super::chance::draw_for;
use super::super::{Level, OnBootFailure, Phase, PoolId, Reason, What, WorkerId};
use super::roll::Halt;
use super::{Cx, Pool};

/// Number of the first wait in back-off: `base`, as `first` (by default no wait at all) belongs to single deaths.
const FIRST_PROBE: u32 = 2;

impl Pool {
    /// A worker died before it was good, and a new one is wanted.
    pub(super) fn early_death(&mut self, cx: &mut Cx<'_>, id: WorkerId, probe: bool, words: &str) -> Next {
        let failures = self.slots.get_mut(&id.slot).map_or(1, |slot| {
            slot.failures = slot.failures.saturating_add(1);
            slot.failures
        });
        self.trouble = Some(format!("the last worker {words}"));
        if self.phase == Phase::BackingOff {
            if probe {
                self.failed_probe(cx, id, words);
            }
            return if self.phase == Phase::BackingOff { Next::AwaitProbe } else { Next::PoolFailed };
        }
        let budget = self.spec.restart.budget;
        self.early.push_back(cx.now);
        while self.early.front().is_some_and(|at| cx.now - *at > budget.within) {
            self.early.pop_front();
        }
        if self.early.len() >= budget.failures.max(1) as usize {
            return self.open_breaker(cx, id, failures, words);
        }
        let wait = self.spec.restart.backoff.wait(failures, draw_for(cx.seed, id));
        if wait.is_zero() {
            return Next::Restart;
        }
        self.arm_slot(cx, id.slot, Some(cx.now + wait));
        Next::RestartIn(wait)
    }

    fn open_breaker(&mut self, cx: &mut Cx<'_>, id: WorkerId, failures: u32, words: &str) -> Next {
        let budget = self.spec.restart.budget;
        let count = u32::try_from(self.early.len()).unwrap_or(u32::MAX);
        if !self.was_ever_good(cx.now) && self.spec.boot == OnBootFailure::Fail {
            let within = super::super::human(budget.within);
            self.fail(cx, 3, format!("{count} early deaths within {within} and no worker was ever good; the last one: {words}"));
            return Next::PoolFailed;
        }
        let healthy = self.closed_at.is_none_or(|at| cx.now - at >= self.spec.restart.backoff.reset_after);
        self.level = if healthy { failures.max(FIRST_PROBE) } else { self.level.saturating_add(1).max(failures) };
        self.phase = Phase::BackingOff;
        self.failed_probes = 0;
        self.why = Some(format!("{count} early deaths; the last worker {words}"));
        self.clear_waits(cx, false);
        let retry_in = self.wait_for_probe(cx, id);
        self.note(cx, Level::Error, What::BackingOff { failures: count, within: budget.within, retry_in });
        Next::AwaitProbe
    }

    fn failed_probe(&mut self, cx: &mut Cx<'_>, id: WorkerId, words: &str) {
        self.failed_probes = self.failed_probes.saturating_add(1);
        self.why = Some(format!("{} failed probes; the last worker {words}", self.failed_probes));
        let give_up = self.spec.restart.give_up_after;
        if give_up > 0 && self.failed_probes >= give_up {
            let code = if self.ever_good { 1 } else { 3 };
            self.fail(cx, code, format!("gave up after {give_up} failed probes (restart.give_up_after); the last one: {words}"));
            return;
        }
        self.level = self.level.saturating_add(1).max(FIRST_PROBE);
        self.wait_for_probe(cx, id);
    }

    fn wait_for_probe(&mut self, cx: &mut Cx<'_>, id: WorkerId) -> std::time::Duration {
        let wait = self.spec.restart.backoff.wait(self.level, draw_for(cx.seed, id));
        self.probe_at = Some(cx.now + wait);
        wait
    }

    /// Back to normal life; `proven` by a worker that is good.
    pub(super) fn close_breaker(&mut self, cx: &mut Cx<'_>, proven: bool) {
        if self.phase != Phase::BackingOff {
            return;
        }
        self.phase = Phase::Running;
        self.why = None;
        self.probe_at = None;
        self.closed_at = Some(cx.now);
        self.early.clear();
        if proven {
            self.note(cx, Level::Info, What::Recovered);
        }
    }

    /// Clears every wait and count, as an operator or a new config does.
    pub(super) fn forgive(&mut self, cx: &mut Cx<'_>) {
        self.early.clear();
        self.level = 0;
        self.failed_probes = 0;
        self.closed_at = None;
        self.trouble = None;
        self.resources_at = None;
        self.resource_tries = 0;
        self.clear_waits(cx, true);
    }

    /// The pool is failed until an operator or a new config starts it again; the exit code is what it means for the master.
    pub(in super::super) fn fail(&mut self, cx: &mut Cx<'_>, code: i32, why: String) {
        self.failed_for = None;
        self.note(cx, Level::Error, What::PoolFailed { why: why.clone() });
        self.phase = Phase::Failed;
        self.fail_code = code;
        self.why = Some(why);
        self.probe_at = None;
        self.resources_at = None;
        self.roll_end(cx, Some(Halt { why: "the pool failed".to_owned(), untouched: false }));
        self.resize(cx, Reason::PoolFailed);
    }

    /// It cannot start, as that pool before it has failed.
    pub(in super::super) fn fail_for(&mut self, cx: &mut Cx<'_>, before: PoolId, code: i32, why: String) {
        self.fail(cx, code, why);
        self.failed_for = Some(before);
    }

    /// It has failed for no other reason.
    pub(in super::super) fn has_failed_for(&self, before: PoolId) -> bool {
        self.phase == Phase::Failed && self.failed_for == Some(before)
    }
}
