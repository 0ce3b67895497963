//! One config in which every key is set, started for real, each effect seen from outside: in /proc, at the sockets, in files, in the log, in
//! the master's answers. What cannot be seen beside the others names the test that sees it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use poolmaster::config::keys::{self, When};
use serde_json::Value;

use super::listeners_kinds::{copied, number};
use super::support::*;

const CONFIG: &str = include_str!("every_key.toml");

/// Keys whose effect another test sees, for it ends the master or needs it to start otherwise.
const ELSEWHERE: [(&str, &str, &str); 3] = [
    ("master.second_master", "tests/live/second.rs", "pools_without_listeners_start_beside_those_of_the_first_if_that_is_wanted"),
    ("master.exit_when", "tests/live/host_rows.rs", "exit_when_decides_when_the_master_ends_by_itself"),
    ("pool.*.required", "tests/live/host_rows.rs", "exit_when_decides_when_the_master_ends_by_itself"),
];

/// Keys with the one value that this version has.
const FIXED: [&str; 4] =
    ["master.on_master_death", "pool.*.scale.mode", "pool.*.rollout.on_failure", "pool.*.restart.backoff.reset_after"];

/// The keys of a table, `*` where names stand.
fn keys_in(table: &toml::Table, path: &str, out: &mut BTreeSet<String>) {
    for (name, value) in table {
        let named = match path {
            "pool" | "defaults" | "template" => true,
            _ => ["listen", "env", "secrets"].iter().any(|end| path.ends_with(&format!("*.{end}"))),
        };
        let here = match (path, named) {
            ("", _) => name.clone(),
            (_, true) => format!("{path}.*"),
            (_, false) => format!("{path}.{name}"),
        };
        // `[defaults]` and templates have the keys of a pool.
        let here = match here.as_str() {
            "defaults" | "template.*" => "pool.*".to_owned(),
            _ => here,
        };
        if keys::all().any(|key| key.path == here) {
            out.insert(here.clone());
        }
        if let toml::Value::Table(table) = value {
            keys_in(table, &here, out);
        }
    }
}

fn now() -> BTreeSet<String> {
    keys::all().filter(|key| key.when == When::Now).map(|key| key.path.to_owned()).collect()
}

#[test]
fn the_config_has_every_key_and_no_default() {
    let mut set = BTreeSet::new();
    let table: toml::Table = CONFIG.parse().unwrap();
    keys_in(&table, "", &mut set);
    assert_eq!(now().difference(&set).collect::<Vec<_>>(), Vec::<&String>::new(), "not in every_key.toml");
    for key in keys::all().filter(|key| key.when == When::Now && !key.default.is_empty() && !FIXED.contains(&key.path)) {
        let name = key.path.rsplit('.').next().unwrap();
        let default =
            [format!("{name} = {}\n", key.default), format!("{name} = {} ", key.default), format!("{name} = {},", key.default)];
        // One that is there with another value, too, is well served.
        let plain = default.iter().map(|text| CONFIG.matches(text.as_str()).count()).sum::<usize>();
        let all = CONFIG.matches(&format!("{name} = ")).count();
        assert!(plain < all, "{}: only its default, {}", key.path, key.default);
    }
    for (key, file, test) in ELSEWHERE {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains(&format!("fn {test}(")) && text.contains(key.rsplit('.').next().unwrap()), "{key}: {file}: {test}");
    }
}

/// The daemon, and what was seen of it.
struct Every {
    dir: tempfile::TempDir,
    seen: BTreeSet<&'static str>,
}

