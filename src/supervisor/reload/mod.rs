//! Owns the transaction by which another config comes in force: canaries, commit, roll, bake. One at a time: a newer one takes the place of one
//! that runs.

mod back;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::history::{Ended, Record};
use super::pool::Pool;
use super::timers::Key;
use super::wishes::Wish;
use super::{
    Action, CommandId, ConfigSource, Level, MasterSpec, Outcome, Phase, PoolId, PoolSpec, Reason, Supervisor, Time, What,
    WorkerId,
};

/// A transaction under way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reload {
    pub(super) revision: u32,
    pub(super) wish: Wish,
    pub(super) master: MasterSpec,
    /// All pools of the config.
    pub(super) order: Vec<PoolId>,
    pub(super) plan: BTreeMap<PoolId, Planned>,
    pub(super) stage: Stage,
    /// Pools that are not through with the present stage.
    pub(super) waiting: BTreeSet<PoolId>,
    /// Pools whose workers it replaces or starts.
    pub(super) taking_part: BTreeSet<PoolId>,
    /// Names of pools that were failing before and that it does not change.
    pub(super) left_out: Vec<String>,
    pub(super) removed: Vec<String>,
    /// Pools that keep their workers and get more or fewer of them.
    pub(super) resized: BTreeSet<PoolId>,
    /// When its config had been read.
    pub(super) begun: Time,
    /// When it was committed.
    pub(super) since: Time,
}

/// What becomes of a pool.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Planned {
    pub(super) spec: PoolSpec,
    pub(super) edition: u32,
    /// Its workers are not outdated by it: whatever edition is its present one at the commit stays that.
    pub(super) same: bool,
    /// Nothing differs but what running workers can take over.
    pub(super) live: bool,
    pub(super) trial: Trying,
    /// It is parked, and the order brings it back.
    pub(super) unpark: bool,
}

/// Where a pool is before the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Trying {
    /// No canary.
    No,
    /// Not begun: pools before it come first.
    Later,
    /// It gets no canary; what comes before its first worker is under way.
    Preparing,
    /// Its canaries are not known to be good.
    Now,
    /// They are good.
    Good,
}

/// How far it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    /// Canaries are tried.
    Trying,
    /// All are good, and watched.
    Proving,
    /// It is being undone: these canaries are still there.
    Undoing { canaries: BTreeSet<WorkerId>, why: String, ordered: Vec<CommandId> },
    /// Committed: the other workers follow.
    Rolling,
    /// All workers are replaced, and watched.
    Baking,
}

/// The config to go back to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) revision: u32,
    pub(super) editions: BTreeMap<PoolId, u32>,
}

impl Supervisor {
    /// A config has come that is not the first.
    pub(super) fn begin_reload(
        &mut self,
        now: Time,
        (revision, base): (u32, u32),
        master: MasterSpec,
        (pools, changes): (Vec<PoolSpec>, Vec<String>),
        roll: &[PoolId],
        out: &mut Vec<Action>,
    ) {
        let Some(wish) = self.take_wish() else {
            let fact = format!("config {revision}, which nobody asked for");
            self.cx(now, out).note(Level::Warn, None, None, What::Stale { fact });
            return out.push(Action::Discard { revision });
        };
        if self.ending.is_some() {
            return out.push(Action::Discard { revision });
        }
        if base != self.revision {
            // Meanwhile another one was put in force: what this one changes has to be found out again.
            out.push(Action::Discard { revision });
            self.wishes.push_front(wish);
            return self.read_next(out);
        }
        if wish.aborted {
            out.push(Action::Discard { revision });
            return self.read_next(out);
        }
        self.supersede(now, out);
        self.history.begin(Record { revision: Some(revision), at: now, by: wish.by.clone(), changes, ended: None });
        let fresh = self.fresh_edition();
        let order: Vec<PoolId> = pools.iter().map(|p| p.id).collect();
        let mut plan = BTreeMap::new();
        for spec in pools {
            let id = spec.id;
            let present = self.pools.get(&id).filter(|p| p.phase != Phase::Removed).map(|p| p.edition);
            let kept = self.kept.as_ref().filter(|_| wish.from != ConfigSource::File).and_then(|k| k.editions.get(&id).copied());
            let outdated = roll.contains(&id) || (wish.restart && wish.covers(id));
            let edition = kept.or(present.filter(|_| !outdated)).unwrap_or(fresh);
            let live = present.is_some() && kept.is_none() && !roll.contains(&id);
            let same = present.is_some() && present == Some(edition);
            plan.insert(id, Planned { spec, edition, same, live, trial: Trying::No, unpark: false });
        }
        let mut reload = Reload {
            revision,
            wish,
            master,
            order,
            plan,
            stage: Stage::Trying,
            waiting: BTreeSet::new(),
            taking_part: BTreeSet::new(),
            left_out: Vec::new(),
            removed: Vec::new(),
            resized: BTreeSet::new(),
            begun: now,
            since: now,
        };
        self.choose_tried(&mut reload, roll);
        let names: Vec<String> = reload
            .order
            .iter()
            .filter_map(|id| reload.plan.get(id))
            .filter(|p| p.trial == Trying::Later)
            .map(|p| p.spec.name.clone())
            .collect();
        if !names.is_empty() {
            self.cx(now, out).note(Level::Info, None, None, What::Trying { revision, pools: names });
        }
        self.reload = Some(reload);
        self.read_next(out);
    }

