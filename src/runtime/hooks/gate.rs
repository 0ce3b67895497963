//! Owns what hooks hold back: the start of a pool, the start of a worker, the release of a worker, the start of the master. Every action that is
//! held back has its one outcome in the end, whatever becomes of the hook.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::master::Master;
use super::super::pools::{PoolRun, Prepared};
use super::child::What as Job;
use super::{Facts, Moment};
use crate::supervisor::{Action, Event, PoolId, SpawnError, SpawnFault, WorkerId};

/// Workers whose start or stop is held back, with the hook that does.
#[derive(Debug, Default)]
pub(in super::super) struct Preparing {
    /// To be started.
    starts: BTreeMap<WorkerId, HeldStart>,
    /// To be told to stop once their hook is done.
    stops: BTreeMap<WorkerId, u64>,
    /// Pools whose own hook the core waits for, under this revision, and what they are to be started from.
    pools: BTreeMap<(PoolId, u32), Rc<PoolRun>>,
}

/// A start that is held back. Whatever comes in force meanwhile, it is made from what its revision had when it was asked for.
#[derive(Debug)]
struct HeldStart {
    revision: u32,
    run: Rc<PoolRun>,
    by: Holder,
}

/// What holds a start back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// The hook of its pool.
    Pool,
    /// Its own, of this number.
    Own(u64),
    /// Nothing any more: it is asked for again.
    Nothing,
}

