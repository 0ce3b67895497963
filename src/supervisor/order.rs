//! Owns the order between pools (`after`): who is started when, who is stopped first, and when the master as a whole is up or down.

use super::pool::Pool;
use super::{Action, ExitWhen, Level, Phase, PoolId, Supervisor, Time, What};

impl Supervisor {
    /// Names of the pools that this one still has to wait for.
    pub(super) fn missing_before(&self, id: PoolId) -> Vec<String> {
        let Some(pool) = self.pools.get(&id) else { return Vec::new() };
        let missing = |before: &&PoolId| self.pools.get(before).is_some_and(|p| !p.is_ready());
        pool.spec.after.iter().filter(missing).filter_map(|b| Some(self.pools.get(b)?.spec.name.clone())).collect()
    }

    /// Starts the pool, or lets it wait for those before it.
    pub(super) fn start_in_order(&mut self, now: Time, id: PoolId, out: &mut Vec<Action>) {
        let missing = self.missing_before(id);
        self.on_pool(now, id, out, |p, cx| if missing.is_empty() { p.run(cx) } else { p.wait_for(cx, missing) });
        let failed = |before: &&PoolId| self.pools.get(before).is_some_and(|p| p.phase == Phase::Failed);
        let before = self.pools.get(&id).and_then(|p| p.spec.after.iter().find(failed)).copied();
        if let Some(before) = before {
            self.follow_failure(now, before, out);
        }
    }

    /// The pool may have become ready: starts what waited for it.
    pub(super) fn start_those_after(&mut self, now: Time, id: PoolId, out: &mut Vec<Action>) {
        if self.ending.is_some() || !self.pools.get(&id).is_some_and(|p| p.is_ready()) {
            return;
        }
        let waiting = |p: &&PoolId| self.pools.get(p).is_some_and(|p| p.phase == Phase::Waiting);
        let waiting: Vec<PoolId> = self.followers.get(&id).into_iter().flatten().filter(waiting).copied().collect();
        for next in waiting {
            if self.missing_before(next).is_empty() {
                self.on_pool(now, next, out, |p, cx| p.run(cx));
            }
        }
    }

    /// Finds out anew which pools start after which.
    pub(super) fn index_order(&mut self) {
        self.followers.clear();
        for id in &self.order {
            for before in self.pools.get(id).into_iter().flat_map(|p| &p.spec.after) {
                self.followers.entry(*before).or_default().push(*id);
            }
        }
    }

    /// Pools may be stopped once no pool that was started after them has a process left.
    pub(super) fn free_to_stop(&self, id: PoolId) -> bool {
        !self.pools.values().any(|p| p.spec.after.contains(&id) && !p.is_down())
    }

    /// Tells when everything is up; ends the master when everything is down, or when it must not go on.
    pub(super) fn judge(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(master) = &self.master else { return };
        if self.ending.is_some() {
            return;
        }
        let exit_when = master.exit_when;
        if let Some((code, why)) = self.reason_to_end(exit_when) {
            return self.end(now, code, why, out);
        }
        if !self.all_ready_told {
            let starting = || self.order.iter().filter_map(|id| self.pools.get(id)).filter(|p| p.spec.autostart);
            if starting().next().is_some() && starting().all(is_decided) {
                let (pools, workers) =
                    self.pools.values().filter(|p| p.all_ready()).fold((0, 0), |(p, w), pool| (p + 1, w + pool.ready_count()));
                let others: Vec<(String, Phase)> =
                    starting().filter(|p| !p.all_ready()).map(|p| (p.spec.name.clone(), p.phase)).collect();
                self.all_ready_told = true;
                self.in_force_good |= others.is_empty();
                let level = if others.is_empty() { Level::Info } else { Level::Warn };
                self.cx(now, out).note(level, None, None, What::AllReady { pools, workers, others });
            }
        }
    }

