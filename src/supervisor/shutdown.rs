//! Owns the end of the master: graceful, quick, or now; each further order is one step harder, never softer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pool::{Pool, UNKILLABLE_AFTER};
use super::timers::{Key, Timers};
use super::{Action, Level, Phase, PoolId, Reason, Sender, Supervisor, Time, What};

/// From the last worker's `quick_timeout` to the next step: those that KILL has ended are reaped by then.
const AFTER_QUICK: Duration = Duration::from_secs(1);

/// How hard the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Manner {
    /// Stop signals in reverse order of `after`; KILL after each worker's graceful time. After `master.graceful_timeout` it turns quick: nobody is
    /// killed who was not told to stop before.
    Graceful,
    /// The quick signal for all; KILL after `quick_timeout`.
    Quick,
    /// KILL for all.
    Now,
}

impl Manner {
    fn harder(self) -> Manner {
        match self {
            Manner::Graceful => Manner::Quick,
            Manner::Quick | Manner::Now => Manner::Now,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Manner::Graceful => "gracefully",
            Manner::Quick => "quickly",
            Manner::Now => "at once, with SIGKILL",
        }
    }
}

/// A shutdown under way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ending {
    manner: Manner,
    code: i32,
    why: String,
    /// The exit was handed out.
    done: bool,
    /// Nobody is stopped yet: what waits at the listeners is served first.
    lingering: bool,
}

impl Ending {
    /// With SIGKILL.
    pub(super) fn is_now(&self) -> bool {
        self.manner == Manner::Now
    }
}

impl Supervisor {
    /// A stop signal to the master: begins the shutdown, or makes it one step harder.
    pub(super) fn stop_signal(&mut self, now: Time, first: Manner, name: &str, sender: Sender, out: &mut Vec<Action>) {
        let manner = self.ending.as_ref().map_or(first, |ending| ending.manner.harder());
        self.shut_down(now, manner, 0, format!("SIG{name} from {sender}"), out);
    }

    /// A further stop signal once the exit is handed out.
    pub(super) fn harden(&mut self) {
        if let Some(ending) = self.ending.as_mut() {
            ending.manner = ending.manner.harder();
        }
    }

    /// The master ends by its own verdict.
    pub(super) fn end(&mut self, now: Time, code: i32, why: String, out: &mut Vec<Action>) {
        self.shut_down(now, Manner::Graceful, code, why, out);
    }

    /// An operator's shutdown. Its order stays pending until the very end.
    pub(super) fn shut_down_for(&mut self, now: Time, quick: bool, sender: Sender, out: &mut Vec<Action>) {
        let wish = if quick { Manner::Quick } else { Manner::Graceful };
        let manner = self.ending.as_ref().map_or(wish, |e| e.manner.max(wish));
        self.shut_down(now, manner, 0, format!("shutdown ordered by {sender}"), out);
    }

    fn shut_down(&mut self, now: Time, manner: Manner, code: i32, why: String, out: &mut Vec<Action>) {
        let before = self.ending.as_ref().map(|e| e.manner);
        if before.is_some_and(|b| b >= manner) && manner != Manner::Now {
            return;
        }
        let how = manner.words().to_owned();
        self.cx(now, out).note(Level::Info, None, None, What::ShuttingDown { how, why: why.clone() });
        match self.ending.as_mut() {
            Some(ending) => ending.manner = manner,
            None => {
                self.ending = Some(Ending { manner, code, why, done: false, lingering: false });
                self.end_reload(now, out);
                self.fail_pending("the master is shutting down", out);
                self.linger(now, out);
            }
        }
        if manner > Manner::Graceful {
            self.stop_lingering();
        }
        for id in self.pools.keys().copied().collect::<Vec<_>>() {
            self.on_pool(now, id, out, |p, cx| match manner {
                Manner::Graceful => {
                    // Not even in its turn: a waiting pool has nothing to wait for any more.
                    p.roll_abandon(cx);
                }
                Manner::Quick => p.quicken(cx, Reason::Shutdown),
                Manner::Now => p.kill_all(cx, Reason::Shutdown),
            });
        }
        let bound = match manner {
            Manner::Graceful => self.master.as_ref().map(|m| m.graceful_timeout).unwrap_or_default(),
            // Each worker has its own deadline by then, and is reaped.
            Manner::Quick => self.pools.values().map(Pool::longest_quick).max().unwrap_or_default().saturating_add(AFTER_QUICK),
            Manner::Now => UNKILLABLE_AFTER,
        };
        self.timers.arm(Key::Shutdown, &mut self.shutdown_armed, Some(now + bound));
    }