    /// Which pools get canaries.
    fn choose_tried(&self, reload: &mut Reload, roll: &[PoolId]) {
        // The way back is taken in a hurry, and to what was good.
        if reload.wish.failure.is_some() {
            return;
        }
        let restart = reload.wish.restart;
        let mut out_of_it = Vec::new();
        for id in &reload.order {
            let Some(planned) = reload.plan.get_mut(id) else { continue };
            let there = self.pools.get(id).filter(|p| p.phase != Phase::Removed);
            let tried = match there {
                None => planned.spec.autostart,
                Some(_) if planned.same => false,
                Some(p) => match p.phase {
                    Phase::Running => p.target() > 0,
                    Phase::BackingOff | Phase::Failed => {
                        let changed = roll.contains(id) || reload.wish.from != ConfigSource::File;
                        if !changed {
                            out_of_it.push(p.spec.name.clone());
                        }
                        changed
                    }
                    Phase::Parked => {
                        planned.unpark = restart && reload.wish.covers(*id);
                        planned.unpark
                    }
                    Phase::Waiting | Phase::Stopped | Phase::Completed | Phase::Removed => false,
                },
            };
            let target = there.map_or(planned.spec.workers, Pool::target);
            if tried && (planned.spec.canaries(target) > 0 || planned.spec.pre_start) {
                planned.trial = Trying::Later;
            }
        }
        reload.left_out = out_of_it;
    }

    /// Takes the place of a transaction under way: one that is not committed is undone, what is committed stays.
    fn supersede(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(mut reload) = self.reload.take() else { return };
        self.timers.arm(Key::Reload, &mut self.reload_armed, None);
        let revision = reload.revision;
        let orders = std::mem::take(&mut reload.wish.orders);
        let text = match &mut reload.stage {
            Stage::Trying | Stage::Proving => {
                self.end_trials(now, &reload.plan, Reason::Superseded, out);
                out.push(Action::Discard { revision });
                let text = "superseded by a newer reload before its commit: it was undone";
                self.history.end(now, revision, Ended::Superseded, text);
                text.to_owned()
            }
            Stage::Undoing { why, ordered, .. } => {
                ordered.drain(..).for_each(|id| self.finish(id, Outcome::Done("the reload is undone".to_owned()), out));
                std::mem::take(why)
            }
            Stage::Rolling | Stage::Baking => {
                // Should the newer one come to nothing, this one goes on.
                self.behind = Some(reload);
                format!("superseded by a newer reload after its commit: config {revision} is in force until that one is")
            }
        };
        for id in orders {
            self.finish(id, Outcome::RolledBack(text.clone()), out);
        }
    }

