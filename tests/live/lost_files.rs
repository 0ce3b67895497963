//! What the master made once and needs for its whole life: folders, sockets and files that are full or taken away.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::support::*;

/// A mount namespace of its own, with a /dev/shm that takes so many files.
fn small_memory(inodes: u32) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let options = CString::new(format!("size=1m,nr_inodes={inodes}")).unwrap();
    move || {
        let check = |n: i32| if n == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        // SAFETY: system calls only, on constants.
        unsafe {
            check(libc::unshare(libc::CLONE_NEWNS))?;
            check(libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ))?;
            check(libc::mount(c"tmpfs".as_ptr(), c"/dev/shm".as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast()))
        }
    }
}

fn may_mount(test: &str) -> bool {
    let can = is_root() && output_of("unshare", &["--mount", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]).is_ok();
    let temporary = std::env::temp_dir();
    let on_disk =
        output_of("stat", &["-f", "-c", "%T", &temporary.display().to_string()]).is_ok_and(|kind| kind.trim() != "tmpfs");
    if !can || !on_disk {
        skip(test, "needs root that may mount, and a temporary folder on a disk");
    }
    can && on_disk
}

#[test]
fn a_full_memory_is_no_reason_not_to_start_workers() {
    if !may_mount("a_full_memory_is_no_reason_not_to_start_workers") {
        return;
    }
    for inodes in [2, 5, 7] {
        let pools = "[pool.a]\ncommand = \"POOLMASTER worker\"\nworkers = 4\nready = \"notify\"\nsettle = \"20ms\"\n[pool.b]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\n";
        let mut m = setup(pools).pre_exec(small_memory(inodes)).start().ready();
        assert_eq!(m.pids("a").len(), 4, "{inodes} files");
        let told = m.log.text();
        // With two, not even the folder can be made: then it is the disk from the start.
        assert!(inodes == 2 || (told.contains("/dev/shm") && told.contains("instead")), "{inodes} files: {told}");
        // Replacements too, and it is told once only.
        kill(m.pids("a")[0], libc::SIGKILL);
        m.ok(&["restart", "a"]);
        assert!(m.log.count("are made in") <= 4, "{}", m.log.text());
        assert_eq!(m.stop(), 0);
        m.assert_nothing_left();
    }
}

/// Whatever was made at the start is removed, one after the other; the next worker, HUP and USR1 find it made anew, told once.
#[test]
fn what_is_removed_is_made_anew() {
    let pools = "[pool.a]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nsettle = \"20ms\"\n";
    let mut m = setup(pools).start().ready();
    let (run, socket) = (m.setup.path("run"), m.socket.clone());
    // Where the workers report: by whoever cleans up after a login, as logind does.
    let replaced = |m: &Master| {
        let old = m.wait_count("a", 1);
        kill(old[0], libc::SIGKILL);
        m.log.wait_until("its replacement", || m.pids("a").first().is_some_and(|pid| *pid != old[0]).then_some(()));
        m.wait_state("a", 0, "good")
    };
    let memory = m.setup.notify_home();
    if std::path::Path::new(&memory).exists() {
        remove_all(std::path::Path::new(&memory));
        // One that was made ready for the next worker is gone with its folder.
        replaced(&m);
        replaced(&m);
        assert_eq!(m.log.count(&format!("{memory} was removed by somebody")), 1, "{}", m.log.text());
        // One that runs goes on being heard.
        remove_all(std::path::Path::new(&memory));
        m.signal(libc::SIGUSR1);
        m.log.wait_for(&format!("{memory} was removed by somebody"), 2);
        let notifier = Notifier::of(m.pids("a")[0]);
        notifier.send(b"STATUS=still heard");
        m.log.wait_until("it is heard", || (m.worker("a", 0)["status"] == "still heard").then_some(()));
    }
    // The pools' own directories.
    remove_all(&run.join("t.d"));
    let pid = replaced(&m);
    assert!(run.join("t.d/a").is_dir() && is_alive(pid));
    // By which the master is found: the signals that operators give next, each for everything.
    for signal in [libc::SIGHUP, libc::SIGUSR1] {
        for names in [&["t.sock"][..], &["t.pid"], &["t.lock"], &["t.sock", "t.pid", "t.lock", "t.d"]] {
            for name in names {
                let path = run.join(name);
                remove_all(&path);
            }
            let told = m.log.count("made anew");
            m.signal(signal);
            m.log.wait_until("made anew", || names.iter().all(|name| run.join(name).exists()).then_some(()));
            m.log.wait_until("told", || (m.log.count("made anew") >= told + names.len()).then_some(()));
            m.ok(&["status"]);
            assert_eq!(std::fs::read_to_string(run.join("t.pid")).unwrap().trim(), m.pid().to_string());
            if signal == libc::SIGHUP {
                m.log.wait_until("the reload is done", || {
                    (m.request("{\"method\":\"status\"}")["parameters"]["reload"].is_null()).then_some(())
                });
            }
        }
        remove_all(&run);
        m.signal(signal);
        m.log.wait_until("all of it", || socket.exists().then_some(()));
        m.ok(&["status"]);
    }
    // What somebody else has put there is not taken over, and told.
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "precious").unwrap();
    m.signal(libc::SIGUSR1);
    m.log.wait_for("is a regular file: not replaced", 1);
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
    std::fs::remove_file(&socket).unwrap();
    m.signal(libc::SIGUSR1);
    m.log.wait_until("its socket", || socket.exists().then_some(()));
    replaced(&m);
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

