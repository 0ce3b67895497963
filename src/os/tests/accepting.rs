//! Is it accepting? Asked of raw children, of Python and of Node.js.

use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::support::{DEADLINE, Killed, available, outcome, pidfd, plan, readable_within};
use crate::os::accepting::{self, Wanted};
use crate::os::clock;
use crate::os::io::{pipe_cloexec, write};
use crate::os::listener::{ListenAddress, ListenSpec, Listening, SocketOptions};
use crate::os::spawn::spawn;

fn listening(nonblocking: bool) -> Listening {
    let address = ListenAddress::Tcp { addr: "127.0.0.1:0".parse().unwrap(), dual: false };
    Listening::open(&ListenSpec {
        address,
        backlog: 16,
        nonblocking,
        nodelay: true,
        mode: None,
        owner: None,
        group: None,
        options: SocketOptions::default(),
    })
    .unwrap()
}

fn is_accepting(pid: i32, inodes: &[u64]) -> bool {
    let nowhere = ListenAddress::Abstract("nowhere".to_owned());
    let wanted: Vec<Wanted> = inodes.iter().map(|inode| Wanted { inode: *inode, address: nowhere.clone() }).collect();
    accepting::is_accepting(pid, &wanted)
}

/// Looks again and again until it is seen; the process's death ends the wait early.
fn seen(pid: i32, inode: u64) -> bool {
    let (end, death) = (clock::now() + u64::try_from(DEADLINE.as_nanos()).unwrap(), pidfd(pid));
    while clock::now() < end {
        if is_accepting(pid, &[1, inode]) {
            return true;
        }
        assert!(!readable_within(&death, Duration::from_millis(5)), "it died");
    }
    false
}

/// A child of this very program: it waits for one byte on descriptor 4, then `serve`s the listener on descriptor 3. Only system calls.
fn raw_child(listening: &Listening, serve: fn()) -> (Killed, std::os::fd::OwnedFd) {
    let (r, w) = pipe_cloexec().unwrap();
    let (socket, go) = (listening.as_fd().as_raw_fd(), r.as_raw_fd());
    // SAFETY: the child makes system calls only.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: system calls on our own descriptors, in a process of its own.
        #[allow(clippy::multiple_unsafe_ops_per_block)]
        unsafe {
            let (socket, go) = (libc::fcntl(socket, libc::F_DUPFD, 100), libc::fcntl(go, libc::F_DUPFD, 100));
            libc::dup2(socket, 3);
            libc::dup2(go, 4);
            libc::syscall(libc::SYS_close_range, 5, u32::MAX, 0);
            let mut byte = [0_u8; 1];
            libc::read(4, byte.as_mut_ptr().cast(), 1);
        }
        serve();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    assert!(pid > 0);
    (Killed(pid), w)
}

fn check_raw(nonblocking: bool, serve: fn()) {
    let listening = listening(nonblocking);
    let (child, go) = raw_child(&listening, serve);
    assert!(!is_accepting(child.0, &[listening.inode()]), "it only holds the socket so far");
    write(&go, b"g").unwrap();
    assert!(seen(child.0, listening.inode()));
    assert!(!is_accepting(child.0, &[listening.inode() + 1_000_000]), "another socket is another socket");
}

#[test]
fn a_listener_in_an_epoll_set_is_seen() {
    check_raw(true, || {
        let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
        // SAFETY: system calls with valid arguments.
        #[allow(clippy::multiple_unsafe_ops_per_block)]
        unsafe {
            let epoll = libc::epoll_create1(0);
            libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, 3, &mut event);
            libc::epoll_wait(epoll, &mut event, 1, -1);
        }
    });
}

#[test]
fn a_blocking_accept_is_seen() {
    check_raw(false, || {
        // SAFETY: a system call with valid arguments.
        unsafe { libc::accept(3, std::ptr::null_mut(), std::ptr::null_mut()) };
    });
}

#[test]
fn a_listener_that_is_polled_is_seen() {
    check_raw(true, || {
        let mut list =
            [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }, libc::pollfd { fd: 3, events: libc::POLLIN, revents: 0 }];
        // SAFETY: a system call with valid arguments.
        unsafe { libc::poll(list.as_mut_ptr(), 2, -1) };
    });
}

#[test]
fn a_listener_that_is_selected_is_seen() {
    check_raw(true, || {
        // SAFETY: zeroed is an empty set.
        let mut set: libc::fd_set = unsafe { std::mem::zeroed() };
        let none = std::ptr::null_mut();
        // SAFETY: system calls with valid arguments.
        #[allow(clippy::multiple_unsafe_ops_per_block)]
        unsafe {
            libc::FD_SET(3, &mut set);
            libc::select(4, &mut set, none, none, std::ptr::null_mut());
        }
    });
}

