//! Owns what the observer learns from events, before it looks at what the core made of them.

use std::time::Duration;

use poolmaster::supervisor::{
    Command, CommandId, ConfigSource, Event, ExitStatus, KillMode, MasterSignal, MasterSpec, Notification, Phase, PoolId,
    PoolSpec, ReadyKind, Reason, RestartPolicy, ScaleChange, SpawnFault, Time, WorkerId,
};

use crate::shadow::{Asked, Ending, Life, PoolLife, Proposal, Proposed, Range, Shadow};

/// A worker lives by another spec from now on.
fn take_over(life: &mut Life, now: Time, spec: &PoolSpec) {
    let was_good = life.was_good;
    let stays = life.staying();
    life.was_good |= stays && life.good(now);
    let old = std::mem::replace(&mut life.spec, spec.clone());
    if !stays {
        // Whether it was good was decided when it had to go.
        life.spec.settle = old.settle;
    }
    if life.stop.is_some() || life.leaving.is_some() || life.announced.is_some() {
        // One that is stopping goes on as it began.
        life.spec.stop = old.stop;
    }
    if life.aborted.is_some() {
        life.spec.abort_grace = old.abort_grace;
    }
    if stays && !was_good && (life.was_good || old.settle != spec.settle) {
        life.measured_anew = Some(now);
    }
    if old.start_timeout != spec.start_timeout
        && life.ready.is_none()
        && let Some(started) = life.started
    {
        let due = started + spec.start_timeout;
        let due = Range { lo: due, hi: due + life.asleep };
        life.start_due = match life.start_extended {
            true => Range { lo: life.start_due.lo.max(due.lo), hi: life.start_due.hi.max(due.hi) },
            false => due,
        };
    }
    if old.timeout != spec.timeout || old.timeout_from != spec.timeout_from {
        // It beats as it was told at its start: a shorter silence is not held against it, and one that was told of none is not watched.
        let beats = &mut life.beats;
        if !beats.chose {
            let held = beats.told.zip(spec.timeout).map(|(told, new)| told.max(new));
            beats.shortest = beats.shortest.zip(held).map(|(a, b)| a.min(b)).or(held);
            beats.longest = held;
        }
        beats.reset = Some(now);
        beats.firm = false;
    }
}

impl Shadow {
    /// Takes in one event. True: it is about a worker that is no longer there.
    pub(crate) fn learn(&mut self, now: Time, event: &Event) -> bool {
        match event {
            Event::Configure { revision, master, pools, roll, .. } => self.configured(*revision, master, pools, roll),
            Event::ConfigRejected { .. } => self.reading = None,
            Event::PreStarted { pool, revision, failed: None } => return !self.pre_starts.remove(&(*pool, *revision)),
            Event::PreStarted { pool, revision, .. } => return !self.pre_starts.contains(&(*pool, *revision)),
            Event::Spawned { worker } => return self.spawned(now, *worker),
            Event::SpawnFailed { worker, error } => {
                let Some(life) = self.workers.remove(worker) else { return true };
                if life.asked() || life.canary {
                    self.vacated(life.id);
                    return false;
                }
                match error.fault {
                    SpawnFault::Resources => {}
                    SpawnFault::Setup | SpawnFault::Exec => {
                        let again = self.pools.get(&worker.pool).is_some_and(|p| p.spec.restart.policy != RestartPolicy::Never);
                        let replaced = self.replaced(*worker) || self.dropped(&life);
                        self.early_death(now, &life, again && !replaced && !life.meddled);
                    }
                }
            }
            Event::Notified { worker, message } => return self.notified(now, *worker, message),
            Event::Looked { worker, accepting } => {
                let Some(life) = self.workers.get_mut(worker) else { return true };
                life.looking = false;
                if *accepting
                    && life.exec.is_some()
                    && life.staying()
                    && matches!(life.ready_kind, ReadyKind::Accepting | ReadyKind::NotifyOrAccepting)
                {
                    life.ready.get_or_insert(now);
                }
            }
            Event::Exited { worker, status, stragglers } => return self.exited(now, *worker, *status, *stragglers),
            Event::GroupGone { worker } => return self.workers.remove(worker).is_none(),
            Event::Prepared { worker } => {
                let Some(life) = self.workers.get_mut(worker) else { return true };
                if life.started.is_none() && life.exec.is_none() {
                    life.started = Some(now);
                    life.asleep = Duration::ZERO;
                    life.start_due = Range::at(now + life.spec.start_timeout);
                }
            }
            Event::Released { worker } => {
                let Some(life) = self.workers.get_mut(worker) else { return true };
                life.released = true;
            }
            Event::Signalled { worker, .. } | Event::SignalFailed { worker, .. } => return !self.workers.contains_key(worker),
            Event::Signal { signal, .. } => self.signalled(now, *signal),
            Event::ScaleSignals { pool, by, .. } => self.scale_signals(*pool, *by),
            Event::RestartSignal { pool, .. } => {
                if let Some(p) = self.pools.get_mut(pool) {
                    p.roll_asked = true;
                    p.forgive();
                }
            }
            Event::Command { id, command, timeout, .. } => self.commanded(now, *id, command, *timeout),
            Event::Abandoned { id } => {
                self.commands.remove(id);
            }
            Event::Tick => self.ticked = now,
            Event::Quiet => {}
            Event::Late { by } => {
                self.late = Some((now, *by));
                // Whether time asleep counts against a start is left open.
                self.workers.values_mut().for_each(|l| {
                    l.start_due.hi = l.start_due.hi + *by;
                    l.asleep += *by;
                });
            }
        }
        false
    }

