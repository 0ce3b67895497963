//! Owns the ways back: the undo before the commit, the halt or the rollback after it, the order to roll back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::history::Ended;
use super::super::pending::Goal;
use super::super::pool::Pool;
use super::super::timers::Key;
use super::super::wishes::Wish;
use super::super::{
    Action, CommandId, ConfigSource, Level, OnRollFailure, Outcome, Phase, PoolId, Reason, Supervisor, Time, What, WorkerId,
    commands,
};
use super::{Planned, Stage};

impl Supervisor {
    /// Takes back all canaries, and the pools that came with them. Gives those that are still there.
    pub(super) fn end_trials(
        &mut self,
        now: Time,
        plan: &BTreeMap<PoolId, Planned>,
        reason: Reason,
        out: &mut Vec<Action>,
    ) -> BTreeSet<WorkerId> {
        let mut canaries = BTreeSet::new();
        for id in plan.keys().copied() {
            canaries.extend(self.pools.get(&id).map(Pool::canary_ids).unwrap_or_default());
            let known = self.order.contains(&id);
            self.on_pool(now, id, out, |p, cx| if known { p.end_trial(cx, reason) } else { p.halt(cx, Phase::Removed, reason) });
            if reason == Reason::Superseded {
                self.superseded.insert(id);
            } else {
                self.on_pool(now, id, out, |p, cx| p.fill(cx));
            }
        }
        canaries
    }

    /// Before the commit: everything is taken back.
    pub(super) fn undo(&mut self, now: Time, why: String, ordered: Vec<CommandId>, out: &mut Vec<Action>) {
        let Some(mut reload) = self.reload.take() else { return };
        self.timers.arm(Key::Reload, &mut self.reload_armed, None);
        let canaries = self.end_trials(now, &reload.plan, Reason::Undone, out);
        out.push(Action::Discard { revision: reload.revision });
        let why = format!("{why}; nothing was changed, config {} stays in force", self.revision);
        self.cx(now, out).note(Level::Error, None, None, What::ReloadFailed { reason: why.clone() });
        self.history.end(now, reload.revision, Ended::Undone, &why);
        if ordered.is_empty() {
            self.failed_at = Some((now, why.clone()));
        }
        reload.stage = Stage::Undoing { canaries, why, ordered };
        self.reload = Some(reload);
    }

    /// After the commit: the roll stops, and the way back is taken if there is one.
    pub(super) fn fail_committed(&mut self, now: Time, why: String, policy: OnRollFailure, out: &mut Vec<Action>) {
        let Some(reload) = self.reload.take() else { return };
        self.timers.arm(Key::Reload, &mut self.reload_armed, None);
        for id in &reload.taking_part {
            self.on_pool(now, *id, out, |p, cx| p.roll_abandon(cx));
        }
        let back = self.kept.as_ref().map(|k| k.revision);
        let newer = !self.wishes.is_empty();
        match (reload.wish.failure, policy, back) {
            // It was the way back itself.
            (Some(first), ..) => {
                self.stopped_halfway(now, format!("{first}; and rolling back stopped as well: {why}"), &reload.wish.orders, out)
            }
            (None, OnRollFailure::Rollback, Some(revision)) if !newer => {
                self.cx(now, out).note(Level::Error, None, None, What::RollingBack { reason: why.clone() });
                self.failed_at = Some((now, why.clone()));
                self.history.end(now, reload.revision, Ended::RolledBack, &why);
                let way_back = Wish::of(ConfigSource::Kept(revision), "rollout.on_failure = \"rollback\"".to_owned());
                self.wish(Wish { orders: reload.wish.orders, failure: Some(why), ..way_back }, out);
            }
            (None, OnRollFailure::Rollback, _) if newer => {
                self.stopped_halfway(now, format!("{why}; a newer reload is on its way"), &reload.wish.orders, out);
            }
            (None, OnRollFailure::Rollback | OnRollFailure::Halt, _) => self.stopped_halfway(now, why, &reload.wish.orders, out),
        }
    }

