//! A graceful end serves those who wait at the listeners before it stops the workers, and lets nobody new in meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::support::*;

/// Answers one client after the other, each once a line comes through the gate; says so.
const SLOW: &str = "
import socket, sys
s = socket.socket(fileno=3)
s.setblocking(True)
gate = open(sys.argv[1])
print('up', file=sys.stderr, flush=True)
while gate.readline():
    c, _ = s.accept()
    c.sendall(b'served')
    c.close()
import signal
signal.pause()
";

/// One worker that serves at the test's pace, and who waits for it.
fn slow(listen: &str, master: &str) -> Option<Master> {
    let python = python()?;
    let s = setup(&format!(
        "[pool.a]\ncommand = [\"{python}\", \"DIR/slow.py\", \"DIR/gate\"]\nready = \"exec\"\n[pool.a.listen.main]\naddress = \"{listen}\"\nnonblocking = false\n"
    ))
    .master(&format!("{master}\nlog = {{ level = \"debug\" }}"));
    std::fs::write(s.path("slow.py"), SLOW).unwrap();
    gate(&s.path("gate"));
    Some(s.start())
}

fn served(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn fault_listeners_are_closed_before_their_queue_is_served() {
    let port = free_port();
    let Some(mut m) = slow(&format!("127.0.0.1:{port}"), "linger = \"20s\"") else {
        return skip("fault_listeners_are_closed_before_their_queue_is_served", "needs python3");
    };
    let mut go = std::fs::OpenOptions::new().write(true).open(m.setup.path("gate")).unwrap();
    m.log.wait_for("| up", 1);
    let waiting: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    m.signal(libc::SIGTERM);
    m.log.wait_for("5 connections waiting at the listeners: served first, for at most 20s", 1);
    assert_eq!(m.log.count("stopping with SIGTERM"), 0);
    // Nobody new is let in, nor turned away: whoever listens here next will have them.
    let late = std::thread::spawn(move || TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(500)));
    assert!(late.join().unwrap().is_err_and(|e| e.kind() == std::io::ErrorKind::TimedOut));
    go.write_all(b"\n\n\n\n\n").unwrap();
    for stream in waiting {
        assert_eq!(served(stream), "served");
    }
    assert_eq!(m.wait().code(), Some(0), "{}", m.log.text());
    m.assert_nothing_left();
}

#[test]
fn a_unix_socket_is_gone_from_its_path_while_its_queue_is_served() {
    let s = slow("unix:DIR/a.sock", "linger = \"20s\"");
    let Some(mut m) = s else {
        return skip("a_unix_socket_is_gone_from_its_path_while_its_queue_is_served", "needs python3");
    };
    let path = m.setup.path("a.sock");
    let mut go = std::fs::OpenOptions::new().write(true).open(m.setup.path("gate")).unwrap();
    m.log.wait_for("| up", 1);
    let waiting: Vec<UnixStream> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
    m.signal(libc::SIGTERM);
    m.log.wait_for("3 connections waiting at the listeners", 1);
    assert!(!path.exists() && UnixStream::connect(&path).is_err());
    go.write_all(b"\n\n\n").unwrap();
    for stream in waiting {
        assert_eq!(served(stream), "served");
    }
    assert_eq!(m.wait().code(), Some(0), "{}", m.log.text());
    m.assert_nothing_left();
}

#[test]
fn the_wait_has_an_end_and_a_second_signal_ends_it_at_once() {
    let port = free_port();
    let Some(mut m) = slow(&format!("127.0.0.1:{port}"), "linger = \"300ms\"") else {
        return skip("the_wait_has_an_end_and_a_second_signal_ends_it_at_once", "needs python3");
    };
    let _go = std::fs::OpenOptions::new().write(true).open(m.setup.path("gate")).unwrap();
    m.log.wait_for("| up", 1);
    let _waiting = TcpStream::connect(("127.0.0.1", port)).unwrap();
    m.signal(libc::SIGTERM);
    assert_eq!(m.wait().code(), Some(0));
    m.log.assert_order(&["1 connection waiting at the listeners", "a:0 stopping with SIGTERM"]);
    let port = free_port();
    let mut m = slow(&format!("127.0.0.1:{port}"), "linger = \"30s\"").unwrap();
    let _go = std::fs::OpenOptions::new().write(true).open(m.setup.path("gate")).unwrap();
    m.log.wait_for("| up", 1);
    let _waiting = TcpStream::connect(("127.0.0.1", port)).unwrap();
    m.signal(libc::SIGTERM);
    m.log.wait_for("1 connection waiting at the listeners", 1);
    let start = Instant::now();
    m.signal(libc::SIGTERM);
    assert_eq!(m.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    m.assert_nothing_left();
}

#[test]
fn nobody_waits_where_there_is_nothing_to_wait_for() {
    // No queue, a quick stop, or a linger of nothing.
    for (master, signal) in
        [("linger = \"30s\"", libc::SIGTERM), ("linger = \"30s\"", libc::SIGINT), ("linger = \"0s\"", libc::SIGTERM)]
    {
        let port = free_port();
        let mut m = setup(&format!("[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nlisten = \"127.0.0.1:{port}\"\n"))
            .master(master)
            .start()
            .ready();
        let waits = (signal == libc::SIGINT || master.contains("0s\"") && !master.contains("30s"))
            .then(|| TcpStream::connect(("127.0.0.1", port)));
        let start = Instant::now();
        m.signal(signal);
        assert_eq!(m.wait().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5), "{master} {signal}: {:?}", start.elapsed());
        drop(waits);
        m.assert_nothing_left();
    }
}

