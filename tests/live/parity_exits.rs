//! The prefork arbiter's behaviours, by their rows in the list of parity: how workers and masters end, and what is left of them.

use std::os::unix::fs::{MetadataExt, symlink};

use super::support::*;

#[test]
fn row_11_a_worker_that_stops_beating_gets_abrt_and_is_replaced() {
    let m = setup(
        "[pool.a]\ncommand = \"POOLMASTER worker --hang-after 1s\"\ntimeout = \"500ms\"\nready = \"notify\"\nsettle = \"100ms\"\n",
    )
    .start()
    .ready();
    let first = m.pids("a");
    m.log.wait_for("no heartbeat for 500ms (timeout): sending SIGABRT, then SIGKILL", 1);
    m.log.wait_for("killed by SIGABRT", 1);
    let second = m.log.wait_until("it is replaced", || Some(m.pids("a")).filter(|p| p.len() == 1 && *p != first));
    assert_ne!(first, second);
}

#[test]
fn row_11_kill_follows_when_abrt_does_not_help() {
    let mut m = setup(&format!(
        "[pool.a]\n{}timeout = \"300ms\"\nabort_grace = \"200ms\"\nready = \"notify\"\ngraceful_timeout = \"100ms\"\n",
        helper("beat-once-then-deaf")
    ))
    .start()
    .ready();
    assert!(m.log.wait_for("a:0 still there after 2", 1).contains("sending SIGKILL"));
    let told = m.log.wait_for("killed by SIGKILL", 1);
    assert!(told.contains("heartbeat") && !told.contains("memory"), "{told}");
    // It is deaf to the signal of a killed master as well: nothing may be left of it.
    assert_eq!(m.stop(), 0);
}

#[test]
fn row_11_without_timeout_or_without_a_first_beat_nobody_is_killed() {
    // The first never beats; the second stops beating, but has no timeout.
    let m = setup(
        r#"
        [pool.silent]
        command = "sleep 1000"
        timeout = "200ms"
        [pool.off]
        command = "POOLMASTER worker --hang-after 200ms"
        ready = "notify"
        timeout = "0"
        "#,
    )
    .start()
    .ready();
    let before = (m.pids("silent"), m.pids("off"));
    watch_for(m.pid(), std::time::Duration::from_secs(1));
    assert_eq!((m.pids("silent"), m.pids("off")), before);
    assert_eq!(m.log.count("SIGABRT"), 0);
}

fn boot_failure(flag: &str, code: i32) {
    let mut m = setup(&format!(
        r#"
        [pool.healthy]
        command = ["sh", "-c", "trap 'echo bye >&2; exit 0' TERM; while :; do sleep 0.05; done"]
        [pool.bad]
        command = "POOLMASTER worker {flag}"
        ready = "notify"
        required = true
        after = ["healthy"]
        "#
    ))
    .start();
    assert_eq!(m.wait().code(), Some(code), "{}", m.log.text());
    m.log.wait_for("healthy:0 | bye", 1);
    let last = m.log.wait_for("stopped: ", 1);
    assert!(last.contains("pool bad failed") && last.contains(&format!("exit code {code}")), "{last}");
    assert_eq!(m.log.count("bad:0 started"), 1, "started once, not for ever");
    m.assert_nothing_left();
}

#[test]
fn row_12_a_worker_that_cannot_boot_ends_the_master_with_its_code_3() {
    boot_failure("--fail-boot", 3);
}

#[test]
fn row_12_an_app_that_cannot_be_loaded_ends_the_master_with_its_code_4() {
    boot_failure("--fail-load", 4);
}

#[test]
fn row_12_once_a_worker_was_good_the_same_code_is_the_pools_affair() {
    let m = setup(
        r#"
        [pool.a]
        command = "POOLMASTER worker --exit-after 500ms:3"
        ready = "notify"
        settle = "50ms"
        required = true
        [pool.b]
        command = "sleep 1000"
        "#,
    )
    .start()
    .ready();
    let b = m.pids("b");
    m.log.wait_for("a:0 exited with code 3", 2);
    m.log.wait_for("a:0 ready", 3);
    assert_eq!(m.pids("b"), b);
}

#[test]
fn row_13_exits_are_told_in_words_and_a_strangers_kill_hints_at_memory() {
    let m = setup(
        r#"
        [pool.code]
        command = ["sh", "-c", "sleep 0.2; exit 7"]
        [pool.fault]
        command = ["sh", "-c", "sleep 0.2; kill -SEGV $$"]
        [pool.realtime]
        command = ["sh", "-c", "sleep 0.2; kill -36 $$"]
        [pool.killed]
        command = "sleep 1000"
        "#,
    )
    .start();
    m.log.wait_for("code:0 exited with code 7", 1);
    m.log.wait_for("fault:0 killed by SIGSEGV", 1);
    m.log.wait_for("realtime:0 killed by SIGRTMIN+2", 1);
    m.wait_count("killed", 1);
    kill(m.pids("killed")[0], libc::SIGKILL);
    let told = m.log.wait_for("killed:0 killed by SIGKILL", 1);
    assert!(told.contains("out of memory"), "{told}");
}

