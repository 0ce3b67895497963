//! Owns the entry points of the core.

use super::view::{PoolView, WorkerView};
use super::{Action, Event, PoolId, Time};

/// Everything the core knows.
#[derive(Debug)]
pub struct Supervisor {}

impl Supervisor {
    /// An empty core; `seed` feeds the jitter of back-off.
    pub fn new(_seed: u64) -> Supervisor {
        Supervisor {}
    }

    /// Takes one fact, appends what has to be done about it.
    pub fn handle(&mut self, _now: Time, _event: Event, _out: &mut Vec<Action>) {}

    /// When to call again with [`Event::Tick`] if nothing happens. `None`: nothing can change by waiting.
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// All pools, in config order.
    pub fn pools(&self) -> Vec<PoolView<'_>> {
        Vec::new()
    }

    /// All workers of a pool, by slot and generation.
    pub fn workers(&self, _pool: PoolId) -> Vec<WorkerView<'_>> {
        Vec::new()
    }
}
