//! Owns one question: is that program accepting connections yet? Answered by the kernel's own tables, for any program, without its help: a
//! listener in an epoll set, or a thread blocked in accept (of UDP: in receiving). What gives no proof (poll and select name no descriptor, io_uring shows nothing)
//! is answered "not seen", never guessed.

use std::fs;

use super::procfs::{self, numbers};

/// Bounds on one look, so that a program with a hundred thousand descriptors cannot hold the loop up.
const MOST_PROCESSES: usize = 128;
const MOST_DESCRIPTORS: usize = 2048;
const MOST_THREADS: usize = 256;

/// EPOLLIN or EPOLLRDNORM: without one of them a set waits for something else than connections.
const READABLE: u32 = 0x41;

/// Is any process of the worker (its leader or a descendant of it) waiting for connections on one of these sockets (inode numbers)?
pub fn is_accepting(leader_pid: i32, inodes: &[u64]) -> bool {
    !inodes.is_empty() && family(leader_pid).into_iter().any(|pid| in_epoll(pid, inodes) || in_accept(pid, inodes))
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

fn in_epoll(pid: i32, inodes: &[u64]) -> bool {
    numbers(&format!("/proc/{pid}/fd")).take(MOST_DESCRIPTORS).any(|fd| {
        let is_epoll =
            fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]");
        is_epoll && procfs::read(&format!("/proc/{pid}/fdinfo/{fd}")).is_some_and(|info| watches(&info, inodes))
    })
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

fn in_accept(pid: i32, inodes: &[u64]) -> bool {
    numbers(&format!("/proc/{pid}/task")).take(MOST_THREADS).any(|thread| {
        let call = procfs::read(&format!("/proc/{pid}/task/{thread}/syscall"));
        let fd = call.as_deref().and_then(waits_on);
        fd.and_then(|fd| procfs::socket_inode(pid, fd)).is_some_and(|inode| inodes.contains(&inode))
    })
}

/// The descriptor of a thread blocked in accept, or in waiting for a packet: `43 0x3 ...` (call number in decimal, arguments in hexadecimal). A running thread says
/// `running`, one blocked elsewhere `-1`.
fn waits_on(syscall: &str) -> Option<u64> {
    let mut words = syscall.split_ascii_whitespace();
    let number: libc::c_long = words.next()?.parse().ok()?;
    if !is_accept(number) && !RECEIVES.contains(&number) {
        return None;
    }
    // An int in a wider register.
    let argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    Some(argument & u64::from(u32::MAX))
}

/// Calls that wait for a packet of UDP. On a socket that accepts connections they fail at once: none is ever blocked there.
const RECEIVES: [libc::c_long; 4] = [libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg, libc::SYS_read];

fn is_accept(number: libc::c_long) -> bool {
    #[cfg(not(any(target_arch = "s390x", target_arch = "x86")))]
    if number == libc::SYS_accept {
        return true;
    }
    number == libc::SYS_accept4
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
    fn a_blocked_accept_is_read() {
        let line = format!("{} 0x5 0x0 0x0 0x80000 0x0 0x0 0x7ffd 0x7f11\n", libc::SYS_accept4);
        assert_eq!(waits_on(&line), Some(5));
        let line = format!("{} 0x6 0x7ffd 0x5dc 0x0 0x0 0x0 0x7ffd 0x7f11\n", libc::SYS_recvfrom);
        assert_eq!(waits_on(&line), Some(6));
        assert_eq!(waits_on("running\n"), None);
        assert_eq!(waits_on("-1 0x7ffd 0x7f11\n"), None);
        assert_eq!(waits_on("999999 0x5 0x0\n"), None);
    }

    #[test]
    fn nobody_accepts_on_nothing() {
        assert!(!is_accepting(crate::os::process::self_pid(), &[]));
        assert!(!is_accepting(5_000_000, &[1]));
    }
}
