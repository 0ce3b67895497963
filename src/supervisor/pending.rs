//! Owns orders whose effect is not real yet. Each is answered exactly once: when it is, when it cannot be any more, or at its timeout.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::commands::reply;
use super::pool::Pool;
use super::timers::Key;
use super::{
    Action, CommandId, Condition, Outcome, Phase, PoolId, Reason, Supervisor, Time, WorkerId, WorkerState, count, signal_name,
};

/// An order under way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) goal: Goal,
    pub(super) armed: Option<Time>,
}

/// What makes an order's effect real.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Goal {
    /// The wanted workers are ready and the surplus is gone.
    Scaled { pool: PoolId },
    /// No process of these is left.
    Stopped { pools: Vec<PoolId> },
    /// All wanted workers of these are ready.
    Started { pools: Vec<PoolId> },
    /// All workers of these that were to be replaced are, and the old ones are gone.
    Rolled { pools: Vec<PoolId>, since: Time },
    /// The pool is in this condition.
    Condition { pool: PoolId, until: Condition },
    /// A worker started since then is good, or died.
    Retried { pool: PoolId, since: Time },
    /// Everything is down: answered by the shutdown itself, as its last act but one.
    Ended,
    /// A reload: answered by the transaction, or by what takes its place.
    Reload,
    /// The reload has ended so; these pools still have old workers to wait for, or are gone with the old config, and those have to come to
    /// another number of workers.
    Drained { pools: Vec<PoolId>, resized: Vec<PoolId>, outcome: Outcome },
    /// Each signal has gone out, or could not.
    Signalled { signal: i32, waiting: BTreeSet<WorkerId>, sent: usize, failed: Vec<i32> },
}

impl Goal {
    fn is_about(&self, id: PoolId) -> bool {
        match self {
            Goal::Scaled { pool } | Goal::Condition { pool, .. } | Goal::Retried { pool, .. } => *pool == id,
            Goal::Stopped { pools } | Goal::Started { pools } | Goal::Rolled { pools, .. } => pools.contains(&id),
            Goal::Drained { pools, .. } => pools.contains(&id),
            Goal::Ended => true,
            Goal::Reload | Goal::Signalled { .. } => false,
        }
    }
}

impl Supervisor {
    /// Answers every order about this pool whose effect is real now, or cannot be any more.
    pub(super) fn answer_settled(&mut self, id: PoolId, out: &mut Vec<Action>) {
        if self.pending.is_empty() {
            return;
        }
        let about: Vec<CommandId> = self.pending.iter().filter(|(_, p)| p.goal.is_about(id)).map(|(c, _)| *c).collect();
        for command in about {
            self.answer_if_settled(command, out);
        }
    }

    pub(super) fn answer_if_settled(&mut self, id: CommandId, out: &mut Vec<Action>) {
        if let Some(outcome) = self.pending.get(&id).and_then(|p| self.outcome(&p.goal)) {
            self.finish(id, outcome, out);
        }
    }

    pub(super) fn finish(&mut self, id: CommandId, outcome: Outcome, out: &mut Vec<Action>) {
        if let Some(mut pending) = self.pending.remove(&id) {
            self.timers.arm(Key::Command(id), &mut pending.armed, None);
            reply(id, outcome, out);
        }
    }

    /// The client is gone; the work goes on.
    pub(super) fn abandon(&mut self, id: CommandId) {
        if let Some(mut pending) = self.pending.remove(&id) {
            self.timers.arm(Key::Command(id), &mut pending.armed, None);
        }
    }

