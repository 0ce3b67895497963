//! Owns the table that a scenario is written on: facts in, a line of what the core did and when out. No chance, no kernel.
//!
//! A worker is written `a0.1`: pool a, slot 0, generation 1. What was done since the last look is one line of
//! `SECONDS WHAT WHOM, WHAT WHOM; SECONDS ...`, for example `0 spawn a0.1, spawn a1.1; 0.5 TERM a0.1`.

use std::collections::BTreeSet;
use std::time::Duration;

use poolmaster::supervisor::{
    Action, Command, CommandId, ConfigSource, Event, ExitStatus, MasterSignal, MasterSpec, Notification, Outcome, Phase, PoolId,
    PoolSpec, Scope, SpawnError, SpawnFault, Supervisor, Time, What, WorkerId, WorkerState, signal_name,
};

use crate::specs::{master, pool_name};
use crate::storm::OPERATOR;

/// A core and what it did since the last look.
pub(crate) struct Scene {
    pub(crate) core: Supervisor,
    pub(crate) now: Time,
    done: Vec<(Time, String)>,
    pub(crate) notes: Vec<What>,
    /// All signals, and whom they were for.
    pub(crate) signals: Vec<(i32, Scope)>,
    unborn: Vec<WorkerId>,
    /// Workers that the kernel shows as accepting.
    pub(crate) accepting: BTreeSet<WorkerId>,
    revision: u32,
    in_force: u32,
    reading: bool,
    commands: u64,
}

/// The worker that `a0.1` names.
pub(crate) fn worker(name: &str) -> WorkerId {
    let (letter, rest) = name.split_at(1);
    let (slot, generation) = rest.split_once('.').expect("slot.generation");
    WorkerId {
        pool: PoolId(u32::from(letter.as_bytes()[0] - b'a')),
        slot: slot.parse().expect("a slot"),
        generation: generation.parse().expect("a generation"),
    }
}

fn name(w: WorkerId) -> String {
    format!("{}{}.{}", pool_name(w.pool.0), w.slot, w.generation)
}

impl Scene {
    /// A master that has just read a config with these pools.
    pub(crate) fn of(pools: Vec<PoolSpec>) -> Scene {
        Scene::under(master(), pools)
    }

    pub(crate) fn under(master: MasterSpec, pools: Vec<PoolSpec>) -> Scene {
        let mut scene = Scene {
            core: Supervisor::new(1),
            now: Time(0),
            done: Vec::new(),
            notes: Vec::new(),
            signals: Vec::new(),
            unborn: Vec::new(),
            accepting: BTreeSet::new(),
            revision: 0,
            in_force: 0,
            reading: false,
            commands: 0,
        };
        scene.configure(master, pools);
        scene
    }

    /// A config has been read. Where nobody ordered it, an operator does, to `reload --restart`.
    pub(crate) fn configure(&mut self, master: MasterSpec, pools: Vec<PoolSpec>) -> &mut Scene {
        self.changed(master, pools, &[])
    }

    /// The same; the workers of these pools have to be replaced.
    pub(crate) fn changed(&mut self, master: MasterSpec, pools: Vec<PoolSpec>, roll: &[u32]) -> &mut Scene {
        if self.revision > 0 && !self.reading {
            self.ask(Command::Reload { restart: true, pools: Vec::new() });
            let id = CommandId(self.commands);
            self.fact(Event::Abandoned { id });
            self.done.retain(|(_, what)| what != "read-config");
        }
        self.revision += 1;
        self.reading = false;
        if self.in_force == 0 {
            self.in_force = 1;
        }
        let (revision, base) = (self.revision, self.in_force);
        self.fact(Event::Configure {
            revision,
            base,
            master,
            pools,
            roll: roll.iter().map(|id| PoolId(*id)).collect(),
            changes: Vec::new(),
        })
    }

    /// The config cannot be used.
    pub(crate) fn rejected(&mut self) -> &mut Scene {
        self.reading = false;
        self.fact(Event::ConfigRejected { reason: "line 3".to_owned(), invalid: true })
    }

