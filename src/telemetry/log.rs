//! Owns the set-up of the log: level, format, target, the one thread that writes, and the change of all that while it runs.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::Dispatch;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use super::format::{Look, Style};
use super::lines::print_to;
use super::queue::{PLACES, Queue};
use super::sink::{BATCH, Change, Shared, Sink, Target};
use crate::os::io::{append_to, own_description};

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

/// The log file could not be opened anew.
#[derive(Debug, thiserror::Error)]
#[error("cannot reopen the log file {}: {cause}; {}", path.display(), if *folder_is_gone {
    "log lines go to stderr until its folder is there again and `poolmaster reopen` is given"
} else {
    "the old one stays in use: see what is in its place, then `poolmaster reopen`"
})]
pub struct ReopenError {
    path: PathBuf,
    cause: io::Error,
    folder_is_gone: bool,
}

/// Between two looks whether all is written.
const BETWEEN_LOOKS: Duration = Duration::from_micros(200);

/// The running log. Dropping it writes out what waits.
pub struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    shared: Arc<Shared>,
    style: Arc<Style>,
    writer: Queue,
    /// Where it goes: a file instead of stderr.
    file: Option<PathBuf>,
    /// Its lines go to stderr, as the folder of the file was gone.
    strayed: bool,
    json: bool,
    _guard: WorkerGuard,
}

/// A change of the log of which nothing is in force yet, and nothing can fail any more. Dropped, it changes nothing; a file that was missing
/// has been made.
#[must_use = "nothing changes before the switch"]
pub struct PreparedLog {
    options: LogOptions,
    /// `None`: where it goes already.
    target: Option<Target>,
}

fn level_of(name: &str) -> LevelFilter {
    name.parse().unwrap_or(LevelFilter::INFO)
}

fn open(path: &Path) -> Result<File, LogError> {
    append_to(path).map_err(|cause| LogError::Open { path: path.to_owned(), cause })
}

fn target_of(file: Option<&PathBuf>) -> Result<Target, LogError> {
    match file {
        None => Ok(Target::Stderr(own_description(io::stderr()))),
        Some(path) => Ok(Target::File(open(path)?)),
    }
}

/// Colours are for people at a terminal.
fn has_colours(file: Option<&PathBuf>) -> bool {
    file.is_none() && io::stderr().is_terminal()
}

impl Log {
    /// Starts logging. The caller has blocked all signals before: the writing thread keeps the mask of its maker.
    pub fn start(options: &LogOptions) -> Result<Log, LogError> {
        let (log, lines) = Log::make(options)?;
        lines.try_init().map_err(|_| LogError::Twice)?;
        Ok(log)
    }

    /// The log, and the way into it.
    pub(super) fn make(options: &LogOptions) -> Result<(Log, Dispatch), LogError> {
        let target = target_of(options.file.as_ref())?;
        let shared = Arc::new(Shared::default());
        let style = Arc::new(Style::default());
        style.set(options.json, has_colours(options.file.as_ref()));
        let sink = Sink::new(target, options.json, Arc::clone(&shared));
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(PLACES).thread_name("poolmaster-log");
        let (writer, guard) = builder.finish(sink);
        let writer = Queue::new(writer, Arc::clone(&shared.waiting));
        // The filter alone can be changed by `reload`: a layer with a filter of its own panics there. The look of the lines is looked up
        // for each of them instead.
        let (filter, level) = reload::Layer::new(level_of(&options.level));
        let lines = tracing_subscriber::fmt::layer().with_writer(writer.clone()).with_ansi(false);
        let lines = lines.fmt_fields(JsonFields::new()).event_format(Look::new(Arc::clone(&style)));
        let lines = Dispatch::new(tracing_subscriber::registry().with(filter).with(lines));
        let log =
            Log { level, shared, style, writer, file: options.file.clone(), strayed: false, json: options.json, _guard: guard };
        Ok((log, lines))
    }

    /// Changes the level of the running log.
    pub fn set_level(&self, name: &str) {
        let level = level_of(name);
        // The only failure is a subscriber that is gone, and then nobody logs.
        let _ = self.level.modify(|filter| *filter = level);
    }

    /// Makes ready what [`Log::switch`] puts in force: a file that is not logged to yet is opened, and that alone can fail. For the log as it
    /// is now: another switch in between leaves this one without its target.
    pub fn prepare(&self, options: &LogOptions) -> Result<PreparedLog, LogError> {
        let moves = options.file != self.file;
        let target = moves.then(|| target_of(options.file.as_ref())).transpose()?;
        Ok(PreparedLog { options: options.clone(), target })
    }

