//! What a reload costs those who are served: requests per second of four sample workers with and without workers being replaced all the time
//! (`reload --restart`, one after the other), for clients that keep their connections and for clients that make one for each request.
//! `cargo bench --bench reload`; it takes about a minute. It fails if a single request does.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and starts processes")]
#![allow(clippy::unwrap_used, reason = "it may fail loudly")]
#![allow(dead_code, unreachable_pub, reason = "the load is that of the tests, which use more of it")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use load::{Goal, Load, Manner};

#[path = "../tests/live/support/load.rs"]
mod load;

const POOLMASTER: &str = env!("CARGO_BIN_EXE_poolmaster");
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const CLIENTS: usize = 20;
const WORKERS: u32 = 4;
/// One measurement.
const SPAN: Duration = Duration::from_secs(3);
const ROUNDS: usize = 4;

/// A running master.
struct Master {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Master {
    fn start() -> Master {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = dir.path().display();
        let config = format!(
            "[master]\nname = \"bench\"\nruntime_dir = \"{at}\"\nlog.level = \"warn\"\n[pool.web]\ncommand = \"{POOLMASTER} worker\"\n\
             workers = {WORKERS}\nlisten = \"127.0.0.1:{port}\"\nready = \"notify\"\nsettle = \"100ms\"\n"
        );
        std::fs::write(dir.path().join("pools.toml"), config).unwrap();
        let child = Command::new(POOLMASTER).arg("run").arg(dir.path().join("pools.toml")).stdin(Stdio::null()).spawn().unwrap();
        let mut master = Master { child, dir, port };
        let until = Instant::now() + PATIENCE;
        while master.ask(r#"{"method":"wait","parameters":{"pool":"web","for":"ready"}}"#).is_none() {
            assert!(Instant::now() < until && master.child.try_wait().unwrap().is_none(), "the master does not answer");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        master
    }

    /// One request and its reply; `None`: nobody is there yet.
    fn ask(&self, request: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.dir.path().join("bench.sock")).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        stream.write_all(b"\n").ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        Some(reply)
    }

    fn reload(&self) {
        let reply = self.ask(r#"{"method":"reload","parameters":{"restart":true}}"#).unwrap();
        assert!(reply.contains(r#""code":0"#), "{reply}");
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.ask(r#"{"method":"shutdown","parameters":{"now":true}}"#);
        let _ = self.child.wait();
    }
}

/// Requests per second for a while, and how many reloads there were in it.
fn span(master: &Master, load: &Load, reloading: bool) -> (f64, u32) {
    let (from, begin, mut reloads) = (load.answered(), Instant::now(), 0);
    while begin.elapsed() < SPAN {
        if reloading {
            master.reload();
            reloads += 1;
        } else {
            std::thread::park_timeout(SPAN.saturating_sub(begin.elapsed()));
        }
    }
    ((load.answered() - from) as f64 / begin.elapsed().as_secs_f64(), reloads)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2] + figures[(figures.len() - 1) / 2]) / 2.0
}

fn main() {
    println!("{CLIENTS} clients, {WORKERS} workers, {ROUNDS} times {SPAN:?} each way\n");
    println!(
        "{:<26} {:>12} {:>14} {:>7} {:>8} {:>7}",
        "connections", "calm req/s", "reloading req/s", "loss", "reloads", "failed"
    );
    let mut failed = 0;
    for (name, manner) in [("kept", Manner::Keepalive), ("one for each request", Manner::Each)] {
        let master = Master::start();
        let load = Load::on(&Goal::Port(master.port), CLIENTS, manner, Duration::ZERO);
        span(&master, &load, true);
        let (mut calm, mut reloading, mut reloads) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            calm.push(span(&master, &load, false).0);
            let (rate, n) = span(&master, &load, true);
            reloading.push(rate);
            reloads += n;
        }
        let toll = load.end();
        let (calm, reloading) = (median(calm), median(reloading));
        let loss = (1.0 - reloading / calm) * 100.0;
        println!("{name:<26} {calm:>12.0} {reloading:>14.0} {loss:>6.1}% {reloads:>8} {:>7}", toll.failures.len());
        toll.failures.iter().for_each(|why| println!("    {why}"));
        failed += toll.failures.len();
    }
    assert_eq!(failed, 0, "requests failed");
}