#[test]
fn polling_another_one_is_no_proof() {
    let listening = listening(true);
    let (child, go) = raw_child(&listening, || {
        let mut list =
            [libc::pollfd { fd: 3, events: libc::POLLOUT, revents: 0 }, libc::pollfd { fd: 4, events: libc::POLLIN, revents: 0 }];
        // SAFETY: a system call with valid arguments.
        unsafe { libc::poll(list.as_mut_ptr(), 2, -1) };
    });
    write(&go, b"g").unwrap();
    let call = |number: libc::c_long| {
        let text = crate::os::procfs::read(&format!("/proc/{}/syscall", child.0)).unwrap();
        text.starts_with(&format!("{number} 0x"))
    };
    let end = clock::now() + u64::try_from(DEADLINE.as_nanos()).unwrap();
    while !call(libc::SYS_ppoll) && !call(POLL) {
        assert!(clock::now() < end);
    }
    assert!(!is_accepting(child.0, &[listening.inode()]));
}

#[cfg(target_arch = "x86_64")]
const POLL: libc::c_long = libc::SYS_poll;
#[cfg(not(target_arch = "x86_64"))]
const POLL: libc::c_long = libc::SYS_ppoll;

/// A server that spins, or waits in a way that nobody can see: what it has accepted shows it. A connection that merely waits shows nothing.
#[test]
fn an_accepted_connection_is_proof() {
    let listening = listening(true);
    let (child, go) = raw_child(&listening, || {
        let mut byte = [0_u8; 1];
        // SAFETY: system calls with valid arguments.
        #[allow(clippy::multiple_unsafe_ops_per_block)]
        unsafe {
            libc::read(4, byte.as_mut_ptr().cast(), 1);
            libc::accept(3, std::ptr::null_mut(), std::ptr::null_mut());
            libc::pause();
        }
    });
    write(&go, b"g").unwrap();
    let wanted = [Wanted { inode: listening.inode(), address: listening.local_addr().clone() }];
    let ListenAddress::Tcp { addr, .. } = listening.local_addr() else { panic!("TCP") };
    let _client = std::net::TcpStream::connect(addr).unwrap();
    assert!(!accepting::is_accepting(child.0, &wanted), "it waits still");
    write(&go, b"g").unwrap();
    let end = clock::now() + u64::try_from(DEADLINE.as_nanos()).unwrap();
    while !accepting::is_accepting(child.0, &wanted) {
        assert!(clock::now() < end);
    }
    let elsewhere = ListenAddress::Tcp { addr: "127.0.0.1:1".parse().unwrap(), dual: false };
    assert!(!accepting::is_accepting(child.0, &[Wanted { inode: listening.inode(), address: elsewhere }]));
}