#[test]
fn row_17_the_pid_file_is_held_kept_across_reloads_and_removed() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n").master("pidfile = \"DIR/pm.pid\"").start().ready();
    let path = m.setup.path("pm.pid");
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), m.pid().to_string());
    let file = std::fs::metadata(&path).unwrap().ino();
    // Another master, under another name, wants the same pid file.
    let mut other = setup("[pool.a]\ncommand = \"sleep 1000\"\n").master(&format!("pidfile = \"{}\"", path.display())).start();
    assert_eq!(other.wait().code(), Some(1));
    let told = other.log.wait_for("pid file", 1);
    assert!(told.contains(&m.pid().to_string()), "{told}");
    let old = m.pids("a");
    m.signal(libc::SIGHUP);
    m.log.wait_until("it is replaced", || Some(m.pids("a")).filter(|p| p.len() == 1 && *p != old));
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), file, "the very same file");
    assert_eq!(m.stop(), 0);
    assert!(!path.exists());
    // A stale one is taken over.
    std::fs::write(&path, format!("{}\n", m.pid())).unwrap();
    let mut next =
        setup("[pool.a]\ncommand = \"sleep 1000\"\n").master(&format!("pidfile = \"{}\"", path.display())).start().ready();
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), next.pid().to_string());
    assert_eq!(next.stop(), 0);
}

