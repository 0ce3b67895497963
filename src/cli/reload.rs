//! `reload`: the config is read again.

use super::{Answer, Session, Waiting, plan};
use crate::client::ClientError;
use crate::protocol::{AbortParameters, PlanParameters, ReloadParameters, Request};

/// Read the config again, replace what it changes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster check pools.toml && poolmaster reload
  poolmaster reload --dry-run    as `poolmaster plan`: says what it would do
  poolmaster reload --no-wait    returns once the order is taken
  poolmaster reload --abort      undoes the one that is being tried

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

    /// Undo what is ordered and not in force yet: no old worker has noticed
    #[arg(long, conflicts_with_all = ["restart", "pool", "dry_run"])]
    pub abort: bool,

    /// Patience.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Gives the order.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    if args.dry_run {
        return plan::ask(PlanParameters { config: None, restart: args.restart, pools: args.pool.clone() }, session);
    }
    let (wait, timeout_ms) = (!args.waiting.no_wait, session.timeout_ms());
    if args.abort {
        return session.order(Request::Abort(AbortParameters { wait, timeout_ms }));
    }
    session.order(Request::Reload(ReloadParameters { restart: args.restart, pools: args.pool.clone(), wait, timeout_ms }))
}
