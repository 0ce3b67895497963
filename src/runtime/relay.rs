//! Owns what the master does with captured output as it comes, and with the last of it when a worker ends.

use std::time::Duration;

use super::master::Master;
use super::output::{self, Drained, Label, Leftover};
use super::processes::Process;
use super::token::Token;
use crate::os::epoll::Ready;
use crate::supervisor::{ExitStatus, count};

/// Longest time that the end of the master is held up for what workers have written.
const FAREWELL: Duration = Duration::from_millis(200);
/// Bytes that ended workers may have left and that are not shown yet.
const HELD: usize = 16 * 1024 * 1024;
/// Pipes that are read before the next look at the clock.
const AT_ONCE: usize = 4;

impl Master {
    /// Captured pipes that have something to read, and what ended workers have left: for so long as one turn of the loop may spend on it. Whatever
    /// workers write, exits, signals and orders wait no longer than that.
    pub(super) fn read_outputs(&mut self, ready: &mut Vec<Ready>) -> std::io::Result<()> {
        let until = Master::now() + output::TURN;
        loop {
            // A few at a time, so that those who are left out are the first in the next turn.
            self.outputs.wait_for(AT_ONCE, ready, Some(Duration::ZERO))?;
            for ready in ready.iter() {
                match Token::read(ready.token) {
                    Some(Token::Stdout(number)) => self.read_output(number, true),
                    Some(Token::Stderr(number)) => self.read_output(number, false),
                    _ => {}
                }
            }
            if ready.len() < AT_ONCE || Master::now() >= until {
                break;
            }
        }
        while let Some(leftover) = self.leftovers.front_mut() {
            if leftover.show(&mut self.relay) {
                self.leftovers.pop_front();
            }
            if Master::now() >= until {
                break;
            }
        }
        Ok(())
    }

    /// What ended workers have left, before the master ends, which waits for no more of it than this.
    pub(super) fn show_leftovers(&mut self) {
        let until = Master::now() + FAREWELL;
        while Master::now() < until {
            let Some(leftover) = self.leftovers.front_mut() else { return };
            if leftover.show(&mut self.relay) {
                self.leftovers.pop_front();
            }
        }
        let lost: usize = self.leftovers.drain(..).map(|leftover| leftover.lines_left()).sum();
        if lost > 0 {
            tracing::warn!("{} of output of workers that have ended are not shown: the master ends", count(lost, "line"));
        }
    }

    fn keep_leftover(&mut self, leftover: Leftover) {
        let held: usize = self.leftovers.iter().map(Leftover::size).sum();
        if held + leftover.size() <= HELD {
            return self.leftovers.push_back(leftover);
        }
        let (pool, slot, lost) = (leftover.pool(), leftover.slot(), count(leftover.lines_left(), "line"));
        tracing::warn!(pool, slot, "{lost} of its output are not shown: ended workers have left more than the log can take");
    }

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
        let mut left = Vec::new();
        for capture in [&mut process.stdout, &mut process.stderr].into_iter().flatten() {
            left.extend(capture.finish(&label, &mut process.tail, &mut self.relay, self.last_words_until));
        }
        left.into_iter().for_each(|leftover| self.keep_leftover(leftover));
    }

    /// The last lines of a worker that ended badly, together, for whoever reads the log afterwards.
    pub(super) fn tell_last_lines(&mut self, number: u64, status: ExitStatus) {
        let to_tell = |p: &Process| status != ExitStatus::Code(0) && !p.tail.is_empty() && !p.told_to_stop;
        if !self.processes.get(number).is_some_and(to_tell) {
            return;
        }
        // That it was started, perhaps in this very turn, comes first.
        self.publish_ahead();
        let Some(process) = self.processes.get(number) else { return };
        let lines: Vec<String> = process.tail.lines().collect();
        tracing::warn!(
            pool = process.run.config.spec.name,
            slot = process.id.slot,
            pid = process.pid,
            "its last {} of output:\n    {}",
            if lines.len() == 1 { "line".to_owned() } else { count(lines.len(), "line") },
            lines.join("\n    ")
        );
    }
}
