//! Owns who the workers of a pool are, in numbers, once for each config. What cannot be had is told before anything is started.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use super::accounts::Accounts;
use super::environment::Login;
use crate::config::spec;
use crate::os::access::Who;
use crate::os::process;
use crate::os::spawn::{self, Resource, UNLIMITED};

/// Who the workers of a pool are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Workers {
    /// For the spawn; the CPUs are each slot's own.
    identity: spawn::Identity,
    /// Given to the slots in turn.
    cpus: Vec<u32>,
    /// Whose login they have.
    pub(super) login: Login,
}

/// Numbers of the capabilities that permit another user and another root directory (capabilities(7)).
const SETGID: u8 = 6;
const SETUID: u8 = 7;
const SYS_CHROOT: u8 = 18;

/// Why the kernel would not let this master do that. In a container root may be without the right to it.
fn only_root(what: &str, capability: &str) -> String {
    let (uid, gid) = (process::effective_uid(), process::effective_gid());
    match uid {
        0 => format!(
            "this master is root, but has no {capability}, without which it may not {what}; give it that, or remove the key"
        ),
        _ => format!("this master runs as uid {uid}, gid {gid}, and only root may {what}; run it as root, or remove the key"),
    }
}

impl Workers {
    /// The same user and groups.
    pub(super) fn same_person(&self, other: &Workers) -> bool {
        let who = |w: &Workers| (w.identity.uid, w.identity.gid, w.identity.groups.clone());
        who(self) == who(other)
    }

    /// Looks everything up. The error names the key, the name and what to do.
    pub(super) fn of(spec: &spec::Identity, accounts: &Accounts) -> Result<Workers, String> {
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
            return Err(format!("chroot = \"{root}\": {}", only_root("change the root directory", "CAP_SYS_CHROOT")));
        }
        let person = spec.user.as_ref().map(|user| accounts.user(user, "user")).transpose()?;
        let own = (process::effective_uid(), process::effective_gid());
        if let Some((uid, login)) = &person {
            let named = spec.group.as_ref().map(|group| accounts.group(group, "group")).transpose()?;
            let gid = named
                .or(login.as_ref().map(|person| person.gid))
                .ok_or_else(|| format!("user = {uid}: the number has no name, and so no group of its own: set group as well"))?;
            identity.uid = Some(*uid);
            identity.gid = Some(gid);
            identity.groups = Some(match login {
                Some(person) => accounts.groups_of(&person.name, gid)?,
                None => Vec::new(),
            });
        } else if let Some(group) = &spec.group {
            identity.gid = Some(accounts.group(group, "group")?);
        }
        if let Some(groups) = &spec.groups {
            let ids: Result<_, _> = groups.iter().map(|group| accounts.group(group, "supplementary_groups")).collect();
            identity.groups = Some(ids?);
        }
        if spec.groups.is_some() && !process::has_capability(SETGID) {
            return Err(format!("supplementary_groups: {}", only_root("give workers other groups", "CAP_SETGID")));
        }
        let (other_user, other_group) =
            (identity.uid.is_some_and(|uid| uid != own.0), identity.gid.is_some_and(|gid| gid != own.1));
        if other_user || other_group {
            let lacking = [(other_user, SETUID, "CAP_SETUID"), (other_group, SETGID, "CAP_SETGID")];
            let lacking = lacking.into_iter().find(|(needed, number, _)| *needed && !process::has_capability(*number));
            if let Some((_, _, capability)) = lacking {
                let wanted = identity.uid.map_or_else(
                    || format!("group = \"{}\"", identity.gid.unwrap_or_default()),
                    |uid| format!("user = \"{}\"", spec.user.as_ref().map_or_else(|| uid.to_string(), ToString::to_string)),
                );
                return Err(format!("{wanted}: {}", only_root("start workers as somebody else", capability)));
            }
        } else if own.0 != 0 {
            // Who we are anyway: nothing to change, and nothing that would have to be permitted.
            (identity.uid, identity.gid) = (None, None);
            if spec.groups.is_none() {
                identity.groups = None;
            }
        }
        Ok(Workers {
            identity,
            cpus: spec.cpus.clone(),
            login: match person {
                None => Login::Masters,
                Some((_, None)) => Login::Nameless,
                Some((_, Some(person))) => Login::Known(person),
            },
        })
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

/// Why the kernel refuses this limit to the workers of this master; `None`: it takes it.
pub fn refused_limit(resource: spec::Resource, bounds: spec::Bounds) -> Option<String> {
    let (number, soft, hard) = limit(resource, bounds);
    process::refused_limit(number.kernels(), soft.max(hard))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::Account;

    #[test]
    fn whom_the_host_does_not_know_is_told() {
        let accounts = Accounts::default();
        let spec = spec::Identity { user: Some(Account::Name("no-such-user-here".to_owned())), ..spec::Identity::default() };
        assert!(
            Workers::of(&spec, &accounts).unwrap_err().starts_with("user = \"no-such-user-here\": this host has no such user")
        );
        let spec = spec::Identity { group: Some(Account::Name("no-such-group".to_owned())), ..spec::Identity::default() };
        assert!(Workers::of(&spec, &accounts).unwrap_err().contains("has no such group"));
    }

    #[test]
    fn a_number_without_a_name_needs_a_group() {
        let accounts = Accounts::default();
        let spec = spec::Identity { user: Some(Account::Id(3_999_999_999)), ..spec::Identity::default() };
        assert!(Workers::of(&spec, &accounts).unwrap_err().contains("set group as well"));
    }

    #[test]
    fn cpus_are_given_to_the_slots_in_turn() {
        let workers =
            Workers::of(&spec::Identity { cpus: vec![3, 5], ..spec::Identity::default() }, &Accounts::default()).unwrap();
        let given: Vec<_> = (0..4).map(|slot| workers.in_slot(slot).cpus).collect();
        assert_eq!(given, [[3], [5], [3], [5]]);
        assert!(Workers::default().in_slot(7).cpus.is_empty());
    }

    #[test]
    fn limits_beyond_the_kernels_are_refused() {
        let files = |hard| refused_limit(spec::Resource::OpenFiles, spec::Bounds { soft: Some(10), hard });
        assert_eq!(files(Some(20)), None);
        assert!(files(Some(99_999_999_999)).unwrap().contains("fs.nr_open is "));
        assert!(files(None).unwrap().starts_with("no limit is more than the kernel takes"));
        let cores = spec::Bounds { soft: Some(0), hard: None };
        assert_eq!(refused_limit(spec::Resource::Core, cores), None, "root may raise it, and others have no limit here");
    }
}
