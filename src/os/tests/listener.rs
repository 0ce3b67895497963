//! Listening sockets of both kinds.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr as SocketName, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::support::{in_own_process, soon};
use crate::os::listener::{ListenAddress, ListenError, ListenSpec, Listening, SocketOptions, device, get_number, somaxconn};
use crate::os::process::self_pid;

fn spec(address: ListenAddress) -> ListenSpec {
    ListenSpec {
        address,
        backlog: 16,
        nonblocking: true,
        nodelay: true,
        mode: Some(0o640),
        owner: None,
        group: None,
        options: SocketOptions::default(),
    }
}

fn tcp(addr: &str) -> ListenSpec {
    spec(ListenAddress::Tcp { addr: addr.parse().unwrap(), dual: false })
}

fn unix(path: &Path) -> ListenSpec {
    spec(ListenAddress::Unix(path.to_owned()))
}

fn udp(addr: &str) -> ListenSpec {
    spec(ListenAddress::Udp { addr: addr.parse().unwrap(), dual: false })
}

/// An abstract name that no other test has.
fn named(test: &str) -> (ListenSpec, SocketName) {
    let name = format!("poolmaster-test-{}-{test}", self_pid());
    let address = SocketName::from_abstract_name(&name).unwrap();
    (spec(ListenAddress::Abstract(name)), address)
}

fn port(listening: &Listening) -> SocketAddr {
    match listening.local_addr() {
        ListenAddress::Tcp { addr, .. } | ListenAddress::Udp { addr, .. } => *addr,
        ListenAddress::Unix(_) | ListenAddress::Abstract(_) => panic!("no port"),
    }
}

fn refused(spec: &ListenSpec) -> ListenError {
    Listening::open(spec).expect_err("it cannot be opened")
}

fn shutdown(listening: &Listening, how: i32) {
    // SAFETY: acts on an open socket.
    assert_eq!(unsafe { libc::shutdown(listening.as_fd().as_raw_fd(), how) }, 0);
}

#[test]
fn tcp_queue_options_and_shutdown() {
    let listening = Listening::open(&tcp("127.0.0.1:0")).unwrap();
    let address = port(&listening);
    assert_ne!(address.port(), 0);
    assert!(listening.state_listening());
    assert_eq!(listening.queue(), Some((0, 16)));
    let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(listening.queue(), Some((3, 16)));
    let accepting = TcpListener::from(listening.as_fd().try_clone_to_owned().unwrap());
    let (accepted, _) = accepting.accept().unwrap();
    assert!(accepted.nodelay().unwrap(), "TCP_NODELAY is inherited");
    assert_eq!(listening.queue(), Some((2, 16)));
    listening.set_backlog(8).unwrap();
    assert_eq!(listening.queue(), Some((2, 8)));
    shutdown(&listening, libc::SHUT_RDWR);
    assert!(!listening.state_listening());
    assert_eq!(listening.queue(), None);
}

#[test]
fn the_inode_is_the_one_in_proc() {
    let listening = Listening::open(&tcp("127.0.0.1:0")).unwrap();
    let link = fs::read_link(format!("/proc/self/fd/{}", listening.as_fd().as_raw_fd())).unwrap();
    assert_eq!(link, PathBuf::from(format!("socket:[{}]", listening.inode())));
}

