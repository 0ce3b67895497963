//! Each key of a config, changed alone under a running master and changed back: `plan` tells this key with the class of its definition and no
//! other, and then just what the class says is seen to happen, from outside. All else is looked at as well, and stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

use poolmaster::config::diff::Class;
use poolmaster::config::keys::{self, Key, Kind, When};
use serde_json::Value;

use super::listeners_kinds::{copied, number};
use super::support::*;

/// `a` is the pool that is edited, `b` the one that has nothing to do with it. `c`, `l` and `six` have the listeners that `a` cannot have beside
/// its own. Limits go up and down below hard ones, which not every root may raise again. Lines with a mark (`#a`) are places where an edit adds its line.
const POOLS: &str = r##"
[defaults]
command = "/bin/sleep 1000"
ready = "exec"
settle = "20ms"

[template.one]
quick_timeout = "6s"

[template.two]
quick_timeout = "6s"

[pool.a]
use = ["one"]
command = "/bin/sleep 1001"
workers = 2
ready = "exec"
settle = "30ms"
env_clear = true
env.A = "1"
env.PM_TEST_MARK = "DIR"
secrets.S = "file:DIR/secret1"
limits.nofile = "500:600"
limits.core = "0:4096"
limits.nproc = "6000:6000"
limits.memlock = "64K:64K"
limits.stack = "8M:16M"
limits.as = "64G:64G"
limits.cpu = "2000:unlimited"
limits.fsize = "2G:2G"
#a
[pool.a.listen]
plain = "127.0.0.1:PORT1"
[pool.a.listen.tcp]
address = "127.0.0.1:PORT2"
#tcp
[pool.a.listen.file]
address = "unix:DIR/a.sock"
#file

[pool.b]
workers = 2
listen.one = "127.0.0.1:PORT3"
listen.two = "unix:DIR/b.sock"

[pool.c]
listen.mine = { share = "b.one" }

[pool.l]
listen = "127.0.0.1:PORT4"

[pool.six]
[pool.six.listen.any]
address = "tcp://[::]:0"
#six
[pool.six.listen.fixed]
address = "tcp://[::]:PORT6"
#fixed
"##;

const MASTER: &str = "pidfile = \"DIR/run/t.pid\"\nsocket = \"DIR/run/t.sock\"\nlog.level = \"debug\"\n#master";

const NAMES: [&str; 5] = ["a", "b", "c", "l", "six"];

/// One key, and what else than pids and sockets is seen to be another way once it has changed.
#[derive(Clone, Copy)]
struct Edit {
    /// As `plan` names it.
    key: &'static str,
    /// The text of the config that goes (a mark stays), and what is there instead.
    at: &'static str,
    to: &'static str,
    /// What is another way then, and how: the value, or `~` and a part of it, or `*` for any.
    moves: &'static [(&'static str, &'static str)],
    /// Edits that are made before, for this one to be possible.
    needs: &'static [(&'static str, &'static str)],
    /// What is tried while the new value is in force.
    then: Option<fn(&Scene)>,
}

const fn edit(key: &'static str, at: &'static str, to: &'static str) -> Edit {
    Edit { key, at, to, moves: &[], needs: &[], then: None }
}

impl Edit {
    const fn moves(self, moves: &'static [(&'static str, &'static str)]) -> Edit {
        Edit { moves, ..self }
    }

    const fn needs(self, needs: &'static [(&'static str, &'static str)]) -> Edit {
        Edit { needs, ..self }
    }

    const fn then(self, then: fn(&Scene)) -> Edit {
        Edit { then: Some(then), ..self }
    }

    /// Its definition.
    fn definition(&self) -> &'static Key {
        let mut parts: Vec<&str> = self.key.split('.').collect();
        if parts[0] == "pool" {
            parts[1] = "*";
            if parts.len() > 3 && ["listen", "env", "secrets"].contains(&parts[2]) {
                parts[3] = "*";
            }
        }
        let path = parts.join(".");
        keys::all().find(|key| key.path == path).unwrap_or_else(|| panic!("{path} is no key"))
    }

    fn pool(&self) -> Option<&'static str> {
        self.key.strip_prefix("pool.").map(|rest| rest.split('.').next().unwrap())
    }

    /// As POOL.LISTENER.
    fn listener(&self) -> Option<String> {
        let mut parts = self.key.split('.').skip(1);
        let (pool, listen) = (parts.next()?, parts.next()?);
        // A lone address has this name.
        (listen == "listen").then(|| format!("{pool}.{}", parts.next().unwrap_or("main")))
    }
}

