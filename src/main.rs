//! Reads the surroundings once, hands over to the command line, ends with its exit code.

use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use poolmaster::cli::{Context, Exit, main as cli, working_directory};

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn main() -> ExitCode {
    let ctx = Context {
        env: std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?))).collect(),
        environ: std::env::vars_os().collect(),
        cwd: working_directory(std::env::var_os("PWD").map(PathBuf::from), std::env::current_dir().ok()),
        tty: std::io::stdout().is_terminal(),
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
