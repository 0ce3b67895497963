//! Listeners end to end: what is opened, what workers get, what happens to them when the config changes, and who is kept away.

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use serde_json::Value;

use super::support::*;

fn ask(mut stream: impl Read + std::io::Write) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The listeners of a pool, as the verb gives them.
fn listeners(m: &Master, pool: &str) -> Vec<Value> {
    let reply: Value = serde_json::from_str(&m.ok(&["listeners", pool, "--json"])).unwrap();
    reply["listeners"].as_array().unwrap().clone()
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn one_pool_listens_on_both_families_and_on_unix_sockets() {
    let (v4, v6, both) = (free_port(), free_port(), free_port());
    let mut m = setup(&format!(
        r#"
        [pool.web]
        command = "POOLMASTER worker"
        workers = 2
        [pool.web.listen]
        four = "127.0.0.1:{v4}"
        six = "[::1]:{v6}"
        both = ":{both}"
        private = {{ address = "unix:DIR/private.sock", mode = "0600" }}
        open = {{ address = "unix:DIR/open.sock", mode = "0666" }}
        "#
    ))
    .start()
    .ready();
    for address in [format!("127.0.0.1:{v4}"), format!("[::1]:{v6}"), format!("127.0.0.1:{both}"), format!("[::1]:{both}")] {
        assert!(ask(TcpStream::connect(&address).unwrap()).contains("web"), "{address}");
    }
    for address in [format!("[::1]:{v4}"), format!("127.0.0.1:{v6}")] {
        assert!(TcpStream::connect(&address).is_err(), "{address}");
    }
    let (private, open) = (m.setup.path("private.sock"), m.setup.path("open.sock"));
    for path in [&private, &open] {
        assert!(ask(UnixStream::connect(path).unwrap()).contains("web"), "{path:?}");
    }
    assert_eq!((mode(&private), mode(&open)), (0o600, 0o666));
    for pid in m.pids("web") {
        assert_eq!(environ(pid)["LISTEN_FDNAMES"], "both:four:open:private:six");
        assert_eq!((&*environ(pid)["LISTEN_FDS"], environ(pid)["LISTEN_PID"].parse()), ("5", Ok(pid)));
    }
    assert_eq!(m.stop(), 0);
    m.assert_all_gone();
}

#[test]
fn a_program_is_given_its_listener_by_number() {
    let (one, two) = (free_port(), free_port());
    let m = setup(&format!(
        r#"
        [defaults]
        protocols = []
        ready = "accepting"
        [pool.first]
        command = "POOLMASTER worker --fd {{fd}}"
        listen = "127.0.0.1:{one}"
        env = {{ APP_FD = "fd={{fd}}" }}
        [pool.second]
        command = "POOLMASTER worker --fd {{fd:b}}"
        listen = {{ a = "unix:DIR/a.sock", b = "127.0.0.1:{two}" }}
        "#
    ))
    .start()
    .ready();
    let (first, second) = (m.pids("first")[0], m.pids("second")[0]);
    let command = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(command(first).ends_with("--fd\x003\0") && command(second).ends_with("--fd\x004\0"));
    assert_eq!(environ(first)["APP_FD"], "fd=3");
    assert!(!environ(second).contains_key("LISTEN_FDS"));
    assert!(get(one, "/").unwrap().starts_with("HTTP/1.1 200") && get(two, "/").unwrap().starts_with("HTTP/1.1 200"));
    // Nobody serves the other one, and yet it is open: who comes is queued.
    UnixStream::connect(m.setup.path("a.sock")).unwrap();
}

#[test]
fn accepted_connections_have_nodelay_unless_the_config_says_no() {
    let (with, without) = (free_port(), free_port());
    let pools = |nodelay: bool| {
        let worker = helper("tell-nodelay");
        let listen =
            |port: u16, nodelay: bool| format!("listen.main = {{ address = \"127.0.0.1:{port}\", nodelay = {nodelay} }}\n");
        format!("[pool.a]\n{worker}{}[pool.b]\n{worker}listen = \"127.0.0.1:{with}\"\n", listen(without, nodelay))
    };
    let told = |port: u16| {
        let mut answer = String::new();
        TcpStream::connect(("127.0.0.1", port)).unwrap().read_to_string(&mut answer).unwrap();
        answer
    };
    let mut m = setup(&pools(false)).start().ready();
    assert_eq!((told(with), told(without)), ("nodelay true".to_owned(), "nodelay false".to_owned()));
    m.rewrite(&pools(true));
    m.signal(libc::SIGHUP);
    m.log.wait_for("config 2 in force", 1);
    // The helper drops what it has when it is told to stop.
    m.log.wait_for("a:0 killed by SIGTERM", 1);
    assert_eq!(told(without), "nodelay true", "changed on the open socket");
}

/// Length and limit of a TCP accept queue, as another program sees them.
fn queue_by_ss(port: u16) -> Option<(u32, u32)> {
    let text = output_of("ss", &["-Hltn", &format!("sport = :{port}")]).ok()?;
    let fields: Vec<u32> = text.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    Some((fields[0], fields[1]))
}

#[test]
fn the_backlog_is_as_set_and_changes_on_the_live_socket() {
    let port = free_port();
    let pools = |tcp: u32, unix: u32| {
        format!(
            r#"
            [pool.a]
            command = "sleep 1000"
            ready = "exec"
            settle = "0s"
            [pool.a.listen]
            tcp = {{ address = "127.0.0.1:{port}", backlog = {tcp} }}
            unix = {{ address = "unix:DIR/a.sock", backlog = {unix}, mode = "0600" }}
            "#
        )
    };
    let mut m = setup(&pools(17, 5)).start().ready();
    if queue_by_ss(port).is_none() {
        return skip("the_backlog_is_as_set_and_changes_on_the_live_socket", "no ss");
    }
    let waiting = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(queue_by_ss(port), Some((1, 17)));
    let before = listeners(&m, "a");
    assert_eq!(
        [&before[0]["queue"], &before[0]["queue_limit"], &before[1]["queue_limit"]],
        [&Value::from(1), &17.into(), &5.into()],
        "{before:?}"
    );
    let socket = m.setup.path("a.sock");
    let file = inode(&socket);
    // More than the kernel allows, on purpose.
    let most: u32 = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    m.rewrite(&pools(most + 1, 9).replace("0600", "0640"));
    m.signal(libc::SIGHUP);
    m.log.wait_for("a all workers replaced", 1);
    assert_eq!(queue_by_ss(port), Some((1, most)), "who waited still waits");
    let told = m.log.wait_for("the kernel cuts its backlog", 1);
    assert!(told.contains(&format!("{} to {most}", most + 1)) && told.contains("net.core.somaxconn"), "{told}");
    let after = listeners(&m, "a");
    assert_eq!(
        (&after[0]["inode"], &after[1]["inode"], &after[1]["queue_limit"]),
        (&before[0]["inode"], &before[1]["inode"], &9.into())
    );
    assert_eq!((inode(&socket), mode(&socket)), (file, 0o640));
    drop(waiting);
}

#[test]
fn clients_of_a_unix_socket_never_find_a_gap() {
    let pools =
        |pool: &str| format!("[pool.{pool}]\ncommand = \"POOLMASTER worker\"\nsettle = \"0s\"\nlisten = \"unix:DIR/web.sock\"\n");
    let s = setup(&pools("web"));
    let path = s.path("web.sock");
    // Somebody's who is dead: to be replaced, not removed.
    drop(UnixListener::bind(&path).unwrap());
    let (done, refused, served) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                match UnixStream::connect(&path) {
                    Ok(stream) => {
                        assert!(ask(stream).starts_with("HTTP/1.1 200"));
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                    // From the stale one only, which gives way before the first is served.
                    Err(e) => {
                        let stale = matches!(e.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOENT));
                        assert!(stale && served.load(Ordering::Relaxed) == 0, "{e}");
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        let until = Instant::now() + PATIENCE;
        while refused.load(Ordering::Relaxed) == 0 && Instant::now() < until {
            std::thread::yield_now();
        }
        let mut m = s.start().ready();
        let file = inode(&path);
        for n in 2..5 {
            m.signal(libc::SIGHUP);
            m.log.wait_for("all workers replaced", n - 1);
        }
        assert_eq!(inode(&path), file, "a reload keeps the socket");
        // It goes to a pool of another name, with all who wait in its queue.
        m.rewrite(&pools("other"));
        m.signal(libc::SIGHUP);
        m.log.wait_for("other:0 ready", 1);
        m.log.wait_until("the old pool is gone", || m.pool("web").is_null().then_some(()));
        assert_eq!(inode(&path), file);
        let so_far = served.load(Ordering::Relaxed);
        m.log.wait_until("it serves", || (served.load(Ordering::Relaxed) > so_far + 10).then_some(()));
        done.store(true, Ordering::Relaxed);
        client.join().unwrap();
        assert_eq!(m.stop(), 0);
        m.assert_all_gone();
    });
    assert!(refused.into_inner() > 0);
}

/// A start that has to fail: its exit code is 1, nothing of it is left, and these are its words.
fn refused(s: Setup) -> String {
    let mut m = s.start();
    assert_eq!(m.wait().code(), Some(1), "{}", m.log.text());
    m.assert_nothing_left();
    m.log.wait_for("poolmaster: cannot start", 1)
}

fn on(path: &Path) -> Setup {
    setup(&format!(
        "[pool.a]\ncommand = \"sleep 1000\"\n[pool.b]\ncommand = \"sleep 1000\"\nlisten = \"unix:{}\"\n",
        path.display()
    ))
}

#[test]
fn what_stands_in_the_way_of_a_unix_socket_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("file"), "precious").unwrap();
    std::fs::create_dir(path("dir")).unwrap();
    std::os::unix::fs::symlink("file", path("link")).unwrap();
    for (name, what) in [("file", "a regular file"), ("dir", "a directory"), ("link", "a symbolic link")] {
        let told = refused(on(&path(name)));
        assert!(told.contains("pool b: listener main") && told.contains(what) && told.contains("left alone"), "{told}");
    }
    assert_eq!(std::fs::read_to_string(path("link")).unwrap(), "precious");
    // Somebody who listens there.
    let theirs = UnixListener::bind(path("live")).unwrap();
    let told = refused(on(&path("live")).master("bind_retry = 0"));
    assert!(told.contains("another process listens there"), "{told}");
    // One was the master's, to see whether anybody is there.
    UnixStream::connect(path("live")).unwrap();
    theirs.accept().and_then(|_| theirs.accept()).unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["dir", "file", "link", "live"], "no lock files are left");
}

