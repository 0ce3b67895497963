//! Owns the listeners: finding them (handed down by the master, by number, or opened here), waiting on them fairly among
//! siblings, and letting go of them. A handed-down listener belongs to the master: it is never shut down, re-bound or
//! drained by a worker that stops.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::socket::sockopt::{AcceptConn, SockType as Kind, TcpNoDelay};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, listen, setsockopt,
    shutdown,
};

use crate::os::inherit;

/// Connections accepted in one turn: enough to amortise a wake-up, few enough to leave siblings their share.
const BATCH: usize = 8;
/// The queue asked for when the listener is opened here.
const BACKLOG: i32 = 1024;
/// A listener that cannot be accepted from is tried again after this, doubled up to the second.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(8);
/// Where handed-down descriptors start.
const FIRST_FD: RawFd = 3;

/// A socket to accept from.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    fd: OwnedFd,
    /// TCP_NODELAY has to be set on each connection, as it is not inherited from the listener.
    set_nodelay: bool,
    /// Opened here: nobody else will serve its queue.
    own: bool,
    /// A socket file to remove at the end.
    path: Option<PathBuf>,
    armed: bool,
    retry: Option<Instant>,
    pause: Duration,
}

/// The listeners handed down by LISTEN_FDS, those given by number, and those opened here, in this order.
///
/// # Errors
/// In words, for one that was asked for by flag and cannot be used. What a master handed down for another purpose (a
/// datagram socket, a stored file) is left alone and named on stderr.
pub(super) fn gather(env: &[(String, String)], pid: i32, fds: &[RawFd], addresses: &[String]) -> Result<Vec<Listener>, String> {
    let mut listeners = Vec::new();
    let mut taken: Vec<RawFd> = Vec::new();
    for (fd, name) in handed_down(env, pid) {
        match Listener::adopt(fd, &name) {
            Ok(listener) => listeners.push(listener),
            Err(why) => super::say(&format!("descriptor {fd} ({name:?}) from LISTEN_FDS is left alone: {why}")),
        }
        taken.push(fd);
    }
    for fd in fds.iter().copied() {
        if !taken.contains(&fd) {
            listeners.push(Listener::adopt(fd, &format!("fd {fd}")).map_err(|why| format!("cannot serve on --fd {fd}: {why}"))?);
            taken.push(fd);
        }
    }
    for address in addresses {
        let listener = Listener::open(address).map_err(|why| format!("cannot listen on {address:?}: {why}"))?;
        super::say(&format!("listening on {}, pid {pid}", listener.name));
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The descriptors that LISTEN_FDS announces, with their names: none unless LISTEN_PID is this process.
fn handed_down(env: &[(String, String)], pid: i32) -> Vec<(RawFd, String)> {
    let var = |name: &str| env.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
    if var("LISTEN_PID").and_then(|text| text.parse().ok()) != Some(pid) {
        return Vec::new();
    }
    let count = var("LISTEN_FDS").and_then(|text| text.parse::<u16>().ok()).unwrap_or(0);
    let mut names = var("LISTEN_FDNAMES").unwrap_or_default().split(':');
    (FIRST_FD..FIRST_FD + RawFd::from(count))
        .map(|fd| (fd, names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned()))
        .collect()
}

impl Listener {
    /// Takes a listener that is open under this number. The number itself is closed: the duplicate does not pass to children.
    fn adopt(number: RawFd, name: &str) -> Result<Self, String> {
        let fd = inherit::duplicate(number).map_err(|error| error.to_string())?;
        match getsockopt(&fd, Kind) {
            Ok(SockType::Stream) => {}
            Ok(kind) => return Err(format!("a socket of type {kind:?}, not a stream listener")),
            Err(error) => return Err(format!("not a socket ({error})")),
        }
        if !getsockopt(&fd, AcceptConn).unwrap_or(false) {
            return Err("a stream socket that does not listen".to_owned());
        }
        if number >= FIRST_FD {
            let _ = nix::unistd::close(number);
        }
        Self::new(fd, name.to_owned(), false, None).map_err(|error| error.to_string())
    }

    /// Opens a listener: `host:port`, `:port`, `tcp://host:port`, `unix:/path` or `unix:@name`.
    fn open(address: &str) -> Result<Self, String> {
        if let Some(path) = address.strip_prefix("unix:") {
            let (fd, path) = open_unix(path).map_err(|error| error.to_string())?;
            return Self::new(fd, address.to_owned(), true, path).map_err(|error| error.to_string());
        }
        let host = address.strip_prefix("tcp://").unwrap_or(address);
        let host = if host.starts_with(':') { format!("0.0.0.0{host}") } else { host.to_owned() };
        let socket = std::net::TcpListener::bind(&host).map_err(|error| error.to_string())?;
        let name = socket.local_addr().map_or(host, |at| format!("http://{at}"));
        Self::new(OwnedFd::from(socket), name, true, None).map_err(|error| error.to_string())
    }

    fn new(fd: OwnedFd, name: String, own: bool, path: Option<PathBuf>) -> io::Result<Self> {
        // The queue is shared: a sibling may take the connection we were woken for, and then accept must not block. The flag
        // is shared too, so it is set only where the master did not.
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        if !flags.contains(OFlag::O_NONBLOCK) {
            fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        }
        let family = getsockname::<SockaddrStorage>(fd.as_raw_fd())?.family();
        let tcp = matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6));
        if own {
            listen(&fd, Backlog::new(BACKLOG)?)?;
            if tcp {
                setsockopt(&fd, TcpNoDelay, &true)?;
            }
        }
        let set_nodelay = tcp && !getsockopt(&fd, TcpNoDelay)?;
        Ok(Listener { name, fd, set_nodelay, own, path, armed: false, retry: None, pause: FIRST_RETRY })
    }

    /// Opened here, so its queue dies with it.
    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// Connections are waited for.
    pub(super) fn is_armed(&self) -> bool {
        self.armed
    }

    /// How many connections to accept in one turn.
    pub(super) fn batch(&self) -> usize {
        BATCH
    }

    /// Waits for connections. Exclusively: one connection wakes one of the workers that share the queue, not all.
    pub(super) fn arm(&mut self, epoll: &Epoll, token: u64) {
        if !self.armed {
            let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, token);
            self.armed = epoll.add(&self.fd, event).is_ok();
            self.retry = None;
        }
    }

    /// Waits no more. Out of epoll by name: closing our descriptor would not do it, as the socket lives on in the master.
    pub(super) fn disarm(&mut self, epoll: &Epoll) {
        if self.armed {
            let _ = epoll.delete(&self.fd);
            self.armed = false;
        }
        self.retry = None;
    }

    /// Waits no more for a while, as accepting fails: no descriptors left, or somebody shut the socket down.
    pub(super) fn pause(&mut self, epoll: &Epoll, now: Instant) {
        self.disarm(epoll);
        self.retry = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LAST_RETRY);
    }

    /// When to wait for connections again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry
    }

    /// The next connection in the queue, if any.
    pub(super) fn accept(&mut self) -> io::Result<Option<OwnedFd>> {
        use nix::libc::{ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENONET, ENOPROTOOPT, EPROTO};
        loop {
            match inherit::accept(self.fd.as_fd()) {
                Ok(connection) => {
                    self.pause = FIRST_RETRY;
                    if self.set_nodelay {
                        // Fails only when the connection is broken already, which reading will find.
                        let _ = setsockopt(&connection, TcpNoDelay, &true);
                    }
                    return Ok(Some(connection));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // accept(2): errors of the new connection, not of the listener.
                Err(error) => match error.raw_os_error() {
                    Some(ECONNABORTED | EHOSTDOWN | EHOSTUNREACH | ENETDOWN | ENETUNREACH | ENONET | ENOPROTOOPT | EPROTO) => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// The misbehaviour: shuts the shared socket down, for all who hold it.
    pub(super) fn sabotage(&self) {
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket file left by a dead server is replaced, one that is in use is not.
fn open_unix(path: &str) -> io::Result<(OwnedFd, Option<PathBuf>)> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    if let Some(name) = path.strip_prefix('@') {
        let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        return Ok((socket.into(), None));
    }
    let path = Path::new(path);
    let socket = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let refused = UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
            if !refused {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    Ok((socket.into(), Some(path.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pid: &str, names: Option<&str>) -> Vec<(String, String)> {
        let mut env = vec![("LISTEN_FDS".to_owned(), "2".to_owned()), ("LISTEN_PID".to_owned(), pid.to_owned())];
        env.extend(names.map(|names| ("LISTEN_FDNAMES".to_owned(), names.to_owned())));
        env
    }

    #[test]
    fn only_descriptors_meant_for_this_process_are_taken() {
        let named = |fd, name: &str| (fd, name.to_owned());
        assert_eq!(handed_down(&env("7", Some("http:admin")), 7), [named(3, "http"), named(4, "admin")]);
        assert_eq!(handed_down(&env("7", Some("http")), 7), [named(3, "http"), named(4, "unknown")]);
        assert_eq!(handed_down(&env("7", None), 7), [named(3, "unknown"), named(4, "unknown")]);
        assert!(handed_down(&env("8", None), 7).is_empty());
        assert!(handed_down(&env("", None), 7).is_empty());
        assert!(handed_down(&[], 7).is_empty());
    }

    #[test]
    fn an_address_that_is_taken_or_wrong_is_told() {
        let first = Listener::open("127.0.0.1:0").unwrap();
        let taken = first.name.strip_prefix("http://").unwrap();
        assert!(Listener::open(taken).unwrap_err().contains("in use"));
        assert!(Listener::open("nowhere").is_err());
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.sock");
        let address = format!("unix:{}", path.display());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::open(&address).unwrap();
        assert!(Listener::open(&address).unwrap_err().contains("in use"));
        drop(listener);
        assert!(!path.exists());
    }
}