    pub(super) fn command_due(&mut self, id: CommandId, out: &mut Vec<Action>) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        pending.armed = None;
        let text = match &pending.goal {
            Goal::Condition { pool, .. } => match self.pools.get(pool) {
                Some(p) => format!("{}: {}", p.spec.name, state_words(p)),
                None => "the pool is gone".to_owned(),
            },
            Goal::Reload => format!("not done yet, it goes on; {}", self.reload_words()),
            goal @ (Goal::Scaled { .. }
            | Goal::Stopped { .. }
            | Goal::Started { .. }
            | Goal::Rolled { .. }
            | Goal::Retried { .. }
            | Goal::Ended
            | Goal::Drained { .. }
            | Goal::Signalled { .. }) => {
                let left: Vec<String> = self
                    .pools
                    .values()
                    .filter(|p| goal.is_about(p.id()))
                    .map(|p| format!("{}: {}", p.spec.name, state_words(p)))
                    .collect();
                format!("not done yet, it goes on; {}", left.join("; "))
            }
        };
        self.finish(id, Outcome::TimedOut(text), out);
    }

    /// Answers those who wait for a pool to come to rest, which may be so by what happened to others.
    pub(super) fn answer_resting(&mut self, out: &mut Vec<Action>) {
        let rests = |goal: &Goal| matches!(goal, Goal::Condition { until: Condition::Settled, .. });
        let waiting: Vec<CommandId> = self.pending.iter().filter(|(_, p)| rests(&p.goal)).map(|(id, _)| *id).collect();
        for id in waiting {
            self.answer_if_settled(id, out);
        }
    }

    /// Ends the orders about one pool.
    pub(super) fn fail_pending_of(&mut self, id: PoolId, why: &str, out: &mut Vec<Action>) {
        let about = |goal: &Goal| {
            goal.is_about(id) && !matches!(goal, Goal::Stopped { .. } | Goal::Condition { .. } | Goal::Drained { .. })
        };
        let commands: Vec<CommandId> = self.pending.iter().filter(|(_, p)| about(&p.goal)).map(|(c, _)| *c).collect();
        for command in commands {
            self.finish(command, Outcome::Failed(why.to_owned()), out);
        }
    }

    /// Ends all orders but those that a shutdown fulfils.
    pub(super) fn fail_pending(&mut self, why: &str, out: &mut Vec<Action>) {
        let stays =
            |goal: &Goal| matches!(goal, Goal::Ended | Goal::Stopped { .. } | Goal::Condition { until: Condition::Stopped, .. });
        let commands: Vec<CommandId> = self.pending.iter().filter(|(_, p)| !stays(&p.goal)).map(|(c, _)| *c).collect();
        for command in commands {
            self.finish(command, Outcome::Failed(why.to_owned()), out);
        }
    }

    /// The master ends: the last orders are answered.
    pub(super) fn answer_ended(&mut self, code: i32, reason: &str, out: &mut Vec<Action>) {
        for id in self.pending.keys().copied().collect::<Vec<_>>() {
            let outcome = match code {
                0 => Outcome::Done("everything is stopped".to_owned()),
                _ => Outcome::Failed(reason.to_owned()),
            };
            self.finish(id, outcome, out);
        }
    }

    /// A signal went out (`errno` `None`), or could not.
    pub(super) fn kill_done(&mut self, worker: WorkerId, signal: i32, errno: Option<i32>, out: &mut Vec<Action>) {
        let mut done = Vec::new();
        for (id, pending) in &mut self.pending {
            if let Goal::Signalled { signal: wanted, waiting, failed, .. } = &mut pending.goal
                && *wanted == signal
                && waiting.remove(&worker)
            {
                failed.extend(errno);
                if waiting.is_empty() {
                    done.push(*id);
                }
            }
        }
        for id in done {
            self.answer_if_settled(id, out);
        }
    }

    /// `None`: not yet.
    fn outcome(&self, goal: &Goal) -> Option<Outcome> {
        match goal {
            Goal::Scaled { pool } => self.scaled(self.pools.get(pool)?),
            Goal::Stopped { pools } => {
                let down = pools.iter().all(|id| self.pools.get(id).is_none_or(Pool::is_down));
                let names = || pools.iter().filter_map(|id| self.pools.get(id)).map(|p| p.spec.name.as_str()).collect::<Vec<_>>();
                down.then(|| Outcome::Done(format!("{}: stopped", names().join(", "))))
            }
            Goal::Started { pools } => self.each(pools, |p| self.started(p)),
            Goal::Rolled { pools, since } => self.each(pools, |p| rolled(p, *since)),
            Goal::Reload => None,
            Goal::Drained { pools, resized, outcome } => {
                let through = pools.iter().filter_map(|id| self.pools.get(id)).all(drained);
                if !through { None } else { resized_to(resized.iter().filter_map(|id| self.pools.get(id)), outcome) }
            }
            Goal::Ended => None,
            Goal::Condition { pool, until } => self.condition(*pool, *until),
            Goal::Retried { pool, since } => retried(self.pools.get(pool)?, *since),
            Goal::Signalled { signal, waiting, sent, failed } => waiting.is_empty().then(|| match failed.first() {
                None => Outcome::Done(format!("{} sent to {}", signal_name(*signal), count(*sent, "worker"))),
                Some(errno) => Outcome::Failed(format!(
                    "{} could not be sent to {} of {sent} workers (errno {errno})",
                    signal_name(*signal),
                    failed.len()
                )),
            }),
        }
    }

    /// One failure decides; else all have to be done.
    fn each(&self, pools: &[PoolId], check: impl Fn(&Pool) -> Option<Outcome>) -> Option<Outcome> {
        let mut texts = Vec::new();
        let mut waiting = false;
        for pool in pools.iter().filter_map(|id| self.pools.get(id)) {
            match check(pool) {
                Some(Outcome::Done(text)) => texts.push(format!("{}: {text}", pool.spec.name)),
                // The others go on.
                Some(Outcome::RolledBack(text)) if pools.len() == 1 => {
                    return Some(Outcome::RolledBack(format!("{}: {text}", pool.spec.name)));
                }
                Some(Outcome::Failed(text) | Outcome::RolledBack(text)) => {
                    return Some(Outcome::Failed(format!("{}: {text}", pool.spec.name)));
                }
                Some(other) => return Some(other),
                None => waiting = true,
            }
        }
        (!waiting).then(|| Outcome::Done(texts.join("; ")))
    }

    fn scaled(&self, p: &Pool) -> Option<Outcome> {
        let name = &p.spec.name;
        match p.phase {
            Phase::Running => {
                let settled = p.all_ready() && !p.has_leaving(|r| r == Reason::ScaleDown) && !p.has_surplus();
                settled.then(|| Outcome::Done(format!("{name}: {} ready", count(p.ready_count(), "worker"))))
            }
            Phase::BackingOff | Phase::Failed => {
                Some(Outcome::Failed(format!("{name}: the number is set, but {}", state_words(p))))
            }
            Phase::Waiting | Phase::Stopped | Phase::Parked | Phase::Completed | Phase::Removed => {
                Some(Outcome::Done(format!("{name}: {} workers wanted once it runs; it is {}", p.target(), p.phase.word())))
            }
        }
    }

    fn started(&self, p: &Pool) -> Option<Outcome> {
        match p.phase {
            Phase::Running => p.all_ready().then(|| Outcome::Done(format!("{} ready", count(p.ready_count(), "worker")))),
            Phase::Completed => Some(Outcome::Done("completed".to_owned())),
            Phase::BackingOff | Phase::Failed | Phase::Stopped | Phase::Parked | Phase::Removed => {
                Some(Outcome::Failed(state_words(p)))
            }
            Phase::Waiting => None,
        }
    }

    fn condition(&self, id: PoolId, until: Condition) -> Option<Outcome> {
        let Some(p) = self.pools.get(&id) else { return Some(Outcome::Failed("the pool left the config".to_owned())) };
        let name = &p.spec.name;
        let holds = match until {
            Condition::Ready => p.all_ready() && p.wanted() > 0 || p.phase == Phase::Completed,
            Condition::Stopped => p.is_down() && p.wanted() == 0,
            Condition::Settled => {
                let open = p.is_rolling() || p.is_draining() || p.is_trying();
                let rests = match p.phase {
                    Phase::Running => p.is_settled() && p.view().stopping == 0,
                    Phase::Completed | Phase::Stopped | Phase::Parked => p.is_down(),
                    Phase::BackingOff | Phase::Waiting | Phase::Failed | Phase::Removed => false,
                };
                self.reload.is_none() && !self.reading && self.wishes.is_empty() && !open && rests
            }
            Condition::Count(n) => {
                p.ready_count() == n && matches!(p.phase, Phase::Running | Phase::BackingOff) || n == 0 && p.is_down()
            }
        };
        if holds {
            return Some(Outcome::Done(format!("{name}: {}", state_words(p))));
        }
        // What cannot come by waiting is said at once.
        let hopeless = p.phase == Phase::Failed && until != Condition::Stopped;
        hopeless.then(|| Outcome::Failed(format!("{name}: {}", state_words(p))))
    }
}

