//! Control clients that stall, flood, send junk, do not read, die early, or may not: each costs itself only.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::*;

/// More than any round trip should take on a busy host, much less than any timeout.
const SOON: Duration = Duration::from_secs(2);
/// The most that a hostile client may add to the master's memory, in KiB.
const COST: u64 = 8 * 1024;

fn master() -> Master {
    let m = setup(
        r#"
        [pool.web]
        command = "sleep 1000"
        workers = 2
        settle = "0s"
        "#,
    );
    m.start().ready()
}

/// Whatever goes on beside it: others are served at once, a dead worker is replaced at once.
fn assert_undisturbed(m: &Master) {
    let start = Instant::now();
    m.ok(&["status"]);
    assert!(start.elapsed() < SOON, "status took {:?}", start.elapsed());
    let worker = m.pids("web")[0];
    let start = Instant::now();
    kill(worker, libc::SIGKILL);
    m.log.wait_until("its replacement", || (m.pids("web").len() == 2 && !m.pids("web").contains(&worker)).then_some(()));
    assert!(start.elapsed() < SOON, "a replacement took {:?}", start.elapsed());
}

#[test]
fn hundreds_of_clients_that_stall_keep_nobody_out() {
    let m = master();
    let before = fds(m.pid()).len();
    let stalled: Vec<UnixStream> = (0..300)
        .map(|i| {
            let mut stream = UnixStream::connect(&m.socket).unwrap();
            if i % 2 == 0 {
                let _ = stream.write_all(br#"{"method":"sta"#);
            }
            stream
        })
        .collect();
    assert_undisturbed(&m);
    m.ok(&["scale", "web", "+1"]);
    m.log.wait_for("256 control clients at once: the longest idle control client was closed for a new one", 1);
    assert!(fds(m.pid()).len() < before + 256 + 16, "{:?}", fds(m.pid()));
    assert!(m.log.count("the longest idle") <= 5, "and that is not told each time");
    drop(stalled);
    m.log.wait_until("their descriptors are closed", || (fds(m.pid()).len() <= before + 2 + 4).then_some(()));
}

#[test]
fn a_flood_of_requests_is_answered_in_order_and_delays_nobody() {
    let m = master();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = |method: &'static str| {
            let (m, stop) = (&m, &stop);
            scope.spawn(move || {
                let mut client = m.client();
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) || rounds == 0 {
                    let batch = format!("{{\"method\":\"{method}\"}}\n{{\"method\":\"nonsense{rounds}\"}}\n").repeat(200);
                    let mut out = client.stream.try_clone().unwrap();
                    let writer = std::thread::spawn(move || out.write_all(batch.as_bytes()).unwrap());
                    for _ in 0..200 {
                        assert!(client.reply().unwrap()["error"].is_null());
                        let unknown = client.reply().unwrap();
                        assert_eq!(unknown["error"], "org.poolmaster.UnknownMethod");
                        assert!(unknown["parameters"]["message"].as_str().unwrap().contains(&format!("nonsense{rounds}\"")));
                    }
                    writer.join().unwrap();
                    rounds += 1;
                }
            })
        };
        let floods = [flood("status"), flood("ps"), flood("info"), flood("listeners")];
        for _ in 0..3 {
            assert_undisturbed(&m);
        }
        stop.store(true, Ordering::Relaxed);
        floods.into_iter().for_each(|f| f.join().unwrap());
    });
}

#[test]
fn orders_that_nobody_waits_for_come_by_the_thousand() {
    let m = master();
    let mut client = m.client();
    let order = "{\"method\":\"scale\",\"parameters\":{\"pool\":\"web\",\"change\":\"2\",\"wait\":false}}\n";
    let mut out = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || out.write_all(order.repeat(3000).as_bytes()).unwrap());
    for n in 0..3000 {
        let reply = client.reply().unwrap_or_else(|| panic!("closed after {n} replies"));
        assert!(reply["error"].is_null(), "{reply}");
    }
    writer.join().unwrap();
    assert_undisturbed(&m);
}

