//! Replacing workers: new ones good before old ones stop, and where it ends when they do not get good.

use poolmaster::supervisor::{Command, MasterSignal, Notification, PoolId, ReadyKind, RestartPolicy, Share, Target, What};

use crate::scene::Scene;
use crate::specs::{master, pool};

const A: PoolId = PoolId(0);

fn restart(slot: Option<u32>) -> Command {
    Command::Restart { targets: vec![Target { pool: A, slot }] }
}

#[test]
fn with_a_surge_of_one_each_new_worker_is_good_before_its_old_one_stops() {
    let mut s = Scene::of(vec![pool(0, 2)]);
    s.settled().ask(restart(None)).expect("1 spawn a0.2");
    s.to(2.0).boots("a0.2").to(2.9).expect("");
    s.to(3.0).expect("3 TERM a0.1, spawn a1.2");
    s.exit("a0.1", 0).boots("a1.2").to(4.0).expect("4 TERM a1.1");
    s.exit("a1.1", 0).to(60.0).expect("4 done 1").idle();
}

#[test]
fn a_larger_surge_replaces_several_at_once() {
    let mut a = pool(0, 4);
    a.rollout.max_surge = Share::Percent(50);
    a.rollout.canary = 0;
    let mut s = Scene::of(vec![a]);
    s.settled().ask(restart(None)).expect("1 spawn a0.2, spawn a1.2");
    s.bring_up().to(2.0).expect("2 TERM a0.1, spawn a2.2, TERM a1.1, spawn a3.2");
}

#[test]
fn without_surge_the_old_one_stops_first() {
    let mut a = pool(0, 2);
    a.rollout.max_surge = Share::Count(0);
    a.rollout.max_unavailable = Share::Count(1);
    let mut s = Scene::of(vec![a]);
    s.settled().ask(restart(None)).expect("1 TERM a0.1");
    s.to(3.0).exit("a0.1", 0).boots("a0.2").to(3.9).expect("3 spawn a0.2");
    s.to(4.0).expect("4 TERM a1.1");
}

#[test]
fn with_both_some_are_replaced_beside_the_old_ones_and_some_in_their_place() {
    let mut a = pool(0, 4);
    a.rollout.max_surge = Share::Count(1);
    a.rollout.canary = 0;
    a.rollout.max_unavailable = Share::Count(1);
    let mut s = Scene::of(vec![a]);
    s.settled().ask(restart(None)).expect("1 spawn a0.2, TERM a1.1");
    assert_eq!(s.core.pools()[0].ready, 3, "one is missing, and no more");
    s.exit("a1.1", 0).bring_up().to(2.0).expect("1 spawn a1.2; 2 TERM a0.1, spawn a2.2, TERM a3.1");
    s.exit("a0.1", 0).exit("a3.1", 0).bring_up().to(3.0).expect("2 spawn a3.2; 3 TERM a2.1");
    s.exit("a2.1", 0).expect("3 done 1").idle();
}

#[test]
fn one_slot_can_be_replaced_alone() {
    let mut s = Scene::of(vec![pool(0, 3)]);
    s.settled().ask(restart(Some(1))).expect("1 spawn a1.2");
    s.boots("a1.2").to(2.0).exit("a1.1", 0).to(60.0).expect("2 TERM a1.1, done 1").idle();
    s.ask(restart(Some(7))).expect("60 refused 2");
}

#[test]
fn a_roll_stops_where_it_is_after_three_failures_in_a_row() {
    let mut a = pool(0, 2);
    a.rollout.canary = 0;
    let mut s = Scene::of(vec![a]);
    s.settled().ask(restart(None)).exit("a0.2", 1).exit("a0.3", 1).to(1.5).expect("1 spawn a0.2, spawn a0.3; 1.5 spawn a0.4");
    s.exit("a0.4", 1).to(60.0).expect("1.5 failed 1").idle();
    assert!(s.noted(|w| matches!(w, What::RollHalted { .. })));
    assert_eq!(s.core.pools()[0].ready, 2, "the old workers keep serving");
}