/// What it has replaced is gone. A pool that left the config is forgotten once it is gone: until then there is something to wait for.
fn drained(p: &Pool) -> bool {
    p.phase != Phase::Removed && !p.is_draining()
}

/// The outcome of a reload, with what became of the pools that it gave another number of workers.
fn resized_to<'a>(pools: impl Iterator<Item = &'a Pool>, outcome: &Outcome) -> Option<Outcome> {
    let (mut words, mut bad) = (Vec::new(), false);
    for p in pools {
        match p.phase {
            Phase::Running if !p.all_ready() || p.has_surplus() => return None,
            Phase::BackingOff | Phase::Failed => bad = true,
            Phase::Running | Phase::Waiting | Phase::Stopped | Phase::Parked | Phase::Completed | Phase::Removed => {}
        }
        words.push(format!("{}: {}", p.spec.name, state_words(p)));
    }
    let Outcome::Done(text) = outcome else { return Some(outcome.clone()) };
    Some(match (words.is_empty(), bad) {
        (true, _) => outcome.clone(),
        (false, true) => Outcome::Failed(format!("{text}; but {}", words.join("; "))),
        (false, false) => Outcome::Done(format!("{text}; {}", words.join("; "))),
    })
}

fn rolled(p: &Pool, since: Time) -> Option<Outcome> {
    match p.phase {
        Phase::Running | Phase::BackingOff => {
            match &p.roll_halted {
                Some(halt) if halt.untouched => {
                    return Some(Outcome::RolledBack(format!("{}; no old worker was touched, and they keep serving", halt.why)));
                }
                Some(halt) => return Some(Outcome::Failed(halt.why.clone())),
                None => {}
            }
            if p.phase == Phase::BackingOff {
                return probed(p, since);
            }
            let old_gone = !p.has_leaving(|r| matches!(r, Reason::Replaced | Reason::Superseded | Reason::ScaleDown));
            (!p.is_rolling() && old_gone && p.all_ready())
                .then(|| Outcome::Done(format!("{} ready", count(p.ready_count(), "worker"))))
        }
        Phase::Failed => Some(Outcome::Failed(state_words(p))),
        Phase::Stopped | Phase::Parked | Phase::Completed | Phase::Removed => Some(Outcome::Done(p.phase.word().to_owned())),
        Phase::Waiting => None,
    }
}

