//! Owns one question: is that program accepting connections yet? Answered by the kernel's own tables, for any program, without its help: a
//! listener in an epoll set or in an io_uring's list, a thread blocked in accept, poll or select (of UDP: in receiving), a connection that was
//! accepted. What gives no proof is answered "not seen", never guessed.

use std::fs;

use super::listener::ListenAddress;
use super::procfs::{self, numbers};

mod lent;
mod waits;

/// Bounds on one look, so that a program with a hundred thousand descriptors cannot hold the loop up.
const MOST_PROCESSES: usize = 128;
const MOST_DESCRIPTORS: usize = 2048;
const MOST_THREADS: usize = 256;
/// Sockets of one process that are borrowed to look at them.
const MOST_SOCKETS: usize = 64;

/// EPOLLIN or EPOLLRDNORM: without one of them a set waits for something else than connections.
const READABLE: u32 = 0x41;

/// What workers are to accept on.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The socket's inode number.
    pub inode: u64,
    /// Its address: that of the connections, too.
    pub address: ListenAddress,
}

/// Is any process of the worker (its leader or a descendant of it) waiting for connections on one of these sockets, or has it accepted one?
pub fn is_accepting(leader_pid: i32, wanted: &[Wanted]) -> bool {
    if wanted.is_empty() {
        return false;
    }
    let inodes: Vec<u64> = wanted.iter().map(|w| w.inode).collect();
    family(leader_pid).into_iter().any(|pid| {
        in_a_call(pid, &inodes) || {
            let open = descriptors(pid);
            in_epoll(pid, &open, &inodes) || in_ring(pid, &open, &inodes) || has_accepted(pid, &open, wanted)
        }
    })
}

/// The descriptors of a process and what they are: `socket:[N]`, `anon_inode:[eventpoll]`.
fn descriptors(pid: i32) -> Vec<(i32, String)> {
    let target = |fd: i32| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?.into_os_string().into_string().ok();
    numbers(&format!("/proc/{pid}/fd")).take(MOST_DESCRIPTORS).filter_map(|fd| Some((fd, target(fd)?))).collect()
}

/// An io_uring waits to accept, in a process that has nothing else to accept on: its list does not name the socket.
fn in_ring(pid: i32, open: &[(i32, String)], inodes: &[u64]) -> bool {
    let mut rings = open.iter().filter(|(_, target)| target == "anon_inode:[io_uring]");
    let waits = |fd: &i32| procfs::read(&format!("/proc/{pid}/fdinfo/{fd}")).is_some_and(|info| accepts_in(&info));
    if !rings.any(|(fd, _)| waits(fd)) {
        return false;
    }
    let sockets: Vec<(i32, u64)> = open.iter().filter_map(|(fd, target)| Some((*fd, socket_in(target)?))).collect();
    let is_ours = |inode: &u64| inodes.contains(inode);
    let others: Vec<i32> = sockets.iter().filter(|(_, inode)| !is_ours(inode)).map(|(fd, _)| *fd).collect();
    others.len() < sockets.len() && others.len() <= MOST_SOCKETS && others.iter().all(|fd| lent::listens(pid, *fd) == Some(false))
}

/// `PollList:`, then `  op=13, task_works=0`: 13 is IORING_OP_ACCEPT of linux/io_uring.h.
fn accepts_in(fdinfo: &str) -> bool {
    fdinfo.lines().skip_while(|line| !line.starts_with("PollList:")).any(|line| line.trim_start().starts_with("op=13,"))
}

/// It has a connection that came to one of the listeners.
fn has_accepted(pid: i32, open: &[(i32, String)], wanted: &[Wanted]) -> bool {
    let sockets = open.iter().filter(|(_, target)| socket_in(target).is_some_and(|i| wanted.iter().all(|w| w.inode != i)));
    sockets
        .take(MOST_SOCKETS)
        .any(|(fd, _)| lent::came_to(pid, *fd).is_some_and(|address| wanted.iter().any(|w| lent::is_of(&address, &w.address))))
}

