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
        Address::Unix(path) => ListenAddress::Unix(path.clone()),
    };
    ListenSpec { address, backlog: config.backlog, nonblocking: config.nonblocking, nodelay: config.nodelay, mode: config.mode }
}

/// Opens a listener. One that is open already, in whichever pool, keeps its socket and so its queue; its options are set anew by
/// [`Kept::apply`], once the whole config is known to be good.
pub(super) fn open_one(wanted: &Listener, open: &mut Vec<Rc<Socket>>, kept: &mut Kept) -> Result<Rc<Socket>, ListenError> {
    let spec = spec_of(wanted);
    if let Some(same) = open.iter().find(|s| s.address == wanted.address) {
        kept.0.push((Rc::clone(same), spec));
        return Ok(Rc::clone(same));
    }
    let socket = Rc::new(Socket { address: wanted.address.clone(), listening: Listening::open(&spec)? });
    open.push(Rc::clone(&socket));
    Ok(socket)
}

/// Sockets that stay open under a new config, with their options by that.
#[derive(Default)]
pub(super) struct Kept(Vec<(Rc<Socket>, ListenSpec)>);

impl Kept {
    pub(super) fn apply(self) {
        for (socket, spec) in self.0 {
            apply(&socket.listening, &spec);
        }
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
        ListenAddress::Unix(path) => {
            if let Some(mode) = spec.mode {
                told("mode", std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)));
            }
        }
    }
}
