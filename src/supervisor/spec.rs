//! Owns the shape of what the core is told to keep: validated, resolved, without anything about *how* a worker is started
//! (command, environment and sockets stay in the runtime, found by pool and revision).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PoolId;

/// What the core has to know of the master itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MasterSpec {
    /// The pool that TTIN and TTOU act on. `None`: the only pool, and with several of them a warning.
    pub default_pool: Option<PoolId>,
    /// Bound on a whole graceful shutdown; after it every process group is killed.
    pub graceful_timeout: Duration,
    /// When the master ends by itself.
    pub exit_when: ExitWhen,
    /// WINCH parks all pools (false: ignored, as it always is with a controlling terminal).
    pub winch_parks: bool,
    /// What HUP does.
    #[serde(default)]
    pub hup: OnHup,
    /// A graceful shutdown lets the workers serve what waits at the listeners, at most this long, before it stops them.
    #[serde(default)]
    pub linger: Duration,
}

/// What HUP does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnHup {
    /// Re-reads the config and replaces all workers, changed or not.
    #[default]
    Restart,
    /// Re-reads the config and replaces only what changed.
    Reload,
    /// Nothing.
    Ignore,
}

/// When the master ends without being told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitWhen {
    /// Never.
    Never,
    /// Each pool is failed or completed, or a required pool failed to boot.
    AllDown,
    /// A required pool failed.
    RequiredFailed,
}

/// One pool, resolved from all layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Stable while the name is in the config.
    pub id: PoolId,
    /// The name in the config.
    pub name: String,
    /// The config's worker count; an operator's `scale` is kept apart from it.
    pub workers: u32,
    /// Lower bound for signals and automatics (at least 1 for signals), 0 allowed.
    pub min: u32,
    /// Upper bound for everything. `None`: no bound.
    pub max: Option<u32>,
    /// Which worker a scale-down takes first.
    pub remove: Remove,
    /// The master ends when this pool cannot boot.
    pub required: bool,
    /// What a spent budget means while no worker was ever good.
    pub boot: OnBootFailure,
    /// Started only once these pools are ready, stopped before them.
    pub after: Vec<PoolId>,
    /// False: stays stopped until an operator starts it.
    pub autostart: bool,
    /// How a worker is known to be ready ("auto" is resolved by then).
    pub ready: ReadyKind,
    /// Hooks come before a worker's start, which have limits of their own.
    #[serde(default)]
    pub prepares: bool,
    /// For so long; several times that are granted, and more with more workers, for they wait their turn. `None`: without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<Duration>,
    /// One of them comes before the first worker under each config.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pre_start: bool,
    /// From the fork; not ready by then: stopped and counted as a boot failure.
    pub start_timeout: Duration,
    /// A worker that has been ready this long is *good*.
    pub settle: Duration,
    /// Exit codes that mean "cannot boot" while the worker is not good.
    pub boot_error_codes: Vec<i32>,
    /// Workers that may be starting at once. `None`: no limit.
    pub max_starting: Option<u32>,
    /// Least time between two spawns of this pool.
    pub spawn_interval: Duration,
    /// Heartbeat: longest silence. `None`: off.
    pub timeout: Option<Duration>,
    /// What arms the heartbeat.
    pub timeout_from: TimeoutFrom,
    /// From ABRT to KILL of a worker whose heartbeat stopped.
    pub abort_grace: Duration,
    /// What is done for a worker before it is told to stop (its queue is served, `pre_stop` is run) may take this long; `None`: nothing is.
    #[serde(default)]
    pub release: Option<Duration>,
    /// The same for who waits at a listener that leaves the config, when a worker is replaced or its pool removed.
    #[serde(default)]
    pub farewell: Option<Duration>,
    /// The stop signal and the waits after each further one; KILL always ends it. Never empty.
    pub stop: Vec<StopStep>,
    /// Sent on a quick stop.
    pub quick_signal: i32,
    /// From the quick signal to KILL.
    pub quick_timeout: Duration,
    /// Whom signals reach.
    pub kill_mode: KillMode,
    /// Passed on at USR1 and `reopen`. `None`: workers are not told.
    pub reopen_signal: Option<i32>,
    /// With fewer ready workers the pool is degraded.
    pub min_ready: u32,
    /// What follows an exit.
    pub restart: Restart,
    /// How workers are replaced.
    pub rollout: Rollout,
}

impl PoolSpec {
    /// Canaries that it gets for so many workers. Beside old workers never more than may run beyond the wanted count.
    pub fn canaries(&self, target: u32) -> u32 {
        let surge = self.rollout.max_surge.of(target);
        let room = if surge > 0 { surge } else { self.rollout.max_unavailable.of(target).max(1) };
        self.rollout.canary.min(target).min(room)
    }
}

/// One step of stopping a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopStep {
    /// The signal to send.
    pub signal: i32,
    /// How long to wait for the exit before the next step, or before KILL.
    pub wait: Duration,
}