const OF_THE_MASTER: &[Edit] = &[
    edit("include", "[master]\n", "include = [\"DIR/more.toml\"]\n[master]\n"),
    edit("master.name", "name = \"t\"", "name = \"u\"").moves(&[("title", "poolmaster: master [u]"), ("files", "*")]),
    edit("master.runtime_dir", "runtime_dir = \"DIR/run\"", "runtime_dir = \"DIR/elsewhere\""),
    edit("master.pidfile", "DIR/run/t.pid", "DIR/run/other.pid").moves(&[("files", "~other.pid")]).then(|s| {
        assert_eq!(fs::read_to_string(s.m.setup.path("run/other.pid")).unwrap().trim(), s.m.pid().to_string());
    }),
    edit("master.socket", "DIR/run/t.sock", "DIR/run/other.sock").moves(&[("files", "~other.sock")]),
    edit("master.socket_mode", "#master", "socket_mode = \"0606\"").moves(&[("control", "606")]),
    edit("master.socket_users", "#master", "socket_users = [65533]").moves(&[("control", "666"), ("run", "*")]),
    edit("master.default_pool", "#master", "default_pool = \"a\"").then(|s| {
        s.m.signal(libc::SIGTTIN);
        s.m.wait_count("a", 3);
    }),
    edit("master.daemon", "#master", "daemon = true").needs(&[("#master", "log.file = \"DIR/daemon.log\"")]),
    edit("master.umask", "#master", "umask = \"0027\"").moves(&[("umask", "0027")]).then(|s| {
        s.m.ok(&["scale", "a", "+1"]);
        let masks: Vec<String> = s.m.wait_count("a", 3).iter().map(|pid| proc_status(*pid)["Umask"].clone()).collect();
        assert_eq!(masks.iter().filter(|mask| *mask == "0027").count(), 1, "only of the one that was started since: {masks:?}");
    }),
    edit("master.exit_when", "#master", "exit_when = \"never\""),
    edit("master.linger", "#master", "linger = \"700ms\""),
    edit("master.second_master", "#master", "second_master = \"start\""),
    edit("master.bind_retry", "#master", "bind_retry = \"45s\""),
    edit("master.graceful_timeout", "#master", "graceful_timeout = \"50s\""),
    edit("master.log.level", "log.level = \"debug\"", "log.level = \"warn\"").then(|s| {
        let before = s.m.log.count("scaled from");
        s.m.ok(&["scale", "a", "3"]);
        assert_eq!(s.m.log.count("scaled from"), before);
    }),
    // At level debug the config is told as well, in lines that the readers of tests leave out.
    edit("master.log.format", "#master", "log.format = \"json\"")
        .needs(&[("log.level = \"debug\"", "log.level = \"info\"")])
        .then(|s| {
            let before = s.m.log.count("scaled from");
            s.m.ok(&["scale", "a", "3"]);
            let line = s.m.log.wait_for("scaled from", before + 1);
            assert!(serde_json::from_str::<Value>(&line).is_ok_and(|line| line.is_object()), "{line}");
        }),
    edit("master.log.file", "#master", "log.file = \"DIR/file.log\"").then(|s| {
        let before = s.m.log.count("scaled from");
        s.m.ok(&["scale", "a", "3"]);
        s.m.log.wait_until("it is in the file", || fs::read_to_string(s.m.setup.path("file.log")).ok()?.find("scaled from"));
        assert_eq!(s.m.log.count("scaled from"), before);
    }),
    edit("master.trace", "#master", "trace = \"DIR/trace\"").then(|s| assert!(!s.m.setup.path("trace").exists())),
    edit("master.signals.hup", "#master", "signals.hup = \"ignore\"").then(|s| s.ignored(libc::SIGHUP)),
    edit("master.signals.winch", "#master", "signals.winch = \"ignore\"").then(|s| s.ignored(libc::SIGWINCH)),
    edit("master.hooks.starting", "#master", "hooks.starting = [\"touch\", \"DIR/starting\"]")
        .then(|s| assert!(!s.m.setup.path("starting").exists())),
    edit("master.hooks.ready", "#master", "hooks.ready = [\"touch\", \"DIR/all-ready\"]"),
    edit("master.hooks.upgrade", "#master", "hooks.upgrade = [\"touch\", \"DIR/upgraded\"]").then(|s| {
        s.m.ok(&["upgrade"]);
        s.file("upgraded");
    }),
    edit("master.hooks.reload", "#master", "hooks.reload = [\"touch\", \"DIR/reloaded\"]").then(|s| s.file("reloaded")),
    edit("master.hooks.exit", "#master", "hooks.exit = [\"touch\", \"DIR/exit\"]"),
    edit("master.hooks.timeout", "#master", "hooks.timeout = \"20s\""),
];

/// How workers are started, and how many.
const OF_THE_POOL: &[Edit] = &[
    edit("pool.a.use", "use = [\"one\"]", "use = [\"two\"]"),
    edit("pool.a.command", "sleep 1001", "sleep 1002").moves(&[("a cmdline", "/bin/sleep 1002")]),
    edit("pool.a.workers", "workers = 2\nready", "workers = 3\nready").moves(&[("a target", "3"), ("a config_workers", "3")]),
    edit("pool.a.working_dir", "#a", "working_dir = \"/usr\"").moves(&[("a cwd", "/usr")]),
    edit("pool.a.required", "#a", "required = true").moves(&[("a required", "true")]),
    edit("pool.a.boot", "#a", "boot = \"retry\""),
    edit("pool.a.after", "#a", "after = [\"b\"]"),
    edit("pool.a.autostart", "#a", "autostart = false"),
    edit("pool.a.user", "#a", "user = 65534").moves(&[
        ("a Uid", "65534 65534 65534 65534"),
        ("a Gid", "*"),
        ("a Groups", "*"),
        ("a capabilities", "*"),
        ("a env", "*"),
    ]),
    edit("pool.a.group", "#a", "group = 12").moves(&[("a Gid", "12 12 12 12")]),
    edit("pool.a.supplementary_groups", "#a", "supplementary_groups = [7, 34]").moves(&[("a Groups", "7 34")]),
    edit("pool.a.umask", "#a", "umask = \"0023\"").moves(&[("a Umask", "0023")]),
    edit("pool.a.chroot", "#a", "chroot = \"/usr\"").moves(&[("a root", "/usr"), ("a cwd", "/usr")]),
    edit("pool.a.nice", "#a", "nice = 5").moves(&[("a nice", "5")]),
    edit("pool.a.oom_score_adj", "#a", "oom_score_adj = 250").moves(&[("a oom_score_adj", "250")]),
    edit("pool.a.cpu_affinity", "#a", "cpu_affinity = [0]").moves(&[("a Cpus_allowed_list", "0")]),
    edit("pool.a.no_new_privileges", "#a", "no_new_privileges = true").moves(&[("a NoNewPrivs", "1")]),
    edit("pool.a.capabilities", "#a", "capabilities = [\"net_bind_service\"]")
        .moves(&[("a capabilities", "~0000000000000400 0000000000000400 0000000000000400")]),
    edit("pool.a.protocols", "#a", "protocols = [\"systemd\", \"einhorn\"]").moves(&[("a env", "~EINHORN_FD")]),
    edit("pool.a.listen_pid", "#a", "listen_pid = \"omit\"").moves(&[("a env", "*")]).then(|s| {
        assert!(s.m.pids("a").iter().all(|pid| !environ(*pid).contains_key("LISTEN_PID")));
    }),
    edit("pool.a.argv0", "#a", "argv0 = \"other\"").moves(&[("a cmdline", "other 1001")]),
    edit("pool.a.env_clear", "env_clear = true", "env_clear = false").moves(&[("a env", "~NOT_THIS=x")]),
    edit("pool.a.env_pass", "#a", "env_pass = [\"PATH\", \"KEEP_*\"]").moves(&[("a env", "~KEEP_THIS=kept")]),
    edit("pool.a.env_files", "#a", "env_files = [\"DIR/variables\"]").moves(&[("a env", "~FROM_FILE=yes")]),
    edit("pool.a.env.A", "env.A = \"1\"", "env.A = \"2\"").moves(&[("a env", "~ A=2 ")]),
    edit("pool.a.secrets.S", "DIR/secret1", "DIR/secret2").moves(&[("a env", "~ S=other ")]),
];

