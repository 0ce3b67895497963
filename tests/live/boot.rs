//! Pools that cannot boot: the master's verdict, its exit code and its last words; and that nobody else is harmed by them.

use super::support::*;

/// The last lines of the log of a master that has ended.
fn last_words(m: &Master) -> String {
    let log = m.log.all();
    log[log.len().saturating_sub(2)..].join("\n")
}

#[test]
fn a_pool_that_cannot_boot_ends_the_master_with_its_code_and_its_cause() {
    let quick = "restart = { backoff = { first = \"0s\", base = \"1ms\", max = \"2ms\" }, budget = { failures = 3, within = \"60s\" } }\n";
    for (pool, code, tries, cause) in [
        ("command = \"POOLMASTER worker --fail-boot\"\n", 3, 1, "exited with code 3"),
        ("command = \"POOLMASTER worker --fail-load\"\n", 4, 1, "exited with code 4"),
        ("command = \"DIR/absent --port 1\"\n", 3, 0, "cannot execute \"DIR/absent\""),
        // A text file without the right to be executed.
        ("command = \"DIR/pools.toml\"\n", 3, 0, "cannot execute \"DIR/pools.toml\""),
        // Neither code nor missing program: the budget decides.
        ("command = [\"sh\", \"-c\", \"exit 1\"]\n", 3, 3, "3 early deaths within 1m 0s"),
        ("command = [\"sh\", \"-c\", \"kill -SEGV $$\"]\n", 3, 3, "killed by SIGSEGV"),
        ("command = [\"sh\", \"-c\", \"exit 0\"]\n", 3, 3, "3 early deaths within 1m 0s"),
        // 3 and 4 have a meaning only as long as the config says so.
        ("command = [\"sh\", \"-c\", \"exit 3\"]\nboot_error_codes = []\n", 3, 3, "exited with code 3"),
        ("command = [\"sh\", \"-c\", \"exit 42\"]\nboot_error_codes = [42]\n", 3, 1, "exited with code 42"),
        ("command = \"sleep 1000\"\nworking_dir = \"DIR/absent\"\n", 3, 0, "DIR/absent"),
        ("command = \"sleep 1000\"\nready = \"notify\"\nstart_timeout = \"50ms\"\n", 3, 3, "3 early deaths within 1m 0s"),
    ] {
        let mut m = setup(&format!("[pool.web]\n{pool}{quick}")).start();
        let cause = cause.replace("DIR", &m.setup.dir.path().display().to_string());
        assert_eq!(m.ends(), code, "{pool}");
        m.log.wait_for("poolmaster: ", 1);
        assert_eq!(m.log.count("web:0 started"), tries, "{pool}{}", m.log.text());
        let words = last_words(&m);
        assert!(words.contains("no pool is left; pool web failed: ") && words.contains(&cause), "{pool}{words}");
        let meaning = if code == 4 { "a worker could not load its app" } else { "a worker could not boot" };
        assert!(words.ends_with(&format!("poolmaster: {meaning} (exit code {code})")), "{pool}{words}");
        assert_eq!(m.log.count("restart.policy"), 0, "the policy is not why it is not started again: {}", m.log.text());
        m.assert_nothing_left();
    }
}

#[test]
fn the_cause_that_a_worker_prints_is_in_the_log() {
    let mut m = setup("[pool.web]\ncommand = [\"sh\", \"-c\", \"echo cannot import name app >&2; exit 4\"]\n").start();
    assert_eq!(m.ends(), 4);
    m.log.assert_order(&[
        "web:0 its last line of output",
        "    cannot import name app",
        "web:0 exited with code 4",
        "web failed",
    ]);
}

