//! Owns the look at a socket of another process, which the kernel lends for a moment (pidfd_getfd(2)). Refuses to read or write: only what it is
//! is asked. Where the kernel does not lend it, nothing is known.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{SockaddrStorage, getpeername, getsockopt, sockopt};

use crate::os::errno::check;
use crate::os::io::own;
use crate::os::listener::ListenAddress;
use crate::os::process::pidfd;

/// The descriptor, as one of ours.
fn borrow(pid: i32, fd: i32) -> Option<OwnedFd> {
    let process = pidfd(pid).ok()?;
    // SAFETY: takes plain numbers.
    let lent = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
    let lent = check(i32::try_from(lent).ok()?).ok()?;
    // SAFETY: just made, owned by nobody else.
    Some(unsafe { own(lent) })
}

/// It takes connections.
pub(super) fn listens(pid: i32, fd: i32) -> Option<bool> {
    getsockopt(&borrow(pid, fd)?, sockopt::AcceptConn).ok()
}

/// Where the connection came to; `None`: it is none, or that is not known.
pub(super) fn came_to(pid: i32, fd: i32) -> Option<ListenAddress> {
    let socket = borrow(pid, fd)?;
    if getsockopt(&socket, sockopt::AcceptConn).ok()? {
        return None;
    }
    getpeername::<SockaddrStorage>(socket.as_raw_fd()).ok()?;
    ListenAddress::of(socket.as_fd()).ok()?
}

/// A connection with this local address came to that listener.
pub(super) fn is_of(local: &ListenAddress, listener: &ListenAddress) -> bool {
    match (local, listener) {
        (ListenAddress::Tcp { addr: local, .. }, ListenAddress::Tcp { addr: listener, .. }) => {
            let mapped = |addr: &std::net::SocketAddr| addr.ip().to_canonical();
            local.port() == listener.port() && (listener.ip().is_unspecified() || mapped(local) == mapped(listener))
        }
        _ => local == listener,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_belongs_to_its_listener() {
        let tcp = |addr: &str| ListenAddress::Tcp { addr: addr.parse().unwrap(), dual: false };
        let unix = |path: &str| ListenAddress::Unix(path.into());
        for (local, listener, want) in [
            (tcp("127.0.0.1:80"), tcp("127.0.0.1:80"), true),
            (tcp("127.0.0.1:80"), tcp("0.0.0.0:80"), true),
            (tcp("[::ffff:127.0.0.1]:80"), tcp("[::]:80"), true),
            (tcp("[::ffff:127.0.0.1]:80"), tcp("127.0.0.1:80"), true),
            (tcp("127.0.0.1:81"), tcp("0.0.0.0:80"), false),
            (tcp("127.0.0.2:80"), tcp("127.0.0.1:80"), false),
            (unix("/a"), unix("/a"), true),
            (unix("/a"), unix("/b"), false),
            (unix("/a"), tcp("127.0.0.1:80"), false),
        ] {
            assert_eq!(is_of(&local, &listener), want, "{local} {listener}");
        }
    }
}
