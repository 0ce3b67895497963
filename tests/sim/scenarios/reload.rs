//! The transaction: canaries, commit, and the ways back.

use poolmaster::supervisor::{
    Command, Condition, ExitWhen, MasterSpec, Notification, OnRollFailure, Phase, PoolId, PoolSpec, Reason, Remove,
    RestartPolicy, Share, SpawnFault, Target, What, WorkerState,
};

use crate::scene::Scene;
use crate::specs::{QUIT, master, ms, pool, secs};

/// Two pools of two workers, all good, at 1 s.
fn two() -> (Vec<PoolSpec>, Scene) {
    let pools = vec![pool(0, 2), pool(1, 2)];
    let mut scene = Scene::of(pools.clone());
    scene.settled();
    (pools, scene)
}

#[test]
fn what_did_not_change_is_not_touched() {
    let (pools, mut s) = two();
    s.reload().expect("1 read-config");
    s.changed(master(), pools, &[]).expect("1 commit 2, done 1").to(60.0).expect("").idle();
}

#[test]
fn only_the_changed_pool_is_tried_and_rolled() {
    let (pools, mut s) = two();
    s.reload().changed(master(), pools, &[1]).expect("1 read-config, spawn b0.2");
    s.boots("b0.2").to(2.0).expect("2 commit 2, TERM b0.1, spawn b1.2");
    s.boots("b1.2").exit("b0.1", 0).to(3.0).expect("3 TERM b1.1");
    s.exit("b1.1", 0).expect("3 done 1").idle();
}

#[test]
fn live_keys_reach_running_workers_at_the_commit() {
    let (mut pools, mut s) = two();
    pools[0].stop[0].signal = QUIT;
    s.reload().changed(master(), pools, &[]).expect("1 read-config, commit 2, done 1");
    s.scale_to(0, 1).expect("1 QUIT a0.1");
}

#[test]
fn a_canary_that_dies_undoes_all_pools_and_the_old_spec_goes_on() {
    let (mut pools, mut s) = two();
    pools[0].stop[0].signal = QUIT;
    pools[1].after = vec![pools[0].id];
    s.reload().changed(master(), pools, &[0, 1]).expect("1 read-config, spawn a0.2");
    s.boots("a0.2").to(2.0).expect("2 spawn b0.2");
    // By its own spec, which nobody else has.
    s.up("b0.2").exit("b0.2", 1).expect("2 QUIT a0.2, discard 2");
    assert!(s.noted(|w| matches!(w, What::ReloadFailed { .. })));
    s.exit("a0.2", 0).expect("2 rolled-back 1");
    // Workers that die now are replaced by such as before.
    s.exit("a0.1", 1).expect("2 spawn a0.3").scale_to(0, 1).expect("2 TERM a1.1");
}

#[test]
fn an_old_worker_that_dies_while_a_canary_is_tried_is_replaced_by_an_old_one() {
    let (pools, mut s) = two();
    s.reload().changed(master(), pools, &[0]).expect("1 read-config, spawn a0.2");
    s.up("a0.2").exit("a1.1", 1).expect("1 spawn a1.2").boots("a1.2").skip();
    s.to(1.5).exit("a0.2", 3).expect("1.5 discard 2, rolled-back 1");
    assert_eq!((s.phase(0), s.target(0)), (Phase::Running, 2));
}

#[test]
fn a_canary_that_cannot_be_executed_or_is_not_ready_in_time_is_a_verdict() {
    let (pools, mut s) = two();
    s.reload().changed(master(), pools, &[0]).expect("1 read-config, spawn a0.2");
    s.spawn_fails("a0.2", SpawnFault::Exec).expect("1 discard 2, rolled-back 1").idle();

    let (mut pools, mut s) = two();
    pools[0].start_timeout = secs(5);
    s.reload().changed(master(), pools, &[0]).up("a0.2").skip().to(6.0).expect("6 TERM a0.2, discard 2");
    s.exit("a0.2", 0).expect("6 rolled-back 1").idle();
}

#[test]
fn a_newer_reload_takes_the_place_of_one_that_is_not_committed() {
    let (pools, mut s) = two();
    s.reload().changed(master(), pools.clone(), &[0]).expect("1 read-config, spawn a0.2").up("a0.2");
    s.reload().expect("1 read-config");
    s.changed(master(), pools, &[0]).expect("1 TERM a0.2, discard 2, rolled-back 1, spawn a0.3");
    s.exit("a0.2", 0).boots("a0.3").to(2.0).expect("2 commit 3, TERM a0.1, spawn a1.2");
}

