//! `run --listen ADDRESS --workers N -- COMMAND`: one pool named main, without a file.

use std::os::unix::net::UnixStream;

use super::support::*;

#[test]
fn a_command_becomes_a_pool_without_a_file() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let s = adhoc(&["--listen", &address, "--listen", "unix:a.sock", "--workers", "2"], &[POOLMASTER, "worker"]);
    let mut m = s.start().ready();
    assert_eq!(m.pids("main").len(), 2);
    assert!(get(port, "/").unwrap().contains("main"));
    UnixStream::connect(m.setup.path("a.sock")).unwrap();
    assert_eq!(environ(m.pids("main")[0])["LISTEN_FDNAMES"], "main:main-2");
    // It is a master like any other: signals act on its only pool, a reload starts from the same flags.
    m.signal(libc::SIGTTIN);
    m.wait_count("main", 3);
    m.ok(&["scale", "main", "1"]);
    m.ok(&["scale", "main", "config"]);
    let before = m.wait_count("main", 2);
    m.signal(libc::SIGHUP);
    m.log.wait_for("main all workers replaced", 1);
    assert!(m.wait_count("main", 2).iter().all(|pid| !before.contains(pid)));
    assert!(get(port, "/").unwrap().contains("main"));
    m.signal(libc::SIGINT);
    assert_eq!(m.wait().code(), Some(0));
    m.assert_all_gone();
}

#[test]
fn words_in_braces_are_filled_in_and_the_rest_is_the_commands_own() {
    let address = format!("127.0.0.1:{}", free_port());
    let script = "X=5; echo \"<${X}> ${HOME:-none} $0 {slot} {fd} {other} {{pool}}\"; exec sleep 1000";
    let s = adhoc(&["--listen", &address, "--set", "pool.main.ready=exec"], &["sh", "-c", script, "it's one word"]);
    let m = s.env("HOME", "/a home").start().ready();
    let told = m.out.wait_for("<", 1);
    assert_eq!(told, "<5> /a home it's one word 0 3 {other} {pool}");
}

#[test]
fn flags_set_any_key_of_the_pool() {
    let sets = ["--set", "pool.main.stop_signal=USR1", "--set", "pool.main.env.GREETING=hello there"];
    let script = "trap 'echo told by USR1; exit 0' USR1; echo \"$GREETING\"; while :; do sleep 0.05; done";
    let mut m = adhoc(&sets, &["sh", "-c", script]).start().ready();
    m.out.wait_for("hello there", 1);
    assert_eq!(m.stop(), 0);
    m.out.wait_for("told by USR1", 1);
}

#[test]
fn what_makes_no_sense_is_wrong_usage_and_starts_nothing() {
    let told = |args: &[&str], command: &[&str], what: &str| {
        let mut m = adhoc(args, command).start();
        assert_eq!(m.wait().code(), Some(2), "{}", m.log.text());
        m.log.wait_for(what, 1);
        assert!(!m.setup.path("run").exists());
    };
    told(&["--listen", "nowhere"], &["sleep", "1"], "--listen nowhere");
    told(&["--workers", "many"], &["sleep", "1"], "--workers many");
    told(&["--listen", ":1"], &[], "--listen is for a command given here");
    told(&["--set", "pool.main.wrokers=2"], &["sleep", "1"], "did you mean `workers`");
    told(&["pools.toml"], &["sleep", "1"], "cannot be used with");
}
