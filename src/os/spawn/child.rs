//! Owns what a child does before its exec. It runs in the master's memory (`lent.rs`), beside the master: bare system calls only, for those of
//! the C library write `errno`, which is the master's too; no allocation, no lock, no log, no panic (iterators and `get` instead of indexing).
//! The order of the steps is the design's; each says why it stands where it stands.

use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::Ordering;

use super::call::call;
use super::failure::{SpawnFailure, Step};
use super::image::Image;

mod identity;

/// A step's outcome: the error number.
type Done = Result<(), i32>;

/// Where the child begins, on its own stack with every signal blocked.
pub(super) extern "C" fn start(image: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the image made for this child, which nobody else touches until it has left this memory.
    run(unsafe { &mut *image.cast::<Image>() })
}

/// Ends in the program or with code 127.
fn run(image: &mut Image) -> ! {
    let failure = match prepare(image) {
        Ok(()) => SpawnFailure { step: Step::Exec, errno: execute(image) },
        Err(failure) => failure,
    };
    let bytes = failure.encode();
    // A master that is gone reads nothing: nothing to do about it.
    let _ = call!(write, image.layout.report_now(), bytes.as_ptr(), bytes.len());
    loop {
        let _ = call!(exit_group, 127);
    }
}

fn prepare(image: &mut Image) -> Result<(), SpawnFailure> {
    let at = |step| move |errno| SpawnFailure { step, errno };
    // First of all: from here on a signal to the group reaches this child too.
    session().map_err(at(Step::Session))?;
    if let Some(first) = image.own_table_until {
        own_table(first).map_err(at(Step::Descriptors))?;
        // SAFETY: the master's word for this child, alive until the child has left this memory.
        unsafe { &*image.shares_table }.store(0, Ordering::Release);
        // A wake that fails leaves the master to wait for the end of this child, which is near then.
        let _ = call!(futex, image.shares_table, libc::FUTEX_WAKE, 1);
    }
    // Everything foreign goes before any step that may hang (a dead file server): it must not keep others' connections open.
    descriptors(image).map_err(at(Step::Descriptors))?;
    if let Some(signal) = image.death_signal {
        death_signal(signal).map_err(at(Step::DeathSignal))?;
    }
    // Place of: cgroup.
    identity::resources(&image.persona)?;
    identity::root(&image.persona)?;
    working_dir(image).map_err(at(Step::WorkingDirectory))?;
    identity::credentials(&image.persona)?;
    if let Some(mask) = image.persona.umask {
        // Always succeeds.
        let _ = call!(umask, mask);
    }
    if let Some(signal) = image.death_signal {
        // A change of credentials clears it, hence here again.
        death_signal(signal).map_err(at(Step::DeathSignal))?;
        orphaned(signal, image.parent).map_err(at(Step::DeathSignal))?;
    }
    signals(&image.reset_signals).map_err(at(Step::Signals))
}

fn session() -> Done {
    call!(setsid).map(drop)
}

/// Leaves the master's table of descriptors, taking along those below `first`.
fn own_table(first: RawFd) -> Done {
    match call!(close_range, first, u32::MAX, libc::CLOSE_RANGE_UNSHARE) {
        Ok(_) => Ok(()),
        // Some sandboxes know no close_range: a copy of the whole table, then.
        Err(libc::ENOSYS | libc::EPERM) => call!(unshare, libc::CLONE_FILES).map(drop),
        Err(errno) => Err(errno),
    }
}

/// Moves each descriptor to its place, those in the way of others by scratch numbers above them all, then closes all above.
fn descriptors(image: &mut Image) -> Done {
    let first_foreign = image.layout.first_foreign();
    let report = image.layout.report;
    for step in &mut image.layout.moves {
        if step.by_scratch {
            let scratch = call!(fcntl, step.from, libc::F_DUPFD_CLOEXEC, first_foreign)?;
            step.from = RawFd::try_from(scratch).map_err(|_| libc::EBADF)?;
        }
    }
    for step in &mut image.layout.moves {
        let flags = if step.to == report { libc::O_CLOEXEC } else { 0 };
        if step.from != step.to {
            // What was at the target has been moved already, or is foreign.
            call!(dup3, step.from, step.to, flags)?;
            step.from = step.to;
        } else if flags == 0 {
            // In its place already, but perhaps close-on-exec like everything in the master.
            let cleared = call!(fcntl, step.to, libc::F_SETFD, 0);
            // A standard descriptor that the master has closed is inherited as just that.
            if step.to > 2 {
                cleared?;
            }
        }
    }
    for &(first, last) in &image.layout.gaps {
        close(first, last.unsigned_abs())?;
    }
    close(first_foreign, u32::MAX)
}

fn close(first: RawFd, last: u32) -> Done {
    match call!(close_range, first, last, 0) {
        // Some sandboxes know no close_range: all of ours is close-on-exec, so only a hung child could do harm.
        Ok(_) | Err(libc::ENOSYS | libc::EPERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn death_signal(signal: i32) -> Done {
    call!(prctl, libc::PR_SET_PDEATHSIG, signal, 0, 0, 0).map(drop)
}

/// The parent may have died before the signal was set: then it is due now. It waits in the mask until that is emptied.
fn orphaned(signal: i32, parent: i32) -> Done {
    if call!(getppid)? != parent.unsigned_abs() as usize {
        let me = call!(getpid)?;
        call!(kill, me, signal)?;
    }
    Ok(())
}

fn working_dir(image: &Image) -> Done {
    if image.working_dir.is_null() {
        return Ok(());
    }
    match call!(chdir, image.working_dir) {
        Err(errno) if image.dir_is_needed => Err(errno),
        _ => Ok(()),
    }
}

/// The kernel's idea of a signal set, in bytes.
const SIGSET_BYTES: usize = 8;

/// Dispositions first, then the mask: a TERM that came since the start now acts by default, before the program is reached.
fn signals(reset: &[i32]) -> Done {
    // SIG_DFL, no flags, an empty mask: the kernel's sigaction is no larger anywhere.
    let default = [0_usize; 8];
    for &signal in reset {
        call!(rt_sigaction, signal, default.as_ptr(), ptr::null::<usize>(), SIGSET_BYTES)?;
    }
    let none = [0_u64; 1];
    call!(rt_sigprocmask, libc::SIG_SETMASK, none.as_ptr(), ptr::null::<u64>(), SIGSET_BYTES).map(drop)
}

/// Tries the candidates as execvp(3) does, but gives no file to a shell that asked for none. Returns only with an error.
fn execute(image: &mut Image) -> i32 {
    let pid = call!(getpid).unwrap_or(0);
    image.set_pid(u32::try_from(pid).unwrap_or(0));
    let mut denied = false;
    let mut error = libc::ENOENT;
    for &program in &image.programs {
        error = match call!(execve, program, image.argv.as_ptr(), image.env.as_ptr()) {
            Ok(_) => libc::EIO,
            Err(errno) => errno,
        };
        match error {
            libc::EACCES => denied = true,
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            other => return other,
        }
    }
    if denied { libc::EACCES } else { error }
}