#[test]
fn an_endless_line_is_cut_off_after_64_kib() {
    let m = master();
    assert_undisturbed(&m);
    let before = rss_kib(m.pid());
    std::thread::scope(|scope| {
        let endless: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = m.client();
                    let piece = vec![b'x'; 64 * 1024];
                    // 64 MiB, if one lets it.
                    let sent = (0..1024).take_while(|_| client.stream.write_all(&piece).is_ok()).count() * piece.len();
                    let reply = client.reply().unwrap();
                    assert_eq!(reply["error"], "org.poolmaster.BadMessage", "{reply}");
                    client.assert_closed();
                    sent
                })
            })
            .collect();
        assert_undisturbed(&m);
        for sent in endless.into_iter().map(|t| t.join().unwrap()) {
            // What the socket itself holds comes on top of the 64 KiB.
            assert!(sent <= 1024 * 1024, "{sent} bytes were taken");
        }
    });
    assert!(rss_kib(m.pid()) < before + COST, "from {before} to {} KiB", rss_kib(m.pid()));
}

#[test]
fn a_client_that_closed_only_its_sending_side_gets_its_answers() {
    let m = master();
    let mut client = m.client();
    // The second takes its time: the worker has to be started first. The last has no newline.
    client.send(b"{\"method\":\"info\"}\n{\"method\":\"scale\",\"parameters\":{\"pool\":\"web\",\"change\":\"+1\"}}\n{\"method\":\"info\"}\n{\"meth");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.reply().unwrap()["parameters"]["instance"], "t");
    assert_eq!(client.reply().unwrap()["parameters"]["code"], 0);
    assert_eq!(m.pids("web").len(), 3, "answered when it is true");
    assert_eq!(client.reply().unwrap()["parameters"]["instance"], "t");
    client.assert_closed();
    // Dozens behind one another, more than are served in one go.
    let mut client = m.client();
    client.send("{\"method\":\"info\"}\n".repeat(100).as_bytes());
    client.stream.shutdown(Shutdown::Write).unwrap();
    for _ in 0..100 {
        assert_eq!(client.reply().unwrap()["parameters"]["instance"], "t");
    }
    client.assert_closed();
}

#[test]
fn clients_that_never_read_cost_a_bounded_amount() {
    let m = master();
    assert_undisturbed(&m);
    let before = rss_kib(m.pid());
    let requests = "{\"method\":\"status\",\"parameters\":{\"workers\":true}}\n".repeat(1000);
    let deaf: Vec<UnixStream> = (0..8)
        .map(|_| {
            let mut stream = UnixStream::connect(&m.socket).unwrap();
            // As much as it takes: until the master does not read any more.
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            assert!((0..1000).any(|_| stream.write_all(requests.as_bytes()).is_err()), "the master reads on and on");
            stream
        })
        .collect();
    assert_undisturbed(&m);
    let after = rss_kib(m.pid());
    assert!(after < before + COST, "from {before} to {after} KiB");
    // They get what they asked for once they read.
    let mut client = deaf.into_iter().next().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(drain(&mut client) > 1_000_000);
    assert_undisturbed(&m);
}

#[test]
fn junk_is_answered_in_words_or_closed() {
    let m = master();
    for junk in [
        &b"junk\n"[..],
        b"\xff\xfe\x00\x01\n",
        b"\x00\x00\x00\x00\n",
        b"[]\n",
        b"null\n",
        b"{}\n",
        b"{\"method\":7}\n",
        b"{\"method\":\"status\",\"parameters\":[1]}\n",
        b"{\"method\":\"status\",\"parameters\":{\"pol\":\"web\"}}\n",
        b"{\"method\":\"scale\",\"parameters\":{\"pool\":\"nope\",\"change\":\"+1\"}}\n",
        b"{\"method\":\"scale\",\"parameters\":{\"pool\":\"web\",\"change\":\"+99999999999999999999\"}}\n",
        b"{\"method\":\"kill\",\"parameters\":{\"target\":\"web:9\",\"signal\":15}}\n",
        b"{\"method\":\"\x1b[2J\"}\n",
        b"GET / HTTP/1.1\r\n",
    ] {
        let mut client = m.client();
        client.send(junk);
        let reply = client.reply().unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(junk)));
        assert!(reply["error"].as_str().unwrap().starts_with("org.poolmaster."), "{reply}");
        assert!(!reply["parameters"]["message"].as_str().unwrap().is_empty(), "{reply}");
        // The line was wrong, the connection is not.
        client.send(b"{\"method\":\"info\"}\n");
        assert_eq!(client.reply().unwrap()["parameters"]["instance"], "t", "after {}", String::from_utf8_lossy(junk));
    }
    // Deep nesting must not end the stack.
    let mut client = m.client();
    client.send(format!("{}\n", "[".repeat(60_000)).as_bytes());
    assert_eq!(client.reply().unwrap()["error"], "org.poolmaster.BadMessage");
    client.send(format!("{{\"method\":\"info\",\"parameters\":{}}}\n", "{\"a\":".repeat(10_000)).as_bytes());
    assert!(client.reply().unwrap()["error"].is_string());
    assert_undisturbed(&m);
}