/// What is decided for workers, and what running ones are given.
const OF_THEIR_LIVES: &[Edit] = &[
    edit("pool.a.ready", "ready = \"exec\"\nsettle = \"30ms\"", "ready = \"delay:10ms\"\nsettle = \"30ms\""),
    edit("pool.a.start_timeout", "#a", "start_timeout = \"50s\""),
    edit("pool.a.settle", "settle = \"30ms\"", "settle = \"10ms\""),
    edit("pool.a.boot_error_codes", "#a", "boot_error_codes = [77]"),
    edit("pool.a.max_starting", "#a", "max_starting = 1"),
    edit("pool.a.spawn_interval", "#a", "spawn_interval = \"10ms\""),
    edit("pool.a.timeout", "#a", "timeout = \"50s\""),
    edit("pool.a.timeout_from", "#a", "timeout_from = \"ready\""),
    edit("pool.a.abort_grace", "#a", "abort_grace = \"4s\""),
    edit("pool.a.graceful_timeout", "#a", "graceful_timeout = \"20s\""),
    edit("pool.a.stop_signal", "#a", "stop_signal = \"INT\"").then(|s| {
        s.up_and_down();
        s.m.log.wait_for("stopping with SIGINT: scale-down", 1);
    }),
    edit("pool.a.stop_sequence", "#a", "stop_sequence = [\"HUP\", \"20s\"]").then(|s| {
        s.up_and_down();
        s.m.log.wait_for("stopping with SIGHUP: scale-down", 1);
    }),
    edit("pool.a.quick_signal", "#a", "quick_signal = \"QUIT\""),
    edit("pool.a.quick_timeout", "#a", "quick_timeout = \"4s\""),
    edit("pool.a.kill_mode", "#a", "kill_mode = \"process\""),
    edit("pool.a.reopen_signal", "#a", "reopen_signal = \"USR1\"").then(|s| {
        // It ends whom it reaches: `sleep` knows no such signal.
        let old = s.m.pids("a");
        s.m.ok(&["reopen"]);
        old.iter().for_each(|pid| wait_gone(*pid, Instant::now() + PATIENCE));
        s.m.wait_count("a", 2);
    }),
    edit("pool.a.min_ready", "#a", "min_ready = 2").moves(&[("a min_ready", "2")]),
    edit("pool.a.restart.policy", "#a", "restart.policy = \"never\"").then(|s| {
        let (old, before) = (s.m.pids("a"), s.m.log.count("killed by SIGKILL"));
        kill(old[0], libc::SIGKILL);
        let line = s.m.log.wait_for("killed by SIGKILL", before + 1);
        assert!(!line.contains("restarting"), "{line}");
        assert_eq!(s.m.all_pids("a"), [old[1]], "it is not replaced");
        assert_eq!((s.m.pool("a")["live"].as_u64(), s.m.pool("a")["starting"].as_u64()), (Some(1), Some(0)));
    }),
    edit("pool.a.restart.success_codes", "#a", "restart.success_codes = [0, 7]"),
    edit("pool.a.restart.backoff.first", "#a", "restart.backoff.first = \"60ms\""),
    edit("pool.a.restart.backoff.base", "#a", "restart.backoff.base = \"150ms\""),
    edit("pool.a.restart.backoff.factor", "#a", "restart.backoff.factor = 3.0"),
    edit("pool.a.restart.backoff.max", "#a", "restart.backoff.max = \"9s\""),
    edit("pool.a.restart.backoff.jitter", "#a", "restart.backoff.jitter = 0.0"),
    edit("pool.a.restart.backoff.reset_after", "#a", "restart.backoff.reset_after = \"30s\""),
    edit("pool.a.restart.budget.failures", "#a", "restart.budget.failures = 7"),
    edit("pool.a.restart.budget.within", "#a", "restart.budget.within = \"40s\""),
    edit("pool.a.restart.give_up_after", "#a", "restart.give_up_after = 2"),
    edit("pool.a.scale.up_signal", "#a", "scale.up_signal = \"RTMIN+1\"").then(|s| {
        s.m.signal(libc::SIGRTMIN() + 1);
        s.m.wait_count("a", 3);
    }),
    edit("pool.a.scale.down_signal", "#a", "scale.down_signal = \"RTMIN+2\"").then(|s| {
        s.m.signal(libc::SIGRTMIN() + 2);
        s.m.wait_count("a", 1);
    }),
    edit("pool.a.scale.restart_signal", "#a", "scale.restart_signal = \"RTMIN+3\"").then(|s| {
        let old = s.m.pids("a");
        s.m.signal(libc::SIGRTMIN() + 3);
        old.iter().for_each(|pid| wait_gone(*pid, Instant::now() + PATIENCE));
    }),
    edit("pool.a.scale.min", "#a", "scale.min = 2").moves(&[("a min", "2")]),
    edit("pool.a.scale.max", "#a", "scale.max = 5").moves(&[("a max", "5")]),
    edit("pool.a.scale.remove", "#a", "scale.remove = \"newest\"").then(|s| {
        let old = s.m.pids("a");
        s.up_and_down();
        assert_eq!(s.m.pids("a"), old, "the newest went");
    }),
    edit("pool.a.rollout.max_surge", "#a", "rollout.max_surge = 2"),
    edit("pool.a.rollout.max_unavailable", "#a", "rollout.max_unavailable = 1"),
    edit("pool.a.rollout.canary", "#a", "rollout.canary = 2"),
    edit("pool.a.rollout.failures", "#a", "rollout.failures = 5"),
    edit("pool.a.rollout.on_failure", "#a", "rollout.on_failure = \"halt\""),
    edit("pool.a.rollout.bake", "#a", "rollout.bake = \"10ms\""),
    edit("pool.a.rollout.max_old_generations", "#a", "rollout.max_old_generations = 3"),
    edit("pool.a.limits.nofile", "nofile = \"500:600\"", "nofile = \"300:600\"").moves(&[("a Max open files", "300 600")]),
    edit("pool.a.limits.core", "core = \"0:4096\"", "core = \"4096:4096\"").moves(&[("a Max core file size", "4096 4096")]),
    edit("pool.a.limits.nproc", "nproc = \"6000:6000\"", "nproc = \"5000:6000\"").moves(&[("a Max processes", "5000 6000")]),
    edit("pool.a.limits.memlock", "memlock = \"64K:64K\"", "memlock = \"32K:64K\"")
        .moves(&[("a Max locked memory", "32768 65536")]),
    edit("pool.a.limits.stack", "stack = \"8M:16M\"", "stack = \"4M:16M\"").moves(&[("a Max stack size", "4194304 16777216")]),
    edit("pool.a.limits.as", "as = \"64G:64G\"", "as = \"32G:64G\"").moves(&[("a Max address space", "34359738368 68719476736")]),
    edit("pool.a.limits.cpu", "cpu = \"2000:unlimited\"", "cpu = \"1000:unlimited\"")
        .moves(&[("a Max cpu time", "1000 unlimited")]),
    edit("pool.a.limits.fsize", "fsize = \"2G:2G\"", "fsize = \"1G:2G\"").moves(&[("a Max file size", "1073741824 2147483648")]),
    edit("pool.a.log.stdout", "#a", "log.stdout = \"null\"").moves(&[("a stdout", "/dev/null")]),
    edit("pool.a.log.stderr", "#a", "log.stderr = \"null\"").moves(&[("a stderr", "/dev/null")]),
    edit("pool.a.log.max_line", "#a", "log.max_line = \"80\""),
    edit("pool.a.hooks.pre_start", "#a", "hooks.pre_start = [\"touch\", \"DIR/pre_start\"]").then(|s| {
        assert!(!s.m.setup.path("pre_start").exists());
        s.m.ok(&["reload", "--restart", "--pool", "a"]);
        s.file("pre_start");
    }),
    edit("pool.a.hooks.pre_spawn", "#a", "hooks.pre_spawn = [\"touch\", \"DIR/pre_spawn\"]").then(|s| s.hook("pre_spawn")),
    edit("pool.a.hooks.post_spawn", "#a", "hooks.post_spawn = [\"touch\", \"DIR/post_spawn\"]").then(|s| s.hook("post_spawn")),
    edit("pool.a.hooks.ready", "#a", "hooks.ready = [\"touch\", \"DIR/ready\"]").then(|s| s.hook("ready")),
    edit("pool.a.hooks.pre_stop", "#a", "hooks.pre_stop = [\"touch\", \"DIR/pre_stop\"]").then(|s| s.hook("pre_stop")),
    edit("pool.a.hooks.worker_exit", "#a", "hooks.worker_exit = [\"touch\", \"DIR/worker_exit\"]")
        .then(|s| s.hook("worker_exit")),
    edit("pool.a.hooks.scaled", "#a", "hooks.scaled = [\"touch\", \"DIR/scaled\"]").then(|s| s.hook("scaled")),
    edit("pool.a.hooks.timeout", "#a", "hooks.timeout = \"20s\""),
];