impl Every {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        // The config itself, which is told at the start, has all words in it.
        text.lines()
            .filter(|line| !line.contains("the whole config, from all of its layers"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    fn pid(&self) -> i32 {
        fs::read_to_string(self.path("every.pid")).unwrap().trim().parse().unwrap()
    }

    /// Its effect is there; otherwise the test fails.
    #[track_caller]
    fn saw(&mut self, key: &'static str, there: bool) {
        assert!(there, "{key} has no effect; the log:\n{}", self.log());
        self.seen.insert(key);
    }

    #[track_caller]
    fn until(&self, what: &str, mut there: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !there() {
            assert!(Instant::now() < end, "never came true: {what}; the log:\n{}", self.log());
            watch_for(std::process::id().cast_signed(), Duration::from_millis(5));
        }
    }

    /// These come in this order.
    #[track_caller]
    fn told(&self, whats: &[&str]) {
        self.until(&format!("{whats:?}"), || {
            let log = self.log();
            let mut from = 0;
            whats.iter().all(|what| log[from..].find(what).map(|at| from += at + what.len()).is_some())
        });
    }

    #[track_caller]
    fn saw_told(&mut self, key: &'static str, whats: &[&str]) {
        self.told(whats);
        self.seen.insert(key);
    }

    #[track_caller]
    fn saw_file(&mut self, key: &'static str, name: &str) {
        self.until(name, || self.path(name).exists());
        self.seen.insert(key);
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let (code, said) = told(&cli(&self.path("every.sock"), args));
        assert_eq!(code, 0, "{args:?}: {said}");
        said
    }

    fn pool(&self, name: &str) -> Value {
        let reply: Value = serde_json::from_str(&self.ok(&["status", name, "-v", "--json"])).unwrap();
        reply["pools"][0].clone()
    }

    fn worker(&self, pool: &str) -> i32 {
        i32::try_from(self.pool(pool)["workers"][0]["pid"].as_i64().unwrap()).unwrap()
    }

    fn start(&self) {
        let mut command = Command::new(self.path("poolmaster"));
        command.arg("run").arg(self.path("pools.toml")).stdin(Stdio::null()).env("KEEP_THIS", "kept").env("NOT_THIS", "x");
        for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("POOLMASTER")) {
            command.env_remove(name);
        }
        let (code, said) = told(&command.output().unwrap());
        assert_eq!(code, 0, "{said}\n{}", self.log());
    }
}

impl Drop for Every {
    fn drop(&mut self) {
        if let Ok(Ok(pid)) = fs::read_to_string(self.path("every.pid")).map(|text| text.trim().parse::<i32>())
            && is_alive(pid)
        {
            kill(pid, libc::SIGKILL);
        }
        // Those that are deaf to the signal that they get then.
        processes_in(self.dir.path()).into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
    }
}

/// Set up; the port of the main listener is taken until it is let go.
fn every() -> (Every, std::net::TcpListener) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let every = Every { dir, seen: BTreeSet::new() };
    let binary = binary_for_all(every.dir.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = CONFIG
        .replace("DIR", &every.dir.path().display().to_string())
        .replace("BIN", &binary.display().to_string())
        .replace("PORT1", &taken.local_addr().unwrap().port().to_string())
        .replace("PORT2", &free_port().to_string())
        .replace("PORT3", &free_port().to_string())
        .replace("PORT4", &free_port().to_string());
    fs::write(every.path("pools.toml"), text).unwrap();
    fs::write(every.path("variables"), "FROM_FILE=yes\n").unwrap();
    fs::write(every.path("secret"), "hunter2\n").unwrap();
    fs::set_permissions(every.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(every.path("more.toml"), "[pool.included]\ncommand = \"sleep 1000\"\n").unwrap();
    gate(&every.path("never"));
    (every, taken)
}

#[test]
fn every_key_has_its_effect() {
    // chown, kill, setgid, setuid, setpcap, net_bind_service, net_admin, net_raw, sys_chroot, sys_ptrace, sys_nice
    // (linux/capability.h): a container may keep some of them from its root.
    const NEEDED: [u32; 11] = [0, 5, 6, 7, 8, 10, 12, 13, 18, 19, 23];
    let have = u64::from_str_radix(proc_status(std::process::id().cast_signed())["CapEff"].trim(), 16).unwrap();
    if !is_root() || NEEDED.iter().any(|bit| have & 1 << bit == 0) {
        return skip("every_key_has_its_effect", "needs root with all of its capabilities");
    }
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return skip("every_key_has_its_effect", "needs IPv6");
    }
    let (mut e, taken) = every();
    // An address is about to be free.
    let release = std::thread::spawn({
        let log = e.path("log");
        move || {
            let end = Instant::now() + PATIENCE;
            while !fs::read_to_string(&log).unwrap_or_default().contains("trying again for 45s") && Instant::now() < end {
                watch_for(std::process::id().cast_signed(), Duration::from_millis(5));
            }
            drop(taken);
        }
    });
    e.start();
    release.join().unwrap();
    e.saw_told("master.bind_retry", &["trying again for 45s (master.bind_retry)"]);
    of_the_master(&mut e);
    of_identities(&mut e);
    of_listeners(&mut e);
    of_the_first_pool(&mut e);
    of_starts(&mut e);
    of_ends(&mut e);
    of_failures(&mut e);
    of_rolls(&mut e);
    of_hooks(&mut e);
    of_the_end(&mut e);
    let elsewhere: BTreeSet<String> = ELSEWHERE.iter().map(|(key, ..)| (*key).to_owned()).collect();
    let seen: BTreeSet<String> = e.seen.iter().map(|key| (*key).to_owned()).chain(elsewhere).collect();
    assert_eq!(now().difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new(), "not looked at");
    assert_eq!(seen.difference(&now()).collect::<Vec<_>>(), Vec::<&String>::new(), "no keys of this version");
}

fn of_the_master(e: &mut Every) {
    let pid = e.pid();
    let stat = proc_stat(pid);
    e.saw("master.daemon", stat[3].parse::<i32>().unwrap() == pid && stat[4] == "0");
    e.saw("master.pidfile", is_alive(pid));
    let info: Value = serde_json::from_str(&e.ok(&["status", "--json"])).unwrap();
    e.saw("master.name", info["instance"] == "every" && info["pid"] == pid);
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    e.saw("master.name", title.starts_with("poolmaster: master [every]"));
    e.saw("master.runtime_dir", e.path("run").join("every.lock").exists());
    let socket = fs::symlink_metadata(e.path("every.sock")).unwrap();
    e.saw("master.socket", socket.mode() & 0o170_000 == 0o140_000);
    e.saw("master.socket_mode", socket.mode() & 0o777 == 0o606);
    let ask = |uid: u32| {
        let mut command = Command::new(e.path("poolmaster"));
        command.arg("status").arg("--socket").arg(e.path("every.sock")).uid(uid).gid(uid);
        told(&command.output().unwrap())
    };
    let (mine, theirs) = (ask(65_533), ask(65_531));
    assert_eq!((mine.0, theirs.0), (0, 6), "{mine:?} {theirs:?}");
    e.saw("master.socket_users", theirs.1.contains("not permitted") || theirs.1.contains("may not"));
    e.saw("master.umask", proc_status(pid)["Umask"].trim() == "0027");
    e.saw("master.log.file", e.path("log").exists());
    let first: Value = serde_json::from_str(e.log().lines().next().unwrap()).unwrap_or_default();
    e.saw("master.log.format", first.is_object());
    e.saw("master.log.level", e.log().contains("\"DEBUG\""));
    e.saw("master.trace", fs::metadata(e.path("trace")).unwrap().len() > 0);
    e.saw_file("master.hooks.starting", "starting");
    e.saw_file("master.hooks.ready", "ready");
    e.saw_told("master.hooks.timeout", &["not done within 1.5s"]);
    kill(pid, libc::SIGHUP);
    e.saw_told("master.signals.hup", &["SIGHUP from", "ignored"]);
    kill(pid, libc::SIGWINCH);
    e.saw_told("master.signals.winch", &["SIGWINCH from", "ignored"]);
    kill(pid, libc::SIGTTIN);
    e.saw_told("master.default_pool", &["scaled from 2 to 3 workers by signal from", "\"web\""]);
    e.ok(&["scale", "web", "config"]);
}

fn of_identities(e: &mut Every) {
    let pid = e.worker("who");
    let is = |name: &str, value: &str| proc_status(pid)[name].split_whitespace().collect::<Vec<_>>().join(" ") == value;
    e.saw("pool.*.user", is("Uid", "65534 65534 65534 65534"));
    e.saw("pool.*.group", is("Gid", "12 12 12 12"));
    e.saw("pool.*.supplementary_groups", is("Groups", "7 34"));
    e.saw("pool.*.umask", is("Umask", "0023"));
    e.saw("pool.*.no_new_privileges", is("NoNewPrivs", "1"));
    e.saw("pool.*.cpu_affinity", is("Cpus_allowed_list", "0"));
    e.saw(
        "pool.*.capabilities",
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].iter().all(|set| is(set, "0000000000000400")),
    );
    e.saw("pool.*.nice", proc_stat(pid)[16] == "5");
    e.saw("pool.*.oom_score_adj", fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim() == "250");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limited = |line: &str| limits.lines().any(|l| l.split_whitespace().collect::<Vec<_>>().join(" ").starts_with(line));
    for (key, line) in [
        ("pool.*.limits.nofile", "Max open files 300 400"),
        ("pool.*.limits.core", "Max core file size 0 0"),
        ("pool.*.limits.stack", "Max stack size 4194304 4194304"),
        ("pool.*.limits.cpu", "Max cpu time 1000 unlimited"),
        ("pool.*.limits.fsize", "Max file size 1073741824 1073741824"),
        ("pool.*.limits.memlock", "Max locked memory 65536 65536"),
        ("pool.*.limits.nproc", "Max processes 5000 5000"),
        ("pool.*.limits.as", "Max address space 68719476736 68719476736"),
    ] {
        e.saw(key, limited(line));
    }
    let env = environ(pid);
    let has = |name: &str, value: &str| env.get(name).is_some_and(|v| v == value);
    e.saw("pool.*.env_clear", !env.contains_key("NOT_THIS") && !env.contains_key("LANG"));
    e.saw("pool.*.env_pass", has("KEEP_THIS", "kept"));
    e.saw("pool.*.env_files", has("FROM_FILE", "yes"));
    e.saw("pool.*.env.*", has("OWN", "who"));
    e.saw("pool.*.secrets.*", has("SECRET", "hunter2") && !e.log().contains("hunter2"));
    e.saw("pool.*.listen", has("LISTEN_FDS", "1") && has("LISTEN_FDNAMES", "main"));
    e.saw("pool.*.listen_pid", !env.contains_key("LISTEN_PID"));
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    e.saw("pool.*.argv0", line.starts_with("who-0\0worker\0"));
    e.saw("pool.*.working_dir", fs::read_link(format!("/proc/{pid}/cwd")).unwrap() == Path::new("/usr"));
    e.saw("pool.*.command", line.contains("worker"));
    let jailed = e.worker("jail");
    e.saw("pool.*.chroot", fs::read_link(format!("/proc/{jailed}/root")).unwrap() == Path::new("/usr"));
    let ports = environ(e.worker("ports"));
    e.saw("pool.*.protocols", ports.contains_key("PORT") && !ports.contains_key("NOTIFY_SOCKET"));
}

