//! Owns listening sockets: opened once, kept open by the master, removed only on request and only by their owner. Refuses to accept: that is
//! the workers' part.

use std::cell::{Cell, OnceCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, UnixAddr, setsockopt, sockopt};

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Last};
use super::handover::{ListeningState, Passed, Taken};
use super::io::set_nonblocking;
use super::lockfile::{InstanceLock, LockError};
use super::socket_file::{
    self, Access, Failed, FileId, LONGEST, Occupied, check_free, keep_spare, listen_at, set_access, unlink_all,
};
use super::{process, procfs};

mod address;
mod door;
mod error;
mod group;
pub mod holder;
mod options;
mod queue;

pub use address::{ListenAddress, assignable, first_unprivileged};
pub use error::ListenError;
pub use group::PortGroup;
pub use options::{Refused, SocketOptions};
#[cfg(test)]
pub(in crate::os) use options::{device, get_number};

/// What to open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenSpec {
    /// Where.
    pub address: ListenAddress,
    /// Length of the accept queue; the kernel clamps it to [`somaxconn`].
    pub backlog: u32,
    /// O_NONBLOCK, seen by everyone who shares the socket.
    pub nonblocking: bool,
    /// TCP_NODELAY, inherited by accepted sockets.
    pub nodelay: bool,
    /// Permission bits of a Unix socket; `None`: by the umask.
    pub mode: Option<u32>,
    /// Owner of a Unix socket's file; `None`: as it is made.
    pub owner: Option<u32>,
    /// Its group.
    pub group: Option<u32>,
    /// What else may be set.
    pub options: SocketOptions,
}

impl ListenSpec {
    fn access(&self) -> Access {
        Access { mode: self.mode, owner: self.owner, group: self.group }
    }
}

/// An open listening socket. Dropping it closes our descriptor and leaves a Unix socket's file alone.
#[derive(Debug)]
pub struct Listening {
    fd: OwnedFd,
    address: ListenAddress,
    inode: u64,
    file: OnceCell<SocketFile>,
    /// Made by somebody else.
    inherited: Cell<bool>,
    /// Another master has it as well: its door stays open, and its file where it is.
    shared: Cell<bool>,
    /// What was asked for last: workers that share the socket may have set it otherwise, each for itself and its like.
    nonblocking: Cell<bool>,
    /// The same of its file.
    access: Cell<Access>,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: FileId,
    /// Shared with the one that takes its place, when the file was removed.
    lock: Rc<InstanceLock>,
}

/// What others did to the file of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostFile {
    /// Nothing is there.
    Removed,
    /// Something else is there now.
    Replaced,
}

/// How a socket stands to others on its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is alone there.
    Alone,
    /// It is alone there, and others may join it.
    Founder,
    /// It joins one that is there.
    Joiner,
}

impl Listening {
    /// Opens the socket: bound, set up and listening.
    pub fn open(spec: &ListenSpec) -> Result<Listening, ListenError> {
        Listening::open_as(spec, Place::Alone, None)
    }

    /// Opens one for all addresses of a port beside these of ours, which have it for some: whoever comes to theirs is still theirs, as long as they
    /// are open, and all others are this one's.
    pub fn open_beside(spec: &ListenSpec, others: &[&Listening]) -> Result<Listening, ListenError> {
        let shared = |listening: &Listening, shared: bool| {
            let set = setsockopt(&listening.as_fd(), sockopt::ReusePort, &shared);
            set.map_err(|e| ListenError::kernel(&spec.address, "set SO_REUSEPORT", &e.into()))
        };
        // For this moment only: else any process of this user could put itself beside them.
        let opened =
            others.iter().try_for_each(|other| shared(other, true)).and_then(|()| Listening::open_as(spec, Place::Joiner, None));
        // What cannot be taken back leaves them among their like.
        others.iter().chain(opened.iter().collect::<Vec<_>>().iter()).for_each(|listening| drop(shared(listening, false)));
        opened
    }

    /// Opens one in the place of another, whose file somebody has removed: by the same path, and under the same lock. What is there now is never
    /// taken over.
    pub fn open_anew(&self, spec: &ListenSpec) -> Result<Listening, ListenError> {
        let lock = self.file.get().map(|file| Rc::clone(&file.lock));
        Listening::open_as(spec, Place::Alone, lock)
    }