    pub(super) fn stopped_halfway(&mut self, now: Time, why: String, orders: &[CommandId], out: &mut Vec<Action>) {
        let why = format!("{why}; config {} is in force, the old workers that are left keep serving", self.revision);
        self.cx(now, out).note(Level::Error, None, None, What::ReloadFailed { reason: why.clone() });
        self.failed_at = Some((now, why.clone()));
        self.history.end(now, self.revision, Ended::Halted, &why);
        for id in orders {
            self.finish(*id, Outcome::Failed(why.clone()), out);
        }
    }

    /// A reload that was committed before the one that was undone goes on, from the workers as they are.
    pub(super) fn resume(&mut self) {
        let Some(mut reload) = self.behind.take() else { return };
        reload.stage = Stage::Rolling;
        reload.waiting = reload.taking_part.clone();
        self.touched.extend(reload.taking_part.iter().copied());
        self.reload = Some(reload);
    }

    /// An operator wants the config before the one in force, or the end of a reload that is not committed.
    pub(in super::super) fn roll_back(
        &mut self,
        now: Time,
        id: CommandId,
        by: String,
        timeout: Option<Duration>,
        out: &mut Vec<Action>,
    ) {
        if self.is_uncommitted() {
            return self.undo_for(now, id, "an operator ordered it back", timeout, out);
        }
        let Some(kept) = &self.kept else {
            let text =
                "there is no earlier good config to go back to: nothing was reloaded since the start, or the last rollback";
            return commands::reply(id, Outcome::Refused(text.to_owned()), out);
        };
        let from = ConfigSource::Kept(kept.revision);
        self.await_goal(now, id, Goal::Reload, timeout, out);
        self.wish(Wish { orders: vec![id], ..Wish::of(from, by) }, out);
    }

    /// An operator wants nothing to come of the reloads that are not in force yet.
    pub(in super::super) fn abort_reload(&mut self, now: Time, id: CommandId, timeout: Option<Duration>, out: &mut Vec<Action>) {
        let waiting = self.abort_wishes(out);
        if self.is_uncommitted() {
            return self.undo_for(now, id, "an operator aborted it", timeout, out);
        }
        let outcome = match &self.reload {
            None | Some(_) if waiting > 0 => {
                Outcome::Done(format!("the reload is aborted before it was tried; config {} stays in force", self.revision))
            }
            Some(reload) => Outcome::Refused(format!(
                "config {} is in force already, and what is left of its roll goes on; to go back: poolmaster rollback",
                reload.revision
            )),
            None => Outcome::Refused("no reload is under way".to_owned()),
        };
        commands::reply(id, outcome, out);
    }

    fn is_uncommitted(&self) -> bool {
        self.reload.as_ref().is_some_and(|r| matches!(r.stage, Stage::Trying | Stage::Proving | Stage::Undoing { .. }))
    }

    /// Undoes the one that is tried; the order is answered when nothing is left of it.
    fn undo_for(&mut self, now: Time, id: CommandId, why: &str, timeout: Option<Duration>, out: &mut Vec<Action>) {
        self.await_goal(now, id, Goal::Reload, timeout, out);
        if let Some(Stage::Undoing { ordered, .. }) = self.reload.as_mut().map(|reload| &mut reload.stage) {
            ordered.push(id);
        } else {
            self.undo(now, why.to_owned(), vec![id], out);
        }
    }

    /// The master ends: no config will come any more.
    pub(in super::super) fn end_reload(&mut self, now: Time, out: &mut Vec<Action>) {
        self.wishes.clear();
        self.behind = None;
        self.timers.arm(Key::Reload, &mut self.reload_armed, None);
        let Some(reload) = self.reload.take() else { return };
        if matches!(reload.stage, Stage::Trying | Stage::Proving) {
            self.end_trials(now, &reload.plan, Reason::Shutdown, out);
            out.push(Action::Discard { revision: reload.revision });
        }
    }
}