#[test]
fn a_client_that_dies_while_its_order_is_pending_leaves_the_work_going_on() {
    let m = setup(
        r#"
        [pool.web]
        command = "POOLMASTER worker --slow-start 500ms"
        ready = "notify"
        "#,
    )
    .start()
    .ready();
    let before = fds(m.pid()).len();
    for _ in 0..10 {
        let mut waiting = m.client();
        waiting.send(b"{\"method\":\"wait\",\"parameters\":{\"pool\":\"web\",\"for\":\"stopped\"}}\n");
    }
    let mut client = m.client();
    client.send(b"{\"method\":\"scale\",\"parameters\":{\"pool\":\"web\",\"change\":\"+1\"}}\n");
    m.log.wait_for("scaled from 1 to 2", 1);
    drop(client);
    m.wait_count("web", 2);
    // Each worker holds its notify socket and its stderr.
    m.log.wait_until("the descriptors of the dead are closed", || (fds(m.pid()).len() <= before + 2).then_some(()));
    m.ok(&["stop", "web"]);
}

#[test]
fn no_verb_waits_behind_another() {
    let m = master();
    let mut waiting = m.client();
    waiting.send(b"{\"method\":\"wait\",\"parameters\":{\"pool\":\"web\",\"for\":\"stopped\"}}\n");
    assert_undisturbed(&m);
    m.ok(&["restart", "web"]);
    m.ok(&["stop", "web"]);
    assert_eq!(waiting.reply().unwrap()["parameters"]["code"], 0);
}

