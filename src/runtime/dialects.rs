//! Owns what the protocols tell a worker by its environment: where its sockets are, how to report. LISTEN_PID and WATCHDOG_PID are written
//! after the fork, when the pid is known.

use std::path::Path;

use super::pools::PoolRun;
use crate::config::spec::Protocols;
use crate::os::listener::ListenAddress;
use crate::os::process::self_pid;
use crate::supervisor::WorkerId;

/// Names of the variables that only the master may set for workers that are spoken with like this.
pub(super) fn names(protocols: &Protocols) -> impl Iterator<Item = &'static str> + use<> {
    let p = *protocols;
    let systemd = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE"];
    let einhorn = ["EINHORN_FD_COUNT", "EINHORN_FDS", "EINHORN_MASTER_PID", "EINHORN_SOCK_PATH", "EINHORN_CHILD_INDEX"];
    let starter = ["SERVER_STARTER_PORT", "SERVER_STARTER_GENERATION"];
    (systemd.into_iter().filter(move |_| p.systemd))
        .chain(einhorn.into_iter().filter(move |_| p.einhorn))
        .chain(starter.into_iter().filter(move |_| p.server_starter))
        .chain(["PORT"].into_iter().filter(move |_| p.port.is_some()))
}

/// The port that is a worker's own.
pub(super) fn port(run: &PoolRun, slot: u32) -> Option<u16> {
    let first = run.config.launch.protocols.port?.port();
    u16::try_from(u32::from(first).saturating_add(slot)).ok()
}

/// Name of the socket for acknowledgements, in the directory of the notify sockets.
pub(super) const ACKS: &str = "einhorn";

/// The variables of one worker. `stored`: names of the descriptors that it is given after its listeners.
pub(super) fn variables(id: WorkerId, run: &PoolRun, stored: &[&str]) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut set = |name: &str, value: String| out.push((name.to_owned(), value));
    let (config, p) = (&run.config, &run.config.launch.protocols);
    let listeners = || config.listeners.iter().map(|l| l.name.as_str());
    if p.systemd {
        let names: Vec<&str> = listeners().chain(stored.iter().copied()).collect();
        if !names.is_empty() {
            set("LISTEN_FDS", names.len().to_string());
            set("LISTEN_FDNAMES", names.join(":"));
        }
        if let Some(timeout) = config.spec.timeout {
            set("WATCHDOG_USEC", timeout.as_micros().to_string());
        }
    }
    if p.einhorn {
        let fds: Vec<String> = (3..).zip(listeners()).map(|(fd, _): (i32, _)| fd.to_string()).collect();
        set("EINHORN_FD_COUNT", fds.len().to_string());
        for (index, fd) in fds.iter().enumerate() {
            set(&format!("EINHORN_FD_{index}"), fd.clone());
        }
        set("EINHORN_FDS", fds.join(" "));
        set("EINHORN_MASTER_PID", self_pid().to_string());
        set("EINHORN_CHILD_INDEX", id.slot.to_string());
        set("EINHORN_SOCK_PATH", run.seen(&run.notify_dir.join(ACKS)).display().to_string());
    }
    if p.server_starter {
        let ports: Vec<String> = (3..).zip(&run.sockets).map(|(fd, s): (i32, _)| starter(s.listening.local_addr(), fd)).collect();
        set("SERVER_STARTER_PORT", ports.join(";"));
        set("SERVER_STARTER_GENERATION", id.generation.to_string());
    }
    if let Some(port) = port(run, id.slot) {
        set("PORT", port.to_string());
    }
    out
}

/// As Server::Starter writes it: `ADDRESS:PORT=FD`, the bare port for all interfaces, `PATH=FD`.
fn starter(address: &ListenAddress, fd: i32) -> String {
    match address {
        ListenAddress::Tcp { addr, dual } | ListenAddress::Udp { addr, dual } if *dual && addr.ip().is_unspecified() => {
            format!("{}={fd}", addr.port())
        }
        ListenAddress::Tcp { addr, .. } | ListenAddress::Udp { addr, .. } => format!("{addr}={fd}"),
        ListenAddress::Unix(path) => format!("{}={fd}", Path::display(path)),
        ListenAddress::Abstract(name) => format!("@{name}={fd}"),
    }
}
