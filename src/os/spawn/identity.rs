//! Owns what a plan says about who a child is and what it may use, and its form for the child. Refuses to look names up: numbers only.

use std::ffi::{CString, c_char};
use std::ptr;

use serde::{Deserialize, Serialize};

use crate::os::attributes::Cpus;
use crate::os::process;

/// Numbers of the resources that setrlimit(2) bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// Size of a core file, bytes.
    Core,
    /// CPU time, seconds.
    Cpu,
    /// Size of written files, bytes.
    FileSize,
    /// Locked memory, bytes.
    LockedMemory,
    /// Open files.
    OpenFiles,
    /// Processes of the user.
    Processes,
    /// Queued signals.
    Signals,
    /// Stack, bytes.
    Stack,
    /// Address space, bytes.
    AddressSpace,
}

impl Resource {
    /// The kernel's number for it.
    pub(crate) fn kernels(self) -> process::Resource {
        match self {
            Resource::Core => libc::RLIMIT_CORE,
            Resource::Cpu => libc::RLIMIT_CPU,
            Resource::FileSize => libc::RLIMIT_FSIZE,
            Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
            Resource::OpenFiles => libc::RLIMIT_NOFILE,
            Resource::Processes => libc::RLIMIT_NPROC,
            Resource::Signals => libc::RLIMIT_SIGPENDING,
            Resource::Stack => libc::RLIMIT_STACK,
            Resource::AddressSpace => libc::RLIMIT_AS,
        }
    }
}

/// The kernel's number for "unlimited".
pub const UNLIMITED: u64 = u64::MAX;

/// Who a child is, and what it may use. What is `None`, empty or false stays as the parent has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User: real, effective and saved.
    pub uid: Option<u32>,
    /// Group: real, effective and saved.
    pub gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Option<Vec<u32>>,
    /// File mode mask.
    pub umask: Option<u32>,
    /// Root directory.
    pub chroot: Option<CString>,
    /// Scheduling priority, -20 to 19.
    pub nice: Option<i32>,
    /// How readily the kernel kills it when memory is out, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// CPUs that it may run on.
    pub cpus: Vec<u32>,
    /// It cannot gain privileges by exec.
    pub no_new_privileges: bool,
    /// It has these capabilities (their numbers), and can get no others.
    pub capabilities: Option<Vec<u8>>,
    /// Resource limits: soft and hard, [`UNLIMITED`] for none.
    pub limits: Vec<(Resource, u64, u64)>,
}

impl Identity {
    /// A change of credentials, and the oom score, act on the memory of a process: one who shares it with the master would change the
    /// master (who could be dumped no more, or would be killed as readily as its worker).
    pub(super) fn needs_own_memory(&self) -> bool {
        let credentials = self.uid.is_some() || self.gid.is_some() || self.groups.is_some() || self.capabilities.is_some();
        credentials || self.oom_score_adj.is_some()
    }
}

/// The same, laid out for the child: it computes nothing.
#[derive(Debug)]
pub(super) struct Persona {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Option<Vec<u32>>,
    pub umask: Option<u32>,
    /// Null: stay.
    pub chroot: *const c_char,
    pub nice: Option<i32>,
    /// The number as text; empty: stay.
    pub oom_score_adj: Vec<u8>,
    /// Empty: stay.
    pub cpus: Vec<u64>,
    pub no_new_privileges: bool,
    /// As bits.
    pub capabilities: Option<u64>,
    /// Resource, soft, hard.
    pub limits: Vec<(usize, [u64; 2])>,
}

impl Persona {
    /// `chroot` points into the image.
    pub(super) fn new(identity: &Identity, chroot: Option<*const c_char>) -> Persona {
        let cpus = if identity.cpus.is_empty() { Vec::new() } else { Cpus::of(&identity.cpus).into_words() };
        let bit = |bits: u64, number: &u8| bits | 1_u64.checked_shl(u32::from(*number)).unwrap_or(0);
        Persona {
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups.clone(),
            umask: identity.umask,
            chroot: chroot.unwrap_or(ptr::null()),
            nice: identity.nice,
            oom_score_adj: identity.oom_score_adj.map(|n| n.to_string().into_bytes()).unwrap_or_default(),
            cpus,
            no_new_privileges: identity.no_new_privileges,
            capabilities: identity.capabilities.as_ref().map(|list| list.iter().fold(0, bit)),
            limits: identity.limits.iter().map(|(r, soft, hard)| (r.kernels() as usize, [*soft, *hard])).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_become_bits() {
        let identity = Identity { cpus: vec![0, 65, 99_999], capabilities: Some(vec![10, 0]), ..Identity::default() };
        let persona = Persona::new(&identity, None);
        assert_eq!(persona.cpus[..3], [1, 2, 0]);
        assert_eq!(persona.capabilities, Some(0x401));
        assert!(Persona::new(&Identity::default(), None).cpus.is_empty());
    }

    #[test]
    fn memory_is_shared_with_those_alone_who_change_nothing_of_it() {
        assert!(!Identity { nice: Some(3), umask: Some(0), cpus: vec![0], ..Identity::default() }.needs_own_memory());
        for identity in [
            Identity { uid: Some(1), ..Identity::default() },
            Identity { groups: Some(vec![]), ..Identity::default() },
            Identity { oom_score_adj: Some(0), ..Identity::default() },
            Identity { capabilities: Some(vec![]), ..Identity::default() },
        ] {
            assert!(identity.needs_own_memory(), "{identity:?}");
        }
    }
}
