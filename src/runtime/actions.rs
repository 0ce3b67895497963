//! Owns the carrying out of actions: each one a few system calls, its outcome a fact for the core. Expensive ones are rationed, so that
//! a burst never makes the loop deaf.

use std::os::fd::AsFd;
use std::rc::Rc;

use super::answers::lost_words_of;
use super::hooks::Gate;
use super::launch;
use super::master::Master;
use super::notify::NotifyHome;
use super::pools::PoolRun;
use super::processes::Process;
use super::reap::group_gone;
use super::staging::Wanted;
use super::token::Token;
use crate::os::accepting::is_accepting;
use crate::os::epoll::Interest;
use crate::os::notify::NotifySocket;
use crate::os::signals::{kill, kill_group};
use crate::os::spawn;
use crate::supervisor::{Action, Cause, Event, KILL, PoolId, Scope, SpawnError, SpawnFault, WorkerId};

/// Forks and looks in one turn; more of them wait for the next, after what has happened meanwhile.
const EXPENSIVE: u32 = 16;
/// Datagrams taken from a socket that nobody finds any more.
const LOST_DATAGRAMS: usize = 64;

impl Master {
    /// Does what the core asked for, up to one turn's ration.
    pub(super) fn act(&mut self) {
        let mut expensive = 0;
        while let Some(action) = self.actions.front() {
            if matches!(action, Action::Spawn { .. } | Action::Look { .. }) {
                if expensive == EXPENSIVE {
                    break;
                }
                expensive += 1;
            }
            match self.actions.pop_front() {
                Some(Action::Note(note)) => self.hear(note),
                Some(action) => self.carry_out(action),
                None => break,
            }
        }
        self.steer();
        self.publish();
        spawn::settle();
        if self.actions.is_empty() {
            self.processes.forget_departed();
        }
        // Not while a child has just started: it would wait for the processor. The news of its exec is a turn of its own.
        if self.actions.is_empty() && expensive == 0 {
            let runs = &self.runs;
            self.notify_sockets.tidy(|pool| runs.get(&pool).map(|run| run.notify_home()));
        }
        self.tell_progress();
        self.flush_clients();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn { worker, revision } => {
                if let Err(error) = self.spawn(worker, revision) {
                    self.facts.push_back(Event::SpawnFailed { worker, error });
                }
            }
            Action::Look { worker } => {
                if let Some(look) = self.processes.of(worker).and_then(|p| p.run.config.launch.look.clone()) {
                    return self.look_from_outside(worker, &look);
                }
                let wanted = |p: &Process| p.run.sockets.iter().map(|s| s.wanted(p.seat_of(s))).collect::<Vec<_>>();
                let seen = self.processes.of(worker).is_some_and(|p| !p.exited && is_accepting(p.pid, &wanted(p)));
                self.facts.push_back(Event::Looked { worker, accepting: seen });
            }
            Action::Release { worker } => self.release(worker),
            Action::Signal { worker, signal, scope, cause } => self.signal(worker, signal, scope, cause),
            Action::Quiesce => self.quiesce(),
            Action::ReadConfig { from, pools, restart } => {
                self.service.reload_begins(Master::now());
                self.restore_files();
                if self.log.has_lost_its_file() {
                    self.reopen_log();
                }
                self.read_config(Wanted { from, pools, restart });
            }
            Action::PreStart { pool, revision } => self.pre_start(pool, revision),
            Action::SecondMaster { sender } => self.start_second(sender),
            Action::Commit { revision, keep } => self.commit(revision, keep),
            Action::Discard { revision } => self.discard(revision),
            Action::ReopenLogs => {
                self.restore_files();
                self.reopen_log();
            }
            // Its name came back meanwhile, and what is here is for the new one.
            Action::PoolGone { pool } if self.is_back(pool) => {}
            Action::PoolGone { pool } => self.forget_pool(pool),
            Action::Reply { id, outcome } => self.reply(id, &outcome),
            Action::Note(note) => self.hear(note),
            Action::Exit { code, reason } => self.exit = Some((code, reason)),
        }
    }

    /// The core knows the pool, or will hear of it in the next turn.
    fn is_back(&self, pool: PoolId) -> bool {
        let staged = self.staged.values().any(|staged| staged.runs.contains_key(&pool));
        self.core.pool(pool).is_some() || staged || self.is_in_force(pool)
    }

    /// Says how it went where the lines go from now on, and keeps it for whoever has asked.
    fn reopen_log(&mut self) {
        let outcome = match self.log.reopen() {
            Ok(Some(path)) => Ok(format!("log file reopened: {}", path.display())),
            Ok(None) => Ok("no log file to reopen: the master logs to stderr".to_owned()),
            Err(e) => Err(e.to_string()),
        };
        match &outcome {
            Ok(words) => tracing::info!("{words}"),
            Err(words) => tracing::warn!("{words}"),
        }
        self.log_reopened = Some(outcome);
    }

    /// Makes anew what others have removed: the next moment in which it would be missed may be the one in which it is needed.
    fn restore_files(&mut self) {
        let (words, lost) = self.files.restore(self.config.socket_mode);
        self.files.let_look(!self.socket_uids.is_empty());
        if let Some(lost) = lost {
            let _ = self.epoll.remove(lost.as_fd());
            if let Err(e) = self.epoll.add(self.files.control.as_fd(), Token::Control.into(), Interest::Read) {
                tracing::error!("cannot watch the control socket: {e}");
            }
        }
        for told in words {
            tracing::warn!("{told}");
        }
        for socket in self.open_sockets() {
            socket.restore_file();
        }
        for told in self.open_sockets().iter().filter_map(|socket| lost_words_of(socket)) {
            tracing::warn!("{told}");
        }
        for run in self.runs.values().cloned().collect::<Vec<_>>() {
            self.keep_pool_dirs(&run);
        }
    }

    /// Gives the directory of a pool, and what is in it, to the user of these workers.
    pub(super) fn give_pool(&mut self, run: &PoolRun) {
        self.keep_pool_dirs(run);
        let (name, uid) = (&run.config.spec.name, run.workers.uid().unwrap_or(self.uid));
        if let Err(e) = self.files.give_pool_dirs(name, uid, run.config.identity.chroot.as_deref()) {
            tracing::warn!(pool = name, "cannot give its directory to its user: {e}");
        }
        if let Err(e) = self.open_acks(run.config.spec.id, run).and_then(|()| self.give_acks(run)) {
            tracing::warn!(pool = name, "cannot give the socket for acknowledgements to its user: {e}");
        }
    }

    /// The directories of a pool are made anew where they are gone.
    fn keep_pool_dirs(&mut self, run: &PoolRun) {
        let (uid, chroot) = (run.workers.uid().unwrap_or(self.uid), run.config.identity.chroot.as_deref());
        if self.files.has_pool_dirs(&run.config.spec.name)
            || self.files.give_pool_dirs(&run.config.spec.name, uid, chroot).is_err()
        {
            return;
        }
        // Workers that run report to a path: whatever they say from now on is to be heard, their heartbeats first of all.
        let pool = run.config.spec.id;
        let numbers: Vec<u64> = self.processes.all().filter(|p| p.id.pool == pool && !p.exited).map(|p| p.number).collect();
        for number in numbers {
            // What was said before.
            self.read_notify(number, LOST_DATAGRAMS);
            let Some(process) = self.processes.get_mut(number) else { continue };
            let Some(lost) = process.notify.as_ref().filter(|socket| !socket.is_there()) else { continue };
            let Ok(socket) = NotifySocket::bind(lost.path(), 0o600, process.run.workers.uid()) else { continue };
            if self.epoll.add(socket.as_fd(), Token::Notify(number).into(), Interest::Read).is_ok() {
                let _ = self.epoll.remove(lost.as_fd());
                process.notify = Some(socket);
            }
        }
    }

    fn spawn(&mut self, worker: WorkerId, revision: u32) -> Result<(), SpawnError> {
        let held = self.preparing.run_of(worker);
        let prepares = held.is_some();
        let run = held.or_else(|| self.run_under(worker.pool, revision)).cloned().ok_or_else(|| SpawnError {
            fault: SpawnFault::Setup,
            errno: 0,
            message: format!("config {revision} has no such pool any more"),
        })?;
        if let Gate::Held = self.gate_of_start(worker, revision, &run) {
            return Ok(());
        }
        if prepares || run.config.spec.prepares {
            // Before whatever the worker itself gives to hear.
            self.feed(Event::Prepared { worker });
        }
        // One that was held back may be of a config that was: what is in force, or tried, has the directory.
        let tried = self.staged.get(&revision).and_then(|staged| staged.runs.get(&worker.pool));
        if [self.runs.get(&worker.pool), tried].into_iter().flatten().any(|present| Rc::ptr_eq(present, &run)) {
            self.give_pool(&run);
        } else {
            self.keep_pool_dirs(&run);
        }
        let mut notify = if run.config.launch.protocols.systemd { Some(self.notify_socket(worker.pool, &run)?) } else { None };
        let launched =
            launch::launch(worker, &run, &self.common, &mut notify, &self.fdstore.of(worker.pool, worker.slot), |socket| {
                self.processes.seats_at(socket)
            });
        if let Some(unused) = notify {
            // At once, and not kept for the next one: a descriptor numbered close to the limit would keep that from starting too.
            let _ = unused.unlink();
        }
        let process = launched?;
        let number = self.processes.next_number();
        let watch = [
            process.exec.as_ref().map(|fd| (fd.as_fd(), Token::Exec(number))),
            process.notify.as_ref().map(|fd| (fd.as_fd(), Token::Notify(number))),
            process.ready.as_ref().map(|fd| (fd.as_fd(), Token::Ready(number))),
        ];
        let outputs = [
            process.stdout.as_ref().map(|c| (c.fd.as_fd(), Token::Stdout(number))),
            process.stderr.as_ref().map(|c| (c.fd.as_fd(), Token::Stderr(number))),
        ];
        let watched = watch.into_iter().flatten().try_for_each(|(fd, token)| self.epoll.add(fd, token.into(), Interest::Read));
        let watched = watched.and_then(|()| {
            outputs.into_iter().flatten().try_for_each(|(fd, token)| self.outputs.add(fd, token.into(), Interest::Read))
        });
        if let Err(e) = watched {
            // Without its pipes the worker cannot be followed: end it, and tell of it as a fork that failed.
            let _ = kill(process.pid, libc::SIGKILL);
            self.stillborn.insert(process.pid);
            self.let_go(process);
            let message = format!("cannot watch the new worker: {e}");
            return Err(SpawnError { fault: SpawnFault::Resources, errno: e.raw_os_error().unwrap_or(0), message });
        }
        self.processes.insert(process);
        Ok(())
    }

    /// A notify socket for a worker. Where memory is full, there is the disk.
    fn notify_socket(&mut self, pool: PoolId, run: &PoolRun) -> Result<NotifySocket, SpawnError> {
        let first = match self.notify_sockets.take(pool, run.notify_home()) {
            Ok(socket) => return Ok(socket),
            Err(e) => e,
        };
        let (name, owner, chroot) = (&run.config.spec.name, run.workers.uid(), run.config.identity.chroot.as_deref());
        if chroot.is_none()
            && let Ok(dir) = self.files.spare_dir(name, &first)
            && let Ok(socket) = self.notify_sockets.bind(NotifyHome { dir: &dir, owner })
        {
            return Ok(socket);
        }
        Err(launch::lack(&format!("bind a notify socket in {}", run.notify_dir.display()), &first))
    }

    /// A process that is already gone is no error: its exit is on the way.
    fn signal(&mut self, worker: WorkerId, signal: i32, scope: Scope, cause: Cause) {
        if self.is_held_start(worker) {
            let told = if cause.stops() {
                self.cancel_start(worker);
                Event::Signalled { worker, signal }
            } else {
                Event::SignalFailed { worker, signal, errno: libc::ESRCH }
            };
            return self.facts.push_back(told);
        }
        if cause.stops() {
            self.cut_release(worker, cause);
            if let Some(process) = self.processes.number_of(worker).and_then(|n| self.processes.get_mut(n)) {
                process.told_to_stop = true;
            }
        }
        let Some((pid, exited)) = self.processes.of(worker).map(|p| (p.pid, p.exited)) else {
            return self.facts.push_back(Event::Signalled { worker, signal });
        };
        let gone = |r: &std::io::Result<()>| r.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::ESRCH));
        let sent = match scope {
            Scope::Group => {
                let sent = kill_group(pid, signal);
                // Between its fork and its setsid a child is not yet the leader of a group.
                if gone(&sent) && !exited { kill(pid, signal) } else { sent }
            }
            Scope::Leader if exited => Ok(()),
            Scope::Leader => kill(pid, signal),
        };
        if sent.is_ok() && signal != KILL && cause.stops() {
            // One that was stopped (SIGSTOP, ^Z) would hear of it when it is too late.
            let _ = match scope {
                Scope::Group => kill_group(pid, libc::SIGCONT),
                Scope::Leader => kill(pid, libc::SIGCONT),
            };
        }
        match &sent {
            Err(e) if !gone(&sent) => {
                self.facts.push_back(Event::SignalFailed { worker, signal, errno: e.raw_os_error().unwrap_or(0) });
            }
            _ => self.facts.push_back(Event::Signalled { worker, signal }),
        }
        if exited
            && gone(&sent)
            && let Some(number) = self.processes.number_of(worker)
        {
            group_gone(self, number);
        }
    }

    /// Forgets a process: its descriptors close, its notify socket goes.
    pub(super) fn forget(&mut self, number: u64) {
        if let Some(process) = self.processes.remove(number) {
            self.let_go(process);
        }
    }

    fn let_go(&mut self, process: Process) {
        self.end_looks_at(process.id);
        self.forget_release(process.id);
        if let Some(exec) = &process.exec {
            // Dropped, it stays open until the child has left our memory, and would wake the loop for nothing at its end.
            let _ = self.epoll.remove(exec);
        }
        self.notify_sockets.retire(process.notify, &self.epoll);
    }
}
