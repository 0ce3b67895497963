//! Owns the resolution of a pool's users and groups to numbers, once for each config: the name service may ask a network, and no start of
//! a worker may wait for that. What cannot be had is told before anything is started.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use crate::config::spec::{self, Account};
use crate::os::access::Who;
use crate::os::process;
use crate::os::spawn::{self, Resource, UNLIMITED};
use crate::os::users::{self, Person};

/// Who the workers of a pool are.
#[derive(Clone, Debug, Default)]
pub(super) struct Workers {
    /// For the spawn; the CPUs are each slot's own.
    identity: spawn::Identity,
    /// Given to the slots in turn.
    cpus: Vec<u32>,
    /// The user's login, where it has one and the pool names a user.
    pub(super) login: Option<Person>,
}

/// Numbers of the capabilities that permit another user and another root directory (capabilities(7)).
const SETUID: u8 = 7;
const SYS_CHROOT: u8 = 18;

impl Workers {
    /// The same user and groups.
    pub(super) fn same_person(&self, other: &Workers) -> bool {
        let who = |w: &Workers| (w.identity.uid, w.identity.gid, w.identity.groups.clone());
        who(self) == who(other)
    }

    /// Looks everything up. The error names the key, the name and what to do.
    pub(super) fn of(spec: &spec::Identity) -> Result<Workers, String> {
        let mut identity = spawn::Identity {
            umask: spec.umask,
            chroot: spec.chroot.as_ref().and_then(|dir| CString::new(dir.as_os_str().as_bytes()).ok()),
            nice: spec.nice,
            oom_score_adj: spec.oom_score_adj,
            no_new_privileges: spec.no_new_privileges,
            capabilities: spec.capabilities.clone(),
            limits: spec.limits.iter().map(|(resource, bounds)| limit(*resource, *bounds)).collect(),
            ..spawn::Identity::default()
        };
        if let Some(root) = spec.chroot.as_ref().filter(|_| !process::has_capability(SYS_CHROOT)) {
            let root = root.display();
            return Err(format!(
                "chroot = \"{root}\": only root may change the root directory; run the master as root, or remove the key"
            ));
        }
        let person = spec.user.as_ref().map(|user| look_up(user, "user")).transpose()?;
        let own = (process::effective_uid(), process::effective_gid());
        if let Some((uid, login)) = &person {
            let named = spec.group.as_ref().map(|group| group_id(group, "group")).transpose()?;
            let gid = named
                .or(login.as_ref().map(|person| person.gid))
                .ok_or_else(|| format!("user = {uid}: the number has no name, and so no group of its own: set group as well"))?;
            identity.uid = Some(*uid);
            identity.gid = Some(gid);
            identity.groups = Some(match login {
                Some(person) => users::groups_of(&person.name, gid).map_err(|e| unknown("user", &person.name, &e))?,
                None => Vec::new(),
            });
        } else if let Some(group) = &spec.group {
            identity.gid = Some(group_id(group, "group")?);
        }
        if let Some(groups) = &spec.groups {
            let ids: Result<_, _> = groups.iter().map(|group| group_id(group, "supplementary_groups")).collect();
            identity.groups = Some(ids?);
        }
        if own.0 != 0 && (identity.uid.is_some_and(|uid| uid != own.0) || identity.gid.is_some_and(|gid| gid != own.1)) {
            if !process::has_capability(SETUID) {
                let wanted = identity.uid.map_or_else(
                    || format!("group = \"{}\"", identity.gid.unwrap_or_default()),
                    |uid| format!("user = \"{}\"", spec.user.as_ref().map_or_else(|| uid.to_string(), ToString::to_string)),
                );
                return Err(format!(
                    "{wanted}: this master runs as uid {}, gid {}, and only root may start workers as somebody else; \
                     run it as root, or remove the key",
                    own.0, own.1
                ));
            }
        } else if own.0 != 0 {
            // Who we are anyway: nothing to change, and nothing that would have to be permitted.
            (identity.uid, identity.gid) = (None, None);
            if spec.groups.is_none() {
                identity.groups = None;
            }
        }
        Ok(Workers { identity, cpus: spec.cpus.clone(), login: person.and_then(|(_, login)| login) })
    }

    /// For the worker of a slot.
    pub(super) fn in_slot(&self, slot: u32) -> spawn::Identity {
        let mut identity = self.identity.clone();
        identity.cpus = cpu_of(&self.cpus, slot).into_iter().collect();
        identity
    }

