//! Owns the simulator's idea of the kernel: processes, their groups, signals to them, and when the driver hears of it.
//!
//! It keeps the promises of the contract in `supervisor/event.rs`: one answer to each fallible action, and the facts about
//! one worker in the order started, ready, exited.

use std::collections::BTreeMap;
use std::time::Duration;

use poolmaster::supervisor::{
    ABRT, Event, ExitStatus, KILL, KillMode, Notification, PoolSpec, ReadyKind, Scope, SpawnError, SpawnFault, Time, WorkerId,
};

use crate::queue::{Item, Queue, Step};
use crate::rng::Rng;
use crate::script::{Birth, Script, Weather};
use crate::specs::{ms, secs};

/// One process, with what may be left of its group.
#[derive(Debug)]
struct Proc {
    script: Script,
    spec_ready: ReadyKind,
    /// No hooks hold it back.
    prepared: bool,
    exec_at: Option<Time>,
    dead: Option<ExitStatus>,
    reported: bool,
    group_alive: bool,
    whole_group: bool,
    stop_seen: bool,
    pending: Vec<(i32, Scope)>,
}

/// All processes there are.
pub(crate) struct Kernel {
    seed: u64,
    pub(crate) weather: Weather,
    procs: BTreeMap<WorkerId, Proc>,
    /// Exit notices are handed over on this grid, several at once. Zero: each by itself.
    pub(crate) notice_grid: Duration,
    /// The longest that anything took from KILL to its notice: the driver's own share in a late end.
    pub(crate) slowest: Duration,
    /// Names of the scripts that were played.
    pub(crate) played: BTreeMap<&'static str, u64>,
}

impl Kernel {
    pub(crate) fn new(seed: u64, weather: Weather) -> Kernel {
        Kernel {
            seed,
            weather,
            procs: BTreeMap::new(),
            notice_grid: Duration::ZERO,
            slowest: Duration::from_secs(1),
            played: BTreeMap::new(),
        }
    }

    /// Processes that are alive, or dead and not yet reported: what must be nobody when the master exits. Strays of a pool with
    /// kill_mode = process are nobody's business.
    pub(crate) fn alive(&self) -> usize {
        self.procs.values().filter(|p| !p.reported || p.whole_group).count()
    }

    /// Whether what a worker leaves behind is the master's business.
    pub(crate) fn mind_group(&mut self, w: WorkerId, whole: bool) {
        if let Some(p) = self.procs.get_mut(&w) {
            p.whole_group = whole;
        }
    }

    pub(crate) fn spawn(&mut self, now: Time, w: WorkerId, spec: &PoolSpec, q: &mut Queue) {
        let mut script = Script::draw(self.seed, now, w, spec, self.weather);
        *self.played.entry(script.name).or_default() += 1;
        self.slowest = self.slowest.max(script.kill_takes + script.notice_after + self.notice_grid + script.exec_after);
        if spec.prepares {
            // Its hooks come first, and may take their time.
            let hooks = Rng::of_worker(self.seed ^ 0x9003, w).pick(&[Duration::ZERO, ms(30), ms(700), secs(40)]);
            q.at(now + hooks, Item::Proc(w, Step::Prepared));
            script.exec_after += hooks;
        }
        let after = now + script.exec_after;
        match script.birth {
            Birth::Good => q.at(after, Item::Proc(w, Step::Exec)),
            Birth::NoFork | Birth::NoSetup | Birth::NoExec => q.at(after, Item::Proc(w, Step::SpawnFails)),
            Birth::DiesBefore => q.at(after, Item::Proc(w, Step::DieBy(KILL))),
        }
        let proc = Proc {
            script,
            spec_ready: spec.ready,
            prepared: !spec.prepares,
            exec_at: None,
            dead: None,
            reported: false,
            group_alive: false,
            whole_group: spec.kill_mode != KillMode::Process,
            stop_seen: false,
            pending: Vec::new(),
        };
        self.procs.insert(w, proc);
    }

    /// Whether the kernel's tables show it waiting on a listener.
    pub(crate) fn looks_accepting(&self, now: Time, w: WorkerId) -> bool {
        self.procs.get(&w).is_some_and(|p| {
            p.dead.is_none() && p.exec_at.zip(p.script.ready_after).is_some_and(|(exec, after)| exec + after <= now)
        })
    }

    /// Sends a signal; says the errno when that cannot be done.
    pub(crate) fn signal(&mut self, now: Time, w: WorkerId, signal: i32, scope: Scope, q: &mut Queue) -> Result<(), i32> {
        let Some(p) = self.procs.get_mut(&w) else { return Ok(()) };
        if p.script.untouchable && signal != KILL {
            return Err(1);
        }
        if !p.prepared {
            // Nothing is forked yet, and nothing will be.
            p.script.birth = Birth::NoSetup;
            p.dead = Some(ExitStatus::Unknown);
            q.at(now, Item::Proc(w, Step::SpawnFails));
            return Ok(());
        }
        if signal == KILL && (scope == Scope::Group || p.dead.is_some()) && p.dead.is_some() && p.group_alive {
            q.at(now + p.script.kill_takes, Item::Proc(w, Step::GroupEnds));
            return Ok(());
        }
        if p.dead.is_some() {
            return Ok(());
        }
        if signal == KILL {
            if scope == Scope::Group {
                p.script.leaves = None;
            }
            q.at(now + p.script.kill_takes, Item::Proc(w, Step::DieBy(KILL)));
        } else if p.exec_at.is_none() {
            p.pending.push((signal, scope));
        } else {
            p.feels(now, w, signal, q);
        }
        Ok(())
    }