#[test]
fn nonblocking_and_nodelay_are_as_asked() {
    for wanted in [true, false] {
        let spec = ListenSpec { nonblocking: wanted, nodelay: wanted, ..tcp("127.0.0.1:0") };
        let listening = Listening::open(&spec).unwrap();
        // SAFETY: reads flags.
        let flags = unsafe { libc::fcntl(listening.as_fd().as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK != 0, wanted);
        // SAFETY: reads flags.
        let flags = unsafe { libc::fcntl(listening.as_fd().as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        let _client = TcpStream::connect(port(&listening)).unwrap();
        let (accepted, _) = TcpListener::from(listening.as_fd().try_clone_to_owned().unwrap()).accept().unwrap();
        assert_eq!(accepted.nodelay().unwrap(), wanted);
    }
}

/// Workers set the flag on the socket that all of them share: what the master was asked for is set once, not again at each reload.
#[test]
fn what_workers_made_of_the_flag_is_kept_while_nobody_asks_for_another() {
    let spec = ListenSpec { nonblocking: false, ..tcp("127.0.0.1:0") };
    let listening = Listening::open(&spec).unwrap();
    // SAFETY: reads flags.
    let is = || unsafe { libc::fcntl(listening.as_fd().as_raw_fd(), libc::F_GETFL) } & libc::O_NONBLOCK != 0;
    crate::os::io::set_nonblocking(&listening, true).unwrap();
    assert!(listening.set_options(&spec).is_empty() && is());
    crate::os::io::set_nonblocking(&listening, false).unwrap();
    assert!(listening.set_options(&ListenSpec { nonblocking: true, ..spec.clone() }).is_empty() && is());
    // Workers may rely on it: it is not taken away, and that is told once.
    let told = listening.set_options(&spec);
    assert!(
        matches!(&told[..], [("nonblocking", why)] if why.to_string().contains("shared by all that have the socket")),
        "{told:?}"
    );
    assert!(is() && listening.set_options(&spec).is_empty());
}

#[test]
fn both_families_or_one() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: no IPv6 here");
        return;
    }
    let both = Listening::open(&spec(ListenAddress::Tcp { addr: "[::]:0".parse().unwrap(), dual: true })).unwrap();
    TcpStream::connect(("127.0.0.1", port(&both).port())).unwrap();
    TcpStream::connect(("::1", port(&both).port())).unwrap();
    let six = Listening::open(&tcp("[::]:0")).unwrap();
    TcpStream::connect(("::1", port(&six).port())).unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port(&six).port())).is_err());
}

#[test]
fn a_port_in_use_names_its_holder() {
    let first = Listening::open(&tcp("127.0.0.1:0")).unwrap();
    let error = refused(&tcp(&port(&first).to_string()));
    assert_eq!(error.errno, Some(libc::EADDRINUSE));
    let text = error.to_string();
    assert!(text.contains(&format!("(pid {})", self_pid())) && text.contains("in use by"), "{text}");
    // Also when the two addresses only overlap.
    let text = refused(&tcp(&format!("0.0.0.0:{}", port(&first).port()))).to_string();
    assert!(text.contains(&format!("(pid {})", self_pid())), "{text}");
}

#[test]
fn an_address_that_is_not_ours_is_told_in_words() {
    let text = refused(&tcp("192.0.2.1:8000")).to_string();
    assert!(text.contains("tcp://192.0.2.1:8000: this machine has no address 192.0.2.1; choose one"), "{text}");
}

#[test]
fn a_port_is_free_again_at_once() {
    let first = Listening::open(&tcp("127.0.0.1:0")).unwrap();
    let address = port(&first);
    let client = TcpStream::connect(address).unwrap();
    let (accepted, _) = TcpListener::from(first.as_fd().try_clone_to_owned().unwrap()).accept().unwrap();
    // The server's side closes first: its end stays in TIME_WAIT.
    drop(accepted);
    drop(client);
    drop(first);
    soon(|| Listening::open(&tcp(&address.to_string())));
}

