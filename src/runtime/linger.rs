//! Owns the beginning of a graceful end: nobody new is let in, and the connections that wait at the listeners are served before the workers
//! are stopped. When none waits, which is the rule, it takes no time at all.

use std::rc::Rc;
use std::time::Duration;

use super::master::Master;
use super::sockets::Socket;
use crate::supervisor::{Event, Time, count};

/// Between two looks at the queues.
const PAUSE: Duration = Duration::from_millis(10);

/// The queues that are watched.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    sockets: Vec<Rc<Socket>>,
    look_at: Option<Time>,
    /// Then the core goes on, whoever waits.
    until: Time,
}

impl Lingering {
    /// When to look again.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.look_at
    }

    /// How many connections wait.
    fn waiting(&self) -> usize {
        self.sockets.iter().filter_map(|socket| socket.queue()).map(|(waiting, _)| waiting as usize).sum()
    }
}

impl Master {
    /// Closes the doors.
    pub(super) fn quiesce(&mut self) {
        let mut sockets = self.open_sockets();
        for listening in sockets.iter().flat_map(|socket| socket.all()) {
            if let Err(e) = listening.let_nobody_in() {
                tracing::debug!("listener {}: cannot keep new connections out: {e}", listening.local_addr());
            }
        }
        // Those of two masters the other one serves.
        sockets.retain(|socket| self.second.child().is_none() || socket.all().iter().any(|listening| listening.is_alone()));
        self.lingering.sockets = sockets;
        let waiting = self.lingering.waiting();
        if waiting == 0 {
            return self.all_quiet();
        }
        tracing::info!(
            "{} waiting at the listeners: served first, for at most {} (master.linger)",
            count(waiting, "connection"),
            crate::supervisor::human(self.config.spec.linger)
        );
        self.lingering.look_at = Some(Master::now() + PAUSE);
        self.lingering.until = Master::now() + self.config.spec.linger;
    }

    /// Looks whether somebody still waits.
    pub(super) fn look_at_queues(&mut self) {
        if self.lingering.look_at.is_none_or(|at| at > Master::now()) {
            return;
        }
        if self.lingering.until <= Master::now() {
            self.lingering = Lingering::default();
        } else if self.lingering.waiting() == 0 {
            self.all_quiet();
        } else {
            self.lingering.look_at = Some(Master::now() + PAUSE);
        }
    }

    fn all_quiet(&mut self) {
        self.lingering = Lingering::default();
        self.facts.push_back(Event::Quiet);
    }
}
