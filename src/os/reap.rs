//! Owns the status of ended children. Raw wait4: a library that knows no real-time signals takes the status from the kernel and
//! then fails, and the child would count as alive for ever.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use super::errno::retry;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawStatus {
    /// By exit, with this code (0 to 255).
    Exited(i32),
    /// By a signal.
    Signaled {
        /// Any number, real-time ones included.
        signal: i32,
        /// A core was dumped.
        core: bool,
    },
}

impl RawStatus {
    /// `None` for a process that has only stopped or gone on.
    fn decode(status: i32) -> Option<RawStatus> {
        // As wait(2) lays it out: low seven bits the signal, the eighth the core, the next byte the code. 0x7f is "stopped".
        match status & 0x7f {
            0 => Some(RawStatus::Exited((status >> 8) & 0xff)),
            0x7f => None,
            signal => Some(RawStatus::Signaled { signal, core: status & 0x80 != 0 }),
        }
    }
}

impl fmt::Display for RawStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RawStatus::Exited(code) => write!(f, "exited with code {code}"),
            RawStatus::Signaled { signal, core: false } => write!(f, "killed by signal {signal}"),
            RawStatus::Signaled { signal, core: true } => write!(f, "killed by signal {signal}, core dumped"),
        }
    }
}

/// What a process used, with the children it waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode.
    pub utime: Duration,
    /// CPU time in the kernel.
    pub stime: Duration,
    /// Largest resident set, in KiB.
    pub maxrss_kb: u64,
}

/// A process that has ended and is gone from the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Its id: free for others from now on.
    pub pid: i32,
    /// How it ended.
    pub status: RawStatus,
    /// What it used.
    pub usage: Usage,
}

/// Reaps one child that has ended, whoever it is: ours, or a stranger handed to us as the subreaper or as process 1. `None`: none
/// has ended, or there is none.
pub fn next_exited() -> io::Result<Option<Reaped>> {
    wait(-1, libc::WNOHANG)
}

/// This process is a child of ours, running or ended and not reaped yet.
pub fn is_child(pid: i32) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
    waitid(Id::Pid(nix::unistd::Pid::from_raw(pid)), look).is_ok()
}

/// Reaps this child if it has ended.
pub fn exited(pid: i32) -> io::Result<Option<Reaped>> {
    wait(pid, libc::WNOHANG)
}

pub(crate) fn wait(pid: i32, flags: i32) -> io::Result<Option<Reaped>> {
    loop {
        let mut status = 0;
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // __WALL: a stranger may have been cloned with another exit signal than SIGCHLD.
        // SAFETY: status and usage are valid for writing.
        let got = match retry(|| unsafe { libc::wait4(pid, &mut status, flags | libc::__WALL, usage.as_mut_ptr()) }) {
            Ok(0) => return Ok(None),
            Ok(pid) => pid,
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            Err(e) => return Err(e),
        };
        // SAFETY: zeroed is a valid rusage, and the call wrote a valid one.
        let usage = unsafe { usage.assume_init() };
        if let Some(status) = RawStatus::decode(status) {
            let usage = Usage {
                utime: duration(usage.ru_utime),
                stime: duration(usage.ru_stime),
                maxrss_kb: u64::try_from(usage.ru_maxrss).unwrap_or(0),
            };
            return Ok(Some(Reaped { pid: got, status, usage }));
        }
    }
}

fn duration(t: libc::timeval) -> Duration {
    Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0)) + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_decoded() {
        assert_eq!(RawStatus::decode(0x0300), Some(RawStatus::Exited(3)));
        assert_eq!(RawStatus::decode(0xff00), Some(RawStatus::Exited(255)));
        assert_eq!(RawStatus::decode(9), Some(RawStatus::Signaled { signal: 9, core: false }));
        assert_eq!(RawStatus::decode(0x80 | 11), Some(RawStatus::Signaled { signal: 11, core: true }));
        assert_eq!(RawStatus::decode(64), Some(RawStatus::Signaled { signal: 64, core: false }));
        assert_eq!(RawStatus::decode(0x137f), None, "stopped");
        assert_eq!(RawStatus::decode(0xffff), None, "gone on");
    }
}
