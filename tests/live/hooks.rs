//! Commands at the moments of pools, workers and the master: what they are told, what waits for them, and what becomes of it when they fail.
//!
//! Row 23 of the reference, by its names: `on_starting` is `master.hooks.starting`, `when_ready` is `master.hooks.ready`, `on_exit` is
//! `master.hooks.exit`, `pre_fork` is `pre_spawn`, `post_fork` is `post_spawn`, `worker_exit` and `child_exit` are `worker_exit`,
//! `nworkers_changed` is `scaled`; `pre_start` takes the place of loading the app before the first fork.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::support::*;

/// A hook that appends what it is told to a file.
const NOTE: &str = "#!/bin/sh
echo \"$POOLMASTER_HOOK $POOLMASTER_HOOK_POOL $POOLMASTER_HOOK_SLOT $POOLMASTER_HOOK_GENERATION $POOLMASTER_HOOK_EXIT_CODE\
$POOLMASTER_HOOK_SIGNAL $POOLMASTER_HOOK_OLD $POOLMASTER_HOOK_NEW\" | tr -s ' ' | sed 's/ $//' >> \"$0.log\"
";

fn script(path: &Path, text: &str) {
    let text_file = path.with_extension("text");
    fs::write(&text_file, text).unwrap();
    copy_program(text_file, path);
}

/// A setup with the script `note` in its directory.
fn noting(pools: &str) -> Setup {
    let s = setup(pools);
    script(&s.path("note"), NOTE);
    s
}

