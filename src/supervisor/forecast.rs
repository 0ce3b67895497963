//! Owns what a reload would do, found out by a copy of the core: it is handed the config, and a world in which everything goes well. So what is
//! foreseen is what the core does, and no second account of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    Action, Command, CommandId, Event, ExitStatus, KILL, Notification, Phase, PoolId, ReadyKind, Sender, Supervisor, Time,
    WorkerId, WorkerState,
};

/// How the world goes on.
#[derive(Clone, Debug)]
pub struct Course {
    /// How long workers of a pool take to get ready; those of pools that are not named are ready at once.
    pub starts: BTreeMap<PoolId, Duration>,
    /// Old workers stay until they are killed: else they end as soon as they are told.
    pub lasting: bool,
}

/// What becomes of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Slots whose workers are replaced, in their order.
    pub order: Vec<u32>,
    /// Processes of it at one time, at most.
    pub peak: u32,
    /// Until its workers are those that it is to have, and good. `None`: nothing happens to it.
    pub takes: Option<Duration>,
}

/// Events beyond which nothing is foreseen: an account that does not end is none.
const MOST: usize = 1_000_000;
/// No order of any client has this number.
const ORDER: CommandId = CommandId(u64::MAX);

/// What this command would do with this answer to it. `None`: it cannot be foreseen, for another reload is under way, or it does not end.
pub fn forecast(
    core: &mut Supervisor,
    now: Time,
    command: Command,
    config: Event,
    course: &Course,
) -> Option<BTreeMap<PoolId, Outlook>> {
    if core.reload_progress().is_some() || core.reading || core.ending.is_some() || !core.wishes.is_empty() {
        return None;
    }
    let mut world =
        World { now, begun: now, agenda: BTreeMap::new(), count: 0, ready: BTreeMap::new(), course, answer: Some(config) };
    let mut seen = Seen::of(core);
    let mut out = Vec::new();
    let present: Vec<WorkerId> = core.pools.values().flat_map(|pool| pool.worker_views().into_iter().map(|w| w.id)).collect();
    for id in present {
        world.meet(core, id);
    }
    world.later(Duration::ZERO, Event::Command { id: ORDER, command, sender: Sender::default(), timeout: None });
    for _ in 0..MOST {
        let Some(event) = world.next(core) else { return Some(seen.pools) };
        core.handle(world.now, event, &mut out);
        for action in out.drain(..) {
            if let Action::Spawn { worker, .. } = &action {
                seen.spawned(*worker);
            }
            world.act(core, &action);
        }
        seen.look(core, world.now - world.begun);
        let through = world.answer.is_none() && core.reload_progress().is_none() && core.wishes.is_empty();
        if through && !seen.is_busy() {
            return Some(seen.pools);
        }
    }
    None
}

/// The world.
struct World<'a> {
    now: Time,
    begun: Time,
    agenda: BTreeMap<(Time, u64), Event>,
    /// Of those that were put on it: at one time they come in their order.
    count: u64,
    /// When a worker is ready.
    ready: BTreeMap<WorkerId, Time>,
    course: &'a Course,
    /// The config that is read.
    answer: Option<Event>,
}

