//! Rows of the reference about the master on its host: its pid file, environment, title, dump, and what is known before anything starts.

use std::fs;

use super::support::*;

#[test]
fn row_25_the_master_has_a_title_of_its_own_and_workers_keep_theirs() {
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\n").env("A_LONG_VARIABLE", "that lies behind the arguments");
    let mut m = s.start().ready();
    let shown = |pid: i32| String::from_utf8(fs::read(format!("/proc/{pid}/cmdline")).unwrap()).unwrap();
    assert_eq!(shown(m.pid()).trim_end_matches('\0'), "poolmaster: master [t]");
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", m.pid())).unwrap(), "poolmaster\n");
    let worker = m.pids("a")[0];
    assert_eq!(shown(worker), "sleep\x001000\0");
    // The environment that it took the room of is whole where it counts.
    assert_eq!(environ(worker)["A_LONG_VARIABLE"], "that lies behind the arguments");
    m.ok(&["reload", "--timeout", "20s"]);
    assert_eq!(environ(m.pids("a")[0])["A_LONG_VARIABLE"], "that lies behind the arguments");
    assert_eq!(m.stop(), 0);
    // A title that is longer than the arguments were.
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").master("log = { level = \"debug\" }").start().ready();
    m.ok(&["status"]);
    assert_eq!(m.stop(), 0);
}

#[test]
fn row_17_the_pid_file_is_made_kept_across_reloads_and_removed() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").start().ready();
    let path = m.setup.path("run/t.pid");
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
    let before = inode();
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), m.pid().to_string());
    m.ok(&["reload", "--timeout", "20s"]);
    assert_eq!(inode(), before, "the very same file");
    let mut second = m.another();
    assert_eq!(second.ends(), 1);
    assert!(second.log.text().contains(&format!("(pid {})", m.pid())), "{}", second.log.text());
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), m.pid().to_string(), "the loser leaves it alone");
    assert_eq!(m.stop(), 0);
    assert!(!path.exists());
}

#[test]
fn row_22_variables_that_left_the_config_disappear_at_a_reload() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\nenv = { ONE = \"1\", TWO = \"2\", FROM = \"pool\" }\n")
        .env("FROM", "master")
        .start()
        .ready();
    assert_eq!(environ(m.pids("a")[0])["ONE"], "1");
    m.rewrite("[pool.a]\ncommand = \"sleep 1000\"\nenv = { TWO = \"zwei\" }\n");
    m.ok(&["reload", "--timeout", "20s"]);
    let env = environ(m.pids("a")[0]);
    assert_eq!((env.get("ONE"), env["TWO"].as_str(), env["FROM"].as_str()), (None, "zwei", "master"));
    assert_eq!(m.stop(), 0);
}

#[test]
fn row_26_the_whole_effective_config_is_told_at_debug_level() {
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\nsecrets.KEY = \"file:DIR/key\"\nenv.PASSWORD = \"hunter2\"\n");
    fs::write(s.path("key"), "correct horse").unwrap();
    let mut m = s.master("log = { level = \"debug\", file = \"DIR/log\" }").start().answering();
    let log = || fs::read_to_string(m.setup.path("log")).unwrap_or_default();
    m.log.wait_until("the config is told", || log().contains("graceful_timeout = \"30s\"").then_some(()));
    for line in ["[pool.a]", "command = \"sleep 1000\"", "secrets.KEY = \"***\"", "restart.backoff.max = \"30s\"", "[master]"] {
        assert!(log().lines().any(|l| l == line || l.starts_with(&format!("{line} # "))), "{line}: {}", log());
    }
    assert!(!log().contains("correct horse"));
    let text = "[pool.a]\ncommand = \"sleep 1000\"\ngraceful_timeout = \"7s\"\n";
    m.rewrite(text);
    m.ok(&["reload", "--timeout", "20s"]);
    let log = || fs::read_to_string(m.setup.path("log")).unwrap_or_default();
    m.log.wait_until("the new one is told", || log().contains("graceful_timeout = \"7s\"").then_some(()));
    assert_eq!(m.stop(), 0);
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n")
        .master("log = { level = \"info\", file = \"DIR/log\" }")
        .start()
        .answering();
    assert_eq!(m.stop(), 0);
    assert!(!fs::read_to_string(m.setup.path("log")).unwrap().contains("graceful_timeout"));
}

