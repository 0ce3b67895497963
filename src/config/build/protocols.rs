//! Owns how sockets and readiness are spoken about with a pool's workers, and whether the protocols fit its listeners.

use super::super::diagnostics::Diagnostics;
use super::super::spec::{Address, Look, Protocols};
use super::super::value::start::{Outside, Ready};
use super::super::words;
use super::listen::Listeners;
use super::reader::Reader;
use crate::supervisor::ReadyKind;

/// Reads the protocols. With `port` the workers listen themselves: the listener is taken out, only its address is left.
pub(super) fn build(r: &Reader<'_>, listeners: &mut Listeners, diags: &mut Diagnostics) -> Protocols {
    let spoken = r.words("protocols");
    let speaks = |name: &str| spoken.iter().any(|word| word == name);
    let place = r.place("protocols");
    let count = listeners.names.len();
    if speaks("stdin") && count != 1 {
        let what =
            format!("{}.protocols: \"stdin\" gives the worker one listener as its stdin, and the pool has {count}", r.path);
        diags.lacks(&place, what, "give the pool exactly one listener");
    }
    let port = speaks("port").then(|| port(r, listeners, diags)).flatten();
    Protocols {
        systemd: speaks("systemd"),
        listen_pid: r.text("listen_pid") != "omit",
        einhorn: speaks("einhorn"),
        server_starter: speaks("server-starter"),
        stdin: speaks("stdin"),
        ready_fd: ready_fd(r, speaks("s6"), listeners.names.len(), diags),
        port,
    }
}

/// The number of the descriptor on which a worker says that it is ready.
fn ready_fd(r: &Reader<'_>, s6: bool, listeners: usize, diags: &mut Diagnostics) -> Option<u32> {
    let first_free = u32::try_from(listeners).unwrap_or(u32::MAX).saturating_add(3);
    match r.ready("ready") {
        Ready::Fd(number) if number < first_free => {
            let taken = if number < 3 { "the standard streams" } else { "the listeners" };
            let what = format!("{}.ready: descriptor {number} is one of {taken}", r.path);
            diags.error(&r.place("ready"), what, format!("from fd:{first_free} on the numbers are free"));
            None
        }
        Ready::Fd(number) => Some(number),
        _ if !s6 => None,
        _ if listeners == 0 => Some(3),
        _ => {
            let what = format!("{}.protocols: \"s6\" needs the number of the descriptor that the worker writes to", r.path);
            diags.lacks(&r.place("protocols"), what, format!("add ready = \"fd:{first_free}\", or another number from there on"));
            None
        }
    }
}

/// The address from which on each slot has a port of its own.
fn port(r: &Reader<'_>, listeners: &mut Listeners, diags: &mut Diagnostics) -> Option<std::net::SocketAddr> {
    let place = r.place("protocols");
    let help = "write listen = \"127.0.0.1:9000\": the worker of slot 0 gets PORT=9000, that of slot 1 PORT=9001, and so on";
    let found = match &listeners.list[..] {
        [only] if listeners.names.len() == 1 => match &only.address {
            Address::Tcp { addr, .. } if addr.port() != 0 => Some(*addr),
            _ => None,
        },
        _ => None,
    };
    let judged = !listeners.list.is_empty() || !listeners.shares.is_empty();
    if found.is_none() && (listeners.names.len() != 1 || judged) {
        let what = format!("{}.protocols: \"port\" needs one TCP address with a port", r.path);
        diags.lacks(&place, what, help);
    }
    // They are the workers' own: the master opens nothing there.
    *listeners = Listeners::default();
    found
}

/// How the pool's workers get ready, and what is looked at for it from outside.
pub(super) fn ready(r: &Reader<'_>, listens: bool, p: &Protocols, diags: &mut Diagnostics) -> (ReadyKind, Option<Look>) {
    let place = || r.place("ready");
    let can_tell = p.systemd || p.einhorn || p.ready_fd.is_some();
    match r.ready("ready") {
        Ready::Kind(ReadyKind::Accepting) if !listens => {
            let help = match p.port {
                Some(_) => "its workers listen themselves: use \"auto\", or \"tcp:127.0.0.1:{port}\"",
                None => "add listen = \":8000\", or use \"exec\", \"notify\" or \"delay:2s\"",
            };
            diags.lacks(&place(), format!("{}.ready: \"accepting\" needs a listener of the master's", r.path), help);
            (ReadyKind::Exec, None)
        }
        Ready::Kind(ReadyKind::Notify) if !can_tell => {
            diags.lacks(
                &place(),
                format!("{}.ready: \"notify\" needs protocols = [\"systemd\"]", r.path),
                "add the protocol (or \"einhorn\" or \"s6\"), or use \"exec\" or \"delay:2s\"",
            );
            (ReadyKind::Exec, None)
        }
        Ready::Kind(kind) => (kind, None),
        Ready::Fd(_) => (ReadyKind::Notify, None),
        Ready::Outside(kind, text) => (ReadyKind::Accepting, Some(look(kind, text))),
        // What start_server calls started: alive after an interval, which is `settle` here.
        Ready::Auto if listens && p.server_starter && !can_tell => (ReadyKind::Exec, None),
        Ready::Auto if listens => (ReadyKind::NotifyOrAccepting, None),
        Ready::Auto => match p.port {
            Some(addr) => (ReadyKind::Accepting, Some(Look::Tcp(format!("{}:{{port}}", host(addr))))),
            // Asked for, and there is no other sign.
            None if p.ready_fd.is_some() => (ReadyKind::Notify, None),
            None => (ReadyKind::Exec, None),
        },
    }
}

fn look(kind: Outside, text: String) -> Look {
    match kind {
        Outside::Tcp => Look::Tcp(text),
        Outside::Http => Look::Http(text),
        Outside::Command => Look::Command(words::split(&text).unwrap_or_default()),
    }
}

/// As it stands before the colon of a port.
fn host(addr: std::net::SocketAddr) -> String {
    match addr.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