    /// What has become of its file, when clients do not find it any more.
    pub fn lost_file(&self) -> Option<LostFile> {
        let file = self.file.get()?;
        match Entry::at(&file.path, Last::Keep).and_then(|entry| entry.id()) {
            Ok(id) if id == file.id => None,
            Ok(_) => Some(LostFile::Replaced),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Some(LostFile::Removed),
            // Not known.
            Err(_) => None,
        }
    }

    /// Gives its file the name back that somebody has taken away. True: clients find it again, the same socket with all that wait at it.
    pub fn restore_file(&self) -> io::Result<bool> {
        match self.file.get() {
            Some(file) if self.lost_file() == Some(LostFile::Removed) => socket_file::restore(&file.path, file.id),
            _ => Ok(false),
        }
    }

    fn open_as(spec: &ListenSpec, place: Place, lock: Option<Rc<InstanceLock>>) -> Result<Listening, ListenError> {
        let (fd, file) = match &spec.address {
            ListenAddress::Tcp { addr, dual } => (open_ip(spec, *addr, *dual, SockType::Stream, place)?, None),
            ListenAddress::Udp { addr, dual } => (open_ip(spec, *addr, *dual, SockType::Datagram, place)?, None),
            ListenAddress::Abstract(name) => (open_abstract(spec, name)?, None),
            ListenAddress::Unix(path) => {
                let (fd, file) = open_unix(spec, path, lock)?;
                (fd, Some(file))
            }
        };
        let failed = |attempt| move |e: io::Error| ListenError::kernel(&spec.address, attempt, &e);
        set_nonblocking(&fd, spec.nonblocking).map_err(failed("set it nonblocking"))?;
        let inode = queue::inode(fd.as_fd()).map_err(failed("look at it"))?;
        let address = match &spec.address {
            // Port 0 has become a real one, and "all interfaces" IPv4 alone where there is no IPv6.
            ListenAddress::Tcp { .. } | ListenAddress::Udp { .. } => {
                let real = ListenAddress::of(fd.as_fd()).map_err(failed("ask for its address"))?;
                real.unwrap_or_else(|| spec.address.clone())
            }
            // The kernel knows it by the name that it was renamed from.
            unix => unix.clone(),
        };
        let (nonblocking, access) = (Cell::new(spec.nonblocking), Cell::new(spec.access()));
        let file = file.map(OnceCell::from).unwrap_or_default();
        Ok(Listening { fd, address, inode, file, inherited: Cell::new(false), shared: Cell::new(false), nonblocking, access })
    }

    /// Takes a socket that somebody else has made and bound where the spec says. What the spec asks for is set; a Unix socket's file is
    /// never touched, for it is not ours.
    pub fn adopt(fd: OwnedFd, spec: &ListenSpec) -> Result<Listening, ListenError> {
        Listening::adopt_as(fd, spec, false)
    }

    /// The same for one that another master's workers have as well, which may have made it nonblocking, and rely on it.
    pub fn join(fd: OwnedFd, spec: &ListenSpec) -> Result<Listening, ListenError> {
        Listening::adopt_as(fd, spec, true)
    }

    fn adopt_as(fd: OwnedFd, spec: &ListenSpec, joined: bool) -> Result<Listening, ListenError> {
        let failed = |attempt| move |e: io::Error| ListenError::kernel(&spec.address, attempt, &e);
        if !matches!(spec.address, ListenAddress::Udp { .. }) {
            socket_file::listen(&fd, spec.backlog).map_err(failed("listen on the socket that it was started with"))?;
        }
        if spec.nonblocking || !joined {
            set_nonblocking(&fd, spec.nonblocking).map_err(failed("set it nonblocking"))?;
        }
        if let Some((key, e)) = options::set(fd.as_fd(), spec, &spec.address, true).into_iter().next() {
            return Err(ListenError::option(spec, key, &e));
        }
        let inode = queue::inode(fd.as_fd()).map_err(failed("look at it"))?;
        let (nonblocking, access) = (Cell::new(spec.nonblocking), Cell::new(spec.access()));
        Ok(Listening {
            fd,
            address: spec.address.clone(),
            inode,
            file: OnceCell::new(),
            inherited: Cell::new(true),
            shared: Cell::new(false),
            nonblocking,
            access,
        })
    }

