//! Owns what is said when a listener cannot be opened: the address, the cause, who stands in the way, what to do.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::holder::Holder;
use super::{ListenAddress, ListenSpec, holder};
use crate::os::errno::words;
use crate::os::lockfile::LockError;
use crate::os::socket_file::LONGEST;

/// Why a listener could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot listen on {address}: {cause}; {advice}")]
pub struct ListenError {
    /// The address as in the config.
    pub address: String,
    /// What went wrong, in words.
    pub cause: String,
    /// What to do about it.
    pub advice: String,
    /// The error number, where there is one. EADDRINUSE also for what we found out ourselves.
    pub errno: Option<i32>,
}

impl ListenError {
    fn new(address: &ListenAddress, cause: String, advice: String, errno: Option<i32>) -> ListenError {
        ListenError { address: address.to_string(), cause, advice, errno }
    }

    pub(super) fn kernel(address: &ListenAddress, attempt: &str, e: &io::Error) -> ListenError {
        let errno = e.raw_os_error();
        let reason = errno.map_or_else(|| e.to_string(), words);
        let (cause, advice) = match (address, errno) {
            (ListenAddress::Tcp { addr, .. }, Some(libc::EADDRINUSE)) => port_in_use(*addr, holder::of_port(*addr), "lt"),
            (ListenAddress::Udp { addr, .. }, Some(libc::EADDRINUSE)) => port_in_use(*addr, holder::of_udp_port(*addr), "u"),
            (ListenAddress::Abstract(name), Some(libc::EADDRINUSE)) => {
                match holder::of_path(Path::new(&format!("@{name}"))).flatten() {
                    Some(who) => (format!("the name is in use by {who}"), "stop that, or choose another name".to_owned()),
                    None => ("the name is in use".to_owned(), "see who has it with: ss -lxp".to_owned()),
                }
            }
            (ListenAddress::Tcp { addr, .. } | ListenAddress::Udp { addr, .. }, Some(libc::EACCES | libc::EPERM)) => (
                format!("not permitted to use port {}", addr.port()),
                "choose a port from 1024 up, give the master CAP_NET_BIND_SERVICE, or lower net.ipv4.ip_unprivileged_port_start"
                    .to_owned(),
            ),
            (ListenAddress::Tcp { addr, .. } | ListenAddress::Udp { addr, .. }, Some(libc::EADDRNOTAVAIL)) => (
                format!("this machine has no address {}", addr.ip()),
                "choose one that `ip address` shows, or 0.0.0.0 for all".to_owned(),
            ),
            (ListenAddress::Tcp { .. } | ListenAddress::Udp { .. }, Some(libc::EAFNOSUPPORT)) => {
                ("the kernel has no IPv6 here".to_owned(), "choose an IPv4 address".to_owned())
            }
            (ListenAddress::Unix(_), Some(libc::ENOENT)) => {
                (format!("cannot {attempt}: its directory does not exist"), "make the directory first".to_owned())
            }
            (ListenAddress::Unix(_), Some(libc::EACCES | libc::EPERM | libc::EROFS)) => (
                format!("cannot {attempt}: {reason}"),
                "choose another path, or change who may write to its directory".to_owned(),
            ),
            (_, Some(libc::EMFILE | libc::ENFILE)) => {
                (format!("cannot {attempt}: {reason}"), "raise the limit of open files (RLIMIT_NOFILE, fs.file-max)".to_owned())
            }
            _ => (format!("cannot {attempt}: {reason}"), "choose another address".to_owned()),
        };
        ListenError::new(address, cause, advice, errno)
    }

    /// An option of the config that could not be set. `key`: its name there.
    pub(super) fn option(spec: &ListenSpec, key: &str, e: &io::Error) -> ListenError {
        let (errno, options) = (e.raw_os_error(), &spec.options);
        let wanted = match key {
            "device" => format!("device = \"{}\"", options.device),
            "mark" => format!("mark = {}", options.mark),
            "fastopen" => format!("fastopen = {}", options.fastopen),
            "owner" | "group" => {
                let id = if key == "owner" { spec.owner } else { spec.group };
                format!("{key} (number {})", id.unwrap_or_default())
            }
            key => key.to_owned(),
        };
        let advice = match (key, errno) {
            ("device", Some(libc::ENODEV)) => "choose a network interface that `ip link` shows",
            ("device", Some(libc::EPERM)) => "run the master as root or with CAP_NET_RAW, or remove the key",
            ("mark", Some(libc::EPERM)) => "run the master as root or with CAP_NET_ADMIN, or remove the key",
            ("owner", Some(libc::EPERM)) => "only root gives files away: run the master as root, or remove the key",
            ("group", Some(libc::EPERM)) => {
                "without being root it has to be a group of the master's own: run it as root, or choose such a group"
            }
            _ => "remove the key, or choose another value",
        };
        let reason = errno.map_or_else(|| e.to_string(), words);
        ListenError::new(&spec.address, format!("cannot set {wanted}: {reason}"), advice.to_owned(), errno)
    }

    pub(super) fn path_too_long(address: &ListenAddress, length: usize) -> ListenError {
        let cause = format!("the path has {length} bytes, and a Unix socket's may have {LONGEST}");
        ListenError::new(address, cause, "choose a shorter one".to_owned(), Some(libc::ENAMETOOLONG))
    }

    pub(super) fn occupied(address: &ListenAddress, lock: &LockError) -> ListenError {
        let advice = "stop that process, or choose another path".to_owned();
        ListenError::new(address, lock.to_string(), advice, Some(libc::EADDRINUSE))
    }

