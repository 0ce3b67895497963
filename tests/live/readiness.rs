//! When a worker counts as ready, and when its silence counts as sickness: each readiness kind, start_timeout and the heartbeat.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use super::support::*;

/// Serves with the first listener once the gate opens: the program knows nothing of readiness.
const ACCEPTOR: &str = "
import os, select, socket, sys
print('up', file=sys.stderr, flush=True)
open(sys.argv[1]).read()
s = socket.socket(fileno=3)
if sys.argv[2] == 'child' and os.fork():
    os.wait()
if sys.argv[2] == 'epoll':
    e = select.epoll()
    e.register(s, select.EPOLLIN)
while True:
    if sys.argv[2] == 'epoll':
        e.poll()
    c, _ = s.accept()
    c.sendall(b'hello')
    c.close()
";

/// Pools of an unmodified program, one for each way to accept, with their gates and ports.
fn acceptors(ready: &str) -> Option<(Master, Vec<(&'static str, u16)>)> {
    let python = python()?;
    let ways: Vec<(&str, u16)> = ["epoll", "child"].map(|way| (way, free_port())).to_vec();
    let pool = |(way, port): &(&str, u16)| {
        format!(
            "[pool.{way}]\ncommand = [\"{python}\", \"DIR/acceptor.py\", \"DIR/{way}.gate\", \"{way}\"]\nready = \"{ready}\"\n\
             listen.main = {{ address = \"127.0.0.1:{port}\", nonblocking = {} }}\n",
            *way == "epoll"
        )
    };
    let s = setup(&ways.iter().map(pool).collect::<String>());
    std::fs::write(s.path("acceptor.py"), ACCEPTOR).unwrap();
    for (way, _) in &ways {
        gate(&s.path(&format!("{way}.gate")));
    }
    Some((s.start(), ways))
}

#[test]
fn accepting_is_seen_from_outside_and_believes_no_word() {
    let Some((m, ways)) = acceptors("accepting") else {
        return skip("accepting_is_seen_from_outside_and_believes_no_word", "needs python3");
    };
    let mut clients = Vec::new();
    for (way, port) in &ways {
        m.log.wait_for(&format!("{way}:0 | up"), 1);
        // The listener is the master's: clients that come before the worker serves wait in its queue.
        clients.push(TcpStream::connect(("127.0.0.1", *port)).unwrap());
        let notifier = Notifier::of(m.all_pids(way)[0]);
        notifier.send(b"READY=1\nSTATUS=said so");
        m.log.wait_until("the word was heard", || (m.worker(way, 0)["status"] == "said so").then_some(()));
    }
    // Longer than the longest pause between two looks.
    watch_for(m.all_pids("epoll")[0], Duration::from_millis(300));
    for ((way, _), mut client) in ways.iter().zip(clients) {
        assert_eq!(m.worker(way, 0)["state"], "starting", "{way}");
        assert_eq!(m.log.count(&format!("{way}:0 ready")), 0);
        open_gate(&m.setup.path(&format!("{way}.gate")));
        m.log.wait_for(&format!("{way}:0 ready after"), 1);
        let mut hello = String::new();
        client.read_to_string(&mut hello).unwrap();
        assert_eq!(hello, "hello");
    }
}

#[test]
fn auto_takes_what_comes_first_of_the_word_and_the_sight() {
    let Some((m, _)) = acceptors("auto") else {
        return skip("auto_takes_what_comes_first_of_the_word_and_the_sight", "needs python3");
    };
    m.log.wait_for("epoll:0 | up", 1);
    m.log.wait_for("child:0 | up", 1);
    Notifier::of(m.all_pids("epoll")[0]).send(b"READY=1");
    m.log.wait_for("epoll:0 ready after", 1);
    assert_eq!(m.worker("child", 0)["state"], "starting");
    open_gate(&m.setup.path("child.gate"));
    m.log.wait_for("child:0 ready after", 1);
    assert_eq!(m.log.count("taken as ready"), 0);
}

#[test]
fn exec_delay_and_notify_each_have_their_own_time() {
    let m = setup(
        r#"
        [defaults]
        command = "sleep 1000"
        settle = "50ms"
        [pool.exec]
        ready = "exec"
        [pool.plain]
        [pool.delay]
        ready = "delay:400ms"
        [pool.notify]
        ready = "notify"
        "#,
    )
    .start();
    for pool in ["exec", "plain"] {
        m.log.wait_for(&format!("{pool}:0 ready after"), 1);
    }
    m.log.wait_for("delay:0 started", 1);
    // A delay is a promise about time; a word does not shorten it.
    Notifier::of(m.all_pids("delay")[0]).send(b"READY=1");
    let after = time_in(&m.log.wait_for("delay:0 ready after", 1), "after ");
    assert!(after >= Duration::from_millis(400), "{after:?}");
    m.log.assert_order(&["exec:0 ready after", "delay:0 ready after"]);
    m.log.assert_order(&["plain:0 ready after", "delay:0 ready after"]);
    assert_eq!(m.worker("notify", 0)["state"], "starting");
    assert_eq!(m.log.count("ready: "), 0, "not everything is ready yet");
    Notifier::of(m.all_pids("notify")[0]).send(b"READY=1");
    m.log.wait_for("notify:0 ready after", 1);
    m.log.wait_for("ready: 4 pools, 4 workers", 1);
}

#[test]
fn auto_takes_a_silent_worker_as_ready_at_start_timeout_and_warns() {
    let m = setup(
        "[pool.web]\ncommand = \"sleep 1000\"\nlisten = \"unix:DIR/web.sock\"\nstart_timeout = \"300ms\"\n\
         [pool.next]\ncommand = \"sleep 1000\"\nafter = [\"web\"]\n",
    )
    .start();
    let warning = m.log.wait_for("taken as ready", 1);
    assert!(warning.contains("WARN") && warning.contains("web:0"), "{warning}");
    for kind in ["notify", "exec", "delay:2s"] {
        assert!(warning.contains(&format!("{kind:?}")), "{kind}: {warning}");
    }
    let after = time_in(&m.log.wait_for("web:0 ready after", 1), "after ");
    assert!(after >= Duration::from_millis(300), "{after:?}");
    m.log.wait_for("next:0 ready after", 1);
    assert_eq!(m.worker("web", 0)["generation"], 1);
}

#[test]
fn a_worker_not_ready_at_start_timeout_is_stopped_then_killed() {
    let mut m = setup(
        r#"
        [defaults]
        ready = "notify"
        start_timeout = "300ms"
        graceful_timeout = "200ms"
        boot = "retry"
        restart = { backoff = { first = "0s", base = "10ms", max = "20ms" } }
        [pool.deaf]
        command = ["sh", "-c", "trap '' TERM; echo deaf >&2; while :; do sleep 1000; done"]
        [pool.slow]
        command = "sleep 1000"
        "#,
    )
    .start();
    m.log.wait_for("slow:0 started", 1);
    let slow = m.all_pids("slow")[0];
    // One that asks for more time gets it.
    Notifier::of(slow).send(b"EXTEND_TIMEOUT_USEC=60000000");
    for words in [
        "deaf:0 not ready within start_timeout (300ms): stopping it",
        "deaf:0 stopping with SIGTERM: not ready within start_timeout",
        "deaf:0 still there after",
        "deaf:0 killed by SIGKILL",
    ] {
        m.log.wait_for(words, 1);
    }
    // It counts as a failed boot: the slot waits and tries again.
    m.log.wait_for("deaf:0 not ready within start_timeout", 2);
    assert_eq!(m.all_pids("slow"), [slow], "{}", m.log.text());
    Notifier::of(slow).send(b"READY=1");
    m.log.wait_for("slow:0 ready after", 1);
    // The deaf one outlives a killed master.
    m.signal(libc::SIGTERM);
    m.wait();
}

#[test]
fn a_worker_that_hangs_gets_abrt_and_is_replaced() {
    let m = setup(
        r#"
        [pool.web]
        command = "POOLMASTER worker --hang-after 1500ms"
        listen = "unix:DIR/web.sock"
        timeout = "800ms"
        [pool.silent]
        command = "sleep 1000"
        timeout = "100ms"
        "#,
    )
    .start()
    .ready();
    let silent = m.pids("silent");
    let first = m.pids("web")[0];
    m.log.wait_for("web:0 no heartbeat for 800ms (timeout): sending SIGABRT", 1);
    let end = m.log.wait_for("web:0 killed by SIGABRT", 1);
    // It was left alone while it beat: the last beat came shortly before it hung.
    assert!(end.contains("(heartbeat lost)") && time_in(&end, "after ") >= Duration::from_millis(1500), "{end}");
    assert!(!is_alive(first));
    m.log.wait_for("web:0 ready after", 2);
    let worker = m.worker("web", 0);
    assert_eq!((&worker["generation"], &m.pool("web")["restarts"]), (&2.into(), &1.into()), "{worker}");
    // One that never beats is not known to beat at all: left alone, and shown so.
    assert_eq!(m.pids("silent"), silent);
    assert_eq!(
        (&m.worker("silent", 0)["heartbeat_timeout_ms"], m.worker("silent", 0)["beat_ago_ms"].as_u64()),
        (&100.into(), None)
    );
    assert!(m.ok(&["status", "-v"]).contains("no heartbeat seen"));
    assert_eq!(m.log.count("silent:0 no heartbeat"), 0);
}

#[test]
fn a_hung_worker_that_is_deaf_to_abrt_is_killed_after_abort_grace() {
    let m = setup(
        r#"
        [pool.web]
        command = ["sh", "-c", "trap '' ABRT; echo deaf >&2; while :; do sleep 1000; done"]
        timeout = "200ms"
        abort_grace = "300ms"
        "#,
    )
    .start();
    m.log.wait_for("web:0 | deaf", 1);
    Notifier::of(m.all_pids("web")[0]).send(b"WATCHDOG=1");
    m.log.wait_for("web:0 no heartbeat for 200ms", 1);
    let told = m.log.wait_for("web:0 still there after", 1);
    assert!(told.contains("sending SIGKILL") && time_in(&told, "after ") >= Duration::from_millis(300), "{told}");
    m.log.wait_for("web:0 killed by SIGKILL", 1);
    // The next one says itself that it is sick, which needs no timeout.
    m.log.wait_for("web:0 | deaf", 2);
    let second = m.wait_state("web", 0, "ready");
    Notifier::of(second).send(b"WATCHDOG=trigger");
    m.log.wait_for("web:0 reports itself sick", 1);
    m.log.wait_for("web:0 killed by SIGKILL", 2);
    assert_eq!(m.log.count("no heartbeat for"), 1);
}

#[test]
fn timeout_from_ready_watches_those_that_never_beat() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\ntimeout = \"300ms\"\ntimeout_from = \"ready\"\n").start();
    m.log.wait_for("web:0 no heartbeat for 300ms", 1);
    let end = m.log.wait_for("web:0 killed by SIGABRT", 1);
    assert!(time_in(&end, "after ") >= Duration::from_millis(300), "{end}");
    m.log.wait_for("web:0 started", 2);
}

