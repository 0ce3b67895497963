//! What else happens while a reload is under way: each has one defined outcome.

use super::support::*;

/// Workers that get ready only when the test says so, by sd_notify.
fn told(mark: &str, workers: u32, more: &str) -> String {
    format!("[pool.a]\ncommand = \"sleep 100{mark}\"\nready = \"notify\"\nworkers = {workers}\nsettle = \"50ms\"\n{more}\n")
}

/// The pid of the newest worker in the slot that is not ready yet.
fn starting(m: &Master, slot: u64) -> i32 {
    m.log.wait_until("a worker starts", || {
        let workers = m.pool("a")["workers"].as_array().cloned().unwrap_or_default();
        let it = workers.into_iter().find(|w| w["slot"] == slot && w["state"] == "starting")?;
        i32::try_from(it["pid"].as_i64()?).ok()
    })
}

fn gets_ready(m: &Master, slot: u64) -> i32 {
    let pid = starting(m, slot);
    Notifier::of(pid).send(b"READY=1");
    pid
}

/// Two workers that are good, and a reload to other ones whose canary is starting.
fn trying(more: &str) -> (Master, Vec<i32>, Order) {
    let mut m = setup(&told("0", 2, more)).start().answering();
    gets_ready(&m, 0);
    gets_ready(&m, 1);
    m.wait_state("a", 0, "good");
    m.wait_state("a", 1, "good");
    let old = m.pids("a");
    m.rewrite(&told("1", 2, more));
    let order = m.order(&["reload"]);
    starting(&m, 0);
    assert_eq!(m.pids("a"), old);
    (m, old, order)
}

/// The same after its commit: the canary is in, the second worker is starting.
fn rolling(more: &str) -> (Master, Vec<i32>, Order) {
    let (m, old, order) = trying(more);
    gets_ready(&m, 0);
    m.log.wait_for("config 2 in force", 1);
    starting(&m, 1);
    (m, old, order)
}

#[test]
fn the_outdated_ones_go_only_when_all_new_ones_are_good() {
    let (mut m, old, order) = rolling("");
    gets_ready(&m, 1);
    let (code, said) = order.told();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("config 2 in force") && said.contains("a: 2 workers new and ready"), "{said}");
    assert!(!is_alive(old[0]) && !is_alive(old[1]), "done means that the old ones are gone");
    assert!(m.pids("a").iter().all(|pid| cmdline(*pid).ends_with("1001")));
    assert_eq!(m.stop(), 0);
}

#[test]
fn scale_while_a_canary_is_tried_is_done_by_the_old_config_and_then_rolled() {
    let (mut m, _, order) = trying("");
    m.ok(&["scale", "a", "+1", "--no-wait"]);
    let third = gets_ready(&m, 2);
    assert!(cmdline(third).ends_with("1000"), "it is of the config in force");
    gets_ready(&m, 0);
    gets_ready(&m, 1);
    let last = m.log.wait_until("the third one's replacement", || {
        let pid = starting(&m, 2);
        cmdline(pid).ends_with("1001").then_some(pid)
    });
    Notifier::of(last).send(b"READY=1");
    assert_eq!(order.told().0, 0);
    assert_eq!(m.wait_count("a", 3).iter().filter(|pid| cmdline(**pid).ends_with("1001")).count(), 3);
    assert_eq!(m.stop(), 0);
}

#[test]
fn scale_to_nothing_ends_the_pools_part() {
    let (mut m, _, order) = trying("");
    m.ok(&["scale", "a", "0"]);
    assert_eq!(order.told().0, 0, "there is nothing left to try");
    m.ok(&["scale", "a", "1", "--no-wait"]);
    assert!(cmdline(gets_ready(&m, 0)).ends_with("1001"), "what is started now is of the new config");
    assert_eq!(m.stop(), 0);
}

