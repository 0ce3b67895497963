//! Heartbeats: what arms them, what they lead to, and when they say nothing.

use poolmaster::supervisor::{Event, Notification, TimeoutFrom, What};

use crate::scene::Scene;
use crate::specs::{pool, secs};

const BEAT: Notification = Notification::Beat;

/// One good worker, at one second, with a heartbeat timeout of ten.
fn scene(from: TimeoutFrom) -> Scene {
    let mut a = pool(0, 1);
    a.timeout = Some(secs(10));
    a.timeout_from = from;
    let mut s = Scene::of(vec![a]);
    s.settled();
    s
}

#[test]
fn silence_leads_to_abrt_then_kill_then_a_new_worker() {
    let mut s = scene(TimeoutFrom::FirstBeat);
    s.to(2.0).says("a0.1", BEAT).to(8.0).says("a0.1", BEAT).to(30.0).expect("18 ABRT a0.1; 23 KILL a0.1");
    assert!(s.noted(|w| *w == What::HeartbeatLost { timeout: secs(10) }));
    s.exit("a0.1", 9).expect("30 spawn a0.2");
}

#[test]
fn a_worker_that_dies_of_abrt_is_replaced_without_kill() {
    let mut s = scene(TimeoutFrom::FirstBeat);
    s.says("a0.1", BEAT).to(11.0).expect("11 ABRT a0.1");
    s.exit("a0.1", 6).to(40.0).expect("11 spawn a0.2");
}

#[test]
fn a_program_that_never_beats_is_never_killed_for_it() {
    scene(TimeoutFrom::FirstBeat).to(100_000.0).expect("").idle();
}

#[test]
fn timeout_from_ready_counts_from_readiness() {
    scene(TimeoutFrom::Ready).to(12.0).expect("10 ABRT a0.1");
}

#[test]
fn from_the_stop_signal_on_it_is_never_enforced() {
    let mut s = scene(TimeoutFrom::FirstBeat);
    s.says("a0.1", BEAT).to(10.5).scale_to(0, 0).expect("10.5 TERM a0.1");
    s.to(60.0).expect("40.5 KILL a0.1");
}

#[test]
fn the_worker_may_change_its_own_timeout() {
    let mut s = scene(TimeoutFrom::FirstBeat);
    s.says("a0.1", BEAT).says("a0.1", Notification::Timeout(secs(2))).says("a0.1", BEAT).to(5.0).expect("3 ABRT a0.1");
    let mut s = scene(TimeoutFrom::FirstBeat);
    s.says("a0.1", BEAT).says("a0.1", Notification::Timeout(secs(0))).to(500.0).expect("").idle();
}

#[test]
fn a_worker_that_reports_itself_sick_is_aborted_though_no_timeout_is_set() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().to(5.0).says("a0.1", Notification::Trigger).expect("5 ABRT a0.1");
    s.to(20.0).expect("10 KILL a0.1");
}

#[test]
fn a_late_turn_grants_every_heartbeat_one_grace_period() {
    let mut s = scene(TimeoutFrom::FirstBeat);
    s.says("a0.1", BEAT).asleep(secs(300));
    s.fact(Event::Late { by: secs(290) }).fact(Event::Tick).expect("");
    s.to(310.9).expect("");
    s.to(312.0).expect("311 ABRT a0.1");
}
