//! Owns the vocabulary of what the core asks for. Log lines are actions too, so tests can assert on them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CommandId, ExitStatus, MasterSignal, Phase, PoolId, Sender, SpawnError, WorkerId};

/// One thing the driver has to do. Each fallible one is followed by exactly one event of success or failure, never from
/// within the call that handed it out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Start a worker. Followed by `Spawned` or `SpawnFailed`; after `Spawned` by exactly one `Exited`.
    Spawn {
        /// Its identity.
        worker: WorkerId,
        /// The config revision whose command, environment and sockets it gets.
        revision: u32,
    },
    /// See in the kernel's tables whether the worker waits on a listener. Followed by `Looked`.
    Look {
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker has to go: do what comes before its stop signal. Followed by `Released`, unless the worker ends before, or is sent a signal
    /// that stops it, which cuts it short.
    Release {
        /// Which worker.
        worker: WorkerId,
    },
    /// Send a signal. Followed by `Signalled` or `SignalFailed`.
    Signal {
        /// Which worker.
        worker: WorkerId,
        /// The signal's number.
        signal: i32,
        /// To whom of its processes.
        scope: Scope,
        /// What it is sent for.
        cause: Cause,
    },
    /// Let nobody new in: the listeners take no further connections, those that wait are still served. Followed by `Quiet` once none waits
    /// any more, which may be never.
    Quiesce,
    /// Make a config ready to be put in force, beside the one that is. Followed by `Configure` or `ConfigRejected`.
    ReadConfig {
        /// Where it comes from.
        from: ConfigSource,
        /// Only these pools of it. Empty: all, and the master's own settings.
        pools: Vec<PoolId>,
        /// The workers of unchanged pools are replaced too.
        restart: bool,
    },
    /// Do what comes before the first worker of a pool under this revision. Followed by `PreStarted`.
    PreStart {
        /// Which pool.
        pool: PoolId,
        /// The revision.
        revision: u32,
    },
    /// The config of this revision is in force from now on. It cannot fail: all that can was done before `Configure`.
    Commit {
        /// Which.
        revision: u32,
        /// Of the earlier ones this one has to be kept, for a rollback.
        keep: Option<u32>,
    },
    /// The config of this revision will not be put in force: what was made for it goes, once no worker has it.
    Discard {
        /// Which.
        revision: u32,
    },
    /// Start a second master beside this one, with the same sockets, if there is none.
    SecondMaster {
        /// Who asked for it.
        sender: Sender,
    },
    /// Reopen the master's log files. On a failure the old file stays in use; the reply tells.
    ReopenLogs,
    /// The pool left the config and its last process is gone: its sockets may be closed.
    PoolGone {
        /// Which pool.
        pool: PoolId,
    },
    /// Answer a control client, once for each command.
    Reply {
        /// Which request.
        id: CommandId,
        /// The answer.
        outcome: Outcome,
    },
    /// Say something in the log.
    Note(Note),
    /// The last action of all: everything is down, end the master.
    Exit {
        /// The exit code.
        code: i32,
        /// Why, in words.
        reason: String,
    },
}

/// Where a config comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigSource {
    /// Its file and all other layers, read again.
    File,
    /// The config of this revision, which was in force.
    Kept(u32),
}

/// What a signal is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A step of its stop sequence.
    Stop,
    /// The quick way.
    Quick,
    /// The end of all patience.
    Kill,
    /// It is sick: it is to leave a trace.
    Abort,
    /// An operator's `kill`: whatever follows is up to the worker.
    Order,
    /// Log files were moved.
    Reopen,
}

impl Cause {
    /// It is to end the worker.
    pub fn stops(self) -> bool {
        match self {
            Cause::Stop | Cause::Quick | Cause::Kill | Cause::Abort => true,
            Cause::Order | Cause::Reopen => false,
        }
    }
}

/// To whom of a worker's processes a signal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The process that was started.
    Leader,
    /// Its whole process group.
    Group,
}

/// The answer to a command. The number is the exit code of the verb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// 0: the effect is real.
    Done(String),
    /// 1: it failed, in words.
    Failed(String),
    /// 2: the config is wrong; nothing was changed.
    Invalid(String),
    /// 3: a newer order, or the old state, took its place.
    RolledBack(String),
    /// 5: not yet real; the work goes on.
    TimedOut(String),
    /// 7: refused by an invariant; nothing was changed.
    Refused(String),
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// For those who follow each step.
    Debug,
    /// Normal life.
    Info,
    /// Something to look at.
    Warn,
    /// Something is broken.
    Error,
}

/// A log line, structured first and formatted last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// The pool it is about.
    pub pool: Option<PoolId>,
    /// The worker it is about.
    pub worker: Option<WorkerId>,
    /// What happened.
    pub what: What,
}

