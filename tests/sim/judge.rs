//! Owns the order in which the promises of `invariants.rs` are held against what the core did with one event.

use std::collections::BTreeSet;
use std::time::Duration;

use poolmaster::supervisor::{
    ABRT, Action, Cause, Command, Event, ExitStatus, KILL, KillMode, MasterSignal, Note, Notification, Outcome, Phase, PoolId,
    ReadyKind, Reason, ReloadStage, ScaleChange, Scope, SpawnFault, Supervisor, Time, What, WorkerId,
};

use crate::invariants::{self as holds, Verdict, must};
use crate::shadow::{Beats, Ending, Life, PoolLife, Range, Reading, Shadow, Stop};

/// What is known of the moment before the event was handled.
pub(crate) struct Before {
    pub(crate) stale: bool,
    /// A deadline had passed already: the core may act on it as well.
    pub(crate) was_due: bool,
}

/// What one event has come to.
struct Turn<'a> {
    now: Time,
    event: &'a Event,
    /// Pools that it is about.
    touched: &'a BTreeSet<PoolId>,
    spawned: &'a [WorkerId],
    /// Pools that a reload under way tries, or has tried until now.
    tried: &'a BTreeSet<PoolId>,
    /// No operator and no config has a part in it.
    automatic: bool,
}

impl Shadow {
    /// Holds the core's actions against the record, and takes them into it.
    pub(crate) fn judge(
        &mut self,
        now: Time,
        event: &Event,
        before: &Before,
        out: &[Action],
        core: &Supervisor,
        alive: usize,
    ) -> Verdict {
        if self.exited.is_some() {
            return must(out.is_empty(), || format!("actions after Exit: {out:?}"));
        }
        if before.stale && !before.was_due {
            holds::stale_facts_change_nothing(out)?;
            let answer = matches!(event, Event::Signalled { .. } | Event::SignalFailed { .. });
            let replies = out.iter().any(|a| matches!(a, Action::Reply { .. }));
            must(answer || !replies, || format!("a stale fact was taken for an answer: {out:?}"))?;
        }
        if quiet(event) && out.is_empty() {
            return Ok(());
        }
        let mut touched: BTreeSet<PoolId> = self.touched_by(event);
        let mut replies = Vec::new();
        let mut spawned = Vec::new();
        let tried: BTreeSet<PoolId> = self.staged.values().flat_map(|p| p.pools.keys().copied()).collect();
        self.hurried.clear();
        self.replaced_by_order(event, core, out);
        self.adopt_readiness(now, core, event);
        for action in out {
            match action {
                Action::Spawn { worker, revision } => {
                    touched.insert(worker.pool);
                    self.take_spawn(now, core, *worker, *revision)?;
                    spawned.push(*worker);
                }
                Action::Look { worker } => self.take_look(*worker)?,
                Action::Release { worker } => {
                    touched.insert(worker.pool);
                    self.take_release(now, core, *worker)?;
                }
                Action::Signal { worker, signal, scope, cause } => {
                    touched.insert(worker.pool);
                    self.take_signal(now, core, *worker, (*signal, *scope, *cause))?;
                }
                Action::Quiesce => {
                    must(!self.quiesced, || "the listeners are closed twice".to_owned())?;
                    must(self.master.linger > Duration::ZERO, || "the listeners are closed, and nobody lingers".to_owned())?;
                    self.quiesced = true;
                }
                Action::ReadConfig { from, pools, restart } => {
                    must(self.reading.is_none(), || "a second reading before the first was answered".to_owned())?;
                    self.reading = Some(Reading { from: *from, pools: pools.clone(), restart: *restart });
                }
                Action::PreStart { pool, revision } => {
                    let proposed = self.staged.get(revision).is_some_and(|p| p.pools.contains_key(pool));
                    must(proposed, || format!("pool {} is prepared for config {revision}, which is not tried", pool.0))?;
                    let first = self.pre_starts.insert((*pool, *revision));
                    must(first, || format!("pool {} is prepared twice for config {revision}", pool.0))?;
                }
                Action::Commit { revision, .. } => {
                    let open = self.pre_starts.iter().find(|(_, of)| of == revision);
                    must(open.is_none(), || format!("config {revision} is in force before {open:?} was prepared"))?;
                    self.committed(now, *revision)?;
                    self.adopt_shown(now, core, event);
                    // What was started a moment before, for a pool that leaves with it, was in order when it was.
                    spawned.retain(|w: &WorkerId| self.pools.get(&w.pool).is_some_and(|p| p.in_config));
                    touched.extend(self.pools.keys().copied());
                }
                Action::Discard { revision } => {
                    self.pre_starts.retain(|(_, of)| of != revision);
                    let proposed = self.staged.remove(revision);
                    let proposed = proposed.ok_or_else(|| format!("config {revision} is taken back, and is not there"))?;
                    // A slot that was kept for a canary does not wait any more.
                    for pool in proposed.pools.keys() {
                        self.pools.get_mut(pool).into_iter().for_each(|p| p.slots.clear());
                    }
                    touched.extend(self.pools.keys().copied());
                }
                Action::SecondMaster { .. } | Action::ReopenLogs => {}
                Action::PoolGone { pool } => {
                    let left = self.of_pool(*pool).count();
                    self.pools.get_mut(pool).into_iter().for_each(|p| p.last_spawn = None);
                    must(left == 0, || format!("pool {} is gone with {left} workers", pool.0))?;
                    must(self.pools.get(pool).is_some_and(|p| !p.in_config), || {
                        format!("pool {} is gone, but in the config", pool.0)
                    })?;
                }
                Action::Reply { id, outcome } => {
                    let asked = self.commands.remove(id).ok_or_else(|| format!("reply to {} that nobody waits for", id.0))?;
                    self.replies += 1;
                    replies.push((asked, outcome));
                }
                Action::Note(note) => {
                    // Another pool's end may be this one's too.
                    touched.extend(note.pool.filter(|_| matches!(note.what, What::PoolFailed { .. })));
                    self.take_note(now, note);
                }
                Action::Exit { code, .. } => {
                    holds::ends_cleanly(self, now, alive)?;
                    must(matches!(out.last(), Some(Action::Exit { .. })), || "Exit is not the last action".to_owned())?;
                    self.left_behind = alive > 0;
                    self.exited = Some((now, *code));
                }
            }
        }
        self.adopt_reasons(core, &touched);
        must(self.staged.len() <= 1, || format!("{} reloads at once", self.staged.len()))?;
        must(self.ending.is_none() || self.staged.is_empty(), || "a reload goes on while the master ends".to_owned())?;
        let decided = out.iter().any(|a| matches!(a, Action::Commit { .. } | Action::Discard { .. }));
        let automatic = !decided
            && !matches!(
                event,
                Event::Command { .. }
                    | Event::Signal { .. }
                    | Event::ScaleSignals { .. }
                    | Event::RestartSignal { .. }
                    | Event::Configure { .. }
            );
        self.judge_pools(core, &Turn { now, event, touched: &touched, spawned: &spawned, tried: &tried, automatic })?;
        for (asked, outcome) in replies {
            holds::reply_is_true(self, core, &asked, outcome, now)?;
        }
        Ok(())
    }

