//! `retry`: no more waiting for the next try.

use super::{Answer, Session, Waiting};
use crate::client::ClientError;
use crate::protocol::{Request, RetryParameters, parse_pool};

/// Clear a pool's back-off and try now
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  poolmaster retry jobs          after the cause is mended; returns once it is ready")]
pub struct Args {
    /// Which pool
    #[arg(value_parser = parse_pool)]
    pub pool: String,

    /// Patience.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Gives the order.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let (wait, timeout_ms) = (!args.waiting.no_wait, session.timeout_ms());
    session.order(Request::Retry(RetryParameters { pool: args.pool.clone(), wait, timeout_ms }))
}
