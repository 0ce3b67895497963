//! Owns the hooks: commands of the pools and of the master, run as children beside the loop, each with a time limit, their output in the log.
//! Some hold something back until they have ended (a start, a stop signal); the others are only told of. Refuses to wait.

mod child;
mod env;
mod gate;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::time::Duration;

use super::master::Master;
use super::token::Token;
use crate::config::spec::MasterHooks;
use crate::os::signals::kill_group;
use crate::supervisor::{ExitStatus, KILL, Note, PoolId, Time, What};
use child::{Child, What as Job};
pub(super) use env::Facts;
pub(super) use gate::{Gate, Preparing};

/// Hooks of one pool that run at once; the others wait their turn.
const AT_ONCE: usize = 16;
/// Hooks of one pool that may wait; beyond, those that hold nothing back are dropped, and that is told.
const WAITING: usize = 1000;
/// From TERM to KILL, for a hook that has taken too long.
const GRACE: Duration = Duration::from_secs(2);
/// When the master ends, hooks that are still running have so much time left.
const LAST: Duration = Duration::from_secs(5);

/// When it ends at once.
const HURRY: Duration = Duration::from_millis(500);

/// The moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moment {
    Starting,
    MasterReady,
    Reload,
    Upgrade,
    Exit,
    PreStart,
    PreSpawn,
    PostSpawn,
    Ready,
    PreStop,
    WorkerExit,
    Scaled,
}

impl Moment {
    /// As its key is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Moment::Starting => "starting",
            Moment::MasterReady | Moment::Ready => "ready",
            Moment::Reload => "reload",
            Moment::Upgrade => "upgrade",
            Moment::Exit => "exit",
            Moment::PreStart => "pre_start",
            Moment::PreSpawn => "pre_spawn",
            Moment::PostSpawn => "post_spawn",
            Moment::PreStop => "pre_stop",
            Moment::WorkerExit => "worker_exit",
            Moment::Scaled => "scaled",
        }
    }

    /// Something waits for its end.
    fn holds_back(self) -> bool {
        match self {
            Moment::Starting | Moment::Upgrade | Moment::Exit | Moment::PreStart | Moment::PreSpawn | Moment::PreStop => true,
            Moment::MasterReady | Moment::Reload | Moment::PostSpawn | Moment::Ready | Moment::WorkerExit | Moment::Scaled => {
                false
            }
        }
    }
}

/// All hooks that run or wait, by numbers that are never used twice.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    running: BTreeMap<u64, Child>,
    waiting: BTreeMap<Option<PoolId>, VecDeque<(u64, Job)>>,
    next: u64,
    /// The master is about to end: nothing new but the exit hook.
    ending: bool,
    /// It ends at once.
    hurried: bool,
    exit_begun: bool,
    dropped: u64,
}

impl Hooks {
    /// When the next one has taken too long.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.running.values().filter_map(|child| child.by).min()
    }

    fn running_of(&self, pool: Option<PoolId>) -> usize {
        self.running.values().filter(|child| child.job.pool == pool).count()
    }

    fn of_pid(&self, pid: i32) -> Option<u64> {
        self.running.iter().find(|(_, child)| child.pid == pid).map(|(number, _)| *number)
    }
}

impl Master {
    /// A hook runs, or waits for its turn.
    pub(super) fn is_held_up(&self) -> bool {
        !self.preparing.is_empty() || !self.hooks.running.is_empty() || self.hooks.waiting.values().any(|jobs| !jobs.is_empty())
    }

    /// Runs a hook now, or as soon as its pool has not too many of them. `None`: there is none, or it cannot be had.
    fn run_hook(&mut self, job: Job) -> Option<u64> {
        if job.argv.is_empty() || (self.hooks.ending && job.moment != Moment::Exit && job.moment != Moment::WorkerExit) {
            return None;
        }
        let number = self.hooks.next;
        self.hooks.next += 1;
        if self.hooks.running_of(job.pool) < AT_ONCE {
            self.start_hook(number, job);
            return Some(number);
        }
        let waiting = self.hooks.waiting.entry(job.pool).or_default();
        if waiting.len() >= WAITING && !job.moment.holds_back() {
            self.hooks.dropped += 1;
            if self.hooks.dropped.is_power_of_two() {
                tracing::warn!(
                    pool = job.name,
                    "hook {}: {WAITING} wait already; dropped ({} so far)",
                    job.moment.name(),
                    self.hooks.dropped
                );
            }
            return None;
        }
        waiting.push_back((number, job));
        Some(number)
    }

