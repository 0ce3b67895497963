//! Owns who a pool's workers are and what they may use.

use super::super::diagnostics::Diagnostics;
use super::super::spec::{Identity, Resource};
use super::reader::Reader;

/// The resource limits, in the order of the manual.
const LIMITS: [Resource; 8] = [
    Resource::OpenFiles,
    Resource::Core,
    Resource::Processes,
    Resource::LockedMemory,
    Resource::Stack,
    Resource::AddressSpace,
    Resource::Cpu,
    Resource::FileSize,
];

pub(super) fn build(r: &Reader<'_>, diags: &mut Diagnostics) -> Identity {
    let set = |key: &str| r.find(key).is_some();
    if set("supplementary_groups") && !r.is_set("user") && !r.is_set("group") && r.sound("supplementary_groups") {
        diags.warn(
            &r.place("supplementary_groups"),
            format!("{}.supplementary_groups: the workers keep the master's own user and group", r.path),
            "set user as well, unless that is meant",
        );
    }
    Identity {
        user: r.account("user"),
        group: r.account("group"),
        groups: set("supplementary_groups").then(|| r.accounts("supplementary_groups")),
        umask: r.mode("umask"),
        chroot: r.path_of("chroot"),
        nice: r.integer("nice"),
        oom_score_adj: r.integer("oom_score_adj"),
        cpus: r.numbers("cpu_affinity"),
        no_new_privileges: r.bool("no_new_privileges"),
        capabilities: set("capabilities").then(|| r.capabilities("capabilities")),
        limits: LIMITS
            .into_iter()
            .filter_map(|resource| Some((resource, r.limit(&format!("limits.{}", resource.key()))?)))
            .collect(),
    }
}
