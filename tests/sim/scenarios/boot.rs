//! The first start: order, stagger, and what a failed boot means.

use poolmaster::supervisor::{
    Command, Condition, Event, ExitWhen, MasterSpec, OnBootFailure, Phase, PoolId, ReadyKind, RestartPolicy, ScaleChange,
    SpawnFault, What,
};

use crate::scene::{Scene, worker};
use crate::specs::{master, ms, pool, secs};

#[test]
fn a_pool_of_three_starts_all_at_once_and_then_nothing_is_due() {
    let mut s = Scene::of(vec![pool(0, 3)]);
    s.expect("0 spawn a0.1, spawn a1.1, spawn a2.1");
    s.to(0.1).bring_up().to(60.0).expect("").idle();
}

#[test]
fn max_starting_lets_the_next_one_start_when_one_is_ready() {
    let mut a = pool(0, 3);
    a.max_starting = Some(2);
    let mut s = Scene::of(vec![a]);
    s.expect("0 spawn a0.1, spawn a1.1");
    s.to(1.0).boots("a1.1").expect("1 spawn a2.1");
}

#[test]
fn spawn_interval_is_a_deadline_and_never_a_sleep() {
    let mut a = pool(0, 3);
    a.spawn_interval = ms(300);
    Scene::of(vec![a]).to(5.0).expect("0 spawn a0.1; 0.3 spawn a1.1; 0.6 spawn a2.1");
}

#[test]
fn a_pool_starts_after_those_it_names_are_ready() {
    let mut b = pool(1, 1);
    b.after = vec![PoolId(0)];
    let mut s = Scene::of(vec![pool(0, 1), b]);
    s.expect("0 spawn a0.1");
    assert_eq!(s.phase(1), Phase::Waiting);
    assert!(s.noted(|w| *w == What::WaitingFor { pools: vec!["a".to_owned()] }));
    s.to(2.0).boots("a0.1").expect("2 spawn b0.1");
}

#[test]
fn a_pool_without_autostart_waits_for_an_operator() {
    let mut a = pool(0, 1);
    a.autostart = false;
    let mut s = Scene::of(vec![a]);
    s.to(10.0).expect("").idle();
    s.ask(Command::Start { pools: vec![PoolId(0)] }).expect("10 spawn a0.1");
    s.boots("a0.1").expect("10 done 1");
}

#[test]
fn a_spent_budget_before_any_was_good_fails_the_pool_and_ends_the_master_with_3() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.expect("0 spawn a0.1");
    s.up("a0.1").to(0.1).exit("a0.1", 1).expect("0.1 spawn a0.2");
    s.exit("a0.2", 1).to(0.6).expect("0.6 spawn a0.3");
    s.exit("a0.3", 1).to(1.6).expect("1.6 spawn a0.4");
    s.exit("a0.4", 1).to(3.6).expect("3.6 spawn a0.5");
    s.exit("a0.5", 1).expect("3.6 exit 3");
    assert!(s.noted(|w| matches!(w, What::PoolFailed { .. })));
}

#[test]
fn an_exit_with_a_boot_error_code_fails_the_pool_at_once() {
    for (code, exit) in [(3, "0 exit 3"), (4, "0 exit 4")] {
        let mut s = Scene::of(vec![pool(0, 1)]);
        s.skip().up("a0.1").exit("a0.1", code).expect(exit);
    }
}

#[test]
fn a_program_that_cannot_be_executed_fails_the_pool_at_once_and_never_in_a_busy_loop() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.skip().spawn_fails("a0.1", SpawnFault::Exec).expect("0 exit 3");
}

#[test]
fn a_required_pool_that_cannot_boot_stops_the_others_gracefully_and_its_code_is_the_masters() {
    let mut b = pool(1, 1);
    b.required = true;
    let mut s = Scene::of(vec![pool(0, 1), b]);
    s.skip().boots("a0.1").up("b0.1").exit("b0.1", 4).expect("0 TERM a0.1");
    s.to(2.0).exit("a0.1", 0).expect("2 exit 4");
}

