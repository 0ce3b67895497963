//! Owns the answers to questions: what the core knows, with what only the host knows (pids, memory, queues) beside it.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::master::Master;
use super::sockets::{Slots, Socket};
use crate::config::spec::Look;
use crate::os::listener::LostFile;
use crate::os::process::resident_bytes;
use crate::protocol::{
    HealthReply, InfoReply, ListenerStatus, ListenersReply, METHODS, MasterPhase, PoolHealth, PoolStatus, PsEntry, PsReply,
    SignalsReply, SlotSocket, StatusReply, WorkerStatus,
};
use crate::supervisor::{Phase, PoolId, PoolView, ReadyKind, Time, WorkerId, WorkerState, WorkerView};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Fewer ready workers than it must have, where it should have any.
fn is_degraded(p: &PoolView<'_>) -> bool {
    match p.phase {
        Phase::Running | Phase::BackingOff => p.ready < p.spec.min_ready.min(p.target),
        Phase::Failed => true,
        Phase::Waiting | Phase::Stopped | Phase::Parked | Phase::Completed | Phase::Removed => false,
    }
}

impl Master {
    pub(super) fn info(&self) -> InfoReply {
        InfoReply {
            instance: self.config.name.clone(),
            version: VERSION.to_owned(),
            pid: self.pid,
            config: self.config_path.as_ref().map(|p| p.display().to_string()),
            methods: METHODS.iter().map(|m| (*m).to_owned()).collect(),
        }
    }

    pub(super) fn status(&self, only: Option<PoolId>, workers: bool) -> StatusReply {
        let now = Master::now();
        let pools = self.core.pools();
        let asked = pools.iter().filter(|p| only.is_none_or(|id| id == p.spec.id));
        StatusReply {
            instance: self.config.name.clone(),
            version: VERSION.to_owned(),
            pid: self.pid,
            config: self.config_path.as_ref().map(|p| p.display().to_string()),
            revision: self.revision,
            socket: self.files.socket.display().to_string(),
            uptime_ms: ms(self.uptime()),
            phase: if self.core.is_ending() { MasterPhase::Stopping } else { MasterPhase::Running },
            default_pool: self.default_pool().map(|id| self.name_of(id)),
            reload: self.reload_status(),
            reload_failed: self.reload_failure(),
            pools: asked.map(|p| self.pool_status(p, now, workers)).collect(),
        }
    }

    fn default_pool(&self) -> Option<PoolId> {
        let only = if self.runs.len() == 1 { self.runs.keys().next().copied() } else { None };
        self.config.spec.default_pool.or(only)
    }

    fn pool_status(&self, p: &PoolView<'_>, now: Time, workers: bool) -> PoolStatus {
        let addresses =
            self.runs.get(&p.spec.id).map(|r| r.sockets.iter().map(|s| s.listening.local_addr().to_string()).collect());
        let each = if workers { self.core.workers(p.spec.id) } else { Vec::new() };
        PoolStatus {
            name: p.spec.name.clone(),
            phase: p.phase,
            target: p.target,
            config_workers: p.spec.workers,
            operator: p.operator,
            min: p.spec.min,
            max: p.spec.max,
            min_ready: p.spec.min_ready,
            starting: p.starting,
            ready: p.ready,
            stopping: p.stopping,
            live: p.live,
            restarts: p.restarts,
            rolling: p.rolling,
            retry_in_ms: p.retry_at.map(|at| ms(at - now)),
            why: p.why.map(str::to_owned),
            listeners: addresses.unwrap_or_default(),
            required: p.spec.required,
            degraded: is_degraded(p),
            workers: each.iter().map(|w| self.worker_status(w, now)).collect(),
        }
    }

