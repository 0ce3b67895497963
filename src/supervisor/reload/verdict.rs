//! Owns what becomes of a reload by what its pools do: good, bad or not known yet; and what is told of it.

use std::time::Duration;

use super::super::history::Ended;
use super::super::pending::Goal;
use super::super::pool::{Finding, Pool};
use super::super::timers::Key;
use super::super::{Action, Level, Outcome, Phase, PoolId, Supervisor, Time, What, count, human};
use super::{Reload, Stage, Trying};

impl Supervisor {
    /// A pool has changed: what it means for the transaction.
    pub(in super::super) fn reload_saw(&mut self, now: Time, id: PoolId, out: &mut Vec<Action>) {
        let Some(reload) = self.reload.as_mut() else { return };
        match &mut reload.stage {
            Stage::Trying | Stage::Proving => {
                let Some(planned) = reload.plan.get_mut(&id) else { return };
                if matches!(planned.trial, Trying::No | Trying::Later | Trying::Preparing) {
                    return;
                }
                match self.pools.get(&id).map_or(Finding::NoTrial, Pool::finding) {
                    Finding::NoTrial => planned.trial = Trying::No,
                    Finding::Open => planned.trial = Trying::Now,
                    Finding::Good => planned.trial = Trying::Good,
                    Finding::Bad(why) => {
                        let why = format!("{}: {why}", planned.spec.name);
                        self.undo(now, why, Vec::new(), out);
                    }
                }
            }
            Stage::Undoing { canaries, .. } => {
                let Some(pool) = self.pools.get(&id) else { return canaries.retain(|c| c.pool != id) };
                canaries.retain(|c| c.pool != id || pool.worker_view(*c).is_some());
            }
            Stage::Rolling | Stage::Baking => self.saw_committed(now, id, out),
        }
    }

    /// What comes before the first worker of a pool without a canary is done, or could not be done.
    pub(in super::super) fn pre_started(
        &mut self,
        now: Time,
        id: PoolId,
        revision: u32,
        failed: Option<String>,
        out: &mut Vec<Action>,
    ) {
        let reload = self.reload.as_mut().filter(|r| r.revision == revision && matches!(r.stage, Stage::Trying));
        let Some(planned) = reload.and_then(|r| r.plan.get_mut(&id)).filter(|p| p.trial == Trying::Preparing) else { return };
        planned.trial = Trying::No;
        if let Some(why) = failed {
            let why = format!("{}: {why}", planned.spec.name);
            self.undo(now, why, Vec::new(), out);
        }
    }

    /// What a pool does after the commit.
    pub(super) fn saw_committed(&mut self, now: Time, id: PoolId, out: &mut Vec<Action>) {
        let Some(reload) = self.reload.as_mut().filter(|r| r.taking_part.contains(&id)) else { return };
        let Some(pool) = self.pools.get(&id) else {
            reload.waiting.remove(&id);
            return;
        };
        let watched = !pool.spec.rollout.bake.is_zero();
        let crash = pool.crashed.as_ref().filter(|(at, _)| watched && *at >= reload.since).map(|(_, words)| words.clone());
        let bad = match pool.phase {
            Phase::BackingOff | Phase::Failed => Some(pool.why.clone().unwrap_or_else(|| pool.phase.word().to_owned())),
            Phase::Running => pool
                .roll_halted
                .as_ref()
                .map(|halt| halt.why.clone())
                .or(crash.map(|words| format!("a new worker ended while it was watched ({words})"))),
            Phase::Waiting | Phase::Stopped | Phase::Parked | Phase::Completed | Phase::Removed => None,
        };
        if let Some(why) = bad {
            let why = format!("{}: {why}", pool.spec.name);
            let policy = pool.spec.rollout.on_failure;
            return self.fail_committed(now, why, policy, out);
        }
        let through = match pool.phase {
            Phase::Running => !pool.is_rolling() && pool.is_settled(),
            Phase::Waiting => false,
            Phase::BackingOff | Phase::Stopped | Phase::Parked | Phase::Failed | Phase::Completed | Phase::Removed => true,
        };
        if through {
            reload.waiting.remove(&id);
        } else if matches!(reload.stage, Stage::Rolling) {
            reload.waiting.insert(id);
        }
    }

    /// Every worker is replaced.
    pub(super) fn rolled(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(reload) = self.reload.as_mut() else { return };
        let bakes = reload.taking_part.iter().filter_map(|id| self.pools.get(id)).map(|p| p.spec.rollout.bake);
        let bake = bakes.max().filter(|_| reload.wish.failure.is_none()).unwrap_or_default();
        if bake.is_zero() {
            return self.succeed(now, out);
        }
        reload.stage = Stage::Baking;
        self.timers.arm(Key::Reload, &mut self.reload_armed, Some(now + bake));
    }

    pub(super) fn succeed(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(reload) = self.reload.take() else { return };
        self.timers.arm(Key::Reload, &mut self.reload_armed, None);
        self.in_force_good = true;
        let summary = self.summary(&reload, now - reload.begun);
        self.history.end(now, reload.revision, Ended::InForce, &summary);
        let outcome = match &reload.wish.failure {
            Some(why) => {
                let reason = format!("{why}; rolled back: {summary}");
                self.cx(now, out).note(Level::Error, None, None, What::ReloadFailed { reason: reason.clone() });
                self.failed_at = Some((now, reason.clone()));
                Outcome::RolledBack(reason)
            }
            None => {
                self.cx(now, out).note(Level::Info, None, None, What::Reloaded { summary: summary.clone() });
                self.failed_at = None;
                Outcome::Done(summary)
            }
        };
        let leaving = self.pools.keys().copied().filter(|id| !self.order.contains(id));
        let pools: Vec<PoolId> = reload.taking_part.iter().chain(&reload.resized).copied().chain(leaving).collect();
        let resized: Vec<PoolId> = reload.resized.into_iter().collect();
        for id in reload.wish.orders {
            if let Some(pending) = self.pending.get_mut(&id) {
                pending.goal = Goal::Drained { pools: pools.clone(), resized: resized.clone(), outcome: outcome.clone() };
            }
            self.answer_if_settled(id, out);
        }
    }

    /// What it has done, in words.
    pub(super) fn summary(&self, reload: &Reload, took: Duration) -> String {
        let mut parts = Vec::new();
        for id in &reload.taking_part {
            let Some(pool) = self.pools.get(id) else { continue };
            let workers = count(pool.ready_count(), "worker");
            let state =
                if pool.phase == Phase::Running { format!("{workers} new and ready") } else { pool.phase.word().to_owned() };
            parts.push(format!("{}: {state}", pool.spec.name));
        }
        parts.extend(reload.removed.iter().map(|name| format!("{name}: removed")));
        if parts.is_empty() {
            parts.push("no worker had to be replaced".to_owned());
        }
        if !reload.left_out.is_empty() {
            parts.push(format!("left out, as failing before and unchanged: {}", reload.left_out.join(", ")));
        }
        format!("config {} in force after {}: {}", reload.revision, human(took), parts.join("; "))
    }
}
