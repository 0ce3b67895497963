//! Owns what operators may ask for, what is refused, and how each order begins. Its end is in `pending`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::pending::{Goal, Pending};
use super::wishes::Wish;
use super::{
    Action, Command, CommandId, ConfigSource, Level, Outcome, Phase, PoolId, Reason, ScaleChange, Sender, Supervisor, Target,
    Time, What,
};

/// No pool has more workers than this: far beyond what one host runs, and a guard against a slip of the finger.
pub(super) const MOST_WORKERS: u32 = 100_000;

impl Supervisor {
    pub(super) fn command(
        &mut self,
        now: Time,
        id: CommandId,
        command: Command,
        sender: Sender,
        timeout: Option<Duration>,
        out: &mut Vec<Action>,
    ) {
        let words = self.audit(&command);
        let by = words.as_ref().map_or_else(String::new, |words| format!("{words}, asked by {sender}"));
        if let Some(words) = words {
            self.cx(now, out).note(Level::Info, None, None, What::Commanded { command: words, sender });
        }
        if self.ending.is_some() && !matches!(command, Command::Shutdown { .. } | Command::Reopen) {
            return reply(id, Outcome::Refused("the master is shutting down".to_owned()), out);
        }
        let missing = command_pools(&command).into_iter().find(|p| !self.order.contains(p));
        if missing.is_some() {
            return reply(id, Outcome::Refused("the pool is not in the config any more".to_owned()), out);
        }
        match command {
            Command::Scale { pool, change } => self.scale(now, id, pool, change, sender, timeout, out),
            Command::Stop { pools } => {
                for pool in &pools {
                    self.on_pool(now, *pool, out, |p, cx| p.halt(cx, Phase::Stopped, Reason::Stopped));
                    self.fail_pending_of(*pool, "the pool was stopped by a later order", out);
                }
                self.await_goal(now, id, Goal::Stopped { pools }, timeout, out);
            }
            Command::Start { pools } => {
                for pool in &pools {
                    let down = self.pools.get(pool).is_some_and(|p| !matches!(p.phase, Phase::Running | Phase::BackingOff));
                    if down {
                        self.start_in_order(now, *pool, out);
                    }
                }
                self.await_goal(now, id, Goal::Started { pools }, timeout, out);
            }
            Command::Restart { targets } => self.restart(now, id, &targets, timeout, out),
            Command::Kill { target, signal } => self.kill(now, id, target, signal, timeout, out),
            Command::Wait { pool, until } => self.await_goal(now, id, Goal::Condition { pool, until }, timeout, out),
            Command::Retry { pool } => {
                match self.pools.get(&pool).map(|p| p.phase) {
                    Some(Phase::Failed) => self.start_in_order(now, pool, out),
                    Some(Phase::Running | Phase::BackingOff) => {
                        self.on_pool(now, pool, out, |p, cx| p.retry(cx));
                    }
                    Some(phase) => {
                        let text = format!("the pool is {}: there is nothing to retry; use start", phase.word());
                        return reply(id, Outcome::Refused(text), out);
                    }
                    None => {}
                }
                self.await_goal(now, id, Goal::Retried { pool, since: now }, timeout, out);
            }
            Command::Reload { restart, pools } => {
                let pools = pools.into_iter().collect();
                self.await_goal(now, id, Goal::Reload, timeout, out);
                self.wish(Wish { restart, pools, orders: vec![id], ..Wish::of(ConfigSource::File, by) }, out);
            }
            Command::Abort => self.abort_reload(now, id, timeout, out),
            Command::Rollback => self.roll_back(now, id, by, timeout, out),
            Command::Reopen => {
                self.reopen(now, out);
                reply(id, Outcome::Done("log files are being reopened".to_owned()), out);
            }
            Command::Shutdown { now: quick } => {
                self.shut_down_for(now, quick, sender, out);
                self.await_goal(now, id, Goal::Ended, timeout, out);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one argument for each part of the order")]
    fn scale(
        &mut self,
        now: Time,
        id: CommandId,
        pool: PoolId,
        change: ScaleChange,
        sender: Sender,
        timeout: Option<Duration>,
        out: &mut Vec<Action>,
    ) {
        let Some(p) = self.pools.get(&pool) else { return };
        let number = match wished(change, p.target(), p.spec.max, p.spec.min) {
            Ok(number) => number,
            Err(text) => return reply(id, Outcome::Refused(format!("{}: {text}", p.spec.name)), out),
        };
        self.on_pool(now, pool, out, |p, cx| p.set_operator(cx, number, format!("an order from {sender}")));
        self.await_goal(now, id, Goal::Scaled { pool }, timeout, out);
    }

    fn restart(&mut self, now: Time, id: CommandId, targets: &[Target], timeout: Option<Duration>, out: &mut Vec<Action>) {
        let mut pools: BTreeMap<PoolId, Option<BTreeSet<u32>>> = BTreeMap::new();
        for target in targets {
            let Some(p) = self.pools.get(&target.pool) else { continue };
            let name = &p.spec.name;
            if p.is_trying() {
                let text = format!("a reload is trying a canary of {name}; wait for it, or order `reload --restart`");
                return reply(id, Outcome::Refused(text), out);
            }
            if !p.may_roll() {
                let text = format!("{name} is {}: it has no workers to replace; use start", p.phase.word());
                return reply(id, Outcome::Refused(text), out);
            }
            if let Some(slot) = target.slot.filter(|slot| !p.has_slot(*slot)) {
                return reply(id, Outcome::Refused(format!("{name} has no slot {slot}")), out);
            }
            let slots = pools.entry(target.pool).or_insert_with(|| target.slot.map(|_| BTreeSet::new()));
            match (slots.as_mut(), target.slot) {
                (Some(set), Some(slot)) => {
                    set.insert(slot);
                }
                (_, None) => *slots = None,
                (None, Some(_)) => {}
            }
        }
        let edition = self.fresh_edition();
        for (pool, slots) in &pools {
            self.on_pool(now, *pool, out, |p, cx| {
                match slots {
                    Some(slots) => p.roll_slots(cx, slots),
                    None => p.roll_all(cx, edition),
                }
                // Only now: the probe is one of the new workers already.
                if p.phase == Phase::BackingOff {
                    p.retry(cx);
                }
            });
        }
        self.await_goal(now, id, Goal::Rolled { pools: pools.into_keys().collect(), since: now }, timeout, out);
    }

    fn kill(&mut self, now: Time, id: CommandId, target: Target, signal: i32, timeout: Option<Duration>, out: &mut Vec<Action>) {
        let sent = self.on_pool(now, target.pool, out, |p, cx| p.send_signal(cx, target.slot, signal)).unwrap_or_default();
        if sent.is_empty() {
            let name = self.pools.get(&target.pool).map_or("the pool", |p| p.spec.name.as_str());
            let text = match target.slot {
                Some(slot) => format!("{name} has no worker in slot {slot} to signal"),
                None => format!("{name} has no worker to signal"),
            };
            return reply(id, Outcome::Refused(text), out);
        }
        let goal = Goal::Signalled { signal, waiting: sent.iter().copied().collect(), sent: sent.len(), failed: Vec::new() };
        self.await_goal(now, id, goal, timeout, out);
    }

    /// What the workers of an order are, to tell them from those before.
    pub(super) fn fresh_edition(&mut self) -> u32 {
        self.next_edition += 1;
        self.next_edition
    }

    /// Starts to wait for the effect; answers at once when it is already real.
    pub(super) fn await_goal(&mut self, now: Time, id: CommandId, goal: Goal, timeout: Option<Duration>, out: &mut Vec<Action>) {
        let mut pending = Pending { goal, armed: None };
        let at = timeout.map(|t| now + t);
        self.timers.arm(super::timers::Key::Command(id), &mut pending.armed, at);
        self.pending.insert(id, pending);
        self.answer_if_settled(id, out);
    }

    /// The words of a changing command for the audit trail; `None`: it changes nothing.
    fn audit(&self, command: &Command) -> Option<String> {
        let name = |id: &PoolId| self.pools.get(id).map_or_else(|| format!("pool #{}", id.0), |p| p.spec.name.clone());
        let names = |ids: &[PoolId]| ids.iter().map(name).collect::<Vec<_>>().join(" ");
        let target = |t: &Target| t.slot.map_or_else(|| name(&t.pool), |slot| format!("{}:{slot}", name(&t.pool)));
        Some(match command {
            Command::Scale { pool, change } => format!("scale {} {}", name(pool), change.words()),
            Command::Stop { pools } => format!("stop {}", names(pools)),
            Command::Start { pools } => format!("start {}", names(pools)),
            Command::Restart { targets } => format!("restart {}", targets.iter().map(target).collect::<Vec<_>>().join(" ")),
            Command::Kill { target: t, signal } => format!("kill -s {} {}", super::signal_name(*signal), target(t)),
            Command::Retry { pool } => format!("retry {}", name(pool)),
            Command::Reload { restart, pools } => {
                let restart = if *restart { " --restart" } else { "" };
                let pools: String = pools.iter().map(|id| format!(" --pool {}", name(id))).collect();
                format!("reload{restart}{pools}")
            }
            Command::Abort => "reload --abort".to_owned(),
            Command::Rollback => "rollback".to_owned(),
            Command::Reopen => "reopen".to_owned(),
            Command::Shutdown { now } => if *now { "shutdown --now" } else { "shutdown" }.to_owned(),
            Command::Wait { .. } => return None,
        })
    }
}

impl ScaleChange {
    fn words(self) -> String {
        match self {
            ScaleChange::By(n) => format!("{n:+}"),
            ScaleChange::To(n) => n.to_string(),
            ScaleChange::Percent(n) => format!("{n}%"),
            ScaleChange::Config => "config".to_owned(),
        }
    }
}

/// The operator's number that a change means, or why it is refused. `Ok(None)`: the config's number.
fn wished(change: ScaleChange, target: u32, max: Option<u32>, min: u32) -> Result<Option<u32>, String> {
    let wish = match change {
        ScaleChange::Config => return Ok(None),
        ScaleChange::To(n) => i64::from(n),
        ScaleChange::By(n) => i64::from(target).saturating_add(n),
        ScaleChange::Percent(percent) => {
            let max = max.ok_or("a percentage is of scale.max, and this pool has none; give a number")?;
            i64::from(super::Share::Percent(percent).of(max))
        }
    };
    let to = u32::try_from(wish).map_err(|_| format!("{wish} workers are not possible; it has {target}"))?;
    match max {
        Some(max) if to > max => return Err(format!("{to} workers are more than scale.max ({max}); nothing was changed")),
        None if to > MOST_WORKERS => return Err(format!("{to} workers are more than any pool may have ({MOST_WORKERS})")),
        Some(_) | None => {}
    }
    if to < min && to != 0 {
        return Err(format!("{to} workers are fewer than scale.min ({min}); 0 parks the pool; nothing was changed"));
    }
    Ok(Some(to))
}

fn command_pools(command: &Command) -> Vec<PoolId> {
    match command {
        Command::Scale { pool, .. } | Command::Wait { pool, .. } | Command::Retry { pool } => vec![*pool],
        Command::Stop { pools } | Command::Start { pools } => pools.clone(),
        Command::Restart { targets } => targets.iter().map(|t| t.pool).collect(),
        Command::Kill { target, .. } => vec![target.pool],
        Command::Reload { .. } | Command::Abort | Command::Rollback | Command::Reopen | Command::Shutdown { .. } => Vec::new(),
    }
}

pub(super) fn reply(id: CommandId, outcome: Outcome, out: &mut Vec<Action>) {
    out.push(Action::Reply { id, outcome });
}
