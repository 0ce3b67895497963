//! Reloads, restarts, scaling and workers that end by themselves, all under a constant load: no connection is refused or reset, no request
//! fails.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests start processes, read clocks, and may fail loudly"
)]

#[path = "live/support/mod.rs"]
mod support;

use std::time::Duration;

use support::*;

/// Workers that keep the contract, and end after a number of requests.
fn pool(listen: &str, requests: u32, edition: u32) -> String {
    format!(
        "[pool.web]\ncommand = \"POOLMASTER worker --max-requests {requests}\"\nready = \"notify\"\nsettle = \"20ms\"\nworkers = 2\n\
         scale = {{ max = 8 }}\nlisten = \"{listen}\"\nenv.EDITION = \"{edition}\"\nlog.stderr = \"null\"\n"
    )
}

/// A config that is no good, and the exit code of a reload to it.
fn bad(text: &str, n: u32) -> (String, i32) {
    match n % 5 {
        0 => (text.replace("worker --", "worker --fail-boot --"), 3),
        1 => (text.replace("worker --", "worker --never-ready --").replace("settle", "start_timeout = \"60ms\"\nsettle"), 3),
        2 => (text.replace("POOLMASTER", "/nonexistent/server"), 3),
        3 => (format!("{text}hooks.pre_start = \"/bin/false\"\n"), 3),
        _ => (format!("{text}workers = = 2\n"), 2),
    }
}

/// Everything at once that replaces workers, and nothing may be lost.
fn nothing_is_lost(goal: &Goal, listen: &str, clients: usize, manner: Manner, pace: Duration) {
    let requests = if pace.is_zero() { 20_000 } else { 2000 };
    let mut m = setup(&pool(listen, requests, 0)).start().ready();
    let load = Load::on(goal, clients, manner, pace);
    load.wait_more(clients as u64 * 2);
    // Those that have served enough requests end by themselves, at any moment.
    let all_of = |m: &Master, edition: u32| {
        let editions = m.pids("web").into_iter().filter_map(environ_of_living).map(|env| env["EDITION"].clone());
        let editions: Vec<String> = editions.collect();
        editions.iter().all(|of| *of == edition.to_string())
    };
    for n in 1..=50 {
        let (text, code) = bad(&pool(listen, requests, n), n);
        m.rewrite(&text);
        let said = m.code(code, &["reload"]);
        assert!(said.contains("nothing was changed"), "{n}: {said}");
        assert!(all_of(&m, n - 1), "{n}: {said}");
        m.rewrite(&pool(listen, requests, n));
        m.ok(&["reload"]);
        assert!(all_of(&m, n), "reload {n}");
    }
    for _ in 0..50 {
        m.ok(&["restart", "web"]);
    }
    m.ok(&["scale", "web", "8"]);
    load.wait_more(clients as u64 * 10);
    m.ok(&["scale", "web", "2"]);
    load.wait_more(clients as u64 * 10);
    load.wait_until("workers have ended by themselves", || m.log.count("announces its own stop") >= 3);
    let toll = load.end();
    assert!(toll.failures.is_empty(), "{} of {}: {:?}", toll.failures.len(), toll.answered, toll.failures);
    assert!(toll.answered > clients as u64 * 20 && toll.retried == 0, "{toll:?}");
    assert_eq!(m.stop(), 0);
}

#[test]
fn nothing_is_lost_of_20_connections_that_stay() {
    let port = free_port();
    nothing_is_lost(&Goal::Port(port), &format!("127.0.0.1:{port}"), 20, Manner::Keepalive, Duration::ZERO);
}

#[test]
fn nothing_is_lost_of_200_connections_that_stay_and_are_mostly_idle() {
    let port = free_port();
    nothing_is_lost(&Goal::Port(port), &format!("127.0.0.1:{port}"), 200, Manner::Keepalive, Duration::from_millis(50));
}

#[test]
fn nothing_is_lost_of_20_clients_with_a_connection_for_each_request() {
    let port = free_port();
    nothing_is_lost(&Goal::Port(port), &format!("127.0.0.1:{port}"), 20, Manner::Each, Duration::ZERO);
}