/// Another master has come while the first one's lock was gone: the name is that one's.
#[test]
fn a_name_that_another_master_has_by_now_is_not_taken_back() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").start().ready();
    let run = m.setup.path("run");
    for name in ["t.sock", "t.pid", "t.lock"] {
        std::fs::remove_file(run.join(name)).unwrap();
    }
    let mut second = m.another().ready();
    let pid = std::fs::read_to_string(run.join("t.pid")).unwrap();
    assert_eq!(pid.trim(), second.pid().to_string());
    m.signal(libc::SIGUSR1);
    m.log.wait_for("is held by process", 1);
    second.ok(&["status"]);
    assert_eq!(std::fs::read_to_string(run.join("t.pid")).unwrap(), pid);
    m.signal(libc::SIGTERM);
    m.log.wait_for("stopped: ", 1);
    second.ok(&["scale", "a", "+1"]);
    assert_eq!(second.stop(), 0);
}

/// The socket file of a Unix listener: clients find nothing, the operator hears of it, a reload makes it anew while who is inside is served.
#[test]
fn the_file_of_a_unix_listener_is_made_anew_by_a_reload() {
    let pools = "[pool.a]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nlisten = \"unix:DIR/a.sock\"\nsettle = \"20ms\"\nworkers = 2\n\
                 [pool.b]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nsettle = \"20ms\"\n";
    let mut m = setup(pools).start().ready();
    let path = m.setup.path("a.sock");
    let ask = |what: &str| -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(format!("GET {what} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").as_bytes())?;
        Ok(stream)
    };
    let is_answered = |mut stream: UnixStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.starts_with("HTTP/1.1 200")
    };
    let served = || is_answered(ask("/").unwrap());
    assert!(served());
    let reloads = |m: &Master, by_signal: bool| {
        let others = m.pids("b");
        let before = m.pids("a");
        if by_signal {
            m.signal(libc::SIGHUP);
        } else {
            m.ok(&["reload"]);
        }
        m.log.wait_until("new workers", || {
            let now = m.pids("a");
            (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(())
        });
        assert!(path.exists());
        // HUP means all of them.
        assert!(by_signal || m.pids("b") == others, "only the pool of the listener rolls");
    };
    for by_signal in [false, true] {
        // One that is inside stays inside.
        let inside = ask("/slow?ms=300").unwrap();
        std::fs::remove_file(m.setup.path("a.sock.spare")).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let told = m.code(1, &["health"]);
        assert!(told.contains("somebody removed the file") && told.contains("poolmaster reload"), "{told}");
        assert!(m.ok(&["listeners"]).contains("somebody removed the file"));
        let warned = m.log.count("no client finds it");
        m.signal(libc::SIGUSR1);
        m.log.wait_for("no client finds it", warned + 1);
        reloads(&m, by_signal);
        assert!(served());
        assert!(is_answered(inside));
        m.ok(&["health"]);
    }
    // With its lock.
    std::fs::remove_file(m.setup.path("a.sock.spare")).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(m.setup.path("a.sock.lock")).unwrap();
    reloads(&m, false);
    assert!(served());
    m.ok(&["health"]);
    // What somebody else has put there is his: a file, and a socket that is served.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(m.code(1, &["health"]).contains("somebody put another file"));
    let told = m.code(3, &["reload"]);
    assert!(told.contains("a.sock") && told.contains("regular file"), "{told}");
    // It was not made anew, and nobody said so; nor was it for a config that was refused for another reason.
    let _ = std::fs::remove_file(m.setup.path("a.sock.spare"));
    std::fs::remove_file(&path).unwrap();
    let anew = m.log.count("made anew");
    std::fs::create_dir(m.setup.path("folder")).unwrap();
    m.rewrite(&format!("{pools}[pool.c]\ncommand = \"sleep 1000\"\nlisten = \"unix:DIR/folder\"\n"));
    m.code(3, &["reload"]);
    assert!(!path.exists());
    m.rewrite(pools);
    assert_eq!(m.log.count("made anew"), anew, "{}", m.log.text());
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(m.code(1, &["health"]).contains("somebody put another file"));
    let told = m.code(3, &["reload"]);
    assert!(told.contains("a.sock"), "{told}");
    other.set_nonblocking(true).unwrap();
    // The other one's is there still: whoever knocks, knocks at his.
    while other.accept().is_ok() {}
    let _knock = UnixStream::connect(&path).unwrap();
    other.accept().unwrap();
    drop(other);
    // Nobody serves it now: it gives way.
    reloads(&m, false);
    assert!(served());
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
    assert!(!path.exists() && !m.setup.path("a.sock.lock").exists());
}

