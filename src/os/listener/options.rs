//! Owns the options of a listening socket: each is read first, and set where it differs, so that the same words open a socket and change one
//! that is open, and what is as wanted needs no privilege.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{ListenAddress, ListenSpec};
use crate::os::errno::check;

/// Options beyond those that every listener has. What is empty, zero or false is as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SocketOptions {
    /// IP_FREEBIND: the host need not have the address (yet).
    pub freebind: bool,
    /// TCP_DEFER_ACCEPT, in seconds; the kernel rounds it up to a number of retransmissions.
    pub defer_accept: u32,
    /// TCP_FASTOPEN: how many connections may wait whose handshake is not complete.
    pub fastopen: u32,
    /// SO_KEEPALIVE, inherited by accepted sockets.
    pub keepalive: Option<bool>,
    /// SO_BINDTODEVICE: only this network interface.
    pub device: String,
    /// SO_MARK.
    pub mark: u32,
}

/// An option that could not be set: its key in the config, and why.
pub type Refused = (&'static str, io::Error);

/// A numeric option and the value it should have.
struct Number {
    key: &'static str,
    level: i32,
    name: i32,
    wanted: u32,
}

/// Sets what differs. With `inherited` only what was asked for: the rest is as its maker wanted it.
pub(super) fn set(fd: BorrowedFd<'_>, spec: &ListenSpec, address: &ListenAddress, inherited: bool) -> Vec<Refused> {
    let addr = match address {
        ListenAddress::Tcp { addr, .. } | ListenAddress::Udp { addr, .. } => addr,
        ListenAddress::Unix(_) | ListenAddress::Abstract(_) => return Vec::new(),
    };
    let mut refused = Vec::new();
    for number in numbers(spec, address, addr, inherited) {
        if let Err(e) = number.set(fd, inherited) {
            refused.push((number.key, e));
        }
    }
    if let Err(e) = set_device(fd, &spec.options.device, inherited) {
        refused.push(("device", e));
    }
    refused
}

fn numbers(spec: &ListenSpec, address: &ListenAddress, addr: &SocketAddr, inherited: bool) -> Vec<Number> {
    let options = &spec.options;
    let number = |key, level, name, wanted| Number { key, level, name, wanted };
    let freebind = match addr.is_ipv4() {
        true => (libc::IPPROTO_IP, libc::IP_FREEBIND),
        false => (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND),
    };
    let mut out = vec![
        number("freebind", freebind.0, freebind.1, options.freebind.into()),
        number("mark", libc::SOL_SOCKET, libc::SO_MARK, options.mark),
    ];
    if matches!(address, ListenAddress::Tcp { .. }) {
        out.push(number("defer_accept", libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, options.defer_accept));
        out.push(number("fastopen", libc::IPPROTO_TCP, libc::TCP_FASTOPEN, options.fastopen));
        let keepalive = options.keepalive.or((!inherited).then_some(false));
        out.extend(keepalive.map(|on| number("keepalive", libc::SOL_SOCKET, libc::SO_KEEPALIVE, on.into())));
        out.push(number("nodelay", libc::IPPROTO_TCP, libc::TCP_NODELAY, spec.nodelay.into()));
    }
    out
}

impl Number {
    fn set(&self, fd: BorrowedFd<'_>, inherited: bool) -> io::Result<()> {
        // Only these two are asked for by every config, in the one way or the other.
        let always = matches!(self.key, "nodelay" | "keepalive");
        if inherited && !always && self.wanted == 0 {
            return Ok(());
        }
        // What cannot be read may still be set.
        if get_number(fd, self.level, self.name).is_ok_and(|now| now == self.wanted) {
            return Ok(());
        }
        set_bytes(fd, self.level, self.name, &self.wanted.to_ne_bytes())
    }
}

fn set_device(fd: BorrowedFd<'_>, wanted: &str, inherited: bool) -> io::Result<()> {
    if inherited && wanted.is_empty() || device(fd)? == wanted {
        return Ok(());
    }
    let mut name = wanted.as_bytes().to_vec();
    name.push(0);
    set_bytes(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &name)
}

/// The network interface that a socket is bound to; empty: none.
pub(in crate::os) fn device(fd: BorrowedFd<'_>) -> io::Result<String> {
    let mut name = [0_u8; libc::IFNAMSIZ];
    let length = get_bytes(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &mut name)?;
    let name = name.get(..length).unwrap_or_default();
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// The value of a numeric option.
pub(in crate::os) fn get_number(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<u32> {
    let mut value = [0; 4];
    get_bytes(fd, level, name, &mut value)?;
    Ok(u32::from_ne_bytes(value))
}

fn get_bytes(fd: BorrowedFd<'_>, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: `value` is valid for writing for `length` bytes.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &mut length) })?;
    Ok(usize::try_from(length).unwrap_or(0))
}

fn set_bytes(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: `value` is valid for reading for `length` bytes.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) }).map(drop)
}
