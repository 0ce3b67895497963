//! Owns the vocabulary of what can happen. Facts only: what follows from them is decided elsewhere in this room.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ExitStatus, MasterSpec, PoolId, PoolSpec, WorkerId};

/// One fact, handed to [`super::Supervisor::handle`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A validated config is to be put in force. The first event of a master, and the answer to `Action::ReadConfig`.
    Configure {
        /// Counts the configs of this master, from 1.
        revision: u32,
        /// The revision that was in force when `roll` was found out; 0 for the first config.
        #[serde(default)]
        base: u32,
        /// Settings of the master itself.
        master: MasterSpec,
        /// All pools, in the order in which they are started.
        pools: Vec<PoolSpec>,
        /// Pools that are in force already and whose workers this config makes outdated (not for the first config). The others go on with
        /// their workers, under the settings of this config.
        #[serde(default)]
        roll: Vec<PoolId>,
        /// What it changes, in words, one line each: for the history.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changes: Vec<String>,
    },
    /// The answer to `Action::ReadConfig` when the config cannot be used: nothing changes.
    ConfigRejected {
        /// What is wrong, in words.
        reason: String,
        /// The config itself is wrong (false: the host does not let it be put in force).
        #[serde(default)]
        invalid: bool,
    },
    /// The answer to `Action::PreStart`.
    PreStarted {
        /// Which pool.
        pool: PoolId,
        /// Under which revision.
        revision: u32,
        /// Why it did not work; `None`: it did.
        failed: Option<String>,
    },
    /// What comes before the worker's fork is done (only where `PoolSpec::prepares`): its time to start begins.
    Prepared {
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker's program runs (its exec succeeded).
    Spawned {
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker never came to run its program; there is no process.
    SpawnFailed {
        /// Which worker.
        worker: WorkerId,
        /// What went wrong.
        error: SpawnError,
    },
    /// The worker said something on its notify socket.
    Notified {
        /// Which worker.
        worker: WorkerId,
        /// What it said.
        message: Notification,
    },
    /// The answer to `Action::Look`.
    Looked {
        /// Which worker.
        worker: WorkerId,
        /// The kernel shows it waiting on one of its listeners.
        accepting: bool,
    },
    /// The worker's leader process has ended and was reaped.
    Exited {
        /// Which worker.
        worker: WorkerId,
        /// How.
        status: ExitStatus,
        /// Other processes of its group are still there; `GroupGone` will follow.
        stragglers: bool,
    },
    /// The last process of the worker's group is gone (only after `Exited` with stragglers).
    GroupGone {
        /// Which worker.
        worker: WorkerId,
    },
    /// The answer to `Action::Release`: nothing keeps the worker any more.
    Released {
        /// Which worker.
        worker: WorkerId,
    },
    /// `Action::Signal` was carried out: the kernel took it, or there is no process (any more) that could be sent one.
    Signalled {
        /// Which worker.
        worker: WorkerId,
        /// The signal.
        signal: i32,
    },
    /// `Action::Signal` could not be delivered. A process that is already gone (ESRCH) is no error: its exit follows.
    SignalFailed {
        /// Which worker.
        worker: WorkerId,
        /// The signal.
        signal: i32,
        /// The kernel's errno.
        errno: i32,
    },
    /// A signal to the master.
    Signal {
        /// Which.
        signal: MasterSignal,
        /// Who sent it.
        sender: Sender,
    },
    /// Scale signals of one turn of the loop, summed for one pool.
    ScaleSignals {
        /// Which pool.
        pool: PoolId,
        /// Ups less downs.
        by: i64,
        /// The last sender.
        sender: Sender,
    },
    /// The pool's restart signal.
    RestartSignal {
        /// Which pool.
        pool: PoolId,
        /// Who sent it.
        sender: Sender,
    },
    /// A control client asks for something.
    Command {
        /// Names the request; answered by exactly one `Action::Reply`, unless it is abandoned.
        id: CommandId,
        /// What is asked.
        command: Command,
        /// Who asks.
        sender: Sender,
        /// Answer "timed out, work goes on" after this long. `None`: wait for the effect.
        timeout: Option<Duration>,
    },
    /// The client that sent the command is gone: no reply is wanted, the work goes on.
    Abandoned {
        /// Which request.
        id: CommandId,
    },
    /// After `Action::Quiesce`: no connection waits at a listener any more.
    Quiet,
    /// Look at the clock: a deadline may have passed.
    Tick,
    /// This turn comes so much later than its deadline that the host must have been suspended or the master stopped:
    /// silence of workers in that time is no sign of sickness.
    Late {
        /// How much later.
        by: Duration,
    },
}

/// Why a worker did not come to run its program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnError {
    /// Whose fault it is, which decides what follows.
    pub fault: SpawnFault,
    /// The kernel's errno, 0 where there is none.
    pub errno: i32,
    /// The attempt, the object and the cause, in words: `cannot execute "uvicorn": not found in PATH`.
    pub message: String,
}

/// Whose fault a failed spawn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpawnFault {
    /// The host or the master lacks something (fork EAGAIN, EMFILE, ENOMEM, a full disk): retried, never held against the pool.
    Resources,
    /// A step between fork and exec failed (working directory, ...): counts as an early death.
    Setup,
    /// The program cannot be executed (ENOENT, EACCES, ENOEXEC ...): before any worker was good this fails the pool at once.
    Exec,
}

