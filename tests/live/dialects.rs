//! How sockets and readiness are spoken about: each protocol with a program that speaks exactly it, and the looks from outside.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;

use super::support::*;

/// Programs of a few lines, one for each dialect: none of them knows poolmaster.
const PROGRAMS: &str = r#"
import json, os, signal, socket, sys, time
def serve(s):
    s.setblocking(True)
    while True:
        c, _ = s.accept()
        c.sendall((' '.join(sys.argv[1:] + [str(os.getpid())])).encode())
        c.close()
def wait(gate):
    print('up', file=sys.stderr, flush=True)
    open(gate).read()
what = sys.argv[1]
if what == 's6':
    wait(sys.argv[2])
    os.write(int(sys.argv[3]), b'ready to go\n')
    os.close(int(sys.argv[3]))
    signal.pause()
if what == 's6-never':
    wait(sys.argv[2])
    os.close(int(sys.argv[3]))
    signal.pause()
if what == 'einhorn':
    wait(sys.argv[2])
    ack = socket.socket(socket.AF_UNIX)
    ack.connect(os.environ['EINHORN_SOCK_PATH'])
    ack.sendall(json.dumps({'command': 'worker:ack', 'pid': os.getpid()}).encode() + b'\n')
    serve(socket.socket(fileno=int(os.environ['EINHORN_FD_0'])))
if what == 'starter':
    specs = dict(p.rsplit('=', 1) for p in os.environ['SERVER_STARTER_PORT'].split(';'))
    serve(socket.socket(fileno=int(specs[sys.argv[2]])))
if what == 'stdin':
    serve(socket.socket(fileno=0))
if what == 'port':
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('127.0.0.1', int(os.environ['PORT'])))
    s.listen()
    serve(s)
"#;

/// The pool's command; `None` where there is no python.
fn program(what: &str) -> Option<String> {
    Some(format!("[\"{}\", \"DIR/program.py\", {what}]", python()?))
}

fn with_programs(pools: &str) -> Setup {
    let s = setup(pools);
    std::fs::write(s.path("program.py"), PROGRAMS).unwrap();
    s
}

/// The ready worker of slot 0 once it is of this generation.
fn of_generation(m: &Master, generation: u64) -> i32 {
    m.log.wait_until("the next generation", || {
        let worker = m.worker("a", 0);
        let there = worker["generation"] == generation && (worker["state"] == "ready" || worker["state"] == "good");
        there.then(|| i32::try_from(worker["pid"].as_i64().unwrap()).unwrap())
    })
}

