//! Owns the look for workers that outlived their master: it was killed, and they did not heed the signal that this sent them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{process, procfs};

/// A worker without a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its process, the oldest of its session.
    pub pid: i32,
    /// Its pool's name.
    pub pool: String,
    /// Its program's name.
    pub program: String,
    /// How long it has been running.
    pub age: Duration,
}

/// Those of the instance of this name, as far as this user may see: what they were started with says so. Reads the environment of every process:
/// for a start that has found traces of a master that was killed.
pub fn of_instance(name: &str) -> Vec<Leftover> {
    let own = procfs::command(process::self_pid());
    let uptime: f64 =
        procfs::read("/proc/uptime").and_then(|text| text.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    let mut sessions: BTreeMap<i32, (u64, Leftover)> = BTreeMap::new();
    for pid in procfs::numbers("/proc") {
        let Some(pool) = pool_of(pid, name) else { continue };
        let (Some(session), Some(start)) = (process::session_of(pid), process::start_time(pid)) else { continue };
        // One that has a master is its business.
        let parent = procfs::stat_field(session, 4).and_then(|parent| i32::try_from(parent).ok()).filter(|parent| *parent > 1);
        if parent.and_then(procfs::command).is_some_and(|command| Some(command) == own) || session == process::self_pid() {
            continue;
        }
        let started = Duration::from_secs(start).as_secs_f64() / ticks();
        let age = Duration::try_from_secs_f64(uptime - started).unwrap_or_default();
        let found = Leftover { pid, pool, program: procfs::command(pid).unwrap_or_default(), age };
        match sessions.get(&session) {
            Some((first, _)) if *first <= start => {}
            _ => drop(sessions.insert(session, (start, found))),
        }
    }
    sessions.into_values().map(|(_, found)| found).collect()
}

/// Clock ticks of a second, as /proc counts.
fn ticks() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|n| u32::try_from(n).ok()).map_or(100.0, f64::from)
}

/// The pool that a process was started for, by a master of this name.
fn pool_of(pid: i32, instance: &str) -> Option<String> {
    let environ = procfs::read(&format!("/proc/{pid}/environ"))?;
    let value = |name: &str| environ.split('\0').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
    (value("POOLMASTER_INSTANCE")? == instance).then(|| value("POOLMASTER_POOL").map(str::to_owned))?
}