#[test]
fn unix_queue_mode_and_shutdown() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("web.sock");
    let mut listening = Listening::open(&unix(&path)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(listening.queue(), Some((0, 16)));
    let _clients: Vec<_> = (0..2).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert_eq!(listening.queue(), Some((2, 16)));
    assert!(listening.state_listening());
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 3, "the socket, its second name and its lock");
    shutdown(&listening, libc::SHUT_RD);
    assert!(!listening.state_listening());
    assert!(listening.unlink_if_owner().unwrap());
    assert!(!listening.unlink_if_owner().unwrap());
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_second_holder_of_a_path_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("web.sock");
    let first = Listening::open(&unix(&path)).unwrap();
    let error = refused(&unix(&path));
    assert_eq!(error.errno, Some(libc::EADDRINUSE));
    assert!(error.to_string().contains(&format!("web.sock.lock is held by process {}", self_pid())), "{error}");
    assert_eq!(error.advice, "stop that process, or choose another path");
    drop(first);
    assert!(path.exists(), "dropping does not unlink");
    // Stale now: replaced.
    let _second = soon(|| Listening::open(&unix(&path)));
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_live_socket_of_a_stranger_is_refused_and_a_stale_one_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("web.sock");
    let stranger = UnixListener::bind(&path).unwrap();
    let error = refused(&unix(&path));
    assert!(error.errno == Some(libc::EADDRINUSE) && error.to_string().contains("another process listens there"), "{error}");
    UnixStream::connect(&path).unwrap();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "no lock, no temporary file is left");
    drop(stranger);
    let listening = soon(|| Listening::open(&unix(&path)));
    UnixStream::connect(&path).unwrap();
    assert_eq!(listening.queue().map(|(n, _)| n), Some(1));
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("web.sock");
    fs::write(&path, "precious").unwrap();
    assert!(refused(&unix(&path)).to_string().contains("there is a regular file at this path; it is left alone"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    symlink(temp.path().join("elsewhere"), &path).unwrap();
    assert!(refused(&unix(&path)).to_string().contains("a symbolic link"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(refused(&unix(&path)).to_string().contains("a directory"));
}

#[test]
fn only_the_owner_unlinks() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("web.sock");
    let mut ours = Listening::open(&unix(&path)).unwrap();
    fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    assert!(!ours.unlink_if_owner().unwrap());
    UnixStream::connect(&path).unwrap();
}

/// Nobody got in by a stale file: that it is gone for a moment costs nobody a connection, and the new one has the right name for the kernel.
#[test]
fn a_stale_file_gives_way_and_clients_get_in_from_the_moment_it_listens() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("web.sock");
    drop(UnixListener::bind(&path).unwrap());
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let path = &path;
        let watcher = scope.spawn(move || {
            let mut other = Vec::new();
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let refused = |e: &std::io::Error| matches!(e.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOENT));
                other.extend(UnixStream::connect(path).err().filter(|e| !refused(e)));
            }
            other
        });
        for _ in 0..50 {
            // Nobody accepts: room for all that the other thread connects meanwhile.
            let listening = soon(|| Listening::open(&ListenSpec { backlog: 4096, ..unix(path) }));
            UnixStream::connect(path).unwrap();
            assert!(listening.state_listening());
        }
        drop(stop);
        assert_eq!(watcher.join().unwrap().len(), 0);
    });
}

#[test]
fn paths_are_good_up_to_107_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let fill = 107 - temp.path().as_os_str().len() - 1;
    let longest = temp.path().join("x".repeat(fill));
    let listening = Listening::open(&unix(&longest)).unwrap();
    UnixStream::connect(&longest).unwrap();
    assert_eq!(listening.queue(), Some((1, 16)));
    let text = refused(&unix(&temp.path().join("x".repeat(fill + 1)))).to_string();
    assert!(text.contains("the path has 108 bytes") && text.contains("choose a shorter one"), "{text}");
}