    /// For the next image of this process.
    pub fn state(&self) -> io::Result<ListeningState> {
        let file = self.file.get().map(|file| Ok::<_, io::Error>((file.path.clone(), file.id, file.lock.state()?)));
        Ok(ListeningState {
            fd: Passed::of(&self.fd)?,
            address: self.address.clone(),
            inherited: self.inherited.get(),
            nonblocking: self.nonblocking.get(),
            access: self.access.get(),
            file: file.transpose()?,
        })
    }

    /// As the image before this one has left it, with all that wait at it. `locks`: those that were restored before, which two may have.
    pub fn restore(state: ListeningState, taken: &mut Taken, locks: &mut Vec<Rc<InstanceLock>>) -> io::Result<Listening> {
        let fd = taken.take(&state.fd)?;
        let inode = queue::inode(fd.as_fd())?;
        let file = OnceCell::new();
        if let Some((path, id, lock)) = state.file {
            let known = locks.iter().find(|known| known.path() == lock.path).cloned();
            let lock = known.map_or_else(|| InstanceLock::restore(lock, taken).map(Rc::new), Ok)?;
            locks.push(Rc::clone(&lock));
            // It was empty.
            let _ = file.set(SocketFile { path, id, lock });
        }
        Ok(Listening {
            fd,
            address: state.address,
            inode,
            file,
            inherited: Cell::new(state.inherited),
            shared: Cell::new(false),
            nonblocking: Cell::new(state.nonblocking),
            access: Cell::new(state.access),
        })
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> &ListenAddress {
        &self.address
    }

    /// The socket's inode number: how the kernel's tables name it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Connections waiting to be accepted, and how many may. `None`: the kernel does not tell, it does not listen any more, or nothing is ever
    /// accepted there (UDP).
    pub fn queue(&self) -> Option<(u32, u32)> {
        match self.address {
            ListenAddress::Tcp { .. } => queue::tcp(self.fd.as_fd()),
            ListenAddress::Udp { .. } => None,
            ListenAddress::Unix(_) | ListenAddress::Abstract(_) => queue::unix(self.inode),
        }
    }

    /// Does it still listen? Not after a shutdown(2) by anyone who shares it.
    pub fn state_listening(&self) -> bool {
        match self.address {
            ListenAddress::Tcp { .. } => queue::tcp(self.fd.as_fd()).is_some(),
            // UDP too: a shutdown says ENOTCONN, and yet whoever receives is told the end from then on.
            ListenAddress::Udp { .. } | ListenAddress::Unix(_) | ListenAddress::Abstract(_) => !queue::hung_up(self.fd.as_fd()),
        }
    }

    /// Gives the live socket other options, and its file other permissions; gives those that could not be had. Where it listens stays as it is.
    pub fn set_options(&self, spec: &ListenSpec) -> Vec<Refused> {
        let mut refused: Vec<Refused> = Vec::new();
        refused.extend(self.set_backlog(spec.backlog).err().map(|e| ("backlog", e)));
        if self.nonblocking.replace(spec.nonblocking) != spec.nonblocking {
            // Taken away under a server that relies on it, it would hang in accept at its end.
            let shared = || std::io::Error::other("O_NONBLOCK is shared by all that have the socket, and workers may rely on it");
            let set = if spec.nonblocking { set_nonblocking(&self.fd, true) } else { Err(shared()) };
            refused.extend(set.err().map(|e| ("nonblocking", e)));
        }
        refused.extend(options::set(self.fd.as_fd(), spec, &self.address, self.inherited.get()));
        // The path may lead to somebody else's by now.
        if let Some(file) = self.file.get() {
            let access = spec.access().after(self.access.replace(spec.access()), process::umask());
            refused.extend(set_access(&file.path, file.id, access).err());
        }
        refused
    }

    /// Changes the length of the accept queue of the live socket. UDP has none.
    pub fn set_backlog(&self, backlog: u32) -> io::Result<()> {
        match self.address {
            ListenAddress::Udp { .. } => Ok(()),
            _ => socket_file::listen(&self.fd, backlog),
        }
    }

    /// Keeps new connections out, as far as that is possible. Those that wait in the queue stay there. An abstract name has no door, and UDP no
    /// queue; a socket of somebody else takes them still: its maker hears of them.
    pub fn let_nobody_in(&self) -> io::Result<()> {
        match (&self.address, self.file.get()) {
            _ if self.inherited.get() || self.shared.get() => Ok(()),
            (ListenAddress::Tcp { .. }, _) => door::drop_beginners(self.fd.as_fd()),
            (_, Some(file)) => unlink_all(&file.path, file.id).map(drop),
            (_, None) => Ok(()),
        }
    }

    /// Undoes [`Listening::let_nobody_in`] for a socket of TCP. A file that was removed is made by whoever opens the listener anew.
    pub fn let_in_again(&self) -> io::Result<()> {
        match self.address {
            ListenAddress::Tcp { .. } if !self.inherited.get() => door::admit(self.fd.as_fd()),
            ListenAddress::Tcp { .. } | ListenAddress::Udp { .. } | ListenAddress::Unix(_) | ListenAddress::Abstract(_) => Ok(()),
        }
    }

    /// This master has made it, and no other one has it.
    pub fn is_alone(&self) -> bool {
        !self.inherited.get() && !self.shared.get()
    }

    /// This master has made it.
    pub fn is_own(&self) -> bool {
        !self.inherited.get()
    }

    /// Another master has it as well, or no more.
    pub fn share(&self, shared: bool) {
        self.shared.set(shared);
    }

    /// The file of a Unix socket that we have made.
    pub fn file(&self) -> Option<FileId> {
        self.file.get().map(|file| file.id)
    }

    /// The master that has made it is gone: it is ours from now on, and so is the file of a Unix socket, with its lock. `made`: which file that
    /// one had; another one there is somebody else's.
    pub fn take_over(&self, made: Option<FileId>) -> Result<(), ListenError> {
        if let (ListenAddress::Unix(path), None) = (&self.address, self.file.get()) {
            let failed = |attempt| move |e: io::Error| ListenError::kernel(&self.address, attempt, &e);
            let lock = take_lock(&self.address, path)?;
            let id = Entry::at(path, Last::Keep).and_then(|entry| entry.id()).map_err(failed("look at its file"))?;
            if made.is_some_and(|made| made != id) {
                let other = io::Error::other("somebody has put another one in its place");
                return Err(failed("take its file")(other));
            }
            // Nobody has set it meanwhile.
            let _ = self.file.set(SocketFile { path: path.clone(), id, lock });
        }
        self.inherited.set(false);
        // The first may have closed the door.
        self.let_in_again().map_err(|e| ListenError::kernel(&self.address, "let clients in", &e))
    }

    /// Removes a Unix socket's file, if it is still the one we made, and its lock file. True: it was. Nothing to do for others.
    pub fn unlink_if_owner(&mut self) -> io::Result<bool> {
        let Some(file) = self.file.take() else { return Ok(false) };
        let removed = if self.shared.get() { Ok(false) } else { unlink_all(&file.path, file.id) };
        // With the last one that has it.
        Rc::try_unwrap(file.lock).map_or(Ok(()), InstanceLock::release)?;
        removed
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The inode number of a socket.
pub fn inode_of(fd: impl AsFd) -> Option<u64> {
    queue::inode(fd.as_fd()).ok()
}

/// The longest accept queue the kernel allows (net.core.somaxconn).
pub fn somaxconn() -> Option<u32> {
    procfs::read("/proc/sys/net/core/somaxconn")?.trim().parse().ok()
}

fn open_ip(spec: &ListenSpec, addr: SocketAddr, dual: bool, kind: SockType, place: Place) -> Result<OwnedFd, ListenError> {
    let failed = |attempt| move |e: nix::Error| ListenError::kernel(&spec.address, attempt, &e.into());
    let (fd, addr) = match ip_socket(addr, kind) {
        // "All interfaces, both families" on a machine without IPv6.
        Err(nix::Error::EAFNOSUPPORT) if dual && addr.ip().is_unspecified() => {
            let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port()));
            (ip_socket(addr, kind).map_err(failed("make a socket"))?, addr)
        }
        other => (other.map_err(failed("make a socket"))?, addr),
    };
    let stream = kind == SockType::Stream;
    if stream {
        // Old connections in TIME_WAIT do not keep a restarted master from its port; another listener still does. With UDP it would let
        // somebody else in.
        setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(failed("set SO_REUSEADDR"))?;
    }
    if addr.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &!dual).map_err(failed("set IPV6_V6ONLY"))?;
    }
    if let Some((key, e)) = options::set(fd.as_fd(), spec, &spec.address, false).into_iter().next() {
        return Err(ListenError::option(spec, key, &e));
    }
    let share = || setsockopt(&fd, sockopt::ReusePort, &true).map_err(failed("set SO_REUSEPORT"));
    if place == Place::Joiner {
        share()?;
    }
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(addr)).map_err(failed("bind"))?;
    if place == Place::Founder {
        // Not before it is bound: it would join whomever it found there, another master of the same config for one.
        share()?;
    }
    if stream {
        // Two that share a port by SO_REUSEADDR can both bind: the second learns it here.
        socket_file::listen(&fd, spec.backlog).map_err(|e| ListenError::kernel(&spec.address, "listen", &e))?;
    }
    Ok(fd)
}

