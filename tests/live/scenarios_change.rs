//! The simulator's scenarios of change with real processes: another config, and workers replaced.

use std::time::Instant;

use super::scenarios::*;
use super::support::*;

const TWO: &str = "[pool.a]\ncommand = \"sleep 1000\"\n[pool.b]\ncommand = \"sleep 1000\"\n";

#[test]
fn hup_adds_drops_and_rolls() {
    let mut m = recorded(TWO);
    let old = settled(&m, "b", 1)[0];
    settled(&m, "a", 1);
    m.rewrite(&format!("{PATIENT}[pool.a]\ncommand = \"sleep 1000\"\n[pool.c]\ncommand = \"sleep 1000\"\n"));
    m.signal(libc::SIGHUP);
    wait_gone(old, Instant::now() + PATIENCE);
    m.log.wait_for("a all workers replaced", 1);
    settled(&m, "a", 1);
    settled(&m, "c", 1);
    let mut names: Vec<String> =
        std::fs::read_dir(m.setup.path("run/t.d")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["a", "c"], "the runtime directory of the pool that went is gone");
    let r = ended(m);
    assert_eq!(r.story(&["read", "b0", "gone"]), "spawn b0.1, read-config, TERM b0.1, gone b");
    // The first a starts and is replaced; TERM to the second is the end of the master.
    assert_eq!(r.story(&["a0", "c0"]), "spawn a0.1, spawn a0.2, spawn c0.1, TERM a0.1, TERM a0.2, TERM c0.1");
    assert_about(r.between("spawn a0.2", "TERM a0.1"), 150);
}

#[test]
fn an_invalid_file_restarts_nothing() {
    let mut m = recorded(TWO);
    let before = [settled(&m, "a", 1), settled(&m, "b", 1)];
    m.rewrite("[pool.a]\ncommand = 1\n");
    m.signal(libc::SIGHUP);
    let told = m.log.wait_for("ERROR", 1);
    assert!(told.contains("config"), "{told}");
    assert_eq!([m.pids("a"), m.pids("b")], before);
    let r = ended(m);
    assert_eq!(r.story(&["spawn", "read"]), "spawn a0.1, spawn b0.1, read-config");
}

#[test]
fn the_operators_number_survives_unless_the_files_workers_changed() {
    let pools = |workers: u32| format!("[defaults]\nsettle = \"0s\"\n[pool.a]\ncommand = \"sleep 1000\"\nworkers = {workers}\n");
    let mut m = recording(setup(&pools(1))).ready();
    m.ok(&["scale", "a", "3"]);
    m.signal(libc::SIGHUP);
    m.log.wait_for("a all workers replaced", 1);
    m.wait_count("a", 3);
    m.rewrite(&pools(2));
    m.signal(libc::SIGHUP);
    m.log.wait_for("a all workers replaced", 2);
    m.wait_count("a", 2);
    ended(m);
}

#[test]
fn a_pool_removed_while_starting_is_stopped_and_comes_back_under_new_generations() {
    let a = "[pool.a]\ncommand = \"sleep 1000\"\n";
    let slow = "[pool.b]\ncommand = \"POOLMASTER worker --never-ready\"\nready = \"notify\"\n";
    let mut m = recording(setup(&format!("{a}{slow}")));
    m.log.wait_for("b:0 started", 1);
    m.rewrite(a);
    m.signal(libc::SIGHUP);
    m.log.wait_for("config 2 in force", 1);
    m.log.wait_until("b is gone", || m.pool("b").is_null().then_some(()));
    m.rewrite(&format!("{a}{slow}"));
    m.signal(libc::SIGHUP);
    m.log.wait_for("b:0 started", 2);
    let r = ended(m);
    assert!(r.story(&["b"]).starts_with("spawn b0.1, TERM b0.1, gone b, spawn b0.2"), "{}", r.story(&["b"]));
}

// -- rolling

#[test]
fn a_larger_surge_replaces_several_at_once() {
    let m = recorded("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 4\nrollout = { max_surge = \"50%\", canary = 0 }\n");
    let old = settled(&m, "a", 4);
    m.ok(&["restart", "a"]);
    assert!(settled(&m, "a", 4).iter().all(|pid| !old.contains(pid)));
    let r = ended(m);
    let second = r
        .deeds()
        .into_iter()
        .filter(|(_, d)| d.ends_with(".2") && d.starts_with("spawn") || d.ends_with(".1") && d.starts_with("TERM"));
    let second: Vec<String> = second.map(|(_, d)| d).collect();
    assert_eq!(second[..2], ["spawn a0.2", "spawn a1.2"], "two at once");
    assert!(second[2].starts_with("TERM a"), "and no third one before an old one goes: {second:?}");
    assert_about(r.between("spawn a1.2", "TERM a1.1"), 150);
}

#[test]
fn without_surge_the_old_one_stops_first() {
    let m = recorded("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\nrollout = { max_surge = 0, max_unavailable = 1 }\n");
    settled(&m, "a", 2);
    m.ok(&["restart", "a"]);
    settled(&m, "a", 2);
    let r = ended(m);
    let story = r.story(&["a0", "a1"]);
    assert!(story.starts_with("spawn a0.1, spawn a1.1, TERM a0.1, spawn a0.2, TERM a1.1, spawn a1.2"), "{story}");
    assert_about(r.between("spawn a0.2", "TERM a1.1"), 150);
}

#[test]
fn one_slot_can_be_replaced_alone() {
    let m = recorded("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 3\n");
    let old = settled(&m, "a", 3);
    m.ok(&["restart", "a:1"]);
    let new = settled(&m, "a", 3);
    assert_eq!((new[0], new[2]), (old[0], old[2]));
    assert_ne!(new[1], old[1]);
    let r = ended(m);
    assert!(r.story(&["a1"]).starts_with("spawn a1.1, spawn a1.2, TERM a1.1"), "{}", r.story(&["a1"]));
}

#[test]
fn a_roll_stops_where_it_is_after_three_failures_in_a_row() {
    let m = recorded(
        r#"
        [pool.a]
        command = ["sh", "-c", "test ! -e DIR/broken || exit 1; exec sleep 1000"]
        workers = 2
        restart.backoff = { base = "50ms" }
        rollout.canary = 0
        "#,
    );
    let old = settled(&m, "a", 2);
    std::fs::write(m.setup.path("broken"), "").unwrap();
    let out = m.cli(&["restart", "a"]);
    assert!(!out.status.success(), "{out:?}");
    m.log.wait_for("replacing stopped", 1);
    assert_eq!(m.pids("a"), old, "the old workers keep serving");
    let r = ended(m);
    assert_eq!(r.story(&["spawn"]), "spawn a0.1, spawn a1.1, spawn a0.2, spawn a0.3, spawn a0.4");
}

#[test]
fn an_old_worker_that_crashes_during_a_roll_is_replaced_by_the_one_that_is_coming() {
    let m = recorded("[pool.a]\ncommand = \"POOLMASTER worker --slow-start 400ms\"\nready = \"notify\"\n");
    let old = settled(&m, "a", 1);
    m.ok(&["restart", "a", "--no-wait"]);
    m.log.wait_for("a:0 started", 2);
    kill(old[0], libc::SIGKILL);
    m.log.wait_for("a all workers replaced", 1);
    settled(&m, "a", 1);
    let r = ended(m);
    assert_eq!(r.story(&[]), "spawn a0.1, spawn a0.2, TERM a0.2, exit 0");
}