#[test]
fn a_pool_that_is_not_required_may_fail_while_another_lives() {
    let mut s = Scene::of(vec![pool(0, 1), pool(1, 1)]);
    s.skip().boots("a0.1").up("b0.1").exit("b0.1", 3).to(100.0).expect("");
    assert_eq!((s.phase(0), s.phase(1)), (Phase::Running, Phase::Failed));
    s.idle().ask(Command::Start { pools: vec![PoolId(1)] }).expect("100 spawn b0.2");
}

#[test]
fn exit_when_never_keeps_even_a_failed_master() {
    let mut s = Scene::under(MasterSpec { exit_when: ExitWhen::Never, ..master() }, vec![pool(0, 1)]);
    s.skip().up("a0.1").exit("a0.1", 3).to(100.0).expect("").idle();
    assert_eq!(s.phase(0), Phase::Failed);
}

#[test]
fn exit_when_required_failed_looks_at_required_pools_only() {
    let only = MasterSpec { exit_when: ExitWhen::RequiredFailed, ..master() };
    let mut s = Scene::under(only.clone(), vec![pool(0, 1)]);
    s.skip().up("a0.1").exit("a0.1", 3).to(100.0).expect("");
    let mut a = pool(0, 1);
    a.required = true;
    let mut s = Scene::under(only, vec![a]);
    s.skip().up("a0.1").exit("a0.1", 3).expect("0 exit 3");
}

#[test]
fn boot_retry_keeps_probing_for_what_waits_for_a_database() {
    let mut a = pool(0, 2);
    a.boot = OnBootFailure::Retry;
    a.restart.budget.failures = 2;
    let mut s = Scene::of(vec![a]);
    s.skip().exit("a0.1", 1).expect("0 spawn a0.2");
    s.exit("a1.1", 1).expect("");
    assert_eq!(s.phase(0), Phase::BackingOff);
    // The one that was already starting decides before anything else is tried.
    s.to(0.2).exit("a0.2", 1).to(0.6).expect("0.5 spawn a0.3");
    s.boots("a0.3").to(1.7).expect("1.6 spawn a1.2");
    assert_eq!(s.phase(0), Phase::Running);
}

#[test]
fn a_host_that_cannot_fork_is_no_fault_of_the_pool() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 2;
    let mut s = Scene::of(vec![a]);
    for generation in 1..=20 {
        let at = f64::from(generation) * 20.0;
        s.spawn_fails(&format!("a0.{generation}"), SpawnFault::Resources).to(at);
    }
    assert_eq!(s.phase(0), Phase::Running);
    s.skip().boots("a0.21").to(420.0).expect("").idle();
}

#[test]
fn the_start_timeout_runs_from_the_fork_and_counts_as_a_boot_failure() {
    let mut a = pool(0, 1);
    a.start_timeout = secs(10);
    a.restart.budget.failures = 1;
    let mut s = Scene::of(vec![a]);
    s.skip().to(3.0).up("a0.1").to(20.0).expect("10 TERM a0.1");
    s.exit("a0.1", 0).expect("20 exit 3");
}

#[test]
fn that_a_program_runs_makes_nothing_ready_before_it_has_run_for_a_while() {
    let mut a = pool(0, 2);
    a.ready = ReadyKind::Exec;
    let mut b = pool(1, 1);
    b.after = vec![PoolId(0)];
    let mut s = Scene::of(vec![a, b]);
    s.ask(Command::Wait { pool: PoolId(0), until: Condition::Ready }).skip();
    s.up("a0.1").up("a1.1").to(0.9).expect("");
    assert!(!s.noted(|w| matches!(w, What::ReadyCount { .. })), "nothing is told of what is not known");
    s.to(1.0).expect("1 spawn b0.1, done 1");
    assert!(s.noted(|w| *w == What::ReadyCount { ready: 2, target: 2 }));
    // One that dies at once has never been counted.
    s.skip().ask(Command::Scale { pool: PoolId(0), change: ScaleChange::By(1) }).expect("1 spawn a2.1");
    s.up("a2.1").to(1.1).exit("a2.1", 1).expect("1.1 spawn a2.2").up("a2.2").to(2.0).expect("");
    s.to(2.1).expect("2.1 done 2");
}

