//! Owns signals: blocking them, receiving them through a descriptor, sending them. Refuses handlers: a blocked signal and a
//! signalfd leave nothing to do in an interrupted context.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::errno::{check, retry};
use super::io::own;
use super::procfs;

/// The highest signal number there is.
pub(crate) const LAST: i32 = 64;

/// What the hardware raises: blocked, they would kill anyhow, without a word.
const FAULTS: [i32; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// The mask that was in force before [`block_all`].
#[derive(Clone, Copy)]
pub struct SavedMask(libc::sigset_t);

impl SavedMask {
    /// Puts it in force again, for the calling thread.
    pub fn restore(&self) {
        // SAFETY: the set is initialised. The call cannot fail with these arguments.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

fn all_but_faults() -> libc::sigset_t {
    let mut set = full_set();
    for fault in FAULTS {
        // SAFETY: the set is initialised and the number valid.
        unsafe { libc::sigdelset(&mut set, fault) };
    }
    set
}

pub(crate) fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for writing.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: sigfillset has initialised it.
    unsafe { set.assume_init() }
}

pub(crate) fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for writing.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has initialised it.
    unsafe { set.assume_init() }
}

fn swap_mask(set: &libc::sigset_t) -> SavedMask {
    let mut before = empty_set();
    // SAFETY: both sets are initialised. The call cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, &mut before) };
    SavedMask(before)
}

/// Blocks every signal but the synchronous faults in the calling thread. Call it before any other thread starts: threads
/// inherit the mask of their creator, and one that does not block takes the signals meant for the descriptor.
pub fn block_all() -> SavedMask {
    swap_mask(&all_but_faults())
}

/// Blocks every signal, faults too, for the moment of a fork.
pub(crate) fn block_for_fork() -> SavedMask {
    swap_mask(&full_set())
}

/// The signals this process ignores now: those a child would inherit as ignored, since exec resets handlers only. SIGPIPE is
/// among them (the Rust runtime ignores it), and SIGHUP under nohup. Give it to [`crate::os::spawn::Plan::reset_signals`].
pub fn ignored_at_start() -> Vec<i32> {
    (1..=LAST).filter(|&signal| is_ignored(signal)).collect()
}

/// Undoes an ignored SIGCHLD: under it the kernel reaps children itself, and their ends are never told. For a process that starts
/// children, before the first one.
pub fn hear_of_children() {
    set_default(libc::SIGCHLD);
}

/// The kernel's sigaction, the handler first and room to spare. Raw, as the C library hides the signals it uses itself (32 and 33), and a
/// worker would inherit them as ignored.
type RawAction = [usize; 8];

fn is_ignored(signal: i32) -> bool {
    let mut action: RawAction = [0; 8];
    let nothing = std::ptr::null::<RawAction>();
    // SAFETY: a null new action only asks; `action` is valid for writing and large enough.
    let asked = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, nothing, action.as_mut_ptr(), SIGSET_BYTES) };
    asked == 0 && action[0] == libc::SIG_IGN
}

/// Size of the kernel's signal set: 64 bits.
const SIGSET_BYTES: usize = 8;

/// Gives a signal its default disposition: -1 on failure. Async-signal-safe.
pub(crate) fn set_default(signal: i32) -> libc::c_long {
    // SIG_DFL, no flags, an empty mask.
    let action: RawAction = [0; 8];
    let nothing = std::ptr::null_mut::<RawAction>();
    // SAFETY: `action` is valid for reading; the default disposition runs no code.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), nothing, SIGSET_BYTES) }
}

/// One signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalInfo {
    /// Its number.
    pub signo: i32,
    /// The sender's process id; for SIGCHLD the child's. 0: the kernel, or a process of another pid namespace.
    pub pid: i32,
    /// The sender's real user id.
    pub uid: u32,
    /// How it was sent: SI_USER, SI_QUEUE, SI_KERNEL, CLD_...
    pub code: i32,
}

impl SignalInfo {
    /// Sent by the kernel itself: for SIGHUP, the terminal is gone.
    pub fn from_kernel(&self) -> bool {
        self.code == libc::SI_KERNEL
    }
}

