//! Owns the answer to `plan`: what a reload would do, found out without doing any of it.

use std::time::Duration;

use super::master::Master;
use super::reading::Purpose;
use crate::config::diff::{self, Change, Class, What};
use crate::config::spec::{Config, Pool};
use crate::protocol::{ChangeClass, ErrorName, Failure, PlanChange, PlanParameters, PlanReply, PlanValue, PoolPlan, PoolVerdict};
use crate::supervisor::{Phase, PoolId, PoolView, ReadyKind, WorkerState};

fn class(class: Class) -> ChangeClass {
    match class {
        Class::None => ChangeClass::None,
        Class::Live => ChangeClass::Live,
        Class::Rolling => ChangeClass::Rolling,
        Class::Rebind => ChangeClass::Rebind,
        Class::Master => ChangeClass::Master,
    }
}

fn change(change: &Change) -> PlanChange {
    let value = |shown: &diff::Shown| PlanValue { value: shown.value.clone(), origin: shown.origin.clone() };
    PlanChange {
        key: change.key.clone(),
        class: class(change.class),
        old: change.old.as_ref().map(value),
        new: change.new.as_ref().map(value),
    }
}

impl Master {
    /// Has the config read that a `plan` is about. `trusted`: whoever asks may have any file read.
    pub(super) fn begin_plan(&mut self, client: u64, p: PlanParameters, trusted: bool) -> Result<(), Failure> {
        if p.config.is_some() && !trusted {
            let text = "only root and the master's own user may have it read another file than its own config; leave CONFIG out";
            return Err(Failure::new(ErrorName::NotPermitted, text));
        }
        self.reading.ask(Purpose::Plan(client, p));
        Ok(())
    }

    /// What would become of a config that was read.
    pub(super) fn plan(&mut self, p: &PlanParameters, read: Result<Config, String>) -> Result<PlanReply, Failure> {
        let mut config = read.map_err(|e| Failure::new(ErrorName::BadConfig, e))?;
        self.ids.renumber(&mut config);
        let path = config.path.as_ref().map(|path| path.display().to_string());
        let warnings = config.warnings.clone();
        let only: Vec<PoolId> = p.pools.iter().map(|name| self.ids.named(name)).collect();
        if !only.is_empty() {
            config = self.only_pools(config, &only).map_err(|e| Failure::new(ErrorName::BadConfig, e))?;
        }
        let Some(present) = self.configs.get(&self.revision) else {
            return Err(Failure::new(ErrorName::Refused, "no config is in force yet"));
        };
        let difference = diff::diff(present, &config);
        let pools: Vec<PoolPlan> = difference
            .pools
            .iter()
            .map(|d| {
                let restart = p.restart && (only.is_empty() || p.pools.contains(&d.name));
                self.plan_of(d, &config, restart)
            })
            .collect();
        let by_verdict = pools.iter().map(|pool| match pool.verdict {
            PoolVerdict::Same => ChangeClass::None,
            PoolVerdict::Live => ChangeClass::Live,
            PoolVerdict::Rolling | PoolVerdict::Added | PoolVerdict::Removed => ChangeClass::Rolling,
        });
        let strongest = by_verdict.chain([class(difference.class())]).max().unwrap_or(ChangeClass::None);
        let expected = expected(&pools, &config);
        Ok(PlanReply {
            instance: self.config.name.clone(),
            revision: self.revision,
            config: path,
            class: strongest,
            master: difference.master.iter().map(change).collect(),
            pools,
            warnings,
            expected_ms: expected,
        })
    }

    fn plan_of(&self, d: &diff::PoolDiff, config: &Config, restart: bool) -> PoolPlan {
        let new = config.pools.iter().find(|pool| pool.spec.name == d.name);
        let id = self.names.iter().find(|(_, name)| **name == d.name).map(|(id, _)| *id);
        let view = id.and_then(|id| self.core.pool(id)).filter(|view| view.phase != Phase::Removed);
        let mut plan = PoolPlan {
            name: d.name.clone(),
            verdict: PoolVerdict::Same,
            changes: d.changes.iter().map(change).collect(),
            replaces: 0,
            canaries: 0,
            in_place: false,
            order: Vec::new(),
            peak: view.as_ref().map_or(0, |view| view.live),
            expected_ms: None,
            remarks: Vec::new(),
        };
        match (d.what, new, id) {
            (What::Removed, ..) | (_, None, _) => {
                plan.verdict = PoolVerdict::Removed;
                plan.replaces = plan.peak;
                plan.remarks.push("its listeners close when its last worker is gone, unless another pool has them".to_owned());
            }
            (What::Added, Some(pool), _) => self.plan_added(pool, &mut plan),
            (What::Same | What::Changed, Some(pool), Some(id)) => {
                self.plan_changed(id, pool, view.as_ref(), d.class(), restart, &mut plan);
            }
            (What::Same | What::Changed, Some(pool), None) => self.plan_added(pool, &mut plan),
        }
        plan
    }

    fn plan_added(&self, pool: &Pool, plan: &mut PoolPlan) {
        plan.verdict = PoolVerdict::Added;
        plan.peak = if pool.spec.autostart { pool.spec.workers } else { 0 };
        plan.in_place = true;
        if pool.spec.autostart {
            plan.canaries = canaries(pool, pool.spec.workers);
            plan.remarks.extend(weak_canary(pool, plan.canaries));
        } else {
            plan.remarks.push("autostart = false: it is not started".to_owned());
        }
    }