/// What a worker said by sd_notify(3), one field at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notification {
    /// READY=1
    Ready,
    /// RELOADING=1
    Reloading,
    /// STOPPING=1: the replacement may start before it is gone.
    Stopping,
    /// WATCHDOG=1
    Beat,
    /// WATCHDOG=trigger: the worker itself says that it is sick.
    Trigger,
    /// WATCHDOG_USEC=: a new heartbeat timeout. Zero: none.
    Timeout(Duration),
    /// EXTEND_TIMEOUT_USEC=: the current phase (start or stop) may last this long from now.
    Extend(Duration),
    /// STATUS=, made printable and bounded by the runtime.
    Status(String),
    /// X_POOLMASTER_BUSY=3/8: so much of what it can do at once is being done.
    Busy {
        /// Requests under way, or whatever it counts.
        busy: u32,
        /// As many as it can do at once.
        of: u32,
    },
    /// RESTART_RESET=1: its earlier failures are no measure any more.
    RestartReset,
    /// MAINPID=: it says that another process is its main one.
    MainPid(i32),
}

/// A signal to the master, by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MasterSignal {
    /// Graceful stop; again: one step harder.
    Term,
    /// Quick stop; again: one step harder.
    Int,
    /// As INT.
    Quit,
    /// Re-read the config, replace workers.
    Hup,
    /// One worker more in the default pool.
    Ttin,
    /// One worker fewer in the default pool.
    Ttou,
    /// Reopen log files.
    Usr1,
    /// A second master (not in this version).
    Usr2,
    /// Park all pools; the runtime reports it only when the master has no controlling terminal.
    Winch,
}

impl MasterSignal {
    /// The name without "SIG", as in signal(7).
    pub fn name(self) -> &'static str {
        match self {
            MasterSignal::Term => "TERM",
            MasterSignal::Int => "INT",
            MasterSignal::Quit => "QUIT",
            MasterSignal::Hup => "HUP",
            MasterSignal::Ttin => "TTIN",
            MasterSignal::Ttou => "TTOU",
            MasterSignal::Usr1 => "USR1",
            MasterSignal::Usr2 => "USR2",
            MasterSignal::Winch => "WINCH",
        }
    }
}

/// Who sent a signal or a command, as far as the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// Process id; 0: the kernel, or a terminal; [`Sender::OUTSIDE`].
    pub pid: i32,
    /// User id.
    pub uid: u32,
}

impl Sender {
    /// The number of a process that has none here: it is of another pid namespace.
    pub const OUTSIDE: i32 = -1;
}

/// Names one request of one control client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub u64);

/// What a control client asks of the core. Questions about state are answered by the runtime from views, without an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Change the operator's number of a pool. Done when the wanted workers are ready and the surplus is gone.
    Scale {
        /// Which pool.
        pool: PoolId,
        /// To what.
        change: ScaleChange,
    },
    /// Stop these pools gracefully and keep them stopped. Done when their workers are gone.
    Stop {
        /// Which.
        pools: Vec<PoolId>,
    },
    /// Start these pools (also failed, completed or parked ones). Done when they are ready.
    Start {
        /// Which.
        pools: Vec<PoolId>,
    },
    /// Replace these workers a few at a time, new ones good before old ones stop. Done when all are replaced.
    Restart {
        /// Which.
        targets: Vec<Target>,
    },
    /// Send a signal to these workers; what follows is up to them. Done when it is sent.
    Kill {
        /// Which.
        target: Target,
        /// The signal's number.
        signal: i32,
    },
    /// Done when the pool is in this condition.
    Wait {
        /// Which pool.
        pool: PoolId,
        /// The condition.
        until: Condition,
    },
    /// Clear the back-off and try now.
    Retry {
        /// Which pool.
        pool: PoolId,
    },
    /// Re-read the config and put it in force as one transaction. Done when the old workers that it replaces are gone.
    Reload {
        /// Replace the workers of unchanged pools too.
        restart: bool,
        /// Only these pools. Empty: all, and the master's own settings.
        pools: Vec<PoolId>,
    },
    /// Undo what is ordered and not in force yet. Done when its canaries are gone.
    Abort,
    /// Put the last good config before the one in force in force again, as a reload.
    Rollback,
    /// Reopen log files, pass it on to workers that ask for it.
    Reopen,
    /// End the master; `now` is the quick way. Done when everything is down.
    Shutdown {
        /// Quick stop.
        now: bool,
    },
}

/// A change of the operator's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleChange {
    /// So many more or fewer.
    By(i64),
    /// Exactly so many.
    To(u32),
    /// Per cent of `scale.max`.
    Percent(u32),
    /// Back to the config's number.
    Config,
}

/// A pool, or one slot of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// The pool.
    pub pool: PoolId,
    /// `None`: all its slots.
    pub slot: Option<u32>,
}

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// All wanted workers are ready.
    Ready,
    /// No process of the pool is left.
    Stopped,
    /// Exactly so many workers are ready.
    Count(u32),
    /// No reload is under way, none of its workers is being replaced, and all are good.
    Settled,
}