fn answer(port: u16) -> String {
    let mut text = String::new();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn s6_readiness_is_a_line_on_a_descriptor() {
    let (Some(bare), Some(high), Some(never)) = (
        program("\"s6\", \"DIR/gate\", \"3\""),
        program("\"s6\", \"DIR/gate\", \"9\""),
        program("\"s6-never\", \"DIR/gate\", \"9\""),
    ) else {
        return skip("s6_readiness_is_a_line_on_a_descriptor", "needs python3");
    };
    let s = with_programs(&format!(
        "[pool.a]\ncommand = {bare}\nprotocols = [\"s6\"]\n[pool.b]\ncommand = {high}\nready = \"fd:9\"\nlisten = \"127.0.0.1:0\"\n\
         [pool.c]\ncommand = {never}\nready = \"fd:9\"\nstart_timeout = \"8s\"\nrestart.budget.failures = 1\n"
    ));
    gate(&s.path("gate"));
    let m = s.start();
    for pool in ["a", "b", "c"] {
        m.log.wait_for(&format!("{pool}:0 | up"), 1);
    }
    let pid = m.all_pids("b")[0];
    assert_eq!(fds(pid).into_keys().filter(|fd| *fd > 2).collect::<Vec<_>>(), [3, 9], "a listener, and the descriptor");
    for pool in ["a", "b"] {
        assert_eq!(m.worker(pool, 0)["state"], "starting", "{pool}");
    }
    open_gate(&m.setup.path("gate"));
    open_gate(&m.setup.path("gate"));
    open_gate(&m.setup.path("gate"));
    m.log.wait_for("a:0 ready", 1);
    m.log.wait_for("b:0 ready", 1);
    assert!(!environ(m.pids("a")[0]).contains_key("NOTIFY_SOCKET"), "systemd's was not asked for");
    m.log.wait_for("closed its readiness descriptor without a line", 1);
    m.log.wait_for("c:0 not ready within", 1);
}

#[test]
fn einhorn_workers_acknowledge_and_strangers_do_not() {
    let Some(command) = program("\"einhorn\", \"DIR/gate\"") else {
        return skip("einhorn_workers_acknowledge_and_strangers_do_not", "needs python3");
    };
    let port = free_port();
    let s = with_programs(&format!(
        "[pool.a]\ncommand = {command}\nprotocols = [\"einhorn\"]\nready = \"notify\"\nlisten = {{ main = {{ address = \"127.0.0.1:{port}\", nonblocking = false }} }}\n"
    ));
    gate(&s.path("gate"));
    let mut m = s.start();
    m.log.wait_for("a:0 | up", 1);
    let pid = m.all_pids("a")[0];
    let env = environ(pid);
    assert_eq!(
        (env["EINHORN_FD_COUNT"].as_str(), env["EINHORN_FDS"].as_str(), env["EINHORN_CHILD_INDEX"].as_str()),
        ("1", "3", "0")
    );
    assert_eq!(env["EINHORN_MASTER_PID"], m.pid().to_string());
    // This test is no worker, whatever it says.
    let mut stranger = std::os::unix::net::UnixStream::connect(&env["EINHORN_SOCK_PATH"]).unwrap();
    stranger.write_all(format!("{{\"command\":\"worker:ack\",\"pid\":{pid}}}\n").as_bytes()).unwrap();
    m.log.wait_for("dropped an acknowledgement", 1);
    assert_eq!(m.worker("a", 0)["state"], "starting");
    // Junk and an idle connection cost nothing.
    let mut junk = std::os::unix::net::UnixStream::connect(&env["EINHORN_SOCK_PATH"]).unwrap();
    junk.write_all(&vec![b'x'; 5000]).unwrap();
    let _idle = std::os::unix::net::UnixStream::connect(&env["EINHORN_SOCK_PATH"]).unwrap();
    open_gate(&m.setup.path("gate"));
    m.log.wait_for("a:0 ready", 1);
    assert_eq!(answer(port), format!("einhorn {}/gate {pid}", m.setup.dir.path().display()));
    let socket = env["EINHORN_SOCK_PATH"].clone();
    assert_eq!(m.stop(), 0);
    assert!(!Path::new(&socket).exists());
}

#[test]
fn server_starter_and_stdin_hand_their_sockets_over_in_their_own_way() {
    let (a, b) = (free_port(), free_port());
    let (Some(starter), Some(stdin)) = (program(&format!("\"starter\", \"127.0.0.1:{a}\"")), program("\"stdin\"")) else {
        return skip("server_starter_and_stdin_hand_their_sockets_over_in_their_own_way", "needs python3");
    };
    let mut m = with_programs(&format!(
        "[pool.a]\ncommand = {starter}\nprotocols = [\"server-starter\"]\nlisten = [\"127.0.0.1:{a}\", \"unix:DIR/a.sock\"]\n\
         [pool.b]\ncommand = {stdin}\nprotocols = [\"stdin\"]\nlisten = \"127.0.0.1:{b}\"\n"
    ))
    .start()
    .ready();
    let env = environ(m.pids("a")[0]);
    assert_eq!(env["SERVER_STARTER_PORT"], format!("127.0.0.1:{a}=3;{}=4", m.setup.path("a.sock").display()));
    assert_eq!(env["SERVER_STARTER_GENERATION"], "1");
    for (port, what) in [(a, "starter"), (b, "stdin")] {
        assert!(answer(port).starts_with(what));
    }
    // The next generation says so.
    kill(m.pids("a")[0], libc::SIGKILL);
    assert_eq!(environ(of_generation(&m, 2))["SERVER_STARTER_GENERATION"], "2");
    assert_eq!(m.stop(), 0);
}

#[test]
fn each_slot_has_a_port_of_its_own_and_keeps_it() {
    let Some(command) = program("\"port\", \"{port}\"") else {
        return skip("each_slot_has_a_port_of_its_own_and_keeps_it", "needs python3");
    };
    // Three ports in a row that are free, held together until they are needed.
    let first = (0..100)
        .find_map(|_| {
            let first = free_port();
            (0..3)
                .map(|n| TcpListener::bind(("127.0.0.1", first.checked_add(n)?)).ok())
                .collect::<Option<Vec<_>>>()
                .map(|_| first)
        })
        .expect("three free ports in a row");
    let mut m = with_programs(&format!(
        "[pool.a]\ncommand = {command}\nprotocols = [\"port\"]\nlisten = \"127.0.0.1:{first}\"\nworkers = 2\nsettle = \"0s\"\n"
    ))
    .start()
    .ready();
    for slot in 0..2 {
        assert!(answer(first + slot).starts_with(&format!("port {}", first + slot)));
        assert_eq!(environ(m.pids("a")[usize::from(slot)])["PORT"], (first + slot).to_string());
    }
    m.ok(&["scale", "a", "3"]);
    assert!(answer(first + 2).starts_with("port"));
    // The highest goes, so that those in use have no gaps; and a replacement waits for the port of the one it replaces.
    m.ok(&["scale", "a", "2"]);
    assert!(TcpStream::connect(("127.0.0.1", first + 2)).is_err());
    let before = m.pids("a");
    m.ok(&["restart", "a"]);
    let after = m.pids("a");
    assert!(after.len() == 2 && before.iter().all(|pid| !after.contains(pid)), "{before:?} {after:?}");
    assert!(answer(first).starts_with("port") && answer(first + 1).starts_with("port"));
    assert_eq!(m.stop(), 0);
}

#[test]
fn readiness_is_seen_from_outside_by_address_page_and_command() {
    let page = TcpListener::bind("127.0.0.1:0").unwrap();
    let page_port = page.local_addr().unwrap().port();
    let late = free_port();
    let s = setup(&format!(
        "[pool.a]\ncommand = \"sleep 1000\"\nready = \"tcp:127.0.0.1:{late}\"\n\
         [pool.b]\ncommand = \"sleep 1000\"\nready = \"http://127.0.0.1:{page_port}/up/{{slot}}\"\n\
         [pool.c]\ncommand = \"sleep 1000\"\nready = \"command:test -e DIR/{{pool}}.ok\"\n\
         [pool.d]\ncommand = \"sleep 1000\"\nready = \"command:/no/such/program\"\nstart_timeout = \"1s\"\nrestart.budget.failures = 1\n"
    ));
    let mut m = s.start();
    // A page that is not well yet, then one that is.
    let mut asked = Vec::new();
    for status in ["503 Busy", "204 No Content"] {
        let (mut stream, _) = page.accept().unwrap();
        let mut request = [0u8; 1024];
        let n = stream.read(&mut request).unwrap();
        asked.push(String::from_utf8_lossy(&request[..n]).into_owned());
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").unwrap();
    }
    assert!(asked[0].starts_with("GET /up/0 HTTP/1.1\r\nHost: 127.0.0.1:"), "{}", asked[0]);
    m.log.wait_for("b:0 ready", 1);
    assert_eq!((m.worker("a", 0)["state"].as_str(), m.worker("c", 0)["state"].as_str()), (Some("starting"), Some("starting")));
    let listener = TcpListener::bind(("127.0.0.1", late)).unwrap();
    m.log.wait_for("a:0 ready", 1);
    std::fs::write(m.setup.path("c.ok"), "").unwrap();
    m.log.wait_for("c:0 ready", 1);
    m.log.wait_for("d:0 not ready within", 1);
    assert!(listener.as_raw_fd() > 0);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_look_that_hangs_stops_nobody_and_ends_with_the_worker() {
    // Connects, and is never answered.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut m = setup(&format!(
        "[pool.a]\ncommand = \"sleep 1000\"\nready = \"http:127.0.0.1:{port}/\"\n\
         [pool.b]\ncommand = \"sleep 1000\"\nready = \"command:sleep 999\"\n[pool.c]\ncommand = \"sleep 1000\"\n"
    ))
    .start();
    m.log.wait_for("c:0 ready", 1);
    let _held = silent.accept().unwrap();
    m.log.wait_until("the command looks", || (children(m.pid()).len() == 4).then_some(()));
    assert_eq!((m.pool("a")["starting"].as_u64(), m.pool("b")["starting"].as_u64()), (Some(1), Some(1)));
    let all = children(m.pid());
    assert_eq!(m.stop(), 0);
    let until = std::time::Instant::now() + PATIENCE;
    for pid in all {
        wait_gone(pid, until);
    }
}

