//! `reload`: the config is read again.

use super::{Answer, Session, Waiting, plan};
use crate::client::ClientError;
use crate::protocol::{PlanParameters, ReloadParameters, Request};

/// Read the config again and replace workers one by one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster check pools.toml && poolmaster reload
  poolmaster reload --dry-run    as `poolmaster plan`: says what it would do
  poolmaster reload --no-wait    returns once the config is taken

A config with errors changes nothing. HUP to the master does the same.")]
pub struct Args {
    /// Replace the workers of unchanged pools too
    #[arg(long)]
    pub restart: bool,

    /// Only this pool of the config (may be repeated)
    #[arg(long, value_name = "POOL", value_parser = crate::protocol::parse_pool)]
    pub pool: Vec<String>,

    /// Only say what it would do, as `plan` does
    #[arg(long)]
    pub dry_run: bool,

    /// Patience.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Gives the order.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    if args.dry_run {
        return plan::ask(PlanParameters { config: None, restart: args.restart, pools: args.pool.clone() }, session);
    }
    session.order(Request::Reload(ReloadParameters {
        restart: args.restart,
        pools: args.pool.clone(),
        wait: !args.waiting.no_wait,
        timeout_ms: session.timeout_ms(),
    }))
}
