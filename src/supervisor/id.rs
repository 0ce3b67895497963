//! Owns identity. Slots have names, processes have generations; pids stay in the runtime.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A pool, for as long as its name is in the config. Never reused for another name within one master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolId(pub u32);

/// One process of a pool: the `generation`-th that the slot has had. A late fact about an older generation is recognised
/// by it and dropped, so that a reused pid can hurt nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId {
    /// The pool it belongs to.
    pub pool: PoolId,
    /// Its place in the pool, from 0; stable across restarts.
    pub slot: u32,
    /// Counts the processes of this slot, from 1.
    pub generation: u32,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.pool.0, self.slot, self.generation)
    }
}