#[test]
fn a_new_pool_that_does_not_boot_undoes_the_reload_and_is_gone() {
    let (mut pools, mut s) = two();
    pools.push(pool(2, 2));
    s.reload().changed(master(), pools, &[]).expect("1 read-config, spawn c0.1");
    s.up("c0.1").exit("c0.1", 1).expect("1 discard 2, gone c, rolled-back 1").idle();
}

#[test]
fn a_roll_that_fails_after_the_commit_brings_the_last_good_config_back() {
    let (mut pools, mut s) = two();
    // A first reload, for what came with the start is not known to have been good before one has been.
    s.reload().changed(master(), pools.clone(), &[]).expect("1 read-config, commit 2, done 1");
    pools[0].rollout.failures = 1;
    s.reload().changed(master(), pools.clone(), &[0]).boots("a0.2").to(2.0).skip();
    s.exit("a0.1", 0).up("a1.2").exit("a1.2", 1).expect("2 read-kept 2");
    assert!(s.noted(|w| matches!(w, What::RollingBack { .. })));
    // In a hurry, and to what was good: without a canary.
    s.changed(master(), pools, &[0]).expect("2 commit 4, spawn a0.3");
    s.boots("a0.3").to(3.0).expect("3 TERM a0.2").exit("a0.2", 0).expect("3 rolled-back 2").idle();
    assert!(s.state("a1.1").is_some(), "one that was never replaced serves on");
}

#[test]
fn a_roll_that_fails_is_halted_where_that_is_wanted() {
    let (mut pools, mut s) = two();
    pools[0].rollout.failures = 1;
    pools[0].rollout.on_failure = OnRollFailure::Halt;
    s.reload().changed(master(), pools, &[0]).boots("a0.2").to(2.0).skip();
    s.exit("a0.1", 0).up("a1.2").exit("a1.2", 1).expect("2 failed 1").to(60.0).expect("").idle();
    assert!(s.state("a1.1").is_some(), "the old worker that is left keeps serving");
}

#[test]
fn rollback_needs_something_to_go_back_to() {
    let (pools, mut s) = two();
    s.ask(Command::Rollback).expect("1 refused 1");
    s.reload().changed(master(), pools.clone(), &[0]).expect("1 read-config, spawn a0.2");
    // What is not committed is undone.
    s.up("a0.2").ask(Command::Rollback).expect("1 TERM a0.2, discard 2");
    s.exit("a0.2", 0).expect("1 rolled-back 2, done 3").idle();
}

#[test]
fn canaries_are_watched_for_the_bake_time_before_the_commit_and_the_others_after() {
    let (mut pools, mut s) = two();
    pools[0].rollout.bake = ms(3000);
    s.reload().changed(master(), pools, &[0]).boots("a0.2").to(4.9).expect("1 read-config, spawn a0.2");
    s.to(5.0).expect("5 commit 2, TERM a0.1, spawn a1.2").exit("a0.1", 0).boots("a1.2").to(6.0).expect("6 TERM a1.1");
    s.exit("a1.1", 0).to(8.9).expect("").to(9.0).expect("9 done 1").idle();
}

/// A pool that a reload brings back waits for those before it as at any start: its canary is no way around that.
#[test]
fn a_parked_pool_is_not_tried_before_those_that_it_is_after_are_ready() {
    let mut pools = vec![pool(0, 1), pool(1, 1)];
    pools[1].after = vec![pools[0].id];
    let mut s = Scene::of(pools.clone());
    s.settled().signal(poolmaster::supervisor::MasterSignal::Winch).expect("1 TERM a0.1, TERM b0.1");
    s.exit("a0.1", 0).exit("b0.1", 0).ask(Command::Reload { restart: true, pools: Vec::new() }).expect("1 read-config");
    // The first one's canary comes first; that of the second one with it good.
    s.configure(master(), pools).expect("1 spawn a0.2");
    s.boots("a0.2").to(2.0).expect("2 spawn b0.2");
    s.boots("b0.2").to(3.0).expect("3 commit 2, done 1");
}