    fn worker_status(&self, w: &WorkerView<'_>, now: Time) -> WorkerStatus {
        let pid = self.processes.pid_of(w.id);
        WorkerStatus {
            slot: w.id.slot,
            generation: w.id.generation,
            pid,
            state: w.state,
            since_ms: ms(now - w.since),
            age_ms: ms(now - w.started),
            revision: w.revision,
            incoming: w.incoming,
            heartbeat_timeout_ms: w.timeout.map(ms),
            beat_ago_ms: w.last_beat.map(|at| ms(now - at)),
            stopping: w.stopping.map(|r| r.to_string()),
            deadline_in_ms: w.deadline.filter(|_| w.stopping.is_some()).map(|at| ms(at - now)),
            waits_for: (w.state == WorkerState::Starting).then(|| self.sign_of(w.id)).flatten(),
            busy: w.busy.map(|(busy, of)| format!("{busy}/{of}")),
            status: w.status.map(str::to_owned),
            rss_bytes: pid.and_then(resident_bytes),
        }
    }

    /// What a starting worker counts as ready by; `None`: there is nothing to wait for but time.
    fn sign_of(&self, worker: WorkerId) -> Option<String> {
        let run = &self.processes.of(worker)?.run;
        let config = &run.config;
        let address = || {
            let first = run.sockets.first().map(|socket| socket.listening.local_addr().to_string());
            first.unwrap_or_else(|| "its listeners".to_owned())
        };
        Some(match (config.spec.ready, &config.launch.look) {
            (ReadyKind::Exec | ReadyKind::Delay(_), _) => return None,
            (_, Some(Look::Tcp(target))) => format!("a connection to tcp:{target}"),
            (_, Some(Look::Http(page))) => format!("an answer of http:{page}"),
            (_, Some(Look::Command(argv))) => format!("an exit code 0 of {}", argv.join(" ")),
            (ReadyKind::Notify, None) => match config.launch.protocols.ready_fd {
                Some(fd) => format!("a line on its descriptor {fd}"),
                None => "its READY=1".to_owned(),
            },
            (ReadyKind::Accepting, None) => format!("being seen accepting on {}", address()),
            (ReadyKind::NotifyOrAccepting, None) => format!("its READY=1, or being seen accepting on {}", address()),
        })
    }

    pub(super) fn ps(&self, only: Option<PoolId>) -> PsReply {
        let now = Master::now();
        let mut workers = Vec::new();
        for pool in self.core.pools().iter().filter(|p| only.is_none_or(|id| id == p.spec.id)) {
            let entry = |w: &WorkerView<'_>| PsEntry { pool: pool.spec.name.clone(), worker: self.worker_status(w, now) };
            workers.extend(self.core.workers(pool.spec.id).iter().map(entry));
        }
        PsReply {
            instance: self.config.name.clone(),
            pid: self.pid,
            uptime_ms: ms(self.uptime()),
            rss_bytes: resident_bytes(self.pid),
            workers,
        }
    }

