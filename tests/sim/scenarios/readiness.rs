//! How the core knows that a worker is ready, and what a stale fact is worth.

use poolmaster::supervisor::{Command, Event, ExitStatus, Notification, Phase, PoolId, ReadyKind, What, WorkerState};

use crate::scene::{Scene, worker};
use crate::specs::{ms, pool, secs};

fn scene(kind: ReadyKind) -> Scene {
    let mut a = pool(0, 1);
    a.ready = kind;
    a.start_timeout = secs(10);
    let mut s = Scene::of(vec![a]);
    s.skip().up("a0.1");
    s
}

#[test]
fn exec_is_ready_when_the_program_runs() {
    assert_eq!(scene(ReadyKind::Exec).state("a0.1"), Some(WorkerState::Ready));
}

#[test]
fn ready_is_told_where_something_shows_it_and_otherwise_when_it_has_lasted() {
    let told = |s: &Scene, wanted| s.noted(|w| matches!(w, What::Ready { after } if *after == wanted));
    let any = |s: &Scene| s.noted(|w| matches!(w, What::Ready { .. }));
    let mut s = scene(ReadyKind::Exec);
    s.to(0.9);
    assert!(!any(&s));
    s.to(1.0);
    assert!(told(&s, secs(1)));
    let mut s = scene(ReadyKind::Exec);
    s.to(0.1).exit("a0.1", 1);
    assert!(!any(&s), "it was never ready");
    let mut s = scene(ReadyKind::Notify);
    s.to(0.5).ready("a0.1");
    assert!(told(&s, ms(500)));
}

#[test]
fn notify_is_ready_at_its_word_and_good_once_settled() {
    let mut s = scene(ReadyKind::Notify);
    assert_eq!(s.state("a0.1"), Some(WorkerState::Starting));
    s.to(2.0).ready("a0.1");
    assert_eq!(s.state("a0.1"), Some(WorkerState::Ready));
    s.to(2.9);
    assert_eq!(s.state("a0.1"), Some(WorkerState::Ready));
    s.to(3.0).expect("").idle();
    assert_eq!(s.state("a0.1"), Some(WorkerState::Good));
}

#[test]
fn a_delay_runs_from_the_exec() {
    let mut s = scene(ReadyKind::Delay(ms(700)));
    s.to(0.6);
    assert_eq!(s.state("a0.1"), Some(WorkerState::Starting));
    s.to(0.7);
    assert_eq!(s.state("a0.1"), Some(WorkerState::Ready));
}

#[test]
fn auto_looks_with_pauses_of_5_10_20_up_to_200_ms_and_only_while_starting() {
    let mut s = scene(ReadyKind::NotifyOrAccepting);
    s.to(0.72).expect(
        "0.005 look a0.1; 0.015 look a0.1; 0.035 look a0.1; 0.075 look a0.1; 0.155 look a0.1; 0.315 look a0.1; 0.515 look a0.1; \
         0.715 look a0.1",
    );
    s.accepting.insert(worker("a0.1"));
    s.to(0.95).expect("0.915 look a0.1");
    assert_eq!(s.state("a0.1"), Some(WorkerState::Ready));
    s.to(60.0).expect("").idle();
}

#[test]
fn auto_believes_a_word_before_it_has_looked() {
    let mut s = scene(ReadyKind::NotifyOrAccepting);
    s.to(0.002).ready("a0.1").to(60.0).expect("").idle();
}

#[test]
fn auto_takes_a_worker_that_is_alive_at_start_timeout_as_ready_with_a_warning() {
    let mut s = scene(ReadyKind::NotifyOrAccepting);
    s.to(9.99).skip().to(10.0);
    assert_eq!(s.state("a0.1"), Some(WorkerState::Ready));
    assert!(s.noted(|w| *w == What::AssumedReady));
    s.skip().to(60.0).expect("").idle();
}

#[test]
fn accepting_is_proof_by_the_kernel_only_and_ends_at_start_timeout() {
    let mut s = scene(ReadyKind::Accepting);
    s.to(9.99).ready("a0.1");
    assert_eq!(s.state("a0.1"), Some(WorkerState::Starting));
    s.skip().to(10.0).expect("10 TERM a0.1");
}