#[test]
fn nothing_is_started_between_a_canary_and_the_newer_config_that_takes_its_pool_away() {
    let (mut pools, mut s) = two();
    pools[0].rollout.max_surge = Share::Count(0);
    pools[0].rollout.max_unavailable = Share::Count(1);
    s.reload().changed(master(), pools.clone(), &[0]).expect("1 read-config, TERM a0.1").exit("a0.1", 0).expect("1 spawn a0.2");
    s.reload().changed(master(), vec![pools[1].clone()], &[]);
    s.expect("1 read-config, TERM a0.2, discard 2, rolled-back 1, commit 3, TERM a1.1");
    // Where it stays as it was, its slot is filled again, by a worker of what is in force.
    let (pools, mut s) = two();
    let mut first = pools.clone();
    first[0].rollout.max_surge = Share::Count(0);
    first[0].rollout.max_unavailable = Share::Count(1);
    s.reload().changed(master(), first, &[0]).expect("1 read-config, TERM a0.1").exit("a0.1", 0).expect("1 spawn a0.2");
    s.reload().changed(master(), pools, &[]);
    s.expect("1 read-config, TERM a0.2, discard 2, rolled-back 1, commit 3, done 2").exit("a0.2", 0).expect("1 spawn a0.3");
}

#[test]
fn a_pool_that_fails_while_it_is_tried_keeps_what_its_canary_stands_beside_and_says_why_that_goes() {
    let (pools, mut s) = two();
    let mut first = pools.clone();
    first[0].restart.budget.failures = 1;
    first[0].restart.give_up_after = 1;
    s.reload().changed(master(), first.clone(), &[]).skip();
    s.scale_to(0, 3).expect("1 spawn a2.1").up("a2.1").exit("a2.1", 1).skip();
    // The probe.
    s.to(3.0).expect("1.5 spawn a2.2").up("a2.2");
    s.reload()
        .changed(master(), first, &[0])
        .expect("3 read-config, spawn a0.2")
        .up("a0.2")
        .exit("a2.2", 1)
        .expect("3 TERM a1.1");
    s.exit("a0.2", 1).expect("3 TERM a0.1, discard 3, rolled-back 3");
    assert!(s.noted(|w| matches!(w, What::Stopping { reason: Reason::PoolFailed, .. })));
    assert!(!s.noted(|w| matches!(w, What::Stopping { reason: Reason::Undone, .. })));
}

#[test]
fn a_time_that_is_changed_live_counts_from_the_same_beginning() {
    let with = |workers: u32, start: u64, settle: u64| {
        let mut a = pool(0, workers);
        (a.start_timeout, a.settle) = (secs(start), secs(settle));
        vec![a]
    };
    // To get ready: the third one has been starting for two seconds when the time is changed.
    for (before, after, due) in [(60, 5, "6 TERM a2.1"), (10, 20, "21 TERM a2.1"), (60, 2, "3 TERM a2.1")] {
        let mut s = Scene::of(with(2, before, 1));
        s.settled();
        s.reload().changed(master(), with(3, before, 1), &[]).expect("1 read-config, commit 2, spawn a2.1").up("a2.1");
        s.to(3.0).skip();
        s.reload().changed(master(), with(3, after, 1), &[]).skip();
        // The order waits for what it is to bring.
        s.to(25.0).expect(due);
    }
    // To settle: it has been ready for two seconds.
    for (before, after, good_at) in [(60, 5, 6.0), (10, 20, 21.0), (60, 2, 3.0)] {
        let mut s = Scene::of(with(2, 60, 1));
        s.settled();
        s.reload().changed(master(), with(3, 60, before), &[]).skip().boots("a2.1").to(3.0);
        s.reload().changed(master(), with(3, 60, after), &[]);
        let just_before = if good_at > 3.0 { good_at - 0.1 } else { good_at };
        let soon = s.to(just_before).state("a2.1");
        assert!(soon == Some(WorkerState::Ready) || good_at == 3.0, "{before} {after}: {soon:?}");
        assert_eq!(s.to(good_at).state("a2.1"), Some(WorkerState::Good), "{before} {after}");
    }
}

#[test]
fn a_reload_that_changes_nothing_but_the_number_answers_when_that_is_so() {
    let mut s = Scene::of(vec![pool(0, 2)]);
    s.settled();
    s.reload().changed(master(), vec![pool(0, 3)], &[]).expect("1 read-config, commit 2, spawn a2.1");
    s.boots("a2.1").expect("1 done 1");
    s.reload().changed(master(), vec![pool(0, 1)], &[]).expect("1 read-config, commit 3, TERM a0.1, TERM a1.1");
    s.exit("a0.1", 0).expect("").exit("a1.1", 0).expect("1 done 2");
    // And with what came of it, when it is not so.
    let mut a = pool(0, 2);
    a.restart.budget.failures = 1;
    s.reload()
        .changed(master(), vec![a], &[])
        .expect("1 read-config, commit 4, spawn a0.2")
        .up("a0.2")
        .exit("a0.2", 1)
        .expect("1 failed 3");
}