/// Two releases, each with a program that tells which one it is, and `current`, a link to one of them.
fn releases(s: &Setup) {
    for name in ["one", "two"] {
        let dir = s.path(name);
        std::fs::create_dir(&dir).unwrap();
        let program = dir.join("server");
        std::fs::write(&program, format!("#!/bin/sh\necho release {name}, $(cat note) >&2\nexec sleep 1000\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(dir.join("note"), format!("note {name}\n")).unwrap();
    }
    symlink("one", s.path("current")).unwrap();
}

fn deploy(m: &Master) {
    symlink("two", m.setup.path("next")).unwrap();
    std::fs::rename(m.setup.path("next"), m.setup.path("current")).unwrap();
}

#[test]
fn row_29_the_working_directory_follows_pwd_through_a_new_release() {
    let s = setup("[pool.a]\ncommand = \"./server\"\nsettle = \"50ms\"\n");
    releases(&s);
    let current = s.path("current");
    let here = std::ffi::CString::new(current.to_str().unwrap()).unwrap();
    let m = s
        .env("PWD", current.to_str().unwrap())
        .pre_exec(move || {
            // SAFETY: a valid string.
            if unsafe { libc::chdir(here.as_ptr()) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        })
        .start()
        .ready();
    m.log.wait_for("a:0 | release one, note one", 1);
    deploy(&m);
    m.ok(&["restart", "a"]);
    m.log.wait_for("a:0 | release two, note two", 1);
    // A release that is gone altogether is no reason not to start: its directory is still the master's.
    std::fs::remove_file(m.setup.path("current")).unwrap();
    kill(m.pids("a")[0], libc::SIGKILL);
    m.log.wait_for("a:0 | release one, note one", 2);
}

#[test]
fn row_29_a_pwd_that_names_another_place_is_not_believed() {
    let s = setup("[pool.a]\ncommand = [\"sh\", \"-c\", \"echo in $(pwd -P) >&2; exec sleep 1000\"]\n");
    releases(&s);
    let elsewhere = s.path("two").display().to_string();
    let m = s.env("PWD", &elsewhere).start().ready();
    let here = m.setup.dir.path().canonicalize().unwrap();
    m.log.wait_for(&format!("a:0 | in {}", here.display()), 1);
}

#[test]
fn row_29_arguments_and_environment_are_the_original_ones_byte_for_byte() {
    // No other program than a shell puts such bytes there.
    let script = r#"export ODD="$(printf '\377\376 =x')" LINES_="a
b"; exec "$@""#;
    let mut m = setup("[pool.web]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n")
        .under(&["sh", "-c", script, "sh"])
        .env("EMPTY", "")
        .start()
        .ready();
    let bytes = |pid: i32, file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
    let variables = |pid: i32| -> Vec<Vec<u8>> { bytes(pid, "environ").split(|b| *b == 0).map(<[u8]>::to_vec).collect() };
    let (arguments, original) = (bytes(m.pid(), "cmdline"), variables(m.pid()));
    let first = m.pids("web")[0];
    let of_first = variables(first);
    m.rewrite("[pool.web]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\nenv = { NEW = \"1\" }\n");
    m.signal(libc::SIGHUP);
    let second = m.log.wait_until("another worker", || m.pids("web").into_iter().find(|pid| *pid != first));
    let of_second = variables(second);
    for worker in [&of_first, &of_second] {
        for wanted in [&b"ODD=\xff\xfe =x"[..], b"LINES_=a\nb", b"EMPTY="] {
            assert!(original.iter().any(|v| v == wanted) && worker.iter().any(|v| v == wanted), "{wanted:?}");
        }
        // All of the master's own, but for what is meant for masters.
        let missing: Vec<String> = original
            .iter()
            .filter(|v| !worker.contains(v) && !v.is_empty())
            .map(|v| String::from_utf8_lossy(v).into_owned())
            .filter(|v| !["POOLMASTER", "NOTIFY_SOCKET", "LISTEN_"].iter().any(|p| v.starts_with(p)))
            .collect();
        assert_eq!(missing, Vec::<String>::new());
    }
    let has_new = |variables: &[Vec<u8>]| variables.iter().any(|v| v == b"NEW=1");
    assert!(!has_new(&of_first) && has_new(&of_second));
    assert_eq!(bytes(m.pid(), "cmdline"), arguments, "the master's own arguments are as they were");
    assert_eq!(bytes(second, "cmdline"), b"sleep\x001000\0");
}

#[test]
fn row_32_the_worker_knows_how_often_to_beat_and_a_failed_boot_shows_its_cause() {
    let m = setup(
        r#"
        [pool.a]
        command = ["sh", "-c", "echo beat within $WATCHDOG_USEC, pid ok: $(test $WATCHDOG_PID = $$ && echo yes) >&2; exec sleep 1000"]
        timeout = "20s"
        [pool.bad]
        command = ["sh", "-c", "echo cannot reach the database >&2; exit 3"]
        "#,
    )
    .start();
    m.log.wait_for("a:0 | beat within 20000000, pid ok: yes", 1);
    m.log.wait_for("bad:0 | cannot reach the database", 1);
    // The report of the end has it once more: whoever looks there need not search.
    let report = m.log.wait_until("the last words are in the report", || {
        let lines = m.log.all();
        let at = lines.iter().position(|l| l.contains("bad:0") && l.contains("last"))?;
        Some(lines[at..].iter().take(3).cloned().collect::<Vec<_>>().join("\n"))
    });
    assert!(report.contains("cannot reach the database"), "{report}");
}

#[test]
fn row_35_the_log_says_who_stopped_it_why_and_the_code() {
    let pools = "[pool.web]\ncommand = \"sleep 1000\"\n";
    let us = std::process::id();
    // SAFETY: no memory is involved.
    let uid = unsafe { libc::geteuid() };
    for (signal, name, how) in [(libc::SIGTERM, "SIGTERM", "gracefully"), (libc::SIGINT, "SIGINT", "quickly")] {
        let mut m = setup(pools).start().ready();
        m.signal(signal);
        assert_eq!(m.wait().code(), Some(0));
        m.log.wait_for(&format!("shutting down ({how}): {name} from pid {us} (uid {uid})"), 1);
        m.log.wait_for(&format!("stopped: {name} from pid {us} (uid {uid}); exit code 0"), 1);
    }
    let mut m = setup(pools).start().ready();
    m.ok(&["shutdown"]);
    assert_eq!(m.wait().code(), Some(0));
    let ordered = m.log.wait_for("shutting down (gracefully): shutdown ordered by pid ", 1);
    let pid = ordered.rsplit("pid ").next().unwrap();
    assert!(m.log.wait_for("stopped: ", 1).contains(&format!("shutdown ordered by pid {pid}; exit code 0")), "{ordered}");
    m.log.wait_for(&format!("shutdown, asked by pid {pid}"), 1);

    // Nobody ordered it: by its own verdict.
    let mut m = setup("[pool.jobs]\ncommand = \"true\"\nrestart = { policy = \"on-failure\" }\n").start();
    assert_eq!(m.wait().code(), Some(0));
    m.log.wait_for("stopped: every pool is completed; exit code 0", 1);
    let mut m = setup("[pool.jobs]\ncommand = \"false\"\nrestart = { policy = \"never\" }\n").start();
    assert_eq!(m.wait().code(), Some(1));
    m.log.wait_for("jobs:0 exited with code 1 after ", 1);
    assert_eq!(m.log.count("not restarted (restart.policy)"), 1);
    let told = m.log.wait_for("stopped: no pool is left; pool jobs failed: ", 1);
    assert!(told.contains("ERROR") && told.contains("exit code 1"), "{told}");
}
