//! The verbs against a real master: their effect is real when they return, and their exit codes are the documented ones.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::*;

/// A worker that can be broken: with the file `DIR/broken` it does not boot.
const BREAKABLE: &str = r#"command = ["sh", "-c", "test -e DIR/broken && { echo it is broken >&2; exit 1; }; exec sleep 1000"]
settle = "50ms"
restart = { backoff = { first = "0s", base = "20ms", max = "40ms" }, budget = { failures = 3, within = "60s" } }
"#;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn what_was_stopped_stays_stopped_while_its_socket_takes_connections() {
    let port = free_port();
    let m = setup(&format!(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nworkers = 2\nlisten = \"127.0.0.1:{port}\"\n[pool.other]\ncommand = \"sleep 1000\"\n"
    ))
    .start()
    .ready();
    let (web, other) = (m.pids("web"), m.pids("other"));
    let words = m.ok(&["stop", "web"]);
    assert!(words.contains("web: stopped"), "{words}");
    assert!(web.iter().all(|p| !is_alive(*p)), "it returns once they are gone");
    m.ok(&["stop", "web"]);
    m.ok(&["health"]);
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let listeners = json(&m.ok(&["listeners", "web", "--json"]));
    assert_eq!(listeners["listeners"][0]["queue"], 1, "{listeners}");
    // Neither the death of a neighbour nor a reload starts it again.
    kill(other[0], libc::SIGKILL);
    m.log.wait_for("other:0 ready after", 2);
    m.signal(libc::SIGHUP);
    m.log.wait_for("config 2 in force", 1);
    m.log.wait_for("other:0 ready after", 3);
    assert_eq!((m.pool("web")["phase"].as_str(), m.pool("web")["live"].as_u64()), (Some("stopped"), Some(0)));
    m.ok(&["start", "web"]);
    assert_eq!(m.pids("web").len(), 2);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("web"), "whoever waited is served: {answer}");
    let web = m.pids("web");
    m.ok(&["start", "web"]);
    m.ok(&["start", "all"]);
    assert_eq!(m.pids("web"), web, "what runs is left alone");
}

#[test]
fn restart_has_new_workers_good_before_old_ones_go() {
    let m = setup(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nlisten = \"unix:DIR/web.sock\"\nworkers = 2\nsettle = \"150ms\"\n\
         [pool.other]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n[pool.down]\ncommand = \"sleep 1000\"\nautostart = false\n",
    )
    .start();
    m.log.wait_for("ready: 2 pools, 3 workers", 1);
    let (web, other) = (m.pids("web"), m.pids("other"));
    m.ok(&["restart", "web"]);
    let new = m.pids("web");
    assert!(new.len() == 2 && new.iter().all(|p| !web.contains(p)) && web.iter().all(|p| !is_alive(*p)));
    m.log.wait_for("(replaced)", 2);
    let log = m.log.all();
    let nth = |what: &str, n: usize| {
        log.iter().enumerate().filter(|(_, l)| l.contains(what)).nth(n).unwrap_or_else(|| panic!("{what}")).0
    };
    for slot in 0..2 {
        let (ready, stopped) =
            (nth(&format!("web:{slot} ready after"), 1), nth(&format!("web:{slot} stopping with SIGTERM: replaced"), 0));
        assert!(ready < stopped, "slot {slot}: {log:?}");
    }
    assert!(nth("web:0 ready after", 1) < nth("web:1 started", 1), "one by one: {log:?}");
    assert_eq!(m.pids("other"), other);

    m.ok(&["restart", "web:1", "other"]);
    assert_eq!(m.pids("web")[0], new[0]);
    assert!(m.pids("web")[1] != new[1] && m.pids("other") != other);
    let before = (m.pids("web"), m.pids("other"));
    for (args, code, words) in [
        (&["restart", "web:7"][..], 7, "web has no slot 7"),
        (&["restart", "web", "down"], 7, "down is stopped"),
        (&["restart", "nosuch"], 2, "nosuch"),
        (&["restart", "web:x"], 2, "web:x"),
    ] {
        let said = m.code(code, args);
        assert!(said.contains(words), "{args:?}: {said}");
    }
    assert_eq!((m.pids("web"), m.pids("other")), before, "an order that is refused in part is refused whole");
}

