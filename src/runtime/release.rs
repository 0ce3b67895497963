//! Owns the order of what comes before a worker's stop signal: who waits at a socket of its slot is served, then its `pre_stop` hook is run. The
//! core bounds it, and cuts it short by sending a signal that stops.

use super::master::Master;
use crate::supervisor::{Cause, Event, WorkerId};

impl Master {
    /// Begins the release of a worker.
    pub(super) fn release(&mut self, worker: WorkerId) {
        if !self.drain_first(worker) {
            self.release_past_queue(worker);
        }
    }

    /// Goes on with it, when nobody waits for this worker alone any more.
    pub(super) fn release_past_queue(&mut self, worker: WorkerId) {
        if !self.run_pre_stop(worker) {
            self.facts.push_back(Event::Released { worker });
        }
    }

    /// The worker is sent a signal that stops: nothing comes before it any more.
    pub(super) fn cut_release(&mut self, worker: WorkerId, cause: Cause) {
        self.forget_drain(worker);
        // A step of the stop sequence says that the release is done, or has had its time: then the hook's own limit ends it.
        self.leave_pre_stop(worker, cause != Cause::Stop);
    }

    /// The worker has ended. Its hook may go on: what it does for others (as at a load balancer) is to be done whole.
    pub(super) fn forget_release(&mut self, worker: WorkerId) {
        self.forget_drain(worker);
        self.leave_pre_stop(worker, false);
    }
}
