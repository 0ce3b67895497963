//! Owns a worker's environment: the master's own, scrubbed of what was meant for the master, then the pool's, then the contract's.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::config::spec::Pool;
use crate::supervisor::WorkerId;

/// Meant for the master (systemd's list, and our own settings), never for its workers.
fn is_scrubbed(name: &[u8]) -> bool {
    const NAMES: [&str; 8] = [
        "NOTIFY_SOCKET",
        "FDSTORE",
        "MAINPID",
        "MANAGERPID",
        "MANAGERPIDFDID",
        "SYSTEMD_EXEC_PID",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
    ];
    const FAMILIES: [&str; 3] = ["LISTEN_", "MEMORY_PRESSURE_", "POOLMASTER_"];
    NAMES.iter().any(|n| n.as_bytes() == name) || FAMILIES.iter().any(|f| name.starts_with(f.as_bytes()))
}

/// What all workers of a pool share, and what is made anew for each. Names and values are bytes: what the master was given is passed on as
/// it is, whatever its encoding.
#[derive(Debug)]
pub(super) struct Environment {
    /// Finished `KEY=VALUE`s.
    fixed: Vec<CString>,
    /// Values with words to fill in.
    templates: Vec<(String, String)>,
    /// PATH of the workers.
    pub(super) path: Option<String>,
}

impl Environment {
    /// For one pool under one config; `master` is the environment the master was started with.
    pub(super) fn of(master: &[(OsString, OsString)], pool: &Pool, instance: &str) -> Environment {
        let given = master.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let mut vars: BTreeMap<&[u8], &[u8]> = given.filter(|(name, _)| !is_scrubbed(name)).collect();
        let mut templates = Vec::new();
        for (name, value) in &pool.launch.env {
            vars.remove(name.as_bytes());
            match value {
                Some(value) if value.contains('{') => templates.push((name.clone(), value.clone())),
                Some(value) => drop(vars.insert(name.as_bytes(), value.as_bytes())),
                None => {}
            }
        }
        let names = pool.listeners.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(":");
        let count = pool.listeners.len().to_string();
        let usec = pool.spec.timeout.map(|t| t.as_micros().to_string());
        let mut contract = vec![
            ("POOLMASTER_POOL", pool.spec.name.as_str()),
            ("POOLMASTER_INSTANCE", instance),
            ("POOLMASTER_VERSION", env!("CARGO_PKG_VERSION")),
        ];
        if pool.launch.systemd {
            if !pool.listeners.is_empty() {
                contract.extend([("LISTEN_FDS", count.as_str()), ("LISTEN_FDNAMES", &names)]);
            }
            contract.extend(usec.as_deref().map(|usec| ("WATCHDOG_USEC", usec)));
        }
        vars.extend(contract.into_iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        Environment {
            path: vars.get(&b"PATH"[..]).map(|p| String::from_utf8_lossy(p).into_owned()),
            fixed: vars.into_iter().filter_map(|(n, v)| entry(n, v)).collect(),
            templates,
        }
    }

    /// For one worker; LISTEN_PID and WATCHDOG_PID are written after the fork, when the pid is known.
    pub(super) fn for_worker(&self, id: WorkerId, notify: Option<&OsStr>, expand: impl Fn(&str) -> String) -> Vec<CString> {
        let mut env = Vec::with_capacity(self.fixed.len() + self.templates.len() + 3);
        env.extend(self.fixed.iter().cloned());
        env.extend(self.templates.iter().filter_map(|(name, value)| entry(name.as_bytes(), expand(value).as_bytes())));
        env.extend(entry(b"POOLMASTER_SLOT", id.slot.to_string().as_bytes()));
        env.extend(entry(b"POOLMASTER_GENERATION", id.generation.to_string().as_bytes()));
        env.extend(notify.and_then(|path| entry(b"NOTIFY_SOCKET", path.as_bytes())));
        env
    }
}

/// A NUL cannot be in an environment; the config refuses it, and what the kernel gave us has none.
fn entry(name: &[u8], value: &[u8]) -> Option<CString> {
    CString::new([name, b"=", value].concat()).ok()
}