    /// The user they run as, when it is not the master's own.
    pub(super) fn uid(&self) -> Option<u32> {
        self.identity.uid
    }

    /// As whom they act.
    pub(super) fn who(&self) -> Who {
        let me = Who::me();
        let groups = match (&self.identity.groups, self.identity.gid) {
            (None, None) => me.groups,
            (groups, gid) => groups.iter().flatten().copied().chain(gid).collect(),
        };
        Who { uid: self.identity.uid.unwrap_or(me.uid), groups }
    }

    /// The pool sets this limit itself.
    pub(super) fn limits(&self, resource: Resource) -> bool {
        self.identity.limits.iter().any(|(own, ..)| *own == resource)
    }
}

/// The CPU of a slot: they are given in turn. `None`: there are none to give.
pub(super) fn cpu_of(cpus: &[u32], slot: u32) -> Option<u32> {
    let turn = usize::try_from(slot).unwrap_or(0).checked_rem(cpus.len())?;
    cpus.get(turn).copied()
}

/// A limit as the kernel is told: resource, soft, hard.
pub(super) fn limit(resource: spec::Resource, bounds: spec::Bounds) -> (Resource, u64, u64) {
    (resource_of(resource), bounds.soft.unwrap_or(UNLIMITED), bounds.hard.unwrap_or(UNLIMITED))
}

/// What a limit bounds, as the kernel is told.
pub(super) fn resource_of(resource: spec::Resource) -> Resource {
    match resource {
        spec::Resource::OpenFiles => Resource::OpenFiles,
        spec::Resource::Core => Resource::Core,
        spec::Resource::Processes => Resource::Processes,
        spec::Resource::LockedMemory => Resource::LockedMemory,
        spec::Resource::Stack => Resource::Stack,
        spec::Resource::AddressSpace => Resource::AddressSpace,
        spec::Resource::Cpu => Resource::Cpu,
        spec::Resource::FileSize => Resource::FileSize,
    }
}

fn unknown(key: &str, name: &str, e: &std::io::Error) -> String {
    format!("{key} = \"{name}\": cannot look it up: {e}")
}

/// A user's number, and what is known of it.
pub(super) fn look_up(account: &Account, key: &str) -> Result<(u32, Option<Person>), String> {
    match account {
        Account::Id(uid) => {
            let login = users::user_numbered(*uid).map_err(|e| unknown(key, &uid.to_string(), &e))?;
            Ok((*uid, login))
        }
        Account::Name(name) => match users::user_named(name).map_err(|e| unknown(key, name, &e))? {
            Some(person) => Ok((person.uid, Some(person))),
            None => Err(format!("{key} = \"{name}\": this host has no such user; make it (useradd), or name another")),
        },
    }
}

/// A group's number.
pub(super) fn group_id(account: &Account, key: &str) -> Result<u32, String> {
    match account {
        Account::Id(gid) => Ok(*gid),
        Account::Name(name) => users::group_named(name)
            .map_err(|e| unknown(key, name, &e))?
            .ok_or_else(|| format!("{key} = \"{name}\": this host has no such group; make it (groupadd), or name another")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_numbers_and_unknown_ones_are_told() {
        assert_eq!(look_up(&Account::Name("root".to_owned()), "user").unwrap().1.map(|person| person.uid), Some(0));
        assert_eq!(group_id(&Account::Name("root".to_owned()), "group"), Ok(0));
        let spec = spec::Identity { user: Some(Account::Name("no-such-user-here".to_owned())), ..spec::Identity::default() };
        assert!(Workers::of(&spec).unwrap_err().starts_with("user = \"no-such-user-here\": this host has no such user"));
        let spec = spec::Identity { group: Some(Account::Name("no-such-group".to_owned())), ..spec::Identity::default() };
        assert!(Workers::of(&spec).unwrap_err().contains("has no such group"));
    }

    #[test]
    fn a_number_without_a_name_needs_a_group() {
        let spec = spec::Identity { user: Some(Account::Id(3_999_999_999)), ..spec::Identity::default() };
        assert!(Workers::of(&spec).unwrap_err().contains("set group as well"));
    }

    #[test]
    fn cpus_are_given_to_the_slots_in_turn() {
        let workers = Workers::of(&spec::Identity { cpus: vec![3, 5], ..spec::Identity::default() }).unwrap();
        let given: Vec<_> = (0..4).map(|slot| workers.in_slot(slot).cpus).collect();
        assert_eq!(given, [[3], [5], [3], [5]]);
        assert!(Workers::default().in_slot(7).cpus.is_empty());
    }
}