#[test]
fn a_required_pool_that_cannot_boot_stops_the_others_gracefully() {
    let s = setup(
        r#"
        [pool.fine]
        command = ["sh", "-c", "trap 'echo goodbye >&2; exit 0' TERM; echo up >&2; while :; do read x <DIR/never; done"]
        [pool.other]
        command = ["sh", "-c", "exit 3"]
        [pool.web]
        command = ["sh", "-c", "read x <DIR/gate; exit 4"]
        required = true
        "#,
    );
    gate(&s.path("gate"));
    gate(&s.path("never"));
    let mut m = s.start();
    m.log.wait_for("fine:0 | up", 1);
    m.log.wait_for("other failed: ", 1);
    let fine = m.pids("fine")[0];
    open_gate(&m.setup.path("gate"));
    assert_eq!(m.ends(), 4, "its own code, not that of another pool");
    assert!(!is_alive(fine));
    m.log.assert_order(&[
        "other failed",
        "web failed: its first workers cannot boot: exited with code 4",
        "shutting down (gracefully): required pool web failed",
        "fine:0 stopping with SIGTERM: shutdown",
        "fine:0 | goodbye",
        "stopped: required pool web failed",
    ]);
    m.log.wait_for("fine:0 exited with code 0", 1);
}

#[test]
fn a_pool_that_cannot_boot_harms_no_other_until_none_is_left() {
    let mut m = setup(
        r#"
        [pool.web]
        command = "POOLMASTER worker"
        listen = "unix:DIR/web.sock"
        workers = 2
        settle = "0s"
        [pool.bad]
        command = ["sh", "-c", "exit 4"]
        ready = "notify"
        [pool.absent]
        command = "DIR/absent 1000"
        [pool.behind]
        command = "sleep 1000"
        after = ["bad"]
        "#,
    )
    .start();
    m.log.wait_for("bad failed: ", 1);
    m.log.wait_for("absent failed: ", 1);
    let web = m.wait_count("web", 2);
    assert_eq!((m.pool("bad")["phase"].as_str(), m.pool("behind")["phase"].as_str()), (Some("failed"), Some("failed")));
    let status = m.ok(&["status"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(status.contains("its first workers cannot boot: exited with code 4"), "{status}");
    assert!(
        status.contains("`poolmaster start bad` tries again") && status.contains("it is to start after bad, which failed"),
        "{status}"
    );
    let sick = m.code(1, &["health"]);
    assert!(sick.contains("not well: bad, absent"), "{sick}");
    m.ok(&["health", "web"]);
    m.ok(&["scale", "web", "+1"]);
    m.ok(&["scale", "web", "-1"]);
    m.log.wait_for("asked by", 2);
    assert_eq!(m.log.count("web:0 started") + m.log.count("web:1 started"), 2, "{}", m.log.text());
    assert!(web.iter().any(|pid| is_alive(*pid)));
    // The program comes, and an order gives the pool another chance.
    std::os::unix::fs::symlink("/bin/sleep", m.setup.path("absent")).unwrap();
    let words = m.code(1, &["start", "bad"]);
    assert!(words.contains("exited with code 4"), "{words}");
    m.ok(&["start", "absent"]);
    m.wait_count("absent", 1);
    assert_eq!(m.pids("web").len(), 2);
    assert_eq!(m.stop(), 0, "an operator's stop is no failure: {}", m.log.text());
}

#[test]
fn several_pools_that_cannot_boot_end_the_master_with_the_gravest_code() {
    let mut m = setup(
        "[pool.a]\ncommand = [\"sh\", \"-c\", \"exit 3\"]\n[pool.b]\ncommand = [\"sh\", \"-c\", \"exit 4\"]\nready = \"notify\"\n\
         [pool.c]\ncommand = \"sleep 1000\"\nafter = [\"b\"]\n[pool.d]\ncommand = \"sleep 1000\"\nafter = [\"c\"]\n",
    )
    .start();
    assert_eq!(m.ends(), 4);
    assert_eq!(m.log.count("c:0 started") + m.log.count("d:0 started"), 0, "what waits for it in vain is never started");
}

#[test]
fn with_boot_retry_a_pool_probes_until_what_it_waits_for_is_there() {
    let m = setup(
        r#"
        [pool.web]
        command = ["sh", "-c", "test -e DIR/database || exit 3; exec sleep 1000"]
        workers = 3
        boot = "retry"
        settle = "100ms"
        restart = { backoff = { first = "0s", base = "30ms", max = "60ms" }, budget = { failures = 3, within = "60s" } }
        [pool.absent]
        command = "DIR/program 1000"
        boot = "retry"
        settle = "100ms"
        restart = { backoff = { first = "0s", base = "30ms", max = "60ms" }, budget = { failures = 2, within = "60s" } }
        [pool.fine]
        command = "sleep 1000"
        "#,
    )
    .start();
    m.log.wait_for("web backing off: 3 early deaths", 1);
    m.log.wait_for("absent backing off: 2 early deaths", 1);
    let fine = m.wait_count("fine", 1);
    // One probe at a time, not all three workers.
    m.log.wait_for("web:0 exited with code 3", 9);
    let others = m.log.count("web:1 started") + m.log.count("web:2 started");
    assert!(others <= 4, "before it backed off: two, and two more; {others} in\n{}", m.log.text());
    assert_eq!(m.pool("web")["phase"], "backing-off");
    std::fs::write(m.setup.path("database"), "").unwrap();
    std::os::unix::fs::symlink("/bin/sleep", m.setup.path("program")).unwrap();
    for pool in ["web", "absent"] {
        m.log.wait_for(&format!("{pool} a probe is good: back to normal"), 1);
    }
    m.wait_count("web", 3);
    m.wait_count("absent", 1);
    assert_eq!(m.pids("fine"), fine);
    assert_eq!(m.log.count("failed: "), 0);
}

#[test]
fn a_boot_error_code_later_in_life_is_an_exit_like_any_other() {
    let m = setup(
        r#"
        [pool.web]
        command = "POOLMASTER worker --exit-after 300ms:3"
        settle = "50ms"
        [pool.early]
        command = ["sh", "-c", "test -e DIR/broken && exit 3; exec sleep 1000"]
        settle = "50ms"
        restart = { backoff = { first = "0s", base = "20ms", max = "40ms" }, budget = { failures = 3, within = "60s" } }
        "#,
    )
    .start();
    m.log.wait_for("web:0 exited with code 3", 2);
    m.log.wait_for("web:0 ready after", 3);
    assert_eq!(m.pool("web")["phase"], "running");
    assert_eq!(m.log.count("web:0 exited with code 3 after"), m.log.count("restarting it now"));
    // Even one that dies before it is good fails no pool that had a good worker once.
    let early = m.wait_state("early", 0, "good");
    std::fs::write(m.setup.path("broken"), "").unwrap();
    kill(early, libc::SIGKILL);
    m.log.wait_for("early backing off: 3 early deaths", 1);
    std::fs::remove_file(m.setup.path("broken")).unwrap();
    m.log.wait_for("early a probe is good", 1);
    assert_eq!(m.log.count("failed: "), 0);
}

#[test]
fn finite_jobs_that_end_well_end_the_master_with_0_and_badly_with_1() {
    for (exits, code, words) in [("0", 0, "every pool is completed"), ("1", 1, "1 of its 2 jobs ended badly")] {
        let mut m = setup(&format!(
            "[pool.jobs]\ncommand = [\"sh\", \"-c\", \"test {{slot}} = 0 || exit {exits}\"]\nworkers = 2\n\
             restart = {{ policy = \"never\" }}\n"
        ))
        .start();
        assert_eq!(m.ends(), code);
        m.log.wait_for(words, 1);
        m.log.wait_for("not restarted (restart.policy)", 2);
        assert_eq!(m.log.count("WARN"), usize::from(code == 1), "a job that is done is nothing to warn of: {}", m.log.text());
    }
}

#[test]
fn exit_when_never_keeps_a_master_whose_pools_all_failed() {
    let mut m = setup("[pool.web]\ncommand = \"DIR/absent 1000\"\nrequired = true\n").master("exit_when = \"never\"").start();
    m.log.wait_for("web failed: ", 1);
    std::os::unix::fs::symlink("/bin/sleep", m.setup.path("absent")).unwrap();
    m.code(0, &["start", "web"]);
    m.wait_count("web", 1);
    assert_eq!(m.stop(), 0);
}