#[test]
fn a_restart_begins_with_canaries() {
    let mut a = pool(0, 4);
    a.rollout.max_surge = Share::Percent(50);
    let mut s = Scene::of(vec![a.clone()]);
    s.settled().ask(restart(None)).expect("1 spawn a0.2");
    s.boots("a0.2").to(2.0).expect("2 TERM a0.1, spawn a1.2, spawn a2.2");
    a.rollout.canary = 2;
    let mut s = Scene::of(vec![a]);
    s.settled().ask(restart(None)).expect("1 spawn a0.2, spawn a1.2");
    s.boots("a0.2").to(2.0).expect("2 TERM a0.1");
    s.boots("a1.2").to(3.0).expect("3 TERM a1.1, spawn a2.2, spawn a3.2");
}

#[test]
fn a_restart_whose_canary_does_not_get_good_has_touched_nobody() {
    let mut s = Scene::of(vec![pool(0, 2)]);
    s.settled().ask(restart(None)).exit("a0.2", 1).to(60.0).expect("1 spawn a0.2, rolled-back 1").idle();
    assert!(s.noted(|w| matches!(w, What::RollHalted { .. })));
    assert_eq!(s.core.pools()[0].ready, 2, "the old workers keep serving");
    // Later ones have more than one try.
    s.ask(restart(None)).boots("a0.3").to(61.0).expect("60 spawn a0.3; 61 TERM a0.1, spawn a1.2");
    s.exit("a0.1", 0).exit("a1.2", 1).expect("61 spawn a1.3").boots("a1.3").to(62.0).expect("62 TERM a1.1");
    s.exit("a1.1", 0).expect("62 done 2");
}

#[test]
fn a_canary_of_a_restart_that_takes_the_place_of_the_old_one_stops_it_as_well() {
    let mut a = pool(0, 2);
    a.rollout.max_surge = Share::Count(0);
    a.rollout.max_unavailable = Share::Count(1);
    let mut s = Scene::of(vec![a]);
    s.settled().ask(restart(None)).expect("1 TERM a0.1").exit("a0.1", 0).expect("1 spawn a0.2");
    // The slot is filled again; the other old worker stays.
    s.exit("a0.2", 1).expect("1 spawn a0.3, failed 1").boots("a0.3").to(60.0).expect("").idle();
}

#[test]
fn an_old_worker_that_gets_good_meanwhile_does_not_pass_for_its_replacement() {
    let mut a = pool(0, 2);
    a.settle = std::time::Duration::from_secs(3);
    let mut s = Scene::of(vec![a]);
    s.bring_up().to(1.0).skip().ask(restart(None)).expect("1 spawn a0.2");
    // The old ones settle at 3 s: no reason to start another replacement.
    s.to(5.0).expect("");
    s.boots("a0.2").to(8.0).expect("8 TERM a0.1, spawn a1.2");
}

#[test]
fn an_old_worker_that_crashes_during_a_roll_is_replaced_by_the_one_that_is_coming() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask(restart(None)).exit("a0.1", 1).boots("a0.2").to(60.0).expect("1 spawn a0.2; 2 done 1").idle();
}

#[test]
fn an_old_worker_that_says_stopping_during_a_roll_needs_no_third_one() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask(restart(None)).says("a0.1", Notification::Stopping).exit("a0.1", 0);
    s.boots("a0.2").to(60.0).expect("1 spawn a0.2; 2 done 1").idle();
}

#[test]
fn scale_during_a_roll_changes_the_target_at_once() {
    let mut s = Scene::of(vec![pool(0, 2)]);
    s.settled().ask(restart(None)).scale_signals(0, 1).expect("1 spawn a0.2, spawn a2.1");
    s.scale_signals(0, -2).bring_up().to(3.0);
    assert_eq!((s.target(0), s.core.pools()[0].ready), (1, 1));
}

#[test]
fn stop_ends_a_roll() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask(restart(None)).ask(Command::Stop { pools: vec![A] });
    s.expect("1 spawn a0.2, TERM a0.2, TERM a0.1, failed 1");
    s.exit("a0.1", 0).exit("a0.2", 0).to(60.0).expect("1 done 2").idle();
}

