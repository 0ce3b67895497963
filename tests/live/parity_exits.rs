//! Workers that hang, cannot boot or end, and the end of the master: rows 11, 12, 17, 32 and 35 of the parity table. Row 13 is in
//! `faults_log`, row 27 in `faults_panic`.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::support::*;

#[test]
fn row_11_a_silent_worker_gets_abrt_then_kill_and_timeout_0_switches_it_off() {
    let m = setup(
        r#"
        [defaults]
        settle = "0s"
        [pool.web]
        command = "POOLMASTER worker --hang-after 600ms"
        timeout = "400ms"
        [pool.deaf]
        command = ["sh", "-c", "trap '' ABRT; exec sleep 1000"]
        timeout = "400ms"
        abort_grace = "200ms"
        [pool.off]
        command = "sleep 1000"
        timeout = "0s"
        [pool.silent]
        command = "sleep 1000"
        timeout = "400ms"
        "#,
    )
    .start()
    .ready();
    let [web, deaf, off, silent] = ["web", "deaf", "off", "silent"].map(|pool| m.pids(pool)[0]);
    for pid in [deaf, off] {
        Notifier::of(pid).send(b"WATCHDOG=1");
    }
    let beaten = Instant::now();
    let told = m.log.wait_for("deaf:0 no heartbeat for 400ms (timeout): sending SIGABRT, then SIGKILL", 1);
    assert!(told.contains(&format!("pid {deaf}")), "{told}");
    assert!(beaten.elapsed() >= Duration::from_millis(390), "not before its time: {:?}", beaten.elapsed());
    assert!(m.log.wait_for("deaf:0 still there after 2", 1).contains("sending SIGKILL"));
    m.log.wait_for("deaf:0 killed by SIGKILL", 1);
    m.log.wait_for("deaf:0 started", 2);
    // As long as the sample worker beats it is left alone; once it hangs, ABRT is enough.
    m.log.wait_for("web:0 no heartbeat for 400ms (timeout)", 1);
    let end = m.log.wait_for("web:0 killed by SIGABRT", 1);
    assert!(end.contains(&format!("pid {web}")) && end.contains("heartbeat"), "{end}");
    let age = end.split(" after ").nth(1).and_then(|rest| rest.split_once("ms")?.0.parse::<u64>().ok());
    assert!(age.is_none_or(|ms| ms >= 600), "it beat for 600 ms: {end}");
    m.log.wait_for("web:0 started", 2);
    assert_eq!(m.log.count("web:0 still there"), 0);
    // One that is not watched, and one that never began to beat.
    assert_eq!((m.pids("off"), m.pids("silent")), (vec![off], vec![silent]));
    assert!(!environ(off).contains_key("WATCHDOG_USEC"));
    assert_eq!(m.worker("off", 0)["heartbeat_timeout_ms"], serde_json::Value::Null);
}

/// A master beside whose healthy workers one pool cannot boot: its exit code, its log, and how often it tried.
fn cannot_boot(command: &str) -> (Option<i32>, Master) {
    let mut m = setup(&format!(
        r#"
        [pool.healthy]
        command = ["sh", "-c", "trap 'echo stopped gracefully; exit 0' TERM; echo up; while :; do sleep 0.05; done"]
        workers = 2
        [pool.app]
        {command}
        workers = 3
        required = true
        after = ["healthy"]
        "#
    ))
    .start();
    m.out.wait_for("up", 2);
    std::fs::write(m.setup.path("go"), "").unwrap();
    let code = m.wait().code();
    m.log.wait_for("stopped: ", 1);
    m.out.wait_for("stopped gracefully", 2);
    m.assert_nothing_left();
    (code, m)
}

