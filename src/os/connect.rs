//! Owns connecting to a server without ever waiting for it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockProtocol, SockType, SockaddrLike, SockaddrStorage, getpeername, getsockname, getsockopt,
    sockopt,
};

use super::socket_file;

/// Begins to connect by TCP. The descriptor is writable once it is known how that went: [`outcome`].
pub fn begin_tcp(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, SockProtocol::Tcp)?;
    let addr = SockaddrStorage::from(addr);
    started(socket::connect(fd.as_raw_fd(), &addr).map_err(Into::into)).map(|()| fd)
}

/// The same to a Unix socket, which is connected at once, or not at all.
pub fn begin_unix(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket_file::socket(libc::SOCK_STREAM)?;
    socket_file::connect(&fd, path).map(|()| fd)
}

fn started(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        other => other,
    }
}

/// How the attempt went. A connection to ourselves, which TCP makes when nobody listens on a port that the kernel happens to choose for our
/// own end, is none.
pub fn outcome(fd: impl AsFd) -> io::Result<()> {
    match getsockopt(&fd.as_fd(), sockopt::SocketError)? {
        0 => {}
        errno => return Err(io::Error::from_raw_os_error(errno)),
    }
    let raw = fd.as_fd().as_raw_fd();
    let own: SockaddrStorage = getsockname(raw)?;
    let other: SockaddrStorage = getpeername(raw)?;
    let is_tcp = matches!(own.family(), Some(AddressFamily::Inet | AddressFamily::Inet6));
    if is_tcp && own == other { Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::os::epoll::{Epoll, Interest};

    /// Waits until it is known, and says how it went.
    fn known(fd: &OwnedFd) -> io::Result<()> {
        let epoll = Epoll::new().unwrap();
        epoll.add(fd, 0, Interest::Write).unwrap();
        let mut ready = Vec::new();
        epoll.wait(&mut ready, Some(std::time::Duration::from_secs(10))).unwrap();
        assert!(!ready.is_empty());
        outcome(fd)
    }

    #[test]
    fn a_server_is_there_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        known(&begin_tcp(addr).unwrap()).unwrap();
        drop(listener);
        let refused = begin_tcp(addr).and_then(|fd| known(&fd)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED));
    }

    #[test]
    fn a_unix_server_is_there_or_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("s");
        assert_eq!(begin_unix(&path).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        let listener = UnixListener::bind(&path).unwrap();
        known(&begin_unix(&path).unwrap()).unwrap();
        drop(listener);
        assert_eq!(begin_unix(&path).unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
    }
}