fn ip_socket(addr: SocketAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket::socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None::<SockProtocol>)
}

/// No file, so nothing stale, nothing to lock and nothing to remove: the kernel frees the name with the last holder.
fn open_abstract(spec: &ListenSpec, name: &str) -> Result<OwnedFd, ListenError> {
    let failed = |attempt| move |e: io::Error| ListenError::kernel(&spec.address, attempt, &e);
    let address = UnixAddr::new_abstract(name.as_bytes()).map_err(|e| failed("use this name")(e.into()))?;
    let fd = socket_file::socket(libc::SOCK_STREAM).map_err(failed("make a socket"))?;
    socket::bind(fd.as_raw_fd(), &address).map_err(|e| failed("bind")(e.into()))?;
    socket_file::listen(&fd, spec.backlog).map_err(failed("listen"))?;
    Ok(fd)
}

fn take_lock(address: &ListenAddress, path: &Path) -> Result<Rc<InstanceLock>, ListenError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock = InstanceLock::take(Path::new(&lock_path)).map_err(|e| match e {
        LockError::Io { attempt, source, .. } => ListenError::kernel(address, attempt, &source),
        held => ListenError::occupied(address, &held),
    });
    lock.map(Rc::new)
}

fn open_unix(spec: &ListenSpec, path: &Path, lock: Option<Rc<InstanceLock>>) -> Result<(OwnedFd, SocketFile), ListenError> {
    let address = &spec.address;
    if path.as_os_str().len() > LONGEST {
        return Err(ListenError::path_too_long(address, path.as_os_str().len()));
    }
    // The lock first: whoever has it may judge and replace what is at the path.
    let lock = match lock.filter(|lock| lock.is_there()) {
        Some(lock) => lock,
        None => take_lock(address, path)?,
    };
    let bound = Entry::at(path, Last::Keep).map_err(|e| ListenError::kernel(address, "reach its folder", &e)).and_then(|entry| {
        let stale = check_free(&entry).map_err(|occupied| match occupied {
            Occupied::Live => ListenError::live(address),
            Occupied::Foreign(what) => ListenError::foreign(address, what),
            Occupied::Unknown(e) => ListenError::kernel(address, "tell whether the socket there is in use", &e),
        })?;
        listen_at(path, &entry, stale, spec.access(), spec.backlog)
            .map_err(|failed| match failed {
                Failed::Access(key, e) => ListenError::option(spec, key, &e),
                Failed::Step(attempt, e) => ListenError::kernel(address, attempt, &e),
            })
            .inspect(|_| keep_spare(&entry))
    });
    match bound {
        Ok(bound) => Ok((bound.fd, SocketFile { path: path.to_owned(), id: bound.file, lock })),
        Err(e) => {
            // The error that counts is `e`: this is only tidying up.
            let _ = Rc::try_unwrap(lock).map(InstanceLock::release);
            Err(e)
        }
    }
}
