//! The end of a master, for whole families of processes: graceful, quick, at once; by signal, by Ctrl-C, by SIGKILL to the master itself.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::support::*;

/// A child beside each worker, some of them deaf; a shell that leaves its deaf child to itself; and all kinds of files.
fn families(port: u16, times: &str) -> Setup {
    setup(&format!(
        r#"
        [defaults]
        {times}
        [pool.web]
        command = "POOLMASTER worker --spawn-child"
        workers = 2
        listen = ["127.0.0.1:{port}", "unix:DIR/web.sock"]
        [pool.deaf]
        command = "POOLMASTER worker --spawn-child --ignore-term"
        ready = "notify"
        [pool.leaver]
        command = ["sh", "-c", "(trap '' TERM QUIT; echo deaf; while :; do sleep 1; done) & trap 'exit 0' TERM QUIT; echo up; while :; do sleep 0.05; done"]
        "#
    ))
}

fn start(s: Setup) -> Master {
    let m = s.start().ready();
    m.out.wait_for("up", 1);
    m.out.wait_for("deaf", 1);
    // The child of a sample worker has to be as deaf as it will be.
    let deaf = m.pids("deaf")[0];
    m.log.wait_until("its child holds TERM off", || {
        let status = proc_status(*children(deaf).first()?);
        let has = |set: &str| u64::from_str_radix(&status[set], 16).unwrap() & 1 << (libc::SIGTERM - 1) != 0;
        ["SigBlk", "SigIgn", "SigCgt"].into_iter().any(has).then_some(())
    });
    m
}

#[test]
fn term_lets_a_request_finish_and_ends_whole_families() {
    let port = free_port();
    let mut m = start(families(port, "graceful_timeout = \"700ms\""));
    let slow = slow_request(port, 500);
    let begun = Instant::now();
    m.signal(libc::SIGTERM);
    let answers = slow.join().unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert_eq!(m.wait().code(), Some(0));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(700), "the deaf have the whole graceful timeout: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    m.assert_all_gone();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the listener is closed");
}

#[test]
fn int_and_quit_cut_off_what_takes_longer_than_the_quick_timeout() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        let port = free_port();
        let mut m = start(families(port, "graceful_timeout = \"1h\"\nquick_timeout = \"300ms\""));
        let slow = slow_request(port, 60_000);
        let begun = Instant::now();
        m.signal(signal);
        assert_eq!(m.wait().code(), Some(0));
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
        let answers = slow.join().unwrap();
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "the second one is cut off: {answers}");
        m.assert_all_gone();
    }
}

#[test]
fn each_further_term_is_one_step_harder() {
    let port = free_port();
    let mut m = start(families(port, "graceful_timeout = \"1h\"\nquick_timeout = \"1h\"\nquick_signal = \"QUIT\""));
    let deaf = m.pids("deaf")[0];
    m.signal(libc::SIGTERM);
    m.log.wait_for("shutting down (gracefully)", 1);
    m.log.wait_for("deaf:0 stopping with SIGTERM", 1);
    m.signal(libc::SIGTERM);
    m.log.wait_for("shutting down (quickly)", 1);
    m.log.wait_for("SIGQUIT", 1);
    // Neither the deaf worker nor what the shell left behind is killed while there is time.
    let left = m.log.wait_until("the others are gone", || {
        let left = m.processes();
        let shells = left.iter().filter(|p| comm(**p) != "poolmaster").count();
        (left.len() - shells == 3 && (1..=2).contains(&shells)).then_some(left)
    });
    assert!(is_alive(deaf) && left.contains(&deaf) && left.contains(&m.pid()));
    m.signal(libc::SIGTERM);
    assert_eq!(m.wait().code(), Some(0), "it was an orderly end all the same");
    m.log.wait_for("shutting down (at once, with SIGKILL)", 1);
    m.assert_all_gone();
}

