//! What the live tests share: a real master in a directory of its own, followed by its log, never by sleeping.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    unreachable_pub,
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "tests start processes, read clocks and may fail loudly"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

mod ends;
mod helper;
mod host;
mod load;
mod orders;
mod scenes;
mod talk;
mod turns;

pub use ends::*;
pub use helper::helper;
pub use host::*;
pub use load::*;
pub use orders::*;
pub use scenes::*;
pub use talk::*;
pub use turns::*;

/// The longest any single wait takes before the test fails: generous, for two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The binary under test.
pub const POOLMASTER: &str = env!("CARGO_BIN_EXE_poolmaster");

/// Lines of a stream as they come.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>, Arc<Stream>);

/// Where lines come from.
#[derive(Default)]
struct Stream {
    fd: Option<OwnedFd>,
    ended: AtomicBool,
    /// All that was read is in the lines.
    idle: AtomicBool,
}

/// Tells when its reader is done with what it read before.
struct Followed<R>(R, Arc<Stream>);

impl<R: Read> Read for Followed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1.idle.store(true, Ordering::Release);
        let read = self.0.read(buffer);
        self.1.idle.store(false, Ordering::Release);
        read
    }
}

impl Stream {
    /// Nothing waits to be read.
    fn is_empty(&self) -> bool {
        let Some(fd) = &self.fd else { return true };
        let mut waiting = 0_i32;
        // SAFETY: writes one number.
        let asked = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut waiting) };
        self.ended.load(Ordering::Acquire) || ((asked != 0 || waiting == 0) && self.idle.load(Ordering::Acquire))
    }
}

impl Lines {
    fn follow(stream: impl Read + AsFd + Send + 'static) -> Lines {
        let fd = stream.as_fd().try_clone_to_owned().ok();
        let lines = Lines(Arc::default(), Arc::new(Stream { fd, ..Stream::default() }));
        let writer = lines.clone();
        let stream = Followed(stream, Arc::clone(&lines.1));
        std::thread::spawn(move || {
            let mut dump = false;
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                // At level debug the whole config is told: every word of it would be found in the log.
                const DUMP: &[u8] = b"the whole config, from all of its layers:";
                dump = line.ends_with(DUMP) || (dump && !line.starts_with(b"20"));
                if dump || line.windows(DUMP.len()).any(|part| part == DUMP) {
                    continue;
                }
                writer.0.0.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                writer.0.1.notify_all();
            }
            writer.1.ended.store(true, Ordering::Release);
            writer.0.1.notify_all();
        });
        lines
    }

    /// Waits until all that a process has said is read, be it ended or asleep: first it, then the pipe, then the reader. What is never
    /// quiet is not waited for.
    fn settle(&self, pid: i32) {
        let asleep = || {
            let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
            threads.filter_map(Result::ok).all(|thread| {
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
                state.is_none_or(|state| "STtZX".contains(state))
            })
        };
        let until = Instant::now() + Duration::from_millis(500);
        while !(asleep() && self.1.is_empty()) && Instant::now() < until {
            let lines = self.0.0.lock().unwrap();
            drop(self.0.1.wait_timeout(lines, Duration::from_millis(1)).unwrap());
        }
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    pub fn text(&self) -> String {
        self.all().join("\n")
    }

    /// How many lines have this in them.
    pub fn count(&self, what: &str) -> usize {
        self.all().iter().filter(|l| l.contains(what)).count()
    }

    /// Waits until `n` lines have this in them, gives the last of these.
    pub fn wait_for(&self, what: &str, n: usize) -> String {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().filter(|l| l.contains(what)).nth(n - 1) {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = lines.join("\n");
                // A lock that is poisoned would hide the log itself.
                drop(lines);
                panic!("never seen {n} times: {what:?} in\n{text}");
            }
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Calls `check` after each new line (and now and then without one) until it gives something.
    pub fn wait_until<T>(&self, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(got) = check() {
                return got;
            }
            assert!(Instant::now() < until, "never came true: {what}; the log:\n{}", self.text());
            let lines = self.0.0.lock().unwrap();
            drop(self.0.1.wait_timeout(lines, Duration::from_millis(20)).unwrap());
        }
    }
}

/// Runs in the child that becomes a master, before its program.
pub type PreExec = Box<dyn FnMut() -> std::io::Result<()> + Send + Sync>;

/// A directory, and a config in it, for one master.
pub struct Setup {
    pub dir: tempfile::TempDir,
    master: String,
    pools: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    before: Vec<String>,
    pre_exec: Vec<PreExec>,
    program: String,
    no_log: bool,
    file: Option<PathBuf>,
    no_file: bool,
}

/// A config whose master keeps everything in a directory of its own. `pools` is TOML below the `[master]` table.
pub fn setup(pools: &str) -> Setup {
    let dir = tempfile::Builder::new().prefix("pm").tempdir().unwrap();
    // Other users (see tests with a second uid) must be able to reach it.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    Setup {
        dir,
        master: String::new(),
        pools: pools.to_owned(),
        args: Vec::new(),
        env: Vec::new(),
        before: Vec::new(),
        pre_exec: Vec::new(),
        program: POOLMASTER.to_owned(),
        no_log: false,
        file: None,
        no_file: false,
    }
}

