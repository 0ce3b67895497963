//! The prefork arbiter's behaviours, by their rows in the list of parity: what signals to the master do.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::support::*;

/// A shell worker that tells of these signals and goes on; TERM ends it.
fn teller(signals: &str) -> String {
    let traps: String = signals.split(' ').map(|s| format!("trap 'echo got {s} >&2' {s}; ")).collect();
    format!(r#"command = ["sh", "-c", "{traps}echo here >&2; while :; do sleep 0.05; done"]"#)
}

#[test]
fn row_06_usr1_reopens_logs_and_is_passed_to_the_workers() {
    let m = setup(&format!("[pool.a]\n{}\nreopen_signal = \"USR1\"\n[pool.b]\n{}\n", teller("USR1"), teller("USR1")))
        .master("log = { file = \"DIR/log\" }")
        .start();
    let log = m.setup.path("log");
    let has = |path: &std::path::Path, what: &str| std::fs::read_to_string(path).is_ok_and(|t| t.contains(what));
    m.log.wait_until("ready", || has(&log, "ready: ").then_some(()));
    m.log.wait_until("both have their traps", || {
        std::fs::read_to_string(&log).is_ok_and(|t| t.matches("| here").count() == 2).then_some(())
    });
    let old = m.setup.path("log.1");
    std::fs::rename(&log, &old).unwrap();
    m.signal(libc::SIGUSR1);
    m.log.wait_until("the new file is in use", || has(&log, "log file reopened").then_some(()));
    m.log.wait_until("the worker has it", || has(&log, "a:0 | got USR1").then_some(()));
    assert!(!has(&log, "b:0 | got USR1") && !has(&old, "got USR1"), "passed only where it is asked for");
}

#[test]
fn row_07_winch_parks_without_a_terminal_and_hup_brings_the_number_back() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\n").start().ready();
    m.signal(libc::SIGWINCH);
    m.log.wait_for("parking all pools", 1);
    m.wait_count("a", 0);
    assert_eq!(m.pool("a")["phase"], "parked");
    m.signal(libc::SIGHUP);
    m.wait_count("a", 2);
}

#[test]
fn row_07_winch_is_ignored_on_a_terminal() {
    // Whoever makes the window larger must not stop the site.
    // SAFETY: opens a new terminal.
    let pty = unsafe { OwnedFd::from_raw_fd(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)) };
    let fd = pty.as_raw_fd();
    let mut name = [0; 64];
    // SAFETY: a terminal of our own, and a buffer of the size given.
    let ok =
        unsafe { libc::grantpt(fd) == 0 && libc::unlockpt(fd) == 0 && libc::ptsname_r(fd, name.as_mut_ptr(), name.len()) == 0 };
    assert!(ok, "{}", std::io::Error::last_os_error());
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\n")
        .pre_exec(move || {
            // SAFETY: the first terminal that the leader of a session opens becomes its own.
            unsafe {
                libc::setsid();
                libc::open(name.as_ptr(), libc::O_RDWR);
            }
            Ok(())
        })
        .start()
        .ready();
    let a = m.pids("a");
    m.signal(libc::SIGWINCH);
    m.log.wait_for("SIGWINCH ignored: the master has a controlling terminal", 1);
    assert_eq!(m.pids("a"), a);
}

#[test]
fn row_08_term_lets_a_request_finish() {
    let port = free_port();
    let mut m = setup(&format!("[pool.web]\ncommand = \"POOLMASTER worker\"\nlisten = \"127.0.0.1:{port}\"\n")).start().ready();
    let slow = std::thread::spawn(move || get(port, "/slow?ms=600").unwrap());
    m.log.wait_until("the request is with the worker", || {
        (m.pool("web")["workers"][0]["status"].is_string()).then_some(()).or_else(|| {
            // The kernel shows the accepted connection.
            let tcp = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let local = format!(":{port:04X} ");
            tcp.lines().any(|l| l.contains(&local) && l.split_whitespace().nth(3) == Some("01")).then_some(())
        })
    });
    m.signal(libc::SIGTERM);
    let answer = slow.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(m.wait().code(), Some(0));
    m.assert_nothing_left();
}

