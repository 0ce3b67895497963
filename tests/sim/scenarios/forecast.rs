//! What a reload would do, foreseen by a copy of the core.

use std::collections::BTreeMap;
use std::time::Duration;

use poolmaster::supervisor::{Command, Course, Event, Outlook, PoolId, PoolSpec, Supervisor, forecast};

use crate::scene::Scene;
use crate::specs::{master, ms, pool};

const A: PoolId = PoolId(0);

/// What a reload to these pools would do, with workers that take a second to get ready.
fn foreseen(s: &Scene, pools: Vec<PoolSpec>, roll: &[PoolId], lasting: bool) -> Option<BTreeMap<PoolId, Outlook>> {
    let text = serde_json::to_string(&s.core).expect("it can be written down");
    let mut core: Supervisor = serde_json::from_str(&text).expect("and read");
    let command = Command::Reload { restart: false, pools: Vec::new() };
    let config = Event::Configure { revision: 2, base: 1, master: master(), pools, roll: roll.to_vec(), changes: Vec::new() };
    let starts = BTreeMap::from([(A, Duration::from_secs(1))]);
    forecast(&mut core, s.now, command, config, &Course { starts, lasting })
}

fn of_a(s: &Scene, pools: Vec<PoolSpec>, lasting: bool) -> (Vec<u32>, u32, Option<Duration>) {
    let Outlook { order, peak, takes } = foreseen(s, pools, &[A], lasting).expect("it ends")[&A].clone();
    (order, peak, takes)
}

#[test]
fn a_roll_is_foreseen_with_its_order_its_processes_and_its_time() {
    let mut s = Scene::of(vec![pool(0, 4)]);
    s.settled();
    // Four times a start and a time to settle, the canary's among them. The next one is started while the last old one still ends.
    assert_eq!(of_a(&s, vec![pool(0, 4)], false), (vec![0, 1, 2, 3], 6, Some(Duration::from_secs(8))));
    // Old ones that take all of their time are still there meanwhile.
    assert_eq!(of_a(&s, vec![pool(0, 4)], true).1, 8);
    // Nothing of it has happened.
    s.to(100.0).expect("").idle();
}

#[test]
fn fewer_workers_and_no_surge_are_foreseen_as_they_are_done() {
    let mut s = Scene::of(vec![pool(0, 4)]);
    s.settled();
    let (order, peak, _) = of_a(&s, vec![pool(0, 2)], false);
    // The canary's slot stays, and of the others the oldest go.
    assert_eq!((order.len(), order[0], peak), (2, 0, 6), "{order:?}");
    let mut in_place = pool(0, 4);
    in_place.rollout.max_surge = poolmaster::supervisor::Share::Count(0);
    in_place.rollout.max_unavailable = poolmaster::supervisor::Share::Count(2);
    in_place.settle = ms(500);
    let (order, peak, takes) = of_a(&s, vec![in_place], false);
    assert_eq!((order, peak), (vec![0, 1, 2, 3], 4));
    assert!(takes < Some(Duration::from_secs(6)), "{takes:?}");
}

#[test]
fn what_is_not_touched_is_not_foreseen_to_be() {
    let mut s = Scene::of(vec![pool(0, 2), pool(1, 3)]);
    s.settled();
    let all = foreseen(&s, vec![pool(0, 2), pool(1, 5), pool(2, 1)], &[A], false).expect("it ends");
    assert_eq!(all[&PoolId(1)].order, Vec::<u32>::new());
    assert_eq!((all[&PoolId(1)].peak, all[&PoolId(2)].peak, all[&PoolId(2)].takes.is_some()), (5, 1, true));
    // While another one is under way nothing is.
    s.reload().skip();
    assert_eq!(foreseen(&s, vec![pool(0, 2)], &[A], false), None);
}
