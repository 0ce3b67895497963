//! Owns one run: the driver between the core, the simulated kernel, the clock and the storm. It keeps the driver's side of
//! the contract (`supervisor/event.rs`) and holds the core against the observer after each event.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use poolmaster::supervisor::{Action, Command, Event, KillMode, MasterSpec, Phase, PoolId, PoolSpec, Supervisor, Time};

use crate::coverage::Coverage;
use crate::invariants::{Verdict, must, nothing_overdue};
use crate::judge::Before;
use crate::kernel::Kernel;
use crate::queue::{Item, Queue};
use crate::rng::Rng;
use crate::script::Weather;
use crate::shadow::{Asked, Reading, Shadow};
use crate::storm::{Climate, File, MASTER, OPERATOR, Stream};

/// Most ticks in a row at one instant before it counts as a busy loop.
const TICKS_AT_ONCE: u32 = 64;

/// One step of a run, as it is kept for reports and comparisons.
pub(crate) type Traced = (Time, Event, Vec<Action>);

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    pub(crate) climate: Climate,
    /// Suspends in a thousand turns.
    pub(crate) jumps: u64,
    /// Events in a thousand before which the core is written down, and another one goes on from what was written.
    pub(crate) snapshots: u64,
    pub(crate) notice_grid: Duration,
    pub(crate) keep_trace: bool,
    /// Events kept for the report of a failure.
    pub(crate) tail: usize,
}

/// One run.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) core: Supervisor,
    pub(crate) shadow: Shadow,
    pub(crate) kernel: Kernel,
    pub(crate) coverage: Coverage,
    pub(crate) events: u64,
    pub(crate) tail: VecDeque<Traced>,
    pub(crate) trace: Vec<Traced>,
    file: File,
    streams: Vec<Stream>,
    queue: Queue,
    setting: Setting,
    rng: Rng,
    /// Of the snapshots alone: they change nothing else.
    pen: Rng,
    out: Vec<Action>,
    /// What is read next, whatever the file says.
    answer: Option<Event>,
    /// Most processes of each pool since somebody wanted to know.
    pub(crate) peaks: BTreeMap<PoolId, u32>,
}

impl World {
    /// A master with these pools; nothing has happened yet.
    pub(crate) fn new(setting: Setting, pools: Vec<PoolSpec>) -> World {
        let seed = setting.seed;
        let mut kernel = Kernel::new(seed, setting.weather);
        kernel.notice_grid = setting.notice_grid;
        let ids = pools.iter().map(|p| p.id.0).chain([MASTER]);
        let streams = ids.map(|id| Stream::new(seed, id)).collect();
        World {
            now: Time(1_000_000_000),
            core: Supervisor::new(seed),
            shadow: Shadow::new(),
            kernel,
            coverage: Coverage::default(),
            events: 0,
            tail: VecDeque::new(),
            trace: Vec::new(),
            file: File::new(seed, pools),
            streams,
            queue: Queue::default(),
            rng: Rng::keyed(seed, 0x1007),
            pen: Rng::keyed(seed, 0x9e9),
            setting,
            out: Vec::new(),
            answer: None,
            peaks: BTreeMap::new(),
        }
    }

    /// The first event of a master, and the first gust of each stream.
    pub(crate) fn boot(&mut self, master: MasterSpec) -> Verdict {
        let first = self.file.first(master);
        self.deliver(first)?;
        for i in 0..self.streams.len() {
            if let Some(pause) = self.streams[i].pause(&self.setting.climate) {
                self.queue.at(self.now + pause, Item::Storm(self.streams[i].id));
            }
        }
        Ok(())
    }

    /// Runs until so many events have been handled, or nothing is left to happen.
    pub(crate) fn run(&mut self, events: u64) -> Verdict {
        let end = self.events + events;
        while self.events < end && self.turn(None)? {}
        Ok(())
    }