#[test]
fn row_12_a_worker_that_cannot_boot_ends_the_master_with_3_instead_of_restarting_for_ever() {
    let wait = "while [ ! -e DIR/go ]; do sleep 0.02; done";
    let (code, m) = cannot_boot(&format!(r#"command = ["sh", "-c", "{wait}; echo no such table >&2; exit 3"]"#));
    assert_eq!(code, Some(3));
    assert_eq!(m.log.count("app:0 started"), 1, "never a second time");
    assert_eq!(m.log.count("(restart.policy"), 0, "which is not the reason");
    m.log.wait_for("app failed: its first workers cannot boot: exited with code 3", 1);
    assert!(m.log.wait_for("stopped: required pool app failed", 1).contains("exit code 3"));
}

#[test]
fn row_12_an_app_that_cannot_be_loaded_ends_the_master_with_4() {
    let wait = "while [ ! -e DIR/go ]; do sleep 0.02; done";
    let (code, m) = cannot_boot(&format!(r#"command = ["sh", "-c", "{wait}; exit 4"]"#));
    assert_eq!(code, Some(4));
    assert!(m.log.wait_for("stopped: required pool app failed", 1).contains("exit code 4"));
    assert_eq!(m.log.count("restarting it"), 0);
}

#[test]
fn row_12_once_a_worker_was_good_the_same_codes_are_a_matter_of_the_pool() {
    let m = setup(
        r#"
        [pool.app]
        command = ["sh", "-c", "[ -e DIR/broken ] && exit 3; while [ ! -e DIR/crash ]; do sleep 0.02; done; rm DIR/crash; exit 4"]
        required = true
        settle = "100ms"
        restart = { budget = { failures = 3, within = "60s" }, backoff = { base = "50ms", max = "50ms" } }
        [pool.other]
        command = "sleep 1000"
        "#,
    )
    .start()
    .ready();
    m.log.wait_until("it is good", || (m.worker("app", 0)["state"] == "good").then_some(()));
    let other = m.pids("other");
    std::fs::write(m.setup.path("broken"), "").unwrap();
    std::fs::write(m.setup.path("crash"), "").unwrap();
    m.log.wait_for("app:0 exited with code 4", 1);
    m.log.wait_for("app backing off: 3 early deaths", 1);
    m.log.wait_for("app:0 exited with code 3", 5);
    assert_eq!((&m.pool("app")["phase"], m.pids("other")), (&"backing-off".into(), other));
    // And it comes back by itself.
    std::fs::remove_file(m.setup.path("broken")).unwrap();
    m.log.wait_for("app a probe is good: back to normal", 1);
    m.wait_count("app", 1);
}

#[test]
fn row_17_the_pid_file_is_held_kept_across_reloads_and_removed() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n").master("pidfile = \"DIR/pm.pid\"").start().ready();
    let path = m.setup.path("pm.pid");
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), m.pid().to_string());
    let file = std::fs::metadata(&path).unwrap().ino();
    // Another master, under another name, wants the same pid file.
    let mut other = setup("[pool.a]\ncommand = \"sleep 1000\"\n").master(&format!("pidfile = \"{}\"", path.display())).start();
    assert_eq!(other.wait().code(), Some(1));
    let told = other.log.wait_for("pid file", 1);
    assert!(told.contains(&m.pid().to_string()), "{told}");
    let old = m.pids("a");
    m.signal(libc::SIGHUP);
    m.log.wait_until("it is replaced", || Some(m.pids("a")).filter(|p| p.len() == 1 && *p != old));
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), file, "the very same file");
    assert_eq!(m.stop(), 0);
    assert!(!path.exists());
    // A stale one is taken over.
    std::fs::write(&path, format!("{}\n", m.pid())).unwrap();
    let mut next =
        setup("[pool.a]\ncommand = \"sleep 1000\"\n").master(&format!("pidfile = \"{}\"", path.display())).start().ready();
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), next.pid().to_string());
    assert_eq!(next.stop(), 0);
}

