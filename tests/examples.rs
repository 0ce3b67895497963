//! The examples, run as they are with the real programs. What cannot be installed here is skipped, visibly.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::multiple_unsafe_ops_per_block,
    unreachable_pub,
    reason = "tests start processes and threads, read clocks, and may fail loudly"
)]

#[path = "live/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::*;

/// An HTTP client that keeps its connection.
struct Http {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Http {
    fn connect(port: u16) -> Http {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Http { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    fn ask(&mut self, path: &str) {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).unwrap();
    }

    /// Status line and length of the body that follows.
    fn head(&mut self) -> (String, usize) {
        let mut status = String::new();
        self.reader.read_line(&mut status).unwrap();
        let mut length = None;
        loop {
            let mut line = String::new();
            assert!(self.reader.read_line(&mut line).unwrap() > 0, "closed within the head after {status:?}");
            if line == "\r\n" {
                return (status, length.expect("a content-length"));
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse().unwrap());
            }
        }
    }

    fn body(&mut self, length: usize) -> String {
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    fn get(&mut self, path: &str) -> String {
        self.ask(path);
        let (status, length) = self.head();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        self.body(length)
    }
}

/// What every server has to do under poolmaster.
fn exercise(m: &mut Master, port: u16) {
    // Seen from outside: it accepts, therefore it is ready.
    m.log.wait_for("web:0 ready after", 1);
    assert!(!m.log.text().contains("never seen accepting"), "ready = auto saw nothing");
    assert!(Http::connect(port).get("/").starts_with("hello from web:"));

    // The socket is the master's: while a worker is dead, nobody is turned away.
    let before = m.wait_count("web", 2);
    kill(before[0], libc::SIGKILL);
    for _ in 0..20 {
        assert!(Http::connect(port).get("/").starts_with("hello from web:"));
    }
    m.log.wait_until("a replacement", || (!m.wait_count("web", 2).contains(&before[0])).then_some(()));

    m.ok(&["scale", "web", "+1"]);
    let workers = m.wait_count("web", 3);
    assert!(!m.log.text().contains("never seen accepting"));

    // A request that has begun is finished, whatever else was ordered.
    let mut slow = Http::connect(port);
    slow.ask("/slow");
    let (_, length) = slow.head();
    let first = slow.body(length / 2);
    m.signal(libc::SIGTERM);
    assert_eq!(slow.body(length / 2), first);
    assert_eq!(m.wait().code(), Some(0), "{}", m.log.text());
    assert!(!m.log.text().contains("sending SIGKILL"));
    assert!(workers.iter().all(|pid| !is_alive(*pid)));
    m.assert_nothing_left();
}

/// Times of requests one after the other on one connection, sorted.
fn keepalive(port: u16, requests: usize) -> Vec<Duration> {
    let mut client = Http::connect(port);
    client.get("/");
    let mut times: Vec<Duration> = (0..requests)
        .map(|_| {
            let start = Instant::now();
            client.get("/");
            start.elapsed()
        })
        .collect();
    times.sort();
    times
}

/// TCP_NODELAY of the server's end of this connection, asked of a duplicate of its descriptor. `None`: not permitted.
fn nodelay_of(client: &TcpStream, workers: &[i32]) -> Option<bool> {
    let ours = client.local_addr().unwrap();
    for worker in workers {
        // SAFETY: no memory is involved.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, *worker, 0) };
        assert!(pidfd >= 0);
        // SAFETY: just opened, owned by nobody else.
        let pidfd = unsafe { OwnedFd::from_raw_fd(i32::try_from(pidfd).unwrap()) };
        for (number, _) in fds(*worker).into_iter().filter(|(_, to)| to.starts_with("socket:")) {
            // SAFETY: no memory is involved.
            let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
            if copy < 0 {
                return None;
            }
            // SAFETY: just opened, owned by nobody else.
            let copy = TcpStream::from(unsafe { OwnedFd::from_raw_fd(i32::try_from(copy).unwrap()) });
            if copy.peer_addr().is_ok_and(|peer| peer == ours) {
                return Some(copy.nodelay().unwrap());
            }
        }
    }
    panic!("no worker has a connection to {ours}");
}

// -- uvicorn

fn told(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).trim().lines().last().unwrap_or_default().to_owned()
}

/// A known version: what is measured below is its behaviour with a descriptor that it was given.
const UVICORN: &str = "uvicorn==0.54.0";

/// A folder with uvicorn in it, installed on the first use; `Err`: why not.
fn uvicorn() -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uvicorn-venv");
    let bin = venv.join("bin");
    // Two tests want it, and they run at once.
    static ONCE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _once = ONCE.lock().unwrap();
    if Command::new(bin.join("uvicorn")).arg("--version").output().is_ok_and(|out| out.status.success()) {
        return Ok(bin);
    }
    let run = |what: &str, command: &mut Command| match command.output() {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(format!("{what}: {}", told(&out))),
        Err(e) => Err(format!("{what}: {e}")),
    };
    run("python3 -m venv", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    run(
        "pip install uvicorn",
        Command::new(bin.join("pip")).args(["install", "--quiet", "--disable-pip-version-check", UVICORN]),
    )?;
    Ok(bin)
}

fn with_uvicorn(test: &str) -> Option<(Setup, u16)> {
    let bin = match uvicorn() {
        Ok(bin) => bin,
        Err(why) => {
            skip(test, &why);
            return None;
        }
    };
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    Some((example("uvicorn.toml").env("PATH", &path), free_port()))
}

#[test]
fn uvicorn_answers_survives_scales_and_stops() {
    let Some((setup, port)) = with_uvicorn("uvicorn_answers_survives_scales_and_stops") else { return };
    let mut m = setup.arg("--set").arg(&format!("pool.web.listen=127.0.0.1:{port}")).start().ready();
    exercise(&mut m, port);
}

#[test]
fn uvicorn_is_fast_on_keepalive() {
    let Some((setup, port)) = with_uvicorn("uvicorn_is_fast_on_keepalive") else { return };
    let m = setup.arg("--set").arg(&format!("pool.web.listen=127.0.0.1:{port}")).start().ready();
    // Nagle's algorithm against delayed acknowledgements costs 40 ms a request once the connection is past its first few.
    let times = keepalive(port, 200);
    assert!(times[100] < Duration::from_millis(10), "median {:?}", times[100]);
    assert!(times[180] < Duration::from_millis(30), "slowest tenth from {:?} on", times[180]);
    let client = Http::connect(port);
    let mut client = client;
    client.get("/");
    match nodelay_of(&client.stream, &m.pids("web")) {
        Some(set) => assert!(set, "TCP_NODELAY on an accepted socket"),
        None => skip("uvicorn_is_fast_on_keepalive, by getsockopt", "may not take a worker's descriptor"),
    }
}

#[test]
fn without_nodelay_uvicorn_is_slow_on_keepalive() {
    // The measure above can fail: the same without what it measures.
    let Some((setup, port)) = with_uvicorn("without_nodelay_uvicorn_is_slow_on_keepalive") else { return };
    let listen = format!("pool.web.listen={{ main = {{ address = \"127.0.0.1:{port}\", nodelay = false }} }}");
    let m = setup.arg("--set").arg(&listen).start().ready();
    let mut client = Http::connect(port);
    client.get("/");
    match nodelay_of(&client.stream, &m.pids("web")) {
        Some(set) => assert!(!set, "uvicorn sets TCP_NODELAY by itself now: the comment in the example is out of date"),
        None => skip("without_nodelay_uvicorn_is_slow_on_keepalive", "may not take a worker's descriptor"),
    }
    let times = keepalive(port, 50);
    assert!(times[25] > Duration::from_millis(10), "median {:?}: the measure shows nothing", times[25]);
}

// -- Node.js

#[test]
fn node_answers_survives_scales_and_stops() {
    if let Err(e) = Command::new("node").arg("--version").output() {
        return skip("node_answers_survives_scales_and_stops", &format!("node: {e}"));
    }
    let port = free_port();
    let mut m = example("node.toml").arg("--set").arg(&format!("pool.web.listen=127.0.0.1:{port}")).start().ready();
    let times = keepalive(port, 200);
    assert!(times[100] < Duration::from_millis(10), "median {:?}", times[100]);
    exercise(&mut m, port);
}

// -- what needs nothing else

#[test]
fn shell_jobs_run_scale_and_finish_what_they_began() {
    let mut m = example("shell-jobs.toml").start();
    for slot in 0..3 {
        m.log.wait_for(&format!("mail:{slot} | worker {slot}: looking for mail"), 1);
    }
    m.log.wait_for("cleaned up", 1);
    m.log.wait_for("cleanup completed", 1);
    m.ok(&["scale", "mail", "+2"]);
    m.log.wait_for("worker 4: looking for mail", 1);
    let begun = m.log.count("report begun");
    m.log.wait_for("report begun", begun + 1);
    assert_eq!(m.stop(), 0);
    assert_eq!(m.log.count("report begun"), m.log.count("report done"), "a report was cut off");
    m.assert_nothing_left();
}

#[test]
fn the_quick_start_runs_as_it_is() {
    if let Err(e) = TcpListener::bind("127.0.0.1:8000") {
        return skip("the_quick_start_runs_as_it_is", &format!("port 8000: {e}"));
    }
    let mut m = example("quickstart.toml").start().ready();
    assert!(get(8000, "/").unwrap().contains("web"));
    m.ok(&["scale", "web", "+1"]);
    let workers = m.wait_count("web", 4);
    let status = m.ok(&["status"]);
    assert!(["web", "admin", "jobs"].iter().all(|pool| status.contains(pool)), "{status}");
    let admin = Path::new("/tmp/poolmaster-quickstart-admin.sock");
    assert!(admin.exists());
    let start = Instant::now();
    m.signal(libc::SIGINT);
    assert_eq!(m.wait().code(), Some(0), "{}", m.log.text());
    assert!(start.elapsed() < Duration::from_secs(5), "the quick timeout");
    assert!(workers.iter().all(|pid| !is_alive(*pid)) && !admin.exists());
    m.assert_nothing_left();
}

#[test]
fn every_example_passes_check() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let out = Command::new(POOLMASTER)
                .args(["check", "--no-host"])
                .arg(&path)
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .output()
                .unwrap();
            assert!(out.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&out.stderr));
            seen += 1;
        }
    }
    assert!(seen >= 4);
}
