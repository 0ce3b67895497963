//! Owns what is worth saying about a pool or a worker beside its figures: why it is so, what comes next, what to do.

use crate::protocol::{MasterPhase, PoolStatus, WorkerStatus};
use crate::supervisor::Phase;

use super::words::{Tone, count, phase, time};

/// The word for a pool's state, sharper than its phase.
pub(super) fn pool_state(pool: &PoolStatus) -> (&'static str, Tone) {
    match pool.phase {
        Phase::Running if pool.degraded => ("degraded", Tone::Bad),
        Phase::Running if pool.rolling > 0 => ("rolling", Tone::Caution),
        Phase::Stopped | Phase::Parked | Phase::Failed | Phase::Completed | Phase::Removed if pool.stopping > 0 => {
            ("stopping", Tone::Caution)
        }
        other => phase(other),
    }
}

/// Remarks on a pool, the most important first.
pub(super) fn on_pool(pool: &PoolStatus, master: MasterPhase) -> Vec<String> {
    let name = &pool.name;
    let mut out = Vec::new();
    let mut why = pool.why.clone().unwrap_or_default();
    let mut add = |what: String| {
        if !why.is_empty() {
            why.push_str("; ");
        }
        why.push_str(&what);
    };
    if pool.phase == Phase::Running && pool.degraded {
        add(format!(
            "{} of {} ready, at least {} should be (min_ready)",
            pool.ready,
            count(pool.target, "worker"),
            pool.min_ready
        ));
        if pool.starting > 0 {
            add("`poolmaster ps` says what those that start wait for".to_owned());
        }
    }
    if let Some(ms) = pool.retry_in_ms.filter(|_| master == MasterPhase::Running) {
        add(format!("next try in {} (now: `poolmaster retry {name}`)", time(ms)));
    }
    match pool.phase {
        // What would be refused is no advice.
        _ if master == MasterPhase::Stopping => {}
        Phase::Failed => add(format!("`poolmaster start {name}` tries again")),
        Phase::Stopped | Phase::Completed => add(format!("`poolmaster start {name}` starts it")),
        Phase::Parked => add(format!("its sockets are open; HUP or `poolmaster start {name}` brings the workers back")),
        Phase::Waiting | Phase::Running | Phase::BackingOff | Phase::Removed => {}
    }
    if !why.is_empty() {
        out.push(why);
    }
    if pool.rolling > 0 {
        out.push(format!("rolling: {} still to be replaced", count(pool.rolling, "worker")));
    }
    if let Some(n) = pool.operator.filter(|n| *n != pool.config_workers) {
        let file = pool.config_workers;
        out.push(format!(
            "{} by order, the config says {file} (back to it: `poolmaster scale {name} config`)",
            count(n, "worker")
        ));
    }
    out
}

/// A start that takes longer than this may be waiting for what never comes.
const LONG: u64 = 10_000;

/// Remarks on a worker, in few words.
pub(super) fn on_worker(worker: &WorkerStatus) -> String {
    let mut out = Vec::new();
    if worker.incoming {
        out.push("will replace the older one".to_owned());
    }
    if let Some(reason) = &worker.stopping {
        out.push(reason.clone());
    }
    match worker.deadline_in_ms {
        Some(ms) if worker.stopping.is_some() => out.push(format!("next signal in {}", time(ms))),
        _ => {}
    }
    if let Some(sign) = &worker.waits_for {
        out.push(format!("waits for {sign}"));
        if worker.age_ms >= LONG {
            out.push(
                "if it shows that in another way, set `ready` (\"notify\", \"tcp:...\", \"http:...\", \"exec\", \"delay:2s\")"
                    .to_owned(),
            );
        }
    }
    match worker.beat_ago_ms {
        Some(ms) if worker.heartbeat_timeout_ms.is_some() => out.push(format!("beat {} ago", time(ms))),
        _ if worker.no_heartbeat_seen() => out.push("no heartbeat seen".to_owned()),
        _ => {}
    }
    if let Some(share) = &worker.busy {
        out.push(format!("busy {share}"));
    }
    if let Some(status) = worker.status.as_ref().filter(|s| !s.is_empty()) {
        out.push(status.clone());
    }
    out.join("; ")
}