    /// `reload`, without `--restart`.
    pub(crate) fn reload(&mut self) -> &mut Scene {
        self.ask(Command::Reload { restart: false, pools: Vec::new() })
    }

    /// Hands one event to the core. Signals and looks are answered at once.
    pub(crate) fn fact(&mut self, event: Event) -> &mut Scene {
        let mut out = Vec::new();
        self.core.handle(self.now, event, &mut out);
        for action in out {
            let text = match action {
                Action::Spawn { worker, .. } => {
                    self.unborn.push(worker);
                    format!("spawn {}", name(worker))
                }
                Action::Look { worker } => {
                    let accepting = self.accepting.contains(&worker);
                    self.done.push((self.now, format!("look {}", name(worker))));
                    self.fact(Event::Looked { worker, accepting });
                    continue;
                }
                Action::Release { worker } => format!("release {}", name(worker)),
                Action::Signal { worker, signal, scope, .. } => {
                    self.signals.push((signal, scope));
                    self.done.push((self.now, format!("{} {}", signal_name(signal).trim_start_matches("SIG"), name(worker))));
                    self.fact(Event::Signalled { worker, signal });
                    continue;
                }
                Action::Quiesce => "quiesce".to_owned(),
                Action::ReadConfig { from, .. } => {
                    self.reading = true;
                    match from {
                        ConfigSource::File => "read-config".to_owned(),
                        ConfigSource::Kept(of) => format!("read-kept {of}"),
                    }
                }
                Action::PreStart { pool, revision } => format!("pre-start {} {revision}", pool_name(pool.0)),
                Action::Commit { revision, .. } => {
                    self.in_force = revision;
                    format!("commit {revision}")
                }
                Action::Discard { revision } => format!("discard {revision}"),
                Action::SecondMaster { .. } => "second-master".to_owned(),
                Action::ReopenLogs => "reopen-logs".to_owned(),
                Action::PoolGone { pool } => format!("gone {}", pool_name(pool.0)),
                Action::Reply { id, outcome } => format!("{} {}", outcome_name(&outcome), id.0),
                Action::Note(note) => {
                    self.notes.push(note.what);
                    continue;
                }
                Action::Exit { code, .. } => format!("exit {code}"),
            };
            self.done.push((self.now, text));
        }
        self
    }

