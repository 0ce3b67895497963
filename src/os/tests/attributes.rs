//! Attributes of running processes: a worker of several threads, with a child of its own in its group.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Barrier;

use super::support::{Killed, c, ended, outcome, plan};
use crate::os::attributes::{Attribute, Change, Cpus, Failure, apply, own_limit, own_nice, own_oom_score_adj};
use crate::os::io::pipe_cloexec;
use crate::os::spawn::{Resource, Source, UNLIMITED, spawn};
use crate::os::{process, procfs, signals};

/// What the worker below shall do, so that nobody else runs it.
const DUTY: &str = "POOLMASTER_TEST_WORKER";
const MANY: usize = 200;

#[test]
#[ignore = "the worker of these tests"]
#[allow(clippy::zombie_processes, reason = "it is killed with all of its group")]
fn worker() {
    let Ok(duty) = std::env::var(DUTY) else { return };
    let threads = if duty == "grow" { MANY } else { 3 };
    let born = Barrier::new(threads + 1);
    let sleeper = |script: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).spawn().unwrap()
    };
    std::thread::scope(|scope| {
        println!("begun");
        for n in 0..threads {
            scope.spawn(|| {
                born.wait();
                std::thread::park();
            });
            if n % 20 == 0 {
                sleeper("sleep 1000 & wait");
            }
        }
        born.wait();
        println!("grown");
        std::thread::park();
    });
}

struct Worker {
    pid: i32,
    words: std::io::Lines<BufReader<File>>,
    _killed: Killed,
}

impl Worker {
    fn start(duty: &str) -> Worker {
        let (r, w) = pipe_cloexec().unwrap();
        let me = std::env::current_exe().unwrap();
        let mut plan = plan(&[
            me.to_str().unwrap(),
            "--exact",
            "os::tests::attributes::worker",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ]);
        plan.env.push(c(&format!("{DUTY}={duty}")));
        plan.stdout = Source::Fd(w.as_fd());
        let child = spawn(&plan).unwrap();
        let killed = Killed(child.pid);
        outcome(&child).unwrap();
        drop(w);
        Worker { pid: child.pid, words: BufReader::new(File::from(r)).lines(), _killed: killed }
    }

    fn says(&mut self, word: &str) {
        assert!(self.words.by_ref().any(|line| line.unwrap().ends_with(word)), "no {word}");
    }

    /// All threads of all processes of its group.
    fn threads(&self) -> Vec<(i32, i32)> {
        let members = procfs::numbers("/proc").filter(|pid| procfs::stat_field(*pid, 5) == u64::try_from(self.pid).ok());
        members.flat_map(|pid| procfs::numbers(&format!("/proc/{pid}/task")).map(move |thread| (pid, thread))).collect()
    }

    /// What all of them have: more than one answer when they differ.
    fn all(&self, look: impl Fn(i32, i32) -> String) -> BTreeSet<String> {
        self.threads().into_iter().map(|(pid, thread)| look(pid, thread)).collect()
    }

    fn nice(&self) -> BTreeSet<String> {
        // Field 19: the 17th after the name.
        let field = |stat: String| stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(16).unwrap().to_owned();
        self.all(|pid, thread| field(fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).unwrap()))
    }

    fn cpus(&self) -> BTreeSet<String> {
        let line = |status: String| status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned();
        self.all(|pid, thread| line(fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap()))
    }

    fn score(&self) -> BTreeSet<String> {
        self.all(|pid, _| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().to_owned())
    }

    fn limit(&self, name: &str) -> BTreeSet<String> {
        let words = |line: &str| line.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let find = |text: String| text.lines().find_map(|l| l.strip_prefix(name)).map(words).unwrap();
        self.all(|pid, _| find(fs::read_to_string(format!("/proc/{pid}/limits")).unwrap()))
    }

    fn change(&self, change: &Change) -> Vec<Failure> {
        apply(&BTreeMap::from([(self.pid, change.clone())]))
    }
}

fn one(text: &str) -> BTreeSet<String> {
    BTreeSet::from([text.to_owned()])
}

fn shown((soft, hard): (u64, u64)) -> String {
    let word = |n: u64| if n == UNLIMITED { "unlimited".to_owned() } else { n.to_string() };
    format!("{} {}", word(soft), word(hard))
}

fn may_give_back() -> bool {
    let root = process::effective_uid() == 0;
    if !root {
        eprintln!("in part: only root can give back what it took");
    }
    root
}

