//! Owns the start of a program, exactly as planned: its descriptors, session, limits, directory, signals. It reports exactly which step
//! failed and why, and never waits for the child. Refuses to decide what a worker gets: that is the caller's [`Plan`].
//!
//! Neither fork nor vfork. Until it executes its program the child shares the master's memory, as after vfork: nothing is copied and no page
//! of the master faults afterwards (measured: 1,000 workers boot in 0.49 s instead of 0.75 s). But the master does not stand still until
//! then, as after vfork: a program on a dead file server must not stop supervision. So what the child uses is lent to it (`spawn/lent.rs`)
//! until it is known to be done with it, and it makes bare system calls only (`spawn/child.rs`), for even `errno` is the master's.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::io::{dev_null, pipe_with};

mod call;
mod child;
mod failure;
mod identity;
mod image;
mod layout;
mod lent;
mod pad;

pub use failure::{SpawnFailure, Step};
pub use identity::{Identity, Resource, UNLIMITED};
use image::Image;
use lent::Lent;
pub use pad::{reserve, settle};

/// Where one of a child's standard descriptors comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'fd> {
    /// The parent's own.
    Inherit,
    /// /dev/null.
    Null,
    /// This descriptor.
    Fd(BorrowedFd<'fd>),
    /// Where stdout goes.
    SameAsStdout,
    /// Where stderr goes.
    SameAsStderr,
}

/// All about a program to start.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What to execute: the candidates in order, or one path. See [`crate::os::path::candidates`].
    pub programs: Vec<CString>,
    /// The arguments, the name first.
    pub argv: Vec<CString>,
    /// The whole environment, as KEY=VALUE.
    pub env: Vec<CString>,
    /// Add LISTEN_PID=(the child's pid).
    pub listen_pid: bool,
    /// Add WATCHDOG_PID=(the child's pid).
    pub watchdog_pid: bool,
    /// Directory to change to.
    pub working_dir: Option<CString>,
    /// Without one: change to this, the name of the parent's own, if that is there. By now it may lead to another place.
    pub default_dir: Option<CString>,
    /// Who it is, and what it may use.
    pub identity: Identity,
    /// Descriptor 0.
    pub stdin: Source<'a>,
    /// Descriptor 1.
    pub stdout: Source<'a>,
    /// Descriptor 2.
    pub stderr: Source<'a>,
    /// Become 3, 4, ... in this order. The same one may come twice.
    pub fds: Vec<BorrowedFd<'a>>,
    /// Become descriptors of these numbers, in rising order, all above those of `fds`.
    pub placed: Vec<(BorrowedFd<'a>, RawFd)>,
    /// Sent to the child when the forking thread ends: fork from the main thread only.
    pub death_signal: Option<i32>,
    /// Signals whose disposition is not the default one. See [`crate::os::signals::ignored_at_start`].
    pub reset_signals: &'a [i32],
}

impl Plan<'_> {
    /// A plan that changes nothing but what every child gets: /dev/null as stdin, an own session, an empty signal mask.
    pub fn new(programs: Vec<CString>, argv: Vec<CString>, env: Vec<CString>) -> Self {
        Plan {
            programs,
            argv,
            env,
            listen_pid: false,
            watchdog_pid: false,
            working_dir: None,
            default_dir: None,
            identity: Identity::default(),
            stdin: Source::Null,
            stdout: Source::Inherit,
            stderr: Source::Inherit,
            fds: Vec::new(),
            placed: Vec::new(),
            death_signal: None,
            reset_signals: &[],
        }
    }
}

/// A child on its way to its program.
#[derive(Debug)]
pub struct Child {
    /// Its process id; after its first steps also its session and its group.
    pub pid: i32,
    /// Tells how the exec went.
    pub exec: ExecPipe,
}

