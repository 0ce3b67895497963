//! Owns the open listeners. They belong to the master: they outlive workers and reloads, and close when nobody uses them any more.

use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

use nix::sys::socket::{setsockopt, sockopt};

use crate::config::spec::{Address, Listener};
use crate::os::io as fdio;
use crate::os::listener::{ListenAddress, ListenError, ListenSpec, Listening};

/// An open listener. Its Unix path goes with its last user.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) address: Address,
    pub(super) listening: Listening,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Only the owner of the path removes it; one that somebody else has taken over by rename stays.
        if let Err(e) = self.listening.unlink_if_owner() {
            tracing::warn!("cannot remove the socket file of {}: {e}", self.listening.local_addr());
        }
    }
}

fn spec_of(config: &Listener) -> ListenSpec {
    let address = match &config.address {
        Address::Tcp { addr, dual } => ListenAddress::Tcp { addr: *addr, dual: *dual },
        Address::Udp { addr, dual } => ListenAddress::Udp { addr: *addr, dual: *dual },
        Address::Unix(path) => ListenAddress::Unix(path.clone()),
        Address::Abstract(name) => ListenAddress::Abstract(name.clone()),
    };
    ListenSpec { address, backlog: config.backlog, nonblocking: config.nonblocking, nodelay: config.nodelay, mode: config.mode }
}

/// Opens the listeners of a pool. One that is open already, in whichever pool, keeps its socket and so its queue, and for now its options: the
/// config may still turn out to be no good.
pub(super) fn open_all(wanted: &[Listener], open: &mut Vec<Rc<Socket>>) -> Result<Vec<Rc<Socket>>, ListenError> {
    let mut sockets = Vec::with_capacity(wanted.len());
    for config in wanted {
        let socket = match open.iter().find(|s| s.address == config.address) {
            Some(same) => Rc::clone(same),
            None => {
                let listening = Listening::open(&spec_of(config))?;
                let socket = Rc::new(Socket { address: config.address.clone(), listening });
                open.push(Rc::clone(&socket));
                socket
            }
        };
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Gives the sockets of a pool the options of a config that is in force from now on.
pub(super) fn apply_all(wanted: &[Listener], sockets: &[Rc<Socket>]) {
    for (config, socket) in wanted.iter().zip(sockets) {
        apply(&socket.listening, &spec_of(config));
    }
}

/// Other options for a socket that stays open. They are only options: one that cannot be set is told, and the socket serves on.
fn apply(listening: &Listening, spec: &ListenSpec) {
    let told = |what: &str, result: Result<(), std::io::Error>| {
        if let Err(e) = result {
            tracing::warn!("listener {}: cannot change its {what}: {e}; it stays as it was", listening.local_addr());
        }
    };
    told("backlog", listening.set_backlog(spec.backlog));
    told("nonblocking mode", fdio::set_nonblocking(listening, spec.nonblocking));
    match &spec.address {
        ListenAddress::Tcp { .. } => {
            told("TCP_NODELAY", setsockopt(listening, sockopt::TcpNoDelay, &spec.nodelay).map_err(Into::into))
        }
        ListenAddress::Udp { .. } | ListenAddress::Abstract(_) => {}
        ListenAddress::Unix(path) => {
            if let Some(mode) = spec.mode {
                told("mode", std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)));
            }
        }
    }
}
