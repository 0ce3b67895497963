//! Known faults of the field's supervisors with orders: one that waits holds up all others, one that says "done" too early, one that is lost
//! because another is under way, and a policy that only those get who are born under it.

use std::io::Read;
use std::time::{Duration, Instant};

use super::support::*;

/// An order given over a connection of its own; its answer is still to come.
struct Order(RawClient);

impl Order {
    fn give(m: &Master, line: &str) -> Order {
        let mut client = m.client();
        client.send(format!("{line}\n").as_bytes());
        Order(client)
    }

    fn is_open(&mut self) -> bool {
        self.0.stream.set_nonblocking(true).unwrap();
        let early = self.0.stream.read(&mut [0; 1]).map_err(|e| e.kind());
        self.0.stream.set_nonblocking(false).unwrap();
        early == Err(std::io::ErrorKind::WouldBlock)
    }

    fn code(mut self) -> i64 {
        let reply = self.0.reply().unwrap();
        reply["parameters"]["code"].as_i64().unwrap_or_else(|| panic!("{reply}"))
    }
}

fn tell_ready(m: &Master, pool: &str, slot: u64, times: usize) {
    Notifier::of(m.wait_state(pool, slot, "starting")).send(b"READY=1");
    m.log.wait_for(&format!("{pool}:{slot} ready after"), times);
}

