//! Keeping workers alive and counted: rows 1, 10, 14, 15, 16, 31 and 34 of the parity table.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::*;

/// The workers of a pool by slot: pid, generation, age.
fn by_slot(m: &Master, pool: &str) -> Vec<(i64, i64, i64)> {
    let workers = m.pool(pool)["workers"].as_array().cloned().unwrap_or_default();
    let number = |w: &Value, key: &str| w[key].as_i64().unwrap_or_default();
    workers.iter().map(|w| (number(w, "pid"), number(w, "generation"), number(w, "age_ms"))).collect()
}

#[test]
fn row_01_each_pool_keeps_its_number_alive_whatever_kills_them() {
    let port = free_port();
    let m = setup(&format!(
        r#"
        [defaults]
        settle = "0s"
        [pool.web]
        command = "POOLMASTER worker --allow-crash"
        workers = 3
        listen = "127.0.0.1:{port}"
        [pool.jobs]
        command = ["sh", "-c", "while [ ! -e DIR/enough ]; do sleep 0.02; done; rm DIR/enough; exit 0"]
        workers = 2
        "#
    ))
    .start()
    .ready();
    let others = m.pids("jobs");
    // One after the other, by many deaths; the crash is the worker's own.
    let signals = [libc::SIGKILL, libc::SIGTERM, libc::SIGFPE, libc::SIGABRT];
    for (n, signal) in signals.into_iter().enumerate() {
        let before = m.wait_count("web", 3);
        kill(before[n % 3], signal);
        m.log.wait_until("another one in its place", || (!m.wait_count("web", 3).contains(&before[n % 3])).then_some(()));
    }
    assert_eq!(m.pids("jobs"), others, "the other pool is not touched");
    let restarts = m.pool("web")["restarts"].as_u64().unwrap();
    assert_eq!(restarts, 4);
    let _ = get(port, "/crash");
    m.log.wait_until("the crash", || (m.pool("web")["restarts"] == 5).then_some(()));
    m.wait_count("web", 3);
    // All of both pools at once: each pool gets back what is its own, in the same slots, one generation on.
    let jobs = m.wait_count("jobs", 2);
    let before = by_slot(&m, "web");
    m.held(|| before.iter().map(|(pid, ..)| i32::try_from(*pid).unwrap()).chain(jobs.clone()).for_each(|pid| m.kill_dead(pid)));
    m.log.wait_until("all of them are new", || {
        let (web, now) = (m.wait_count("web", 3), m.wait_count("jobs", 2));
        (web.iter().all(|p| before.iter().all(|b| b.0 != i64::from(*p))) && now.iter().all(|p| !jobs.contains(p))).then_some(())
    });
    let after = by_slot(&m, "web");
    let one_on: Vec<i64> = before.iter().map(|(_, generation, _)| generation + 1).collect();
    assert_eq!(after.iter().map(|(_, generation, _)| *generation).collect::<Vec<_>>(), one_on);
    // A worker that ends well by itself is missing as well.
    std::fs::write(m.setup.path("enough"), "").unwrap();
    m.log.wait_for("exited with code 0", 1);
    m.wait_count("jobs", 2);
    m.log.wait_until("five, and not one too many", || (children(m.pid()).len() == 5).then_some(()));
    assert!(get(port, "/").unwrap().contains("web"));
}

#[test]
fn row_10_the_master_wakes_up_at_once() {
    // That it wakes up for nothing else is shown by `an_idle_master_makes_no_system_call`.
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\nscale = { up_signal = 40, down_signal = 41, remove = \"highest-slot\" }\n")
        .start()
        .ready();
    let start = Instant::now();
    for n in 0..10 {
        let old = m.pids("web")[0];
        kill(old, libc::SIGKILL);
        m.log.wait_for("web:0 ready after", n + 2);
        m.signal(40);
        m.log.wait_for("scaled from 1 to 2", n + 1);
        m.signal(41);
        m.log.wait_for("scaled from 2 to 1", n + 1);
        m.wait_count("web", 1);
    }
    // A loop with a tick of one second would need about 30 s for the 30 of them, one of 100 ms about 3 s; this one 0.3 s.
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
}

#[test]
fn row_14_scale_down_stops_the_oldest_first() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\nworkers = 4\nsettle = \"0s\"\n").start().ready();
    // Slots 0 and 2 are given to younger ones, 0 to the youngest.
    for (slot, n) in [(2, 1), (0, 1)] {
        let pid = m.pids("web")[slot];
        kill(pid, libc::SIGKILL);
        m.log.wait_for(&format!("web:{slot} ready after"), n + 1);
    }
    m.wait_count("web", 4);
    m.signal(libc::SIGTTOU);
    m.log.wait_for("web:1 stopping with SIGTERM: scale-down", 1);
    m.wait_count("web", 3);
    m.ok(&["scale", "web", "-2"]);
    let places = m.places(&["web:1 stopping", "web:3 stopping", "web:2 stopping"]);
    assert!(rising(&places), "{places:?}");
    assert_eq!(m.worker("web", 0)["slot"], 0, "the youngest is left");
    assert_eq!(m.log.count("scale-down"), 6, "three stops and three ends");
}

