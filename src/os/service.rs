//! Owns the master's word to the service manager that started it (sd_notify(3)): a datagram, never waited for.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};

/// Where the service manager listens.
#[derive(Debug)]
pub struct ServiceManager {
    fd: OwnedFd,
    address: UnixAddr,
}

impl ServiceManager {
    /// By the value of NOTIFY_SOCKET: a path, or `@` and an abstract name.
    pub fn at(name: &OsStr) -> io::Result<ServiceManager> {
        let bytes = name.as_bytes();
        let address = match bytes.split_first() {
            Some((b'@', rest)) if !rest.is_empty() => UnixAddr::new_abstract(rest)?,
            Some((b'/', _)) => UnixAddr::new(bytes)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        Ok(ServiceManager { fd, address })
    }

    /// Says something. A manager that is gone, or does not keep up, is an error; nobody waits for it.
    pub fn say(&self, text: &str) -> io::Result<()> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        socket::sendto(self.fd.as_raw_fd(), text.as_bytes(), &self.address, flags)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        ServiceManager::at(path.as_os_str()).unwrap().say("READY=1").unwrap();
        assert_eq!(heard(&by_path), "READY=1");
        let name = format!("poolmaster-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        ServiceManager::at(OsStr::new(&format!("@{name}"))).unwrap().say("STATUS=x").unwrap();
        assert_eq!(heard(&by_name), "STATUS=x");
    }

    #[test]
    fn one_that_is_gone_or_full_is_an_error_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let manager = ServiceManager::at(path.as_os_str()).unwrap();
        assert!(manager.say("x").is_err());
        let _silent = UnixDatagram::bind(&path).unwrap();
        let full = (0..100_000).find_map(|_| manager.say("x").err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        for nonsense in ["", "@", "relative", "vsock:1:2"] {
            assert!(ServiceManager::at(OsStr::new(nonsense)).is_err(), "{nonsense}");
        }
    }
}