#[test]
fn who_waits_for_a_settled_pool_is_answered_when_nothing_goes_on_any_more() {
    let (pools, mut s) = two();
    let wait = |pool: u32| Command::Wait { pool: PoolId(pool), until: Condition::Settled };
    s.ask(wait(0)).expect("1 done 1");
    s.reload().changed(master(), pools, &[0]).expect("1 read-config, spawn a0.2").ask(wait(0)).ask(wait(1)).expect("");
    s.boots("a0.2").to(2.0).expect("2 commit 2, TERM a0.1, spawn a1.2").boots("a1.2").exit("a0.1", 0).to(3.0);
    // The old one is still there, and then the reload is through for the other pool as well.
    s.expect("3 TERM a1.1, done 4").exit("a1.1", 0).expect("3 done 2, done 3");
    // One that cannot come to rest by waiting.
    s.ask(Command::Stop { pools: vec![PoolId(1)] }).ask(wait(1)).expect("3 TERM b0.1, TERM b1.1");
    s.exit("b0.1", 0).expect("").exit("b1.1", 0).expect("3 done 5, done 6");
}

#[test]
fn an_abort_undoes_what_is_tried_and_the_order_is_answered_when_nothing_is_left_of_it() {
    let (pools, mut s) = two();
    s.reload().changed(master(), pools, &[0]).expect("1 read-config, spawn a0.2");
    s.ask(Command::Abort).expect("1 TERM a0.2, discard 2");
    s.ask(Command::Abort).expect("");
    s.exit("a0.2", 0).expect("1 rolled-back 1, done 2, done 3").to(60.0).expect("").idle();
    assert_eq!(s.core.reload_failure(), None, "nothing failed");
    s.ask(Command::Abort).expect("60 refused 4");
}

#[test]
fn an_abort_of_what_is_being_read_leaves_what_comes_of_it() {
    let (pools, mut s) = two();
    s.reload().expect("1 read-config").ask(Command::Reload { restart: true, pools: Vec::new() }).expect("");
    // The second one waits for a reading of its own: neither comes to anything.
    s.ask(Command::Abort).expect("1 rolled-back 1, rolled-back 2, done 3");
    s.changed(master(), pools.clone(), &[0]).expect("1 discard 2").to(60.0).expect("").idle();
    // A newer one is read and tried as ever, and what was aborted before is no part of it.
    s.reload().ask(Command::Abort).expect("60 read-config, rolled-back 4, done 5").reload().expect("");
    s.rejected().expect("60 read-config").changed(master(), pools, &[]).expect("60 commit 3, done 6");
}

#[test]
fn what_is_in_force_is_not_aborted() {
    let (pools, mut s) = two();
    s.reload().changed(master(), pools, &[0]).boots("a0.2").to(2.0).skip();
    s.ask(Command::Abort).expect("2 refused 2");
}

#[test]
fn the_history_tells_what_became_of_each_config() {
    use poolmaster::supervisor::Ended;
    let (pools, mut s) = two();
    let told =
        |s: &Scene| s.core.history().map(|r| (r.revision, r.ended.as_ref().map(|(_, ended, _)| *ended))).collect::<Vec<_>>();
    assert_eq!(told(&s), [(Some(1), Some(Ended::InForce))]);
    s.reload().rejected().reload().changed(master(), pools.clone(), &[0]).skip();
    assert_eq!(told(&s)[1..], [(None, Some(Ended::Refused)), (Some(2), None)]);
    s.up("a0.2").exit("a0.2", 1).skip();
    assert_eq!(told(&s)[2], (Some(2), Some(Ended::Undone)));
    // One that a newer one takes the place of before its commit, and that one after it.
    s.reload().changed(master(), pools.clone(), &[0]).reload().changed(master(), pools.clone(), &[0]).skip();
    assert_eq!(told(&s)[3..], [(Some(3), Some(Ended::Superseded)), (Some(4), None)]);
    s.bring_up().to(3.0).reload().changed(master(), pools, &[1]).skip();
    assert_eq!(told(&s)[4..], [(Some(4), None), (Some(5), None)], "the fourth goes on, should the fifth come to nothing");
    s.bring_up().to(4.0);
    assert_eq!(told(&s)[4], (Some(4), Some(Ended::Superseded)));
    for at in 5..10 {
        s.bring_up().to(f64::from(at));
    }
    assert_eq!(told(&s)[5], (Some(5), Some(Ended::InForce)));
    let record = s.core.history().last().expect("the last");
    assert_eq!(record.by, ["reload, asked by pid 4242 (uid 1000)"]);
}