#[test]
fn a_pool_after_one_that_failed_has_failed_too_and_waits_again_when_that_one_is_started() {
    let mut b = pool(1, 1);
    b.after = vec![PoolId(0)];
    let mut c = pool(2, 1);
    c.after = vec![PoolId(1)];
    let never = MasterSpec { exit_when: ExitWhen::Never, ..master() };
    let mut s = Scene::under(never, vec![pool(0, 1), b, c, pool(3, 1)]);
    s.ask(Command::Start { pools: vec![PoolId(2)] }).boots("d0.1").to(2.0).skip();
    s.spawn_fails("a0.1", SpawnFault::Exec).expect("2 failed 1");
    assert_eq!((s.phase(1), s.phase(2)), (Phase::Failed, Phase::Failed));
    let told = |w: &What| matches!(w, What::PoolFailed { why } if why.contains("after b, which failed: it is to start after a"));
    assert!(s.noted(told), "{:?}", s.notes);
    // It is known of each what becomes of it.
    let ready = |w: &What| matches!(w, What::AllReady { pools: 1, others, .. } if others.len() == 3);
    assert!(s.noted(ready), "{:?}", s.notes);
    s.ask(Command::Start { pools: vec![PoolId(2)] }).expect("2 failed 2");
    s.ask(Command::Start { pools: vec![PoolId(0)] }).expect("2 spawn a0.2");
    assert_eq!((s.phase(1), s.phase(2)), (Phase::Waiting, Phase::Waiting));
    s.boots("a0.2").boots("b0.1").expect("2 spawn b0.1, done 3, spawn c0.1");
}

#[test]
fn a_required_pool_after_one_that_failed_ends_the_master() {
    let mut b = pool(1, 1);
    b.after = vec![PoolId(0)];
    b.required = true;
    let mut s = Scene::of(vec![pool(0, 1), b, pool(2, 1)]);
    s.boots("c0.1").skip().spawn_fails("a0.1", SpawnFault::Exec).expect("0 TERM c0.1");
    s.exit("c0.1", 0).expect("0 exit 3");
}

#[test]
fn what_comes_after_finite_jobs_waits_until_they_are_done() {
    let mut jobs = pool(0, 2);
    jobs.ready = ReadyKind::Exec;
    jobs.restart.policy = RestartPolicy::OnFailure;
    let mut b = pool(1, 1);
    b.after = vec![PoolId(0)];
    let mut s = Scene::of(vec![jobs, b]);
    s.up("a0.1").up("a1.1").skip().to(10.0).expect("");
    s.exit("a0.1", 0).expect("").exit("a1.1", 0).expect("10 spawn b0.1");
}

/// The loop was away while a worker got good: its pool has booted, whatever the first news after that is.
#[test]
fn a_pool_whose_worker_got_good_while_the_loop_was_away_has_booted() {
    let mut s = Scene::of(vec![pool(0, 2)]);
    s.skip().up("a0.1").up("a1.1").ready("a1.1").asleep(secs(30)).exit("a0.1", 4);
    assert_eq!(s.phase(0), Phase::Running);
}

#[test]
fn hooks_before_a_start_have_a_time_of_their_own_and_its_end_is_a_failed_start() {
    let mut a = pool(0, 1);
    (a.prepares, a.prepare, a.start_timeout) = (true, Some(secs(30)), secs(5));
    let mut s = Scene::of(vec![a]);
    s.to(119.0).expect("0 spawn a0.1").fact(Event::Prepared { worker: worker("a0.1") });
    // From the fork on it is another one.
    s.to(125.0).expect("124 TERM a0.1");
    let mut a = pool(0, 1);
    (a.prepares, a.prepare, a.restart.budget.failures) = (true, Some(secs(30)), 1);
    let mut s = Scene::of(vec![a]);
    s.to(130.0).expect("0 spawn a0.1; 120 TERM a0.1");
    assert!(s.noted(|what| matches!(what, What::Unprepared { within } if *within == secs(120))));
    s.spawn_fails("a0.1", SpawnFault::Setup).expect("130 exit 3");
}