#[test]
fn an_address_of_another_master_is_refused_naming_it() {
    let port = free_port();
    let m = setup(&format!(
        "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nlisten = [\"127.0.0.1:{port}\", \"unix:DIR/a.sock\"]\n"
    ))
    .start()
    .ready();
    let holder = format!("(pid {})", m.pid());
    let socket = m.setup.path("a.sock");
    let file = inode(&socket);
    let told = refused(on(&socket).master("bind_retry = 0"));
    assert!(told.contains(&format!("process {} ", m.pid())), "{told}");
    let other = setup(&format!("[pool.b]\ncommand = \"sleep 1000\"\nlisten = \"127.0.0.1:{port}\"\n"));
    let told = refused(other.master("bind_retry = 0"));
    // It names one of those who have the port open: workers share it.
    let worker = format!("(pid {})", m.pids("a")[0]);
    assert!(told.contains("the port is in use by") && (told.contains(&holder) || told.contains(&worker)), "{told}");
    assert_eq!(inode(&socket), file);
    UnixStream::connect(&socket).unwrap();
}

#[test]
fn a_start_waits_for_an_address_that_is_about_to_be_free() {
    let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = theirs.local_addr().unwrap().port();
    let pool = format!("[pool.a]\ncommand = \"POOLMASTER worker\"\nlisten = \"127.0.0.1:{port}\"\n");
    let mut m = setup(&pool).master("bind_retry = \"55s\"").start();
    let told = m.log.wait_for("trying again for 55s (master.bind_retry)", 1);
    assert!(
        told.contains("WARN") && told.contains("a listener main: cannot listen on tcp://") && told.contains("in use by"),
        "{told}"
    );
    drop(theirs);
    m.log.wait_for("ready: 1 pool", 1);
    assert!(get(port, "/").unwrap().contains("200 OK"));
    // A reload does not wait: the old config is in force, and nothing is missing.
    let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = theirs.local_addr().unwrap().port();
    m.rewrite(&pool.replace(&port.to_string(), &other.to_string()));
    m.signal(libc::SIGHUP);
    m.log.wait_for("the port is in use by", 2);
    assert_eq!((m.stop(), m.log.count("trying again")), (0, 1));
}