    fn configured(&mut self, revision: u32, master: &MasterSpec, pools: &[PoolSpec], roll: &[PoolId]) {
        let reading = self.reading.take();
        if self.revision == 0 {
            if self.ending.is_some() {
                return;
            }
            self.revision = revision;
            self.master = master.clone();
            self.pools = pools.iter().map(|spec| (spec.id, PoolLife::new(spec.clone(), revision))).collect();
            self.editions.insert(revision, pools.iter().map(|spec| (spec.id, revision)).collect());
            return;
        }
        let Some(reading) = reading else { return };
        let propose = |spec: &PoolSpec| {
            let kept = match reading.from {
                ConfigSource::File => None,
                ConfigSource::Kept(of) => self.editions.get(&of).and_then(|e| e.get(&spec.id)).copied(),
            };
            let present = self.pools.get(&spec.id).filter(|p| p.in_config).map(|p| p.edition);
            let outdated =
                roll.contains(&spec.id) || reading.restart && (reading.pools.is_empty() || reading.pools.contains(&spec.id));
            let edition = kept.or(present.filter(|_| !outdated)).unwrap_or(revision);
            Proposal {
                spec: spec.clone(),
                edition,
                same: present == Some(edition),
                live: present.is_some() && kept.is_none() && !roll.contains(&spec.id),
            }
        };
        let proposed = Proposed { master: master.clone(), pools: pools.iter().map(|spec| (spec.id, propose(spec))).collect() };
        for (id, proposal) in &proposed.pools {
            // One that comes is there for its canary, and goes with it.
            self.pools.entry(*id).or_insert_with(|| PoolLife {
                in_config: false,
                phase: Phase::Removed,
                ..PoolLife::new(proposal.spec.clone(), proposal.edition)
            });
        }
        self.staged.insert(revision, proposed);
    }

    /// The core has put a config in force.
    pub(crate) fn committed(&mut self, now: Time, revision: u32) -> Result<(), String> {
        let Some(Proposed { master, pools }) = self.staged.remove(&revision) else {
            return Err(format!("config {revision} is put in force, and is not there"));
        };
        self.revision = revision;
        self.master = master;
        for p in self.pools.values_mut() {
            p.in_config = pools.contains_key(&p.spec.id) && p.in_config;
        }
        for (id, Proposal { spec, edition, same, live }) in pools {
            let edition = self.pools.get(&id).filter(|p| same && p.in_config).map_or(edition, |p| p.edition);
            let lives: Vec<WorkerId> = self.of_pool(id).map(|l| l.id).collect();
            let before = match self.pools.get_mut(&id).filter(|p| p.in_config) {
                Some(p) => {
                    if p.spec.workers != spec.workers || p.operator.is_some_and(|n| spec.max.is_some_and(|max| n > max)) {
                        p.operator = None;
                    }
                    p.target = p.operator.unwrap_or(spec.workers);
                    p.roll_asked |=
                        p.edition != edition || lives.iter().any(|id| self.workers.get(id).is_some_and(|l| l.edition != edition));
                    p.forgive();
                    p.was_never |= p.spec.restart.policy == RestartPolicy::Never;
                    p.spec = spec.clone();
                    std::mem::replace(&mut p.edition, edition)
                }
                // New, or back in the config: it starts from nothing.
                None => {
                    let (spawned, ordered_early) = self.pools.get(&id).map_or((0, false), |p| (p.spawned, p.ordered_early));
                    self.pools.insert(id, PoolLife { spawned, ordered_early, ..PoolLife::new(spec.clone(), edition) });
                    edition
                }
            };
            for id in lives {
                let Some(life) = self.workers.get_mut(&id) else { continue };
                // Those that were undone before stay what they were.
                life.canary &= !life.staying();
                if life.edition == edition || live && life.edition == before {
                    take_over(life, now, &spec);
                }
            }
        }
        let present = self.pools.iter().filter(|(_, p)| p.in_config).map(|(id, p)| (*id, p.edition)).collect();
        self.editions.insert(revision, present);
        Ok(())
    }

