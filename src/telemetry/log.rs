//! Owns the set-up of the log: level, format, target, and the one thread that writes.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use super::format::Plain;
use super::queue::{QUEUED_LINES, Queue};
use super::sink::{Shared, Sink};
use crate::os::io::append_to;

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// error, warn, info, debug or trace.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
    /// A file instead of stderr.
    pub file: Option<PathBuf>,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("cannot open the log file {path}: {cause}; give another one in master.log.file, or none for stderr", path = .path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another log is set up in this process already.
    #[error("a log is set up in this process already")]
    Twice,
}

/// The running log. Dropping it writes out what waits.
pub struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    shared: Arc<Shared>,
    writer: Queue,
    json: bool,
    _guard: WorkerGuard,
}

fn level_of(name: &str) -> LevelFilter {
    name.parse().unwrap_or(LevelFilter::INFO)
}

impl Log {
    /// Starts logging. The caller has blocked all signals before: the writing thread keeps the mask of its maker.
    pub fn start(options: &LogOptions) -> Result<Log, LogError> {
        let shared = Arc::new(Shared::new(options.json));
        let (sink, colour) = match &options.file {
            None => (Sink::stderr(Arc::clone(&shared)), io::stderr().is_terminal()),
            Some(path) => {
                let file: File = append_to(path).map_err(|cause| LogError::Open { path: path.clone(), cause })?;
                (Sink::file(path.clone(), file, Arc::clone(&shared)), false)
            }
        };
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUED_LINES).thread_name("poolmaster-log");
        let (writer, guard) = builder.finish(sink);
        let writer = Queue::new(writer, Arc::clone(&shared.waiting));
        let (filter, level) = reload::Layer::new(level_of(&options.level));
        let lines = tracing_subscriber::fmt::layer().with_writer(writer.clone()).with_ansi(colour).with_target(false);
        let registry = tracing_subscriber::registry().with(filter);
        let set = if options.json {
            registry.with(lines.json().flatten_event(true)).try_init()
        } else {
            registry.with(lines.event_format(Plain)).try_init()
        };
        set.map_err(|_| LogError::Twice)?;
        Ok(Log { level, shared, writer, json: options.json, _guard: guard })
    }

    /// Changes the level of the running log.
    pub fn set_level(&self, name: &str) {
        let level = level_of(name);
        // The only failure is a subscriber that is gone, and then nobody logs.
        let _ = self.level.modify(|filter| *filter = level);
    }

    /// Opens the file anew with the next line: the caller logs one.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
    }

    /// The way for workers' lines to the same place.
    pub fn relay(&self) -> Relay {
        Relay { writer: self.writer.clone(), json: self.json }
    }
}

/// Passes workers' lines on to where the master logs, each with the name of its worker. Never blocks.
#[derive(Clone)]
pub struct Relay {
    writer: Queue,
    json: bool,
}

impl Relay {
    /// One line of a worker's output, without its end.
    pub fn line(&mut self, pool: &str, slot: u32, pid: i32, stream: &str, line: &[u8]) {
        let text = super::printable(line);
        if self.json {
            tracing::info!(pool, slot, pid, stream, "{text}");
            return;
        }
        let mut whole = String::with_capacity(pool.len() + text.len() + 16);
        {
            use std::fmt::Write as _;
            let _ = write!(whole, "{pool}:{slot} | {text}");
        }
        whole.push('\n');
        // A full queue drops the line, and counts it.
        let _ = self.writer.write_all(whole.as_bytes());
    }
}
