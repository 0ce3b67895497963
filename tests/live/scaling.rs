//! `scale`: each way to say a number, what is refused, who goes first, and orders that meet workers which are still starting.

use std::collections::BTreeSet;

use super::support::*;

/// Slots of the workers that are not on their way out.
fn slots(m: &Master, pool: &str) -> Vec<u64> {
    let status = m.pool(pool);
    let workers = status["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().filter(|w| w["stopping"].is_null()).map(|w| w["slot"].as_u64().unwrap()).collect()
}

#[test]
fn each_form_of_a_number_is_real_when_the_verb_returns() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\nworkers = 2\nscale = { min = 1, max = 13 }\nsettle = \"0s\"\n")
        .start()
        .ready();
    for (change, count) in [("+1", 3), ("-2", 1), ("6", 6), ("50%", 7), ("100%", 13), ("-12", 1), ("+0", 1), ("config", 2)] {
        let words = m.ok(&["scale", "web", change]);
        assert!(words.contains(&format!("web: {count} worker{} ready", if count == 1 { "" } else { "s" })), "{change}: {words}");
        // Real processes, ready ones, and no others: without waiting for anything.
        let pids = m.all_pids("web");
        assert_eq!((pids.len(), m.pids("web").len()), (count, count), "{change}");
        assert!(pids.iter().all(|p| is_alive(*p)));
        assert_eq!(children(m.pid()).len(), count, "{change}: no process is left over");
    }
    assert_eq!(m.pool("web")["operator"].as_u64(), None, "`config` takes the operator's number back");
    m.ok(&["scale", "web", "3"]);
    let status = m.ok(&["status"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(status.contains("3 workers by order, the config says 2"), "{status}");
}

#[test]
fn what_is_refused_changes_nothing_and_names_the_bound() {
    let m = setup("[defaults]\ncommand = \"sleep 1000\"\nworkers = 3\n[pool.web]\nscale = { min = 2, max = 5 }\n[pool.free]\n")
        .start()
        .ready();
    let before = (m.pids("web"), m.pids("free"));
    for (pool, change, code, words) in [
        ("web", "6", 7, "scale.max (5)"),
        ("web", "+3", 7, "scale.max (5)"),
        ("web", "1", 7, "scale.min (2)"),
        ("web", "-2", 7, "scale.min (2)"),
        ("web", "20%", 7, "scale.min (2)"),
        ("web", "-4", 7, "not possible"),
        ("web", "101%", 7, "scale.max (5)"),
        ("free", "50%", 7, "scale.max"),
        ("free", "-4", 7, "it has 3"),
        ("free", "100001", 7, "100000"),
        ("nosuch", "1", 2, "nosuch"),
        ("web", "many", 2, "many"),
        ("web", "1.5", 2, "1.5"),
        ("web", "99999999999", 2, "99999999999"),
    ] {
        let said = m.code(code, &["scale", pool, change]);
        assert!(said.contains(words), "{pool} {change}: {said}");
    }
    assert_eq!((m.pids("web"), m.pids("free")), before);
    assert_eq!(m.pool("web")["operator"].as_u64(), None);
    // 0 is below scale.min, and still an order that has a meaning.
    m.ok(&["scale", "web", "0"]);
    assert!(m.all_pids("web").is_empty() && before.0.iter().all(|p| !is_alive(*p)));
    m.ok(&["scale", "web", "config"]);
    assert_eq!(m.pids("web").len(), 3);
    assert_eq!(m.pids("free"), before.1, "a neighbour has nothing to do with it");
}

#[test]
fn the_oldest_goes_first_and_the_lowest_free_slot_is_filled() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\nworkers = 3\nsettle = \"0s\"\n").start().ready();
    // The worker of slot 0 is a new one: slot 1 has the oldest now.
    let first = m.pids("web")[0];
    kill(first, libc::SIGKILL);
    m.log.wait_for("web:0 ready after", 2);
    m.ok(&["scale", "web", "+1"]);
    let by_slot = m.wait_count("web", 4);
    m.ok(&["scale", "web", "-1"]);
    assert!(!is_alive(by_slot[1]));
    assert_eq!(m.pids("web"), [by_slot[0], by_slot[2], by_slot[3]]);
    m.ok(&["scale", "web", "-1"]);
    assert_eq!(m.pids("web"), [by_slot[0], by_slot[3]]);
    m.ok(&["scale", "web", "-1"]);
    assert_eq!(m.pids("web"), [by_slot[3]], "slot 3 is the youngest");
    m.ok(&["scale", "web", "+2"]);
    assert_eq!(slots(&m, "web"), [0, 1, 3]);
    let generations =
        m.pool("web")["workers"].as_array().unwrap().iter().map(|w| w["generation"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(generations, [3, 2, 1], "a slot never uses a generation twice");
    let end = m.log.wait_for("(scale-down)", 3);
    assert!(end.contains("killed by SIGTERM"), "{end}");
}

#[test]
fn newest_and_highest_slot_are_other_rules() {
    let m = setup(
        "[defaults]\ncommand = \"sleep 1000\"\nworkers = 3\nsettle = \"0s\"\n\
         [pool.newest]\nscale.remove = \"newest\"\n[pool.highest]\nscale.remove = \"highest-slot\"\n",
    )
    .start()
    .ready();
    for (pool, left) in [("newest", vec![1, 2]), ("highest", vec![0, 1])] {
        // Slot 0 has the newest worker.
        kill(m.pids(pool)[0], libc::SIGKILL);
        m.log.wait_for(&format!("{pool}:0 ready after"), 2);
        m.ok(&["scale", pool, "-1"]);
        assert_eq!(slots(&m, pool), left, "{pool}");
    }
}

#[test]
fn orders_that_meet_starting_workers_are_settled_together() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\nready = \"notify\"\nmax_starting = 10\nsettle = \"0s\"\n").start();
    m.log.wait_for("web:0 started", 1);
    Notifier::of(m.all_pids("web")[0]).send(b"READY=1");
    m.log.wait_for("web:0 ready after", 1);
    let first = m.pids("web")[0];
    let mut up = m.client();
    up.send(b"{\"method\":\"scale\",\"parameters\":{\"pool\":\"web\",\"change\":\"+3\"}}\n");
    for slot in 1..4 {
        m.log.wait_for(&format!("web:{slot} started"), 1);
    }
    let starting: Vec<i32> = m.all_pids("web").into_iter().filter(|p| *p != first).collect();
    // The second order finds three that are starting; the oldest goes, ready or not, and the starting one beyond two as well.
    let mut down = m.client();
    down.send(b"{\"method\":\"scale\",\"parameters\":{\"pool\":\"web\",\"change\":\"2\"}}\n");
    m.log.wait_for("scaled from 4 to 2", 1);
    m.log.wait_for("(scale-down)", 2);
    let left = m.all_pids("web");
    assert_eq!(left.len(), 2);
    assert!(!is_alive(first) && left.iter().all(|p| starting.contains(p)));
    assert_eq!(m.log.count("web 2 of 2 workers ready"), 0);
    for pid in &left {
        Notifier::of(*pid).send(b"READY=1");
    }
    for client in [&mut up, &mut down] {
        let reply = client.reply().unwrap();
        assert_eq!(reply["parameters"]["code"], 0, "{reply}");
        assert!(reply.to_string().contains("2 workers ready"), "{reply}");
    }
    assert_eq!(m.pids("web"), left);
    assert_eq!(m.log.count("early"), 0, "an end that was asked for is no failure");
}

