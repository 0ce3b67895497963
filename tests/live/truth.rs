//! What verbs, tables, the log and whoever started the master are told is so at that moment.

use super::support::*;

/// It runs, and is gone a moment later.
const MAYFLY: &str = "[pool.web]\ncommand = [\"sh\", \"-c\", \"sleep 0.01; exit 1\"]\nready = \"exec\"\nboot = \"retry\"\n\
                      restart.budget.failures = 3\nrestart.backoff.base = \"50ms\"\n[pool.calm]\ncommand = \"sleep 1000\"\n";

#[test]
fn a_program_that_dies_at_once_is_never_called_ready() {
    let after = "[pool.behind]\ncommand = \"sleep 1000\"\nafter = [\"web\"]\n";
    let mut m = setup(&format!("{MAYFLY}{after}")).start();
    m.log.wait_for("calm 1 of 1 worker ready", 1);
    m.code(1, &["scale", "web", "+1"]);
    m.code(1, &["start", "web"]);
    m.code(5, &["wait", "web", "--for", "ready", "--timeout", "1500ms"]);
    m.code(1, &["retry", "web"]);
    assert!(m.pool("behind")["phase"] == "waiting" && m.pool("web")["ready"] == 0);
    assert_eq!(m.log.count("web 1 of") + m.log.count("web 2 of") + m.log.count("behind:0 started"), 0, "{}", m.log.text());
    let health = m.code(1, &["health"]);
    assert!(health.contains("not well: web, behind"), "{health}");
    assert_eq!(m.stop(), 0);
}

#[test]
fn words_of_a_stop_under_way_and_of_an_end_are_true() {
    let stubborn = "[pool.slow]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; echo up >&2; while :; do sleep 0.1; done\"]\nworkers = 2\ngraceful_timeout = \"1h\"\n\
                    ready = \"exec\"\n[pool.calm]\ncommand = \"sleep 1000\"\n";
    let mut m = setup(stubborn).start().ready();
    m.log.wait_for("slow:1 | up", 1);
    m.log.wait_for("slow:0 | up", 1);
    let told = m.code(5, &["stop", "slow", "--timeout", "300ms"]);
    assert!(told.contains("it goes on") && told.contains("slow: stopping, 2 workers still there"), "{told}");
    let status = m.ok(&["status"]);
    let row = status.lines().find(|line| line.starts_with("slow")).unwrap();
    assert!(row.contains("stopping"), "{status}");
    let health = m.ok(&["health"]);
    let row: Vec<&str> = health.lines().find(|line| line.starts_with("slow")).unwrap().split_whitespace().collect();
    assert_eq!(row, ["slow", "ok", "stopped", "0/2", "0"], "{health}");
    assert!(m.ok(&["stop", "calm"]).contains("calm: stopped"));
    m.ok(&["shutdown", "--no-wait"]);
    let status = m.ok(&["status"]);
    assert!(status.contains("stopping after") && !status.contains("poolmaster start"), "{status}");
    m.ok(&["shutdown", "--now"]);
    assert_eq!(m.ends(), 0);
}

#[test]
fn small_words_fit_their_numbers() {
    let mut m = setup("[pool.a]\ncommand = [\"sh\", \"-c\", \"echo once >&2; exec sleep 1000\"]\nsettle = \"20ms\"\n[pool.b]\ncommand = \"sleep 1000\"\n").start().ready();
    m.log.wait_for("a 1 of 1 worker ready", 1);
    let old = m.pids("a")[0];
    kill(old, libc::SIGKILL);
    let line = m.log.wait_for("a:0 killed by SIGKILL", 1);
    assert!(line.contains(&format!("(pid {old}); restarting it now")), "{line}");
    m.log.wait_for("its last line of output:", 1);
    m.ok(&["scale", "a", "2"]);
    m.ok(&["scale", "a", "1"]);
    m.log.wait_for("a scaled from 2 to 1 worker by", 1);
    m.ok(&["scale", "a", "0"]);
    m.log.wait_for("a no worker is wanted, none is there", 1);
    for row in m.ok(&["signals"]).lines().filter(|line| line.contains("TTIN") || line.contains("TTOU")) {
        assert!(row.contains("nothing: several pools"), "{row}");
    }
    assert_eq!(m.stop(), 0);
}

/// All verbs that talk to a master, asked of a pool that cannot stay up: none calls it ready, done or well.
#[test]
fn no_verb_says_what_is_not_so() {
    let mut m = setup(MAYFLY).start();
    m.log.wait_for("web backing off", 1);
    let asked: &[(&[&str], i32)] = &[
        (&["status"], 0),
        (&["ps"], 0),
        (&["health"], 1),
        (&["listeners"], 0),
        (&["signals"], 0),
        (&["plan"], 0),
        (&["wait", "web", "--for", "ready", "--timeout", "200ms"], 5),
        (&["scale", "web", "+1"], 1),
        (&["start", "web"], 1),
        (&["restart", "web"], 1),
        (&["retry", "web"], 1),
        (&["reload"], 0),
        (&["reload", "--restart"], 0),
        (&["rollback"], 3),
        (&["history"], 0),
        (&["upgrade"], 0),
        (&["kill", "web:7"], 7),
        (&["reopen"], 0),
        (&["stop", "web"], 0),
        (&["shutdown"], 0),
    ];
    // Each verb is judged here.
    let alone = ["run", "init", "check", "config", "completions", "worker", "help"];
    for verb in poolmaster::cli::groups().flat_map(|(_, verbs)| verbs).filter(|verb| !alone.contains(verb)) {
        assert!(asked.iter().any(|(args, _)| args[0] == verb), "{verb} is not asked");
    }
    for (args, code) in asked {
        let out = m.cli(args);
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.status.code(), Some(*code), "{args:?}: {said}");
        // What is said of the pool is in a line that names it.
        for line in said.lines().filter(|line| line.contains("web")) {
            let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
            for claim in [
                "new and ready: web",
                "web: 1 worker new",
                "web: 1 worker ready",
                "web: 2 workers ready",
                "web ok",
                "1/1",
                "2/2",
                "web: done",
            ] {
                assert!(!words.contains(claim), "{args:?}: {words}");
            }
        }
    }
    assert_eq!(m.ends(), 0);
    assert_eq!(m.log.count("web 1 of") + m.log.count("web 2 of") + m.log.count("web:0 ready"), 0, "{}", m.log.text());
}
