//! Owns what hooks hold back: the start of a pool, the start of a worker, a stop signal, the start of the master. Every action that is held
//! back has its one outcome in the end, whatever becomes of the hook.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::master::Master;
use super::super::pools::{PoolRun, Prepared};
use super::child::What as Job;
use super::{Facts, Moment};
use crate::supervisor::{Action, Event, KILL, Scope, SpawnError, SpawnFault, WorkerId};

/// Workers whose start or stop is held back, with the hook that does.
#[derive(Debug, Default)]
pub(in super::super) struct Preparing {
    /// To be started, under this revision; `None`: the hook of their pool does, or the worker's own is done.
    starts: BTreeMap<WorkerId, (u32, Option<u64>)>,
    /// To be signalled.
    stops: BTreeMap<WorkerId, (u64, i32, Scope)>,
    /// The master's end was hastened.
    hurried: bool,
}

/// What a start has to do with hooks.
pub(in super::super) enum Gate {
    /// Nothing holds it back.
    Open,
    /// It will be asked for again, or fail.
    Held,
}

impl Master {
    /// The hooks before a worker's start.
    pub(in super::super) fn gate_of_start(&mut self, worker: WorkerId, revision: u32, run: &Rc<PoolRun>) -> Gate {
        let hooks = &run.config.hooks;
        if !hooks.pre_start.is_empty() && run.prepared.get() != Prepared::Done {
            self.preparing.starts.insert(worker, (revision, None));
            if run.prepared.get() == Prepared::NotYet {
                run.prepared.set(Prepared::Running);
                let job = Job::of_pool(Moment::PreStart, run, None, &Facts::default(), &self.common);
                self.gate_job(job, worker, |_, _| {});
            }
            return Gate::Held;
        }
        // Its own hook is done, and it comes here again.
        if hooks.pre_spawn.is_empty() || self.preparing.starts.remove(&worker).is_some_and(|(_, hook)| hook.is_some()) {
            self.preparing.starts.remove(&worker);
            return Gate::Open;
        }
        self.preparing.starts.insert(worker, (revision, None));
        let job = Job::of_pool(Moment::PreSpawn, run, Some(worker), &Facts::default(), &self.common);
        self.gate_job(job, worker, |preparing, number| {
            if let Some((_, hook)) = preparing.starts.get_mut(&worker) {
                *hook = Some(number);
            }
        });
        Gate::Held
    }

    fn gate_job(&mut self, job: Result<Job, String>, worker: WorkerId, note: impl FnOnce(&mut Preparing, u64)) {
        match job {
            Ok(job) => {
                // Its number is known only from now on; it may have failed within the call, and is told of in a later turn then.
                let number = self.hooks.next;
                note(&mut self.preparing, number);
                if self.run_hook(job).is_none() {
                    self.fail_start(worker, SpawnFault::Setup, "the master is ending".to_owned());
                }
            }
            Err(why) => self.fail_start(worker, SpawnFault::Setup, why),
        }
    }

    fn fail_start(&mut self, worker: WorkerId, fault: SpawnFault, message: String) {
        if self.preparing.starts.remove(&worker).is_some() {
            self.facts.push_back(Event::SpawnFailed { worker, error: SpawnError { fault, errno: 0, message } });
        }
    }

    /// A signal to a worker whose start or stop is held back. True: that is all; false: it goes on to the process.
    pub(in super::super) fn gate_of_signal(&mut self, worker: WorkerId, signal: i32, scope: Scope) -> bool {
        if let Some((_, hook)) = self.preparing.starts.get(&worker).copied() {
            self.facts.push_back(Event::Signalled { worker, signal });
            if let Some(number) = hook {
                self.cancel_hook(number);
            }
            self.fail_start(worker, SpawnFault::Setup, "told to stop before its hooks were done".to_owned());
            self.end_idle_pre_start(worker);
            return true;
        }
        if let Some((number, held, _)) = self.preparing.stops.get(&worker).copied() {
            if self.processes.of(worker).is_some_and(|process| !process.is_stopped_by(signal)) {
                // Merely passed on: it changes nothing.
                return false;
            }
            // A harder one comes first. The hook may go on, but holds nothing back any more.
            self.preparing.stops.remove(&worker);
            if let Some(child) = self.hooks.running.get_mut(&number) {
                child.job.cancelled = true;
            }
            self.facts.push_back(Event::Signalled { worker, signal: held });
            return false;
        }
        let Some(process) = self.processes.of(worker) else { return false };
        let spec = &process.run.config.spec;
        let first = spec.stop.first().is_some_and(|step| step.signal == signal) && signal != KILL;
        if !first
            || process.told_to_stop
            || process.exited
            || process.exec.is_some()
            || process.run.config.hooks.pre_stop.is_empty()
        {
            return false;
        }
        let facts = Facts { pid: Some(process.pid), ..Facts::default() };
        let job = Job::of_pool(Moment::PreStop, &Rc::clone(&process.run), Some(worker), &facts, &self.common);
        let number = self.hooks.next;
        self.preparing.stops.insert(worker, (number, signal, scope));
        if self.run_job(job).is_none() {
            self.preparing.stops.remove(&worker);
            return false;
        }
        if let Some(number) = self.processes.number_of(worker)
            && let Some(process) = self.processes.get_mut(number)
        {
            process.told_to_stop = true;
        }
        true
    }

