//! Owns putting a config in force: pools that come, stay or go.

use std::collections::BTreeMap;

use super::pool::Pool;
use super::{Action, Level, MasterSpec, Phase, PoolId, PoolSpec, Reason, Supervisor, Time, What};

impl Supervisor {
    /// Asks for the config; a request while one is being read is remembered, never lost, never two at once.
    pub(super) fn read_config(&mut self, out: &mut Vec<Action>) {
        if self.reading {
            self.read_again = true;
            return;
        }
        self.reading = true;
        out.push(Action::ReadConfig);
    }

    fn config_was_read(&mut self, out: &mut Vec<Action>) {
        self.reading = false;
        if std::mem::take(&mut self.read_again) && self.ending.is_none() {
            self.reload_begins();
            self.read_config(out);
        }
    }

    /// The config cannot be used: nothing changes.
    pub(super) fn config_rejected(&mut self, now: Time, reason: String, out: &mut Vec<Action>) {
        self.cx(now, out).note(Level::Error, None, None, What::ConfigRejected { reason: reason.clone() });
        self.reload_failed(&format!("the new config cannot be used, nothing was changed: {reason}"), out);
        self.config_was_read(out);
    }

    /// A validated config.
    pub(super) fn configure(
        &mut self,
        now: Time,
        revision: u32,
        master: MasterSpec,
        pools: Vec<PoolSpec>,
        out: &mut Vec<Action>,
    ) {
        if self.ending.is_some() {
            return;
        }
        let first = self.master.is_none();
        self.master = Some(master);
        self.revision = revision;
        let count = u32::try_from(pools.len()).unwrap_or(u32::MAX);
        self.cx(now, out).note(Level::Info, None, None, What::Configured { revision, pools: count });
        self.order = pools.iter().map(|p| p.id).collect();
        let mut known = BTreeMap::new();
        for spec in pools {
            let id = spec.id;
            known.insert(id, self.pools.get(&id).is_some_and(|p| p.phase != Phase::Removed));
            match self.pools.get_mut(&id) {
                Some(_) => {
                    self.on_pool(now, id, out, |p, cx| p.reconfigure(cx, spec, revision));
                }
                None => {
                    let floor = self.retired.get(&id).copied().unwrap_or(0);
                    self.pools.insert(id, Pool::new(spec, revision, floor));
                }
            }
        }
        for (id, stays) in self.order.clone().into_iter().map(|id| (id, known.get(&id) == Some(&true))) {
            if stays && !first { self.refresh(now, id, out) } else { self.introduce(now, id, out) }
        }
        self.remove_others(now, out);
        self.reload_rolled(out);
        self.config_was_read(out);
    }

    /// Pools that left the config. After those that stay and come: new workers are started before surplus ones are stopped.
    fn remove_others(&mut self, now: Time, out: &mut Vec<Action>) {
        for id in self.pools.keys().copied().collect::<Vec<_>>() {
            if !self.order.contains(&id) {
                self.fail_pending_of(id, "the pool left the config", out);
                self.on_pool(now, id, out, |p, cx| {
                    // Should its name come back before it is gone, it comes back as the file has it.
                    p.operator = None;
                    p.halt(cx, Phase::Removed, Reason::Removed);
                });
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

    /// A pool that stays: its workers are replaced; what was stuck gets a new chance, what was stopped stays stopped.
    fn refresh(&mut self, now: Time, id: PoolId, out: &mut Vec<Action>) {
        let Some(phase) = self.pools.get(&id).map(|p| p.phase) else { return };
        match phase {
            Phase::Running => {
                self.on_pool(now, id, out, |p, cx| p.roll_start(cx, None));
            }
            Phase::BackingOff => {
                self.on_pool(now, id, out, |p, cx| {
                    p.run(cx);
                    p.roll_start(cx, None);
                });
            }
            Phase::Waiting | Phase::Failed | Phase::Parked => self.start_in_order(now, id, out),
            Phase::Stopped | Phase::Completed | Phase::Removed => {}
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