    /// Lets a process do its next step; says what the driver hears of it.
    pub(crate) fn step(&mut self, now: Time, w: WorkerId, step: Step, q: &mut Queue, facts: &mut Vec<Event>) {
        let grid = self.notice_grid;
        let Some(p) = self.procs.get_mut(&w) else { return };
        match step {
            Step::SpawnFails => {
                facts.push(Event::SpawnFailed { worker: w, error: p.spawn_error() });
                self.procs.remove(&w);
            }
            Step::Prepared => {
                if p.dead.is_none() {
                    p.prepared = true;
                    facts.push(Event::Prepared { worker: w });
                }
            }
            Step::Exec => {
                if p.dead.is_none() {
                    p.execs(now, w, q);
                    facts.push(Event::Spawned { worker: w });
                }
            }
            Step::Say(message) => {
                if p.dead.is_none() {
                    facts.push(Event::Notified { worker: w, message });
                }
            }
            Step::Beat => {
                let hung = p.exec_at.zip(p.script.hangs_after).is_some_and(|(exec, after)| exec + after <= now);
                if let Some(beat) = p.script.beat
                    && p.dead.is_none()
                    && !hung
                {
                    facts.push(Event::Notified { worker: w, message: Notification::Beat });
                    q.at(now + beat, Item::Proc(w, Step::Beat));
                }
            }
            Step::Die => p.ends(now, w, p.script.status, grid, q),
            Step::DieBy(signal) => p.ends(now, w, ExitStatus::Signal { signal, core: signal == ABRT }, grid, q),
            Step::Report => {
                let status = p.dead.unwrap_or(ExitStatus::Unknown);
                p.reported = true;
                if p.exec_at.is_none() && p.script.early_kill_is_failure {
                    let error =
                        SpawnError { fault: SpawnFault::Setup, errno: 0, message: "killed between fork and exec".to_owned() };
                    facts.push(Event::SpawnFailed { worker: w, error });
                    self.procs.remove(&w);
                    return;
                }
                if p.exec_at.is_none() {
                    facts.push(Event::Spawned { worker: w });
                }
                let stragglers = p.group_alive;
                facts.push(Event::Exited { worker: w, status, stragglers });
                if !stragglers {
                    self.procs.remove(&w);
                }
            }
            Step::GroupEnds => {
                if p.group_alive {
                    p.group_alive = false;
                    if p.reported {
                        facts.push(Event::GroupGone { worker: w });
                        self.procs.remove(&w);
                    }
                }
            }
        }
    }
}

impl Proc {
    fn spawn_error(&self) -> SpawnError {
        let (fault, errno, message) = match self.script.birth {
            Birth::NoFork => (SpawnFault::Resources, 11, "fork: resource temporarily unavailable"),
            Birth::NoExec => (SpawnFault::Exec, 2, "cannot execute \"server\": not found"),
            Birth::NoSetup | Birth::Good | Birth::DiesBefore => (SpawnFault::Setup, 2, "cannot change to \"/srv\": not found"),
        };
        SpawnError { fault, errno, message: message.to_owned() }
    }

    /// The program runs: its further life goes on the agenda.
    fn execs(&mut self, now: Time, w: WorkerId, q: &mut Queue) {
        self.exec_at = Some(now);
        let says_ready = matches!(self.spec_ready, ReadyKind::Notify)
            || (matches!(self.spec_ready, ReadyKind::NotifyOrAccepting) && w.generation % 2 == 1);
        if says_ready && let Some(after) = self.script.ready_after {
            q.at(now + after, Item::Proc(w, Step::Say(Notification::Ready)));
        }
        for (after, message) in self.script.says.drain(..) {
            q.at(now + after, Item::Proc(w, Step::Say(message)));
        }
        if let Some(life) = self.script.life {
            q.at(now + life, Item::Proc(w, Step::Die));
        }
        if let Some(beat) = self.script.beat {
            let first = self.script.ready_after.unwrap_or(beat);
            q.at(now + first + Duration::from_micros(3), Item::Proc(w, Step::Beat));
        }
        for (signal, _) in std::mem::take(&mut self.pending) {
            self.feels(now, w, signal, q);
        }
    }

    /// A signal other than KILL arrives.
    fn feels(&mut self, now: Time, w: WorkerId, signal: i32, q: &mut Queue) {
        match signal {
            ABRT if self.script.abrt_ends => q.at(now + Duration::from_millis(3), Item::Proc(w, Step::DieBy(ABRT))),
            // TERM, INT, QUIT: the stop signals of these runs.
            15 | 2 | 3 => {
                if let Some(by) = self.script.extends_stop
                    && !self.stop_seen
                {
                    q.at(now + Duration::from_millis(1), Item::Proc(w, Step::Say(Notification::Extend(by))));
                }
                self.stop_seen = true;
                if let Some(after) = self.script.obeys_after {
                    q.at(now + after, Item::Proc(w, Step::Die));
                }
            }
            // SEGV, sent by an operator.
            11 => q.at(now + Duration::from_micros(50), Item::Proc(w, Step::DieBy(11))),
            _ => {}
        }
    }

    fn ends(&mut self, now: Time, w: WorkerId, status: ExitStatus, grid: Duration, q: &mut Queue) {
        if self.dead.is_some() {
            return;
        }
        self.dead = Some(status);
        if let Some(longer) = self.script.leaves
            && self.exec_at.is_some()
        {
            self.group_alive = true;
            q.at(now + longer, Item::Proc(w, Step::GroupEnds));
        }
        let mut when = now + self.script.notice_after;
        if !grid.is_zero() {
            let step = grid.as_nanos() as u64;
            when = Time(when.0.div_ceil(step) * step);
        }
        q.at(when, Item::Proc(w, Step::Report));
    }
}
