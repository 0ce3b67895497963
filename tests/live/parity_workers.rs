//! The prefork arbiter's behaviours, by their rows in the list of parity: how many workers there are, which ones, and when.

use super::support::*;

/// Ready workers by slot, with the time each was forked (clock ticks since boot).
fn forked_at(pids: &[i32]) -> Vec<u64> {
    pids.iter().map(|pid| proc_stat(*pid)[19].parse().unwrap()).collect()
}

#[test]
fn row_01_the_number_of_workers_is_kept_in_each_pool() {
    let mut m = setup(
        r#"
        [pool.a]
        command = "sleep 1000"
        workers = 3
        [pool.b]
        command = "sleep 1000"
        workers = 2
        "#,
    )
    .start()
    .ready();
    let (a, b) = (m.pids("a"), m.pids("b"));
    assert_eq!((a.len(), b.len()), (3, 2));
    for victim in &a {
        kill(*victim, libc::SIGKILL);
    }
    let new = m.log.wait_until("all three are replaced", || {
        let now = m.pids("a");
        (now.len() == 3 && now.iter().all(|pid| !a.contains(pid))).then_some(now)
    });
    assert_eq!(m.pids("b"), b, "the other pool is not touched");
    kill(b[1], libc::SIGTERM);
    m.log.wait_until("one of b is replaced", || {
        let now = m.pids("b");
        (now.len() == 2 && now[1] != b[1]).then_some(())
    });
    assert_eq!((m.pids("a"), m.pids("b")[0]), (new, b[0]));
    assert_eq!(m.stop(), 0);
}

#[test]
fn row_05_ttin_and_ttou_change_the_count_by_one_never_below_one() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\n").start().ready();
    m.signal(libc::SIGTTIN);
    m.wait_count("a", 3);
    m.signal(libc::SIGTTOU);
    m.wait_count("a", 2);
    m.signal(libc::SIGTTOU);
    let last = m.wait_count("a", 1);
    m.signal(libc::SIGTTOU);
    let told = m.log.wait_for("signals stop at 1", 1);
    assert!(told.contains("poolmaster scale a 0"), "{told}");
    assert_eq!(m.pids("a"), last);
}

#[test]
fn row_10_the_master_wakes_at_once_for_a_death_and_for_nothing_else() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\nsettle = \"0s\"\n").start().ready();
    let a = m.pids("a");
    // What came of the start is over: its log is written too.
    watch_for(m.pid(), std::time::Duration::from_millis(300));
    let before = switches(m.pid());
    watch_for(m.pid(), std::time::Duration::from_millis(300));
    assert_eq!(switches(m.pid()), before, "nothing happened, and yet it woke up");
    kill(a[0], libc::SIGKILL);
    // No request meanwhile: the death alone wakes it.
    let told = m.log.wait_for("killed by SIGKILL", 1);
    assert!(told.contains("restarting it now"), "{told}");
    m.log.wait_for("a:0 ready", 2);
}

#[test]
fn row_14_scaling_down_stops_the_oldest_first() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 3\n").start().ready();
    let first = m.pids("a");
    kill(first[0], libc::SIGKILL);
    let now = m.log.wait_until("slot 0 is young", || Some(m.pids("a")).filter(|p| p.len() == 3 && p[0] != first[0]));
    m.ok(&["scale", "a", "-1"]);
    assert_eq!(m.pids("a"), [now[0], now[2]], "slot 1 was the oldest");
    m.ok(&["scale", "a", "-1"]);
    assert_eq!(m.pids("a"), [now[0]], "slot 0 is the youngest");
}

#[test]
fn row_15_starts_are_spread_out_without_the_loop_standing_still() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 4\nspawn_interval = \"200ms\"\n").start();
    // The first worker is there, the others are yet to come: the master answers.
    m.log.wait_for("a:0 started", 1);
    let then = m.pool("a");
    assert!(then["live"].as_u64().unwrap() < 4, "{then}");
    let pids = m.wait_count("a", 4);
    let ticks = forked_at(&pids);
    for pair in ticks.windows(2) {
        // A tick is 10 ms; each end is cut down to a whole one.
        assert!(pair[1] - pair[0] >= 19, "{ticks:?}");
    }
}

#[test]
fn row_15_no_more_than_max_starting_start_at_a_time() {
    let m = setup(
        r#"
        [pool.a]
        command = "POOLMASTER worker --slow-start 300ms"
        ready = "notify"
        workers = 4
        max_starting = 2
        "#,
    )
    .start();
    m.log.wait_for("a:1 started", 1);
    let mut most = 0;
    m.log.wait_until("all are ready", || {
        let pool = m.pool("a");
        most = most.max(pool["live"].as_u64().unwrap() - pool["ready"].as_u64().unwrap());
        (pool["ready"] == 4).then_some(())
    });
    assert_eq!(most, 2);
    let ticks = forked_at(&m.pids("a"));
    assert!(ticks[2] - ticks[0] >= 29 && ticks[3] - ticks[1] >= 29, "{ticks:?}");
}

#[test]
fn row_16_the_count_is_told_whenever_it_changes() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\n").start().ready();
    m.log.wait_for("a 2 of 2 workers ready", 1);
    m.ok(&["scale", "a", "3"]);
    m.log.wait_for("a 3 of 3 workers ready", 1);
    m.ok(&["scale", "a", "1"]);
    m.log.wait_for("a 1 of 1 workers ready", 1);
    let pool = m.pool("a");
    assert_eq!((&pool["ready"], &pool["live"]), (&1.into(), &1.into()));
}

#[test]
fn row_31_a_signal_to_a_worker_that_is_gone_is_no_error() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\n").start().ready();
    let a = m.pids("a");
    let mut client = m.client();
    // While the master stands still its worker dies, and an order to stop that worker comes in.
    m.signal(libc::SIGSTOP);
    kill(a[0], libc::SIGKILL);
    client.send(b"{\"method\":\"scale\",\"parameters\":{\"pool\":\"a\",\"change\":\"0\"}}\n");
    m.signal(libc::SIGCONT);
    let reply = client.reply().unwrap();
    assert!(reply.get("error").is_none(), "{reply}");
    m.wait_count("a", 0);
    assert_eq!((m.log.count("ERROR"), m.log.count("cannot")), (0, 0), "{}", m.log.text());
    m.ok(&["scale", "a", "2"]);
    assert_eq!(m.pids("a").len(), 2);
}

#[test]
fn row_34_new_workers_start_before_surplus_ones_stop() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\nsettle = \"50ms\"\n").start().ready();
    let old = m.pids("a");
    m.signal(libc::SIGHUP);
    m.log.wait_until("both are replaced", || {
        let now = m.pids("a");
        (now.len() == 2 && now.iter().all(|pid| !old.contains(pid))).then_some(())
    });
    let lines = m.log.all();
    let at = |what: &str, n: usize| lines.iter().enumerate().filter(|(_, l)| l.contains(what)).nth(n).unwrap().0;
    // Lines 0 and 1 of each kind are the first start.
    assert!(at("a:0 ready", 1) < at("a:0 stopping", 0), "{}", m.log.text());
    assert!(at("a:1 ready", 1) < at("a:1 stopping", 0), "{}", m.log.text());
    // One at a time: the second new one starts when the first old one is on its way out.
    assert!(at("a:0 stopping", 0) < at("a:1 started", 1), "{}", m.log.text());
}
