//! Owns putting a config in force: pools that come, stay or go.

use std::collections::BTreeSet;

use super::history::{Ended, Record};
use super::pool::Pool;
use super::reload::{Kept, Planned, Reload, Stage, Trying};
use super::timers::Key;
use super::{Action, ConfigSource, Level, MasterSpec, Phase, PoolId, PoolSpec, Reason, Supervisor, Time, What, count};

impl Supervisor {
    /// A validated config.
    pub(super) fn configure(
        &mut self,
        now: Time,
        (revision, base): (u32, u32),
        master: MasterSpec,
        (pools, changes): (Vec<PoolSpec>, Vec<String>),
        roll: &[PoolId],
        out: &mut Vec<Action>,
    ) {
        if self.master.is_some() {
            return self.begin_reload(now, (revision, base), master, (pools, changes), roll, out);
        }
        if self.ending.is_some() {
            return;
        }
        let ended = Some((now, Ended::InForce, count(pools.len(), "pool")));
        self.history.begin(Record { revision: Some(revision), at: now, by: vec!["the start".to_owned()], changes, ended });
        let edition = self.fresh_edition();
        self.in_force(now, revision, master, pools.iter().map(|p| p.id).collect(), out);
        for spec in pools {
            self.pools.insert(spec.id, Pool::new(spec, revision, edition, 0));
        }
        self.index_order();
        for id in self.order.clone() {
            self.introduce(now, id, out);
        }
    }

    fn in_force(&mut self, now: Time, revision: u32, master: MasterSpec, order: Vec<PoolId>, out: &mut Vec<Action>) {
        self.master = Some(master);
        self.revision = revision;
        self.order = order;
        let pools = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        self.cx(now, out).note(Level::Info, None, None, What::Configured { revision, pools });
    }

    /// The canaries are good: the config that they tried is in force from now on.
    pub(super) fn commit(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(mut reload) = self.reload.take() else { return };
        self.timers.arm(Key::Reload, &mut self.reload_armed, None);
        let behind = self.behind.take();
        if let Some(behind) = &behind {
            self.history.end(now, behind.revision, Ended::Superseded, "a newer reload took its place after its commit");
        }
        let behind = behind.map(|r| r.taking_part).unwrap_or_default();
        self.keep_last_good(&reload, behind.is_empty());
        out.push(Action::Commit { revision: reload.revision, keep: self.kept.as_ref().map(|k| k.revision) });
        self.in_force(now, reload.revision, reload.master.clone(), reload.order.clone(), out);
        self.in_force_good = false;
        reload.since = now;
        for id in reload.order.clone() {
            if let Some(planned) = reload.plan.remove(&id) {
                self.take_over(now, id, planned, &behind, &mut reload, out);
            }
        }
        self.index_order();
        self.remove_others(now, &mut reload, out);
        reload.stage = Stage::Rolling;
        reload.waiting = reload.taking_part.clone();
        // Each is looked at once, also those in which nothing happens any more.
        self.touched.extend(reload.taking_part.iter().copied());
        self.reload = Some(reload);
    }

    /// What a rollback would bring back: the config that is in force until now, if it is known to be good. `first`: no reload to it is under way.
    fn keep_last_good(&mut self, reload: &Reload, first: bool) {
        if reload.wish.from != ConfigSource::File {
            self.kept = None;
        } else if self.in_force_good || (first && self.failed_at.is_none() && self.all_well()) {
            let editions = self.order.iter().filter_map(|id| Some((*id, self.pools.get(id)?.edition))).collect();
            self.kept = Some(Kept { revision: self.revision, editions });
        }
    }

    /// Nothing that runs is failing, and each has had a good worker.
    fn all_well(&self) -> bool {
        self.order.iter().filter_map(|id| self.pools.get(id)).all(|p| match p.phase {
            Phase::Running => p.ever_good || p.target() == 0,
            Phase::BackingOff | Phase::Failed | Phase::Waiting => false,
            Phase::Stopped | Phase::Parked | Phase::Completed | Phase::Removed => true,
        })
    }

