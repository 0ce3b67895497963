//! Known faults of the field's supervisors, by the list of parity: each is shown not to be here. (Others on the list have their tests by row, or
//! under listeners, verbs and readiness.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::support::*;

/// Requests in a loop, each on a connection of its own, until it is told to end; gives how many were answered.
fn client(port: u16, end: &Arc<AtomicBool>, done: &Arc<AtomicUsize>) -> std::thread::JoinHandle<()> {
    let (end, done) = (Arc::clone(end), Arc::clone(done));
    std::thread::spawn(move || {
        while !end.load(Ordering::Acquire) {
            let answer = get(port, "/").unwrap_or_else(|e| panic!("a request failed: {e}"));
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            done.fetch_add(1, Ordering::AcqRel);
        }
    })
}

#[test]
fn fault_old_workers_stop_before_new_ones_serve() {
    let port = free_port();
    let m = setup(&format!(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nworkers = 3\nlisten = \"127.0.0.1:{port}\"\nsettle = \"50ms\"\n"
    ))
    .start()
    .ready();
    let (end, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4).map(|_| client(port, &end, &done)).collect();
    let mut before = m.pids("web");
    for round in 0..3 {
        if round == 1 {
            m.signal(libc::SIGHUP)
        } else {
            drop(m.ok(&["restart", "web"]))
        }
        before = m.log.wait_until("all are replaced", || {
            Some(m.pids("web")).filter(|now| now.len() == 3 && now.iter().all(|pid| !before.contains(pid)))
        });
        let sofar = done.load(Ordering::Acquire);
        m.log.wait_until("the clients get on", || (done.load(Ordering::Acquire) >= sofar + 20).then_some(()));
    }
    end.store(true, Ordering::Release);
    for client in clients {
        client.join().expect("no request failed");
    }
}

#[test]
fn fault_a_reload_starts_all_new_workers_at_once() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 6\nsettle = \"20ms\"\n").start().ready();
    let before = m.pids("a");
    m.signal(libc::SIGHUP);
    let mut most = 0;
    m.log.wait_until("all are replaced", || {
        most = most.max(children(m.pid()).len());
        let now = m.pids("a");
        (now.len() == 6 && now.iter().all(|pid| !before.contains(pid))).then_some(())
    });
    assert!(most <= 10, "{most} processes for 6 workers: a quarter more, and as many on their way out");
}

#[test]
fn fault_a_worker_gets_its_stop_signal_twice() {
    let count =
        r#"command = ["sh", "-c", "n=0; trap 'n=$((n+1)); echo term $n >&2' TERM; echo up >&2; while :; do sleep 0.02; done"]"#;
    let mut m =
        setup(&format!("[pool.a]\n{count}\nworkers = 2\nsettle = \"20ms\"\ngraceful_timeout = \"1500ms\"\n")).start().ready();
    m.log.wait_for("| up", 2);
    // One reason to go after the other: replaced, then scaled away, then its pool is stopped, then all of it.
    m.signal(libc::SIGHUP);
    m.log.wait_for("| term 1", 1);
    m.ok(&["scale", "a", "1", "--no-wait"]);
    m.ok(&["stop", "a", "--no-wait"]);
    m.log.wait_for("| term 1", 3);
    assert_eq!(m.stop(), 0);
    m.log.wait_for("stopped: ", 1);
    assert_eq!(m.log.count("| term 2"), 0, "{}", m.log.text());
}

#[test]
fn fault_strangers_are_taken_for_workers() {
    // The worker leaves an orphan in a session of its own; it comes to the master, and its code would mean "cannot boot".
    let m =
        setup("[pool.a]\ncommand = [\"sh\", \"-c\", \"setsid sh -c 'sleep 0.3; exit 3' & exec sleep 1000\"]\n").start().ready();
    let a = m.pids("a");
    let child = |pid: i32| children(pid).first().copied();
    // In a session of its own by now: the end of the worker's group is not its end.
    let away = |pid: &i32| proc_stat(*pid)[3] == pid.to_string();
    let stranger = m.log.wait_until("the orphan is there", || child(a[0]).filter(away));
    kill(a[0], libc::SIGKILL);
    m.log.wait_for("a:0 ready", 2);
    let told = m.log.wait_for("reaped a process that is no worker: exited with code 3", 1);
    assert!(told.contains(&stranger.to_string()), "{told}");
    assert_eq!(m.wait_count("a", 1).len(), 1);
    assert_eq!(m.log.count("a:0 started"), 2, "{}", m.log.text());
}

