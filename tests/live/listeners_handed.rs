//! Sockets that the master is started with: taken by name or by address, never bound again, never removed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use serde_json::Value;

use super::support::*;

/// The master is started with these descriptors from 3 up, announced as systemd does.
fn handed(setup: Setup, sockets: &[RawFd], names: Option<&str>) -> Setup {
    let sockets = sockets.to_vec();
    let count = sockets.len().to_string();
    let mut setup = setup
        // Its pid is the shell's.
        .under(&["sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"])
        .env("LISTEN_FDS", &count)
        .pre_exec(move || {
            // First out of the way of the numbers that they get.
            for (at, socket) in (0..).zip(&sockets) {
                dup_to(*socket, 200 + at, libc::O_CLOEXEC)?;
            }
            for (at, _) in (0..).zip(&sockets) {
                dup_to(200 + at, 3 + at, 0)?;
            }
            Ok(())
        });
    if let Some(names) = names {
        setup = setup.env("LISTEN_FDNAMES", names);
    }
    setup
}

fn dup_to(from: RawFd, to: RawFd, flags: i32) -> std::io::Result<()> {
    // SAFETY: system calls on numbers, in a child before its program.
    let done = unsafe { if from == to { libc::fcntl(from, libc::F_SETFD, 0) } else { libc::dup3(from, to, flags) } };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// The listeners of all pools, as the verb gives them.
fn listeners(m: &Master) -> Vec<Value> {
    let reply: Value = serde_json::from_str(&m.ok(&["listeners", "--json"])).unwrap();
    reply["listeners"].as_array().unwrap().clone()
}

fn inode_of(fd: &impl AsRawFd) -> u64 {
    std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().ino()
}

fn ask(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A start that has to fail; its words.
fn refused(s: Setup) -> String {
    let mut m = s.start();
    assert_eq!(m.wait().code(), Some(1), "{}", m.log.text());
    // Where it got so far.
    if m.setup.path("run").exists() {
        m.assert_nothing_left();
    }
    m.log.wait_for("poolmaster: cannot start", 1)
}

#[test]
fn row_18_sockets_of_systemd_are_taken_by_name_or_by_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.sock");
    let (tcp, unix, udp) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (port, dns) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap());
    let name = format!("poolmaster-{}-row-18", std::process::id());
    let named = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let spare = TcpListener::bind("127.0.0.1:0").unwrap();
    // Waits since before there was a master.
    let early = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let s = setup(&format!(
        r#"
        [defaults]
        command = "POOLMASTER worker"
        settle = "0s"
        [pool.web]
        [pool.web.listen]
        a = "127.0.0.1:{port}"
        b = "unix:{}"
        c = "unix:@{name}"
        [pool.dns]
        ready = "exec"
        listen = {{ questions = {{ address = "inherit:dns", nonblocking = false }} }}
        "#,
        path.display()
    ));
    let sockets = [tcp.as_raw_fd(), udp.as_raw_fd(), unix.as_raw_fd(), named.as_raw_fd(), spare.as_raw_fd()];
    let mut m = handed(s, &sockets, Some("x:dns::y:spare")).start().ready();
    assert!(ask(early).starts_with("HTTP/1.1 200"));
    assert!(ask(UnixStream::connect(&path).unwrap()).contains("web"));
    assert!(ask(UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap()).contains("web"));
    let shown = listeners(&m);
    let by = |pool: &str, name: &str| shown.iter().find(|l| l["pool"] == pool && l["name"] == name).unwrap().clone();
    for (listener, inode, inherited) in [
        (by("web", "a"), inode_of(&tcp), "x"),
        (by("web", "b"), inode_of(&unix), "unknown"),
        (by("web", "c"), inode_of(&named), "y"),
        (by("dns", "questions"), inode_of(&udp), "dns"),
    ] {
        assert_eq!((&listener["inode"], &listener["inherited"]), (&Value::from(inode), &Value::from(inherited)), "{listener}");
    }
    assert_eq!(by("dns", "questions")["address"], format!("udp://{dns}"));
    assert!(m.ok(&["listeners", "web"]).contains("shared, inherited"));
    // Its options are the config's.
    assert_eq!(by("web", "a")["queue_limit"], 1024);
    // SAFETY: reads flags that all who share a socket see.
    let flags = |fd: RawFd| unsafe { libc::fcntl(fd, libc::F_GETFL) };
    assert_eq!((flags(tcp.as_raw_fd()) & libc::O_NONBLOCK, flags(udp.as_raw_fd()) & libc::O_NONBLOCK), (libc::O_NONBLOCK, 0));
    // Nobody wants it: told, and closed.
    let told = m.log.wait_for("no listener of the config wants it", 1);
    assert!(told.contains(&format!("\"spare\" (tcp://{})", spare.local_addr().unwrap())), "{told}");
    assert_eq!(m.log.count("no listener of the config wants it"), 1);
    let spare_socket = format!("socket:[{}]", inode_of(&spare));
    assert!(!fds(m.pid()).values().any(|f| *f == spare_socket));
    // Workers get them under the pool's names, and nothing that was meant for the master.
    let worker = m.pids("web")[0];
    let environment = environ(worker);
    assert_eq!((&*environment["LISTEN_FDNAMES"], environment["LISTEN_PID"].parse()), ("a:b:c", Ok(worker)));
    assert!(!fds(m.pids("dns")[0]).values().any(|f| *f == spare_socket));
    // They stay at a reload, under whichever of their names.
    m.rewrite(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nsettle = \"0s\"\nlisten.main = { address = \"inherit:x\", backlog = 77 }\n\
         [pool.dns]\ncommand = \"POOLMASTER worker\"\nsettle = \"0s\"\nready = \"exec\"\nlisten = \"udp://DNS\"\n"
            .replace("DNS", &dns.to_string())
            .as_str(),
    );
    m.signal(libc::SIGHUP);
    m.log.wait_for("web all workers replaced", 1);
    m.log.wait_for("dns all workers replaced", 1);
    let shown = listeners(&m);
    let row = |l: &Value| (l["name"].as_str().unwrap().to_owned(), l["inode"].as_u64().unwrap());
    assert_eq!(
        shown.iter().map(row).collect::<Vec<_>>(),
        [("main".to_owned(), inode_of(&tcp)), ("main".to_owned(), inode_of(&udp))]
    );
    assert_eq!(shown[0]["queue_limit"], 77);
    assert!(ask(TcpStream::connect(("127.0.0.1", port)).unwrap()).starts_with("HTTP/1.1 200"));
    assert_eq!(m.stop(), 0);
    m.assert_all_gone();
    // Whoever made them has them still.
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn row_18_the_socket_activation_of_systemd_itself() {
    if output_of("systemd-socket-activate", &["--version"]).is_err() {
        return skip("row_18_the_socket_activation_of_systemd_itself", "no systemd-socket-activate");
    }
    let port = free_port();
    let s = setup("[pool.web]\ncommand = \"POOLMASTER worker\"\nlisten = \"inherit:http\"\n");
    let address = format!("127.0.0.1:{port}");
    let pass = format!("--setenv={MARK}");
    let s = s.under(&["systemd-socket-activate", "-l", &address, "--fdname=http", &pass, "--setenv=PATH"]);
    let m = s.start();
    m.log.wait_for("Listening on", 1);
    // The first connection starts the master, and is served by its workers.
    let first = TcpStream::connect(&address).unwrap();
    assert!(ask(first).starts_with("HTTP/1.1 200"));
    let mut m = m.ready();
    assert_eq!(listeners(&m)[0]["inherited"], "http");
    assert_eq!(m.stop(), 0);
    m.assert_all_gone();
}

#[test]
fn row_20_socket_files_are_removed_by_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.sock");
    let theirs = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let is = |path: &Path| std::fs::symlink_metadata(path).map(|m| (m.ino(), m.mode() & 0o777)).unwrap();
    let before = is(&path);
    let pools = |mode: &str| {
        format!(
            "[pool.web]\ncommand = \"POOLMASTER worker\"\nsettle = \"0s\"\n[pool.web.listen]\n\
             own = \"unix:DIR/own.sock\"\ntheirs = {{ address = \"unix:{}\"{mode} }}\n",
            path.display()
        )
    };
    let mut m = handed(setup(&pools("")), &[theirs.as_raw_fd()], None).start().ready();
    let own = m.setup.path("own.sock");
    assert!(ask(UnixStream::connect(&path).unwrap()).contains("web") && own.exists());
    m.rewrite(&pools(", mode = \"0600\""));
    m.signal(libc::SIGHUP);
    m.log.wait_for("web all workers replaced", 1);
    assert_eq!(is(&path), before, "neither replaced nor changed");
    assert!(!dir.path().join("theirs.sock.lock").exists());
    assert_eq!(m.stop(), 0);
    m.assert_all_gone();
    assert!(!own.exists() && !m.setup.path("own.sock.lock").exists(), "its own is removed");
    assert_eq!(is(&path), before, "theirs is not");
    // The queue is theirs as well.
    let _waiting = UnixStream::connect(&path).unwrap();
    theirs.set_nonblocking(false).unwrap();
    theirs.accept().unwrap();
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let (one, two) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (datagrams, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let s = |listen: &str| setup(&format!("[pool.web]\ncommand = \"sleep 1000\"\nlisten.http = \"{listen}\"\n"));
    let told = refused(s("inherit:web"));
    assert!(told.contains("pool web: listener http: cannot take inherit:web: the master was started without sockets"), "{told}");
    let both = [one.as_raw_fd(), two.as_raw_fd()];
    let told = refused(handed(s("inherit:web"), &both, Some("http:api")));
    let names = format!("\"http\" (tcp://{}), \"api\" (tcp://{})", one.local_addr().unwrap(), two.local_addr().unwrap());
    assert!(told.contains("without a socket of this name") && told.contains(&names), "{told}");
    let told = refused(handed(s("inherit:web"), &both, Some("web:web")));
    assert!(told.contains("2 sockets have this name") && told.contains("FileDescriptorName="), "{told}");
    let told = refused(handed(s("inherit:web"), &[datagrams.as_raw_fd()], Some("web")));
    assert!(told.contains("no TCP, UDP or Unix stream socket"), "{told}");
    // Announced wrongly.
    let told = refused(handed(s("inherit:web"), &both, Some("web")));
    assert!(told.contains("LISTEN_FDNAMES has 1 names for 2 descriptors"), "{told}");
    let told = refused(handed(s("inherit:web"), &[one.as_raw_fd()], None).env("LISTEN_FDS", "50"));
    assert!(told.contains("LISTEN_FDS=50 announces descriptor") && told.contains("bad file descriptor"), "{told}");
    // Two of one name, told apart by the address of the one.
    let text =
        format!("[pool.web]\ncommand = \"POOLMASTER worker\"\nlisten = [\"inherit:web\", \"{}\"]\n", one.local_addr().unwrap());
    let m = handed(setup(&text), &both, Some("web:web")).start().ready();
    let inodes: Vec<_> = listeners(&m).iter().map(|l| l["inode"].as_u64().unwrap()).collect();
    assert_eq!(inodes, [inode_of(&two), inode_of(&one)]);
}

#[test]
fn what_is_announced_for_somebody_else_is_left_alone() {
    let port = free_port();
    let text = format!("[pool.web]\ncommand = \"POOLMASTER worker\"\nlisten = \"127.0.0.1:{port}\"\n");
    // As in the environment of a child that systemd's own service has started.
    let mut m = setup(&text).env("LISTEN_PID", "1").env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "web").start().ready();
    assert_eq!(listeners(&m)[0]["inherited"], Value::Null);
    assert!(get(port, "/").unwrap().starts_with("HTTP/1.1 200"));
    // At a reload nothing more comes.
    m.rewrite("[pool.web]\ncommand = \"POOLMASTER worker\"\nlisten = \"inherit:web\"\n");
    m.signal(libc::SIGHUP);
    let told = m.log.wait_for("nothing was restarted", 1);
    assert!(told.contains("cannot take inherit:web"), "{told}");
    assert_eq!(m.stop(), 0);
}

