//! The master under a service manager: what it says by sd_notify, and when. The other end of the socket is the test's own.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::support::*;

/// The service manager's end.
struct Manager(Arc<Mutex<Vec<String>>>);

impl Manager {
    fn on(socket: UnixDatagram) -> Manager {
        let said = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                all.lock().unwrap().push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        });
        Manager(said)
    }

    fn bind(s: &Setup) -> (Manager, String) {
        let path = s.path("manager");
        (Manager::on(UnixDatagram::bind(&path).unwrap()), path.display().to_string())
    }

    /// All lines so far, in their order.
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|l| *l == line).count()
    }

    fn wait(&self, line: &str, n: usize) {
        let until = Instant::now() + PATIENCE;
        while self.count(line) < n {
            assert!(Instant::now() < until, "never heard {line:?} {n} times: {:#?}", self.lines());
            std::thread::yield_now();
        }
    }
}

#[test]
fn row_19_ready_and_a_status_line_are_told() {
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 3\n[pool.b]\ncommand = \"sleep 1000\"\n");
    let (manager, path) = Manager::bind(&s);
    let mut m = s.env("NOTIFY_SOCKET", &path).start().ready();
    manager.wait("READY=1", 1);
    manager.wait("STATUS=2 pools, 4 of 4 workers ready", 1);
    assert!(!environ(m.pids("b")[0])["NOTIFY_SOCKET"].contains("manager"), "it is the master's, not the worker's");
    m.ok(&["scale", "a", "+1"]);
    manager.wait("STATUS=2 pools, 5 of 5 workers ready", 1);
    assert_eq!(m.stop(), 0);
    manager.wait("STOPPING=1", 1);
    let lines = manager.lines();
    assert!(lines.iter().any(|line| line == "EXTEND_TIMEOUT_USEC=85000000"), "{lines:#?}");
    assert_eq!(manager.count("READY=1"), 1);
    assert_eq!(manager.count("WATCHDOG=1"), 0, "nobody asked for it");
}

