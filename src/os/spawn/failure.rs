//! Owns the names of a spawn's steps, and the report of a failed one: in words, and as the few bytes a child can write.

use std::fmt;
use std::io;

use crate::os::errno::words;

/// The steps of a spawn that can fail, in the order they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Step {
    /// The pipe for reports, in the parent.
    Pipe,
    /// The fork, in the parent.
    Fork,
    /// Leading a session of its own.
    Session,
    /// Descriptors to 0, 1, 2, 3, ..., all others closed.
    Descriptors,
    /// The signal that comes when the parent dies.
    DeathSignal,
    /// Scheduling priority.
    Nice,
    /// How readily the kernel kills it.
    OomScore,
    /// CPUs it may run on.
    Affinity,
    /// Resource limits.
    Limits,
    /// The root directory.
    Chroot,
    /// Changing to the working directory.
    WorkingDirectory,
    /// Capabilities.
    Capabilities,
    /// Supplementary groups.
    Groups,
    /// The group.
    Group,
    /// The user.
    User,
    /// No new privileges.
    NoNewPrivileges,
    /// Dispositions and mask.
    Signals,
    /// Executing the program.
    Exec,
}

impl Step {
    const ALL: [Step; 18] = [
        Step::Pipe,
        Step::Fork,
        Step::Session,
        Step::Descriptors,
        Step::DeathSignal,
        Step::Nice,
        Step::OomScore,
        Step::Affinity,
        Step::Limits,
        Step::Chroot,
        Step::WorkingDirectory,
        Step::Capabilities,
        Step::Groups,
        Step::Group,
        Step::User,
        Step::NoNewPrivileges,
        Step::Signals,
        Step::Exec,
    ];
}

/// What was attempted, to follow "cannot".
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Pipe => "make the pipe for its start report",
            Step::Fork => "fork",
            Step::Session => "start a session of its own",
            Step::Descriptors => "put its descriptors in place",
            Step::DeathSignal => "set its parent-death signal",
            Step::Nice => "set its priority",
            Step::OomScore => "set its oom_score_adj",
            Step::Affinity => "bind it to its CPUs",
            Step::Limits => "set its resource limits",
            Step::Chroot => "change its root directory",
            Step::WorkingDirectory => "change to the working directory",
            Step::Capabilities => "set its capabilities",
            Step::Groups => "set its supplementary groups",
            Step::Group => "change its group",
            Step::User => "change its user",
            Step::NoNewPrivileges => "set no_new_privs",
            Step::Signals => "reset its signals",
            Step::Exec => "execute the program",
        })
    }
}

/// A step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpawnFailure {
    /// Which one.
    pub step: Step,
    /// Why.
    pub errno: i32,
}

impl SpawnFailure {
    /// Bytes of a report: small enough to be written in one piece (PIPE_BUF).
    pub(super) const SIZE: usize = 8;

    pub(super) fn from_io(step: Step, e: &io::Error) -> SpawnFailure {
        SpawnFailure { step, errno: e.raw_os_error().unwrap_or(libc::EIO) }
    }

    /// Runs in the child: no allocation.
    pub(super) fn encode(self) -> [u8; Self::SIZE] {
        let ([a, b, c, d], [e, f, g, h]) = ((self.step as i32).to_ne_bytes(), self.errno.to_ne_bytes());
        [a, b, c, d, e, f, g, h]
    }

    /// A report that no child of ours can have written (a short one has the rest zero) counts as a failed exec.
    pub(super) fn decode([a, b, c, d, e, f, g, h]: [u8; Self::SIZE]) -> SpawnFailure {
        let step = i32::from_ne_bytes([a, b, c, d]);
        let step = Step::ALL.into_iter().find(|s| *s as i32 == step).unwrap_or(Step::Exec);
        SpawnFailure { step, errno: i32::from_ne_bytes([e, f, g, h]) }
    }
}

impl fmt::Display for SpawnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match (self.step, self.errno) {
            (Step::Exec, libc::ENOENT) => "not found (or the interpreter named in its first line is not)".to_owned(),
            (Step::Exec, libc::EACCES) => "permission denied (not executable, or a directory on the way is closed)".to_owned(),
            (Step::Exec, libc::ENOEXEC) => "not a program of this machine, and no script with a #! line".to_owned(),
            (Step::Exec, libc::E2BIG) => "arguments and environment are too long".to_owned(),
            (Step::Fork, libc::EAGAIN) => "the limit of processes is reached (RLIMIT_NPROC, pids.max or threads-max)".to_owned(),
            (_, errno) => words(errno),
        };
        write!(f, "cannot {}: {words}", self.step)
    }
}

impl std::error::Error for SpawnFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_through_unchanged() {
        for step in Step::ALL {
            let failure = SpawnFailure { step, errno: libc::EMFILE };
            assert_eq!(SpawnFailure::decode(failure.encode()), failure);
        }
    }

    #[test]
    fn a_failure_reads_as_a_sentence() {
        let failure = SpawnFailure { step: Step::WorkingDirectory, errno: libc::ENOENT };
        assert_eq!(failure.to_string(), "cannot change to the working directory: no such file or directory");
    }
}