#[test]
fn nothing_is_lost_of_200_clients_with_a_connection_for_each_request() {
    let port = free_port();
    nothing_is_lost(&Goal::Port(port), &format!("127.0.0.1:{port}"), 200, Manner::Each, Duration::from_millis(50));
}

#[test]
fn nothing_is_lost_at_a_unix_listener() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.sock");
    nothing_is_lost(&Goal::Path(path.clone()), &format!("unix:{}", path.display()), 50, Manner::Each, Duration::from_millis(5));
}

/// Nobody failed or had to try again, and there was something to lose.
fn took_no_toll(load: Load, least: u64) {
    let toll = load.end();
    assert!(toll.failures.is_empty(), "{} of {}: {:?}", toll.failures.len(), toll.answered, toll.failures);
    assert!(toll.answered > least && toll.retried == 0, "{toll:?}");
}

/// One pool of a config whose listeners change.
fn holder(name: &str, listen: &str, edition: u32) -> String {
    format!(
        "[pool.{name}]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nsettle = \"20ms\"\nworkers = 2\n\
         listen = {{ {listen} }}\nenv.EDITION = \"{edition}\"\nlog.stderr = \"null\"\n"
    )
}

/// Listeners that are added, removed, moved, changed, swapped and shared, pools that come, go and take another name: at the two addresses that
/// somebody always has, nobody notices.
#[test]
fn nothing_is_lost_while_listeners_and_pools_come_and_go_and_change_hands() {
    let dir = tempfile::tempdir().unwrap();
    let (port, path) = (free_port(), dir.path().join("u.sock"));
    let others = [free_port(), free_port()];
    let (tcp, unix) = (format!("\"127.0.0.1:{port}\""), format!("\"unix:{}\"", path.display()));
    let other = |n: u32| format!("\"127.0.0.1:{}\"", others[n as usize % 2]);
    let text = |n: u32| match n % 10 {
        0 => holder("a", &format!("main = {tcp}"), 0) + &holder("b", &format!("main = {unix}"), 0),
        // Swapped.
        1 => holder("a", &format!("main = {unix}"), 0) + &holder("b", &format!("main = {tcp}"), 0),
        // One more listener, and one more pool.
        2 => {
            let b = format!("main = {tcp}, more = {}", other(n));
            holder("a", &format!("main = {unix}"), 0) + &holder("b", &b, 0) + &holder("c", &format!("main = {}", other(n + 1)), 0)
        }
        // Options alone.
        3 => {
            let b = format!("main = {{ address = {tcp}, backlog = 300 }}, more = {}", other(n - 1));
            holder("a", &format!("main = {unix}"), 0) + &holder("b", &b, 0) + &holder("c", &format!("main = {}", other(n)), 0)
        }
        // The extra ones change places.
        4 => {
            let b = format!("main = {tcp}, more = {}", other(n + 1));
            holder("a", &format!("main = {unix}"), 0) + &holder("b", &b, 0) + &holder("c", &format!("main = {}", other(n)), 0)
        }
        // A pool goes, another one takes another name.
        5 => holder("a", &format!("main = {unix}"), 0) + &holder("d", &format!("main = {tcp}"), 0),
        // All of it in one pool.
        6 => holder("d", &format!("main = {tcp}, second = {unix}"), n),
        // Shared.
        7 => holder("d", &format!("main = {tcp}, second = {unix}"), n - 1) + &holder("e", "main = { share = \"d.main\" }", 0),
        // The one that shared has it alone.
        8 => holder("d", &format!("main = {unix}"), n) + &holder("e", &format!("main = {tcp}"), 0),
        _ => holder("a", &format!("main = {tcp}"), n) + &holder("b", &format!("main = {unix}"), n),
    };
    let mut m = setup(&text(0)).start().ready();
    let goals = [Goal::Port(port), Goal::Path(path.clone())];
    let pace = Duration::from_millis(3);
    let loads: Vec<Load> =
        goals.iter().flat_map(|goal| [Manner::Each, Manner::Keepalive].map(|manner| Load::on(goal, 10, manner, pace))).collect();
    for n in 1..=50 {
        m.rewrite(&text(n));
        m.ok(&["reload"]);
        loads.iter().for_each(|load| load.wait_more(10));
    }
    loads.into_iter().for_each(|load| took_no_toll(load, 500));
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

/// The queue of the one socket for all is served before its last worker stops, and so are those of the slots.
#[test]
fn nothing_is_lost_while_the_kind_of_a_listener_changes() {
    let port = free_port();
    let text = |n: u32| {
        let reuseport = n.is_multiple_of(2);
        holder("web", &format!("main = {{ address = \"127.0.0.1:{port}\", reuseport = {reuseport} }}"), 0)
    };
    let mut m = setup(&text(0)).start().ready();
    let goal = Goal::Port(port);
    let loads = [Manner::Each, Manner::Keepalive].map(|manner| Load::on(&goal, 20, manner, Duration::ZERO));
    for n in 1..=30 {
        m.rewrite(&text(n));
        m.ok(&["reload"]);
        loads.iter().for_each(|load| load.wait_more(50));
    }
    loads.into_iter().for_each(|load| took_no_toll(load, 1500));
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

/// From one address to all of the port: the narrower socket goes with its last worker, and who came there is served.
#[test]
fn nothing_is_lost_while_a_listener_opens_up_to_all_addresses() {
    for wide in ["0.0.0.0", "[::]"] {
        let port = free_port();
        let text = |at: &str, more: &str| {
            holder("web", &format!("main = \"{at}:{port}\""), 0).replace("worker\"", &format!("worker{more}\""))
        };
        let mut m = setup(&text("127.0.0.1", "")).start().ready();
        let goal = Goal::Port(port);
        let loads = [Manner::Each, Manner::Keepalive].map(|manner| Load::on(&goal, 20, manner, Duration::ZERO));
        let more = || loads.iter().for_each(|load| load.wait_more(100));
        more();
        // One that is not taken leaves it as it was.
        m.rewrite(&text(wide, " --fail-boot"));
        m.code(3, &["reload"]);
        more();
        m.rewrite(&text(wide, ""));
        m.ok(&["reload"]);
        more();
        let listeners = m.request(r#"{"method":"listeners"}"#);
        assert!(listeners["parameters"]["listeners"][0]["address"].as_str().unwrap().contains(wide), "{listeners}");
        let elsewhere = std::net::TcpStream::connect(("127.0.0.2", port)).unwrap();
        drop(elsewhere);
        loads.into_iter().for_each(|load| took_no_toll(load, 300));
        // Nobody else can put itself beside it.
        assert!(std::net::TcpListener::bind(("0.0.0.0", port)).is_err());
        assert_eq!(m.stop(), 0);
        m.assert_nothing_left();
    }
}

/// Whoever cleans up after a login, a folder of temporary files or a disk takes away what the master made: what it is told next makes that anew, and
/// no client notices.
#[test]
fn nothing_is_lost_while_the_masters_files_are_removed() {
    let port = free_port();
    let mut m = setup(&pool(&format!("127.0.0.1:{port}"), 2000, 0)).start().ready();
    let run = m.setup.path("run");
    let load = Load::on(&Goal::Port(port), 20, Manner::Each, Duration::ZERO);
    let memory = m.setup.notify_home();
    for signal in [libc::SIGHUP, libc::SIGUSR1] {
        for name in ["t.sock", "t.pid", "t.lock", "t.d", "", &memory] {
            load.wait_more(100);
            let (path, before) = (run.join(name), m.pids("web"));
            // On a memory file system the notify sockets are in the runtime directory.
            if !path.exists() {
                continue;
            }
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap()
            } else {
                std::fs::remove_file(&path).unwrap()
            }
            m.signal(signal);
            load.wait_until("made anew", || path.exists() && m.socket.exists());
            if signal == libc::SIGHUP {
                load.wait_until("two new workers", || {
                    let now = m.pids("web");
                    now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
                });
            }
        }
    }
    load.wait_more(100);
    let toll = load.end();
    assert!(toll.failures.is_empty(), "{} of {}: {:?}", toll.failures.len(), toll.answered, toll.failures);
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}
