//! Owns the reading of what a thread is blocked in: the call and its descriptors, from the kernel's word and from the thread's own memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// This descriptor.
    One(u64),
    /// Those that are listed in its memory.
    Listed(List),
}

/// A list of descriptors that are waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// `struct pollfd`s of poll(2): address and number.
    Poll(u64, u64),
    /// A set of select(2): address of those to be read from, and the highest number and one.
    Select(u64, u64),
}

/// Most descriptors of a list that are looked at.
const MOST_LISTED: u64 = 4096;
/// `struct pollfd`: descriptor, events, what happened.
const POLLFD: usize = 8;

/// `43 0x3 ...`: the call's number in decimal, its arguments in hexadecimal. A running thread says `running`, one blocked elsewhere `-1`.
pub(super) fn waits_on(syscall: &str) -> Option<On> {
    let mut words = syscall.split_ascii_whitespace();
    let number: libc::c_long = words.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    if is_accept(number) || RECEIVES.contains(&number) {
        // An int in a wider register.
        return Some(On::One(argument()? & u64::from(u32::MAX)));
    }
    if is_poll(number) {
        return Some(On::Listed(List::Poll(argument()?, argument()?)));
    }
    if is_select(number) {
        let most = argument()? & u64::from(u32::MAX);
        return Some(On::Listed(List::Select(argument()?, most)));
    }
    None
}

impl List {
    /// The descriptors that are to become readable; none where the memory may not be read.
    pub(super) fn readable(&self, pid: i32) -> Vec<u64> {
        let bytes = |at: u64, length: u64| {
            let mut bytes = vec![0; usize::try_from(length).ok()?];
            let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
            memory.read_exact_at(&mut bytes, at).ok()?;
            Some(bytes)
        };
        match *self {
            List::Poll(at, number) => {
                let number = number.min(MOST_LISTED);
                bytes(at, number * POLLFD as u64).map(|bytes| polled(&bytes)).unwrap_or_default()
            }
            List::Select(0, _) => Vec::new(),
            List::Select(at, most) => {
                let most = most.min(MOST_LISTED);
                // The kernel's sets are made of longs.
                bytes(at, most.div_ceil(64) * 8).map(|bytes| selected(&bytes, most)).unwrap_or_default()
            }
        }
    }
}

fn polled(bytes: &[u8]) -> Vec<u64> {
    let one = |entry: &[u8]| match *entry {
        [a, b, c, d, e, f, ..] => {
            let (fd, events) = (i32::from_ne_bytes([a, b, c, d]), i16::from_ne_bytes([e, f]));
            // A negative one is skipped by the kernel.
            u64::try_from(fd).ok().filter(|_| events & (libc::POLLIN | libc::POLLRDNORM) != 0)
        }
        _ => None,
    };
    bytes.chunks_exact(POLLFD).filter_map(one).collect()
}

fn selected(bytes: &[u8], most: u64) -> Vec<u64> {
    let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()));
    let numbers =
        words.zip(0..).flat_map(|(word, at)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit));
    numbers.filter(|fd| *fd < most).collect()
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

fn is_poll(number: libc::c_long) -> bool {
    // Newer machines have the call with a set of signals alone.
    #[cfg(any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "arm",
        target_arch = "s390x",
        target_arch = "powerpc64"
    ))]
    if number == libc::SYS_poll {
        return true;
    }
    number == libc::SYS_ppoll
}

fn is_select(number: libc::c_long) -> bool {
    #[cfg(any(target_arch = "x86_64", target_arch = "s390x", target_arch = "powerpc64"))]
    if number == libc::SYS_select {
        return true;
    }
    number == libc::SYS_pselect6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_call_is_read() {
        let line = format!("{} 0x5 0x0 0x0 0x80000 0x0 0x0 0x7ffd 0x7f11\n", libc::SYS_accept4);
        assert_eq!(waits_on(&line), Some(On::One(5)));
        let line = format!("{} 0x6 0x7ffd 0x5dc 0x0 0x0 0x0 0x7ffd 0x7f11\n", libc::SYS_recvfrom);
        assert_eq!(waits_on(&line), Some(On::One(6)));
        let line = format!("{} 0x7ffd10 0x2 0x0 0x0 0x8 0x0 0x7ffd 0x7f11\n", libc::SYS_ppoll);
        assert_eq!(waits_on(&line), Some(On::Listed(List::Poll(0x7ffd10, 2))));
        let line = format!("{} 0x5 0x7ffd10 0x0 0x0 0x0 0x0 0x7ffd 0x7f11\n", libc::SYS_pselect6);
        assert_eq!(waits_on(&line), Some(On::Listed(List::Select(0x7ffd10, 5))));
        assert_eq!(waits_on("running\n"), None);
        assert_eq!(waits_on("-1 0x7ffd 0x7f11\n"), None);
        assert_eq!(waits_on("999999 0x5 0x0\n"), None);
    }

    #[test]
    fn lists_are_read() {
        let entry = |fd: i32, events: i16| [&fd.to_ne_bytes()[..], &events.to_ne_bytes(), &[0, 0]].concat();
        let list =
            [entry(7, libc::POLLIN), entry(-1, libc::POLLIN), entry(8, libc::POLLOUT), entry(9, libc::POLLIN | libc::POLLOUT)];
        assert_eq!(polled(&list.concat()), [7, 9]);
        let set = [(1_u64 << 3 | 1 << 63).to_ne_bytes(), 0b101_u64.to_ne_bytes()].concat();
        assert_eq!(selected(&set, 67), [3, 63, 64, 66]);
        assert_eq!(selected(&set, 66), [3, 63, 64], "what is beyond the highest is not looked at by the kernel either");
        assert_eq!(polled(&[]), [0_u64; 0]);
    }

    #[test]
    fn memory_that_cannot_be_read_lists_nothing() {
        assert_eq!(List::Poll(8, 3).readable(crate::os::process::self_pid()), [0_u64; 0]);
        assert_eq!(List::Select(0, 3).readable(crate::os::process::self_pid()), [0_u64; 0]);
        assert_eq!(List::Poll(8, u64::MAX).readable(5_000_000), [0_u64; 0]);
    }
}