#[test]
fn a_start_may_be_extended_and_the_extension_has_to_be_repeated() {
    let mut s = scene(ReadyKind::Notify);
    s.to(8.0).says("a0.1", Notification::Extend(secs(5))).to(12.9).expect("");
    s.to(60.0).expect("13 TERM a0.1; 43 KILL a0.1");
    let mut s = scene(ReadyKind::Notify);
    s.to(2.0).says("a0.1", Notification::Extend(secs(1))).to(20.0).expect("10 TERM a0.1");
}

#[test]
fn settle_delays_judgements_and_no_boot() {
    let mut s = Scene::of(vec![pool(0, 2)]);
    s.skip().boots("a0.1");
    assert_eq!(s.core.pools()[0].ready, 1, "ready counts before it is settled");
    s.to(0.9).exit("a0.1", 1).exit("a0.2", 1).to(1.3).expect("0.9 spawn a0.2");
    s.to(1.4).expect("1.4 spawn a0.3");
}

#[test]
fn facts_of_older_generations_are_dropped() {
    let mut s = scene(ReadyKind::Notify);
    s.ready("a0.1").to(5.0).exit("a0.1", 1).up("a0.2").skip();
    for event in [
        Event::Exited { worker: worker("a0.1"), status: ExitStatus::Code(3), stragglers: false },
        Event::Notified { worker: worker("a0.1"), message: Notification::Ready },
        Event::Spawned { worker: worker("a0.1") },
        Event::Looked { worker: worker("a0.1"), accepting: true },
        Event::GroupGone { worker: worker("a0.1") },
        Event::Exited { worker: worker("b7.9"), status: ExitStatus::Code(3), stragglers: false },
    ] {
        s.fact(event).expect("");
        assert_eq!(s.state("a0.2"), Some(WorkerState::Starting));
    }
    assert!(s.noted(|w| matches!(w, What::Stale { .. })));
}

#[test]
fn a_worker_that_says_stopping_is_replaced_before_it_is_gone() {
    let mut s = scene(ReadyKind::Notify);
    s.ready("a0.1").to(5.0).says("a0.1", Notification::Stopping).expect("5 spawn a0.2");
    s.exit("a0.1", 0).boots("a0.2").to(10.0).expect("").idle();
}

#[test]
fn rarer_words_have_their_effect() {
    let mut a = pool(0, 1);
    a.restart.budget.failures = 3;
    let mut s = Scene::of(vec![a]);
    s.skip()
        .up("a0.1")
        .ready("a0.1")
        .to(1.0)
        .exit("a0.1", 1)
        .up("a0.2")
        .exit("a0.2", 1)
        .up("a0.3")
        .exit("a0.3", 1)
        .to(1.5)
        .skip();
    // Two deaths, and one that says so before it is good: they count.
    s.up("a0.4").says("a0.4", Notification::RestartReset).ready("a0.4").to(2.5).says("a0.4", Notification::RestartReset);
    // Once it is good, they count no more.
    s.exit("a0.4", 1).expect("2.5 spawn a0.5");
    s.up("a0.5").exit("a0.5", 1).expect("2.5 spawn a0.6").up("a0.6").exit("a0.6", 1).to(3.0).expect("3 spawn a0.7");
    assert_eq!(s.phase(0), Phase::Running, "the third within the stretch would be too many");
    s.up("a0.7").says("a0.7", Notification::RestartReset).exit("a0.7", 1);
    assert_eq!(s.phase(0), Phase::BackingOff, "one that is not good cannot forgive itself");
    s.ask(Command::Retry { pool: PoolId(0) }).skip();
    s.up("a0.8").says("a0.8", Notification::Busy { busy: 3, of: 8 });
    assert_eq!(s.core.workers(PoolId(0))[0].busy, Some((3, 8)));
    s.says("a0.8", Notification::MainPid(7)).says("a0.8", Notification::MainPid(8));
    assert_eq!(s.notes.iter().filter(|w| matches!(w, What::OtherMainPid { .. })).count(), 1);
}