    /// One pool of the config that is in force from now on.
    fn take_over(
        &mut self,
        now: Time,
        id: PoolId,
        planned: Planned,
        behind: &BTreeSet<PoolId>,
        reload: &mut Reload,
        out: &mut Vec<Action>,
    ) {
        let Planned { spec, edition, same, live, trial, unpark } = planned;
        let revision = reload.revision;
        let new = trial == Trying::No && self.pools.get(&id).is_none_or(|p| p.phase == Phase::Removed);
        if new {
            if !self.pools.contains_key(&id) {
                let floor = self.retired.get(&id).copied().unwrap_or(0);
                self.pools.insert(id, Pool::new(spec, revision, edition, floor));
            } else {
                self.on_pool(now, id, out, |p, cx| p.adopt(cx, spec, (edition, false), revision));
            }
            reload.taking_part.insert(id);
            return self.introduce(now, id, out);
        }
        let Some(pool) = self.pools.get(&id) else { return };
        let edition = if same { pool.edition } else { edition };
        // What an earlier reload has not come to is this one's to do.
        let left = pool.has_outdated() && (behind.contains(&id) || reload.wish.covers(id) && !pool.is_rolling());
        let (phase, outdated) = (pool.phase, pool.edition != edition || trial == Trying::Good || left);
        let before = pool.target();
        self.on_pool(now, id, out, |p, cx| p.adopt(cx, spec, (edition, live), revision));
        if !outdated {
            if self.pools.get(&id).is_some_and(|p| p.target() != before) {
                reload.resized.insert(id);
            }
            return;
        }
        match phase {
            // Its canary is there already, and waits for nobody.
            Phase::Waiting | Phase::Failed | Phase::Parked if trial == Trying::Good => {
                self.on_pool(now, id, out, |p, cx| p.run(cx));
            }
            Phase::Running => {
                self.on_pool(now, id, out, |p, cx| {
                    p.roll_outdated(cx);
                    if trial == Trying::Good && !p.is_rolling() {
                        // Its canaries were enough.
                        p.note(cx, Level::Info, What::RollDone);
                    }
                });
            }
            Phase::BackingOff => {
                self.on_pool(now, id, out, |p, cx| {
                    p.run(cx);
                    p.roll_outdated(cx);
                });
            }
            Phase::Failed | Phase::Waiting => self.start_in_order(now, id, out),
            Phase::Parked if unpark => self.start_in_order(now, id, out),
            Phase::Parked | Phase::Stopped | Phase::Completed | Phase::Removed => return,
        }
        if !reload.left_out.iter().any(|name| self.pools.get(&id).is_some_and(|p| p.spec.name == *name)) {
            reload.taking_part.insert(id);
        }
    }

    /// Pools that left the config. After those that stay and come: new workers are started before surplus ones are stopped.
    fn remove_others(&mut self, now: Time, reload: &mut Reload, out: &mut Vec<Action>) {
        for id in self.pools.keys().copied().collect::<Vec<_>>() {
            let gone = !self.order.contains(&id);
            if let Some(pool) = self.pools.get(&id).filter(|p| gone && p.phase != Phase::Removed) {
                reload.removed.push(pool.spec.name.clone());
                self.fail_pending_of(id, "the pool left the config", out);
                self.on_pool(now, id, out, |p, cx| {
                    // Should its name come back before it is gone, it comes back as the file has it.
                    p.operator = None;
                    p.halt(cx, Phase::Removed, Reason::Removed);
                });
            }
        }
        // Those that waited for one that is gone, or for which they do not wait any more.
        let waits = |id: &PoolId| self.pools.get(id).is_some_and(|p| p.phase == Phase::Waiting && !p.is_trying());
        for id in self.order.iter().copied().filter(waits).collect::<Vec<_>>() {
            if self.missing_before(id).is_empty() {
                self.on_pool(now, id, out, |p, cx| p.run(cx));
            }
        }
    }

    /// A pool that is new in the config.
    fn introduce(&mut self, now: Time, id: PoolId, out: &mut Vec<Action>) {
        if self.pools.get(&id).is_some_and(|p| p.spec.autostart) {
            self.start_in_order(now, id, out);
        } else {
            self.on_pool(now, id, out, |p, cx| p.halt(cx, Phase::Stopped, Reason::Stopped));
        }
    }

    /// A pool that left the config and whose last process is gone is forgotten.
    pub(super) fn drop_if_gone(&mut self, _now: Time, id: PoolId, out: &mut Vec<Action>) {
        if self.pools.get(&id).is_some_and(|p| p.phase == Phase::Removed && p.is_down()) && self.ending.is_none() {
            let last = self.pools.remove(&id).map_or(0, |p| p.last_generation());
            self.retired.insert(id, last);
            out.push(Action::PoolGone { pool: id });
        }
    }
}