    /// An order to replace all workers of a pool makes those there are old ones.
    fn replaced_by_order(&mut self, event: &Event, core: &Supervisor, out: &[Action]) {
        let refused = out.iter().any(|a| matches!(a, Action::Reply { outcome: Outcome::Refused(_), .. }));
        let pools: Vec<PoolId> = match event {
            Event::RestartSignal { pool, .. } => vec![*pool],
            Event::Command { command: Command::Restart { targets }, .. } if !refused => {
                targets.iter().filter(|t| t.slot.is_none()).map(|t| t.pool).collect()
            }
            _ => return,
        };
        let tried: Vec<PoolId> = match core.reload_progress() {
            Some((ReloadStage::Canary, _, pools)) => {
                // One that is only prepared has no canary that an order could be in the way of.
                let prepared = |pool: PoolId| self.pre_starts.iter().any(|(of, _)| *of == pool);
                pools.iter().filter(|p| p.stage == ReloadStage::Canary && !prepared(p.pool)).map(|p| p.pool).collect()
            }
            _ => Vec::new(),
        };
        for id in pools.into_iter().filter(|id| !tried.contains(id) && self.ending.is_none()) {
            self.orders += 1;
            // Configs number theirs from 1 up.
            let edition = u32::MAX - self.orders;
            if let Some(p) = self.pools.get_mut(&id).filter(|p| matches!(p.phase, Phase::Running | Phase::BackingOff)) {
                p.edition = edition;
                if let Some(present) = self.editions.get_mut(&self.revision) {
                    present.insert(id, edition);
                }
            }
        }
    }