#[test]
fn what_comes_before_the_first_worker_is_done_before_the_commit_also_without_a_canary() {
    let (mut pools, mut s) = two();
    pools[0].rollout.canary = 0;
    pools[0].pre_start = true;
    let answer = |failed: Option<&str>, revision| poolmaster::supervisor::Event::PreStarted {
        pool: PoolId(0),
        revision,
        failed: failed.map(str::to_owned),
    };
    // The other one is tried as ever, and all of it is undone.
    s.reload().changed(master(), pools.clone(), &[0, 1]).expect("1 read-config, pre-start a 2, spawn b0.2");
    s.boots("b0.2").to(2.0).expect("");
    s.fact(answer(Some("no disk"), 2)).expect("2 TERM b0.2, discard 2").exit("b0.2", 0).expect("2 rolled-back 1");
    let why = s.core.reload_failure().map(|(_, why)| why.to_owned()).unwrap_or_default();
    assert!(why.starts_with("a: no disk; nothing was changed"), "{why}");
    // An answer to what is wanted no more.
    s.reload().changed(master(), pools.clone(), &[0]).ask(Command::Abort);
    s.expect("2 read-config, pre-start a 3, discard 3, rolled-back 2, done 3").fact(answer(None, 3)).expect("");
    s.reload().changed(master(), pools, &[0]).expect("2 read-config, pre-start a 4");
    s.fact(answer(None, 4)).expect("2 commit 4, spawn a0.2");
}

#[test]
fn a_config_that_never_worked_is_nothing_to_go_back_to() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 1;
    a.boot = poolmaster::supervisor::OnBootFailure::Retry;
    let mut s = Scene::of(vec![a.clone()]);
    s.up("a0.1").exit("a0.1", 1).skip();
    assert_eq!(s.phase(0), Phase::BackingOff);
    s.reload().changed(master(), vec![a.clone()], &[0]).bring_up().to(5.0).skip();
    assert_eq!((s.phase(0), s.core.rollback_target()), (Phase::Running, None));
    s.ask(Command::Rollback).expect("5 refused 2");
    // The next one can be gone back from.
    s.reload().changed(master(), vec![a], &[0]).bring_up().to(9.0);
    assert_eq!(s.core.rollback_target(), Some(2));
}

#[test]
fn a_canary_that_waits_for_room_takes_the_place_of_a_worker_that_dies() {
    let mut a = pool(0, 3);
    a.rollout.max_surge = Share::Count(0);
    a.rollout.max_unavailable = Share::Count(1);
    a.restart.budget.failures = 1;
    let mut s = Scene::of(vec![a.clone()]);
    // One is missing: no other is stopped for the canary.
    s.settled().exit("a2.1", 1).expect("1 spawn a2.2");
    s.reload().changed(master(), vec![a], &[0]).expect("1 read-config");
    // Now the pool backs off: its next try is the canary.
    s.up("a2.2").exit("a2.2", 1);
    assert_eq!(s.phase(0), Phase::BackingOff);
    s.expect("1 spawn a2.3").bring_up().to(2.0).expect("2 commit 2, TERM a0.1");
}

#[test]
fn canaries_make_room_by_the_number_that_is_wanted_now() {
    let mut a = pool(0, 5);
    a.rollout.max_surge = Share::Count(0);
    a.rollout.max_unavailable = Share::Percent(25);
    a.rollout.canary = 2;
    a.remove = Remove::Oldest;
    let mut s = Scene::of(vec![a.clone()]);
    s.settled().exit("a3.1", 1).exit("a4.1", 1).expect("1 spawn a3.2, spawn a4.2");
    // Two of five may be missing, and are.
    s.reload().changed(master(), vec![a], &[0]).expect("1 read-config");
    // Of four only one may be.
    s.scale_to(0, 4).expect("1 TERM a1.1").boots("a3.2").to(1.4).expect("").boots("a4.2").expect("1.4 TERM a0.1");
}