/// The verb, run as somebody else.
fn as_nobody(m: &Master, program: &std::path::Path, args: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(program)
        .args(args)
        .arg("--socket")
        .arg(&m.socket)
        .uid(65_534)
        .gid(65_534)
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (out.status.code(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn other_users_are_refused() {
    if !is_root() {
        return skip("other_users_are_refused", "needs root, to run a client as another user");
    }
    let m = master();
    let program = binary_for_all(m.setup.dir.path());
    let (code, words) = as_nobody(&m, &program, &["status"]);
    assert_eq!(code, Some(6), "{words}");
    assert!(words.to_lowercase().contains("permi"), "{words}");
    assert_eq!(m.log.count("turned away"), 0, "the mode of the socket kept it out");
    drop(m);

    let open = |master: &str| {
        let s = setup("[pool.web]\ncommand = \"sleep 1000\"\nworkers = 2\n");
        s.master("log = { level = \"debug\" }\nsocket_mode = \"0666\"").master(master).start().ready()
    };
    let m = open("");
    let program = binary_for_all(m.setup.dir.path());
    for args in [&["status"][..], &["scale", "web", "+1"], &["shutdown"]] {
        let (code, words) = as_nobody(&m, &program, args);
        assert_eq!(code, Some(6), "{args:?}: {words}");
        assert!(words.contains("uid 65534 may not control this master"), "{words}");
    }
    m.log.wait_for("a control client was turned away", 3);
    assert_eq!(m.pids("web").len(), 2);
    drop(m);

    let m = open("socket_users = [65534]");
    let program = binary_for_all(m.setup.dir.path());
    let (code, words) = as_nobody(&m, &program, &["scale", "web", "+1"]);
    assert_eq!(code, Some(0), "{words}");
    m.log.wait_for("uid 65534", 1);
}

/// An order that waits is answered, whoever else comes; who finds no place is told so.
#[test]
fn no_order_that_waits_makes_room_for_another_client() {
    let mut m = setup("[pool.web]\ncommand = \"sleep 1000\"\nready = \"exec\"\n[pool.never]\ncommand = \"sleep 1000\"\nready = \"notify\"\nstart_timeout = \"1h\"\n").start().answering();
    m.wait_count("web", 1);
    let wait = b"{\"method\":\"wait\",\"parameters\":{\"pool\":\"never\",\"for\":\"ready\",\"timeout_ms\":8000}}\n";
    let mut waiting: Vec<_> = (0..256).map(|_| m.client()).collect();
    waiting.iter_mut().for_each(|client| client.send(wait));
    // The verb itself tries again for a while, and is told in the end.
    let said = m.code(1, &["status", "--timeout", "300ms"]);
    assert!(said.contains("no place for another client"), "{said}");
    // Told plainly, with the schema's error, not cut off.
    let said = m.log.wait_until("no place", || {
        let mut late = m.client();
        // It may be closed already: what counts is what it was told.
        let _ = late.stream.write_all(b"{\"method\":\"info\"}\n");
        late.reply().filter(|reply| reply["error"] == "org.poolmaster.Busy")
    });
    assert_eq!(said["parameters"]["code"], 1, "{said}");
    assert!(said["parameters"]["message"].as_str().unwrap().contains("no place for another client"), "{said}");
    // One that waits for nothing does make room.
    drop(waiting.pop());
    let mut idle = m.log.wait_until("a place", || {
        let mut idle = m.client();
        idle.send(b"{\"method\":\"info\"}\n");
        idle.reply().filter(|reply| reply.get("error").is_none()).map(|_| idle)
    });
    m.ok(&["status"]);
    idle.assert_closed();
    for client in &mut waiting {
        assert_eq!(client.reply().expect("an answer")["error"], "org.poolmaster.TimedOut");
    }
    assert_eq!(m.stop(), 0);
}

#[test]
fn idle_clients_make_room_where_descriptors_are_short() {
    let s = setup("[pool.web]\ncommand = \"sleep 1000\"\nready = \"exec\"\nlog.stderr = \"null\"\n");
    let mut m = s.pre_exec(|| limit(libc::RLIMIT_NOFILE, 64, 64)).start().answering();
    m.wait_count("web", 1);
    let idle: Vec<_> = (0..80).map(|_| UnixStream::connect(&m.socket).unwrap()).collect();
    for _ in 0..3 {
        m.ok(&["status"]);
    }
    m.log.wait_for("no descriptor is left (ulimit -n): the longest idle control client was closed for a new one", 1);
    // Where all of them wait, the next one is told.
    drop(idle);
    let wait = b"{\"method\":\"wait\",\"parameters\":{\"pool\":\"web\",\"for\":\"stopped\",\"timeout_ms\":5000}}\n";
    let mut waiting = Vec::new();
    let said = m.log.wait_until("no place", || {
        let mut client = m.client();
        client.send(wait);
        waiting.push(client);
        let mut late = m.client();
        // It may be closed already: what counts is what it was told.
        let _ = late.stream.write_all(b"{\"method\":\"info\"}\n");
        late.reply().filter(|reply| reply["error"] == "org.poolmaster.Busy")
    });
    assert!(said["parameters"]["message"].as_str().unwrap().contains("ulimit -n"), "{said}");
    for client in &mut waiting {
        let reply = client.reply().expect("an answer");
        assert!(reply["error"] == "org.poolmaster.TimedOut" || reply["error"] == "org.poolmaster.Busy", "{reply}");
    }
    assert_eq!(m.stop(), 0);
}

/// Lines that others can have written as often as they like are some, and then a count.
#[test]
fn lines_from_outside_are_some_and_then_a_count() {
    let mut m =
        // With such a listener no second master is started.
        setup("[pool.web]\ncommand = \"sleep 1000\"\nready = \"exec\"\nlisten.main = { address = \"127.0.0.1:0\", reuseport = true }\n")
            .master("socket_mode = \"0666\"")
            .start()
            .ready();
    for n in 1..=40 {
        m.signal(libc::SIGUSR2);
        m.signal(libc::SIGURG);
        // Each is taken by itself: they would merge.
        m.log.wait_until("taken", || (proc_status(m.pid())["ShdPnd"].trim_matches('0').is_empty()).then_some(()));
        if n == 1 {
            m.log.wait_for("SIGUSR2", 1);
            m.log.wait_for("SIGURG", 1);
        }
    }
    m.ok(&["status"]);
    assert!(m.log.count("SIGUSR2") <= 5 && m.log.count("SIGURG") <= 5, "{}", m.log.text());
    if is_root() {
        let dir = m.socket.parent().unwrap();
        for folder in dir.ancestors().take(2) {
            let _ = std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o711));
        }
        let socket = m.socket.clone();
        let stranger = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    // SAFETY: a plain call; the raw one, which is for this thread alone.
                    unsafe { libc::syscall(libc::SYS_setresuid, 54_321, 54_321, 54_321) };
                    (0..200).filter(|_| UnixStream::connect(&socket).is_ok()).count()
                })
                .join()
                .unwrap()
        });
        assert!(stranger > 100, "{stranger}");
        assert!(m.log.count("turned away") <= 5, "{}", m.log.text());
        m.log.wait_for("of the last 10s not shown: control clients of uid 54321 turned away", 1);
    }
    m.log.wait_for("of the last 10s not shown: times SIGUSR2", 1);
    assert_eq!(m.stop(), 0);
}