    pub(super) fn live(address: &ListenAddress) -> ListenError {
        let advice = "stop the process that does (`ss -lxp` shows it), or choose another path".to_owned();
        ListenError::new(address, "another process listens there".to_owned(), advice, Some(libc::EADDRINUSE))
    }

    pub(super) fn foreign(address: &ListenAddress, what: &str) -> ListenError {
        let advice = "it is left alone: remove it yourself, or choose another path".to_owned();
        ListenError::new(address, format!("there is {what} at this path"), advice, Some(libc::EEXIST))
    }
}

/// The cause and the advice. `kind`: the options of `ss` that show such sockets.
fn port_in_use(addr: SocketAddr, holder: Option<Option<Holder>>, kind: &str) -> (String, String) {
    match holder.flatten() {
        Some(who) if who.pid == crate::os::process::self_pid() => (
            format!("the port is in use by {who}, which is this master itself"),
            "choose another port; or take the old address away by one reload, and name the new one in the next".to_owned(),
        ),
        Some(who) => (format!("the port is in use by {who}"), "stop that, or choose another port".to_owned()),
        None => ("the port is in use".to_owned(), format!("see who has it with: ss -{kind}np 'sport = :{}'", addr.port())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SocketOptions;
    use super::*;

    fn tcp(text: &str) -> ListenAddress {
        ListenAddress::Tcp { addr: text.parse().unwrap(), dual: false }
    }

    #[test]
    fn each_cause_has_its_advice() {
        let unix = || ListenAddress::Unix("/run/shop/web.sock".into());
        let name = || ListenAddress::Abstract("shop-no-such-name".to_owned());
        for (address, errno, want) in [
            (
                tcp("127.0.0.1:80"),
                libc::EACCES,
                "not permitted to use port 80; choose a port from 1024 up, give the master CAP_NET_BIND_SERVICE, or lower \
                 net.ipv4.ip_unprivileged_port_start",
            ),
            (
                tcp("192.0.2.7:80"),
                libc::EADDRNOTAVAIL,
                "this machine has no address 192.0.2.7; choose one that `ip address` shows, or 0.0.0.0 for all",
            ),
            (tcp("[::1]:80"), libc::EAFNOSUPPORT, "the kernel has no IPv6 here; choose an IPv4 address"),
            (tcp("127.0.0.1:1"), libc::EADDRINUSE, "the port is in use; see who has it with: ss -ltnp 'sport = :1'"),
            (name(), libc::EADDRINUSE, "the name is in use; see who has it with: ss -lxp"),
            (unix(), libc::ENOENT, "cannot bind it: its directory does not exist; make the directory first"),
            (
                unix(),
                libc::EACCES,
                "cannot bind it: permission denied; choose another path, or change who may write to its directory",
            ),
            (
                unix(),
                libc::EMFILE,
                "cannot bind it: too many open files; raise the limit of open files (RLIMIT_NOFILE, fs.file-max)",
            ),
            (tcp("127.0.0.1:80"), libc::EINVAL, "cannot bind it: invalid argument; choose another address"),
        ] {
            let error = ListenError::kernel(&address, "bind it", &io::Error::from_raw_os_error(errno));
            assert_eq!(error.to_string(), format!("cannot listen on {address}: {want}"));
        }
    }

    #[test]
    fn who_stands_in_the_way_is_named() {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixListener};
        let said = |address: &ListenAddress| {
            ListenError::kernel(address, "bind it", &io::Error::from_raw_os_error(libc::EADDRINUSE)).to_string()
        };
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let text = said(&tcp(&own.local_addr().unwrap().to_string()));
        assert!(text.contains("which is this master itself"), "{text}");
        assert!(text.ends_with("take the old address away by one reload, and name the new one in the next"), "{text}");
        let name = format!("poolmaster-test-{}", std::process::id());
        let _own = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let text = said(&ListenAddress::Abstract(name));
        assert!(text.contains("the name is in use by ") && text.ends_with("stop that, or choose another name"), "{text}");
        // In words alone: what else is there depends on the host.
        let path = ListenAddress::Unix("/run/a.sock".into());
        let live = ListenError::live(&path).to_string();
        assert!(live.ends_with("stop the process that does (`ss -lxp` shows it), or choose another path"), "{live}");
    }

    #[test]
    fn an_option_that_is_refused_is_named_with_its_value() {
        let spec = |device: &str, owner| {
            let options = SocketOptions { device: device.to_owned(), ..SocketOptions::default() };
            let address = tcp("127.0.0.1:80");
            ListenSpec { address, backlog: 1, nonblocking: false, nodelay: false, mode: None, owner, group: None, options }
        };
        for (key, errno, want) in [
            ("device", libc::ENODEV, "device = \"eth9\": no such device; choose a network interface that `ip link` shows"),
            (
                "device",
                libc::EPERM,
                "device = \"eth9\": operation not permitted; run the master as root or with CAP_NET_RAW, or remove the key",
            ),
            (
                "mark",
                libc::EPERM,
                "mark = 0: operation not permitted; run the master as root or with CAP_NET_ADMIN, or remove the key",
            ),
            (
                "owner",
                libc::EPERM,
                "owner (number 33): operation not permitted; only root gives files away: run the master as root, or remove the key",
            ),
            ("backlog", libc::EINVAL, "backlog: invalid argument; remove the key, or choose another value"),
        ] {
            let error = ListenError::option(&spec("eth9", Some(33)), key, &io::Error::from_raw_os_error(errno));
            assert_eq!(error.to_string(), format!("cannot listen on tcp://127.0.0.1:80: cannot set {want}"));
        }
    }
}
