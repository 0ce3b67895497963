//! The log: its two forms, its level, its file, and what it says of ends and of orders.

use serde_json::Value;

use super::support::*;

fn read(m: &Master, name: &str) -> String {
    std::fs::read_to_string(m.setup.path(name)).unwrap_or_default()
}

fn wait_in(m: &Master, name: &str, what: &str) {
    m.log.wait_until(&format!("{what:?} in {name}"), || read(m, name).contains(what).then_some(()));
}

#[test]
fn json_lines_parse_whatever_workers_write() {
    let mut m = setup(
        r#"
        [pool.web]
        command = ["sh", "-c", '''printf 'say "hi" \\ {"a":1}\n\033[1m\377\000\n' >&2; trap 'exit 0' TERM; while :; do sleep 1; done''']
        workers = 2
        [pool.bad]
        command = ["sh", "-c", "echo my last words >&2; exit 7"]
        restart = { policy = "never" }
        "#,
    )
    .arg("--log-format")
    .arg("json")
    .start();
    m.log.wait_for(r#"say \"hi\" \\ {\"a\":1}"#, 2);
    m.log.wait_for("exited with code 7", 1);
    m.ok(&["scale", "web", "+1"]);
    assert_eq!(m.stop(), 0);
    let log = m.log.wait_until("the end of the log", || {
        let log = m.log.all();
        log.last().is_some_and(|l| l.contains("exit code 0")).then_some(log)
    });
    let lines: Vec<Value> = log.iter().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect();
    for line in &lines {
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&line["level"].as_str().unwrap()), "{line}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(line["message"].is_string(), "{line}");
    }
    let find =
        |what: &str| lines.iter().find(|l| l["message"].as_str().unwrap().contains(what)).unwrap_or_else(|| panic!("{what}"));
    let started = find("started");
    assert!(
        started["pool"].is_string() && started["slot"].is_u64() && started["generation"] == 1 && started["pid"].is_i64(),
        "{started}"
    );
    let said = find("say \"hi\"");
    assert_eq!((&said["pool"], &said["stream"]), (&"web".into(), &"stderr".into()));
    assert!(
        find("exited with code 7")["pool"] == "bad"
            && find("its last line")["message"].as_str().unwrap().contains("my last words")
    );
}

