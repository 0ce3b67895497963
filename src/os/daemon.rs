//! Owns the way into the background: the fork whose child leads a session without a terminal, and the standard descriptors that lead nowhere.

use std::io;
use std::os::fd::AsRawFd;

use super::errno::check;
use super::io::dev_null;

/// On which side of the fork we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// Where we were; the child's process id.
    First(i32),
    /// In the child, which leads a session of its own and has no terminal.
    Daemon,
}

/// Splits off a daemon. Refused with more than one thread: in the child the others, and what they hold, would be gone.
pub fn split() -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(io::Error::other("this process has more than one thread"));
    }
    // SAFETY: a single thread, as was just seen: the child is a whole process.
    match check(unsafe { libc::fork() })? {
        0 => {
            // SAFETY: no arguments; a child just forked leads no group.
            check(unsafe { libc::setsid() })?;
            Ok(Forked::Daemon)
        }
        child => Ok(Forked::First(child)),
    }
}

/// Puts /dev/null in the place of stdin, stdout and stderr.
pub fn close_standard() -> io::Result<()> {
    let null = dev_null()?.as_raw_fd();
    for number in 0..=2 {
        // SAFETY: both are descriptors of this process; what the number led to is given up on purpose.
        check(unsafe { libc::dup2(null, number) })?;
    }
    Ok(())
}
