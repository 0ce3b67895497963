//! Deaths: which are replaced at once, which wait, and the half-open breaker.

use std::time::Duration;

use poolmaster::supervisor::{Command, OnBootFailure, Phase, PoolId, PoolSpec, ReadyKind, SpawnFault, What};

use crate::scene::Scene;
use crate::specs::{pool, secs};

/// A pool whose first workers are good by one second.
fn good(spec: PoolSpec) -> Scene {
    let mut s = Scene::of(vec![spec]);
    s.settled();
    s
}

#[test]
fn a_pool_whose_workers_were_good_before_a_late_loop_saw_it_does_not_fail_at_boot() {
    let mut a = pool(0, 3);
    a.boot = OnBootFailure::Fail;
    let mut s = Scene::of(vec![a]);
    s.skip().boots("a0.1").boots("a1.1").asleep(secs(60)).scale_to(0, 1).skip();
    // Whoever is left cannot boot, and yet two were good, whom the same late moment tells to go.
    s.up("a2.1").exit("a2.1", 4);
    assert_ne!(s.phase(0), Phase::Failed);
}

#[test]
fn a_worker_that_dies_later_in_its_life_is_replaced_at_once_however_it_died() {
    let mut s = good(pool(0, 2));
    s.to(5.0).exit("a0.1", 1).expect("5 spawn a0.2");
    s.exit("a1.1", 0).expect("5 spawn a1.2");
}

#[test]
fn a_hundred_killed_together_are_a_hundred_back_together() {
    let mut s = good(pool(0, 100));
    s.to(5.0);
    for slot in 0..100 {
        s.exit(&format!("a{slot}.1"), 9);
    }
    for slot in 0..100 {
        s.up(&format!("a{slot}.2"));
    }
    assert_eq!(s.core.workers(PoolId(0)).len(), 100);
    assert_eq!(s.phase(0), Phase::Running);
}

#[test]
fn early_deaths_of_one_slot_wait_0_then_half_a_second_then_1_2_4() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 100;
    let mut s = good(a);
    s.exit("a0.1", 1).expect("1 spawn a0.2");
    let mut at = 1.0;
    for (n, wait) in [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0].into_iter().enumerate() {
        s.exit(&format!("a0.{}", n + 2), 1).to(at + wait);
        at += wait;
        s.expect(&format!("{at} spawn a0.{}", n + 3));
    }
}

/// Servers that end after a number of requests may be done within the time that others take to settle.
#[test]
fn a_worker_that_ends_well_once_it_was_ready_is_replaced_and_never_counts() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 2;
    let mut s = Scene::of(vec![a]);
    s.skip().up("a0.1").ready("a0.1");
    // At the first start, too: what was ready has booted.
    let mut at = 0.0;
    for generation in 1..20 {
        at += 0.25;
        s.to(at).exit(&format!("a0.{generation}"), 0).expect(&format!("{at} spawn a0.{}", generation + 1));
        s.up(&format!("a0.{}", generation + 1)).ready(&format!("a0.{}", generation + 1));
    }
    assert_eq!(s.phase(0), Phase::Running);
    // One that is done at once does not spin.
    s.exit("a0.20", 0).expect("");
    s.to(5.0).expect("4.85 spawn a0.21");
    // Not ready, or not well: that counts.
    s.up("a0.21").exit("a0.21", 0).expect("5 spawn a0.22");
    s.up("a0.22").ready("a0.22").exit("a0.22", 1);
    assert_eq!(s.phase(0), Phase::BackingOff);
}

/// One that has served all it wanted to between two looks was as ready as those before it.
#[test]
fn a_worker_that_ends_well_before_it_was_seen_counts_only_where_none_was_ever_seen() {
    let mut a = pool(0, 2);
    a.ready = ReadyKind::NotifyOrAccepting;
    a.restart.budget.failures = 2;
    let mut s = Scene::of(vec![a]);
    s.skip().up("a0.1").up("a1.1").exit("a0.1", 0).expect("0 spawn a0.2");
    s.up("a0.2").ready("a1.1").to(0.1).skip();
    for generation in 2..20 {
        let now = 0.1 * f64::from(generation - 1);
        s.to(now).exit(&format!("a0.{generation}"), 0).to(now + 0.05).skip().up(&format!("a0.{}", generation + 1));
    }
    assert_eq!(s.phase(0), Phase::Running);
    s.exit("a0.20", 1);
    assert_eq!(s.phase(0), Phase::BackingOff, "the second that counts");
}

