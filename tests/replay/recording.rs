//! Owns recorded runs (`poolmaster run --trace FILE`): reading them, replaying them through the core, and holding them against what
//! the simulator takes for granted. Used on the traces beside this file, and on what the live tests have just recorded.

#![allow(dead_code, reason = "two test programs share this, and each uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use poolmaster::supervisor::{Action, Event, PoolId, Supervisor, Time, WorkerId, signal_name};
use serde::{Deserialize, Serialize};

use crate::invariants::{Verdict, must};
use crate::judge::Before;
use crate::shadow::Shadow;

/// The first line.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) poolmaster: String,
    pub(crate) seed: u64,
}

/// Each further line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) now: Time,
    pub(crate) event: Event,
    pub(crate) actions: Vec<Action>,
}

/// A whole file.
pub(crate) struct Recording {
    pub(crate) head: Head,
    pub(crate) turns: Vec<Turn>,
}

impl Recording {
    pub(crate) fn read(text: &str) -> Result<Recording, serde_json::Error> {
        let mut lines = text.lines();
        let head = serde_json::from_str(lines.next().unwrap_or_default())?;
        Ok(Recording { head, turns: lines.map(serde_json::from_str).collect::<Result<_, _>>()? })
    }

    pub(crate) fn written(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(&self.head)? + "\n";
        for turn in &self.turns {
            text += &(serde_json::to_string(turn)? + "\n");
        }
        Ok(text)
    }

    /// What the core does today with these events.
    pub(crate) fn replayed(&self) -> Recording {
        let mut core = Supervisor::new(self.head.seed);
        let replay = |turn: &Turn| {
            let mut actions = Vec::new();
            core.handle(turn.now, turn.event.clone(), &mut actions);
            Turn { actions, ..turn.clone() }
        };
        Recording { head: self.head.clone(), turns: self.turns.iter().map(replay).collect() }
    }

    /// The same events give the same actions, turn by turn.
    pub(crate) fn replays(&self) -> Verdict {
        for (i, (then, now)) in self.turns.iter().zip(&self.replayed().turns).enumerate() {
            must(then.actions == now.actions, || {
                format!("line {}: at {} after {:?}\nthen {:?}\n now {:?}", i + 2, then.now, then.event, then.actions, now.actions)
            })?;
        }
        Ok(())
    }

    /// The simulator's observer, which knows only the design, finds nothing wrong with what the core did in this run.
    pub(crate) fn keeps_its_promises(&self) -> Verdict {
        let (mut core, mut shadow, mut kernel) = (Supervisor::new(self.head.seed), Shadow::new(), Kernel::default());
        for (i, turn) in self.turns.iter().enumerate() {
            let was_due = core.next_deadline().is_some_and(|d| d <= turn.now);
            let stale = shadow.learn(turn.now, &turn.event);
            kernel.learn(&turn.event).map_err(|e| format!("line {}: {e}", i + 2))?;
            let mut out = Vec::new();
            core.handle(turn.now, turn.event.clone(), &mut out);
            let before = Before { stale, was_due };
            shadow
                .judge(turn.now, &turn.event, &before, &out, &core, kernel.alive())
                .map_err(|e| format!("line {}: at {} after {:?}: {e}", i + 2, turn.now, turn.event))?;
            kernel.asked(&out);
        }
        Ok(())
    }

    /// The facts came as the simulated kernel gives them: see [`Kernel`]. At the end of a whole run nothing is left to answer.
    pub(crate) fn facts_are_in_order(&self) -> Verdict {
        let mut kernel = Kernel::default();
        for (i, turn) in self.turns.iter().enumerate() {
            kernel.learn(&turn.event).map_err(|e| format!("line {}: at {}: {e}", i + 2, turn.now))?;
            must(i == 0 || self.turns[i - 1].now <= turn.now, || format!("line {}: the clock went back", i + 2))?;
            kernel.asked(&turn.actions);
        }
        match self.turns.last().and_then(|t| t.actions.last()) {
            Some(Action::Exit { .. }) => kernel.is_done(),
            _ => Ok(()),
        }
    }

    /// What was done to whom and when, in the words of the simulator's scenarios: `spawn a0.1`, `TERM a0.1`, `read-config`, `exit 0`.
    /// Pools are lettered in the order of their numbers.
    pub(crate) fn deeds(&self) -> Vec<(Time, String)> {
        let deed = |action: &Action| {
            Some(match action {
                Action::Spawn { worker, .. } => format!("spawn {}", name(*worker)),
                Action::Signal { worker, signal, .. } => {
                    format!("{} {}", signal_name(*signal).trim_start_matches("SIG"), name(*worker))
                }
                Action::Release { worker } => format!("release {}", name(*worker)),
                Action::Quiesce => "quiesce".to_owned(),
                Action::ReadConfig { .. } => "read-config".to_owned(),
                Action::PreStart { pool, .. } => format!("pre-start {}", letter(pool.0)),
                Action::Commit { .. } => "commit".to_owned(),
                Action::Discard { .. } => "discard".to_owned(),
                Action::SecondMaster { .. } => "second-master".to_owned(),
                Action::ReopenLogs => "reopen-logs".to_owned(),
                Action::PoolGone { pool } => format!("gone {}", letter(pool.0)),
                Action::Exit { code, .. } => format!("exit {code}"),
                Action::Look { .. } | Action::Reply { .. } | Action::Note(_) => return None,
            })
        };
        let of = |turn: &Turn| turn.actions.iter().filter_map(deed).map(|d| (turn.now, d)).collect::<Vec<_>>();
        self.turns.iter().flat_map(of).collect()
    }

