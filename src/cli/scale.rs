//! `scale`: how many workers a pool has.

use super::{Answer, Session, Waiting};
use crate::client::ClientError;
use crate::protocol::{Request, ScaleParameters, parse_pool, parse_scale};
use crate::supervisor::ScaleChange;

/// Change how many workers a pool has
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster scale web +1        one worker more
  poolmaster scale web -2        two fewer
  poolmaster scale web 6         exactly six
  poolmaster scale web 50%       half of scale.max
  poolmaster scale web config    back to the config's number

The number survives a reload unless the file's `workers` changed. Beyond scale.max,
or below scale.min but not 0, it is refused (exit 7).")]
pub struct Args {
    /// Which pool
    #[arg(value_parser = parse_pool)]
    pub pool: String,

    /// How many
    #[arg(value_name = "+N|-N|N|N%|config", value_parser = parse_scale, allow_hyphen_values = true)]
    pub change: ScaleChange,

    /// Patience.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Gives the order.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    session.order(Request::Scale(ScaleParameters {
        pool: args.pool.clone(),
        change: args.change,
        wait: !args.waiting.no_wait,
        timeout_ms: session.timeout_ms(),
    }))
}
