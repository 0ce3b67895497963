//! Owns one hook: what is to be run, the child that runs it, its output, its time, and the verdict on its end.

use std::ffi::{CString, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::Duration;

use super::super::environment;
use super::super::launch::{self, Common};
use super::super::master::Master;
use super::super::pools::PoolRun;
use super::{Facts, GRACE, Moment, env, of_master};
use crate::config::spec::MasterHooks;
use crate::os::io as fdio;
use crate::os::signals::kill_group;
use crate::os::spawn::Identity;
use crate::supervisor::{ExitStatus, KILL, PoolId, Time, WorkerId};
use crate::telemetry::{Lines, Tail, printable};

/// Most bytes read of a hook's output in one turn, and at its end.
const SLICE: usize = 4 * 1024;
/// Longest line of its output, in bytes.
const LINE: usize = 4096;
/// Lines of one hook that are passed on to the log; the others are counted.
const LINES: usize = 1000;
/// Lines kept for the report of a failure.
const TAIL: usize = 5;

/// A hook that is to be run.
#[derive(Debug)]
pub(super) struct What {
    pub(super) moment: Moment,
    pub(super) pool: Option<PoolId>,
    /// The pool's name, for the log.
    pub(super) name: Option<String>,
    pub(super) worker: Option<WorkerId>,
    pub(super) argv: Vec<String>,
    env: Vec<CString>,
    timeout: Duration,
    run: Option<Rc<PoolRun>>,
    /// Nobody waits for it any more: its end is no news.
    pub(super) cancelled: bool,
}

impl What {
    /// Of a pool, perhaps about one of its workers. Without a command it has no words.
    pub(super) fn of_pool(
        moment: Moment,
        run: &Rc<PoolRun>,
        worker: Option<WorkerId>,
        facts: &Facts,
        common: &Common,
    ) -> Result<What, String> {
        let hooks = &run.config.hooks;
        let name = &run.config.spec.name;
        let words = match moment {
            Moment::PreStart => &hooks.pre_start,
            Moment::PreSpawn => &hooks.pre_spawn,
            Moment::PostSpawn => &hooks.post_spawn,
            Moment::Ready => &hooks.ready,
            Moment::PreStop => &hooks.pre_stop,
            Moment::WorkerExit => &hooks.worker_exit,
            Moment::Scaled => &hooks.scaled,
            Moment::Starting | Moment::MasterReady | Moment::Reload | Moment::Upgrade | Moment::Exit => &Vec::new(),
        };
        let id = worker.unwrap_or(WorkerId { pool: run.config.spec.id, slot: 0, generation: 0 });
        let mut out = What {
            moment,
            pool: Some(run.config.spec.id),
            name: Some(name.clone()),
            worker,
            argv: words.iter().map(|word| launch::fill(word, id, run, common)).collect(),
            env: Vec::new(),
            timeout: hooks.timeout,
            run: Some(Rc::clone(run)),
            cancelled: false,
        };
        if !out.argv.is_empty() {
            let shared = run.environment.for_hook(|text| launch::fill(text, id, run, common));
            out.env = shared.map_err(|e| format!("pool {name}: hook {}: {}", moment.name(), e.message))?;
            out.env.extend(env::variables(moment, Some(name), worker, facts));
        }
        Ok(out)
    }

    /// The pool under the config that it belongs to.
    pub(super) fn run(&self) -> Option<&Rc<PoolRun>> {
        self.run.as_ref()
    }

    /// Of the master itself.
    pub(super) fn of_master(
        moment: Moment,
        hooks: &MasterHooks,
        facts: &Facts,
        master: &[(OsString, OsString)],
        instance: &str,
    ) -> What {
        let kept = |name: &[u8]| !environment::is_scrubbed(name);
        let entry = |(name, value): &(OsString, OsString)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok();
        let mut env: Vec<CString> = master.iter().filter(|(name, _)| kept(name.as_bytes())).filter_map(entry).collect();
        env.extend(CString::new(format!("POOLMASTER_INSTANCE={instance}")));
        env.extend(env::variables(moment, None, None, facts));
        What {
            moment,
            pool: None,
            name: None,
            worker: None,
            argv: of_master(hooks, moment).to_vec(),
            env,
            timeout: hooks.timeout,
            run: None,
            cancelled: false,
        }
    }
}

/// Why a hook was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// Its own time is over.
    Timeout,
    /// The master ends.
    End,
}

/// A hook that runs.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) job: What,
    pub(super) pid: i32,
    pub(super) output: OwnedFd,
    /// When it has taken too long; `None`: it was killed.
    pub(super) by: Option<Time>,
    /// It was told to end.
    pub(super) told: bool,
    /// Why, when it was not done by then.
    late: Option<Late>,
    lines: Lines,
    tail: Tail,
    told_lines: usize,
}