#[test]
fn row_15_starts_are_spread_and_the_loop_is_not_deaf_meanwhile() {
    let m = setup(
        r#"
        [pool.paced]
        command = "sleep 1000"
        workers = 5
        settle = "0s"
        spawn_interval = "250ms"
        [pool.few]
        command = "sleep 1000"
        workers = 4
        ready = "delay:150ms"
        max_starting = 2
        [pool.other]
        command = "sleep 1000"
        settle = "0s"
        "#,
    )
    .start();
    m.log.wait_for("other:0 ready after", 1);
    // While the others wait for their turn, everything else is done at once.
    let mut answers = 0;
    let mut slowest = Duration::ZERO;
    loop {
        let start = Instant::now();
        let (paced, few) = (m.pool("paced"), m.pool("few"));
        slowest = slowest.max(start.elapsed());
        assert!(few["starting"].as_u64().unwrap() <= 2, "{few}");
        if answers == 3 {
            let other = m.pids("other")[0];
            kill(other, libc::SIGKILL);
            m.log.wait_for("other:0 ready after", 2);
            assert!(m.pool("paced")["live"].as_u64().unwrap() < 5, "too late to show anything");
        }
        answers += 1;
        if paced["ready"] == 5 {
            break;
        }
        m.log.wait_until("a moment", || (start.elapsed() > Duration::from_millis(5)).then_some(()));
    }
    assert!(answers > 10 && slowest < Duration::from_millis(200), "{answers} answers, {slowest:?}");
    // Their own start times, oldest first.
    let mut ages: Vec<i64> = by_slot(&m, "paced").iter().map(|(.., age)| *age).collect();
    ages.sort_unstable();
    let gaps: Vec<i64> = ages.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps.iter().all(|gap| (249..1250).contains(gap)), "{gaps:?}");
    m.wait_count("few", 4);
    let ready = m.places(&["few:0 ready", "few:1 ready", "few:2 started", "few:3 started"]);
    assert!(ready[0] < ready[2] && ready[0].max(ready[1]) < ready[3], "{ready:?}");
}

#[test]
fn row_16_the_count_of_ready_workers_is_told_when_it_changes() {
    let mut m =
        setup("[pool.web]\ncommand = \"sleep 1000\"\nworkers = 2\nsettle = \"0s\"\n[pool.other]\ncommand = \"sleep 1000\"\n")
            .start()
            .ready();
    m.ok(&["scale", "web", "+3"]);
    m.ok(&["scale", "web", "1"]);
    m.ok(&["scale", "web", "1"]);
    m.ok(&["scale", "web", "0"]);
    m.ok(&["stop", "web"]);
    m.ok(&["scale", "web", "2"]);
    m.ok(&["start", "web"]);
    assert_eq!(m.stop(), 0);
    let told = |pool: &str| -> Vec<String> {
        let words = |l: &String| Some(l.split_once(&format!(" {pool} "))?.1.split_once(" worker")?.0.to_owned());
        m.log.all().iter().filter_map(words).collect()
    };
    let counts = |pool: &str| told(pool).into_iter().filter(|t| t.contains(" of ") || t == "no").collect::<Vec<_>>();
    assert_eq!(counts("web"), ["2 of 2", "5 of 5", "1 of 1", "no", "2 of 2"], "each change once, and nothing else");
    assert_eq!(counts("other"), ["1 of 1"]);
    assert_eq!(m.log.count("web scaled from"), 4, "what is wanted is told apart, with who wanted it");
}