    /// The deeds that have one of these words in them, in their order, as one line. None given: all.
    pub(crate) fn story(&self, about: &[&str]) -> String {
        let deeds = self.deeds().into_iter().map(|(_, d)| d);
        deeds.filter(|d| about.is_empty() || about.iter().any(|a| d.contains(a))).collect::<Vec<_>>().join(", ")
    }

    /// When this was done first.
    #[track_caller]
    pub(crate) fn at(&self, deed: &str) -> Time {
        let deeds = self.deeds();
        deeds.iter().find(|(_, d)| d == deed).unwrap_or_else(|| panic!("no {deed} in {deeds:?}")).0
    }

    /// From one deed to another.
    #[track_caller]
    pub(crate) fn between(&self, first: &str, then: &str) -> Duration {
        let (first, then) = (self.at(first), self.at(then));
        assert!(first <= then, "in the wrong order");
        then.since(first)
    }
}

fn letter(pool: u32) -> char {
    char::from(b'a' + u8::try_from(pool).unwrap_or(25))
}

fn name(w: WorkerId) -> String {
    format!("{}{}.{}", letter(w.pool.0), w.slot, w.generation)
}

/// What every kernel owes the core, the simulated one and the real one: exactly one answer to each spawn, look and signal, in this
/// order; nothing of a worker before its exec; one exit for each that ran, and the end of its group only when it left processes behind.
#[derive(Default)]
struct Kernel {
    unborn: BTreeSet<WorkerId>,
    running: BTreeSet<WorkerId>,
    /// Ended, with processes of their groups left.
    lingering: BTreeSet<WorkerId>,
    looks: BTreeSet<WorkerId>,
    /// Signals that were not answered yet, in their order.
    signals: BTreeMap<WorkerId, Vec<i32>>,
    readings: usize,
    pre_starts: BTreeSet<(PoolId, u32)>,
}

impl Kernel {
    fn asked(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Spawn { worker, .. } => {
                    self.unborn.insert(*worker);
                }
                Action::Look { worker } => {
                    self.looks.insert(*worker);
                }
                Action::Signal { worker, signal, .. } => self.signals.entry(*worker).or_default().push(*signal),
                Action::ReadConfig { .. } => self.readings += 1,
                Action::PreStart { pool, revision } => {
                    self.pre_starts.insert((*pool, *revision));
                }
                Action::Commit { .. } | Action::Discard { .. } => {}
                Action::Release { .. }
                | Action::Quiesce
                | Action::SecondMaster { .. }
                | Action::ReopenLogs
                | Action::PoolGone { .. }
                | Action::Reply { .. }
                | Action::Note(_)
                | Action::Exit { .. } => {}
            }
        }
    }

    fn learn(&mut self, event: &Event) -> Verdict {
        match event {
            Event::Spawned { worker } => {
                must(self.unborn.remove(worker), || format!("{worker} runs, and nobody spawned it"))?;
                self.running.insert(*worker);
            }
            Event::SpawnFailed { worker, .. } => {
                must(self.unborn.remove(worker), || format!("{worker} failed to spawn, and nobody spawned it"))?;
            }
            Event::Notified { worker, .. } => {
                must(!self.unborn.contains(worker), || format!("{worker} spoke before its program was known to run"))?;
                must(self.running.contains(worker), || format!("{worker} spoke after its exit"))?;
            }
            Event::Looked { worker, .. } => {
                must(self.looks.remove(worker), || format!("an answer about {worker}, and nobody looked"))?;
            }
            Event::Exited { worker, stragglers, .. } => {
                must(self.running.remove(worker), || format!("{worker} exited, but did not run"))?;
                if *stragglers {
                    self.lingering.insert(*worker);
                }
            }
            Event::GroupGone { worker } => {
                must(self.lingering.remove(worker), || format!("the group of {worker} is gone, but it left nobody behind"))?;
            }
            Event::Signalled { worker, signal } | Event::SignalFailed { worker, signal, .. } => {
                let waiting = self.signals.entry(*worker).or_default();
                must(waiting.first() == Some(signal), || {
                    format!("an answer about signal {signal} to {worker}, but {waiting:?} wait for theirs")
                })?;
                waiting.remove(0);
            }
            Event::PreStarted { pool, revision, .. } => {
                must(self.pre_starts.remove(&(*pool, *revision)), || format!("pool {} is prepared, and nobody asked", pool.0))?;
            }
            Event::Configure { revision: 1, .. } => {}
            Event::Configure { .. } | Event::ConfigRejected { .. } => {
                must(self.readings > 0, || "a config that nobody asked for".to_owned())?;
                self.readings -= 1;
            }
            Event::Signal { .. }
            | Event::ScaleSignals { .. }
            | Event::RestartSignal { .. }
            | Event::Command { .. }
            | Event::Abandoned { .. }
            | Event::Prepared { .. }
            | Event::Released { .. }
            | Event::Quiet
            | Event::Tick
            | Event::Late { .. } => {}
        }
        Ok(())
    }

    /// Workers with a process.
    fn alive(&self) -> usize {
        self.unborn.len() + self.running.len() + self.lingering.len()
    }

    fn is_done(&self) -> Verdict {
        must(self.alive() == 0, || format!("left: {:?} {:?} {:?}", self.unborn, self.running, self.lingering))
    }
}