/// The descriptor at which blocked signals arrive. Nonblocking.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Receives every signal that [`block_all`] blocks.
    pub fn new() -> io::Result<SignalFd> {
        let set = all_but_faults();
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = check(unsafe { libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) })?;
        // SAFETY: just made, owned by nobody else.
        Ok(SignalFd(unsafe { own(fd) }))
    }

    /// Waits until a signal is there, but no longer than this. True: one is.
    pub fn wait(&self, longest: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let ms = i32::try_from(longest.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid entry.
        retry(|| unsafe { libc::poll(&mut poll, 1, ms) }).map(|ready| ready > 0)
    }

    /// Appends at most `max` signals to `out`, lowest number first. True: there are no more; false: call again.
    pub fn read(&self, out: &mut Vec<SignalInfo>, max: usize) -> io::Result<bool> {
        const BATCH: usize = 32;
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut left = max;
        while left > 0 {
            let mut batch = MaybeUninit::<[libc::signalfd_siginfo; BATCH]>::zeroed();
            let asked = left.min(BATCH);
            // SAFETY: the buffer has room for BATCH entries, at least `asked`.
            let got = retry(|| unsafe { libc::read(self.0.as_raw_fd(), batch.as_mut_ptr().cast(), asked * SIZE) });
            let got = match got {
                Ok(bytes) => usize::try_from(bytes).unwrap_or(0) / SIZE,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            };
            // SAFETY: all-zero entries are valid, and the kernel wrote valid ones over the first `got`.
            let batch = unsafe { batch.assume_init() };
            out.extend(batch.iter().take(got).map(|info| SignalInfo {
                signo: info.ssi_signo.cast_signed(),
                pid: info.ssi_pid.cast_signed(),
                uid: info.ssi_uid,
                code: info.ssi_code,
            }));
            // The kernel takes out all there are: fewer than asked for means none is left.
            if got < asked {
                return Ok(true);
            }
            left -= got;
        }
        Ok(false)
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Raises the soft limit of queued signals to the hard one. Beyond it kill(2) still reports success and real-time signals
/// merge. Gives the soft limit before and after; after it is also the hard limit, so the pair is what a child gets back.
pub fn raise_sigpending_limit() -> (u64, u64) {
    super::process::raise_limit(libc::RLIMIT_SIGPENDING)
}

/// Signals queued now for this user, and the limit, from SigQ of /proc/self/status. `None` where /proc is not mounted.
pub fn pending_queue() -> Option<(u64, u64)> {
    parse_sigq(&procfs::read("/proc/self/status")?)
}

fn parse_sigq(status: &str) -> Option<(u64, u64)> {
    let line = status.lines().find_map(|l| l.strip_prefix("SigQ:"))?;
    let (used, limit) = line.trim().split_once('/')?;
    Some((used.parse().ok()?, limit.parse().ok()?))
}

/// Sends `signal` to one process. Refuses ids that kill(2) reads as a group or as everybody.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: kill touches no memory of ours.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Sends `signal` to every process of a group. Refuses 1, 0 and below: kill(-1) is everybody, kill(0) our own group.
pub fn kill_group(pgid: i32, signal: i32) -> io::Result<()> {
    if pgid <= 1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: kill touches no memory of ours.
    check(unsafe { libc::kill(-pgid, signal) }).map(drop)
}

/// Sends `signal` to the group that `leader`, a child of ours not reaped yet, leads, and to the leader alone while it has not
/// made its group: a child forked a moment ago must not miss its signal. Not for a reaped leader: its number may be another's.
pub fn kill_worker(leader: i32, signal: i32) -> io::Result<()> {
    match kill_group(leader, signal) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => kill(leader, signal),
        other => other,
    }
}

/// Is any process left in the group? One that has ended but is not reaped yet counts.
pub fn group_exists(pgid: i32) -> bool {
    match kill_group(pgid, 0) {
        Ok(()) => true,
        Err(e) => e.raw_os_error() == Some(libc::EPERM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigq_is_parsed() {
        assert_eq!(parse_sigq("Name:\tx\nSigQ:\t3/15000\nSigPnd:\t0\n"), Some((3, 15000)));
        assert_eq!(parse_sigq("Name:\tx\n"), None);
        assert!(pending_queue().is_some_and(|(_, limit)| limit > 0));
    }

    #[test]
    fn the_runtime_ignores_sigpipe_and_not_sigterm() {
        let ignored = ignored_at_start();
        assert!(ignored.contains(&libc::SIGPIPE), "{ignored:?}");
        assert!(!ignored.contains(&libc::SIGTERM) && !ignored.contains(&libc::SIGSEGV), "{ignored:?}");
    }

    #[test]
    fn nobody_is_killed_by_a_wrong_number() {
        for wrong in [-1, 0] {
            assert_eq!(kill(wrong, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
        for wrong in [-5, -1, 0, 1] {
            assert_eq!(kill_group(wrong, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
            assert!(!group_exists(wrong));
        }
    }

    #[test]
    fn real_time_signals_queue_and_are_read_in_bounded_batches() {
        // Of this thread only: a thread-directed signal is not seen by the other tests.
        let saved = block_all();
        let fd = SignalFd::new().unwrap();
        let signal = libc::SIGRTMIN() + 5;
        for _ in 0..70 {
            // SAFETY: always succeeds.
            let this = unsafe { libc::pthread_self() };
            // SAFETY: sends a blocked signal to this very thread.
            let sent = unsafe { libc::pthread_kill(this, signal) };
            assert_eq!(sent, 0);
        }
        let mut got = Vec::new();
        assert!(!fd.read(&mut got, 40).unwrap(), "40 of 70 taken: not drained");
        assert_eq!(got.len(), 40);
        assert!(fd.read(&mut got, 1000).unwrap());
        assert!(fd.read(&mut got, 1000).unwrap());
        assert_eq!(got.iter().filter(|s| s.signo == signal).count(), 70);
        assert_eq!(got[0].pid, std::process::id().cast_signed());
        saved.restore();
    }
}
