//! The simulator's main scenarios with real processes, told in its words: what it takes for granted of the kernel is tested here. Each run
//! is recorded, replayed through the core (the same events, the same actions), and held against the simulator's observer.

use std::time::Duration;

use super::recording::Recording;
use super::support::*;

pub(crate) const PATIENT: &str = "[defaults]\nsettle = \"150ms\"\n";

/// A recorded master with these pools, which all are there.
pub(crate) fn recorded(pools: &str) -> Master {
    recording(setup(&format!("{PATIENT}{pools}"))).ready()
}

pub(crate) fn recording(s: Setup) -> Master {
    let trace = s.path("trace").display().to_string();
    s.arg("--trace").arg(&trace).start()
}

/// The record of a run that ends now, or has ended.
pub(crate) fn ended(mut m: Master) -> Recording {
    m.signal(libc::SIGINT);
    m.wait();
    m.assert_nothing_left();
    let text = std::fs::read_to_string(m.setup.path("trace")).unwrap();
    let recording = Recording::read(&text).unwrap();
    let held = [recording.replays(), recording.facts_are_in_order(), recording.keeps_its_promises()];
    held.into_iter().for_each(|verdict| verdict.unwrap_or_else(|e| panic!("{e}\n{}", recording.story(&[]))));
    recording
}

/// Waits until the pool has exactly so many workers and all of them are good.
pub(crate) fn settled(m: &Master, pool: &str, n: usize) -> Vec<i32> {
    m.log.wait_until(&format!("{n} of {pool} are good"), || is_settled(m, pool, n).then(|| m.pids(pool)))
}

pub(crate) fn is_settled(m: &Master, pool: &str, n: usize) -> bool {
    let status = m.pool(pool);
    let workers = status["workers"].as_array().cloned().unwrap_or_default();
    workers.len() == n && workers.iter().all(|w| w["state"] == "good")
}

/// A deadline was kept: not early at all, and not late by more than a busy machine explains.
#[track_caller]
pub(crate) fn assert_about(took: Duration, wanted: u64) {
    let wanted = Duration::from_millis(wanted);
    assert!(took >= wanted && took < wanted + Duration::from_secs(2), "{took:?} instead of {wanted:?}");
}

// -- stopping

#[test]
fn a_worker_that_ignores_its_stop_signal_is_killed_at_the_deadline() {
    let m =
        recorded("[pool.a]\ncommand = \"POOLMASTER worker --ignore-term\"\nready = \"notify\"\ngraceful_timeout = \"400ms\"\n");
    m.ok(&["stop", "a"]);
    let r = ended(m);
    assert_eq!(r.story(&[]), "spawn a0.1, TERM a0.1, KILL a0.1, exit 0");
    assert_about(r.between("TERM a0.1", "KILL a0.1"), 400);
}

#[test]
fn a_stop_sequence_goes_step_by_step_and_ends_with_kill() {
    let m = recorded(
        r#"
        [pool.a]
        command = ["sh", "-c", "trap 'echo told to quit' QUIT; trap 'echo told to end' TERM; echo up; while :; do sleep 0.05; done"]
        stop_sequence = ["QUIT", "300ms", "TERM", "200ms"]
        "#,
    );
    m.out.wait_for("up", 1);
    m.ok(&["stop", "a"]);
    m.out.wait_for("told to end", 1);
    assert_eq!(m.out.all(), ["up", "told to quit", "told to end"]);
    let r = ended(m);
    assert_eq!(r.story(&[]), "spawn a0.1, QUIT a0.1, TERM a0.1, KILL a0.1, exit 0");
    assert_about(r.between("QUIT a0.1", "TERM a0.1"), 300);
    assert_about(r.between("TERM a0.1", "KILL a0.1"), 200);
}

#[test]
fn a_worker_may_ask_for_more_time_to_stop() {
    let m =
        recorded("[pool.a]\ncommand = \"POOLMASTER worker --ignore-term\"\nready = \"notify\"\ngraceful_timeout = \"300ms\"\n");
    let notifier = Notifier::of(m.pids("a")[0]);
    m.ok(&["stop", "a", "--no-wait"]);
    notifier.send(b"EXTEND_TIMEOUT_USEC=900000");
    m.wait_count("a", 0);
    let r = ended(m);
    assert_about(r.between("TERM a0.1", "KILL a0.1"), 900);
}

#[test]
fn a_stop_while_starting_is_no_failure() {
    let m = recording(setup(
        "[pool.a]\ncommand = \"POOLMASTER worker --never-ready\"\nready = \"notify\"\nrestart.budget = { failures = 1, within = \"60s\" }\n",
    ));
    m.log.wait_for("a:0 started", 1);
    m.ok(&["stop", "a"]);
    assert_eq!(m.pool("a")["phase"], "stopped");
    let r = ended(m);
    assert_eq!(r.story(&[]), "spawn a0.1, TERM a0.1, exit 0");
}

#[test]
fn no_grandchild_is_left_after_a_crash() {
    let m = recording(
        setup(&format!("{PATIENT}[pool.a]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; sleep 1000 & exec sleep 1000\"]\nquick_timeout = \"200ms\"\n")),
    )
    .ready();
    m.wait_processes(3);
    let a = settled(&m, "a", 1);
    let child = m.log.wait_until("its child", || children(a[0]).first().copied());
    kill(a[0], libc::SIGSEGV);
    wait_gone(child, std::time::Instant::now() + PATIENCE);
    assert_ne!(settled(&m, "a", 1), a);
    m.wait_processes(3);
    let r = ended(m);
    assert!(r.story(&[]).starts_with("spawn a0.1, KILL a0.1, spawn a0.2"), "{}", r.story(&[]));
}

