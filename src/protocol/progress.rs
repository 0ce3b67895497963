//! Owns what is told of workers being replaced while it goes on.

use serde::{Deserialize, Serialize};

pub use crate::supervisor::ReloadStage;

/// A reply of `restart`, `reload` and `rollback` before the last one (`continues`), to who asks for `more`; and a part of `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressReply {
    /// How far it is.
    pub stage: ReloadStage,
    /// Number of the config that is to come, or to stay.
    pub revision: u32,
    /// The pools that take part, in the order of the config.
    pub pools: Vec<PoolProgress>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolProgress {
    /// Its name.
    pub name: String,
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
    /// How long the others will take to be replaced, by the starts seen so far. Absent: none are, or nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

/// The last reload that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReloadFailure {
    /// Age of the failure.
    pub ago_ms: u64,
    /// Why, and what became of it.
    pub reason: String,
}
