//! Owns the master's own settings, and the defaults that depend on where the config lies and who runs it.

use std::path::{Path, PathBuf};

use super::super::Facts;
use super::super::diagnostics::Diagnostics;
use super::super::spec::{Master, MasterLog};
use super::super::value::address::SUN_PATH_MAX;
use super::super::value::scalar::sanitized_name;
use super::hooks;
use super::reader::Reader;
use crate::supervisor::{ExitWhen, MasterSpec, OnHup};

pub(super) fn build(r: &Reader<'_>, config: Option<&Path>, facts: &Facts, diags: &mut Diagnostics) -> Master {
    let name = Some(r.text("name")).filter(|name| !name.is_empty()).unwrap_or_else(|| default_name(config, facts));
    let runtime_dir = r.path_of("runtime_dir").unwrap_or_else(|| facts.runtime_dir());
    let pidfile = r.path_of("pidfile").unwrap_or_else(|| runtime_dir.join(format!("{name}.pid")));
    let socket = r.path_of("socket").unwrap_or_else(|| runtime_dir.join(format!("{name}.sock")));
    let length = socket.as_os_str().len();
    if length > SUN_PATH_MAX {
        let key = if r.is_set("socket") { "socket" } else { "runtime_dir" };
        let what = format!(
            "master.{key}: the control socket {} is {length} bytes long, the kernel takes at most {SUN_PATH_MAX}",
            socket.display()
        );
        diags.error(&r.place(key), what, "choose a shorter path, for instance below /run");
    }
    let daemon = r.bool("daemon");
    if daemon && r.path_of("log.file").is_none() {
        let what = format!("{}.daemon: in the background there is no stderr to log to", r.path);
        diags.lacks(&r.place("daemon"), what, "add log.file = \"/var/log/NAME.log\" to [master], or --log-file");
    }
    Master {
        name,
        spec: MasterSpec {
            default_pool: None,
            graceful_timeout: r.duration("graceful_timeout"),
            exit_when: match r.text("exit_when").as_str() {
                "never" => ExitWhen::Never,
                "required-failed" => ExitWhen::RequiredFailed,
                _ => ExitWhen::AllDown,
            },
            winch_parks: r.text("signals.winch") != "ignore",
            hup: match r.text("signals.hup").as_str() {
                "ignore" => OnHup::Ignore,
                "reload" => OnHup::Reload,
                _ => OnHup::Restart,
            },
            linger: r.duration("linger"),
        },
        runtime_dir,
        pidfile,
        socket,
        socket_mode: socket_mode(r, diags),
        socket_users: r.accounts("socket_users"),
        umask: r.mode("umask"),
        stop_with_master: r.text("on_master_death") != "keep",
        log: MasterLog { level: r.text("log.level"), json: r.text("log.format") == "json", file: r.path_of("log.file") },
        trace: r.path_of("trace"),
        daemon,
        second_starts: r.text("second_master") == "start",
        bind_retry: r.duration("bind_retry"),
        hooks: hooks::of_master(r, diags),
    }
}

/// The mode of the control socket. Who may give orders is asked of the kernel at each connection: the mode only has to let them come.
fn socket_mode(r: &Reader<'_>, diags: &mut Diagnostics) -> u32 {
    let given = r.mode("socket_mode").filter(|_| r.is_set("socket_mode"));
    if r.accounts("socket_users").is_empty() {
        return given.unwrap_or(0o600);
    }
    if let Some(mode) = given.filter(|mode| mode & 0o022 == 0) {
        let what =
            format!("{}.socket_mode: {mode:04o} lets no other user connect, socket_users none the less names some", r.path);
        diags.warn(&r.place("socket_mode"), what, "leave it out: the master looks at who comes; or 0660 and the socket's group");
    }
    given.unwrap_or(0o666)
}

/// The config's folder, made a valid name.
fn default_name(config: Option<&Path>, facts: &Facts) -> String {
    let folder = config.and_then(Path::parent).unwrap_or(&facts.cwd);
    // `..` is no name: the folder that it leads to has one.
    let real = folder.ends_with("..").then(|| std::fs::canonicalize(folder).ok()).flatten();
    let name = real.as_deref().unwrap_or(folder).file_name();
    let name = name.map(|name| sanitized_name(&name.to_string_lossy())).unwrap_or_default();
    if name.is_empty() { "poolmaster".to_owned() } else { name }
}

impl Facts {
    /// The runtime directory when nobody names one.
    pub fn runtime_dir(&self) -> PathBuf {
        if let Some(dir) = &self.runtime_dir {
            return dir.clone();
        }
        match (&self.xdg_runtime_dir, self.uid) {
            (_, 0) => PathBuf::from("/run/poolmaster"),
            (Some(dir), _) => dir.join("poolmaster"),
            (None, uid) => PathBuf::from(format!("/tmp/poolmaster-{uid}")),
        }
    }
}