/// Why a worker is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The pool has more workers than wanted.
    ScaleDown,
    /// Its replacement is good.
    Replaced,
    /// An operator stopped the pool.
    Stopped,
    /// The pool left the config.
    Removed,
    /// The pool is parked.
    Parked,
    /// The pool failed.
    PoolFailed,
    /// The master ends.
    Shutdown,
    /// Not ready within `start_timeout`.
    StartTimeout,
    /// The hooks before its start did not end.
    Unprepared,
    /// No heartbeat within `timeout`.
    HeartbeatLost,
    /// It reported itself sick (WATCHDOG=trigger).
    Trigger,
    /// It said itself that it stops (STOPPING=1).
    Announced,
    /// A newer order took the place of the one it was started for.
    Superseded,
    /// It tried a config that is not put in force.
    Undone,
}

impl Reason {
    /// Somebody wanted it gone: its end is never a failure. The others are verdicts on the worker, or its own word.
    pub fn was_asked(self) -> bool {
        match self {
            Reason::ScaleDown
            | Reason::Replaced
            | Reason::Stopped
            | Reason::Removed
            | Reason::Parked
            | Reason::PoolFailed
            | Reason::Shutdown
            | Reason::Superseded
            | Reason::Undone => true,
            Reason::StartTimeout | Reason::Unprepared | Reason::HeartbeatLost | Reason::Trigger | Reason::Announced => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::ScaleDown => "scale-down",
            Reason::Replaced => "replaced",
            Reason::Stopped => "stopped by operator",
            Reason::Removed => "pool removed from the config",
            Reason::Parked => "pool parked",
            Reason::PoolFailed => "pool failed",
            Reason::Shutdown => "shutdown",
            Reason::StartTimeout => "not ready within start_timeout",
            Reason::Unprepared => "the hooks before its start did not end",
            Reason::HeartbeatLost => "heartbeat lost",
            Reason::Trigger => "it reported itself sick",
            Reason::Announced => "it announced its own stop",
            Reason::Superseded => "a newer order took its place",
            Reason::Undone => "the reload is undone",
        })
    }
}

impl Reason {
    /// What it says of a worker, after its name.
    pub(super) fn verdict(self) -> &'static str {
        match self {
            Reason::HeartbeatLost => "lost its heartbeat",
            Reason::Trigger => "reported itself sick",
            Reason::StartTimeout => "was not ready within start_timeout",
            Reason::Unprepared => "was not started: the hooks before that did not end",
            Reason::Announced => "announced its own stop",
            Reason::ScaleDown
            | Reason::Replaced
            | Reason::Stopped
            | Reason::Removed
            | Reason::Parked
            | Reason::PoolFailed
            | Reason::Shutdown
            | Reason::Superseded
            | Reason::Undone => "was stopped",
        }
    }
}

