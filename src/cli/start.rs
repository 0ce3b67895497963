//! `start`: pools that are down come up.

use super::{Answer, Session, Waiting};
use crate::client::ClientError;
use crate::protocol::{Pools, PoolsParameters, Request};

/// Start pools that are stopped, parked, failed or completed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster start jobs          returns once its workers are ready
  poolmaster start all --timeout 1m")]
pub struct Args {
    /// Which pools, or `all`
    #[arg(required = true, value_name = "POOL|all")]
    pub pools: Vec<String>,

    /// Patience.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Gives the order.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let pools = Pools::try_from(args.pools.clone()).map_err(super::session::usage)?;
    let (wait, timeout_ms) = (!args.waiting.no_wait, session.timeout_ms());
    session.order(Request::Start(PoolsParameters { pools, wait, timeout_ms }))
}