/// Order in which a scale-down takes workers. Slots without a live worker always go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remove {
    /// Longest-running worker first.
    Oldest,
    /// Last started first.
    Newest,
    /// Highest slot number first.
    HighestSlot,
}

/// What a spent failure budget means before any worker of the pool was good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBootFailure {
    /// The pool is failed.
    Fail,
    /// It keeps probing, for things that wait for another service.
    Retry,
}

/// How the master knows that a worker is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyKind {
    /// As soon as its program runs.
    Exec,
    /// When a look shows it: the kernel sees it wait on one of its listeners, or what was looked at from outside answers.
    Accepting,
    /// When it says READY=1.
    Notify,
    /// READY=1 or seen accepting, whichever comes first; still alive at `start_timeout` counts as ready, with a warning.
    NotifyOrAccepting,
    /// This long after its program runs.
    Delay(Duration),
}

impl ReadyKind {
    /// Something has shown that the worker serves: itself, or the kernel.
    pub fn proves(self) -> bool {
        match self {
            ReadyKind::Notify | ReadyKind::NotifyOrAccepting | ReadyKind::Accepting => true,
            ReadyKind::Exec | ReadyKind::Delay(_) => false,
        }
    }

    /// READY=1 counts for each kind but a fixed delay and exec, which is ready by then anyhow; `accepting` is proof by the kernel only.
    pub(super) fn listens(self) -> bool {
        match self {
            ReadyKind::Notify | ReadyKind::NotifyOrAccepting => true,
            ReadyKind::Exec | ReadyKind::Accepting | ReadyKind::Delay(_) => false,
        }
    }
}

/// Whom the signals of a stop reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillMode {
    /// The worker's leader; what it has started is nobody's business.
    Process,
    /// The leader. What is left of its process group when it is gone is told then, and KILL is for all.
    Mixed,
    /// The whole process group at once.
    Group,
}

/// What arms the heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeoutFrom {
    /// The first beat: a program that never beats is never killed for it.
    FirstBeat,
    /// Readiness.
    Ready,
}

/// What follows an exit that nobody asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// Which exits are followed by a new worker.
    pub policy: RestartPolicy,
    /// Exit codes that are a success.
    pub success_codes: Vec<i32>,
    /// Waits between early deaths of one slot, and between probes.
    pub backoff: Backoff,
    /// Early deaths that a pool may have before it is backing off.
    pub budget: Budget,
    /// Failed probes in back-off until the pool is finally failed. 0: never.
    pub give_up_after: u32,
}

/// Which exits are followed by a new worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Each.
    Always,
    /// Those that are no success.
    OnFailure,
    /// None.
    Never,
}

/// Exponential waits: `first`, `base`, `base x factor`, ... up to `max`, each spread by `jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// Wait before the first retry.
    pub first: Duration,
    /// Wait before the second.
    pub base: Duration,
    /// Growth from then on, at least 1.
    pub factor: f64,
    /// Cap, jitter included.
    pub max: Duration,
    /// Fraction of the wait by which it is spread at random, 0 to 1.
    pub jitter: f64,
    /// A worker that was ready this long clears its slot's count.
    pub reset_after: Duration,
}

/// At most `failures` early deaths in any stretch of `within`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The death that makes it this many opens the breaker.
    pub failures: u32,
    /// The stretch they are counted in.
    pub within: Duration,
}

/// How workers are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Workers that may run beyond the wanted count.
    pub max_surge: Share,
    /// Wanted workers that may be missing.
    pub max_unavailable: Share,
    /// New workers that have to get good before a reload is committed. 0: it is committed untried.
    #[serde(default = "one")]
    pub canary: u32,
    /// New workers in a row that do not get good: the roll stops.
    pub failures: u32,
    /// What follows a roll that stopped.
    #[serde(default)]
    pub on_failure: OnRollFailure,
    /// How long canaries are watched before the commit, and the whole new generation after the roll.
    #[serde(default)]
    pub bake: Duration,
    /// Old generations that may live at once; those beyond are stopped quickly, the oldest first.
    #[serde(default = "two")]
    pub max_old_generations: u32,
}

fn one() -> u32 {
    1
}

fn two() -> u32 {
    2
}

/// What follows a roll that stopped because its new workers did not get good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRollFailure {
    /// The last good config is put in force again.
    #[default]
    Rollback,
    /// It stays where it is: the old workers that are left keep serving.
    Halt,
}

/// A number of workers, or a part of the wanted count (rounded up).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// So many.
    Count(u32),
    /// Per cent of the wanted count.
    Percent(u32),
}

impl Share {
    /// The number it means for a pool that wants `target` workers.
    pub fn of(self, target: u32) -> u32 {
        match self {
            Share::Count(n) => n,
            Share::Percent(p) => u32::try_from((u64::from(target) * u64::from(p)).div_ceil(100)).unwrap_or(u32::MAX),
        }
    }
}