    fn spawned(&mut self, now: Time, worker: WorkerId) -> bool {
        let Some(life) = self.workers.get_mut(&worker) else { return true };
        life.exec = Some(now);
        if life.ready_kind == ReadyKind::Exec && life.staying() {
            life.ready = Some(now);
        }
        false
    }

    fn notified(&mut self, now: Time, worker: WorkerId, message: &Notification) -> bool {
        let Some(life) = self.workers.get_mut(&worker) else { return true };
        if life.lingering.is_some() {
            return true;
        }
        match message {
            Notification::Ready => {
                // Of one that has to go it comes too late.
                if life.staying() && matches!(life.ready_kind, ReadyKind::Notify | ReadyKind::NotifyOrAccepting) {
                    life.ready.get_or_insert(now);
                }
            }
            Notification::Stopping => {
                if life.staying() {
                    life.announced = Some(now);
                }
                life.said_stopping = true;
            }
            Notification::Beat => {
                life.beats.last = Some(now);
                life.beats.shortest = life.beats.longest;
                life.beats.firm = life.ready.is_some();
            }
            Notification::Trigger => life.triggered = true,
            Notification::Timeout(d) => {
                let new = (!d.is_zero()).then_some(*d);
                life.beats.shortest = match (life.beats.shortest, new) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (_, None) => None,
                    (None, Some(b)) => Some(b),
                };
                life.beats.longest = new;
                life.beats.chose = true;
                life.beats.reset = Some(now);
                life.beats.firm = false;
            }
            Notification::Extend(d) => {
                if let Some(stop) = &mut life.stop {
                    let until = now + *d;
                    stop.due = if stop.quick || stop.hurried {
                        Range { lo: stop.due.lo, hi: stop.due.hi.max(until) }
                    } else {
                        stop.due.not_before(until)
                    };
                } else if life.ready.is_none() {
                    life.start_due = life.start_due.not_before(now + *d);
                    life.start_extended = true;
                }
            }
            // Earlier deaths count no more, as far as anybody can tell.
            Notification::RestartReset => {
                let slot = worker.slot;
                if let Some(pool) = self.pools.get_mut(&worker.pool) {
                    pool.early.clear();
                    pool.slots.remove(&slot);
                }
            }
            Notification::Reloading | Notification::Status(_) | Notification::Busy { .. } | Notification::MainPid(_) => {}
        }
        false
    }

    fn exited(&mut self, now: Time, worker: WorkerId, status: ExitStatus, stragglers: bool) -> bool {
        let Some(life) = self.workers.get_mut(&worker) else { return true };
        if life.lingering.is_some() {
            return true;
        }
        let before = life.clone();
        // With kill_mode = process the rest of the group is nobody's business.
        let group = before.spec.kill_mode != KillMode::Process;
        if stragglers && group {
            life.lingering = Some(now);
        } else {
            self.workers.remove(&worker);
        }
        let Some(pool) = self.pools.get_mut(&worker.pool) else { return false };
        if before.asked() || before.canary {
            self.vacated(worker);
            return false;
        }
        let ours = before.reason.is_some_and(|r| r != Reason::Announced);
        let success = !ours && matches!(status, ExitStatus::Code(c) if pool.spec.restart.success_codes.contains(&c));
        let finished = match pool.spec.restart.policy {
            RestartPolicy::Always => false,
            RestartPolicy::OnFailure => success,
            RestartPolicy::Never => true,
        };
        // A job that ended well is no death at all; one that ended badly and is not restarted may count.
        if finished && success {
            // Of one of which nothing was seen it is left open whether it was good.
            pool.maybe_good |=
                before.ready.is_some() || matches!(before.ready_kind, ReadyKind::Accepting | ReadyKind::NotifyOrAccepting);
            if before.meddled {
                // Or the core had told it to go, which is not seen behind an operator's signal.
                self.early_death(now, &before, false);
            }
            return false;
        }
        // A verdict, or its own word, ends the time in which it could get good.
        let judged = before.aborted.or(before.announced).unwrap_or(now);
        // One that has shown to be ready and ends well by itself was good.
        let recycled = success && before.ready.is_some() && before.ready_kind.proves() && !before.incoming;
        // So was one of which nothing was seen, if others were seen before: that is left open.
        let unseen = success
            && before.ready.is_none()
            && matches!(before.ready_kind, ReadyKind::Accepting | ReadyKind::NotifyOrAccepting)
            && !before.incoming;
        let on_the_edge = before.good(now) && !before.good(judged) && !recycled;
        let (replaced, dropped) = (self.replaced(worker), self.dropped(&before));
        let Some(pool) = self.pools.get_mut(&worker.pool) else { return false };
        if (!before.good(now) || on_the_edge) && !recycled {
            pool.maybe_good |= on_the_edge || unseen;
            let sure = !on_the_edge && !unseen && !dropped && !replaced && !finished && !before.said_stopping && !before.meddled;
            self.early_death(now, &before, sure);
        } else {
            pool.maybe_good = true;
            let healthy = before.ready.is_some_and(|r| r + pool.spec.restart.backoff.reset_after <= now);
            let slot = pool.slots.entry(worker.slot).or_default();
            slot.last = None;
            if healthy {
                slot.row = 0;
            }
        }
        false
    }

    /// Its replacement is running beside it: whether its death counts is left open.
    fn replaced(&self, w: WorkerId) -> bool {
        self.of_pool(w.pool).any(|l| l.id.slot == w.slot && l.id.generation != w.generation && l.staying())
    }

    /// It was going already when its pool became smaller: its slot may have been taken from it.
    fn dropped(&self, life: &Life) -> bool {
        life.reason.is_some() && self.pools.get(&life.id.pool).is_some_and(|p| life.forked <= p.shrunk)
    }

    /// The worker left because it was told to: its slot may start afresh.
    fn vacated(&mut self, worker: WorkerId) {
        if let Some(p) = self.pools.get_mut(&worker.pool) {
            p.slots.remove(&worker.slot);
        }
    }

    fn early_death(&mut self, now: Time, life: &Life, sure: bool) {
        let worker = life.id;
        // Deaths beside a living old worker are the roll's to count; whether they are the budget's as well is left open.
        let sure = sure && !life.incoming;
        let Some(p) = self.pools.get_mut(&worker.pool) else { return };
        p.early_maybe.push_back(now);
        let slot = p.slots.entry(worker.slot).or_default();
        if sure {
            p.early.push_back(now);
            slot.row += 1;
            slot.last = Some(now);
        } else {
            *slot = Default::default();
        }
        if p.open.is_some_and(|open| life.forked > open) {
            p.probes = if sure { p.probes + 1 } else { 0 };
            p.probe_died = sure.then_some(now);
        }
        let within = p.spec.restart.budget.within;
        while p.early.front().is_some_and(|t| now.since(*t).as_secs_f64() >= within.as_secs_f64() * 0.99) {
            p.early.pop_front();
        }
        // A reload may make the time longer, and what it reaches back to counts again.
        while p.early_maybe.front().is_some_and(|t| now.since(*t) > within.max(Duration::from_secs(60))) {
            p.early_maybe.pop_front();
        }
    }

    fn signalled(&mut self, now: Time, signal: MasterSignal) {
        match signal {
            MasterSignal::Term => self.end(now, 1),
            MasterSignal::Int | MasterSignal::Quit => self.end(now, 2),
            MasterSignal::Hup => {
                if self.master.hup != poolmaster::supervisor::OnHup::Ignore {
                    self.pools.values_mut().for_each(|p| p.parked = false);
                }
            }
            MasterSignal::Ttin | MasterSignal::Ttou => {
                let by = if signal == MasterSignal::Ttin { 1 } else { -1 };
                let mut there = self.pools.values().filter(|p| p.in_config).map(|p| p.spec.id);
                let only = there.next().filter(|_| there.next().is_none());
                if let Some(pool) = self.master.default_pool.or(only) {
                    self.scale_signals(pool, by);
                }
                if by > 0 {
                    self.pools.values_mut().for_each(|p| p.parked = false);
                }
            }
            MasterSignal::Winch => {
                if self.master.winch_parks {
                    let runs = |p: &&mut PoolLife| matches!(p.phase, Phase::Running | Phase::BackingOff | Phase::Waiting);
                    self.pools.values_mut().filter(runs).for_each(|p| p.parked = true);
                }
            }
            MasterSignal::Usr1 | MasterSignal::Usr2 => {}
        }
    }

    /// An order to end: the first one as hard as it says, each further one a step harder.
    pub(crate) fn end(&mut self, now: Time, level: u8) {
        let quick = self.longest_quick();
        match &mut self.ending {
            None => {
                self.ending = Some(Ending { since: now, level, level_since: now, quick, own: false });
                self.hasten(now);
            }
            Some(e) if e.level < 3 => {
                e.level += 1;
                (e.level_since, e.quick) = (now, quick);
                self.hasten(now);
            }
            Some(_) => {}
        }
    }

    /// A quick stop shortens what is under way.
    fn hasten(&mut self, now: Time) {
        if self.ending.is_none_or(|e| e.level != 2) {
            return;
        }
        for life in self.workers.values_mut() {
            if let Some(stop) = &mut life.stop {
                let quick = now + life.spec.quick_timeout;
                stop.due = Range { lo: stop.due.lo.min(quick), hi: quick };
                stop.quick = true;
            }
        }
    }

    /// Signals are clamped: never below `max(1, min)`, never beyond `max`, and a step down never adds.
    fn scale_signals(&mut self, pool: PoolId, by: i64) {
        let Some(p) = self.pools.get_mut(&pool) else { return };
        if !p.in_config {
            p.ordered_early = true;
            return;
        }
        p.forgive();
        let now = i64::from(p.target);
        let floor = i64::from(p.spec.min.max(1));
        let top = p.spec.max.map_or(i64::MAX, i64::from);
        let to = match by {
            0 => now,
            1.. => (now + by).min(top).max(now.min(floor)),
            _ => (now + by).max(floor).min(now),
        };
        if to != now {
            p.target = to as u32;
            p.operator = Some(p.target);
        }
    }

    fn commanded(&mut self, now: Time, id: CommandId, command: &Command, timeout: Option<Duration>) {
        let verdict = match command {
            Command::Scale { pool, change } => self.scale_verdict(*pool, *change),
            _ => None,
        };
        self.commands.insert(id, Asked { command: command.clone(), at: now, timeout, verdict });
        if self.ending.is_some() && !matches!(command, Command::Shutdown { .. }) {
            return;
        }
        match command {
            Command::Scale { pool, .. } | Command::Retry { pool } => {
                if let Some(p) = self.pools.get_mut(pool) {
                    p.forgive();
                    p.ordered_early |= !p.in_config;
                    if let (Command::Scale { change, .. }, Some(Ok(n))) = (command, verdict) {
                        p.operator = (*change != ScaleChange::Config).then_some(n);
                        p.target = n;
                    }
                }
            }
            Command::Stop { pools } => {
                for p in pools {
                    let Some(p) = self.pools.get_mut(p) else { continue };
                    p.op_stopped = true;
                    p.forgive();
                }
            }
            Command::Start { pools } => {
                for pool in pools {
                    if let Some(p) = self.pools.get_mut(pool) {
                        p.op_stopped = false;
                        p.parked = false;
                        p.was_ready = false;
                        p.forgive();
                    }
                }
            }
            Command::Restart { targets } => {
                for target in targets {
                    if let Some(p) = self.pools.get_mut(&target.pool) {
                        p.roll_asked = true;
                        p.forgive();
                    }
                }
            }
            Command::Kill { target, .. } => {
                for life in self.workers.values_mut() {
                    if life.id.pool == target.pool && target.slot.is_none_or(|s| s == life.id.slot) {
                        life.meddled = true;
                    }
                }
            }
            Command::Reload { .. } | Command::Rollback => self.pools.values_mut().for_each(|p| p.parked = false),
            Command::Shutdown { now: quick } => match self.ending {
                None => self.end(now, if *quick { 2 } else { 1 }),
                Some(e) if *quick && e.level == 1 => self.end(now, 2),
                Some(_) => {}
            },
            Command::Wait { .. } | Command::Abort | Command::Reopen => {}
        }
    }
}
