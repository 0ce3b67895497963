//! `wait`: until a pool is as somebody needs it.

use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::{Request, WaitParameters, parse_condition, parse_pool};
use crate::supervisor::Condition;

/// Wait until a pool is ready, settled, stopped, or has N ready
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster wait web --for ready --timeout 30s
  poolmaster wait jobs --for stopped
  poolmaster wait web --for count=4
  poolmaster wait web --for settled     after `reload --no-wait`, or a ^C

A pool is settled when no reload is under way, none of its workers is being
replaced, and all of them are good (ready, and for `settle`).")]
pub struct Args {
    /// Which pool
    #[arg(value_parser = parse_pool)]
    pub pool: String,

    /// For what
    #[arg(long = "for", value_name = "ready|stopped|settled|count=N", value_parser = parse_condition)]
    pub until: Condition,
}

/// Waits.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    session.order(Request::Wait(WaitParameters { pool: args.pool.clone(), until: args.until, timeout_ms: session.timeout_ms() }))
}
