//! Owns the last step: what goes to stdout and stderr. A reader that went away (`status | head`) is no error and no panic.

use std::io::{self, Write};

use super::Exit;
use crate::os::without_numbers;
use crate::telemetry::without_turns;

/// Writes to stdout. False: it cannot be written, for another reason than a reader that went away.
pub(super) fn out(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(without_turns(text).as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => true,
        Err(e) => {
            err(&format!("poolmaster: cannot write to standard output: {e}\n"));
            false
        }
    }
}

/// Writes to stderr, as far as that is possible.
pub(super) fn err(text: &str) {
    let _ = io::stderr().lock().write_all(without_turns(&without_numbers(text)).as_bytes());
}

/// The last line on stderr: what a code other than 0 meant.
pub(super) fn last_line(exit: Exit, meaning: &str) {
    if exit != Exit::Done {
        err(&format!("poolmaster: {meaning} (exit code {})\n", exit.code()));
    }
}
