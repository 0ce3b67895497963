//! What a worker is born with, seen from outside: only what the worker contract says, whatever the master itself was born with.

use std::collections::BTreeMap;

use super::support::*;

/// A master with the worst of births: signals ignored and blocked, a descriptor left open, an environment full of other people's settings.
fn badly_born(pools: &str) -> Master {
    let mut s = setup(pools).pre_exec(|| {
        // SAFETY: system calls on valid memory.
        unsafe {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGCHLD] {
                libc::signal(signal, libc::SIG_IGN);
            }
            let mut set = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
            if libc::dup2(0, 77) == -1 { Err(std::io::Error::last_os_error()) } else { limit(libc::RLIMIT_NOFILE, 256, 4096) }
        }
    });
    for (name, value) in [
        ("LISTEN_FDS", "3"),
        ("LISTEN_PID", "1"),
        ("LISTEN_PIDFDID", "7"),
        ("LISTEN_FDNAMES", "a:b:c"),
        ("NOTIFY_SOCKET", "/nowhere"),
        ("WATCHDOG_USEC", "1000000"),
        ("WATCHDOG_PID", "1"),
        ("FDSTORE", "5"),
        ("MAINPID", "1"),
        ("MANAGERPID", "1"),
        ("SYSTEMD_EXEC_PID", "1"),
        ("MEMORY_PRESSURE_WATCH", "/x"),
        ("MEMORY_PRESSURE_WRITE", "x"),
        ("POOLMASTER__POOL__WEB__SETTLE", "3s"),
        ("POOLMASTER_SOCKET", "/nowhere"),
        ("POOLMASTER_SLOT", "99"),
        ("POOLMASTER_OTHER", "x"),
        ("KEPT", "as it was"),
        ("OVERRIDDEN", "by the master"),
        ("REMOVED", "x"),
    ] {
        s = s.env(name, value);
    }
    s.start()
}

const POOLS: &str = r#"
    [pool.web]
    command = "sleep 1000"
    workers = 2
    ready = "exec"
    working_dir = "DIR/wd"
    timeout = "20s"
    timeout_from = "first-beat"
    [pool.web.listen]
    b = "unix:DIR/b.sock"
    a = "127.0.0.1:0"
    [pool.web.env]
    OVERRIDDEN = "by the pool"
    EMPTY = ""
    REMOVED = false
    NAME = "{pool}-{slot}-{generation}"
    [pool.jobs]
    command = "sleep 1000"
    [pool.plain]
    command = "sleep 1000"
    protocols = []
    ready = "exec"
    listen = "127.0.0.1:0"
"#;

fn pools() -> Master {
    let port = free_port();
    let other = free_port();
    let text =
        POOLS.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1).replacen("127.0.0.1:0", &format!("127.0.0.1:{other}"), 1);
    let text = text.replace("DIR/wd", "/usr");
    badly_born(&text).ready()
}

#[test]
fn signals_are_as_in_a_fresh_process() {
    let m = pools();
    for pid in [m.pids("web"), m.pids("jobs"), m.pids("plain")].concat() {
        let status = proc_status(pid);
        for set in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(status[set], "0000000000000000", "{set}");
        }
    }
}

#[test]
fn row_28_only_its_own_descriptors_are_open() {
    let m = pools();
    assert!(fds(m.pid()).contains_key(&77), "the master was born with one too many");
    let master = fds(m.pid());
    let mut stderrs = Vec::new();
    for pid in m.pids("web") {
        let fds = fds(pid);
        assert_eq!(fds.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4], "{fds:?}");
        assert_eq!(fds[&0], "/dev/null");
        assert_eq!(fds[&1], master[&1]);
        // A table's listeners are in the order of their names: the TCP one first.
        let (tcp, unix) = (inode(&fds[&3]), inode(&fds[&4]));
        assert!(has_inode("/proc/net/tcp", &tcp) && has_inode("/proc/net/unix", &unix), "{fds:?}");
        assert!(master.values().any(|f| *f == fds[&3]), "shared with the master");
        stderrs.push(fds[&2].clone());
    }
    assert_ne!(stderrs[0], stderrs[1], "each has a pipe of its own");
    let jobs = fds(m.pids("jobs")[0]);
    assert_eq!(jobs.keys().copied().collect::<Vec<_>>(), [0, 1, 2], "{jobs:?}");
    let plain = fds(m.pids("plain")[0]);
    assert_eq!(plain.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3], "{plain:?}");
}

fn inode(link: &str) -> String {
    link.strip_prefix("socket:[").and_then(|l| l.strip_suffix(']')).unwrap_or_else(|| panic!("{link} is no socket")).to_owned()
}

fn has_inode(table: &str, inode: &str) -> bool {
    std::fs::read_to_string(table).unwrap().lines().any(|l| l.split_whitespace().any(|w| w == inode))
}

