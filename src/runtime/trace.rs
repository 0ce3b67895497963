//! Owns the recording of what goes into the core and comes out of it, one JSON object a line: a bug report that a test can replay.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use crate::os::io as fdio;
use crate::supervisor::{Action, Event, Time};

/// The first line of a trace.
#[derive(Serialize)]
struct Head<'a> {
    poolmaster: &'a str,
    seed: u64,
}

#[derive(Serialize)]
struct Turn<'a> {
    now: Time,
    event: &'a Event,
    actions: &'a [Action],
}

/// An open recording. Writing is part of the loop: a trace is for debugging, not for production.
#[derive(Debug)]
pub(super) struct Trace {
    file: BufWriter<File>,
    failed: bool,
}

impl Trace {
    pub(super) fn create(path: &Path, seed: u64) -> io::Result<Trace> {
        let mut file = BufWriter::new(fdio::overwrite(path)?);
        serde_json::to_writer(&mut file, &Head { poolmaster: env!("CARGO_PKG_VERSION"), seed })?;
        file.write_all(b"\n")?;
        Ok(Trace { file, failed: false })
    }

    /// Goes on with one that another program has begun.
    pub(super) fn go_on(path: &Path) -> io::Result<Trace> {
        Ok(Trace { file: BufWriter::new(fdio::append_to(path)?), failed: false })
    }

    pub(super) fn turn(&mut self, now: Time, event: &Event, actions: &[Action]) {
        let written = serde_json::to_writer(&mut self.file, &Turn { now, event, actions })
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"));
        if let Err(e) = written
            && !std::mem::replace(&mut self.failed, true)
        {
            tracing::warn!("the trace is incomplete from here on: {e}");
        }
    }

    pub(super) fn flush(&mut self) {
        // A failure was or will be told by the next write.
        let _ = self.file.flush();
    }
}