    pub(super) fn health(&self, only: Option<PoolId>) -> HealthReply {
        let well = |p: &PoolView<'_>| match p.phase {
            Phase::Running | Phase::BackingOff => !is_degraded(p),
            Phase::Completed | Phase::Stopped | Phase::Parked => true,
            Phase::Waiting | Phase::Failed | Phase::Removed => false,
        };
        let views = self.core.pools();
        let lost = |p: &PoolView<'_>| {
            let sockets = self.runs.get(&p.spec.id).map(|run| run.sockets.as_slice()).unwrap_or_default();
            sockets.iter().find_map(|socket| lost_words_of(socket))
        };
        let pools: Vec<PoolHealth> = views
            .iter()
            .filter(|p| only.is_none_or(|id| id == p.spec.id))
            .map(|p| (p, lost(p)))
            .map(|(p, lost)| PoolHealth {
                name: p.spec.name.clone(),
                ok: well(p) && (lost.is_none() || matches!(p.phase, Phase::Completed | Phase::Stopped | Phase::Parked)),
                phase: p.phase,
                ready: p.ready,
                // Of a pool that is to have fewer, no more is wanted.
                min_ready: if matches!(p.phase, Phase::Stopped | Phase::Parked) { 0 } else { p.spec.min_ready.min(p.target) },
                target: p.target,
                required: p.spec.required,
                why: p.why.map(str::to_owned).or(lost),
            })
            .collect();
        HealthReply { ok: pools.iter().all(|p| p.ok), pools }
    }

    pub(super) fn listeners(&self, only: Option<PoolId>) -> ListenersReply {
        let mut listeners = Vec::new();
        for pool in self.core.pools().iter().filter(|p| only.is_none_or(|id| id == p.spec.id)) {
            let Some(run) = self.runs.get(&pool.spec.id) else { continue };
            for (config, socket) in run.config.listeners.iter().zip(&run.sockets) {
                let queue = socket.queue();
                let holds =
                    |p: &&super::processes::Process| !p.exited && p.run.sockets.iter().any(|s| std::rc::Rc::ptr_eq(s, socket));
                listeners.push(ListenerStatus {
                    pool: pool.spec.name.clone(),
                    name: config.name.clone(),
                    address: socket.listening.local_addr().to_string(),
                    fd: socket.listening.as_fd().as_raw_fd(),
                    inode: socket.listening.inode(),
                    backlog: config.backlog,
                    queue: queue.map(|(length, _)| length),
                    queue_limit: queue.map(|(_, limit)| limit),
                    holders: u32::try_from(self.processes.all().filter(holds).count()).unwrap_or(u32::MAX),
                    sharing: match (&config.shared, socket.slots().filter(|_| config.reuseport)) {
                        (Some(owner), _) => format!("with {owner}"),
                        (None, Some(_)) => "reuseport".to_owned(),
                        (None, None) => "shared".to_owned(),
                    },
                    slots: socket.slots().filter(|_| config.reuseport).map(slot_sockets).unwrap_or_default(),
                    inherited: socket.inherited.clone(),
                    why: lost_words_of(socket).or_else(|| {
                        let shut = socket.all().iter().any(|listening| !listening.state_listening());
                        shut.then(|| {
                            "a worker has shut down the queue of its slot: the next worker there has it open again".to_owned()
                        })
                    }),
                });
            }
        }
        ListenersReply { listeners }
    }

    pub(super) fn signals(&self) -> SignalsReply {
        let default = self.default_pool().map(|id| self.name_of(id));
        SignalsReply { pid: self.pid, signals: self.signal_map.entries(self.pid, default.as_deref(), |id| self.name_of(id)) }
    }
}

/// Of a Unix listener that clients do not find any more.
pub(super) fn lost_words_of(socket: &Socket) -> Option<String> {
    let listening = &socket.listening;
    let address = listening.local_addr();
    if !listening.state_listening() {
        return Some(format!("a worker has shut {address} down: it takes no connection; `poolmaster reload` opens it again"));
    }
    listening.lost_file().map(|lost| match lost {
        LostFile::Removed => {
            format!("somebody removed the file of {address}: no client finds it; `poolmaster reload` makes it anew")
        }
        LostFile::Replaced => format!(
            "somebody put another file in the place of {address}: no client finds the pool; remove it, then `poolmaster reload` makes it anew"
        ),
    })
}

/// By slot.
fn slot_sockets(sockets: &Slots) -> Vec<SlotSocket> {
    let group = sockets.group.borrow();
    let mut slots: Vec<SlotSocket> = group
        .members()
        .map(|(member, listening)| SlotSocket {
            slot: sockets.owner(member).map_or(member, |(_, slot)| slot),
            fd: listening.as_fd().as_raw_fd(),
            inode: listening.inode(),
            queue: listening.queue().map(|(length, _)| length),
            takes: group.takes(member),
        })
        .collect();
    slots.sort_by_key(|socket| socket.slot);
    slots
}