    fn touched_by(&self, event: &Event) -> BTreeSet<PoolId> {
        let pool = match event {
            Event::Spawned { worker }
            | Event::SpawnFailed { worker, .. }
            | Event::Notified { worker, .. }
            | Event::Looked { worker, .. }
            | Event::Exited { worker, .. }
            | Event::GroupGone { worker }
            | Event::Prepared { worker }
            | Event::Released { worker }
            | Event::Signalled { worker, .. }
            | Event::SignalFailed { worker, .. } => worker.pool,
            Event::ScaleSignals { pool, .. } | Event::RestartSignal { pool, .. } => *pool,
            Event::Configure { .. }
            | Event::ConfigRejected { .. }
            | Event::PreStarted { .. }
            | Event::Signal { .. }
            | Event::Command { .. }
            | Event::Abandoned { .. }
            | Event::Quiet
            | Event::Tick
            | Event::Late { .. } => return self.pools.keys().copied().collect(),
        };
        BTreeSet::from([pool])
    }

    fn take_spawn(&mut self, now: Time, core: &Supervisor, w: WorkerId, revision: u32) -> Verdict {
        holds::generations_grow(self, w)?;
        holds::nothing_spawned_after_shutdown(self, w)?;
        holds::spawned_from_config_in_force(self, w, revision)?;
        let Some(pool) = self.pools.get(&w.pool) else { return Err(format!("{w} spawned for a pool that does not exist")) };
        holds::one_worker_per_slot(self, w, pool.roll_asked || self.staged.contains_key(&revision) || self.has_canary(w.pool))?;
        holds::started_after_others(self, core, pool, w, now)?;
        holds::staggered_start(self, pool, now, w)?;
        let (spec, edition) = match self.staged.get(&revision).and_then(|p| p.pools.get(&w.pool)) {
            Some(proposal) => (proposal.spec.clone(), proposal.edition),
            None => (pool.spec.clone(), pool.edition),
        };
        let canary = self.staged.contains_key(&revision);
        self.generations.insert((w.pool, w.slot), w.generation);
        let life = Life {
            id: w,
            edition,
            was_good: false,
            canary,
            forked: now,
            exec: None,
            ready: None,
            ready_kind: spec.ready,
            measured_anew: None,
            started: (!spec.prepares).then_some(now),
            start_due: Range::at(match spec.prepare.filter(|_| spec.prepares) {
                // Those of others may come first.
                Some(within) => now + within * (self.of_pool(w.pool).count() / 4 + 4) as u32,
                None if spec.prepares => Time(u64::MAX),
                None => now + spec.start_timeout,
            }),
            start_extended: false,
            asleep: Duration::ZERO,
            leaving: None,
            released: false,
            stop: None,
            reason: None,
            said_stopping: false,
            hurried_by: None,
            announced: None,
            aborted: None,
            killed: None,
            sent: Vec::new(),
            beats: Beats { shortest: spec.timeout, longest: spec.timeout, told: spec.timeout, ..Beats::default() },
            triggered: false,
            lingering: None,
            meddled: false,
            looking: false,
            incoming: core.workers(w.pool).iter().any(|v| v.id == w && v.incoming),
            spec,
        };
        self.workers.insert(w, life);
        if let Some(p) = self.pools.get_mut(&w.pool) {
            p.last_spawn = Some(now);
            p.spawned += 1;
            if canary {
                // Whatever its slot waited for.
                p.slots.remove(&w.slot);
            }
        }
        Ok(())
    }

    fn take_look(&mut self, w: WorkerId) -> Verdict {
        let life = self.workers.get_mut(&w).ok_or_else(|| format!("a look at {w}, which is gone"))?;
        must(life.exec.is_some() && life.ready.is_none() && life.staying(), || format!("a look at {w}, which is not starting"))?;
        must(!life.looking, || format!("a second look at {w} before the first was answered"))?;
        life.looking = true;
        Ok(())
    }

