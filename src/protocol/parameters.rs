//! Owns the parameters of each method. An unknown one is an error, never ignored.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Pools, Selector, text};
use crate::supervisor::{Condition, ScaleChange};

/// How long a client waits for an effect. On the wire two parameters of every method with long work:
/// `wait` (default true) and `timeout_ms` (default none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// False: answer with success as soon as the order is taken.
    pub wait: bool,
    /// Answer `TimedOut` after this long, while the work goes on.
    pub timeout: Option<Duration>,
}

impl Patience {
    /// Waits as long as it takes.
    pub const UNBOUNDED: Patience = Patience { wait: true, timeout: None };

    pub(super) fn of(wait: bool, timeout_ms: Option<u64>) -> Patience {
        Patience { wait, timeout: timeout_ms.map(Duration::from_millis) }
    }
}

fn yes() -> bool {
    true
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_true(b: &bool) -> bool {
    *b
}

/// Of `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatusParameters {
    /// Only this pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// List each pool's workers too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub workers: bool,
}

/// Of `ps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PsParameters {
    /// Only this pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// Of `health`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthParameters {
    /// Only this pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// Of `listeners`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenersParameters {
    /// Only this pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// Of `scale`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleParameters {
    /// Which pool.
    pub pool: String,
    /// `+1`, `-2`, `6`, `50%` or `config`.
    #[serde(with = "text::scale")]
    pub change: ScaleChange,
    /// See [`Patience`].
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub wait: bool,
    /// See [`Patience`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Of `stop` and `start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolsParameters {
    /// Which pools.
    pub pools: Pools,
    /// See [`Patience`].
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub wait: bool,
    /// See [`Patience`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Of `restart`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartParameters {
    /// Which pools and slots; at least one.
    pub targets: Vec<Selector>,
    /// See [`Patience`].
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub wait: bool,
    /// See [`Patience`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Of `kill`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillParameters {
    /// Which workers.
    pub target: Selector,
    /// The signal's number; a name such as `TERM` on the wire.
    #[serde(with = "text::signal")]
    pub signal: i32,
}

/// Of `wait`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitParameters {
    /// Which pool.
    pub pool: String,
    /// `ready`, `stopped` or `count=3`.
    #[serde(rename = "for", with = "text::condition")]
    pub until: Condition,
    /// See [`Patience`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Of `retry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryParameters {
    /// Which pool.
    pub pool: String,
    /// See [`Patience`].
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub wait: bool,
    /// See [`Patience`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Of `reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadParameters {
    /// Replace the workers of unchanged pools too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
    /// Only these pools, which may be new in the config. Empty: all, and the master's own settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<String>,
    /// See [`Patience`].
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub wait: bool,
    /// See [`Patience`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Of `plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanParameters {
    /// Absolute path of another config file than the master's own. For root and the master's user only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// As of `reload`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
    /// As of `reload`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<String>,
}

/// Of `abort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbortParameters {
    /// See [`Patience`].
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub wait: bool,
    /// See [`Patience`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Of `upgrade`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeParameters {
    /// The program, by its path; without it, the one that the master was started as, found anew. For root and the master's own user alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// Wait for the end of a reload, a roll or a hook, instead of being refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub wait_for_rest: bool,
    /// How long it all may take; 20 s without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Of `rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackParameters {
    /// See [`Patience`].
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub wait: bool,
    /// See [`Patience`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Of `shutdown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownParameters {
    /// Quick stop instead of a graceful one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub now: bool,
    /// See [`Patience`].
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub wait: bool,
    /// See [`Patience`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}
