//! `restart`: workers are replaced, a few at a time.

use super::{Answer, Session, Waiting};
use crate::client::ClientError;
use crate::protocol::{Request, RestartParameters, Selector};

/// Replace workers; new ones are good before old ones stop
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster restart             every worker of every pool
  poolmaster restart web jobs    these pools
  poolmaster restart web:3       one slot

The config is not read again; for that: `poolmaster reload`.")]
pub struct Args {
    /// Which pools or slots; without one: all
    #[arg(value_name = "POOL[:SLOT]", value_parser = clap::value_parser!(Selector))]
    pub targets: Vec<Selector>,

    /// Patience.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Gives the order.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let targets = if args.targets.is_empty() { vec![Selector::All] } else { args.targets.clone() };
    let (wait, timeout_ms) = (!args.waiting.no_wait, session.timeout_ms());
    session.order(Request::Restart(RestartParameters { targets, wait, timeout_ms }))
}