    fn start_hook(&mut self, number: u64, job: Job) {
        match Child::start(job, &self.common) {
            Ok(mut child) => {
                if self.hooks.hurried {
                    child.hurry_silently(Master::now() + HURRY);
                }
                // Unwatched, its output would be lost, and nothing else.
                let _ = self.epoll.add(child.output.as_fd(), Token::Hook(number).into(), crate::os::epoll::Interest::Read);
                self.hooks.running.insert(number, child);
            }
            Err(failed) => {
                let (job, why) = *failed;
                self.hook_is_over(number, job, Err(why));
            }
        }
    }

    /// A hook says something.
    pub(super) fn read_hook(&mut self, number: u64) {
        if let Some(child) = self.hooks.running.get_mut(&number)
            && child.read()
        {
            // At its end it would wake the loop for ever.
            let _ = self.epoll.remove(child.output.as_fd());
        }
    }

    /// A child has ended. True: it was a hook.
    pub(super) fn hook_ended(&mut self, pid: i32, status: ExitStatus) -> bool {
        let Some(number) = self.hooks.of_pid(pid) else { return false };
        let Some(mut child) = self.hooks.running.remove(&number) else { return false };
        // What it left behind has no business any more.
        let _ = kill_group(pid, KILL);
        child.finish();
        let _ = self.epoll.remove(child.output.as_fd());
        let outcome = child.verdict(status);
        self.hook_is_over(number, child.job, outcome);
        true
    }

    /// Tells of the end of a hook, lets go what it held back, and starts the next one.
    fn hook_is_over(&mut self, number: u64, job: Job, outcome: Result<(), String>) {
        let (pool, moment) = (job.pool, job.moment);
        match (&outcome, job.worker) {
            (Ok(()), _) => tracing::debug!(pool = job.name, "hook {} done", moment.name()),
            (Err(_), _) if job.cancelled => tracing::debug!(pool = job.name, "hook {} ended, nobody waits for it", moment.name()),
            (Err(why), Some(worker)) => {
                tracing::warn!(pool = job.name, slot = worker.slot, "hook {} failed: {why}", moment.name());
            }
            (Err(why), None) => tracing::warn!(pool = job.name, "hook {} failed: {why}", moment.name()),
        }
        self.let_go_after(number, job, outcome);
        while self.hooks.running_of(pool) < AT_ONCE {
            let next = self.hooks.waiting.get_mut(&pool).and_then(VecDeque::pop_front);
            let Some((number, job)) = next else { break };
            self.start_hook(number, job);
        }
    }

    /// Ends the hooks that have taken too long: TERM, then KILL.
    pub(super) fn expire_hooks(&mut self) {
        if self.hooks.running.is_empty() {
            return;
        }
        let now = Master::now();
        for child in self.hooks.running.values_mut().filter(|child| child.by.is_some_and(|by| by <= now)) {
            child.push_on(now, self.hooks.ending);
        }
    }

    /// The master is to end at once: no hook keeps it longer than a moment, none that waits is begun.
    pub(super) fn hurry_hooks(&mut self) {
        if self.hooks.hurried || !self.core.is_ending_now() {
            return;
        }
        self.hooks.hurried = true;
        if !self.hooks.running.is_empty() {
            let running = crate::supervisor::count(self.hooks.running.len(), "hook");
            tracing::warn!("{running} still running: told to end, killed in {}", crate::supervisor::human(HURRY));
        }
        let by = Master::now() + HURRY;
        self.hooks.running.values_mut().for_each(|child| child.hurry(by));
    }

    /// Nobody waits for it any more.
    fn cancel_hook(&mut self, number: u64) {
        if let Some(child) = self.hooks.running.get_mut(&number) {
            child.job.cancelled = true;
            child.by = Some(Master::now() + GRACE);
            child.told = true;
            let _ = kill_group(child.pid, libc::SIGTERM);
            return;
        }
        let mut left = None;
        for waiting in self.hooks.waiting.values_mut() {
            if let Some(at) = waiting.iter().position(|(other, _)| *other == number) {
                left = waiting.remove(at);
            }
        }
        if let Some((number, mut job)) = left.filter(|(_, job)| job.moment == Moment::PreStart) {
            job.cancelled = true;
            self.let_go_after(number, job, Err("nobody waits for it".to_owned()));
        }
    }