/// What a note says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The worker's program runs.
    Started,
    /// The worker is ready.
    Ready {
        /// From the fork.
        after: Duration,
    },
    /// It is alive at `start_timeout` but was never seen accepting.
    AssumedReady,
    /// It could not be started.
    SpawnFailed {
        /// What went wrong.
        error: SpawnError,
        /// When the next attempt comes; `None`: none.
        retry_in: Option<Duration>,
    },
    /// It has to go; what comes before its stop signal is done first.
    Leaving {
        /// Why.
        reason: Reason,
        /// For so long at most.
        within: Duration,
    },
    /// What comes before its stop signal takes too long: it is told to stop all the same.
    ReleaseOverdue {
        /// The time it had.
        within: Duration,
    },
    /// It is being stopped.
    Stopping {
        /// Why.
        reason: Reason,
        /// The signal sent.
        signal: i32,
    },
    /// A deadline passed: the next, harder signal is sent.
    Escalated {
        /// The signal sent.
        signal: i32,
        /// How long it had.
        waited: Duration,
    },
    /// No heartbeat.
    HeartbeatLost {
        /// The longest silence allowed.
        timeout: Duration,
    },
    /// It said WATCHDOG=trigger.
    Triggered,
    /// It said STOPPING=1 without being told to stop.
    Announced,
    /// The hooks before its start did not end in time.
    Unprepared {
        /// The time they had.
        within: Duration,
    },
    /// Not ready in time.
    StartTimeout {
        /// The time it had.
        timeout: Duration,
    },
    /// It is gone.
    Exited {
        /// How.
        status: ExitStatus,
        /// Why it was stopped; `None`: nobody asked for it.
        asked: Option<Reason>,
        /// It was the signal of an operator's `kill`.
        #[serde(default)]
        by_order: bool,
        /// It ended before it was good, in a way that counts.
        #[serde(default)]
        early: bool,
        /// Time since the fork.
        age: Duration,
        /// What follows, when nobody asked for it.
        next: Next,
    },
    /// It says by MAINPID= that another process is its main one, which changes nothing.
    OtherMainPid {
        /// That process, as it counts them.
        pid: i32,
    },
    /// Still there long after KILL.
    Unkillable {
        /// Time since KILL.
        waited: Duration,
    },
    /// A signal could not be sent.
    SignalFailed {
        /// The signal.
        signal: i32,
        /// The kernel's errno.
        errno: i32,
    },
    /// A fact about a worker that is no longer there, or that does not fit its state: dropped.
    Stale {
        /// The fact.
        fact: String,
    },
    /// The pool's count of ready workers changed.
    ReadyCount {
        /// Ready now.
        ready: u32,
        /// Wanted.
        target: u32,
    },
    /// The wanted count changed.
    Scaled {
        /// From.
        from: u32,
        /// To.
        to: u32,
        /// Why, and by whom.
        by: String,
    },
    /// A wish was cut to `scale.min` or `scale.max`.
    Clamped {
        /// What was wished.
        wish: i64,
        /// What it became.
        to: u32,
        /// The bound that holds.
        bound: String,
    },
    /// The pool waits for others.
    WaitingFor {
        /// Their names.
        pools: Vec<String>,
    },
    /// The failure budget is spent: one probe at a time from now on.
    BackingOff {
        /// Early deaths counted.
        failures: u32,
        /// In this stretch.
        within: Duration,
        /// The next probe.
        retry_in: Duration,
    },
    /// A probe was good: normal life again.
    Recovered,
    /// The pool is failed and stays so until an operator starts it.
    PoolFailed {
        /// Why.
        why: String,
    },
    /// All its jobs ended well.
    PoolCompleted,
    /// The pool's workers are stopped.
    PoolHalted {
        /// The phase it is in from now on.
        phase: Phase,
        /// Why.
        reason: Reason,
    },
    /// Workers are being replaced.
    RollStarted {
        /// How many.
        workers: u32,
        /// How many of them may be under way at one time.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        at_once: u32,
    },
    /// All are replaced.
    RollDone,
    /// The roll stopped where it was.
    RollHalted {
        /// Why.
        why: String,
    },
    /// A signal to the master.
    Signal {
        /// Which.
        signal: MasterSignal,
        /// From whom.
        sender: Sender,
        /// What it does.
        effect: String,
    },
    /// A canary is good.
    CanaryGood,
    /// A config was read; what it changes is tried before it is put in force.
    Trying {
        /// Its number.
        revision: u32,
        /// Names of the pools that get canaries.
        pools: Vec<String>,
    },
    /// A reload has done all that it was to do.
    Reloaded {
        /// What, in words.
        summary: String,
    },
    /// A reload was undone, or stopped half-way.
    ReloadFailed {
        /// Why, and what became of it.
        reason: String,
    },
    /// After its commit a reload failed: the config before it is put in force again.
    RollingBack {
        /// Why.
        reason: String,
    },
    /// Too many old generations live at once: the oldest are stopped quickly.
    TooManyGenerations {
        /// How many there may be.
        most: u32,
    },
    /// A config is in force.
    Configured {
        /// Its number.
        revision: u32,
        /// How many pools it has.
        pools: u32,
    },
    /// A config could not be used; the old one stays in force.
    ConfigRejected {
        /// Why.
        reason: String,
    },
    /// A changing command (the audit trail).
    Commanded {
        /// What, in words.
        command: String,
        /// By whom.
        sender: Sender,
    },
    /// Of every pool that starts by itself it is decided what becomes of it.
    AllReady {
        /// Pools that are ready.
        pools: u32,
        /// Workers that are ready.
        workers: u32,
        /// Pools that are not, and what they are.
        #[serde(default)]
        others: Vec<(String, Phase)>,
    },
    /// The master ends.
    ShuttingDown {
        /// How: graceful, quick, now.
        how: String,
        /// Who or what asked for it.
        why: String,
    },
    /// The host was suspended, or the master stopped: heartbeats are given more time.
    Late {
        /// For how long.
        by: Duration,
    },
}

/// What follows an exit that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    /// A new worker at once.
    Restart,
    /// A new worker after a wait.
    RestartIn(Duration),
    /// A new worker once the pool's probes are good.
    AwaitProbe,
    /// Its replacement is already running.
    Replaced,
    /// None: the policy says so.
    Nothing,
    /// None: the pool has become smaller meanwhile.
    Unwanted,
    /// None: its end has failed the pool.
    PoolFailed,
    /// None: the old worker that it was to replace stays.
    RollHalted,
    /// None: the config that it tried is not put in force.
    CanaryFailed,
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
const fn is_one(n: &u32) -> bool {
    *n == 1
}
