//! Owns the open listeners. They belong to the master: they outlive workers and reloads, and close when nobody uses them any more.

use std::rc::Rc;

use super::handed::Handed;
use super::identity::{group_id, look_up};
use crate::config::spec::{Address, Listener};
use crate::os::listener::{ListenAddress, ListenError, ListenSpec, Listening, SocketOptions};

/// An open listener. Its Unix path goes with its last user.
#[derive(Debug)]
pub(super) struct Socket {
    address: Address,
    /// The listener that it was opened for, as POOL.LISTENER.
    origin: String,
    /// Its name, when the master was started with it.
    pub(super) inherited: Option<String>,
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

/// Where to bind; `None`: nowhere, the socket is inherited.
pub(super) fn address_of(address: &Address) -> Option<ListenAddress> {
    Some(match address {
        Address::Tcp { addr, dual } => ListenAddress::Tcp { addr: *addr, dual: *dual },
        Address::Udp { addr, dual } => ListenAddress::Udp { addr: *addr, dual: *dual },
        Address::Unix(path) => ListenAddress::Unix(path.clone()),
        Address::Abstract(name) => ListenAddress::Abstract(name.clone()),
        Address::Inherit(_) => return None,
    })
}

/// What to open, with numbers for names. `Err` says in words whom this host does not know.
fn spec_of(config: &Listener, address: ListenAddress) -> Result<ListenSpec, OpenError> {
    let options = &config.options;
    Ok(ListenSpec {
        address,
        backlog: config.backlog,
        nonblocking: config.nonblocking,
        nodelay: config.nodelay,
        mode: config.mode,
        owner: config
            .owner
            .as_ref()
            .map(|owner| look_up(owner, "owner"))
            .transpose()
            .map_err(OpenError::Account)?
            .map(|(uid, _)| uid),
        group: config.group.as_ref().map(|group| group_id(group, "group")).transpose().map_err(OpenError::Account)?,
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
    /// The master was not started with it.
    #[error("cannot take inherit:{name}: {why}")]
    NotHanded {
        /// Its name.
        name: String,
        /// Why not, and what to do.
        why: String,
    },
}

/// A listener of a config and the socket that it has.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) socket: Rc<Socket>,
    spec: ListenSpec,
}

/// Opens a listener. One that is open already, in whichever pool, keeps its socket and so its queue, and for now its options: the config may
/// still turn out to be no good. One that the master was started with is taken instead of bound.
pub(super) fn open(pool: &str, config: &Listener, open: &mut Vec<Rc<Socket>>, handed: &mut Handed) -> Result<Opened, OpenError> {
    let origin = config.shared.clone().unwrap_or_else(|| format!("{pool}.{}", config.name));
    let wanted = address_of(&config.address);
    if let Some(same) = open.iter().find(|socket| socket.serves(config, wanted.as_ref(), &origin)) {
        let spec = spec_of(config, same.listening.local_addr().clone())?;
        return Ok(Opened { socket: Rc::clone(same), spec });
    }
    let inherited = match (&config.address, &wanted) {
        (Address::Inherit(name), _) => {
            let named = handed.named(name);
            Some(named.map_err(|why| OpenError::NotHanded { name: name.clone(), why })?)
        }
        (_, Some(wanted)) => handed.at(wanted),
        (_, None) => None,
    };
    let (listening, spec, name) = match (inherited, wanted) {
        (Some((inherited, address)), _) => {
            let spec = spec_of(config, address)?;
            (Listening::adopt(inherited.fd, &spec).map_err(Box::new)?, spec, Some(inherited.name))
        }
        (None, Some(wanted)) => {
            let spec = spec_of(config, wanted)?;
            (Listening::open(&spec).map_err(Box::new)?, spec, None)
        }
        (None, None) => return Err(OpenError::NotHanded { name: String::new(), why: "it has no name".to_owned() }),
    };
    let socket = Rc::new(Socket { address: config.address.clone(), origin, inherited: name, listening });
    open.push(Rc::clone(&socket));
    Ok(Opened { socket, spec })
}

impl Socket {
    /// It is what this listener wants. `wanted`: its address; `origin`: whose it is.
    fn serves(&self, config: &Listener, wanted: Option<&ListenAddress>, origin: &str) -> bool {
        // Any free port is another one for each listener.
        let any_port = matches!(config.address, Address::Tcp { addr, .. } | Address::Udp { addr, .. } if addr.port() == 0);
        let named = |name: &String| match &config.address {
            Address::Inherit(wanted) => name == wanted,
            _ => wanted.is_some_and(|wanted| wanted.same_place(self.listening.local_addr())),
        };
        self.inherited.as_ref().is_some_and(named) || self.address == config.address && (!any_port || self.origin == origin)
    }
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
