//! Owns one worker: what is wanted of it, the state it is in, and the deadline of that state, as three separate things.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PoolSpec, ReadyKind, Reason, StopStep, Time, TimeoutFrom, WorkerId, WorkerState, WorkerView};

/// First and longest pause between two looks at the kernel's tables.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LONGEST: Duration = Duration::from_millis(200);

/// One process, from its fork to its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) revision: u32,
    /// What it lives by: the spec of its start, and what came live since.
    #[serde(with = "super::snapshot::shared")]
    pub(super) spec: Rc<PoolSpec>,
    /// Of which edition of its pool it is.
    pub(super) edition: u32,
    /// It was to be started.
    pub(super) started: Time,
    /// The fork, from which its time to start counts; `None`: hooks come first.
    pub(super) forked: Option<Time>,
    pub(super) state: WorkerState,
    /// Since when it is in this state.
    pub(super) since: Time,
    /// Why it has to go; `None`: it is wanted.
    pub(super) leaving: Option<Reason>,
    /// The deadline of the state.
    pub(super) deadline: Option<Time>,
    /// When to look again whether it accepts.
    pub(super) look_at: Option<Time>,
    look_pause: Duration,
    pub(super) ready_at: Option<Time>,
    /// It was good at some time: its death is no early death.
    pub(super) was_good: bool,
    pub(super) last_beat: Option<Time>,
    /// The longest silence allowed to it; the worker itself may change it.
    pub(super) timeout: Option<Duration>,
    /// What it was told at its start, by which it beats.
    pub(super) told: Option<Duration>,
    /// It has chosen its own.
    pub(super) chose: bool,
    /// Time of its start in which the host slept.
    pub(super) asleep: Duration,
    /// It has asked for more time in its present state.
    pub(super) extended: bool,
    pub(super) beat_by: Option<Time>,
    /// It runs beside the worker that it will replace.
    pub(super) incoming: bool,
    /// It is the one attempt that a pool in back-off makes.
    pub(super) probe: bool,
    /// It was started to try a config that is not in force (yet): how it ends says nothing of the pool.
    pub(super) tried: bool,
    /// The steps of its stop that are still to come, by the spec in force when it began: one that is stopping goes on as it began.
    pub(super) stop_steps: VecDeque<StopStep>,
    /// Stop signals it was sent, as bits, so that none is sent twice.
    sent: u64,
    /// The last signal that an operator sent to it.
    pub(super) ordered: Option<i32>,
    /// A quick stop may not be extended by the worker.
    pub(super) quick: bool,
    pub(super) status: Option<String>,
    /// Its last word of its load.
    pub(super) busy: Option<(u32, u32)>,
    /// That it calls another process its main one was told.
    pub(super) told_main_pid: bool,
    /// What the timers hold for it.
    pub(super) armed: Option<Time>,
}

impl Worker {
    /// `beside`: workers that the pool has.
    pub(super) fn new(id: WorkerId, (revision, edition): (u32, u32), now: Time, spec: &Rc<PoolSpec>, beside: usize) -> Worker {
        // Hooks of other workers, and of other moments, may come first.
        let rounds = u32::try_from(beside / 4).unwrap_or(u32::MAX).saturating_add(4);
        let prepared_by = spec.prepare.map(|within| now + within.saturating_mul(rounds));
        Worker {
            id,
            revision,
            spec: Rc::clone(spec),
            edition,
            started: now,
            forked: Some(now).filter(|_| !spec.prepares),
            state: WorkerState::Spawning,
            since: now,
            leaving: None,
            deadline: if spec.prepares { prepared_by } else { Some(now + spec.start_timeout) },
            look_at: None,
            look_pause: LOOK_FIRST,
            ready_at: None,
            was_good: false,
            last_beat: None,
            timeout: spec.timeout,
            told: spec.timeout,
            chose: false,
            asleep: Duration::ZERO,
            extended: false,
            beat_by: None,
            incoming: false,
            probe: false,
            tried: false,
            stop_steps: VecDeque::new(),
            sent: 0,
            ordered: None,
            quick: false,
            status: None,
            busy: None,
            told_main_pid: false,
            armed: None,
        }
    }

    /// Changes the state; the deadline belongs to the state and goes with it.
    pub(super) fn enter(&mut self, state: WorkerState, now: Time, deadline: Option<Time>) {
        self.state = state;
        self.since = now;
        self.deadline = deadline;
        self.extended &= self.is_starting();
    }

