//! Owns one turn of the loop and its order: notify datagrams before exits, exits before signals, signals before clients, and bounded
//! work for each descriptor.

use std::time::Duration;

use super::master::Master;
use super::output::LAST_WORDS;
use super::reap;
use super::signals::{HUP, Heard, TERM, WINCH};
use super::throttle::Repeated;
use super::token::Token;
use super::upgrade::Upgrade;
use crate::os::clock;
use crate::os::epoll::Ready;
use crate::os::io as fdio;
use crate::os::spawn::ExecState;
use crate::supervisor::{Event, Notification, Sender, Time};
use crate::telemetry::systemd;

/// Datagrams taken from one worker in one turn.
const DATAGRAMS: usize = 32;
/// Longest time given to all datagrams in one turn: a flood of them delays signals and orders by no more. Who got nothing is first in the next.
const NOTIFIES: Duration = Duration::from_millis(2);
/// Datagrams taken from a worker that has ended: all that its socket can hold.
const LAST_DATAGRAMS: usize = 4096;
/// Signals read in one go. A full read is where a full kernel queue can be noticed.
const SIGNALS: usize = 128;
/// Woken this much later than the deadline: the host was suspended or overloaded, or the master stopped. Workers' heartbeats may be late for
/// the same reason, by as much.
const LATE: Duration = Duration::from_millis(50);

/// Reused from turn to turn.
#[derive(Default)]
pub(super) struct Scratch {
    ready: Vec<Ready>,
    /// Workers that have said something.
    notifies: Vec<u64>,
    signals: Vec<crate::os::signals::SignalInfo>,
}

impl Master {
    /// Waits for something to happen, hands it to the core in order, does what the core asks for.
    pub(super) fn turn(&mut self, scratch: &mut Scratch) -> std::io::Result<()> {
        let deadline = self.core.next_deadline();
        let busy = !self.actions.is_empty() || !self.facts.is_empty() || !self.leftovers.is_empty();
        let timeout = if busy { Some(Duration::ZERO) } else { self.next_wake(deadline).map(|at| at - Master::now()) };
        scratch.ready.clear();
        scratch.notifies.clear();
        self.epoll.wait(&mut scratch.ready, timeout)?;
        self.note_lateness(deadline, busy);

        let (mut signals, mut clients, mut accept, mut outputs) = (false, Vec::new(), false, false);
        for ready in &scratch.ready {
            match Token::read(ready.token) {
                Some(Token::Exec(number)) => self.read_exec(number),
                Some(Token::Notify(number)) => scratch.notifies.push(number),
                Some(Token::Outputs) => outputs = true,
                Some(Token::Config) => self.take_config(),
                Some(Token::First) => self.promote(),
                Some(Token::Upgrade) => self.read_check(),
                // They are in a set of their own.
                Some(Token::Stdout(_) | Token::Stderr(_)) => {}
                Some(Token::Ready(number)) => self.read_ready(number),
                Some(Token::Look(number)) => self.continue_look(number),
                Some(Token::Acks(number)) => self.accept_acks(number),
                Some(Token::Ack(number)) => self.read_ack(number),
                Some(Token::Stored(number)) => self.stored_is_dead(number),
                Some(Token::Hook(number)) => self.read_hook(number),
                Some(Token::Signals) => signals = true,
                Some(Token::Control) => accept = true,
                Some(Token::Client(number)) => {
                    clients.push((number, ready.readable || ready.hangup || ready.error, ready.writable))
                }
                None => {}
            }
        }
        self.read_notifies(&mut scratch.notifies);
        self.last_words_until = Master::now() + LAST_WORDS;
        if signals {
            self.read_signals(scratch);
        }
        for (number, readable, writable) in clients {
            self.serve_client(number, readable, writable);
        }
        if accept {
            self.accept_clients();
        }
        self.hear_again();
        self.tell_repeated(Master::now());
        self.expire_looks();
        self.expire_hooks();
        self.look_at_queues();
        self.look_at_drains();
        self.service.beat(Master::now());
        self.second_due();
        self.feed_facts();
        if self.core.next_deadline().is_some_and(|at| at <= Master::now()) {
            self.feed(Event::Tick);
        }
        self.hurry_hooks();
        self.act();
        if outputs || !self.leftovers.is_empty() {
            self.read_outputs(&mut scratch.ready)?;
        }
        if let Some(trace) = &mut self.trace {
            trace.flush();
        }
        self.upgrade_due();
        Ok(())
    }