    /// The quick way may be the same signal, which nobody sends twice: when the master's end is hastened, what is held back is sent at once.
    pub(in super::super) fn hasten_stops(&mut self) {
        if self.preparing.hurried || !self.core.is_ending_quickly() {
            return;
        }
        self.preparing.hurried = true;
        for (worker, (number, signal, scope)) in std::mem::take(&mut self.preparing.stops) {
            if let Some(child) = self.hooks.running.get_mut(&number) {
                child.job.cancelled = true;
            }
            self.send_signal(worker, signal, scope);
        }
    }

    /// A pool's own start is nobody's wish any more when no worker waits for it.
    fn end_idle_pre_start(&mut self, worker: WorkerId) {
        if self.preparing.starts.keys().any(|other| other.pool == worker.pool) {
            return;
        }
        let its = |job: &Job| job.moment == Moment::PreStart && job.pool == Some(worker.pool);
        let number = self.hooks.running.iter().find(|(_, child)| its(&child.job)).map(|(number, _)| *number);
        if let Some(number) = number {
            self.cancel_hook(number);
        }
    }

    /// The worker has ended: a stop signal that was held back has nobody to go to.
    pub(in super::super) fn forget_held_stop(&mut self, worker: WorkerId) {
        if let Some((number, signal, _)) = self.preparing.stops.remove(&worker) {
            if let Some(child) = self.hooks.running.get_mut(&number) {
                child.job.cancelled = true;
            }
            self.facts.push_back(Event::Signalled { worker, signal });
        }
    }

    /// What a hook that is over held back.
    pub(super) fn let_go_after(&mut self, number: u64, job: Job, outcome: Result<(), String>) {
        match job.moment {
            Moment::Starting => {
                if let Some(event) = self.held_config.take() {
                    match outcome {
                        Ok(()) => self.facts.push_back(event),
                        Err(_) if self.exit.is_some() => {}
                        Err(why) => self.exit = Some((1, format!("the hook master.hooks.starting failed: {why}"))),
                    }
                }
            }
            Moment::PreStart => self.pool_is_prepared(&job, outcome),
            Moment::PreSpawn => {
                let Some(worker) = job.worker else { return };
                // Another try of the same worker has another hook.
                let Some((revision, hook)) = self.preparing.starts.get(&worker).copied() else { return };
                match outcome {
                    _ if hook != Some(number) => {}
                    Ok(()) => self.actions.push_front(Action::Spawn { worker, revision }),
                    Err(why) => self.fail_start(worker, SpawnFault::Setup, format!("its pre_spawn hook failed: {why}")),
                }
            }
            Moment::PreStop => {
                let Some(worker) = job.worker else { return };
                let Some((_, signal, scope)) = self.preparing.stops.get(&worker).copied().filter(|(n, ..)| *n == number) else {
                    return;
                };
                self.preparing.stops.remove(&worker);
                self.send_signal(worker, signal, scope);
            }
            Moment::MasterReady
            | Moment::Reload
            | Moment::Exit
            | Moment::PostSpawn
            | Moment::Ready
            | Moment::WorkerExit
            | Moment::Scaled => {}
        }
    }

    fn pool_is_prepared(&mut self, job: &Job, outcome: Result<(), String>) {
        let Some(pool) = job.pool else { return };
        let Some(run) = job.run().cloned() else { return };
        run.prepared.set(if outcome.is_ok() { Prepared::Done } else { Prepared::NotYet });
        let waiting: Vec<(WorkerId, u32)> = self
            .preparing
            .starts
            .iter()
            .filter(|(id, (_, hook))| id.pool == pool && hook.is_none())
            .map(|(id, (revision, _))| (*id, *revision))
            .collect();
        // Of another config, it says nothing about their start: they come to the gate of their own.
        let of_it = |revision: u32| self.run_under(pool, revision).is_some_and(|now| Rc::ptr_eq(&now.prepared, &run.prepared));
        let (waiting, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, revision)| of_it(*revision));
        for (worker, revision) in others {
            self.preparing.starts.remove(&worker);
            self.actions.push_back(Action::Spawn { worker, revision });
        }
        match outcome {
            // In their order: the last one pushed is the first one done.
            Ok(()) => {
                for (worker, revision) in waiting.into_iter().rev() {
                    self.preparing.starts.remove(&worker);
                    self.actions.push_front(Action::Spawn { worker, revision });
                }
            }
            Err(why) => {
                for (worker, _) in waiting {
                    // As a program that is not there: without it no worker of the pool can start.
                    self.fail_start(worker, SpawnFault::Exec, format!("the pool's pre_start hook failed: {why}"));
                }
            }
        }
    }
}