#[test]
fn nobody_is_watched_from_the_stop_signal_on() {
    let s = setup(
        r#"
        [pool.web]
        command = ["sh", "-c", "trap 'echo draining >&2; read x <DIR/gate; exit 0' TERM; echo up >&2; while :; do read y <DIR/never; done"]
        timeout = "200ms"
        "#,
    );
    gate(&s.path("gate"));
    gate(&s.path("never"));
    let mut m = s.start();
    m.log.wait_for("web:0 | up", 1);
    let pid = m.all_pids("web")[0];
    Notifier::of(pid).send(b"WATCHDOG=1");
    m.log.wait_until("the beat was heard", || m.worker("web", 0)["beat_ago_ms"].as_u64());
    m.signal(libc::SIGTERM);
    m.log.wait_for("web:0 | draining", 1);
    watch_for(pid, Duration::from_millis(500));
    open_gate(&m.setup.path("gate"));
    assert_eq!(m.ends(), 0);
    m.log.wait_for("web:0 exited with code 0", 1);
    assert_eq!(m.log.count("no heartbeat"), 0);
}

#[test]
fn a_master_that_was_suspended_takes_nobody_for_hung() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\ntimeout = \"1s\"\n").start().ready();
    let pid = m.pids("web")[0];
    let notifier = Notifier::of(pid);
    notifier.send(b"WATCHDOG=1");
    m.log.wait_until("the beat was heard", || m.worker("web", 0)["beat_ago_ms"].as_u64());
    m.signal(libc::SIGSTOP);
    watch_for(pid, Duration::from_millis(1300));
    m.signal(libc::SIGCONT);
    m.log.wait_for("heartbeats get a grace period", 1);
    notifier.send(b"WATCHDOG=1");
    m.log.wait_until("the next beat was heard", || m.worker("web", 0)["beat_ago_ms"].as_u64().filter(|ms| *ms < 1000));
    assert_eq!(m.pids("web"), [pid]);
    // Watched all the same.
    m.log.wait_for("web:0 no heartbeat for 1s", 1);
    m.log.wait_for("web:0 killed by SIGABRT", 1);
}