#[test]
fn row_32_the_worker_is_told_how_often_to_beat_and_the_master_hears_that_it_booted() {
    let m = setup(
        r#"
        [pool.web]
        command = "POOLMASTER worker --slow-start 200ms"
        ready = "notify"
        timeout = "1s"
        settle = "0s"
        "#,
    )
    .start()
    .ready();
    let ready = m.log.wait_for("web:0 ready after ", 1);
    let pid = m.pids("web")[0];
    assert!(!ready.contains("ready after 0ms"), "it is the worker that says so: {ready}");
    let env = environ(pid);
    assert_eq!((env["WATCHDOG_USEC"].as_str(), env["WATCHDOG_PID"].clone()), ("1000000", pid.to_string()));
    assert_eq!(m.worker("web", 0)["heartbeat_timeout_ms"], 1000);
    // It beats twice in that time: over two seconds its last beat is never a whole second old.
    let (start, mut beats, mut last) = (Instant::now(), 0, u64::MAX);
    while start.elapsed() < Duration::from_millis(2100) {
        m.log.wait_until("a moment", || (m.worker("web", 0)["beat_ago_ms"].as_u64()? != last).then_some(()));
        let ago = m.worker("web", 0)["beat_ago_ms"].as_u64().unwrap();
        assert!(ago < 1000, "{ago} ms ago");
        beats += u32::from(ago < last);
        last = ago;
    }
    assert!((3..=7).contains(&beats), "{beats} beats in 2.1 s");
    assert_eq!(m.pids("web"), [pid]);
}

#[test]
fn row_32_a_worker_that_cannot_boot_tells_its_cause() {
    for (flag, code, cause) in [("--fail-boot", 3, "failed to boot"), ("--fail-load", 4, "cannot be loaded")] {
        let mut m = setup(&format!("[pool.web]\ncommand = \"POOLMASTER worker {flag}\"\n")).start();
        assert_eq!(m.wait().code(), Some(code));
        m.log.wait_for("stopped: ", 1);
        let log = m.log.all();
        // As it is written, and again in the report of its end.
        assert!(log.iter().any(|l| l.starts_with("web:0 | ") && l.contains(cause)), "{}", m.log.text());
        let report = log.iter().position(|l| l.contains("web:0 its last line of output")).expect("a report");
        assert!(log.iter().position(|l| l.contains("web:0 started")).unwrap() < report, "{}", m.log.text());
        assert!(log[report..].iter().any(|l| !l.starts_with("web:0 | ") && l.contains(cause)), "{}", m.log.text());
    }
}

#[test]
fn row_35_the_log_says_who_stopped_it_why_and_the_code() {
    let pools = "[pool.web]\ncommand = \"sleep 1000\"\n";
    let us = std::process::id();
    // SAFETY: no memory is involved.
    let uid = unsafe { libc::geteuid() };
    for (signal, name, how) in [(libc::SIGTERM, "SIGTERM", "gracefully"), (libc::SIGINT, "SIGINT", "quickly")] {
        let mut m = setup(pools).start().ready();
        m.signal(signal);
        assert_eq!(m.wait().code(), Some(0));
        m.log.wait_for(&format!("shutting down ({how}): {name} from pid {us} (uid {uid})"), 1);
        m.log.wait_for(&format!("stopped: {name} from pid {us} (uid {uid}); exit code 0"), 1);
    }
    let mut m = setup(pools).start().ready();
    m.ok(&["shutdown"]);
    assert_eq!(m.wait().code(), Some(0));
    let ordered = m.log.wait_for("shutting down (gracefully): shutdown ordered by pid ", 1);
    let pid = ordered.rsplit("pid ").next().unwrap();
    assert!(m.log.wait_for("stopped: ", 1).contains(&format!("shutdown ordered by pid {pid}; exit code 0")), "{ordered}");
    m.log.wait_for(&format!("shutdown, asked by pid {pid}"), 1);

    // Nobody ordered it: by its own verdict.
    let mut m = setup("[pool.jobs]\ncommand = \"true\"\nrestart = { policy = \"on-failure\" }\n").start();
    assert_eq!(m.wait().code(), Some(0));
    m.log.wait_for("stopped: every pool is completed; exit code 0", 1);
    let mut m = setup("[pool.jobs]\ncommand = \"false\"\nrestart = { policy = \"never\" }\n").start();
    assert_eq!(m.wait().code(), Some(1));
    m.log.wait_for("jobs:0 exited with code 1 after ", 1);
    assert_eq!(m.log.count("not restarted (restart.policy)"), 1);
    let told = m.log.wait_for("stopped: no pool is left; pool jobs failed: ", 1);
    assert!(told.contains("ERROR") && told.contains("exit code 1"), "{told}");
}
