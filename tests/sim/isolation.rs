//! Owns the proof that pools do not touch each other: the same pool, alone and beside noisy ones, does the same things at the
//! same times.

use std::time::Duration;

use poolmaster::supervisor::{Action, PoolId, PoolSpec, Time};

use crate::rng::Rng;
use crate::script::Weather;
use crate::specs::{master, random_pool, secs};
use crate::storm::Climate;
use crate::world::{Setting, World};

/// Host-wide faults (no fork) and orders to the master reach every pool by their nature: these runs have none.
const WEATHER: Weather = Weather { no_fork: 0, ..Weather::STORM };
const CLIMATE: Climate = Climate { orders: (500, 20_000), master: (0, 0), stale: true };

fn pool(seed: u64, id: u32) -> PoolSpec {
    let mut spec = random_pool(&mut Rng::keyed(seed, 0xB00 + u64::from(id)), id, &[]);
    spec.autostart = true;
    spec
}

/// Everything that was done to pool 0 in ten minutes, and when.
fn life_of_the_first(seed: u64, pools: Vec<PoolSpec>) -> Vec<(Time, Action)> {
    let setting = Setting {
        seed,
        weather: WEATHER,
        climate: CLIMATE,
        jumps: 0,
        snapshots: 0,
        notice_grid: Duration::ZERO,
        keep_trace: true,
        tail: 0,
    };
    let mut world = World::new(setting, pools);
    let mut master = master();
    master.exit_when = poolmaster::supervisor::ExitWhen::Never;
    let verdict = world.boot(master).and_then(|()| world.run_until(Time(0) + secs(600)));
    assert_eq!(verdict, Ok(()), "seed {seed}");
    let first = PoolId(0);
    let about = |a: &Action| match a {
        Action::Spawn { worker, .. } | Action::Look { worker } | Action::Release { worker } | Action::Signal { worker, .. } => {
            worker.pool == first
        }
        Action::Note(note) => note.pool == Some(first) || note.worker.is_some_and(|w| w.pool == first),
        Action::Reply { id, .. } => id.0 >> 32 == 0,
        Action::PoolGone { pool } => *pool == first,
        Action::Quiesce
        | Action::ReadConfig { .. }
        | Action::PreStart { .. }
        | Action::Commit { .. }
        | Action::Discard { .. }
        | Action::SecondMaster { .. }
        | Action::ReopenLogs
        | Action::Exit { .. } => false,
    };
    world.trace.into_iter().flat_map(|(t, _, out)| out.into_iter().filter(about).map(move |a| (t, a))).collect()
}

#[test]
fn noise_in_other_pools_leaves_a_pool_alone() {
    let mut actions = 0;
    for seed in 1..=40 {
        let alone = life_of_the_first(seed, vec![pool(seed, 0)]);
        let among = life_of_the_first(seed, vec![pool(seed, 0), pool(seed, 1), pool(seed, 2)]);
        actions += alone.len();
        for (i, (a, b)) in alone.iter().zip(&among).enumerate() {
            assert_eq!(a, b, "seed {seed}, action {i} of pool a, alone and beside others");
        }
        assert_eq!(alone.len(), among.len(), "seed {seed}");
    }
    assert!(actions > 10_000, "only {actions} actions were compared");
}
