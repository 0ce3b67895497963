//! Owns what running workers are given when a reload changes it: limits, priority, oom score, CPUs. What a pool does not set any more, they get
//! as a fresh worker would. Nobody waits for this, and it undoes nothing: what fails is told, once for a pool.

use std::collections::BTreeMap;

use super::identity::{cpu_of, limit, resource_of};
use super::launch::Common;
use super::master::Master;
use crate::config::spec;
use crate::os::attributes::{self, Attribute, Change, Cpus, Failure};
use crate::os::spawn::{Resource, UNLIMITED};
use crate::supervisor::{PoolId, WorkerId, count};

/// A change that waits until a worker runs its program: until then it is still giving itself what it was started with.
#[derive(Debug)]
pub(super) struct Postponed {
    old: spec::Identity,
    new: spec::Identity,
}

impl Master {
    /// Gives the running workers of a pool what is another way in `new` than in `old`, each with all processes of its group. Whoever cannot
    /// be given it keeps what it has, and the log tells.
    pub(super) fn apply_attributes(&mut self, pool: PoolId, old: &spec::Identity, new: &spec::Identity) {
        if !differ(old, new) {
            return;
        }
        let mut workers = Vec::new();
        for process in self.processes.all_mut().filter(|p| p.id.pool == pool && !p.exited) {
            if process.exec.is_some() {
                let first = process.postponed.take().map_or_else(|| old.clone(), |earlier| earlier.old);
                process.postponed = Some(Postponed { old: first, new: new.clone() });
            } else {
                workers.push((process.id, process.pid));
            }
        }
        self.change_attributes(pool, &workers, old, new);
    }

    /// A worker runs its program now: what changed on its way there.
    pub(super) fn apply_postponed(&mut self, number: u64) {
        let Some(process) = self.processes.get_mut(number) else { return };
        let Some(Postponed { old, new }) = process.postponed.take() else { return };
        let (id, pid) = (process.id, process.pid);
        self.change_attributes(id.pool, &[(id, pid)], &old, &new);
    }

    fn change_attributes(&self, pool: PoolId, workers: &[(WorkerId, i32)], old: &spec::Identity, new: &spec::Identity) {
        let change = |(id, pid): &(WorkerId, i32)| {
            // The CPU of a slot may be the same in another list.
            Some((*pid, change(old, new, id.slot, &self.common))).filter(|(_, change)| *change != Change::default())
        };
        let failures = attributes::apply(&workers.iter().filter_map(change).collect());
        if !failures.is_empty() {
            tracing::warn!(pool = self.name_of(pool), "{}", words(&failures, workers, new));
        }
    }
}

/// Is there anything for running workers? (All else of an identity is for those that are started.)
fn differ(old: &spec::Identity, new: &spec::Identity) -> bool {
    let live = |identity: &spec::Identity| (identity.nice, identity.oom_score_adj, identity.cpus.clone());
    live(old) != live(new) || !resources(old, new).is_empty()
}

/// Resources whose limits differ.
fn resources(old: &spec::Identity, new: &spec::Identity) -> Vec<spec::Resource> {
    let mut differing = Vec::new();
    for (resource, _) in old.limits.iter().chain(&new.limits) {
        if bounds(old, *resource) != bounds(new, *resource) && !differing.contains(resource) {
            differing.push(*resource);
        }
    }
    differing
}

fn bounds(identity: &spec::Identity, resource: spec::Resource) -> Option<spec::Bounds> {
    identity.limits.iter().find_map(|(own, bounds)| (*own == resource).then_some(*bounds))
}

