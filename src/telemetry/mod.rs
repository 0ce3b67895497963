//! The master's log, and what workers write: both go through one thread of their own, so that a slow or full disk never stops
//! supervision.

mod format;
mod lines;
mod log;
mod queue;
mod sink;
pub mod systemd;

pub use lines::{Lines, Tail, printable, turns_text, without_turns};
pub use log::{Batch, Log, LogError, LogOptions, PreparedLog, Relay, Source};

#[cfg(test)]
mod tests;