#[test]
fn row_08_int_and_quit_use_the_quick_signal() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        let worker =
            r#"command = ["sh", "-c", "trap 'echo quickly >&2; exit 0' USR2; echo here >&2; while :; do sleep 0.05; done"]"#;
        let mut m = setup(&format!("[pool.a]\n{worker}\nquick_signal = \"USR2\"\n")).start().ready();
        m.log.wait_for("a:0 | here", 1);
        m.signal(signal);
        assert_eq!(m.wait().code(), Some(0));
        m.log.wait_for("a:0 stopping with SIGUSR2", 1);
        m.log.wait_for("a:0 | quickly", 1);
    }
}

#[test]
fn row_08_kill_follows_when_the_graceful_timeout_is_over() {
    let mut m =
        setup("[pool.a]\ncommand = \"POOLMASTER worker --ignore-term\"\nready = \"notify\"\ngraceful_timeout = \"300ms\"\n")
            .start()
            .ready();
    m.signal(libc::SIGTERM);
    assert_eq!(m.wait().code(), Some(0));
    let told = m.log.wait_for("killed by SIGKILL", 1);
    assert!(told.contains("(shutdown)") && !told.contains("memory"), "{told}");
    m.assert_nothing_left();
}

#[test]
fn row_08_a_second_and_a_third_term_hurry() {
    // Left to themselves the workers would take an hour.
    let mut m = setup(
        "[pool.a]\ncommand = \"POOLMASTER worker --ignore-term\"\nready = \"notify\"\ngraceful_timeout = \"1h\"\nquick_timeout = \"1h\"\n",
    )
    .start()
    .ready();
    m.signal(libc::SIGTERM);
    m.log.wait_for("shutting down (gracefully)", 1);
    m.signal(libc::SIGTERM);
    m.log.wait_for("shutting down (quickly)", 1);
    m.signal(libc::SIGTERM);
    assert_eq!(m.wait().code(), Some(0));
    m.log.wait_for("killed by SIGKILL", 1);
    m.assert_nothing_left();
}

#[test]
fn row_09_signals_are_queued_and_unknown_ones_are_logged() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nscale = { up_signal = \"RTMIN+1\", down_signal = \"RTMIN+2\" }\n")
        .start()
        .ready();
    // All of it arrives while the master stands still.
    m.signal(libc::SIGSTOP);
    for _ in 0..5 {
        m.signal(libc::SIGRTMIN() + 1);
    }
    for _ in 0..3 {
        m.signal(libc::SIGRTMIN() + 2);
    }
    m.signal(libc::SIGURG);
    m.signal(libc::SIGCONT);
    m.wait_count("a", 3);
    let told = m.log.wait_for("SIGURG from pid", 1);
    assert!(told.contains(&format!("pid {} ", std::process::id())) && told.contains("ignored"), "{told}");
}

#[test]
fn five_hundred_scale_signals_are_five_hundred_workers() {
    let m = setup(
        r#"
        [pool.a]
        command = "sleep 1000"
        scale = { up_signal = "RTMIN+4", down_signal = "RTMIN+5" }
        log = { stdout = "null", stderr = "null" }
        [pool.b]
        command = "sleep 1000"
        "#,
    )
    .start()
    .ready();
    let b = m.pids("b");
    for _ in 0..500 {
        m.signal(libc::SIGRTMIN() + 4);
    }
    m.wait_count("a", 501);
    assert_eq!((children(m.pid()).len(), m.pids("b")), (502, b));
    for _ in 0..500 {
        m.signal(libc::SIGRTMIN() + 5);
    }
    m.wait_count("a", 1);
    assert_eq!(m.log.count("WARN"), 0, "{}", m.log.text());
}

#[test]
fn the_lines_that_signals_prints_work_in_a_shell() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\nscale = { up_signal = \"RTMIN+7\", down_signal = \"RTMIN+8\" }\n")
        .start()
        .ready();
    let table = m.ok(&["signals"]);
    let line = |what: &str| {
        let line = table
            .lines()
            .find(|l| l.contains("SIGRTMIN") && l.contains(" web ") && l.contains(what))
            .unwrap_or_else(|| panic!("{what} in\n{table}"));
        line[..line.find(" SIG").unwrap()].to_owned()
    };
    for (what, count) in [("one worker more", 2), ("one worker more", 3), ("one worker fewer", 2)] {
        // dash knows no real-time names: the line has to work in the plainest shell.
        let done = std::process::Command::new("sh").arg("-c").arg(line(what)).output().unwrap();
        assert!(done.status.success(), "{}: {done:?}", line(what));
        m.wait_count("web", count);
    }
}