/// What is another way for the worker of a slot.
fn change(old: &spec::Identity, new: &spec::Identity, slot: u32, common: &Common) -> Change {
    let cpus = (cpu_of(&new.cpus, slot) != cpu_of(&old.cpus, slot)).then(|| match cpu_of(&new.cpus, slot) {
        Some(cpu) => Some(Cpus::of(&[cpu])),
        None => Cpus::own().ok(),
    });
    let limits = resources(old, new).into_iter().map(|resource| match bounds(new, resource) {
        Some(bounds) => limit(resource, bounds),
        None => {
            let resource = resource_of(resource);
            let (soft, hard) = common.given_back(resource).unwrap_or_else(|| attributes::own_limit(resource));
            (resource, soft, hard)
        }
    });
    Change {
        nice: (new.nice != old.nice).then(|| new.nice.unwrap_or_else(attributes::own_nice)),
        oom_score_adj: (new.oom_score_adj != old.oom_score_adj)
            .then(|| new.oom_score_adj.unwrap_or_else(attributes::own_oom_score_adj)),
        cpus: cpus.flatten(),
        limits: limits.collect(),
    }
}

/// All that failed in a pool, in one line: of each attribute the first worker and its reason, and how many more.
fn words(failures: &[Failure], workers: &[(WorkerId, i32)], new: &spec::Identity) -> String {
    let mut first: BTreeMap<String, (&Failure, usize)> = BTreeMap::new();
    for failure in failures {
        first.entry(key(failure.attribute)).or_insert((failure, 0)).1 += 1;
    }
    let tell = |(key, (failure, workers_in_all)): (&String, &(&Failure, usize))| {
        let Failure { leader, pid, attribute, cause } = failure;
        let slot = workers.iter().find(|(_, pid)| pid == leader).map_or(0, |(id, _)| id.slot);
        let of_group = if pid == leader { String::new() } else { format!(", process {pid} of its group") };
        let more = match workers_in_all - 1 {
            0 => String::new(),
            others => format!(" (and so for {} more)", count(others, "worker")),
        };
        let value = value(*attribute, new, slot);
        format!("cannot change {key} to {value} for slot {slot} (pid {leader}{of_group}): {cause}{more}")
    };
    let told: Vec<String> = first.iter().map(tell).collect();
    format!("{}; they keep what they have, and it holds for workers started from now on", told.join("; "))
}

/// As the config names it.
fn key(attribute: Attribute) -> String {
    let limit = match attribute {
        Attribute::Nice => return "nice".to_owned(),
        Attribute::OomScore => return "oom_score_adj".to_owned(),
        Attribute::Cpus => return "cpu_affinity".to_owned(),
        Attribute::Limit(resource) => resource,
    };
    let name = match limit {
        Resource::Core => "core",
        Resource::Cpu => "cpu",
        Resource::FileSize => "fsize",
        Resource::LockedMemory => "memlock",
        Resource::OpenFiles => "nofile",
        Resource::Processes => "nproc",
        Resource::Signals => "sigpending",
        Resource::Stack => "stack",
        Resource::AddressSpace => "as",
    };
    format!("limits.{name}")
}

