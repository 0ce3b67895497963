//! Owns what the outside does: operators, signal senders, a config that changes. One stream of chance for each pool and one
//! for the master, so that what happens to one pool never depends on another.

use std::collections::BTreeMap;
use std::time::Duration;

use poolmaster::supervisor::{
    Command, CommandId, Condition, ConfigSource, Event, ExitStatus, MasterSignal, MasterSpec, Notification, PoolId, PoolSpec,
    ScaleChange, Sender, Target, WorkerId,
};

use crate::rng::Rng;
use crate::shadow::{Reading, Shadow};
use crate::specs::{random_master, random_pool};

/// The stream that belongs to the master.
pub(crate) const MASTER: u32 = u32::MAX;

/// What may happen from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Climate {
    /// Shortest and longest pause between two orders to one pool, in milliseconds. Zero: no orders.
    pub(crate) orders: (u64, u64),
    /// The same for orders to the master.
    pub(crate) master: (u64, u64),
    /// Facts about workers of the past are repeated.
    pub(crate) stale: bool,
}

/// One stream of orders.
pub(crate) struct Stream {
    pub(crate) id: u32,
    rng: Rng,
    next_command: u64,
    issued: Vec<CommandId>,
    past: Vec<WorkerId>,
}

pub(crate) const OPERATOR: Sender = Sender { pid: 4242, uid: 1000 };

impl Stream {
    pub(crate) fn new(seed: u64, id: u32) -> Stream {
        let rng = Rng::keyed(seed, 0x57_0000 + u64::from(id));
        Stream { id, rng, next_command: u64::from(id) << 32, issued: Vec::new(), past: Vec::new() }
    }

    pub(crate) fn pause(&mut self, climate: &Climate) -> Option<Duration> {
        let (lo, hi) = if self.id == MASTER { climate.master } else { climate.orders };
        (hi > 0).then(|| self.rng.ms(lo, hi))
    }

    /// What happens next, as facts for the core.
    pub(crate) fn blows(&mut self, shadow: &Shadow, climate: &Climate) -> Vec<Event> {
        if self.id == MASTER {
            return vec![self.master_order()];
        }
        let pool = PoolId(self.id);
        let Some(life) = shadow.pools.get(&pool) else { return Vec::new() };
        if climate.stale && self.rng.permille(200) {
            return self.stale(shadow, pool);
        }
        if !life.in_config {
            return Vec::new();
        }
        vec![self.pool_order(pool, &life.spec)]
    }

    /// A fact about a process of the past: a pid reused, a notice that comes twice.
    fn stale(&mut self, shadow: &Shadow, pool: PoolId) -> Vec<Event> {
        self.past.extend(shadow.of_pool(pool).map(|l| l.id));
        if self.past.len() > 50 {
            self.past.drain(..25);
        }
        let gone: Vec<WorkerId> = self.past.iter().copied().filter(|w| !shadow.workers.contains_key(w)).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        let worker = self.rng.pick(&gone);
        vec![match self.rng.below(7) {
            0 => Event::Exited { worker, status: ExitStatus::Code(3), stragglers: false },
            1 => Event::Notified { worker, message: Notification::Ready },
            2 => Event::Notified { worker, message: Notification::Stopping },
            3 => Event::Looked { worker, accepting: true },
            4 => Event::GroupGone { worker },
            5 => Event::Spawned { worker },
            _ => Event::SignalFailed { worker, signal: 15, errno: 3 },
        }]
    }

    fn pool_order(&mut self, pool: PoolId, spec: &PoolSpec) -> Event {
        let rng = &mut self.rng;
        let slot = |rng: &mut Rng| rng.permille(600).then(|| rng.small(spec.workers + 1));
        let command = match rng.below(100) {
            0..10 => Command::Scale { pool, change: ScaleChange::By(rng.pick(&[1, 1, -1, -1, 2, -2, 3, -3, 0])) },
            10..18 => Command::Scale { pool, change: ScaleChange::To(rng.small(10)) },
            18..22 => Command::Scale { pool, change: ScaleChange::Percent(rng.pick(&[0, 25, 50, 100, 150])) },
            22..28 => Command::Scale { pool, change: ScaleChange::Config },
            28..36 => Command::Stop { pools: vec![pool] },
            36..50 => Command::Start { pools: vec![pool] },
            50..58 => Command::Restart { targets: vec![Target { pool, slot: slot(rng) }] },
            58..66 => {
                let target = Target { pool, slot: slot(rng) };
                Command::Kill { target, signal: rng.pick(&[9, 15, 11, 10, 17]) }
            }
            66..76 => {
                let until = match rng.below(3) {
                    0 => Condition::Ready,
                    1 => Condition::Stopped,
                    _ => match rng.small(5) {
                        4 => Condition::Settled,
                        n => Condition::Count(n),
                    },
                };
                Command::Wait { pool, until }
            }
            76..82 => Command::Retry { pool },
            82..90 => {
                let by = rng.pick(&[1, 2, 5, -1, -2, -5, 0, 500, -500]);
                let by = if spec.max.is_none() { i64::clamp(by, -500, 2) } else { by };
                return Event::ScaleSignals { pool, by, sender: OPERATOR };
            }
            90..94 => return Event::RestartSignal { pool, sender: OPERATOR },
            _ => match self.issued.pop() {
                Some(id) => return Event::Abandoned { id },
                None => Command::Wait { pool, until: Condition::Ready },
            },
        };
        self.command(command)
    }