/// Where nothing shows that it was ready, it has to last.
#[test]
fn an_exit_of_a_program_that_only_ran_is_no_way_of_working() {
    let mut a = pool(0, 1);
    a.ready = ReadyKind::Exec;
    a.restart.budget.failures = 2;
    let mut s = Scene::of(vec![a]);
    s.skip().up("a0.1").exit("a0.1", 0).expect("0 spawn a0.2");
    s.up("a0.2").exit("a0.2", 0).expect("0 exit 3");
}

#[test]
fn while_the_next_try_is_waited_for_the_last_failure_is_named() {
    let why = |s: &Scene| s.core.pool(PoolId(0)).unwrap().why.map(ToOwned::to_owned);
    let mut s = good(pool(0, 1));
    s.exit("a0.1", 1).exit("a0.2", 1).exit("a0.3", 7);
    assert_eq!(why(&s), Some("the last worker exited with code 7".to_owned()));
    s.to(1.5).boots("a0.4");
    assert_eq!(why(&s), None, "nothing is waited for");
    s.to(9.0).exit("a0.4", 1).spawn_fails("a0.5", SpawnFault::Resources);
    assert!(why(&s).is_some_and(|why| why != "the last worker exited with code 7"), "{:?}", why(&s));
}

#[test]
fn only_health_clears_the_count_of_a_slot() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 100;
    let mut s = good(a);
    s.exit("a0.1", 1).exit("a0.2", 1).exit("a0.3", 1).to(1.5).skip();
    // Three seconds of life: good, so it is replaced at once, but the count stands.
    s.boots("a0.4").to(4.5).exit("a0.4", 1).expect("4.5 spawn a0.5");
    s.exit("a0.5", 1).to(5.5).expect("5.5 spawn a0.6");
    // A minute of health clears it.
    s.boots("a0.6").to(66.0).exit("a0.6", 1).expect("66 spawn a0.7");
    s.exit("a0.7", 1).expect("66 spawn a0.8");
    s.exit("a0.8", 1).to(66.5).expect("66.5 spawn a0.9");
}

#[test]
fn jitter_spreads_a_wait_by_its_fraction_and_no_more() {
    let mut seen = std::collections::BTreeSet::new();
    for slot in 0..20 {
        let mut a = pool(0, 20);
        a.restart.backoff = poolmaster::supervisor::Backoff { first: secs(10), jitter: 0.2, ..a.restart.backoff };
        let mut s = good(a);
        s.exit(&format!("a{slot}.1"), 1).up(&format!("a{slot}.2")).exit(&format!("a{slot}.2"), 1);
        let wait = s.core.next_deadline().expect("it waits").since(poolmaster::supervisor::Time(1_000_000_000));
        assert!(wait >= secs(8) && wait <= secs(12), "{wait:?}");
        seen.insert(wait);
    }
    assert!(seen.len() > 10, "each slot draws its own: {seen:?}");
}

#[test]
fn a_spent_budget_opens_the_breaker_one_probe_at_a_time_until_one_is_good() {
    let mut a = pool(0, 3);
    a.restart.budget.failures = 3;
    let mut s = good(a);
    s.exit("a0.1", 1).exit("a1.1", 1).exit("a2.1", 1).expect("1 spawn a0.2, spawn a1.2, spawn a2.2");
    s.exit("a0.2", 1).expect("1 spawn a0.3");
    s.exit("a1.2", 1).expect("1 spawn a1.3");
    s.exit("a2.2", 1).expect("");
    assert_eq!(s.phase(0), Phase::BackingOff);
    assert!(s.noted(|w| matches!(w, What::BackingOff { failures: 3, .. })));
    s.exit("a0.3", 1).exit("a1.3", 1).expect("");
    s.to(60.0).expect("1.5 spawn a0.4");
    s.exit("a0.4", 1).to(61.5).expect("61 spawn a0.5");
    s.up("a0.5").exit("a0.5", 1).to(64.0).expect("63.5 spawn a0.6");
    s.boots("a0.6").to(66.0).expect("65 spawn a1.4, spawn a2.3");
    assert_eq!(s.phase(0), Phase::Running);
    assert!(s.noted(|w| *w == What::Recovered));
}

#[test]
fn early_deaths_outside_the_stretch_do_not_count_together() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 2;
    a.restart.budget.within = secs(10);
    let mut s = good(a);
    s.exit("a0.1", 1).exit("a0.2", 1).to(12.0).exit("a0.3", 1);
    assert_eq!(s.phase(0), Phase::Running);
    s.to(13.0).exit("a0.4", 1);
    assert_eq!(s.phase(0), Phase::BackingOff);
}