/// What `socket_users` promises it keeps by itself: they come in, find the master, and nobody else does.
#[test]
fn socket_users_need_no_other_key() {
    if !is_root() {
        return skip("socket_users_need_no_other_key", "needs root");
    }
    let mut m = setup("[pool.web]\ncommand = \"sleep 1000\"\n").master("socket_users = [54321]").start().ready();
    let shared = tempfile::tempdir().unwrap();
    for folder in [shared.path(), m.setup.dir.path()] {
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let binary = shared.path().join("poolmaster");
    std::fs::copy(POOLMASTER, &binary).unwrap();
    let run = m.socket.parent().unwrap().to_owned();
    let ask = |uid: u32, words: &[&str]| {
        let mut command = std::process::Command::new(&binary);
        command.args(words).env_clear().env("POOLMASTER_RUNTIME_DIR", &run).current_dir("/");
        let out = std::os::unix::process::CommandExt::uid(&mut command, uid).gid(uid).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let scale = ["scale", "web", "+1"];
    assert_eq!(ask(54_321, &scale), (Some(0), String::new()));
    let (code, said) = ask(54_322, &scale);
    assert!(code == Some(6) && said.contains("uid 54322 may not control this master"), "{said}");
    m.log.wait_for("a control client was turned away", 1);
    // Added and taken away by a reload.
    let text = std::fs::read_to_string(&m.config).unwrap();
    std::fs::write(&m.config, text.replace("[54321]", "[54321, 54322]")).unwrap();
    m.ok(&["reload"]);
    assert_eq!(ask(54_322, &scale), (Some(0), String::new()));
    std::fs::write(&m.config, text.replace("socket_users = [54321]", "")).unwrap();
    m.ok(&["reload"]);
    // The folder is closed to them again, as well as the socket.
    assert_eq!(ask(54_321, &scale).0, Some(4));
    let socket = m.socket.display().to_string();
    assert_eq!(ask(54_321, &[&scale[..], &["--socket", &socket]].concat()).0, Some(6));
    assert_eq!(m.stop(), 0);
}

/// A folder of somebody's own is not opened to others because a key names users: they are told what is in the way.
#[test]
fn socket_users_open_no_folder_but_the_masters_own() {
    let mode =
        |path: &std::path::Path| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777;
    let close = |path: &std::path::Path| {
        std::fs::create_dir(path).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    };
    let s = setup("[pool.web]\ncommand = \"sleep 1000\"\n").master("socket_users = [54321]\nsocket = \"DIR/home/x.sock\"");
    let home = s.path("home");
    close(&home);
    let mut m = s.start();
    m.log.wait_for("the users of master.socket_users cannot reach", 1);
    m.log.wait_for("ready: ", 1);
    assert_eq!(mode(&home), 0o700);
    kill(m.pid(), libc::SIGTERM);
    assert_eq!(m.ends(), 0);
    // Its own it opens, and closes again as it leaves.
    let s = setup("[pool.web]\ncommand = \"sleep 1000\"\n").master("socket_users = [54321]");
    let run = s.path("run");
    close(&run);
    let mut m = s.start().ready();
    assert_eq!(mode(&run), 0o755);
    assert_eq!(m.stop(), 0);
    assert_eq!(mode(&run), 0o700);
}
