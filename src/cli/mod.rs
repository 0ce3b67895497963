//! The command line: one file per verb.

use std::path::PathBuf;

pub mod check;
pub mod config;

/// What a verb is given of its surroundings.
#[derive(Clone, Debug)]
pub struct Context {
    /// The process environment.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub cwd: PathBuf,
    /// stdout is a terminal.
    pub tty: bool,
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Usage or config error.
    Usage = 2,
    /// Rolled back; from `run`: a worker could not boot.
    RolledBack = 3,
    /// No master reachable; from `run`: a worker could not load its app.
    NoMaster = 4,
    /// Timed out while work goes on.
    TimedOut = 5,
    /// Not permitted.
    NotPermitted = 6,
    /// Refused by an invariant.
    Refused = 7,
    /// Internal error.
    Internal = 70,
}