    /// Runs until this time, or nothing is left to happen.
    pub(crate) fn run_until(&mut self, until: Time) -> Verdict {
        while self.turn(Some(until))? {}
        Ok(())
    }

    /// One turn of the loop: to the next instant at which something happens, and through all of it.
    fn turn(&mut self, until: Option<Time>) -> Result<bool, String> {
        if self.shadow.exited.is_some() {
            return Ok(false);
        }
        let next = [self.queue.next_time(), self.core.next_deadline()].into_iter().flatten().min();
        let Some(next) = next.filter(|t| until.is_none_or(|u| *t <= u)) else { return Ok(false) };
        self.now = self.now.max(next);
        if self.setting.jumps > 0 && self.shadow.ending.is_none() && self.rng.permille(self.setting.jumps) {
            let by = self.rng.ms(3_000, 200_000);
            self.now = self.now + by;
            self.deliver(Event::Late { by })?;
        }
        while let Some(item) = self.queue.due(self.now) {
            self.happens(item)?;
        }
        self.ticks()?;
        if self.shadow.exited.is_none() {
            nothing_overdue(&self.shadow, &self.core, self.now)?;
            self.ends_in_time()?;
            self.none_means_nothing()?;
        }
        Ok(true)
    }

    /// A tick at the deadline always makes progress: no busy loop.
    fn ticks(&mut self) -> Verdict {
        let mut ticks = 0;
        while self.shadow.exited.is_none() {
            if self.core.next_deadline().is_none_or(|d| d > self.now) {
                match self.queue.due(self.now) {
                    Some(item) => {
                        self.happens(item)?;
                        continue;
                    }
                    None => break,
                }
            }
            self.deliver(Event::Tick)?;
            ticks += 1;
            must(ticks < TICKS_AT_ONCE, || format!("{ticks} ticks at {}: a busy loop", self.now))?;
        }
        Ok(())
    }

    fn happens(&mut self, item: Item) -> Verdict {
        match item {
            Item::Fact(event) => self.deliver(event),
            Item::Proc(w, step) => {
                let mut facts = Vec::new();
                self.kernel.step(self.now, w, step, &mut self.queue, &mut facts);
                facts.into_iter().try_for_each(|fact| self.deliver(fact))
            }
            Item::Storm(id) => {
                let Some(stream) = self.streams.iter_mut().find(|s| s.id == id) else { return Ok(()) };
                let facts = stream.blows(&self.shadow, &self.setting.climate);
                if let Some(pause) = stream.pause(&self.setting.climate) {
                    self.queue.at(self.now + pause, Item::Storm(id));
                }
                facts.into_iter().try_for_each(|fact| self.deliver(fact))
            }
            Item::ConfigRead { reading, base } => {
                let answer = match self.answer.take() {
                    Some(answer) => answer,
                    None => self.file.read(&reading, base, self.shadow.revision),
                };
                for p in &self.file.pools {
                    if !self.streams.iter().any(|s| s.id == p.id.0) {
                        let mut stream = Stream::new(self.setting.seed, p.id.0);
                        if let Some(pause) = stream.pause(&self.setting.climate) {
                            self.queue.at(self.now + pause, Item::Storm(p.id.0));
                        }
                        self.streams.push(stream);
                    }
                }
                self.deliver(answer)
            }
        }
    }