/// The servers that people try first wait by select or poll: seen at once, and not after `start_timeout`.
#[test]
fn servers_that_select_or_poll_are_seen_accepting() {
    let Some(python) = python() else {
        return skip("servers_that_select_or_poll_are_seen_accepting", "needs python3");
    };
    let server = |kind: &str| {
        format!(
            "import http.server, socketserver, socket, select\n\
             class Handler(http.server.BaseHTTPRequestHandler):\n def do_GET(self):\n  self.send_response(200)\n  self.end_headers()\n  self.wfile.write(b'hello')\n \
             def log_message(self, *args):\n  pass\n\
             s = {kind}(('127.0.0.1', 0), Handler, bind_and_activate=False)\ns.socket.close()\ns.socket = socket.socket(fileno=3)\ns.serve_forever()\n"
        )
    };
    let select = "import select, socket\ns = socket.socket(fileno=3)\nwhile True:\n select.select([s], [], [])\n c, _ = s.accept()\n c.recv(9999)\n c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nhello')\n c.close()\n";
    let kinds = [
        ("threading", server("http.server.ThreadingHTTPServer")),
        ("http", server("http.server.HTTPServer")),
        ("socketserver", server("socketserver.TCPServer")),
        ("select", select.to_owned()),
    ];
    let ports: Vec<u16> = kinds.iter().map(|_| free_port()).collect();
    let pool = |((name, _), port): (&(&str, String), &u16)| {
        format!("[pool.{name}]\ncommand = [\"{python}\", \"DIR/serve-{name}.py\"]\nlisten = \"127.0.0.1:{port}\"\n")
    };
    let s = setup(&kinds.iter().zip(&ports).map(pool).collect::<String>());
    for (name, text) in &kinds {
        std::fs::write(s.path(&format!("serve-{name}.py")), text).unwrap();
    }
    let mut m = s.start().ready();
    assert_eq!(m.log.count("taken as ready"), 0);
    for ((name, _), port) in kinds.iter().zip(&ports) {
        let after = time_in(&m.log.wait_for(&format!("{name}:0 ready after"), 1), "after ");
        assert!(after < Duration::from_secs(20), "{name}: {after:?}");
        assert!(get(*port, "/").unwrap().contains("hello"), "{name}");
    }
    assert_eq!(m.stop(), 0);
}

