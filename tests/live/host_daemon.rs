//! The master in the background: the process on the terminal ends with what became of it.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use super::support::*;

/// A config in a directory, for `run --daemon`.
fn config(s: &Setup, master: &str, pools: &str) -> String {
    let dir = s.dir.path().display().to_string();
    let text = format!("[master]\nname = \"t\"\nruntime_dir = \"{dir}/run\"\nlog.file = \"{dir}/log\"\n{master}\n{pools}")
        .replace("DIR", &dir);
    let path = s.path("pools.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn command(s: &Setup, config: &str) -> Command {
    let mut command = Command::new(POOLMASTER);
    command.args(["run", config, "--daemon"]).current_dir(s.dir.path()).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("POOLMASTER")) {
        command.env_remove(name);
    }
    command
}

fn run(s: &Setup, config: &str) -> Output {
    command(s, config).output().unwrap()
}

fn log(s: &Setup) -> String {
    std::fs::read_to_string(s.path("log")).unwrap_or_default()
}

/// The daemon of this directory, ended with the test.
struct Daemon(i32);

impl Daemon {
    fn of(s: &Setup) -> Daemon {
        Daemon(std::fs::read_to_string(s.path("run/t.pid")).unwrap().trim().parse().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if is_alive(self.0) {
            kill(self.0, libc::SIGTERM);
            wait_gone(self.0, Instant::now() + PATIENCE);
        }
    }
}

#[test]
fn the_first_process_ends_when_the_pools_are_ready() {
    let s = setup("");
    let path = config(&s, "", "[pool.a]\ncommand = \"sleep 1000\"\nready = \"delay:300ms\"\nworkers = 2\n");
    let start = Instant::now();
    let (code, said) = told(&run(&s, &path));
    assert!(start.elapsed().as_millis() >= 300, "it waited");
    let daemon = Daemon::of(&s);
    assert_eq!((code, said.contains(&format!("t runs in the background (pid {})", daemon.0))), (0, true), "{said}");
    // The log has a thread of its own.
    let until = Instant::now() + PATIENCE;
    while !log(&s).contains("ready: 1 pool, 2 workers") {
        assert!(Instant::now() < until, "{}", log(&s));
    }
    // A session of its own without a terminal, nothing of ours open, the working directory as it was.
    let stat = proc_stat(daemon.0);
    assert_eq!((stat[3].parse::<i32>().unwrap(), stat[4].as_str()), (daemon.0, "0"), "session and terminal");
    for (number, target) in fds(daemon.0).into_iter().filter(|(number, _)| *number <= 2) {
        assert_eq!(target, "/dev/null", "{number}");
    }
    assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", daemon.0)).unwrap(), s.dir.path().canonicalize().unwrap());
    let status = cli(&s.path("run/t.sock"), &["status", "--json"]);
    assert_eq!(status.status.code(), Some(0));
    assert_eq!(cli(&s.path("run/t.sock"), &["shutdown"]).status.code(), Some(0));
    wait_gone(daemon.0, Instant::now() + PATIENCE);
    let left: Vec<_> = std::fs::read_dir(s.path("run")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_keeps_a_daemon_from_starting_is_told_on_the_terminal() {
    let s = setup("");
    for (master, pools, code, what) in [
        (
            "",
            "[pool.a]\nready = \"notify\"\ncommand = \"sh -c 'echo no database >&2; exit 3'\"\n",
            3,
            "t did not start: no pool is left; pool a failed",
        ),
        (
            "socket = \"DIR/missing/t.sock\"",
            "[pool.a]\ncommand = \"sleep 1000\"\n",
            1,
            "t did not start: cannot open the control socket",
        ),
        ("", "[pool.a]\ncommand = \"sleep 1000\"\nlisten = \"unix:DIR/missing/a.sock\"\n", 1, "its directory does not exist"),
    ] {
        let path = config(&s, master, pools);
        let (got, said) = told(&run(&s, &path));
        assert!(got == code && said.contains(what) && said.contains("/log"), "{code} {what}: {got} {said}");
        assert!(!s.path("run/t.pid").exists());
    }
}

#[test]
fn a_daemon_without_a_log_file_is_refused() {
    let s = setup("");
    let path = s.path("pools.toml").display().to_string();
    std::fs::write(&path, "[pool.a]\ncommand = \"sleep 1000\"\n").unwrap();
    let (code, said) = told(&run(&s, &path));
    assert!(code == 2 && said.contains("there is no stderr to log to") && said.contains("--daemon"), "{code} {said}");
}

#[test]
fn an_interrupt_while_it_starts_ends_the_daemon_too() {
    let s = setup("");
    let path = config(&s, "", "[pool.a]\ncommand = \"sleep 1000\"\nready = \"delay:1000s\"\nstart_timeout = \"2000s\"\n");
    let mut command = command(&s, &path);
    // SAFETY: setsid is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        });
    }
    let first = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    while !log(&s).contains("a:0 started") {
        assert!(Instant::now() < until, "{}", log(&s));
        std::thread::yield_now();
    }
    let daemon = Daemon::of(&s);
    kill(i32::try_from(first.id()).unwrap(), libc::SIGINT);
    let (code, said) = told(&first.wait_with_output().unwrap());
    assert!(code == 1 && said.contains("t did not start: SIGINT from"), "{code} {said}");
    wait_gone(daemon.0, Instant::now() + PATIENCE);
    assert!(log(&s).contains("exit code 0"), "{}", log(&s));
}

/// One pool cannot run and will not: the first process does not wait for it for ever, and says so.
#[test]
fn the_first_process_says_which_pools_are_not_ready() {
    let s = setup("[pool.x]\ncommand = \"true\"\n");
    let config = config(&s, "", "[pool.absent]\ncommand = \"DIR/absent\"\n[pool.b]\ncommand = \"sleep 1000\"\n");
    let out = run(&s, &config);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(0), "{said}");
    let _daemon = Daemon::of(&s);
    assert!(said.contains("not all pools are ready: absent is failed"), "{said}");
}