fn noted(m: &Master) -> Vec<String> {
    fs::read_to_string(m.setup.path("note.log")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn wait_noted(m: &Master, what: &str, n: usize) {
    m.log.wait_until(&format!("{what} noted {n} times"), || {
        (noted(m).iter().filter(|line| *line == what).count() >= n).then_some(())
    });
}

#[test]
fn row_23_every_moment_has_its_hook() {
    let all = ["pre_start", "pre_spawn", "post_spawn", "ready", "pre_stop", "worker_exit", "scaled"];
    let hooks: String = all.iter().map(|hook| format!("{hook} = \"DIR/note\"\n")).collect();
    let mut m = noting(&format!("[pool.a]\ncommand = \"sleep 1000\"\n[pool.a.hooks]\n{hooks}"))
        .master("hooks = { starting = \"DIR/note\", ready = \"DIR/note\", exit = \"DIR/note\" }")
        .start()
        .ready();
    wait_noted(&m, "ready", 1);
    wait_noted(&m, "ready a 0 1", 1);
    m.ok(&["scale", "a", "+1"]);
    wait_noted(&m, "scaled a 1 2", 1);
    wait_noted(&m, "ready a 1 1", 1);
    kill(m.pids("a")[1], libc::SIGKILL);
    wait_noted(&m, "worker_exit a 1 1 SIGKILL", 1);
    wait_noted(&m, "ready a 1 2", 1);
    assert_eq!(m.stop(), 0);
    let lines = noted(&m);
    let at = |what: &str| lines.iter().position(|line| line == what).unwrap_or_else(|| panic!("no {what:?} in {lines:#?}"));
    assert_eq!((lines[0].as_str(), lines[1].as_str(), lines[2].as_str()), ("starting", "pre_start a", "pre_spawn a 0 1"));
    assert!(at("post_spawn a 0 1") > 2 && at("pre_stop a 0 1") < at("worker_exit a 0 1 SIGTERM"));
    assert_eq!(lines.last().map(String::as_str), Some("exit"));
    assert_eq!(lines.iter().filter(|line| line.starts_with("pre_start")).count(), 1);
    assert!(!lines.iter().any(|line| line == "pre_stop a 1 1"), "the one that was killed was not asked to stop");
    m.assert_nothing_left();
}

#[test]
fn a_pool_starts_only_after_its_own_start_hook_and_once_for_each_config() {
    let s = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nworkers = 3\nhooks.pre_start = [\"sh\", \"-c\", \"echo began >&2; cat DIR/gate; echo done\"]\n\
         [pool.b]\ncommand = \"sleep 1000\"\n",
    );
    gate(&s.path("gate"));
    let mut m = s.start();
    m.log.wait_for("hook pre_start | began", 1);
    m.log.wait_for("b:0 ready", 1);
    assert_eq!((m.pool("a")["ready"].as_u64(), m.log.count("a:0 started")), (Some(0), 0), "nothing of the pool runs yet");
    open_gate(&m.setup.path("gate"));
    m.log.wait_for("ready: 2 pools, 4 workers", 1);
    m.log.assert_order(&["hook pre_start | done", "a:0 started"]);
    // Neither a respawn nor a scale-up runs it again; a new config does.
    kill(m.pids("a")[0], libc::SIGKILL);
    m.log.wait_for("killed by SIGKILL", 1);
    m.ok(&["scale", "a", "+1"]);
    assert_eq!(m.log.count("hook pre_start | began"), 1);
    m.signal(libc::SIGHUP);
    m.log.wait_for("hook pre_start | began", 2);
    let before = m.pids("a");
    open_gate(&m.setup.path("gate"));
    m.log.wait_until("all replaced", || {
        let now = m.pids("a");
        (now.len() == 4 && now.iter().all(|pid| !before.contains(pid))).then_some(())
    });
    assert_eq!(m.log.count("hook pre_start | began"), 2);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_start_hook_that_fails_is_a_pool_that_cannot_boot() {
    for (hook, why) in [
        ("[\"sh\", \"-c\", \"echo no database; exit 3\"]", "exited with code 3; its last lines: no database"),
        ("\"/no/such/hook\"", "perhaps \\\"/no/such/hook\\\" cannot be executed"),
        ("[\"sleep\", \"1000\"]", "not done within 200ms (hooks.timeout)"),
    ] {
        let mut m =
            setup(&format!("[pool.a]\ncommand = \"sleep 1000\"\nhooks = {{ pre_start = {hook}, timeout = \"200ms\" }}\n"))
                .start();
        assert_eq!(m.ends(), 3, "{}", m.log.text());
        let text = m.log.text();
        assert!(text.contains("the pool's pre_start hook failed") && text.contains(&why.replace("\\\"", "\"")), "{why}: {text}");
        assert_eq!(m.log.count("a:0 started"), 0);
        m.assert_nothing_left();
    }
    // With boot = "retry" it is tried again.
    let s = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nboot = \"retry\"\nhooks.pre_start = \"test -e DIR/ok\"\n\
         restart.backoff = { base = \"50ms\", max = \"100ms\" }\n",
    );
    let mut m = s.start();
    m.log.wait_for("the pool's pre_start hook failed", 2);
    fs::write(m.setup.path("ok"), "").unwrap();
    m.log.wait_for("a:0 ready", 1);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_spawn_hook_that_fails_is_a_spawn_that_fails() {
    let s = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\nboot = \"retry\"\nhooks.pre_spawn = [\"test\", \"-e\", \"DIR/ok{slot}\"]\n\
         restart.backoff = { base = \"50ms\", max = \"100ms\" }\n",
    );
    fs::write(s.path("ok0"), "").unwrap();
    let mut m = s.start();
    m.log.wait_for("a:0 ready", 1);
    m.log.wait_for("a:1 its pre_spawn hook failed: exited with code 1", 1);
    fs::write(m.setup.path("ok1"), "").unwrap();
    m.log.wait_for("a:1 ready", 1);
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

#[test]
fn a_stop_waits_for_its_hook_and_no_longer_than_it_may() {
    let s = setup(
        "[pool.a]\ncommand = [\"sh\", \"-c\", \"trap 'echo stopped; exit 0' TERM; echo up; while :; do read -r x < DIR/never; done\"]\n\
         log.stdout = \"capture\"\nhooks.pre_stop = [\"sh\", \"-c\", \"echo leaving; cat DIR/gate\"]\nready = \"exec\"\n\
         [pool.b]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; echo deaf; while :; do read -r x < DIR/never; done\"]\nlog.stdout = \"capture\"\n\
         ready = \"exec\"\ngraceful_timeout = \"500ms\"\nhooks = { pre_stop = [\"sleep\", \"1000\"], timeout = \"600ms\" }\n\
         [pool.c]\ncommand = \"sleep 1000\"\nhooks = { pre_stop = [\"sleep\", \"1000\"], timeout = \"300ms\" }\n",
    );
    gate(&s.path("gate"));
    gate(&s.path("never"));
    let mut m = s.start().ready();
    m.log.wait_for("| up", 1);
    let worker = m.pids("a")[0];
    let scaled = std::thread::spawn({
        let socket = m.socket.clone();
        move || told(&cli(&socket, &["stop", "a"]))
    });
    m.log.wait_for("hook pre_stop | leaving", 1);
    assert!(is_alive(worker) && m.log.count("| stopped") == 0, "its stop signal is held back");
    open_gate(&m.setup.path("gate"));
    assert_eq!(scaled.join().unwrap().0, 0);
    m.log.wait_for("| stopped", 1);
    m.log.assert_order(&["hook pre_stop | leaving", "| stopped"]);
    // The worker's own time counts from its stop signal, however long the hook took.
    m.log.wait_for("| deaf", 1);
    m.ok(&["stop", "b"]);
    m.log.assert_order(&[
        "b:0 leaving: stopped by operator",
        "its pre_stop hook comes before its stop signal, for 600ms at most",
        "b:0 hook pre_stop failed: not done within 600ms",
        "b:0 stopping with SIGTERM",
        ": sending SIGKILL",
        "b:0 killed by SIGKILL",
    ]);
    // A hook that hangs has its limit, and then the signal goes out.
    m.ok(&["stop", "c"]);
    m.log.wait_for("hook pre_stop failed: not done within 300ms", 1);
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

#[test]
fn a_quick_stop_does_not_wait_for_the_hook_of_a_graceful_one() {
    let s = setup(
        "[pool.a]\ncommand = [\"sh\", \"-c\", \"trap 'echo stopped; exit 0' TERM; echo up; while :; do read -r x < DIR/never; done\"]\n\
         log.stdout = \"capture\"\nready = \"exec\"\nquick_timeout = \"20s\"\n\
         hooks = { pre_stop = [\"sh\", \"-c\", \"echo leaving; exec sleep 1000\"], timeout = \"5m\" }\n",
    );
    gate(&s.path("never"));
    let mut m = s.master("graceful_timeout = \"5m\"").start().ready();
    m.log.wait_for("| up", 1);
    m.ok(&["stop", "a", "--no-wait"]);
    m.log.wait_for("hook pre_stop | leaving", 1);
    assert_eq!(m.pool("a")["workers"][0]["state"], "leaving");
    // Merely passed on: it changes nothing.
    m.ok(&["kill", "-s", "WINCH", "a:0"]);
    assert_eq!(m.log.count("| stopped"), 0);
    let began = Instant::now();
    m.signal(libc::SIGINT);
    m.log.wait_for("| stopped", 1);
    m.log.wait_for("a:0 hook pre_stop is cut short: told to end, killed in 2s", 1);
    assert_eq!(m.log.count("SIGKILL"), 0);
    assert_eq!(m.wait().code(), Some(0));
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "nobody waits for the hook: {:?}", began.elapsed());
    m.assert_nothing_left();
}

/// An operator's signal is his own affair: it goes out at once, and the hook goes on.
#[test]
fn a_signal_that_is_ordered_waits_for_no_hook() {
    let pool = "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nhooks.pre_stop = [\"sh\", \"-c\", \"echo leaving; cat DIR/gate; echo went\"]\n\
                [pool.b]\ncommand = \"sleep 1000\"\n";
    let s = setup(pool);
    gate(&s.path("gate"));
    let mut m = s.start().ready();
    // Nor is the hook run for one that nobody told to stop.
    m.wait_state("a", 0, "good");
    m.ok(&["kill", "-s", "TERM", "a:0"]);
    m.log.wait_for("a:0 killed by SIGTERM", 1);
    m.log.wait_for("a:0 ready", 2);
    assert_eq!(m.log.count("hook pre_stop"), 0, "{}", m.log.text());
    m.ok(&["stop", "a", "--no-wait"]);
    m.log.wait_for("hook pre_stop | leaving", 1);
    m.ok(&["kill", "-s", "TERM", "a:0"]);
    m.log.wait_for("a:0 killed by SIGTERM", 2);
    assert_eq!(m.log.count("a:0 stopping with"), 0, "{}", m.log.text());
    m.log.wait_until("stopped", || (m.pool("a")["live"] == 0).then_some(()));
    // What it does for others is done whole.
    open_gate(&m.setup.path("gate"));
    m.log.wait_for("hook pre_stop | went", 1);
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

#[test]
fn orders_while_a_hook_holds_a_start_back_have_their_effect() {
    let s = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\nhooks.pre_start = [\"sleep\", \"1000\"]\n\
         [pool.b]\ncommand = \"sleep 1000\"\nworkers = 2\nhooks.pre_spawn = [\"sleep\", \"1000\"]\n[pool.c]\ncommand = \"sleep 1000\"\n",
    );
    let mut m = s.start();
    m.log.wait_for("c:0 ready", 1);
    m.log.wait_until("the hooks run", || (children(m.pid()).len() == 4).then_some(()));
    m.ok(&["stop", "a"]);
    m.ok(&["scale", "b", "1", "--no-wait"]);
    m.log.wait_until("what nobody waits for has ended", || (children(m.pid()).len() == 2).then_some(()));
    let start = Instant::now();
    assert_eq!(m.stop(), 0);
    assert!(start.elapsed() < PATIENCE);
    m.assert_nothing_left();
}

#[test]
fn the_masters_own_start_hook_decides_whether_it_starts() {
    let master = "hooks = { starting = [\"sh\", \"-c\", \"echo checking; exit 4\"], exit = [\"sh\", \"-c\", \"echo the end\"] }";
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").master(&format!("{master}\nlog = {{ level = \"debug\" }}")).start();
    assert_eq!(m.ends(), 1);
    let text = m.log.text();
    assert!(text.contains("the hook master.hooks.starting failed: exited with code 4; its last lines: checking"), "{text}");
    assert_eq!(m.log.count("started"), 0);
    m.assert_nothing_left();
    // A stop while it runs ends both.
    let s = setup("[pool.a]\ncommand = \"sleep 1000\"\n")
        .master("log = { level = \"debug\" }\nhooks = { starting = [\"sh\", \"-c\", \"echo checking; exec sleep 1000\"] }");
    let mut m = s.start();
    m.log.wait_for("hook starting | checking", 1);
    m.signal(libc::SIGTERM);
    assert_eq!(m.ends(), 0, "{}", m.log.text());
    assert_eq!(m.log.count("a:0 started"), 0);
    m.assert_nothing_left();
}

#[test]
fn a_flood_of_hooks_and_of_their_output_stops_nobody() {
    let s = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nworkers = 40\nhooks.post_spawn = [\"sh\", \"-c\", \"yes | head -c 200000\"]\n\
         hooks.ready = [\"sleep\", \"1000\"]\n",
    );
    let mut m = s.start();
    m.log.wait_for("ready: 1 pool, 40 workers", 1);
    m.ok(&["status"]);
    // At most sixteen at once.
    assert!(children(m.pid()).len() <= 40 + 16, "{}", children(m.pid()).len());
    let start = Instant::now();
    assert_eq!(m.stop(), 0);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    assert!(m.log.count("hook post_spawn | y") <= 40_000 && m.log.count("lines of its output were not shown") >= 1);
    m.assert_nothing_left();
}

#[test]
fn a_hook_has_what_its_pool_has_and_nothing_of_the_masters() {
    let s = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nlisten = \"127.0.0.1:0\"\nready = \"exec\"\nworking_dir = \"/usr\"\nenv = { OWN = \"x\" }\n\
         hooks.ready = [\"sh\", \"-c\", \"pwd; ls /proc/self/fd | tr '\\\\n' ' '; echo; env | sort | tr '\\\\n' ' '; echo\"]\n",
    )
    .env("NOTIFY_SOCKET", "/nobody")
    .env("POOLMASTER__MASTER__EXIT_WHEN", "never");
    let mut m = s.start().ready();
    let env = m.log.wait_for("hook ready | ", 3);
    assert!(m.log.text().contains("hook ready | /usr\n") && m.log.text().contains("hook ready | 0 1 2 3 \n"), "{}", m.log.text());
    for there in ["OWN=x", "POOLMASTER_HOOK=ready", "POOLMASTER_HOOK_POOL=a", "POOLMASTER_POOL=a"] {
        assert!(env.contains(there), "{there}: {env}");
    }
    for gone in ["NOTIFY_SOCKET", "LISTEN_FDS", "POOLMASTER__"] {
        assert!(!env.contains(gone), "{gone}: {env}");
    }
    assert_eq!(m.stop(), 0);
}

/// The third order to stop ends everything: workers, and hooks of every kind that would hold the end up.
#[test]
fn the_third_signal_to_stop_waits_for_no_hook() {
    // Of the last moment: the workers are gone by the first signal.
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n")
        .master("hooks = { exit = [\"sleep\", \"9999\"], timeout = \"1h\" }")
        .start()
        .ready();
    let begin = Instant::now();
    m.signal(libc::SIGINT);
    m.log.wait_for("a:0 killed by SIGTERM", 1);
    // Two of a kind that come together are one.
    m.signal(libc::SIGINT);
    m.signal(libc::SIGQUIT);
    assert_eq!(m.ends(), 0);
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    m.log.wait_for("hook exit failed: ended, as it was not done when the master ended", 1);

    // Before the workers are told: one that deaf to TERM too.
    let deaf = "[pool.a]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; echo up >&2; while :; do sleep 1; done\"]\nready = \"exec\"\ngraceful_timeout = \"1h\"\n\
                quick_timeout = \"1h\"\nhooks = { pre_stop = [\"sh\", \"-c\", \"trap '' TERM; echo begun; sleep 9999\"], timeout = \"1h\" }\n";
    let mut m = setup(deaf).start().ready();
    m.log.wait_for("a:0 | up", 1);
    let begin = Instant::now();
    m.signal(libc::SIGTERM);
    m.log.wait_for("hook pre_stop | begun", 1);
    m.signal(libc::SIGINT);
    m.log.wait_for("(quickly)", 1);
    m.signal(libc::SIGQUIT);
    m.log.wait_for("(at once, with SIGKILL)", 1);
    assert_eq!(m.ends(), 0);
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    m.assert_nothing_left();
}

/// A canary runs the hooks of the config that it tries, and an old worker to its end those of its own.
#[test]
fn a_worker_has_the_hooks_of_the_config_that_it_was_started_from() {
    let pool = |name: &str, mark: &str, mask: &str| {
        let hook = |moment: &str| {
            format!("{moment} = [\"sh\", \"-c\", \"echo {moment} {mark} $E {{slot}} {{generation}} >> DIR/hooks\"]")
        };
        format!(
            "[pool.{name}]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"50ms\"\numask = \"{mask}\"\nenv.E = \"{mark}\"\n\
             hooks = {{ {}, {}, {} }}\n",
            hook("post_spawn"),
            hook("ready"),
            hook("worker_exit")
        )
    };
    let mut m = setup(&pool("a", "one", "0022")).start().ready();
    m.rewrite(&format!("{}{}", pool("a", "two", "0077"), pool("b", "new", "0022")));
    m.ok(&["reload"]);
    m.ok(&["stop", "b"]);
    let path = m.setup.path("hooks");
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    for line in [
        "post_spawn one one 0 1",
        "ready one one 0 1",
        "post_spawn two two 0 2",
        "ready two two 0 2",
        "worker_exit one one 0 1",
        "post_spawn new new 0 1",
        "ready new new 0 1",
        "worker_exit new new 0 1",
    ] {
        m.log.wait_until(line, || lines().lines().any(|l| l == line).then_some(()));
    }
    assert_eq!(lines().lines().count(), 8, "{}", lines());
    assert_eq!(m.stop(), 0);
}

/// A start that fails before its hook is run leaves nothing waiting for a hook that does not run.
#[test]
fn a_pool_whose_secret_comes_late_is_prepared_then() {
    let s = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"10ms\"\nsecrets = { KEY = \"file:DIR/key\" }\n\
         hooks.pre_start = [\"sh\", \"-c\", \"echo with $KEY >&2\"]\n\
         restart = { backoff = { base = \"50ms\", max = \"50ms\" }, budget = { failures = 100 } }\n",
    );
    let mut m = s.start();
    m.log.wait_for("DIR/key".replace("DIR", m.setup.dir.path().to_str().unwrap()).as_str(), 2);
    std::fs::write(m.setup.path("key"), "sesame").unwrap();
    m.log.wait_for("a:0 ready", 1);
    m.log.wait_for("hook pre_start | with sesame", 1);
    assert_eq!(m.stop(), 0);
}

/// A hook that was told to end because nobody waited for it is no verdict on who comes after.
#[test]
fn a_hook_that_was_cancelled_is_run_again_for_the_next_start() {
    let s = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"10ms\"\nrestart.budget.failures = 1\n\
         hooks.pre_start = [\"sh\", \"-c\", \"echo began >&2; trap '' TERM; test -e DIR/quick || while :; do sleep 0.05; done\"]\n\
         [pool.b]\ncommand = \"sleep 1000\"\n",
    );
    let mut m = s.start();
    m.log.wait_for("hook pre_start | began", 1);
    m.ok(&["stop", "a"]);
    std::fs::write(m.setup.path("quick"), "").unwrap();
    // It still runs, for it does not mind the signal.
    m.ok(&["start", "a"]);
    m.log.wait_for("a:0 ready", 1);
    assert_eq!(m.log.count("hook pre_start | began"), 2, "{}", m.log.text());
    assert_eq!(m.stop(), 0);
}
