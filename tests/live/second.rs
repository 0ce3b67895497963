//! Two masters on the same sockets (USR2), the promotion of the second, and the way back: rows 3, 4, 29 and 33 of the parity table.

use std::path::PathBuf;
use std::time::Duration;

use super::support::*;

fn pool(listen: &str) -> String {
    format!(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nworkers = 2\nsettle = \"50ms\"\nlisten = {{ main = \"{listen}\", \
         file = \"unix:DIR/web.sock\", any = \"127.0.0.1:0\" }}\n[pool.jobs]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\n"
    )
}

/// A second master, by its pid file; and what answers on its socket.
struct Second {
    pid: i32,
    socket: PathBuf,
}

fn read_pid(path: &std::path::Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The first of two masters, in the foreground, or in the background with its log in a file.
struct First {
    m: Master,
    pid: i32,
    log: Option<PathBuf>,
}

impl First {
    /// Starts it, and waits until its workers are ready.
    fn start(s: Setup, daemon: bool) -> First {
        let log = daemon.then(|| s.path("log"));
        let m = if daemon { s.master("daemon = true\nlog = { file = \"DIR/log\" }").start() } else { s.start() };
        let mut first = First { pid: m.pid(), m, log };
        first.wait_for("ready: ", 1);
        if daemon {
            first.pid = read_pid(&first.run("t.pid")).unwrap();
            assert_ne!(first.pid, first.m.pid(), "it went into the background");
        }
        first
    }

    fn run(&self, name: &str) -> PathBuf {
        self.m.setup.path("run").join(name)
    }

    /// What it and the second one have logged.
    fn text(&self) -> String {
        self.log.as_ref().map_or_else(|| self.m.log.text(), |log| std::fs::read_to_string(log).unwrap_or_default())
    }

    fn count(&self, what: &str) -> usize {
        self.text().lines().filter(|line| line.contains(what)).count()
    }

    fn wait_for(&self, what: &str, n: usize) {
        let until = std::time::Instant::now() + PATIENCE;
        self.m.log.wait_until(what, || {
            assert!(std::time::Instant::now() < until, "never seen {n} times: {what:?} in {}", self.text());
            (self.count(what) >= n).then_some(())
        });
    }

    /// Starts a second master and waits until its workers are ready.
    fn start_second(&self) -> Second {
        let ready = self.count("INFO  ready: ");
        kill(self.pid, libc::SIGUSR2);
        self.wait_for("INFO  ready: ", ready + 1);
        Second { pid: read_pid(&self.run("t.pid.2")).unwrap(), socket: self.run("t.2.sock") }
    }

    /// Ends it: nothing is left.
    fn stop(self) {
        kill(self.pid, libc::SIGTERM);
        wait_gone(self.pid, std::time::Instant::now() + PATIENCE);
        self.m.assert_nothing_left();
    }
}

/// Starts a second master and waits until its workers are ready.
fn start_second(m: &Master) -> Second {
    let ready = m.log.count("INFO  ready: ");
    m.signal(libc::SIGUSR2);
    m.log.wait_for("INFO  ready: ", ready + 1);
    let run = m.setup.path("run");
    Second { pid: read_pid(&run.join("t.pid.2")).unwrap(), socket: run.join("t.2.sock") }
}

fn workers(socket: &std::path::Path, pool: &str) -> Vec<i32> {
    let out = cli(socket, &["ps", "--json"]);
    let ps: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", told(&out).1));
    let of_pool = ps["workers"].as_array().unwrap().iter().filter(|p| p["pool"] == pool);
    of_pool.map(|p| i32::try_from(p["pid"].as_i64().unwrap()).unwrap()).collect()
}

#[test]
fn row_03_a_second_master_shares_the_sockets_and_can_be_backed_out() {
    a_second_master_is_backed_out(false);
}

#[test]
fn row_03_also_of_a_daemon() {
    a_second_master_is_backed_out(true);
}

fn a_second_master_is_backed_out(daemon: bool) {
    let port = free_port();
    let first = First::start(setup(&pool(&format!("127.0.0.1:{port}"))), daemon);
    let m = &first.m;
    let loads = [
        Load::on(&Goal::Port(port), 10, Manner::Each, Duration::ZERO),
        Load::on(&Goal::Path(m.setup.path("web.sock")), 10, Manner::Keepalive, Duration::ZERO),
    ];
    let more = || loads.iter().for_each(|load| load.wait_more(100));
    more();
    let before = m.pids("web");
    let addresses = |socket: &std::path::Path| {
        let out = cli(socket, &["listeners", "--json"]);
        let reply: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let each = |l: &serde_json::Value| (l["address"].clone(), l["inode"].clone());
        reply["listeners"].as_array().unwrap().iter().map(each).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let second = first.start_second();
        assert_eq!(addresses(&second.socket), addresses(&m.socket), "the same sockets, any port too");
        assert_eq!((workers(&second.socket, "web").len(), workers(&second.socket, "jobs").len()), (2, 0));
        assert_eq!(std::fs::read_to_string(format!("/proc/{}/comm", second.pid)).unwrap(), "poolmaster\n");
        // Neither of the two starts a third.
        let refused = first.count("no second master is started");
        kill(first.pid, libc::SIGUSR2);
        first.wait_for("no second master is started: there is one already", refused / 2 + 1);
        kill(second.pid, libc::SIGUSR2);
        first.wait_for("no second master is started: this is one itself", refused / 2 + 1);
        // With the workers of the first parked, the second serves alone; they come back.
        kill(first.pid, libc::SIGWINCH);
        m.log.wait_until("they are gone", || m.all_pids("web").is_empty().then_some(()));
        more();
        let gone = first.count("the second master (pid");
        let ready = first.count("web 2 of 2 workers ready");
        kill(first.pid, libc::SIGHUP);
        first.wait_for("web 2 of 2 workers ready", ready + 1);
        more();
        kill(second.pid, libc::SIGTERM);
        first.wait_for("the second master (pid", gone + 1);
        assert!(!m.setup.path("run/t.pid.2").exists() && !second.socket.exists(), "what was its own is gone with it");
        more();
    }
    assert!(m.pids("web").iter().all(|pid| !before.contains(pid)));
    // The one that is left reloads as ever.
    m.ok(&["reload", "--restart"]);
    more();
    for load in loads {
        let toll = load.end();
        assert!(
            toll.failures.is_empty() && toll.retried == 0,
            "{} of {}: {:?}",
            toll.failures.len(),
            toll.answered,
            toll.failures
        );
    }
    first.stop();
}

#[test]
fn row_04_the_second_master_takes_name_files_and_sockets_when_the_first_is_gone() {
    for (signal, daemon) in [(libc::SIGTERM, false), (libc::SIGKILL, false), (libc::SIGTERM, true)] {
        let port = free_port();
        let mut s = setup(&pool(&format!("127.0.0.1:{port}")));
        let run = s.path("run");
        let log = s.path("log");
        if daemon {
            s = s.master("daemon = true\nlog = { file = \"DIR/log\" }\n");
        }
        let lines = |text: &str| std::fs::read_to_string(&log).map_or(0, |log| log.matches(text).count());
        let m = s.start();
        let first = if daemon {
            m.log.wait_until("it runs", || read_pid(&run.join("t.pid")))
        } else {
            m.log.wait_for("ready: ", 1);
            m.pid()
        };
        let count = |text: &str| if daemon { lines(text) } else { m.log.count(text) };
        let wait = |text: &str, n: usize| {
            let until = std::time::Instant::now() + PATIENCE;
            m.log.wait_until(text, || {
                assert!(
                    std::time::Instant::now() < until,
                    "no {text:?} in {}",
                    std::fs::read_to_string(&log).unwrap_or_default()
                );
                (count(text) >= n).then_some(())
            });
        };
        wait("ready: 2 pools", 1);
        let load = Load::on(&Goal::Port(port), 10, Manner::Each, Duration::ZERO);
        let mut now = first;
        let mut load = Some(load);
        // Twice: the promoted one can be the first of two again.
        for round in 1..=2 {
            if let Some(load) = &load {
                load.wait_more(100);
            }
            kill(now, libc::SIGUSR2);
            wait("ready: 1 pool", round);
            let second = read_pid(&run.join("t.pid.2")).unwrap();
            let its = workers(&run.join("t.2.sock"), "web");
            if signal == libc::SIGKILL {
                // What its workers had accepted is lost with them.
                load.take().map(Load::end);
            }
            kill(now, signal);
            wait("promoted: the first master", round);
            assert_eq!(read_pid(&run.join("t.pid")), Some(second));
            let socket = run.join("t.sock");
            assert_eq!(workers(&socket, "web"), its, "its workers go on");
            m.log.wait_until("pools that waited are started", || (workers(&socket, "jobs").len() == 1).then_some(()));
            for left in ["t.2.sock", "t.pid.2", "t.2.lock"] {
                assert!(!run.join(left).exists(), "{left}");
            }
            get(port, "/").unwrap();
            assert!(m.setup.path("web.sock").exists());
            let out = cli(&socket, &["reload", "--restart"]);
            assert!(out.status.success(), "{}", told(&out).1);
            now = second;
        }
        if let Some(load) = load {
            load.wait_more(100);
            let toll = load.end();
            assert!(
                toll.failures.is_empty() && toll.retried == 0,
                "{} of {}: {:?}",
                toll.failures.len(),
                toll.answered,
                toll.failures
            );
        }
        kill(now, libc::SIGTERM);
        wait_gone(now, std::time::Instant::now() + PATIENCE);
        for left in ["t.sock", "t.pid", "t.lock"] {
            assert!(!run.join(left).exists(), "{left}");
        }
        assert!(!m.setup.path("web.sock").exists(), "the file belongs to whoever is left");
        drop(m);
    }
}

#[test]
fn pools_without_listeners_start_beside_those_of_the_first_if_that_is_wanted() {
    let port = free_port();
    let pools = format!(
        "{}[pool.own]\ncommand = \"sh -c 'exec sleep 1000'\"\nprotocols = [\"port\"]\nlisten = \"127.0.0.1:{}\"\nready = \"exec\"\nsettle = \"10ms\"\n",
        pool(&format!("127.0.0.1:{port}")),
        free_port()
    );
    let mut m = setup(&pools).master("second_master = \"start\"").start().ready();
    let second = start_second(&m);
    let all = ["web", "jobs", "own"].map(|name| workers(&second.socket, name).len());
    assert_eq!(all, [2, 1, 0], "two cannot have the same port");
    m.log.wait_for("own starts once the first master is gone", 1);
    assert_eq!(m.log.count("jobs starts once the first master is gone"), 0);
    let first = m.pids("jobs");
    assert_ne!(workers(&second.socket, "jobs"), first);
    kill(second.pid, libc::SIGTERM);
    m.log.wait_for("the second master (pid", 1);
    assert_eq!(m.pids("jobs"), first);
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

#[test]
fn row_29_a_second_master_is_started_as_the_first_was_from_where_pwd_leads_now() {
    a_second_master_follows_pwd(false);
}

#[test]
fn row_29_also_of_a_daemon() {
    a_second_master_follows_pwd(true);
}

fn a_second_master_follows_pwd(daemon: bool) {
    let s = setup(&pool("127.0.0.1:0"));
    let (old, new, link) = (s.path("old"), s.path("new"), s.path("current"));
    for dir in [&old, &new] {
        std::fs::create_dir(dir).unwrap();
    }
    std::os::unix::fs::symlink(&old, &link).unwrap();
    let (link_words, pwd) = (link.display().to_string(), format!("PWD={}", link.display()));
    let first = First::start(s.under(&["env", "-C", &link_words, &pwd, "MARK=a b"]), daemon);
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&new, &link).unwrap();
    let second = first.start_second();
    assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", second.pid)).unwrap(), new);
    let mark = |pid: i32| environ(pid).get("MARK").cloned();
    assert_eq!(mark(second.pid), Some("a b".to_owned()));
    let its = workers(&second.socket, "web");
    assert_eq!(mark(its[0]), Some("a b".to_owned()));
    assert!(!environ(its[0]).contains_key("POOLMASTER_SECOND"), "that is no worker's business");
    assert_eq!(environ(its[0])["POOLMASTER_INSTANCE"], "t.2");
    kill(second.pid, libc::SIGTERM);
    first.wait_for("the second master (pid", 1);
    first.stop();
}

#[test]
fn row_33_a_second_master_opens_the_log_anew() {
    the_log_is_opened_anew("");
}

#[test]
fn row_33_also_of_a_daemon() {
    the_log_is_opened_anew("daemon = true");
}

fn the_log_is_opened_anew(how: &str) {
    let s = setup(&pool("127.0.0.1:0")).master(&format!("log = {{ file = \"DIR/log\" }}\n{how}"));
    let (log, moved) = (s.path("log"), s.path("log.1"));
    let m = s.start();
    let has = |path: &std::path::Path, text: &str| std::fs::read_to_string(path).is_ok_and(|log| log.contains(text));
    m.log.wait_until("ready", || has(&log, "ready: 2 pools").then_some(()));
    std::fs::rename(&log, &moved).unwrap();
    let first = read_pid(&m.setup.path("run/t.pid")).unwrap();
    kill(first, libc::SIGUSR2);
    m.log.wait_until("the second one writes", || has(&log, "ready: 1 pool").then_some(()));
    assert!(has(&moved, "second master started") && !has(&log, "second master started"));
    kill(first, libc::SIGTERM);
    m.log.wait_until("promoted", || has(&log, "promoted").then_some(()));
    let second = read_pid(&m.setup.path("run/t.pid")).unwrap();
    kill(second, libc::SIGTERM);
    wait_gone(second, std::time::Instant::now() + PATIENCE);
}

#[test]
fn no_second_master_where_workers_are_being_replaced_or_have_sockets_of_their_own() {
    let text = "[pool.web]\ncommand = \"POOLMASTER worker --slow-start 300ms\"\nready = \"notify\"\nlisten.main = { address = \"127.0.0.1:0\", reuseport = true }\n";
    let mut m = setup(text).start().ready();
    m.signal(libc::SIGUSR2);
    m.log.wait_for("no second master is started: listener web.main has a socket for each worker (reuseport)", 1);
    m.ok(&["restart", "web", "--no-wait"]);
    m.signal(libc::SIGUSR2);
    m.log.wait_for("ignored: workers are being replaced", 1);
    assert_eq!(m.stop(), 0);
}

/// Process 1 of a container: the second master runs and can be stopped again, and it is told that it cannot take over.
#[test]
fn in_a_container_a_second_master_runs_and_its_limits_are_told() {
    let name = "in_a_container_a_second_master_runs_and_its_limits_are_told";
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let able = std::process::Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
    if !able.is_ok_and(|out| out.status.success()) {
        return skip(name, "no pid namespace can be made here");
    }
    let port = free_port();
    let m = setup(&pool(&format!("127.0.0.1:{port}"))).under(&unshare).start().ready();
    let inside = |m: &Master| children(m.pid())[0];
    kill(inside(&m), libc::SIGUSR2);
    m.log.wait_for("with its end the whole container ends", 1);
    m.log.wait_for("ready: 1 pool", 1);
    let second = m.setup.path("run/t.2.sock");
    assert_eq!(workers(&second, "web").len(), 2);
    get(port, "/").unwrap();
    let out = cli(&second, &["shutdown"]);
    assert!(out.status.success(), "{}", told(&out).1);
    m.log.wait_for("the second master (pid", 1);
    get(port, "/").unwrap();
    let out = cli(&m.socket, &["shutdown"]);
    assert!(out.status.success(), "{}", told(&out).1);
}

#[test]
fn listeners_come_and_go_in_the_first_while_there_are_two() {
    let (kept, moved) = (free_port(), free_port());
    let text = |more: &str| {
        format!(
            "[pool.web]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nsettle = \"50ms\"\nafter = [\"jobs\"]\n\
             listen = {{ main = \"127.0.0.1:{kept}\"{more} }}\n[pool.jobs]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\n"
        )
    };
    let with = text(&format!(", other = \"127.0.0.1:{moved}\", file = \"unix:DIR/web.sock\""));
    let mut m = setup(&with).start().ready();
    // What comes after a pool that is the first one's alone does not wait for it.
    let second = start_second(&m);
    let load = Load::on(&Goal::Port(moved), 10, Manner::Each, Duration::ZERO);
    load.wait_more(100);
    for _ in 0..2 {
        m.rewrite(&text(""));
        m.ok(&["reload"]);
        load.wait_more(100);
        m.rewrite(&with);
        m.ok(&["reload"]);
        load.wait_more(100);
    }
    kill(second.pid, libc::SIGTERM);
    m.log.wait_for("the second master (pid", 1);
    load.wait_more(100);
    let toll = load.end();
    assert!(toll.failures.is_empty() && toll.retried == 0, "{} of {}: {:?}", toll.failures.len(), toll.answered, toll.failures);
    std::os::unix::net::UnixStream::connect(m.setup.path("web.sock")).unwrap();
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

/// What a stranger has put in the place of a socket's file meanwhile is the stranger's.
#[test]
fn a_file_that_was_replaced_is_not_taken_over() {
    let port = free_port();
    let mut m = setup(&pool(&format!("127.0.0.1:{port}"))).start().ready();
    let second = start_second(&m);
    let file = m.setup.path("web.sock");
    std::fs::remove_file(&file).unwrap();
    let _stranger = std::os::unix::net::UnixListener::bind(&file).unwrap();
    kill(m.pid(), libc::SIGTERM);
    assert_eq!(m.ends(), 0);
    m.log.wait_for("somebody has put another one in its place", 1);
    m.log.wait_for("promoted: the first master", 1);
    get(port, "/").unwrap();
    kill(second.pid, libc::SIGTERM);
    wait_gone(second.pid, std::time::Instant::now() + PATIENCE);
    assert!(file.exists());
}