impl World<'_> {
    fn later(&mut self, after: Duration, event: Event) {
        self.count += 1;
        self.agenda.insert((self.now + after, self.count), event);
    }

    /// What happens next, and when.
    fn next(&mut self, core: &Supervisor) -> Option<Event> {
        let first = self.agenda.keys().next().copied();
        let due = core.next_deadline();
        match (first, due) {
            (Some(first), due) if due.is_none_or(|due| first.0 <= due) => {
                self.now = self.now.max(first.0);
                self.agenda.remove(&first)
            }
            (_, Some(due)) => {
                self.now = self.now.max(due);
                Some(Event::Tick)
            }
            (_, None) => None,
        }
    }

    fn start_of(&self, pool: PoolId) -> Duration {
        self.course.starts.get(&pool).copied().unwrap_or_default()
    }

    /// Takes over a worker that is there.
    fn meet(&mut self, core: &Supervisor, id: WorkerId) {
        let Some(view) = core.worker(id) else { return };
        // Nobody beats in here.
        let silent = Event::Notified { worker: id, message: Notification::Timeout(Duration::ZERO) };
        match view.state {
            WorkerState::Spawning => self.born(core, id),
            WorkerState::Starting => self.runs(core, id),
            WorkerState::Ready | WorkerState::Good => self.later(Duration::ZERO, silent),
            WorkerState::Leaving | WorkerState::Stopping | WorkerState::Aborting | WorkerState::Killed => self.ends(id),
            WorkerState::Lingering => self.later(Duration::ZERO, Event::GroupGone { worker: id }),
        }
    }

    fn born(&mut self, core: &Supervisor, id: WorkerId) {
        self.later(Duration::ZERO, Event::Prepared { worker: id });
        self.later(Duration::ZERO, Event::Spawned { worker: id });
        self.runs(core, id);
    }

    fn runs(&mut self, core: &Supervisor, id: WorkerId) {
        let takes = self.start_of(id.pool);
        self.ready.insert(id, self.now + takes);
        self.later(Duration::ZERO, Event::Notified { worker: id, message: Notification::Timeout(Duration::ZERO) });
        let kind = core.pools.get(&id.pool).and_then(|pool| pool.ready_kind(id));
        if matches!(kind, Some(ReadyKind::Notify)) {
            self.later(takes, Event::Notified { worker: id, message: Notification::Ready });
        }
    }

    fn ends(&mut self, id: WorkerId) {
        self.later(Duration::ZERO, Event::Exited { worker: id, status: ExitStatus::Code(0), stragglers: false });
    }

    fn act(&mut self, core: &Supervisor, action: &Action) {
        match action {
            Action::Spawn { worker, .. } => self.born(core, *worker),
            Action::Look { worker } => {
                let accepting = self.ready.get(worker).is_none_or(|at| *at <= self.now);
                self.later(Duration::ZERO, Event::Looked { worker: *worker, accepting });
            }
            // A hook or a queue may take all the time that it has.
            Action::Release { .. } if self.course.lasting => {}
            Action::Release { worker } => self.later(Duration::ZERO, Event::Released { worker: *worker }),
            Action::Signal { worker, signal, cause, .. } => {
                self.later(Duration::ZERO, Event::Signalled { worker: *worker, signal: *signal });
                if cause.stops() && (*signal == KILL || !self.course.lasting) {
                    self.ends(*worker);
                }
            }
            Action::ReadConfig { .. } => {
                let nothing = Event::ConfigRejected { reason: "nothing else is read".to_owned(), invalid: false };
                let answer = self.answer.take().unwrap_or(nothing);
                self.later(Duration::ZERO, answer);
            }
            Action::PreStart { pool, revision } => {
                self.later(Duration::ZERO, Event::PreStarted { pool: *pool, revision: *revision, failed: None });
            }
            Action::Quiesce => self.later(Duration::ZERO, Event::Quiet),
            Action::Commit { .. }
            | Action::Discard { .. }
            | Action::SecondMaster { .. }
            | Action::ReopenLogs
            | Action::PoolGone { .. }
            | Action::Reply { .. }
            | Action::Note(_)
            | Action::Exit { .. } => {}
        }
    }
}

/// What was seen of it.
struct Seen {
    pools: BTreeMap<PoolId, Outlook>,
    /// Slots that had a worker at the beginning.
    slots: BTreeSet<(PoolId, u32)>,
    /// Pools of which something is still to come.
    busy: BTreeSet<PoolId>,
}

impl Seen {
    fn of(core: &Supervisor) -> Seen {
        let workers = core.pools.values().flat_map(|pool| pool.worker_views().into_iter().map(|w| (w.id.pool, w.id.slot)));
        let outlook = |pool: &super::pool::Pool| Outlook { peak: pool.view().live, ..Outlook::default() };
        let pools = core.pools.iter().map(|(id, pool)| (*id, outlook(pool))).collect();
        Seen { pools, slots: workers.collect(), busy: BTreeSet::new() }
    }

    fn spawned(&mut self, worker: WorkerId) {
        let outlook = self.pools.entry(worker.pool).or_default();
        if self.slots.contains(&(worker.pool, worker.slot)) && !outlook.order.contains(&worker.slot) {
            outlook.order.push(worker.slot);
        }
        self.busy.insert(worker.pool);
    }

    fn look(&mut self, core: &Supervisor, after: Duration) {
        // Only those have more processes than before.
        for id in self.busy.clone() {
            let Some(pool) = core.pools.get(&id) else { continue };
            let view = pool.view();
            let outlook = self.pools.entry(id).or_default();
            outlook.peak = outlook.peak.max(view.live);
            let settled = pool.is_settled() || !matches!(view.phase, Phase::Running | Phase::BackingOff);
            if settled && view.rolling == 0 && !pool.is_trying() && self.busy.remove(&id) {
                outlook.takes = Some(after);
            }
        }
        self.busy.retain(|id| core.pools.contains_key(id));
    }

    fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }
}
