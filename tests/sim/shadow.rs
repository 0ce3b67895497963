//! Owns the observer's own record of what has happened, kept from events and actions alone: the second opinion that the
//! core is held against. It follows the design, not the code; where the design leaves a choice it keeps a range.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use poolmaster::supervisor::{
    Command, CommandId, ConfigSource, ExitWhen, MasterSpec, Phase, PoolId, PoolSpec, ReadyKind, Reason, ScaleChange, Time,
    TimeoutFrom, WorkerId, WorkerState,
};

/// A moment known only to lie within a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) lo: Time,
    pub(crate) hi: Time,
}

impl Range {
    pub(crate) fn at(t: Time) -> Range {
        Range { lo: t, hi: t }
    }

    pub(crate) fn not_before(self, t: Time) -> Range {
        Range { lo: self.lo.max(t), hi: self.hi.max(t) }
    }
}

/// A stop under way.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// Which step of the sequence was sent last.
    pub(crate) step: usize,
    /// When the next step, or KILL, is due.
    pub(crate) due: Range,
    /// The quick signal was sent: KILL is next.
    pub(crate) quick: bool,
    /// KILL may come earlier, for too many generations are left.
    pub(crate) hurried: bool,
}

/// The heartbeat of one worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beats {
    pub(crate) shortest: Option<Duration>,
    pub(crate) longest: Option<Duration>,
    pub(crate) last: Option<Time>,
    /// What it was told at its start.
    pub(crate) told: Option<Duration>,
    /// The worker changed its own timeout.
    pub(crate) chose: bool,
    /// Its timeout is another one since.
    pub(crate) reset: Option<Time>,
    /// A beat came while it was ready, under the timeout in force: now it must be enforced.
    pub(crate) firm: bool,
}

/// One process, from the fork until the last of its group is gone.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) id: WorkerId,
    /// What it lives by: the spec that it was started from, and what changed live since.
    pub(crate) spec: PoolSpec,
    pub(crate) edition: u32,
    /// It was good when its settle time was made longer.
    pub(crate) was_good: bool,
    /// It tries a config that is not in force.
    pub(crate) canary: bool,
    pub(crate) forked: Time,
    pub(crate) exec: Option<Time>,
    pub(crate) ready: Option<Time>,
    pub(crate) ready_kind: ReadyKind,
    /// A config with another `settle` came then.
    pub(crate) measured_anew: Option<Time>,
    /// From when its time to start counts; `None`: hooks come first.
    pub(crate) started: Option<Time>,
    pub(crate) start_due: Range,
    pub(crate) start_extended: bool,
    /// Time in which the host slept.
    pub(crate) asleep: Duration,
    /// It has to go, and something comes before its stop signal: from when that may be sent all the same, and when it must be.
    pub(crate) leaving: Option<Range>,
    /// That was told to be done.
    pub(crate) released: bool,
    pub(crate) stop: Option<Stop>,
    pub(crate) reason: Option<Reason>,
    pub(crate) said_stopping: bool,
    /// It may be of the generations that were too many: killed from then on.
    pub(crate) hurried_by: Option<Time>,
    /// When it said so of its own accord.
    pub(crate) announced: Option<Time>,
    pub(crate) aborted: Option<Time>,
    pub(crate) killed: Option<Time>,
    /// Signals that the core sent of its own accord (operators' `kill` and `reopen` are not counted).
    pub(crate) sent: Vec<i32>,
    pub(crate) beats: Beats,
    pub(crate) triggered: bool,
    /// The leader is gone, the group is not.
    pub(crate) lingering: Option<Time>,
    /// An operator meddled with it: what it does proves nothing.
    pub(crate) meddled: bool,
    pub(crate) looking: bool,
    /// It was started beside the worker that it is to replace.
    pub(crate) incoming: bool,
}

impl Life {
    /// The leader is there and nobody told it to go.
    pub(crate) fn staying(&self) -> bool {
        self.reason.is_none()
            && self.leaving.is_none()
            && self.stop.is_none()
            && self.aborted.is_none()
            && self.killed.is_none()
            && self.lingering.is_none()
            && !self.said_stopping
    }

    /// It is going because somebody wanted it to.
    pub(crate) fn asked(&self) -> bool {
        match self.reason {
            Some(
                Reason::ScaleDown
                | Reason::Replaced
                | Reason::Stopped
                | Reason::Removed
                | Reason::Parked
                | Reason::PoolFailed
                | Reason::Superseded
                | Reason::Undone
                | Reason::Shutdown,
            ) => true,
            Some(Reason::StartTimeout | Reason::Unprepared | Reason::HeartbeatLost | Reason::Trigger | Reason::Announced)
            | None => false,
        }
    }

