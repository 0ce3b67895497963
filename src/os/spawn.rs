//! Owns the start of a program, exactly as planned: its descriptors, session, limits, directory, signals. It reports exactly which step
//! failed and why, and never waits for the child. Refuses to decide what a worker gets: that is the caller's [`Plan`].
//!
//! fork, not vfork: measured, sharing the memory is no faster here, and the parent would stand still until the exec. Between fork and exec
//! the child allocates nothing and makes only async-signal-safe calls (`spawn/child.rs`); all it needs is laid out before.

use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::{io, ptr};

use super::errno;
use super::io::{dev_null, pipe_with};
use super::signals::block_for_fork;

mod child;
mod failure;
mod layout;

pub use failure::{SpawnFailure, Step};
use layout::Layout;

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
    /// File mode mask; `None`: the parent's.
    pub umask: Option<u32>,
    /// Descriptor 0.
    pub stdin: Source<'a>,
    /// Descriptor 1.
    pub stdout: Source<'a>,
    /// Descriptor 2.
    pub stderr: Source<'a>,
    /// Become 3, 4, ... in this order. The same one may come twice.
    pub fds: Vec<BorrowedFd<'a>>,
    /// Sent to the child when the forking thread ends: fork from the main thread only.
    pub death_signal: Option<i32>,
    /// Soft and hard limit of open descriptors to give back; `None`: the parent's.
    pub nofile: Option<(u64, u64)>,
    /// Soft and hard limit of queued signals to give back; `None`: the parent's.
    pub sigpending: Option<(u64, u64)>,
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
            umask: None,
            stdin: Source::Null,
            stdout: Source::Inherit,
            stderr: Source::Inherit,
            fds: Vec::new(),
            death_signal: None,
            nofile: None,
            sigpending: None,
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

/// The pipe on which a child reports a failed step, and whose end-of-file is the news that there is none to report.
#[derive(Debug)]
pub struct ExecPipe(OwnedFd);

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
        match super::io::read(&self.0, &mut report) {
            Ok(0) => ExecState::Running,
            Ok(_) => ExecState::Failed(SpawnFailure::decode(report)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => ExecState::Pending,
            Err(e) => ExecState::Failed(SpawnFailure::from_io(Step::Pipe, &e)),
        }
    }
}

impl AsFd for ExecPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the child needs, laid out before the fork. Pointers go into the plan and into this value: both outlive the fork.
struct Prepared<'a> {
    plan: &'a Plan<'a>,
    layout: Layout,
    programs: Vec<*const c_char>,
    argv: Vec<*const c_char>,
    /// Null-terminated, as `argv`.
    env: Vec<*const c_char>,
    /// Buffers that `env` points into: the name, room for the number, a NUL.
    pids: [PidVariable; 2],
    parent: i32,
}

/// KEY=number with room for any pid.
struct PidVariable {
    /// Cells: `env` points here while the child writes the digits.
    text: [Cell<u8>; 32],
    digits_at: usize,
}

impl PidVariable {
    fn new(key: &[u8]) -> PidVariable {
        let text = [const { Cell::new(0) }; 32];
        for (slot, byte) in text.iter().zip(key) {
            slot.set(*byte);
        }
        PidVariable { text, digits_at: key.len() }
    }
}

fn pointers(strings: &[CString], more: usize) -> Vec<*const c_char> {
    let mut list = Vec::with_capacity(strings.len() + more + 1);
    list.extend(strings.iter().map(|s| s.as_ptr()));
    list
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
    if plan.programs.is_empty() {
        return Err(SpawnFailure { step: Step::Exec, errno: libc::ENOENT });
    }
    let standard = resolve(plan).map_err(|e| SpawnFailure::from_io(Step::Descriptors, &e))?;
    let (exec, report) = pipe_with(libc::O_CLOEXEC | libc::O_NONBLOCK).map_err(|e| SpawnFailure::from_io(Step::Pipe, &e))?;
    let mut prepared = Prepared {
        plan,
        layout: Layout::new(standard, plan.fds.iter().map(AsRawFd::as_raw_fd), report.as_raw_fd()),
        programs: pointers(&plan.programs, 0),
        argv: pointers(&plan.argv, 0),
        env: pointers(&plan.env, 2),
        pids: [PidVariable::new(b"LISTEN_PID="), PidVariable::new(b"WATCHDOG_PID=")],
        parent: super::process::self_pid(),
    };
    let wanted = [plan.listen_pid, plan.watchdog_pid];
    let (pids, env) = (&prepared.pids, &mut prepared.env);
    env.extend(pids.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(v, _)| v.text.as_ptr().cast::<c_char>()));
    env.push(ptr::null());
    prepared.argv.push(ptr::null());

    // No handler and no signal may act in the child before it is set up: a TERM sent meanwhile waits, and acts before the exec.
    let mask = block_for_fork();
    // SAFETY: the child runs nothing but `child::run`, which is async-signal-safe throughout and does not return.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child::run(&mut prepared)
    }
    let forked = errno::check(pid);
    mask.restore();
    // Before the next fork: a sibling that still holds the write end delays the end-of-file of this one (1 s instead of 0.05 s).
    drop(report);
    forked.map(|pid| Child { pid, exec: ExecPipe(exec) }).map_err(|e| SpawnFailure::from_io(Step::Fork, &e))
}