    /// What comes before its stop signal begins: once, for a worker that runs and that somebody wants gone.
    fn take_release(&mut self, now: Time, core: &Supervisor, w: WorkerId) -> Verdict {
        let life = self.workers.get(&w).ok_or_else(|| format!("a release of {w}, which is gone"))?;
        let fresh = life.leaving.is_none() && life.stop.is_none() && life.aborted.is_none() && life.killed.is_none();
        must(fresh && life.exec.is_some(), || format!("{w} is released in the middle of its stop: {life:?}"))?;
        let shown = core.workers(w.pool).into_iter().find(|v| v.id == w).and_then(|v| v.stopping);
        let reason = shown.ok_or_else(|| format!("{w} is released, and no reason is shown"))?;
        let farewell = life.spec.farewell.filter(|_| matches!(reason, Reason::Replaced | Reason::Removed));
        let within = life.spec.release.or(farewell);
        let within = within.ok_or_else(|| format!("{w} is released, and nothing comes before its stop signal"))?;
        let mut next = life.clone();
        next.was_good |= life.good(now);
        next.leaving = Some(Range { lo: now + within, hi: now + within + Duration::from_secs(3) });
        next.reason = next.reason.or(Some(reason));
        self.workers.insert(w, next.clone());
        if !next.meddled {
            holds::stopped_for_a_reason(self, core, &next, reason, now)?;
        }
        holds::stopped_before_others(self, &next)
    }

    fn take_signal(&mut self, now: Time, core: &Supervisor, w: WorkerId, (signal, scope, cause): (i32, Scope, Cause)) -> Verdict {
        let life = self.workers.get(&w).ok_or_else(|| format!("signal {signal} to {w}, which is gone"))?;
        let spec = &life.spec;
        match cause {
            Cause::Order => {
                return must(life.meddled, || format!("{w} is sent signal {signal} as an order, and nobody gave it"));
            }
            Cause::Reopen => {
                let wanted = self.pools.get(&w.pool).is_some_and(|p| p.spec.reopen_signal == Some(signal));
                return must(wanted, || format!("{w} is sent signal {signal} to reopen its files, and does not want to be"));
            }
            Cause::Kill => must(signal == KILL, || format!("signal {signal} kills nobody")),
            Cause::Abort => must(signal == ABRT, || format!("signal {signal} leaves no trace")),
            Cause::Quick => must(signal == spec.quick_signal, || format!("signal {signal} is not the quick one of {w}")),
            Cause::Stop => holds::released_first(life, now),
        }?;
        let group = scope == Scope::Group;
        must(
            group == (spec.kill_mode == KillMode::Group) || life.lingering.is_some() || signal == KILL || signal == ABRT,
            || format!("signal {signal} to {w} has scope {scope:?}"),
        )?;
        if life.lingering.is_some() {
            let life = self.workers.get_mut(&w).ok_or("gone")?;
            life.sent.push(signal);
            return Ok(());
        }
        holds::no_stop_signal_twice(life, signal)?;
        let mut next = life.clone();
        next.sent.push(signal);
        if signal == KILL {
            holds::not_killed_before_its_deadline(self, life, now)?;
            next.killed = Some(now);
        } else if signal == ABRT && !holds::is_stop_signal(spec, ABRT) {
            holds::aborted_with_cause(self, life, now)?;
            next.aborted = Some(now);
        } else {
            must(holds::is_stop_signal(spec, signal), || format!("{w} is sent signal {signal}, which nobody asked for"))?;
            next.stop = Some(self.next_stop(now, life, signal)?);
        }
        let first = life.stop.is_none() && life.aborted.is_none();
        let shown = core.workers(w.pool).into_iter().find(|v| v.id == w).and_then(|v| v.stopping);
        if first && next.killed.is_none_or(|_| life.exec.is_none()) && !life.meddled {
            let reason = shown.ok_or_else(|| format!("{w} is stopped, and no reason is shown"))?;
            if life.reason.is_none() {
                next.reason = Some(reason);
                let judged = next.clone();
                let slot = self.workers.insert(w, next).is_some();
                debug_assert!(slot);
                holds::stopped_for_a_reason(self, core, &judged, reason, now)?;
                return holds::stopped_before_others(self, &judged);
            }
        }
        self.workers.insert(w, next);
        Ok(())
    }