    pub(crate) fn good(&self, now: Time) -> bool {
        self.was_good || self.ready.is_some_and(|r| r + self.spec.settle <= now)
    }

    /// It counts for those who wait for ready workers: shown to serve, or good by then.
    pub(crate) fn counts(&self, by: Time) -> bool {
        // What changed meanwhile shows at the next look at the clock.
        let good = self.good(by) && self.measured_anew.is_none_or(|at| at <= by);
        self.staying() && self.ready.is_some() && (self.spec.ready.proves() || good)
    }

    /// The state in which the design sees it; `None` where more than one word fits.
    pub(crate) fn state(&self, now: Time) -> Option<WorkerState> {
        let settle = self.spec.settle;
        if self.meddled || self.said_stopping {
            return None;
        }
        if self.lingering.is_some() {
            return Some(WorkerState::Lingering);
        }
        if self.killed.is_some() {
            return Some(WorkerState::Killed);
        }
        if self.aborted.is_some() {
            return Some(WorkerState::Aborting);
        }
        if self.stop.is_some() {
            return Some(WorkerState::Stopping);
        }
        if self.leaving.is_some() {
            return Some(WorkerState::Leaving);
        }
        if self.reason.is_some() {
            return None;
        }
        if self.measured_anew == Some(now) {
            return None;
        }
        match (self.exec, self.ready) {
            (None, _) => Some(WorkerState::Spawning),
            (Some(_), None) => Some(WorkerState::Starting),
            (Some(_), Some(_)) if self.was_good => Some(WorkerState::Good),
            (Some(_), Some(r)) if now < r + settle => Some(WorkerState::Ready),
            (Some(_), Some(r)) if now > r + settle => Some(WorkerState::Good),
            (Some(_), Some(_)) => None,
        }
    }
}

/// What is known of one slot's failures.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotLife {
    /// Early deaths in a row that certainly count.
    pub(crate) row: u32,
    pub(crate) last: Option<Time>,
}

/// One pool, as the observer sees it.
#[derive(Clone, Debug)]
pub(crate) struct PoolLife {
    pub(crate) spec: PoolSpec,
    /// What its new workers are; those of another one are to be replaced.
    pub(crate) edition: u32,
    pub(crate) in_config: bool,
    /// Its jobs that ended badly were not tried again, at some time.
    pub(crate) was_never: bool,
    pub(crate) target: u32,
    /// What it was, and when it last became smaller: a slot may have been taken from a worker that was going anyway.
    pub(crate) target_before: u32,
    pub(crate) shrunk: Time,
    pub(crate) operator: Option<u32>,
    /// An order changed its number while its config was tried: what the commit makes of that is the core's to say.
    pub(crate) ordered_early: bool,
    pub(crate) phase: Phase,
    pub(crate) op_stopped: bool,
    pub(crate) parked: bool,
    pub(crate) roll_asked: bool,
    /// Early deaths that certainly count against the budget, and those that may.
    pub(crate) early: VecDeque<Time>,
    pub(crate) early_maybe: VecDeque<Time>,
    /// Some worker was certainly good; some may have been.
    pub(crate) ever_good: bool,
    pub(crate) maybe_good: bool,
    pub(crate) slots: BTreeMap<u32, SlotLife>,
    /// Since when it is backing off, and how many probes failed since.
    pub(crate) open: Option<Time>,
    pub(crate) probes: u32,
    pub(crate) probe_died: Option<Time>,
    pub(crate) last_spawn: Option<Time>,
    /// It had as many ready workers as wanted, at some time since it was last (re)started.
    pub(crate) was_ready: bool,
    pub(crate) spawned: u64,
}

impl PoolLife {
    pub(crate) fn new(spec: PoolSpec, edition: u32) -> PoolLife {
        PoolLife {
            edition,
            target: spec.workers,
            target_before: spec.workers,
            shrunk: Time(0),
            operator: None,
            ordered_early: false,
            phase: if spec.autostart { Phase::Running } else { Phase::Stopped },
            op_stopped: !spec.autostart,
            spec,
            in_config: true,
            was_never: false,
            parked: false,
            roll_asked: false,
            early: VecDeque::new(),
            early_maybe: VecDeque::new(),
            ever_good: false,
            maybe_good: false,
            slots: BTreeMap::new(),
            open: None,
            probes: 0,
            probe_died: None,
            last_spawn: None,
            was_ready: false,
            spawned: 0,
        }
    }