#[test]
fn a_start_that_waits_for_an_address_can_be_stopped_and_has_an_end() {
    let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = theirs.local_addr().unwrap();
    let start = |patience: &str| {
        let pool = format!("[pool.a]\ncommand = \"sleep 1000\"\nlisten = \"{address}\"\n");
        setup(&pool).master(&format!("bind_retry = \"{patience}\"")).start()
    };
    let mut m = start("1h");
    m.log.wait_for("trying again for 1h", 1);
    // What means nothing yet is nothing to end for.
    m.signal(libc::SIGHUP);
    m.signal(libc::SIGTERM);
    assert_eq!(m.wait().code(), Some(0));
    m.log.wait_for("told to stop by SIGTERM while its address was in use; nothing was started", 1);
    let mut m = start("700ms");
    assert_eq!(m.wait().code(), Some(1));
    m.log.assert_order(&["trying again for 700ms", "cannot start"]);
    m.assert_nothing_left();
}

#[test]
fn a_second_master_of_the_same_name_is_refused_naming_the_first() {
    let mut m = setup("[pool.a]\ncommand = \"POOLMASTER worker\"\nlisten = \"unix:DIR/a.sock\"\n").start().ready();
    let files: Vec<u64> = ["run/t.sock", "run/t.pid", "run/t.lock", "a.sock"].map(|f| inode(&m.setup.path(f))).to_vec();
    let a = m.pids("a");
    let mut other = m.another();
    assert_eq!(other.wait().code(), Some(1));
    let told = other.log.wait_for("cannot start", 1);
    assert!(told.contains("under the name t") && told.contains(&format!("(pid {})", m.pid())), "{told}");
    assert_eq!(["run/t.sock", "run/t.pid", "run/t.lock", "a.sock"].map(|f| inode(&m.setup.path(f))).to_vec(), files);
    assert_eq!(m.pids("a"), a);
    assert!(ask(UnixStream::connect(m.setup.path("a.sock")).unwrap()).contains("pool"));
    assert_eq!(m.stop(), 0);
    m.assert_all_gone();
}

