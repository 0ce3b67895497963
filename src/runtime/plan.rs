//! Owns the answer to `plan`: what a reload would do, found out without doing any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::master::Master;
use super::reading::Purpose;
use super::sockets::{self, OpenSockets};
use crate::config::diff::{self, Change, Class, Fate, What};
use crate::config::spec::{Config, Pool};
use crate::protocol::{
    ChangeClass, ErrorName, Failure, ListenerVerdict, PlanChange, PlanListener, PlanParameters, PlanReply, PlanValue, PoolPlan,
    PoolVerdict,
};
use crate::supervisor::{Command, Course, Event, Outlook, Phase, PoolId, PoolView, ReadyKind, Supervisor, Time, forecast};

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

fn listener(diff: &diff::ListenerDiff) -> PlanListener {
    let (verdict, other) = match &diff.what {
        Fate::Opened => (ListenerVerdict::Opened, None),
        Fate::Moved { from } => (ListenerVerdict::Moved, Some(from.clone())),
        Fate::TakenOver { from } => (ListenerVerdict::TakenOver, Some(from.clone())),
        Fate::Changed => (ListenerVerdict::Changed, None),
        Fate::Closed => (ListenerVerdict::Closed, None),
        Fate::GivenTo { to } => (ListenerVerdict::GivenTo, Some(to.clone())),
    };
    PlanListener { name: diff.name.clone(), address: diff.address.clone(), verdict, other }
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
    pub(super) fn plan(&mut self, p: &PlanParameters, read: Result<Config, String>) -> Result<Draft, Failure> {
        let mut config = read.map_err(|e| Failure::new(ErrorName::BadConfig, e))?;
        self.ids.renumber(&mut config);
        self.as_second(&mut config);
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
        let mut roll = BTreeSet::new();
        let open = OpenSockets::of(self.open_sockets(), &config);
        let pools: Vec<PoolPlan> = difference
            .pools
            .iter()
            .map(|d| {
                let restart = p.restart && (only.is_empty() || p.pools.contains(&d.name));
                let mut plan = self.plan_of(d, &config, restart, &mut roll);
                let new = config.pools.iter().find(|pool| pool.spec.name == d.name && !d.listeners.is_empty());
                let listeners = new.into_iter().flat_map(|pool| &pool.listeners);
                plan.remarks.extend(listeners.filter_map(|listener| sockets::in_the_way(&d.name, listener, &open)));
                plan
            })
            .collect();
        let by_verdict = pools.iter().map(|pool| match pool.verdict {
            PoolVerdict::Same => ChangeClass::None,
            PoolVerdict::Live => pool.changes.iter().map(|change| change.class).max().unwrap_or(ChangeClass::None),
            PoolVerdict::Rolling | PoolVerdict::Added | PoolVerdict::Removed => ChangeClass::Rolling,
        });
        let strongest = by_verdict.chain([class(difference.class())]).max().unwrap_or(ChangeClass::None);
        let ids = pools.iter().map(|pool| self.ids.named(&pool.name)).collect();
        let reply = PlanReply {
            instance: self.config.name.clone(),
            revision: self.revision,
            config: path,
            class: strongest,
            master: difference.master.iter().map(change).collect(),
            pools,
            warnings,
            expected_ms: None,
        };
        let views = self.core.pools();
        let starts = views.iter().filter_map(|view| Some((view.spec.id, view.start_takes?))).collect();
        Ok(Draft {
            reply,
            ids,
            core: serde_json::to_vec(&self.core).unwrap_or_default(),
            now: Master::now(),
            command: Command::Reload { restart: p.restart, pools: only },
            config: Event::Configure {
                revision: self.last_revision + 1,
                base: self.revision,
                master: config.master.spec.clone(),
                pools: config.pools.iter().map(|pool| pool.spec.clone()).collect(),
                roll: roll.into_iter().collect(),
                changes: Vec::new(),
            },
            starts,
        })
    }

    fn plan_of(&self, d: &diff::PoolDiff, config: &Config, restart: bool, roll: &mut BTreeSet<PoolId>) -> PoolPlan {
        let new = config.pools.iter().find(|pool| pool.spec.name == d.name);
        let id = self.names.iter().find(|(_, name)| **name == d.name).map(|(id, _)| *id);
        let view = id.and_then(|id| self.core.pool(id)).filter(|view| view.phase != Phase::Removed);
        let mut plan = PoolPlan {
            name: d.name.clone(),
            verdict: PoolVerdict::Same,
            changes: d.changes.iter().map(change).collect(),
            listeners: d.listeners.iter().map(listener).collect(),
            renamed_from: d.renamed_from.clone(),
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
            }
            (What::Added, Some(pool), _) => self.plan_added(pool, &mut plan),
            (What::Same | What::Changed, Some(pool), Some(id)) => {
                if self.plan_changed(id, pool, view.as_ref(), d.class(), restart, &mut plan) {
                    roll.insert(id);
                }
            }
            (What::Same | What::Changed, Some(pool), None) => self.plan_added(pool, &mut plan),
        }
        plan
    }

    fn plan_added(&self, pool: &Pool, plan: &mut PoolPlan) {
        plan.verdict = PoolVerdict::Added;
        plan.in_place = true;
        if pool.spec.autostart {
            plan.canaries = canaries(pool, pool.spec.workers);
            plan.remarks.extend(weak_canary(pool, plan.canaries));
        } else {
            plan.remarks.push("autostart = false: it is not started".to_owned());
        }
    }

    /// True: its workers are outdated by it.
    fn plan_changed(
        &self,
        id: PoolId,
        pool: &Pool,
        view: Option<&PoolView<'_>>,
        strongest: Class,
        restart: bool,
        plan: &mut PoolPlan,
    ) -> bool {
        let Some(present) = self.runs.get(&id) else { return false };
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
            return false;
        }
        plan.verdict = PoolVerdict::Rolling;
        let Some(view) = view else { return outdated };
        match view.phase {
            Phase::Running => {}
            Phase::BackingOff | Phase::Failed if outdated => plan.remarks.push("its canary is its next try".to_owned()),
            Phase::BackingOff | Phase::Failed => {
                plan.remarks
                    .push("it is failing and unchanged: left out of the verdict, started anew after the commit".to_owned());
                return outdated;
            }
            Phase::Parked if restart => plan.remarks.push("it is parked: it runs again".to_owned()),
            phase => {
                plan.remarks.push(format!("it is {}: this holds from its next start on", phase.word()));
                return outdated;
            }
        }
        // The operator's number stands unless the config's own is another one.
        let operator = view.operator.filter(|_| pool.spec.workers == present.config.spec.workers);
        let target = operator.unwrap_or(pool.spec.workers);
        plan.canaries = canaries(pool, target);
        plan.in_place = pool.spec.rollout.max_surge.of(target) == 0;
        if plan.in_place {
            plan.remarks.push(
                "two workers cannot run in one slot (max_surge is 0): each old one is stopped before its replacement starts"
                    .to_owned(),
            );
        }
        plan.remarks.extend(weak_canary(pool, plan.canaries));
        outdated
    }
}