fn comm(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

#[test]
fn int_hurries_a_graceful_stop_but_gives_no_worker_more_time_than_it_had() {
    let port = free_port();
    let mut m = start(families(port, "graceful_timeout = \"600ms\"\nquick_timeout = \"1h\""));
    let begun = Instant::now();
    m.signal(libc::SIGTERM);
    m.log.wait_for("shutting down (gracefully)", 1);
    m.signal(libc::SIGINT);
    assert_eq!(m.wait().code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_millis(600) && begun.elapsed() < Duration::from_secs(5));
    m.assert_all_gone();

    let mut m = start(families(port, "graceful_timeout = \"1h\"\nquick_timeout = \"200ms\""));
    m.signal(libc::SIGTERM);
    m.log.wait_for("shutting down (gracefully)", 1);
    m.signal(libc::SIGINT);
    assert_eq!(m.wait().code(), Some(0));
    m.assert_all_gone();
}

#[test]
fn the_master_has_a_bound_of_its_own() {
    let port = free_port();
    let mut m =
        start(families(port, "graceful_timeout = \"1h\"\nquick_timeout = \"200ms\"").master("graceful_timeout = \"400ms\""));
    let begun = Instant::now();
    assert_eq!(m.stop(), 0);
    assert!(begun.elapsed() >= Duration::from_millis(600) && begun.elapsed() < Duration::from_secs(5));
    m.log.assert_order(&["stopping with SIGTERM", "shutting down (quickly): master.graceful_timeout is over", "sending SIGKILL"]);
    m.assert_all_gone();
}

/// Whoever was not told to stop by then is told, and has its quick time.
#[test]
fn a_worker_whose_turn_did_not_come_in_a_shutdown_is_told_to_stop_before_it_is_killed() {
    let stubborn = "trap '' TERM; echo up >&2; while :; do sleep 0.02; done";
    let heard = "trap 'echo told >&2; exit 0' TERM; echo up >&2; while :; do sleep 0.02; done";
    let pool = |name: &str, script: &str, more: &str| {
        let command = format!("command = [\"sh\", \"-c\", \"{script}\"]\nquick_timeout = \"3s\"\n");
        format!("[pool.{name}]\n{command}graceful_timeout = \"1h\"\n{more}\n")
    };
    let pools = [
        // After it in the order of a stop: it waits for one that does not end.
        pool("db", heard, ""),
        pool("web", stubborn, "after = [\"db\"]"),
        // And one whose hook takes longer than the whole shutdown may.
        pool("hooked", heard, "hooks = { pre_stop = [\"sleep\", \"1000\"], timeout = \"1h\" }"),
    ];
    let mut m = setup(&pools.concat()).master("graceful_timeout = \"400ms\"").start().ready();
    m.log.wait_for("| up", 3);
    assert_eq!(m.stop(), 0);
    for pool in ["db", "hooked"] {
        let over = "shutting down (quickly): master.graceful_timeout is over";
        m.log.assert_order(&[over, &format!("{pool}:0 stopping with SIGTERM: shutdown"), &format!("{pool}:0 | told")]);
    }
    assert_eq!(m.log.count("sending SIGKILL"), 1, "{}", m.log.text());
    m.assert_nothing_left();
}

#[test]
fn a_killed_master_takes_its_workers_with_it_and_the_next_one_takes_over() {
    let port = free_port();
    let mut m = setup(&format!(
        r#"
        [pool.web]
        command = "POOLMASTER worker"
        workers = 3
        listen = ["127.0.0.1:{port}", "unix:DIR/web.sock"]
        [pool.sleeper]
        command = "sleep 1000"
        "#
    ))
    .master("pidfile = \"DIR/t.pid\"")
    .start()
    .ready();
    m.wait_processes(5);
    m.signal(libc::SIGKILL);
    assert_eq!(m.wait().code(), None);
    // By the parent-death signal: nobody is left to send another.
    m.wait_processes(0);
    let (socket, pidfile) = (m.setup.path("web.sock"), m.setup.path("t.pid"));
    assert!(socket.exists() && m.socket.exists() && pidfile.exists(), "nobody was left to remove them");
    assert_eq!(std::fs::read_to_string(&pidfile).unwrap().trim(), m.pid().to_string());

    let mut next = m.another().ready();
    assert_eq!(std::fs::read_to_string(&pidfile).unwrap().trim(), next.pid().to_string());
    assert!(get(port, "/").unwrap().contains("web"));
    assert!(output_of("curl", &["-s", "--unix-socket", socket.to_str().unwrap(), "http://t/"]).unwrap().contains("web"));
    assert_eq!(next.pids("web").len(), 3);
    assert_eq!(next.stop(), 0);
    m.assert_all_gone();
}

#[test]
fn ctrl_c_on_a_terminal_stops_the_quick_start() {
    for keys in [Terminal::CTRL_C, Terminal::CTRL_BACKSLASH] {
        let mut terminal = Terminal::new();
        let (port, s) = (free_port(), example("quickstart.toml"));
        // Its own addresses may be in use on this machine.
        let admin = s.path("admin.sock");
        let s = s.arg("--set").arg(&format!("pool.web.listen=127.0.0.1:{port}"));
        let s = s.arg("--set").arg(&format!("pool.admin.listen=unix:{}", admin.display()));
        let mut m = terminal.run(s).ready();
        assert!(get(port, "/").unwrap().contains("web"));
        let workers = [m.pids("web"), m.pids("admin"), m.pids("jobs")].concat();
        assert_eq!(workers.len(), 6);
        let begun = Instant::now();
        terminal.press(keys);
        assert_eq!(m.wait().code(), Some(0), "{}", m.log.text());
        assert!(begun.elapsed() < Duration::from_secs(5), "within the quick timeout");
        m.log.wait_for("from the kernel or a terminal", 1);
        assert!(!m.log.text().contains("SIGKILL"), "nobody had to be killed: {}", m.log.text());
        m.assert_all_gone();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}

#[test]
fn a_terminal_that_goes_away_stops_the_master_unless_it_was_started_by_nohup() {
    let log_of = |m: &Master| std::fs::read_to_string(m.setup.path("log")).unwrap_or_default();
    for nohup in [false, true] {
        let terminal = Terminal::new();
        let mut s = setup("[pool.a]\ncommand = \"sleep 1000\"\n").master("log = { file = \"DIR/log\", level = \"debug\" }");
        if nohup {
            s = s.pre_exec(|| {
                // SAFETY: ignoring a signal runs no code.
                unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
                Ok(())
            });
        }
        let mut m = terminal.run_unread(s);
        m.log.wait_until("ready", || log_of(&m).contains("ready: ").then_some(()));
        drop(terminal);
        if nohup {
            m.log.wait_until("it heard of it", || log_of(&m).contains("going on without it").then_some(()));
            assert_eq!(m.pids("a").len(), 1);
            // A signal by hand is obeyed all the same.
            m.signal(libc::SIGHUP);
            m.log.wait_until("the reload", || log_of(&m).contains("config 2 in force").then_some(()));
            assert_eq!(m.stop(), 0);
        } else {
            assert_eq!(m.wait().code(), Some(0));
            assert!(log_of(&m).contains("the terminal is gone: stopping gracefully"), "{}", log_of(&m));
        }
        std::fs::remove_file(m.setup.path("log")).unwrap();
        m.assert_all_gone();
    }
}

/// The leader drains by its own children: it alone is told, and what it leaves behind hears of it once it is gone.
#[test]
fn mixed_is_the_default_and_spares_the_children_of_a_leader_that_drains() {
    let child = "trap 'echo child told; exit 0' TERM; echo child up; while :; do read x <DIR/never; done";
    let drains = format!(
        "trap 'echo leader told; touch DIR/told; sleep 0.3; echo leader gone; exit 0' TERM; ({child}) & while :; do read x <DIR/never; done"
    );
    let plain = format!("({child}) & exec sleep 1000");
    let pools = format!(
        "[defaults]\nlog.stdout = \"capture\"\ngraceful_timeout = \"20s\"\n[pool.drains]\ncommand = [\"sh\", \"-c\", \"{drains}\"]\n[pool.plain]\ncommand = [\"sh\", \"-c\", \"{plain}\"]\n\
         [pool.group]\nkill_mode = \"group\"\ncommand = [\"sh\", \"-c\", \"{drains}\"]\n"
    );
    let s = setup(&pools);
    gate(&s.path("never"));
    let mut m = s.start();
    for pool in ["drains", "plain", "group"] {
        m.log.wait_for(&format!("{pool}:0 | child up"), 1);
    }
    m.wait_state("drains", 0, "good");
    m.ok(&["stop", "drains", "plain", "group"]);
    m.log.assert_order(&["drains:0 | leader told", "drains:0 | leader gone", "drains:0 | child told"]);
    m.log.assert_order(&["plain:0 | child up", "plain:0 | child told"]);
    m.log.assert_order(&["group:0 | child told", "group:0 | leader gone"]);
    assert_eq!(m.log.count("SIGKILL"), 0, "{}", m.log.text());
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}
