//! The command line: one file per verb. What was typed becomes a request or a run; what came back becomes text and an exit code.
//!
//! Verbs that talk to a master are handed a [`Session`] and return an [`Answer`]; they print nothing themselves.

pub mod check;
pub mod completions;
pub mod config;
mod context;
mod dispatch;
mod exit;
mod groups;
pub mod health;
pub mod history;
mod host;
pub mod init;
mod instance;
mod interrupt;
pub mod kill;
pub mod listeners;
pub mod manual;
mod output;
pub mod plan;
pub mod ps;
pub mod reload;
mod remarks;
pub mod reopen;
pub mod restart;
pub mod retry;
pub mod rollback;
pub mod run;
pub mod scale;
mod session;
pub mod shutdown;
pub mod signals;
pub mod start;
pub mod status;
mod steps;
pub mod stop;
mod table;
pub mod upgrade;
pub mod wait;
mod words;
pub mod worker;

pub use context::{Context, working_directory};
pub use dispatch::main;
pub use exit::Exit;
pub use groups::{command, groups};
pub use session::{Answer, Reach, Session, Waiting};

/// This version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Keeps named pools of worker processes alive behind sockets that never close
#[derive(Debug, clap::Parser)]
#[command(name = "poolmaster", version, max_term_width = 100)]
pub struct Cli {
    /// Which master, and how.
    #[command(flatten)]
    pub reach: Reach,

    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Start a master: keep the pools of a config, or of one command
    Run(run::Args),
    /// Show pools, and with -v their workers
    Status(status::Args),
    /// List all processes: pid, pool and slot
    Ps(ps::Args),
    /// Change how many workers a pool has
    Scale(scale::Args),
    /// Read the config again, replace what it changes
    Reload(reload::Args),
    /// Replace workers; new ones are good before old ones stop
    Restart(restart::Args),
    /// Start pools that are stopped, parked, failed or completed
    Start(start::Args),
    /// Stop pools; they stay stopped, their sockets stay open
    Stop(stop::Args),
    /// End the master and all its workers
    Shutdown(shutdown::Args),
    /// Write a commented config to start from
    Init(init::Args),
    /// Find all errors of a config, without starting anything
    Check(check::Args),
    /// Show what a reload would do, without doing any of it
    Plan(plan::Args),
    /// Show what is in force (show), why (origin), what could be (schema)
    Config(config::Args),
    /// Put the last good config back, or undo a reload under way
    Rollback(rollback::Args),
    /// Put a new program in the master's place; workers do not notice
    Upgrade(upgrade::Args),
    /// Show the last reloads: when, by whom, what changed, how it ended
    History(history::Args),
    /// Reopen log files, after they were moved away
    Reopen(reopen::Args),
    /// Wait until a pool is ready, settled, stopped, or has N ready
    Wait(wait::Args),
    /// Tell by exit code whether every pool is well
    Health(health::Args),
    /// Show which signals the master acts on, ready to paste
    Signals(signals::Args),
    /// Show the listening sockets and their queues
    Listeners(listeners::Args),
    /// Clear a pool's back-off and try now
    Retry(retry::Args),
    /// Send a signal to workers
    Kill(kill::Args),
    /// Print a script that completes this command line in a shell
    Completions(completions::Args),
    /// Be the sample worker: an HTTP hello that misbehaves on demand
    Worker(worker::Args),
}
