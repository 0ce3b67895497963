//! The order between pools (`after`) and within one (`max_starting`, `spawn_interval`), as the processes themselves see it.

use std::time::{Duration, Instant};

use super::support::*;

/// A worker that writes down when it starts and when it is told to stop, and takes part of a second to stop only when `gate` opens.
fn chain(extra: &str) -> String {
    let pool = |name: &str, after: &str| {
        format!(
            "[pool.{name}]\n\
             command = [\"sh\", \"-c\", '''trap 'echo {name} told >>DIR/diary; read x <DIR/{name}.gate; echo {name} ends >>DIR/diary; exit 0' TERM; \
             echo {name} starts >>DIR/diary; while :; do read y <DIR/never; done''']\n\
             ready = \"notify\"\nafter = [{after}]\n{extra}\n"
        )
    };
    // Not in the order in which they have to start.
    [pool("jobs", "\"web\""), pool("web", "\"db\", \"cache\""), pool("db", ""), pool("cache", "")].concat()
}

fn diary(m: &Master) -> Vec<String> {
    let text = std::fs::read_to_string(m.setup.path("diary")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_diary(m: &Master, line: &str) {
    m.log.wait_until(&format!("{line:?} in the diary"), || diary(m).iter().any(|l| l == line).then_some(()));
}

fn gates(s: &Setup) {
    for name in ["never", "jobs.gate", "web.gate", "db.gate", "cache.gate"] {
        gate(&s.path(name));
    }
}

fn says_ready(m: &Master, pool: &str) {
    wait_diary(m, &format!("{pool} starts"));
    Notifier::of(m.wait_state(pool, 0, "starting")).send(b"READY=1");
    m.log.wait_for(&format!("{pool}:0 ready after"), 1);
}

#[test]
fn pools_start_after_those_they_name_and_stop_before_them() {
    let s = setup(&chain(""));
    gates(&s);
    let mut m = s.start();
    says_ready(&m, "db");
    wait_diary(&m, "cache starts");
    // One of the two that it names is not enough.
    assert_eq!(m.pool("web")["phase"], "waiting");
    assert_eq!(m.pool("web")["why"], "waits for db, cache");
    says_ready(&m, "cache");
    says_ready(&m, "web");
    assert_eq!(m.log.count("ready: "), 0);
    says_ready(&m, "jobs");
    m.log.wait_for("ready: 4 pools, 4 workers", 1);

    m.signal(libc::SIGTERM);
    for (pool, still) in [("jobs", "web"), ("web", "db")] {
        wait_diary(&m, &format!("{pool} told"));
        m.ok(&["status"]);
        // As long as it drains, those that it needs are not even told.
        assert_eq!(m.log.count(&format!("{still}:0 stopping with")), 0, "{}", m.log.text());
        open_gate(&m.setup.path(&format!("{pool}.gate")));
    }
    wait_diary(&m, "db told");
    wait_diary(&m, "cache told");
    open_gate(&m.setup.path("db.gate"));
    open_gate(&m.setup.path("cache.gate"));
    assert_eq!(m.ends(), 0);
    let diary = diary(&m);
    let at = |line: &str| diary.iter().position(|l| l == line).unwrap_or_else(|| panic!("{line} is missing in {diary:?}"));
    for (first, then) in [
        ("db starts", "web starts"),
        ("cache starts", "web starts"),
        ("web starts", "jobs starts"),
        ("jobs ends", "web told"),
        ("web ends", "db told"),
        ("web ends", "cache told"),
    ] {
        assert!(at(first) < at(then), "{first}, {then}: {diary:?}");
    }
    assert_eq!(diary.len(), 12, "each started once, was told once, ended once: {diary:?}");
}

#[test]
fn a_quick_stop_waits_for_no_order() {
    let s = setup(&chain("quick_signal = \"KILL\""));
    gates(&s);
    let mut m = s.start();
    for pool in ["db", "cache", "web", "jobs"] {
        says_ready(&m, pool);
    }
    m.signal(libc::SIGINT);
    assert_eq!(m.ends(), 0);
    assert_eq!(diary(&m).len(), 4, "nobody had time to write: {:?}", diary(&m));
}

#[test]
fn started_together_by_an_operator_pools_still_wait_for_each_other() {
    let s = setup(&chain("graceful_timeout = \"100ms\""));
    gates(&s);
    let m = s.start();
    for pool in ["db", "cache", "web", "jobs"] {
        says_ready(&m, pool);
    }
    m.ok(&["stop", "all"]);
    assert!(["db", "cache", "web", "jobs"].iter().all(|p| m.all_pids(p).is_empty()));
    std::fs::remove_file(m.setup.path("diary")).unwrap();
    m.code(5, &["start", "all", "--timeout", "100ms"]);
    wait_diary(&m, "db starts");
    wait_diary(&m, "cache starts");
    assert_eq!((&m.pool("web")["phase"], &m.pool("jobs")["phase"]), (&"waiting".into(), &"waiting".into()));
    for pool in ["cache", "db"] {
        Notifier::of(m.wait_state(pool, 0, "starting")).send(b"READY=1");
    }
    wait_diary(&m, "web starts");
    assert!(!diary(&m).contains(&"jobs starts".to_owned()));
}

#[test]
fn max_starting_is_the_most_that_start_at_once() {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\nworkers = 5\nready = \"notify\"\nmax_starting = 2\n").start();
    let mut ready = 0;
    for wave in 1..=5 {
        // Each that gets ready makes room for one more, until all are there.
        let most = (ready + 2).min(5);
        m.log.wait_for(" started (pid", most);
        let status = m.pool("web");
        assert_eq!((&status["live"], &status["starting"]), (&most.into(), &(most - ready).into()), "wave {wave}");
        let next =
            status["workers"].as_array().unwrap().iter().find(|w| w["state"] == "starting").unwrap()["pid"].as_i64().unwrap();
        Notifier::of(i32::try_from(next).unwrap()).send(b"READY=1");
        ready += 1;
        m.log.wait_for(" ready after", ready);
    }
    m.log.wait_for("ready: 1 pool, 5 workers", 1);
}

/// When the kernel started a process, since boot; in steps of 10 ms.
fn started(pid: i32) -> Duration {
    // SAFETY: no memory is involved.
    let ticks = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap();
    Duration::from_millis(proc_stat(pid)[19].parse::<u64>().unwrap() * 1000 / ticks)
}

#[test]
fn spawn_interval_lies_between_starts_and_makes_nobody_deaf() {
    let m = setup(
        "[pool.web]\ncommand = \"sleep 1000\"\nworkers = 4\nspawn_interval = \"250ms\"\n[pool.other]\ncommand = \"sleep 1000\"\nworkers = 4\n",
    )
    .start();
    m.log.wait_for("other:3 started", 1);
    // While it holds back, orders are taken and answered.
    let asked = Instant::now();
    m.ok(&["scale", "other", "+1"]);
    let took = asked.elapsed();
    assert!(
        m.log.count("web:3 started") == 0 || took > Duration::from_millis(700),
        "scale waited for the starts of another pool"
    );
    let pids = m.wait_count("web", 4);
    let times: Vec<Duration> = pids.iter().map(|p| started(*p)).collect();
    for pair in times.windows(2) {
        let gap = pair[1].checked_sub(pair[0]).unwrap_or_default();
        assert!(gap >= Duration::from_millis(240), "{times:?}");
    }
    // It holds for respawns as well: all killed at once are not all back at once.
    for pid in &pids {
        kill(*pid, libc::SIGKILL);
    }
    m.log.wait_for("web:3 started", 2);
    let mut again: Vec<Duration> = m.wait_count("web", 4).iter().map(|p| started(*p)).collect();
    again.sort();
    assert!(again.windows(2).all(|p| p[1] - p[0] >= Duration::from_millis(240)), "{again:?}");
}
