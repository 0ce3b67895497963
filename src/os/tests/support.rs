//! What the tests share: plans, waiting with a deadline, helper processes.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use crate::os::io::{own, pipe_cloexec};
use crate::os::reap::{self, RawStatus, Reaped};
use crate::os::spawn::{Child, ExecState, Plan, Source, SpawnFailure, spawn};
use crate::os::{clock, signals};

/// Longer than anything takes on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// True: the descriptor became readable (or hung up) in time.
pub(super) fn readable_within(fd: impl AsFd, time: Duration) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let end = clock::now() + u64::try_from(time.as_nanos()).unwrap();
    loop {
        let left = i32::try_from(end.saturating_sub(clock::now()).div_ceil(1_000_000)).unwrap();
        // SAFETY: one valid entry.
        let got = unsafe { libc::poll(&mut poll, 1, left) };
        if got > 0 {
            return true;
        }
        if left == 0 {
            return false;
        }
    }
}

pub(super) fn pidfd(pid: i32) -> OwnedFd {
    // SAFETY: takes plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(fd >= 0, "no process {pid}");
    // SAFETY: just opened.
    unsafe { own(i32::try_from(fd).unwrap()) }
}

/// Waits for this child and no other; kills one that takes too long.
pub(super) fn ended(pid: i32) -> Reaped {
    if !readable_within(pidfd(pid), DEADLINE) {
        signals::kill(pid, libc::SIGKILL).unwrap();
        reap::wait(pid, 0).unwrap();
        panic!("process {pid} did not end");
    }
    reap::exited(pid).unwrap().expect("it has ended")
}

/// Kills what a test leaves behind, also when it fails.
pub(super) struct Killed(pub(super) i32);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = signals::kill_worker(self.0, libc::SIGKILL);
        let _ = reap::wait(self.0, 0);
    }
}

pub(super) fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

pub(super) fn plan<'a>(argv: &[&str]) -> Plan<'a> {
    let env = vec![c("PATH=/usr/local/bin:/usr/bin:/bin")];
    let programs = crate::os::path::candidates(argv[0], Some("/usr/local/bin:/usr/bin:/bin"), None);
    Plan::new(programs, argv.iter().map(|a| c(a)).collect(), env)
}

pub(super) fn shell<'a>(script: &str) -> Plan<'a> {
    plan(&["/bin/sh", "-c", script])
}

/// How the exec went.
pub(super) fn outcome(child: &Child) -> Result<(), SpawnFailure> {
    loop {
        match child.exec.poll() {
            ExecState::Running => return Ok(()),
            ExecState::Failed(failure) => return Err(failure),
            ExecState::Pending => assert!(readable_within(&child.exec, DEADLINE), "no word about the exec"),
        }
    }
}

/// A failed start: its report, and the child's end.
pub(super) fn refused(plan: &Plan<'_>) -> SpawnFailure {
    let child = spawn(plan).unwrap();
    let failure = outcome(&child).expect_err("it cannot have started");
    assert_eq!(ended(child.pid).status, RawStatus::Exited(127));
    failure
}

pub(super) fn read_to_end(fd: OwnedFd) -> String {
    let mut text = String::new();
    File::from(fd).read_to_string(&mut text).unwrap();
    text
}

/// Runs a plan to its end with stdout to a pipe; gives what it printed.
pub(super) fn output(plan: &mut Plan<'_>) -> String {
    let (r, w) = pipe_cloexec().unwrap();
    let mut plan = Plan {
        programs: std::mem::take(&mut plan.programs),
        argv: std::mem::take(&mut plan.argv),
        env: std::mem::take(&mut plan.env),
        working_dir: plan.working_dir.take(),
        default_dir: plan.default_dir.take(),
        fds: std::mem::take(&mut plan.fds),
        identity: std::mem::take(&mut plan.identity),
        placed: std::mem::take(&mut plan.placed),
        ..*plan
    };
    plan.stdout = Source::Fd(w.as_fd());
    let child = spawn(&plan).unwrap();
    outcome(&child).unwrap();
    drop(w);
    let text = read_to_end(r);
    assert_eq!(ended(child.pid).status, RawStatus::Exited(0), "{text}");
    text
}

/// True when `name` can be executed; else says aloud that the test is skipped.
pub(super) fn available(name: &str) -> bool {
    let found = crate::os::path::candidates(name, Some("/usr/local/bin:/usr/bin:/bin"), None)
        .iter()
        .any(|path| std::path::Path::new(path.to_str().unwrap()).exists());
    if !found {
        eprintln!("skipped: no {name} here");
    }
    found
}

/// Tries until it works. Children of other tests hold copies of our descriptors for a moment, between fork and their first steps: what has
/// been dropped here may live a little longer.
pub(super) fn soon<T, E: std::fmt::Display>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let end = clock::now() + u64::try_from(DEADLINE.as_nanos()).unwrap();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(e) => assert!(clock::now() < end, "{e}"),
        }
        std::thread::yield_now();
    }
}

/// Runs one `#[ignore]`d test in a process of its own.
pub(super) fn in_own_process(test: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("os::tests::whole_process::{test}"), "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "no such test: {test}\n{text}");
}