#[test]
fn one_that_is_handed_over_stays_one_socket_where_each_slot_would_have_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let pool = format!(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nworkers = 2\nlisten.http = {{ address = \"127.0.0.1:{port}\", reuseport = true }}\n"
    );
    let mut m = handed(setup(&pool), &[listener.as_raw_fd()], None).start().ready();
    drop(listener);
    m.log.wait_for("all slots have the one that the master was started with", 1);
    m.ok(&["reload"]);
    assert!(get(port, "/").unwrap().contains("200 OK"));
    assert_eq!(m.stop(), 0);
}

/// What somebody else has made stays somebody else's, also for a master that took the place of the one that was started with it.
#[test]
fn sockets_of_systemd_outlive_a_second_master_that_took_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("handed.sock");
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let port = tcp.local_addr().unwrap().port();
    let text = format!(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nlisten = {{ main = \"inherit:http\", file = \"unix:{}\" }}\n",
        path.display()
    );
    let m = handed(setup(&text), &[tcp.as_raw_fd(), unix.as_raw_fd()], Some("http:file")).start().ready();
    m.signal(libc::SIGUSR2);
    m.log.wait_for("ready: 1 pool", 2);
    let second: i32 = std::fs::read_to_string(m.setup.path("run/t.pid.2")).unwrap().trim().parse().unwrap();
    let told = String::from_utf8(cli(&m.setup.path("run/t.2.sock"), &["listeners"]).stdout).unwrap();
    assert!(told.contains(&inode_of(&tcp).to_string()) && told.contains(&inode_of(&unix).to_string()), "{told}");
    kill(m.pid(), libc::SIGTERM);
    m.log.wait_for("promoted: the first master", 1);
    assert!(ask(TcpStream::connect(("127.0.0.1", port)).unwrap()).contains("200 OK"));
    assert!(ask(UnixStream::connect(&path).unwrap()).contains("200 OK"));
    kill(second, libc::SIGTERM);
    wait_gone(second, std::time::Instant::now() + PATIENCE);
    // The next master would be started by who comes now.
    let _client = TcpStream::connect_timeout(&tcp.local_addr().unwrap(), PATIENCE).unwrap();
    tcp.set_nonblocking(true).unwrap();
    m.log.wait_until("the client waits", || tcp.accept().ok());
    UnixStream::connect(&path).unwrap();
}