    /// Hands one event to the core, judges what came of it, and does it.
    pub(crate) fn deliver(&mut self, event: Event) -> Verdict {
        if let Event::Exited { worker, .. } = &event
            && let Some(life) = self.shadow.workers.get(worker)
        {
            // Whom its end concerns is told by the config as it is by then.
            self.kernel.mind_group(*worker, life.spec.kill_mode != KillMode::Process);
        }
        let now = self.now;
        if self.setting.snapshots > 0 && self.pen.permille(self.setting.snapshots) {
            // To compare all of it takes its time.
            let whole = self.pen.permille(125);
            self.core = taken_over(&self.core, whole)?;
        }
        let state = subject(&event).map(|w| {
            self.shadow.state(now, w).map_or_else(
                || if self.shadow.workers.contains_key(&w) { "?".to_owned() } else { "gone".to_owned() },
                |s| format!("{s:?}"),
            )
        });
        self.coverage.event(&event, state);
        let was_due = self.core.next_deadline().is_some_and(|d| d <= now);
        let stale = self.shadow.learn(now, &event);
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        self.core.handle(now, event.clone(), &mut out);
        self.events += 1;
        self.coverage.actions(&out);
        let verdict = self.shadow.judge(now, &event, &Before { stale, was_due }, &out, &self.core, self.kernel.alive());
        for action in &out {
            self.act(action);
        }
        let traced = (now, event, out.clone());
        if self.setting.keep_trace {
            self.trace.push(traced.clone());
        }
        if self.tail.len() >= self.setting.tail {
            self.tail.pop_front();
        }
        self.tail.push_back(traced);
        self.out = out;
        for (id, peak) in &mut self.peaks {
            let live = self.core.pool(*id).map_or(0, |pool| pool.live);
            *peak = live.max(*peak);
        }
        verdict
    }

    /// What the file says now, if it can be used, as the answer to the next order to read it.
    pub(crate) fn next_answer(&mut self, restart: bool) -> Option<Event> {
        let reading = Reading { from: poolmaster::supervisor::ConfigSource::File, pools: Vec::new(), restart };
        let answer = self.file.read(&reading, None, self.shadow.revision);
        self.answer = matches!(answer, Event::Configure { .. }).then(|| answer.clone());
        self.answer.clone()
    }

    /// From now on everything is kept that happens, and how many processes there are.
    pub(crate) fn watch(&mut self, pools: impl Iterator<Item = PoolId>) {
        self.setting.keep_trace = true;
        self.trace.clear();
        self.peaks = pools.map(|id| (id, self.core.pool(id).map_or(0, |pool| pool.live))).collect();
    }

    /// Executes one action; its answer goes on the agenda, never back into the core at once.
    fn act(&mut self, action: &Action) {
        match action {
            Action::Spawn { worker, .. } => {
                if let Some(life) = self.shadow.workers.get(worker) {
                    self.kernel.spawn(self.now, *worker, &life.spec, &mut self.queue);
                }
            }
            Action::Look { worker } => {
                let accepting = self.kernel.looks_accepting(self.now, *worker);
                self.queue.at(self.now, Item::Fact(Event::Looked { worker: *worker, accepting }));
            }
            Action::Release { worker } => {
                // At once, soon, late, or never: hooks hang, and queues never empty.
                let mut rng = Rng::of_worker(self.setting.seed ^ 0x5e1e, *worker);
                let after = rng.pick(&[Some(0), Some(0), Some(20), Some(700), Some(8_000), None]);
                if let Some(after) = after {
                    self.queue.at(self.now + Duration::from_millis(after), Item::Fact(Event::Released { worker: *worker }));
                }
            }
            Action::Signal { worker, signal, scope, .. } => {
                let answer = match self.kernel.signal(self.now, *worker, *signal, *scope, &mut self.queue) {
                    Ok(()) => Event::Signalled { worker: *worker, signal: *signal },
                    Err(errno) => Event::SignalFailed { worker: *worker, signal: *signal, errno },
                };
                self.queue.at(self.now, Item::Fact(answer));
            }
            Action::Quiesce => {
                // Soon, late, or never: some queues are not served any more.
                let after = self.rng.pick(&[Some(0), Some(0), Some(200), Some(5000), None]);
                if let Some(after) = after {
                    self.queue.at(self.now + Duration::from_millis(after), Item::Fact(Event::Quiet));
                }
            }
            Action::ReadConfig { from, pools, restart } => {
                let after = self.rng.ms(0, 200);
                let reading = Reading { from: *from, pools: pools.clone(), restart: *restart };
                // What is compared with may be another one when the answer comes.
                let base = self.rng.permille(300).then_some(self.shadow.revision);
                self.queue.at(self.now + after, Item::ConfigRead { reading, base });
            }
            Action::PreStart { pool, revision } => {
                // A hook with a limit: it ends, one way or another. No draw, so that what others do stays as it was.
                let n = u64::from(*revision).wrapping_mul(31).wrapping_add(u64::from(pool.0));
                let failed = n.is_multiple_of(4).then(|| "its hook failed".to_owned());
                let answer = Event::PreStarted { pool: *pool, revision: *revision, failed };
                self.queue.at(self.now + Duration::from_millis(n % 5 * 300), Item::Fact(answer));
            }
            Action::Commit { revision, keep } => self.file.commit(*revision, *keep),
            Action::Discard { .. }
            | Action::SecondMaster { .. }
            | Action::ReopenLogs
            | Action::PoolGone { .. }
            | Action::Reply { .. }
            | Action::Note(_)
            | Action::Exit { .. } => {}
        }
    }

