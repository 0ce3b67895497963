//! Workers of an old config and of a new one beside each other: each lives by its own.

use super::support::*;

/// A worker that tells of the signals it gets, and ends of QUIT alone.
const STUBBORN: &str =
    "trap 'echo got TERM >&2' TERM; trap 'echo got INT >&2' INT; trap 'exit 0' QUIT; while :; do sleep 0.02; done";

/// The pool `a` of these workers, with these lines, for a config that differs from the one before by more than live keys.
fn pool(mark: u32, more: &str) -> String {
    format!(
        "[pool.a]\ncommand = [\"sh\", \"-c\", \"{STUBBORN}\"]\nready = \"exec\"\nsettle = \"20ms\"\nenv.MARK = \"{mark}\"\n{more}\n"
    )
}

#[test]
fn a_stop_in_steps_goes_by_the_config_that_the_worker_was_started_from() {
    let mut m = setup(&pool(1, "stop_sequence = [\"TERM\", \"300ms\", \"INT\", \"300ms\"]")).start().ready();
    let old = m.wait_state("a", 0, "good");
    m.rewrite(&pool(2, "stop_sequence = [\"INT\", \"200ms\", \"QUIT\", \"10s\"]"));
    m.ok(&["reload"]);
    wait_gone(old, std::time::Instant::now() + PATIENCE);
    let steps = ["stopping with SIGTERM: replaced", "sending SIGINT", "sending SIGKILL"];
    m.log.assert_order(&["config 2 in force", steps[0], steps[1], steps[2]]);
    assert!(!m.log.text().contains("SIGQUIT"), "{}", m.log.text());
    assert_eq!(m.stop(), 0);
    m.log.assert_order(&["stopping with SIGINT: shutdown", "sending SIGQUIT", "exited with code 0"]);
}

#[test]
fn readiness_and_health_go_by_the_config_that_the_worker_was_started_from() {
    let old = "workers = 2\nrollout.max_surge = 1\nrestart.backoff.first = \"0ms\"";
    let mut m = setup(&pool(1, old)).start().ready();
    let first = m.wait_state("a", 1, "good");
    m.wait_state("a", 0, "good");
    // Ready later, good much later.
    m.rewrite(&pool(2, old).replace("ready = \"exec\"\nsettle = \"20ms\"", "ready = \"delay:1s\"\nsettle = \"1s\""));
    m.ok(&["reload", "--no-wait"]);
    m.log.wait_for("trying it with a canary in a", 1);
    kill(first, libc::SIGKILL);
    let workers = |m: &Master| {
        let status = m.request(r#"{"method":"status","parameters":{"workers":true}}"#);
        status["parameters"]["pools"][0]["workers"].as_array().unwrap().clone()
    };
    // What comes in its place is of the old config, ready at once and good soon, while the canary beside it is neither.
    m.log.wait_until("an old one is good beside the canary", || {
        let all = workers(&m);
        let of = |revision: u64| all.iter().filter(move |w| w["revision"] == revision);
        let new = of(2).all(|w| w["state"] == "starting") && of(2).count() == 1;
        let again = of(1).any(|w| w["slot"] == 1 && w["generation"] == 2 && w["state"] == "good");
        (new && again).then_some(())
    });
    m.log.wait_for("reload done", 1);
    let (from, to) = (m.log.at("trying it with a canary"), m.log.at("config 2 in force"));
    let time = |at: usize| humantime::parse_rfc3339(m.log.all()[at].split(' ').next().unwrap()).unwrap();
    let took = time(to).duration_since(time(from)).unwrap();
    assert!(
        took >= std::time::Duration::from_secs(2),
        "a canary is good after a second to get ready and one to settle: {took:?}"
    );
    m.cli(&["shutdown", "--now"]);
    assert_eq!(m.wait().code(), Some(0));
}

#[test]
fn silence_is_judged_by_the_config_that_the_worker_was_started_from() {
    let silent = |within: &str| format!("timeout = \"{within}\"\ntimeout_from = \"ready\"\nabort_grace = \"200ms\"");
    let mut m = setup(&pool(1, &silent("1m"))).start().ready();
    let old = m.wait_state("a", 0, "good");
    // The canary is watched closely, and not the worker that it stands beside.
    m.rewrite(&pool(2, &silent("300ms")).replace("settle = \"20ms\"", "settle = \"5s\""));
    let said = m.code(3, &["reload"]);
    assert!(said.contains("lost its heartbeat") && said.contains("config 1 stays in force"), "{said}");
    assert_eq!(m.log.count("no heartbeat for"), 1, "{}", m.log.text());
    assert_eq!(m.pids("a"), [old]);
    m.cli(&["shutdown", "--now"]);
    assert_eq!(m.wait().code(), Some(0));
}
