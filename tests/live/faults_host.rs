//! The host fails the master: a full disk under the log, no descriptors, no processes, a log that nobody reads.

use std::time::{Duration, Instant};

use super::support::*;

#[test]
fn a_full_disk_under_the_log_does_not_stop_supervision() {
    let mut m = setup(
        r#"
        [pool.a]
        command = "sleep 1000"
        workers = 3
        "#,
    )
    .master(r#"log = { file = "/dev/full", level = "debug" }"#)
    .start()
    .answering();
    let before = m.wait_count("a", 3);
    for pid in &before {
        kill(*pid, libc::SIGKILL);
    }
    let after = m.log.wait_until("three others", || {
        let now = m.wait_count("a", 3);
        now.iter().all(|p| !before.contains(p)).then_some(now)
    });
    m.ok(&["scale", "a", "+1"]);
    m.signal(libc::SIGUSR1);
    m.ok(&["reopen"]);
    assert_eq!(m.wait_count("a", 4).len(), 4);
    assert_eq!(m.stop(), 0);
    assert!(after.iter().all(|pid| !is_alive(*pid)));
    m.assert_nothing_left();
}

#[test]
fn a_log_that_nobody_reads_takes_bounded_memory_and_blocks_neither_workers_nor_the_end() {
    // Its stderr is a pipe that fills up at once; the worker goes on writing.
    let mut m = setup(
        r#"
        [pool.loud]
        command = ["sh", "-c", "yes $(head -c 8000 /dev/zero | tr '\\0' x) | head -c 120000000 >&2; exec sleep 1000"]
        [pool.other]
        command = "sleep 1000"
        "#,
    )
    .unread()
    .start()
    .answering();
    let other = m.wait_count("other", 1)[0];
    let quiet = m.log.wait_until("all of it is written", || {
        // A worker that is never blocked comes to its sleep.
        let pid = *m.all_pids("loud").first()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "sleep").then_some(pid)
    });
    assert!(peak_kib(m.pid()) < 64 * 1024, "{} KiB at most", peak_kib(m.pid()));
    kill(other, libc::SIGKILL);
    m.log.wait_until("a replacement", || (m.wait_count("other", 1)[0] != other).then_some(()));
    let start = Instant::now();
    assert_eq!(m.stop(), 0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(!is_alive(quiet));
}

#[test]
fn without_descriptors_spawning_is_retried_and_the_control_socket_answers() {
    let mut m = setup(
        r#"
        [pool.a]
        command = "sleep 1000"
        workers = 4
        [pool.b]
        command = "sleep 1000"
        workers = 40
        after = ["a"]
        "#,
    )
    .pre_exec(|| limit(libc::RLIMIT_NOFILE, 56, 56))
    .start();
    let told = m.log.wait_for("too many open files", 1);
    assert!(told.contains("this is no fault of the worker; next try in"), "{told}");
    m.log.wait_for("too many open files", 3);
    let a = m.wait_count("a", 4);
    // Those that are just being tried again count as live.
    let ready = || m.pool("b")["ready"].as_u64().unwrap();
    m.log.wait_until("those of b that have room count", || (ready() > 3).then_some(()));
    let had = ready();
    assert!(had < 30, "{had} of 40");
    for _ in 0..20 {
        m.ok(&["status"]);
    }
    // It holds what it has, and makes use of what gets free.
    kill(a[0], libc::SIGKILL);
    m.ok(&["scale", "a", "0"]);
    m.log.wait_until("more workers of b", || (ready() >= had + 3).then_some(()));
    m.ok(&["scale", "b", &had.to_string()]);
    m.wait_count("b", usize::try_from(had).unwrap());
    m.ok(&["scale", "a", "1"]);
    assert_eq!(m.wait_count("a", 1).len(), 1);
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

#[test]
fn a_fork_that_fails_is_retried_until_there_is_room() {
    if !is_root() {
        return skip(
            "a_fork_that_fails_is_retried_until_there_is_room",
            "needs root, to run a master as a user with few processes",
        );
    }
    // A user that nothing else runs as: the limit counts all of a user's processes. The master itself is three threads.
    const UID: u32 = 64_321;
    let setup = setup(
        r#"
        [pool.a]
        command = "sleep 1000"
        workers = 2
        [pool.b]
        command = "sleep 1000"
        workers = 4
        after = ["a"]
        "#,
    )
    .master(r#"log = { level = "debug" }"#);
    let program = binary_for_all(setup.dir.path());
    give_to(setup.dir.path(), UID);
    let mut m = setup
        .program(&program)
        .pre_exec(|| {
            limit(libc::RLIMIT_NPROC, 7, 7)?;
            become_user(UID)
        })
        .start();
    let told = m.log.wait_for("resource temporarily unavailable", 1);
    assert!(told.contains("this is no fault of the worker; next try in"), "{told}");
    m.log.wait_for("resource temporarily unavailable", 3);
    m.wait_count("a", 2);
    let status = m.pool("b");
    assert_eq!((&status["live"], &status["target"]), (&2.into(), &4.into()), "{status}");
    m.ok(&["scale", "a", "0"]);
    m.wait_count("b", 4);
    assert_eq!(m.stop(), 0);
    assert!(!m.log.text().contains("backing off"), "a host without room is not a bad worker");
    m.assert_nothing_left();
}