#[test]
fn many_operators_at_once_lose_no_step() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\n[pool.other]\ncommand = \"sleep 1000\"\n").start().ready();
    let other = m.pids("other");
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| m.ok(&["scale", "web", "+1"]));
        }
    });
    assert_eq!(m.wait_count("web", 13).len(), 13);
    std::thread::scope(|scope| {
        let m = &m;
        for change in ["+2", "-1", "+2", "-1", "-3", "-1", "-1"] {
            scope.spawn(move || m.ok(&["scale", "web", change]));
        }
    });
    let pids: BTreeSet<i32> = m.wait_count("web", 10).into_iter().collect();
    assert_eq!(pids.len(), 10);
    assert_eq!(m.pids("other"), other);
}

#[test]
fn scaling_a_pool_that_is_down_sets_its_number_for_later() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\n[pool.idle]\ncommand = \"sleep 1000\"\nautostart = false\n").start();
    m.log.wait_for("web:0 ready after", 1);
    m.ok(&["stop", "web"]);
    for pool in ["web", "idle"] {
        let words = m.ok(&["scale", pool, "3"]);
        assert!(words.contains("3 workers wanted once it runs"), "{words}");
        assert!(m.all_pids(pool).is_empty(), "an order about the number is no order to start");
        m.ok(&["start", pool]);
        assert_eq!(m.pids(pool).len(), 3);
    }
}