    fn reason_to_end(&self, exit_when: ExitWhen) -> Option<(i32, String)> {
        let in_config = || self.pools.values().filter(|p| p.phase != Phase::Removed);
        let failed = |p: &&super::pool::Pool| p.phase == Phase::Failed;
        let words =
            |p: &super::pool::Pool| format!("pool {} failed: {}", p.spec.name, p.why.as_deref().unwrap_or("no reason kept"));
        let required = in_config().filter(failed).find(|p| p.spec.required);
        match exit_when {
            ExitWhen::Never => None,
            ExitWhen::RequiredFailed => required.map(|p| (p.fail_code, format!("required {}", words(p)))),
            ExitWhen::AllDown => {
                if let Some(p) = required.filter(|p| !p.ever_good) {
                    return Some((p.fail_code, format!("required {}", words(p))));
                }
                let mut all = in_config().peekable();
                all.peek()?;
                if !all.all(|p| self.is_out(p.id())) {
                    return None;
                }
                match in_config().filter(failed).max_by_key(|p| p.fail_code) {
                    Some(p) => Some((p.fail_code, format!("no pool is left; {}", words(p)))),
                    // Pools that an operator stopped are down on purpose: the master waits for the next order.
                    None => Some((0, "every pool is completed".to_owned())),
                }
            }
        }
    }

    /// A pool that can never start, as one before it has failed, has failed as well; it waits again once that one does not any more.
    pub(super) fn follow_failure(&mut self, now: Time, id: PoolId, out: &mut Vec<Action>) {
        let Some(pool) = self.pools.get(&id).filter(|_| self.ending.is_none()) else { return };
        let (phase, name, code) = (pool.phase, pool.spec.name.clone(), pool.fail_code);
        let why = pool.why.clone().unwrap_or_default();
        let after = |p: &&Pool| p.spec.after.contains(&id);
        if phase == Phase::Failed {
            let waiting: Vec<PoolId> =
                self.pools.values().filter(after).filter(|p| p.phase == Phase::Waiting).map(Pool::id).collect();
            for next in waiting {
                let why = format!("it is to start after {name}, which failed: {why}");
                self.on_pool(now, next, out, |p, cx| p.fail_for(cx, id, code, why));
                self.failed_after.insert(next);
            }
        } else if !self.failed_after.is_empty() {
            // Whoever was started by an order meanwhile is none of them any more.
            self.failed_after.retain(|id| self.pools.get(id).is_some_and(|p| p.phase == Phase::Failed));
            let failed = |next: &PoolId| self.pools.get(next).is_some_and(|p| p.has_failed_for(id));
            let failed: Vec<PoolId> = self.failed_after.iter().copied().filter(failed).collect();
            for next in failed {
                self.failed_after.remove(&next);
                self.start_in_order(now, next, out);
            }
        }
    }

    /// Failed, completed, or waiting for ever for one that is.
    fn is_out(&self, id: PoolId) -> bool {
        self.pools.get(&id).is_some_and(|pool| match pool.phase {
            Phase::Failed | Phase::Completed => true,
            Phase::Waiting => pool
                .spec
                .after
                .iter()
                .any(|b| self.pools.get(b).is_some_and(|p| p.phase == Phase::Failed) || self.waits_in_vain(*b)),
            Phase::Running | Phase::BackingOff | Phase::Stopped | Phase::Parked | Phase::Removed => false,
        })
    }

    fn waits_in_vain(&self, id: PoolId) -> bool {
        self.pools.get(&id).is_some_and(|p| p.phase == Phase::Waiting) && self.is_out(id)
    }
}

/// What becomes of it is known. One that is required has to come up: until it does, or the master ends for it, nothing is decided.
fn is_decided(pool: &Pool) -> bool {
    match pool.phase {
        Phase::Running | Phase::Waiting => pool.all_ready(),
        Phase::BackingOff | Phase::Failed => !pool.spec.required,
        Phase::Completed | Phase::Stopped | Phase::Parked | Phase::Removed => true,
    }
}
