//! Owns what the master says to the service manager that started it: that it is ready, what it is doing, that it reloads or stops, and that
//! its loop still turns. Without one it says nothing, and costs nothing.

use std::ffi::OsString;
use std::time::Duration;

use crate::os::process::self_pid;
use crate::os::service::ServiceManager;
use crate::supervisor::{Note, Phase, PoolView, Supervisor, Time, What, count};

/// What is said.
#[derive(Debug, Default)]
pub(super) struct Service {
    manager: Option<ServiceManager>,
    /// Half of the time within which it wants to hear of us.
    beat: Option<Duration>,
    beat_at: Option<Time>,
    ready: bool,
    /// A reload is under way; true: its config is not read yet.
    reloading: Option<bool>,
    stopping: bool,
    status: String,
    /// A message was lost, and that was told.
    lost: bool,
    /// Another master has the word: what is said of this one would be taken for the unit.
    silent: bool,
}

impl Service {
    /// As the master's own environment says.
    pub(super) fn of(environment: &[(OsString, OsString)], now: Time) -> Service {
        let var = |name: &str| environment.iter().find(|(n, _)| n.as_os_str() == name).map(|(_, value)| value.as_os_str());
        let number = |name: &str| var(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let manager = var("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| match ServiceManager::at(name) {
            Ok(manager) => Some(manager),
            Err(e) => {
                tracing::warn!("cannot report to the service manager at NOTIFY_SOCKET={}: {e}", name.display());
                None
            }
        });
        let ours = number("WATCHDOG_PID").is_none_or(|pid| i32::try_from(pid) == Ok(self_pid()));
        let beat = number("WATCHDOG_USEC")
            .filter(|usec| ours && manager.is_some() && *usec > 1)
            .map(|usec| Duration::from_micros(usec / 2));
        Service { beat, beat_at: beat.map(|_| now), manager, ..Service::default() }
    }

    /// It was told that this master is ready.
    pub(super) fn is_told_ready(&self) -> bool {
        self.ready
    }

    /// As the image before this one has told it: what begins with another program ends now.
    pub(super) fn was_told(&mut self, ready: bool) {
        self.ready = ready;
        self.reloading = (ready && self.manager.is_some()).then_some(false);
    }

    /// What was begun with [`Service::reload_begins`] is over.
    pub(super) fn reload_ends(&mut self) {
        self.reloading = self.reloading.map(|_| false);
    }

    /// When the next sign of life is due.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.beat_at
    }

    fn say(&mut self, text: &str) {
        let Some(manager) = self.manager.as_ref().filter(|_| !self.silent) else { return };
        if let Err(e) = manager.say(text)
            && !std::mem::replace(&mut self.lost, true)
        {
            tracing::warn!("cannot report to the service manager: {e}; going on without, and trying with each further report");
        }
    }

    /// A sign of life, when one is due: only a loop that turns gives it.
    pub(super) fn beat(&mut self, now: Time) {
        if let (Some(beat), Some(at)) = (self.beat, self.beat_at)
            && at <= now
        {
            self.say("WATCHDOG=1");
            self.beat_at = Some(now + beat);
        }
    }

    /// The config is about to be read again.
    pub(super) fn reload_begins(&mut self, now: Time) {
        if self.manager.is_some() && self.reloading.replace(true).is_none() {
            self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.0 / 1000));
        }
    }

    /// The second master is the main process from now on, and has the word: what is said of this one's end would be taken for the unit's.
    pub(super) fn hand_over(&mut self, second: i32) {
        self.say(&format!("MAINPID={second}"));
        self.silent = true;
    }

    /// This is a second master, and the first has the word.
    pub(super) fn be_silent(&mut self) {
        self.silent = true;
    }

    /// The other one is gone: this is the main process.
    pub(super) fn take_back(&mut self) {
        if std::mem::take(&mut self.silent) {
            self.status.clear();
            self.say(&format!("MAINPID={}", self_pid()));
        }
    }

    /// What a line of the core's means for the manager.
    pub(super) fn hear(&mut self, note: &Note, bound: Duration) {
        match &note.what {
            What::Reloaded { .. } | What::ReloadFailed { .. } | What::ConfigRejected { .. } if self.reloading.is_some() => {
                self.reloading = Some(false);
            }
            What::ShuttingDown { .. } if self.manager.is_some() => {
                let first = !std::mem::replace(&mut self.stopping, true);
                let word = if first { "STOPPING=1\n" } else { "" };
                // The manager's own patience may be shorter than the workers need.
                let wanted = bound.saturating_add(Duration::from_secs(10));
                self.say(&format!("{word}EXTEND_TIMEOUT_USEC={}", wanted.as_micros()));
            }
            _ => {}
        }
    }

    /// Says what has changed.
    pub(super) fn update(&mut self, core: &Supervisor) {
        if self.manager.is_none() {
            return;
        }
        let pools = core.pools();
        let mut news = Vec::new();
        if !self.stopping {
            if !self.ready && is_ready(&pools) {
                self.ready = true;
                news.push("READY=1".to_owned());
            }
            if self.reloading == Some(false) {
                self.reloading = None;
                news.push("READY=1".to_owned());
            }
        }
        let status = words(&pools);
        if status != self.status {
            news.push(format!("STATUS={status}"));
            self.status = status;
        }
        if !news.is_empty() {
            self.say(&news.join("\n"));
        }
    }
}

/// The required pools have the workers that they must have; when none is required, of all that start by themselves it is known what becomes of them.
fn is_ready(pools: &[PoolView<'_>]) -> bool {
    let starting = || pools.iter().filter(|pool| pool.spec.autostart && pool.phase != Phase::Removed);
    let enough = |pool: &PoolView<'_>| pool.ready >= pool.spec.min_ready.min(pool.target);
    let up = |pool: &PoolView<'_>| match pool.phase {
        Phase::Completed => true,
        Phase::Running => enough(pool),
        Phase::BackingOff => enough(pool) || !pool.spec.required,
        Phase::Failed | Phase::Stopped | Phase::Parked => !pool.spec.required,
        Phase::Waiting | Phase::Removed => false,
    };
    if starting().any(|pool| pool.spec.required) {
        return starting().filter(|pool| pool.spec.required).all(up);
    }
    !pools.is_empty() && starting().all(up)
}

fn words(pools: &[PoolView<'_>]) -> String {
    let (ready, wanted) =
        pools.iter().fold((0, 0), |(ready, wanted), pool| (ready + pool.ready.min(pool.target), wanted + pool.target));
    let worse = |pool: &PoolView<'_>| match pool.phase {
        Phase::Failed => Some(format!("{} failed", pool.spec.name)),
        Phase::BackingOff => Some(format!("{} backs off", pool.spec.name)),
        Phase::Waiting | Phase::Running | Phase::Stopped | Phase::Parked | Phase::Completed | Phase::Removed => None,
    };
    let bad: Vec<String> = pools.iter().filter_map(worse).collect();
    let mut out = format!("{}, {ready} of {} ready", count(pools.len(), "pool"), count(wanted as usize, "worker"));
    if !bad.is_empty() {
        out = format!("{out}; {}", bad.join(", "));
    }
    out
}