// -- deaths and back-off

#[test]
fn thirty_killed_together_are_thirty_back_together() {
    let m = recorded("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 30\n");
    let old = settled(&m, "a", 30);
    // They die while the master stands still: the kernel tells of all their deaths with one signal.
    m.signal(libc::SIGSTOP);
    old.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    m.signal(libc::SIGCONT);
    let new = m.log.wait_until("all are new", || {
        let new = m.pids("a");
        (new.len() == 30 && new.iter().all(|pid| !old.contains(pid))).then_some(new)
    });
    assert_eq!(settled(&m, "a", 30), new);
    let r = ended(m);
    assert_eq!(r.story(&["spawn"]).matches("spawn").count(), 60);
}

#[test]
fn early_deaths_of_one_slot_wait_longer_each_time() {
    let m = recorded(
        r#"
        [pool.a]
        command = ["sh", "-c", "test ! -e DIR/broken || exit 1; exec sleep 1000"]
        restart.budget = { failures = 100, within = "60s" }
        restart.backoff = { base = "100ms", factor = 3.0, jitter = 0.0 }
        "#,
    );
    let a = settled(&m, "a", 1);
    std::fs::write(m.setup.path("broken"), "").unwrap();
    kill(a[0], libc::SIGKILL);
    m.log.wait_for("a:0 started", 5);
    std::fs::remove_file(m.setup.path("broken")).unwrap();
    settled(&m, "a", 1);
    let r = ended(m);
    // The death of a good worker, and the first early one, cost no wait. Then 100, 300 ms, from an exit right after the exec.
    assert!(r.between("spawn a0.2", "spawn a0.3") < Duration::from_millis(100));
    assert_about(r.between("spawn a0.3", "spawn a0.4"), 100);
    assert_about(r.between("spawn a0.4", "spawn a0.5"), 300);
}

#[test]
fn a_spent_budget_opens_the_breaker_one_probe_at_a_time_until_one_is_good() {
    let m = recorded(
        r#"
        [pool.a]
        command = ["sh", "-c", "test ! -e DIR/broken || exit 1; exec sleep 1000"]
        workers = 3
        restart.budget = { failures = 3, within = "60s" }
        restart.backoff = { base = "150ms", factor = 1.0, jitter = 0.0 }
        [pool.b]
        command = "sleep 1000"
        "#,
    );
    let (a, b) = (settled(&m, "a", 3), settled(&m, "b", 1));
    std::fs::write(m.setup.path("broken"), "").unwrap();
    a.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    m.log.wait_for("backing off", 1);
    let before = m.log.count(" started");
    m.log.wait_for(" started", before + 2);
    assert_eq!(m.pool("a")["phase"], "backing-off");
    std::fs::remove_file(m.setup.path("broken")).unwrap();
    settled(&m, "a", 3);
    assert_eq!((&m.pool("a")["phase"], m.pids("b")), (&"running".into(), b));
    ended(m);
}

#[test]
fn give_up_after_makes_a_pool_finally_failed_and_its_neighbour_lives() {
    let m = recorded(
        r#"
        [pool.a]
        command = ["sh", "-c", "test ! -e DIR/broken || exit 1; exec sleep 1000"]
        restart = { budget = { failures = 1, within = "60s" }, give_up_after = 2, backoff = { base = "50ms", factor = 1.0 } }
        [pool.b]
        command = "sleep 1000"
        "#,
    );
    let (a, b) = (settled(&m, "a", 1), settled(&m, "b", 1));
    std::fs::write(m.setup.path("broken"), "").unwrap();
    kill(a[0], libc::SIGKILL);
    m.log.wait_until("failed for good", || (m.pool("a")["phase"] == "failed").then_some(()));
    assert_eq!(m.pids("b"), b);
    let r = ended(m);
    assert_eq!(r.story(&["spawn a"]), "spawn a0.1, spawn a0.2, spawn a0.3, spawn a0.4");
}

// -- jobs

#[test]
fn jobs_that_all_ended_well_complete_the_pool_and_the_master() {
    let mut m = recording(setup(
        r#"
        [pool.a]
        command = ["sh", "-c", "test {slot}.{generation} != 1.1 && exit 7; exit 1"]
        workers = 2
        restart = { policy = "on-failure", success_codes = [0, 7] }
        [pool.b]
        command = "true"
        restart.policy = "never"
        after = ["a"]
        "#,
    ));
    assert_eq!(m.wait().code(), Some(0), "{}", m.log.text());
    let r = ended(m);
    assert_eq!(r.story(&["spawn a"]), "spawn a0.1, spawn a1.1, spawn a1.2", "what failed is tried again, and nothing else");
    assert_eq!(r.story(&["b0", "exit"]), "spawn b0.1, exit 0");
}

// -- readiness

#[test]
fn a_worker_that_says_stopping_is_replaced_before_it_is_gone() {
    let m = recorded("[pool.a]\ncommand = \"sleep 1000\"\n");
    let a = settled(&m, "a", 1);
    Notifier::of(a[0]).send(b"STOPPING=1");
    m.log.wait_for("a:0 ready", 2);
    assert!(is_alive(a[0]), "nobody has told it to go");
    kill(a[0], libc::SIGTERM);
    wait_gone(a[0], std::time::Instant::now() + PATIENCE);
    settled(&m, "a", 1);
    let r = ended(m);
    assert_eq!(r.story(&[]), "spawn a0.1, spawn a0.2, TERM a0.2, exit 0");
}
