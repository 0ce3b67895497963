//! Owns the table of what a run has reached: which facts met which states, and which rare things happened.

use std::collections::BTreeMap;

use poolmaster::supervisor::{Action, Command, ConfigSource, Event, Notification, Outcome, What, WorkerState};

/// Counts of (event, state of the worker it is about) and of everything the core did.
#[derive(Default)]
pub(crate) struct Coverage {
    pub(crate) pairs: BTreeMap<(&'static str, String), u64>,
    pub(crate) deeds: BTreeMap<&'static str, u64>,
}

/// The name of an event, as a row of the table.
pub(crate) fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Configure { .. } => "configure",
        Event::ConfigRejected { .. } => "config-rejected",
        Event::Spawned { .. } => "spawned",
        Event::SpawnFailed { .. } => "spawn-failed",
        Event::Notified { message, .. } => match message {
            Notification::Ready => "says-ready",
            Notification::Reloading => "says-reloading",
            Notification::Stopping => "says-stopping",
            Notification::Beat => "beat",
            Notification::Trigger => "says-trigger",
            Notification::Timeout(_) => "sets-timeout",
            Notification::Extend(_) => "extends",
            Notification::Status(_) => "says-status",
            Notification::Busy { .. } => "says-busy",
            Notification::RestartReset => "says-restart-reset",
            Notification::MainPid(_) => "says-main-pid",
        },
        Event::Looked { .. } => "looked",
        Event::Quiet => "quiet",
        Event::Exited { stragglers: false, .. } => "exited",
        Event::Exited { stragglers: true, .. } => "exited-stragglers",
        Event::GroupGone { .. } => "group-gone",
        Event::PreStarted { failed: None, .. } => "pre-started",
        Event::PreStarted { .. } => "pre-start-failed",
        Event::Prepared { .. } => "prepared",
        Event::Released { .. } => "released",
        Event::Signalled { .. } => "signalled",
        Event::SignalFailed { .. } => "signal-failed",
        Event::Signal { signal, .. } => signal.name(),
        Event::ScaleSignals { .. } => "scale-signals",
        Event::RestartSignal { .. } => "restart-signal",
        Event::Command { command, .. } => match command {
            Command::Scale { .. } => "cmd-scale",
            Command::Stop { .. } => "cmd-stop",
            Command::Start { .. } => "cmd-start",
            Command::Restart { .. } => "cmd-restart",
            Command::Kill { .. } => "cmd-kill",
            Command::Wait { .. } => "cmd-wait",
            Command::Retry { .. } => "cmd-retry",
            Command::Reload { .. } => "cmd-reload",
            Command::Abort => "cmd-abort",
            Command::Rollback => "cmd-rollback",
            Command::Reopen => "cmd-reopen",
            Command::Shutdown { .. } => "cmd-shutdown",
        },
        Event::Abandoned { .. } => "abandoned",
        Event::Tick => "tick",
        Event::Late { .. } => "late",
    }
}

fn note_name(what: &What) -> Option<&'static str> {
    Some(match what {
        What::AssumedReady => "note assumed-ready",
        What::Escalated { .. } => "note escalated",
        What::ReleaseOverdue { .. } => "note release-overdue",
        What::HeartbeatLost { .. } => "note heartbeat-lost",
        What::StartTimeout { .. } => "note start-timeout",
        What::Unprepared { .. } => "note unprepared",
        What::Unkillable { .. } => "note unkillable",
        What::Stale { .. } => "note stale",
        What::OtherMainPid { .. } => "note other-main-pid",
        What::Clamped { .. } => "note clamped",
        What::WaitingFor { .. } => "note waiting-for",
        What::BackingOff { .. } => "note backing-off",
        What::Recovered => "note recovered",
        What::PoolFailed { .. } => "note pool-failed",
        What::PoolCompleted => "note pool-completed",
        What::RollStarted { .. } => "note roll-started",
        What::RollDone => "note roll-done",
        What::RollHalted { .. } => "note roll-halted",
        What::AllReady { .. } => "note all-ready",
        What::Late { .. } => "note late",
        What::Trying { .. } => "note trying",
        What::CanaryGood => "note canary-good",
        What::Reloaded { .. } => "note reloaded",
        What::ReloadFailed { .. } => "note reload-failed",
        What::RollingBack { .. } => "note rolling-back",
        What::TooManyGenerations { .. } => "note too-many-generations",
        _ => return None,
    })
}

