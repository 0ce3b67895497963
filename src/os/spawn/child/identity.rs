//! Owns the steps that make a child who it shall be. As all of a child's: bare system calls only, no allocation, no panic. What needs
//! privileges comes before they are given up, and what they would change after.

use std::ptr;

use super::super::call::call;
use super::super::failure::{SpawnFailure, Step};
use super::super::identity::Persona;
use super::Done;

const AT_FDCWD: i32 = libc::AT_FDCWD;
/// capset(2) in its 64-bit form, of linux/capability.h.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// No kernel has more.
const MOST_CAPABILITIES: u64 = 63;

fn at(step: Step) -> impl Fn(i32) -> SpawnFailure {
    move |errno| SpawnFailure { step, errno }
}

/// What the child may use, while it may still give itself more.
pub(super) fn resources(persona: &Persona) -> Result<(), SpawnFailure> {
    if let Some(nice) = persona.nice {
        call!(setpriority, libc::PRIO_PROCESS, 0, nice).map_err(at(Step::Nice))?;
    }
    oom_score(persona).map_err(at(Step::OomScore))?;
    if !persona.cpus.is_empty() {
        let bytes = std::mem::size_of_val(persona.cpus.as_slice());
        call!(sched_setaffinity, 0, bytes, persona.cpus.as_ptr()).map_err(at(Step::Affinity))?;
    }
    for (resource, limit) in &persona.limits {
        call!(prlimit64, 0, *resource, limit.as_ptr(), ptr::null::<u64>()).map_err(at(Step::Limits))?;
    }
    Ok(())
}

fn oom_score(persona: &Persona) -> Done {
    let text = &persona.oom_score_adj;
    if text.is_empty() {
        return Ok(());
    }
    let file = call!(openat, AT_FDCWD, c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC, 0)?;
    let written = call!(write, file, text.as_ptr(), text.len());
    let _ = call!(close, file);
    written.map(drop)
}

/// The new root; the working directory is in it from then on.
pub(super) fn root(persona: &Persona) -> Result<(), SpawnFailure> {
    if persona.chroot.is_null() {
        return Ok(());
    }
    call!(chroot, persona.chroot).map_err(at(Step::Chroot))?;
    call!(chdir, c"/".as_ptr()).map(drop).map_err(at(Step::Chroot))
}

/// User, groups and capabilities.
pub(super) fn credentials(persona: &Persona) -> Result<(), SpawnFailure> {
    if let Some(kept) = persona.capabilities {
        bound(kept).map_err(at(Step::Capabilities))?;
        // Else a change from root to another user would clear them all.
        call!(prctl, libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).map_err(at(Step::Capabilities))?;
    }
    if let Some(groups) = &persona.groups {
        call!(setgroups, groups.len(), groups.as_ptr()).map_err(at(Step::Groups))?;
    }
    if let Some(gid) = persona.gid {
        call!(setresgid, gid, gid, gid).map_err(at(Step::Group))?;
    }
    if let Some(uid) = persona.uid {
        call!(setresuid, uid, uid, uid).map_err(at(Step::User))?;
    }
    if let Some(kept) = persona.capabilities {
        keep(kept).map_err(at(Step::Capabilities))?;
    }
    if persona.no_new_privileges {
        call!(prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).map_err(at(Step::NoNewPrivileges))?;
    }
    Ok(())
}

/// Drops all others from the bounding set: no exec can bring them back.
fn bound(kept: u64) -> Done {
    for number in 0..=MOST_CAPABILITIES {
        if kept & (1 << number) == 0 {
            match call!(prctl, libc::PR_CAPBSET_DROP, number, 0, 0, 0) {
                Ok(_) => {}
                // The kernel knows no capability of that number, nor any above.
                Err(libc::EINVAL) => break,
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// Exactly these, and in the ambient set, so that a program that knows nothing of capabilities has them.
fn keep(kept: u64) -> Done {
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    // Effective, permitted, inheritable: first of the lower half, then of the upper.
    let sets: [u32; 6] = [low, low, low, high, high, high];
    call!(capset, header.as_ptr(), sets.as_ptr())?;
    for number in 0..=MOST_CAPABILITIES {
        if kept & (1 << number) != 0 {
            call!(prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0)?;
        }
    }
    Ok(())
}