    /// Wraps a command with a new id and a random time limit.
    pub(crate) fn command(&mut self, command: Command) -> Event {
        let id = CommandId(self.next_command);
        self.next_command += 1;
        self.issued.push(id);
        if self.issued.len() > 8 {
            self.issued.remove(0);
        }
        let timeout =
            self.rng.pick(&[None, Some(Duration::ZERO), Some(self.rng.clone().ms(1, 30_000)), Some(Duration::from_secs(60))]);
        Event::Command { id, command, sender: OPERATOR, timeout }
    }

    fn master_order(&mut self) -> Event {
        let signal = match self.rng.below(100) {
            0..20 => MasterSignal::Hup,
            20..40 => MasterSignal::Ttin,
            40..58 => MasterSignal::Ttou,
            58..66 => MasterSignal::Usr1,
            66..70 => MasterSignal::Usr2,
            70..76 => MasterSignal::Winch,
            76..86 => {
                let restart = self.rng.permille(300);
                let some = self.rng.permille(200);
                let pools = if some { vec![PoolId(self.rng.small(4))] } else { Vec::new() };
                return self.command(Command::Reload { restart, pools });
            }
            86..90 if self.next_command.is_multiple_of(3) => return self.command(Command::Abort),
            86..90 => return self.command(Command::Rollback),
            _ => return self.command(Command::Reopen),
        };
        Event::Signal { signal, sender: OPERATOR }
    }
}

/// A config, as it is in the file.
#[derive(Clone)]
pub(crate) struct Text {
    master: MasterSpec,
    pools: Vec<PoolSpec>,
    /// What is no concern of the core and can change: another number is another command.
    launch: BTreeMap<PoolId, u32>,
}

/// The config file, as somebody edits it, and the configs that were read from it.
pub(crate) struct File {
    rng: Rng,
    pub(crate) pools: Vec<PoolSpec>,
    launch: BTreeMap<PoolId, u32>,
    /// Pools taken out of the file, which may come back under their old name.
    out: Vec<PoolSpec>,
    revision: u32,
    next_id: u32,
    read: BTreeMap<u32, Text>,
}

impl File {
    pub(crate) fn new(seed: u64, pools: Vec<PoolSpec>) -> File {
        let next_id = pools.iter().map(|p| p.id.0 + 1).max().unwrap_or(0);
        let rng = Rng::keyed(seed, 0xF11E);
        File { rng, pools, launch: BTreeMap::new(), out: Vec::new(), revision: 0, next_id, read: BTreeMap::new() }
    }

