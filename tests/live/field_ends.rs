//! Known faults of the field's supervisors at the end of processes: what a death is told as, and what a dead process, or the wrong one, takes
//! along.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::support::*;

#[test]
fn fault_the_log_pipe_of_a_dead_master_kills_workers() {
    let s = setup(
        r#"
        [pool.a]
        command = ["sh", "-c", "trap 'echo draining >&2; echo still draining >&2; echo done >DIR/finished; exit 0' TERM; echo up >&2; while :; do read x <DIR/never; done"]
        "#,
    );
    gate(&s.path("never"));
    let mut m = s.start();
    m.log.wait_for("| up", 1);
    let worker = m.wait_count("a", 1)[0];
    m.signal(libc::SIGKILL);
    m.wait();
    // It is told to stop by the kernel, and what it says about that is read by nobody.
    wait_gone(worker, Instant::now() + PATIENCE);
    assert_eq!(std::fs::read_to_string(m.setup.path("finished")).ok().as_deref(), Some("done\n"));
}

#[test]
fn fault_the_core_bit_changes_the_name_of_the_signal() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with(['|', '/', '@', '\n']) || pattern.is_empty() {
        return skip("the core bit", "cores do not go to the working directory here");
    }
    let (mut pools, names) = (String::new(), ["QUIT", "ILL", "ABRT", "FPE", "SEGV", "SYS"]);
    for name in names {
        // Without a hard limit that allows a core there is none: the shell says so by its exit.
        pools.push_str(&format!(
            "[pool.{}]\ncommand = [\"sh\", \"-c\", \"ulimit -c unlimited || exit 9; kill -{name} $$\"]\nsettle = \"0s\"\n\
             working_dir = \"DIR/{name}\"\nrestart.policy = \"never\"\n",
            name.to_lowercase()
        ));
    }
    let s = setup(&pools);
    // Each core is made anew, under the same name.
    names.iter().for_each(|name| std::fs::create_dir(s.path(name)).unwrap());
    let m = s.start();
    for name in names {
        let end = m.log.wait_until(&format!("the end of {name}"), || {
            let lines = m.log.all();
            let own = |l: &&String| l.contains(&format!(" {}:0 ", name.to_lowercase()));
            lines.iter().filter(own).find(|l| l.contains("killed by") || l.contains("exited with")).cloned()
        });
        if end.contains("exited with code 9") {
            return skip("the core bit", "cores are limited to nothing here");
        }
        assert!(end.contains(&format!("killed by SIG{name}")) && end.contains("core dumped"), "{end}");
    }
}

#[test]
fn fault_a_dying_child_takes_the_masters_files_along() {
    let m = setup(
        r#"
        [defaults]
        boot = "retry"
        ready = "exec"
        settle = "0s"
        restart = { backoff = { base = "5ms", max = "20ms" }, budget = { failures = 1000, within = "60s" } }
        [pool.missing]
        command = "DIR/missing"
        listen = "unix:DIR/missing.sock"
        [pool.crashing]
        command = ["sh", "-c", "kill -KILL $$"]
        listen = "unix:DIR/crashing.sock"
        [pool.good]
        command = "sleep 1000"
        listen = "unix:DIR/good.sock"
        "#,
    )
    .master("pidfile = \"DIR/pm.pid\"")
    .start();
    m.log.wait_for("good:0 ready", 1);
    let files = ["pm.pid", "run/t.sock", "missing.sock", "crashing.sock", "good.sock"].map(|f| m.setup.path(f));
    let inodes = || files.clone().map(|f| std::fs::metadata(&f).unwrap_or_else(|e| panic!("{f:?}: {e}")).ino());
    let before = inodes();
    m.log.wait_for("missing:0 cannot execute", 5);
    let open = fds(m.pid()).len();
    m.log.wait_for("missing:0 cannot execute", 55);
    m.log.wait_for("crashing:0 killed by SIGKILL", 55);
    assert_eq!(inodes(), before);
    // Some are on their way at any time.
    let now = fds(m.pid());
    assert!(now.len() < open + 20, "{open} descriptors became {}: {now:?}", now.len());
    for socket in &files[1..] {
        UnixStream::connect(socket).unwrap();
    }
}

#[test]
fn fault_a_pool_that_goes_takes_the_socket_of_the_next_along() {
    let port = free_port();
    // The pool gets another name: its addresses stay, its workers take their time to go.
    let config = |name: &str| {
        format!(
            "[pool.{name}]\nready = \"exec\"\nsettle = \"0s\"\nlisten = [\"unix:DIR/a.sock\", \"127.0.0.1:{port}\"]\n\
             command = [\"sh\", \"-c\", \"trap 'echo draining >&2; read x <DIR/gate; exit 0' TERM; echo up >&2; while :; do read y <DIR/never; done\"]\n"
        )
    };
    let s = setup(&config("old"));
    gate(&s.path("gate"));
    gate(&s.path("never"));
    let mut m = s.start();
    m.log.wait_for("old:0 | up", 1);
    let socket = m.setup.path("a.sock");
    let inode = || std::fs::metadata(&socket).unwrap().ino();
    let before = inode();
    m.rewrite(&config("new"));
    m.signal(libc::SIGHUP);
    m.log.wait_for("old:0 | draining", 1);
    m.log.wait_for("new:0 | up", 1);
    open_gate(&m.setup.path("gate"));
    m.log.wait_until("the old pool is gone", || m.pool("old").is_null().then_some(()));
    m.ok(&["reload", "--no-wait"]);
    m.log.wait_for("config 3 in force", 1);
    assert_eq!(inode(), before, "it is the same socket, with all that waits in it");
    UnixStream::connect(&socket).unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
}

