//! Owns the loop around the loop: an error of our own, a panic included, must not orphan workers.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::master::Master;
use super::reap;
use super::turn::Scratch;
use crate::os::clock;
use crate::os::epoll::{Epoll, Interest};
use crate::os::signals::{kill, kill_group};
use crate::supervisor::Time;

/// How long those who were killed are waited for.
const AFTER_KILL: Duration = Duration::from_secs(1);
/// Exit code of an internal error.
const INTERNAL: u8 = 70;
/// Failures of epoll in a row until the master takes itself for broken.
const STUMBLES: u32 = 100;

/// Turns until the core says that it is over; the number is the exit code.
pub(super) fn keep_running(mut master: Master) -> u8 {
    let mut scratch = Scratch::default();
    let mut stumbles = 0;
    loop {
        match catch_unwind(AssertUnwindSafe(|| master.turn(&mut scratch))) {
            Ok(Ok(())) => stumbles = 0,
            Ok(Err(e)) => {
                stumbles += 1;
                tracing::error!("cannot wait for events: {e}");
                if stumbles == STUMBLES {
                    return end_in_disorder(&mut master, &format!("cannot wait for events: {e}"));
                }
            }
            Err(panic) => {
                let words = panic_words(panic.as_ref());
                return end_in_disorder(&mut master, &format!("internal error: {words}"));
            }
        }
        // Hooks of the last moments come first.
        if master.exit.is_some()
            && master.hooks_are_done()
            && let Some((code, reason)) = master.exit.take()
        {
            if code == 0 {
                tracing::info!("stopped: {reason}; exit code {code}");
            } else {
                tracing::error!("stopped: {reason}; exit code {code}");
            }
            master.show_leftovers();
            master.say_goodbye();
            master.close();
            if let Some(report) = master.report.take() {
                report.failed(u8::try_from(code).unwrap_or(1), &reason);
            }
            return u8::try_from(code).unwrap_or(1);
        }
    }
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown".to_owned())
}

/// The core cannot be trusted any more: each worker gets its stop signal, then KILL, by the plainest means.
fn end_in_disorder(master: &mut Master, why: &str) -> u8 {
    // What led here comes first.
    let _ = catch_unwind(AssertUnwindSafe(|| master.publish()));
    // Else the service manager would take this end for that of all.
    let _ = catch_unwind(AssertUnwindSafe(|| master.hand_over_word()));
    tracing::error!("{why}; this is a fault of poolmaster: please report it; stopping all workers, exit code {INTERNAL}");
    let stopped = catch_unwind(AssertUnwindSafe(|| stop_plainly(master)));
    if stopped.is_err() {
        tracing::error!("a second internal error: killing all workers");
        for (pid, _, _) in living(master) {
            let _ = kill_group(pid, libc::SIGKILL);
        }
    }
    let _ = catch_unwind(AssertUnwindSafe(|| master.close()));
    INTERNAL
}

/// Pid, stop signal and patience of each worker that is left.
fn living(master: &Master) -> Vec<(i32, i32, Duration)> {
    master
        .processes
        .all()
        .map(|p| {
            let spec = &p.run.config.spec;
            let signal = spec.stop.first().map_or(libc::SIGTERM, |s| s.signal);
            (p.pid, signal, spec.stop.iter().map(|s| s.wait).sum())
        })
        .collect()
}

fn stop_plainly(master: &mut Master) {
    let started = Time(clock::now());
    // Each has its own time.
    let mut patience: BTreeMap<i32, Time> = BTreeMap::new();
    for (pid, signal, wait) in living(master) {
        if kill_group(pid, signal).is_err() {
            let _ = kill(pid, signal);
        }
        patience.insert(pid, started + wait);
    }
    master.sabotage.on_stop();
    // A set of its own: what else may be ready does not matter any more.
    let Ok(calm) = Epoll::new() else { return };
    if calm.add(master.signal_fd.as_fd(), 0, Interest::Read).is_err() {
        return;
    }
    let (mut ready, mut signals) = (Vec::new(), Vec::new());
    while master.processes.all().next().is_some() {
        let now = Time(clock::now());
        let (over, left): (Vec<i32>, Vec<i32>) = patience.keys().partition(|pid| patience.get(pid).is_some_and(|by| *by <= now));
        for pid in over {
            let _ = kill_group(pid, libc::SIGKILL);
            patience.remove(&pid);
        }
        ready.clear();
        signals.clear();
        let next = left.iter().filter_map(|pid| patience.get(pid)).min();
        let wait = next.map_or(AFTER_KILL, |by| *by - now);
        if calm.wait(&mut ready, Some(wait)).is_err() || next.is_none() && ready.is_empty() {
            break;
        }
        let _ = master.signal_fd.read(&mut signals, 64);
        reap::reap_plainly(master);
        patience.retain(|pid, _| master.processes.number_of_pid(*pid).is_some());
    }
    for process in master.processes.all() {
        let _ = kill_group(process.pid, libc::SIGKILL);
    }
}
