//! Owns the reaping of children: every one that has ended, with all that it said before handed over first; strangers are reaped too and
//! never mistaken for workers.

use std::rc::Rc;

use super::master::Master;
use super::processes::Process;
use crate::os::reap::{RawStatus, is_child, next_exited};
use crate::os::signals::group_exists;
use crate::supervisor::{Event, ExitStatus, KillMode};

pub(super) fn status_of(raw: RawStatus) -> ExitStatus {
    match raw {
        RawStatus::Exited(code) => ExitStatus::Code(code),
        RawStatus::Signaled { signal, core } => ExitStatus::Signal { signal, core },
    }
}

/// Reaps all that have ended. One SIGCHLD may stand for many.
pub(super) fn reap(master: &mut Master) {
    loop {
        match next_exited() {
            Ok(Some(dead)) => {
                let status = status_of(dead.status);
                match master.processes.number_of_pid(dead.pid) {
                    Some(number) => worker_ended(master, number, dead.pid, status),
                    None if master.stillborn.remove(&dead.pid) => {}
                    None if master.hook_ended(dead.pid, status) => {}
                    None if master.second_ended(dead.pid, status) => {}
                    None if master.check_ended(dead.pid, status) => {}
                    None if master.look_ended(dead.pid, status == ExitStatus::Code(0)) => {}
                    None => tracing::debug!(pid = dead.pid, "reaped a process that is no worker: {status}"),
                }
            }
            Ok(None) => break,
            Err(e) => {
                tracing::error!("cannot reap children: {e}; trying again with the next SIGCHLD");
                break;
            }
        }
    }
    // Orphans of a worker's group come to us, so the last of a group is always seen here.
    for (number, pgid) in master.processes.lingering() {
        if !group_exists(pgid) {
            group_gone(master, number);
        }
    }
}

fn worker_ended(master: &mut Master, number: u64, pid: i32, status: ExitStatus) {
    master.read_last_words(number);
    if master.stillborn.remove(&pid) {
        // Its last word was that it never came to run its program.
        return;
    }
    let Some(process) = master.processes.get_mut(number) else { return };
    let worker = process.id;
    let notify = process.notify.take();
    let run = Rc::clone(&process.run);
    let stragglers = process.run.config.spec.kill_mode != KillMode::Process && group_exists(pid);
    master.notify_sockets.retire(notify, &master.epoll);
    // There are servers that remove the file of their listener as they end, whoever has made it (php-fpm).
    let present = master.runs.get(&worker.pool).filter(|present| !Rc::ptr_eq(present, &run)).cloned();
    for socket in run.sockets.iter().chain(present.iter().flat_map(|present| &present.sockets)) {
        socket.restore_file();
    }
    master.tell_last_lines(number, status);
    master.keep_canary_words(number);
    if master.processes.get(number).is_some_and(|process| wanted_our_port(process, status)) {
        master.wanted_our_port.insert(worker);
    }
    master.processes.leader_gone(number, stragglers);
    master.feed(Event::Exited { worker, status, stragglers });
    if !stragglers {
        master.forget(number);
    }
}

/// It ended as it could not bind an address, while the master holds one for it.
fn wanted_our_port(process: &Process, status: ExitStatus) -> bool {
    const SAID: [&str; 2] = ["address already in use", "eaddrinuse"];
    let says = |line: String| SAID.iter().any(|words| line.to_ascii_lowercase().contains(words));
    status != ExitStatus::Code(0) && !process.run.sockets.is_empty() && process.tail.lines().any(says)
}

/// Workers that another program has reaped: that they have ended is known, how is not.
pub(super) fn notice_reaped(master: &mut Master) {
    let running = master.processes.all().filter(|process| !process.exited);
    let gone: Vec<(u64, i32)> = running.map(|process| (process.number, process.pid)).filter(|(_, pid)| !is_child(*pid)).collect();
    for (number, pid) in gone {
        worker_ended(master, number, pid, ExitStatus::Unknown);
    }
}

/// The last process of a worker's group is gone.
pub(super) fn group_gone(master: &mut Master, number: u64) {
    if let Some(worker) = master.processes.get_mut(number).map(|p| p.id) {
        master.finish_output(number);
        master.forget(number);
        master.feed(Event::GroupGone { worker });
    }
}

/// Reaps without the core, which is broken.
pub(super) fn reap_plainly(master: &mut Master) {
    while let Ok(Some(dead)) = next_exited() {
        if let Some(number) = master.processes.number_of_pid(dead.pid) {
            let _ = crate::os::signals::kill_group(dead.pid, libc::SIGKILL);
            master.processes.remove(number);
        }
    }
}