    /// A graceful end begins with those who wait at the listeners, while there is somebody to serve them.
    fn linger(&mut self, now: Time, out: &mut Vec<Action>) {
        let time = self.master.as_ref().map(|m| m.linger).unwrap_or_default();
        let Some(ending) = self.ending.as_mut() else { return };
        if time.is_zero() || ending.manner != Manner::Graceful || self.pools.values().all(|p| p.is_down()) {
            return;
        }
        ending.lingering = true;
        self.timers.arm(Key::Linger, &mut self.linger_armed, Some(now + time));
        out.push(Action::Quiesce);
    }

    /// Nobody waits any more, or they have waited long enough.
    pub(super) fn stop_lingering(&mut self) {
        self.timers.arm(Key::Linger, &mut self.linger_armed, None);
        if let Some(ending) = self.ending.as_mut() {
            ending.lingering = false;
        }
    }

    /// The bound on the shutdown has passed.
    pub(super) fn shutdown_due(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(ending) = self.ending.as_mut() else { return };
        let over = match ending.manner {
            Manner::Graceful => Some("master.graceful_timeout is over"),
            Manner::Quick => Some("quick_timeout is over"),
            Manner::Now => None,
        };
        if let Some(over) = over {
            let harder = ending.manner.harder();
            return self.shut_down(now, harder, 0, over.to_owned(), out);
        }
        // SIGKILL did not end them: they hang in the kernel, and waiting longer helps nobody.
        let left: Vec<String> = self.pools.values().filter(|p| !p.is_down()).map(|p| p.spec.name.clone()).collect();
        self.exit(1, format!("processes of {} cannot be killed and are left behind", left.join(", ")), out);
    }

    /// Stops the pools whose turn has come; ends the master when none is left.
    pub(super) fn continue_ending(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(ending) = self.ending.as_ref() else { return };
        if ending.done || (ending.lingering && !self.pools.values().all(|p| p.is_down())) {
            return;
        }
        // The touched set only grows by pools that change, so that each pass but the first is short.
        loop {
            let ready: Vec<PoolId> = self
                .pools
                .iter()
                .filter(|(id, p)| p.phase != Phase::Stopped && p.phase != Phase::Removed && self.free_to_stop(**id))
                .map(|(id, _)| *id)
                .collect();
            if ready.is_empty() {
                break;
            }
            for id in ready {
                self.on_pool(now, id, out, |p, cx| p.halt(cx, Phase::Stopped, Reason::Shutdown));
            }
        }
        // Pools whose last worker was gone before their turn are stopped only now.
        for id in std::mem::take(&mut self.touched) {
            self.answer_settled(id, out);
        }
        if self.pools.values().all(|p| p.is_down()) {
            let (code, why) = self.ending.as_ref().map(|e| (e.code, e.why.clone())).unwrap_or_default();
            self.exit(code, why, out);
        }
    }

    fn exit(&mut self, code: i32, reason: String, out: &mut Vec<Action>) {
        self.timers.arm(Key::Shutdown, &mut self.shutdown_armed, None);
        let Some(ending) = self.ending.as_mut() else { return };
        if std::mem::replace(&mut ending.done, true) {
            return;
        }
        self.answer_ended(code, &reason, out);
        out.push(Action::Exit { code, reason });
        self.timers = Timers::default();
    }

    /// The exit was handed out: nothing follows it, whatever happens.
    pub(super) fn has_exited(&self) -> bool {
        self.ending.as_ref().is_some_and(|e| e.done)
    }
}