    /// Faults, orders and jumps stop.
    pub(crate) fn calm(&mut self) {
        self.kernel.weather = Weather::CALM;
        self.setting.climate = Climate { orders: (0, 0), master: (0, 0), stale: false };
        self.setting.jumps = 0;
    }

    /// Every running pool has exactly the wanted workers, all of them good, and nobody else is left.
    pub(crate) fn converged(&self) -> Verdict {
        must(self.core.reload_progress().is_none(), || format!("a reload has no end: {:?}", self.core.reload_progress()))?;
        let waits = |a: &&Asked| matches!(a.command, Command::Reload { .. } | Command::Rollback) && a.timeout.is_none();
        let unanswered = self.shadow.commands.values().find(waits);
        must(unanswered.is_none(), || format!("{unanswered:?} has no answer"))?;
        for view in self.core.pools() {
            let id = view.spec.id;
            let name = &view.spec.name;
            let all = self.shadow.of_pool(id).count() as u32;
            match view.phase {
                Phase::Running => {
                    let good = self.shadow.of_pool(id).filter(|l| l.staying() && l.good(self.now)).count() as u32;
                    let finite = view.spec.restart.policy != poolmaster::supervisor::RestartPolicy::Always;
                    let enough = good == view.target || finite && good <= view.target;
                    must(enough && all == good, || {
                        format!("pool {name} wants {}, {good} are good, {all} are there", view.target)
                    })?;
                }
                Phase::Waiting => {
                    let held = view.spec.after.iter().any(|id| !self.settled(*id));
                    must(held, || format!("pool {name} waits, but those it is after are ready"))?;
                }
                Phase::BackingOff => return Err(format!("pool {name} is still backing off")),
                Phase::Stopped | Phase::Parked | Phase::Failed | Phase::Completed | Phase::Removed => {
                    must(all == 0, || format!("pool {name} is {:?} and has {all} processes", view.phase))?;
                }
            }
        }
        must(self.kernel.alive() == self.shadow.workers.len(), || "the driver knows processes that the core does not".to_owned())
    }

    fn settled(&self, pool: PoolId) -> bool {
        // What comes after finite jobs waits until they are done.
        let jobs = |spec: &poolmaster::supervisor::PoolSpec| {
            spec.restart.policy != poolmaster::supervisor::RestartPolicy::Always && !spec.ready.proves()
        };
        self.core.pools().iter().any(|v| v.spec.id == pool && v.phase == Phase::Running && v.ready >= v.target && !jobs(v.spec))
    }

