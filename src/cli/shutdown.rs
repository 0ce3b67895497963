//! `shutdown`: the master and everything that it runs ends.

use std::time::Duration;

use super::{Answer, Exit, Session, Waiting};
use crate::client::ClientError;
use crate::protocol::{Request, ShutdownParameters};

/// From the master's last word to its end: it has only its own files to remove.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// End the master and all its workers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster shutdown            workers finish their work first (graceful_timeout)
  poolmaster shutdown --now      quick_signal, then KILL after quick_timeout

TERM to the master is the first, INT the second. The first turns into the second
after master.graceful_timeout. To stop only pools: `poolmaster stop`.")]
pub struct Args {
    /// Do not wait for workers to finish their work
    #[arg(long)]
    pub now: bool,

    /// Patience.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Gives the order, and returns once socket, pid file and process are gone: the next `run` finds a free place.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let wait = !args.waiting.no_wait;
    let mut connection = session.connect()?;
    let request = Request::Shutdown(ShutdownParameters { now: args.now, wait, timeout_ms: session.timeout_ms() });
    let mut answer = session.order_on(&mut connection, request)?;
    if wait && answer.exit == Exit::Done && !connection.wait_closed(LAST_STEPS) {
        answer.exit = Exit::TimedOut;
        answer.why = "everything is down, but the master itself has not ended".to_owned();
    }
    Ok(answer)
}
