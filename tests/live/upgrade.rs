//! Another program in the place of the master's, in the same process: nobody notices, and what cannot go on leaves the one that was.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::support::*;

/// A program for `--binary`: a script that gets the arguments of the master. `POOLMASTER` in it is the binary.
fn program(s: &Setup, name: &str, text: &str) -> PathBuf {
    let path = s.path(name);
    let text = format!("#!/bin/sh\n{text}\n").replace("POOLMASTER_BINARY", env!("CARGO_BIN_EXE_poolmaster"));
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// What it has open, by kind: numbers of sockets and pipes differ.
fn kinds(pid: i32) -> Vec<String> {
    let mut kinds: Vec<String> =
        fds(pid).into_values().map(|link| link.split(':').next().unwrap_or_default().to_owned()).collect();
    kinds.sort();
    kinds
}

fn threads(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

#[test]
fn a_hundred_upgrades_in_a_row_cost_no_request_and_leave_nothing_behind() {
    let port = free_port();
    let pool = format!(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nworkers = 3\nsettle = \"20ms\"\nscale = {{ max = 6 }}\n\
         listen = [\"127.0.0.1:{port}\", \"unix:DIR/web.sock\"]\n"
    );
    let mut m = setup(&pool).start().ready();
    let loads = [
        Load::on(&Goal::Port(port), 4, Manner::Each, Duration::from_millis(1)),
        Load::on(&Goal::Path(m.setup.path("web.sock")), 4, Manner::Keepalive, Duration::from_millis(1)),
    ];
    let more = || loads.iter().for_each(|load| load.wait_more(5));
    m.ok(&["upgrade"]);
    let (before, tasks, size) = (kinds(m.pid()), threads(m.pid()), rss_kib(m.pid()));
    for round in 1..=10 {
        let workers = m.pids("web");
        for _ in 0..10 {
            let said = m.ok(&["upgrade"]);
            assert!(said.contains(&format!("as the same process ({})", m.pid())), "{said}");
            more();
        }
        assert_eq!(m.pids("web"), workers);
        // All that a master does works on.
        m.ok(&["scale", "web", "+1"]);
        kill(m.pids("web")[0], libc::SIGKILL);
        m.log.wait_for("killed by SIGKILL", round);
        m.ok(&["wait", "web", "--for", "count=4"]);
        m.ok(&["reload"]);
        m.ok(&["scale", "web", "3"]);
        m.ok(&["wait", "web", "--for", "settled"]);
        more();
    }
    // A notify socket that waits for its worker does not.
    m.ok(&["upgrade"]);
    m.log.wait_until("as many as before", || (kinds(m.pid()) == before && threads(m.pid()) == tasks).then_some(()));
    assert!(rss_kib(m.pid()) < size + 4 * 1024, "{size} KiB, then {}", rss_kib(m.pid()));
    for load in loads {
        let toll = load.end();
        // A worker that is killed in the middle of a request takes that with it.
        assert!(toll.failures.len() <= 10, "{} of {}: {:?}", toll.failures.len(), toll.answered, toll.failures);
    }
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

#[test]
fn under_load_no_request_is_lost() {
    let port = free_port();
    let pool = format!(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nworkers = 2\nsettle = \"20ms\"\nlisten = [\"127.0.0.1:{port}\"]\n"
    );
    let mut m = setup(&pool).start().ready();
    let loads = [Manner::Each, Manner::Keepalive].map(|manner| Load::on(&Goal::Port(port), 8, manner, Duration::ZERO));
    for _ in 0..100 {
        m.ok(&["upgrade"]);
        loads.iter().for_each(|load| load.wait_more(20));
    }
    for load in loads {
        let toll = load.end();
        assert!(toll.failures.is_empty() && toll.retried == 0, "{:?} of {}", toll.failures, toll.answered);
    }
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

/// Each worker has a socket of its own, and the kernel picks by a program that this one has attached.
#[test]
fn sockets_of_slots_go_on_as_well() {
    let port = free_port();
    let pool = format!(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nworkers = 3\nsettle = \"20ms\"\n\
         [pool.web.listen.main]\naddress = \"127.0.0.1:{port}\"\nreuseport = true\n"
    );
    let mut m = setup(&pool).start().ready();
    let loads = [Manner::Each, Manner::Keepalive].map(|manner| Load::on(&Goal::Port(port), 6, manner, Duration::ZERO));
    let more = || loads.iter().for_each(|load| load.wait_more(20));
    let slots = |m: &Master| m.request("{\"method\":\"listeners\"}")["parameters"]["listeners"][0]["slots"].clone();
    let inodes = |m: &Master| slots(m).as_array().unwrap().iter().map(|slot| slot["inode"].clone()).collect::<Vec<_>>();
    for workers in ["4", "2", "3"] {
        let (before, pids) = (inodes(&m), m.pids("web"));
        for _ in 0..3 {
            m.ok(&["upgrade"]);
            more();
        }
        assert_eq!((inodes(&m), m.pids("web")), (before, pids));
        // Slots come and go, each with its queue served, and each worker's replacement has a fresh socket.
        m.ok(&["scale", "web", workers]);
        m.ok(&["restart", "web"]);
        m.ok(&["wait", "web", "--for", "settled"]);
        more();
    }
    for load in loads {
        let toll = load.end();
        assert!(toll.failures.is_empty() && toll.retried == 0, "{:?} of {}", toll.failures, toll.answered);
    }
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

#[test]
fn a_program_that_cannot_go_on_leaves_the_one_that_was() {
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\nsettle = \"10ms\"\n").start().ready();
    let workers = m.pids("a");
    let plain = m.setup.path("plain");
    std::fs::write(&plain, "no program").unwrap();
    let missing = m.setup.path("missing");
    let no_program = program(&m.setup, "no-program", "");
    std::fs::write(&no_program, [0x7f, b'E', b'L', b'F', 0, 1, 2]).unwrap();
    let bad = [
        (missing, "there is no program"),
        (plain, "cannot be executed"),
        (no_program, "cannot be executed"),
        (program(&m.setup, "unfit", "exit 0"), "did not take the state: exited with code 0 without a word"),
        (
            program(&m.setup, "crash", "cat <&3 >/dev/null; echo 'out of luck' >&2; kill -SEGV $$"),
            "did not take the state: out of luck",
        ),
        (program(&m.setup, "hang", "cat <&3 >/dev/null; sleep 60"), "did not read the state within 1s"),
        (
            program(
                &m.setup,
                "older",
                "sed 's/\"format\":1/\"format\":9/' <&3 >DIR/state; exec 3<DIR/state; exec POOLMASTER_BINARY \"$@\""
                    .replace("DIR", &m.setup.path("").display().to_string())
                    .as_str(),
            ),
            "the state has format 9",
        ),
        (
            program(
                &m.setup,
                "garbled",
                "head -c 100 <&3 >DIR/state; exec 3<DIR/state; exec POOLMASTER_BINARY \"$@\""
                    .replace("DIR", &m.setup.path("").display().to_string())
                    .as_str(),
            ),
            "the state is none of a master",
        ),
    ];
    for (path, why) in bad {
        let path = path.display().to_string();
        let said = m.code(3, &["--timeout", "1", "upgrade", "--binary", &path]);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(why) && said.contains("the running program goes on"), "{path}: {said}");
        assert_eq!(m.pids("a"), workers);
    }
    // It passes the check, and then fails in the middle of its work: the one before it is executed again.
    let halfway = "if [ -n \"$POOLMASTER_UPGRADE\" ] && [ -z \"$POOLMASTER_UPGRADE_FAILED\" ]; then export POOLMASTER_TEST_PANIC=RESUME; fi\n\
         exec POOLMASTER_BINARY \"$@\"";
    let path = program(&m.setup, "halfway", halfway).display().to_string();
    let (descriptors, tasks) = (kinds(m.pid()), threads(m.pid()));
    for _ in 0..3 {
        let said = m.code(3, &["upgrade", "--binary", &path]);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("the program before it goes on, with the same state"), "{said}");
        assert_eq!(m.pids("a"), workers);
        // The end of the connection of who asked is seen in a turn of its own.
        let same = || kinds(m.pid()) == descriptors && threads(m.pid()) == tasks;
        m.log.wait_until("nothing is left of it", || same().then_some(()));
    }
    // And it is as good as before.
    m.ok(&["scale", "a", "3"]);
    let good = program(&m.setup, "good", "unset POOLMASTER_TEST_PANIC\nexec POOLMASTER_BINARY \"$@\"").display().to_string();
    m.ok(&["upgrade", "--binary", &good]);
    m.ok(&["upgrade"]);
    m.ok(&["restart", "a"]);
}

#[test]
fn what_happens_in_the_gap_is_acted_on_after_it() {
    let port = free_port();
    let pools = format!(
        "[pool.beats]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\ntimeout = \"1s\"\nsettle = \"10ms\"\nlisten = \"127.0.0.1:{port}\"\n\
         [pool.dies]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\n\
         [pool.late]\ncommand = \"POOLMASTER worker --slow-start 1500ms\"\nready = \"notify\"\nautostart = false\nlisten = \"unix:DIR/late.sock\"\n\
         [pool.stubborn]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; while :; do sleep 1; done\"]\nsettle = \"10ms\"\ngraceful_timeout = \"500ms\"\n"
    );
    let m = setup(&pools).start().answering();
    for pool in ["beats", "dies", "stubborn"] {
        m.ok(&["wait", pool, "--for", "settled"]);
    }
    let (dies, beats, stubborn) = (m.pids("dies")[0], m.pids("beats"), m.pids("stubborn")[0]);
    let (gap, over) = (m.setup.path("gap"), m.setup.path("over"));
    let text = format!(
        "if [ -n \"$POOLMASTER_UPGRADE\" ]; then : >{}; while [ ! -e {} ]; do :; done; fi\nexec POOLMASTER_BINARY \"$@\"",
        gap.display(),
        over.display()
    );
    let slow = program(&m.setup, "slow", &text).display().to_string();
    m.ok(&["start", "late", "--no-wait"]);
    let late = m.log.wait_until("one that starts", || m.all_pids("late").first().copied());
    m.ok(&["stop", "stubborn", "--no-wait"]);
    let upgrade = m.order(&["upgrade", "--binary", &slow]);
    m.log.wait_until("the gap", || gap.exists().then_some(()));
    assert_eq!(m.log.count("late:0 ready"), 0);
    kill(dies, libc::SIGKILL);
    m.signal(libc::SIGUSR1);
    // Longer than the heartbeat's timeout, and than the time to stop.
    watch_for(beats[0], Duration::from_millis(2_500));
    assert!(is_alive(stubborn));
    std::fs::write(over, "").unwrap();
    let (code, text) = upgrade.told();
    assert_eq!(code, 0, "{text}");
    // It got ready meanwhile, and somebody sent a signal.
    m.log.wait_for("late:0 ready after", 1);
    assert_eq!(m.pids("late"), [late]);
    m.log.wait_for("SIGUSR1 from", 1);
    m.ok(&["wait", "dies", "--for", "settled"]);
    assert_ne!(m.pids("dies")[0], dies);
    m.log.wait_for("dies:0 killed by SIGKILL", 1);
    m.ok(&["wait", "stubborn", "--for", "stopped"]);
    assert!(!is_alive(stubborn));
    // It beat all the time, and nobody heard it for longer than its timeout.
    assert_eq!(m.pids("beats"), beats);
    assert_eq!(m.log.count("no heartbeat"), 0);
    // A program in between may reap what is not its own: how it ended is not known then, but that it did.
    let reaps = format!(
        "if [ -n \"$POOLMASTER_UPGRADE\" ]; then kill -9 {}; sleep 0.1; fi\nexec POOLMASTER_BINARY \"$@\"",
        m.pids("dies")[0]
    );
    let reaps = program(&m.setup, "reaps", &reaps).display().to_string();
    let before = m.pids("dies");
    m.ok(&["upgrade", "--binary", &reaps]);
    m.ok(&["wait", "dies", "--for", "settled"]);
    assert_ne!(m.pids("dies"), before);
}

#[test]
fn what_is_in_the_way_is_named_and_waited_for_if_wanted() {
    let m = setup("[pool.a]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nworkers = 2\nsettle = \"1s\"\n[pool.b]\ncommand = \"sleep 1000\"\n")
        .start().answering();
    m.ok(&["wait", "a", "--for", "settled"]);
    let restart = m.order(&["restart", "a"]);
    m.log.wait_for("replacing", 1);
    let said = m.code(7, &["upgrade"]);
    assert!(said.contains("workers of pool a are being replaced"), "{said}");
    m.ok(&["upgrade", "--wait"]);
    let (code, text) = restart.told();
    assert_eq!(code, 0, "an order that is under way is answered all the same: {text}");
    let reload = m.order(&["reload", "--restart", "--pool", "a"]);
    m.log.wait_for("trying it with a canary in a", 1);
    let said = m.code(7, &["upgrade"]);
    assert!(said.contains("a reload is under way"), "{said}");
    assert_eq!(reload.told().0, 0);
    // One that waits for its effect is answered by the program that goes on.
    let mut wait = m.client();
    wait.send(b"{\"method\":\"wait\",\"parameters\":{\"pool\":\"b\",\"for\":\"stopped\"}}\n");
    let mut idle = m.client();
    m.ok(&["upgrade"]);
    m.ok(&["stop", "b"]);
    assert_eq!(wait.reply().unwrap()["parameters"]["code"], 0);
    idle.send(b"{\"method\":\"info\"}\n");
    assert_eq!(idle.reply().unwrap()["parameters"]["pid"], m.pid());
    let log = m.log.count("goes on in the place of");
    assert_eq!(log, 2);
}

#[test]
fn the_hook_before_it_has_to_succeed() {
    let hook = "hooks.upgrade = [\"sh\", \"-c\", \"echo before $POOLMASTER_REASON; test -e DIR/go\"]";
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\n").master(hook).start().ready();
    let said = m.code(3, &["upgrade"]);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("the hook master.hooks.upgrade failed: exited with code 1"), "{said}");
    std::fs::write(m.setup.path("go"), "").unwrap();
    m.ok(&["upgrade"]);
    m.log.wait_for("goes on in the place of", 1);
    m.ok(&["upgrade"]);
    m.ok(&["restart", "a"]);
}

/// What is in force goes on, whatever was written into its file since; but nobody should find out by the next reload.
#[test]
fn a_config_file_that_the_new_program_cannot_read_is_told() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"10ms\"\n").start().ready();
    let pids = m.pids("a");
    m.ok(&["upgrade"]);
    assert_eq!(m.log.count("does not take the config file"), 0, "{}", m.log.text());
    m.rewrite("[pool.a]\ncommand = \"sleep 1000\"\nwokers = 2\n");
    m.ok(&["upgrade"]);
    let line = m.log.wait_for("WARN  upgrade: the new program goes on, but does not take the config file as it is now: ", 1);
    let wrong = format!("pool.a.wokers: there is no such key ({}:", m.config.display());
    assert!(line.contains(&wrong) && line.ends_with("); mend it before the next reload"), "{line}");
    assert_eq!(m.pids("a"), pids);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_link_that_was_flipped_leads_to_the_new_program() {
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\n");
    let (one, two, link) = (s.path("one"), s.path("two"), s.path("current"));
    for release in [&one, &two] {
        copy_program(env!("CARGO_BIN_EXE_poolmaster"), release);
    }
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let m = s.program(&link).start().ready();
    let runs = |m: &Master| std::fs::read_link(format!("/proc/{}/exe", m.pid())).unwrap();
    assert_eq!(runs(&m), one);
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&two, &link).unwrap();
    std::fs::remove_file(&one).unwrap();
    let workers = m.pids("a");
    m.ok(&["upgrade"]);
    assert_eq!((runs(&m), m.pids("a")), (two, workers));
}