const OF_LISTENERS: &[Edit] = &[
    edit("pool.l.listen", "127.0.0.1:PORT4", "127.0.0.1:PORT5").moves(&[("l.main address", "*")]),
    edit("pool.a.listen.plain", "127.0.0.1:PORT1", "127.0.0.1:PORT5").moves(&[("a.plain address", "*")]),
    edit("pool.a.listen.tcp.address", "127.0.0.1:PORT2", "127.0.0.1:PORT5").moves(&[("a.tcp address", "*")]),
    edit("pool.a.listen.tcp.backlog", "#tcp", "backlog = 77").moves(&[("a.tcp queue", "77")]),
    edit("pool.a.listen.tcp.reuseport", "#tcp", "reuseport = true").moves(&[
        ("a.tcp sharing", "reuseport"),
        ("a.tcp reuseport", "1"),
        ("a.tcp queue", "*"),
    ]),
    edit("pool.a.listen.tcp.nonblocking", "#tcp", "nonblocking = true").moves(&[("a.tcp nonblocking", "1")]),
    edit("pool.a.listen.tcp.nodelay", "#tcp", "nodelay = false").moves(&[("a.tcp nodelay", "0")]),
    edit("pool.a.listen.file.mode", "#file", "mode = \"0602\"").moves(&[("a.file mode", "602")]),
    edit("pool.a.listen.file.owner", "#file", "owner = 65533").moves(&[("a.file owner", "65533")]),
    edit("pool.a.listen.file.group", "#file", "group = 65532").moves(&[("a.file group", "65532")]),
    edit("pool.six.listen.any.v6only", "#six", "v6only = true").moves(&[("six.any address", "*"), ("six.any v6only", "1")]),
    edit("pool.six.listen.fixed.v6only", "#fixed", "v6only = true"),
    edit("pool.a.listen.tcp.freebind", "#tcp", "freebind = true").moves(&[("a.tcp freebind", "1")]),
    edit("pool.a.listen.tcp.defer_accept", "#tcp", "defer_accept = \"3s\"").moves(&[("a.tcp defer_accept", "1")]),
    edit("pool.a.listen.tcp.fastopen", "#tcp", "fastopen = 5").moves(&[("a.tcp fastopen", "5")]),
    edit("pool.a.listen.tcp.keepalive", "#tcp", "keepalive = true").moves(&[("a.tcp keepalive", "1")]),
    edit("pool.a.listen.tcp.device", "#tcp", "device = \"lo\"").moves(&[("a.tcp device", "1")]),
    edit("pool.a.listen.tcp.mark", "#tcp", "mark = 7").moves(&[("a.tcp mark", "7")]),
    edit("pool.c.listen.mine.share", "share = \"b.one\"", "share = \"b.two\"").moves(&[
        ("c.mine address", "~b.sock"),
        ("c.mine sharing", "with b.two"),
        ("c.mine*", "*"),
    ]),
];

