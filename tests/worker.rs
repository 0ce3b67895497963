//! The sample worker as a process: the worker contract from its side, HTTP, the graceful stop, and each misbehaviour.
#![allow(clippy::disallowed_methods, reason = "tests start the program and wait for it in threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test's fixtures fail the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{Backlog, listen};
use nix::unistd::{Pid, getpgid};

const PROGRAM: &str = env!("CARGO_BIN_EXE_poolmaster");
/// Nothing here takes this long; it is what a test waits before it fails.
const DEADLINE: Duration = Duration::from_secs(20);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n";

// ---- fixtures

/// A master's side: a listener that stays open, a notify socket, and the worker's stderr by lines.
struct Rig {
    listener: TcpListener,
    notify: UnixDatagram,
    folder: tempfile::TempDir,
}

struct Worker {
    child: Option<Child>,
    pid: Pid,
    stderr: Receiver<String>,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let notify = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(DEADLINE)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        Rig { listener, notify, folder }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("worker").args(flags).env("NOTIFY_SOCKET", self.folder.path().join("notify")).env_remove("WATCHDOG_PID");
        command
    }

    /// A worker on the rig's listener.
    fn start(&self, flags: &[&str]) -> Worker {
        let fd = self.listener.as_raw_fd().to_string();
        let mut command = self.command(flags);
        command.args(["--fd", &fd]);
        Worker::spawn(command)
    }

    /// The same, and it said READY=1.
    fn ready(&self, flags: &[&str]) -> Worker {
        let worker = self.start(flags);
        self.until("READY=1");
        worker
    }

    fn message(&self) -> std::io::Result<String> {
        let mut buffer = [0; 4096];
        let n = self.notify.recv(&mut buffer)?;
        Ok(String::from_utf8(buffer[..n].to_vec()).unwrap())
    }

    /// The first message that has this line, or a line that starts with it.
    fn until(&self, line: &str) -> String {
        loop {
            let message = self.message().unwrap_or_else(|error| panic!("no {line} came: {error}"));
            if message.lines().any(|l| l.starts_with(line)) {
                return message;
            }
        }
    }

    fn client(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client(BufReader::new(stream))
    }
}

