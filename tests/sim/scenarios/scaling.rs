//! The wanted count: by order, by signal, within its bounds.

use poolmaster::supervisor::{
    Command, MasterSignal, MasterSpec, Next, Notification, PoolId, PoolSpec, ReadyKind, Remove, ScaleChange, Target, What,
    WorkerState,
};

use crate::scene::Scene;
use crate::specs::{master, pool, secs};

const A: PoolId = PoolId(0);

fn scale(change: ScaleChange) -> Command {
    Command::Scale { pool: A, change }
}

fn settled(spec: PoolSpec) -> Scene {
    let mut s = Scene::of(vec![spec]);
    s.settled();
    s
}

#[test]
fn a_slot_whose_worker_and_its_replacement_both_go_is_removed_first() {
    let mut a = pool(0, 2);
    a.start_timeout = secs(5);
    a.remove = Remove::Newest;
    let mut s = Scene::of(vec![a]);
    s.settled().ask(Command::Restart { targets: vec![Target { pool: PoolId(0), slot: Some(0) }] }).expect("1 spawn a0.2");
    s.up("a0.2").to(6.0).expect("6 TERM a0.2").says("a0.1", Notification::Trigger).expect("6 ABRT a0.1");
    // The other one serves, and goes on to.
    s.scale_to(0, 1).skip();
    assert_eq!(s.state("a1.1"), Some(WorkerState::Good));
}

#[test]
fn up_fills_the_lowest_free_slots_and_is_done_when_they_are_ready() {
    let mut s = settled(pool(0, 2));
    s.ask(scale(ScaleChange::By(2))).expect("1 spawn a2.1, spawn a3.1");
    s.boots("a3.1").expect("");
    s.boots("a2.1").expect("1 done 1");
}

#[test]
fn down_stops_the_oldest_first_and_is_done_when_they_are_gone() {
    let mut s = settled(pool(0, 3));
    s.to(5.0).exit("a0.1", 1).boots("a0.2").to(7.0).skip();
    s.ask(scale(ScaleChange::By(-1))).expect("7 TERM a1.1");
    s.exit("a1.1", 0).to(60.0).expect("7 done 1").idle();
    s.ask(scale(ScaleChange::To(3))).expect("60 spawn a1.2");
}

#[test]
fn remove_says_who_goes() {
    for (remove, gone) in [(Remove::Oldest, "7 TERM a1.1"), (Remove::Newest, "7 TERM a0.2"), (Remove::HighestSlot, "7 TERM a2.1")]
    {
        let mut a = pool(0, 3);
        a.remove = remove;
        let mut s = settled(a);
        s.to(5.0).exit("a0.1", 1).boots("a0.2").to(7.0).skip();
        s.ask(scale(ScaleChange::To(2))).expect(gone);
    }
}

#[test]
fn down_takes_slots_without_a_live_worker_first() {
    let mut s = settled(pool(0, 3));
    s.exit("a2.1", 1).exit("a2.2", 1).exit("a2.3", 1).skip();
    s.ask(scale(ScaleChange::By(-1))).expect("1 done 1").to(60.0).expect("").idle();
}

#[test]
fn down_takes_a_worker_that_is_going_anyway_before_a_healthy_one() {
    let mut a = pool(0, 2);
    a.rollout.max_surge = poolmaster::supervisor::Share::Count(0);
    a.rollout.max_unavailable = poolmaster::supervisor::Share::Count(1);
    a.remove = Remove::HighestSlot;
    let mut s = settled(a);
    s.ask(Command::Restart { targets: vec![poolmaster::supervisor::Target { pool: A, slot: Some(0) }] }).expect("1 TERM a0.1");
    s.ask(scale(ScaleChange::To(1))).expect("");
    s.exit("a0.1", 0).expect("1 done 1, done 2").idle();
}

#[test]
fn an_order_beyond_the_bounds_is_refused_and_nothing_changes() {
    let mut a = pool(0, 3);
    (a.min, a.max) = (2, Some(4));
    let mut s = settled(a);
    for change in [ScaleChange::By(2), ScaleChange::To(5), ScaleChange::To(1), ScaleChange::By(-2), ScaleChange::Percent(200)] {
        s.ask(scale(change));
    }
    s.expect("1 refused 1, refused 2, refused 3, refused 4, refused 5");
    assert_eq!(s.target(0), 3);
    s.ask(scale(ScaleChange::Percent(100))).expect("1 spawn a3.1");
}

