//! What depends on this very host: who has an address now.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

fn check(dir: &Path, config: &str) -> Output {
    std::fs::write(dir.join("server"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(dir.join("server"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.join("pools.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolmaster"));
    command.arg("check").current_dir(dir).env_clear().env("PATH", dir).env("POOLMASTER_RUNTIME_DIR", dir.join("run"));
    command.output().unwrap()
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
    let joined = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(joined.contains(&format!("(pid {me}) listens on {} now", path.display())), "{said}");
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