    /// Lets time pass, with a tick at each deadline.
    pub(crate) fn to(&mut self, seconds: f64) -> &mut Scene {
        let until = Time((seconds * 1e9).round() as u64);
        for _ in 0..10_000 {
            match self.core.next_deadline() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.fact(Event::Tick);
                }
                Some(_) | None => {
                    self.now = self.now.max(until);
                    return self;
                }
            }
        }
        panic!("10,000 ticks before {seconds}s: a busy loop");
    }

    /// The loop is held up: time passes without a tick.
    pub(crate) fn asleep(&mut self, for_: Duration) -> &mut Scene {
        self.now = self.now + for_;
        self
    }

    /// Compares what was done since the last look.
    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str) -> &mut Scene {
        let mut text = String::new();
        let mut last = None;
        for (at, what) in self.done.drain(..) {
            match last == Some(at) {
                true => text.push_str(", "),
                false => {
                    let gap = if text.is_empty() { "" } else { "; " };
                    text.push_str(&format!("{gap}{} ", at.0 as f64 / 1e9));
                }
            }
            text.push_str(&what);
            last = Some(at);
        }
        assert_eq!(text, line.split_whitespace().collect::<Vec<_>>().join(" "));
        self
    }

    /// Forgets what was done so far.
    pub(crate) fn skip(&mut self) -> &mut Scene {
        self.done.clear();
        self.notes.clear();
        self
    }

    pub(crate) fn up(&mut self, w: &str) -> &mut Scene {
        self.unborn.retain(|u| *u != worker(w));
        self.fact(Event::Spawned { worker: worker(w) })
    }

    pub(crate) fn says(&mut self, w: &str, message: Notification) -> &mut Scene {
        self.fact(Event::Notified { worker: worker(w), message })
    }

    pub(crate) fn ready(&mut self, w: &str) -> &mut Scene {
        self.says(w, Notification::Ready)
    }

    /// Its program runs, and it says that it is ready.
    pub(crate) fn boots(&mut self, w: &str) -> &mut Scene {
        self.up(w).ready(w)
    }

    pub(crate) fn exit(&mut self, w: &str, code: i32) -> &mut Scene {
        self.unborn.retain(|u| *u != worker(w));
        self.fact(Event::Exited { worker: worker(w), status: ExitStatus::Code(code), stragglers: false })
    }

    pub(crate) fn leaves_stragglers(&mut self, w: &str) -> &mut Scene {
        self.fact(Event::Exited { worker: worker(w), status: ExitStatus::Code(0), stragglers: true })
    }

    pub(crate) fn spawn_fails(&mut self, w: &str, fault: SpawnFault) -> &mut Scene {
        self.unborn.retain(|u| *u != worker(w));
        let error = SpawnError { fault, errno: 2, message: "cannot execute \"server\"".to_owned() };
        self.fact(Event::SpawnFailed { worker: worker(w), error })
    }

    /// All that were spawned and not yet heard of get ready, and those that follow from it as well.
    pub(crate) fn bring_up(&mut self) -> &mut Scene {
        while let Some(w) = self.unborn.first().copied() {
            self.boots(&name(w));
        }
        self
    }

    /// Everything is up and settled; what was done so far is forgotten.
    pub(crate) fn settled(&mut self) -> &mut Scene {
        let settle = self.core.pools().iter().map(|p| p.spec.settle).max().unwrap_or_default();
        self.bring_up();
        let at = (self.now + settle).0 as f64 / 1e9;
        self.to(at).skip()
    }

    pub(crate) fn signal(&mut self, signal: MasterSignal) -> &mut Scene {
        self.fact(Event::Signal { signal, sender: OPERATOR })
    }

    /// An operator's number, without a reply to wait for.
    pub(crate) fn scale_to(&mut self, pool: u32, to: u32) -> &mut Scene {
        let change = poolmaster::supervisor::ScaleChange::To(to);
        self.commands += 1;
        let id = CommandId(self.commands);
        self.fact(Event::Command { id, command: Command::Scale { pool: PoolId(pool), change }, sender: OPERATOR, timeout: None });
        self.fact(Event::Abandoned { id })
    }

    pub(crate) fn scale_signals(&mut self, pool: u32, by: i64) -> &mut Scene {
        self.fact(Event::ScaleSignals { pool: PoolId(pool), by, sender: OPERATOR })
    }

    /// A command without a time limit. They are numbered from 1.
    pub(crate) fn ask(&mut self, command: Command) -> &mut Scene {
        self.ask_for(command, None)
    }

    pub(crate) fn ask_for(&mut self, command: Command, timeout: Option<Duration>) -> &mut Scene {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.fact(Event::Command { id, command, sender: OPERATOR, timeout })
    }

    pub(crate) fn phase(&self, pool: u32) -> Phase {
        let views = self.core.pools();
        views.iter().find(|v| v.spec.id == PoolId(pool)).map(|v| v.phase).expect("the pool is there")
    }

    pub(crate) fn target(&self, pool: u32) -> u32 {
        self.core.pools().iter().find(|v| v.spec.id == PoolId(pool)).map(|v| v.target).expect("the pool is there")
    }

    pub(crate) fn state(&self, w: &str) -> Option<WorkerState> {
        self.core.workers(worker(w).pool).iter().find(|v| v.id == worker(w)).map(|v| v.state)
    }

    pub(crate) fn noted(&self, is: impl Fn(&What) -> bool) -> bool {
        self.notes.iter().any(is)
    }

    /// Nothing can change by waiting.
    #[track_caller]
    pub(crate) fn idle(&mut self) -> &mut Scene {
        assert_eq!(self.core.next_deadline(), None);
        self
    }
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Failed(_) => "failed",
        Outcome::RolledBack(_) => "rolled-back",
        Outcome::Invalid(_) => "invalid",
        Outcome::TimedOut(_) => "timed-out",
        Outcome::Refused(_) => "refused",
    }
}
