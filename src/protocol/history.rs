//! Owns what is told of earlier configs.

use serde::{Deserialize, Serialize};

pub use crate::supervisor::Ended;

/// Reply to `history`: the last 20 configs, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryReply {
    /// Number of the config in force.
    pub revision: u32,
    /// Them.
    pub configs: Vec<HistoryEntry>,
}

/// One config that was tried, or refused before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its number. Absent: it was refused before it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// When it was read: seconds since 1970 in UTC, by the clock of now.
    pub at: u64,
    /// Who wanted it.
    pub by: Vec<String>,
    /// What it changes: keys with the old and the new value, pools that come or go. The first 12 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// How it ended. Absent: it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// How long that took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// The end in words: the reason, where it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub words: String,
}
