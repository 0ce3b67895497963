//! Owns what a child does between fork and exec. Refuses everything that is not async-signal-safe: no allocation, no lock, no log, no
//! panic (iterators and `get` instead of indexing). The order of the steps is the design's; each says why it stands where it stands.

use std::cell::Cell;
use std::os::fd::RawFd;

use super::failure::{SpawnFailure, Step};
use super::{Plan, Prepared};
use crate::os::errno::last;
use crate::os::process::Resource;
use crate::os::signals::{empty_set, set_default};

/// A step's outcome: the error number.
type Done = Result<(), i32>;

fn done(result: libc::c_int) -> Done {
    if result == -1 { Err(last()) } else { Ok(()) }
}

/// Runs in the child, with every signal blocked. Ends in the program or in `_exit(127)`.
pub(super) fn run(prepared: &mut Prepared<'_>) -> ! {
    let failure = match prepare(prepared) {
        Ok(()) => SpawnFailure { step: Step::Exec, errno: execute(prepared) },
        Err(failure) => failure,
    };
    let bytes = failure.encode();
    // A master that is gone reads nothing: nothing to do about it.
    // SAFETY: the buffer is valid for reading.
    unsafe { libc::write(prepared.layout.report_now(), bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: ends this process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

fn prepare(prepared: &mut Prepared<'_>) -> Result<(), SpawnFailure> {
    let at = |step| move |errno| SpawnFailure { step, errno };
    let plan = prepared.plan;
    // First of all: from here on a signal to the group reaches this child too.
    session().map_err(at(Step::Session))?;
    // Everything foreign goes before any step that may hang (a dead file server): it must not keep others' connections open.
    descriptors(prepared).map_err(at(Step::Descriptors))?;
    if let Some(signal) = plan.death_signal {
        death_signal(signal).map_err(at(Step::DeathSignal))?;
    }
    // Place of: cgroup, nice, oom score, affinity.
    limits(plan).map_err(at(Step::Limits))?;
    // Place of: chroot.
    working_dir(plan).map_err(at(Step::WorkingDirectory))?;
    // Place of: capabilities, groups, gid, uid, no_new_privs.
    if let Some(mask) = plan.umask {
        // SAFETY: always succeeds.
        unsafe { libc::umask(mask) };
    }
    if let Some(signal) = plan.death_signal {
        // A change of credentials clears it, hence here again.
        death_signal(signal).map_err(at(Step::DeathSignal))?;
        orphaned(signal, prepared.parent);
    }
    signals(plan.reset_signals).map_err(at(Step::Signals))
}

fn session() -> Done {
    // SAFETY: no memory is involved.
    done(unsafe { libc::setsid() })
}

/// Moves each descriptor to its place, those in the way of others by scratch numbers above them all, then closes all above.
fn descriptors(prepared: &mut Prepared<'_>) -> Done {
    let first_foreign = prepared.layout.first_foreign();
    let report = prepared.layout.report;
    for step in &mut prepared.layout.moves {
        if step.by_scratch {
            // SAFETY: duplicates a descriptor.
            let scratch = unsafe { libc::fcntl(step.from, libc::F_DUPFD_CLOEXEC, first_foreign) };
            done(scratch)?;
            step.from = scratch;
        }
    }
    for step in &mut prepared.layout.moves {
        let flags = if step.to == report { libc::O_CLOEXEC } else { 0 };
        if step.from != step.to {
            // SAFETY: what was at the target has been moved already or is foreign.
            done(unsafe { libc::dup3(step.from, step.to, flags) })?;
            step.from = step.to;
        } else if flags == 0 {
            // In its place already, but perhaps close-on-exec like everything in the master.
            // SAFETY: sets a flag.
            let cleared = done(unsafe { libc::fcntl(step.to, libc::F_SETFD, 0) });
            // A standard descriptor that the master has closed is inherited as just that.
            if step.to > 2 {
                cleared?;
            }
        }
    }
    close_from(first_foreign)
}

fn close_from(first: RawFd) -> Done {
    // SAFETY: what is closed belongs to the parent's image, which this process leaves.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0_u32) };
    // Some sandboxes know no close_range: all of ours is close-on-exec, so only a hung child could do harm.
    if result == -1 && !matches!(last(), libc::ENOSYS | libc::EPERM) { Err(last()) } else { Ok(()) }
}

fn death_signal(signal: i32) -> Done {
    // SAFETY: takes plain numbers.
    done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) })
}

/// The parent may have died before the signal was set: then it is due now. It waits in the mask until that is emptied.
fn orphaned(signal: i32, parent: i32) {
    // SAFETY: always succeeds.
    if unsafe { libc::getppid() } != parent {
        // SAFETY: no memory is involved.
        let me = unsafe { libc::getpid() };
        // SAFETY: signals this very process.
        unsafe { libc::kill(me, signal) };
    }
}

fn limits(plan: &Plan<'_>) -> Done {
    set_limit(libc::RLIMIT_NOFILE, plan.nofile)?;
    set_limit(libc::RLIMIT_SIGPENDING, plan.sigpending)
}

fn set_limit(resource: Resource, wanted: Option<(u64, u64)>) -> Done {
    let Some((rlim_cur, rlim_max)) = wanted else { return Ok(()) };
    let limit = libc::rlimit64 { rlim_cur, rlim_max };
    // SAFETY: `limit` is valid for reading.
    done(unsafe { libc::setrlimit64(resource, &limit) })
}

fn working_dir(plan: &Plan<'_>) -> Done {
    let Some(dir) = &plan.working_dir else { return Ok(()) };
    // SAFETY: a C string.
    done(unsafe { libc::chdir(dir.as_ptr()) })
}

/// Dispositions first, then the mask: a TERM that came since the fork now acts by default, before the program is reached.
fn signals(reset: &[i32]) -> Done {
    for &signal in reset {
        if set_default(signal) == -1 {
            return Err(last());
        }
    }
    let none = empty_set();
    // SAFETY: the set is initialised.
    done(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) })
}

/// Tries the candidates as execvp(3) does, but gives no file to a shell that asked for none. Returns only with an error.
fn execute(prepared: &Prepared<'_>) -> i32 {
    // SAFETY: always succeeds.
    let pid = unsafe { libc::getpid() };
    for variable in &prepared.pids {
        if let Some(room) = variable.text.get(variable.digits_at..) {
            write_number(room, pid.unsigned_abs());
        }
    }
    let mut denied = false;
    let mut error = libc::ENOENT;
    for &program in &prepared.programs {
        // SAFETY: C strings and null-terminated arrays of them, all prepared before the fork and alive.
        unsafe { libc::execve(program, prepared.argv.as_ptr(), prepared.env.as_ptr()) };
        error = last();
        match error {
            libc::EACCES => denied = true,
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            other => return other,
        }
    }
    if denied { libc::EACCES } else { error }
}

/// The number in decimal, a NUL behind it (the room is zeroed and larger than any pid is long).
fn write_number(room: &[Cell<u8>], number: u32) {
    let mut digits = 1;
    let mut rest = number / 10;
    while rest > 0 {
        digits += 1;
        rest /= 10;
    }
    rest = number;
    for slot in room.iter().take(digits).rev() {
        slot.set(b'0' + u8::try_from(rest % 10).unwrap_or(0));
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_padding() {
        for number in [0, 7, 10, 4_194_304, u32::MAX] {
            let room = [const { Cell::new(0) }; 16];
            write_number(&room, number);
            let text: Vec<u8> = room.iter().map(Cell::get).take_while(|b| *b != 0).collect();
            assert_eq!(String::from_utf8(text).unwrap(), number.to_string());
        }
    }
}