/// A worker that does not heed its signal outlives a master that was killed: the next one says so, and names it.
#[test]
fn what_a_killed_master_left_running_is_told_by_the_next() {
    let mut m = setup(
        "[pool.web]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; sleep 1000 & wait; exec sleep 1001\"]\ngraceful_timeout = \"200ms\"\n[pool.other]\ncommand = \"sleep 1000\"\n",
    )
    .start()
    .ready();
    let (left, heeds) = (m.pids("web")[0], m.pids("other")[0]);
    let children = || {
        let kids = std::fs::read_to_string(format!("/proc/{left}/task/{left}/children")).unwrap_or_default();
        kids.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()).collect::<Vec<_>>()
    };
    let kids = m.log.wait_until("its child", || Some(children()).filter(|kids| !kids.is_empty()));
    m.signal(libc::SIGKILL);
    m.wait();
    wait_gone(heeds, Instant::now() + PATIENCE);
    let mut next = m.another().ready();
    let told = next.log.wait_for("a worker of an earlier master still runs", 1);
    assert!(
        told.contains("web: ") && told.contains(&format!("pid {left}")) && told.contains(&format!("kill -9 {left}")),
        "{told}"
    );
    assert_eq!(next.log.count("a worker of an earlier master"), 1, "each group of processes once, and not those that are gone");
    for pid in kids.into_iter().chain([left]) {
        kill(pid, libc::SIGKILL);
    }
    wait_gone(left, Instant::now() + PATIENCE);
    assert_eq!(next.stop(), 0);
    // One that ended well left nothing.
    let mut last = m.another().ready();
    assert_eq!(last.log.count("earlier master"), 0);
    assert_eq!(last.stop(), 0);
}

/// A stopped process hears of its stop signal when it goes on: so it is made to.
#[test]
fn a_stopped_worker_that_is_told_to_stop_goes_on_and_ends() {
    let m = setup(
        "[pool.a]\ncommand = [\"sh\", \"-c\", \"trap 'echo told; exit 0' TERM; sleep 1000 & wait\"]\nlog.stdout = \"capture\"\n",
    )
    .start()
    .ready();
    let pid = m.pids("a")[0];
    kill(pid, libc::SIGSTOP);
    m.log.wait_until("it is stopped", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ").then_some(())
    });
    m.ok(&["stop", "a"]);
    m.log.wait_for("a:0 | told", 1);
    assert_eq!(m.log.count("SIGKILL"), 0);
}

/// An early end with code 0 has two usual reasons.
#[test]
fn an_early_end_without_a_fault_comes_with_its_likely_reason() {
    let pools = "[defaults]\nboot = \"retry\"\n[pool.forks]\ncommand = [\"sh\", \"-c\", \"sleep 0.01 &\"]\n[pool.reads]\ncommand = \"sh\"\n\
                 [pool.fails]\ncommand = \"false\"\n[pool.job]\ncommand = \"true\"\nrestart.policy = \"on-failure\"\n";
    let mut m = setup(pools).start();
    let line = |pool: &str| m.log.wait_for(&format!("{pool}:0 exited with code"), 1);
    assert!(line("forks").contains("does it go into the background (daemonize)? it has to stay in the foreground"));
    assert!(line("reads").contains("it reads its stdin, which is /dev/null"));
    for pool in ["fails", "job"] {
        let line = line(pool);
        assert!(!line.contains("foreground") && !line.contains("stdin"), "{line}");
    }
    m.signal(libc::SIGTERM);
    m.wait();
}

/// The server that binds the very port that its pool listens on.
#[test]
fn a_program_that_wants_the_port_of_its_pool_is_told_who_has_it() {
    let Some(python) = python() else {
        return skip("a_program_that_wants_the_port_of_its_pool_is_told_who_has_it", "needs python3");
    };
    let (port, other) = (free_port(), free_port());
    let taken = std::net::TcpListener::bind(("127.0.0.1", other)).unwrap();
    let mut m = setup(&format!(
        "[defaults]\nboot = \"retry\"\n[pool.web]\ncommand = [\"{python}\", \"-m\", \"http.server\", \"--bind\", \"127.0.0.1\", \"{port}\"]\nlisten = \"127.0.0.1:{port}\"\n\
         [pool.other]\ncommand = [\"{python}\", \"-m\", \"http.server\", \"--bind\", \"127.0.0.1\", \"{other}\"]\n"
    ))
    .start();
    let line = m.log.wait_for("web:0 exited with code 1", 1);
    assert!(line.contains(&format!("the master holds tcp://127.0.0.1:{port} for this pool")), "{line}");
    let line = m.log.wait_for("other:0 exited with code 1", 1);
    assert!(!line.contains("the master holds"), "{line}");
    drop(taken);
    m.signal(libc::SIGTERM);
    m.wait();
}