#[test]
fn row_31_a_signal_to_a_worker_that_is_gone_is_no_error() {
    let mut m = setup(
        r#"
        [pool.web]
        command = "sleep 1000"
        workers = 4
        settle = "0s"
        reopen_signal = "WINCH"
        scale = { restart_signal = 40 }
        [pool.group]
        command = ["sh", "-c", "trap '' TERM; sleep 1000 & trap 'exit 0' TERM; echo up $!; while :; do sleep 0.05; done"]
        settle = "0s"
        graceful_timeout = "20s"
        "#,
    )
    .start()
    .ready();
    let before = m.pids("web");
    // All of them die, and the master hears of that together with a dozen reasons to signal them.
    let mut clients: Vec<RawClient> = (0..4).map(|_| m.client()).collect();
    m.held(|| {
        before.iter().for_each(|pid| m.kill_dead(*pid));
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(
                format!("{{\"method\":\"kill\",\"parameters\":{{\"target\":\"web:{n}\",\"signal\":\"WINCH\"}}}}\n").as_bytes(),
            );
        }
        m.signal(libc::SIGUSR1);
        m.signal(40);
    });
    for client in &mut clients {
        let reply = client.reply().unwrap();
        assert!(reply.get("error").is_none() || reply.to_string().contains("no such worker"), "{reply}");
    }
    m.log.wait_until("new ones", || m.wait_count("web", 4).iter().all(|p| !before.contains(p)).then_some(()));
    // A leader that is gone and whose group is not: the last of the group dies before its KILL is due.
    let stray: i32 = m.out.wait_for("up ", 1).rsplit(' ').next().unwrap().parse().unwrap();
    let mut order = m.client();
    order.send(b"{\"method\":\"stop\",\"parameters\":{\"pools\":[\"group\"]}}\n");
    m.log.wait_for("group:0 exited with code 0", 1);
    assert!(is_alive(stray), "it ignores SIGTERM");
    m.kill_dead(stray);
    assert!(order.reply().unwrap().get("error").is_none());
    // Workers die while they are told to stop, and while the master ends.
    let last = m.wait_count("web", 4);
    let mut order = m.client();
    m.held(|| {
        last[..2].iter().for_each(|pid| m.kill_dead(*pid));
        order.send(b"{\"method\":\"scale\",\"parameters\":{\"pool\":\"web\",\"change\":\"1\"}}\n");
    });
    assert!(order.reply().unwrap().get("error").is_none());
    m.held(|| {
        m.signal(libc::SIGTERM);
        last.iter().filter(|p| is_alive(**p)).for_each(|pid| m.kill_dead(*pid));
    });
    assert_eq!(m.wait().code(), Some(0));
    for trouble in ["cannot send", "ERROR", "dropped: ", "errno"] {
        assert_eq!(m.log.count(trouble), 0, "{trouble}");
    }
    m.assert_nothing_left();
}

/// With each config that comes in force, workers of the pool that comes are started before those of the pool that goes are stopped. Gives how
/// many configs have both.
fn starts_come_first(m: &Master, comes: u64, goes: u64) -> usize {
    let mut both = 0;
    for turn in m.turns().iter().filter(|t| t["actions"].as_array().unwrap().iter().any(|a| a.get("commit").is_some())) {
        let actions = turn["actions"].as_array().unwrap();
        let of = |a: &Value, what: &str, pool: u64| a.get(what).is_some_and(|a| a["worker"]["pool"] == pool);
        let first_stop = actions.iter().position(|a| of(a, "signal", goes));
        let last_start = actions.iter().rposition(|a| of(a, "spawn", comes));
        if let (Some(stop), Some(start)) = (first_stop, last_start) {
            assert!(start < stop, "stopped before it was started: {turn}");
            both += 1;
        }
    }
    both
}

#[test]
fn row_34_new_workers_are_started_before_surplus_ones_are_stopped() {
    let pools = |a: &str, b: &str| {
        format!(
            r#"
            [defaults]
            settle = "0s"
            [pool.{a}]
            command = "sleep 1000"
            workers = 2
            scale = {{ up_signal = 40, down_signal = 41 }}
            [pool.{b}]
            command = "sleep 1000"
            workers = 2
            scale = {{ up_signal = 42, down_signal = 43 }}
            "#
        )
    };
    let mut m = setup(&pools("a", "b")).arg("--trace").arg("trace").start().ready();
    // One pool grows and the other shrinks in the same turn, both ways round.
    m.held(|| [41, 42].map(|signal| m.signal(signal)));
    m.wait_count("a", 1);
    m.wait_count("b", 3);
    m.held(|| [40, 43].map(|signal| m.signal(signal)));
    m.wait_count("a", 2);
    m.wait_count("b", 2);
    let places = m.places(&["b scaled from 2 to 3", "a scaled from 2 to 1", "a scaled from 1 to 2", "b scaled from 3 to 2"]);
    assert!(rising(&places), "{places:?}");
    // A config in which one pool takes the place of another.
    m.rewrite(&pools("z", "b"));
    m.signal(libc::SIGHUP);
    m.log.wait_for("b all workers replaced", 1);
    m.wait_count("z", 2);
    assert_eq!(m.stop(), 0);
    assert_eq!(starts_come_first(&m, 2, 0), 1, "the reload has both");
}

#[test]
fn row_34_a_reload_never_has_fewer_workers_than_the_old_and_the_new_number() {
    let pool = |n: u32| format!("[pool.web]\ncommand = \"sleep 1000\"\nworkers = {n}\nready = \"delay:50ms\"\nsettle = \"0s\"\n");
    let mut m = setup(&pool(2)).start().ready();
    for (n, (from, to)) in [(2, 4), (4, 4), (4, 2)].into_iter().enumerate() {
        let old = m.wait_count("web", from);
        m.rewrite(&pool(u32::try_from(to).unwrap()));
        m.signal(libc::SIGHUP);
        // Old and new ones together: never fewer ready than both numbers ask for, never more than one beside them.
        let fewest = from.min(to) as u64;
        m.log.wait_until("the reload is through", || {
            let status = m.pool("web");
            let ready = status["ready"].as_u64().unwrap();
            assert!(ready >= fewest, "{ready} of {from} to {to}");
            (m.log.count("web all workers replaced") == n + 1).then_some(())
        });
        let new = m.wait_count("web", to);
        assert!(new.iter().all(|pid| !old.contains(pid)));
    }
}