/// A config of `examples/`, run from the folder above it as its own text says, but under another name and runtime directory.
pub fn example(name: &str) -> Setup {
    let s = setup("");
    let run = s.path("run").display().to_string();
    let mut s = s.arg("--set").arg("master.name=t").arg("--runtime-dir").arg(&run);
    s.file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name));
    s
}

impl Setup {
    /// More lines of the `[master]` table.
    pub fn master(mut self, lines: &str) -> Setup {
        self.master.push_str(lines);
        self.master.push('\n');
        self
    }

    /// More arguments of `run`.
    pub fn arg(mut self, arg: &str) -> Setup {
        self.args.push(arg.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Run under this command, such as `["prlimit", "--nofile=64"]`.
    pub fn under(mut self, command: &[&str]) -> Setup {
        self.before = command.iter().map(|s| (*s).to_owned()).collect();
        self
    }

    /// Other lines of the `[master]` table from the next [`Master::rewrite`] on.
    pub fn replace_master(&mut self, lines: &str) {
        self.master = format!("{lines}\n");
    }

    /// Something async-signal-safe for the child that becomes the master.
    pub fn pre_exec(mut self, hook: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) -> Setup {
        self.pre_exec.push(Box::new(hook));
        self
    }

    /// Run this copy of the binary.
    pub fn program(mut self, program: &Path) -> Setup {
        self.program = program.display().to_string();
        self
    }

    /// Nobody reads the master's stderr.
    pub fn unread(mut self) -> Setup {
        self.no_log = true;
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the notify sockets are when the runtime directory is on a disk.
    pub fn notify_home(&self) -> String {
        use std::os::unix::fs::MetadataExt;
        let run = std::fs::metadata(self.path("run")).unwrap();
        // SAFETY: always succeeds.
        let uid = unsafe { libc::geteuid() };
        format!("/dev/shm/poolmaster-{uid}/t-{:x}.{:x}", run.dev(), run.ino())
    }

    /// What stands below the `[master]` table.
    pub fn pools(&self) -> String {
        self.pools.clone()
    }

    /// The text of the config file; `DIR` in it is the directory, `POOLMASTER` the binary.
    fn text(&self) -> String {
        let dir = self.dir.path().display().to_string();
        let log = if self.master.contains("log") { "" } else { "log = { level = \"debug\" }\n" };
        format!("[master]\nname = \"t\"\nruntime_dir = \"{dir}/run\"\n{log}{}\n{}", self.master, self.pools)
            .replace("DIR", &dir)
            .replace("POOLMASTER", POOLMASTER)
    }

    pub fn start(mut self) -> Master {
        let config = self.file.clone().unwrap_or_else(|| self.path("pools.toml"));
        let mut from = Path::new(env!("CARGO_MANIFEST_DIR"));
        if self.file.is_none() {
            std::fs::write(&config, self.text()).unwrap();
            from = self.dir.path();
        }
        let mut argv: Vec<String> = self.before.clone();
        argv.extend([self.program.clone(), "run".to_owned()]);
        argv.extend((!self.no_file).then(|| config.display().to_string()));
        argv.extend(self.args.iter().cloned());
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).current_dir(from);
        for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("POOLMASTER")) {
            command.env_remove(name);
        }
        command.envs(self.env.iter().cloned());
        command.env(MARK, self.dir.path());
        for hook in self.pre_exec.drain(..) {
            // SAFETY: the tests that give one see to it.
            unsafe { command.pre_exec(hook) };
        }
        // A group of its own, without a terminal, and gone with the test.
        // SAFETY: setsid and prctl are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (log, held) = if self.no_log { (Lines::default(), Some(stderr)) } else { (Lines::follow(stderr), None) };
        let out = Lines::follow(child.stdout.take().unwrap());
        let socket = self.path("run/t.sock");
        Master { setup: self, child, log, out, socket, config, held }
    }
}

/// A running master.
pub struct Master {
    pub setup: Setup,
    child: Child,
    /// Its stderr.
    pub log: Lines,
    /// Its stdout, which its workers share.
    pub out: Lines,
    pub socket: PathBuf,
    pub config: PathBuf,
    /// Its stderr, when nobody reads it.
    held: Option<std::process::ChildStderr>,
}

impl Master {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Waits until every pool is ready.
    pub fn ready(self) -> Master {
        self.log.wait_for("ready: ", 1);
        self
    }

    /// Writes another config (the whole text below `[master]`), to be read with the next HUP.
    pub fn rewrite(&mut self, pools: &str) {
        self.setup.pools = pools.to_owned();
        std::fs::write(&self.config, self.setup.text()).unwrap();
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Runs a verb against this master; what the master has to say of it is in the log then.
    pub fn cli(&self, args: &[&str]) -> Output {
        let out = cli(&self.socket, args);
        self.log.settle(self.pid());
        out
    }

    /// A verb that has to succeed; gives its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.cli(args);
        assert!(
            out.status.success(),
            "{args:?}: {}\n{}{}\nlog:\n{}",
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr),
            self.log.text()
        );
        String::from_utf8(out.stdout).unwrap()
    }

