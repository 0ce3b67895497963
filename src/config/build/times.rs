//! Owns the waits and signals of one pool that cannot work together, or of which only one is used.

use std::time::Duration;

use super::super::diagnostics::Diagnostics;
use super::super::node::{At, Place};
use super::super::value::scalar::duration_text;
use super::reader::Reader;
use crate::supervisor::{PoolSpec, ReadyKind, TimeoutFrom, signal_name, signal_number};

/// Shorter ones are mostly a slip of the unit, and hit healthy workers on a busy host.
const SHORTEST: Duration = Duration::from_secs(1);
/// Signals that by default end nobody.
const HARMLESS: [&str; 6] = ["CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU"];

pub(super) fn check(r: &Reader<'_>, spec: &PoolSpec, diags: &mut Diagnostics) {
    if let ReadyKind::Delay(delay) = spec.ready
        && delay >= spec.start_timeout
    {
        let (delay, limit) = (duration_text(delay), duration_text(spec.start_timeout));
        let what = format!(
            "{}.ready: ready after {delay}, but stopped after start_timeout = {limit}: no worker ever gets ready",
            r.path
        );
        diags.error(&r.place("ready"), what, "raise start_timeout, or shorten the delay");
    }
    for key in ["start_timeout", "timeout"] {
        let wait = r.duration(key);
        if r.is_set(key) && !wait.is_zero() && wait < SHORTEST {
            let what =
                format!("{}.{key}: {} is short: a busy host is slower than that now and then", r.path, duration_text(wait));
            diags.warn(&r.place(key), what, "give it at least a second, unless that is meant");
        }
    }
    if let Some(timeout) = spec.timeout.filter(|timeout| *timeout < spec.settle && spec.timeout_from == TimeoutFrom::Ready) {
        let (timeout, settle) = (duration_text(timeout), duration_text(spec.settle));
        let what = format!(
            "{}.timeout: {timeout} without a heartbeat is less than settle = {settle}: a silent worker is killed before it is good",
            r.path
        );
        diags.warn(&r.place("timeout"), what, "shorten settle, or raise timeout");
    }
    let graceful = r.duration("graceful_timeout");
    for (key, what) in [
        ("abort_grace", "a hanging worker has longer than one that is asked to stop"),
        ("quick_timeout", "a quick stop takes longer than a graceful one"),
    ] {
        let wait = r.duration(key);
        if r.is_set(key) && wait > graceful && r.words("stop_sequence").is_empty() {
            let (wait, graceful) = (duration_text(wait), duration_text(graceful));
            let what = format!("{}.{key}: {wait} is more than graceful_timeout = {graceful}: {what}", r.path);
            diags.warn(&r.place(key), what, "exchange them, unless that is meant");
        }
    }
    unused(r, diags);
    signals(r, diags);
}

/// A stop sequence takes the place of the two keys; only beside it they are a contradiction, elsewhere they are its weaker defaults.
fn unused(r: &Reader<'_>, diags: &mut Diagnostics) {
    let steps = r.words("stop_sequence");
    // A sequence that ends in a signal waits for graceful_timeout then.
    let keys = [("stop_signal", !steps.is_empty()), ("graceful_timeout", !steps.is_empty() && steps.len().is_multiple_of(2))];
    for (key, hidden) in keys {
        if hidden && r.is_set(key) && together(&r.place(key), &r.place("stop_sequence")) {
            let what = format!("{}.{key}: is not used: stop_sequence beside it says all of it", r.path);
            diags.warn(&r.place(key), what, "remove one of the two");
        }
    }
}

/// Written in the same table.
fn together(a: &Place, b: &Place) -> bool {
    match (&a.at, &b.at) {
        (At::Text(one, first), At::Text(other, second)) => one == other && one.header(first.start) == other.header(second.start),
        (At::Variable(_), At::Variable(_)) | (At::Flag(_), At::Flag(_)) => true,
        _ => false,
    }
}

fn signals(r: &Reader<'_>, diags: &mut Diagnostics) {
    let stop = r.signal("stop_signal");
    for key in ["stop_signal", "quick_signal"] {
        let signal = r.signal(key).filter(|signal| HARMLESS.iter().any(|name| signal_number(name) == Some(*signal)));
        if let Some(signal) = signal.filter(|_| r.is_set(key)) {
            let what = format!(
                "{}.{key}: {} ends no program by itself: the worker is killed when the time is over",
                r.path,
                signal_name(signal)
            );
            diags.warn(&r.place(key), what, "the usual ones: TERM, QUIT, INT");
        }
    }
    if stop == signal_number("KILL") && r.is_set("stop_signal") && r.words("stop_sequence").is_empty() {
        let what = format!("{}.stop_signal: SIGKILL ends a worker in the middle of its work", r.path);
        diags.warn(&r.place("stop_signal"), what, "the usual ones: TERM, QUIT, INT; KILL follows after graceful_timeout anyway");
    }
    let reopen = r.signal("reopen_signal");
    if reopen.is_some() && (reopen == stop || reopen == signal_number("KILL") || reopen == signal_number("STOP")) {
        let what = format!("{}.reopen_signal: {} stops the workers", r.path, signal_name(reopen.unwrap_or_default()));
        diags.error(&r.place("reopen_signal"), what, "name one that they take as: open your log files anew; \"\": none");
    }
}
