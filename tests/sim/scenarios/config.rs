//! A config that changes under running pools.

use poolmaster::supervisor::{Command, MasterSignal, MasterSpec, OnHup, Phase, PoolId, What};

use crate::scene::Scene;
use crate::specs::{USR1, master, pool};

#[test]
fn hup_adds_drops_and_rolls() {
    let mut s = Scene::of(vec![pool(0, 1), pool(1, 1)]);
    s.settled().signal(MasterSignal::Hup).expect("1 read-config");
    // Canaries first: of the pool that stays and of the new one.
    s.configure(master(), vec![pool(0, 1), pool(2, 1)]).expect("1 spawn a0.2, spawn c0.1");
    assert_eq!(s.phase(1), Phase::Running, "nothing old is touched before they are good");
    s.bring_up().to(2.0).expect("2 commit 2, TERM a0.1, TERM b0.1");
    assert_eq!(s.phase(1), Phase::Removed);
    s.exit("b0.1", 0).expect("2 gone b");
}

#[test]
fn an_invalid_file_restarts_nothing() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().ask(Command::Reload { restart: true, pools: Vec::new() }).rejected();
    s.to(60.0).expect("1 read-config, invalid 1").idle();
}

#[test]
fn reload_is_done_when_everything_is_replaced() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled()
        .ask(Command::Reload { restart: true, pools: Vec::new() })
        .configure(master(), vec![pool(0, 1)])
        .boots("a0.2")
        .to(2.0)
        .skip();
    s.exit("a0.1", 0).expect("2 done 1").idle();
}

#[test]
fn a_reload_ordered_while_an_older_file_is_read_waits_for_its_own_reading() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().signal(MasterSignal::Hup).ask(Command::Reload { restart: true, pools: Vec::new() }).expect("1 read-config");
    // What comes now was read before the order.
    s.rejected().expect("1 read-config");
    s.configure(master(), vec![pool(0, 1)]).boots("a0.2").to(2.0).skip();
    s.exit("a0.1", 0).expect("2 done 1").idle();

    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().signal(MasterSignal::Hup).ask(Command::Reload { restart: true, pools: Vec::new() }).expect("1 read-config");
    s.configure(master(), vec![pool(0, 1)]).boots("a0.2").skip();
    s.rejected().expect("1 invalid 1");
}

#[test]
fn two_requests_while_a_config_is_read_lead_to_one_more_reading() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().signal(MasterSignal::Hup).signal(MasterSignal::Hup).signal(MasterSignal::Hup).expect("1 read-config");
    s.rejected().expect("1 read-config");
    s.rejected().expect("");
}

#[test]
fn the_operators_number_survives_unless_the_files_workers_changed() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().scale_signals(0, 2).settled();
    s.configure(master(), vec![pool(0, 1)]).settled();
    assert_eq!(s.target(0), 3);
    s.configure(master(), vec![pool(0, 2)]);
    assert_eq!(s.target(0), 3, "not before the commit");
    s.settled();
    assert_eq!(s.target(0), 2);
}

#[test]
fn hup_leaves_what_an_operator_stopped_alone_and_gives_a_failed_pool_a_new_chance() {
    let never = MasterSpec { exit_when: poolmaster::supervisor::ExitWhen::Never, ..master() };
    let mut s = Scene::under(never.clone(), vec![pool(0, 1), pool(1, 1)]);
    s.skip().up("b0.1").exit("b0.1", 3).ask(Command::Stop { pools: vec![PoolId(0)] }).exit("a0.1", 0).skip();
    s.configure(never, vec![pool(0, 1), pool(1, 1)]).expect("0 commit 2, spawn b0.2");
    assert_eq!(s.phase(0), Phase::Stopped);
}

#[test]
fn hup_resets_back_off_and_what_it_starts_itself_is_not_rolled() {
    let mut a = pool(0, 2);
    a.restart.budget.failures = 1;
    let mut s = Scene::of(vec![a.clone()]);
    s.settled().exit("a0.1", 1).exit("a0.2", 1).skip();
    assert_eq!(s.phase(0), Phase::BackingOff);
    s.configure(master(), vec![a]).expect("1 commit 2, spawn a0.3, spawn a1.2");
    s.bring_up().to(2.0).exit("a1.1", 0).to(60.0).expect("2 TERM a1.1").idle();
}