    /// One raw request over the socket.
    pub fn request(&self, line: &str) -> Value {
        // Its file is there a moment before the master listens on it.
        let refused = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionRefused;
        let mut stream = self.log.wait_until("the control socket takes a client", || match UnixStream::connect(&self.socket) {
            Err(e) if refused(&e) => None,
            other => Some(other.unwrap()),
        });
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).unwrap();
        self.log.settle(self.pid());
        serde_json::from_str(&reply).unwrap_or_else(|e| panic!("{reply:?}: {e}"))
    }

    /// A pool's status, workers included.
    pub fn pool(&self, name: &str) -> Value {
        let reply = self.request(&format!(r#"{{"method":"status","parameters":{{"pool":"{name}","workers":true}}}}"#));
        reply["parameters"]["pools"][0].clone()
    }

    /// Pids of a pool's workers that are ready and not stopping, by slot.
    pub fn pids(&self, pool: &str) -> Vec<i32> {
        let pool = self.pool(pool);
        let ready = |w: &&Value| matches!(w["state"].as_str(), Some("ready" | "good"));
        pool["workers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(ready)
            .map(|w| i32::try_from(w["pid"].as_i64().unwrap()).unwrap())
            .collect()
    }

    /// Waits until the pool has exactly so many ready workers and no others.
    pub fn wait_count(&self, pool: &str, n: usize) -> Vec<i32> {
        self.log.wait_until(&format!("{pool} has {n} workers"), || {
            let status = self.pool(pool);
            let settled = status["live"] == n && status["ready"] == n;
            settled.then(|| self.pids(pool)).filter(|p| p.len() == n)
        })
    }

    /// Waits for the master's end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        wait_gone(self.pid(), until);
        let status = self.child.wait().unwrap();
        self.log.settle(self.pid());
        status
    }

    /// TERM, then the exit code.
    pub fn stop(&mut self) -> i32 {
        self.signal(libc::SIGTERM);
        self.wait().code().unwrap_or(-1)
    }

    /// Nothing that it made is left in the runtime directory but its lock.
    pub fn assert_nothing_left(&self) {
        let left: Vec<String> = std::fs::read_dir(self.setup.path("run"))
            .map(|d| d.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).filter(|n| !n.ends_with(".lock")).collect())
            .unwrap_or_default();
        assert_eq!(left, Vec::<String>::new(), "left in the runtime directory");
        let home = self.setup.notify_home();
        assert!(!Path::new(&home).exists(), "{home} is left");
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|s| s.is_none()) {
            kill(self.pid(), libc::SIGKILL);
            let _ = self.child.wait();
        }
        // A test that fails, or a master that is killed, leaves nobody running.
        self.kill_all();
        // A killed one leaves it to the next of its name.
        if self.setup.path("run").exists() {
            let _ = std::fs::remove_dir_all(self.setup.notify_home());
        }
        if std::thread::panicking() {
            eprintln!("--- log of the master\n{}", self.log.text());
        }
    }
}

pub fn cli(socket: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(POOLMASTER);
    command.args(args).arg("--socket").arg(socket).stdin(Stdio::null());
    // A verb that never returns fails its test instead of holding it up for ever: an alarm outlives the exec.
    // SAFETY: alarm is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::alarm(60);
            Ok(())
        });
    }
    command.output().unwrap()
}

pub fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

pub fn is_alive(pid: i32) -> bool {
    // SAFETY: no memory is involved. A zombie is not alive, though it can be signalled.
    let there = unsafe { libc::kill(pid, 0) } == 0;
    there && !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default().contains(") Z ")
}

/// Waits on a pidfd until the process has ended.
pub fn wait_gone(pid: i32, until: Instant) {
    // SAFETY: pidfd_open and poll take no memory but the array below.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return;
    }
    let fd = i32::try_from(fd).unwrap();
    let left = until.saturating_duration_since(Instant::now()).as_millis();
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    let n = unsafe { libc::poll(&raw mut poll, 1, i32::try_from(left).unwrap()) };
    // SAFETY: ours, not used again.
    unsafe { libc::close(fd) };
    assert_eq!(n, 1, "process {pid} is still there");
}

/// Removes what is there, whatever the master makes in it meanwhile.
pub fn remove_all(path: &Path) {
    let until = Instant::now() + PATIENCE;
    loop {
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        match removed {
            Ok(()) => return,
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                assert!(Instant::now() < until, "never empty: {}", path.display())
            }
            Err(e) => panic!("cannot remove {}: {e}", path.display()),
        }
    }
}

/// A TCP port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One GET with a connection of its own; the whole answer.
pub fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The tests of this folder that need root say so when they are skipped.
pub fn is_root() -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::geteuid() == 0 }
}

pub fn skip(test: &str, why: &str) {
    // Not by eprintln!, which the test harness keeps to itself.
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {why}\n").as_bytes());
}
