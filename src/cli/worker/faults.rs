//! Owns the misbehaviours that come with time: when each is due and what it does to the process. Refuses to pretend: a
//! crash is a real signal, a hang really stops serving, a leak really takes memory.

use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::unistd::{getpid, pause};

/// A leak takes its share this often.
const LEAK_STEP: Duration = Duration::from_millis(100);

/// What is going to go wrong, and when.
#[derive(Debug)]
pub(super) struct Faults {
    crash: Option<Instant>,
    exit: Option<(Instant, u8)>,
    hang: Option<Instant>,
    /// Bytes a second, the time up to which they were taken, and the memory.
    leak: Option<(u64, Instant)>,
    leaked: Vec<Vec<u8>>,
}

/// A fault that is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Crash,
    Exit(u8),
    Hang,
}

impl Faults {
    /// From the flags, with times counted from `start`.
    pub(super) fn new(flags: &super::Misbehaviour, start: Instant) -> Self {
        Faults {
            crash: flags.crash_after.map(|after| start + after),
            exit: flags.exit_after.map(|(after, code)| (start + after, code)),
            hang: flags.hang_after.map(|after| start + after),
            leak: flags.leak.map(|rate| (rate, start)),
            leaked: Vec::new(),
        }
    }

    /// When there is something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let leak = self.leak.map(|(_, taken)| taken + LEAK_STEP);
        [self.crash, self.exit.map(|(at, _)| at), self.hang, leak].into_iter().flatten().min()
    }

    /// Leaks what is due, and tells of the fault that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Fault> {
        if let Some((rate, taken)) = &mut self.leak {
            let past = now.saturating_duration_since(*taken);
            if past >= LEAK_STEP {
                *taken = now;
                let bytes = u128::from(*rate) * past.as_millis() / 1000;
                // Ones, not zeroes: a page of zeroes costs no memory before it is written to.
                self.leaked.push(vec![1; usize::try_from(bytes).unwrap_or(usize::MAX)]);
            }
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match self.exit {
            _ if due(self.crash) => Some(Fault::Crash),
            _ if due(self.hang) => Some(Fault::Hang),
            Some((at, code)) if at <= now => Some(Fault::Exit(code)),
            _ => None,
        }
    }
}

/// Ends the process by the signal, as a bug would.
pub(super) fn crash(signal: Signal) -> ! {
    let _ = SigSet::all().thread_unblock();
    let _ = kill(getpid(), signal);
    // The language runtime's handler for SEGV and BUS takes the first for a stack overflow it cannot explain, puts the
    // default back and returns: the second one ends the process.
    let _ = raise(signal);
    std::process::abort();
}

/// Stays alive and does nothing, not even take its stop signal: only an unblocked signal (ABRT, KILL) ends it.
pub(super) fn hang() -> ! {
    loop {
        pause();
    }
}

/// Starts a copy of this program that does nothing, in the same process group and with the same output, and forgets it.
#[expect(clippy::disallowed_methods, reason = "a worker is free to start children; no signal is blocked yet")]
pub(super) fn spawn_child(ignore_term: bool) -> std::io::Result<()> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("worker").args(ignore_term.then_some("--ignore-term")).stdin(std::process::Stdio::null());
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    let child = command.spawn()?;
    super::say(&format!("started child {}", child.id()));
    Ok(())
}