/// What was tried.
fn value(attribute: Attribute, new: &spec::Identity, slot: u32) -> String {
    let set = match attribute {
        Attribute::Nice => new.nice.map(|n| n.to_string()),
        Attribute::OomScore => new.oom_score_adj.map(|n| n.to_string()),
        Attribute::Cpus => cpu_of(&new.cpus, slot).map(|cpu| format!("CPU {cpu}")),
        Attribute::Limit(resource) => {
            let own =
                |(own, bounds): &(spec::Resource, spec::Bounds)| Some(limit(*own, *bounds)).filter(|(r, ..)| *r == resource);
            let number = |n: u64| if n == UNLIMITED { "unlimited".to_owned() } else { n.to_string() };
            new.limits.iter().find_map(own).map(|(_, soft, hard)| format!("{}:{}", number(soft), number(hard)))
        }
    };
    set.unwrap_or_else(|| "the master's own".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::config::spec::{Account, Bounds, Identity};

    fn common() -> Common {
        Common {
            nofile: Some((77, 88)),
            most_descriptors: 88,
            sigpending: None,
            reset_signals: Vec::new(),
            death_signal: None,
            cpus: 1,
            directory: None,
            own_binary: "/proc/self/exe".into(),
        }
    }

    fn bounded(limits: &[(spec::Resource, u64)]) -> Identity {
        let both = |n: u64| Bounds { soft: Some(n), hard: None };
        Identity { limits: limits.iter().map(|(resource, n)| (*resource, both(*n))).collect(), ..Identity::default() }
    }

    #[test]
    fn only_what_differs_changes_and_what_is_set_no_more_is_the_masters() {
        let none = Identity::default();
        let all = Identity {
            nice: Some(4),
            oom_score_adj: Some(5),
            cpus: vec![0, 6],
            ..bounded(&[(spec::Resource::OpenFiles, 10), (spec::Resource::Core, 0)])
        };
        assert!(differ(&none, &all) && !differ(&all, &all.clone()));
        // For workers that are started only.
        assert!(!differ(&none, &Identity { umask: Some(0), user: Some(Account::Id(0)), ..Identity::default() }));
        let set = Change {
            nice: Some(4),
            oom_score_adj: Some(5),
            cpus: Some(Cpus::of(&[6])),
            limits: vec![(Resource::OpenFiles, 10, UNLIMITED), (Resource::Core, 0, UNLIMITED)],
        };
        assert_eq!(change(&none, &all, 3, &common()), set);
        let (soft, hard) = attributes::own_limit(Resource::Core);
        let back = Change {
            nice: Some(attributes::own_nice()),
            oom_score_adj: Some(attributes::own_oom_score_adj()),
            cpus: Cpus::own().ok(),
            limits: vec![(Resource::OpenFiles, 77, 88), (Resource::Core, soft, hard)],
        };
        assert_eq!(change(&all, &none, 3, &common()), back);
        let other = Identity { nice: Some(-1), ..all.clone() };
        assert_eq!(change(&all, &other, 3, &common()), Change { nice: Some(-1), ..Change::default() });
        let fewer = bounded(&[(spec::Resource::Core, 0)]);
        let given_back = Change { limits: vec![(Resource::OpenFiles, 77, 88)], ..Change::default() };
        assert_eq!(
            change(&bounded(&[(spec::Resource::OpenFiles, 10), (spec::Resource::Core, 0)]), &fewer, 0, &common()),
            given_back
        );
    }

    #[test]
    fn cpus_change_for_the_slots_that_get_another() {
        let [two, three] = [vec![0, 1], vec![0, 1, 2]].map(|cpus| Identity { cpus, ..Identity::default() });
        assert!(differ(&two, &three));
        let given: Vec<_> = (0..4).map(|slot| change(&two, &three, slot, &common()).cpus).collect();
        assert_eq!(given, [None, None, Some(Cpus::of(&[2])), Some(Cpus::of(&[0]))]);
    }

    #[test]
    fn all_that_failed_in_a_pool_is_one_line() {
        let worker = |slot: u32, pid: i32| (WorkerId { pool: PoolId(0), slot, generation: 1 }, pid);
        let failed = |leader: i32, pid: i32, attribute: Attribute, errno: i32| Failure {
            leader,
            pid,
            attribute,
            cause: io::Error::from_raw_os_error(errno),
        };
        let new = Identity { nice: Some(-5), ..bounded(&[(spec::Resource::OpenFiles, 9)]) };
        let told = words(
            &[
                failed(20, 20, Attribute::Nice, libc::EACCES),
                failed(20, 25, Attribute::Limit(Resource::OpenFiles), libc::EPERM),
                failed(30, 30, Attribute::Nice, libc::EACCES),
                failed(30, 30, Attribute::OomScore, libc::EACCES),
            ],
            &[worker(0, 20), worker(1, 30)],
            &new,
        );
        assert_eq!(
            told,
            "cannot change limits.nofile to 9:unlimited for slot 0 (pid 20, process 25 of its group): Operation not permitted (os \
             error 1); cannot change nice to -5 for slot 0 (pid 20): Permission denied (os error 13) (and so for 1 worker more); \
             cannot change oom_score_adj to the master's own for slot 1 (pid 30): Permission denied (os error 13); they keep what \
             they have, and it holds for workers started from now on"
        );
    }
}