    /// An order, or a new config: earlier failures prove nothing about what follows.
    pub(crate) fn forgive(&mut self) {
        self.early.clear();
        self.slots.clear();
        self.probes = 0;
        self.probe_died = None;
    }
}

/// A command that waits for its reply.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) command: Command,
    pub(crate) at: Time,
    pub(crate) timeout: Option<Duration>,
    /// Of a `scale`: what the design makes of it, at the moment it was asked.
    pub(crate) verdict: Option<Result<u32, ()>>,
}

/// The end of the master.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) since: Time,
    /// 1 graceful, 2 quick, 3 now.
    pub(crate) level: u8,
    pub(crate) level_since: Time,
    /// The longest time that a worker has after the quick signal.
    pub(crate) quick: Duration,
    /// Nobody asked: the core decided it.
    pub(crate) own: bool,
}

impl Ending {
    /// When it takes the next step by itself.
    pub(crate) fn over_at(&self, master: &MasterSpec) -> Option<Time> {
        match self.level {
            1 => Some(self.since + master.graceful_timeout),
            2 => Some(self.level_since + self.quick + Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// A config that is read and neither in force nor taken back.
#[derive(Clone, Debug)]
pub(crate) struct Proposed {
    pub(crate) master: MasterSpec,
    pub(crate) pools: BTreeMap<PoolId, Proposal>,
}

/// What it would make of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) spec: PoolSpec,
    pub(crate) edition: u32,
    /// It outdates no worker.
    pub(crate) same: bool,
    /// Running workers take it over.
    pub(crate) live: bool,
}

/// A reading that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) from: ConfigSource,
    pub(crate) pools: Vec<PoolId>,
    pub(crate) restart: bool,
}

/// Everything the observer knows.
#[derive(Clone, Debug)]
pub(crate) struct Shadow {
    pub(crate) pools: BTreeMap<PoolId, PoolLife>,
    pub(crate) workers: BTreeMap<WorkerId, Life>,
    pub(crate) generations: BTreeMap<(PoolId, u32), u32>,
    pub(crate) commands: BTreeMap<CommandId, Asked>,
    pub(crate) master: MasterSpec,
    pub(crate) revision: u32,
    pub(crate) reading: Option<Reading>,
    /// By revision. After each event there is at most one.
    pub(crate) staged: BTreeMap<u32, Proposed>,
    /// Editions of the pools under each config that was in force.
    pub(crate) editions: BTreeMap<u32, BTreeMap<PoolId, u32>>,
    /// Orders to replace the workers of a pool.
    pub(crate) orders: u32,
    pub(crate) ending: Option<Ending>,
    pub(crate) exited: Option<(Time, i32)>,
    /// The master ended although the kernel would not let go of some processes.
    pub(crate) left_behind: bool,
    pub(crate) late: Option<(Time, Duration)>,
    pub(crate) replies: u64,
    /// The last tick.
    pub(crate) ticked: Time,
    /// The listeners let nobody in any more.
    pub(crate) quiesced: bool,
    /// Pools of a config that is tried whose own hook runs, or has failed.
    pub(crate) pre_starts: BTreeSet<(PoolId, u32)>,
    /// Pools whose oldest generations were hurried in this turn.
    pub(crate) hurried: BTreeSet<PoolId>,
}

impl Shadow {
    pub(crate) fn new() -> Shadow {
        let master = MasterSpec {
            default_pool: None,
            graceful_timeout: Duration::ZERO,
            exit_when: ExitWhen::Never,
            winch_parks: false,
            hup: Default::default(),
            linger: Duration::ZERO,
        };
        Shadow {
            pools: BTreeMap::new(),
            workers: BTreeMap::new(),
            generations: BTreeMap::new(),
            commands: BTreeMap::new(),
            master,
            revision: 0,
            reading: None,
            staged: BTreeMap::new(),
            editions: BTreeMap::new(),
            orders: 0,
            ending: None,
            exited: None,
            left_behind: false,
            late: None,
            replies: 0,
            quiesced: false,
            pre_starts: BTreeSet::new(),
            hurried: BTreeSet::new(),
            ticked: Time(0),
        }
    }

    pub(crate) fn of_pool(&self, pool: PoolId) -> impl Iterator<Item = &Life> {
        let first = WorkerId { pool, slot: 0, generation: 0 };
        self.workers.range(first..).take_while(move |(id, _)| id.pool == pool).map(|(_, l)| l)
    }

    pub(crate) fn staying(&self, pool: PoolId) -> u32 {
        self.of_pool(pool).filter(|l| l.staying()).count() as u32
    }

    /// Slots with a worker that counts as ready by then.
    pub(crate) fn ready(&self, pool: PoolId, by: Time) -> u32 {
        let mut slots: Vec<u32> = self.of_pool(pool).filter(|l| l.counts(by)).map(|l| l.id.slot).collect();
        slots.dedup();
        slots.len() as u32
    }

    /// The same: as it was with the last tick, which is when a worker becomes good, and as it may be now.
    pub(crate) fn ready_between(&self, pool: PoolId, now: Time) -> (u32, u32) {
        let just_before = Time(self.ticked.0.saturating_sub(1));
        (self.ready(pool, just_before), self.ready(pool, now))
    }

    pub(crate) fn live(&self, pool: PoolId) -> u32 {
        self.of_pool(pool).filter(|l| l.lingering.is_none()).count() as u32
    }

    pub(crate) fn state(&self, now: Time, w: WorkerId) -> Option<WorkerState> {
        self.workers.get(&w)?.state(now)
    }

    /// It is of another edition than the pool's present one.
    pub(crate) fn is_old(&self, life: &Life) -> bool {
        self.pools.get(&life.id.pool).is_some_and(|p| p.edition != life.edition)
    }

    /// A worker that tries a config is there, of whichever one.
    pub(crate) fn has_canary(&self, pool: PoolId) -> bool {
        self.of_pool(pool).any(|l| l.canary)
    }

    /// What a config that is not in force would make of this pool.
    pub(crate) fn proposal(&self, pool: PoolId) -> Option<&Proposal> {
        self.staged.values().find_map(|p| p.pools.get(&pool))
    }

    /// When the next step of a stop must come.
    pub(crate) fn stop_due(&self, life: &Life) -> Option<Range> {
        Some(life.stop.as_ref()?.due)
    }

    /// The longest time that a worker has after the quick signal.
    pub(crate) fn longest_quick(&self) -> Duration {
        self.workers.values().map(|life| life.spec.quick_timeout).max().unwrap_or_default()
    }

    /// From when the heartbeat may be enforced, and when it must be at the latest (`None`: it need not).
    pub(crate) fn heartbeat_due(&self, life: &Life) -> Option<(Time, Option<Time>)> {
        let shortest = life.beats.shortest?;
        let longest = life.beats.longest?;
        let from = life.spec.timeout_from;
        let base = match (from, life.ready, life.beats.last) {
            (TimeoutFrom::FirstBeat, _, last) => last?,
            (TimeoutFrom::Ready, ready, last) => ready?.max(last.unwrap_or_default()),
        };
        let mut lo = base + shortest;
        let mut hi = base.max(life.ready.unwrap_or_default()).max(life.beats.reset.unwrap_or_default()) + longest;
        if let Some((at, by)) = self.late
            && at >= base
        {
            lo = (lo + by).min(at + shortest).max(lo);
            hi = hi.max(at + longest);
        }
        let firm =
            life.ready.is_some() && (life.beats.firm || from == TimeoutFrom::Ready && life.beats.shortest == life.beats.longest);
        Some((lo, firm.then_some(hi)))
    }

    /// What the design makes of an explicit `scale`. `Err`: refused (7). `None`: the design leaves it open.
    pub(crate) fn scale_verdict(&self, pool: PoolId, change: ScaleChange) -> Option<Result<u32, ()>> {
        let p = self.pools.get(&pool).filter(|p| p.in_config)?;
        let wish = match change {
            ScaleChange::By(n) => i64::from(p.target) + n,
            ScaleChange::To(n) => i64::from(n),
            ScaleChange::Percent(percent) => match p.spec.max {
                None => return Some(Err(())),
                Some(max) => i64::from(poolmaster::supervisor::Share::Percent(percent).of(max)),
            },
            ScaleChange::Config => return Some(Ok(p.spec.workers)),
        };
        let inside = wish == 0 || (wish >= i64::from(p.spec.min) && p.spec.max.is_none_or(|max| wish <= i64::from(max)));
        Some(if inside { Ok(wish as u32) } else { Err(()) })
    }
}