#[test]
fn a_short_name_in_a_deep_directory_is_good_too() {
    let temp = tempfile::tempdir().unwrap();
    let fill = 107 - temp.path().as_os_str().len() - 3;
    let dir = temp.path().join("d".repeat(fill));
    fs::create_dir(&dir).unwrap();
    let mut listening = Listening::open(&unix(&dir.join("s"))).unwrap();
    UnixStream::connect(dir.join("s")).unwrap();
    assert!(listening.unlink_if_owner().unwrap());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_missing_directory_is_told_in_words() {
    let text = refused(&unix(Path::new("/nonexistent/dir/web.sock"))).to_string();
    assert!(text.contains("its directory does not exist; make the directory first"), "{text}");
}

#[test]
fn the_kernels_limit_is_known() {
    let limit = somaxconn().unwrap();
    assert!(limit > 0);
    let listening = Listening::open(&ListenSpec { backlog: limit + 1000, ..tcp("127.0.0.1:0") }).unwrap();
    assert_eq!(listening.queue(), Some((0, limit)), "clamped");
}

/// The value of an option as the kernel tells it.
fn told(listening: &Listening, level: i32, name: i32) -> u32 {
    get_number(listening.as_fd(), level, name).unwrap()
}

fn with(address: ListenSpec, options: SocketOptions) -> ListenSpec {
    ListenSpec { options, ..address }
}

#[test]
fn options_of_tcp_are_set_and_changed_on_the_live_socket() {
    let some = SocketOptions { freebind: true, defer_accept: 3, fastopen: 9, keepalive: Some(true), ..SocketOptions::default() };
    let listening = Listening::open(&with(tcp("127.0.0.1:0"), some)).unwrap();
    let values = || {
        [
            told(&listening, libc::IPPROTO_IP, libc::IP_FREEBIND),
            // The kernel counts in retransmissions: it may be more.
            u32::from(told(&listening, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT) >= 3),
            told(&listening, libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
            told(&listening, libc::SOL_SOCKET, libc::SO_KEEPALIVE),
            told(&listening, libc::IPPROTO_TCP, libc::TCP_NODELAY),
        ]
    };
    assert_eq!(values(), [1, 1, 9, 1, 1]);
    let none = ListenSpec { nodelay: false, backlog: 5, ..tcp("127.0.0.1:0") };
    assert!(listening.set_options(&none).is_empty());
    assert_eq!(values(), [0, 0, 0, 0, 0]);
    assert_eq!(listening.queue(), Some((0, 5)));
    // Accepted sockets inherit it.
    let on = SocketOptions { keepalive: Some(true), ..SocketOptions::default() };
    assert!(listening.set_options(&with(tcp("127.0.0.1:0"), on)).is_empty());
    let _client = TcpStream::connect(port(&listening)).unwrap();
    let (accepted, _) = TcpListener::from(listening.as_fd().try_clone_to_owned().unwrap()).accept().unwrap();
    assert_eq!(get_number(accepted.as_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE).unwrap(), 1);
}

#[test]
fn a_connection_without_data_is_deferred() {
    let defer = SocketOptions { defer_accept: 30, ..SocketOptions::default() };
    let listening = Listening::open(&with(tcp("127.0.0.1:0"), defer)).unwrap();
    let mut client = TcpStream::connect(port(&listening)).unwrap();
    assert_eq!(listening.queue(), Some((0, 16)), "not queued yet");
    std::io::Write::write_all(&mut client, b"x").unwrap();
    soon(|| if listening.queue() == Some((1, 16)) { Ok(()) } else { Err("data did not queue it") });
}

#[test]
fn an_address_that_is_not_there_yet_can_be_bound_with_freebind() {
    let options = SocketOptions { freebind: true, ..SocketOptions::default() };
    for spec in [tcp("192.0.2.1:0"), udp("192.0.2.1:0")] {
        assert_eq!(refused(&spec).errno, Some(libc::EADDRNOTAVAIL));
        let listening = Listening::open(&with(spec, options.clone())).unwrap();
        assert_eq!(port(&listening).ip().to_string(), "192.0.2.1");
    }
    if TcpListener::bind("[::1]:0").is_ok() {
        let six = Listening::open(&with(tcp("[2001:db8::1]:0"), options)).unwrap();
        assert_eq!(told(&six, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND), 1);
    } else {
        eprintln!("skipped: no IPv6 here");
    }
}

#[test]
fn a_network_interface_is_bound_to() {
    let on = |device: &str| SocketOptions { device: device.to_owned(), ..SocketOptions::default() };
    for spec in [tcp("127.0.0.1:0"), udp("127.0.0.1:0")] {
        match Listening::open(&with(spec.clone(), on("lo"))) {
            Err(e) if e.errno == Some(libc::EPERM) => {
                assert!(e.to_string().contains("CAP_NET_RAW"), "{e}");
                return eprintln!("skipped: the kernel does not permit SO_BINDTODEVICE here");
            }
            opened => {
                let listening = opened.unwrap();
                assert_eq!(device(listening.as_fd()).unwrap(), "lo");
                // Off again, where that is permitted.
                match &listening.set_options(&spec)[..] {
                    [] => assert_eq!(device(listening.as_fd()).unwrap(), ""),
                    other => assert!(
                        other.iter().all(|(key, e)| *key == "device" && e.raw_os_error() == Some(libc::EPERM)),
                        "{other:?}"
                    ),
                }
            }
        }
        let error = refused(&with(spec, on("no-such-if")));
        assert_eq!(error.errno, Some(libc::ENODEV));
        assert!(
            error.to_string().contains("cannot set device = \"no-such-if\": no such device; choose a network interface"),
            "{error}"
        );
    }
}

#[test]
fn packets_are_marked() {
    let options = SocketOptions { mark: 77, ..SocketOptions::default() };
    match Listening::open(&with(tcp("127.0.0.1:0"), options)) {
        Err(e) if e.errno == Some(libc::EPERM) => {
            assert!(e.to_string().contains("cannot set mark = 77") && e.to_string().contains("CAP_NET_ADMIN"), "{e}");
            eprintln!("skipped: the kernel does not permit SO_MARK here");
        }
        opened => {
            let listening = opened.unwrap();
            assert_eq!(told(&listening, libc::SOL_SOCKET, libc::SO_MARK), 77);
            assert!(listening.set_options(&tcp("127.0.0.1:0")).is_empty());
            assert_eq!(told(&listening, libc::SOL_SOCKET, libc::SO_MARK), 0);
        }
    }
}

#[test]
fn a_socket_file_has_its_owner_and_group_from_the_first_moment_and_is_given_on() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("web.sock");
    let spec = ListenSpec { owner: Some(65_533), group: Some(65_532), ..unix(&path) };
    let ids = || fs::symlink_metadata(&path).map(|m| (m.uid(), m.gid(), m.permissions().mode() & 0o777)).unwrap();
    if crate::os::process::effective_uid() != 0 {
        let text = refused(&spec).to_string();
        assert!(text.contains("cannot set group (number 65532)"), "{text}");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "nothing is left");
        return eprintln!("skipped: only root gives files away");
    }
    let listening = Listening::open(&spec).unwrap();
    assert_eq!(ids(), (65_533, 65_532, 0o640));
    let other = ListenSpec { owner: Some(0), group: Some(65_531), mode: Some(0o600), ..unix(&path) };
    assert!(listening.set_options(&other).is_empty());
    assert_eq!(ids(), (0, 65_531, 0o600));
    // What somebody else has put in its place stays as it is.
    fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    let before = ids();
    assert!(listening.set_options(&spec).is_empty());
    assert_eq!(ids(), before);
}

