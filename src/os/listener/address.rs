//! Owns the addresses of listeners: their spelling for people, and reading the one that a socket has.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::os::{process, procfs};
use nix::sys::socket::{self, SockType, SockaddrStorage, getsockopt, sockopt};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ListenAddress {
    /// TCP.
    Tcp {
        /// Address and port; port 0: any free one.
        addr: SocketAddr,
        /// An IPv6 socket takes IPv4 connections too.
        dual: bool,
    },
    /// UDP: bound, without a queue of connections.
    Udp {
        /// Address and port; port 0: any free one.
        addr: SocketAddr,
        /// An IPv6 socket takes IPv4 packets too.
        dual: bool,
    },
    /// A Unix stream socket at this path.
    Unix(PathBuf),
    /// A Unix stream socket of this abstract name, without its leading NUL byte: no file, gone with its last holder.
    Abstract(String),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp { addr, .. } => write!(f, "tcp://{addr}"),
            ListenAddress::Udp { addr, .. } => write!(f, "udp://{addr}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            ListenAddress::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

impl ListenAddress {
    /// All addresses of a port, to one of which the other listens.
    pub fn takes_in(&self, other: &ListenAddress) -> bool {
        match (self, other) {
            (ListenAddress::Tcp { addr, dual }, ListenAddress::Tcp { addr: one, .. }) => {
                let family = addr.is_ipv4() == one.is_ipv4() || (*dual && one.is_ipv4());
                addr.ip().is_unspecified() && !one.ip().is_unspecified() && addr.port() == one.port() && family
            }
            _ => false,
        }
    }

    /// Two addresses of one port that the kernel does not let two sockets have at one time, though they are not the same.
    pub fn overlaps(&self, other: &ListenAddress) -> bool {
        let ((ListenAddress::Tcp { addr: a, dual: both_a }, ListenAddress::Tcp { addr: b, dual: both_b })
        | (ListenAddress::Udp { addr: a, dual: both_a }, ListenAddress::Udp { addr: b, dual: both_b })) = (self, other)
        else {
            return false;
        };
        let reaches = |all: &SocketAddr, both: bool, one: &SocketAddr| {
            all.ip().is_unspecified() && (all.is_ipv4() == one.is_ipv4() || both && one.is_ipv4())
        };
        a.port() == b.port() && a.port() != 0 && self != other && (reaches(a, *both_a, b) || reaches(b, *both_b, a))
    }

    /// The address that a socket is bound to. `None`: it is of no kind that can be a listener, or bound to nothing.
    pub fn of(fd: impl AsFd) -> io::Result<Option<ListenAddress>> {
        let fd = fd.as_fd();
        let stream = match getsockopt(&fd, sockopt::SockType)? {
            SockType::Stream => true,
            SockType::Datagram => false,
            _ => return Ok(None),
        };
        let bound: SockaddrStorage = socket::getsockname(fd.as_raw_fd())?;
        let v4 = bound.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
        let v6 = || bound.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into()));
        if let Some(addr) = v4.or_else(v6) {
            let dual = addr.is_ipv6() && !getsockopt(&fd, sockopt::Ipv6V6Only)?;
            return Ok(match stream {
                _ if addr.port() == 0 => None,
                true => Some(ListenAddress::Tcp { addr, dual }),
                false => Some(ListenAddress::Udp { addr, dual }),
            });
        }
        let unix = bound.as_unix_addr().filter(|_| stream);
        let path = unix.and_then(|a| a.path()).map(|path| ListenAddress::Unix(path.to_owned()));
        let name = || unix.and_then(|a| a.as_abstract()).map(|name| String::from_utf8_lossy(name).into_owned());
        Ok(path.or_else(|| name().map(ListenAddress::Abstract)))
    }

    /// A socket at the one is as good as one at the other: of a single IPv6 address it does not matter who else could be heard.
    pub fn same_place(&self, other: &ListenAddress) -> bool {
        match (self, other) {
            (ListenAddress::Tcp { addr: a, .. }, ListenAddress::Tcp { addr: b, .. })
            | (ListenAddress::Udp { addr: a, .. }, ListenAddress::Udp { addr: b, .. })
                if !a.ip().is_unspecified() =>
            {
                a == b
            }
            _ => self == other,
        }
    }
}

/// Why no socket can be bound to this address of this host; `None`: one can.
pub fn assignable(mut address: SocketAddr) -> Option<String> {
    address.set_port(0);
    let e = std::net::UdpSocket::bind(address).err()?;
    match e.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => Some("this host does not have that address".to_owned()),
        Some(errno @ (libc::EINVAL | libc::EAFNOSUPPORT)) => Some(crate::os::words(errno)),
        // That no descriptor is left, for instance, says nothing of the address.
        _ => None,
    }
}

/// The lowest port that anybody may bind, when this one is below it and we are not permitted to.
pub fn first_unprivileged(port: u16) -> Option<u16> {
    /// CAP_NET_BIND_SERVICE (capabilities(7)).
    const NET_BIND_SERVICE: u8 = 10;
    let first = procfs::read("/proc/sys/net/ipv4/ip_unprivileged_port_start").and_then(|text| text.trim().parse().ok());
    let first = first.unwrap_or(1024);
    (port != 0 && port < first && !process::has_capability(NET_BIND_SERVICE)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_port_overlap_where_one_is_all_addresses() {
        let tcp = |text: &str, dual| ListenAddress::Tcp { addr: text.parse().unwrap(), dual };
        for (one, other, want) in [
            (tcp("0.0.0.0:80", false), tcp("127.0.0.1:80", false), true),
            (tcp("0.0.0.0:80", false), tcp("127.0.0.1:81", false), false),
            (tcp("127.0.0.2:80", false), tcp("127.0.0.1:80", false), false),
            (tcp("[::]:80", true), tcp("127.0.0.1:80", false), true),
            (tcp("[::]:80", false), tcp("127.0.0.1:80", false), false),
            (tcp("[::]:80", false), tcp("[::1]:80", false), true),
            (tcp("[::]:80", true), tcp("[::]:80", false), true),
            (tcp("[::]:80", false), tcp("0.0.0.0:80", false), false),
            (tcp("[::]:80", true), tcp("0.0.0.0:80", false), true),
            (tcp("[::]:80", true), tcp("[::]:80", true), false),
            (tcp("0.0.0.0:0", false), tcp("127.0.0.1:0", false), false),
        ] {
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (want, want), "{one} {other}");
        }
        let udp = ListenAddress::Udp { addr: "0.0.0.0:80".parse().unwrap(), dual: false };
        assert!(!udp.overlaps(&tcp("127.0.0.1:80", false)));
    }
}
