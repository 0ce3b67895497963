//! Owns the change of what running processes may use: limits, priority, CPUs, how readily they are killed when memory is out. A change
//! reaches all processes of a group and all of their threads, those too that come while it is being made. Refuses to decide what they get.
//!
//! A process that has left its leader's group (a daemon) is nobody's here. What a process is given, its children have from their birth: only
//! those of a parent that was not reached yet come without it, and so whole passes over /proc are made until one finds nobody new.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::errno::check;
use super::process::{exists, limit};
use super::procfs;
use super::spawn::Resource;

/// Passes over the processes of the host, or over the threads of one, before it is left at that: those that go on making new ones out of
/// old ones that have escaped so often do not exist.
const PASSES: usize = 10;
/// Passes that find nobody new, until it is believed: one that is being made at that moment is seen by none yet.
const QUIET: u32 = 2;

/// Words of the kernel's CPU mask: room for 8,192 CPUs, the most a kernel is built for.
const CPU_WORDS: usize = 128;

/// CPUs that a thread may run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(Vec<u64>);

impl Cpus {
    /// These, by their numbers; those beyond the kernel's most are left out.
    pub fn of(numbers: &[u32]) -> Cpus {
        let mut mask = vec![0; CPU_WORDS];
        for cpu in numbers {
            if let Some(word) = mask.get_mut(*cpu as usize / 64) {
                *word |= 1 << (cpu % 64);
            }
        }
        Cpus(mask)
    }

    /// Those of the calling thread.
    pub fn own() -> io::Result<Cpus> {
        let mut mask = vec![0_u64; CPU_WORDS];
        let bytes = size_of_val(mask.as_slice());
        // SAFETY: the mask is valid for writing for its whole size. The raw call, as libc's takes 1,024 CPUs only.
        check(unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, bytes, mask.as_mut_ptr()) })?;
        Ok(Cpus(mask))
    }

    /// As the kernel has them: CPU 0 is the lowest bit of the first word.
    pub(crate) fn into_words(self) -> Vec<u64> {
        self.0
    }

    fn give_to(&self, thread: i32) -> io::Result<()> {
        let bytes = size_of_val(self.0.as_slice());
        // SAFETY: the mask is valid for reading for its whole size.
        check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, thread, bytes, self.0.as_ptr()) }).map(drop)
    }
}

/// What is to be another way. What is `None` or empty stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Scheduling priority, -20 to 19.
    pub nice: Option<i32>,
    /// How readily the kernel kills it when memory is out, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// CPUs that it may run on.
    pub cpus: Option<Cpus>,
    /// Resource limits: soft and hard, [`super::spawn::UNLIMITED`] for none.
    pub limits: Vec<(Resource, u64, u64)>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Scheduling priority.
    Nice,
    /// How readily the kernel kills it.
    OomScore,
    /// CPUs.
    Cpus,
    /// A resource limit.
    Limit(Resource),
}

/// What could not be changed.
#[derive(Debug)]
pub struct Failure {
    /// Whose group.
    pub leader: i32,
    /// Of which process of it.
    pub pid: i32,
    /// What.
    pub attribute: Attribute,
    /// Why.
    pub cause: io::Error,
}

/// The priority that a child of ours gets.
pub fn own_nice() -> i32 {
    // SAFETY: takes plain numbers. The raw call, which gives 20 less the priority: libc's has a priority for its error.
    let raw = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    i32::try_from(20 - raw).unwrap_or(0)
}

