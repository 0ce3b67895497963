//! Parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use poolmaster::cli::{Cli, Context, run};

#[expect(clippy::disallowed_methods, reason = "the environment is read here, once, and handed down")]
fn main() -> ExitCode {
    let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let cwd = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let tty = std::io::IsTerminal::is_terminal(&std::io::stderr());
    ExitCode::from(run(&Cli::parse(), &Context { env, cwd, tty }))
}