    /// Goes on as far as it can. True: something was done.
    pub(super) fn reload_advance(&mut self, now: Time, out: &mut Vec<Action>) -> bool {
        let Some(reload) = self.reload.as_ref() else { return false };
        match &reload.stage {
            Stage::Trying => {
                if self.try_next(now, out) {
                    return true;
                }
                let Some(reload) = self.reload.as_mut() else { return true };
                if reload.plan.values().any(|p| matches!(p.trial, Trying::Later | Trying::Preparing | Trying::Now)) {
                    return false;
                }
                let tried = reload.plan.values().filter(|p| p.trial == Trying::Good);
                let bake = tried.map(|p| p.spec.rollout.bake).max().unwrap_or_default();
                if bake.is_zero() {
                    self.commit(now, out);
                } else {
                    reload.stage = Stage::Proving;
                    self.timers.arm(Key::Reload, &mut self.reload_armed, Some(now + bake));
                }
                true
            }
            // A canary was lost to an order: another one is tried, and all are watched anew.
            Stage::Proving if reload.plan.values().any(|p| p.trial == Trying::Now) => {
                self.timers.arm(Key::Reload, &mut self.reload_armed, None);
                if let Some(reload) = self.reload.as_mut() {
                    reload.stage = Stage::Trying;
                }
                true
            }
            // Pools that wait for others wait for none of this reload's: those would be among them.
            Stage::Rolling if reload.waiting.iter().all(|id| self.pools.get(id).is_none_or(|p| p.phase == Phase::Waiting)) => {
                self.rolled(now, out);
                true
            }
            Stage::Undoing { canaries, .. } if canaries.is_empty() => {
                if let Some(Reload { stage: Stage::Undoing { why, ordered, .. }, wish, .. }) = self.reload.take() {
                    wish.orders.into_iter().for_each(|id| self.finish(id, Outcome::RolledBack(why.clone()), out));
                    ordered.into_iter().for_each(|id| self.finish(id, Outcome::Done("the reload is undone".to_owned()), out));
                }
                self.resume();
                true
            }
            Stage::Proving | Stage::Rolling | Stage::Baking | Stage::Undoing { .. } => false,
        }
    }

    /// Starts the canaries whose turn has come: pools are tried in the order of `after`.
    fn try_next(&mut self, now: Time, out: &mut Vec<Action>) -> bool {
        let Some(reload) = self.reload.as_ref() else { return false };
        let open =
            |id: &PoolId| reload.plan.get(id).is_some_and(|p| matches!(p.trial, Trying::Later | Trying::Preparing | Trying::Now));
        let turn = |id: &&PoolId| {
            let later = reload.plan.get(id).filter(|p| p.trial == Trying::Later);
            later.is_some_and(|p| !p.spec.after.iter().any(open))
        };
        let Some(id) = reload.order.iter().find(turn).copied() else { return false };
        let revision = reload.revision;
        let Some((spec, edition)) = reload.plan.get(&id).map(|p| (p.spec.clone(), p.edition)) else { return false };
        let there = self.pools.get(&id).is_some_and(|p| p.phase != Phase::Removed);
        let runs = self.pools.get(&id).is_some_and(|p| matches!(p.phase, Phase::Running | Phase::BackingOff));
        // One that is new, or comes back, and would have to wait is not started, and so not tried.
        let good = |id: &PoolId| reload.plan.get(id).is_some_and(|p| p.trial == Trying::Good);
        let ready = |id: &PoolId| good(id) || self.pools.get(id).is_some_and(|p| p.is_ready());
        // Orders given since may have left it without workers, and then it is not tried either.
        let phase = self.pools.get(&id).map_or(Phase::Removed, |p| p.phase);
        let at_rest = match phase {
            Phase::Stopped | Phase::Completed => true,
            Phase::Parked => !reload.plan.get(&id).is_some_and(|p| p.unpark),
            Phase::Running | Phase::Waiting | Phase::BackingOff | Phase::Failed | Phase::Removed => false,
        };
        let tried = !at_rest && (runs || spec.after.iter().all(ready));
        let target = self.pools.get(&id).filter(|p| p.phase != Phase::Removed).map_or(spec.workers, Pool::target);
        let canary = spec.canaries(target) > 0;
        let trial = match (tried, canary) {
            (false, _) => Trying::No,
            (true, true) => Trying::Now,
            (true, false) => Trying::Preparing,
        };
        if let Some(planned) = self.reload.as_mut().and_then(|r| r.plan.get_mut(&id)) {
            planned.trial = trial;
        }
        if trial == Trying::Preparing {
            out.push(Action::PreStart { pool: id, revision });
        }
        if trial == Trying::Now {
            if !self.pools.contains_key(&id) {
                let floor = self.retired.get(&id).copied().unwrap_or(0);
                self.pools.insert(id, Pool::new(spec.clone(), revision, edition, floor));
            }
            self.on_pool(now, id, out, |p, cx| {
                if !there {
                    p.wait_for_canary(spec.clone(), edition, revision);
                }
                p.try_out(cx, spec, edition, revision);
            });
        }
        true
    }

    /// The time of watching is over.
    pub(super) fn reload_due(&mut self, now: Time, out: &mut Vec<Action>) {
        match self.reload.as_ref().map(|r| &r.stage) {
            Some(Stage::Proving) => self.commit(now, out),
            Some(Stage::Baking) => self.succeed(now, out),
            Some(Stage::Trying | Stage::Rolling | Stage::Undoing { .. }) | None => {}
        }
    }
}
