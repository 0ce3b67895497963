//! Owns the random runs: many seeds, several kinds of weather, a million events in an ordinary `cargo test`.
//!
//! `POOLMASTER_SIM_SEED=n` runs one seed, `POOLMASTER_SIM_SEEDS=n` so many from there, `POOLMASTER_SIM_STEPS=n` events each,
//! `POOLMASTER_SIM_TAIL=n` more of the last events in the report of a failure.

use std::time::Duration;

use poolmaster::supervisor::{Command, MasterSignal, MasterSpec, PoolId, PoolSpec, Time};

use crate::coverage::Coverage;
use crate::invariants::{Verdict, must};
use crate::rng::Rng;
use crate::script::Weather;
use crate::specs::{random_master, random_pool, secs};
use crate::storm::{Climate, OPERATOR};
use crate::world::{Setting, Traced, World};

/// Events that the ordinary test run covers at least.
const EVENTS: u64 = 1_000_000;
const STEPS: u64 = 6_000;

fn knob(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What the seed makes of a run: weather, orders, suspends, notices in batches.
fn setting(seed: u64) -> Setting {
    let mut rng = Rng::keyed(seed, 0x5E7);
    Setting {
        seed,
        weather: if is_doomed(seed) { Weather::DOOM } else { rng.pick(&[Weather::STORM, Weather::STORM, Weather::BREEZE]) },
        climate: Climate {
            orders: rng.pick(&[(0, 0), (100, 4_000), (1_000, 20_000), (5_000, 90_000)]),
            master: rng.pick(&[(0, 0), (500, 10_000), (10_000, 90_000)]),
            stale: rng.permille(700),
        },
        jumps: rng.pick(&[0, 0, 2]),
        snapshots: 10,
        notice_grid: rng.pick(&[Duration::ZERO, Duration::ZERO, Duration::from_millis(50), Duration::from_secs(1)]),
        keep_trace: false,
        tail: knob("POOLMASTER_SIM_TAIL").map_or(40, |n| n as usize),
    }
}

/// One seed in eight boots into an outage.
fn is_doomed(seed: u64) -> bool {
    seed.is_multiple_of(8)
}

fn pools(seed: u64) -> (MasterSpec, Vec<PoolSpec>) {
    let mut rng = Rng::keyed(seed, 0x9001);
    let mut pools: Vec<PoolSpec> = Vec::new();
    for id in 0..rng.pick(&[1, 2, 3, 3, 4]) {
        let after: Vec<PoolId> = pools.iter().map(|p| p.id).collect();
        let mut pool = random_pool(&mut rng, id, &after);
        pool.required = rng.permille(60);
        pools.push(pool);
    }
    let mut master = random_master(&mut rng, &pools);
    if is_doomed(seed) {
        // A first pool that must boot and, more often than not, cannot.
        pools[0].required = true;
        pools[0].autostart = true;
        pools[0].boot = poolmaster::supervisor::OnBootFailure::Fail;
        pools[0].settle = secs(3);
        master.exit_when =
            rng.pick(&[poolmaster::supervisor::ExitWhen::AllDown, poolmaster::supervisor::ExitWhen::RequiredFailed]);
    } else if rng.permille(800) {
        master.exit_when = poolmaster::supervisor::ExitWhen::Never;
    }
    (master, pools)
}

/// A whole life: storm, calm, convergence, end. Every tenth master is told to end in the middle of the storm.
fn live(world: &mut World, seed: u64, steps: u64, master: MasterSpec) -> Verdict {
    let mut rng = Rng::keyed(seed, 0xE2D);
    world.boot(master)?;
    world.run(steps)?;
    if !rng.permille(250) {
        world.calm();
        converge(world)?;
    }
    if world.shadow.exited.is_none() {
        end(world, &mut rng)?;
    }
    world.silent_after_exit()
}

/// Once faults stop, every running pool is whole again within ten minutes.
fn converge(world: &mut World) -> Verdict {
    let start = world.now;
    for minute in 1..=10 {
        world.run_until(start + secs(60 * minute))?;
        if world.shadow.exited.is_some() || world.shadow.ending.is_some() || (minute > 1 && world.converged().is_ok()) {
            return Ok(());
        }
    }
    world.now = world.now.max(Time(0));
    world.converged().map_err(|e| format!("ten minutes after the last fault: {e}"))
}

/// The end, in one of the ways there are, and nothing else than the end within the bound.
fn end(world: &mut World, rng: &mut Rng) -> Verdict {
    let (term, int, quit) = (MasterSignal::Term, MasterSignal::Int, MasterSignal::Quit);
    let ways: [&[MasterSignal]; 7] =
        [&[term], &[int], &[quit], &[term, int], &[term, term, term], &[int, quit], &[term, int, term, int]];
    let orders = rng.pick(&ways);
    if rng.permille(200) {
        let now = rng.permille(500);
        let id = poolmaster::supervisor::CommandId(u64::MAX - 1);
        let command = Command::Shutdown { now };
        world.deliver(poolmaster::supervisor::Event::Command { id, command, sender: OPERATOR, timeout: None })?;
    } else {
        for signal in orders {
            if world.shadow.exited.is_none() {
                world.order(*signal)?;
                let pause = rng.ms(0, 3_000);
                world.run_until(world.now + pause)?;
            }
        }
    }
    world.run_until(world.now + secs(300))?;
    must(world.shadow.exited.is_some(), || "told to end, and nothing is left to happen, but no Exit came".to_owned())?;
    let code = world.shadow.exited.map_or(0, |(_, code)| code);
    let own = world.shadow.ending.is_some_and(|e| e.own);
    must(own || code == i32::from(world.shadow.left_behind), || format!("an ordered end has exit code {code}"))
}

/// Runs one seed; on a broken promise says how to see it again.
fn run_seed(seed: u64, steps: u64, keep_trace: bool) -> World {
    run_of(Setting { keep_trace, ..setting(seed) }, seed, steps)
}

fn run_of(setting: Setting, seed: u64, steps: u64) -> World {
    let (master, pools) = pools(seed);
    let mut world = World::new(setting, pools);
    let verdict = live(&mut world, seed, steps, master);
    if let Err(what) = verdict {
        report(&world, seed, steps, &what);
    }
    world
}

fn report(world: &World, seed: u64, steps: u64, what: &str) -> ! {
    let mut text = String::new();
    for (now, event, out) in &world.tail {
        text.push_str(&format!("{now} {event:?}\n"));
        out.iter().for_each(|a| text.push_str(&format!("      -> {a:?}\n")));
    }
    for p in world.shadow.pools.values() {
        text.push_str(&format!("{:?}\n", p.spec));
        for life in world.shadow.of_pool(p.spec.id) {
            text.push_str(&format!("   {}: {:?}\n", life.id, life.state(world.now)));
        }
    }
    panic!(
        "seed {seed}, step {} of {steps}, at {}: {what}\n\nlast events:\n{text}\nagain: POOLMASTER_SIM_SEED={seed} \
         POOLMASTER_SIM_STEPS={steps} cargo test --test sim a_million_events",
        world.events, world.now
    )
}

/// Rare things that a million events must have reached; otherwise the runs prove less than they say.
const DEEDS: [&str; 47] = [
    "spawn",
    "pre-start",
    "note unprepared",
    "look",
    "signal KILL",
    "signal ABRT",
    "signal other",
    "quiesce",
    "read-config",
    "reopen-logs",
    "pool-gone",
    "reply done",
    "reply timed-out",
    "reply refused",
    "exit 0",
    "exit 3",
    "exit 4",
    "note assumed-ready",
    "note escalated",
    "note heartbeat-lost",
    "note start-timeout",
    "note unkillable",
    "note stale",
    "note clamped",
    "note waiting-for",
    "note backing-off",
    "note recovered",
    "note pool-failed",
    "note pool-completed",
    "note roll-started",
    "note roll-done",
    "note roll-halted",
    "note all-ready",
    "note late",
    "read-kept",
    "commit",
    "discard",
    "release",
    "note release-overdue",
    "reply rolled-back",
    "reply invalid",
    "note trying",
    "note canary-good",
    "note reloaded",
    "note reload-failed",
    "note rolling-back",
    "note too-many-generations",
];

/// Facts that must have met a worker in these states.
const PAIRS: [(&str, &[&str]); 19] = [
    ("spawned", &["Spawning", "Stopping", "Killed", "gone"]),
    ("spawn-failed", &["Spawning", "Killed"]),
    ("prepared", &["Spawning"]),
    ("released", &["Leaving", "Stopping", "Killed", "gone"]),
    ("says-ready", &["Starting", "Stopping", "gone"]),
    ("beat", &["Starting", "Ready", "Good", "Stopping", "Killed"]),
    ("says-stopping", &["Good", "Leaving", "gone"]),
    ("says-trigger", &["Ready", "Good"]),
    ("extends", &["Starting", "Stopping", "Good"]),
    ("sets-timeout", &["Starting", "Good"]),
    ("says-status", &["Starting", "Ready", "Good", "Stopping", "Killed"]),
    ("says-reloading", &["Good"]),
    ("looked", &["Starting", "gone"]),
    ("exited", &["Starting", "Ready", "Good", "Leaving", "Stopping", "Aborting", "Killed", "gone"]),
    ("exited-stragglers", &["Starting", "Good", "Leaving", "Stopping"]),
    ("group-gone", &["Lingering", "gone"]),
    ("signalled", &["Stopping", "Killed", "Aborting", "Lingering"]),
    ("signal-failed", &["Stopping", "gone"]),
    ("tick", &["-"]),
];

#[test]
fn a_million_events_break_no_promise() {
    let first = knob("POOLMASTER_SIM_SEED");
    let seeds = knob("POOLMASTER_SIM_SEEDS").or(first.map(|_| 1)).unwrap_or(u64::MAX);
    let steps = knob("POOLMASTER_SIM_STEPS").unwrap_or(STEPS);
    let (mut events, mut runs, mut coverage) = (0, 0, Coverage::default());
    let mut played: std::collections::BTreeMap<&'static str, u64> = Default::default();
    let mut seed = first.unwrap_or(1);
    while runs < seeds && (seeds != u64::MAX || events < EVENTS) {
        let world = run_seed(seed, steps, false);
        events += world.events;
        coverage.merge(&world.coverage);
        world.kernel.played.iter().for_each(|(name, n)| *played.entry(name).or_default() += n);
        runs += 1;
        seed += 1;
    }
    println!("{events} events in {runs} runs\n\n{}\n\nscripts played: {played:?}", coverage.table());
    if seeds == u64::MAX {
        assert!(events >= EVENTS);
        let missing: Vec<_> = DEEDS.iter().filter(|d| !coverage.deeds.contains_key(*d)).collect();
        assert!(missing.is_empty(), "never reached: {missing:?}");
        let pairs = PAIRS.iter().flat_map(|(e, states)| states.iter().map(move |s| (*e, (*s).to_owned())));
        let missing: Vec<_> = pairs.filter(|p| !coverage.pairs.contains_key(p)).collect();
        assert!(missing.is_empty(), "never met: {missing:?}");
        assert_eq!(played.len(), 25, "each script has been played");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [7, 8, 9] {
        let (one, two): (Vec<Traced>, Vec<Traced>) = (run_seed(seed, 3_000, true).trace, run_seed(seed, 3_000, true).trace);
        assert_eq!(one.len(), two.len());
        for (a, b) in one.iter().zip(&two) {
            assert_eq!(a, b, "seed {seed}");
        }
    }
}

/// A core that is written down and read again, at any moment, goes on as the one that was not.
#[test]
fn a_core_that_is_taken_over_makes_the_same_decisions() {
    for seed in [3, 7, 8, 9, 16, 21] {
        let trace = |snapshots: u64| {
            let setting = Setting { keep_trace: true, snapshots, ..setting(seed) };
            run_of(setting, seed, 1_000).trace
        };
        let (one, two) = (trace(0), trace(100));
        assert_eq!(one.len(), two.len(), "seed {seed}");
        for (a, b) in one.iter().zip(&two) {
            assert_eq!(a, b, "seed {seed}");
        }
    }
}

/// A master that has come to rest after a storm. `None`: it has ended, or has no rest.
pub(crate) fn after_a_storm(seed: u64, steps: u64) -> Option<World> {
    let (master, pools) = pools(seed);
    let mut world = World::new(setting(seed), pools);
    let verdict = world.boot(master).and_then(|()| world.run(steps)).and_then(|()| {
        world.calm();
        converge(&mut world)
    });
    if let Err(what) = verdict {
        report(&world, seed, steps, &what);
    }
    (world.shadow.exited.is_none() && world.shadow.ending.is_none()).then_some(world)
}