#[test]
fn the_level_changes_with_the_config() {
    let pools = "[pool.web]\ncommand = \"sleep 1000\"\n";
    let mut m = setup(pools).master(r#"log = { level = "info" }"#).start().ready();
    // A signal without a meaning and a stranger among the children are for info and debug.
    m.signal(libc::SIGURG);
    m.log.wait_for("SIGURG from", 1);
    let mut reload = |level: &str| {
        m.setup.replace_master(&format!("log = {{ level = \"{level}\" }}"));
        m.rewrite(pools);
        let before = m.pids("web");
        m.signal(libc::SIGHUP);
        m.log.wait_until("another worker", || (m.wait_count("web", 1) != before).then_some(()));
    };
    reload("error");
    let quiet = routine_lines(&m);
    m.signal(libc::SIGURG);
    m.ok(&["scale", "web", "+1"]);
    assert_eq!(routine_lines(&m), quiet, "nothing below error is logged");
    let mut reload = |level: &str| {
        m.setup.replace_master(&format!("log = {{ level = \"{level}\" }}"));
        m.rewrite(pools);
        m.signal(libc::SIGHUP);
    };
    reload("debug");
    m.log.wait_for("all workers replaced", 1);
    m.signal(libc::SIGURG);
    m.log.wait_for("SIGURG from", 2);
}

fn routine_lines(m: &Master) -> usize {
    m.log.count("INFO") + m.log.count("WARN")
}

#[test]
fn a_moved_log_file_is_opened_anew_by_usr1_and_by_reopen() {
    let mut m = setup("[pool.web]\ncommand = \"sleep 1000\"\n").master(r#"log = { file = "DIR/log" }"#).start().answering();
    wait_in(&m, "log", "ready: 1 pool");
    let rename = |m: &Master, to: &str| std::fs::rename(m.setup.path("log"), m.setup.path(to)).unwrap();
    rename(&m, "log.1");
    m.ok(&["scale", "web", "2"]);
    wait_in(&m, "log.1", "scaled from 1 to 2");
    assert!(!m.setup.path("log").exists());
    m.signal(libc::SIGUSR1);
    wait_in(&m, "log", "log file reopened");
    m.ok(&["scale", "web", "3"]);
    wait_in(&m, "log", "scaled from 2 to 3");
    assert!(!read(&m, "log.1").contains("scaled from 2 to 3"));

    rename(&m, "log.2");
    assert!(m.ok(&["reopen"]).contains("log file reopened: "));
    wait_in(&m, "log", "log file reopened");
    m.ok(&["scale", "web", "4"]);
    wait_in(&m, "log", "scaled from 3 to 4");
    for name in ["log", "log.1", "log.2"] {
        let text = read(&m, name);
        assert!(text.ends_with('\n') && !text.is_empty(), "{name}");
        assert_eq!(fds(m.pid()).values().filter(|f| f.ends_with(name)).count(), usize::from(name == "log"), "{name}");
    }
    // A file that cannot be opened anew: the old one stays.
    std::fs::rename(m.setup.path("log"), m.setup.path("log.3")).unwrap();
    std::fs::create_dir(m.setup.path("log")).unwrap();
    let told = m.code(1, &["reopen"]);
    assert!(told.contains("cannot reopen the log file") && told.contains("the old one stays in use"), "{told}");
    wait_in(&m, "log.3", "cannot reopen the log file");
    m.ok(&["scale", "web", "5"]);
    wait_in(&m, "log.3", "scaled from 4 to 5");
    assert_eq!(m.stop(), 0);
    wait_in(&m, "log.3", "exit code 0");
    assert_eq!(m.log.text(), "", "nothing went to stderr");
}

#[test]
fn row_13_ends_are_told_in_words() {
    let m = setup(
        r#"
        [defaults]
        restart = { policy = "never" }
        settle = "0s"
        [pool.keep]
        command = "sleep 1000"
        workers = 1
        [pool.well]
        command = ["sh", "-c", "exit 0"]
        [pool.code]
        command = ["sh", "-c", "exit 42"]
        [pool.segv]
        command = ["sh", "-c", "ulimit -c 0; kill -SEGV $$"]
        [pool.killed]
        command = ["sh", "-c", "kill -KILL $$"]
        [pool.realtime]
        command = ["sh", "-c", "kill -36 $$"]
        [pool.absent]
        command = "/nonexistent/program"
        [pool.script]
        command = "DIR/pools.toml"
        [pool.nowhere]
        command = "sleep 1000"
        working_dir = "/nonexistent/dir"
        "#,
    )
    .start();
    for (pool, words) in [
        ("well", "exited with code 0"),
        ("code", "exited with code 42"),
        ("segv", "killed by SIGSEGV"),
        ("killed", "killed by SIGKILL (perhaps out of memory: see the kernel log)"),
        ("realtime", "killed by SIGRTMIN+2"),
        ("absent", "/nonexistent/program"),
        ("script", "ermission"),
        ("nowhere", "/nonexistent/dir"),
    ] {
        m.log.wait_until(&format!("{pool}: {words}"), || {
            m.log.all().iter().any(|l| l.contains(&format!(" {pool}:0 ")) && l.contains(words)).then_some(())
        });
    }
    m.ok(&["scale", "keep", "0"]);
    m.log.wait_until("an end that was asked for", || {
        m.log.all().iter().any(|l| l.contains("keep:0 killed by SIGTERM") && l.contains("(")).then_some(())
    });
}

#[test]
fn every_order_leaves_a_line_with_who_gave_it() {
    let mut m = setup("[pool.web]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n").start().ready();
    // SAFETY: no memory is involved.
    let uid = unsafe { libc::geteuid() };
    for (args, words) in [
        (&["scale", "web", "+1"][..], "scale web +1"),
        (&["restart", "web"], "restart web"),
        (&["kill", "-s", "WINCH", "web:0"], "kill"),
        (&["stop", "web"], "stop web"),
        (&["start", "web"], "start web"),
        (&["reopen"], "reopen"),
    ] {
        let before = m.log.count(", asked by");
        m.ok(args);
        let line = m.log.wait_for(", asked by", before + 1);
        assert!(line.contains(words), "{args:?}: {line}");
        assert!(line.contains(&format!("(uid {uid})")) && line.contains("asked by pid "), "{line}");
    }
    let before = m.log.count(", asked by");
    m.ok(&["status"]);
    m.ok(&["ps"]);
    assert_eq!(m.log.count(", asked by"), before, "questions are no orders");
    m.ok(&["shutdown"]);
    assert_eq!(m.wait().code(), Some(0));
    assert!(m.log.wait_for(", asked by", before + 1).contains("shutdown"));
}

/// A worker that shares the master's stderr asks for O_NONBLOCK, which holds for all that share it: no line is lost or torn for it, on a pipe
/// (which the master opens anew) nor on a socket (where it waits until there is room).
#[test]
fn a_worker_that_makes_the_masters_stderr_nonblocking_loses_no_line() {
    let Some(python) = python() else {
        return skip("a_worker_that_makes_the_masters_stderr_nonblocking_loses_no_line", "there is no python3");
    };
    use std::io::{BufRead, BufReader};
    use std::os::fd::{AsRawFd, OwnedFd};
    for socket in [false, true] {
        let (mut reader, writer): (Box<dyn std::io::Read + Send>, OwnedFd) = if socket {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            (Box::new(ours), theirs.into())
        } else {
            let (ours, theirs) = std::io::pipe().unwrap();
            (Box::new(ours), theirs.into())
        };
        let pools = format!(
            "[pool.meddler]\ncommand = [\"{python}\", \"-c\", \"import os, time; os.set_blocking(2, False); time.sleep(1000)\"]\n\
             ready = \"exec\"\nlog.stderr = \"inherit\"\n\
             [pool.talker]\ncommand = [\"sh\", \"-c\", \"i=0; while [ $i -lt 20000 ]; do echo line $i of many that are to come through whole; i=$((i+1)); done; exec sleep 1000\"]\n\
             ready = \"exec\"\nafter = [\"meddler\"]\nautostart = false\nlog.stdout = \"capture\"\n"
        );
        let raw = writer.as_raw_fd();
        // SAFETY: only system calls, on an open descriptor.
        let mut m = setup(&pools)
            .unread()
            .pre_exec(move || if unsafe { libc::dup2(raw, 2) } == 2 { Ok(()) } else { Err(std::io::Error::last_os_error()) })
            .start()
            .answering();
        m.wait_count("meddler", 1);
        drop(writer);
        m.ok(&["start", "talker"]);
        // Nobody reads until the worker is through: pipe, queue and socket are full.
        let lines: Vec<String> = std::thread::spawn(move || {
            let mut seen = Vec::new();
            for line in BufReader::new(&mut reader).lines().map_while(Result::ok) {
                let last = line.contains("line 19999 of");
                seen.push(line);
                if last {
                    break;
                }
            }
            seen
        })
        .join()
        .unwrap();
        let own: Vec<&String> = lines.iter().filter(|line| line.starts_with("talker:0 | ")).collect();
        let numbers: Vec<usize> = own
            .iter()
            .map(|line| {
                line.strip_prefix("talker:0 | line ")
                    .and_then(|l| l.strip_suffix(" of many that are to come through whole"))
                    .unwrap_or_else(|| panic!("torn: {line}"))
                    .parse()
                    .unwrap()
            })
            .collect();
        assert!(numbers.is_sorted(), "socket: {socket}");
        assert_eq!(numbers.len(), 20_000, "socket: {socket}");
        assert!(!lines.iter().any(|line| line.contains("are lost")), "socket: {socket}");
        m.signal(libc::SIGKILL);
        m.wait();
    }
}