/// Keys with one value only in this version: there is no other one to change them to.
const ONE_VALUE: [&str; 2] = ["master.on_master_death", "pool.*.scale.mode"];

/// Keys that `plan` does not name: what they bring is told key by key.
const UNNAMED: [&str; 2] = ["include", "pool.*.use"];

/// What happens instead of what the class says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// The reload is refused, in these words.
    Refused(&'static str),
}

/// Keys that do otherwise than their class says.
const KNOWN: [(&str, Instead); 1] = [
    // The address is taken by the open socket, of the master itself.
    ("pool.six.listen.fixed.v6only", Instead::Refused("which is this master itself")),
];

/// What is not as before once the key has its old value again: the edit, and what is left of it.
const STAYS: [(&str, &str); 3] = [
    // Never taken away from servers that may rely on it, as the manual says.
    ("pool.a.listen.tcp.nonblocking", "a.tcp nonblocking"),
    // Any free port is another one each time.
    ("pool.six.listen.any.v6only", "six.any address"),
    // The lock of the other name.
    ("master.name", "files"),
];

fn edits() -> impl Iterator<Item = &'static Edit> {
    OF_THE_MASTER.iter().chain(OF_THE_POOL).chain(OF_THEIR_LIVES).chain(OF_LISTENERS)
}

#[test]
fn each_key_has_an_edit() {
    let mut left: BTreeSet<&str> = keys::all().filter(|key| key.when == When::Now).map(|key| key.path).collect();
    for edit in edits() {
        let path = edit.definition().path;
        assert!(left.remove(path) || known(edit).is_some(), "{}: twice, or not in this version", edit.key);
    }
    // Lists that name nobody are of no use.
    let named = KNOWN.iter().map(|(key, _)| key).chain(STAYS.iter().map(|(key, _)| key));
    named.for_each(|key| assert!(edits().any(|edit| edit.key == *key), "{key} is no edit"));
    for path in ONE_VALUE {
        assert!(left.remove(path), "{path}: it has an edit, or is not in this version");
        let key = keys::all().find(|key| key.path == path).unwrap();
        let Kind::Choice(words) = key.kind else { panic!("{path} is no choice") };
        assert_eq!(words.iter().filter(|(_, when)| *when == When::Now).count(), 1, "{path} has another value");
    }
    assert_eq!(left, BTreeSet::new(), "nobody changes these");
}

/// All that is looked at.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// By pool, in the order of the slots.
    pids: BTreeMap<String, Vec<i32>>,
    /// The inode, by POOL.LISTENER.
    sockets: BTreeMap<String, u64>,
    /// Everything else.
    traits: BTreeMap<String, String>,
}

impl Seen {
    /// What is another way in `new`.
    fn moved(&self, new: &Seen) -> BTreeMap<String, String> {
        let names: BTreeSet<&String> = self.traits.keys().chain(new.traits.keys()).collect();
        let moved = names.into_iter().filter(|name| self.traits.get(*name) != new.traits.get(*name));
        moved.map(|name| (name.clone(), new.traits.get(name).cloned().unwrap_or_default())).collect()
    }
}

/// A running master, and the text of its config as it was at the start.
struct Scene {
    m: Master,
    base: String,
    ports: [u16; 6],
}

/// PORT1 to PORT6 are these.
fn with_ports(text: &str, ports: &[u16]) -> String {
    (1..).zip(ports).fold(text.to_owned(), |text, (n, port)| text.replace(&format!("PORT{n}"), &port.to_string()))
}