    /// `next_deadline() == None` means that nothing can change by waiting, and so the other way round.
    fn none_means_nothing(&self) -> Verdict {
        let waits = self.shadow.workers.values().any(|l| {
            l.state(self.now) != Some(poolmaster::supervisor::WorkerState::Good) || self.shadow.heartbeat_due(l).is_some()
        });
        if waits
            || self.core.reload_progress().is_some()
            || self.shadow.ending.is_some()
            || self.shadow.commands.values().any(|a| a.timeout.is_some())
        {
            return Ok(());
        }
        let full = |p: &crate::shadow::PoolLife| {
            p.phase == Phase::Running && !p.roll_asked && self.shadow.staying(p.spec.id) == p.target
                || matches!(
                    p.phase,
                    Phase::Stopped | Phase::Parked | Phase::Failed | Phase::Completed | Phase::Waiting | Phase::Removed
                )
        };
        if !self.shadow.pools.values().all(full) {
            return Ok(());
        }
        must(self.core.next_deadline().is_none(), || {
            format!("nothing can change by waiting, but the deadline is {:?}", self.core.next_deadline())
        })
    }

    /// The order to end, as an event.
    pub(crate) fn order(&mut self, signal: poolmaster::supervisor::MasterSignal) -> Verdict {
        self.deliver(Event::Signal { signal, sender: OPERATOR })
    }

    /// After an order to end, Exit comes within the bound: the graceful timeout, and what the kernel itself takes.
    fn ends_in_time(&self) -> Verdict {
        let Some(e) = self.shadow.ending else { return Ok(()) };
        let quick = if e.level > 1 { e.quick } else { self.shadow.longest_quick() };
        let steps = self.shadow.master.graceful_timeout + quick + Duration::from_secs(1);
        let bound = e.since + steps + self.kernel.slowest * 2 + Duration::from_secs(1);
        must(self.now <= bound, || format!("still there at {}, told to end at {}", self.now, e.since))
    }

    /// After Exit, nothing is done any more whatever happens.
    pub(crate) fn silent_after_exit(&mut self) -> Verdict {
        must(self.shadow.exited.is_some(), || "no Exit".to_owned())?;
        self.deliver(Event::Tick)?;
        self.order(poolmaster::supervisor::MasterSignal::Hup)?;
        must(self.core.next_deadline().is_none(), || "a deadline after Exit".to_owned())
    }
}

/// The core, written down and read again. What follows from what is written is made anew the same.
pub(crate) fn taken_over(core: &Supervisor, whole: bool) -> Result<Supervisor, String> {
    let text = serde_json::to_string(core).map_err(|e| format!("the core cannot be written down: {e}"))?;
    let read: Supervisor = serde_json::from_str(&text).map_err(|e| format!("what was written cannot be read: {e}\n{text}"))?;
    if !whole {
        return Ok(read);
    }
    let again = serde_json::to_string(&read).map_err(|e| e.to_string())?;
    must(text == again, || format!("what was read is not what was written:\n{text}\n{again}"))?;
    let (one, other) = (format!("{core:?}"), format!("{read:?}"));
    must(one == other, || format!("what follows from it is not the same:\n{one}\n{other}"))?;
    Ok(read)
}

/// The worker that an event is about.
fn subject(event: &Event) -> Option<poolmaster::supervisor::WorkerId> {
    match event {
        Event::Spawned { worker }
        | Event::SpawnFailed { worker, .. }
        | Event::Notified { worker, .. }
        | Event::Looked { worker, .. }
        | Event::Exited { worker, .. }
        | Event::GroupGone { worker }
        | Event::Prepared { worker }
        | Event::Released { worker }
        | Event::Signalled { worker, .. }
        | Event::SignalFailed { worker, .. } => Some(*worker),
        Event::Configure { .. }
        | Event::ConfigRejected { .. }
        | Event::PreStarted { .. }
        | Event::Signal { .. }
        | Event::ScaleSignals { .. }
        | Event::RestartSignal { .. }
        | Event::Command { .. }
        | Event::Abandoned { .. }
        | Event::Quiet
        | Event::Tick
        | Event::Late { .. } => None,
    }
}
