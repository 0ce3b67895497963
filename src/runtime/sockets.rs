//! Owns the open listeners. They belong to the master: they outlive workers and reloads, and close when nobody uses them any more.

use std::rc::Rc;

use super::identity::{group_id, look_up};
use crate::config::spec::{Address, Listener};
use crate::os::listener::{ListenAddress, ListenError, ListenSpec, Listening, SocketOptions};

/// An open listener. Its Unix path goes with its last user.
#[derive(Debug)]
pub(super) struct Socket {
    address: Address,
    /// The listener that it was opened for, as POOL.LISTENER.
    origin: String,
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

/// What to open, with numbers for names. `Err` says in words whom this host does not know.
fn spec_of(config: &Listener) -> Result<ListenSpec, String> {
    let address = match &config.address {
        Address::Tcp { addr, dual } => ListenAddress::Tcp { addr: *addr, dual: *dual },
        Address::Udp { addr, dual } => ListenAddress::Udp { addr: *addr, dual: *dual },
        Address::Unix(path) => ListenAddress::Unix(path.clone()),
        Address::Abstract(name) => ListenAddress::Abstract(name.clone()),
    };
    let options = &config.options;
    Ok(ListenSpec {
        address,
        backlog: config.backlog,
        nonblocking: config.nonblocking,
        nodelay: config.nodelay,
        mode: config.mode,
        owner: config.owner.as_ref().map(|owner| look_up(owner, "owner")).transpose()?.map(|(uid, _)| uid),
        group: config.group.as_ref().map(|group| group_id(group, "group")).transpose()?,
        options: SocketOptions {
            freebind: options.freebind,
            defer_accept: options.defer_accept,
            fastopen: options.fastopen,
            keepalive: options.keepalive,
            device: options.device.clone(),
            mark: options.mark,
        },
    })
}

/// Why a pool has no listener.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It could not be opened.
    #[error(transparent)]
    Listen(#[from] Box<ListenError>),
    /// Its owner or group could not be looked up.
    #[error("{0}")]
    Account(String),
}

/// A listener of a config and the socket that it has.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) socket: Rc<Socket>,
    spec: ListenSpec,
}

/// Opens a listener. One that is open already, in whichever pool, keeps its socket and so its queue, and for now its options: the config may
/// still turn out to be no good.
pub(super) fn open(pool: &str, config: &Listener, open: &mut Vec<Rc<Socket>>) -> Result<Opened, OpenError> {
    let spec = spec_of(config).map_err(OpenError::Account)?;
    let origin = config.shared.clone().unwrap_or_else(|| format!("{pool}.{}", config.name));
    // Any free port is another one for each listener.
    let any_port = matches!(config.address, Address::Tcp { addr, .. } | Address::Udp { addr, .. } if addr.port() == 0);
    if let Some(same) = open.iter().find(|s| s.address == config.address && (!any_port || s.origin == origin)) {
        return Ok(Opened { socket: Rc::clone(same), spec });
    }
    let listening = Listening::open(&spec).map_err(Box::new)?;
    let socket = Rc::new(Socket { address: config.address.clone(), origin, listening });
    open.push(Rc::clone(&socket));
    Ok(Opened { socket, spec })
}

impl Opened {
    /// Gives the socket the options of a config that is in force from now on. They are only options: one that cannot be set is told, and the
    /// socket serves on.
    pub(super) fn apply(&self) {
        let listening = &self.socket.listening;
        for (what, e) in listening.set_options(&self.spec) {
            tracing::warn!("listener {}: cannot change its {what}: {e}; it stays as it was", listening.local_addr());
        }
    }
}