fn adopted(fd: impl Into<std::os::fd::OwnedFd>, spec: ListenSpec) -> Result<Listening, ListenError> {
    let fd = fd.into();
    let address = ListenAddress::of(&fd).unwrap().expect("an address");
    Listening::adopt(fd, &ListenSpec { address, ..spec })
}

#[test]
fn a_socket_of_somebody_else_keeps_what_was_not_asked_for() {
    let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = theirs.local_addr().unwrap();
    let keep = theirs.try_clone().unwrap();
    let on = SocketOptions { keepalive: Some(true), fastopen: 4, mark: 0, ..SocketOptions::default() };
    let listening = adopted(theirs, with(tcp("127.0.0.1:0"), on.clone())).unwrap();
    assert_eq!((port(&listening), listening.queue()), (address, Some((0, 16))));
    let values = || {
        let tcp = libc::IPPROTO_TCP;
        [(libc::SOL_SOCKET, libc::SO_KEEPALIVE), (tcp, libc::TCP_FASTOPEN), (tcp, libc::TCP_NODELAY)]
            .map(|(level, name)| told(&listening, level, name))
    };
    assert_eq!(values(), [1, 4, 1]);
    assert!(keep.accept().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "nonblocking, for all who share it");
    // What nobody asks for stays: it may be its maker's wish.
    assert!(listening.set_options(&ListenSpec { nodelay: false, backlog: 3, ..tcp("127.0.0.1:0") }).is_empty());
    assert_eq!((values(), listening.queue()), ([1, 4, 0], Some((0, 3))));
    // Bound and not listening yet is good too; a connection is not.
    let bound = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::empty(),
        None,
    )
    .unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    nix::sys::socket::bind(bound.as_raw_fd(), &nix::sys::socket::SockaddrStorage::from(any)).unwrap();
    assert!(adopted(bound, tcp("127.0.0.1:0")).unwrap().state_listening());
    let client = TcpStream::connect(address).unwrap();
    assert!(
        adopted(client, tcp("127.0.0.1:0"))
            .unwrap_err()
            .to_string()
            .contains("cannot listen on the socket that it was started with")
    );
}

#[test]
fn a_socket_file_of_somebody_else_is_never_touched() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("web.sock");
    let theirs = UnixListener::bind(&path).unwrap();
    let before = fs::symlink_metadata(&path).unwrap();
    let mut listening = adopted(theirs, unix(&path)).unwrap();
    assert_eq!(listening.local_addr(), &ListenAddress::Unix(path.clone()));
    let _client = UnixStream::connect(&path).unwrap();
    assert_eq!(listening.queue(), Some((1, 16)));
    assert!(listening.set_options(&unix(&path)).is_empty());
    assert!(!listening.unlink_if_owner().unwrap());
    drop(listening);
    let after = fs::symlink_metadata(&path).unwrap();
    assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "no lock");
}

