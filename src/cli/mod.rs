//! The command line: one file per verb.

use std::path::PathBuf;

pub mod worker;

/// What a verb may know of the process it runs in; read once, in `main`.
#[derive(Clone, Debug)]
pub struct Context {
    /// The environment, in the order the process was given it.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub cwd: PathBuf,
    /// Standard error is a terminal.
    pub tty: bool,
}

/// The command line as typed.
#[derive(Debug, clap::Parser)]
#[command(name = "poolmaster", version, about)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// The built-in sample worker: an HTTP hello server that speaks the whole worker contract, and can misbehave on order
    Worker(worker::Args),
}

/// Runs the verb and returns the process's exit code.
pub fn run(cli: &Cli, ctx: &Context) -> u8 {
    match &cli.verb {
        Verb::Worker(args) => worker::run(args, ctx),
    }
}