#[test]
fn fault_each_reload_leaks_a_descriptor() {
    let port = free_port();
    let m = setup(&format!(
        "[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\nlisten = [\"127.0.0.1:{port}\", \"unix:DIR/a.sock\"]\nready = \"exec\"\nsettle = \"0s\"\n"
    ))
    .master("log = { file = \"DIR/log\" }")
    .start()
    .answering();
    m.wait_count("a", 2);
    let reload = || {
        let before = m.pids("a");
        m.ok(&["reload", "--restart"]);
        m.log.wait_until("both are replaced", || {
            let now = m.wait_count("a", 2);
            now.iter().all(|pid| !before.contains(pid)).then_some(())
        });
    };
    // The first ones fill what is kept for later.
    reload();
    reload();
    // The connection of the last question, and what an old worker left behind, may still be open for a moment. To stay: the control socket, two
    // listeners, a notify socket for each worker and one in reserve.
    let settled = || {
        m.log.wait_until("the clients are gone", || {
            Some(fds(m.pid())).filter(|f| f.values().filter(|v| v.starts_with("socket:")).count() <= 6)
        })
    };
    let before = settled();
    let memory = rss_kib(m.pid());
    for _ in 0..50 {
        reload();
    }
    let after = settled();
    assert!(after.len() <= before.len(), "{before:?}\n{after:?}");
    assert!(rss_kib(m.pid()) < memory + 2048, "from {memory} to {} KiB", rss_kib(m.pid()));
}

#[test]
fn fault_what_the_operator_stopped_is_started_again() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n[pool.b]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n")
        .start()
        .ready();
    m.ok(&["stop", "a"]);
    let b = m.pids("b");
    m.signal(libc::SIGHUP);
    m.log.wait_until("the other pool is replaced", || Some(m.pids("b")).filter(|now| now.len() == 1 && *now != b));
    m.ok(&["reload", "--restart"]);
    assert_eq!((m.pool("a")["phase"].as_str(), m.all_pids("a").len()), (Some("stopped"), 0));
    m.ok(&["start", "a"]);
    assert_eq!(m.pids("a").len(), 1);
}

#[test]
fn fault_a_missing_program_is_tried_in_a_busy_loop() {
    let m = setup("[pool.bad]\ncommand = \"DIR/missing\"\nboot = \"retry\"\n[pool.good]\ncommand = \"sleep 1000\"\n").start();
    m.log.wait_for("bad:0 cannot execute", 1);
    m.wait_count("good", 1);
    let (ticks, tries) = (cpu_ticks(m.pid()), m.log.count("cannot execute"));
    watch_for(m.pid(), Duration::from_millis(1500));
    let (ticks, tries) = (cpu_ticks(m.pid()) - ticks, m.log.count("cannot execute") - tries);
    // A tick is 10 ms.
    assert!(ticks <= 10 && tries <= 5, "{ticks} ticks, {tries} tries in 1.5 s");
    assert_eq!(m.pool("good")["ready"], 1);
}

#[test]
fn fault_removed_variables_survive_a_reload() {
    let config = |env: &str| format!("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\nenv = {{ {env} }}\n");
    let mut m = setup(&config("OLD = \"1\", KEPT = \"1\"")).env("OUTER", "outer").start().ready();
    let first = m.pids("a");
    assert_eq!(environ(first[0])["OLD"], "1");
    m.rewrite(&config("KEPT = \"2\", OUTER = \"inner\""));
    m.signal(libc::SIGHUP);
    let second = m.log.wait_until("it is replaced", || Some(m.pids("a")).filter(|now| now.len() == 1 && *now != first));
    let env = environ(second[0]);
    assert!(!env.contains_key("OLD"), "{env:?}");
    assert_eq!((env["KEPT"].as_str(), env["OUTER"].as_str()), ("2", "inner"));
    m.rewrite(&config("KEPT = \"2\""));
    m.signal(libc::SIGHUP);
    let third = m.log.wait_until("it is replaced", || Some(m.pids("a")).filter(|now| now.len() == 1 && *now != second));
    assert_eq!(environ(third[0])["OUTER"], "outer", "the original value is back");
}

#[test]
fn fault_one_failed_worker_leaves_a_reload_pending_for_ever() {
    let config = |command: &str| {
        format!(
            "[pool.a]\ncommand = \"{command}\"\nworkers = 2\nsettle = \"50ms\"\nrestart.backoff = {{ base = \"10ms\", max = \"20ms\" }}\n"
        )
    };
    let mut m = setup(&config("sleep 1000")).start().ready();
    let old = m.pids("a");
    m.rewrite(&config("false"));
    let failed = m.cli(&["reload"]);
    assert_eq!(failed.status.code(), Some(3), "{failed:?}");
    m.log.wait_for("nothing was changed, config 1 stays in force", 1);
    assert_eq!(m.pids("a"), old);
    // The next one is not held up by it.
    m.rewrite(&config("sleep 2000"));
    m.ok(&["reload"]);
    let new = m.pids("a");
    assert!(new.len() == 2 && new.iter().all(|pid| !old.contains(pid)), "{old:?} {new:?}");
}
