//! Reads the surroundings once, hands over to the command line, ends with its exit code.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use poolmaster::cli::{Context, Exit, main as cli, working_directory};

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn main() -> ExitCode {
    let ctx = Context {
        env: std::env::vars_os().filter_map(variable).collect(),
        environ: std::env::vars_os().collect(),
        args: std::env::args_os().collect(),
        cwd: working_directory(std::env::var_os("PWD").map(PathBuf::from), std::env::current_dir().ok()),
        tty: std::io::stdout().is_terminal(),
        stderr_tty: std::io::stderr().is_terminal(),
    };
    // The loop has its own guard, which stops the workers; here only the code is at stake. The panic's text is already out.
    match catch_unwind(AssertUnwindSafe(|| cli(std::env::args_os(), &ctx))) {
        Ok(code) => ExitCode::from(code),
        Err(_) => {
            let _ = writeln!(std::io::stderr(), "poolmaster: {} (exit code {})", Exit::Internal.meaning(), Exit::Internal.code());
            ExitCode::from(Exit::Internal.code())
        }
    }
}

/// One that is not UTF-8 is left out, but for a setting: with replacement characters it is told, and not obeyed.
fn variable((name, value): (OsString, OsString)) -> Option<(String, String)> {
    match (name.to_str(), value.to_str()) {
        (Some(name), Some(value)) => Some((name.to_owned(), value.to_owned())),
        _ => Some((name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| name.starts_with("POOLMASTER__")),
    }
}