fn of_listeners(e: &mut Every) {
    let pid = e.pid();
    e.saw("include", e.pool("included")["ready"] == 1);
    let all: Value = serde_json::from_str(&e.ok(&["listeners", "--json"])).unwrap();
    let all = all["listeners"].as_array().unwrap();
    let listener = |pool: &str, name: &str| all.iter().find(|l| l["pool"] == pool && l["name"] == name).unwrap();
    let socket =
        |pool: &str, name: &str| copied(pid, i32::try_from(listener(pool, name)["fd"].as_i64().unwrap()).unwrap()).unwrap();
    let http = socket("opts", "http");
    let any = socket("opts", "any");
    e.saw("pool.*.listen.*", listener("opts", "any")["address"].as_str().unwrap().starts_with("tcp://127.0.0.1:"));
    let port = listener("opts", "http")["address"].as_str().unwrap().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    e.saw("pool.*.listen.*.address", std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    e.saw("pool.*.listen.*.backlog", listener("opts", "http")["queue_limit"] == 77);
    let flags = |fd: &std::os::fd::OwnedFd| {
        let number = std::os::fd::AsRawFd::as_raw_fd(fd);
        // SAFETY: asks for flags.
        unsafe { libc::fcntl(number, libc::F_GETFL) & libc::O_NONBLOCK != 0 }
    };
    e.saw("pool.*.listen.*.nonblocking", flags(&http) && !flags(&any));
    let (ip, tcp, sol) = (libc::IPPROTO_IP, libc::IPPROTO_TCP, libc::SOL_SOCKET);
    let differs =
        |level: i32, name: i32, is: u32, else_: u32| number(&http, level, name) == is && number(&any, level, name) == else_;
    e.saw("pool.*.listen.*.nodelay", differs(tcp, libc::TCP_NODELAY, 0, 1));
    e.saw("pool.*.listen.*.freebind", differs(ip, libc::IP_FREEBIND, 1, 0));
    e.saw(
        "pool.*.listen.*.defer_accept",
        number(&http, tcp, libc::TCP_DEFER_ACCEPT) >= 3 && number(&any, tcp, libc::TCP_DEFER_ACCEPT) == 0,
    );
    e.saw("pool.*.listen.*.fastopen", differs(tcp, libc::TCP_FASTOPEN, 5, 0));
    e.saw("pool.*.listen.*.keepalive", differs(sol, libc::SO_KEEPALIVE, 1, 0));
    e.saw("pool.*.listen.*.mark", differs(sol, libc::SO_MARK, 7, 0));
    e.saw("pool.*.listen.*.device", differs(sol, libc::SO_BINDTOIFINDEX, 1, 0));
    e.saw("pool.*.listen.*.v6only", number(&socket("opts", "six"), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) == 1);
    let slots = listener("opts", "slots");
    e.saw(
        "pool.*.listen.*.reuseport",
        slots["sharing"] == "reuseport" && number(&socket("opts", "slots"), sol, libc::SO_REUSEPORT) == 1,
    );
    let file = fs::symlink_metadata(e.path("opts.sock")).unwrap();
    e.saw("pool.*.listen.*.mode", file.mode() & 0o777 == 0o602);
    e.saw("pool.*.listen.*.owner", file.uid() == 65_533);
    e.saw("pool.*.listen.*.group", file.gid() == 65_532);
    e.saw("pool.*.listen.*.share", listener("shares", "mine")["inode"] == listener("opts", "any")["inode"]);
}

fn of_the_first_pool(e: &mut Every) {
    let pid = e.pid();
    // Its words come in pieces, and its stdout goes elsewhere.
    let piece = |length: usize| format!("\"{}", "0".repeat(length));
    e.until("the rest of them is told", || e.log().contains("0000007"));
    e.saw("pool.*.log.max_line", e.log().contains(&"0".repeat(80)) && !e.log().contains(&piece(81)));
    e.saw("pool.*.log.stdout", fs::read_to_string(e.path("out")).unwrap().contains("out"));
    e.saw("pool.*.log.stderr", e.log().contains("0000007") && !e.log().contains("nobody hears\""));
    e.ok(&["reopen"]);
    e.saw_told("pool.*.reopen_signal", &["reopened"]);
    e.saw("pool.*.min_ready", e.pool("web")["min_ready"] == 2);
    // By its template a worker is good only after 1.5 s.
    e.until("its workers are good", || e.pool("web")["workers"][1]["state"] == "good");
    let worker = &e.pool("web")["workers"][0];
    let settled = worker["age_ms"].as_u64().unwrap() - worker["since_ms"].as_u64().unwrap();
    e.saw("pool.*.use", settled >= 1500);
    e.saw("pool.*.settle", settled < 20_000);
    e.saw("pool.*.workers", e.pool("web")["workers"].as_array().unwrap().len() == 2);
    kill(pid, libc::SIGRTMIN() + 1);
    e.until("three", || e.pool("web")["ready"] == 3);
    e.saw("pool.*.scale.up_signal", e.log().matches("scaled from 2 to 3 workers by signal").count() == 2);
    let newest = e.pool("web")["workers"][2]["pid"].clone();
    kill(pid, libc::SIGRTMIN() + 2);
    e.until("two", || e.pool("web")["live"] == 2);
    e.saw_told("pool.*.scale.down_signal", &["scaled from 3 to 2 workers by signal"]);
    let left = e.pool("web");
    e.saw("pool.*.scale.remove", left["workers"].as_array().unwrap().iter().all(|w| w["pid"] != newest));
    let refused = |number: &str| told(&cli(&e.path("every.sock"), &["scale", "web", number]));
    let (more, fewer) = (refused("5"), refused("1"));
    e.saw("pool.*.scale.max", more.0 == 7 && more.1.contains("scale.max"));
    e.saw("pool.*.scale.min", fewer.0 == 7 && fewer.1.contains("scale.min"));
    // Nobody but operators has changed the number.
    e.saw("pool.*.scale.mode", e.log().matches("scaled from").count() == 4 && e.log().contains("by an order from"));
    e.saw_told("pool.*.stop_signal", &["stopping with SIGINT: scale-down"]);
    kill(pid, libc::SIGRTMIN() + 3);
    e.saw_told("pool.*.scale.restart_signal", &["replacing 2 workers"]);
    e.told(&["all workers replaced"]);
    // Both new ones before the first old one goes.
    let log = e.log();
    let roll = &log[log.find("replacing 2 workers").unwrap()..];
    let until = roll.find("stopping with SIGINT: replaced").unwrap();
    e.saw("pool.*.rollout.max_surge", roll[..until].matches("\"message\":\"started\"").count() == 2);
}

fn of_starts(e: &mut Every) {
    e.saw_told("pool.*.ready", &["ready after 3"]);
    e.saw("pool.*.after", e.log().contains("waits until first is ready (after)"));
    let log = e.log();
    let starts: Vec<&str> = log.lines().filter(|l| l.contains("one-by-one") && l.contains("\"started\"")).collect();
    let readies: Vec<&str> = log.lines().filter(|l| l.contains("one-by-one") && l.contains("ready after")).collect();
    let at = |line: &str| -> f64 {
        let value: Value = serde_json::from_str(line).unwrap();
        let time = value["timestamp"].as_str().unwrap().to_owned();
        let clock = time.split('T').nth(1).unwrap().trim_end_matches('Z');
        clock.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
    };
    // Past midnight clocks begin anew.
    let gap = |a: f64, b: f64| (b - a).rem_euclid(86_400.0);
    e.saw("pool.*.spawn_interval", starts.windows(2).all(|pair| gap(at(pair[0]), at(pair[1])) >= 0.28));
    let (first, second) = (log.find(readies[0]).unwrap(), log.find(starts[1]).unwrap());
    e.saw("pool.*.max_starting", first < second);
    e.saw("pool.*.autostart", e.pool("slow")["phase"] == "stopped" && e.pool("slow")["live"] == 0);
    e.ok(&["start", "slow", "--no-wait"]);
    e.saw_told("pool.*.start_timeout", &["not ready within start_timeout (450ms)"]);
    e.ok(&["stop", "slow"]);
}

fn of_ends(e: &mut Every) {
    e.ok(&["start", "silent", "--no-wait"]);
    e.saw_told("pool.*.timeout", &["no heartbeat for 550ms (timeout)"]);
    // It never beat.
    e.saw("pool.*.timeout_from", true);
    e.saw_told("pool.*.abort_grace", &["no heartbeat for 550ms", "still there after 32", "SIGKILL"]);
    e.ok(&["stop", "silent"]);
    e.until("it is deaf", || e.path("deaf").exists() && e.path("stubborn").exists() && e.path("family").exists());
    e.ok(&["stop", "deaf"]);
    e.saw_told(
        "pool.*.stop_sequence",
        &["stopping with SIGUSR1: stopped", "still there after 21", "sending SIGUSR2", "sending SIGKILL"],
    );
    e.ok(&["stop", "stubborn"]);
    e.saw_told("pool.*.graceful_timeout", &["still there after 64", "sending SIGKILL"]);
    e.ok(&["stop", "leader"]);
    e.saw("pool.*.kill_mode", !e.path("child").exists());
    e.ok(&["start", "deaf", "stubborn"]);
}

fn of_failures(e: &mut Every) {
    e.ok(&["start", "crash", "--no-wait"]);
    e.told(&["backing off: 5 early deaths within"]);
    let log = e.log();
    let waits: Vec<&str> = log
        .lines()
        .filter(|l| l.contains("\"crash\"") && l.contains("restarting it in"))
        .filter_map(|l| l.split("restarting it in ").nth(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    e.saw("pool.*.restart.backoff.first", waits[0] == "60ms");
    e.saw("pool.*.restart.backoff.base", waits[1] == "150ms");
    e.saw("pool.*.restart.backoff.factor", waits[2] == "450ms");
    e.saw("pool.*.restart.backoff.max", waits[3] == "500ms");
    e.saw("pool.*.restart.backoff.jitter", waits.len() == 4);
    e.saw("pool.*.restart.budget.failures", true);
    e.saw("pool.*.restart.budget.within", e.log().contains("backing off: 5 early deaths within 40s"));
    // Instead of failing at once.
    e.saw("pool.*.boot", e.pool("crash")["phase"] != "running");
    e.saw_told("pool.*.restart.give_up_after", &["backing off: 5 early deaths", "\"failed: "]);
    e.ok(&["start", "recovers", "--no-wait"]);
    e.saw_told("pool.*.restart.backoff.reset_after", &["restarting it in 40ms", "restarting it in 40ms"]);
    e.ok(&["stop", "recovers"]);
    e.ok(&["start", "boots", "--no-wait"]);
    e.until("it failed", || e.pool("boots")["phase"] == "failed");
    // At once: a budget has more than one try.
    e.told(&["exited with code 77"]);
    e.saw("pool.*.boot_error_codes", e.log().contains("exited with code 77 after") && e.pool("boots")["restarts"] == 0);
    e.ok(&["start", "job", "--no-wait"]);
    e.saw_told("pool.*.restart.policy", &["completed: all its workers ended well"]);
    e.saw("pool.*.restart.success_codes", e.pool("job")["phase"] == "completed");
}

fn of_rolls(e: &mut Every) {
    e.ok(&["restart", "gaps"]);
    let log = e.log();
    let roll: Vec<&str> = log.lines().skip_while(|l| !(l.contains("\"gaps\"") && l.contains("replacing 2 workers"))).collect();
    let first_start = roll.iter().position(|l| l.contains("\"gaps\"") && l.contains("\"started\"")).unwrap();
    let stops = roll[..first_start].iter().filter(|l| l.contains("\"gaps\"") && l.contains("stopping with SIGTERM")).count();
    e.saw("pool.*.rollout.max_unavailable", stops == 2);
    fs::write(e.path("broken"), "").unwrap();
    let old = e.worker("breaks");
    let (code, said) = told(&cli(&e.path("every.sock"), &["restart", "breaks"]));
    assert_ne!(code, 0, "{said}");
    e.saw_told("pool.*.rollout.on_failure", &["replacing stopped: ", "the remaining old workers keep serving"]);
    let log = e.log();
    let tries = log.lines().filter(|l| l.contains("\"breaks\"") && l.contains("\"exited with code 1")).count();
    e.saw("pool.*.rollout.failures", tries == 1 && is_alive(old));
    fs::remove_file(e.path("broken")).unwrap();
    // Two are tried, watched, and then the third follows, and all are watched once more. The old ones hear no TERM.
    let begin = Instant::now();
    e.ok(&["reload", "--restart", "--pool", "rolled", "--no-wait"]);
    e.saw_told("pool.*.rollout.bake", &["reload done: config 2 in force"]);
    assert!(begin.elapsed() >= Duration::from_millis(700), "watched twice for 350 ms: {:?}", begin.elapsed());
    let canaries = e.log().lines().filter(|l| l.contains("\"rolled\"") && l.contains("the canary is good")).count();
    e.saw("pool.*.rollout.canary", canaries == 2);
    e.saw_file("master.hooks.reload", "reload");
    e.ok(&["upgrade", "--wait"]);
    e.saw_file("master.hooks.upgrade", "upgrade");
    e.until("the hook has its result", || fs::read_to_string(e.path("reload")).unwrap() == "done\n");
    e.ok(&["restart", "rolled", "--no-wait"]);
    e.saw_told("pool.*.rollout.max_old_generations", &["more than 1 old generation still living (rollout.max_old_generations)"]);
}

fn of_hooks(e: &mut Every) {
    e.ok(&["start", "hooked"]);
    e.ok(&["scale", "hooked", "2"]);
    e.saw_file("pool.*.hooks.scaled", "scaled");
    e.ok(&["stop", "hooked"]);
    for (key, file) in [
        ("pool.*.hooks.pre_start", "pre_start"),
        ("pool.*.hooks.pre_spawn", "pre_spawn"),
        ("pool.*.hooks.post_spawn", "post_spawn"),
        ("pool.*.hooks.ready", "worker_ready"),
        ("pool.*.hooks.pre_stop", "pre_stop"),
        ("pool.*.hooks.worker_exit", "worker_exit"),
    ] {
        e.saw_file(key, file);
    }
    e.saw_told("pool.*.hooks.timeout", &["hook post_spawn failed: not done within 400ms"]);
}

fn of_the_end(e: &mut Every) {
    // Somebody waits at a listener that nobody serves.
    let all: Value = serde_json::from_str(&e.ok(&["listeners", "shares", "--json"])).unwrap();
    let address = all["listeners"][0]["address"].as_str().unwrap().trim_start_matches("tcp://").to_owned();
    let waiting = std::net::TcpStream::connect(&address).unwrap();
    let pid = e.pid();
    let begin = Instant::now();
    kill(pid, libc::SIGTERM);
    e.saw_told("master.linger", &["served first, for at most 700ms (master.linger)"]);
    wait_gone(pid, Instant::now() + PATIENCE);
    // One pool alone would take 50 s.
    e.saw("master.graceful_timeout", begin.elapsed() >= Duration::from_secs(3) && begin.elapsed() < Duration::from_secs(30));
    e.saw_file("master.hooks.exit", "exit");
    assert!(!e.path("every.pid").exists());
    drop(waiting);

    // Once more, for a quick end.
    fs::remove_file(e.path("deaf")).unwrap();
    fs::remove_file(e.path("log")).unwrap();
    e.start();
    e.until("it is deaf", || e.path("deaf").exists());
    e.ok(&["shutdown", "--now"]);
    e.saw_told("pool.*.quick_signal", &["stopping with SIGHUP: shutdown"]);
    e.saw_told("pool.*.quick_timeout", &["still there after 33", "sending SIGKILL"]);

    // And for a sudden one.
    e.start();
    let (pid, worker) = (e.pid(), e.worker("opts"));
    kill(pid, libc::SIGKILL);
    wait_gone(worker, Instant::now() + PATIENCE);
    e.saw("master.on_master_death", true);
    e.until("those that are deaf to TERM are ended by hand", || {
        let left: Vec<i32> = processes_in(e.dir.path());
        left.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
        left.is_empty()
    });
}

/// Processes that name this directory in their arguments.
fn processes_in(dir: &Path) -> Vec<i32> {
    let dir = dir.display().to_string();
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    all.filter(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(&dir))).collect()
}