/// The pipe on which a child reports a failed step, and whose end-of-file is the news that there is none to report. (The kernel closes the
/// child's end after it has given up the old memory, both at an exec and at an exit: at the end-of-file nothing lent is in use any more.)
#[derive(Debug)]
pub struct ExecPipe(Lent);

/// How far a child has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecState {
    /// Not executed yet.
    Pending,
    /// The program runs; or the child was killed before, which its exit status tells at once.
    Running,
    /// A step failed; the child exits with 127.
    Failed(SpawnFailure),
}

impl ExecPipe {
    /// Looks without waiting. Ask again when the descriptor is readable.
    pub fn poll(&self) -> ExecState {
        let mut report = [0; SpawnFailure::SIZE];
        match super::io::read(self.0.pipe(), &mut report) {
            Ok(0) => ExecState::Running,
            Ok(_) => ExecState::Failed(SpawnFailure::decode(report)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => ExecState::Pending,
            Err(e) => ExecState::Failed(SpawnFailure::from_io(Step::Pipe, &e)),
        }
    }
}

impl AsFd for ExecPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.pipe().as_fd()
    }
}

fn resolve(plan: &Plan<'_>) -> io::Result<[RawFd; 3]> {
    let direct = |source: Source<'_>, own: RawFd| match source {
        Source::Inherit => Ok(Some(own)),
        Source::Null => dev_null().map(|fd| Some(fd.as_raw_fd())),
        Source::Fd(fd) => Ok(Some(fd.as_raw_fd())),
        Source::SameAsStdout | Source::SameAsStderr => Ok(None),
    };
    // Two that point at each other point at nothing: each keeps the parent's own.
    let (out, err) = (direct(plan.stdout, 1)?, direct(plan.stderr, 2)?);
    let (out, err) = (out.or(err).unwrap_or(1), err.or(out).unwrap_or(2));
    let input = match plan.stdin {
        Source::SameAsStdout => out,
        Source::SameAsStderr => err,
        source => direct(source, 0)?.unwrap_or(0),
    };
    Ok([input, out, err])
}

/// Starts a program and returns at once; [`ExecPipe`] tells how it went on. The child's exit must be reaped also when a step failed.
pub fn spawn(plan: &Plan<'_>) -> Result<Child, SpawnFailure> {
    let child = start(plan);
    settle();
    child
}

/// As [`spawn`], but some of the master's descriptors stay open twice until the next start or [`settle`]: call that before waiting for
/// anything. Meanwhile the child gets on, on another processor.
pub fn start(plan: &Plan<'_>) -> Result<Child, SpawnFailure> {
    if plan.programs.is_empty() {
        return Err(SpawnFailure { step: Step::Exec, errno: libc::ENOENT });
    }
    let standard = resolve(plan).map_err(|e| SpawnFailure::from_io(Step::Descriptors, &e))?;
    let (exec, report) = pipe_with(libc::O_CLOEXEC | libc::O_NONBLOCK).map_err(|e| SpawnFailure::from_io(Step::Pipe, &e))?;
    let passed = plan.fds.iter().map(AsRawFd::as_raw_fd);
    let mut sources: Vec<(RawFd, RawFd)> = standard.into_iter().chain(passed).zip(0..).collect();
    sources.extend(plan.placed.iter().map(|(fd, place)| (fd.as_raw_fd(), *place)));
    let above = sources.last().map_or(0, |(_, place)| place + 1);
    sources.push((report.as_raw_fd(), above));
    let shares = lent::may_share() && !plan.identity.needs_own_memory();
    let placed = if shares { pad::place(sources) } else { pad::stay(sources) };
    let started = lent::clone(Image::new(plan, &placed), exec, shares).map_err(|e| SpawnFailure::from_io(Step::Fork, &e))?;
    placed.leave_to(started.word);
    // Before the next one: a sibling that still holds the write end delays the end-of-file of this one (1 s instead of 0.05 s).
    drop(report);
    Ok(Child { pid: started.pid, exec: ExecPipe(started.lent) })
}