impl Preparing {
    /// Nothing is held back.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.starts.is_empty() && self.stops.is_empty() && self.pools.is_empty()
    }

    /// What a worker is started from that was held back.
    pub(in super::super) fn run_of(&self, worker: WorkerId) -> Option<&Rc<PoolRun>> {
        self.starts.get(&worker).map(|held| &held.run)
    }

    /// What workers that are not started yet are started from is another now, but for settings that running ones take over as well.
    pub(in super::super) fn take_over(&mut self, before: &Rc<PoolRun>, now: &Rc<PoolRun>) {
        let starts = self.starts.values_mut().map(|held| &mut held.run);
        starts.chain(self.pools.values_mut()).filter(|run| Rc::ptr_eq(run, before)).for_each(|run| *run = Rc::clone(now));
    }
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
        // Its own hook is done, and it comes here again.
        if self.preparing.starts.get(&worker).is_some_and(|held| held.by == Holder::Nothing) {
            self.preparing.starts.remove(&worker);
            return Gate::Open;
        }
        if !hooks.pre_start.is_empty() && run.prepared.get() != Prepared::Done {
            self.preparing.starts.insert(worker, HeldStart { revision, run: Rc::clone(run), by: Holder::Pool });
            if run.prepared.get() == Prepared::NotYet {
                let job = Job::of_pool(Moment::PreStart, run, None, &Facts::default(), &self.common);
                if job.is_ok() {
                    run.prepared.set(Prepared::Running);
                }
                self.gate_job(job, worker, |_, _| {});
            }
            return Gate::Held;
        }
        self.preparing.starts.remove(&worker);
        if hooks.pre_spawn.is_empty() {
            return Gate::Open;
        }
        self.preparing.starts.insert(worker, HeldStart { revision, run: Rc::clone(run), by: Holder::Pool });
        let job = Job::of_pool(Moment::PreSpawn, run, Some(worker), &Facts::default(), &self.common);
        self.gate_job(job, worker, |preparing, number| {
            if let Some(held) = preparing.starts.get_mut(&worker) {
                held.by = Holder::Own(number);
            }
        });
        Gate::Held
    }

    /// Runs the hook before the first worker of a pool that has none yet under this revision.
    pub(in super::super) fn pre_start(&mut self, pool: PoolId, revision: u32) {
        let run = self.run_under(pool, revision).cloned();
        let Some(run) = run.filter(|run| !run.config.hooks.pre_start.is_empty()) else {
            return self.facts.push_back(Event::PreStarted { pool, revision, failed: None });
        };
        self.preparing.pools.insert((pool, revision), Rc::clone(&run));
        match run.prepared.get() {
            Prepared::Done => self.pre_started(pool, revision, None),
            // Its end is heard.
            Prepared::Running => {}
            Prepared::NotYet => {
                let job = Job::of_pool(Moment::PreStart, &run, None, &Facts::default(), &self.common);
                let begun = job.and_then(|job| {
                    run.prepared.set(Prepared::Running);
                    self.run_hook(job).ok_or_else(|| "the master is ending".to_owned())
                });
                if let Err(why) = begun {
                    run.prepared.set(Prepared::NotYet);
                    self.pre_started(pool, revision, Some(format!("the pool's pre_start hook cannot be run: {why}")));
                }
            }
        }
    }

    fn pre_started(&mut self, pool: PoolId, revision: u32, failed: Option<String>) {
        if self.preparing.pools.remove(&(pool, revision)).is_some() {
            self.facts.push_back(Event::PreStarted { pool, revision, failed });
        }
    }

    /// A config is not wanted any more: neither are the hooks that come before its pools.
    pub(in super::super) fn cancel_pre_starts(&mut self, revision: u32, runs: &[Rc<PoolRun>]) {
        self.preparing.pools.retain(|(_, of), _| *of != revision);
        let its = |job: &Job| {
            job.moment == Moment::PreStart && job.run().is_some_and(|run| runs.iter().any(|other| Rc::ptr_eq(other, run)))
        };
        let running = self.hooks.running.iter().filter(|(_, child)| its(&child.job)).map(|(number, _)| *number);
        let waiting = self.hooks.waiting.values().flatten().filter(|(_, job)| its(job)).map(|(number, _)| *number);
        let numbers: Vec<u64> = running.chain(waiting).collect();
        numbers.into_iter().for_each(|number| self.cancel_hook(number));
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

    /// The worker is not started yet: hooks come first.
    pub(in super::super) fn is_held_start(&self, worker: WorkerId) -> bool {
        self.preparing.starts.contains_key(&worker)
    }

    /// A worker whose start is held back is not started any more.
    pub(in super::super) fn cancel_start(&mut self, worker: WorkerId) {
        let Some(held) = self.preparing.starts.get(&worker) else { return };
        let (run, by) = (Rc::clone(&held.run), held.by);
        if let Holder::Own(number) = by {
            self.cancel_hook(number);
        }
        self.fail_start(worker, SpawnFault::Setup, "told to stop before its hooks were done".to_owned());
        self.end_idle_pre_start(&run);
    }

    /// Runs the hook that comes before a worker's stop signal. False: there is none to wait for.
    pub(in super::super) fn run_pre_stop(&mut self, worker: WorkerId) -> bool {
        let Some(process) = self.processes.of(worker) else { return false };
        if process.exited || process.exec.is_some() || process.run.config.hooks.pre_stop.is_empty() {
            return false;
        }
        let (pid, within) = (process.pid, process.run.config.hooks.timeout);
        let reason =
            self.core.worker(worker).and_then(|view| view.stopping).map(|reason| format!(": {reason}")).unwrap_or_default();
        tracing::info!(
            pool = process.run.config.spec.name,
            slot = worker.slot,
            pid,
            "leaving{reason}; its pre_stop hook comes before its stop signal, for {} at most",
            crate::supervisor::human(within)
        );
        let facts = Facts { pid: Some(pid), ..Facts::default() };
        let job = Job::of_pool(Moment::PreStop, &Rc::clone(&process.run), Some(worker), &facts, &self.common);
        // Its number is known only from now on; it may be over within the call.
        self.preparing.stops.insert(worker, self.hooks.next);
        let runs = self.run_job(job).is_some();
        if !runs {
            self.preparing.stops.remove(&worker);
        }
        runs
    }

    /// Nobody waits for the hook before the worker's stop signal any more. It may go on to its own end, unless it is in the way.
    pub(in super::super) fn leave_pre_stop(&mut self, worker: WorkerId, in_the_way: bool) {
        let Some(number) = self.preparing.stops.remove(&worker) else { return };
        if in_the_way && self.hooks.hurried {
            // That has its own line.
            self.cancel_hook(number);
        } else if in_the_way {
            tracing::info!(
                pool = self.name_of(worker.pool),
                slot = worker.slot,
                "hook pre_stop is cut short: told to end, killed in {}",
                crate::supervisor::human(super::GRACE)
            );
            self.cancel_hook(number);
        } else if let Some(child) = self.hooks.running.get_mut(&number) {
            child.job.cancelled = true;
        }
    }

    /// A pool's own start is nobody's wish any more when no worker waits for it, and the core does not.
    fn end_idle_pre_start(&mut self, run: &PoolRun) {
        let same = |other: &PoolRun| Rc::ptr_eq(&other.prepared, &run.prepared);
        let starts = self.preparing.starts.values().map(|held| &held.run);
        if starts.chain(self.preparing.pools.values()).any(|other| same(other)) {
            return;
        }
        let its = |job: &Job| job.moment == Moment::PreStart && job.run().is_some_and(|other| same(other));
        let number = self.hooks.running.iter().find(|(_, child)| its(&child.job)).map(|(number, _)| *number);
        if let Some(number) = number {
            self.cancel_hook(number);
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
            Moment::Upgrade => self.upgrade_hook_ended(outcome),
            Moment::PreStart => self.pool_is_prepared(&job, outcome),
            Moment::PreSpawn => {
                let Some(worker) = job.worker else { return };
                // Another try of the same worker has another hook.
                let Some(held) = self.preparing.starts.get_mut(&worker) else { return };
                match outcome {
                    _ if held.by != Holder::Own(number) => {}
                    Ok(()) => {
                        held.by = Holder::Nothing;
                        self.actions.push_front(Action::Spawn { worker, revision: held.revision });
                    }
                    Err(why) => self.fail_start(worker, SpawnFault::Setup, format!("its pre_spawn hook failed: {why}")),
                }
            }
            Moment::PreStop => {
                let Some(worker) = job.worker else { return };
                if self.preparing.stops.get(&worker) == Some(&number) {
                    self.preparing.stops.remove(&worker);
                    self.facts.push_back(Event::Released { worker });
                }
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
        let Some(run) = job.run().cloned() else { return };
        run.prepared.set(if outcome.is_ok() { Prepared::Done } else { Prepared::NotYet });
        let failed = outcome.err().map(|why| format!("the pool's pre_start hook failed: {why}"));
        // Of another config, it says nothing about their start: a hook of their own holds them back.
        let of_it = |other: &PoolRun| Rc::ptr_eq(&other.prepared, &run.prepared);
        let asked = self.preparing.pools.iter().filter(|(_, other)| of_it(other)).map(|(key, _)| *key);
        let asked: Vec<(PoolId, u32)> = asked.collect();
        for (pool, revision) in asked {
            match job.cancelled {
                // Nobody wanted it any more, and then somebody did: it is run for them.
                true => self.pre_start(pool, revision),
                false => self.pre_started(pool, revision, failed.clone()),
            }
        }
        let waiting = self.preparing.starts.iter().filter(|(_, held)| held.by == Holder::Pool && of_it(&held.run));
        let waiting: Vec<(WorkerId, u32)> = waiting.map(|(worker, held)| (*worker, held.revision)).collect();
        match failed.filter(|_| !job.cancelled) {
            // In their order: the last one pushed is the first one done.
            None => {
                for (worker, revision) in waiting.into_iter().rev() {
                    self.actions.push_front(Action::Spawn { worker, revision });
                }
            }
            Some(why) => {
                for (worker, _) in waiting {
                    // As a program that is not there: without it no worker of the pool can start.
                    self.fail_start(worker, SpawnFault::Exec, why.clone());
                }
            }
        }
    }
}