#[test]
fn a_pool_that_becomes_smaller_gives_up_the_places_of_canaries_rather_than_workers_that_serve() {
    let mut a = pool(0, 5);
    a.rollout.max_surge = Share::Count(0);
    a.rollout.max_unavailable = Share::Percent(25);
    a.rollout.canary = 2;
    a.remove = Remove::Oldest;
    let mut s = Scene::of(vec![a.clone()]);
    s.settled().reload().changed(master(), vec![a], &[0]).expect("1 read-config, TERM a0.1, TERM a1.1");
    // Of four one canary is enough.
    s.scale_to(0, 4).exit("a0.1", 0).exit("a1.1", 0).expect("1 spawn a0.2").bring_up().to(2.0).skip();
    assert_eq!(s.state("a0.2"), Some(WorkerState::Good));
}

#[test]
fn a_canary_where_a_job_was_done_is_a_job_of_its_own() {
    let mut a = pool(0, 3);
    a.restart.policy = RestartPolicy::Never;
    a.rollout.max_surge = Share::Count(0);
    a.rollout.max_unavailable = Share::Count(1);
    let stay = MasterSpec { exit_when: ExitWhen::Never, ..master() };
    let mut s = Scene::under(stay.clone(), vec![a.clone()]);
    s.skip().boots("a0.1").boots("a1.1").up("a2.1").to(0.5).skip();
    // Its canary waits for room; then its job is done.
    s.reload().changed(stay, vec![a], &[0]).expect("0.5 read-config");
    s.exit("a0.1", 0).expect("0.5 spawn a0.2");
    s.boots("a0.2").boots("a2.1").to(2.0).expect("1.5 commit 2, TERM a1.1");
    s.exit("a1.1", 0).boots("a1.2").to(3.0).exit("a2.1", 0).boots("a2.2").to(4.0).skip();
    s.exit("a1.2", 0).exit("a2.2", 0).expect("");
    assert_eq!(s.phase(0), Phase::Running);
    s.exit("a0.2", 0);
    assert_eq!(s.phase(0), Phase::Completed);
}

#[test]
fn a_replacement_that_goes_before_it_was_seen_to_be_good_leaves_its_worker_to_be_replaced() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask(Command::Restart { targets: vec![Target { pool: PoolId(0), slot: None }] }).expect("1 spawn a0.2");
    // It has lasted, and says that it goes, before the loop comes to look at the clock.
    s.boots("a0.2").asleep(secs(30)).says("a0.2", Notification::Stopping).exit("a0.2", 0).skip();
    s.bring_up().to(60.0).skip();
    assert_eq!(s.state("a0.1"), Some(WorkerState::Stopping));
    s.exit("a0.1", 0).idle();
}

/// Pool a has left the config, and something of its former life is still there, at 1 s.
fn left(a: &PoolSpec) -> (MasterSpec, Scene) {
    let stay = MasterSpec { exit_when: ExitWhen::Never, ..master() };
    let mut s = Scene::under(stay.clone(), vec![a.clone(), pool(1, 1)]);
    s.settled().reload().changed(stay.clone(), vec![pool(1, 1)], &[]);
    s.expect("1 read-config, commit 2, TERM a0.1, TERM a1.1").exit("a1.1", 0).skip();
    (stay, s)
}

#[test]
fn a_pool_that_comes_back_has_the_pace_of_the_config_that_brings_it() {
    let mut a = pool(0, 2);
    let (stay, mut s) = left(&a);
    a.spawn_interval = ms(300);
    a.rollout.canary = 2;
    a.rollout.max_surge = Share::Count(2);
    s.reload().changed(stay, vec![a, pool(1, 1)], &[0]);
    s.to(1.2).expect("1 read-config, spawn a0.2, done 1").to(1.3).expect("1.3 spawn a1.2");
}

#[test]
fn what_was_good_in_a_former_life_of_a_pool_tells_nothing_of_it_now() {
    let mut a = pool(0, 2);
    a.restart.budget.failures = 1;
    a.rollout.canary = 0;
    let (stay, mut s) = left(&a);
    s.reload().changed(stay, vec![a, pool(1, 1)], &[0]).expect("1 read-config, commit 3, spawn a0.2, spawn a1.2, done 1");
    s.exit("a0.1", 0).up("a0.2").exit("a0.2", 1);
    assert_eq!(s.phase(0), Phase::Failed);
}