#[test]
fn stop_of_a_pool_ends_its_part_and_start_brings_the_new_config() {
    let (mut m, old, order) = trying("");
    m.ok(&["stop", "a"]);
    assert!(old.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(order.told().0, 0);
    m.ok(&["start", "a", "--no-wait"]);
    assert!(cmdline(gets_ready(&m, 0)).ends_with("1001"));
    assert_eq!(m.stop(), 0);
}

#[test]
fn stop_after_the_commit_ends_the_roll() {
    let (mut m, _, order) = rolling("");
    m.ok(&["stop", "a"]);
    assert_eq!(order.told().0, 0);
    assert!(m.all_pids("a").is_empty());
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_killed_canary_undoes_the_reload() {
    let (mut m, old, order) = trying("");
    kill(starting(&m, 0), libc::SIGKILL);
    let (code, said) = order.told();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("SIGKILL"), "{said}");
    assert_eq!(m.all_pids("a"), old);
    assert_eq!(m.stop(), 0);
}

#[test]
fn an_old_worker_that_dies_before_the_commit_is_replaced_by_an_old_one() {
    let (mut m, old, order) = trying("");
    kill(old[0], libc::SIGKILL);
    kill(old[1], libc::SIGKILL);
    let again = m.log.wait_until("both are back", || {
        let workers = m.pool("a")["workers"].as_array().cloned().unwrap_or_default();
        let pids: Vec<i32> =
            workers.iter().filter(|w| w["state"] == "starting").filter_map(|w| w["pid"].as_i64()).map(|p| p as i32).collect();
        (pids.len() == 3).then_some(pids)
    });
    let old_ones: Vec<i32> = again.into_iter().filter(|pid| cmdline(*pid).ends_with("1000")).collect();
    assert_eq!(old_ones.len(), 2, "and the canary is beside them");
    old_ones.iter().for_each(|pid| Notifier::of(*pid).send(b"READY=1"));
    m.log.wait_until("the old ones are ready", || (m.pids("a") == old_ones).then_some(()));
    kill(m.all_pids("a").into_iter().find(|pid| cmdline(*pid).ends_with("1001")).unwrap(), libc::SIGKILL);
    assert_eq!(order.told().0, 3);
    assert_eq!(m.pids("a"), old_ones);
    assert_eq!(m.stop(), 0);
}

#[test]
fn an_old_worker_that_dies_after_the_commit_is_replaced_by_a_new_one() {
    let (mut m, old, order) = rolling("");
    kill(old[1], libc::SIGKILL);
    m.log.wait_for("its replacement is already running", 1);
    assert!(cmdline(gets_ready(&m, 1)).ends_with("1001"));
    assert_eq!(order.told().0, 0);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_new_worker_that_dies_after_the_commit_is_tried_again() {
    let (mut m, old, order) = rolling("restart.backoff.base = \"10ms\"");
    let first = starting(&m, 1);
    kill(first, libc::SIGKILL);
    let second = m.log.wait_until("another try", || Some(starting(&m, 1)).filter(|pid| *pid != first));
    assert!(is_alive(old[1]), "the old one serves meanwhile");
    Notifier::of(second).send(b"READY=1");
    assert_eq!(order.told().0, 0);
    assert_eq!(m.stop(), 0);
}

#[test]
fn term_ends_it_all() {
    let (mut m, _, order) = trying("");
    assert_eq!(m.stop(), 0);
    let (code, said) = order.told();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("shutting down"), "{said}");
    m.assert_nothing_left();
    let (mut m, _, order) = rolling("");
    assert_eq!(m.stop(), 0);
    assert_eq!(order.told().0, 1);
    m.assert_nothing_left();
}

#[test]
fn a_newer_reload_before_the_commit_takes_its_place() {
    let (mut m, old, order) = trying("");
    let first = starting(&m, 0);
    m.rewrite(&told("2", 2, ""));
    let newer = m.order(&["reload"]);
    let (code, said) = order.told();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("superseded by a newer reload before its commit"), "{said}");
    wait_gone(first, std::time::Instant::now() + PATIENCE);
    assert_eq!(m.pids("a"), old);
    gets_ready(&m, 0);
    gets_ready(&m, 1);
    assert_eq!(newer.told().0, 0);
    assert!(m.wait_count("a", 2).iter().all(|pid| cmdline(*pid).ends_with("1002")));
    assert_eq!(m.log.count("config 2 in force"), 0, "the first one never was");
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_newer_reload_after_the_commit_starts_from_the_workers_as_they_are() {
    let (mut m, old, order) = rolling("");
    m.rewrite(&told("2", 2, ""));
    let newer = m.order(&["reload"]);
    let (code, said) = order.told();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("superseded by a newer reload after its commit"), "{said}");
    assert!(is_alive(old[1]), "what was not replaced yet serves on");
    for slot in [0, 1] {
        let pid =
            m.log.wait_until("one of the newest", || Some(starting(&m, slot)).filter(|pid| cmdline(*pid).ends_with("1002")));
        Notifier::of(pid).send(b"READY=1");
    }
    assert_eq!(newer.told().0, 0);
    assert!(m.wait_count("a", 2).iter().all(|pid| cmdline(*pid).ends_with("1002")));
    assert_eq!(m.log.count("stopping with SIGTERM"), m.log.count("exited") + m.log.count("killed by SIGTERM"), "each once");
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_newer_config_with_an_error_leaves_the_running_reload_alone() {
    let (mut m, _, order) = trying("");
    m.rewrite("[pool.a]\nbogus = 1\n");
    let said = m.code(2, &["reload"]);
    assert!(said.contains("bogus"), "{said}");
    gets_ready(&m, 0);
    gets_ready(&m, 1);
    assert_eq!(order.told().0, 0);
    assert_eq!(m.stop(), 0);
}

/// Ten HUPs while one is worked off are one more reload: none is lost, and never are two at work.
#[test]
fn hups_during_a_reload_are_one_more_reload() {
    let (mut m, _, order) = trying("");
    m.rewrite(&told("2", 2, ""));
    m.held(|| (0..10).for_each(|_| m.signal(libc::SIGHUP)));
    assert_eq!(order.told().0, 3);
    for slot in [0, 1] {
        let pid =
            m.log.wait_until("one of the newest", || Some(starting(&m, slot)).filter(|pid| cmdline(*pid).ends_with("1002")));
        Notifier::of(pid).send(b"READY=1");
    }
    m.log.wait_for("reload done", 1);
    assert!(m.wait_count("a", 2).iter().all(|pid| cmdline(*pid).ends_with("1002")));
    assert_eq!(m.stop(), 0);
}

#[test]
fn restart_is_refused_while_a_canary_is_tried_and_joins_a_roll() {
    let (mut m, _, order) = trying("");
    let said = m.code(7, &["restart", "a"]);
    assert!(said.contains("trying a canary"), "{said}");
    gets_ready(&m, 0);
    m.log.wait_for("config 2 in force", 1);
    let restart = m.order(&["restart", "a"]);
    // The one that was on its way goes first once more.
    for slot in [1, 0] {
        gets_ready(&m, slot);
    }
    assert_eq!(restart.told().0, 0);
    assert_eq!(order.told().0, 0);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_second_master_is_not_started_meanwhile() {
    let (mut m, _, order) = trying("");
    m.signal(libc::SIGUSR2);
    m.log.wait_for("SIGUSR2", 1);
    gets_ready(&m, 0);
    gets_ready(&m, 1);
    assert_eq!(order.told().0, 0);
    assert_eq!(m.stop(), 0);
}

#[test]
fn rollback_before_the_commit_undoes_it() {
    let (mut m, old, order) = trying("");
    m.ok(&["rollback"]);
    let (code, said) = order.told();
    assert_eq!(code, 3, "{said}");
    assert_eq!(m.all_pids("a"), old);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_pool_that_is_failing_and_unchanged_is_left_out() {
    let bad = "[pool.bad]\ncommand = [\"sh\", \"-c\", \"test -e DIR/well || exit 1; exec sleep 1000\"]\nready = \"exec\"\n\
               boot = \"retry\"\nsettle = \"20ms\"\nrestart.budget.failures = 1\nrestart.backoff.base = \"100s\"\nrestart.backoff.max = \"200s\"\n";
    let good = |n: u32| format!("[pool.good]\ncommand = \"sleep 100{n}\"\nsettle = \"20ms\"\n");
    let mut m = setup(&format!("{bad}{}", good(0))).start();
    m.log.wait_for("bad backing off", 1);
    m.rewrite(&format!("{bad}{}", good(1)));
    let said = m.ok(&["reload", "--restart"]);
    assert!(said.contains("left out") && said.contains("bad"), "{said}");
    // Changed, its canary is the next try, and the verdict.
    m.rewrite(&format!("{bad}env.A = \"1\"\n{}", good(1)));
    assert!(m.code(3, &["reload"]).contains("bad: the canary"));
    std::fs::write(m.setup.path("well"), "").unwrap();
    let said = m.ok(&["reload"]);
    assert!(said.contains("bad: 1 worker new and ready"), "{said}");
    assert_eq!(m.stop(), 0);
}

/// Old generations that do not go: only so many live, the oldest are stopped the quick way.
#[test]
fn old_generations_are_bounded() {
    let stubborn = |n: u32| {
        format!(
            "[pool.a]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; exec sleep 100{n}\"]\nready = \"delay:50ms\"\nsettle = \"10ms\"\n\
             graceful_timeout = \"100s\"\nquick_timeout = \"100ms\"\nrollout.max_old_generations = 2\n"
        )
    };
    let mut m = setup(&stubborn(0)).start().ready();
    for n in 1..=2 {
        m.rewrite(&stubborn(n));
        m.ok(&["reload", "--no-wait"]);
        m.log.wait_for("reload done", n as usize);
    }
    let all = m.all_pids("a");
    assert_eq!(all.len(), 3, "two old generations may live");
    m.rewrite(&stubborn(3));
    m.ok(&["reload", "--no-wait"]);
    m.log.wait_for("rollout.max_old_generations", 1);
    let oldest = *all.iter().min().unwrap();
    wait_gone(oldest, std::time::Instant::now() + PATIENCE);
    assert_eq!(m.all_pids("a").len(), 3);
    kill(m.pid(), libc::SIGTERM);
    kill(m.pid(), libc::SIGINT);
    assert_eq!(m.wait().code(), Some(0));
}

#[test]
fn only_the_pools_that_are_named_are_reloaded() {
    let both = |a: u32, b: u32| {
        format!("[defaults]\nsettle = \"20ms\"\n[pool.a]\ncommand = \"sleep 100{a}\"\n[pool.b]\ncommand = \"sleep 100{b}\"\n")
    };
    let mut m = setup(&both(0, 0)).start().ready();
    let before = (m.pids("a"), m.pids("b"));
    m.rewrite(&format!("{}[pool.c]\ncommand = \"sleep 1000\"\n", both(1, 1)));
    m.ok(&["reload", "--pool", "b", "--pool", "c"]);
    assert_eq!(m.pids("a"), before.0);
    assert!(cmdline(m.pids("b")[0]).ends_with("1001"));
    assert_eq!(m.pids("c").len(), 1);
    let said = m.code(2, &["reload", "--pool", "nowhere"]);
    assert!(said.contains("there is no pool \"nowhere\""), "{said}");
    // And restarted without a change, alone.
    let b = m.pids("b");
    m.ok(&["reload", "--restart", "--pool", "b"]);
    assert_ne!(m.pids("b"), b);
    assert_eq!(m.pids("a"), before.0);
    assert_eq!(m.stop(), 0);
}

#[test]
fn in_place_canaries_take_the_place_of_an_old_worker_and_give_it_back() {
    let pools = |n: u32, fail: &str| {
        format!(
            "[pool.a]\ncommand = [\"sh\", \"-c\", \"{fail}exec sleep 100{n}\"]\nworkers = 2\nready = \"exec\"\nsettle = \"50ms\"\n\
                 rollout = {{ max_surge = 0, max_unavailable = 1 }}\n"
        )
    };
    let mut m = setup(&pools(0, "")).start().ready();
    m.wait_state("a", 1, "good");
    let old = m.pids("a");
    m.rewrite(&pools(1, "exit 5; "));
    assert_eq!(m.order(&["reload"]).told().0, 3);
    let back = m.wait_count("a", 2);
    assert_eq!(back[1], old[1]);
    assert!(back.iter().all(|pid| cmdline(*pid).ends_with("1000")), "the old config is back in slot 0");
    m.rewrite(&pools(2, ""));
    assert_eq!(m.order(&["reload"]).told().0, 0);
    assert!(m.wait_count("a", 2).iter().all(|pid| cmdline(*pid).ends_with("1002")));
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_timeout_leaves_it_running() {
    let (mut m, _, _order) = trying("");
    let said = m.code(5, &["reload", "--timeout", "200ms"]);
    assert!(said.contains("goes on"), "{said}");
    gets_ready(&m, 0);
    gets_ready(&m, 1);
    m.log.wait_for("reload done", 1);
    assert_eq!(m.stop(), 0);
}

/// Whoever asks for more hears of each step, and then of the end.
#[test]
fn progress_is_told_step_by_step() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 3\nsettle = \"30ms\"\n").start().ready();
    let mut client = m.client();
    client.send(b"{\"method\":\"reload\",\"parameters\":{\"restart\":true},\"more\":true}\n");
    let (mut stages, mut most) = (Vec::new(), 0);
    let last = loop {
        let reply = client.reply().unwrap();
        if reply["continues"] != true {
            break reply;
        }
        let p = &reply["parameters"];
        stages.push(p["stage"].as_str().unwrap().to_owned());
        for pool in p["pools"].as_array().unwrap() {
            let (replaced, total) = (pool["replaced"].as_u64().unwrap(), pool["total"].as_u64().unwrap());
            assert!(replaced <= total && total <= 3, "{pool}");
            most = most.max(replaced);
        }
    };
    assert_eq!(last["parameters"]["code"], 0, "{last}");
    assert!(stages.contains(&"canary".to_owned()) && stages.contains(&"rolling".to_owned()), "{stages:?}");
    assert_eq!(most, 3, "{stages:?}");
    // One that does not ask gets one reply.
    client.send(b"{\"method\":\"restart\",\"parameters\":{\"targets\":[\"a\"]}}\n");
    assert!(client.reply().unwrap()["continues"].is_null());
    assert_eq!(m.stop(), 0);
}
