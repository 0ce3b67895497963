//! The end of the master: graceful, quick, now; order, bound, and the last word.

use poolmaster::supervisor::{Command, Condition, Event, MasterSignal, MasterSpec, PoolId};

use crate::scene::Scene;
use crate::specs::{QUIT, master, pool, secs};

const TERM: MasterSignal = MasterSignal::Term;

#[test]
fn term_stops_gracefully_and_exits_when_the_last_is_gone() {
    let mut s = Scene::of(vec![pool(0, 2)]);
    s.settled().signal(TERM).expect("1 TERM a0.1, TERM a1.1");
    s.exit("a0.1", 0).to(3.0).exit("a1.1", 1).expect("3 exit 0").idle();
    s.signal(TERM).signal(MasterSignal::Hup).scale_signals(0, 5).to(100.0).expect("");
}

#[test]
fn term_kills_after_the_graceful_timeout() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().signal(TERM).to(60.0).expect("1 TERM a0.1; 31 KILL a0.1");
}

#[test]
fn the_master_has_a_bound_of_its_own() {
    let mut s = Scene::under(MasterSpec { graceful_timeout: secs(10), ..master() }, vec![pool(0, 1)]);
    s.settled().signal(TERM).to(16.5).exit("a0.1", 9).expect("1 TERM a0.1; 16 KILL a0.1; 16.5 exit 0");
}

#[test]
fn whose_turn_did_not_come_within_that_bound_is_told_to_stop_before_it_is_killed() {
    let bound = || MasterSpec { graceful_timeout: secs(10), ..master() };
    let mut b = pool(1, 1);
    b.after = vec![PoolId(0)];
    let mut s = Scene::under(bound(), vec![pool(0, 1), b]);
    s.settled().signal(TERM).to(60.0).expect("1 TERM b0.1; 11 TERM a0.1; 16 KILL a0.1, KILL b0.1; 27 exit 1");
    // Nor whom its release took so long.
    let mut a = pool(0, 1);
    a.release = Some(secs(30));
    let mut s = Scene::under(bound(), vec![a]);
    s.settled().signal(TERM).to(15.0).expect("1 release a0.1; 11 TERM a0.1");
    s.exit("a0.1", 0).expect("15 exit 0");
}

#[test]
fn int_and_quit_stop_quickly() {
    for signal in [MasterSignal::Int, MasterSignal::Quit] {
        let mut a = pool(0, 1);
        a.quick_signal = QUIT;
        let mut s = Scene::of(vec![a]);
        s.settled().signal(signal).to(60.0).expect("1 QUIT a0.1; 6 KILL a0.1; 17 exit 1");
    }
}

#[test]
fn each_further_signal_escalates_one_step_and_none_is_sent_twice() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().signal(TERM).to(2.0).signal(TERM).to(6.9).expect("1 TERM a0.1");
    s.to(7.0).expect("7 KILL a0.1");
    let mut a = pool(0, 1);
    a.quick_signal = QUIT;
    let mut s = Scene::of(vec![a]);
    s.settled().signal(TERM).to(2.0).signal(MasterSignal::Int).to(3.0).signal(TERM);
    s.expect("1 TERM a0.1; 2 QUIT a0.1; 3 KILL a0.1");
    s.signal(TERM).exit("a0.1", 9).expect("3 exit 0");
}

#[test]
fn a_quick_stop_never_gives_a_worker_more_time_than_it_had() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().signal(TERM).to(29.0).signal(MasterSignal::Int).to(40.0).expect("1 TERM a0.1; 31 KILL a0.1");
}

#[test]
fn pools_stop_in_reverse_order_of_after() {
    let mut b = pool(1, 1);
    b.after = vec![PoolId(0)];
    let mut s = Scene::of(vec![pool(0, 1), b]);
    s.settled().signal(TERM).expect("1 TERM b0.1");
    s.to(3.0).exit("b0.1", 0).expect("3 TERM a0.1");
    s.exit("a0.1", 0).expect("3 exit 0");
}