    /// The first config of a master.
    pub(crate) fn first(&mut self, master: MasterSpec) -> Event {
        self.revision += 1;
        let text = Text { master: master.clone(), pools: self.pools.clone(), launch: self.launch.clone() };
        self.read.insert(self.revision, text);
        Event::Configure {
            revision: self.revision,
            base: 0,
            master,
            pools: self.pools.clone(),
            roll: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The answer to `ReadConfig`: rejected, unchanged, or with pools added, dropped and changed.
    pub(crate) fn read(&mut self, reading: &Reading, base: Option<u32>, present: u32) -> Event {
        let base = base.unwrap_or(present);
        let text = match reading.from {
            ConfigSource::Kept(of) => self.read.get(&of).cloned(),
            ConfigSource::File => {
                if self.rng.permille(100) {
                    return Event::ConfigRejected { reason: "pools.toml:3:1: unknown key".to_owned(), invalid: true };
                }
                if self.rng.permille(50) {
                    return Event::ConfigRejected { reason: "cannot listen on :80: in use".to_owned(), invalid: false };
                }
                if self.rng.permille(500) {
                    self.edit();
                }
                let master = random_master(&mut self.rng, &self.pools);
                Some(Text { master, pools: self.pools.clone(), launch: self.launch.clone() })
            }
        };
        let missing = || Event::ConfigRejected { reason: "the config is not kept any more".to_owned(), invalid: false };
        let Some(text) = text else { return missing() };
        let Some(before) = self.read.get(&base).cloned() else { return missing() };
        let text = if reading.pools.is_empty() { text } else { only(before.clone(), text, &reading.pools) };
        let known: Vec<PoolId> = text.pools.iter().map(|p| p.id).collect();
        if known.is_empty() || text.pools.iter().any(|p| p.after.iter().any(|id| !known.contains(id))) {
            return Event::ConfigRejected { reason: "a pool is to start after one that is not there".to_owned(), invalid: false };
        }
        self.revision += 1;
        let launch = |text: &Text, id: PoolId| text.launch.get(&id).copied().unwrap_or(0);
        let roll = known.iter().copied().filter(|id| before.pools.iter().any(|p| p.id == *id));
        let roll = roll.filter(|id| launch(&before, *id) != launch(&text, *id)).collect();
        let (master, pools) = (text.master.clone(), text.pools.clone());
        self.read.insert(self.revision, text);
        Event::Configure { revision: self.revision, base, master, pools, roll, changes: Vec::new() }
    }

    /// The core has decided for one: of the others it wants to keep this one only.
    pub(crate) fn commit(&mut self, revision: u32, keep: Option<u32>) {
        self.read.retain(|of, _| *of >= revision || Some(*of) == keep);
    }

    fn edit(&mut self) {
        let rng = &mut self.rng;
        match rng.below(9) {
            0 if self.pools.len() > 1 => {
                let at = rng.below(self.pools.len() as u64) as usize;
                let gone = self.pools.remove(at);
                self.pools.iter_mut().for_each(|p| p.after.retain(|id| *id != gone.id));
                self.out.push(PoolSpec { after: Vec::new(), ..gone });
            }
            1 if !self.out.is_empty() => self.pools.extend(self.out.pop()),
            2 if self.pools.len() < 5 => {
                let after: Vec<PoolId> = self.pools.iter().map(|p| p.id).collect();
                self.pools.push(random_pool(rng, self.next_id, &after));
                self.next_id += 1;
            }
            3..6 if !self.pools.is_empty() => {
                let id = rng.pick(&self.pools).id;
                *self.launch.entry(id).or_default() += 1;
                let ready = random_pool(rng, id.0, &[]).ready;
                if let Some(p) = self.pools.iter_mut().find(|p| p.id == id) {
                    p.ready = ready;
                }
            }
            // Whatever running workers can take over.
            6..8 if !self.pools.is_empty() => {
                let at = rng.below(self.pools.len() as u64) as usize;
                let p = &mut self.pools[at];
                let other = random_pool(rng, p.id.0, &[]);
                p.start_timeout = other.start_timeout;
                p.settle = other.settle;
                p.timeout = other.timeout;
                p.release = other.release;
                p.prepares = other.prepares;
                p.pre_start = other.pre_start;
                p.prepare = other.prepare;
                p.farewell = other.farewell;
                p.kill_mode = other.kill_mode;
                p.boot = other.boot;
                p.stop = other.stop;
                p.quick_signal = other.quick_signal;
                p.quick_timeout = other.quick_timeout;
                p.abort_grace = other.abort_grace;
                p.restart = other.restart;
                p.rollout = other.rollout;
                p.max_starting = other.max_starting;
                p.spawn_interval = other.spawn_interval;
            }
            _ if !self.pools.is_empty() => {
                let at = rng.below(self.pools.len() as u64) as usize;
                let p = &mut self.pools[at];
                p.workers = (p.workers + rng.small(3)).saturating_sub(1).clamp(p.min.max(1), p.max.unwrap_or(12));
            }
            _ => {}
        }
    }
}

/// A config with these pools as another one has them.
fn only(before: Text, after: Text, pools: &[PoolId]) -> Text {
    let mut text = before;
    for id in pools {
        let new = after.pools.iter().find(|p| p.id == *id);
        match (text.pools.iter().position(|p| p.id == *id), new) {
            (Some(at), Some(new)) => text.pools[at] = new.clone(),
            (None, Some(new)) => text.pools.push(new.clone()),
            (Some(at), None) => drop(text.pools.remove(at)),
            (None, None) => {}
        }
        match after.launch.get(id) {
            Some(launch) => text.launch.insert(*id, *launch),
            None => text.launch.remove(id),
        };
    }
    text
}