/// Started in a folder that is a link: where that leads is looked at anew each time, also by programs that came after the first.
#[test]
fn a_working_directory_that_was_flipped_leads_to_the_new_program_each_time() {
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\n");
    let current = s.path("current");
    let flip = |release: &std::path::Path| {
        let _ = std::fs::remove_file(&current);
        std::os::unix::fs::symlink(release, &current).unwrap();
    };
    let releases = ["one", "two", "three"].map(|name| s.path(name));
    for release in &releases {
        std::fs::create_dir(release).unwrap();
        copy_program(env!("CARGO_BIN_EXE_poolmaster"), &release.join("poolmaster"));
    }
    flip(&releases[0]);
    let folder = current.display().to_string();
    let s = s.under(&["env", "-C", &folder]).env("PWD", &folder).program(std::path::Path::new("./poolmaster"));
    let m = s.start().ready();
    let leads = |pid: i32, what: &str| std::fs::read_link(format!("/proc/{pid}/{what}")).unwrap();
    for release in &releases[1..] {
        flip(release);
        m.ok(&["upgrade"]);
        assert_eq!(leads(m.pid(), "exe"), release.join("poolmaster"));
        m.ok(&["restart", "a"]);
        assert_eq!(leads(m.pids("a")[0], "cwd"), *release, "new workers go there, too");
    }
}

