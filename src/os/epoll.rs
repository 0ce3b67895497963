//! Owns the wait for descriptors. Refuses to interpret: a descriptor is a token, what it means is the caller's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::errno::check;
use super::io::own;

/// Events taken per wait. More are left for the next one: the kernel hands them out in turn.
const BATCH: usize = 128;

/// What to be told about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Readable.
    Read,
    /// Writable.
    Write,
    /// Either.
    ReadWrite,
    /// Only the hang-up, once: on a listener, connects do not wake, a shutdown(2) by whoever shares it does.
    Hangup,
}

impl Interest {
    fn bits(self) -> u32 {
        let bits = match self {
            Interest::Read => libc::EPOLLIN,
            Interest::Write => libc::EPOLLOUT,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLOUT,
            Interest::Hangup => libc::EPOLLET | libc::EPOLLRDHUP,
        };
        bits.cast_unsigned()
    }
}

/// One descriptor that has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// As given to [`Epoll::add`].
    pub token: u64,
    /// There is something to read, or the end of file.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The other side is gone, or has shut down its writing ([`Interest::Hangup`] only).
    pub hangup: bool,
    /// An error is pending.
    pub error: bool,
}

/// A set of descriptors to wait for.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no memory of ours is involved.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just made, owned by nobody else.
        Ok(Epoll(unsafe { own(fd) }))
    }

    /// Adds a descriptor. Remove it before it is closed: a duplicate elsewhere (in a child) keeps it in the set.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes what is asked of a descriptor in the set.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Takes a descriptor out.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::Read)
    }

    fn control(&self, operation: i32, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token };
        // SAFETY: the event is valid; both descriptors are open, being borrowed.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_fd().as_raw_fd(), &mut event) }).map(drop)
    }

    /// Replaces `out` by what is ready, waiting up to `timeout`; `None` waits for ever. It never returns before the timeout with
    /// nothing, except when a signal interrupts.
    pub fn wait(&self, out: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        self.wait_for(BATCH, out, timeout)
    }

    /// As [`Epoll::wait`], for so many at most. The kernel puts those that it told of behind the others: each has its turn.
    pub fn wait_for(&self, most: usize, out: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        out.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let capacity = i32::try_from(most.clamp(1, BATCH)).unwrap_or(1);
        let count = match wait_into(self.0.as_raw_fd(), &mut events, capacity, timeout) {
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
            Err(e) => return Err(e),
        };
        out.extend(events.iter().take(count).map(|event| {
            let (bits, token) = (event.events.cast_signed(), event.u64);
            Ready {
                token,
                readable: bits & libc::EPOLLIN != 0,
                writable: bits & libc::EPOLLOUT != 0,
                hangup: bits & (libc::EPOLLHUP | libc::EPOLLRDHUP) != 0,
                error: bits & libc::EPOLLERR != 0,
            }
        }));
        Ok(())
    }
}

/// A set may be watched within another: it is readable while one of its own is ready.
impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// epoll_pwait2 (nanoseconds, Linux 5.11) where there is one and the platform's timespec is the kernel's; else milliseconds,
/// rounded up: rounded down, the loop would spin until its deadline.
fn wait_into(fd: i32, events: &mut [libc::epoll_event; BATCH], capacity: i32, timeout: Option<Duration>) -> io::Result<usize> {
    static PWAIT2: AtomicBool = AtomicBool::new(cfg!(target_pointer_width = "64"));
    if let Some(timeout) = timeout.filter(|t| !t.is_zero() && PWAIT2.load(Ordering::Relaxed)) {
        let time = libc::timespec {
            tv_sec: timeout.as_secs().min(i64::MAX.cast_unsigned()).cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let no_mask = std::ptr::null::<libc::sigset_t>();
        let events = events.as_mut_ptr();
        // SAFETY: the array has room for `capacity` events, the time is valid, no mask is given.
        let got =
            check(unsafe { libc::syscall(libc::SYS_epoll_pwait2, fd, events, capacity, &raw const time, no_mask, 0_usize) });
        match got {
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => PWAIT2.store(false, Ordering::Relaxed),
            other => return other.map(|n| usize::try_from(n).unwrap_or(0)),
        }
    }
    // SAFETY: the array has room for `capacity` events.
    let got = check(unsafe { libc::epoll_wait(fd, events.as_mut_ptr(), capacity, milliseconds(timeout)) });
    got.map(|n| usize::try_from(n).unwrap_or(0))
}

fn milliseconds(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |t| i32::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::{clock, io as os_io};

    #[test]
    fn milliseconds_are_rounded_up() {
        assert_eq!(milliseconds(None), -1);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(milliseconds(Some(Duration::from_micros(1001))), 2);
        assert_eq!(milliseconds(Some(Duration::MAX)), i32::MAX);
    }

    #[test]
    fn each_has_its_turn() {
        let epoll = Epoll::new().unwrap();
        let pipes: Vec<_> = (0..7).map(|_| os_io::pipe_cloexec().unwrap()).collect();
        for ((r, w), token) in pipes.iter().zip(0..) {
            epoll.add(r, token, Interest::Read).unwrap();
            os_io::write(w, b"x").unwrap();
        }
        let (mut out, mut seen) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            epoll.wait_for(2, &mut out, None).unwrap();
            seen.extend(out.iter().map(|ready| ready.token));
        }
        for token in 0..7 {
            assert_eq!(seen.iter().filter(|t| **t == token).count(), 2, "{seen:?}");
        }
    }

    #[test]
    fn a_wait_is_never_shorter_than_asked() {
        let epoll = Epoll::new().unwrap();
        let mut out = Vec::new();
        let before = clock::now();
        epoll.wait(&mut out, Some(Duration::from_micros(2500))).unwrap();
        assert!(clock::now() - before >= 2_500_000);
        assert!(out.is_empty());
    }

    #[test]
    fn readiness_hang_up_and_changed_interest_are_told() {
        let epoll = Epoll::new().unwrap();
        let (r, w) = os_io::pipe_cloexec().unwrap();
        epoll.add(&r, 7, Interest::Read).unwrap();
        epoll.add(&w, 8, Interest::Write).unwrap();
        let mut out = Vec::new();
        epoll.wait(&mut out, None).unwrap();
        assert_eq!(out.len(), 1);
        assert!(out[0].token == 8 && out[0].writable && !out[0].readable);
        epoll.modify(&w, 9, Interest::Hangup).unwrap();
        os_io::write(&w, b"x").unwrap();
        epoll.wait(&mut out, None).unwrap();
        assert_eq!(out, [Ready { token: 7, readable: true, writable: false, hangup: false, error: false }]);
        epoll.remove(&w).unwrap();
        drop(w);
        epoll.wait(&mut out, None).unwrap();
        assert!(out[0].hangup);
        epoll.remove(&r).unwrap();
        epoll.wait(&mut out, Some(Duration::ZERO)).unwrap();
        assert!(out.is_empty());
    }
}
