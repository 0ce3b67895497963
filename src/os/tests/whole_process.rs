//! Tests that change the whole process: each is run in one of its own by [`super::support::in_own_process`], never by the harness itself.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::support::{DEADLINE, c, ended, outcome, output, pidfd, plan, readable_within, shell};
use crate::os::io::{open_null, own, pipe_cloexec, read};
use crate::os::reap::{self, RawStatus};
use crate::os::spawn::{self, Resource, Source, spawn, start};
use crate::os::unix::{self, Accepted, ControlListener};
use crate::os::{process, signals};

/// Moves a descriptor to this very number, which has to be free.
fn at(number: i32, fd: OwnedFd) -> OwnedFd {
    if fd.as_raw_fd() == number {
        return fd;
    }
    // SAFETY: reads flags.
    assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFD) }, -1, "{number} is taken");
    // SAFETY: the number is free.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number) }, number);
    // SAFETY: just made.
    unsafe { own(number) }
}

#[test]
#[ignore = "in its own process"]
fn fds_shuffled_through_occupied_places() {
    // Write ends at 3 to 7; read ends far above. A file at each, so that what is written tells where it went.
    let mut readers = Vec::new();
    let writers: Vec<OwnedFd> = {
        let pipes: Vec<_> = (3..8).map(|_| pipe_cloexec().unwrap()).collect();
        let far: Vec<_> = pipes
            .into_iter()
            .map(|(r, w)| {
                let up = |fd: OwnedFd| {
                    // SAFETY: duplicates a descriptor.
                    let n = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100) };
                    // SAFETY: just made.
                    unsafe { own(n) }
                };
                (up(r), up(w))
            })
            .collect();
        far.into_iter()
            .zip(3..)
            .map(|((r, w), number)| {
                readers.push(r);
                at(number, w)
            })
            .collect()
    };
    let orders: [&[usize]; 5] = [&[0, 1, 2, 3, 4], &[4, 3, 2, 1, 0], &[1, 2, 3, 4, 0], &[2, 2, 0], &[4]];
    for order in orders {
        let fds: Vec<BorrowedFd<'_>> = order.iter().map(|i| writers[*i].as_fd()).collect();
        let script: String = (3..3 + order.len()).map(|n| format!("echo {n} >&{n};")).collect();
        let mut plan = shell(&format!("{script} ls /proc/self/fd"));
        plan.fds = fds;
        let listed = output(&mut plan);
        let expected: Vec<String> = (0..=3 + order.len()).map(|n| n.to_string()).collect();
        assert_eq!(listed.split_ascii_whitespace().collect::<Vec<_>>(), expected, "{order:?}");
        for (index, reader) in readers.iter().enumerate() {
            let expected: String = order.iter().zip(3..).filter(|(i, _)| **i == index).map(|(_, n)| format!("{n}\n")).collect();
            if expected.is_empty() {
                assert!(!readable_within(reader, std::time::Duration::ZERO), "{order:?}: something went to {index}");
                continue;
            }
            let mut buf = [0; 64];
            let n = read(reader, &mut buf).unwrap();
            assert_eq!(std::str::from_utf8(&buf[..n]).unwrap(), expected, "{order:?}: pipe {index}");
        }
    }
    // Standard descriptors from occupied places too, swapped with passed ones.
    let mut plan = shell("echo out; echo err >&2; echo three >&3");
    (plan.stdout, plan.stderr, plan.fds) =
        (Source::Fd(writers[0].as_fd()), Source::Fd(writers[1].as_fd()), vec![writers[2].as_fd()]);
    let child = spawn(&plan).unwrap();
    outcome(&child).unwrap();
    assert_eq!(ended(child.pid).status, RawStatus::Exited(0));
    for (reader, expected) in readers.iter().zip(["out\n", "err\n", "three\n"]) {
        let mut buf = [0; 64];
        let n = read(reader, &mut buf).unwrap();
        assert_eq!(std::str::from_utf8(&buf[..n]).unwrap(), expected);
    }
}

