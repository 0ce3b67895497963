//! Owns the open listeners. They belong to the master: they outlive workers and reloads, and close when nobody uses them any more.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::accounts::Accounts;
use super::handed::Handed;
use super::handover::{SlotsState, SocketState};
use crate::config::spec::{Address, Config, Listener};
use crate::os::accepting::Wanted;
use crate::os::handover::Taken;
use crate::os::listener::{ListenAddress, ListenError, ListenSpec, Listening, PortGroup, SocketOptions};
use crate::supervisor::PoolId;

/// An open listener. Its Unix path goes with its last user.
#[derive(Debug)]
pub(super) struct Socket {
    address: Address,
    /// The listener that it was opened for, as POOL.LISTENER.
    origin: String,
    /// Its name, when the master was started with it.
    pub(super) inherited: Option<String>,
    /// The one that all workers have, or that of slot 0.
    pub(super) listening: Rc<Listening>,
    /// Workers may have their own (`reuseport`). Once there, it stays: with its first member alone it is as good as one for all.
    slots: OnceCell<Slots>,
}

/// The sockets of slots that share a port. A slot keeps its socket when its worker dies; beside a living worker, its replacement gets a fresh one.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) group: RefCell<PortGroup>,
    /// What one more is opened by.
    spec: RefCell<ListenSpec>,
    /// For which slot of which pool each member of the group was opened.
    owners: RefCell<BTreeMap<u32, (PoolId, u32)>>,
    /// The config in force has it so.
    wanted: Cell<bool>,
}

impl Slots {
    fn new(group: PortGroup, spec: ListenSpec) -> Slots {
        Slots { group: RefCell::new(group), spec: RefCell::new(spec), owners: RefCell::default(), wanted: Cell::new(true) }
    }

    /// For the next image of the master. `own`: the one that stays with the listener.
    fn state(&self, own: &Rc<Listening>) -> std::io::Result<SlotsState> {
        Ok(SlotsState {
            group: self.group.borrow().state(own)?,
            spec: self.spec.borrow().clone(),
            owners: self.owners.borrow().clone(),
            wanted: self.wanted.get(),
        })
    }

    /// As the image before has left them.
    pub(super) fn restore(state: SlotsState, own: &Rc<Listening>, taken: &mut Taken) -> std::io::Result<Slots> {
        Ok(Slots {
            group: RefCell::new(PortGroup::restore(state.group, own, taken)?),
            spec: RefCell::new(state.spec),
            owners: RefCell::new(state.owners),
            wanted: Cell::new(state.wanted),
        })
    }

    /// Of one that is for all workers again nobody else is to have the port.
    pub(super) fn tidy(&self) {
        if !self.wanted.get() {
            self.group.borrow_mut().keep_alone();
        }
    }

    /// Whose this member is. `None`: the first one, before anybody had it.
    pub(super) fn owner(&self, member: u32) -> Option<(PoolId, u32)> {
        self.owners.borrow().get(&member).copied()
    }

    /// The members that a worker in this slot may be given: its own, and in the first slot the one that stays with the listener.
    pub(super) fn members_for(&self, pool: PoolId, slot: u32) -> Vec<u32> {
        let own = |member: &u32| self.owner(*member) == Some((pool, slot)) || (*member == FIRST && slot == FIRST);
        self.group.borrow().members().map(|(member, _)| member).filter(own).collect()
    }

    /// A member for a worker that is about to be started: one of its slot that no living process has, the fuller first, or a fresh one.
    fn seat(&self, (pool, slot): (PoolId, u32), held: &BTreeSet<u32>) -> Result<(u32, Rc<Listening>), ListenError> {
        let free = self.members_for(pool, slot).into_iter().filter(|member| !held.contains(member));
        let fullest = free.max_by_key(|member| (self.group.borrow().waiting(*member), std::cmp::Reverse(*member)));
        let (mut group, spec) = (self.group.borrow_mut(), self.spec.borrow());
        let there = fullest.and_then(|member| Some((member, Rc::clone(group.get(member)?))));
        let (member, listening) = match there {
            Some(there) => there,
            None => {
                // By its slot's own number, where nobody has that.
                let fresh = std::iter::once(slot).chain(SPARE..).find(|number| group.get(*number).is_none());
                let fresh = fresh.unwrap_or(slot);
                (fresh, group.join(&spec, fresh)?)
            }
        };
        self.owners.borrow_mut().insert(member, (pool, slot));
        drop((group, spec));
        self.open_again(member, slot);
        Ok((member, listening))
    }