#[test]
fn fault_one_slow_order_holds_up_all_others() {
    let m = setup(
        "[pool.slow]\ncommand = \"sleep 1000\"\nready = \"notify\"\nsettle = \"0s\"\nmax_starting = 9\n\
         [pool.other]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n",
    )
    .start();
    m.log.wait_for("slow:0 started", 1);
    tell_ready(&m, "slow", 0, 1);
    m.log.wait_for("ready: ", 1);
    let mut slow = Order::give(&m, r#"{"method":"scale","parameters":{"pool":"slow","change":"+1"}}"#);
    m.log.wait_for("slow:1 started", 1);
    for question in [&["status"][..], &["ps"], &["health"], &["signals"], &["listeners"], &["status", "slow", "--json"]] {
        m.ok(question);
    }
    for order in [
        &["scale", "other", "+2"][..],
        &["restart", "other"],
        &["kill", "-s", "CONT", "other"],
        &["stop", "other"],
        &["start", "other"],
        &["reopen"],
        &["kill", "-s", "CONT", "slow:0"],
        &["wait", "slow", "--for", "count=1"],
    ] {
        m.ok(order);
    }
    let asked = Instant::now();
    (0..20).for_each(|_| drop(m.pool("slow")));
    assert!(asked.elapsed() < Duration::from_secs(1), "20 questions took {:?}", asked.elapsed());
    assert_eq!(m.pids("other").len(), 3);
    assert!(slow.is_open());
    tell_ready(&m, "slow", 1, 1);
    assert_eq!(slow.code(), 0);
}

#[test]
fn fault_a_reload_that_waits_returns_early() {
    let pool = |name: &str| {
        format!(
            "[pool.{name}]\nready = \"notify\"\nsettle = \"0s\"\ncommand = [\"sh\", \"-c\", \
             \"trap 'echo draining >&2; read x <DIR/gate; exit 0' TERM; echo up >&2; while :; do read y <DIR/never; done\"]\n"
        )
    };
    let s = setup(&pool("web"));
    gate(&s.path("gate"));
    gate(&s.path("never"));
    let mut m = s.start();
    m.log.wait_for("| up", 1);
    tell_ready(&m, "web", 0, 1);
    let mut reload = Order::give(&m, r#"{"method":"reload","parameters":{"restart":true}}"#);
    m.log.wait_for("config 2 read, not in force yet", 1);
    m.log.wait_for("| up", 2);
    assert!(reload.is_open(), "the new worker is not ready");
    tell_ready(&m, "web", 0, 2);
    m.log.wait_for("config 2 in force", 1);
    m.log.wait_for("| draining", 1);
    m.ok(&["status"]);
    assert!(reload.is_open(), "the old worker is still there");
    open_gate(&m.setup.path("gate"));
    assert_eq!(reload.code(), 0);
    assert_eq!(m.all_pids("web").len(), 1);
    // A pool that comes is there when the verb returns, and one that goes is gone.
    m.rewrite(&pool("new"));
    let mut reload = Order::give(&m, r#"{"method":"reload","parameters":{}}"#);
    m.log.wait_for("new:0 | up", 1);
    m.ok(&["status"]);
    assert!(reload.is_open());
    assert_eq!(m.log.count("web:0 | draining"), 1, "the pool that goes serves until the one that comes is good");
    tell_ready(&m, "new", 0, 1);
    m.log.wait_for("web:0 | draining", 2);
    m.ok(&["status"]);
    assert!(reload.is_open(), "the worker of the pool that goes is still there");
    open_gate(&m.setup.path("gate"));
    assert_eq!(reload.code(), 0);
    assert!(m.pool("web").is_null());
    // Whoever does not want to wait does not.
    m.ok(&["reload", "--no-wait"]);
    m.log.wait_for("config 4 in force", 1);
}

#[test]
fn fault_a_hup_during_a_reload_is_lost() {
    let config =
        |v: u32| format!("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 3\nsettle = \"100ms\"\nenv = {{ V = \"{v}\" }}\n");
    let mut m = setup(&config(1)).start().ready();
    m.rewrite(&config(2));
    m.signal(libc::SIGHUP);
    m.log.wait_for("a:0 started", 2);
    // One of three is on its way. The second file comes while the first is rolled out, and so does the third, twice.
    for v in [3, 4] {
        m.rewrite(&config(v));
        m.signal(libc::SIGHUP);
        m.log.wait_for(&format!("config {v} in force"), 1);
    }
    m.signal(libc::SIGHUP);
    m.log.wait_until("all are of the last config", || {
        let now = m.wait_count("a", 3);
        now.iter().all(|pid| is_alive(*pid) && environ(*pid)["V"] == "4").then_some(())
    });
}

#[test]
fn fault_a_changed_policy_is_for_those_born_under_it_only() {
    let config = |policy: &str| {
        format!(
            "[pool.a]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; echo up >&2; while :; do read x <DIR/never; done\"]\nsettle = \"0s\"\n{policy}\n\
             [pool.b]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n"
        )
    };
    let s = setup(&config("graceful_timeout = \"10m\""));
    gate(&s.path("never"));
    let mut m = s.start().ready();
    m.log.wait_for("| up", 1);
    let old = m.pids("a")[0];
    m.rewrite(&config("graceful_timeout = \"200ms\"\nrestart.policy = \"never\""));
    m.signal(libc::SIGHUP);
    // The old one goes by the new rule.
    wait_gone(old, Instant::now() + PATIENCE);
    m.log.wait_for("a:0 killed by SIGKILL", 1);
    m.log.wait_for("| up", 2);
    let new = m.wait_count("a", 1);
    kill(new[0], libc::SIGKILL);
    m.log.wait_for("a:0 killed by SIGKILL", 2);
    m.wait_count("a", 0);
    // It goes both ways.
    m.rewrite(&config("graceful_timeout = \"200ms\""));
    m.ok(&["reload"]);
    m.ok(&["start", "a"]);
    kill(m.wait_count("a", 1)[0], libc::SIGKILL);
    m.log.wait_for("| up", 4);
    m.wait_count("a", 1);
}

#[test]
fn fault_a_refused_reload_changes_something() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = |mode: &str, more: &str| {
        format!(
            "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nlisten.main = {{ address = \"unix:DIR/a.sock\", mode = \"{mode}\" }}\n{more}"
        )
    };
    let mut m = setup(&config("0600", "")).start().ready();
    let socket = m.setup.path("a.sock");
    let mode = || std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions()) & 0o777;
    assert_eq!(mode(), 0o600);
    let address = taken.local_addr().unwrap();
    m.rewrite(&config("0666", &format!("[pool.b]\ncommand = \"sleep 1000\"\nlisten = \"{address}\"\n")));
    m.signal(libc::SIGHUP);
    m.log.wait_for("nothing was restarted", 1);
    assert_eq!(mode(), 0o600, "the socket of the config in force is as that says");
    m.rewrite(&config("0666", ""));
    m.signal(libc::SIGHUP);
    m.log.wait_for("config 2 in force", 1);
    assert_eq!(mode(), 0o666);
}