#[test]
fn descriptors_left_with_the_master_come_back_to_the_slots_next_worker() {
    let mut m =
        setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\nlisten = \"127.0.0.1:0\"\nready = \"exec\"\n").start().ready();
    let first = m.pids("a")[0];
    let notifier = Notifier::of(first);
    let (keep, other) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = std::fs::File::open("/proc/self/stat").unwrap();
    notifier.send_with_fds(b"FDSTORE=1\nFDNAME=cache", &[keep.as_raw_fd(), keep.as_raw_fd()]);
    notifier.send_with_fds(b"FDSTORE=1", &[file.as_raw_fd()]);
    // Sent without the word, or by a barrier: closed once what came before was heard.
    let (barrier, waits) = std::io::pipe().unwrap();
    notifier.send_with_fds(b"BARRIER=1", &[waits.as_raw_fd()]);
    drop(waits);
    let mut barrier = barrier;
    assert_eq!(barrier.read(&mut [0; 1]).unwrap(), 0, "the barrier is lifted");
    let link = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().display().to_string();
    for kept in [link(keep.as_raw_fd()), link(file.as_raw_fd())] {
        assert_eq!(fds(m.pid()).values().filter(|open| **open == kept).count(), 1, "{kept} once");
    }
    kill(first, libc::SIGKILL);
    let next = of_generation(&m, 2);
    let env = environ(next);
    assert_eq!((env["LISTEN_FDS"].as_str(), env["LISTEN_FDNAMES"].as_str()), ("3", "main:cache:stored"));
    assert_eq!(fds(next)[&5], "/proc/self/stat".replace("self", &std::process::id().to_string()));
    // The other slot has none of it.
    let sibling = m.pids("a").into_iter().find(|pid| *pid != next).unwrap();
    assert_eq!(environ(sibling)["LISTEN_FDS"], "1");
    // Asked for, or when its other side is gone, it goes.
    Notifier::of(next).send(b"FDSTOREREMOVE=1\nFDNAME=stored");
    m.log.wait_for("descriptor stored is not kept any more", 1);
    drop((keep, other));
    kill(next, libc::SIGKILL);
    let last = of_generation(&m, 3);
    // The dead one held the last end but the master's.
    kill(last, libc::SIGKILL);
    let bare = of_generation(&m, 4);
    assert_eq!(environ(bare)["LISTEN_FDNAMES"], "main");
    assert_eq!(m.stop(), 0);
}

#[test]
fn what_is_stored_is_bounded() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\n").start().ready();
    let notifier = Notifier::of(m.pids("a")[0]);
    let before = fds(m.pid()).len();
    for _ in 0..20 {
        let files: Vec<_> = (0..10).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let numbers: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        notifier.send_with_fds(b"FDSTORE=1", &numbers);
    }
    m.log.wait_for("a descriptor that the worker wants kept was closed: at most 64 are", 1);
    m.ok(&["status"]);
    assert!(fds(m.pid()).len() <= before + 65, "{}", fds(m.pid()).len());
}
