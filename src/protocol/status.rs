//! Owns what a master tells of its pools and workers. Times are given as ages, in milliseconds: two processes share no clock.

use serde::{Deserialize, Serialize};

use super::{ProgressReply, ReloadFailure};
use crate::supervisor::{Phase, WorkerState};

/// Where a master is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MasterPhase {
    /// It keeps its pools.
    Running,
    /// It is on its way down.
    Stopping,
}

/// Reply to `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReply {
    /// Instance name.
    pub instance: String,
    /// The master's version.
    pub version: String,
    /// The master's pid.
    pub pid: i32,
    /// Its config file; `None`: only flags.
    #[serde(default)]
    pub config: Option<String>,
    /// Number of the config in force, from 1.
    pub revision: u32,
    /// Its control socket.
    pub socket: String,
    /// Age of the master.
    pub uptime_ms: u64,
    /// Where it is in its life.
    pub phase: MasterPhase,
    /// The pool that TTIN and TTOU act on.
    #[serde(default)]
    pub default_pool: Option<String>,
    /// A reload under way, and where its pools are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<ProgressReply>,
    /// The last reload failed; `None` from the next one on that succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_failed: Option<ReloadFailure>,
    /// The pools asked for, in the order of the config.
    pub pools: Vec<PoolStatus>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Workers wanted: the operator's number, or else the config's.
    pub target: u32,
    /// The config's number.
    pub config_workers: u32,
    /// The operator's number, when there is one.
    #[serde(default)]
    pub operator: Option<u32>,
    /// Lower bound.
    pub min: u32,
    /// Upper bound; `None`: none.
    #[serde(default)]
    pub max: Option<u32>,
    /// Below this many ready workers the pool is degraded.
    pub min_ready: u32,
    /// Workers not yet ready.
    pub starting: u32,
    /// Ready workers, not stopping.
    pub ready: u32,
    /// Workers being stopped.
    pub stopping: u32,
    /// All processes.
    pub live: u32,
    /// Workers replaced without anybody asking, since the master started.
    pub restarts: u64,
    /// Workers still to be replaced by a running roll.
    pub rolling: u32,
    /// The next attempt to start a worker, while one is held back.
    #[serde(default)]
    pub retry_in_ms: Option<u64>,
    /// Why the pool is where it is, when that is not normal life.
    #[serde(default)]
    pub why: Option<String>,
    /// Addresses, in the order of the descriptors.
    #[serde(default)]
    pub listeners: Vec<String>,
    /// The master ends when this pool cannot boot.
    pub required: bool,
    /// It should have more ready workers than it has (`ready < min_ready` of a pool that runs).
    pub degraded: bool,
    /// Its workers by slot and generation, when asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerStatus>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its place in the pool.
    pub slot: u32,
    /// Counts the processes of the slot, from 1.
    pub generation: u32,
    /// Its process; `None` while it is being forked.
    #[serde(default)]
    pub pid: Option<i32>,
    /// Where it is in its life.
    pub state: WorkerState,
    /// Time in that state.
    pub since_ms: u64,
    /// Time since the fork.
    pub age_ms: u64,
    /// The config it was started from.
    pub revision: u32,
    /// It runs beside the worker that it will replace.
    #[serde(default)]
    pub incoming: bool,
    /// Heartbeat timeout in force; `None`: none asked for.
    #[serde(default)]
    pub heartbeat_timeout_ms: Option<u64>,
    /// Time since its last heartbeat; `None`: none seen.
    #[serde(default)]
    pub beat_ago_ms: Option<u64>,
    /// Why it is being stopped, in words.
    #[serde(default)]
    pub stopping: Option<String>,
    /// The next, harder step (KILL, as a rule) comes then.
    #[serde(default)]
    pub deadline_in_ms: Option<u64>,
    /// What it counts as ready by, while it does not.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// What it said last of its load (X_POOLMASTER_BUSY=): `3/8`, so many of so many at once.
    #[serde(default)]
    pub busy: Option<String>,
    /// Its last STATUS=.
    #[serde(default)]
    pub status: Option<String>,
    /// Resident memory of its leader, in bytes.
    #[serde(default)]
    pub rss_bytes: Option<u64>,
}

impl WorkerStatus {
    /// A heartbeat is asked of it, and it never sent one: it is not watched (until the first beat arms the timeout).
    pub fn no_heartbeat_seen(&self) -> bool {
        self.heartbeat_timeout_ms.is_some() && self.beat_ago_ms.is_none()
    }
}

/// Reply to `ps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PsReply {
    /// Instance name.
    pub instance: String,
    /// The master's pid.
    pub pid: i32,
    /// Age of the master.
    pub uptime_ms: u64,
    /// Its resident memory, in bytes.
    #[serde(default)]
    pub rss_bytes: Option<u64>,
    /// All workers, in the order of the config, by slot and generation.
    pub workers: Vec<PsEntry>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PsEntry {
    /// Its pool.
    pub pool: String,
    /// The rest.
    #[serde(flatten)]
    pub worker: WorkerStatus,
}
