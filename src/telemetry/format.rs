//! Owns the look of a log line for people: `2026-11-23T07:47:28.784Z INFO  web:0 ready after 26ms (pid 11785)`. The JSON form is
//! tracing-subscriber's own.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::lines::without_turns;
use crate::os::without_numbers;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, Format, FormatEvent, FormatFields, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::registry::LookupSpan;

/// How lines look now. Those who log read it for each line; only they change it, so no line is of two minds.
#[derive(Debug, Default)]
pub(super) struct Style {
    json: AtomicBool,
    colours: AtomicBool,
}

impl Style {
    pub(super) fn set(&self, json: bool, colours: bool) {
        self.json.store(json, Ordering::Relaxed);
        self.colours.store(colours, Ordering::Relaxed);
    }

    pub(super) fn is_json(&self) -> bool {
        self.json.load(Ordering::Relaxed)
    }
}

/// Each event in the form that is in force.
pub(super) struct Look {
    style: Arc<Style>,
    json: Format<Json>,
}

impl Look {
    pub(super) fn new(style: Arc<Style>) -> Look {
        Look { style, json: format::format().with_target(false).json().flatten_event(true) }
    }
}

impl<S, N> FormatEvent<S, N> for Look
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.style.is_json() {
            self.json.format_event(ctx, out, event)
        } else {
            plain(out, self.style.colours.load(Ordering::Relaxed), event)
        }
    }
}

/// The fields of an event, those that every line may have by name.
#[derive(Default)]
struct Parts {
    message: String,
    pool: Option<String>,
    slot: Option<u64>,
    pid: Option<String>,
    rest: String,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "pool" => self.pool = Some(value.to_owned()),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "slot" => self.slot = Some(value),
            // Of use to programs, which read the JSON form.
            "generation" => {}
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{}", without_turns(&without_numbers(&format!("{value:?}")))),
            "pid" => {
                self.pid = Some(format!("{value:?}"));
                Ok(())
            }
            name => write!(self.rest, " {name}={value:?}"),
        };
    }
}

/// One line for each event: who it is about first, then what happened, then what else is known.
fn plain(mut out: Writer<'_>, colours: bool, event: &Event<'_>) -> fmt::Result {
    let mut parts = Parts::default();
    event.record(&mut parts);
    SystemTime.format_time(&mut out)?;
    let level = *event.metadata().level();
    let (name, colour) = match level {
        Level::ERROR => ("ERROR", "31"),
        Level::WARN => ("WARN ", "33"),
        Level::INFO => ("INFO ", "32"),
        Level::DEBUG => ("DEBUG", "34"),
        _ => ("TRACE", "35"),
    };
    if colours {
        write!(out, " \x1b[{colour}m{name}\x1b[0m ")?
    } else {
        write!(out, " {name} ")?
    }
    match (&parts.pool, parts.slot) {
        (Some(pool), Some(slot)) => write!(out, "{pool}:{slot} ")?,
        (Some(pool), None) => write!(out, "{pool} ")?,
        (None, _) => {}
    }
    // Lines that are quoted below the first one stay as they are.
    let (first, quoted) = parts.message.split_at(parts.message.find('\n').unwrap_or(parts.message.len()));
    // What follows is no longer about that process.
    let (about, next) = first.split_at(first.find("; ").unwrap_or(first.len()));
    out.write_str(about)?;
    if let Some(pid) = &parts.pid {
        write!(out, " (pid {pid})")?;
    }
    writeln!(out, "{next}{}{quoted}", parts.rest)
}