    /// The earliest of its deadlines.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        [self.deadline, self.look_at, self.beat_by].into_iter().flatten().min()
    }

    /// Forked and not yet ready, and wanted.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.state, WorkerState::Spawning | WorkerState::Starting)
    }

    /// Ready, and not told to stop.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, WorkerState::Ready | WorkerState::Good)
    }

    /// It counts for those who wait for ready workers. That a program runs, or that some time has gone by, says nothing: such a worker counts once
    /// it is good.
    pub(super) fn counts(&self) -> bool {
        match self.state {
            WorkerState::Good => true,
            WorkerState::Ready => self.spec.ready.proves(),
            WorkerState::Spawning
            | WorkerState::Starting
            | WorkerState::Leaving
            | WorkerState::Stopping
            | WorkerState::Aborting
            | WorkerState::Killed
            | WorkerState::Lingering => false,
        }
    }

    /// It is or was good. By the clock: a loop that comes late to the tick that says so makes no early death of a later one.
    pub(super) fn has_settled(&self, now: Time, settle: Duration) -> bool {
        self.was_good || (self.state == WorkerState::Ready && self.ready_at.is_some_and(|at| now - at >= settle))
    }

    /// In one of the states that lead to its end.
    pub(super) fn is_stopping(&self) -> bool {
        !self.is_starting() && !self.is_ready()
    }

    /// A probe that did not get good and has not ended yet. One that KILL does not end is waited for no longer.
    pub(super) fn is_failing_probe(&self) -> bool {
        let ends = match self.state {
            WorkerState::Leaving | WorkerState::Stopping | WorkerState::Aborting => true,
            WorkerState::Killed => self.deadline.is_some(),
            WorkerState::Spawning | WorkerState::Starting | WorkerState::Ready | WorkerState::Good | WorkerState::Lingering => {
                false
            }
        };
        ends && self.probe && !self.was_good && self.leaving.is_none_or(|reason| !reason.was_asked())
    }

    /// Remembers a stop signal; false when it was sent before.
    pub(super) fn mark_sent(&mut self, signal: i32) -> bool {
        let bit = 1u64 << (signal.clamp(1, 64) - 1);
        let first = self.sent & bit == 0;
        self.sent |= bit;
        first
    }

    /// It was sent this signal.
    pub(super) fn was_sent(&self, signal: i32) -> bool {
        self.sent & (1u64 << (signal.clamp(1, 64) - 1)) != 0
    }

    /// It has to go. The first reason stands, and what it waited for while it was wanted is over.
    pub(super) fn leave(&mut self, reason: Reason) {
        self.leaving = self.leaving.or(Some(reason));
        self.look_at = None;
        self.beat_by = None;
    }

    /// Its program runs: when to look at it first, or when its delay is over.
    pub(super) fn begin_waiting(&mut self, now: Time, ready: ReadyKind) {
        match ready {
            ReadyKind::Accepting | ReadyKind::NotifyOrAccepting => self.look_at = Some(now + self.look_pause),
            ReadyKind::Delay(d) => self.look_at = Some(now + d),
            ReadyKind::Exec | ReadyKind::Notify => {}
        }
    }

    /// A look found nothing: 5, 10, 20 ... 200 ms until the next.
    pub(super) fn look_later(&mut self, now: Time) {
        self.look_pause = (self.look_pause * 2).min(LOOK_LONGEST);
        self.look_at = Some(now + self.look_pause);
    }

    /// Arms the heartbeat for the states in which it is enforced, after a beat or at readiness.
    pub(super) fn arm_heartbeat(&mut self, now: Time, from: TimeoutFrom) {
        let armed = self.is_ready() && (self.last_beat.is_some() || from == TimeoutFrom::Ready);
        self.beat_by = self.timeout.filter(|_| armed).map(|t| now + t);
    }

    /// A config is in force that has this timeout. A worker beats as it was told at its start: a shorter silence is not held against it, and one
    /// that was told of none is not watched.
    pub(super) fn watch_by(&mut self, now: Time, timeout: Option<Duration>, from: TimeoutFrom) {
        let held = if self.chose { self.timeout } else { self.told.zip(timeout).map(|(told, new)| told.max(new)) };
        let same = held == self.timeout && self.beat_by.is_some() == (self.last_beat.is_some() || from == TimeoutFrom::Ready);
        self.timeout = held;
        if !same && self.is_ready() {
            self.arm_heartbeat(now, from);
        }
    }

    pub(super) fn view(&self) -> WorkerView<'_> {
        WorkerView {
            id: self.id,
            state: self.state,
            since: self.since,
            started: self.started,
            revision: self.revision,
            ready_at: self.ready_at,
            deadline: self.deadline,
            last_beat: self.last_beat,
            timeout: self.timeout,
            stopping: self.leaving,
            incoming: self.incoming,
            busy: self.busy,
            status: self.status.as_deref(),
        }
    }
}
