//! Owns a worker's environment: the master's own, scrubbed of what was meant for the master, then the pool's, then the contract's.

use std::collections::BTreeMap;
use std::ffi::CString;

use crate::config::spec::Pool;
use crate::supervisor::WorkerId;

/// Meant for the master (systemd's list, and our own settings), never for its workers.
fn is_scrubbed(name: &str) -> bool {
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
    NAMES.contains(&name) || ["LISTEN_", "MEMORY_PRESSURE_", "POOLMASTER_"].iter().any(|p| name.starts_with(p))
}

/// What all workers of a pool share, and what is made anew for each.
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
    pub(super) fn of(master: &[(String, String)], pool: &Pool, instance: &str) -> Environment {
        let mut vars: BTreeMap<&str, &str> =
            master.iter().filter(|(name, _)| !is_scrubbed(name)).map(|(n, v)| (n.as_str(), v.as_str())).collect();
        for (name, value) in &pool.launch.env {
            match value {
                Some(value) => vars.insert(name, value),
                None => vars.remove(name.as_str()),
            };
        }
        let names = pool.listeners.iter().map(|l| l.name.as_str()).collect::<Vec<_>>().join(":");
        let count = pool.listeners.len().to_string();
        let usec = pool.spec.timeout.map(|t| t.as_micros().to_string());
        vars.insert("POOLMASTER_POOL", &pool.spec.name);
        vars.insert("POOLMASTER_INSTANCE", instance);
        vars.insert("POOLMASTER_VERSION", env!("CARGO_PKG_VERSION"));
        if pool.launch.systemd {
            if !pool.listeners.is_empty() {
                vars.insert("LISTEN_FDS", &count);
                vars.insert("LISTEN_FDNAMES", &names);
            }
            if let Some(usec) = &usec {
                vars.insert("WATCHDOG_USEC", usec);
            }
        }
        let is_template =
            |name: &str| pool.launch.env.iter().any(|(n, v)| n == name && v.as_ref().is_some_and(|v| v.contains('{')));
        let (templates, fixed): (Vec<_>, Vec<_>) = vars.iter().partition(|(name, _)| is_template(name));
        Environment {
            path: vars.get("PATH").map(|p| (*p).to_owned()),
            fixed: fixed.into_iter().filter_map(|(n, v)| entry(n, v)).collect(),
            templates: templates.into_iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        }
    }

    /// For one worker; LISTEN_PID and WATCHDOG_PID are written after the fork, when the pid is known.
    pub(super) fn for_worker(&self, id: WorkerId, notify: Option<&str>, expand: impl Fn(&str) -> String) -> Vec<CString> {
        let mut env = Vec::with_capacity(self.fixed.len() + self.templates.len() + 5);
        env.extend(self.fixed.iter().cloned());
        env.extend(self.templates.iter().filter_map(|(name, value)| entry(name, &expand(value))));
        env.extend(entry("POOLMASTER_SLOT", &id.slot.to_string()));
        env.extend(entry("POOLMASTER_GENERATION", &id.generation.to_string()));
        env.extend(notify.and_then(|path| entry("NOTIFY_SOCKET", path)));
        env
    }
}

/// A NUL cannot be in an environment; the config refuses it, and what the kernel gave us has none.
fn entry(name: &str, value: &str) -> Option<CString> {
    CString::new(format!("{name}={value}")).ok()
}
