//! Known faults of the field's supervisors between fork and exec: a child that is on its way to its program can be signalled, told to stop, or
//! held up for ever, and neither it nor anybody else comes to harm.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::support::*;

/// A pool whose children search long for their program: there is time to meet them on their way.
fn searching(more: &str) -> String {
    let path = format!("{}/usr/bin:/bin", "/-:".repeat(20_000));
    format!("[pool.slow]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\nenv = {{ PATH = \"{path}\" }}\n{more}\n")
}

const OTHER: &str = "[pool.other]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n";

/// Does it still run the master's program?
fn is_on_its_way(pid: i32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(POOLMASTER))
}

/// Its signals act by now: the last step before the search.
fn is_set_up(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|l| l.strip_prefix("SigBlk:").is_some_and(|mask| mask.trim().trim_matches('0').is_empty()))
}

/// Stops a worker of the slow pool on its way to its program. One that got there unseen is killed: the one that replaces it may not.
fn caught(m: &Master) -> i32 {
    let spared = m.pids("other");
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        std::thread::yield_now();
        for pid in children(m.pid()).into_iter().filter(|pid| !spared.contains(pid)) {
            if !is_on_its_way(pid) {
                kill(pid, libc::SIGKILL);
            } else if is_set_up(pid) {
                kill(pid, libc::SIGSTOP);
                m.log.wait_until("it is stopped", || ["T", "Z"].contains(&proc_stat(pid)[0].as_str()).then_some(()));
                if is_on_its_way(pid) {
                    return pid;
                }
            }
        }
    }
    panic!("never met a child on its way\n{}", m.log.text());
}

#[test]
fn fault_a_child_that_hangs_before_its_program_makes_the_master_deaf() {
    let m = setup(&format!("{}{OTHER}", searching("autostart = false"))).start().ready();
    m.ok(&["start", "slow", "--no-wait"]);
    let child = caught(&m);
    for n in 2..5 {
        let asked = Instant::now();
        let slow = m.pool("slow");
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
        assert_eq!((slow["starting"].as_u64(), slow["ready"].as_u64()), (Some(1), Some(0)), "{slow}");
        kill(m.wait_count("other", 1)[0], libc::SIGKILL);
        m.log.wait_for("other:0 ready", n);
    }
    kill(child, libc::SIGCONT);
    assert_eq!(m.wait_count("slow", 1), [child]);
}

#[test]
fn fault_a_stop_before_the_program_runs_is_swallowed() {
    let mut m = setup(&format!("{}{OTHER}", searching("autostart = false\ngraceful_timeout = \"60s\""))).start().ready();
    // The pool is stopped, then the master.
    for round in 1..3 {
        m.ok(&["start", "slow", "--no-wait"]);
        caught(&m);
        if round == 1 {
            m.ok(&["stop", "slow", "--no-wait"]);
        } else {
            m.signal(libc::SIGTERM);
        }
        m.log.wait_for("slow:0 stopping with SIGTERM", round);
        // It stood still: it is made to go on, and hears of the signal where it was.
        m.log.wait_for("slow:0 killed by SIGTERM", round);
        if round == 1 {
            m.ok(&["wait", "slow", "--for", "stopped", "--timeout", "20s"]);
        }
    }
    assert_eq!(m.ends(), 0);
    m.assert_nothing_left();
}

#[test]
fn fault_a_term_between_fork_and_set_up_is_swallowed() {
    let m = setup(
        r#"
        [pool.a]
        command = "sleep 1000"
        workers = 4
        settle = "0s"
        restart = { backoff = { base = "1ms", max = "1ms" }, budget = { failures = 10000, within = "60s" } }
        "#,
    )
    .start()
    .ready();
    // Everyone is shot the moment it is seen, until enough were hit before they were in their program.
    let (mut shot, mut early) = (BTreeSet::new(), 0);
    let until = Instant::now() + PATIENCE;
    while early < 20 {
        assert!(Instant::now() < until, "{early} of {} were met on their way", shot.len());
        for pid in children(m.pid()) {
            if shot.insert(pid) {
                early += u32::from(is_on_its_way(pid));
                kill(pid, libc::SIGTERM);
            }
        }
        std::thread::yield_now();
    }
    // Nobody lived on, and each end was told as what it was.
    m.log.wait_until("all four are new ones", || {
        let pids = m.pids("a");
        (pids.len() == 4 && pids.iter().all(|pid| !shot.contains(pid))).then_some(())
    });
    m.log.wait_for("killed by SIGTERM", shot.len());
    assert_eq!((m.log.count("exited with") + m.log.count("cannot"), m.log.count("killed by SIGTERM")), (0, shot.len()));
    assert!(shot.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn fault_a_master_stopped_while_it_starts_leaves_somebody_behind() {
    for children_seen in [1, 5, 12, 30] {
        let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 30\ngraceful_timeout = \"60s\"\n").start();
        let until = Instant::now() + PATIENCE;
        while children(m.pid()).len() < children_seen {
            assert!(Instant::now() < until, "{}", m.log.text());
            std::thread::yield_now();
        }
        assert_eq!(m.stop(), 0);
        m.log.wait_for("exit code 0", 1);
        assert_eq!(m.log.count("SIGKILL"), 0, "{}", m.log.text());
        m.assert_nothing_left();
        assert_eq!(m.processes(), [0; 0]);
    }
}

#[test]
fn fault_an_output_file_that_nobody_reads_makes_the_master_deaf() {
    let s = setup(&format!(
        "[pool.piped]\ncommand = [\"sh\", \"-c\", \"echo hello; exec sleep 1000\"]\nboot = \"retry\"\nsettle = \"0s\"\n\
         restart = {{ backoff = {{ base = \"20ms\", max = \"50ms\" }} }}\nlog = {{ stdout = \"file:DIR/pipe\" }}\n{OTHER}"
    ));
    gate(&s.path("pipe"));
    let mut m = s.start();
    m.log.wait_for("other:0 ready", 1);
    let told = m.log.wait_for("piped:0 cannot open its output file", 1);
    assert!(told.contains("/pipe") && told.contains("nobody reads"), "{told}");
    // Once somebody reads, it is there by itself.
    let reader = m.setup.path("pipe");
    let reader = std::thread::spawn(move || std::fs::read_to_string(reader).unwrap());
    let worker = m.wait_count("piped", 1)[0];
    let command = || std::fs::read(format!("/proc/{worker}/cmdline")).is_ok_and(|text| text.starts_with(b"sleep"));
    m.log.wait_until("it has said hello", || command().then_some(()));
    assert_eq!(m.stop(), 0);
    assert!(!is_alive(worker));
    assert_eq!(reader.join().unwrap(), "hello\n");
}
