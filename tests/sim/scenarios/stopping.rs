//! How workers are stopped: sequence, deadlines, extensions, stragglers.

use poolmaster::supervisor::{
    Command, Condition, Event, KILL, KillMode, MasterSignal, Notification, Phase, PoolId, Scope, StopStep, Target, What,
    WorkerState,
};

use crate::scene::{Scene, worker};
use crate::specs::{QUIT, TERM, USR1, pool, secs};

const A: PoolId = PoolId(0);

fn stop() -> Command {
    Command::Stop { pools: vec![A] }
}

#[test]
fn a_worker_that_ignores_its_stop_signal_is_killed_at_the_deadline() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().to(10.0).ask(stop()).to(100.0).expect("10 TERM a0.1; 40 KILL a0.1");
    s.exit("a0.1", 9).expect("100 done 1").idle();
}

#[test]
fn a_stop_sequence_goes_step_by_step_and_ends_with_kill() {
    let mut a = pool(0, 1);
    a.stop = vec![StopStep { signal: QUIT, wait: secs(10) }, StopStep { signal: TERM, wait: secs(5) }];
    let mut s = Scene::of(vec![a]);
    s.settled().to(10.0).ask(stop()).to(60.0).expect("10 QUIT a0.1; 20 TERM a0.1; 25 KILL a0.1");
}

#[test]
fn a_worker_may_ask_for_more_time_to_stop() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask(stop()).to(25.0).says("a0.1", Notification::Extend(secs(10))).to(34.9).expect("1 TERM a0.1");
    s.to(60.0).expect("35 KILL a0.1");
}

#[test]
fn what_an_operator_stopped_stays_stopped() {
    let mut s = Scene::of(vec![pool(0, 2)]);
    s.settled().ask(stop()).exit("a0.1", 1).exit("a1.1", 1).expect("1 TERM a0.1, TERM a1.1, done 1");
    s.scale_signals(0, 1).to(1_000.0).expect("").idle();
    assert_eq!((s.phase(0), s.target(0)), (Phase::Stopped, 3));
    s.ask(Command::Start { pools: vec![A] }).expect("1000 spawn a0.2, spawn a1.2, spawn a2.1");
}

#[test]
fn a_stop_while_starting_is_no_failure_and_is_said_once() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.skip().ask(stop()).expect("0 TERM a0.1");
    s.up("a0.1").ready("a0.1").ask(stop()).to(1.0).expect("");
    s.exit("a0.1", 3).expect("1 done 1, done 2");
    assert_eq!(s.phase(0), Phase::Stopped);
}

/// A pool of two whose workers have something to be done before they are told to stop.
fn released() -> Scene {
    let mut a = pool(0, 2);
    a.release = Some(secs(30));
    let mut s = Scene::of(vec![a]);
    s.settled();
    s
}

fn release_of(w: &str) -> Event {
    Event::Released { worker: worker(w) }
}

#[test]
fn what_comes_before_the_stop_signal_takes_nothing_of_the_time_to_stop() {
    let mut s = released();
    s.ask(stop()).expect("1 release a0.1, release a1.1");
    assert_eq!(s.state("a0.1"), Some(WorkerState::Leaving));
    s.to(21.0).fact(release_of("a0.1")).expect("21 TERM a0.1");
    // The other one's takes too long: it is told all the same, and has its whole time as well.
    s.to(60.0).expect("34 TERM a1.1; 51 KILL a0.1");
    assert!(s.noted(|what| matches!(what, What::ReleaseOverdue { .. })));
    s.fact(release_of("a1.1")).expect("");
    s.to(80.0).expect("64 KILL a1.1");
}

#[test]
fn a_quick_stop_cuts_a_release_short() {
    let mut s = released();
    s.signal(MasterSignal::Term).expect("1 release a0.1, release a1.1");
    s.to(3.0).signal(MasterSignal::Int).expect("3 TERM a0.1, TERM a1.1");
    s.fact(release_of("a0.1")).to(10.0).expect("8 KILL a0.1, KILL a1.1");
}

#[test]
fn an_operators_signal_does_not_wait_for_a_release() {
    let mut s = released();
    s.scale_to(0, 1).expect("1 release a0.1");
    s.ask(Command::Kill { target: Target { pool: A, slot: Some(0) }, signal: USR1 }).expect("1 USR1 a0.1, done 2");
    assert_eq!(s.state("a0.1"), Some(WorkerState::Leaving));
    // It ends by itself: nobody asks more of it.
    s.exit("a0.1", 0).fact(release_of("a0.1")).to(100.0).expect("").idle();
}

#[test]
fn the_rest_of_a_group_has_its_time_when_the_leader_ends_before_it_is_told() {
    let mut s = released();
    s.scale_to(0, 1).to(2.0).leaves_stragglers("a0.1").expect("1 release a0.1; 2 TERM a0.1");
    s.to(40.0).expect("32 KILL a0.1");
}