#[test]
fn retry_clears_the_back_off_and_tries_now() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 1;
    let mut s = good(a);
    s.exit("a0.1", 1).exit("a0.2", 1).skip();
    assert_eq!(s.phase(0), Phase::BackingOff);
    s.to(1.2).ask(Command::Retry { pool: PoolId(0) }).expect("1.2 spawn a0.3");
    s.boots("a0.3").to(3.0).expect("2.2 done 1").idle();
}

#[test]
fn give_up_after_makes_a_pool_finally_failed() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 1;
    a.restart.give_up_after = 2;
    let mut b = pool(1, 1);
    b.autostart = false;
    let mut s = Scene::of(vec![a, b]);
    s.settled().exit("a0.1", 1).exit("a0.2", 1).to(1.5).expect("1 spawn a0.2; 1.5 spawn a0.3");
    s.exit("a0.3", 1).to(2.5).expect("2.5 spawn a0.4");
    s.exit("a0.4", 1).to(1_000.0).expect("").idle();
    assert_eq!(s.phase(0), Phase::Failed);
}

#[test]
fn in_back_off_an_operators_number_is_kept_and_filled_after_recovery() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 1;
    a.boot = OnBootFailure::Retry;
    let mut s = Scene::of(vec![a]);
    s.exit("a0.1", 1).scale_signals(0, 2).skip().to(0.5).expect("0.5 spawn a0.2");
    s.boots("a0.2").to(2.0).expect("1.5 spawn a1.1, spawn a2.1");
}

#[test]
fn a_setup_step_that_fails_is_an_early_death_and_a_missing_program_later_as_well() {
    let mut s = good(pool(0, 1));
    s.exit("a0.1", 1).spawn_fails("a0.2", SpawnFault::Setup).expect("1 spawn a0.2, spawn a0.3");
    s.spawn_fails("a0.3", SpawnFault::Exec).to(1.5).expect("1.5 spawn a0.4");
    assert_eq!(s.phase(0), Phase::Running);
}

#[test]
fn a_late_tick_makes_no_early_death_of_a_worker_that_was_long_ready() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 1;
    let mut s = Scene::of(vec![a]);
    s.boots("a0.1").skip();
    // The loop was held up for 90 s: the exit is heard before the tick that would have said "good".
    let held = Duration::from_secs(90);
    s.asleep(held).exit("a0.1", 1).expect("90 spawn a0.2");
    assert_eq!(s.phase(0), Phase::Running);
}

#[test]
fn a_worker_that_was_long_ready_and_is_told_to_go_was_good() {
    let mut s = Scene::of(vec![pool(0, 2)]);
    s.boots("a0.1").up("a1.1").asleep(Duration::from_secs(90)).scale_to(0, 1).exit("a0.1", 0);
    // Exit code 3 fails a pool at once, but only before any worker of it was good.
    s.exit("a1.1", 3);
    assert_eq!(s.phase(0), Phase::Running);
}

#[test]
fn a_wait_between_replacements_does_not_hold_back_the_one_in_their_place() {
    let mut a = pool(0, 1);
    a.rollout.canary = 0;
    let mut s = good(a);
    s.ask(Command::Restart { targets: vec![poolmaster::supervisor::Target { pool: PoolId(0), slot: None }] });
    s.exit("a0.2", 1).exit("a0.3", 1).expect("1 spawn a0.2, spawn a0.3");
    // The next replacement waits half a second; the old worker dies meanwhile and is replaced at once.
    s.to(1.1).exit("a0.1", 1).expect("1.1 spawn a0.4");
}

/// Its end is the verdict, not the moment in which it is told to stop.
#[test]
fn the_next_probe_waits_until_one_that_did_not_get_ready_is_gone() {
    let mut a = pool(0, 2);
    a.restart.budget.failures = 2;
    a.start_timeout = secs(3);
    let mut s = good(a);
    s.exit("a0.1", 1).exit("a1.1", 1).exit("a0.2", 1).exit("a1.2", 1).exit("a0.3", 1).skip();
    assert_eq!(s.phase(0), Phase::BackingOff);
    s.to(2.0).expect("1.5 spawn a0.4").up("a0.4").to(20.0).expect("4.5 TERM a0.4");
    s.exit("a0.4", 0).to(21.5).expect("21 spawn a0.5");
}