/// A pool whose workers serve at the test's pace, each by a gate of its own generation.
fn slow_pool(python: &str, name: &str, port: u16) -> String {
    format!(
        "[pool.{name}]\ncommand = [\"{python}\", \"DIR/slow.py\", \"DIR/{name}-{{generation}}\"]\nready = \"exec\"\nsettle = \"50ms\"\n\
         listen.main = \"127.0.0.1:{port}\"\n"
    )
}

/// The master runs with these pools, and five clients wait at the port. Opens the gates of the first two generations of `a`.
fn with_a_queue(pools: &str, port: u16) -> (Master, std::fs::File, Vec<TcpStream>) {
    let s = setup(pools).master("linger = \"20s\"");
    std::fs::write(s.path("slow.py"), SLOW).unwrap();
    (1..4).for_each(|generation| gate(&s.path(&format!("a-{generation}"))));
    let m = s.start().ready();
    let go = std::fs::OpenOptions::new().write(true).open(m.setup.path("a-1")).unwrap();
    m.log.wait_for("a:0 | up", 1);
    (m, go, (0..5).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect())
}

fn is_leaving(m: &Master, pool: &str) {
    m.log.wait_until("the old one leaves", || {
        let workers = m.pool(pool)["workers"].as_array().cloned().unwrap_or_default();
        workers.iter().any(|worker| worker["state"] == "leaving").then_some(())
    });
}

#[test]
fn fault_who_waits_at_a_listener_that_moves_is_reset() {
    let Some(python) = python() else { return skip("fault_who_waits_at_a_listener_that_moves_is_reset", "needs python3") };
    let (before, after) = (free_port(), free_port());
    let (mut m, mut go, waiting) = with_a_queue(&slow_pool(python, "a", before), before);
    m.rewrite(&slow_pool(python, "a", after));
    m.ok(&["reload", "--no-wait"]);
    is_leaving(&m, "a");
    // The new one is open, and the old one lets nobody new in.
    let new = TcpStream::connect(("127.0.0.1", after)).unwrap();
    let late = TcpStream::connect_timeout(&([127, 0, 0, 1], before).into(), Duration::from_millis(300));
    assert!(late.is_err_and(|e| e.kind() == std::io::ErrorKind::TimedOut));
    assert_eq!(m.log.count("stopping with SIGTERM"), 0);
    go.write_all(b"\n\n\n\n\n").unwrap();
    waiting.into_iter().for_each(|stream| assert_eq!(served(stream), "served"));
    m.log.wait_for("a:0 stopping with SIGTERM: replaced", 1);
    let mut go = std::fs::OpenOptions::new().write(true).open(m.setup.path("a-2")).unwrap();
    go.write_all(b"\n").unwrap();
    assert_eq!(served(new), "served");
    m.log.wait_for("reload done", 1);
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

#[test]
fn fault_who_waits_at_a_pool_that_is_removed_is_reset() {
    let Some(python) = python() else { return skip("fault_who_waits_at_a_pool_that_is_removed_is_reset", "needs python3") };
    let port = free_port();
    let other = "[pool.b]\ncommand = \"sleep 1000\"\n";
    let (mut m, mut go, waiting) = with_a_queue(&format!("{}{other}", slow_pool(python, "a", port)), port);
    m.rewrite(other);
    m.ok(&["reload", "--no-wait"]);
    is_leaving(&m, "a");
    go.write_all(b"\n\n\n\n\n").unwrap();
    waiting.into_iter().for_each(|stream| assert_eq!(served(stream), "served"));
    m.log.wait_for("a:0 stopping with SIGTERM: pool removed from the config", 1);
    m.log.wait_until("it is gone", || TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()));
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

/// It comes back while its queue is served: whoever comes then is let in.
#[test]
fn a_listener_that_comes_back_lets_clients_in_again() {
    let Some(python) = python() else { return skip("a_listener_that_comes_back_lets_clients_in_again", "needs python3") };
    let (before, after) = (free_port(), free_port());
    let (mut m, _go, waiting) = with_a_queue(&slow_pool(python, "a", before), before);
    m.rewrite(&slow_pool(python, "a", after));
    m.ok(&["reload", "--no-wait"]);
    is_leaving(&m, "a");
    m.rewrite(&slow_pool(python, "a", before));
    m.ok(&["reload", "--no-wait"]);
    m.log.wait_for("config 3 in force", 1);
    let late = TcpStream::connect_timeout(&([127, 0, 0, 1], before).into(), PATIENCE).unwrap();
    // The first one is let go: there is another one for those who wait.
    m.log.wait_for("a:0 stopping with SIGTERM: replaced", 1);
    let mut third = std::fs::OpenOptions::new().write(true).open(m.setup.path("a-3")).unwrap();
    third.write_all(b"\n\n\n\n\n\n").unwrap();
    waiting.into_iter().chain([late]).for_each(|stream| assert_eq!(served(stream), "served"));
    m.signal(libc::SIGINT);
    assert_eq!(m.wait().code(), Some(0));
    m.assert_nothing_left();
}