    /// A line of the core's may be a moment for a hook.
    pub(super) fn hook_on(&mut self, note: &Note) {
        let worker = |moment, facts| (moment, note.worker, facts);
        let (moment, worker, facts) = match &note.what {
            What::Started => worker(Moment::PostSpawn, Facts::default()),
            What::Ready { .. } | What::AssumedReady => worker(Moment::Ready, Facts::default()),
            What::Exited { status, asked, .. } => worker(
                Moment::WorkerExit,
                Facts { status: Some(*status), reason: asked.map(|r| r.to_string()), ..Facts::default() },
            ),
            What::Scaled { from, to, by } => {
                (Moment::Scaled, None, Facts { counts: Some((*from, *to)), reason: Some(by.clone()), ..Facts::default() })
            }
            What::AllReady { .. } => return self.master_hook(Moment::MasterReady, &Facts::default()),
            What::Reloaded { summary } => return self.reload_hook(true, summary),
            What::ReloadFailed { reason } | What::ConfigRejected { reason } => return self.reload_hook(false, reason),
            _ => return,
        };
        // A worker's hooks are those of the config that it was started from, which may be one that is tried, or one that was.
        let own = worker.and_then(|id| self.processes.run_of(id));
        let Some(run) = own.or_else(|| self.runs.get(&note.pool?)).cloned() else { return };
        let pid = worker.and_then(|id| self.processes.pid_of(id));
        let job = Job::of_pool(moment, &run, worker, &Facts { pid, ..facts }, &self.common);
        self.run_job(job);
    }

    fn run_job(&mut self, job: Result<Job, String>) -> Option<u64> {
        match job {
            Ok(job) => self.run_hook(job),
            Err(why) => {
                tracing::warn!("{why}");
                None
            }
        }
    }

    /// A reload has ended.
    fn reload_hook(&mut self, done: bool, words: &str) {
        let facts = Facts { done: Some(done), reason: Some(words.to_owned()), ..Facts::default() };
        self.master_hook(Moment::Reload, &facts);
    }

    /// A hook of the master's own.
    fn master_hook(&mut self, moment: Moment, facts: &Facts) {
        let job = Job::of_master(moment, &self.config.hooks, facts, &self.environment, &self.config.name);
        self.run_hook(job);
    }

    /// Runs the hook before the first config is put in force. True: wait for [`Master::started`].
    pub(super) fn hook_starting(&mut self) -> bool {
        let job = Job::of_master(Moment::Starting, &self.config.hooks, &Facts::default(), &self.environment, &self.config.name);
        self.run_hook(job).is_some()
    }

    /// Runs the hook before another program takes the place of this one. True: wait for [`Master::upgrade_hook_ended`].
    pub(super) fn hook_upgrade(&mut self, program: &str) -> bool {
        let facts = Facts { reason: Some(program.to_owned()), ..Facts::default() };
        let job = Job::of_master(Moment::Upgrade, &self.config.hooks, &facts, &self.environment, &self.config.name);
        self.run_hook(job).is_some()
    }

    /// The core has said that it is over. True: no hook is left, the exit hook included; else more turns are needed.
    pub(super) fn hooks_are_done(&mut self) -> bool {
        if !self.hooks.ending {
            self.hooks.ending = true;
            self.hooks.waiting.clear();
            let by = Master::now() + LAST;
            for child in self.hooks.running.values_mut() {
                child.by = child.by.map(|at| at.min(by));
            }
            let starting: Vec<u64> =
                self.hooks.running.iter().filter(|(_, c)| c.job.moment == Moment::Starting).map(|(n, _)| *n).collect();
            for number in starting {
                self.cancel_hook(number);
            }
        }
        if self.hooks.running.is_empty() && !std::mem::replace(&mut self.hooks.exit_begun, true) {
            self.master_hook(Moment::Exit, &Facts::default());
        }
        self.hooks.running.is_empty()
    }
}

/// The command of a moment of the master's.
fn of_master(hooks: &MasterHooks, moment: Moment) -> &[String] {
    match moment {
        Moment::Starting => &hooks.starting,
        Moment::MasterReady => &hooks.ready,
        Moment::Reload => &hooks.reload,
        Moment::Upgrade => &hooks.upgrade,
        Moment::Exit => &hooks.exit,
        Moment::PreStart
        | Moment::PreSpawn
        | Moment::PostSpawn
        | Moment::Ready
        | Moment::PreStop
        | Moment::WorkerExit
        | Moment::Scaled => &[],
    }
}