    /// Where a further stop signal leaves the sequence.
    fn next_stop(&self, now: Time, life: &Life, signal: i32) -> Result<Stop, String> {
        let spec = &life.spec;
        let quick = self.ending.is_some_and(|e| e.level >= 2) || self.hurried.contains(&life.id.pool) && self.is_old(life);
        let quick_stop = || Stop { step: 0, due: Range::at(now + spec.quick_timeout), quick: true, hurried: false };
        let step_stop = |step: usize| Stop { step, due: Range::at(now + spec.stop[step].wait), quick: false, hurried: false };
        match &life.stop {
            _ if quick && signal == spec.quick_signal => Ok(match &life.stop {
                Some(before) => {
                    let due = now + spec.quick_timeout;
                    Stop { due: Range { lo: before.due.lo.min(due), hi: due }, ..quick_stop() }
                }
                // It may be one of those that are hurried, or of those that are not.
                None if (self.ending.is_none_or(|e| e.level < 2) || life.canary) && signal == spec.stop[0].signal => {
                    let (quick, step) = (now + spec.quick_timeout, now + spec.stop[0].wait);
                    Stop { step: 0, due: Range { lo: quick.min(step), hi: quick.max(step) }, quick: false, hurried: true }
                }
                None => quick_stop(),
            }),
            None if signal == spec.stop[0].signal => Ok(step_stop(0)),
            Some(before) if !before.quick => {
                let step = before.step + 1;
                let fits = spec.stop.get(step).is_some_and(|s| s.signal == signal) && before.due.lo <= now;
                if fits { Ok(step_stop(step)) } else { Err(format!("{} gets signal {signal} out of turn: {before:?}", life.id)) }
            }
            Some(_) | None => Err(format!("{} gets signal {signal} out of turn: {:?}", life.id, life.stop)),
        }
    }

    fn take_note(&mut self, now: Time, note: &Note) {
        if let What::ShuttingDown { .. } = note.what {
            match self.ending {
                None => self.ending = Some(Ending { since: now, level: 1, level_since: now, quick: Duration::ZERO, own: true }),
                // Its time is over: it goes on as if somebody had said so again.
                Some(e) if e.over_at(&self.master).is_some_and(|at| at <= now) => self.end(now, 1),
                Some(_) => {}
            }
        }
        if let (What::TooManyGenerations { .. }, Some(pool)) = (&note.what, note.pool) {
            // The oldest of them are hurried; which ones, the core may say.
            self.hurried.insert(pool);
            let edition = self.pools.get(&pool).map(|p| p.edition);
            for life in self.workers.values_mut().filter(|l| l.id.pool == pool && Some(l.edition) != edition) {
                // A second word gives it no more time.
                let by = now + life.spec.quick_timeout;
                life.hurried_by = Some(life.hurried_by.map_or(by, |before| before.min(by)));
                if let Some(stop) = &mut life.stop {
                    stop.due.lo = stop.due.lo.min(now + life.spec.quick_timeout);
                    stop.hurried = true;
                }
            }
        }
    }

    /// Readiness by waiting (a delay, or a start timeout survived) is not an event: it is due at a computable time.
    fn adopt_readiness(&mut self, now: Time, core: &Supervisor, event: &Event) {
        if !matches!(event, Event::Tick) {
            return;
        }
        for life in self.workers.values_mut() {
            if life.ready.is_some() || !life.staying() {
                continue;
            }
            match (life.ready_kind, life.exec) {
                (ReadyKind::Delay(d), Some(exec)) if exec + d <= now => life.ready = Some(now),
                (ReadyKind::NotifyOrAccepting, Some(_)) if !life.start_extended && life.start_due.hi <= now => {
                    life.ready = Some(now);
                }
                (ReadyKind::NotifyOrAccepting, Some(_)) if life.start_extended || life.start_due.lo <= now => {
                    let shown = core.workers(life.id.pool).into_iter().find(|v| v.id == life.id);
                    life.ready = shown.and_then(|v| v.ready_at);
                }
                _ => {}
            }
        }
    }

    /// By the times of a config that came in force just now somebody may have had enough, in this very tick or in the next one.
    fn adopt_shown(&mut self, now: Time, core: &Supervisor, event: &Event) {
        if !matches!(event, Event::Tick) {
            return;
        }
        for life in self.workers.values_mut().filter(|life| life.ready.is_none() && life.staying() && life.exec.is_some()) {
            if life.ready_kind == ReadyKind::NotifyOrAccepting && life.start_due.lo <= now {
                let shown = core.workers(life.id.pool).into_iter().find(|v| v.id == life.id);
                life.ready = shown.and_then(|v| v.ready_at);
            }
        }
    }

    /// A worker may be told to go before it can be signalled (it has not run its program yet): the view says so.
    fn adopt_reasons(&mut self, core: &Supervisor, touched: &BTreeSet<PoolId>) {
        for pool in touched {
            if !self.of_pool(*pool).any(|l| l.exec.is_none() && l.reason.is_none()) {
                continue;
            }
            for view in core.workers(*pool) {
                if let Some(life) = self.workers.get_mut(&view.id)
                    && life.exec.is_none()
                    && life.reason.is_none()
                {
                    life.reason = view.stopping;
                }
            }
        }
    }