impl Scene {
    fn start() -> Scene {
        let ports = [(); 6].map(|()| free_port());
        let s = setup(&with_ports(POOLS, &ports)).master(MASTER).env("NOT_THIS", "x").env("KEEP_THIS", "kept");
        for (name, text) in [("secret1", "one\n"), ("secret2", "other\n"), ("variables", "FROM_FILE=yes\n")] {
            fs::write(s.path(name), text).unwrap();
            fs::set_permissions(s.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(s.path("more.toml"), "[template.more]\nnice = 5\n").unwrap();
        let m = s.start().ready();
        let base = fs::read_to_string(&m.config).unwrap();
        Scene { m, base, ports }
    }

    /// One more worker, and one fewer.
    fn up_and_down(&self) {
        self.m.ok(&["scale", "a", "+1"]);
        self.m.wait_count("a", 3);
        self.m.ok(&["scale", "a", "-1"]);
        self.m.wait_count("a", 2);
    }

    fn file(&self, name: &str) {
        self.m.log.wait_until(&format!("{name} is there"), || self.m.setup.path(name).exists().then_some(()));
    }

    /// A hook is run from now on.
    fn hook(&self, name: &str) {
        assert!(!self.m.setup.path(name).exists(), "not before there is a reason");
        self.up_and_down();
        self.file(name);
    }

    fn ignored(&self, signal: i32) {
        let (old, before) = (self.m.pids("a"), self.m.log.count("ignored"));
        self.m.signal(signal);
        self.m.log.wait_for("ignored", before + 1);
        assert_eq!(self.m.pids("a"), old);
    }

    /// The config from now on, and what `plan` says of it.
    fn write(&self, text: &str) -> Value {
        fs::write(&self.m.config, text).unwrap();
        let reply = self.m.request(r#"{"method":"plan"}"#);
        assert!(reply.get("error").is_none(), "{reply}");
        reply["parameters"].clone()
    }

    /// The exit code and the words of a reload.
    fn reload(&mut self) -> (u64, String) {
        let reply = self.m.request(r#"{"method":"reload"}"#);
        // Orders go to where the config says from now on.
        let text = fs::read_to_string(&self.m.config).unwrap();
        let socket = text.lines().find_map(|line| line.strip_prefix("socket = ")).unwrap();
        self.m.socket = socket.trim_matches('"').into();
        let of = &reply["parameters"];
        (of["code"].as_u64().unwrap(), of["message"].as_str().unwrap().to_owned())
    }

    /// Looks at everything, once all is calm.
    fn look(&self) -> Seen {
        let mut seen = Seen::default();
        let pools = self.m.log.wait_until("all is calm", || {
            let reply = self.m.request(r#"{"method":"status","parameters":{"workers":true}}"#);
            let pools = reply["parameters"]["pools"].as_array()?.clone();
            let calm = |p: &Value| {
                p["live"] == p["ready"] && p["live"].as_u64() == Some(p["workers"].as_array().map_or(0, Vec::len) as u64)
            };
            pools.iter().all(calm).then_some(pools)
        });
        assert_eq!(pools.iter().map(|p| p["name"].as_str().unwrap()).collect::<Vec<_>>(), NAMES);
        for pool in &pools {
            let name = pool["name"].as_str().unwrap();
            for key in ["phase", "target", "config_workers", "operator", "min", "max", "min_ready", "required", "degraded", "why"]
            {
                let value = pool[key].as_str().map_or_else(|| pool[key].to_string(), str::to_owned);
                seen.traits.insert(format!("{name} {key}"), value);
            }
            let pids: Vec<i32> =
                pool["workers"].as_array().unwrap().iter().map(|w| i32::try_from(w["pid"].as_i64().unwrap()).unwrap()).collect();
            for (key, value) in pids.iter().flat_map(|pid| self.of_worker(*pid)) {
                let all = seen.traits.entry(format!("{name} {key}")).or_default();
                if all.is_empty() {
                    *all = value;
                } else if !all.split(" | ").any(|one| one == value) {
                    all.push_str(" | ");
                    all.push_str(&value);
                }
            }
            seen.pids.insert(name.to_owned(), pids);
        }
        self.of_listeners(&mut seen);
        self.of_the_master(&mut seen);
        seen
    }

    fn of_worker(&self, pid: i32) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap().display().to_string();
        let status = proc_status(pid);
        for key in ["Uid", "Gid", "Groups", "Umask", "NoNewPrivs", "Cpus_allowed_list"] {
            out.insert(key.to_owned(), words(&status[key]));
        }
        let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| status[set].clone());
        out.insert("capabilities".to_owned(), sets.join(" "));
        out.insert("nice".to_owned(), proc_stat(pid)[16].clone());
        out.insert("oom_score_adj".to_owned(), words(&fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap()));
        for line in fs::read_to_string(format!("/proc/{pid}/limits")).unwrap().lines().filter(|l| l.starts_with("Max")) {
            let (name, rest) = line.split_at(26);
            out.insert(name.trim().to_owned(), rest.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
        }
        out.insert("cmdline".to_owned(), cmdline(pid));
        out.insert("cwd".to_owned(), link("cwd"));
        out.insert("root".to_owned(), link("root"));
        let own = fs::read_link(format!("/proc/{}/fd/1", self.m.pid())).unwrap().display().to_string();
        for (name, number) in [("stdout", 1), ("stderr", 2)] {
            let to = link(&format!("fd/{number}"));
            let to = if to == own {
                "the master's stdout"
            } else if to.starts_with("pipe:") {
                "a pipe"
            } else {
                &to
            };
            out.insert(name.to_owned(), to.to_owned());
        }
        // What is another one for each worker by its nature.
        let of_its_own = |name: &str| name.starts_with("POOLMASTER") || ["NOTIFY_SOCKET", "LISTEN_PID", MARK].contains(&name);
        let env = environ(pid).into_iter().map(|(name, value)| if of_its_own(&name) { name } else { format!("{name}={value}") });
        out.insert("env".to_owned(), format!(" {} ", env.collect::<Vec<_>>().join(" ")));
        out
    }

    fn of_listeners(&self, seen: &mut Seen) {
        let reply = self.m.request(r#"{"method":"listeners"}"#);
        let open: BTreeSet<String> = fds(self.m.pid()).into_values().collect();
        for listener in reply["parameters"]["listeners"].as_array().unwrap() {
            let (pool, name) = (listener["pool"].as_str().unwrap(), listener["name"].as_str().unwrap());
            let inode = listener["inode"].as_u64().unwrap();
            let link = format!("socket:[{inode}]");
            assert!(open.contains(&link), "{pool}.{name}: {open:?}");
            // One for all, or one of those of the slots for each.
            let slots = listener["slots"].as_array().into_iter().flatten().map(|slot| format!("socket:[{}]", slot["inode"]));
            let links: BTreeSet<String> = slots.chain([link]).collect();
            for pid in &seen.pids[pool] {
                assert!(fds(*pid).values().any(|to| links.contains(to)), "{pool}.{name}: {pid} does not have it");
            }
            let mut set = |what: &str, value: String| drop(seen.traits.insert(format!("{pool}.{name} {what}"), value));
            let address = listener["address"].as_str().unwrap();
            set("address", address.to_owned());
            set("queue", listener["queue_limit"].to_string());
            set("sharing", listener["sharing"].as_str().unwrap().to_owned());
            if let Some(path) = address.strip_prefix("unix:") {
                let file = fs::symlink_metadata(path).unwrap();
                set("mode", format!("{:o}", file.mode() & 0o777));
                set("owner", file.uid().to_string());
                set("group", file.gid().to_string());
            }
            let socket = copied(self.m.pid(), i32::try_from(listener["fd"].as_i64().unwrap()).unwrap()).unwrap();
            // SAFETY: asks for flags.
            let flags = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::F_GETFL) };
            set("nonblocking", u8::from(flags & libc::O_NONBLOCK != 0).to_string());
            if address.starts_with("tcp:") {
                let (ip, tcp, sol) = (libc::IPPROTO_IP, libc::IPPROTO_TCP, libc::SOL_SOCKET);
                for (what, level, option) in [
                    ("nodelay", tcp, libc::TCP_NODELAY),
                    ("fastopen", tcp, libc::TCP_FASTOPEN),
                    ("keepalive", sol, libc::SO_KEEPALIVE),
                    ("mark", sol, libc::SO_MARK),
                    ("device", sol, libc::SO_BINDTOIFINDEX),
                    ("reuseport", sol, libc::SO_REUSEPORT),
                    ("freebind", ip, libc::IP_FREEBIND),
                ] {
                    set(what, number(&socket, level, option).to_string());
                }
                // The kernel rounds it.
                set("defer_accept", number(&socket, tcp, libc::TCP_DEFER_ACCEPT).min(1).to_string());
            }
            if address.contains("[::]") {
                set("v6only", number(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).to_string());
            }
            seen.sockets.insert(format!("{pool}.{name}"), inode);
        }
    }

    fn of_the_master(&self, seen: &mut Seen) {
        let pid = self.m.pid();
        let run = self.m.setup.path("run");
        let mut files: Vec<String> =
            fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        files.sort();
        let mode = |path| format!("{:o}", fs::metadata(path).unwrap().mode() & 0o777);
        for (name, value) in [
            ("title", cmdline(pid)),
            ("umask", proc_status(pid)["Umask"].clone()),
            ("control", mode(&self.m.socket)),
            ("run", mode(&run)),
            ("files", files.join(" ")),
        ] {
            seen.traits.insert(name.to_owned(), value.trim().to_owned());
        }
    }

    /// `plan` names this key, with its class, and no other; gives the old value and the new one.
    #[track_caller]
    fn told(&self, plan: &Value, edit: &Edit) -> (Value, Value) {
        let (key, class) = (edit.key, edit.definition().class);
        let of_pools = plan["pools"].as_array().unwrap().iter().flat_map(|pool| pool["changes"].as_array().unwrap());
        let changes: Vec<&Value> = plan["master"].as_array().unwrap().iter().chain(of_pools).collect();
        let named: Vec<(&str, &str)> =
            changes.iter().map(|c| (c["key"].as_str().unwrap(), c["class"].as_str().unwrap())).collect();
        let verdict = |name: &str| match class {
            _ if edit.pool() != Some(name) || UNNAMED.contains(&edit.definition().path) => "same",
            Class::Rolling | Class::Rebind => "rolling",
            Class::None | Class::Live | Class::Master => "live",
        };
        assert_eq!(plan["pools"].as_array().unwrap().len(), NAMES.len(), "{key}: {plan}");
        for (pool, name) in plan["pools"].as_array().unwrap().iter().zip(NAMES) {
            assert_eq!((pool["name"].as_str(), pool["verdict"].as_str()), (Some(name), Some(verdict(name))), "{key}: {plan}");
        }
        if UNNAMED.contains(&edit.definition().path) {
            assert_eq!(named, [], "{key}");
            return (Value::Null, Value::Null);
        }
        assert_eq!(named, [(key, class.word())], "{key}");
        assert_eq!(plan["class"], class.word(), "{key}: {plan}");
        (changes[0]["old"]["value"].clone(), changes[0]["new"]["value"].clone())
    }

    /// What is seen after an edit is what its class says, and what was said it moves.
    #[track_caller]
    fn judge(&self, edit: &Edit, said: &str, before: &Seen, after: &Seen) {
        let (key, class) = (edit.key, edit.definition().class);
        let known = known(edit);
        for (pool, old) in &before.pids {
            let new = &after.pids[pool];
            let replaced = (Class::Rolling..=Class::Rebind).contains(&class) && edit.pool() == Some(pool);
            if key == "pool.a.workers" && pool == "a" {
                let (few, many) = if old.len() < new.len() { (old, new) } else { (new, old) };
                assert!(few.len() + 1 == many.len() && few.iter().all(|pid| many.contains(pid)), "{key}: {old:?} {new:?}");
            } else if replaced {
                assert!(new.len() == old.len() && new.iter().all(|pid| !old.contains(pid)), "{key}: {pool} {old:?} {new:?}");
                old.iter().for_each(|pid| assert!(!is_alive(*pid), "{key}: {pid} is still there"));
            } else {
                assert_eq!(new, old, "{key}: workers of {pool}");
            }
        }
        assert_eq!(
            said.contains("no worker had to be replaced"),
            class < Class::Rolling || class == Class::Master,
            "{key}: {said}"
        );
        assert_eq!(
            before.sockets.keys().collect::<Vec<_>>(),
            after.sockets.keys().collect::<Vec<_>>(),
            "{key}: the same listeners"
        );
        for (listener, old) in &before.sockets {
            let another = class == Class::Rebind && edit.listener().as_ref() == Some(listener) && known.is_none();
            assert_eq!(after.sockets[listener] != *old, another, "{key}: the socket of {listener}");
            // But one that another listener has as well.
            if another && !after.sockets.values().any(|inode| inode == old) {
                let link = format!("socket:[{old}]");
                let closed = || (!fds(self.m.pid()).values().any(|to| *to == link)).then_some(());
                self.m.log.wait_until(&format!("{key}: the old socket is closed"), closed);
            }
        }
    }
}

fn known(edit: &Edit) -> Option<Instead> {
    KNOWN.iter().find(|(key, _)| *key == edit.key).map(|(_, instead)| *instead)
}

/// The text with another line in it; what is asked for is there once.
fn edited(text: &str, at: &str, to: &str, scene: &Scene) -> String {
    let dir = scene.m.setup.dir.path().display().to_string();
    let filled = |text: &str| with_ports(&text.replace("DIR", &dir), &scene.ports);
    let (at, to) = (filled(at), filled(to));
    let (at, to) = match at.starts_with('#') {
        true => (format!("{at}\n"), format!("{to}\n{at}\n")),
        false => (at, to),
    };
    assert_eq!(text.matches(&at).count(), 1, "{at:?} in {text}");
    text.replacen(&at, &to, 1)
}

/// A name that ends with `*` stands for all that begin so.
fn named(name: &str, full: &str) -> bool {
    name.strip_suffix('*').map_or(name == full, |start| full.starts_with(start))
}

/// Makes one edit, looks, and takes it back.
fn try_one(scene: &mut Scene, edit: &Edit, before: Seen) -> Seen {
    let (key, class) = (edit.key, edit.definition().class);
    let mut text = scene.base.clone();
    let mut before = before;
    for (at, to) in edit.needs {
        text = edited(&text, at, to, scene);
        scene.write(&text);
        assert_eq!(scene.reload().0, 0, "{key}: what it needs");
        before = scene.look();
    }
    let new = edited(&text, edit.at, edit.to, scene);
    let (old_value, new_value) = {
        let plan = scene.write(&new);
        scene.told(&plan, edit)
    };
    let (code, said) = scene.reload();
    if let Some(Instead::Refused(words)) = known(edit) {
        assert!(code == 3 && said.contains(words), "{key}: {code} {said}");
        let after = scene.look();
        assert_eq!(
            (&after.pids, &after.sockets, before.moved(&after)),
            (&before.pids, &before.sockets, BTreeMap::new()),
            "{key}"
        );
        fs::write(&scene.m.config, &scene.base).unwrap();
        return after;
    }
    assert_eq!(code, 0, "{key}: {said}");
    let after = scene.look();
    scene.judge(edit, &said, &before, &after);
    let waits = said.contains("the old value holds until the master is started anew");
    assert_eq!((waits, waits && said.contains(key)), (class == Class::Master, class == Class::Master), "{key}: {said}");
    let moved = before.moved(&after);
    // On a host with one CPU there is no other to be kept from.
    let idle = key == "pool.a.cpu_affinity" && before.traits["a Cpus_allowed_list"] == "0";
    for (name, value) in edit.moves.iter().filter(|_| !idle) {
        assert!(moved.keys().any(|what| named(name, what)), "{key}: {name} is as it was");
        for (what, is) in moved.iter().filter(|(what, _)| named(name, what)) {
            let right = *value == "*" || value.strip_prefix('~').map_or(is == value, |part| is.contains(part));
            assert!(right, "{key}: {what} is {is:?}, not {value:?}");
        }
    }
    let more: Vec<_> = moved.iter().filter(|(what, _)| !edit.moves.iter().any(|(name, _)| named(name, what))).collect();
    assert!(more.is_empty(), "{key} moves more: {more:?}");
    if class == Class::Master {
        // It goes on waiting.
        let plan = scene.m.request(r#"{"method":"plan"}"#)["parameters"].clone();
        scene.told(&plan, edit);
    }
    let mut there = after;
    if let Some(then) = edit.then {
        then(scene);
        there = scene.look();
    }

    // And back. By the master's own answer the new value is in force, and all else is as it was.
    let plan = scene.write(&text);
    if class == Class::Master {
        assert_eq!((&plan["class"], &plan["master"]), (&"none".into(), &Value::Array(Vec::new())), "{key}: {plan}");
    } else {
        assert_eq!(scene.told(&plan, edit), (new_value, old_value), "{key}: the other way round");
    }
    let (code, said) = scene.reload();
    assert_eq!(code, 0, "{key}: {said}");
    assert!(!said.contains("started anew"), "{key}: {said}");
    let mut back = scene.look();
    // What was tried may have left a pool that lacks a worker.
    if key != "pool.a.restart.policy" {
        scene.judge(edit, &said, &there, &back);
    }
    if edit.then.is_none() {
        let left = before.moved(&back);
        let stays: Vec<&str> = STAYS.iter().filter(|(edited, _)| *edited == key).map(|(_, name)| *name).collect();
        assert_eq!(left.keys().collect::<Vec<_>>(), stays, "{key}: all is as before: {left:?}");
    }
    if edit.then.is_some() || !edit.needs.is_empty() {
        scene.write(&scene.base);
        assert_eq!(scene.reload().0, 0);
        scene.m.ok(&["scale", "a", "config"]);
        scene.m.ok(&["restart", "a"]);
        scene.m.wait_count("a", 2);
        back = scene.look();
    }
    back
}

/// Why it cannot be tried here: root of a container may lack some capability.
fn lacks_something() -> Option<&'static str> {
    // chown, kill, setgid, setuid, setpcap, net_bind_service, net_admin, net_raw, sys_chroot, sys_ptrace, sys_nice
    // (linux/capability.h).
    const NEEDED: [u32; 11] = [0, 5, 6, 7, 8, 10, 12, 13, 18, 19, 23];
    let have = u64::from_str_radix(proc_status(std::process::id().cast_signed())["CapEff"].trim(), 16).unwrap();
    if !is_root() || NEEDED.iter().any(|bit| have & 1 << bit == 0) {
        return Some("needs root with all of its capabilities");
    }
    std::net::TcpListener::bind("[::1]:0").is_err().then_some("needs IPv6")
}

fn try_all(test: &str, edits: &[Edit]) {
    if let Some(why) = lacks_something() {
        return skip(test, why);
    }
    let mut scene = Scene::start();
    let pid = scene.m.pid();
    let mut seen = scene.look();
    let bystander = seen.pids["b"].clone();
    for edit in edits {
        seen = try_one(&mut scene, edit, seen);
        assert!(is_alive(pid), "{}", edit.key);
    }
    assert_eq!(seen.pids["b"], bystander, "never touched");
    assert_eq!(scene.m.stop(), 0);
}

#[test]
fn each_edit_of_the_master_does_what_its_class_says() {
    try_all("each_edit_of_the_master_does_what_its_class_says", OF_THE_MASTER);
}

#[test]
fn each_edit_of_a_pool_does_what_its_class_says() {
    try_all("each_edit_of_a_pool_does_what_its_class_says", OF_THE_POOL);
}

#[test]
fn each_edit_of_what_becomes_of_workers_does_what_its_class_says() {
    try_all("each_edit_of_what_becomes_of_workers_does_what_its_class_says", OF_THEIR_LIVES);
}

#[test]
fn each_edit_of_a_listener_does_what_its_class_says() {
    try_all("each_edit_of_a_listener_does_what_its_class_says", OF_LISTENERS);
}