    /// The worker before may have shut it down, which is nobody else's loss here.
    fn open_again(&self, member: u32, slot: u32) {
        let mut group = self.group.borrow_mut();
        group.notice(|other| other == member);
        if let Err(e) = group.revive(member, self.spec.borrow().backlog) {
            tracing::warn!(slot, "listener {}: cannot open the queue of the slot anew: {e}", group.local_addr());
        }
    }

    /// The member was closed.
    pub(super) fn forget(&self, member: u32) {
        self.owners.borrow_mut().remove(&member);
    }
}

impl Slots {
    /// The length of each queue.
    pub(super) fn backlog(&self) -> u32 {
        self.spec.borrow().backlog
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A start holds it for a moment; such a socket has no file.
        let Some(listening) = Rc::get_mut(&mut self.listening) else { return };
        // Only the owner of the path removes it; one that somebody else has taken over by rename stays.
        if let Err(e) = listening.unlink_if_owner() {
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

/// The kernel chooses the port.
fn is_any_port(address: &Address) -> bool {
    matches!(address, Address::Tcp { addr, .. } | Address::Udp { addr, .. } if addr.port() == 0)
}

/// The owner of its file, as a number.
pub(super) fn owner_of(config: &Listener, accounts: &Accounts) -> Result<Option<u32>, String> {
    Ok(config.owner.as_ref().map(|owner| accounts.user(owner, "owner")).transpose()?.map(|(uid, _)| uid))
}

/// The group of its file, as a number.
pub(super) fn group_of(config: &Listener, accounts: &Accounts) -> Result<Option<u32>, String> {
    config.group.as_ref().map(|group| accounts.group(group, "group")).transpose()
}

/// What to open, with numbers for names. `Err` says in words whom this host does not know.
fn spec_of(config: &Listener, address: ListenAddress, accounts: &Accounts) -> Result<ListenSpec, OpenError> {
    let options = &config.options;
    Ok(ListenSpec {
        address,
        backlog: config.backlog,
        nonblocking: config.nonblocking,
        nodelay: config.nodelay,
        mode: config.mode,
        owner: owner_of(config, accounts).map_err(OpenError::Account)?,
        group: group_of(config, accounts).map_err(OpenError::Account)?,
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

impl OpenError {
    /// Somebody else has the address, who may be about to leave it.
    pub(super) fn in_use(&self) -> bool {
        matches!(self, OpenError::Listen(e) if e.errno == Some(libc::EADDRINUSE))
    }
}

/// A listener of a config and the socket that it has.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) socket: Rc<Socket>,
    spec: ListenSpec,
    /// Workers have their own.
    reuseport: bool,
    /// Whose it is, where its lost file was made anew.
    anew: Option<String>,
}

/// The sockets that are open while a config is made ready, found by address: there may be thousands.
pub(super) struct OpenSockets {
    by_address: BTreeMap<Address, Vec<Rc<Socket>>>,
    /// Those that the master was started with: they have a name as well.
    inherited: Vec<Rc<Socket>>,
    /// Those that the config has no more.
    leaving: Vec<Rc<Socket>>,
}

impl OpenSockets {
    pub(super) fn of(open: Vec<Rc<Socket>>, config: &Config) -> OpenSockets {
        let wanted: BTreeSet<&Address> = config.pools.iter().flat_map(|pool| &pool.listeners).map(|l| &l.address).collect();
        let leaving = open.iter().filter(|socket| !wanted.contains(&socket.address)).cloned().collect();
        let mut sockets = OpenSockets { by_address: BTreeMap::new(), inherited: Vec::new(), leaving };
        open.into_iter().for_each(|socket| sockets.add(socket));
        sockets
    }

    fn add(&mut self, socket: Rc<Socket>) {
        if socket.inherited.is_some() {
            self.inherited.push(socket);
        } else {
            self.by_address.entry(socket.address.clone()).or_default().push(socket);
        }
    }

    /// Those that may be what is wanted at this address.
    fn near(&self, address: &Address) -> impl Iterator<Item = &Rc<Socket>> {
        self.inherited.iter().chain(self.by_address.get(address).into_iter().flatten())
    }
}

/// Why this listener cannot be opened by a reload: what this master has open on its port, in words.
pub(super) fn in_the_way(pool: &str, listener: &Listener, open: &OpenSockets) -> Option<String> {
    let origin = listener.shared.clone().unwrap_or_else(|| format!("{pool}.{}", listener.name));
    let wanted = address_of(&listener.address);
    if open.near(&listener.address).any(|socket| socket.serves(listener, wanted.as_ref(), &origin)) {
        return None;
    }
    let wanted = wanted?;
    let beside =
        |socket: &Socket| !listener.reuseport && socket.slots().is_none() && wanted.takes_in(socket.listening.local_addr());
    let there = open.leaving.iter().find(|socket| wanted.overlaps(socket.listening.local_addr()) && !beside(socket))?;
    Some(format!(
        "listener {}: the reload will be refused: {wanted} cannot be opened beside {}, which is open until its last worker is gone; take that away by \
         one reload, and name the new address in the next",
        listener.name,
        there.listening.local_addr()
    ))
}

/// Opens a listener. One that is open already, in whichever pool, keeps its socket and so its queue, and for now its options: the config may
/// still turn out to be no good. One that the master was started with is taken instead of bound.
pub(super) fn open(
    pool: &str,
    config: &Listener,
    open: &mut OpenSockets,
    handed: &mut Handed,
    accounts: &Accounts,
) -> Result<Opened, OpenError> {
    let origin = config.shared.clone().unwrap_or_else(|| format!("{pool}.{}", config.name));
    let wanted = address_of(&config.address);
    let serving = |socket: &&Rc<Socket>| socket.serves(config, wanted.as_ref(), &origin);
    let found = open.near(&config.address).filter(serving).find(|socket| !socket.is_lost());
    let lost = open.near(&config.address).find(serving).filter(|_| found.is_none()).cloned();
    if let Some(lost) = lost {
        let spec = spec_of(config, lost.listening.local_addr().clone(), accounts)?;
        let listening = Rc::new(lost.listening.open_anew(&spec).map_err(Box::new)?);
        let socket = Rc::new(Socket {
            address: config.address.clone(),
            origin: origin.clone(),
            inherited: None,
            listening,
            slots: OnceCell::new(),
        });
        open.add(Rc::clone(&socket));
        return Ok(Opened { socket, spec, reuseport: false, anew: Some(origin) });
    }
    if let Some(same) = found {
        let spec = spec_of(config, same.listening.local_addr().clone(), accounts)?;
        // One that is handed over is one socket, whatever is wanted.
        if config.reuseport && same.inherited.is_none() {
            same.split(&spec).map_err(Box::new)?;
        }
        return Ok(Opened { socket: Rc::clone(same), spec, reuseport: config.reuseport, anew: None });
    }
    if let Some((first, address)) = handed.of_listener(&origin, &config.address.to_string()) {
        let address = match (wanted, address) {
            // The kernel knows the file of a Unix socket by the name that it was renamed from.
            (Some(unix @ (ListenAddress::Unix(_) | ListenAddress::Abstract(_))), _) => unix,
            (wanted, real) => real
                .or(wanted)
                .ok_or_else(|| OpenError::NotHanded { name: origin.clone(), why: "it has no address".to_owned() })?,
        };
        let inherited = match &config.address {
            Address::Inherit(name) => Some(name.clone()),
            Address::Tcp { .. } | Address::Udp { .. } | Address::Unix(_) | Address::Abstract(_) => None,
        };
        let spec = spec_of(config, address, accounts)?;
        let listening = Rc::new(Listening::join(first.fd, &spec).map_err(Box::new)?);
        let socket = Socket { address: config.address.clone(), origin, inherited, listening, slots: OnceCell::new() };
        let socket = Rc::new(socket);
        open.add(Rc::clone(&socket));
        return Ok(Opened { socket, spec, reuseport: false, anew: None });
    }
    let inherited = match (&config.address, &wanted) {
        (Address::Inherit(name), _) => {
            let named = handed.named(name);
            Some(named.map_err(|why| OpenError::NotHanded { name: name.clone(), why })?)
        }
        (_, Some(wanted)) => handed.at(wanted),
        (_, None) => None,
    };
    let (listening, slots, spec, name) = match (inherited, wanted) {
        (Some((inherited, address)), _) => {
            let spec = spec_of(config, address, accounts)?;
            if config.reuseport {
                tracing::warn!(
                    pool,
                    "listener {}: reuseport has no effect: all slots have the one that the master was started with",
                    config.name
                );
            }
            let adopt = if handed.are_shared() { Listening::join } else { Listening::adopt };
            (Rc::new(adopt(inherited.fd, &spec).map_err(Box::new)?), OnceCell::new(), spec, Some(inherited.name))
        }
        (None, Some(wanted)) if config.reuseport => {
            let spec = spec_of(config, wanted, accounts)?;
            let group = PortGroup::found(&spec, FIRST).map_err(Box::new)?;
            let first = group.get(FIRST).map(Rc::clone).ok_or_else(|| OpenError::Account("it has no socket".to_owned()))?;
            (first, OnceCell::from(Slots::new(group, spec.clone())), spec, None)
        }
        (None, Some(wanted)) => {
            let spec = spec_of(config, wanted, accounts)?;
            // Where this master has the port for one address, it may have it for all: what leaves the config goes with its last worker.
            let within: Vec<&Listening> = open
                .leaving
                .iter()
                .filter(|socket| socket.slots().is_none())
                .filter(|socket| spec.address.takes_in(socket.listening.local_addr()))
                .map(|socket| socket.listening.as_ref())
                .collect();
            let listening = if within.is_empty() { Listening::open(&spec) } else { Listening::open_beside(&spec, &within) };
            (Rc::new(listening.map_err(Box::new)?), OnceCell::new(), spec, None)
        }
        (None, None) => return Err(OpenError::NotHanded { name: String::new(), why: "it has no name".to_owned() }),
    };
    let socket = Rc::new(Socket { address: config.address.clone(), origin, inherited: name, listening, slots });
    open.add(Rc::clone(&socket));
    Ok(Opened { socket, spec, reuseport: config.reuseport, anew: None })
}

/// The slot, and the member of its group, that is there for as long as the listener.
pub(super) const FIRST: u32 = 0;
/// Members with numbers from here on are second ones of their slot.
const SPARE: u32 = 1 << 20;

impl Socket {
    /// For the next image of the master.
    pub(super) fn state(&self) -> std::io::Result<SocketState> {
        Ok(SocketState {
            address: self.address.clone(),
            origin: self.origin.clone(),
            inherited: self.inherited.clone(),
            listening: self.listening.state()?,
            slots: self.slots.get().map(|slots| slots.state(&self.listening)).transpose()?,
        })
    }

    /// As the image before has left it. Both were restored before.
    pub(super) fn restored(state: SocketState, listening: Rc<Listening>, slots: Option<Slots>) -> Socket {
        let SocketState { address, origin, inherited, listening: _, slots: _ } = state;
        Socket { address, origin, inherited, listening, slots: slots.map(OnceCell::from).unwrap_or_default() }
    }

    /// Whose it is: `POOL.LISTENER`.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Where it listens, as in the config.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// The sockets of slots, where there are such.
    pub(super) fn slots(&self) -> Option<&Slots> {
        self.slots.get()
    }

    /// From now on workers may have their own. Those that have the one for all keep it, as the first of the group.
    fn split(&self, spec: &ListenSpec) -> Result<(), ListenError> {
        if self.slots.get().is_none() {
            let group = PortGroup::around(Rc::clone(&self.listening), FIRST, is_any_port(&self.address))?;
            let slots = Slots::new(group, spec.clone());
            // Only a config that is in force makes it so.
            slots.wanted.set(false);
            // Nobody has set it meanwhile.
            let _ = self.slots.set(slots);
        }
        Ok(())
    }

    /// What a worker of this slot is given, and which member of the group that is, where there is one. `own`: its config has a socket for each
    /// slot. `held`: those of living processes.
    pub(super) fn give(
        &self,
        own: bool,
        owner: (PoolId, u32),
        held: &BTreeSet<u32>,
    ) -> Result<(Option<u32>, Rc<Listening>), ListenError> {
        match self.slots.get() {
            Some(slots) if own => slots.seat(owner, held).map(|(member, listening)| (Some(member), listening)),
            Some(slots) => {
                slots.open_again(FIRST, FIRST);
                Ok((Some(FIRST), Rc::clone(&self.listening)))
            }
            None => Ok((None, Rc::clone(&self.listening))),
        }
    }

    /// Gives a Unix socket's file the name back that somebody has removed, and says so.
    pub(super) fn restore_file(&self) {
        match self.listening.restore_file() {
            Ok(true) => tracing::warn!(
                "the file of {} was removed by somebody: it is there again, for the same socket; nobody who waits was lost",
                self.listening.local_addr()
            ),
            Ok(false) => {}
            Err(e) => tracing::warn!("cannot make the removed file of {} again: {e}", self.listening.local_addr()),
        }
    }

    /// Nobody comes in any more, and nothing but another socket helps. One of TCP can listen again.
    fn is_lost(&self) -> bool {
        let unix = matches!(self.listening.local_addr(), ListenAddress::Unix(_));
        unix && (self.listening.lost_file().is_some() || !self.listening.state_listening())
    }

    /// What a worker that was given this member is to accept on.
    pub(super) fn wanted(&self, member: Option<u32>) -> Wanted {
        let slots = self.slots.get().zip(member);
        let own = slots.and_then(|(slots, member)| slots.group.borrow().get(member).map(|listening| listening.inode()));
        Wanted { inode: own.unwrap_or_else(|| self.listening.inode()), address: self.listening.local_addr().clone() }
    }

    /// All its sockets.
    pub(super) fn all(&self) -> Vec<Rc<Listening>> {
        match self.slots.get() {
            Some(slots) => slots.group.borrow().members().map(|(_, listening)| Rc::clone(listening)).collect(),
            None => vec![Rc::clone(&self.listening)],
        }
    }

    /// Connections that wait at any of its sockets, and how many may; `None` as for one.
    pub(super) fn queue(&self) -> Option<(u32, u32)> {
        let queues = self.all().into_iter().map(|listening| listening.queue());
        queues.reduce(|sum, queue| Some((sum?.0.saturating_add(queue?.0), sum?.1.saturating_add(queue?.1)))).flatten()
    }

    /// It is what this listener wants. `wanted`: its address; `origin`: whose it is.
    fn serves(&self, config: &Listener, wanted: Option<&ListenAddress>, origin: &str) -> bool {
        // Any free port is another one for each listener.
        let any_port = is_any_port(&config.address);
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
        if let Some(origin) = &self.anew {
            tracing::warn!(
                "listener {origin}: {} was lost, by its file or by a worker that shut it down: made anew",
                self.spec.address
            );
        }
        if let Some(slots) = self.socket.slots.get() {
            // Slots that come join where the others are, at the real port.
            *slots.spec.borrow_mut() = self.spec.clone();
            slots.wanted.set(self.reuseport);
        }
        for listening in self.socket.all() {
            // An earlier config may have been without it, and its queue on the way out.
            if let Err(e) = listening.let_in_again() {
                tracing::warn!("listener {}: cannot let clients in again: {e}", listening.local_addr());
            }
            for (what, e) in listening.set_options(&self.spec) {
                tracing::warn!("listener {}: cannot change its {what}: {e}; it stays as it was", listening.local_addr());
            }
        }
    }
}