/// A plan without what only the course of the reload tells: that is found out beside the loop.
pub(super) struct Draft {
    reply: PlanReply,
    /// Of the pools, in their order.
    ids: Vec<PoolId>,
    /// The core, written down.
    core: Vec<u8>,
    now: Time,
    command: Command,
    config: Event,
    /// How long starts have taken.
    starts: BTreeMap<PoolId, Duration>,
}

impl Draft {
    /// What the core would do is asked of a copy of it. Old workers end at once for the time that it takes; for how many processes there are at
    /// one time, they stay for as long as they may.
    pub(super) fn complete(self) -> PlanReply {
        let foreseen = |lasting: bool| {
            let mut core: Supervisor = serde_json::from_slice(&self.core).ok()?;
            let course = Course { starts: self.starts.clone(), lasting };
            forecast(&mut core, self.now, self.command.clone(), self.config.clone(), &course)
        };
        let (quick, lasting) = (foreseen(false), foreseen(true));
        let mut reply = self.reply;
        let (Some(quick), Some(lasting)) = (quick, lasting) else {
            reply.warnings.push(
                "in which order, with how many processes at one time and how long cannot be foreseen now: another reload is under \
                 way, or the master is ending"
                    .to_owned(),
            );
            return reply;
        };
        let (mut longest, mut known) = (None, true);
        for (id, pool) in self.ids.iter().zip(&mut reply.pools) {
            let Outlook { order, takes, .. } = quick.get(id).cloned().unwrap_or_default();
            pool.peak = lasting.get(id).map_or(pool.peak, |outlook| outlook.peak);
            if pool.verdict == PoolVerdict::Rolling {
                pool.replaces = u32::try_from(order.len()).unwrap_or(u32::MAX);
                pool.order = order;
            }
            if let Some(takes) = takes {
                // Of what was never started nobody knows how long it takes.
                known &= self.starts.contains_key(id);
                pool.expected_ms = self.starts.contains_key(id).then(|| ms(takes));
                longest = longest.max(Some(ms(takes)));
            }
        }
        reply.expected_ms = longest.filter(|_| known);
        reply
    }
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