    /// Puts level, format and target in force together: what was logged before goes to the old target in the old form, what is logged from
    /// now on to the new target in the new form. The old file is closed by the thread that writes, when it has written all of that.
    pub fn switch(&mut self, prepared: PreparedLog) {
        let PreparedLog { options, target } = prepared;
        self.set_level(&options.level);
        if target.is_none() && options.json == self.json {
            return;
        }
        if target.is_some() {
            self.file = options.file;
            self.strayed = false;
        }
        self.json = options.json;
        self.style.set(self.json, has_colours(self.file.as_ref()));
        self.shared.change(Change { after: self.writer.queued(), json: self.json, target });
        self.writer.wake();
    }

    /// Opens the file anew, after it was moved away or removed: what is logged from now on goes there. The file; none when this goes to stderr.
    /// On an error the old one stays in use. When not even its folder is there, nobody can read that one, and lines go to stderr.
    pub fn reopen(&mut self) -> Result<Option<&Path>, ReopenError> {
        let Some(path) = self.file.clone() else { return Ok(None) };
        match append_to(&path) {
            Ok(file) => {
                self.go_to(Target::File(file));
                self.strayed = false;
                Ok(self.file.as_deref())
            }
            Err(cause) => {
                let folder_is_gone = cause.kind() == io::ErrorKind::NotFound;
                if folder_is_gone {
                    self.go_to(Target::Stderr(own_description(io::stderr())));
                    self.strayed = true;
                }
                Err(ReopenError { path, cause, folder_is_gone })
            }
        }
    }

    /// Its file is not at its path any more, or was not when it was opened last.
    pub fn has_lost_its_file(&self) -> bool {
        self.strayed || self.file.as_ref().is_some_and(|path| !path.exists())
    }

    fn go_to(&mut self, target: Target) {
        self.shared.change(Change { after: self.writer.queued(), json: self.json, target: Some(target) });
        self.writer.wake();
    }

    /// Waits until all that was logged is written, for so many looks at most: another program is about to take the place of this one, and the thread
    /// that writes goes with it.
    pub fn written(&self, looks: u32) {
        for _ in 0..looks {
            if self.shared.waiting.is_empty() {
                return;
            }
            std::thread::park_timeout(BETWEEN_LOOKS);
        }
    }

    /// The way for workers' lines to the same place.
    pub fn relay(&self) -> Relay {
        Relay { writer: self.writer.clone(), style: Arc::clone(&self.style), text: String::new() }
    }
}

/// Passes workers' lines on to where the master logs, each with the name of its worker. Never blocks.
#[derive(Clone)]
pub struct Relay {
    writer: Queue,
    style: Arc<Style>,
    /// The room of the last batch.
    text: String,
}

/// Whose lines they are.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The pool's name.
    pub pool: &'a str,
    /// The worker's slot.
    pub slot: u32,
    /// Its process.
    pub pid: i32,
    /// stdout or stderr.
    pub stream: &'static str,
}

/// A line as JSON, with the fields of the master's own.
#[derive(serde::Serialize)]
struct JsonLine<'a> {
    timestamp: &'a str,
    level: &'static str,
    message: &'a str,
    pool: &'a str,
    slot: u32,
    pid: i32,
    stream: &'static str,
}

/// Lines of one worker that came together: they are made and queued as one, so that a flood of short lines costs what a few long ones do.
pub struct Batch<'a> {
    relay: &'a mut Relay,
    source: Source<'a>,
    /// `web:0 | `
    name: String,
    /// When they came, for JSON.
    time: Option<String>,
}

impl Relay {
    /// Begins to pass lines on. They are queued when the batch is dropped.
    pub fn batch<'a>(&'a mut self, source: Source<'a>) -> Batch<'a> {
        let time = self.style.is_json().then(|| {
            let mut time = String::new();
            // Writing to a String does not fail.
            let _ = SystemTime.format_time(&mut Writer::new(&mut time));
            time
        });
        let name = format!("{}:{} | ", source.pool, source.slot);
        Batch { relay: self, source, name, time }
    }
}

impl Batch<'_> {
    /// One line, without its end.
    pub fn line(&mut self, line: &[u8]) {
        let text = &mut self.relay.text;
        match &self.time {
            None => {
                text.push_str(&self.name);
                print_to(text, line);
            }
            Some(time) => {
                let Source { pool, slot, pid, stream } = self.source;
                let message = &super::printable(line);
                let line = JsonLine { timestamp: time, level: "INFO", message, pool, slot, pid, stream };
                // Texts and numbers always are JSON.
                text.push_str(&serde_json::to_string(&line).unwrap_or_default());
            }
        }
        text.push('\n');
        if text.len() >= BATCH {
            self.queue();
        }
    }

    fn queue(&mut self) {
        // A full queue drops the lines, and counts them.
        let _ = self.relay.writer.write_all(self.relay.text.as_bytes());
        self.relay.text.clear();
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.queue();
        // The room is kept, unless one huge line made it.
        self.relay.text.shrink_to(2 * BATCH);
    }
}