#[test]
fn a_change_reaches_all_threads_of_all_processes_of_the_group_and_can_be_taken_back() {
    let mut worker = Worker::start("stay");
    worker.says("grown");
    let processes: BTreeSet<i32> = worker.threads().into_iter().map(|(pid, _)| pid).collect();
    assert!(processes.len() >= 2 && worker.threads().len() >= processes.len() + 4, "{:?}", worker.threads());
    let (nice, score, cpus) = (worker.nice(), worker.score(), worker.cpus());
    assert_eq!((&nice, &score), (&one(&own_nice().to_string()), &one(&own_oom_score_adj().to_string())));
    let last = (0..8192).rev().find(|cpu| fs::metadata(format!("/sys/devices/system/cpu/cpu{cpu}")).is_ok()).unwrap();
    let (soft, hard) = own_limit(Resource::OpenFiles);
    let set = Change {
        nice: Some(own_nice() + 3),
        oom_score_adj: Some(own_oom_score_adj() + 321),
        cpus: Some(Cpus::of(&[last])),
        limits: vec![(Resource::OpenFiles, 100, hard), (Resource::Core, 0, own_limit(Resource::Core).1)],
    };
    assert!(worker.change(&set).is_empty());
    assert_eq!(worker.nice(), one(&(own_nice() + 3).to_string()));
    assert_eq!(worker.score(), one(&(own_oom_score_adj() + 321).to_string()));
    assert_eq!(worker.cpus(), one(&last.to_string()));
    assert_eq!(worker.limit("Max open files"), one(&shown((100, hard))));
    assert_eq!(worker.limit("Max core file size"), one(&shown((0, own_limit(Resource::Core).1))));
    if !may_give_back() {
        return;
    }
    let back = Change {
        nice: Some(own_nice()),
        oom_score_adj: Some(own_oom_score_adj()),
        cpus: Some(Cpus::own().unwrap()),
        limits: vec![(Resource::OpenFiles, soft, hard)],
    };
    assert!(worker.change(&back).is_empty());
    assert_eq!((worker.nice(), worker.score(), worker.cpus()), (nice, score, cpus));
    assert_eq!(worker.limit("Max open files"), one(&shown((soft, hard))));
    assert_eq!(worker.limit("Max core file size"), one(&shown((0, own_limit(Resource::Core).1))), "not asked for");
}

#[test]
fn those_that_come_meanwhile_are_reached_too() {
    let mut worker = Worker::start("grow");
    worker.says("begun");
    let set = Change { nice: Some(own_nice() + 2), cpus: Some(Cpus::of(&[0])), oom_score_adj: Some(500), ..Change::default() };
    assert!(worker.change(&set).is_empty());
    worker.says("grown");
    assert!(worker.threads().len() > MANY);
    assert_eq!(worker.cpus(), one("0"));
    assert_eq!(worker.nice(), one(&(own_nice() + 2).to_string()));
    assert_eq!(worker.score(), one("500"));
}

#[test]
fn one_that_is_gone_is_no_failure() {
    let worker = Worker::start("stay");
    let pid = worker.pid;
    signals::kill_worker(pid, libc::SIGKILL).unwrap();
    let all = Change {
        nice: Some(19),
        oom_score_adj: Some(1000),
        cpus: Some(Cpus::of(&[0])),
        limits: vec![(Resource::OpenFiles, 10, 10)],
    };
    // Ended and not reaped, then reaped.
    assert!(super::support::readable_within(super::support::pidfd(pid), super::support::DEADLINE));
    assert!(worker.change(&all).is_empty(), "{:?}", worker.change(&all));
    ended(pid);
    assert!(worker.change(&all).is_empty());
}

#[test]
fn what_cannot_be_changed_is_told_with_its_process_and_the_rest_is_changed() {
    let mut worker = Worker::start("stay");
    worker.says("grown");
    let wrong = Change {
        nice: Some(own_nice() + 1),
        oom_score_adj: Some(9999),
        cpus: Some(Cpus::of(&[8191])),
        limits: vec![(Resource::OpenFiles, 200, 100), (Resource::Core, 0, 0)],
    };
    let failures = worker.change(&wrong);
    let told: Vec<_> = failures.iter().map(|f| (f.leader, f.pid, f.attribute, f.cause.raw_os_error())).collect();
    let (pid, einval) = (worker.pid, Some(libc::EINVAL));
    assert_eq!(
        told,
        [
            (pid, pid, Attribute::Limit(Resource::OpenFiles), einval),
            (pid, pid, Attribute::OomScore, einval),
            (pid, pid, Attribute::Cpus, einval)
        ]
    );
    assert_eq!(worker.nice(), one(&(own_nice() + 1).to_string()));
    assert_eq!(worker.limit("Max core file size"), one("0 0"));
}

#[test]
fn each_group_gets_its_own() {
    let mut workers = [Worker::start("stay"), Worker::start("stay")];
    workers.iter_mut().for_each(|worker| worker.says("grown"));
    let nice = |n| Change { nice: Some(own_nice() + n), ..Change::default() };
    assert!(apply(&BTreeMap::from([(workers[0].pid, nice(1)), (workers[1].pid, nice(2))])).is_empty());
    for (worker, n) in workers.iter().zip(1..) {
        assert_eq!(worker.nice(), one(&(own_nice() + n).to_string()));
    }
    assert_eq!(own_nice(), i32::try_from(procfs::stat_field(process::self_pid(), 19).unwrap_or(0)).unwrap(), "ours stays");
}
