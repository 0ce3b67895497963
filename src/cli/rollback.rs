//! `rollback`: the config before the one in force comes back.

use super::{Answer, Session, Waiting};
use crate::client::ClientError;
use crate::protocol::{Request, RollbackParameters};

/// Put the last good config back, or undo a reload under way
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster rollback            the config before the last reload, from memory
  poolmaster rollback --no-wait  returns once the order is taken

The files on disk are not touched: what they say comes back with the next reload.")]
pub struct Args {
    /// Patience.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Gives the order.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    session.order(Request::Rollback(RollbackParameters { wait: !args.waiting.no_wait, timeout_ms: session.timeout_ms() }))
}
