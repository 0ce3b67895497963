//! `stop`: pools go down and stay down. Ending the master is another verb, and this one says so.

use clap::error::ErrorKind;

use super::{Answer, Session, Waiting};
use crate::client::ClientError;
use crate::protocol::{Pools, PoolsParameters, Request};

/// Stop pools; they stay stopped, their sockets stay open
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "poolmaster stop [OPTIONS] <POOL|all>...",
    after_help = "\
Examples:
  poolmaster stop jobs           returns once its workers are gone
  poolmaster stop all            the master lives on; `poolmaster start all` undoes it

To end the master itself: `poolmaster shutdown`."
)]
pub struct Args {
    /// Which pools, or `all`
    #[arg(value_name = "POOL|all")]
    pub pools: Vec<String>,

    /// Patience.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `stop` alone: an operator who means the master must not stop pools, nor the other way round.
pub(super) fn nothing_named(command: &mut clap::Command) -> clap::Error {
    command.build();
    let words = "stop needs the name of a pool: `poolmaster stop web`, or `poolmaster stop all`\n\n  \
                 to end the master itself: `poolmaster shutdown`";
    match command.find_subcommand_mut("stop") {
        Some(stop) => stop.error(ErrorKind::MissingRequiredArgument, words),
        None => command.error(ErrorKind::MissingRequiredArgument, words),
    }
}

/// Gives the order.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let pools = Pools::try_from(args.pools.clone()).map_err(super::session::usage)?;
    let (wait, timeout_ms) = (!args.waiting.no_wait, session.timeout_ms());
    session.order(Request::Stop(PoolsParameters { pools, wait, timeout_ms }))
}