/// While it is not seen, `status` says what is waited for.
#[test]
fn what_a_starting_worker_counts_as_ready_by_is_told() {
    let port = free_port();
    let mut m = setup(&format!(
        "[defaults]\ncommand = \"sleep 1000\"\n[pool.auto]\nlisten = \"127.0.0.1:{port}\"\n[pool.notify]\nready = \"notify\"\n[pool.http]\nready = \"http://127.0.0.1:1/\"\n\
         [pool.command]\nready = \"command:false\"\n[pool.exec]\n"
    ))
    .start()
    .answering();
    for (pool, sign) in [
        ("auto", &*format!("its READY=1, or being seen accepting on tcp://127.0.0.1:{port}")),
        ("notify", "its READY=1"),
        ("http", "an answer of http://127.0.0.1:1/"),
        ("command", "an exit code 0 of false"),
    ] {
        m.wait_state(pool, 0, "starting");
        assert_eq!(m.worker(pool, 0)["waits_for"], sign, "{pool}");
        let said = m.ok(&["ps", pool]).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&format!("waits for {sign}")), "{said}");
    }
    m.wait_state("exec", 0, "ready");
    assert!(m.worker("exec", 0)["waits_for"].is_null());
    m.signal(libc::SIGINT);
    m.wait();
}