/// The score that a child of ours gets.
pub fn own_oom_score_adj() -> i32 {
    procfs::read("/proc/self/oom_score_adj").and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// The limit that a child of ours gets: soft and hard.
pub fn own_limit(resource: Resource) -> (u64, u64) {
    limit(resource.kernels())
}

/// Makes the changes, each in the group of its leader: a child of ours that runs its program (before, it may share our memory, and its score
/// would be ours) and is not reaped (else its number may be another's). Who is gone meanwhile needs no change. Gives what failed: of each
/// attribute and group the first.
pub fn apply(changes: &BTreeMap<i32, Change>) -> Vec<Failure> {
    let mut failures = Failures::default();
    if changes.is_empty() {
        return failures.0;
    }
    let (mut seen, mut quiet) = (BTreeSet::new(), 0);
    for _ in 0..PASSES {
        let mut new: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        // Each time: a thread that was being made while the others were changed has the old one.
        for (leader, change) in changes {
            failures.note(*leader, *leader, Attribute::Nice, change.nice.map_or(Ok(()), |nice| renice(*leader, nice)));
        }
        // The leaders first, who are there without a /proc, too.
        for pid in changes.keys().copied().chain(procfs::numbers("/proc")) {
            if let Some(leader) = group_of(pid).filter(|group| changes.contains_key(group) && seen.insert(pid)) {
                new.entry(leader).or_default().push(pid);
            }
        }
        quiet = if new.is_empty() { quiet + 1 } else { 0 };
        if quiet == QUIET {
            break;
        }
        for (leader, members) in new {
            if let Some(change) = changes.get(&leader) {
                members.into_iter().for_each(|pid| failures.of_process(leader, pid, change));
            }
        }
    }
    failures.0
}

#[derive(Default)]
struct Failures(Vec<Failure>);

impl Failures {
    /// All but the priority, which a whole group is given at once.
    fn of_process(&mut self, leader: i32, pid: i32, change: &Change) {
        for (resource, soft, hard) in &change.limits {
            self.note(leader, pid, Attribute::Limit(*resource), set_limit(pid, *resource, *soft, *hard));
        }
        if let Some(score) = change.oom_score_adj {
            self.note(leader, pid, Attribute::OomScore, set_oom_score(pid, score));
        }
        if let Some(cpus) = &change.cpus {
            self.note(leader, pid, Attribute::Cpus, bind(pid, cpus));
        }
    }

    fn note(&mut self, leader: i32, pid: i32, attribute: Attribute, outcome: io::Result<()>) {
        let Err(cause) = outcome else { return };
        let gone = match cause.raw_os_error() {
            Some(libc::ESRCH) => true,
            // Of a file below /proc.
            Some(libc::ENOENT) => !exists(pid),
            _ => false,
        };
        if !gone && !self.0.iter().any(|known| known.leader == leader && known.attribute == attribute) {
            self.0.push(Failure { leader, pid, attribute, cause });
        }
    }
}

/// The group that a process is in; `None` when it is gone.
fn group_of(pid: i32) -> Option<i32> {
    // SAFETY: takes a plain number.
    check(unsafe { libc::getpgid(pid) }).ok()
}

/// All processes of the group, and all threads of each: the kernel walks them.
fn renice(group: i32, nice: i32) -> io::Result<()> {
    // SAFETY: takes plain numbers. The raw call takes them in the same order.
    check(unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PGRP, group, nice) }).map(drop)
}

fn set_limit(pid: i32, resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let wanted = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `wanted` is valid for reading, and nothing is asked back.
    check(unsafe { libc::prlimit64(pid, resource.kernels(), &wanted, std::ptr::null_mut()) }).map(drop)
}

fn set_oom_score(pid: i32, score: i32) -> io::Result<()> {
    // One write: the kernel takes the whole number at once.
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
}

/// Each thread by itself: the kernel has no call for all.
fn bind(pid: i32, cpus: &Cpus) -> io::Result<()> {
    let (mut seen, mut quiet) = (BTreeSet::new(), 0);
    let mut outcome = Ok(());
    for _ in 0..PASSES {
        let mut new = false;
        // The first thread has the number of the process, and is there without a /proc, too.
        for thread in std::iter::once(pid).chain(procfs::numbers(&format!("/proc/{pid}/task"))) {
            if seen.insert(thread) {
                new = true;
                match cpus.give_to(thread) {
                    Err(e) if e.raw_os_error() != Some(libc::ESRCH) && outcome.is_ok() => outcome = Err(e),
                    _ => {}
                }
            }
        }
        quiet = if new { 0 } else { quiet + 1 };
        if quiet == QUIET {
            break;
        }
    }
    outcome
}
