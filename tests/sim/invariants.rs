//! Owns what must hold after every event, one named function per promise. Each says no with a sentence; the run adds the
//! seed, the step and the last events.

use std::collections::BTreeSet;
use std::time::Duration;

use poolmaster::supervisor::{
    ABRT, Action, Command, Condition, KILL, OnBootFailure, Outcome, Phase, PoolId, PoolSpec, PoolView, ReadyKind, Reason,
    RestartPolicy, Supervisor, Time, WorkerId, WorkerState,
};

use crate::shadow::{Asked, Life, PoolLife, Shadow};

/// Either all is well, or a sentence says what is not.
pub(crate) type Verdict = Result<(), String>;

pub(crate) fn must(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

/// No identity is used twice: the generations of a slot only grow, so a late fact can always be told from a current one.
pub(crate) fn generations_grow(shadow: &Shadow, w: WorkerId) -> Verdict {
    let last = shadow.generations.get(&(w.pool, w.slot)).copied().unwrap_or(0);
    must(w.generation > last, || format!("{w} spawned after generation {last} of that slot"))
}

/// Once the master is ending, nothing is started any more.
pub(crate) fn nothing_spawned_after_shutdown(shadow: &Shadow, w: WorkerId) -> Verdict {
    must(shadow.ending.is_none(), || format!("{w} spawned although the master is ending"))
}

/// Each worker is started from the config in force, or it is a canary of the one that is tried.
pub(crate) fn spawned_from_config_in_force(shadow: &Shadow, w: WorkerId, revision: u32) -> Verdict {
    let tried = shadow.staged.get(&revision).is_some_and(|p| p.pools.contains_key(&w.pool));
    must(revision == shadow.revision || tried, || {
        format!("{w} spawned from config {revision}, but {} is in force", shadow.revision)
    })
}

/// What an operator stopped, parked or removed stays down until an operator says otherwise; a failed or completed pool too.
pub(crate) fn only_running_pools_spawn(pool: &PoolLife, phase: Phase, w: WorkerId) -> Verdict {
    must(pool.in_config, || format!("{w} spawned for a pool that left the config"))?;
    must(!pool.op_stopped, || format!("{w} spawned although an operator stopped its pool"))?;
    must(!pool.parked, || format!("{w} spawned although its pool is parked"))?;
    must(matches!(phase, Phase::Running | Phase::BackingOff), || format!("{w} spawned in phase {phase:?}"))
}

/// Not more than the wanted count and the surge may stay at once, and without a roll not more than the wanted count.
/// One that fills an empty slot comes whatever replacements were begun before somebody wanted fewer.
pub(crate) fn bounded_population(shadow: &Shadow, pool: &PoolLife, rolling: bool, spawned: &[WorkerId]) -> Verdict {
    let own = pool.spec.rollout.max_surge.of(pool.target);
    let tried = shadow.proposal(pool.spec.id).map(|p| p.spec.rollout.max_surge.of(pool.target.max(1)));
    // Canaries that were begun when it was larger stay.
    let beside = |l: &&Life| l.canary && l.staying() && l.forked <= pool.shrunk;
    let begun = shadow.of_pool(pool.spec.id).filter(beside).count() as u32;
    let surge = if rolling || pool.roll_asked { own } else { 0 }.max(tried.unwrap_or(0)).max(begun);
    let staying = shadow.staying(pool.spec.id);
    // A pool that does not run has its canaries only.
    let wanted = tried.map_or(pool.target, |_| pool.target.max(1));
    let in_slot = |slot: u32| shadow.of_pool(pool.spec.id).filter(|l| l.staying() && l.id.slot == slot).count();
    let beside = spawned.iter().any(|w| w.pool == pool.spec.id && in_slot(w.slot) > 1);
    let slots: BTreeSet<u32> = shadow.of_pool(pool.spec.id).filter(|l| l.staying()).map(|l| l.id.slot).collect();
    if !beside {
        return must(slots.len() as u32 <= wanted + surge, || {
            format!("pool {}: slots {slots:?} have workers, and {} are wanted", pool.spec.name, pool.target)
        });
    }
    must(staying <= wanted + surge, || {
        format!("pool {}: {staying} workers stay, but {} are wanted and surge is {surge}", pool.spec.name, pool.target)
    })?;
    if let Some(max) = pool.spec.max {
        must(staying <= max.max(wanted) + surge, || format!("pool {}: {staying} workers stay beyond max {max}", pool.spec.name))?;
    }
    Ok(())
}

/// In one slot there is one worker, and during a roll its replacement beside it; never two of one generation.
pub(crate) fn one_worker_per_slot(shadow: &Shadow, w: WorkerId, rolling: bool) -> Verdict {
    let beside = shadow.of_pool(w.pool).filter(|l| l.id != w && l.id.slot == w.slot && l.staying()).count();
    must(beside <= usize::from(rolling), || format!("{w} spawned beside {beside} other workers of its slot"))
}

/// `max_starting` and `spawn_interval` hold.
pub(crate) fn staggered_start(shadow: &Shadow, pool: &PoolLife, now: Time, w: WorkerId) -> Verdict {
    // One that comes back may still drain from its life before.
    let coming = shadow.proposal(w.pool).filter(|_| !pool.in_config).map(|p| &p.spec);
    let most = coming.map_or(pool.spec.max_starting, |new| Some(pool.spec.max_starting?.max(new.max_starting?)));
    if let Some(most) = most {
        let starting = shadow.of_pool(w.pool).filter(|l| l.staying() && l.ready.is_none() && l.id != w).count();
        must(starting < most as usize, || format!("{w} spawned while {starting} others start; max_starting is {most}"))?;
    }
    if let Some(last) = pool.last_spawn {
        let gap = now.since(last);
        let least = coming.map_or(pool.spec.spawn_interval, |new| new.spawn_interval.min(pool.spec.spawn_interval));
        must(gap >= least, || format!("{w} spawned {gap:?} after another; spawn_interval is longer"))?;
    }
    Ok(())
}

/// The least wait before the `row`-th retry in a row, jitter taken off.
fn least_wait(pool: &PoolLife, row: u32) -> f64 {
    let b = &pool.spec.restart.backoff;
    let nominal = match row {
        0 => 0.0,
        1 => b.first.as_secs_f64(),
        n => b.base.as_secs_f64() * b.factor.powi((n - 2).min(60) as i32),
    };
    nominal.min(b.max.as_secs_f64()) * (1.0 - b.jitter) * 0.999
}

/// A slot whose workers keep dying early waits at least as long as its row of early deaths demands; only health clears it.
pub(crate) fn backoff_is_kept(pool: &PoolLife, now: Time, w: WorkerId, phase: Phase) -> Verdict {
    if phase == Phase::BackingOff || pool.open.is_some() {
        return Ok(());
    }
    let Some(slot) = pool.slots.get(&w.slot) else { return Ok(()) };
    let Some(died) = slot.last else { return Ok(()) };
    let (least, waited) = (least_wait(pool, slot.row), now.since(died).as_secs_f64());
    must(waited >= least, || format!("{w} spawned {waited:.3}s after early death {} in a row; at least {least:.3}s", slot.row))
}

/// While backing off there is one probe at a time, and the waits between probes grow.
pub(crate) fn one_probe_at_a_time(shadow: &Shadow, pool: &PoolLife, now: Time, w: WorkerId) -> Verdict {
    let Some(open) = pool.open else { return Ok(()) };
    let young = shadow.of_pool(w.pool).filter(|l| l.staying() && !l.canary && l.forked > open && !l.good(now)).count();
    must(young <= 1, || format!("{w} is probe number {young} at one time in a pool that is backing off"))?;
    if let Some(died) = pool.probe_died {
        let (least, waited) = (least_wait(pool, pool.probes), now.since(died).as_secs_f64());
        must(waited >= least, || format!("{w} probes {waited:.3}s after failed probe {}; at least {least:.3}s", pool.probes))?;
    }
    Ok(())
}

/// A pool is started only once those that it is `after` have been ready.
pub(crate) fn started_after_others(shadow: &Shadow, core: &Supervisor, pool: &PoolLife, w: WorkerId, now: Time) -> Verdict {
    // One that runs with nobody wanted was started when its turn had come.
    if pool.spawned > 0 || pool.phase == Phase::Running {
        return Ok(());
    }
    // One that comes or comes back for a config that is tried goes by that.
    let spec = shadow.proposal(w.pool).filter(|_| !pool.in_config || pool.phase == Phase::Parked).map_or(&pool.spec, |p| &p.spec);
    for other in spec.after.iter().filter_map(|id| shadow.pools.get(id)) {
        let phase = core.pools().iter().find(|v| v.spec.id == other.spec.id).map(|v| v.phase);
        let coming = matches!(phase, Some(Phase::Running | Phase::Waiting)) && other.in_config && other.target > 0;
        let enough = other.spec.min_ready.max(1).min(other.target);
        must(!coming || other.was_ready || shadow.ready(other.spec.id, now) >= enough, || {
            format!("{w} spawned before pool {} was ready", other.spec.name)
        })?;
    }
    Ok(())
}

/// A signal that ends is sent once: a worker told twice may dump core, or die of the second.
pub(crate) fn no_stop_signal_twice(life: &Life, signal: i32) -> Verdict {
    let allowed = life.spec.stop.iter().filter(|s| s.signal == signal).count().max(1);
    let allowed = if signal == KILL { 2 } else { allowed };
    let sent = life.sent.iter().filter(|s| **s == signal).count();
    must(sent < allowed, || format!("{} is sent signal {signal} for the {}th time", life.id, sent + 1))
}

/// A worker is told to stop only once what comes before is done, or has had its time; and its own time begins then.
pub(crate) fn released_first(life: &Life, now: Time) -> Verdict {
    if life.stop.is_some() || life.lingering.is_some() {
        return Ok(());
    }
    match life.leaving {
        Some(time) => {
            must(life.released || time.lo <= now, || format!("{} is told to stop before it is released: {life:?}", life.id))
        }
        None => {
            must(life.exec.is_none() || life.spec.release.is_none(), || format!("{} is told to stop without a release", life.id))
        }
    }
}

/// A draining worker is killed at its deadline: not before ...
pub(crate) fn not_killed_before_its_deadline(shadow: &Shadow, life: &Life, now: Time) -> Verdict {
    let spec = &life.spec;
    let last = life.stop.as_ref().is_some_and(|s| s.quick || s.hurried || s.step + 1 >= spec.stop.len());
    let drained = last && shadow.stop_due(life).is_some_and(|d| d.lo <= now);
    let aborted = life.aborted.is_some_and(|t| t + spec.abort_grace <= now);
    // No deadline of the whole shutdown ends one that was not told to stop before, and had its quick time at least.
    let ending = shadow.ending.is_some_and(|e| e.level == 3);
    let hasty =
        shadow.ending.is_some_and(|e| e.level == 2 && life.aborted.is_some() && e.level_since + spec.quick_timeout <= now);
    let hurried = life.hurried_by.is_some_and(|t| t <= now);
    let unborn = life.exec.is_none() && life.lingering.is_none();
    let rest = life.lingering.is_some();
    let announced = life.announced.is_some_and(|t| t + spec.stop.iter().map(|s| s.wait).sum() <= now);
    must(drained || announced || aborted || ending || hasty || hurried || unborn || rest || life.meddled, || {
        format!("{} is killed at {now}, its stop being {:?}, abort {:?}", life.id, life.stop, life.aborted)
    })
}

/// ... and not after, and no deadline of any other kind passes unnoticed: the core must wake up by then.
pub(crate) fn nothing_overdue(shadow: &Shadow, core: &Supervisor, now: Time) -> Verdict {
    let wakes = core.next_deadline().unwrap_or(Time(u64::MAX));
    let due = |what: &str, w: WorkerId, at: Time| {
        must(at > now && wakes <= at, || {
            format!("{w}: {what} is due at {at}; now {now}, next deadline {:?}", core.next_deadline())
        })
    };
    for life in shadow.workers.values() {
        if life.lingering.is_some() || life.killed.is_some() || life.meddled {
            continue;
        }
        if let Some(e) = shadow.ending {
            must(e.level < 3, || format!("{} still lives after the order to kill all", life.id))?;
            if let Some(at) = e.over_at(&shadow.master) {
                due("the next step of the shutdown", life.id, at)?;
            }
        }
        if let Some(d) = shadow.stop_due(life) {
            due("the next step of its stop", life.id, d.hi)?;
        } else if let Some(time) = life.leaving {
            due("its stop signal", life.id, time.hi)?;
        } else if let Some(at) = life.aborted {
            due("KILL after ABRT", life.id, at + life.spec.abort_grace)?;
        } else if life.reason.is_none() && life.ready.is_none() && !life.said_stopping {
            let exempt = life.ready_kind == ReadyKind::NotifyOrAccepting && life.start_extended;
            if !exempt {
                due("start_timeout", life.id, life.start_due.hi)?;
            }
        } else if life.reason.is_none()
            && !life.said_stopping
            && let Some((_, Some(hi))) = shadow.heartbeat_due(life)
        {
            due("its heartbeat", life.id, hi)?;
        }
    }
    for (id, asked) in &shadow.commands {
        if let Some(t) = asked.timeout {
            let at = asked.at + t;
            must(at > now && wakes <= at, || {
                format!("command {} {:?} is unanswered past its timeout {at}", id.0, asked.command)
            })?;
        }
    }
    Ok(())
}

/// ABRT is for a worker that is silent too long or says that it is sick; never for one that was told to stop.
pub(crate) fn aborted_with_cause(shadow: &Shadow, life: &Life, now: Time) -> Verdict {
    must(life.stop.is_none(), || format!("{} was told to stop, and its heartbeat is still enforced", life.id))?;
    let silent = shadow.heartbeat_due(life).is_some_and(|(lo, _)| lo <= now);
    must(silent || life.triggered || life.meddled, || {
        format!("{} is aborted at {now}, its heartbeat: {:?}, due {:?}", life.id, life.beats, shadow.heartbeat_due(life))
    })
}

/// Whatever reason is given for a stop, it is true.
pub(crate) fn stopped_for_a_reason(shadow: &Shadow, core: &Supervisor, life: &Life, reason: Reason, now: Time) -> Verdict {
    let Some(pool) = shadow.pools.get(&life.id.pool) else { return Ok(()) };
    let tried = shadow.proposal(life.id.pool);
    let in_place = tried.is_some_and(|p| p.spec.rollout.max_surge.of(pool.target.max(1)) == 0);
    let holds = match reason {
        Reason::ScaleDown => {
            // A slot that waits for its canary is as good as filled: in its worker's place, or where there was none.
            let before = pool.target.max(pool.target_before);
            let missing = tried.map_or(0, |p| p.spec.rollout.max_unavailable.of(before).max(1).max(p.spec.canaries(before)));
            shadow.staying(pool.spec.id) + missing >= pool.target
        }
        Reason::Replaced => {
            let unavailable = pool.spec.rollout.max_unavailable.of(pool.target) > 0;
            let good = shadow
                .of_pool(life.id.pool)
                .any(|l| l.id.slot == life.id.slot && l.id != life.id && l.edition == pool.edition && l.staying() && l.good(now));
            // Of one that has just failed nobody is missing any more.
            let runs = |p: &PoolView<'_>| p.spec.id == pool.spec.id && matches!(p.phase, Phase::Running | Phase::BackingOff);
            let runs = core.pools().iter().any(runs);
            let missed = if life.ready.is_none() || good || !runs { true } else { enough_are_left(shadow, pool, now) };
            missed && (in_place || pool.roll_asked && (unavailable || good || life.ready.is_none()))
        }
        Reason::Stopped => pool.op_stopped,
        Reason::Removed => !pool.in_config,
        Reason::Parked => pool.parked,
        Reason::PoolFailed => {
            core.is_ending() || core.pools().iter().any(|p| p.spec.id == pool.spec.id && p.phase == Phase::Failed)
        }
        Reason::Shutdown => shadow.ending.is_some(),
        Reason::Unprepared => life.exec.is_none() && life.started.is_none() && now >= life.start_due.lo,
        Reason::StartTimeout => life.ready.is_none() && now >= life.start_due.lo,
        Reason::HeartbeatLost => shadow.heartbeat_due(life).is_some_and(|(lo, _)| lo <= now),
        Reason::Trigger => life.triggered,
        Reason::Announced => life.said_stopping,
        Reason::Undone => life.canary,
        Reason::Superseded => life.canary || life.ready.is_none() || pool.phase == Phase::BackingOff || pool.roll_asked,
    };
    must(holds, || {
        format!(
            "{} is stopped for {reason:?}, which does not hold: {life:?}; wanted {}, staying {}",
            life.id,
            pool.target,
            shadow.staying(pool.spec.id)
        )
    })
}

/// For our own reasons never fewer are ready than wanted, less `max_unavailable`; and where there is no room beside the old ones, one.
fn enough_are_left(shadow: &Shadow, pool: &PoolLife, now: Time) -> bool {
    let may_miss = |spec: &PoolSpec| {
        let surge = spec.rollout.max_surge.of(pool.target.max(1));
        spec.rollout.max_unavailable.of(pool.target).max(u32::from(surge == 0))
    };
    let tried = shadow.proposal(pool.spec.id).map_or(0, |p| may_miss(&p.spec));
    let (_, most) = shadow.ready_between(pool.spec.id, now);
    finite(pool) || most + may_miss(&pool.spec).max(tried) >= pool.target.min(pool.target_before)
}

/// A pool is stopped only when those that are `after` it are down.
pub(crate) fn stopped_before_others(shadow: &Shadow, life: &Life) -> Verdict {
    // Canaries are nobody's to be waited for: they go with the reload that the end undoes. All patience ends for all at once, with its time.
    let patient = shadow.ending.is_some_and(|e| e.level == 1);
    if !patient || life.reason != Some(Reason::Shutdown) || life.canary {
        return Ok(());
    }
    for other in shadow.pools.values().filter(|p| p.in_config && p.spec.after.contains(&life.id.pool)) {
        let live = shadow.live(other.spec.id);
        must(live == 0, || {
            format!("{} is stopped while pool {}, started after it, has {live} workers", life.id, other.spec.name)
        })?;
    }
    Ok(())
}

/// What the core goes by is the config that was put in force last, and no other.
pub(crate) fn one_effective_config(pool: &PoolLife, shown: &PoolSpec) -> Verdict {
    must(pool.spec == *shown, || format!("pool {} goes by {shown:?}, and {:?} is in force", pool.spec.name, pool.spec))
}

/// The wanted count is what orders, config and clamps make it.
pub(crate) fn target_as_ordered(pool: &PoolLife, target: u32) -> Verdict {
    must(target == pool.target, || format!("pool {}: target is {target}, orders make it {}", pool.spec.name, pool.target))?;
    must(pool.spec.max.is_none_or(|max| target <= max), || format!("pool {}: target {target} beyond max", pool.spec.name))
}

/// The breaker opens when the budget is spent, and not before; a pool that was good never becomes `failed` by it.
pub(crate) fn breaker_as_designed(pool: &PoolLife, before: Phase, phase: Phase, automatic: bool) -> Verdict {
    let failures = pool.spec.restart.budget.failures as usize;
    let name = &pool.spec.name;
    if before == Phase::Running && phase == Phase::BackingOff {
        must(pool.early_maybe.len() >= failures, || format!("pool {name} backs off after {:?} early deaths", pool.early_maybe))?;
    }
    if before == Phase::Running && phase == Phase::Running && automatic {
        must(pool.early.len() < failures, || format!("pool {name} runs on after early deaths at {:?}", pool.early))?;
    }
    if phase == Phase::Failed && before != Phase::Failed {
        let boot = !pool.ever_good;
        let gave_up = before == Phase::BackingOff && pool.spec.restart.give_up_after > 0;
        let never = pool.was_never || pool.spec.restart.policy == RestartPolicy::Never;
        // It waits for one that has failed.
        let in_vain = before == Phase::Waiting || pool.spec.after.iter().any(|_| !automatic);
        must(boot || gave_up || never || in_vain, || format!("pool {name} failed although workers of it were good"))?;
    }
    if before == Phase::Running && phase == Phase::BackingOff && automatic && pool.spec.boot == OnBootFailure::Fail {
        must(pool.maybe_good, || format!("pool {name} backs off instead of failing: no worker of it was ever good"))?;
    }
    Ok(())
}

/// Failed, completed, stopped and removed are left by order only.
pub(crate) fn final_phases_stay(pool: &PoolLife, before: Phase, phase: Phase, automatic: bool) -> Verdict {
    let last = matches!(before, Phase::Failed | Phase::Completed | Phase::Stopped | Phase::Removed | Phase::Parked);
    must(!(automatic && last) || phase == before, || {
        format!("pool {} went from {before:?} to {phase:?} by itself", pool.spec.name)
    })
}

/// What the core shows of a worker is what happened to it.
pub(crate) fn shown_as_it_is(shadow: &Shadow, core: &Supervisor, pool: PoolId, now: Time) -> Verdict {
    let views = core.workers(pool);
    for view in &views {
        let Some(life) = shadow.workers.get(&view.id) else {
            return Err(format!("{} is shown as {:?}, but it is gone", view.id, view.state));
        };
        if let Some(state) = shadow.state(now, life.id) {
            let late =
                core.next_deadline().is_some_and(|d| d <= now) && view.state == WorkerState::Ready && state == WorkerState::Good;
            let same = view.state == state || late || (view.state == WorkerState::Starting && life.start_extended);
            must(same, || format!("{} is shown as {:?}, but it is {state:?}: {life:?}", view.id, view.state))?;
        }
    }
    let (shown, known) = (views.len(), shadow.of_pool(pool).count());
    must(shown == known, || format!("pool {}: {shown} workers are shown, {known} are there", pool.0))
}

/// A reply says what is so.
pub(crate) fn reply_is_true(shadow: &Shadow, core: &Supervisor, asked: &Asked, outcome: &Outcome, now: Time) -> Verdict {
    let say = |what: &str| format!("reply {outcome:?} to {:?}: {what}", asked.command);
    if let Outcome::TimedOut(_) = outcome {
        let fair = asked.timeout.is_some_and(|t| asked.at + t <= now) || shadow.ending.is_some();
        return must(fair, || say("its time is not over"));
    }
    if let Command::Scale { .. } = asked.command {
        match (outcome, asked.verdict) {
            (Outcome::Refused(_), Some(Ok(_))) => return must(shadow.ending.is_some(), || say("it is within the bounds")),
            (Outcome::Done(_) | Outcome::TimedOut(_), Some(Err(()))) => return Err(say("it is out of bounds")),
            _ => {}
        }
    }
    let Outcome::Done(_) = outcome else { return Ok(()) };
    match &asked.command {
        Command::Stop { pools } => {
            for pool in pools {
                must(shadow.live(*pool) == 0, || say("it still has workers"))?;
            }
        }
        Command::Start { pools } => {
            for p in pools.iter().filter_map(|id| shadow.pools.get(id)) {
                must(shadow.ready(p.spec.id, now) >= p.target || finite(p), || say("it is not ready"))?;
            }
        }
        Command::Scale { pool, .. } => {
            let Some(p) = shadow.pools.get(pool) else { return Ok(()) };
            let runs = core.pools().iter().any(|v| v.spec.id == *pool && v.phase == Phase::Running);
            must(!runs || shadow.ready(*pool, now) >= p.target || finite(p), || say("not all wanted workers are ready"))?;
        }
        Command::Wait { pool, until } => {
            let completed = core.pools().iter().any(|v| v.spec.id == *pool && v.phase == Phase::Completed);
            let (ready, target) = (shadow.ready(*pool, now), shadow.pools.get(pool).map_or(0, |p| p.target));
            match until {
                Condition::Ready => must(ready >= target || completed || shadow.pools.get(pool).is_some_and(finite), || {
                    say("not all wanted workers are ready")
                })?,
                Condition::Settled => {
                    let rests = core.reload_progress().is_none()
                        && core.pool(*pool).is_none_or(|p| p.starting + p.stopping + p.rolling == 0);
                    must(rests, || say("it is not at rest"))?;
                }
                Condition::Stopped => must(shadow.live(*pool) == 0, || say("it still has workers"))?,
                Condition::Count(n) => {
                    let (least, most) = shadow.ready_between(*pool, now);
                    must((least..=most).contains(n), || say("another number of workers is ready"))?
                }
            }
        }
        Command::Shutdown { .. } => {
            must(shadow.workers.values().all(|l| l.lingering.is_some()), || say("workers are still there"))?
        }
        Command::Restart { .. }
        | Command::Kill { .. }
        | Command::Retry { .. }
        | Command::Reload { .. }
        | Command::Abort
        | Command::Rollback
        | Command::Reopen => {}
    }
    Ok(())
}

/// A pool of jobs: one that has ended well is no longer missing.
fn finite(pool: &PoolLife) -> bool {
    pool.spec.restart.policy != RestartPolicy::Always
}

/// A fact about a worker that is gone changes nothing: at most a line in the log, and the reply to a `kill` that was sent.
pub(crate) fn stale_facts_change_nothing(out: &[Action]) -> Verdict {
    let other = out.iter().find(|a| !matches!(a, Action::Note(_) | Action::Reply { .. }));
    must(other.is_none(), || format!("a stale fact led to {other:?}"))
}

/// The master ends once, with nobody left and nobody waiting for an answer; by itself only when `exit_when` allows it.
///
/// A process that KILL does not end (state D) is left behind after ten seconds: the master cannot wait for the kernel for ever.
pub(crate) fn ends_cleanly(shadow: &Shadow, now: Time, alive: usize) -> Verdict {
    let stuck = |l: &&Life| l.killed.or(l.lingering).is_some_and(|t| t + Duration::from_secs(10) <= now);
    let alive = alive - shadow.workers.values().filter(stuck).count().min(alive);
    must(shadow.exited.is_none(), || "Exit for the second time".to_owned())?;
    must(shadow.ending.is_some(), || "Exit although nothing ended the master".to_owned())?;
    must(alive == 0, || format!("Exit with {alive} processes left"))?;
    must(shadow.commands.is_empty(), || format!("Exit with unanswered commands: {:?}", shadow.commands))
}

/// Is it one that the core uses to end a worker on its own account?
pub(crate) fn is_stop_signal(spec: &PoolSpec, signal: i32) -> bool {
    signal != ABRT && (signal == spec.quick_signal || spec.stop.iter().any(|s| s.signal == signal))
}