#[test]
fn row_30_what_is_wrong_is_known_before_anything_starts() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n[pool.b]\nwokers = 3\ncommand = \"sleep 1000\"\n").start();
    assert_eq!(m.ends(), 2);
    assert!(m.log.text().contains("did you mean `workers`?") && m.log.count("a:0 started") == 0, "{}", m.log.text());
    let (code, said) = told(&std::process::Command::new(POOLMASTER).args(["check"]).arg(&m.config).output().unwrap());
    assert!(code == 2 && said.contains("did you mean `workers`?"), "{said}");
    let s = setup("[pool.a]\ncommand = \"/no/such/server\"\n");
    let path = s.path("pools.toml");
    fs::write(&path, "[pool.a]\ncommand = \"/no/such/server\"\n").unwrap();
    let (code, said) = told(&std::process::Command::new(POOLMASTER).args(["check"]).arg(&path).output().unwrap());
    assert!(code == 2 && said.contains("/no/such/server"), "{said}");
}

#[test]
fn row_36_workers_know_the_name_and_version_of_the_software() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").env("POOLMASTER_VERSION", "of a master above").start().ready();
    let env = environ(m.pids("a")[0]);
    assert_eq!((env["POOLMASTER_VERSION"].as_str(), env["POOLMASTER_INSTANCE"].as_str()), (env!("CARGO_PKG_VERSION"), "t"));
    assert_eq!(m.stop(), 0);
}

/// As process 1 of a container: everybody's orphans are the master's.
#[test]
fn as_process_1_it_reaps_what_is_left_to_it_and_stops_as_ever() {
    if !output_of("unshare", &["--pid", "--fork", "--mount-proc", "echo", "works"]).is_ok_and(|text| text.contains("works")) {
        return skip("as_process_1_it_reaps_what_is_left_to_it_and_stops_as_ever", "may not make a pid namespace");
    }
    let s = setup(
        "[pool.a]\ncommand = [\"sh\", \"-c\", \"(setsid sh -c 'sleep 0.2; exit 3' &) ; echo forked >&2; exec sleep 1000\"]\nworkers = 3\n\
         [pool.b]\ncommand = [\"sh\", \"-c\", \"cat /proc/$PPID/comm >&2; exec sleep 1000\"]\n",
    );
    let mut m = s.under(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]).start();
    m.log.wait_for("ready: 2 pools, 4 workers", 1);
    m.log.wait_for("b:0 | poolmaster", 1);
    // Strangers that end with 3, reaped, and mistaken for nobody's boot failure.
    m.log.wait_for("reaped a process that is no worker: exited with code 3", 3);
    assert!(!m.ok(&["status", "--json"]).contains("failed"));
    let inner = children(m.pid())[0];
    kill(inner, libc::SIGTERM);
    m.log.wait_for("exit code 0", 1);
    assert_eq!(m.wait().code(), Some(0));
    assert_eq!(m.processes(), [0; 0]);
}

#[test]
fn exit_when_decides_when_the_master_ends_by_itself() {
    let pools = "[pool.job]\ncommand = \"true\"\nrestart.policy = \"never\"\nsettle = \"0s\"\n[pool.bad]\ncommand = [\"sh\", \"-c\", \"exit 3\"]\n";
    // Each pool is failed or completed: the worst of them is the code.
    let mut m = setup(pools).start();
    assert_eq!(m.ends(), 3);
    // Never: it waits for orders.
    let mut m = setup(pools).master("exit_when = \"never\"").start();
    m.log.wait_for("bad failed", 1);
    m.log.wait_for("job completed", 1);
    m.ok(&["status"]);
    assert_eq!(m.stop(), 0);
    // Only for a required pool.
    let mut m = setup(pools).master("exit_when = \"required-failed\"").start();
    m.log.wait_for("bad failed", 1);
    m.ok(&["status"]);
    assert_eq!(m.stop(), 0);
    let with_required = format!("{pools}[pool.must]\ncommand = [\"sh\", \"-c\", \"exit 4\"]\nrequired = true\n");
    let mut m = setup(&with_required).master("exit_when = \"required-failed\"").start();
    assert_eq!(m.ends(), 4);
    assert!(m.log.text().contains("required pool must failed"), "{}", m.log.text());
    let mut m = setup("[pool.job]\ncommand = \"true\"\nrestart.policy = \"never\"\n").start();
    assert_eq!(m.ends(), 0);
}