#[test]
fn addresses_are_read_from_sockets() {
    let (spec, _) = named("read");
    let listening = Listening::open(&spec).unwrap();
    assert_eq!(ListenAddress::of(&listening).unwrap().as_ref(), Some(&spec.address));
    let (one, _other) = UnixStream::pair().unwrap();
    assert_eq!(ListenAddress::of(&one).unwrap(), None, "no name");
    assert_eq!(ListenAddress::of(std::os::unix::net::UnixDatagram::unbound().unwrap()).unwrap(), None);
    assert!(ListenAddress::of(fs::File::open("/dev/null").unwrap()).is_err());
    let at = |text: &str, dual| ListenAddress::Tcp { addr: text.parse().unwrap(), dual };
    assert!(at("[::1]:80", true).same_place(&at("[::1]:80", false)));
    assert!(!at("[::]:80", true).same_place(&at("[::]:80", false)), "one takes IPv4 too");
    assert!(!at("127.0.0.1:80", false).same_place(&at("127.0.0.1:81", false)));
    let udp = ListenAddress::Udp { addr: "127.0.0.1:80".parse().unwrap(), dual: false };
    assert!(!udp.same_place(&at("127.0.0.1:80", false)));
}

#[test]
fn packets_of_udp_arrive_and_its_port_is_held_alone() {
    let listening = Listening::open(&udp("127.0.0.1:0")).unwrap();
    let address = port(&listening);
    assert_eq!(listening.local_addr().to_string(), format!("udp://{address}"));
    assert!(address.port() != 0 && listening.state_listening());
    assert_eq!(listening.queue(), None, "nothing is ever accepted there");
    listening.set_backlog(5).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"hello", address).unwrap();
    let receiving = UdpSocket::from(listening.as_fd().try_clone_to_owned().unwrap());
    receiving.set_nonblocking(false).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(receiving.recv_from(&mut buffer).unwrap(), (5, client.local_addr().unwrap()));
    let error = refused(&udp(&address.to_string()));
    assert!(error.to_string().contains("in use by") && error.errno == Some(libc::EADDRINUSE), "{error}");
    assert!(error.to_string().contains(&format!("(pid {})", self_pid())), "{error}");
    // The same port of TCP is another one.
    Listening::open(&tcp(&address.to_string())).unwrap();
    // SAFETY: acts on an open socket. It says ENOTCONN, and does it.
    unsafe { libc::shutdown(listening.as_fd().as_raw_fd(), libc::SHUT_RD) };
    assert!(!listening.state_listening());
}

#[test]
fn udp_takes_both_families_or_one() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("skipped: no IPv6 here");
        return;
    }
    let both = Listening::open(&spec(ListenAddress::Udp { addr: "[::]:0".parse().unwrap(), dual: true })).unwrap();
    assert_eq!(both.local_addr(), &ListenAddress::Udp { addr: port(&both), dual: true });
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"four", ("127.0.0.1", port(&both).port())).unwrap();
    let receiving = UdpSocket::from(both.as_fd().try_clone_to_owned().unwrap());
    receiving.set_nonblocking(false).unwrap();
    assert_eq!(receiving.recv(&mut [0; 16]).unwrap(), 4);
    let six = Listening::open(&udp("[::]:0")).unwrap();
    assert_eq!(six.local_addr(), &ListenAddress::Udp { addr: port(&six), dual: false });
    // Not taken there: the port is still to be had for IPv4.
    UdpSocket::bind(("127.0.0.1", port(&six).port())).unwrap();
}

#[test]
fn an_abstract_name_has_no_file_and_goes_with_its_holder() {
    let (spec, address) = named("queue");
    let mut listening = Listening::open(&spec).unwrap();
    assert_eq!(listening.queue(), Some((0, 16)));
    let _clients: Vec<_> = (0..2).map(|_| UnixStream::connect_addr(&address).unwrap()).collect();
    assert_eq!(listening.queue(), Some((2, 16)));
    listening.set_backlog(7).unwrap();
    assert_eq!(listening.queue(), Some((2, 7)));
    let error = refused(&spec);
    assert!(error.to_string().contains("the name is in use by") && error.errno == Some(libc::EADDRINUSE), "{error}");
    assert!(error.to_string().contains(&format!("(pid {})", self_pid())), "{error}");
    assert!(listening.state_listening());
    shutdown(&listening, libc::SHUT_RDWR);
    assert!(!listening.state_listening());
    assert!(!listening.unlink_if_owner().unwrap(), "nothing to remove");
    drop(listening);
    soon(|| Listening::open(&spec));
}

#[test]
fn limits_of_this_process() {
    in_own_process("limits_are_raised_and_given_back");
}