#[test]
fn fault_ready_is_said_before_the_required_pools_are_up() {
    let s = setup(
        "[pool.main]\ncommand = [\"sh\", \"-c\", \"cat DIR/gate; exec POOLMASTER worker\"]\nready = \"notify\"\nrequired = true\n\
         [pool.side]\ncommand = [\"sh\", \"-c\", \"exit 1\"]\nboot = \"retry\"\nrestart.backoff.base = \"20s\"\n[pool.fast]\ncommand = \"sleep 1000\"\n",
    );
    gate(&s.path("gate"));
    let (manager, path) = Manager::bind(&s);
    let mut m = s.env("NOTIFY_SOCKET", &path).start();
    m.log.wait_for("fast:0 ready", 1);
    m.log.wait_for("main:0 started", 1);
    m.ok(&["status"]);
    assert_eq!(manager.count("READY=1"), 0, "{:?}", manager.lines());
    open_gate(&m.setup.path("gate"));
    m.log.wait_for("main:0 ready", 1);
    // What is not required keeps nobody waiting.
    manager.wait("READY=1", 1);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_reload_begins_and_ends_and_so_does_one_that_is_refused() {
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\n");
    let (manager, path) = Manager::bind(&s);
    let mut m = s.env("NOTIFY_SOCKET", &path).start().ready();
    manager.wait("READY=1", 1);
    let before = m.pids("a");
    m.ok(&["reload", "--restart", "--timeout", "20s"]);
    manager.wait("READY=1", 2);
    assert_ne!(m.pids("a"), before);
    let lines = manager.lines();
    let at = lines.iter().position(|line| line == "RELOADING=1").unwrap();
    let usec: u64 = lines[at + 1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!(usec > 0 && at < lines.iter().rposition(|line| line == "READY=1").unwrap());
    m.rewrite("[pool.a]\nwokers = 1\n");
    m.code(2, &["reload"]);
    manager.wait("RELOADING=1", 2);
    manager.wait("READY=1", 3);
    assert_eq!(m.stop(), 0);
}

#[test]
fn the_watchdog_hears_of_a_loop_that_turns_and_only_of_that() {
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\n");
    let (manager, path) = Manager::bind(&s);
    let mut m = s.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").start().ready();
    manager.wait("WATCHDOG=1", 5);
    m.signal(libc::SIGSTOP);
    let until = Instant::now() + PATIENCE;
    while proc_stat(m.pid())[0] != "T" {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    let before = manager.count("WATCHDOG=1");
    watch_for(m.pid(), Duration::from_millis(600));
    assert!(manager.count("WATCHDOG=1") <= before + 1, "a stopped master says nothing");
    m.signal(libc::SIGCONT);
    manager.wait("WATCHDOG=1", before + 3);
    assert_eq!(m.stop(), 0);
    // Meant for another process.
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\n");
    let (manager, path) = Manager::bind(&s);
    let mut m = s.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1").start().ready();
    manager.wait("READY=1", 1);
    assert_eq!((m.stop(), manager.count("WATCHDOG=1")), (0, 0));
}

#[test]
fn an_abstract_name_works_and_a_manager_that_does_not_listen_stops_nobody() {
    let name = format!("poolmaster-live-{}", std::process::id());
    let manager = Manager::on(UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap());
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").env("NOTIFY_SOCKET", &format!("@{name}")).start().ready();
    manager.wait("READY=1", 1);
    assert_eq!(m.stop(), 0);
    // One that never reads: its queue is full after a few.
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\nscale.up_signal = \"RTMIN+3\"\n");
    let path = s.path("silent");
    let silent = UnixDatagram::bind(&path).unwrap();
    let mut m = s.env("NOTIFY_SOCKET", &path.display().to_string()).env("WATCHDOG_USEC", "2000").start().ready();
    m.log.wait_for("cannot report to the service manager", 1);
    m.ok(&["scale", "a", "+1"]);
    assert_eq!(m.log.count("cannot report to the service manager"), 1);
    drop(silent);
    assert_eq!(m.stop(), 0);
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").env("NOTIFY_SOCKET", "nonsense").start().ready();
    assert_eq!((m.stop(), m.log.count("cannot report to the service manager at NOTIFY_SOCKET=nonsense")), (0, 1));
}

/// The required pool's program runs, and dies before it is good: nobody is told that all is well.
#[test]
fn a_required_pool_that_dies_at_once_is_never_reported_ready() {
    let s = setup(
        "[pool.a]\ncommand = \"POOLMASTER worker --fail-boot\"\nready = \"exec\"\nrequired = true\n[pool.b]\ncommand = \"sleep 1000\"\n",
    );
    let (manager, path) = Manager::bind(&s);
    let mut m = s.env("NOTIFY_SOCKET", &path).start();
    assert_eq!(m.ends(), 3);
    manager.wait("STOPPING=1", 1);
    assert_eq!(manager.count("READY=1"), 0, "{:#?}", manager.lines());
}

/// What has failed for good is decided: whoever waits for the others is told when those are up.
#[test]
fn a_failed_pool_keeps_nobody_waiting_for_the_others() {
    let s = setup(
        "[pool.absent]\ncommand = \"DIR/absent\"\n[pool.behind]\ncommand = \"sleep 1000\"\nafter = [\"absent\"]\n[pool.b]\ncommand = \"sleep 1000\"\n",
    );
    let (manager, path) = Manager::bind(&s);
    let mut m = s.env("NOTIFY_SOCKET", &path).start();
    manager.wait("READY=1", 1);
    m.log.wait_for("ready: 1 pool, 1 worker; not all: absent is failed, behind is failed", 1);
    assert_eq!(m.stop(), 0);
}

/// The unit goes on with another main process: this one's end is not told as the unit's.
#[test]
fn a_second_master_becomes_the_main_process() {
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"10ms\"\nlisten = \"127.0.0.1:0\"\n");
    let (manager, path) = Manager::bind(&s);
    let m = s.env("NOTIFY_SOCKET", &path).start().ready();
    manager.wait("READY=1", 1);
    m.signal(libc::SIGUSR2);
    m.log.wait_for("ready: 1 pool", 2);
    let second: i32 = std::fs::read_to_string(m.setup.path("run/t.pid.2")).unwrap().trim().parse().unwrap();
    m.signal(libc::SIGTERM);
    m.log.wait_for("promoted: the first master", 1);
    manager.wait(&format!("MAINPID={second}"), 1);
    assert_eq!(manager.count("STOPPING=1"), 0, "{:#?}", manager.lines());
    kill(second, libc::SIGTERM);
    manager.wait("STOPPING=1", 1);
    wait_gone(second, Instant::now() + PATIENCE);
}

#[test]
fn a_first_master_that_panics_leaves_the_unit_to_the_second() {
    if !cfg!(debug_assertions) {
        return skip(
            "a_first_master_that_panics_leaves_the_unit_to_the_second",
            "only builds with debug assertions can be told to panic",
        );
    }
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"10ms\"\nlisten = \"127.0.0.1:0\"\n");
    let (manager, path) = Manager::bind(&s);
    let m = s.env("NOTIFY_SOCKET", &path).env("POOLMASTER_TEST_PANIC", "PWR").start().ready();
    m.signal(libc::SIGUSR2);
    m.log.wait_for("ready: 1 pool", 2);
    let second: i32 = std::fs::read_to_string(m.setup.path("run/t.pid.2")).unwrap().trim().parse().unwrap();
    m.signal(libc::SIGPWR);
    manager.wait(&format!("MAINPID={second}"), 1);
    m.log.wait_for("promoted: the first master", 1);
    kill(second, libc::SIGTERM);
    wait_gone(second, Instant::now() + PATIENCE);
}