    fn plan_changed(
        &self,
        id: PoolId,
        pool: &Pool,
        view: Option<&PoolView<'_>>,
        strongest: Class,
        restart: bool,
        plan: &mut PoolPlan,
    ) {
        let Some(present) = self.runs.get(&id) else { return };
        let files = super::environment::prints(pool);
        let changed: Vec<String> = files
            .iter()
            .filter(|(path, print)| present.files.iter().any(|(old, before)| old == path && before != print))
            .map(|(path, _)| format!("what is in {} has changed", path.display()))
            .collect();
        let outdated = strongest >= Class::Rolling || diff::needs_new_workers(&present.config, pool) || !changed.is_empty();
        plan.remarks.extend(changed);
        if !outdated && !restart {
            plan.verdict = if plan.changes.is_empty() { PoolVerdict::Same } else { PoolVerdict::Live };
            return;
        }
        plan.verdict = PoolVerdict::Rolling;
        let Some(view) = view else { return };
        let target = view.operator.unwrap_or(pool.spec.workers);
        match view.phase {
            Phase::Running => {}
            Phase::BackingOff | Phase::Failed if outdated => plan.remarks.push("its canary is its next try".to_owned()),
            Phase::BackingOff | Phase::Failed => {
                plan.remarks
                    .push("it is failing and unchanged: left out of the verdict, started anew after the commit".to_owned());
                return;
            }
            Phase::Parked if restart => plan.remarks.push("it is parked: it runs again".to_owned()),
            phase => {
                plan.remarks.push(format!("it is {}: this holds from its next start on", phase.word()));
                return;
            }
        }
        let mut order: Vec<u32> =
            self.core.workers(id).iter().filter(|w| is_wanted(w.state) && !w.incoming).map(|w| w.id.slot).collect();
        order.dedup();
        plan.replaces = u32::try_from(order.len()).unwrap_or(u32::MAX);
        plan.order = order;
        plan.canaries = canaries(pool, target);
        let surge = pool.spec.rollout.max_surge.of(target);
        plan.in_place = surge == 0;
        plan.peak = target.saturating_add(surge);
        if plan.in_place {
            plan.remarks.push(
                "two workers cannot run in one slot (max_surge is 0): each old one is stopped before its replacement starts"
                    .to_owned(),
            );
        }
        plan.remarks.extend(weak_canary(pool, plan.canaries));
        plan.expected_ms = view.start_takes.map(|start| ms(duration(pool, start, target, plan)));
    }
}

fn is_wanted(state: WorkerState) -> bool {
    matches!(state, WorkerState::Spawning | WorkerState::Starting | WorkerState::Ready | WorkerState::Good)
}

fn canaries(pool: &Pool, target: u32) -> u32 {
    pool.spec.canaries(target)
}

/// A canary that proves little, in words.
fn weak_canary(pool: &Pool, canaries: u32) -> Option<String> {
    if canaries == 0 {
        return Some("rollout.canary is 0: it is put in force untried".to_owned());
    }
    (pool.spec.ready == ReadyKind::Exec).then(|| {
        format!(
            "its canary is weak: ready = \"exec\" proves no more than that the program runs for {} (settle)",
            crate::supervisor::human(pool.spec.settle)
        )
    })
}

/// By what starts have taken so far; the time that old workers take to stop is not in it, but where they stop first it cannot be known.
fn duration(pool: &Pool, start: Duration, target: u32, plan: &PoolPlan) -> Duration {
    let rollout = &pool.spec.rollout;
    let good = start + pool.spec.settle;
    let at_once = match rollout.max_surge.of(target) {
        0 => rollout.max_unavailable.of(target).max(1),
        surge => surge,
    };
    let tried = if plan.canaries > 0 { good + rollout.bake } else { Duration::ZERO };
    let rest = plan.replaces.saturating_sub(plan.canaries);
    tried + good * rest.div_ceil(at_once) + rollout.bake
}

/// Canaries one after the other only where `after` says so; the rest of all pools together.
fn expected(pools: &[PoolPlan], config: &Config) -> Option<u64> {
    let rolling: Vec<&PoolPlan> = pools.iter().filter(|p| p.verdict == PoolVerdict::Rolling && p.replaces > 0).collect();
    if rolling.is_empty() || rolling.iter().any(|p| p.expected_ms.is_none()) {
        return None;
    }
    let chained = |p: &&&PoolPlan| config.pools.iter().any(|c| c.spec.name == p.name && !c.spec.after.is_empty());
    let longest = rolling.iter().filter_map(|p| p.expected_ms).max().unwrap_or(0);
    let behind: u64 = rolling.iter().filter(chained).filter_map(|p| Some(p.expected_ms? / u64::from(p.replaces.max(1)))).sum();
    Some(longest + behind)
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_keep_their_order() {
        let all = [Class::None, Class::Live, Class::Rolling, Class::Rebind, Class::Master];
        assert!(all.map(class).is_sorted() && all.is_sorted());
    }
}
