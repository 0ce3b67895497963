//! Owns what the master does with captured output as it comes, and with the last of it when a worker ends.

use super::master::Master;
use super::output::{Capture, Drained, Label};
use super::processes::Process;
use crate::supervisor::ExitStatus;

impl Master {
    /// A captured pipe has something to read.
    pub(super) fn read_output(&mut self, number: u64, stdout: bool) {
        let Some(process) = self.processes.get_mut(number) else { return };
        let label = Label { pool: &process.run.config.spec.name, slot: process.id.slot, pid: process.pid };
        let end = if stdout { &mut process.stdout } else { &mut process.stderr };
        let Some(capture) = end else { return };
        if capture.read(&label, &mut process.tail, &mut self.relay) == Drained::Ended {
            // Every writer is gone: a pipe that stays at its end would wake the loop for ever.
            *end = None;
        }
    }

    /// What is left in the pipes of a worker that has ended.
    pub(super) fn finish_output(&mut self, number: u64) {
        let Some(process) = self.processes.get_mut(number) else { return };
        let label = Label { pool: &process.run.config.spec.name, slot: process.id.slot, pid: process.pid };
        for capture in [&mut process.stdout, &mut process.stderr].into_iter().flatten() {
            Capture::finish(capture, &label, &mut process.tail, &mut self.relay);
        }
    }

    /// The last lines of a worker that ended badly, together, for whoever reads the log afterwards.
    pub(super) fn tell_last_lines(&mut self, number: u64, status: ExitStatus) {
        let to_tell = |p: &Process| status != ExitStatus::Code(0) && !p.tail.is_empty() && !p.told_to_stop;
        if !self.processes.get(number).is_some_and(to_tell) {
            return;
        }
        // That it was started, perhaps in this very turn, comes first.
        self.tell_notes_now();
        let Some(process) = self.processes.get(number) else { return };
        let lines: Vec<&str> = process.tail.lines().collect();
        tracing::warn!(
            pool = process.run.config.spec.name,
            slot = process.id.slot,
            pid = process.pid,
            "its last {} of output:\n    {}",
            crate::supervisor::count(lines.len(), "line"),
            lines.join("\n    ")
        );
    }
}
