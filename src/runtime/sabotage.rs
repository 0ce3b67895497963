//! Owns the panics that a test may order: there is no other way to see that one in the loop orphans nobody. Only builds with debug
//! assertions listen to it; a release has no such door.

use std::ffi::OsString;

use crate::supervisor::signal_number;

/// Names a signal: the master panics in the turn that reads it. With `,again` after it, once more while it stops the workers. `RESUME`: a program
/// that takes the place of another one panics in the middle of it.
const VARIABLE: &str = "POOLMASTER_TEST_PANIC";

/// Where to panic; by default nowhere.
#[derive(Debug, Default)]
pub(super) struct Sabotage {
    signal: Option<i32>,
    again: bool,
    resume: bool,
}

impl Sabotage {
    /// What the environment of the master asks for.
    pub(super) fn of(environment: &[(OsString, OsString)]) -> Sabotage {
        if !cfg!(debug_assertions) {
            return Sabotage::default();
        }
        let Some((_, order)) = environment.iter().find(|(name, _)| name == VARIABLE) else { return Sabotage::default() };
        let order = order.to_string_lossy();
        let (signal, rest) = order.split_once(',').unwrap_or((&order, ""));
        Sabotage { signal: signal_number(signal), again: rest == "again", resume: signal == "RESUME" }
    }

    /// A signal was read.
    pub(super) fn on_signal(&self, signal: i32) {
        assert!(self.signal != Some(signal), "ordered by {VARIABLE}");
    }

    /// All that another program has left is taken.
    pub(super) fn on_resume(&self) {
        assert!(!self.resume, "ordered by {VARIABLE}");
    }

    /// The workers were signalled because of a panic.
    pub(super) fn on_stop(&self) {
        assert!(!self.again, "ordered a second time by {VARIABLE}");
    }
}
