//! Whole lives of a master, recorded: all that can happen in one, and a storm.

use super::scenarios::*;
use super::support::*;

#[test]
fn a_recorded_life_with_all_that_happens_replays_to_the_same_actions() {
    let pools = |c: &str| {
        format!(
            r#"
            {PATIENT}
            [pool.a]
            command = "POOLMASTER worker --spawn-child"
            workers = 2
            listen = "unix:DIR/a.sock"
            scale = {{ up_signal = "RTMIN+1", down_signal = "RTMIN+2" }}
            [pool.b]
            command = ["sh", "-c", "test ! -e DIR/broken || exit 1; exec sleep 1000"]
            graceful_timeout = "300ms"
            restart.backoff = {{ base = "50ms" }}
            {c}
            "#
        )
    };
    let mut m = recording(setup(&pools(""))).ready();
    m.ok(&["scale", "a", "+2"]);
    m.signal(libc::SIGRTMIN() + 2);
    m.wait_count("a", 3);
    kill(m.pids("a")[0], libc::SIGABRT);
    m.log.wait_for("killed by SIGABRT", 1);
    m.wait_count("a", 3);
    let b = settled(&m, "b", 1);
    std::fs::write(m.setup.path("broken"), "").unwrap();
    kill(b[0], libc::SIGKILL);
    m.log.wait_for("backing off", 1);
    std::fs::remove_file(m.setup.path("broken")).unwrap();
    m.ok(&["retry", "b"]);
    settled(&m, "b", 1);
    m.ok(&["stop", "b"]);
    m.rewrite(&pools("[pool.c]\ncommand = \"/nowhere/at-all\"\nboot = \"retry\""));
    m.signal(libc::SIGHUP);
    // A config whose program is not there is undone; the one that is there goes on.
    m.log.wait_for("reload failed", 1);
    m.log.wait_for("/nowhere/at-all", 1);
    m.rewrite(&pools("[pool.c]\ncommand = \"sleep 1000\""));
    m.signal(libc::SIGHUP);
    m.log.wait_for("a all workers replaced", 1);
    m.ok(&["start", "b"]);
    m.ok(&["status"]);
    assert_eq!(m.cli(&["wait", "b", "--for", "count=9", "--timeout", "100ms"]).status.code(), Some(5));
    m.signal(libc::SIGWINCH);
    m.wait_count("a", 0);
    m.signal(libc::SIGTTIN);
    m.signal(libc::SIGUSR1);
    m.ok(&["start", "a"]);
    m.signal(libc::SIGTERM);
    let r = ended(m);
    for seen in ["spawn a3.1", "spawn a0.2", "read-config", "TERM b0", "spawn c0.1", "reopen-logs", "exit 0"] {
        assert!(r.story(&[]).contains(seen), "no {seen} in {}", r.story(&[]));
    }
}

/// Orders and faults in a row, faster than their effects: no waiting in between but for the answers.
#[test]
fn a_storm_of_orders_and_deaths_keeps_every_promise_and_calms_down() {
    let m = recording(setup(
        r#"
            [defaults]
            settle = "20ms"
            graceful_timeout = "500ms"
            quick_timeout = "300ms"
            restart = { budget = { failures = 1000, within = "60s" }, backoff = { base = "10ms", max = "50ms" } }
            [pool.a]
            command = "sleep 1000"
            workers = 4
            scale = { up_signal = "RTMIN+1", down_signal = "RTMIN+2", restart_signal = "RTMIN+3", max = 8 }
            [pool.b]
            command = ["sh", "-c", "trap '' TERM; sleep 1000 & exec sleep 1000"]
            workers = 3
            rollout = { max_surge = 2 }
            [pool.c]
            command = ["sh", "-c", "sleep 0.0$(({slot} + 1)); exit {generation}"]
            workers = 2
            "#,
    ))
    .answering();
    // Those of c never live long enough to count.
    m.log.wait_for("a 4 of 4 workers ready", 1);
    m.log.wait_for("b 3 of 3 workers ready", 1);
    let mut client = m.client();
    let mut chance: u64 = 7;
    let mut draw = |n: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % n
    };
    for _ in 0..120 {
        let pool = ["a", "b"][usize::try_from(draw(2)).unwrap()];
        match draw(8) {
            0 => m.signal(libc::SIGRTMIN() + 1),
            1 => m.signal(libc::SIGRTMIN() + 2),
            2 => m.signal(libc::SIGRTMIN() + 3),
            3 => m.signal(libc::SIGHUP),
            4 => {
                let change = draw(7);
                client.send(
                    format!(
                        "{{\"method\":\"scale\",\"parameters\":{{\"pool\":\"{pool}\",\"change\":\"{change}\",\"wait\":false}}}}\n"
                    )
                    .as_bytes(),
                );
                client.reply().unwrap();
            }
            _ => {
                let pids = m.all_pids(pool);
                if !pids.is_empty() {
                    kill(
                        pids[usize::try_from(draw(pids.len() as u64)).unwrap()],
                        [libc::SIGKILL, libc::SIGTERM][usize::try_from(draw(2)).unwrap()],
                    );
                }
            }
        }
    }
    m.ok(&["scale", "a", "3"]);
    m.ok(&["scale", "b", "2"]);
    m.ok(&["stop", "c"]);
    m.log.wait_until("calm", || (is_settled(&m, "a", 3) && is_settled(&m, "b", 2) && is_settled(&m, "c", 0)).then_some(()));
    // The master, three of a, and two of b with a child each.
    m.wait_processes(8);
    let r = ended(m);
    assert!(r.turns.len() > 300, "{} turns", r.turns.len());
}