fn retried(p: &Pool, since: Time) -> Option<Outcome> {
    match p.phase {
        Phase::Running => {
            p.all_ready().then(|| Outcome::Done(format!("{}: {} ready", p.spec.name, count(p.ready_count(), "worker"))))
        }
        Phase::BackingOff => probed(p, since).map(|_| Outcome::Failed(format!("{}: {}", p.spec.name, state_words(p)))),
        Phase::Failed => Some(Outcome::Failed(format!("{}: {}", p.spec.name, state_words(p)))),
        Phase::Waiting | Phase::Stopped | Phase::Parked | Phase::Completed | Phase::Removed => {
            Some(Outcome::Done(format!("{}: {}", p.spec.name, p.phase.word())))
        }
    }
}

/// The probe that an order started has died when there is none left and its successor waits for later.
fn probed(p: &Pool, since: Time) -> Option<Outcome> {
    let trying = p.worker_views().iter().any(|w| !matches!(w.state, WorkerState::Lingering) && w.started >= since);
    (!trying && !p.probe_is_due(since)).then(|| Outcome::Failed(state_words(p)))
}

fn state_words(p: &Pool) -> String {
    let count = match p.wanted() {
        0 => "no worker wanted".to_owned(),
        wanted => format!("{} of {} ready", p.ready_count(), count(wanted, "worker")),
    };
    let left = count_of_stopping(p);
    match (p.phase, p.why.as_deref()) {
        (Phase::Running, _) => count,
        (phase, _) if left > 0 && !matches!(phase, Phase::BackingOff | Phase::Waiting) => {
            format!("stopping, {} still there", super::count(left, "worker"))
        }
        (phase, Some(why)) if p.wanted() == 0 => format!("{} ({why})", phase.word()),
        (phase, Some(why)) => format!("{} ({why}), {count}", phase.word()),
        (phase, None) => phase.word().to_owned(),
    }
}

fn count_of_stopping(p: &Pool) -> u32 {
    u32::try_from(p.worker_views().len()).unwrap_or(u32::MAX)
}
