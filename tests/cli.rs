//! The command line against a scripted master: how it is found, what is asked, what is shown, which code comes back.
#![allow(clippy::disallowed_methods, reason = "a test starts processes and threads")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use poolmaster::client::{Search, locate};

/// What the scripted master does with one connection.
enum Act {
    /// It tells that it runs this config, and does the rest at the next request.
    Of(PathBuf, Box<Act>),
    /// Reads a request, sends these bytes, closes.
    Say(Vec<u8>),
    /// Sends these bytes without reading, closes.
    Refuse(&'static str),
    /// Reads a request, then nothing, until the client gives up.
    Stall,
    /// Reads a request, sends a byte now and then, until the client gives up.
    Dribble,
}

/// A listener in a thread that takes as many connections as its script has acts.
struct Master {
    path: PathBuf,
    thread: JoinHandle<Vec<String>>,
}

impl Master {
    fn on(path: &Path, script: Vec<Act>) -> Master {
        let listener = UnixListener::bind(path).unwrap();
        let thread =
            std::thread::spawn(move || script.into_iter().map(|act| serve(&listener.accept().unwrap().0, act)).collect());
        Master { path: path.to_owned(), thread }
    }

    /// The requests that came.
    fn asked(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

fn serve(mut stream: &UnixStream, act: Act) -> String {
    let mut request = String::new();
    if !matches!(act, Act::Refuse(_)) {
        BufReader::new(stream).read_line(&mut request).unwrap();
    }
    match act {
        Act::Say(bytes) => stream.write_all(&bytes).unwrap_or_default(),
        Act::Of(config, act) => {
            assert!(request.contains("\"info\""), "{request}");
            let config = config.display();
            let info = format!("{{\"instance\":\"t\",\"version\":\"1\",\"pid\":7,\"config\":\"{config}\"}}");
            stream.write_all(format!("{{\"parameters\":{info}}}\n").as_bytes()).unwrap();
            return serve(stream, *act);
        }
        Act::Refuse(text) => stream.write_all(text.as_bytes()).unwrap(),
        Act::Stall => {
            let _ = stream.read(&mut [0]);
        }
        Act::Dribble => {
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            while stream.write_all(b" ").is_ok() && !matches!(stream.read(&mut [0]), Ok(0)) {}
        }
    }
    request.trim_end().to_owned()
}

fn say(parameters: &str) -> Act {
    Act::Say(format!("{{\"parameters\":{}}}\n", parameters.replace('\n', "")).into_bytes())
}

fn done(message: &str) -> Act {
    say(&format!("{{\"code\":0,\"message\":\"{message}\"}}"))
}

fn fails(name: &str, code: u8, message: &str) -> Act {
    let text = format!("{{\"error\":\"org.poolmaster.{name}\",\"parameters\":{{\"code\":{code},\"message\":\"{message}\"}}}}\n");
    Act::Say(text.into_bytes())
}

/// What a run of the program left.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn last_line(&self) -> &str {
        self.err.lines().last().unwrap_or_default()
    }
}

fn program(words: &[&str], env: &[(&str, &Path)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolmaster"));
    command.args(words).env_clear().envs(env.iter().copied()).stdin(Stdio::null());
    command
}

fn finish(command: &mut Command) -> Ran {
    let output = loop {
        match command.output() {
            // A copied program is still open for writing in a child that another test is just starting.
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => break output.unwrap(),
        }
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs the program against one master with this script; also gives what was asked.
fn against(script: Vec<Act>, words: &[&str]) -> (Ran, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::on(&dir.path().join("shop.sock"), script);
    let ran = finish(&mut program(words, &[("POOLMASTER_SOCKET", &master.path)]));
    (ran, master.asked())
}

fn show(parameters: &str, words: &[&str]) -> Ran {
    against(vec![say(parameters)], words).0
}

// ---- requests ----

#[test]
fn words_become_requests() {
    for (words, request) in [
        (&["scale", "web", "+1"][..], r#"{"method":"scale","parameters":{"pool":"web","change":"+1"}}"#),
        (&["scale", "web", "-2"], r#"{"method":"scale","parameters":{"pool":"web","change":"-2"}}"#),
        (&["scale", "--no-wait", "web", "6"], r#"{"method":"scale","parameters":{"pool":"web","change":"6","wait":false}}"#),
        (
            &["scale", "web", "50%", "--timeout", "2s"],
            r#"{"method":"scale","parameters":{"pool":"web","change":"50%","timeout_ms":2000}}"#,
        ),
        (
            &["scale", "web", "-2", "--timeout", "2s"],
            r#"{"method":"scale","parameters":{"pool":"web","change":"-2","timeout_ms":2000}}"#,
        ),
        (
            &["--timeout", "3", "scale", "web", "config"],
            r#"{"method":"scale","parameters":{"pool":"web","change":"config","timeout_ms":3000}}"#,
        ),
        (&["stop", "web", "jobs"], r#"{"method":"stop","parameters":{"pools":["web","jobs"]}}"#),
        (&["stop", "all"], r#"{"method":"stop","parameters":{"pools":["all"]}}"#),
        (&["start", "all", "--no-wait"], r#"{"method":"start","parameters":{"pools":["all"],"wait":false}}"#),
        (&["restart"], r#"{"method":"restart","parameters":{"targets":["all"]},"more":true}"#),
        (&["restart", "web:3", "jobs"], r#"{"method":"restart","parameters":{"targets":["web:3","jobs"]},"more":true}"#),
        (&["restart", "web", "--json"], r#"{"method":"restart","parameters":{"targets":["web"]}}"#),
        (&["kill", "web:3"], r#"{"method":"kill","parameters":{"target":"web:3","signal":"SIGTERM"}}"#),
        (&["kill", "-s", "usr1", "web"], r#"{"method":"kill","parameters":{"target":"web","signal":"SIGUSR1"}}"#),
        (&["kill", "-s", "35", "all"], r#"{"method":"kill","parameters":{"target":"all","signal":"SIGRTMIN+1"}}"#),
        (&["wait", "web", "--for", "count=3"], r#"{"method":"wait","parameters":{"pool":"web","for":"count=3"}}"#),
        (&["retry", "jobs"], r#"{"method":"retry","parameters":{"pool":"jobs"}}"#),
        (&["reload"], r#"{"method":"reload","parameters":{},"more":true}"#),
        (&["reload", "--abort"], r#"{"method":"abort","parameters":{}}"#),
        (
            &["reload", "--restart", "--pool", "web", "--pool", "new"],
            r#"{"method":"reload","parameters":{"restart":true,"pools":["web","new"]},"more":true}"#,
        ),
        (&["rollback", "--no-wait"], r#"{"method":"rollback","parameters":{"wait":false}}"#),
        (&["reopen"], r#"{"method":"reopen"}"#),
        (&["shutdown", "--now"], r#"{"method":"shutdown","parameters":{"now":true}}"#),
    ] {
        let (ran, asked) = against(vec![done("as ordered")], words);
        assert_eq!(asked, [request], "{words:?}");
        let out = if words.contains(&"--json") { ran.out.contains("as ordered") } else { ran.out == "as ordered\n" };
        assert_eq!((ran.code, out, ran.err.as_str()), (0, true, ""), "{words:?}: {}", ran.out);
    }
}

#[test]
fn wrong_usage_is_code_2_and_says_what_would_be_right() {
    for (words, part) in [
        (&["stop"][..], "to end the master itself: `poolmaster shutdown`"),
        (&["stop", "all", "web"], "`all` stands alone"),
        (&["stop", "web:1"], "not slots"),
        (&["scale", "web"], "required arguments were not provided"),
        (&["scale", "web", "-50%"], "a percentage is of `scale.max` and has no sign"),
        (&["scale", "web", "lots"], "use +1, -2, 6, 50%"),
        (&["scale", "web", "100000000"], "at most 1000000 workers can be asked for at once"),
        (&["scale", "all", "+1"], "one pool is meant here"),
        (&["completions", "tcsh"], "[possible values: bash, elvish, fish, zsh]"),
        (&["init", "--for", "cobol"], "[possible values: any, uvicorn, "),
        (&["--json", "init"], "`init` talks to no running master"),
        (&["scale", "web", "-2", "-3"], "unexpected argument"),
        (&["kill", "-s", "NOPE", "web"], "is not a signal"),
        (&["kill", "web:x"], "a slot is a number"),
        (&["wait", "web"], "--for"),
        (&["wait", "web", "--for", "rain"], "one can wait for `ready`, `stopped`, `settled` or `count=N`"),
        (&["status", "--timeout", "soon"], "write 500ms, 30s"),
        (&["--socket", "/x", "check"], "`check` talks to no running master"),
        (&["stats"], "'status'"),
        (&[], "Usage: poolmaster"),
    ] {
        let ran = finish(&mut program(words, &[]));
        assert_eq!(ran.code, 2, "{words:?}: {ran:?}");
        assert!(ran.err.contains(part), "{words:?}: {}", ran.err);
        let last = ran.last_line();
        assert!(last.starts_with("poolmaster: usage or config error") && last.ends_with("(exit code 2)"), "{words:?}: {last}");
        assert_eq!(ran.out, "", "{words:?}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let version = finish(&mut program(&["--version"], &[]));
    assert_eq!((version.code, version.out.as_str()), (0, "poolmaster 0.1.0\n"));
    let help = finish(&mut program(&["help"], &[]));
    assert!(help.code == 0 && help.out.contains("Everyday:\n") && !help.out.contains('\x1b'), "{help:?}");
    let scale = finish(&mut program(&["help", "scale"], &[]));
    assert!(scale.code == 0 && scale.out.contains("poolmaster scale web -2"), "{scale:?}");
}

// ---- exit codes ----

#[test]
fn every_answer_has_its_code_and_its_words() {
    for (name, code, last) in [
        ("Failed", 1, "failed"),
        ("NotFound", 2, "usage or config error, nothing was changed"),
        ("RolledBack", 3, "rolled back, or superseded by a newer order"),
        ("TimedOut", 5, "timed out, the work goes on"),
        ("NotPermitted", 6, "not permitted"),
        ("Refused", 7, "refused, nothing was changed"),
        ("Internal", 70, "internal error, please report it"),
        ("FromTheFuture", 99, "failed"),
    ] {
        let (ran, _) = against(vec![fails(name, code, "pool web: because")], &["scale", "web", "+1"]);
        let code = if code == 99 { 1 } else { i32::from(code) };
        assert_eq!(ran.code, code, "{name}");
        assert!(ran.err.contains("pool web: because"), "{name}: {}", ran.err);
        assert_eq!(ran.last_line(), format!("poolmaster: {last} (exit code {code})"), "{name}");
        assert_eq!(ran.out, "", "{name}");
    }
}

#[test]
fn with_json_errors_are_json_too() {
    let (ran, _) = against(vec![fails("Refused", 7, "max")], &["scale", "web", "+1", "--json"]);
    assert_eq!(ran.code, 7);
    assert_eq!(ran.out, "{\"error\":\"org.poolmaster.Refused\",\"parameters\":{\"code\":7,\"message\":\"max\"}}\n");
    let ran = finish(&mut program(&["status", "--json", "--socket", "/nowhere/at/all"], &[]));
    assert!(ran.code == 4 && ran.out.starts_with("{\"error\":\"org.poolmaster.NoMaster\""), "{ran:?}");
}

#[test]
fn a_stalled_master_costs_no_more_than_the_timeout() {
    for act in [Act::Stall, Act::Dribble] {
        let before = Instant::now();
        let (ran, _) = against(vec![act], &["status", "--timeout", "200ms"]);
        assert_eq!(ran.code, 5, "{ran:?}");
        assert!(ran.err.contains("did not answer within 200ms"), "{}", ran.err);
        assert_eq!(ran.last_line(), "poolmaster: timed out, the work goes on (exit code 5)");
        assert!((Duration::from_millis(200)..Duration::from_secs(4)).contains(&before.elapsed()), "{:?}", before.elapsed());
    }
    let (ran, asked) = against(vec![Act::Stall], &["scale", "web", "+1", "--timeout", "100ms"]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(asked[0].contains("\"timeout_ms\":100"), "{asked:?}");
}

#[test]
fn a_master_that_takes_no_connection_is_told_as_stalled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // listen(2) again on the same socket shortens its queue; one connection fills it.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _queued = UnixStream::connect(&path).unwrap();
    let ran = finish(&mut program(&["status", "--timeout", "200ms"], &[("POOLMASTER_SOCKET", &path)]));
    assert!(ran.code == 5 && ran.err.contains("took no connection within 200ms"), "{ran:?}");
}

#[test]
fn garbage_from_the_master_is_a_clear_error() {
    for (bytes, part) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "does not speak poolmaster's protocol"),
        (b"\xff\xfe\x00\x01\n", "does not speak poolmaster's protocol"),
        (b"{\"parameters\":{\"hello\":1}}\n", "of another version"),
        (b"{\"parameters\":", "it closed the connection in the middle of a reply"),
        (b"", "it closed the connection"),
    ] {
        let (ran, _) = against(vec![Act::Say(bytes.to_vec())], &["status"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains(part) && !ran.err.contains("panicked"), "{part}: {}", ran.err);
        assert_eq!(ran.err.contains("; its log may tell more"), part.contains("closed the connection"), "{}", ran.err);
    }
}

#[test]
fn a_master_that_refuses_before_reading_is_heard() {
    let text = "{\"error\":\"org.poolmaster.NotPermitted\",\"parameters\":{\"code\":6,\"message\":\"uid 1000 may not\"}}\n";
    let (ran, _) = against(vec![Act::Refuse(text)], &["status"]);
    assert!(ran.code == 6 && ran.err.contains("uid 1000 may not"), "{ran:?}");
}

#[test]
fn a_socket_of_somebody_else_is_not_permitted() {
    let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
    let path = dir.path().join("s.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    // Root may open anything, so it asks as nobody, who may not be able to reach the program where it was built.
    let copy = dir.path().join("poolmaster");
    // By another process: a child that another test starts meanwhile would hold our writing end, and the kernel executes no such file.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_poolmaster")).arg(&copy).status().unwrap().success());
    let mut command = Command::new(&copy);
    command.args(["status", "--socket"]).arg(&path).env_clear().current_dir("/");
    if nix::unistd::geteuid().is_root() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        command.uid(65534).gid(65534);
    } else {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let ran = finish(&mut command);
    assert!(ran.code == 6 && ran.err.contains("this user may not connect to"), "{ran:?}");
    assert_eq!(ran.last_line(), "poolmaster: not permitted (exit code 6)");
}

// ---- finding the master ----

const ORDER: &[&str] = &["reopen"];

#[test]
fn a_flag_beats_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let other = UnixListener::bind(at("other.sock")).unwrap();
    other.set_nonblocking(true).unwrap();
    fs::write(at("p.toml"), format!("[master]\nsocket = \"{}\"\n", at("c.sock").display())).unwrap();
    fs::create_dir(at("run")).unwrap();
    for (socket, flag) in
        [("s.sock", ["--socket", "s.sock"]), ("c.sock", ["-c", "p.toml"]), ("run/r.sock", ["--runtime-dir", "run"])]
    {
        for words in [[ORDER, &flag].concat(), [&flag, ORDER].concat()] {
            let _ = fs::remove_file(at(socket));
            let act = if flag[0] == "-c" { Act::Of(at("p.toml"), Box::new(done("here"))) } else { done("here") };
            let master = Master::on(&at(socket), vec![act]);
            let ran = finish(program(&words, &[("POOLMASTER_SOCKET", &at("other.sock"))]).current_dir(dir.path()));
            assert_eq!((ran.code, ran.out.as_str()), (0, "here\n"), "{words:?}: {ran:?}");
            assert_eq!(master.asked().len(), 1);
        }
    }
    assert!(other.accept().is_err(), "the other master was asked");
}

#[test]
fn the_only_one_running_is_found() {
    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join("dead.sock")).unwrap());
    fs::write(dir.path().join("shop.pid"), "1").unwrap();
    let master = Master::on(&dir.path().join("shop.sock"), vec![done("here")]);
    let ran = finish(&mut program(ORDER, &[("POOLMASTER_RUNTIME_DIR", dir.path())]));
    assert_eq!((ran.code, ran.out.as_str()), (0, "here\n"), "{ran:?}");
    assert_eq!(master.asked().len(), 1);
}

/// Two configs of one folder have the same name and socket.
#[test]
fn the_master_of_another_config_is_not_taken_for_that_of_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["x1.toml", "x2.toml"] {
        fs::write(at(name), format!("[master]\nsocket = \"{}\"\n", at("c.sock").display())).unwrap();
    }
    std::os::unix::fs::symlink("x1.toml", at("link.toml")).unwrap();
    for (named, runs, right) in [
        ("x2.toml", "x1.toml", false),
        ("x1.toml", "x1.toml", true),
        ("./x1.toml", "x1.toml", true),
        ("link.toml", "x1.toml", true),
        ("x1.toml", "gone.toml", false),
        ("x1.toml", "link.toml", true),
    ] {
        let _ = fs::remove_file(at("c.sock"));
        let script = vec![Act::Of(at(runs), Box::new(if right { done("here") } else { Act::Refuse("") }))];
        let _master = Master::on(&at("c.sock"), script);
        let ran = finish(program(&["-c", named, "shutdown"], &[]).current_dir(dir.path()));
        if right {
            assert_eq!((ran.code, ran.out.as_str()), (0, "here\n"), "{named} of {runs}: {ran:?}");
        } else {
            assert!(ran.code == 4 && ran.err.contains(&format!("no master of {named} is running")), "{named} of {runs}: {ran:?}");
            assert!(ran.err.contains(runs) && ran.err.contains("told nothing"), "{ran:?}");
        }
    }
}

#[test]
fn of_several_that_of_the_folder_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let _other = UnixListener::bind(at("a.sock")).unwrap();
    let master = Master::on(&at("shop.sock"), vec![Act::Of(at("pools.toml"), Box::new(done("here")))]);
    fs::write(at("pools.toml"), "[master]\nname = \"shop\"\n").unwrap();
    let ran = finish(program(ORDER, &[("POOLMASTER_RUNTIME_DIR", dir.path())]).current_dir(dir.path()));
    // Which are there is found out by connecting, the order comes by the same connection.
    assert_eq!((ran.code, ran.out.as_str()), (0, "here\n"), "{ran:?}");
    assert_eq!(master.asked().len(), 1);
}

#[test]
fn several_are_listed_and_none_is_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.sock"), dir.path().join("b.sock"));
    let _listeners = [UnixListener::bind(&a).unwrap(), UnixListener::bind(&b).unwrap()];
    let ran = finish(&mut program(&["shutdown"], &[("POOLMASTER_RUNTIME_DIR", dir.path())]));
    assert_eq!(ran.code, 4);
    let want = format!(
        "poolmaster: several masters are running; name one with --socket, -c or $POOLMASTER_SOCKET:\n  {}\n  {}\n\
         poolmaster: which master is meant was not said (exit code 4)\n",
        a.display(),
        b.display()
    );
    assert_eq!(ran.err, want);
    // Nor is one of those that run another config than the one that is here.
    fs::write(dir.path().join("pools.toml"), "[pool.a]\ncommand = \"x\"\n").unwrap();
    let here = [("POOLMASTER_RUNTIME_DIR", dir.path())];
    let ran = finish(program(&["status", "--timeout", "100ms"], &here).current_dir(dir.path()));
    assert!(ran.code == 4 && ran.err.contains("several masters are running, none of ./pools.toml; name one"), "{ran:?}");
}

#[test]
fn two_that_run_the_same_config_are_both_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("p.toml"), "[master]\nname = \"third\"\n").unwrap();
    let script = || vec![Act::Of(at("p.toml"), Box::new(Act::Refuse("")))];
    let masters = ["a.sock", "b.sock"].map(|name| Master::on(&at(name), script()));
    let ran = finish(program(&["reopen", "-c"], &[("POOLMASTER_RUNTIME_DIR", dir.path())]).arg(at("p.toml")));
    let want = format!("several masters run {}; name one with --socket:\n", at("p.toml").display());
    assert!(ran.code == 4 && ran.err.contains(&want) && ran.err.contains("b.sock"), "{ran:?}");
    assert!(masters.map(Master::asked).iter().all(|asked| asked.len() == 1));
}

#[test]
fn a_second_master_is_not_in_doubt_while_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let second = UnixListener::bind(dir.path().join("shop.2.sock")).unwrap();
    let master = Master::on(&dir.path().join("shop.sock"), vec![done("first")]);
    let ran = finish(&mut program(ORDER, &[("POOLMASTER_RUNTIME_DIR", dir.path())]));
    assert_eq!((ran.code, ran.out.as_str()), (0, "first\n"), "{ran:?}");
    master.asked();
    drop(second);
}

#[test]
fn nobody_there_is_code_4_and_stale_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join("shop.sock");
    let env: [(&str, &Path); 1] = [("POOLMASTER_RUNTIME_DIR", dir.path())];
    let ran = finish(&mut program(&["status"], &env));
    assert!(ran.code == 4 && ran.err.contains("no master is running; looked in:\n"), "{ran:?}");
    assert!(ran.err.contains(" (no socket in it)\n"), "{ran:?}");
    let next = "\nstart one with `poolmaster run`, or name its socket with --socket or its config with -c\n";
    assert!(ran.err.contains(next), "{ran:?}");
    drop(UnixListener::bind(&stale).unwrap());
    let ran = finish(&mut program(&["status"], &env));
    assert!(
        ran.code == 4 && ran.err.contains(&format!("\nstale socket files, whose masters are gone:\n  {}\n", stale.display())),
        "{ran:?}"
    );
    let ran = finish(program(&["status", "--socket"], &[]).arg(&stale));
    assert!(ran.code == 4 && ran.err.contains("the socket file is stale"), "{ran:?}");
    let ran = finish(program(&["status", "--socket"], &[]).arg(dir.path().join("none")));
    assert!(ran.code == 4 && ran.err.contains("there is no such socket"), "{ran:?}");
    let ran = finish(program(&["status", "--socket"], &[]).arg(format!("/{}", "x".repeat(200))));
    assert!(ran.code == 4 && ran.err.contains("the path is 201 bytes long, a socket's takes at most 107 (sun_path)"), "{ran:?}");
    let datagrams = dir.path().join("notify.sock");
    let _bound = std::os::unix::net::UnixDatagram::bind(&datagrams).unwrap();
    let ran = finish(program(&["status", "--socket"], &[]).arg(&datagrams));
    assert!(ran.code == 4 && ran.err.contains("it is not a stream socket"), "{ran:?}");
    let ran = finish(&mut program(&["status", "-c", "/nowhere/p.toml"], &[]));
    assert!(ran.code == 2 && ran.err.contains("cannot tell the control socket from /nowhere/p.toml"), "{ran:?}");
}

#[test]
fn an_ordinary_user_is_found_in_the_own_place() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("poolmaster")).unwrap();
    let _listener = UnixListener::bind(dir.path().join("poolmaster/mine.sock")).unwrap();
    let found = locate(&Search {
        socket: None,
        config: None,
        runtime_dir: None,
        env_socket: None,
        env_runtime_dir: None,
        xdg_runtime_dir: dir.path().to_str(),
        uid: 4_000_000,
        here: None,
        places_of_config: &|_| Err("not asked".to_owned()),
        patience: Duration::from_secs(1),
    });
    assert_eq!(found.unwrap().path(), dir.path().join("poolmaster/mine.sock"));
    // Whoever uses this as a library names the places of a config as well.
    let config = Some(Path::new("pools.toml"));
    let error = locate(&Search { config, uid: 4_000_000, ..Search::default() }).unwrap_err().to_string();
    assert!(error.ends_with("cannot tell the control socket from pools.toml: no config is named"), "{error}");
}

// ---- what people see ----

#[track_caller]
fn shows(ran: &Ran, want: &str) {
    let want = want.trim_start_matches('\n');
    assert_eq!(ran.out, want, "is:\n{}should be:\n{want}", ran.out);
}

fn pool(name: &str, changes: &[(&str, &str)]) -> String {
    let mut fields: BTreeMap<&str, &str> = BTreeMap::from([
        ("phase", "\"running\""),
        ("target", "4"),
        ("config_workers", "4"),
        ("min", "1"),
        ("min_ready", "1"),
        ("starting", "0"),
        ("ready", "4"),
        ("stopping", "0"),
        ("live", "4"),
        ("restarts", "0"),
        ("rolling", "0"),
        ("required", "false"),
        ("degraded", "false"),
    ]);
    fields.extend(changes.iter().copied());
    let fields: String = fields.iter().map(|(k, v)| format!(",\"{k}\":{v}")).collect();
    format!("{{\"name\":\"{name}\"{fields}}}")
}

fn status(pools: &[String]) -> String {
    format!(
        "{{\"instance\":\"shop\",\"version\":\"0.1.0\",\"pid\":4711,\"config\":\"/srv/shop/pools.toml\",\"revision\":3,\
         \"socket\":\"/run/poolmaster/shop.sock\",\"uptime_ms\":11520000,\"phase\":\"running\",\"pools\":[{}]}}",
        pools.join(",")
    )
}

#[test]
fn status_says_what_is_wrong_and_what_comes_next() {
    let pools = [
        pool(
            "web",
            &[
                ("listeners", "[\"tcp://0.0.0.0:8000\",\"unix:/run/shop/admin.sock\"]"),
                ("operator", "6"),
                ("target", "6"),
                ("starting", "2"),
            ],
        ),
        pool("api", &[("degraded", "true"), ("ready", "1"), ("min_ready", "2"), ("restarts", "17"), ("retry_in_ms", "1500")]),
        pool(
            "jobs",
            &[
                ("phase", "\"backing-off\""),
                ("target", "2"),
                ("ready", "0"),
                ("restarts", "12"),
                ("retry_in_ms", "12400"),
                ("why", "\"5 early deaths within 60s, the last one: exited with code 1\""),
            ],
        ),
        pool(
            "admin",
            &[
                ("phase", "\"failed\""),
                ("ready", "0"),
                ("why", "\"cannot execute \\\"uvicorn\\\": not found in PATH (/usr/local/bin:/usr/bin:/bin)\""),
            ],
        ),
        pool("batch", &[("phase", "\"stopped\""), ("ready", "0")]),
        pool("cache", &[("rolling", "3"), ("stopping", "1")]),
    ];
    let ran = show(&status(&pools), &["status"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    shows(
        &ran,
        r#"
shop: running for 3h 12m, pid 4711, config /srv/shop/pools.toml (revision 3)

POOL   STATE        READY  STARTING  STOPPING  RESTARTS  LISTENERS
web    running        4/6         2         0         0  tcp://0.0.0.0:8000 (+1)
    6 workers by order, the config says 4 (back to it:
    `poolmaster scale web config`)
api    degraded       1/4         0         0        17
    1 of 4 workers ready, at least 2 should be (min_ready); next try in 1.5s
    (now: `poolmaster retry api`)
jobs   backing off    0/2         0         0        12
    5 early deaths within 60s, the last one: exited with code 1; next try in
    12.4s (now: `poolmaster retry jobs`)
admin  failed         0/4         0         0         0
    cannot execute "uvicorn": not found in PATH (/usr/local/bin:/usr/bin:/bin);
    `poolmaster start admin` tries again
batch  stopped        0/4         0         0         0
    `poolmaster start batch` starts it
cache  rolling        4/4         0         1         0
    rolling: 3 workers still to be replaced
"#,
    );
}

#[test]
fn workers_are_listed_on_demand() {
    let workers = r#"[
        {"slot":0,"generation":1,"pid":4712,"state":"good","since_ms":11000000,"age_ms":11001000,"revision":3,"rss_bytes":35651584,"status":"3 requests"},
        {"slot":1,"generation":7,"pid":4790,"state":"stopping","since_ms":2000,"age_ms":65000,"revision":2,"rss_bytes":5400000,
         "stopping":"replaced","deadline_in_ms":28000},
        {"slot":1,"generation":8,"pid":4799,"state":"starting","since_ms":400,"age_ms":450,"revision":3,"incoming":true},
        {"slot":2,"generation":1,"state":"spawning","since_ms":1,"age_ms":1,"revision":3,"heartbeat_timeout_ms":30000}]"#;
    let ran = show(&status(&[pool("web", &[("workers", workers)]), pool("jobs", &[])]), &["status", "-v"]);
    shows(
        &ran,
        r#"
shop: running for 3h 12m, pid 4711, config /srv/shop/pools.toml (revision 3)

POOL  STATE    READY  STARTING  STOPPING  RESTARTS
web   running    4/4         0         0         0
  SLOT  GEN  CONF   PID  STATE       FOR    AGE   RSS  REMARKS
     0    1     3  4712  good      3h 3m  3h 3m   34M  3 requests
     1    7     2  4790  stopping     2s  1m 5s  5.1M
      replaced; next signal in 28s
     1    8     3  4799  starting  400ms  450ms
      will replace the older one
     2    1     3     -  spawning    1ms    1ms        no heartbeat seen

jobs  running    4/4         0         0         0
"#,
    );
    let entries = workers.replace("{\"slot\"", "{\"pool\":\"web\",\"slot\"");
    let ps = format!("{{\"instance\":\"shop\",\"pid\":4711,\"uptime_ms\":11520000,\"rss_bytes\":4404019,\"workers\":{entries}}}");
    let ran = show(&ps, &["ps"]);
    shows(
        &ran,
        r#"
 PID  WORKER    GEN  CONF  STATE        AGE   RSS  REMARKS
4711  (master)    -     -  -         3h 12m  4.1M  shop
4712  web:0       1     3  good       3h 3m   34M  3 requests
4790  web:1       7     2  stopping   1m 5s  5.1M  replaced; next signal in 28s
4799  web:1       8     3  starting   450ms        will replace the older one
   -  web:2       1     3  spawning     1ms        no heartbeat seen
"#,
    );
}

#[test]
fn health_is_told_by_the_exit_code() {
    let one = |name: &str, ok: bool| {
        let why = if ok { "null" } else { "\"5 early deaths within 60s\"" };
        format!(
            "{{\"name\":\"{name}\",\"ok\":{ok},\"phase\":\"running\",\"ready\":2,\"min_ready\":1,\"target\":4,\"required\":true,\"why\":{why}}}"
        )
    };
    let ran = show(&format!("{{\"ok\":true,\"pools\":[{}]}}", one("web", true)), &["health"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let ran = show(&format!("{{\"ok\":false,\"pools\":[{},{}]}}", one("web", true), one("jobs", false)), &["health"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.err, "poolmaster: not well: jobs; `poolmaster status` tells more\npoolmaster: failed (exit code 1)\n");
    shows(
        &ran,
        r#"
POOL  HEALTH  STATE    READY  NEEDS
web   ok      running    2/4      1
jobs  not ok  running    2/4      1
    5 early deaths within 60s
"#,
    );
}

#[test]
fn listeners_and_signals_are_tables() {
    let ran = show(
        r#"{"listeners":[
            {"pool":"web","name":"http","address":"tcp://0.0.0.0:8000","fd":7,"inode":123456,"backlog":8192,"queue":3,"queue_limit":4096,
             "holders":4,"sharing":"shared"},
            {"pool":"admin","name":"main","address":"unix:/run/shop/admin.sock","fd":8,"inode":99,"backlog":128,"sharing":"shared",
             "why":"its path was removed by somebody else"}]}"#,
        &["listeners"],
    );
    shows(
        &ran,
        r#"
POOL   NAME   QUEUE  SHARING  FD   INODE  ADDRESS
web    http  3/4096  shared    7  123456  tcp://0.0.0.0:8000
    backlog 8192 is cut to 4096 by net.core.somaxconn
admin  main   ?/128  shared    8      99  unix:/run/shop/admin.sock
    its path was removed by somebody else
"#,
    );
    let ran = show(
        r#"{"pid":4711,"signals":[
            {"number":1,"name":"SIGHUP","effect":"read the config again, replace workers","kill":"kill -HUP 4711"},
            {"number":21,"name":"SIGTTIN","effect":"one worker more","pool":"web","kill":"kill -TTIN 4711"},
            {"number":35,"name":"SIGRTMIN+1","effect":"one worker more","pool":"jobs","kill":"kill -35 4711"}]}"#,
        &["signals"],
    );
    // The master has another pid for itself than the one that it has here.
    let pid = std::process::id();
    let width = pid.to_string().len() + 11;
    let command = |signal: &str| format!("{:<width$}", format!("kill -{signal} {pid}"));
    let rows = [
        format!("{:<width$}  SIGNAL      POOL  EFFECT", "COMMAND"),
        format!("{}  SIGHUP            read the config again, replace workers", command("HUP")),
        format!("{}  SIGTTIN     web   one worker more", command("TTIN")),
        format!("{}  SIGRTMIN+1  jobs  one worker more", command("35")),
    ];
    shows(&ran, &format!("\n{}\n", rows.join("\n")));
    let long = "p".repeat(32);
    let ran = show(
        &format!(
            r#"{{"pid":4194303,"signals":[{{"number":62,"name":"SIGRTMAX-2","effect":"one worker fewer, never below one","pool":"{long}",
            "kill":"kill -62 4194303"}}]}}"#
        ),
        &["signals"],
    );
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
    assert!(ran.out.ends_with(&format!("{long}\n    one worker fewer, never below one\n")), "{}", ran.out);
}

#[test]
fn json_is_the_reply_as_it_came() {
    let reply = status(&[pool("web", &[("a_field_of_the_future", "{\"x\":[1,2]}")])]);
    let (ran, asked) = against(vec![say(&reply)], &["--json", "status", "web"]);
    assert_eq!(ran.out, format!("{reply}\n"));
    assert_eq!(asked, [r#"{"method":"status","parameters":{"pool":"web","workers":true}}"#]);
}

#[test]
fn a_worker_cannot_paint_the_terminal() {
    let ran = show(&status(&[pool("web", &[("why", "\"\\u001b[2Jgone\\nand\\u009b31mred\"")])]), &["status"]);
    assert!(!ran.out.contains(['\x1b', '\u{9b}']) && ran.out.contains("[2Jgone"), "{ran:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let pools: Vec<String> = (0..5_000).map(|i| pool(&format!("p{i}"), &[])).collect();
    let dir = tempfile::tempdir().unwrap();
    let master = Master::on(&dir.path().join("s.sock"), vec![say(&status(&pools))]);
    let mut command = program(&["status"], &[("POOLMASTER_SOCKET", &master.path)]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    master.asked();
}

#[test]
fn a_full_disk_is_no_success() {
    let (full, dir) = (fs::File::options().write(true).open("/dev/full").unwrap(), tempfile::tempdir().unwrap());
    let master = Master::on(&dir.path().join("s.sock"), vec![done("scaled")]);
    let output = program(&["scale", "web", "+1"], &[("POOLMASTER_SOCKET", &master.path)]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output"));
    master.asked();
}

#[test]
fn strange_environments_do_no_harm() {
    use std::os::unix::ffi::OsStrExt;
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let dir = tempfile::tempdir().unwrap();
    let master = Master::on(&dir.path().join("s.sock"), vec![done("here")]);
    let mut command = program(ORDER, &[("POOLMASTER_SOCKET", &master.path)]);
    command.env("ODD", odd).env(odd, "x").env("POOLMASTER_RUNTIME_DIR", "");
    assert_eq!(finish(&mut command).code, 0);
    master.asked();
    let ran = finish(program(&["status"], &[]).arg(odd));
    assert!(ran.code == 2 && !ran.err.contains("panicked"), "{ran:?}");
}

#[test]
fn shutdown_returns_once_the_master_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let master = std::thread::spawn({
        let path = path.clone();
        move || {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            stream.write_all(b"{\"parameters\":{\"code\":0,\"message\":\"everything is down\"}}\n").unwrap();
            // The master's last steps come well after its last word; a client that left by then would be seen as end-of-file.
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            assert!(stream.read(&mut [0]).is_err(), "the client did not wait");
            fs::remove_file(&path).unwrap();
        }
    });
    let ran = finish(&mut program(&["shutdown"], &[("POOLMASTER_SOCKET", &path)]));
    assert_eq!((ran.code, ran.out.as_str()), (0, "everything is down\n"), "{ran:?}");
    assert!(!path.exists(), "returned before the socket was gone");
    master.join().unwrap();
}

#[test]
fn config_shows_the_file_that_is_named_in_any_way() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.toml");
    fs::write(&file, "[pool.web]\ncommand = \"x\"\nworkers = 5\n").unwrap();
    let file = file.to_str().unwrap();
    let equal = format!("--config={file}");
    for args in [
        &["config", "show", file][..],
        &["config", "show", "-c", file],
        &["config", "-c", file, "show"],
        &["config", "show", &equal],
        &["config", "origin", "pool.web.workers", file],
        &["config", "origin", "-c", file, "pool.web.workers"],
    ] {
        let ran = finish(&mut program(args, &[]));
        assert!(ran.code == 0 && ran.out.contains('5'), "{args:?}: {ran:?}");
    }
    let ran = finish(&mut program(&["-c", file, "config", "show"], &[]));
    assert!(ran.code == 2 && ran.err.contains("talks to no running master"), "{ran:?}");
}

#[test]
fn a_number_of_workers_without_a_pool_or_a_command_is_told_as_such() {
    for words in [&["run", "--workers", "2", "--"][..], &["run", "--workers", "2"]] {
        let ran = finish(&mut program(words, &[]));
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("no command follows `--`") && ran.err.contains("--workers POOL=2"), "{ran:?}");
        assert_eq!(ran.last_line(), "poolmaster: usage or config error, nothing was started (exit code 2)");
    }
}

#[test]
fn init_writes_what_check_takes_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let here = |words: &[&str]| finish(program(words, &[]).current_dir(dir.path()));
    let file = dir.path().join("pools.toml");
    let ran = here(&["init", "--for", "node"]);
    assert!(ran.code == 0 && ran.out.contains("`poolmaster check`") && ran.err.is_empty(), "{ran:?}");
    assert!(fs::read_to_string(&file).unwrap().contains("node server.js {fd}"));
    assert_eq!(here(&["check", "--strict"]).code, 0);
    let ran = here(&["init"]);
    assert!(ran.code == 1 && ran.err.contains("it is there already, and is left as it is"), "{ran:?}");
    assert!(fs::read_to_string(&file).unwrap().contains("node server.js {fd}"));
    let ran = here(&["init", "shop.toml"]);
    assert!(ran.code == 0 && ran.out.contains("`poolmaster run shop.toml`"), "{ran:?}");
    let ran = here(&["init", "--for", "jobs", "-"]);
    assert!(ran.code == 0 && ran.out.contains("[pool.jobs]") && !dir.path().join("-").exists(), "{ran:?}");
}

#[test]
fn schema_and_completions_go_to_standard_output_and_need_no_config() {
    let ran = finish(&mut program(&["config", "schema"], &[]));
    let schema: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert!(
        ran.code == 0 && ran.err.is_empty() && schema["definitions"]["pool"]["properties"]["workers"].is_object(),
        "{}",
        ran.err
    );
    let ran = finish(&mut program(&["completions", "bash"], &[]));
    assert!(ran.code == 0 && ran.err.is_empty() && ran.out.contains("_poolmaster"), "{ran:?}");
}

/// Marks that turn the direction of text (U+202E and its like) are written out wherever people read them.
#[test]
fn no_text_turns_on_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("bad.toml"), "[pool.web]\ncommand = \"sleep 9\"\nfoo = \"a\u{202e}b\"\n").unwrap();
    fs::write(
        at("good.toml"),
        "[pool.web]\ncommand = \"sleep 9\"\nenv = { A = \"a\u{2067}b\" }\nworking_dir = \"/no\u{202d}where\"\n",
    )
    .unwrap();
    let file = |name: &str| at(name).display().to_string();
    let asked: &[(&[&str], &str)] = &[
        (&["check", &file("bad.toml")], "a\\u202eb"),
        (&["check", &file("good.toml")], "/no\\u202dwhere"),
        (&["check", &file("x\u{202e}y.toml")], "x\\u202ey.toml"),
        (&["config", "show", &file("good.toml")], "a\\u2067b"),
        (&["st\u{202e}b"], "st\\u202eb"),
        (&["scale", "w\u{200f}b", "1"], "w\\u200fb"),
    ];
    for (words, part) in asked {
        let ran = finish(&mut program(words, &[]));
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains(part), "{words:?}: {said}");
        assert!(
            !said
                .chars()
                .any(|c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')),
            "{words:?}: {said}"
        );
    }
}
