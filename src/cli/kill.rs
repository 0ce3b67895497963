//! `kill`: a signal for workers.

use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::{KillParameters, Request, Selector, parse_signal};

/// Send a signal to workers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster kill web:3              TERM to the worker in slot 3; it is replaced
  poolmaster kill -s USR1 web        USR1 to every worker of the pool
  poolmaster kill -s RTMIN+3 jobs    a real-time signal

What follows an exit is up to the pool's restart policy; to keep workers down: `stop`.")]
pub struct Args {
    /// The signal: a name or a number
    #[arg(short, long, value_name = "SIG", default_value = "TERM", value_parser = parse_signal, allow_hyphen_values = true)]
    pub signal: i32,

    /// Which workers
    #[arg(value_name = "POOL[:SLOT]", value_parser = clap::value_parser!(Selector))]
    pub target: Selector,
}

/// Gives the order.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    session.command(Request::Kill(KillParameters { target: args.target.clone(), signal: args.signal }))
}
