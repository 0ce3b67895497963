//! Owns what a hook is told of its moment, as variables.

use std::ffi::CString;

use super::Moment;
use crate::supervisor::{ExitStatus, WorkerId, signal_name};

/// What is known beside the pool and the worker.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Facts {
    /// The worker's process.
    pub(in super::super) pid: Option<i32>,
    /// How it ended.
    pub(super) status: Option<ExitStatus>,
    /// It went well.
    pub(super) done: Option<bool>,
    /// Why.
    pub(super) reason: Option<String>,
    /// The number of workers before and after.
    pub(super) counts: Option<(u32, u32)>,
}

/// `POOLMASTER_HOOK` and what goes with it.
pub(super) fn variables(moment: Moment, pool: Option<&str>, worker: Option<WorkerId>, facts: &Facts) -> Vec<CString> {
    let mut out = Vec::new();
    let mut set = |name: &str, value: Option<String>| {
        out.extend(value.and_then(|value| CString::new(format!("POOLMASTER_HOOK{name}={value}")).ok()));
    };
    set("", Some(moment.name().to_owned()));
    set("_POOL", pool.map(str::to_owned));
    set("_SLOT", worker.map(|id| id.slot.to_string()));
    set("_GENERATION", worker.map(|id| id.generation.to_string()));
    set("_PID", facts.pid.map(|pid| pid.to_string()));
    let (code, signal) = match facts.status {
        Some(ExitStatus::Code(code)) => (Some(code.to_string()), None),
        Some(ExitStatus::Signal { signal, .. }) => (None, Some(signal_name(signal))),
        Some(ExitStatus::Unknown) | None => (None, None),
    };
    set("_EXIT_CODE", code);
    set("_SIGNAL", signal);
    set("_RESULT", facts.done.map(|done| if done { "done" } else { "failed" }.to_owned()));
    set("_REASON", facts.reason.clone());
    set("_OLD", facts.counts.map(|(old, _)| old.to_string()));
    set("_NEW", facts.counts.map(|(_, new)| new.to_string()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::PoolId;

    #[test]
    fn what_is_known_is_told_and_nothing_else() {
        let id = WorkerId { pool: PoolId(0), slot: 2, generation: 7 };
        let facts = Facts { pid: Some(12), status: Some(ExitStatus::Code(3)), ..Facts::default() };
        let told: Vec<String> =
            variables(Moment::WorkerExit, Some("web"), Some(id), &facts).into_iter().map(|v| v.into_string().unwrap()).collect();
        let want = [
            "POOLMASTER_HOOK=worker_exit",
            "POOLMASTER_HOOK_POOL=web",
            "POOLMASTER_HOOK_SLOT=2",
            "POOLMASTER_HOOK_GENERATION=7",
            "POOLMASTER_HOOK_PID=12",
            "POOLMASTER_HOOK_EXIT_CODE=3",
        ];
        assert_eq!(told, want);
        let facts = Facts { counts: Some((1, 2)), reason: Some("by hand".to_owned()), ..Facts::default() };
        assert_eq!(variables(Moment::Scaled, Some("web"), None, &facts).len(), 5);
        assert_eq!(variables(Moment::Exit, None, None, &Facts::default()).len(), 1);
    }
}
