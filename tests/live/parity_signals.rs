//! The reference's signals, for pools of any program: rows 5 to 9 of the parity table, and the real-time signals.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::*;

/// The first real-time signal, as programs count them.
const RTMIN: i32 = 34;

#[test]
fn row_05_ttin_and_ttou_change_the_count_by_one_never_below_one() {
    let m = setup(
        r#"
        [pool.web]
        command = "sleep 1000"
        workers = 2
        settle = "0s"
        [pool.other]
        command = "sleep 1000"
        workers = 2
        settle = "0s"
        scale = { up_signal = "RTMIN+1", down_signal = "RTMIN+2", max = 3 }
        "#,
    )
    .master(r#"default_pool = "web""#)
    .start()
    .ready();
    let other = m.pids("other");
    for (signal, count) in [(libc::SIGTTIN, 3), (libc::SIGTTIN, 4), (libc::SIGTTOU, 3), (libc::SIGTTOU, 2), (libc::SIGTTOU, 1)] {
        m.signal(signal);
        m.wait_count("web", count);
    }
    let last = m.pids("web");
    m.signal(libc::SIGTTOU);
    let told = m.log.wait_for("web wish for 0 workers cut to 1", 1);
    assert!(told.contains("scale web 0"), "{told}");
    assert_eq!(m.pids("web"), last, "the last one stays");
    assert_eq!(m.pids("other"), other, "the other pool is none of their business");
    // The same for a pool by signals of its own.
    for (signal, count) in [(RTMIN + 1, 3), (RTMIN + 2, 2), (RTMIN + 2, 1)] {
        m.signal(signal);
        m.wait_count("other", count);
    }
    m.signal(RTMIN + 2);
    m.log.wait_for("other wish for 0 workers cut to 1", 1);
    m.held(|| (0..5).for_each(|_| m.signal(RTMIN + 1)));
    m.log.wait_for("other wish for 6 workers cut to 3 (scale.max is 3)", 1);
    m.wait_count("other", 3);
    assert_eq!(m.pids("web"), last);
}

#[test]
fn row_05_without_a_default_pool_ttin_is_for_the_only_one_or_refused_in_words() {
    let only = setup("[pool.web]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n").start().ready();
    only.signal(libc::SIGTTIN);
    only.wait_count("web", 2);
    let two = setup("[pool.a]\ncommand = \"sleep 1000\"\n[pool.b]\ncommand = \"sleep 1000\"\n").start().ready();
    two.signal(libc::SIGTTIN);
    assert!(two.log.wait_for("SIGTTIN from pid ", 1).contains("master.default_pool"));
    assert_eq!((two.pool("a")["target"].as_u64(), two.pool("b")["target"].as_u64()), (Some(1), Some(1)));
}

#[test]
fn row_06_usr1_reopens_logs_and_is_passed_to_the_workers_that_want_it() {
    let m = setup(
        r#"
        [pool.web]
        command = ["sh", "-c", "trap 'echo reopened by $$' USR1; echo up; while :; do sleep 0.05; done"]
        workers = 2
        reopen_signal = "USR1"
        [pool.own]
        command = ["sh", "-c", "trap 'echo usr2' USR2; echo up; while :; do sleep 0.05; done"]
        reopen_signal = "USR2"
        [pool.plain]
        command = "sleep 1000"
        "#,
    )
    .master(r#"log = { file = "DIR/log" }"#)
    .start()
    .answering();
    m.out.wait_for("up", 3);
    let (web, plain) = (m.wait_count("web", 2), m.wait_count("plain", 1));
    std::fs::rename(m.setup.path("log"), m.setup.path("log.1")).unwrap();
    m.signal(libc::SIGUSR1);
    for pid in &web {
        m.out.wait_for(&format!("reopened by {pid}"), 1);
    }
    m.out.wait_for("usr2", 1);
    let read = || std::fs::read_to_string(m.setup.path("log")).unwrap_or_default();
    m.log.wait_until("the new log file", || read().contains("log file reopened").then_some(()));
    // USR1 ends whoever does not expect it: the pool that did not ask for it has not had it.
    assert_eq!(m.pids("plain"), plain);
    assert_eq!(m.out.count("reopened by"), 2, "once each");
}

#[test]
fn row_07_winch_parks_all_pools_and_hup_brings_the_numbers_back() {
    let port = free_port();
    let mut m = setup(&format!(
        r#"
        [pool.web]
        command = "POOLMASTER worker"
        workers = 2
        listen = "127.0.0.1:{port}"
        settle = "0s"
        [pool.jobs]
        command = ["sh", "-c", "trap 'echo finished; exit 0' TERM; echo up; while :; do sleep 0.05; done"]
        settle = "0s"
        "#
    ))
    .master(r#"default_pool = "jobs""#)
    .start()
    .ready();
    m.out.wait_for("up", 1);
    m.signal(libc::SIGTTIN);
    m.wait_count("jobs", 2);
    m.out.wait_for("up", 2);
    m.signal(libc::SIGWINCH);
    m.wait_count("web", 0);
    m.wait_count("jobs", 0);
    assert_eq!(m.out.count("finished"), 2, "gracefully");
    assert_eq!((&m.pool("web")["phase"], &m.pool("web")["target"]), (&"parked".into(), &2.into()));
    assert_eq!((&m.pool("jobs")["phase"], &m.pool("jobs")["target"]), (&"parked".into(), &2.into()));
    // The listener stays: who connects waits.
    let mut waiting = TcpStream::connect(("127.0.0.1", port)).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    m.signal(libc::SIGHUP);
    let mut status = String::new();
    BufReader::new(waiting).read_line(&mut status).unwrap();
    assert!(status.starts_with("HTTP/1.1 200"), "{status:?}");
    m.wait_count("web", 2);
    m.wait_count("jobs", 2);
    // Once more, and back by TTIN, which only unparks.
    m.signal(libc::SIGWINCH);
    m.wait_count("web", 0);
    m.signal(libc::SIGTTIN);
    m.wait_count("web", 2);
    m.wait_count("jobs", 2);
    assert_eq!(m.stop(), 0);
}

#[test]
fn row_07_winch_is_ignored_on_a_terminal_with_a_debug_line() {
    let (setup, _terminal) = on_a_terminal(setup("[pool.web]\ncommand = \"sleep 1000\"\n"));
    let m = setup.start().ready();
    let before = m.wait_count("web", 1);
    m.signal(libc::SIGWINCH);
    let told = m.log.wait_for("SIGWINCH ignored", 1);
    assert!(told.contains("DEBUG") && told.contains("controlling terminal"), "{told}");
    assert_eq!(m.pids("web"), before);
    assert_eq!(m.pool("web")["phase"], "running");
}

/// One pool that stops in its time and says by which signal, one that never does.
fn stubborn() -> Master {
    let m = setup(
        r#"
        [defaults]
        graceful_timeout = "400ms"
        quick_signal = "QUIT"
        quick_timeout = "200ms"
        [pool.polite]
        command = ["sh", "-c", "trap 'echo polite TERM; sleep 0.1; exit 0' TERM; trap 'echo polite QUIT; exit 0' QUIT; echo up; while :; do sleep 0.05; done"]
        [pool.deaf]
        command = ["sh", "-c", "trap 'echo deaf TERM' TERM; trap 'echo deaf QUIT' QUIT; echo up; while :; do sleep 0.05; done"]
        "#,
    )
    .start()
    .ready();
    m.out.wait_for("up", 2);
    m
}

#[test]
fn row_08_term_stops_gracefully_then_kills_after_the_graceful_timeout() {
    let mut m = stubborn();
    let start = Instant::now();
    assert_eq!(m.stop(), 0);
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    m.out.wait_for("polite TERM", 1);
    m.out.wait_for("deaf TERM", 1);
    assert_eq!(m.out.count("QUIT"), 0);
    m.log.wait_for("polite:0 exited with code 0", 1);
    let told = m.log.wait_for("deaf:0 still there after", 1);
    assert!(told.contains("sending SIGKILL"), "{told}");
    m.log.wait_for("deaf:0 killed by SIGKILL", 1);
    assert_eq!(m.log.count("polite:0 still there"), 0);
    m.assert_nothing_left();
}

#[test]
fn row_08_int_and_quit_stop_quickly() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        let mut m = stubborn();
        m.signal(signal);
        assert_eq!(m.wait().code(), Some(0));
        m.out.wait_for("polite QUIT", 1);
        m.out.wait_for("deaf QUIT", 1);
        assert_eq!(m.out.count("TERM"), 0, "the quick signal takes the place of the stop signal");
        let told = m.log.wait_for("deaf:0 still there after", 1);
        assert!(told.contains("sending SIGKILL"), "{told}");
        m.assert_nothing_left();
    }
}

#[test]
fn row_09_signals_that_come_together_are_all_worked_off_in_order_and_unknown_ones_told() {
    let m = setup(
        r#"
        [pool.web]
        command = "sleep 1000"
        workers = 2
        settle = "0s"
        scale = { up_signal = "RTMIN+1", down_signal = "RTMIN+2" }
        "#,
    )
    .start()
    .ready();
    let old = m.pids("web");
    // Far more than the five that the reference queues, of eight kinds.
    m.held(|| {
        for _ in 0..40 {
            m.signal(RTMIN + 1);
            m.signal(RTMIN + 2);
            m.signal(RTMIN + 1);
            m.signal(RTMIN + 9);
        }
        for signal in [libc::SIGUSR2, libc::SIGUSR1, libc::SIGHUP, libc::SIGPWR, libc::SIGALRM] {
            m.signal(signal);
        }
    });
    let new = m.log.wait_until("42 workers, none of them old", || {
        let now = m.wait_count("web", 42);
        now.iter().all(|p| !old.contains(p)).then_some(now)
    });
    assert_eq!(new.len(), 42, "2 + 80 - 40");
    // The kernel hands them out by number.
    let order = ["SIGHUP from pid", "SIGUSR1 from pid", "SIGUSR2 from pid", "scaled from 2 to 42"];
    let places = m.places(&order);
    assert!(rising(&places), "{places:?}");
    for unknown in ["SIGALRM", "SIGPWR", "SIGRTMIN+9"] {
        let told = m.log.wait_for(&format!("{unknown} from pid "), 1);
        assert!(told.contains("ignored"), "{told}");
    }
    // None of these ended it.
    m.ok(&["status"]);
}

#[test]
fn five_hundred_scale_signals_are_exactly_five_hundred_workers() {
    let mut m = setup(
        r#"
        [pool.web]
        command = "sleep 1000"
        workers = 3
        settle = "0s"
        scale = { up_signal = "RTMIN+1", down_signal = "RTMIN+2" }
        [pool.other]
        command = "sleep 1000"
        "#,
    )
    .master("log = { level = \"info\" }")
    .start()
    .ready();
    let other = m.pids("other");
    for _ in 0..500 {
        m.signal(RTMIN + 1);
    }
    m.log.wait_until("503 are wanted", || (m.pool("web")["target"] == 503).then_some(()));
    let up = m.wait_count("web", 503);
    assert_eq!(children(m.pid()).len(), 504, "and no more processes than that");
    // Down while the master cannot read: all 500 wait in the kernel.
    m.held(|| (0..500).for_each(|_| m.signal(RTMIN + 2)));
    m.log.wait_until("3 are wanted", || (m.pool("web")["target"] == 3).then_some(()));
    let down = m.wait_count("web", 3);
    assert!(down.iter().all(|pid| up.contains(pid)), "none was restarted on the way");
    m.log.wait_until("the others are gone", || (children(m.pid()).len() == 4).then_some(()));
    assert_eq!(m.log.count("WARN"), 0, "nothing cut, nothing merged");
    assert_eq!(m.pids("other"), other);
    assert_eq!(m.stop(), 0);
}

#[test]
fn the_kill_lines_of_signals_work_in_a_shell() {
    let m = setup(
        r#"
        [pool.web]
        command = "sleep 1000"
        settle = "0s"
        scale = { up_signal = "RTMIN+1", down_signal = "RTMIN+2", restart_signal = "RTMAX-1" }
        "#,
    )
    .start()
    .ready();
    let table = m.ok(&["signals"]);
    // What a person does: find the line, paste its first column.
    let paste = |pool: &str, effect: &str| {
        let line = table.lines().find(|l| l.contains(pool) && l.contains(effect)).unwrap_or_else(|| panic!("{effect}: {table}"));
        let command = line.trim().split("  ").next().unwrap();
        assert!(command.starts_with("kill -"), "{line}");
        let status = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).status().unwrap();
        assert!(status.success(), "{command}");
    };
    let up: Vec<&str> = table.lines().filter(|l| l.contains("one worker more")).collect();
    assert_eq!(up.len(), 2, "TTIN and the pool's own: {table}");
    paste("SIGRTMIN+1", "one worker more");
    m.wait_count("web", 2);
    paste("TTIN", "one worker more");
    m.wait_count("web", 3);
    paste("SIGRTMIN+2", "one worker fewer");
    let before = m.wait_count("web", 2);
    paste("web", "replace all workers");
    m.log.wait_until("two others", || {
        let now = m.wait_count("web", 2);
        now.iter().all(|p| !before.contains(p)).then_some(())
    });
    paste("TERM", "stop gracefully");
    wait_gone(m.pid(), Instant::now() + PATIENCE);
}

/// Who signals from outside of a container has no number inside of it: that is said, and no terminal is blamed.
#[test]
fn a_sender_outside_of_the_pid_namespace_is_called_so() {
    if !is_root() || output_of("unshare", &["--pid", "--fork", "true"]).is_err() {
        return skip("a_sender_outside_of_the_pid_namespace_is_called_so", "needs root that may make a pid namespace");
    }
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"20ms\"\n")
        .under(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .start()
        .ready();
    // The first process is unshare, its child the master.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", m.pid())).unwrap();
    let master: i32 = children.trim().parse().unwrap();
    kill(master, libc::SIGUSR1);
    let line = m.log.wait_for("SIGUSR1 from", 1);
    assert!(line.contains("from a process outside of this pid namespace (uid 0)"), "{line}");
    kill(master, libc::SIGTERM);
    m.log.wait_for("stopped: SIGTERM from a process outside of this pid namespace", 1);
}