#[test]
fn a_restart_whose_new_workers_fail_leaves_the_old_ones_and_says_so() {
    let m = setup(&format!("[pool.web]\n{BREAKABLE}workers = 2\nrollout.canary = 0\n")).start().ready();
    m.ok(&["wait", "web", "--for", "count=2"]);
    let old = m.pids("web");
    m.log.wait_until("settled", || m.pool("web")["workers"].as_array()?.iter().all(|w| w["state"] == "good").then_some(()));
    std::fs::write(m.setup.path("broken"), "").unwrap();
    let words = m.code(1, &["restart", "web"]);
    assert!(words.contains("3 new workers in a row did not get good"), "{words}");
    assert_eq!(m.pids("web"), old, "{}", m.log.text());
    let status = m.ok(&["status"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(status.contains("replacing its workers stopped"), "{status}");
    assert_eq!(m.log.count("restart.policy"), 0, "that is not the reason: {}", m.log.text());
    std::fs::remove_file(m.setup.path("broken")).unwrap();
    m.ok(&["restart", "web"]);
    assert!(m.pids("web").iter().all(|p| !old.contains(p)));
}

#[test]
fn kill_signals_whom_it_names_and_nobody_else() {
    let m = setup(
        r#"
        [pool.web]
        command = ["sh", "-c", "trap 'echo {slot} got it >&2' USR1; echo {slot} up >&2; while :; do read x <DIR/never; done"]
        workers = 3
        settle = "0s"
        [pool.down]
        command = "sleep 1000"
        autostart = false
        "#,
    );
    gate(&m.path("never"));
    let m = m.start();
    for slot in 0..3 {
        m.log.wait_for(&format!("| {slot} up"), 1);
    }
    let before = m.wait_count("web", 3);
    assert!(m.ok(&["kill", "-s", "USR1", "web:1"]).contains("SIGUSR1 sent to 1 worker"));
    m.log.wait_for("| 1 got it", 1);
    m.ok(&["kill", "--signal", "SIGUSR1", "web"]);
    for slot in [0, 2] {
        m.log.wait_for(&format!("| {slot} got it"), 1);
    }
    m.log.wait_for("| 1 got it", 2);
    assert_eq!(m.log.count("got it"), 4);
    assert_eq!(m.pids("web"), before);
    // Without a name it is TERM; the worker is replaced, as after any exit that the pool did not want.
    m.ok(&["kill", "web:2"]);
    m.log.wait_for("web:2 killed by SIGTERM", 1);
    m.log.wait_for("web:2 ready after", 2);
    assert_eq!(m.wait_count("web", 3)[..2], before[..2]);
    // Who did it is known: nobody has to guess at memory.
    m.ok(&["kill", "-s", "KILL", "web:0"]);
    m.log.wait_for("web:0 killed by SIGKILL (by an order to kill it) after", 1);
    for (args, code, words) in [
        (&["kill", "web:9"][..], 7, "web has no worker in slot 9"),
        (&["kill", "down"], 7, "down has no worker"),
        (&["kill", "nosuch"], 2, "nosuch"),
        (&["kill", "-s", "NOSUCH", "web"], 2, "NOSUCH"),
        (&["kill", "-s", "99", "web"], 2, "99"),
    ] {
        let said = m.code(code, args);
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn wait_returns_when_it_is_so_and_at_once_when_it_cannot_be() {
    let m = setup(
        "[pool.web]\ncommand = \"sleep 1000\"\nready = \"notify\"\nmax_starting = 9\n[pool.bad]\ncommand = \"DIR/absent\"\n",
    )
    .start();
    m.log.wait_for("web:0 started", 1);
    m.log.wait_for("bad failed", 1);
    let words = m.code(5, &["wait", "web", "--for", "ready", "--timeout", "50ms"]);
    assert!(words.contains("0 of 1 worker ready"), "{words}");
    std::thread::scope(|scope| {
        let ready = scope.spawn(|| m.ok(&["wait", "web", "--for", "ready", "--timeout", "30s"]));
        let two = scope.spawn(|| m.ok(&["wait", "web", "--for", "count=2"]));
        let stopped = scope.spawn(|| m.ok(&["wait", "web", "--for", "stopped"]));
        Notifier::of(m.wait_state("web", 0, "starting")).send(b"READY=1");
        ready.join().unwrap();
        m.ok(&["scale", "web", "2", "--no-wait"]);
        m.log.wait_for("web:1 started", 1);
        assert!(!two.is_finished(), "a worker that is starting does not count");
        Notifier::of(m.wait_state("web", 1, "starting")).send(b"READY=1");
        two.join().unwrap();
        assert!(!stopped.is_finished());
        m.ok(&["stop", "web"]);
        stopped.join().unwrap();
    });
    assert!(m.all_pids("web").is_empty());
    m.ok(&["wait", "web", "--for", "count=0"]);
    m.ok(&["wait", "bad", "--for", "stopped"]);
    let words = m.code(1, &["wait", "bad", "--for", "ready"]);
    assert!(words.contains("cannot execute"), "{words}");
    m.code(2, &["wait", "nosuch", "--for", "ready"]);
    m.code(2, &["wait", "web", "--for", "count=many"]);
}

#[test]
fn retry_tries_now_and_tells_what_came_of_it() {
    let slow = BREAKABLE
        .replace("base = \"20ms\", max = \"40ms\"", "base = \"1h\", max = \"1h\"")
        .replace("failures = 3", "failures = 2");
    let m = setup(&format!(
        "[pool.web]\n{slow}boot = \"retry\"\n[pool.absent]\n{}{}",
        "command = \"DIR/program 1000\"\n", "ready = \"exec\"\n"
    ));
    std::fs::write(m.path("broken"), "").unwrap();
    let m = m.start();
    m.log.wait_for("web backing off", 1);
    m.log.wait_for("absent failed", 1);
    assert!(m.pool("web")["retry_in_ms"].as_u64().unwrap() > 600_000);
    // Still broken: one try, and its end is the answer.
    m.log.wait_until("no try is under way", || {
        let ended = m.log.count("exited with code 1 after") == m.log.count(" started (pid");
        (m.pool("web")["live"] == 0 && ended).then_some(())
    });
    let before = m.log.count(" started (pid");
    let words = m.code(1, &["retry", "web"]);
    assert!(words.contains("backing off") && words.contains("exited with code 1"), "{words}");
    // The log is written by a thread of its own, and may come after the answer.
    m.log.wait_for(" started (pid", before + 1);
    assert!(m.code(1, &["health", "web"]).contains("not well: web"));
    std::fs::remove_file(m.setup.path("broken")).unwrap();
    assert_eq!(m.log.count(" started (pid"), before + 1, "{}", m.log.text());
    let words = m.ok(&["retry", "web"]);
    assert!(words.contains("1 worker ready"), "{words}");
    assert_eq!(m.pids("web").len(), 1);
    m.ok(&["health", "web"]);
    // A failed pool gets another chance as well.
    assert!(m.code(1, &["retry", "absent"]).contains("cannot execute"));
    std::os::unix::fs::symlink("/bin/sleep", m.setup.path("program")).unwrap();
    m.ok(&["retry", "absent"]);
    assert_eq!(m.pids("absent").len(), 1);
    m.ok(&["stop", "absent"]);
    assert!(m.code(7, &["retry", "absent"]).contains("use start"));
    m.code(2, &["retry", "nosuch"]);
}

#[test]
fn health_is_about_min_ready_and_operators_are_obeyed() {
    let m = setup(
        "[pool.web]\ncommand = \"sleep 1000\"\nworkers = 3\nready = \"notify\"\nmin_ready = 2\nmax_starting = 9\n\
         [pool.jobs]\ncommand = \"sleep 1000\"\n",
    )
    .start();
    m.log.wait_for("web:2 started", 1);
    m.log.wait_for("jobs 1 of 1 worker ready", 1);
    let words = m.code(1, &["health"]);
    assert!(words.contains("not well: web") && !words.contains("not well: web, jobs"), "{words}");
    m.ok(&["health", "jobs"]);
    for (slot, code) in [(0, 1), (1, 0)] {
        Notifier::of(m.wait_state("web", slot, "starting")).send(b"READY=1");
        m.log.wait_for(&format!("web:{slot} ready after"), 1);
        m.code(code, &["health"]);
    }
    let reply = json(&m.ok(&["health", "--json"]));
    assert_eq!(
        (&reply["ok"], &reply["pools"][0]["ready"], &reply["pools"][0]["min_ready"]),
        (&true.into(), &2.into(), &2.into())
    );
    m.ok(&["stop", "web"]);
    m.ok(&["health"]);
    m.code(2, &["health", "nosuch"]);
}

#[test]
fn listeners_tells_of_the_sockets_that_workers_hold() {
    let port = free_port();
    let m = setup(&format!(
        "[pool.web]\ncommand = \"sleep 1000\"\nready = \"exec\"\nlisten = {{ http = \"127.0.0.1:{port}\", admin = \"unix:DIR/admin.sock\" }}\n\
         [pool.jobs]\ncommand = \"sleep 1000\"\n"
    ))
    .start()
    .ready();
    let reply = json(&m.ok(&["listeners", "--json"]));
    let all = reply["listeners"].as_array().unwrap();
    assert_eq!(all.iter().map(|l| l["name"].as_str().unwrap()).collect::<Vec<_>>(), ["admin", "http"], "{reply}");
    let worker = fds(m.pids("web")[0]);
    for (l, fd) in all.iter().zip([3, 4]) {
        assert_eq!(worker[&fd], format!("socket:[{}]", l["inode"]), "in the order of the descriptors");
        let own = i32::try_from(l["fd"].as_i64().unwrap()).unwrap();
        assert_eq!(fds(m.pid())[&own], worker[&fd], "{l}");
        assert_eq!((&l["queue"], &l["pool"]), (&0.into(), &"web".into()));
    }
    let table = m.ok(&["listeners", "web"]);
    assert!(
        table.contains(&format!("tcp://127.0.0.1:{port}")) && table.contains("unix:") && table.contains("admin.sock"),
        "{table}"
    );
    assert!(m.ok(&["listeners", "jobs"]).contains("no listeners"));
    m.code(2, &["listeners", "nosuch"]);
}

#[test]
fn reopen_is_passed_on_to_the_workers_that_ask_for_it() {
    let s = setup(
        r#"
        [defaults]
        command = ["sh", "-c", "trap 'echo {pool} reopens >&2' USR2; echo {pool} up >&2; while :; do read x <DIR/never; done"]
        [pool.web]
        workers = 2
        reopen_signal = "USR2"
        [pool.other]
        "#,
    );
    gate(&s.path("never"));
    let m = s.start();
    m.log.wait_for("web up", 2);
    m.log.wait_for("other up", 1);
    m.wait_count("web", 2);
    m.ok(&["reopen"]);
    m.log.wait_for("web reopens", 2);
    m.signal(libc::SIGUSR1);
    m.log.wait_for("web reopens", 4);
    assert_eq!(m.log.count("other reopens"), 0);
    assert_eq!(m.log.count("exited") + m.log.count("killed by"), 0);
}

#[test]
fn a_timeout_is_code_5_and_the_work_goes_on() {
    let s = setup(
        r#"
        [pool.web]
        command = ["sh", "-c", "trap 'echo draining >&2; read x <DIR/gate; exit 0' TERM; echo up >&2; while :; do read y <DIR/never; done"]
        ready = "notify"
        settle = "0s"
        max_starting = 9
        "#,
    );
    gate(&s.path("gate"));
    gate(&s.path("never"));
    let mut m = s.start();
    let late = |args: &[&str]| {
        let asked = Instant::now();
        let words = m.code(5, &[args, &["--timeout", "100ms"][..]].concat());
        assert!(words.contains("it goes on; web: "), "{words}");
        assert!(words.trim_end().ends_with("timed out, the work goes on (exit code 5)"), "{words}");
        let took = asked.elapsed();
        assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(10), "{args:?} took {took:?}");
    };
    let gets_ready = |slot: u64, times: usize| {
        Notifier::of(m.wait_state("web", slot, "starting")).send(b"READY=1");
        m.log.wait_for(&format!("web:{slot} ready after"), times);
    };
    m.log.wait_for("| up", 1);
    late(&["start", "web"]);
    gets_ready(0, 1);
    late(&["scale", "web", "+1"]);
    gets_ready(1, 1);
    assert_eq!(m.wait_count("web", 2).len(), 2);
    m.log.wait_for("| up", 2);
    late(&["scale", "web", "-1"]);
    m.log.wait_for("| draining", 1);
    open_gate(&m.setup.path("gate"));
    let old = m.wait_count("web", 1);
    late(&["restart", "web"]);
    let mut client = m.client();
    client.send(b"{\"method\":\"restart\",\"parameters\":{\"targets\":[\"web\"]}}\n");
    m.log.wait_for("| up", 4);
    gets_ready(1, 2);
    m.log.wait_for("web:1 stopping with SIGTERM: replaced", 1);
    m.log.wait_for("| draining", 3);
    m.ok(&["status"]);
    client.stream.set_nonblocking(true).unwrap();
    let early = client.stream.read(&mut [0; 1]).map_err(|e| e.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "no answer as long as the old worker drains");
    client.stream.set_nonblocking(false).unwrap();
    open_gate(&m.setup.path("gate"));
    assert_eq!(client.reply().unwrap()["parameters"]["code"], 0);
    assert_ne!(m.wait_count("web", 1), old);
    late(&["stop", "web"]);
    open_gate(&m.setup.path("gate"));
    m.ok(&["wait", "web", "--for", "stopped"]);
    assert_eq!(m.log.count("killed by"), 0, "nothing was cut short: {}", m.log.text());
    m.ok(&["start", "web", "--no-wait"]);
    m.log.wait_for("| up", 5);
    late(&["shutdown"]);
    m.log.wait_for("| draining", 5);
    open_gate(&m.setup.path("gate"));
    assert_eq!(m.ends(), 0);
}

#[test]
fn a_later_order_ends_an_earlier_one_that_it_makes_impossible() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\nready = \"notify\"\nworkers = 2\n").start();
    m.log.wait_for("web:1 started", 1);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = [&["scale", "web", "3"][..], &["start", "web"], &["restart", "web"]]
            .into_iter()
            .map(|args| {
                let before = m.log.count("asked by");
                let order = scope.spawn(|| told(&m.cli(args)));
                m.log.wait_for("asked by", before + 1);
                order
            })
            .collect();
        m.ok(&["stop", "web"]);
        for order in waiting {
            let (code, words) = order.join().unwrap();
            assert!(code == 1 && words.contains("the pool was stopped by a later order"), "{code}: {words}");
        }
    });
}

#[test]
fn while_the_master_goes_down_orders_are_refused_and_shutdown_hardens() {
    let s = setup(
        r#"
        [pool.web]
        command = ["sh", "-c", "trap 'echo draining >&2' TERM; echo up >&2; while :; do read x <DIR/never; done"]
        graceful_timeout = "60s"
        quick_timeout = "200ms"
        "#,
    );
    gate(&s.path("never"));
    let mut m = s.start();
    m.log.wait_for("| up", 1);
    m.ok(&["shutdown", "--no-wait"]);
    m.log.wait_for("| draining", 1);
    for args in [&["scale", "web", "+1"][..], &["start", "web"], &["stop", "web"], &["restart", "web"], &["retry", "web"]] {
        let words = m.code(7, args);
        assert!(words.contains("the master is shutting down"), "{words}");
    }
    let status = json(&m.ok(&["status", "--json"]));
    assert_eq!(status["phase"], "stopping");
    // It returns once the master is gone, not before.
    m.ok(&["shutdown", "--now"]);
    m.assert_nothing_left();
    assert_eq!(m.ends(), 0);
    m.log.wait_for("web:0 killed by SIGKILL", 1);
    m.code(4, &["status"]);
}