impl Coverage {
    pub(crate) fn event(&mut self, event: &Event, state: Option<String>) {
        *self.pairs.entry((event_name(event), state.unwrap_or_else(|| "-".to_owned()))).or_default() += 1;
    }

    pub(crate) fn actions(&mut self, out: &[Action]) {
        for action in out {
            let name = match action {
                Action::Spawn { .. } => "spawn",
                Action::Look { .. } => "look",
                Action::Release { .. } => "release",
                Action::Signal { signal: 9, .. } => "signal KILL",
                Action::Signal { signal: 6, .. } => "signal ABRT",
                Action::Signal { .. } => "signal other",
                Action::Quiesce => "quiesce",
                Action::ReadConfig { from: ConfigSource::File, .. } => "read-config",
                Action::ReadConfig { from: ConfigSource::Kept(_), .. } => "read-kept",
                Action::PreStart { .. } => "pre-start",
                Action::SecondMaster { .. } => "second-master",
                Action::Commit { .. } => "commit",
                Action::Discard { .. } => "discard",
                Action::ReopenLogs => "reopen-logs",
                Action::PoolGone { .. } => "pool-gone",
                Action::Reply { outcome, .. } => match outcome {
                    Outcome::Done(_) => "reply done",
                    Outcome::Failed(_) => "reply failed",
                    Outcome::RolledBack(_) => "reply rolled-back",
                    Outcome::Invalid(_) => "reply invalid",
                    Outcome::TimedOut(_) => "reply timed-out",
                    Outcome::Refused(_) => "reply refused",
                },
                Action::Note(note) => match note_name(&note.what) {
                    Some(name) => name,
                    None => continue,
                },
                Action::Exit { code: 0, .. } => "exit 0",
                Action::Exit { code: 3, .. } => "exit 3",
                Action::Exit { code: 4, .. } => "exit 4",
                Action::Exit { .. } => "exit other",
            };
            *self.deeds.entry(name).or_default() += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Coverage) {
        for (k, n) in &other.pairs {
            *self.pairs.entry(k.clone()).or_default() += n;
        }
        for (k, n) in &other.deeds {
            *self.deeds.entry(k).or_default() += n;
        }
    }

    /// The table, one row for each event, one column for each state.
    pub(crate) fn table(&self) -> String {
        let states: Vec<String> = STATES.iter().map(|s| format!("{s:?}")).chain(["gone".to_owned(), "-".to_owned()]).collect();
        let mut text = format!("{:18}", "");
        states.iter().for_each(|s| text.push_str(&format!("{s:>10}")));
        let mut rows: Vec<&str> = self.pairs.keys().map(|(e, _)| *e).collect();
        rows.dedup();
        for row in rows {
            text.push_str(&format!("\n{row:18}"));
            for s in &states {
                match self.pairs.get(&(row, s.clone())) {
                    Some(n) => text.push_str(&format!("{n:>10}")),
                    None => text.push_str(&format!("{:>10}", "")),
                }
            }
        }
        text.push('\n');
        for (name, n) in &self.deeds {
            text.push_str(&format!("\n{name:24}{n:>10}"));
        }
        text
    }
}

/// All states a worker can be in.
pub(crate) const STATES: [WorkerState; 9] = [
    WorkerState::Spawning,
    WorkerState::Starting,
    WorkerState::Ready,
    WorkerState::Good,
    WorkerState::Leaving,
    WorkerState::Stopping,
    WorkerState::Aborting,
    WorkerState::Killed,
    WorkerState::Lingering,
];