#[test]
#[ignore = "in its own process"]
fn out_of_descriptors_a_client_is_turned_away_and_nothing_spins() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("control");
    let listener = ControlListener::bind(&path, 0o600).unwrap();
    let first = unix::connect(&path).unwrap();
    let second = unix::connect(&path).unwrap();
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: `limit` is valid for reading.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let mut hoard = Vec::new();
    let full = loop {
        match open_null() {
            Ok(fd) => hoard.push(fd),
            Err(e) => break e,
        }
    };
    assert_eq!(full.raw_os_error(), Some(libc::EMFILE));
    for _ in 0..2 {
        // By the last descriptor, which is in reserve again once it is closed.
        let Accepted::Last(client, _) = listener.accept().unwrap() else { panic!("no client") };
        drop(client);
    }
    assert!(matches!(listener.accept().unwrap(), Accepted::Idle));
    for client in [first, second] {
        assert!(readable_within(&client, DEADLINE));
        assert_eq!(read(&client, &mut [0; 1]).unwrap(), 0, "turned away");
    }
    hoard.clear();
    let third = unix::connect(&path).unwrap();
    assert!(matches!(listener.accept().unwrap(), Accepted::Client(..)));
    drop(third);
}

#[test]
#[ignore = "in its own process"]
fn orphans_come_to_the_subreaper() {
    process::set_subreaper().unwrap();
    let (r, w) = pipe_cloexec().unwrap();
    // The grandchild outlives its parent: it waits for its stdin to end.
    let mut plan = shell("(read x; exit 7) <&3 & exit 5");
    plan.fds = vec![r.as_fd()];
    let child = spawn(&plan).unwrap();
    drop(r);
    assert!(readable_within(pidfd(child.pid), DEADLINE));
    let first = reap::next_exited().unwrap().unwrap();
    assert_eq!((first.pid, first.status), (child.pid, RawStatus::Exited(5)));
    assert!(signals::group_exists(child.pid), "the grandchild is in it");
    assert_eq!(reap::next_exited().unwrap(), None, "it has not ended");
    let me = process::self_pid();
    let ours = crate::os::procfs::numbers(&format!("/proc/{me}/task"))
        .find_map(|t| crate::os::procfs::read(&format!("/proc/{me}/task/{t}/children"))?.trim().parse::<i32>().ok());
    drop(w);
    assert!(readable_within(pidfd(ours.expect("it is our child now")), DEADLINE));
    let second = reap::next_exited().unwrap().unwrap();
    assert_eq!((Some(second.pid), second.status), (ours, RawStatus::Exited(7)));
    assert!(!signals::group_exists(child.pid));
    assert_eq!(reap::next_exited().unwrap(), None, "no children at all");
}

#[test]
#[ignore = "in its own process"]
fn limits_are_raised_and_given_back() {
    let low = libc::rlimit { rlim_cur: 50, rlim_max: 500 };
    // SAFETY: `low` is valid for reading.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &low) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_SIGPENDING, &low) }, 0);
    assert_eq!(process::raise_nofile(), (50, 500));
    assert_eq!(signals::raise_sigpending_limit(), (50, 500));
    assert_eq!(process::raise_nofile(), (500, 500));
    let mut plan = shell("ulimit -Sn; ulimit -Hn; grep pending /proc/self/limits");
    plan.working_dir = Some(c("/"));
    plan.identity.limits = vec![(Resource::OpenFiles, 50, 500), (Resource::Signals, 50, 500)];
    let text = output(&mut plan);
    assert_eq!(
        text.split_ascii_whitespace().collect::<Vec<_>>(),
        ["50", "500", "Max", "pending", "signals", "50", "500", "signals"]
    );
}

