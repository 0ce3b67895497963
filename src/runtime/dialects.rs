//! Owns what the protocols tell a worker by its environment: where its sockets are, how to report. LISTEN_PID and WATCHDOG_PID are written
//! after the fork, when the pid is known.

use super::pools::PoolRun;
use crate::config::spec::Protocols;
use crate::supervisor::WorkerId;

/// Names of the variables that only the master may set for workers that are spoken with like this.
pub(super) fn names(protocols: &Protocols) -> impl Iterator<Item = &'static str> {
    let systemd = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
    systemd.into_iter().filter(|_| protocols.systemd)
}

/// The variables of one worker that is given so many descriptors, from 3 on.
pub(super) fn variables(_id: WorkerId, run: &PoolRun, fds: usize) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut set = |name: &str, value: String| out.push((name.to_owned(), value));
    let config = &run.config;
    if config.launch.protocols.systemd {
        if fds > 0 {
            let names: Vec<&str> = config.listeners.iter().map(|l| l.name.as_str()).collect();
            set("LISTEN_FDS", fds.to_string());
            set("LISTEN_FDNAMES", names.join(":"));
        }
        if let Some(timeout) = config.spec.timeout {
            set("WATCHDOG_USEC", timeout.as_micros().to_string());
        }
    }
    out
}
