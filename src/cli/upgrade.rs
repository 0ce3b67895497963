//! `upgrade`: another program takes the place of the master's.

use std::path::PathBuf;

use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::{Request, UpgradeParameters};

/// Put a new program in the master's place; workers do not notice
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster upgrade                     the program that the master was started
                                         as, as it is on disk by now
  poolmaster upgrade --binary /opt/poolmaster-2/poolmaster
  poolmaster upgrade --wait              after the reload that is under way

Before, the new program reads a copy of the master's state as a child and says
whether it could go on: a program that cannot leaves all as it was (exit code 3).")]
pub struct Args {
    /// The program, instead of the one that the master was started as
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,

    /// Wait for the end of a reload or of a replacement of workers, instead of being refused
    #[arg(long)]
    pub wait: bool,
}

/// Gives the order.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let binary = args.binary.as_ref().map(|path| session.absolute(path)).transpose()?;
    session.order(Request::Upgrade(UpgradeParameters { binary, wait_for_rest: args.wait, timeout_ms: session.timeout_ms() }))
}
