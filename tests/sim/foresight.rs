//! Owns the comparison of what the core foresees of a reload with what it then does, from whatever state a storm has left it in and for
//! whatever the file says.

use std::collections::{BTreeMap, BTreeSet};

use poolmaster::supervisor::{Action, Command, CommandId, Course, Event, KILL, Outlook, PoolId, Reason, Share, What, forecast};

use crate::invariants::{Verdict, must};
use crate::runs::after_a_storm;
use crate::specs::{ms, secs};
use crate::storm::OPERATOR;
use crate::world::{World, taken_over};

/// Runs of which most are to be compared: in the others the file cannot be used, or a worker ends by itself meanwhile.
const RUNS: u64 = 400;
const ORDER: CommandId = CommandId(u64::MAX - 9);

/// What the reload would do, with old workers that end at once, and with such as stay.
fn foreseen(world: &World, config: &Event, restart: bool) -> Result<Option<[BTreeMap<PoolId, Outlook>; 2]>, String> {
    let mut both = Vec::new();
    for lasting in [false, true] {
        let mut core = taken_over(&world.core, false)?;
        let command = Command::Reload { restart, pools: Vec::new() };
        // The slower the starts, the more of them there are beside each other: no good one takes longer than this.
        let Event::Configure { pools, .. } = config else { return Ok(None) };
        let starts = pools.iter().filter(|_| lasting).map(|p| (p.id, ms(400))).collect();
        let course = Course { starts, lasting };
        both.extend(forecast(&mut core, world.now, command, config.clone(), &course));
    }
    Ok(both.try_into().ok())
}

/// Slots that had a worker and got another one, in their order.
fn replaced(world: &World, had: &BTreeSet<(PoolId, u32)>) -> BTreeMap<PoolId, Vec<u32>> {
    let mut out: BTreeMap<PoolId, Vec<u32>> = BTreeMap::new();
    for action in world.trace.iter().flat_map(|(_, _, actions)| actions) {
        let Action::Spawn { worker, .. } = action else { continue };
        let slots = out.entry(worker.pool).or_default();
        if had.contains(&(worker.pool, worker.slot)) && !slots.contains(&worker.slot) {
            slots.push(worker.slot);
        }
    }
    out
}

/// Nobody but who was told to has ended, and nothing was in the way of the reload.
fn went_well(world: &World) -> bool {
    let notes = world.trace.iter().flat_map(|(_, _, actions)| actions).filter_map(|action| match action {
        Action::Note(note) => Some(&note.what),
        _ => None,
    });
    let mut killed = BTreeMap::new();
    // A group that outlives its leader, or a process that KILL does not end at once, is one more than anybody can foresee.
    let alone = world.trace.iter().all(|(now, event, out)| {
        for action in out {
            if let Action::Signal { worker, signal: KILL, .. } = action {
                killed.insert(*worker, *now);
            }
        }
        match event {
            Event::Exited { stragglers: true, .. } => false,
            Event::Exited { worker, .. } => killed.get(worker).is_none_or(|at| now.since(*at) < ms(5)),
            _ => true,
        }
    });
    alone
        && notes.into_iter().all(|what| match what {
            What::Exited { asked, .. } => asked.is_some_and(Reason::was_asked),
            What::SpawnFailed { .. } | What::ReloadFailed { .. } | What::ConfigRejected { .. } | What::HeartbeatLost { .. } => {
                false
            }
            _ => true,
        })
}

/// True: it could be compared.
fn compare(world: &mut World, restart: bool) -> Result<bool, String> {
    let Some(config) = world.next_answer(restart) else { return Ok(false) };
    let Some([quick, lasting]) = foreseen(world, &config, restart)? else { return Ok(false) };
    let Event::Configure { pools, .. } = &config else { return Ok(false) };
    let had = world.shadow.workers.keys().map(|w| (w.pool, w.slot)).collect();
    let all: BTreeSet<PoolId> = pools.iter().map(|p| p.id).chain(world.shadow.pools.keys().copied()).collect();
    world.watch(all.iter().copied());
    let command = Command::Reload { restart, pools: Vec::new() };
    world.deliver(Event::Command { id: ORDER, command, sender: OPERATOR, timeout: None })?;
    // Long enough for the longest roll, short enough for all the heartbeats.
    for _ in 0..20 {
        let until = world.now + secs(60);
        world.run_until(until)?;
        if world.converged().is_ok() {
            break;
        }
    }
    if !went_well(world) {
        return Ok(false);
    }
    let done = replaced(world, &had);
    for id in all {
        let (quick, lasting) = (quick.get(&id).cloned().unwrap_or_default(), lasting.get(&id).cloned().unwrap_or_default());
        let order = done.get(&id).cloned().unwrap_or_default();
        let sorted = |slots: &[u32]| slots.iter().copied().collect::<BTreeSet<u32>>();
        holds(id, "replaced slots", &sorted(&quick.order), &sorted(&order))?;
        // One at a time: nobody overtakes.
        let spec = pools.iter().find(|p| p.id == id);
        if spec.is_some_and(|p| p.rollout.max_surge == Share::Count(1) && p.rollout.max_unavailable == Share::Count(0)) {
            holds(id, "their order", &quick.order, &order)?;
        }
        let peak = world.peaks.get(&id).copied().unwrap_or(0);
        must(peak <= lasting.peak, || format!("pool {}: {peak} processes, and {} were foreseen", id.0, lasting.peak))?;
    }
    Ok(true)
}

fn holds<T: PartialEq + std::fmt::Debug>(id: PoolId, what: &str, foreseen: &T, done: &T) -> Verdict {
    must(foreseen == done, || format!("pool {}: {what}: foreseen {foreseen:?}, done {done:?}", id.0))
}

#[test]
fn what_is_foreseen_of_a_reload_is_what_it_does() {
    let (mut compared, mut replaced_some) = (0, 0);
    for seed in 1..=RUNS {
        let Some(mut world) = after_a_storm(seed, 400) else { continue };
        match compare(&mut world, seed.is_multiple_of(3)) {
            Ok(true) => {
                compared += 1;
                replaced_some +=
                    u32::from(world.trace.iter().any(|(_, _, out)| out.iter().any(|a| matches!(a, Action::Spawn { .. }))));
            }
            Ok(false) => {}
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    assert!(
        compared >= RUNS as u32 / 4 && replaced_some >= RUNS as u32 / 8,
        "{compared} compared, {replaced_some} with new workers"
    );
}