#[test]
fn a_pool_that_comes_back_under_its_name_does_not_use_old_generations_again() {
    let mut s = Scene::of(vec![pool(0, 1), pool(1, 1)]);
    s.settled().configure(master(), vec![pool(0, 1)]).exit("b0.1", 0).skip();
    s.configure(master(), vec![pool(0, 1), pool(1, 1)]);
    assert!(s.core.workers(PoolId(1)).iter().all(|w| w.id.generation > 1));
}

#[test]
fn a_pool_that_comes_back_while_it_drains_comes_back_as_the_file_has_it() {
    let mut s = Scene::of(vec![pool(0, 1), pool(1, 1)]);
    s.scale_signals(1, 3).settled().configure(master(), vec![pool(0, 1)]).settled().skip();
    assert_eq!(s.phase(1), Phase::Removed);
    s.configure(master(), vec![pool(0, 1), pool(1, 1)]).settled();
    assert_eq!((s.phase(1), s.target(1)), (Phase::Running, 1));
}

#[test]
fn a_pool_removed_while_starting_is_stopped_and_gone_when_its_last_process_is() {
    let mut s = Scene::of(vec![pool(0, 1), pool(1, 1)]);
    s.up("a0.1").ready("a0.1").to(1.0).skip();
    s.configure(master(), vec![pool(0, 1)]).boots("a0.2").to(2.0).expect("1 spawn a0.2; 2 commit 2, TERM a0.1, TERM b0.1");
    s.up("b0.1").to(5.0).expect("").exit("b0.1", 0).expect("5 gone b");
}

#[test]
fn usr1_reopens_logs_and_is_passed_to_workers_that_ask_for_it() {
    let mut a = pool(0, 1);
    a.reopen_signal = Some(USR1);
    let mut s = Scene::of(vec![a, pool(1, 1)]);
    s.settled().signal(MasterSignal::Usr1).expect("1 reopen-logs, USR1 a0.1");
    s.ask(Command::Reopen).expect("1 reopen-logs, USR1 a0.1, done 1");
}

#[test]
fn signals_that_mean_nothing_here_do_nothing() {
    let off = MasterSpec { hup: OnHup::Ignore, winch_parks: false, ..master() };
    let mut s = Scene::under(off, vec![pool(0, 1)]);
    s.settled().signal(MasterSignal::Hup).signal(MasterSignal::Winch).expect("").idle();
    assert_eq!(s.notes.iter().filter(|w| matches!(w, What::Signal { .. })).count(), 2, "each is told of");
}

#[test]
fn a_second_master_is_for_times_of_rest() {
    let mut s = Scene::of(vec![pool(0, 1)]);
    s.settled().signal(MasterSignal::Usr2).expect("1 second-master");
    // Not while a config is read or tried, or workers are replaced.
    s.signal(MasterSignal::Hup).expect("1 read-config").signal(MasterSignal::Usr2).expect("");
    s.configure(master(), vec![pool(0, 1)]).expect("1 spawn a0.2").signal(MasterSignal::Usr2).expect("");
    s.boots("a0.2").to(2.0).exit("a0.1", 0).to(10.0).skip().signal(MasterSignal::Usr2).expect("10 second-master");
}

/// What it waited for is gone: nobody else would start it.
#[test]
fn a_pool_that_waits_for_one_that_leaves_the_config_is_started() {
    let mut b = pool(1, 1);
    b.after = vec![PoolId(0)];
    let mut s = Scene::of(vec![pool(0, 1), b]);
    s.up("a0.1").skip().ask(Command::Reload { restart: false, pools: Vec::new() }).expect("0 read-config");
    assert_eq!(s.phase(1), Phase::Waiting);
    s.configure(master(), vec![pool(1, 1)]).expect("0 commit 2, TERM a0.1, spawn b0.1");
    assert_eq!(s.phase(1), Phase::Running);
}