    fn judge_pools(&mut self, core: &Supervisor, turn: &Turn<'_>) -> Verdict {
        let Turn { now, event, touched, spawned, tried, automatic } = *turn;
        let views = core.pools();
        for id in touched {
            let view = views.iter().find(|v| v.spec.id == *id);
            let Some(mut pool) = self.pools.get(id).cloned() else { continue };
            let before = pool.phase;
            // A commit or an undo of what was tried may put it in any phase.
            let automatic = automatic && !tried.contains(id) && self.proposal(*id).is_none();
            let phase = view.map_or(Phase::Removed, |v| v.phase);
            if self.ending.is_none() {
                adopt_what_is_open(event, id, &mut pool, view.map(|v| (v.target, v.operator)));
                if let Some(view) = view.filter(|_| pool.in_config) {
                    holds::target_as_ordered(&pool, view.target)?;
                    holds::one_effective_config(&pool, view.spec)?;
                    if spawned.iter().any(|w| w.pool == *id) {
                        holds::bounded_population(self, &pool, view.rolling > 0, spawned)?;
                    }
                    let (least, most) = self.ready_between(*id, now);
                    must((least..=most).contains(&view.ready), || {
                        format!("pool {}: {} shown as ready, {least} to {most} are", pool.spec.name, view.ready)
                    })
                    .or_else(|e| if self.of_pool(*id).any(|l| l.meddled || l.said_stopping) { Ok(()) } else { Err(e) })?;
                }
                holds::breaker_as_designed(&pool, before, phase, automatic && !boot_verdict(event))?;
                holds::final_phases_stay(&pool, before, phase, automatic)?;
                for w in spawned.iter().filter(|w| w.pool == *id && self.workers.get(w).is_none_or(|l| !l.canary)) {
                    holds::only_running_pools_spawn(&pool, phase, *w)?;
                    holds::backoff_is_kept(&pool, now, *w, phase)?;
                    if phase == Phase::BackingOff {
                        holds::one_probe_at_a_time(self, &pool, now, *w)?;
                    }
                }
            }
            holds::shown_as_it_is(self, core, *id, now)?;
            if phase == Phase::BackingOff {
                pool.open.get_or_insert(now);
            } else if pool.open.take().is_some() {
                pool.forgive();
            }
            if !matches!(phase, Phase::Running | Phase::BackingOff) {
                pool.forgive();
            }
            let runs = matches!(phase, Phase::Running | Phase::BackingOff | Phase::Waiting);
            if pool.target < pool.target_before || !runs {
                pool.shrunk = now;
            }
            pool.target_before = pool.target;
            pool.phase = phase;
            pool.was_ready |= self.ready(*id, now) >= pool.spec.min_ready.max(1).min(pool.target);
            pool.ever_good |=
                self.of_pool(*id).any(|l| !l.canary && l.staying() && l.ready.is_some_and(|r| r + l.spec.settle < now));
            pool.maybe_good |= pool.ever_good || self.of_pool(*id).any(|l| l.good(now));
            if let Some(view) = view {
                pool.roll_asked &= view.rolling > 0;
            }
            self.pools.insert(*id, pool);
        }
        Ok(())
    }
}

/// Facts that touch no more than the worker's own heartbeat or status line.
fn quiet(event: &Event) -> bool {
    matches!(
        event,
        Event::Notified {
            message: Notification::Beat | Notification::Status(_) | Notification::Busy { .. } | Notification::RestartReset,
            ..
        } | Event::Signalled { .. }
            | Event::Abandoned { .. }
    )
}

/// An exit or failure that fails the pool at once while none of its workers was ever good, whatever the budget says.
fn boot_verdict(event: &Event) -> bool {
    match event {
        Event::SpawnFailed { error, .. } => error.fault == SpawnFault::Exec,
        Event::Exited { status: ExitStatus::Code(3 | 4), .. } => true,
        _ => false,
    }
}

/// Where the design leaves the number open, the core's choice is taken over, as long as it is within the bounds.
fn adopt_what_is_open(event: &Event, id: &PoolId, pool: &mut PoolLife, shown: Option<(u32, Option<u32>)>) {
    let Some((target, operator)) = shown else { return };
    let open = match event {
        Event::Command { command: Command::Scale { pool: p, change: ScaleChange::By(_) | ScaleChange::Percent(_) }, .. } => {
            p == id
        }
        Event::Signal { signal: MasterSignal::Ttin, .. } => true,
        _ => pool.in_config && std::mem::take(&mut pool.ordered_early),
    };
    if open {
        pool.target = target;
        pool.operator = operator;
    }
}