#[test]
fn in_a_container_the_first_process_is_upgraded() {
    let name = "in_a_container_the_first_process_is_upgraded";
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let able = std::process::Command::new(unshare[0]).args(&unshare[1..]).arg("true").output();
    if !able.is_ok_and(|out| out.status.success()) {
        return skip(name, "no pid namespace can be made here");
    }
    let port = free_port();
    let pool = format!("[pool.web]\ncommand = \"POOLMASTER worker\"\nready = \"notify\"\nlisten = \"127.0.0.1:{port}\"\n");
    let m = setup(&pool).under(&unshare).start().ready();
    for _ in 0..3 {
        let out = cli(&m.socket, &["upgrade"]);
        assert!(out.status.success(), "{}", told(&out).1);
        assert!(String::from_utf8_lossy(&out.stdout).contains("as the same process (1)"));
        get(port, "/").unwrap();
    }
    let out = cli(&m.socket, &["restart", "web"]);
    assert!(out.status.success(), "{}", told(&out).1);
    get(port, "/").unwrap();
}

#[test]
fn a_daemon_is_upgraded_in_the_background_and_logs_on() {
    let s =
        setup("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\n").master("daemon = true\nlog = { file = \"DIR/log\" }");
    let (run, log) = (s.path("run"), s.path("log"));
    let m = s.start();
    let pid = m.log.wait_until("it runs", || std::fs::read_to_string(run.join("t.pid")).ok()?.trim().parse::<i32>().ok());
    m.out.wait_for("runs in the background", 1);
    for n in 1..=3 {
        let said = m.ok(&["upgrade"]);
        assert!(said.contains(&format!("as the same process ({pid})")), "{said}");
        // It is written by a thread of its own.
        let text = m.log.wait_until("the line in the log", || {
            std::fs::read_to_string(&log).ok().filter(|text| text.matches("goes on in the place of").count() == n)
        });
        assert_eq!(text.matches("could go on").count(), n, "what was logged before is there, too: {text}");
    }
    m.ok(&["restart", "a"]);
    m.ok(&["shutdown"]);
    wait_gone(pid, std::time::Instant::now() + PATIENCE);
    m.assert_nothing_left();
}

#[test]
fn who_may_control_the_master_may_not_name_a_program_for_it() {
    if !is_root() {
        return skip("who_may_control_the_master_may_not_name_a_program_for_it", "it takes another user");
    }
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\n").master("socket_users = [65534]");
    let own = binary_for_all(s.dir.path());
    let m = s.start().ready();
    let as_other = |args: &[&str]| {
        let mut command = std::process::Command::new(&own);
        command.args(args).arg("--socket").arg(&m.socket);
        // SAFETY: only what is async-signal-safe.
        unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, || become_user(65_534)) };
        let out = command.output().unwrap();
        told(&out)
    };
    let (code, said) = as_other(&["upgrade", "--binary", "/bin/true"]);
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("only root and the master's own user may name the program"), "{said}");
    let (code, said) = as_other(&["upgrade"]);
    assert_eq!(code, 0, "{said}");
}
