//! Is it accepting? Asked of raw children, of Python and of Node.js.

use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::support::{DEADLINE, Killed, available, outcome, pidfd, plan, readable_within};
use crate::os::accepting::is_accepting;
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