/// Numbers that were free again when the launch pad above them was there already: what is put there now belongs to the child as well.
#[test]
#[ignore = "in its own process"]
fn descriptors_below_the_launch_pad_reach_the_child() {
    let holes: Vec<OwnedFd> = (0..4).map(|_| open_null().unwrap()).collect();
    spawn::reserve();
    drop(holes);
    for round in 0..200 {
        // The report pipe itself takes the first two holes.
        let child = start(&plan(&["/nonexistent/program"])).unwrap();
        let told = outcome(&child);
        spawn::settle();
        ended(child.pid);
        assert!(told.is_err(), "the failure was lost in round {round}");
    }
    for round in 0..200 {
        let (r, w) = pipe_cloexec().unwrap();
        let mut plan = shell("echo here >&3");
        plan.fds = vec![w.as_fd()];
        let child = start(&plan).unwrap();
        drop(w);
        spawn::settle();
        assert_eq!(super::support::read_to_end(r), "here\n", "round {round}");
        ended(child.pid);
    }
}

/// As some sandboxes do: these calls are not permitted.
fn forbid(calls: [libc::c_long; 2]) {
    let code = |code: u32| u16::try_from(code).unwrap();
    let load = libc::sock_filter { code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), jt: 0, jf: 0, k: 0 };
    let answer = |k| libc::sock_filter { code: code(libc::BPF_RET | libc::BPF_K), jt: 0, jf: 0, k };
    let is = |call, jt| libc::sock_filter {
        code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
        jt,
        jf: 0,
        k: u32::try_from(call).unwrap(),
    };
    let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let mut filter = [load, is(calls[0], 2), is(calls[1], 1), answer(libc::SECCOMP_RET_ALLOW), answer(refusal)];
    let program = libc::sock_fprog { len: 5, filter: filter.as_mut_ptr() };
    // SAFETY: takes plain numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is valid for reading.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }, 0);
}

#[test]
#[ignore = "in its own process"]
fn spawning_where_no_table_can_be_split() {
    forbid([libc::SYS_close_range, libc::SYS_unshare]);
    spawn::reserve();
    let child = start(&plan(&["/bin/true"])).unwrap();
    assert_eq!(outcome(&child), Ok(()));
    spawn::settle();
    assert_eq!(ended(child.pid).status, RawStatus::Exited(0));
}

/// Children that are killed at any moment, programs that are not there, and another thread that opens and closes descriptors all the while:
/// each start is told rightly, and nothing is left open.
#[test]
#[ignore = "in its own process"]
fn starts_in_a_storm() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static OVER: AtomicBool = AtomicBool::new(false);
    spawn::reserve();
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let other = std::thread::spawn(|| {
        while !OVER.load(Ordering::Relaxed) {
            let _some: Vec<OwnedFd> = (0..8).map(|_| open_null().unwrap()).collect();
        }
    });
    for round in 0_u32..3_000 {
        let missing = round % 3 == 0;
        let mut plan = plan(&[if missing { "/nonexistent/program" } else { "/bin/true" }]);
        let (r, w) = pipe_cloexec().unwrap();
        plan.fds = vec![w.as_fd(), r.as_fd(), w.as_fd()];
        let child = start(&plan).unwrap();
        drop((r, w));
        for _ in 0..(round % 7) * 300 {
            std::hint::spin_loop();
        }
        let killed = round % 2 == 0;
        if killed {
            signals::kill(child.pid, libc::SIGKILL).unwrap();
        }
        let pending = (round % 5 == 0).then(|| start(&self::plan(&["/nonexistent/program"])).unwrap());
        spawn::settle();
        if let Some(next) = pending {
            assert!(outcome(&next).is_err(), "round {round}");
            ended(next.pid);
        }
        let told = outcome(&child);
        match ended(child.pid).status {
            RawStatus::Exited(127) => assert!(told.is_err(), "round {round}: {told:?}"),
            RawStatus::Exited(0) => assert!(told.is_ok() && !missing, "round {round}: {told:?}"),
            status => assert!(killed && status == RawStatus::Signaled { signal: libc::SIGKILL, core: false }, "{status:?}"),
        }
    }
    OVER.store(true, Ordering::Relaxed);
    other.join().unwrap();
    // The next start takes back what earlier ones have been lent.
    ended(spawn(&plan(&["/bin/true"])).unwrap().pid);
    assert!(open() <= before + 2, "{} open, {before} before", open());
}