#[test]
fn only_who_is_replaced_or_removed_is_released_for_a_listener_that_leaves() {
    let mut a = pool(0, 2);
    a.farewell = Some(secs(2));
    let mut s = Scene::of(vec![a]);
    s.settled().scale_to(0, 1).expect("1 TERM a0.1");
    s.exit("a0.1", 0).ask(Command::Restart { targets: vec![Target { pool: A, slot: None }] }).expect("1 spawn a1.2");
    s.boots("a1.2").to(2.0).expect("2 release a1.1");
    s.fact(release_of("a1.1")).expect("2 TERM a1.1");
    s.exit("a1.1", 0).expect("2 done 2").idle();
    s.ask(stop()).expect("2 TERM a1.2");
}

#[test]
fn one_that_is_not_started_yet_has_nothing_to_be_released_from() {
    let mut a = pool(0, 1);
    a.release = Some(secs(30));
    let mut s = Scene::of(vec![a]);
    s.skip().ask(stop()).expect("0 TERM a0.1");
}

#[test]
fn no_grandchild_is_left_after_a_crash() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().leaves_stragglers("a0.1").expect("1 KILL a0.1, spawn a0.2");
    s.fact(Event::GroupGone { worker: worker("a0.1") }).boots("a0.2").to(5.0).expect("").idle();
}

#[test]
fn after_a_stop_the_rest_of_the_group_has_what_is_left_of_the_time() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask(stop()).to(5.0).leaves_stragglers("a0.1").to(40.0).expect("1 TERM a0.1; 31 KILL a0.1");
    s.fact(Event::GroupGone { worker: worker("a0.1") }).expect("40 done 1").idle();
}

/// Leaders drain by their own children: these hear of it when the leader is gone, and not before.
#[test]
fn mixed_tells_the_leader_and_then_what_it_leaves_behind() {
    let mut a = pool(0, 1);
    a.kill_mode = KillMode::Mixed;
    let mut s = Scene::of(vec![a.clone()]);
    s.settled().ask(stop()).to(5.0).leaves_stragglers("a0.1").to(40.0).expect("1 TERM a0.1; 5 TERM a0.1; 31 KILL a0.1");
    assert_eq!(s.signals, [(TERM, Scope::Leader), (TERM, Scope::Group), (KILL, Scope::Group)]);
    // A leader that does not end takes all of them along.
    let mut s = Scene::of(vec![a]);
    s.settled().ask(stop()).to(40.0).expect("1 TERM a0.1; 31 KILL a0.1");
    assert_eq!(s.signals, [(TERM, Scope::Leader), (KILL, Scope::Group)]);
}

#[test]
fn a_process_that_kill_does_not_end_is_told_of_once() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask(stop()).to(1_000.0).expect("1 TERM a0.1; 31 KILL a0.1").idle();
    assert_eq!(s.notes.iter().filter(|w| matches!(w, What::Unkillable { .. })).count(), 1);
}

#[test]
fn a_command_is_answered_at_its_timeout_while_the_work_goes_on() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask_for(stop(), Some(secs(2))).to(5.0).expect("1 TERM a0.1; 3 timed-out 1");
    s.exit("a0.1", 0).to(100.0).expect("").idle();
}

#[test]
fn an_abandoned_command_gets_no_reply_and_a_later_order_ends_an_older_one() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask(stop()).fact(Event::Abandoned { id: poolmaster::supervisor::CommandId(1) });
    s.exit("a0.1", 0).expect("1 TERM a0.1");
    s.ask(Command::Start { pools: vec![A] }).ask(stop()).expect("1 spawn a0.2, TERM a0.2, failed 2");
    s.exit("a0.2", 0).expect("1 done 3");
}

#[test]
fn wait_answers_when_the_condition_holds() {
    let mut s = Scene::of(vec![pool(0, 2)]);
    s.skip();
    for until in [Condition::Ready, Condition::Count(1), Condition::Stopped] {
        s.ask(Command::Wait { pool: A, until });
    }
    s.boots("a0.1").expect("0 done 2");
    s.boots("a1.1").expect("0 done 1");
    s.ask(stop()).exit("a0.1", 0).expect("0 TERM a0.1, TERM a1.1");
    s.exit("a1.1", 0).expect("0 done 3, done 4");
}

#[test]
fn kill_is_done_when_it_is_sent_and_what_follows_is_up_to_the_worker() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    let target = poolmaster::supervisor::Target { pool: A, slot: Some(0) };
    s.settled().ask(Command::Kill { target, signal: TERM }).expect("1 TERM a0.1, done 1");
    s.to(50.0).expect("").exit("a0.1", 0).expect("50 spawn a0.2");
    s.ask(Command::Kill { target: poolmaster::supervisor::Target { pool: A, slot: Some(9) }, signal: TERM })
        .expect("50 refused 2");
}

#[test]
fn an_exit_that_was_asked_for_is_never_a_failure_whatever_its_code() {
    let mut a = pool(0, 3);
    a.restart.budget.failures = 1;
    let mut s = Scene::of(vec![a]);
    // None of them is good yet, and all leave with a boot-error code: they were told to go.
    s.bring_up()
        .scale_to(0, 1)
        .exit("a0.1", 3)
        .exit("a1.1", 4)
        .to(60.0)
        .expect("0 spawn a0.1, spawn a1.1, spawn a2.1, TERM a0.1, TERM a1.1");
    assert_eq!(s.phase(0), Phase::Running);
}
