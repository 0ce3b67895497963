//! `reopen`: log files that were moved away are opened anew.

use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::Request;

/// Reopen log files, after they were moved away
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  mv poolmaster.log poolmaster.log.1 && poolmaster reopen

USR1 to the master does the same. Pools with a reopen_signal get it passed on.")]
pub struct Args {}

/// Gives the order.
pub fn run(_args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    session.command(Request::Reopen)
}