#[test]
fn a_pool_in_back_off_keeps_the_number_and_says_what_is_wrong() {
    let m = setup(
        r#"
        [pool.web]
        command = ["sh", "-c", "test -e DIR/database && exec sleep 1000; exit 1"]
        boot = "retry"
        settle = "50ms"
        restart = { backoff = { first = "0s", base = "50ms", max = "100ms" }, budget = { failures = 2, within = "60s" } }
        [pool.fine]
        command = "sleep 1000"
        "#,
    )
    .start();
    m.log.wait_for("web backing off", 1);
    let words = m.code(1, &["scale", "web", "4"]);
    assert!(words.contains("the number is set") && words.contains("exited with code 1"), "{words}");
    std::fs::write(m.setup.path("database"), "").unwrap();
    assert_eq!(m.wait_count("web", 4).len(), 4);
}

#[test]
fn the_operators_number_is_the_strongest_layer_of_the_config() {
    let mut m = setup("[pool.web]\ncommand = \"sleep 1000\"\nworkers = 2\n[pool.b]\ncommand = \"sleep 1000\"\n").start().ready();
    let config = m.setup.path("pools.toml").display().to_string();
    let ask = |args: &[&str]| {
        let args: Vec<&str> = args.iter().copied().chain(["-c", &config]).collect();
        output_of(POOLMASTER, &args).unwrap()
    };
    assert!(ask(&["config", "origin", "pool.web.workers"]).starts_with("pool.web.workers = 2\n  from "));
    m.ok(&["scale", "web", "3"]);
    let told = ask(&["config", "origin", "pool.web.workers"]);
    assert!(told.starts_with("pool.web.workers = 3\n  from the operator, in the running master"), "{told}");
    assert!(
        told.contains("\n  hides 2 from ") && told.contains("pools.toml:") && told.contains("\n  hides 1 from built-in"),
        "{told}"
    );
    let shown = ask(&["config", "show"]);
    assert!(shown.contains("workers = 3 # live; the operator's, in the running master; else 2\n"), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&ask(&["config", "show", "--json"])).unwrap();
    assert_eq!(json["operator"], serde_json::json!({ "web": 3 }));
    m.ok(&["scale", "web", "config"]);
    assert!(ask(&["config", "origin", "pool.web.workers"]).starts_with("pool.web.workers = 2\n"));
    // Another file of the same master's name is not what runs.
    let other = m.setup.path("other.toml");
    std::fs::copy(&config, &other).unwrap();
    m.ok(&["scale", "web", "1"]);
    let other = output_of(POOLMASTER, &["config", "origin", "pool.web.workers", "-c", &other.display().to_string()]).unwrap();
    assert!(other.starts_with("pool.web.workers = 2\n"), "{other}");
    assert_eq!(m.stop(), 0);
}
