//! Owns ^C while a verb waits: the order goes on, and that is said before this process ends of it.

use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::os::signals::ignored_at_start;

/// SIGINT comes in here, and does not end the process, as long as this is there.
#[derive(Debug)]
pub(super) struct Interrupt {
    fd: SignalFd,
    mask: SigSet,
}

impl Interrupt {
    /// `None`: it cannot be had, and ^C does what it ever does. A process that was started to ignore it, as jobs of a script are, goes on doing so.
    pub(super) fn watch() -> Option<Interrupt> {
        if ignored_at_start().contains(&(Signal::SIGINT as i32)) {
            return None;
        }
        let mask = SigSet::from(Signal::SIGINT);
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok()?;
        mask.thread_block().ok()?;
        Some(Interrupt { fd, mask })
    }

    pub(super) fn fd(&self) -> &SignalFd {
        &self.fd
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // What is in it was acted on.
        let _ = self.fd.read_signal();
        let _ = self.mask.thread_unblock();
    }
}

/// Ends the process as SIGINT does: a shell that runs a script sees that, and ends the script too.
pub(super) fn end() {
    let _ = raise(Signal::SIGINT);
}