#[test]
fn nothing_is_started_once_the_end_has_begun() {
    let mut s = Scene::of(vec![pool(0, 2), pool(1, 1)]);
    s.settled().exit("a0.1", 1).signal(TERM).skip();
    s.spawn_fails("a0.2", poolmaster::supervisor::SpawnFault::Resources).exit("a1.1", 1).scale_signals(1, 5);
    s.ask(Command::Start { pools: vec![PoolId(0)] }).expect("1 refused 1");
    s.exit("b0.1", 0).expect("1 exit 0");
}

#[test]
fn shutdown_is_answered_when_everything_is_down() {
    for (now, line) in [(false, "1 TERM a0.1, TERM a1.1; 3 KILL a1.1"), (true, "1 QUIT a0.1, QUIT a1.1; 2 KILL a1.1")] {
        let mut a = pool(0, 2);
        a.stop[0].wait = secs(2);
        a.quick_timeout = secs(1);
        a.quick_signal = QUIT;
        let mut s = Scene::of(vec![a]);
        s.settled().ask(Command::Shutdown { now }).exit("a0.1", 0).to(4.0).expect(line);
        s.exit("a1.1", 9).expect("4 done 1, exit 0");
    }
}

#[test]
fn who_waits_is_told_before_the_end() {
    let mut b = pool(1, 1);
    b.after = vec![PoolId(0)];
    let mut s = Scene::of(vec![pool(0, 1), b]);
    s.settled();
    for until in [poolmaster::supervisor::Condition::Stopped, poolmaster::supervisor::Condition::Count(9)] {
        s.ask(Command::Wait { pool: PoolId(0), until });
    }
    s.signal(MasterSignal::Int).expect("1 failed 2, TERM a0.1, TERM b0.1");
    s.exit("a0.1", 0).exit("b0.1", 0);
    s.expect("1 done 1, exit 0");
}

#[test]
fn a_worker_between_fork_and_exec_is_stopped_too() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.skip().signal(TERM).expect("0 TERM a0.1");
    s.up("a0.1").to(1.0).expect("").exit("a0.1", 15).expect("1 exit 0");
}

#[test]
fn exit_is_the_last_action_even_when_the_kernel_does_not_let_go() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().signal(TERM).signal(TERM).signal(TERM).skip();
    s.to(11.0).expect("11 exit 1").idle();
    s.skip().fact(Event::Tick);
    assert!(s.notes.is_empty(), "nothing is said after the end: {:?}", s.notes);
}

/// A master that serves those who wait before it stops anybody.
fn lingering() -> Scene {
    let mut s = Scene::under(MasterSpec { linger: secs(5), ..master() }, vec![pool(0, 1)]);
    s.settled().signal(TERM).expect("1 quiesce");
    s
}

#[test]
fn those_who_wait_at_the_listeners_are_served_before_anybody_is_stopped() {
    lingering().to(2.0).fact(Event::Quiet).expect("2 TERM a0.1").exit("a0.1", 0).expect("2 exit 0").idle();
    // It has an end; a second signal, or the end of the last worker, ends it at once; and what is told too late means nothing.
    lingering().to(5.9).expect("").to(7.0).expect("6 TERM a0.1");
    lingering().signal(TERM).expect("1 TERM a0.1").fact(Event::Quiet).expect("");
    lingering().exit("a0.1", 0).expect("1 exit 0").idle();
    // Nobody is there who could serve them.
    let mut s = Scene::under(MasterSpec { linger: secs(5), ..master() }, vec![pool(0, 1)]);
    s.settled()
        .ask(Command::Stop { pools: vec![PoolId(0)] })
        .skip()
        .exit("a0.1", 0)
        .skip()
        .signal(TERM)
        .expect("1 exit 0")
        .idle();
}

/// Its last worker may be gone before its turn to be stopped comes.
#[test]
fn who_waits_for_a_pool_to_be_down_hears_of_it_in_a_shutdown_too() {
    let (a, mut b) = (pool(0, 1), pool(1, 1));
    b.after = vec![PoolId(0)];
    let mut s = Scene::of(vec![a, b]);
    s.settled().ask(Command::Wait { pool: PoolId(0), until: Condition::Stopped }).expect("");
    s.signal(MasterSignal::Int).expect("1 TERM a0.1, TERM b0.1");
    s.to(1.5).exit("a0.1", 0).expect("").exit("b0.1", 0).expect("1.5 done 1, exit 0");
}
