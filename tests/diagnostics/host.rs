//! What depends on this very host: who has an address now, and how much of everything there is.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

fn check(dir: &Path, config: &str) -> Output {
    check_under(&[], dir, config)
}

/// Under a command that narrows what it may have, such as `prlimit --nofile=64`.
fn check_under(under: &[&str], dir: &Path, config: &str) -> Output {
    std::fs::write(dir.join("server"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(dir.join("server"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.join("pools.toml"), config).unwrap();
    let words = [under, &[env!("CARGO_BIN_EXE_poolmaster"), "check"]].concat();
    let mut command = Command::new(words[0]);
    let path = format!("{}:/usr/bin:/bin", dir.display());
    command.args(&words[1..]).current_dir(dir).env_clear().env("PATH", path).env("POOLMASTER_RUNTIME_DIR", dir.join("run"));
    command.output().unwrap()
}

/// In one line, however it was wrapped.
fn joined(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn who_has_an_address_is_named_and_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let path = dir.path().join("web.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let config = format!("[pool.web]\ncommand = \"server\"\nlisten = [\"127.0.0.1:{port}\", \"unix:{}\"]\n", path.display());
    let out = check(dir.path(), &config);
    let me = std::process::id();
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains(&format!("(pid {me}) listens on port {port} now")), "{said}");
    assert!(said.contains("pools.toml:3:11"), "the first address: {said}");
    assert!(joined(&said).contains(&format!("(pid {me}) listens on {} now", path.display())), "{said}");
    assert_eq!(said.matches("= stop it before the start, or choose another address").count(), 2, "{said}");
    // Bound once more by nobody, they are free: nothing is said.
    drop((tcp, unix));
    assert_eq!(stderr(&check(dir.path(), &config)), "");
}

#[test]
fn what_the_master_of_the_config_has_itself_is_no_news() {
    let dir = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let pidfile = dir.path().join("shop.pid");
    std::fs::write(&pidfile, format!("{}\n", std::process::id())).unwrap();
    let config = format!(
        "[master]\npidfile = \"{}\"\n[pool.web]\ncommand = \"server\"\nlisten = \"127.0.0.1:{port}\"\n",
        pidfile.display()
    );
    let out = check(dir.path(), &config);
    assert_eq!((out.status.code(), stderr(&out).as_str()), (Some(0), ""));
}

#[test]
fn who_has_a_port_of_udp_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port();
    let out = check(dir.path(), &format!("[pool.dns]\ncommand = \"server\"\nlisten = \"udp://127.0.0.1:{port}\"\n"));
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains(&format!("(pid {}) listens on UDP port {port} now", std::process::id())), "{said}");
    assert!(said.contains("= stop it before the start, or choose another address"), "{said}");
}

#[test]
fn more_than_the_host_has_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for (under, config, wants) in [
        (
            &["prlimit", "--nofile=64:64"][..],
            "workers = 60\n",
            [
                "the master needs about 190 descriptors for 75 workers (those beside them during a rollout included) and 0 \
                 listening sockets; its hard limit is 64",
                "= raise the limit (ulimit -Hn, LimitNOFILE=); without log.stdout and log.stderr = \"capture\" a worker needs fewer",
            ],
        ),
        (
            &["prlimit", "--sigpending=100:100"],
            "scale.up_signal = \"RTMIN\"\n",
            [
                "only 100 signals can wait for this user's processes: a larger burst of scale signals would be merged",
                "= raise RLIMIT_SIGPENDING (ulimit -i, LimitSIGPENDING=), or use `poolmaster scale`",
            ],
        ),
        // No kernel has more than 4,194,304 pids.
        (
            &[],
            "workers = 5000000\n",
            [
                "6250000 workers (those beside them during a rollout included) are more processes than there may be: kernel.",
                "= raise it, or start fewer; threads of the workers count as well",
            ],
        ),
    ] {
        let out = check_under(under, dir.path(), &format!("[pool.web]\ncommand = \"server\"\n{config}"));
        let said = joined(&stderr(&out));
        assert_eq!(out.status.code(), Some(0), "{said}");
        wants.iter().for_each(|want| assert!(said.contains(want), "{want}:\n{said}"));
    }
}

#[test]
fn fewer_workers_than_the_bounds_allow_is_said_of_auto() {
    let dir = tempfile::tempdir().unwrap();
    let out = check(dir.path(), "[pool.web]\ncommand = \"server\"\nworkers = \"auto*0.01\"\nscale.min = 1000\n");
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains("pool.web.workers: auto means "), "{said}");
    assert!(joined(&said).contains(" here, below scale.min = 1000: 1000 it is"), "{said}");
    assert!(said.contains("= change one of the two"), "{said}");
}

#[test]
fn a_limit_that_the_kernel_refuses_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let out = check(dir.path(), "[pool.web]\ncommand = \"server\"\nlimits.nofile = 4000000000\n");
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(joined(&said).contains("pool.web.limits.nofile: 4000000000 is more than "), "{said}");
    assert!(said.contains("= ask for less, or leave the key out: the master's own limit"), "{said}");
}

#[test]
fn a_socket_is_no_program() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.sock");
    let _socket = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let out = check(dir.path(), "[pool.web]\ncommand = \"./web.sock\"\n");
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(joined(&said).contains("web.sock is no regular file"), "{said}");
    assert!(said.contains("= name a program"), "{said}");
}