#[test]
fn zero_is_always_allowed_and_config_goes_back_to_the_files_number() {
    let mut a = pool(0, 3);
    a.min = 2;
    let mut s = settled(a);
    s.ask(scale(ScaleChange::To(0))).expect("1 TERM a0.1, TERM a1.1, TERM a2.1");
    s.exit("a0.1", 0).exit("a1.1", 0).exit("a2.1", 0).expect("1 done 1");
    s.to(100.0).expect("").idle();
    s.ask(scale(ScaleChange::Config)).expect("100 spawn a0.2, spawn a1.2, spawn a2.2");
}

#[test]
fn a_percentage_without_a_maximum_is_refused() {
    settled(pool(0, 1)).ask(scale(ScaleChange::Percent(50))).expect("1 refused 1");
}

#[test]
fn five_hundred_signals_are_five_hundred_workers() {
    let mut s = settled(pool(0, 1));
    s.scale_signals(0, 500).bring_up();
    assert_eq!((s.target(0), s.core.pools()[0].ready), (501, 501));
}

#[test]
fn signals_are_summed_then_clamped_once() {
    let mut a = pool(0, 3);
    (a.min, a.max) = (2, Some(5));
    let mut s = settled(a);
    s.scale_signals(0, 500).expect("1 spawn a3.1, spawn a4.1");
    assert!(s.noted(|w| matches!(w, What::Clamped { wish: 503, to: 5, .. })));
    s.settled().scale_signals(0, -500).expect("2 TERM a0.1, TERM a1.1, TERM a2.1");
    assert_eq!(s.target(0), 2);
}

#[test]
fn signals_never_go_below_one_and_a_step_down_never_adds() {
    let mut a = pool(0, 2);
    a.min = 0;
    let mut s = settled(a);
    s.scale_signals(0, -9).expect("1 TERM a0.1");
    assert_eq!(s.target(0), 1);
    s.exit("a0.1", 0).ask(scale(ScaleChange::To(0))).exit("a1.1", 0).skip();
    s.scale_signals(0, -1).expect("");
    assert_eq!(s.target(0), 0);
    s.scale_signals(0, 1).expect("1 spawn a0.2");
}

#[test]
fn ttin_and_ttou_act_on_the_default_pool() {
    let two = || vec![pool(0, 1), pool(1, 1)];
    let mut s = Scene::under(MasterSpec { default_pool: Some(PoolId(1)), ..master() }, two());
    s.settled().signal(MasterSignal::Ttin).expect("1 spawn b1.1");
    s.bring_up().signal(MasterSignal::Ttou).expect("1 TERM b0.1");
    s.signal(MasterSignal::Ttou).expect("");
    // Without one, and with several pools, there is nothing they could mean; with one pool there is.
    let mut s = Scene::of(two());
    s.settled().signal(MasterSignal::Ttin).expect("");
    settled(pool(0, 1)).signal(MasterSignal::Ttin).expect("1 spawn a1.1");
}

#[test]
fn winch_parks_and_start_ttin_and_hup_unpark() {
    let parked = || {
        let mut s = settled(pool(0, 2));
        s.scale_signals(0, 1).settled();
        s.signal(MasterSignal::Winch).expect("2 TERM a0.1, TERM a1.1, TERM a2.1");
        s.exit("a0.1", 0).exit("a1.1", 0).exit("a2.1", 0).to(50.0).expect("").idle();
        s
    };
    parked().signal(MasterSignal::Ttin).expect("50 spawn a0.2, spawn a1.2, spawn a2.2");
    parked().ask(Command::Start { pools: vec![A] }).expect("50 spawn a0.2, spawn a1.2, spawn a2.2");
    let mut s = parked();
    s.signal(MasterSignal::Hup).expect("50 read-config");
    // One canary first, as ever.
    s.configure(master(), vec![pool(0, 2)]).expect("50 spawn a0.2");
    s.boots("a0.2").to(60.0).expect("51 commit 2, spawn a1.2, spawn a2.2");
}

#[test]
fn of_a_worker_whose_slot_is_gone_nobody_says_that_it_was_replaced() {
    let mut a = pool(0, 2);
    a.ready = ReadyKind::Notify;
    a.start_timeout = secs(2);
    let mut s = Scene::of(vec![a]);
    s.boots("a0.1").up("a1.1").to(2.5).expect("0 spawn a0.1, spawn a1.1; 2 TERM a1.1");
    s.scale_to(0, 1).exit("a1.1", 1).expect("").idle();
    assert!(s.noted(|w| matches!(w, What::Exited { next: Next::Unwanted, .. })));
}
