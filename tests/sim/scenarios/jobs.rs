//! Pools of finite jobs: policies, completion, and when the master is done.

use poolmaster::supervisor::{Command, ExitWhen, MasterSpec, Phase, PoolId, PoolSpec, RestartPolicy};

use crate::scene::Scene;
use crate::specs::{master, pool};

fn jobs(id: u32, workers: u32, policy: RestartPolicy) -> PoolSpec {
    let mut spec = pool(id, workers);
    spec.restart.policy = policy;
    spec
}

#[test]
fn jobs_that_all_ended_well_complete_the_pool_and_the_master() {
    for policy in [RestartPolicy::Never, RestartPolicy::OnFailure] {
        let mut s = Scene::of(vec![jobs(0, 2, policy)]);
        s.settled().exit("a0.1", 0).to(50.0).expect("").idle();
        assert_eq!(s.phase(0), Phase::Running);
        s.exit("a1.1", 0).expect("50 exit 0");
    }
}

#[test]
fn on_failure_tries_again_what_failed_and_nothing_else() {
    let mut s = Scene::of(vec![jobs(0, 2, RestartPolicy::OnFailure)]);
    s.settled().exit("a0.1", 0).exit("a1.1", 1).expect("1 spawn a1.2");
}

#[test]
fn never_tries_nothing_again() {
    let stay = MasterSpec { exit_when: ExitWhen::Never, ..master() };
    let mut s = Scene::under(stay, vec![jobs(0, 1, RestartPolicy::Never)]);
    s.settled().exit("a0.1", 7).to(100.0).expect("").idle();
    assert_ne!(s.phase(0), Phase::Completed);
}

#[test]
fn other_codes_may_be_a_success() {
    let mut a = jobs(0, 1, RestartPolicy::OnFailure);
    a.restart.success_codes = vec![0, 7];
    let mut s = Scene::of(vec![a]);
    s.settled().exit("a0.1", 7).expect("1 exit 0");
}

#[test]
fn a_completed_pool_stays_so_until_it_is_started_again() {
    let stay = MasterSpec { exit_when: ExitWhen::Never, ..master() };
    let mut s = Scene::under(stay, vec![jobs(0, 1, RestartPolicy::OnFailure)]);
    s.settled().exit("a0.1", 0).to(1_000.0).expect("").idle();
    assert_eq!(s.phase(0), Phase::Completed);
    s.ask(Command::Start { pools: vec![PoolId(0)] }).expect("1000 spawn a0.2");
}

#[test]
fn a_job_pool_beside_a_server_does_not_end_the_master() {
    let mut s = Scene::of(vec![jobs(0, 1, RestartPolicy::Never), pool(1, 1)]);
    s.settled().exit("a0.1", 0).to(100.0).expect("").idle();
}

#[test]
fn what_waits_for_a_completed_pool_starts() {
    let mut b = pool(1, 1);
    b.after = vec![PoolId(0)];
    let mut s = Scene::of(vec![jobs(0, 1, RestartPolicy::Never), b]);
    s.skip().up("a0.1").exit("a0.1", 0).expect("0 spawn b0.1");
}