    /// When the loop has something to do of itself.
    fn next_wake(&self, core: Option<Time>) -> Option<Time> {
        [
            core,
            self.looks.next_deadline(),
            self.lingering.next_deadline(),
            self.steering.next_deadline(),
            self.hooks.next_deadline(),
            self.service.next_deadline(),
            self.throttle.next_deadline(),
            self.second.next_deadline(),
            self.upgrade.as_ref().and_then(Upgrade::next_deadline),
            self.clients.deaf_until,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn note_lateness(&mut self, deadline: Option<Time>, busy: bool) {
        let Some(at) = deadline.filter(|_| !busy) else { return };
        let late = Master::now() - at;
        if late > LATE {
            self.feed(Event::Late { by: late });
        }
    }

    /// What became of a fork.
    pub(super) fn read_exec(&mut self, number: u64) {
        let Some(process) = self.processes.get_mut(number) else { return };
        let Some(pipe) = &process.exec else { return };
        let worker = process.id;
        match pipe.poll() {
            ExecState::Pending => {}
            ExecState::Running => {
                process.exec = None;
                self.apply_postponed(number);
                self.feed(Event::Spawned { worker });
            }
            ExecState::Failed(failure) => {
                let error = super::launch::explain(failure, &process.run);
                let pid = process.pid;
                self.forget(number);
                self.stillborn.insert(pid);
                self.feed(Event::SpawnFailed { worker, error });
            }
        }
    }

    /// A line on the descriptor for it means "ready"; its end without one means nothing.
    fn read_ready(&mut self, number: u64) {
        self.read_exec(number);
        let Some(process) = self.processes.get_mut(number) else { return };
        let Some(pipe) = &process.ready else { return };
        let worker = process.id;
        let mut buffer = [0u8; 256];
        let (line, ended) = match fdio::read(pipe, &mut buffer) {
            Ok(0) => (false, true),
            Ok(n) => (buffer.iter().take(n).any(|b| *b == b'\n'), false),
            Err(e) => (false, e.kind() != std::io::ErrorKind::WouldBlock),
        };
        if (line || ended)
            && let Some(pipe) = process.ready.take()
        {
            let _ = self.epoll.remove(&pipe);
        }
        if line {
            self.feed(Event::Notified { worker, message: Notification::Ready });
        } else if ended {
            let pool = self.name_of(worker.pool);
            tracing::warn!(
                pool,
                slot = worker.slot,
                "the worker closed its readiness descriptor without a line: it is not ready"
            );
        }
    }

    /// What workers say, each in its turn.
    fn read_notifies(&mut self, ready: &mut [u64]) {
        if ready.is_empty() {
            return;
        }
        let until = Master::now() + NOTIFIES;
        ready.sort_unstable();
        let first = ready.partition_point(|number| *number <= self.notified_last);
        ready.rotate_left(first);
        for number in ready.iter().copied() {
            self.read_notify(number, DATAGRAMS);
            self.notified_last = number;
            if Master::now() >= until {
                return;
            }
        }
    }

    /// What a worker says. Its exec result comes first, so that the core sees started before ready.
    pub(super) fn read_notify(&mut self, number: u64, most: usize) {
        self.read_exec(number);
        let (mut buffer, mut fds) = ([0u8; 4096], Vec::new());
        for _ in 0..most {
            let Some(process) = self.processes.get_mut(number) else { return };
            let Some(socket) = &process.notify else { return };
            let (worker, uid) = (process.id, process.run.workers.uid().unwrap_or(self.uid));
            let datagram = match socket.recv_with(&mut buffer, &mut fds) {
                Ok(Some(datagram)) => datagram,
                Ok(None) | Err(_) => return,
            };
            // A datagram of a stranger's, or one that was cut, says nothing.
            if datagram.truncated || (datagram.uid != uid && datagram.uid != 0) {
                if self.tells(Repeated::Datagram) {
                    let (pool, slot, uid) = (self.name_of(worker.pool), worker.slot, datagram.uid);
                    tracing::debug!(pool, slot, uid, "dropped a notify datagram: of another user, or too long");
                }
                continue;
            }
            let text = buffer.get(..datagram.len).unwrap_or_default();
            // Some say of themselves what is known (php-fpm).
            let own = Notification::MainPid(process.pid);
            for message in systemd::parse(text).into_iter().filter(|message| *message != own) {
                self.feed(Event::Notified { worker, message });
            }
            if let Some(order) = systemd::store_order(text) {
                self.store(worker, order, std::mem::take(&mut fds));
            }
            // Closed with the next message, or here: that of BARRIER=1 after all that was said before it, as it asks for.
            fds.clear();
        }
    }

    /// Everything that a worker said before it ended.
    pub(super) fn read_last_words(&mut self, number: u64) {
        self.read_exec(number);
        self.read_notify(number, LAST_DATAGRAMS);
        self.read_ready(number);
        self.finish_output(number);
    }

    fn read_signals(&mut self, scratch: &mut Scratch) {
        let mut heard = Heard::default();
        loop {
            scratch.signals.clear();
            let drained = match self.signal_fd.read(&mut scratch.signals, SIGNALS) {
                Ok(drained) => drained,
                Err(e) => {
                    tracing::error!("cannot read signals: {e}; trying again with the next one");
                    break;
                }
            };
            if !drained {
                self.watch_signal_queue();
            }
            for info in &scratch.signals {
                self.sabotage.on_signal(info.signo);
                if info.signo == WINCH && self.has_terminal {
                    tracing::debug!("SIGWINCH ignored: the master has a controlling terminal");
                    continue;
                }
                let mut signal = info.signo;
                if signal == HUP && info.from_kernel() && self.has_terminal {
                    if self.common.reset_signals.contains(&HUP) {
                        tracing::info!("the terminal is gone: going on without it, as nohup asks for");
                        continue;
                    }
                    tracing::warn!("the terminal is gone: stopping gracefully (start the master by nohup or setsid to keep it)");
                    signal = TERM;
                }
                heard.add(
                    signal,
                    Sender { pid: if info.pid == 0 && !info.from_kernel() { Sender::OUTSIDE } else { info.pid }, uid: info.uid },
                    &self.signal_map,
                );
            }
            if drained {
                break;
            }
        }
        if heard.child {
            reap::reap(self);
        }
        let (events, unknown) = heard.finish();
        for (signal, sender) in unknown {
            if signal == libc::SIGCONT || !self.tells(Repeated::Signal(signal)) {
                continue;
            }
            tracing::info!(
                "{} from {sender}: ignored, it has no meaning here (see poolmaster signals)",
                crate::supervisor::signal_name(signal)
            );
        }
        for event in events {
            self.feed(event);
        }
    }

    /// Beyond RLIMIT_SIGPENDING the kernel merges signals and tells nobody: the only trace is the full queue itself.
    fn watch_signal_queue(&self) {
        if let Some((used, limit)) = crate::os::signals::pending_queue()
            && used + SIGNALS as u64 >= limit
        {
            tracing::warn!(
                "the kernel's queue of pending signals is full ({used} of {limit}): scale signals may have been merged; \
                 raise the limit of pending signals (ulimit -i) or use `poolmaster scale`"
            );
        }
    }

    /// The wall clock is for logs only; decisions use the monotonic one.
    pub(super) fn uptime(&self) -> Duration {
        Time(clock::now()) - self.started
    }
}