/// A server that removes the file of its listener as it ends, as php-fpm does, and whoever cleans up: the same socket has its name again, and nobody
/// is replaced for that.
#[test]
fn the_removed_file_of_a_unix_listener_comes_back_by_itself() {
    let pools = "[pool.a]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nlisten = \"unix:DIR/a.sock\"\nsettle = \"20ms\"\nworkers = 2\n\
                 [pool.rude]\ncommand = [\"sh\", \"-c\", \"trap 'rm DIR/rude.sock; exit 0' TERM; sleep 1000 & wait\"]\nready = \"exec\"\nlisten = { main = { address = \"unix:DIR/rude.sock\", mode = \"0640\" } }\nsettle = \"20ms\"\n";
    let mut m = setup(pools).start().ready();
    let (path, rude) = (m.setup.path("a.sock"), m.setup.path("rude.sock"));
    let inode = |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let (before, workers) = (inode(&path), m.pids("a"));
    m.log.wait_until("both are good", || m.worker("a", 1)["state"].as_str().filter(|s| *s == "good").map(drop));
    for order in ["usr1", "death"] {
        std::fs::remove_file(&path).unwrap();
        match order {
            "usr1" => m.signal(libc::SIGUSR1),
            _ => kill(workers[1], libc::SIGKILL),
        }
        m.log.wait_until("its name", || path.exists().then_some(()));
        assert_eq!(inode(&path), before, "{order}");
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(m.pids("a").contains(&workers[0]));
    m.ok(&["health"]);
    // At each stop, by the worker itself.
    for _ in 0..3 {
        m.ok(&["restart", "rude"]);
        m.log.wait_until("its name", || rude.exists().then_some(()));
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&rude).unwrap().permissions()) & 0o777, 0o640);
        UnixStream::connect(&rude).unwrap();
    }
    // Also that of the socket which a reload has made in its place: the old worker removes it as it goes.
    for n in 1..=2 {
        let before = inode(&rude);
        [rude.clone(), m.setup.path("rude.sock.spare")].iter().for_each(|path| std::fs::remove_file(path).unwrap());
        m.ok(&["reload"]);
        m.log.wait_for("the file of unix:", 3 + n);
        m.log.wait_until("its name", || rude.exists().then_some(()));
        assert_ne!(inode(&rude), before, "made anew");
        m.log.wait_until("the old one is gone", || (m.pool("rude")["live"] == 1).then_some(()));
        UnixStream::connect(&rude).unwrap();
    }
    // What somebody else has put there is his.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    m.signal(libc::SIGUSR1);
    m.log.wait_for("somebody put another file in the place of", 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    m.signal(libc::SIGUSR1);
    m.log.wait_until("its name", || path.exists().then_some(()));
    assert_eq!(m.stop(), 0);
    for name in ["a.sock", "a.sock.spare", "a.sock.lock", "rude.sock", "rude.sock.spare", "rude.sock.lock"] {
        assert!(!m.setup.path(name).exists(), "{name}");
    }
}

