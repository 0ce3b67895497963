//! Who a child is and what it may use, as the child itself sees it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::support::{c, output, shell};
use crate::os::process;
use crate::os::signals;
use crate::os::spawn::{Identity, Resource, SpawnFailure, Step, UNLIMITED, spawn};

/// A user that is on every host, and owns nothing.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    let root = process::effective_uid() == 0;
    if !root {
        eprintln!("skipped: only root can start a process as somebody else");
    }
    root
}

/// What a shell with this identity prints.
fn printed(identity: Identity, script: &str) -> String {
    let mut plan = shell(script);
    plan.identity = identity;
    plan.working_dir = Some(c("/"));
    output(&mut plan)
}

/// The fields of /proc/self/status, as the child sees them.
fn status(identity: Identity, fields: &str) -> Vec<String> {
    let text = printed(identity, &format!("grep -E '^({fields}):' /proc/self/status"));
    text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn umask_and_limits_are_as_planned() {
    let (_, pending) = signals::raise_sigpending_limit();
    let limits = vec![
        (Resource::OpenFiles, 100, 200),
        (Resource::Signals, 7, pending),
        (Resource::Core, 0, 0),
        (Resource::Cpu, 30, UNLIMITED),
    ];
    let identity = Identity { umask: Some(0o27), limits, ..Identity::default() };
    let text = printed(identity, "umask; ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -St; grep pending /proc/self/limits");
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    assert_eq!(words, ["0027", "100", "200", "0", "30", "Max", "pending", "signals", "7", &pending.to_string(), "signals"]);
}

#[test]
fn priority_oom_score_and_cpus_are_as_planned() {
    let before = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let last = (0..8192).rev().find(|cpu| fs::metadata(format!("/sys/devices/system/cpu/cpu{cpu}")).is_ok()).unwrap();
    let identity = Identity { nice: Some(7), oom_score_adj: Some(321), cpus: vec![last], ..Identity::default() };
    let text = printed(identity, "nice; cat /proc/self/oom_score_adj; grep Cpus_allowed_list /proc/self/status");
    assert_eq!(text.split_ascii_whitespace().collect::<Vec<_>>(), ["7", "321", "Cpus_allowed_list:", &last.to_string()]);
    assert_eq!(fs::read_to_string("/proc/self/oom_score_adj").unwrap(), before, "the master's own is as it was");
}

#[test]
fn a_user_and_its_groups_are_all_that_a_child_is() {
    if !is_root() {
        return;
    }
    let identity =
        Identity { uid: Some(NOBODY), gid: Some(12), groups: Some(vec![34, 7]), no_new_privileges: true, ..Identity::default() };
    assert_eq!(
        status(identity, "Uid|Gid|Groups|CapEff|CapPrm|NoNewPrivs"),
        [
            "Uid: 65534 65534 65534 65534",
            "Gid: 12 12 12 12",
            "Groups: 7 34",
            "CapPrm: 0000000000000000",
            "CapEff: 0000000000000000",
            "NoNewPrivs: 1",
        ]
    );
    // The master could not be looked into or dumped any more if the child had shared its memory.
    assert_eq!(nix::sys::prctl::get_dumpable(), Ok(true));
}

#[test]
fn the_death_signal_outlives_the_change_of_user() {
    if !is_root() {
        return;
    }
    let mut plan = shell("exec sleep 60");
    plan.identity = Identity { uid: Some(NOBODY), gid: Some(NOBODY), groups: Some(vec![]), ..Identity::default() };
    plan.death_signal = Some(libc::SIGKILL);
    plan.working_dir = Some(c("/"));
    plan.programs = vec![c("/usr/bin/python3")];
    plan.argv = vec![
        c("python3"),
        c("-c"),
        c("import ctypes; n = ctypes.c_int(0); ctypes.CDLL(None).prctl(2, ctypes.byref(n), 0, 0, 0); print(n.value)"),
    ];
    if !super::support::available("python3") {
        return;
    }
    assert_eq!(output(&mut plan).trim(), "9");
}

#[test]
fn capabilities_are_kept_across_the_change_of_user_and_all_others_are_gone() {
    if !is_root() {
        return;
    }
    // net_bind_service.
    let identity = Identity {
        uid: Some(NOBODY),
        gid: Some(NOBODY),
        groups: Some(vec![]),
        capabilities: Some(vec![10]),
        ..Identity::default()
    };
    let set = "0000000000000400";
    let want = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| format!("{name}: {set}"));
    assert_eq!(status(identity, "CapInh|CapPrm|CapEff|CapBnd|CapAmb"), want);
    // Root has no more than what is left to it.
    let identity = Identity { capabilities: Some(vec![]), ..Identity::default() };
    assert_eq!(status(identity, "CapEff|CapBnd"), ["CapEff: 0000000000000000", "CapBnd: 0000000000000000"]);
}

#[test]
fn a_root_directory_is_all_that_a_child_sees() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let jail = temp.path();
    fs::set_permissions(jail, fs::Permissions::from_mode(0o755)).unwrap();
    // The test binary's own libraries are not in there: a static program is needed, and the shell is none. So what is seen is the failure
    // to find it, by a path that exists outside only.
    let mut plan = shell("true");
    plan.identity.chroot = Some(c(jail.to_str().unwrap()));
    let child = spawn(&plan).unwrap();
    let failed = super::support::outcome(&child).unwrap_err();
    assert_eq!(failed, SpawnFailure { step: Step::Exec, errno: libc::ENOENT });
    super::support::ended(child.pid);
    // The working directory is looked for inside.
    fs::create_dir(jail.join("inside")).unwrap();
    for (dir, step) in [("/inside", Step::Exec), ("/usr", Step::WorkingDirectory)] {
        let mut plan = shell("true");
        plan.identity.chroot = Some(c(jail.to_str().unwrap()));
        plan.working_dir = Some(c(dir));
        let child = spawn(&plan).unwrap();
        assert_eq!(super::support::outcome(&child).unwrap_err().step, step, "{dir}");
        super::support::ended(child.pid);
    }
}

#[test]
fn what_cannot_be_had_is_told_with_its_step() {
    for (identity, step) in [
        (Identity { cpus: vec![8191], ..Identity::default() }, Step::Affinity),
        (Identity { limits: vec![(Resource::OpenFiles, 200, 100)], ..Identity::default() }, Step::Limits),
        (Identity { chroot: Some(c("/no/such/root")), ..Identity::default() }, Step::Chroot),
        (Identity { oom_score_adj: Some(9999), ..Identity::default() }, Step::OomScore),
    ] {
        let mut plan = shell("true");
        plan.identity = identity;
        let child = spawn(&plan).unwrap();
        assert_eq!(super::support::outcome(&child).unwrap_err().step, step);
        super::support::ended(child.pid);
    }
}
