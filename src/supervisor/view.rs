//! Owns what others may see of the core: copies and references, made on demand, never a way to change anything.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PoolId, PoolSpec, Reason, Time, WorkerId};

/// Where a pool is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits for the pools it is started after.
    Waiting,
    /// Keeps its workers.
    Running,
    /// The budget is spent: one probe at a time.
    BackingOff,
    /// Stopped by an operator, or never started (`autostart = false`).
    Stopped,
    /// Parked by WINCH: workers stopped, listeners open.
    Parked,
    /// Could not boot, or gave up.
    Failed,
    /// All its finite jobs ended well.
    Completed,
    /// Left the config; its last workers are stopping.
    Removed,
}

impl Phase {
    /// The phase in a word or two, for sentences.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Waiting => "waiting",
            Phase::Running => "running",
            Phase::BackingOff => "backing off",
            Phase::Stopped => "stopped",
            Phase::Parked => "parked",
            Phase::Failed => "failed",
            Phase::Completed => "completed",
            Phase::Removed => "removed",
        }
    }
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// Forked; its program does not run yet.
    Spawning,
    /// Its program runs; not ready yet.
    Starting,
    /// Ready, not yet settled.
    Ready,
    /// Ready and settled.
    Good,
    /// Has to go: what comes before its stop signal is being done (its queue is served, `pre_stop` runs).
    Leaving,
    /// Was told to stop.
    Stopping,
    /// Was sent ABRT: its heartbeat stopped.
    Aborting,
    /// Was sent KILL.
    Killed,
    /// Its leader is gone, other processes of its group are still there.
    Lingering,
}

/// How far a transaction is, or one pool in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadStage {
    /// Nothing yet: another pool, or the config itself, comes first.
    Waiting,
    /// A canary is tried, nothing is committed.
    Canary,
    /// The workers are replaced.
    Rolling,
    /// All are replaced and watched.
    Baking,
    /// The new workers are good, old ones are still stopping.
    Draining,
    /// It failed, and what was before comes back.
    RollingBack,
    /// Nothing is left to do.
    Done,
}

impl ReloadStage {
    /// The stage in a word or two, for sentences.
    pub fn word(self) -> &'static str {
        match self {
            ReloadStage::Waiting => "waiting",
            ReloadStage::Canary => "canary",
            ReloadStage::Rolling => "rolling",
            ReloadStage::Baking => "baking",
            ReloadStage::Draining => "draining",
            ReloadStage::RollingBack => "rolling back",
            ReloadStage::Done => "done",
        }
    }
}

/// How far the replacing of a pool's workers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolProgress {
    /// Which pool.
    pub pool: PoolId,
    /// How far it is.
    pub stage: ReloadStage,
    /// Workers that are replaced.
    pub replaced: u32,
    /// Workers that are or were to be replaced.
    pub total: u32,
    /// New workers that are not good yet.
    pub starting: u32,
    /// Old workers that are stopping.
    pub draining: u32,
    /// How long the others will take to be replaced, by the starts seen so far. `None`: nothing is to be replaced, or nothing is known.
    pub left: Option<Duration>,
}

impl PoolProgress {
    pub(super) fn none(pool: PoolId) -> PoolProgress {
        PoolProgress { pool, stage: ReloadStage::Waiting, replaced: 0, total: 0, starting: 0, draining: 0, left: None }
    }
}

/// What one can know of a pool.
#[derive(Clone, Debug)]
pub struct PoolView<'a> {
    /// Its spec.
    pub spec: &'a PoolSpec,
    /// Where it is in its life.
    pub phase: Phase,
    /// Wanted workers, by operator or config (what it would be if it were not stopped or parked).
    pub target: u32,
    /// The operator's number, when there is one.
    pub operator: Option<u32>,
    /// Workers forked and not yet ready.
    pub starting: u32,
    /// Ready workers (good ones included), not stopping.
    pub ready: u32,
    /// Workers being stopped, in whatever way.
    pub stopping: u32,
    /// All processes there are.
    pub live: u32,
    /// Workers that were restarted without anybody asking, since the master started.
    pub restarts: u64,
    /// Workers still to be replaced by a running roll.
    pub rolling: u32,
    /// How long its workers take to get ready, on average; `None`: none has yet.
    pub start_takes: Option<Duration>,
    /// When the next attempt to start a worker comes, while one is held back.
    pub retry_at: Option<Time>,
    /// Why the pool is where it is, when that is not normal life.
    pub why: Option<&'a str>,
}

/// What one can know of a worker.
#[derive(Clone, Debug)]
pub struct WorkerView<'a> {
    /// Its identity.
    pub id: WorkerId,
    /// Where it is in its life.
    pub state: WorkerState,
    /// Since when.
    pub since: Time,
    /// The fork.
    pub started: Time,
    /// The config revision it was started from.
    pub revision: u32,
    /// When it became ready.
    pub ready_at: Option<Time>,
    /// The deadline of its state.
    pub deadline: Option<Time>,
    /// Its last heartbeat. `None`: none seen.
    pub last_beat: Option<Time>,
    /// The heartbeat timeout in force for it.
    pub timeout: Option<Duration>,
    /// Why it is being stopped.
    pub stopping: Option<Reason>,
    /// It runs beside the worker that it will replace.
    pub incoming: bool,
    /// Its last X_POOLMASTER_BUSY=: so many of so many.
    pub busy: Option<(u32, u32)>,
    /// Its last STATUS=.
    pub status: Option<&'a str>,
}