/// A worker that shuts down the socket which all share: nobody comes in, `health` says so, and a reload opens it again.
#[test]
fn a_listener_that_a_worker_has_shut_down_is_told_and_opened_again_by_a_reload() {
    let port = free_port();
    let pools = format!(
        "[pool.tcp]\ncommand = [\"sh\", \"-c\", \"mkdir DIR/tcp && wrong=--shutdown-listener; exec POOLMASTER worker $wrong\"]\nready = \"notify\"\nlisten = \"127.0.0.1:{port}\"\nsettle = \"20ms\"\n\
         [pool.unix]\ncommand = [\"sh\", \"-c\", \"mkdir DIR/unix && wrong=--shutdown-listener; exec POOLMASTER worker $wrong\"]\nready = \"notify\"\nlisten = \"unix:DIR/a.sock\"\nsettle = \"20ms\"\n"
    );
    let mut m = setup(&pools).start().answering();
    for pool in ["tcp", "unix"] {
        let told = m.log.wait_until("told", || {
            let said = m.cli(&["health", pool]);
            let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            said.contains("has shut").then_some(said)
        });
        assert!(told.contains("it takes no connection; `poolmaster reload` opens it again"), "{told}");
    }
    m.ok(&["reload"]);
    m.ok(&["restart"]);
    m.ok(&["health"]);
    assert!(get(port, "/").unwrap().contains("200 OK"));
    let mut stream = UnixStream::connect(m.setup.path("a.sock")).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

/// The folder of the log: what is told while it is gone goes to stderr, and the next `reopen`, USR1 or reload after it is back logs there again.
#[test]
fn the_folder_of_the_log_and_the_working_directory_are_missed_and_told() {
    let pools = "[pool.a]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nworking_dir = \"DIR/here\"\nsettle = \"20ms\"\nrestart = { backoff = { base = \"50ms\" } }\n";
    let s = setup(pools).master(r#"log = { file = "DIR/logs/log" }"#);
    let (logs, here) = (s.path("logs"), s.path("here"));
    std::fs::create_dir(&logs).unwrap();
    std::fs::create_dir(&here).unwrap();
    let mut m = s.start().answering();
    let in_file = || std::fs::read_to_string(logs.join("log")).unwrap_or_default();
    m.wait_state("a", 0, "good");
    for (order, by_others) in
        [("usr1", false), ("hup", false), ("reopen", false), ("reload", false), ("hup", true), ("reload", true)]
    {
        let gives = |m: &Master| match order {
            "usr1" => m.signal(libc::SIGUSR1),
            "hup" => m.signal(libc::SIGHUP),
            _ => drop(m.cli(&[order])),
        };
        std::fs::remove_dir_all(&logs).unwrap();
        let told = m.log.count("cannot reopen the log file");
        gives(&m);
        m.log.wait_for("cannot reopen the log file", told + 1);
        m.log.wait_for("log lines go to stderr until its folder is there again", told + 1);
        if order == "reopen" {
            assert!(m.code(1, &["reopen"]).contains("cannot reopen the log file"));
        }
        std::fs::create_dir(&logs).unwrap();
        if by_others {
            // Whoever made the folder made the file as well.
            std::fs::write(logs.join("log"), "").unwrap();
        }
        gives(&m);
        m.log.wait_until("the log goes there again", || in_file().contains("log file reopened: ").then_some(()));
        m.ok(&["scale", "a", "1"]);
        m.log.wait_until("the reload is done", || {
            (m.request("{\"method\":\"status\"}")["parameters"]["reload"].is_null()).then_some(())
        });
    }
    // The working directory: a worker that has it lives on, the next one fails and says why, and comes once it is back.
    let pid = m.wait_state("a", 0, "good");
    std::fs::remove_dir(&here).unwrap();
    kill(pid, libc::SIGKILL);
    let missed = format!("{}", here.display());
    m.log.wait_until("told", || {
        in_file().lines().any(|line| line.contains(&missed) && line.contains("no such file")).then_some(())
    });
    let told = m.code(1, &["health"]);
    assert!(told.contains(&missed), "{told}");
    assert!(m.ok(&["status", "--json"]).contains(&missed));
    std::fs::create_dir(&here).unwrap();
    m.ok(&["retry", "a"]);
    m.wait_state("a", 0, "good");
    m.ok(&["health"]);
    assert_eq!(m.stop(), 0);
}
