//! Each worker lives by the spec that it was started from, whatever is tried beside it or comes in force meanwhile.

use poolmaster::supervisor::{ReadyKind, TimeoutFrom, WorkerState};

use crate::scene::Scene;
use crate::specs::{INT, QUIT, TERM, master, ms, pool, secs};
use poolmaster::supervisor::{PoolSpec, StopStep};

/// A pool of two with `old`, all good at 1 s, and a config in which it is `new` as its canary is started.
fn tried(old: impl Fn(&mut PoolSpec), new: impl Fn(&mut PoolSpec)) -> Scene {
    let with = |change: &dyn Fn(&mut PoolSpec)| {
        let mut a = pool(0, 2);
        change(&mut a);
        vec![a]
    };
    let mut s = Scene::of(with(&old));
    s.settled().to(1.0);
    s.reload().changed(master(), with(&new), &[0]).expect("1 read-config, spawn a0.2");
    s
}

#[test]
fn a_stop_goes_by_the_steps_of_its_own_generation() {
    let step = |signal, wait| StopStep { signal, wait: secs(wait) };
    let mut s = tried(|a| a.stop = vec![step(TERM, 3), step(INT, 2)], |a| a.stop = vec![step(QUIT, 4), step(TERM, 1)]);
    s.boots("a0.2").to(2.0).expect("2 commit 2, TERM a0.1, spawn a1.2");
    // Midway through the steps of the one, the other is told by its own.
    s.to(4.0).scale_to(0, 1).skip();
    s.to(6.0).expect("5 INT a0.1");
    s.to(8.0).expect("7 KILL a0.1, INT a1.1; 8 TERM a1.2");
    let mut s = tried(|a| a.stop = vec![step(TERM, 3)], |a| a.stop = vec![step(QUIT, 4), step(TERM, 1)]);
    s.boots("a0.2").to(2.0).exit("a0.1", 0).boots("a1.2").to(3.0).exit("a1.1", 0).skip();
    s.scale_to(0, 1).to(9.0).expect("3 QUIT a0.2; 7 TERM a0.2; 8 KILL a0.2");
}

#[test]
fn readiness_is_shown_in_the_way_of_its_own_generation() {
    let mut s = tried(|a| a.ready = ReadyKind::Notify, |a| a.ready = ReadyKind::Exec);
    // An old one dies while the canary is tried: what comes in its place says that it is ready.
    s.exit("a1.1", 1).expect("1 spawn a1.2");
    s.up("a1.2").up("a0.2").to(1.2);
    assert_eq!((s.state("a1.2"), s.state("a0.2")), (Some(WorkerState::Starting), Some(WorkerState::Ready)));
    s.ready("a1.2");
    assert_eq!(s.state("a1.2"), Some(WorkerState::Ready));
    // And the other way round.
    let mut s = tried(|a| a.ready = ReadyKind::Exec, |a| a.ready = ReadyKind::Notify);
    s.exit("a1.1", 1).expect("1 spawn a1.2");
    s.up("a1.2").up("a0.2").to(1.2);
    assert_eq!((s.state("a1.2"), s.state("a0.2")), (Some(WorkerState::Ready), Some(WorkerState::Starting)));
}

#[test]
fn silence_is_held_against_a_worker_by_the_timeout_of_its_own_generation() {
    let watched = |within: u64| {
        move |a: &mut PoolSpec| {
            a.timeout = Some(secs(within));
            a.timeout_from = TimeoutFrom::Ready;
        }
    };
    let mut s = tried(watched(4), watched(10));
    // The old ones are ready since 0 s, the canary since 1 s, and none has ever beaten.
    s.boots("a0.2").to(2.0).expect("2 commit 2, TERM a0.1, spawn a1.2");
    s.exit("a0.1", 0).to(10.0).expect("4 ABRT a1.1; 9 KILL a1.1");
    s.to(11.0).expect("11 ABRT a0.2");
}

#[test]
fn a_worker_is_good_after_the_time_of_its_own_generation() {
    let mut s = tried(|a| a.settle = ms(500), |a| a.settle = secs(5));
    s.exit("a1.1", 1).expect("1 spawn a1.2");
    s.boots("a1.2").boots("a0.2").to(1.6);
    assert_eq!((s.state("a1.2"), s.state("a0.2")), (Some(WorkerState::Good), Some(WorkerState::Ready)));
    s.to(6.0).expect("6 commit 2, TERM a0.1, spawn a1.3");
    s.boots("a1.3").to(10.0).expect("").to(11.0).expect("11 TERM a1.2");
}