impl Child {
    /// Starts it, as its pool's user, in its directory.
    pub(super) fn start(mut job: What, common: &Common) -> Result<Child, Box<(What, String)>> {
        let (output, given) = match fdio::output_pipe() {
            Ok(ends) => ends,
            Err(e) => return Err(Box::new((job, format!("cannot make a pipe for its output: {e}")))),
        };
        let env = std::mem::take(&mut job.env);
        let started = match &job.run {
            Some(run) => {
                let slot = job.worker.map_or(0, |id| id.slot);
                let identity = Identity { cpus: Vec::new(), ..run.workers.in_slot(slot) };
                launch::run_aside(&job.argv, env, Some(run), identity, Some(&given), common)
            }
            None => launch::run_aside(&job.argv, env, None, Identity::default(), Some(&given), common),
        };
        match started {
            Ok(pid) => {
                let by = Some(Master::now() + job.timeout);
                Ok(Child {
                    job,
                    pid,
                    output,
                    by,
                    told: false,
                    late: None,
                    lines: Lines::new(LINE),
                    tail: Tail::new(TAIL),
                    told_lines: 0,
                })
            }
            Err(why) => Err(Box::new((job, why))),
        }
    }

    /// Passes its output on, one turn's share. True: it is at its end.
    pub(super) fn read(&mut self) -> bool {
        let mut buffer = [0u8; 8192];
        let mut total = 0;
        while total < SLICE {
            match fdio::read(&self.output, &mut buffer) {
                Ok(0) => return true,
                Ok(n) => {
                    total += n;
                    let (job, tail, count) = (&self.job, &mut self.tail, &mut self.told_lines);
                    self.lines.push(buffer.get(..n).unwrap_or_default(), |line| tell(job, tail, count, line));
                }
                Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// What is left of its output.
    pub(super) fn finish(&mut self) {
        self.read();
        let (job, tail, count) = (&self.job, &mut self.tail, &mut self.told_lines);
        self.lines.finish(|line| tell(job, tail, count, line));
        if let Some(more) = self.told_lines.checked_sub(LINES).filter(|more| *more > 0) {
            tracing::warn!(
                pool = job.name,
                "hook {}: {} of its output were not shown",
                job.moment.name(),
                crate::supervisor::count(more, "line")
            );
        }
    }

    /// It has taken too long: the next, harder signal.
    pub(super) fn push_on(&mut self, now: Time, ending: bool) {
        let signal = if self.told { KILL } else { libc::SIGTERM };
        if !self.told {
            self.late = Some(if ending { Late::End } else { Late::Timeout });
        }
        self.by = (!self.told).then_some(now + GRACE);
        self.told = true;
        let _ = kill_group(self.pid, signal);
    }

    /// The master ends at once: what is not done by then is killed. A hook that runs already is asked to come to its end.
    pub(super) fn hurry(&mut self, by: Time) {
        if !self.told {
            let _ = kill_group(self.pid, libc::SIGTERM);
        }
        self.hurry_silently(by);
    }

    /// The same for one that has just begun.
    pub(super) fn hurry_silently(&mut self, by: Time) {
        self.late = self.late.or(Some(Late::End));
        self.told = true;
        self.by = self.by.map(|at| at.min(by));
    }

    /// What its end means.
    pub(super) fn verdict(&self, status: ExitStatus) -> Result<(), String> {
        // Hurried, it may still have come to a good end.
        if status == ExitStatus::Code(0) && self.late != Some(Late::Timeout) {
            return Ok(());
        }
        let timeout = crate::supervisor::human(self.job.timeout);
        let mut why = match (status, self.late) {
            (_, Some(Late::Timeout)) => format!("not done within {timeout} (hooks.timeout)"),
            (_, Some(Late::End)) => format!("ended, as it was not done when the master ended: {status}"),
            // No program ends so, but a start that failed does.
            (ExitStatus::Code(127), None) => {
                format!("{status} (perhaps {:?} cannot be executed)", self.job.argv.first().map_or("", String::as_str))
            }
            (status, None) => status.to_string(),
        };
        let last: Vec<String> = self.tail.lines().collect();
        if !last.is_empty() {
            why = format!("{why}; its last lines: {}", last.join(" / "));
        }
        Err(why)
    }
}

fn tell(job: &What, tail: &mut Tail, count: &mut usize, line: &[u8]) {
    tail.push(line);
    *count += 1;
    if *count > LINES {
        return;
    }
    let (name, text) = (job.moment.name(), printable(line));
    match (&job.name, job.worker) {
        (Some(pool), Some(worker)) => tracing::info!(pool, slot = worker.slot, "hook {name} | {text}"),
        (Some(pool), None) => tracing::info!(pool, "hook {name} | {text}"),
        (None, _) => tracing::info!("hook {name} | {text}"),
    }
}
