//! Owns the words of what the core has to say: each names who, what, and what follows.

use std::fmt;
use std::time::Duration;

use super::action::{Next, What};
use super::{ExitStatus, KILL, Phase, Sender, SpawnFault, signal_name};

/// A duration for people: `1.5s`, `250ms`, `2m 5s`.
pub fn human(d: Duration) -> String {
    let ms = d.as_millis();
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        1_000..60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m {}s", ms / 60_000, ms / 1000 % 60),
        3_600_000..86_400_000 => format!("{}h {}m", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{}d {}h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

/// A number of things, for people: `1 worker`, `2 workers`.
pub fn count(n: impl TryInto<u64>, thing: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Next::Restart => f.write_str("restarting it now"),
            Next::RestartIn(d) => write!(f, "restarting it in {}", human(*d)),
            Next::AwaitProbe => f.write_str("the pool is backing off, one probe at a time"),
            Next::Replaced => f.write_str("its replacement is already running"),
            Next::Nothing => f.write_str("not restarted (restart.policy)"),
            Next::Unwanted => f.write_str("not restarted, the pool has become smaller meanwhile"),
            Next::PoolFailed => f.write_str("not restarted, the pool failed"),
            Next::CanaryFailed => f.write_str("the reload is undone"),
            Next::RollHalted => f.write_str("the old worker stays"),
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sender { pid, uid } = self;
        if *pid == 0 {
            f.write_str("the kernel or a terminal")
        } else if *pid == Sender::OUTSIDE {
            write!(f, "a process outside of this pid namespace (uid {uid})")
        } else {
            write!(f, "pid {pid} (uid {uid})")
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Started => f.write_str("started"),
            What::Ready { after } => write!(f, "ready after {}", human(*after)),
            What::AssumedReady => f.write_str(
                "still alive at start_timeout but never seen accepting on its listeners: taken as ready; \
                 if its readiness shows in another way, set ready = \"notify\", \"tcp:...\", \"http:...\", \"exec\" or \"delay:2s\"",
            ),
            What::SpawnFailed { error, retry_in } => {
                write!(f, "{}", error.message)?;
                match (error.fault, retry_in) {
                    (SpawnFault::Resources, Some(d)) => write!(f, "; this is no fault of the worker; next try in {}", human(*d)),
                    (_, Some(d)) => write!(f, "; next try in {}", human(*d)),
                    (_, None) => Ok(()),
                }
            }
            What::Leaving { reason, within } => {
                write!(f, "leaving: {reason}; its queue and its pre_stop hook come before its stop signal, for {} at most", human(*within))?;
                // All patience ends for all at once.
                f.write_str(if *reason == super::Reason::Shutdown { ", and within master.graceful_timeout" } else { "" })
            }
            What::ReleaseOverdue { within } => {
                write!(f, "its queue or its pre_stop hook keeps it for longer than {}: told to stop all the same", human(*within))
            }
            What::Stopping { reason, signal } => write!(f, "stopping with {}: {reason}", signal_name(*signal)),
            What::Escalated { signal, waited } => {
                write!(f, "still there after {}: sending {}", human(*waited), signal_name(*signal))
            }
            What::HeartbeatLost { timeout } => {
                write!(f, "no heartbeat for {} (timeout): sending SIGABRT, then SIGKILL", human(*timeout))
            }
            What::Triggered => f.write_str("reports itself sick (WATCHDOG=trigger): sending SIGABRT, then SIGKILL"),
            What::Announced => f.write_str("announces its own stop (STOPPING=1)"),
            What::StartTimeout { timeout } => write!(f, "not ready within start_timeout ({}): stopping it", human(*timeout)),
            What::Unprepared { within } => {
                write!(f, "the hooks before its start did not end within {}: giving it up", human(*within))
            }
            What::Exited { status, asked, by_order, age, next, early: _ } => match asked {
                Some(reason) => write!(f, "{status} after {} ({reason})", human(*age)),
                None => {
                    // Nobody here sent it: the kernel's out-of-memory killer is the likeliest to have.
                    let killed = matches!(status, ExitStatus::Signal { signal: KILL, .. });
                    let hint = match (by_order, killed) {
                        (true, _) => " (by an order to kill it)",
                        (false, true) => " (perhaps out of memory: see the kernel log)",
                        (false, false) => "",
                    };
                    write!(f, "{status}{hint} after {}; {next}", human(*age))
                }
            },
            What::OtherMainPid { pid } => write!(
                f,
                "says that process {pid} is its main one (MAINPID=): the one that was started is watched and told to stop as before"
            ),
            What::Unkillable { waited } => write!(
                f,
                "still there {} after SIGKILL: it hangs in the kernel (state D in ps?); nothing but the kernel can end it",
                human(*waited)
            ),
            What::SignalFailed { signal, errno } => write!(f, "cannot send {}: errno {errno}", signal_name(*signal)),
            What::Stale { fact } => write!(f, "dropped: {fact}"),
            What::ReadyCount { target: 0, .. } => f.write_str("no worker is wanted, none is there"),
            What::ReadyCount { ready, target } => write!(f, "{ready} of {} ready", count(*target, "worker")),
            What::Scaled { from, to, by } => write!(f, "scaled from {from} to {} by {by}", count(*to, "worker")),
            What::Clamped { wish, to, bound } => write!(f, "wish for {wish} workers cut to {to} ({bound})"),
            What::WaitingFor { pools } => write!(f, "waits until {} is ready (after)", pools.join(", ")),
            What::BackingOff { failures, within, retry_in } => write!(
                f,
                "backing off: {failures} early deaths within {}; one probe at a time, the next in {}",
                human(*within),
                human(*retry_in)
            ),
            What::Recovered => f.write_str("a probe is good: back to normal"),
            What::PoolFailed { why } => write!(f, "failed: {why}"),
            What::PoolCompleted => f.write_str("completed: all its workers ended well"),
            What::PoolHalted { phase: Phase::Stopped, reason } => write!(f, "stopping its workers: {reason}"),
            What::PoolHalted { phase, reason } => write!(f, "stopping its workers: {reason}; it is {} from now on", phase.word()),
            What::RollStarted { workers: 1, .. } => f.write_str("replacing one worker"),
            What::RollStarted { workers, at_once: 1 } => write!(f, "replacing {workers} workers one by one"),
            What::RollStarted { workers, at_once } => write!(f, "replacing {workers} workers, at most {at_once} at a time"),
            What::RollDone => f.write_str("all workers replaced"),
            What::RollHalted { why } => write!(f, "replacing stopped: {why}; the remaining old workers keep serving"),
            What::Signal { signal, sender, effect } => write!(f, "SIG{} from {sender}: {effect}", signal.name()),
            What::CanaryGood => f.write_str("the canary is good"),
            What::Trying { revision, pools } => {
                write!(f, "config {revision} read, not in force yet: trying it with a canary in {}", pools.join(", "))
            }
            What::Reloaded { summary } => write!(f, "reload done: {summary}"),
            What::ReloadFailed { reason } => write!(f, "reload failed: {reason}"),
            What::RollingBack { reason } => write!(f, "reload failed, rolling back: {reason}"),
            What::TooManyGenerations { most } => write!(
                f,
                "more than {} still living (rollout.max_old_generations): the oldest is stopped quickly",
                count(*most, "old generation")
            ),
            What::Configured { revision, pools } => write!(f, "config {revision} in force: {}", count(*pools, "pool")),
            What::ConfigRejected { reason } => {
                write!(f, "the new config cannot be used, the old one stays in force and nothing was restarted: {reason}")
            }
            What::Commanded { command, sender } => write!(f, "{command}, asked by {sender}"),
            What::AllReady { pools, workers, others } => {
                write!(f, "ready: {}, {}", count(*pools, "pool"), count(*workers, "worker"))?;
                let others: Vec<String> = others.iter().map(|(name, phase)| format!("{name} is {}", phase.word())).collect();
                if others.is_empty() { Ok(()) } else { write!(f, "; not all: {}", others.join(", ")) }
            }
            What::ShuttingDown { how, why } => write!(f, "shutting down ({how}): {why}"),
            What::Late { by } => write!(f, "woken {} late (suspended or stopped?): heartbeats get a grace period", human(*by)),
        }
    }
}