fn socket_in(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The leader and its descendants; where the kernel does not list children, everything in its session.
fn family(leader: i32) -> Vec<i32> {
    let mut found = vec![leader];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        for thread in numbers(&format!("/proc/{pid}/task")).take(MOST_THREADS) {
            match procfs::read(&format!("/proc/{pid}/task/{thread}/children")) {
                Some(list) => found.extend(list.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok())),
                None if pid == leader && thread == leader && procfs::stat_field(leader, 6).is_some() => return session(leader),
                None => {}
            }
        }
        if found.len() >= MOST_PROCESSES {
            found.truncate(MOST_PROCESSES);
            break;
        }
    }
    found
}

/// Every process of the session that `leader` leads, itself first.
fn session(leader: i32) -> Vec<i32> {
    let of_session = |pid: &i32| *pid != leader && procfs::stat_field(*pid, 6) == u64::try_from(leader).ok();
    std::iter::once(leader).chain(numbers("/proc").filter(of_session)).take(MOST_PROCESSES).collect()
}

fn in_epoll(pid: i32, open: &[(i32, String)], inodes: &[u64]) -> bool {
    let mut sets = open.iter().filter(|(_, target)| target == "anon_inode:[eventpoll]");
    sets.any(|(fd, _)| procfs::read(&format!("/proc/{pid}/fdinfo/{fd}")).is_some_and(|info| watches(&info, inodes)))
}

/// `tfd:        7 events:       19 data:                7  pos:0 ino:1a2b sdev:8`, numbers after `events` and `ino` in hexadecimal.
fn watches(fdinfo: &str, inodes: &[u64]) -> bool {
    fdinfo.lines().filter(|line| line.starts_with("tfd:")).any(|line| {
        let mut words = line.split_ascii_whitespace();
        let events = words.by_ref().skip_while(|w| *w != "events:").nth(1).and_then(|w| u32::from_str_radix(w, 16).ok());
        let inode = words.find_map(|w| w.strip_prefix("ino:")).and_then(|w| u64::from_str_radix(w, 16).ok());
        events.is_some_and(|e| e & READABLE != 0) && inode.is_some_and(|i| inodes.contains(&i))
    })
}

fn in_a_call(pid: i32, inodes: &[u64]) -> bool {
    let is_ours = |fd| procfs::socket_inode(pid, fd).is_some_and(|inode| inodes.contains(&inode));
    numbers(&format!("/proc/{pid}/task")).take(MOST_THREADS).any(|thread| {
        let call = procfs::read(&format!("/proc/{pid}/task/{thread}/syscall"));
        match call.as_deref().and_then(waits::waits_on) {
            Some(waits::On::One(fd)) => is_ours(fd),
            Some(waits::On::Listed(list)) => list.readable(pid).into_iter().any(is_ours),
            None => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoll_set_is_read() {
        let info = "pos:\t0\nflags:\t02000002\ntfd:        7 events:       19 data:                7  pos:0 ino:1a2b sdev:8\n";
        assert!(watches(info, &[0x1a2b]));
        assert!(!watches(info, &[1]));
        let writing = "tfd:        7 events:        4 data:                7  pos:0 ino:1a2b sdev:8\n";
        assert!(!watches(writing, &[0x1a2b]), "waiting for something else");
    }

    #[test]
    fn a_ring_is_read() {
        assert!(accepts_in("SQEs:\t0\nPollList:\n  op=6, task_works=0\n  op=13, task_works=0\nCqOverflowList:\n"));
        assert!(!accepts_in("  op=13, task_works=0\nPollList:\n  op=6, task_works=0\n"));
        assert!(!accepts_in("pos:\t0\n"));
    }

    #[test]
    fn nobody_accepts_on_nothing() {
        assert!(!is_accepting(crate::os::process::self_pid(), &[]));
        let address = ListenAddress::Abstract("x".to_owned());
        assert!(!is_accepting(5_000_000, &[Wanted { inode: 1, address }]));
    }
}
