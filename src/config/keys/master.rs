//! Owns the definitions of the keys of `[master]`.

use super::super::diff::Class::{self, Live, Master};
use super::When::{Later, Now};
use super::{Key, Kind, later, now};

/// Zero has a meaning.
const TIME: Kind = Kind::Duration { zero: true };
const HOOK: Kind = Kind::Argv { empty: true };

pub(super) const KEYS: &[Key] = &[
    now("master.name", Live, Kind::Name, "", "name of this instance; default: the config's folder name"),
    now(
        "master.runtime_dir",
        Master,
        Kind::Path,
        "",
        "folder of the control socket and the workers' sockets; default: /run/poolmaster for root",
    ),
    now(
        "master.pidfile",
        Live,
        Kind::Path,
        "",
        "file that holds the master's process id; default: NAME.pid in the runtime directory",
    ),
    now("master.socket", Live, Kind::Path, "", "control socket; default: NAME.sock in the runtime directory"),
    now(
        "master.socket_mode",
        Live,
        Kind::Mode,
        "\"0600\"",
        "permission bits of the control socket; not given, with socket_users: 0666",
    ),
    now(
        "master.socket_users",
        Live,
        Kind::Users,
        "[]",
        "users that may give orders, beside root and the master's own; each connection is checked",
    ),
    now("master.default_pool", Live, Kind::Text, "\"\"", "the pool that TTIN and TTOU act on; \"\": the only one"),
    now("master.daemon", Master, Kind::Bool, "false", "go to the background once the pools are ready; needs log.file"),
    now("master.umask", Class::None, Kind::Mode, "", "file mode mask of the master and its workers; default: the inherited one"),
    now(
        "master.on_master_death",
        Master,
        Kind::Choice(&[("stop", Now), ("keep", Later)]),
        "\"stop\"",
        "what becomes of the workers when the master is killed",
    ),
    now(
        "master.exit_when",
        Live,
        Kind::Choice(&[("never", Now), ("all-down", Now), ("required-failed", Now)]),
        "\"all-down\"",
        "when the master ends by itself; all-down: each pool is failed or completed",
    ),
    now(
        "master.second_master",
        Live,
        Kind::Choice(&[("wait", Now), ("start", Now)]),
        "\"wait\"",
        "what pools without listeners do in a second master (USR2) as long as the first is there",
    ),
    now(
        "master.linger",
        Live,
        TIME,
        "\"5s\"",
        "how long a graceful shutdown serves the accept queues first, a duration; 0: not at all",
    ),
    now(
        "master.bind_retry",
        Class::None,
        TIME,
        "\"5s\"",
        "how long a start tries again for an address that is in use, a duration; 0: not at all",
    ),
    now(
        "master.graceful_timeout",
        Live,
        Kind::Duration { zero: false },
        "\"75s\"",
        "time for a graceful shutdown, a duration; then it turns quick: quick_signal to all, KILL after quick_timeout",
    ),
    now(
        "master.log.level",
        Live,
        Kind::Choice(&[("error", Now), ("warn", Now), ("info", Now), ("debug", Now), ("trace", Now)]),
        "\"info\"",
        "least important events that the master logs",
    ),
    now("master.log.format", Live, Kind::Choice(&[("text", Now), ("json", Now)]), "\"text\"", "form of the master's log lines"),
    now("master.log.file", Live, Kind::Path, "\"\"", "the master's log file; \"\": stderr"),
    later(
        "master.log.rotation",
        Live,
        Kind::Choice(&[("never", Now), ("hourly", Now), ("daily", Now)]),
        "\"never\"",
        "when the log file is rotated",
    ),
    later("master.log.keep", Live, Kind::Int(0, 10_000), "7", "rotated log files to keep"),
    later("master.http", Live, Kind::Text, "\"\"", "address of /metrics, /livez and /readyz; \"\": off"),
    now("master.trace", Master, Kind::Path, "\"\"", "file to record the core's events in; \"\": off"),
    now(
        "master.signals.hup",
        Live,
        Kind::Choice(&[("restart", Now), ("reload", Now), ("ignore", Now)]),
        "\"restart\"",
        "what SIGHUP does; restart: re-read the config and replace all workers; reload: only those that it changes",
    ),
    now(
        "master.signals.winch",
        Live,
        Kind::Choice(&[("park", Now), ("ignore", Now)]),
        "\"park\"",
        "what SIGWINCH does without a controlling terminal",
    ),
    now("master.hooks.starting", Live, HOOK, "[]", "command run when the master starts"),
    now("master.hooks.ready", Live, HOOK, "[]", "command run when all required pools are ready"),
    now("master.hooks.reload", Live, HOOK, "[]", "command run after each reload, successful or not"),
    now(
        "master.hooks.upgrade",
        Live,
        HOOK,
        "[]",
        "command run before another program takes the place of the master's; it has to succeed",
    ),
    now("master.hooks.exit", Live, HOOK, "[]", "command run before the master ends"),
    now("master.hooks.timeout", Live, Kind::Duration { zero: false }, "\"30s\"", "longest run of a hook, a duration"),
];