/// An io_uring that waits to accept, by the raw calls.
#[test]
fn a_listener_of_an_io_uring_is_seen() {
    /// `struct io_uring_params`, as far as needed: what the kernel tells of the ring is at these offsets.
    const PARAMS: usize = 120;
    let mut probe = [0_u8; PARAMS];
    // SAFETY: the parameters are valid for writing.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8, probe.as_mut_ptr()) };
    if ring < 0 {
        eprintln!("skipped: a_listener_of_an_io_uring_is_seen: no io_uring here: {}", std::io::Error::last_os_error());
        return;
    }
    // SAFETY: just made, ours.
    unsafe { libc::close(i32::try_from(ring).unwrap()) };
    check_raw(true, || {
        let mut params = [0_u8; PARAMS];
        // SAFETY: as the manual of io_uring_setup(2) has it, in a process of its own.
        #[allow(clippy::multiple_unsafe_ops_per_block)]
        unsafe {
            let ring = i32::try_from(libc::syscall(libc::SYS_io_uring_setup, 8, params.as_mut_ptr())).unwrap_or(-1);
            let word = |at: usize| u32::from_ne_bytes([params[at], params[at + 1], params[at + 2], params[at + 3]]) as usize;
            // sq_entries; sq_off: head, tail, ring_mask, ring_entries, flags, dropped, array.
            let (entries, tail, array) = (word(0), word(44), word(64));
            let (rw, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            let queue = libc::mmap(std::ptr::null_mut(), array + entries * 4, rw, shared, ring, 0).cast::<u8>();
            let orders = libc::mmap(std::ptr::null_mut(), entries * 64, rw, shared, ring, 0x1000_0000).cast::<u8>();
            // struct io_uring_sqe: opcode (IORING_OP_ACCEPT), flags, ioprio, fd.
            orders.write(13);
            orders.add(4).cast::<i32>().write(3);
            queue.add(array).cast::<u32>().write(0);
            queue.add(tail).cast::<u32>().write_volatile(1);
            libc::syscall(libc::SYS_io_uring_enter, ring, 1, 1, 1, 0, 0);
        }
    });
}

#[test]
fn holding_it_and_waiting_for_something_else_is_no_proof() {
    let listening = listening(true);
    let (child, _go) = raw_child(&listening, || ());
    // Blocked in read: certain once the kernel says so.
    let call = format!("{} 0x4 ", libc::SYS_read);
    let end = clock::now() + u64::try_from(DEADLINE.as_nanos()).unwrap();
    while !crate::os::procfs::read(&format!("/proc/{}/syscall", child.0)).unwrap().starts_with(&call) {
        assert!(clock::now() < end);
    }
    assert!(!is_accepting(child.0, &[listening.inode()]));
}

fn check_program(argv: &[&str], nonblocking: bool) {
    if !available(argv[0]) {
        return;
    }
    let listening = listening(nonblocking);
    let mut plan = plan(argv);
    plan.fds = vec![listening.as_fd()];
    let child = spawn(&plan).unwrap();
    let _killed = Killed(child.pid);
    outcome(&child).unwrap();
    assert!(seen(child.pid, listening.inode()), "{argv:?}");
}

#[test]
fn python_asyncio_is_seen() {
    let program = "import asyncio, socket
async def main():
    server = await asyncio.start_server(lambda r, w: None, sock=socket.socket(fileno=3))
    await server.serve_forever()
asyncio.run(main())";
    check_program(&["python3", "-c", program], true);
}

#[test]
fn a_python_thread_in_accept_is_seen() {
    let program = "import socket, threading
listener = socket.socket(fileno=3)
listener.setblocking(True)
thread = threading.Thread(target=listener.accept)
thread.start()
thread.join()";
    check_program(&["python3", "-c", program], false);
}

#[test]
fn pythons_own_servers_are_seen() {
    let server = |kind: &str| {
        format!(
            "import {module}, socket
server = {kind}(('127.0.0.1', 0), None, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.serve_forever()",
            module = kind.split('.').next().unwrap().to_owned() + if kind.starts_with("http") { ".server" } else { "" }
        )
    };
    for kind in
        ["http.server.ThreadingHTTPServer", "http.server.HTTPServer", "socketserver.TCPServer", "socketserver.ForkingTCPServer"]
    {
        check_program(&["python3", "-c", &server(kind)], false);
    }
    let select = "import select, socket; s = socket.socket(fileno=3); select.select([s], [], [])";
    check_program(&["python3", "-c", select], true);
}

#[test]
fn a_grandchild_behind_a_shell_is_seen() {
    let script = "python3 -c 'import socket; s = socket.socket(fileno=3); s.setblocking(True); s.accept()'; exit 1";
    if available("python3") {
        check_program(&["sh", "-c", script], false);
    }
}

#[test]
fn node_is_seen() {
    check_program(&["node", "-e", "require('net').createServer().listen({ fd: 3 })"], true);
}

#[test]
fn a_unix_listener_is_seen_too() {
    if !available("python3") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let address = ListenAddress::Unix(temp.path().join("web.sock"));
    let listening = Listening::open(&ListenSpec {
        address,
        backlog: 16,
        nonblocking: true,
        nodelay: false,
        mode: None,
        owner: None,
        group: None,
        options: SocketOptions::default(),
    })
    .unwrap();
    let program = "import select, socket; e = select.epoll(); e.register(3, select.EPOLLIN); e.poll()";
    let mut plan = plan(&["python3", "-c", program]);
    plan.fds = vec![listening.as_fd()];
    let child = spawn(&plan).unwrap();
    let _killed = Killed(child.pid);
    assert!(seen(child.pid, listening.inode()));
}

#[test]
fn a_look_is_cheap() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", listening.as_raw_fd())).unwrap();
        link.to_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    let child = spawn(&plan(&["sleep", "1000"])).unwrap();
    let _killed = Killed(child.pid);
    outcome(&child).unwrap();
    let before = clock::now();
    for _ in 0..20 {
        assert!(!is_accepting(child.pid, &[inode]));
    }
    let each = (clock::now() - before) / 20;
    eprintln!("a look took {} us", each / 1000);
    assert!(each < 50_000_000, "{each} ns");
}
