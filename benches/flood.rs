//! What 40 workers that write nothing but line ends cost those who give orders: the time of `info`, and of a killed worker's replacement, beside a
//! master whose workers are silent. `cargo bench --bench flood`; it takes about half a minute.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and starts processes")]
#![allow(clippy::unwrap_used, reason = "it may fail loudly")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const POOLMASTER: &str = env!("CARGO_BIN_EXE_poolmaster");
const PATIENCE: Duration = Duration::from_secs(60);
const FLOODING: usize = 40;
const ASKED: usize = 1000;
const KILLED: usize = 100;

struct Master {
    child: Child,
    dir: tempfile::TempDir,
}

impl Master {
    fn start(command: &str, format: &str) -> Master {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let config = format!(
            "[master]\nname = \"bench\"\nruntime_dir = \"{at}\"\nlog = {{ file = \"/dev/null\", format = \"{format}\" }}\n\
             [pool.many]\ncommand = {command}\nworkers = {FLOODING}\nready = \"exec\"\nsettle = 0\n\
             [pool.one]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = 0\nrestart.budget.failures = 1000\n"
        );
        std::fs::write(dir.path().join("pools.toml"), config).unwrap();
        let child = Command::new(POOLMASTER).arg("run").arg(dir.path().join("pools.toml")).stdin(Stdio::null()).spawn().unwrap();
        Master { child, dir }
    }

    fn client(&self) -> Client {
        let until = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(self.dir.path().join("bench.sock")) {
                Ok(stream) => return Client(BufReader::new(stream)),
                Err(e) => assert!(Instant::now() < until, "{e}"),
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.client().ask(r#"{"method":"shutdown","parameters":{"now":true}}"#);
        let _ = self.child.wait();
    }
}

struct Client(BufReader<UnixStream>);

impl Client {
    fn ask(&mut self, request: &str) -> String {
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    fn pid(&mut self) -> Option<i32> {
        let reply: serde_json::Value = serde_json::from_str(&self.ask(r#"{"method":"ps","parameters":{"pool":"one"}}"#)).unwrap();
        reply["parameters"]["workers"]
            .as_array()
            .unwrap()
            .iter()
            .find_map(|w| w["pid"].as_i64())
            .and_then(|pid| i32::try_from(pid).ok())
    }
}

fn shown(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1000].as_secs_f64() * 1000.0;
    format!("{:>8.2} {:>8.2} {:>8.2}", at(500), at(990), at(1000))
}

fn main() {
    println!("{:<30} {:>8} {:>8} {:>8}   {:>8} {:>8} {:>8}", "ms", "info p50", "p99", "most", "new p50", "p99", "most");
    for (name, command, format) in [
        ("silent", "\"sleep 1000\"", "text"),
        ("40 that write line ends", "['sh', '-c', 'exec yes \"\" >&2']", "text"),
        ("the same, log as JSON", "['sh', '-c', 'exec yes \"\" >&2']", "json"),
    ] {
        let master = Master::start(command, format);
        let mut client = master.client();
        client.ask(r#"{"method":"wait","parameters":{"pool":"many","for":"count=40"}}"#);
        let mut asked = Vec::new();
        for _ in 0..ASKED {
            let begin = Instant::now();
            client.ask(r#"{"method":"info"}"#);
            asked.push(begin.elapsed());
        }
        let mut replaced = Vec::new();
        for _ in 0..KILLED {
            let old = client.pid().unwrap();
            let begin = Instant::now();
            assert!(Command::new("kill").args(["-9", &old.to_string()]).status().unwrap().success());
            while client.pid().is_none_or(|pid| pid == old) {
                assert!(begin.elapsed() < PATIENCE, "no replacement");
            }
            replaced.push(begin.elapsed());
        }
        println!("{name:<30} {}   {}", shown(asked), shown(replaced));
    }
}