#[test]
fn it_leads_a_session_and_a_group_of_its_own() {
    let m = pools();
    for pid in [m.pids("web"), m.pids("jobs")].concat() {
        let stat = proc_stat(pid);
        let own = pid.to_string();
        assert_eq!([stat[1].as_str(), &stat[2], &stat[3]], [m.pid().to_string().as_str(), &own, &own], "parent, group, session");
        assert_eq!(stat[4], "0", "no terminal");
    }
    let web = m.pids("web")[0];
    assert_eq!(std::fs::read_link(format!("/proc/{web}/cwd")).unwrap().to_str(), Some("/usr"));
    let jobs = m.pids("jobs")[0];
    let cwd = std::fs::read_link(format!("/proc/{jobs}/cwd")).unwrap();
    assert_eq!(cwd, m.setup.dir.path().canonicalize().unwrap(), "where the master was started");
}

#[test]
fn its_environment_is_scrubbed_and_completed() {
    let m = pools();
    let web = m.pids("web");
    for (slot, pid) in web.iter().enumerate() {
        let mut env = environ(*pid);
        let mut take = |name: &str| env.remove(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(take("LISTEN_FDS"), "2");
        assert_eq!(take("LISTEN_PID"), pid.to_string());
        assert_eq!(take("LISTEN_FDNAMES"), "a:b");
        assert_eq!(take("WATCHDOG_USEC"), "20000000");
        assert_eq!(take("WATCHDOG_PID"), pid.to_string());
        let notify = take("NOTIFY_SOCKET");
        let homes = [m.setup.path("run").display().to_string(), m.setup.notify_home()];
        assert!(homes.iter().any(|home| notify.starts_with(home)), "{notify}");
        assert_eq!(take("POOLMASTER_POOL"), "web");
        assert_eq!(take("POOLMASTER_SLOT"), slot.to_string());
        assert_eq!(take("POOLMASTER_GENERATION"), "1");
        assert_eq!(take("POOLMASTER_INSTANCE"), "t");
        assert_eq!(take("POOLMASTER_VERSION"), env!("CARGO_PKG_VERSION"));
        assert_eq!(take("KEPT"), "as it was");
        assert_eq!(take("OVERRIDDEN"), "by the pool");
        assert_eq!(take("EMPTY"), "");
        assert_eq!(take("NAME"), format!("web-{slot}-1"));
        assert!(!env.contains_key("REMOVED"));
        assert_meant_for_nobody_else(&env);
    }
    assert_ne!(environ(web[0])["NOTIFY_SOCKET"], environ(web[1])["NOTIFY_SOCKET"]);
    let jobs = environ(m.pids("jobs")[0]);
    assert_eq!(jobs["OVERRIDDEN"], "by the master");
    assert_eq!(jobs["REMOVED"], "x");
    assert!(jobs.contains_key("NOTIFY_SOCKET"));
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID", "NAME"] {
        assert!(!jobs.contains_key(name), "{name}");
    }
    let mut plain = environ(m.pids("plain")[0]);
    plain.retain(|name, _| {
        !["POOLMASTER_POOL", "POOLMASTER_SLOT", "POOLMASTER_GENERATION", "POOLMASTER_INSTANCE", "POOLMASTER_VERSION"]
            .contains(&name.as_str())
    });
    assert_meant_for_nobody_else(&plain);
}

fn assert_meant_for_nobody_else(env: &BTreeMap<String, String>) {
    let left: Vec<&String> = env
        .keys()
        .filter(|n| {
            ["LISTEN_", "WATCHDOG_", "NOTIFY_", "MEMORY_PRESSURE_", "POOLMASTER"].iter().any(|p| n.starts_with(p))
                || ["FDSTORE", "MAINPID", "MANAGERPID", "SYSTEMD_EXEC_PID"].contains(&n.as_str())
        })
        .collect();
    assert!(left.is_empty(), "meant for the master: {left:?}");
}

#[test]
fn limits_that_the_master_raised_for_itself_are_put_back() {
    let m = pools();
    let limits = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let of = |pid: i32, name: &str| {
        let text = limits(pid);
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        let words: Vec<&str> = line[26..].split_whitespace().take(2).collect();
        (words[0].to_owned(), words[1].to_owned())
    };
    assert_eq!(of(m.pid(), "Max open files"), ("4096".to_owned(), "4096".to_owned()), "the master makes room for itself");
    let this = i32::try_from(std::process::id()).unwrap();
    for pid in [m.pids("web"), m.pids("jobs")].concat() {
        assert_eq!(of(pid, "Max open files"), ("256".to_owned(), "4096".to_owned()));
        let ours: Vec<String> = limits(this).lines().filter(|l| !l.starts_with("Max open files")).map(str::to_owned).collect();
        let theirs: Vec<String> = limits(pid).lines().filter(|l| !l.starts_with("Max open files")).map(str::to_owned).collect();
        assert_eq!(theirs, ours);
    }
}

#[test]
fn row_28_workers_started_later_inherit_nothing_of_clients_and_siblings() {
    let m = pools();
    let clients: Vec<RawClient> = (0..20).map(|_| m.client()).collect();
    m.ok(&["scale", "jobs", "4"]);
    m.ok(&["restart", "web"]);
    for pid in m.pids("jobs") {
        assert_eq!(fds(pid).keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    }
    for pid in m.pids("web") {
        assert_eq!(fds(pid).keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(environ(pid)["POOLMASTER_GENERATION"], "2");
        assert_eq!(proc_status(pid)["SigBlk"], "0000000000000000");
    }
    drop(clients);
}