#[test]
fn a_roll_that_is_asked_again_starts_from_the_workers_as_they_are() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask(restart(None)).ask(restart(None)).expect("1 spawn a0.2, TERM a0.2, spawn a0.3");
    s.exit("a0.2", 0).boots("a0.3").to(2.0).exit("a0.1", 0).to(60.0).expect("2 TERM a0.1, done 1, done 2").idle();
}

#[test]
fn the_restart_signal_and_hup_roll_too() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled()
        .fact(poolmaster::supervisor::Event::RestartSignal { pool: A, sender: crate::storm::OPERATOR })
        .expect("1 spawn a0.2");
    s.boots("a0.2").to(2.0).exit("a0.1", 0).skip();
    s.signal(MasterSignal::Hup).configure(master(), vec![pool(0, 1)]).expect("2 read-config, spawn a0.3");
}

#[test]
fn a_slot_that_stays_empty_does_not_hold_up_the_roll() {
    let mut a = pool(0, 2);
    a.restart.policy = RestartPolicy::Never;
    a.rollout.max_surge = Share::Count(0);
    a.rollout.max_unavailable = Share::Count(1);
    a.rollout.canary = 0;
    let mut s = Scene::of(vec![a]);
    s.settled().ask(restart(None)).expect("1 TERM a0.1").exit("a0.1", 0).expect("1 spawn a0.2");
    s.up("a0.2").exit("a0.2", 1).expect("1 TERM a1.1").exit("a1.1", 0).expect("1 spawn a1.2");
    s.boots("a1.2").to(2.0).expect("2 done 1").idle();
    assert!(s.noted(|w| *w == What::RollDone));
}

#[test]
fn a_restart_of_a_pool_that_backs_off_begins_with_a_new_worker_and_does_not_replace_that_again() {
    let mut a = pool(0, 2);
    a.restart.budget.failures = 1;
    let mut s = Scene::of(vec![a]);
    s.settled().scale_to(0, 3).up("a2.1").exit("a2.1", 1).skip();
    s.ask(restart(None)).expect("1 spawn a2.2").bring_up().to(60.0).expect("2 spawn a0.2");
    s.bring_up().to(61.0).expect("61 TERM a0.1, spawn a1.2").exit("a0.1", 0).bring_up();
    s.to(90.0).expect("62 TERM a1.1").exit("a1.1", 0).expect("90 done 2");
}

#[test]
fn a_worker_that_ends_well_just_before_it_is_good_is_not_told_to_stop_any_more() {
    let mut a = pool(0, 1);
    a.ready = ReadyKind::Notify;
    a.restart.budget.failures = 1;
    a.rollout.max_surge = Share::Count(0);
    a.rollout.max_unavailable = Share::Count(1);
    let mut s = Scene::of(vec![a]);
    s.settled().scale_to(0, 2).up("a1.1").exit("a1.1", 1).to(1.5).skip();
    s.boots("a1.2").ask(restart(Some(1))).expect("");
    s.exit("a1.2", 0).to(2.0).expect("1.6 spawn a1.3");
}

#[test]
fn a_roll_takes_as_many_turns_as_the_surge_makes_of_it() {
    for (surge, turns) in [(Share::Percent(25), 5), (Share::Percent(50), 3), (Share::Count(10), 11)] {
        let mut a = pool(0, 100);
        a.rollout.max_surge = surge;
        let mut s = Scene::of(vec![a.clone()]);
        s.settled().reload().changed(master(), vec![a], &[0]);
        // The canary's, then the others'. Each takes a start, which takes no time here, and `settle`, which is a second.
        let mut seconds = 0;
        while s.core.reload_progress().is_some() {
            seconds += 1;
            s.bring_up().to(f64::from(1 + seconds));
            assert!(seconds <= 100, "{surge:?} has no end");
        }
        assert_eq!(seconds, turns, "{surge:?}");
    }
}
