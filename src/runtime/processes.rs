//! Owns the table of worker processes: ids to pids and back, and the descriptors that belong to each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::attributes::Postponed;
use super::output::Capture;
use super::pools::PoolRun;
use super::sockets::{FIRST, Socket};
use crate::os::notify::NotifySocket;
use crate::os::spawn::ExecPipe;
use crate::supervisor::{PoolId, WorkerId};
use crate::telemetry::Tail;

/// Lines of output kept for the report of a worker's end.
const TAIL_LINES: usize = 20;

/// One worker process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: WorkerId,
    /// Its own, for its tokens.
    pub(super) number: u64,
    pub(super) pid: i32,
    pub(super) run: Rc<PoolRun>,
    /// Open until exec is known to have succeeded or failed.
    pub(super) exec: Option<ExecPipe>,
    /// What changed for it since it was started, until it runs its program.
    pub(super) postponed: Option<Postponed>,
    pub(super) notify: Option<NotifySocket>,
    /// The pipe on which it says that it is ready, until it did.
    pub(super) ready: Option<OwnedFd>,
    pub(super) stdout: Option<Capture>,
    pub(super) stderr: Option<Capture>,
    pub(super) tail: Tail,
    /// Which member of each of its listeners with one for each slot it has.
    pub(super) seats: Vec<(Rc<Socket>, u32)>,
    /// The leader was reaped; others of its group may be there.
    pub(super) exited: bool,
    /// The core has had it signalled to stop: its end is no news.
    pub(super) told_to_stop: bool,
}

/// All of them. Each has a number of its own, never used twice, which its epoll tokens carry.
#[derive(Debug, Default)]
pub(super) struct Processes {
    by_number: BTreeMap<u64, Process>,
    by_id: BTreeMap<WorkerId, u64>,
    by_pid: HashMap<i32, u64>,
    /// Pids of those that were forgotten while actions about them may still wait, and what they were started from: what is said of their end names
    /// them, and the hook of their end is theirs.
    departed: BTreeMap<WorkerId, (i32, Rc<PoolRun>)>,
    /// Groups whose leader is gone.
    lingering: BTreeSet<u64>,
    next: u64,
}

impl Process {
    pub(super) fn new(id: WorkerId, pid: i32, run: Rc<PoolRun>) -> Process {
        Process {
            id,
            number: 0,
            pid,
            run,
            exec: None,
            postponed: None,
            notify: None,
            ready: None,
            stdout: None,
            stderr: None,
            tail: Tail::new(TAIL_LINES),
            seats: Vec::new(),
            exited: false,
            told_to_stop: false,
        }
    }
}

impl Process {
    /// The member of this listener that it has. One that was started before there were several has the first.
    pub(super) fn seat_of(&self, socket: &Rc<Socket>) -> Option<u32> {
        let own = self.seats.iter().find(|(other, _)| Rc::ptr_eq(other, socket)).map(|(_, member)| *member);
        let has = || socket.slots().is_some() && self.run.sockets.iter().any(|other| Rc::ptr_eq(other, socket));
        own.or_else(|| has().then_some(FIRST))
    }

    /// The listeners of which it has a member, and which one that is.
    pub(super) fn seats(&self) -> impl Iterator<Item = (&Rc<Socket>, u32)> {
        self.run.sockets.iter().filter_map(|socket| Some((socket, self.seat_of(socket)?)))
    }
}

impl Processes {
    /// Members of a listener that living workers have.
    pub(super) fn seats_at(&self, socket: &Rc<Socket>) -> BTreeSet<u32> {
        self.by_number.values().filter(|process| !process.exited).filter_map(|process| process.seat_of(socket)).collect()
    }

    /// The number that the next process will get, for its tokens.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    pub(super) fn insert(&mut self, mut process: Process) {
        let number = self.next;
        process.number = number;
        self.next += 1;
        self.by_id.insert(process.id, number);
        self.by_pid.insert(process.pid, number);
        self.by_number.insert(number, process);
    }

    pub(super) fn get(&self, number: u64) -> Option<&Process> {
        self.by_number.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Process> {
        self.by_number.get_mut(&number)
    }

    pub(super) fn number_of(&self, id: WorkerId) -> Option<u64> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn number_of_pid(&self, pid: i32) -> Option<u64> {
        self.by_pid.get(&pid).copied()
    }

    pub(super) fn of(&self, id: WorkerId) -> Option<&Process> {
        self.by_number.get(self.by_id.get(&id)?)
    }

    /// Its pid, also for a little while after its end.
    pub(super) fn pid_of(&self, id: WorkerId) -> Option<i32> {
        self.of(id).map(|p| p.pid).or_else(|| self.departed.get(&id).map(|(pid, _)| *pid))
    }

    /// What it was started from, also for a little while after its end.
    pub(super) fn run_of(&self, id: WorkerId) -> Option<&Rc<PoolRun>> {
        self.of(id).map(|p| &p.run).or_else(|| self.departed.get(&id).map(|(_, run)| run))
    }

    /// Nothing is left to be said of those that are gone.
    pub(super) fn forget_departed(&mut self) {
        self.departed.clear();
    }

    /// The leader was reaped: its pid may be anybody's from now on. `group`: the group still holds the number.
    pub(super) fn leader_gone(&mut self, number: u64, group: bool) {
        let Some(process) = self.by_number.get_mut(&number) else { return };
        self.by_pid.remove(&process.pid);
        process.exited = true;
        if group {
            self.lingering.insert(number);
        }
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Process> {
        let process = self.by_number.remove(&number)?;
        self.by_id.remove(&process.id);
        self.departed.insert(process.id, (process.pid, Rc::clone(&process.run)));
        if self.by_pid.get(&process.pid) == Some(&number) {
            self.by_pid.remove(&process.pid);
        }
        self.lingering.remove(&number);
        Some(process)
    }

    /// Workers that were started from the first run of a pair are from now on by the second, which differs in nothing that they were started with.
    pub(super) fn take_over(&mut self, runs: &[(PoolId, Rc<PoolRun>, Rc<PoolRun>)]) {
        let new: BTreeMap<*const PoolRun, &Rc<PoolRun>> = runs.iter().map(|(_, before, now)| (Rc::as_ptr(before), now)).collect();
        for process in self.by_number.values_mut() {
            let Some(now) = new.get(&Rc::as_ptr(&process.run)) else { continue };
            process.run = Rc::clone(now);
            for capture in [&mut process.stdout, &mut process.stderr].into_iter().flatten() {
                capture.set_max_line(now.config.launch.max_line);
            }
        }
    }

    /// Processes whose leader is gone while others of the group are there.
    pub(super) fn lingering(&self) -> Vec<(u64, i32)> {
        self.lingering.iter().filter_map(|n| Some((*n, self.by_number.get(n)?.pid))).collect()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.by_number.values_mut()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Process> {
        self.by_number.values()
    }
}