impl Worker {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let (send, stderr) = channel();
        let pipe = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || pipe.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Worker { pid: Pid::from_raw(child.id() as i32), child: Some(child), stderr }
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    fn line(&self, part: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no line with {part:?} on stderr"));
            if line.contains(part) {
                return line;
            }
        }
    }

    fn is_alive(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    fn end(mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let (send, receive) = channel();
        thread::spawn(move || send.send(child.wait().unwrap()));
        receive.recv_timeout(DEADLINE).unwrap_or_else(|_| {
            let _ = kill(self.pid, Signal::SIGKILL);
            panic!("worker {} does not end", self.pid)
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Client<S: Read + Write>(BufReader<S>);

#[derive(Debug)]
struct Response {
    status: u16,
    fields: Vec<String>,
    body: String,
}

impl Response {
    fn says_close(&self) -> bool {
        self.fields.iter().any(|f| f == "Connection: close")
    }
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn receive(&mut self) -> std::io::Result<Response> {
        self.receive_to("GET")
    }

    fn receive_to(&mut self, method: &str) -> std::io::Result<Response> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let length = lines.iter().find_map(|l| l.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; if method == "HEAD" || status == 100 { 0 } else { length }];
        self.0.read_exact(&mut body)?;
        Ok(Response { status, fields: lines.split_off(1), body: String::from_utf8(body).unwrap() })
    }

    fn ask(&mut self, bytes: &[u8]) -> Response {
        self.send(bytes);
        self.receive().unwrap()
    }

    /// Nothing more comes but the end.
    fn ends(&mut self) {
        let mut rest = Vec::new();
        let end = self.0.read_to_end(&mut rest);
        assert!(end.is_ok(), "{end:?}");
        assert_eq!(rest, b"", "{}", rest.escape_ascii());
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").into_bytes()
}

// ---- the contract

#[test]
fn hello_names_pool_slot_generation_and_pid() {
    let rig = Rig::new();
    let fd = rig.listener.as_raw_fd().to_string();
    let mut command = rig.command(&["--fd", &fd]);
    command.env("POOLMASTER_POOL", "web").env("POOLMASTER_SLOT", "2").env("POOLMASTER_GENERATION", "1").env("SECRET", "hush");
    let worker = Worker::spawn(command);
    let ready = rig.until("READY=1");
    assert!(ready.contains("\nSTATUS=serving "), "{ready}");
    let mut client = rig.client();
    assert_eq!(client.ask(GET).body, format!("hello from web slot 2 generation 1, pid {}\n", worker.pid));
    let environment = client.ask(&get("/env")).body;
    assert!(environment.contains("POOLMASTER_SLOT=2\n") && !environment.contains("hush"), "{environment}");
    assert_eq!(client.ask(&get("/healthz")).body, "ok\n");
    assert_eq!(client.ask(&get("/nowhere")).status, 404);
    assert_eq!(client.ask(&get("/crash")).status, 404);
}

/// Starts the worker through a shell, which is how a test learns the pid that LISTEN_PID must be before the program runs.
fn handed_down(rig: &Rig, admin: &UnixListener, listen_pid: &str) -> Worker {
    // Numbers out of the way of 3 and 4, and inheritable, as F_DUPFD makes them.
    let http = fcntl(&rig.listener, FcntlArg::F_DUPFD(100)).unwrap();
    let admin = fcntl(admin, FcntlArg::F_DUPFD(100)).unwrap();
    let script = format!(
        "LISTEN_PID={listen_pid} LISTEN_FDS=2 LISTEN_FDNAMES=http:admin exec \"$0\" worker 3<&{http} 4<&{admin} {http}<&- {admin}<&-"
    );
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &script, PROGRAM]).env("NOTIFY_SOCKET", rig.folder.path().join("notify"));
    Worker::spawn(command)
}

#[test]
fn serves_all_listeners_handed_down_tcp_and_unix() {
    let rig = Rig::new();
    let path = rig.folder.path().join("admin.sock");
    let admin = UnixListener::bind(&path).unwrap();
    let worker = handed_down(&rig, &admin, "$$");
    assert!(rig.until("READY=1").contains("STATUS=serving http, admin"));
    let hello = rig.client().ask(GET).body;
    assert!(hello.contains(&format!("pid {}", worker.pid)), "{hello}");
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut client = Client(BufReader::new(stream));
    assert_eq!(client.ask(GET).body, hello);
    assert!(client.ask(&get("/env")).body.contains("LISTEN_FDNAMES=http:admin\n"));
}

#[test]
fn descriptors_of_another_process_are_ignored() {
    let rig = Rig::new();
    let admin = UnixListener::bind(rig.folder.path().join("admin.sock")).unwrap();
    let worker = handed_down(&rig, &admin, "1");
    assert!(rig.until("READY=1").contains("STATUS=working, no listener"));
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn a_job_worker_beats_talks_when_asked_and_stops() {
    let rig = Rig::new();
    let mut command = rig.command(&["--chatter", "20ms"]);
    command.env("WATCHDOG_USEC", "60000");
    let worker = Worker::spawn(command);
    rig.until("READY=1");
    for _ in 0..3 {
        assert!(rig.until("WATCHDOG=1").starts_with("WATCHDOG=1"));
        worker.line("requests answered");
    }
    worker.signal(Signal::SIGUSR1);
    rig.until("WATCHDOG=1");
    worker.signal(Signal::SIGTERM);
    rig.until("STOPPING=1");
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn a_watchdog_meant_for_another_process_is_ignored_and_abstract_sockets_work() {
    let name = format!("poolmaster-worker-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let rig = Rig { notify: UnixDatagram::bind_addr(&address).unwrap(), ..Rig::new() };
    rig.notify.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = rig.command(&[]);
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let worker = Worker::spawn(command);
    rig.until("READY=1");
    worker.signal(Signal::SIGQUIT);
    assert!(rig.message().unwrap().starts_with("STOPPING=1"), "no beat may come between");
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn an_idle_worker_wakes_for_its_beats_only() {
    let rig = Rig::new();
    let fd = rig.listener.as_raw_fd().to_string();
    let mut command = rig.command(&["--fd", &fd]);
    command.env("WATCHDOG_USEC", "100000");
    let worker = Worker::spawn(command);
    let _idle = rig.client();
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid)).unwrap();
        let count = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        count.trim().parse::<u64>().unwrap()
    };
    for _ in 0..3 {
        rig.until("WATCHDOG=1");
    }
    let before = switches();
    for _ in 0..8 {
        rig.until("WATCHDOG=1");
    }
    // One wake-up a beat; the reading of the count may fall on either side of one at both ends.
    let woken = switches() - before;
    assert!((7..=9).contains(&woken), "{woken} wake-ups for 8 beats");
}

// ---- HTTP

#[test]
fn keepalive_pipelining_and_pieces() {
    let rig = Rig::new();
    let _worker = rig.ready(&[]);
    let mut client = rig.client();
    for _ in 0..100 {
        let response = client.ask(GET);
        assert_eq!(response.status, 200);
        assert!(!response.says_close());
    }
    client.send(&GET.repeat(5000));
    for _ in 0..5000 {
        assert_eq!(client.receive().unwrap().status, 200);
    }
    let pieces = [&b"GE"[..], b"T / HTTP/1.1\r", b"\nHo", b"st: t\r\n\r", b"\n"];
    pieces.iter().for_each(|piece| client.send(piece));
    assert_eq!(client.receive().unwrap().status, 200);
}

#[test]
fn a_client_that_reads_late_gets_every_pipelined_answer_and_blocks_nobody() {
    let rig = Rig::new();
    let _worker = rig.ready(&[]);
    let mut late = rig.client();
    // Far more answers than the socket buffers of both sides hold: the writer only gets on as answers are read.
    const COUNT: usize = 100_000;
    let mut writer = late.0.get_ref().try_clone().unwrap();
    let sending = thread::spawn(move || writer.write_all(&GET.repeat(COUNT)));
    assert_eq!(rig.client().ask(GET).status, 200);
    for i in 0..COUNT {
        assert_eq!(late.receive().unwrap_or_else(|error| panic!("answer {i}: {error}")).status, 200);
    }
    sending.join().unwrap().unwrap();
}

#[test]
fn versions_methods_and_closing() {
    let rig = Rig::new();
    let _worker = rig.ready(&[]);
    let mut old = rig.client();
    assert!(old.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").fields.iter().any(|f| f == "Connection: keep-alive"));
    assert!(old.ask(b"GET / HTTP/1.0\r\n\r\n").says_close());
    old.ends();
    let mut client = rig.client();
    client.send(b"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n");
    let head = client.receive_to("HEAD").unwrap();
    assert!(head.fields.iter().any(|f| f.starts_with("Content-Length: ") && f != "Content-Length: 0"));
    assert_eq!(client.ask(b"BREW / HTTP/1.1\r\nHost: t\r\n\r\n").status, 405);
    assert!(client.ask(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").says_close());
    client.ends();
    let mut half = rig.client();
    half.send(&get("/slow?ms=50"));
    half.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(half.receive().unwrap().status, 200, "a client that only half-closed still gets its answer");
    half.ends();
}

#[test]
fn bodies_are_read_and_thrown_away() {
    let rig = Rig::new();
    let _worker = rig.ready(&[]);
    let mut client = rig.client();
    let big = 3_000_000;
    client.send(format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {big}\r\n\r\n").as_bytes());
    client.send(&vec![b'x'; big]);
    assert_eq!(client.receive().unwrap().status, 200);
    client.send(b"PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..50 {
        client.send(b"400;a=b\r\n");
        client.send(&[b'y'; 1024]);
        client.send(b"\r\n");
    }
    client.send(b"0\r\nTrailer: z\r\n\r\n");
    assert_eq!(client.receive().unwrap().status, 200);
    client.send(b"PUT / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.receive().unwrap().status, 100);
    assert_eq!(client.ask(b"abc").status, 200);
    assert_eq!(client.ask(GET).status, 200);
}

#[test]
fn a_slow_request_blocks_nobody() {
    let rig = Rig::new();
    let _worker = rig.ready(&["--report-busy", "8"]);
    let mut slow = rig.client();
    slow.send(&get("/slow?ms=300"));
    assert_eq!(rig.until("X_POOLMASTER_BUSY="), "X_POOLMASTER_BUSY=1/8");
    let asked = Instant::now();
    assert_eq!(rig.client().ask(GET).status, 200);
    assert!(asked.elapsed() < Duration::from_millis(250));
    assert_eq!(slow.receive().unwrap().body, "slow, but here\n");
    assert_eq!(rig.until("X_POOLMASTER_BUSY="), "X_POOLMASTER_BUSY=0/8");
}

#[test]
fn malformed_input_is_refused_and_harms_nothing() {
    let rig = Rig::new();
    let mut worker = rig.ready(&[]);
    let long = format!("GET / HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", "X: y\r\n".repeat(1000));
    let path = format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "a".repeat(40_000));
    let corpus: [(&[u8], u16); 16] = [
        (b"\0\0\0\0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: t\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: t\r\nExpect: wonders\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nHost: t\r\nA\x7f: b\r\n\r\n", 400),
        (long.as_bytes(), 431),
        (many.as_bytes(), 431),
        (path.as_bytes(), 431),
    ];
    for (input, want) in corpus {
        let mut client = rig.client();
        let shown = input[..input.len().min(60)].escape_ascii().to_string();
        let response = client.ask(input);
        assert_eq!(response.status, want, "{shown}");
        assert!(response.says_close(), "{shown}");
        client.ends();
    }
    // Cut off at every length: nothing to answer, nothing to remember.
    let whole = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for length in 0..whole.len() {
        rig.client().send(&whole[..length]);
    }
    assert_eq!(rig.client().ask(GET).status, 200);
    assert!(worker.is_alive());
}

#[test]
fn hundreds_of_connections_at_once() {
    let rig = Rig::new();
    let worker = rig.ready(&["--drain", "0s"]);
    let mut clients: Vec<_> = (0..400).map(|_| rig.client()).collect();
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| client.send(GET));
        for client in &mut clients {
            assert_eq!(client.receive().unwrap().status, 200);
        }
    }
    worker.signal(Signal::SIGTERM);
    clients.iter_mut().for_each(Client::ends);
    drop(clients);
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn after_so_many_requests_it_stops_by_itself_as_if_told_to() {
    let rig = Rig::new();
    let worker = rig.ready(&["--max-requests", "3", "--drain", "30s"]);
    let (mut one, mut other) = (rig.client(), rig.client());
    assert_eq!((one.ask(GET).status, other.ask(GET).status), (200, 200));
    assert!(!one.ask(GET).says_close(), "the third does not know of it");
    // Both may bring one more.
    assert!(one.ask(GET).says_close() && other.ask(GET).says_close());
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn connections_beyond_the_limit_wait_in_the_queue() {
    let rig = Rig::new();
    let _worker = rig.ready(&["--max-connections", "2"]);
    let (mut one, mut two, mut three) = (rig.client(), rig.client(), rig.client());
    assert_eq!((one.ask(GET).status, two.ask(GET).status), (200, 200));
    three.send(GET);
    assert_eq!(one.ask(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").status, 200);
    assert_eq!(three.receive().unwrap().status, 200);
}

#[test]
fn a_connection_that_stays_idle_is_closed() {
    let rig = Rig::new();
    let _worker = rig.ready(&["--idle-timeout", "50ms"]);
    let mut client = rig.client();
    assert_eq!(client.ask(GET).status, 200);
    client.ends();
    let mut slow_head = rig.client();
    slow_head.send(b"GET / HT");
    slow_head.ends();
}

// ---- the graceful stop

#[test]
fn after_the_stop_signal_each_connection_may_bring_one_more_request() {
    let rig = Rig::new();
    let worker = rig.ready(&["--drain", "30s"]);
    // The first connection brings nothing before the stop; it was accepted, as it was in the queue before the second.
    let (mut fresh, mut used) = (rig.client(), rig.client());
    assert!(!used.ask(GET).says_close());
    worker.signal(Signal::SIGTERM);
    assert_eq!(rig.until("STOPPING=1"), "STOPPING=1\nSTATUS=stopping, 2 connections open");
    let mut queued = rig.client();
    for client in [&mut fresh, &mut used] {
        let last = client.ask(GET);
        assert_eq!(last.status, 200);
        assert!(last.says_close());
        client.ends();
    }
    drop((fresh, used));
    assert_eq!(worker.end().code(), Some(0));
    // The listener was left to the next worker, with its queue.
    let _next = rig.ready(&[]);
    assert_eq!(queued.ask(GET).status, 200);
}

#[test]
fn a_request_in_progress_is_finished() {
    let rig = Rig::new();
    let worker = rig.ready(&["--drain", "0s", "--report-busy", "4"]);
    let (mut slow, mut idle) = (rig.client(), rig.client());
    // Pipelined behind the slow one: received, so answered too.
    slow.send(&[get("/slow?ms=300"), GET.to_vec()].concat());
    rig.until("X_POOLMASTER_BUSY=1/4");
    worker.signal(Signal::SIGINT);
    idle.ends();
    let first = slow.receive().unwrap();
    assert_eq!((first.status, first.says_close()), (200, false));
    let second = slow.receive().unwrap();
    assert_eq!((second.status, second.says_close()), (200, true));
    slow.ends();
    drop((slow, idle));
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn a_half_received_body_is_waited_for() {
    let rig = Rig::new();
    let worker = rig.ready(&["--drain", "30s"]);
    let mut client = rig.client();
    assert_eq!(client.ask(GET).status, 200);
    client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\nabc");
    worker.signal(Signal::SIGTERM);
    rig.until("STOPPING=1");
    let last = client.ask(b"def");
    assert_eq!((last.status, last.says_close()), (200, true));
    drop(client);
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn the_second_stop_signal_ends_it_at_once() {
    let rig = Rig::new();
    let worker = rig.ready(&["--drain", "1h"]);
    let mut idle = rig.client();
    assert_eq!(idle.ask(GET).status, 200);
    worker.signal(Signal::SIGTERM);
    rig.until("STOPPING=1");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
}

/// Keepalive clients at full speed while the worker stops: each request that was sent before the client could know of the
/// end is answered.
#[test]
fn a_stop_under_keepalive_load_loses_no_request() {
    let rig = Rig::new();
    for _round in 0..5 {
        let worker = rig.ready(&["--drain", "30s"]);
        let (send, progress) = channel();
        let clients: Vec<_> = (0..16)
            .map(|_| {
                let (mut client, send) = (rig.client(), send.clone());
                thread::spawn(move || {
                    for answered in 0.. {
                        client.send(GET);
                        let response = client.receive().map_err(|error| format!("request {answered}: {error}"))?;
                        assert_eq!(response.status, 200);
                        if answered == 20 {
                            let _ = send.send(());
                        }
                        if response.says_close() {
                            return Ok::<_, String>(());
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        (0..16).for_each(|_| progress.recv_timeout(DEADLINE).unwrap());
        worker.signal(Signal::SIGTERM);
        for client in clients {
            assert_eq!(client.join().unwrap(), Ok(()));
        }
        assert_eq!(worker.end().code(), Some(0));
    }
}

/// Workers replaced under clients that connect anew for each request or whenever told to: no error is seen.
#[test]
fn replacing_workers_under_load_loses_no_request() {
    let rig = Rig::new();
    let mut worker = rig.ready(&[]);
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|i| {
            let (over, address) = (Arc::clone(&over), rig.address());
            thread::spawn(move || {
                let connect = || {
                    let stream = TcpStream::connect(address).unwrap();
                    stream.set_read_timeout(Some(DEADLINE)).unwrap();
                    Client(BufReader::new(stream))
                };
                let request: &[u8] = if i % 2 == 0 { GET } else { b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n" };
                let (mut client, mut answered) = (connect(), 0_u64);
                while !over.load(Ordering::Relaxed) {
                    client.send(request);
                    let response = client.receive().map_err(|error| format!("request {answered}: {error}"))?;
                    answered += 1;
                    if response.says_close() {
                        client = connect();
                    }
                }
                Ok::<_, String>(answered)
            })
        })
        .collect();
    for _ in 0..10 {
        let next = rig.ready(&[]);
        worker.signal(Signal::SIGTERM);
        assert_eq!(std::mem::replace(&mut worker, next).end().code(), Some(0));
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap().unwrap() > 0);
    }
}

// ---- alone

#[test]
fn alone_it_opens_its_own_listeners_and_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.sock");
    let mut command = Command::new(PROGRAM);
    command.args(["worker", "--listen", "127.0.0.1:0", "--listen", &format!("unix:{}", path.display())]);
    command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_PID");
    let worker = Worker::spawn(command);
    let line = worker.line("listening on http://");
    let address = line.split_once("http://").unwrap().1.split(',').next().unwrap();
    worker.line("w.sock");
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut client = Client(BufReader::new(stream));
    assert_eq!(client.ask(GET).body, format!("hello from a worker without a master, pid {}\n", worker.pid));
    let mut local = Client(BufReader::new(UnixStream::connect(&path).unwrap()));
    assert_eq!(local.ask(GET).status, 200);
    drop((client, local));
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn what_cannot_be_served_is_a_boot_failure_with_a_cause() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flags, cause) in [(["--listen", address.as_str()], "in use"), (["--fd", "0"], "not a socket")] {
        let mut command = Command::new(PROGRAM);
        command.arg("worker").args(flags);
        let worker = Worker::spawn(command);
        worker.line(cause);
        assert_eq!(worker.end().code(), Some(3));
    }
}

// ---- misbehaviours

#[test]
fn it_fails_to_boot_or_to_load_as_told() {
    let rig = Rig::new();
    for (flag, code) in [("--fail-boot", 3), ("--fail-load", 4)] {
        let worker = rig.start(&[flag, "--slow-start", "10ms"]);
        worker.line(flag);
        assert_eq!(worker.end().code(), Some(code));
    }
    rig.notify.set_nonblocking(true).unwrap();
    assert!(rig.message().is_err(), "nothing was ready");
}

#[test]
fn it_exits_as_told() {
    let rig = Rig::new();
    assert_eq!(rig.ready(&["--exit", "7"]).end().code(), Some(7));
    assert_eq!(rig.ready(&["--exit-after", "30ms:9"]).end().code(), Some(9));
    assert_eq!(rig.ready(&["--exit-after", "30ms"]).end().code(), Some(0));
}

#[test]
fn it_crashes_as_told() {
    let rig = Rig::new();
    assert_eq!(rig.start(&["--crash-after", "10ms"]).end().signal(), Some(Signal::SIGSEGV as i32));
    for signal in ["ABRT", "BUS", "KILL", "TERM", "FPE"] {
        let worker = rig.start(&["--crash-after", "0s", "--crash-signal", signal]);
        let want: Signal = format!("SIG{signal}").parse().unwrap();
        assert_eq!(worker.end().signal(), Some(want as i32), "{signal}");
    }
    while rig.message().is_err() {}
    let rig = Rig::new();
    let worker = rig.ready(&["--allow-crash"]);
    let mut client = rig.client();
    client.send(&get("/crash"));
    assert!(client.receive().is_err());
    assert_eq!(worker.end().signal(), Some(Signal::SIGSEGV as i32));
}

#[test]
fn it_hangs_as_told_and_only_an_abort_helps() {
    let rig = Rig::new();
    let fd = rig.listener.as_raw_fd().to_string();
    let mut command = rig.command(&["--fd", &fd, "--hang-after", "200ms"]);
    command.env("WATCHDOG_USEC", "20000");
    let mut worker = Worker::spawn(command);
    rig.until("WATCHDOG=1");
    rig.notify.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    while rig.message().is_ok() {}
    worker.signal(Signal::SIGTERM);
    assert!(rig.message().is_err(), "it neither beats nor stops");
    assert!(worker.is_alive());
    worker.signal(Signal::SIGABRT);
    assert_eq!(worker.end().signal(), Some(Signal::SIGABRT as i32));
}

#[test]
fn it_starts_slowly_as_told_and_can_be_stopped_meanwhile() {
    let rig = Rig::new();
    let started = Instant::now();
    let _worker = rig.ready(&["--slow-start", "150ms"]);
    assert!(started.elapsed() >= Duration::from_millis(150));
    // It is in its loop, with signals taken, once it talks.
    let worker = rig.start(&["--slow-start", "1h", "--chatter", "1ms"]);
    worker.line("line 1");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn it_never_gets_ready_as_told() {
    let rig = Rig::new();
    let worker = rig.start(&["--never-ready", "--chatter", "1ms"]);
    let mut client = rig.client();
    client.send(GET);
    worker.line("line 20");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
    rig.notify.set_nonblocking(true).unwrap();
    assert!(rig.message().is_err());
    rig.notify.set_nonblocking(false).unwrap();
    let _good = rig.ready(&[]);
    assert_eq!(client.receive().unwrap().status, 200, "its queue was left alone");
}

#[test]
fn it_ignores_its_stop_signal_as_told() {
    let rig = Rig::new();
    let worker = rig.ready(&["--ignore-term"]);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        worker.signal(signal);
        worker.line("ignoring");
    }
    assert_eq!(rig.client().ask(GET).status, 200);
    worker.signal(Signal::SIGKILL);
    assert_eq!(worker.end().signal(), Some(Signal::SIGKILL as i32));
}

#[test]
fn it_leaks_as_told() {
    let rig = Rig::new();
    let mut command = rig.command(&["--leak", "64M/s"]);
    command.env("WATCHDOG_USEC", "100000");
    let worker = Worker::spawn(command);
    let resident = || {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", worker.pid)).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    rig.until("WATCHDOG=1");
    let (before, started) = (resident(), Instant::now());
    while resident() < before + (16 << 20) {
        rig.until("WATCHDOG=1");
        assert!(started.elapsed() < DEADLINE, "no 16 MiB leaked");
    }
    assert!(started.elapsed() >= Duration::from_millis(100));
}

#[test]
fn it_shuts_the_shared_listener_down_as_told_and_serves_again_once_it_is_revived() {
    let rig = Rig::new();
    let sibling = rig.ready(&[]);
    let worker = rig.ready(&["--shutdown-listener"]);
    // Either of them may be the one that learns of it by its epoll; both do.
    worker.line("cannot accept");
    sibling.line("cannot accept");
    assert_eq!(TcpStream::connect(rig.address()).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    listen(&rig.listener, Backlog::new(16).unwrap()).unwrap();
    assert_eq!(rig.client().ask(GET).status, 200);
}

#[test]
fn it_leaves_a_child_behind_as_told() {
    let rig = Rig::new();
    let worker = rig.ready(&["--spawn-child"]);
    let line = worker.line("started child");
    let child = Pid::from_raw(line.rsplit(' ').next().unwrap().parse().unwrap());
    assert_eq!(getpgid(Some(child)).unwrap(), getpgid(Some(worker.pid)).unwrap());
    let group = worker.pid;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().code(), Some(0));
    assert_eq!(kill(child, None), Ok(()), "the child lives on");
    nix::sys::signal::killpg(group, Signal::SIGTERM).unwrap();
    // Its end closes the pipe it shares; here it is enough that it is gone or a zombie nobody has reaped yet.
    let started = Instant::now();
    while kill(child, None) != Err(Errno::ESRCH) {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])) {
            break;
        }
        assert!(started.elapsed() < DEADLINE, "the child does not end");
        thread::yield_now();
    }
}