#[test]
fn an_upgrade_is_a_reload_to_the_service_manager_and_its_watchdog_is_fed_on() {
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\nsettle = \"10ms\"\n");
    let (manager, path) = Manager::bind(&s);
    let mut m = s.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").start().ready();
    manager.wait("READY=1", 1);
    for n in 1..=3 {
        m.ok(&["upgrade"]);
        manager.wait("READY=1", n + 1);
        assert_eq!(manager.count("RELOADING=1"), n);
        let fed = manager.count("WATCHDOG=1");
        manager.wait("WATCHDOG=1", fed + 2);
    }
    assert!(manager.lines().iter().any(|line| line.starts_with("MONOTONIC_USEC=")));
    assert!(!manager.lines().iter().any(|line| line.starts_with("MAINPID=")), "it is the same process");
    assert_eq!(m.stop(), 0);
    manager.wait("STOPPING=1", 1);
}

#[test]
fn the_status_line_never_counts_more_workers_than_are_wanted() {
    let s = setup(
        "[pool.a]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nworkers = 4\nsettle = \"50ms\"\nlisten = \"unix:DIR/a.sock\"\n",
    );
    let (manager, path) = Manager::bind(&s);
    let mut m = s.env("NOTIFY_SOCKET", &path).start().ready();
    m.ok(&["reload", "--restart"]);
    m.ok(&["scale", "a", "2"]);
    assert_eq!(m.stop(), 0);
    manager.wait("STOPPING=1", 1);
    let counts = manager.lines().into_iter().filter_map(|line| {
        let words = line.strip_prefix("STATUS=")?.split(", ").nth(1)?.split(' ').map(str::to_owned).collect::<Vec<_>>();
        Some((words.first()?.parse::<u32>().ok()?, words.get(2)?.parse::<u32>().ok()?, line))
    });
    let counts: Vec<_> = counts.collect();
    assert!(counts.len() >= 4, "{counts:?}");
    assert!(counts.iter().all(|(ready, wanted, _)| ready <= wanted), "{counts:?}");
}