#[test]
fn fault_a_socket_file_is_unlinked_by_the_wrong_process() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nlisten = \"unix:DIR/a.sock\"\n").start().ready();
    let path = m.setup.path("a.sock");
    std::fs::remove_file(&path).unwrap();
    let theirs = UnixListener::bind(&path).unwrap();
    assert_eq!(m.stop(), 0);
    UnixStream::connect(&path).unwrap();
    theirs.accept().unwrap();
}

#[test]
fn a_reload_that_cannot_listen_changes_nothing_and_one_that_drops_a_pool_closes_its_sockets() {
    let (port, taken) = (free_port(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let a =
        format!("[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nlisten = [\"127.0.0.1:{port}\", \"unix:DIR/a.sock\"]\n");
    let b = "[pool.b]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"0s\"\nlisten = \"unix:DIR/b.sock\"\n";
    let mut m = setup(&format!("{a}{b}")).start().ready();
    let before = [m.pids("a"), m.pids("b")];
    // What comes before the failure was opened, and is closed again.
    let address = taken.local_addr().unwrap();
    m.rewrite(&format!("{a}{b}[pool.c]\ncommand = \"sleep 1000\"\nlisten = [\"unix:DIR/c.sock\", \"{address}\"]\n"));
    m.signal(libc::SIGHUP);
    let told = m.log.wait_for("nothing was restarted", 1);
    assert!(told.contains(&address.to_string()) && told.contains(&format!("(pid {})", std::process::id())), "{told}");
    assert_eq!([m.pids("a"), m.pids("b")], before);
    assert!(!m.setup.path("c.sock").exists() && !m.setup.path("c.sock.lock").exists() && !m.setup.path("run/t.d/c").exists());
    m.rewrite(b);
    m.signal(libc::SIGHUP);
    m.log.wait_until("a is gone", || m.pool("a").is_null().then_some(()));
    m.log.wait_until("its port is closed", || TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()));
    assert!(!m.setup.path("a.sock").exists() && !m.setup.path("a.sock.lock").exists());
    UnixStream::connect(m.setup.path("b.sock")).unwrap();
}
