//! Reloads to configs that are no good: nothing changes, the same processes serve, and a good one works at once.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::*;

/// A pool of two that listens, with `change` in place of its last line.
fn pool(port: u16, command: &str, more: &str) -> String {
    format!(
        "[pool.web]\ncommand = \"{command}\"\nworkers = 2\nlisten = \"127.0.0.1:{port}\"\nsettle = \"150ms\"\n\
         start_timeout = \"1s\"\ngraceful_timeout = \"1s\"\n{more}\n"
    )
}

const GOOD: &str = "POOLMASTER worker --fd {fd}";

/// Reloads to `bad`: ends with `code` and with these words, and nothing has changed. Then a good reload works.
fn refused(bad: impl FnOnce(u16) -> String, code: i32, words: &[&str]) -> Master {
    let port = free_port();
    let mut m = setup(&pool(port, GOOD, "")).start().ready();
    m.wait_state("web", 0, "good");
    let before = (m.pids("web"), m.request(r#"{"method":"listeners"}"#)["parameters"].clone());
    let revision = |m: &Master| m.request(r#"{"method":"status"}"#)["parameters"]["revision"].as_u64();
    assert_eq!(revision(&m), Some(1));

    m.rewrite(&bad(port));
    let out = m.cli(&["reload"]);
    let (got, said) = told(&out);
    assert_eq!(got, code, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    assert_eq!(m.pids("web"), before.0, "other processes serve than before");
    assert_eq!(m.all_pids("web"), before.0, "and nobody else is left");
    let strip = |mut v: serde_json::Value| {
        // A connection may be on its way.
        v["listeners"].as_array_mut().into_iter().flatten().for_each(|l| drop(l.as_object_mut().map(|l| l.remove("queue"))));
        v
    };
    assert_eq!(strip(m.request(r#"{"method":"listeners"}"#)["parameters"].clone()), strip(before.1), "the sockets");
    assert_eq!(revision(&m), Some(1), "the config in force");
    assert!(get(port, "/").unwrap().contains("200 OK"));
    let failed = m.request(r#"{"method":"status"}"#)["parameters"]["reload_failed"]["reason"].as_str().unwrap().to_owned();
    assert!(words.iter().any(|word| failed.contains(word)), "status keeps why: {failed}");
    assert_eq!(m.log.count("stopping with SIGTERM: replaced"), 0, "no old worker was stopped");

    m.rewrite(&pool(port, "POOLMASTER worker --fd {fd} --chatter 1h", ""));
    let done = m.ok(&["reload"]);
    assert!(done.contains("web: 2 workers new and ready"), "{done}");
    assert!(m.pids("web").iter().all(|pid| !before.0.contains(pid)));
    assert!(m.request(r#"{"method":"status"}"#)["parameters"]["reload_failed"].is_null(), "forgotten once one succeeds");
    assert!(get(port, "/").unwrap().contains("200 OK"));
    m
}

#[test]
fn a_syntax_error_changes_nothing() {
    let mut m = refused(|_| "[pool.web]\ncommand = = 1\n".to_owned(), 2, &["pools.toml", "nothing was changed", "TOML"]);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_missing_program_changes_nothing() {
    let words = &["web: ", "canary", "cannot execute \"/nonexistent/server\"", "nothing was changed", "config 1 stays in force"];
    let mut m = refused(|port| pool(port, "/nonexistent/server --fd {fd}", ""), 3, words);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_port_in_use_changes_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let words = &["web", "listener main", "the port is in use", "nothing was changed"];
    let mut m = refused(|_| pool(port, GOOD, ""), 3, words);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_worker_that_exits_with_3_changes_nothing() {
    let words = &["canary", "exited with code 3", "nothing was changed", "last output of web:0", "--fail-boot"];
    let mut m = refused(|port| pool(port, "POOLMASTER worker --fd {fd} --fail-boot", ""), 3, words);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_worker_that_never_gets_ready_changes_nothing() {
    let never = |port| pool(port, "POOLMASTER worker --fd {fd} --never-ready", "ready = \"notify\"");
    let mut m = refused(never, 3, &["canary", "not ready within start_timeout (1s)", "nothing was changed"]);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_worker_that_is_ready_and_crashes_while_it_settles_changes_nothing() {
    let crash = |port| pool(port, "POOLMASTER worker --fd {fd} --exit 7", "");
    let mut m = refused(crash, 3, &["canary", "exited with code 7", "nothing was changed"]);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_worker_that_is_good_and_crashes_in_the_bake_time_changes_nothing() {
    let crash = |port| pool(port, "POOLMASTER worker --fd {fd} --crash-after 500ms", "rollout.bake = \"1500ms\"");
    let mut m = refused(crash, 3, &["canary", "SIGSEGV", "nothing was changed"]);
    assert_eq!(m.log.count("the canary is good"), 2, "it was good, and its successor in the good reload too");
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_failed_pre_start_hook_changes_nothing() {
    let hook = |port| pool(port, GOOD, "env.A = \"1\"\nhooks.pre_start = [\"sh\", \"-c\", \"echo no database; exit 1\"]");
    let mut m = refused(hook, 3, &["pre_start", "nothing was changed"]);
    assert_eq!(m.stop(), 0);
    // Without a canary as well, before any old worker is touched.
    let bare = |port| format!("{}rollout.canary = 0\n", hook(port));
    let mut m = refused(bare, 3, &["web: the pool's pre_start hook failed", "nothing was changed"]);
    assert_eq!(m.stop(), 0);
}

/// One config, one verdict: a pool whose canary was good goes back with the one whose was not.
#[test]
fn one_failed_canary_undoes_all_pools() {
    let pools = |a: &str, b: &str| {
        format!(
            "[defaults]\nsettle = \"100ms\"\n[pool.a]\ncommand = \"POOLMASTER worker {a}\"\n[pool.b]\ncommand = \"POOLMASTER worker {b}\"\nafter = [\"a\"]\n"
        )
    };
    let mut m = setup(&pools("", "")).start().ready();
    let before = (m.pids("a"), m.pids("b"));
    m.rewrite(&format!("{}[pool.c]\ncommand = \"POOLMASTER worker\"\n", pools("--chatter 1h", "--fail-boot")));
    let said = m.code(3, &["reload"]);
    assert!(said.contains("b: the canary"), "{said}");
    m.log.wait_for("a:0 the canary is good", 1);
    assert_eq!((m.pids("a"), m.pids("b")), before);
    assert!(m.pool("c").is_null(), "a pool that came with it is gone");
    assert_eq!((m.all_pids("a").len(), m.all_pids("b").len()), (1, 1));
    m.log.wait_until("the runtime directory of c is gone", || (!m.setup.path("run/t.d/c").exists()).then_some(()));
    assert_eq!(m.stop(), 0);
}

/// After the commit: three new workers in a row that do not get good, and the config before comes back, with the workers that are left of it.
#[test]
fn a_roll_that_fails_after_the_commit_is_rolled_back() {
    let pools = |arg: &str| {
        format!(
            "[pool.a]\ncommand = ['sh', '-c', 'test {arg} != new || test {{slot}} = 0 || exit 1; exec sleep 1000']\nworkers = 3\nenv.WHICH = '{arg}'\n\
             settle = \"50ms\"\nready = \"exec\"\nrestart.backoff.base = \"20ms\"\n"
        )
    };
    let mut m = setup(&pools("old")).start().ready();
    m.wait_state("a", 2, "good");
    let before = m.pids("a");
    m.rewrite(&pools("new"));
    let said = m.code(3, &["reload"]);
    assert!(said.contains("3 new workers in a row did not get good") && said.contains("rolled back"), "{said}");
    let after = m.wait_count("a", 3);
    assert_eq!(after[1..], before[1..], "the old workers that were left serve on");
    assert_ne!(after[0], before[0]);
    assert_eq!(environ(after[0])["WHICH"], "old");
    let status = m.request(r#"{"method":"status"}"#)["parameters"].clone();
    assert_eq!(status["revision"], 3);
    assert!(status["reload_failed"]["reason"].as_str().unwrap().contains("rolled back"), "{status}");
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_roll_that_fails_is_halted_where_that_is_wanted() {
    let pools = |arg: &str| {
        format!(
            "[pool.a]\ncommand = ['sh', '-c', 'test {arg} != new || test {{slot}} = 0 || exit 1; exec sleep 1000']\nworkers = 3\nenv.WHICH = '{arg}'\n\
             settle = \"50ms\"\nready = \"exec\"\nrestart.backoff.base = \"20ms\"\nrollout.on_failure = \"halt\"\nrollout.failures = 2\n"
        )
    };
    let mut m = setup(&pools("old")).start().ready();
    m.wait_state("a", 2, "good");
    let before = m.pids("a");
    m.rewrite(&pools("new"));
    let said = m.code(1, &["reload"]);
    assert!(said.contains("2 new workers in a row") && said.contains("keep serving"), "{said}");
    let halted = m.wait_count("a", 3);
    assert_eq!(halted[1..], before[1..]);
    assert_eq!(environ(halted[0])["WHICH"], "new");
    // On demand, the last good config comes back; there is only one to go back to.
    let done = m.ok(&["rollback"]);
    assert!(done.contains("config 3 in force"), "{done}");
    let back = m.wait_count("a", 3);
    assert_eq!(back[1..], before[1..], "the very same old workers");
    assert_eq!(environ(back[0])["WHICH"], "old");
    let said = m.code(7, &["rollback"]);
    assert!(said.contains("no earlier good config"), "{said}");
    assert_eq!(m.stop(), 0);
}

/// The bake time watches the whole new generation too.
#[test]
fn a_crash_after_the_roll_within_the_bake_time_rolls_back() {
    let pools = |arg: &str| {
        format!("[pool.a]\ncommand = \"POOLMASTER worker {arg}\"\nworkers = 2\nsettle = \"50ms\"\nrollout.bake = \"2s\"\n")
    };
    let mut m = setup(&pools("")).start().ready();
    m.wait_state("a", 1, "good");
    m.rewrite(&pools("--chatter 1h"));
    let order = m.order(&["reload"]);
    m.log.wait_for("a all workers replaced", 1);
    kill(m.wait_count("a", 2)[1], libc::SIGABRT);
    let (code, said) = order.told();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("ended while it was watched") && said.contains("rolled back"), "{said}");
    assert!(!cmdline(m.wait_count("a", 2)[0]).contains("chatter"));
    assert_eq!(m.stop(), 0);
}

/// Old workers of a config that has been replaced are judged by their own settings, new ones by theirs.
#[test]
fn each_worker_is_stopped_as_it_was_started_to_be() {
    let script = |signal: &str| {
        format!(
            "trap 'echo got {signal}; exit 0' {signal}; trap '' {}; echo up; while :; do sleep 0.02; done",
            if signal == "TERM" { "QUIT" } else { "TERM" }
        )
    };
    let pools = |signal: &str| {
        format!(
            "[pool.a]\ncommand = ['sh', '-c', \"{}\"]\nstop_signal = \"{signal}\"\nsettle = \"100ms\"\nready = \"exec\"\n\
             graceful_timeout = \"20s\"\nkill_mode = \"process\"\nlog.stdout = \"capture\"\n",
            script(signal)
        )
    };
    let mut m = setup(&pools("TERM")).start().ready();
    m.wait_state("a", 0, "good");
    m.log.wait_for("| up", 1);
    m.rewrite(&pools("QUIT"));
    let begun = Instant::now();
    m.ok(&["reload"]);
    m.log.wait_for("got TERM", 1);
    assert!(begun.elapsed() < Duration::from_secs(15), "it was stopped by the signal that it does not know");
    m.log.wait_for("| up", 2);
    assert_eq!(m.stop(), 0);
    m.log.wait_for("got QUIT", 1);
}

/// What a worker is started from is what its revision says, whatever came in force while its hook kept it waiting.
#[test]
fn a_worker_whose_spawn_was_held_up_runs_what_its_revision_says() {
    let pools = |mark: &str| {
        format!(
            "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"20ms\"\nenv.MARK = \"{mark}\"\n\
             hooks.pre_spawn = [\"sh\", \"-c\", \"test -e DIR/slow || exit 0; echo held >&2; cat DIR/gate$MARK\"]\n"
        )
    };
    let s = setup(&pools("1"));
    ["gate1", "gate2"].iter().for_each(|name| gate(&s.path(name)));
    let mut m = s.start().ready();
    std::fs::write(m.setup.path("slow"), "").unwrap();
    let first = m.wait_count("a", 1)[0];
    kill(first, libc::SIGKILL);
    m.log.wait_for("hook pre_spawn | held", 1);
    m.rewrite(&pools("2"));
    m.ok(&["reload", "--no-wait"]);
    m.log.wait_for("hook pre_spawn | held", 2);
    let mut seen = std::collections::BTreeSet::new();
    let mut look = |m: &Master| {
        let status = m.request(r#"{"method":"status","parameters":{"workers":true}}"#);
        for worker in status["parameters"]["pools"][0]["workers"].as_array().unwrap() {
            let Some(pid) = worker["pid"].as_i64().filter(|_| worker["state"] != "spawning") else { continue };
            // One that ends meanwhile has no environment any more.
            let Some(mark) = environ(i32::try_from(pid).unwrap()).get("MARK").cloned() else { continue };
            assert_eq!(mark, worker["revision"].to_string(), "{worker}");
            seen.insert(mark);
        }
        seen.len()
    };
    open_gate(&m.setup.path("gate1"));
    m.log.wait_for("a:0 started", 2);
    m.log.wait_until("the first to pass is seen", || (look(&m) == 1).then_some(()));
    open_gate(&m.setup.path("gate2"));
    m.log.wait_for("a:0 started", 3);
    m.log.wait_until("the other one as well", || (look(&m) == 2).then_some(()));
    m.log.wait_for("reload done", 1);
    assert_eq!(environ(m.wait_count("a", 1)[0])["MARK"], "2");
    std::fs::remove_file(m.setup.path("slow")).unwrap();
    assert_eq!(m.stop(), 0);
}

/// Also when the other config is in force before its hook is done, and its successor is not yet there.
#[test]
fn a_start_that_was_held_up_outlives_the_config_that_it_comes_from() {
    let pools = |mark: &str| {
        format!(
            "[pool.a]\ncommand = \"sleep 100{mark}\"\nready = \"exec\"\nsettle = \"20ms\"\nworkers = 2\nrollout.max_surge = 1\nenv.MARK = \"{mark}\"\n\
             hooks.pre_spawn = [\"sh\", \"-c\", \"test -e DIR/slow || exit 0; echo held $MARK >&2; cat DIR/gate$MARK\"]\n"
        )
    };
    let s = setup(&pools("1"));
    ["gate1", "gate2"].iter().for_each(|name| gate(&s.path(name)));
    let mut m = s.start().ready();
    std::fs::write(m.setup.path("slow"), "").unwrap();
    m.wait_count("a", 2).into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
    m.log.wait_for("hook pre_spawn | held 1", 2);
    m.rewrite(&pools("2"));
    m.ok(&["reload", "--no-wait"]);
    m.log.wait_for("hook pre_spawn | held 2", 1);
    // The canary takes the place of one of them, is good, and its config in force, while the other one is still held up.
    open_gate(&m.setup.path("gate2"));
    m.log.wait_for("config 2 in force", 1);
    let workers = |m: &Master| {
        let status = m.request(r#"{"method":"status","parameters":{"workers":true}}"#);
        status["parameters"]["pools"][0]["workers"].as_array().unwrap().clone()
    };
    let held = |worker: &&Value| worker["state"] == "spawning" && worker["revision"] == 1;
    assert_eq!(workers(&m).iter().filter(held).count(), 1, "{:?}", workers(&m));
    open_gate(&m.setup.path("gate1"));
    m.log.wait_until("what was held up runs", || workers(&m).iter().find(held).is_none().then_some(()));
    for worker in workers(&m).iter().filter(|worker| worker["state"] != "spawning") {
        let pid = i32::try_from(worker["pid"].as_i64().unwrap()).unwrap();
        let mark = worker["revision"].to_string();
        // One that ends meanwhile has neither any more.
        let Some(environment) = environ_of_living(pid) else { continue };
        assert_eq!((environment["MARK"].as_str(), cmdline(pid)), (mark.as_str(), format!("sleep 100{mark}")), "{worker}");
    }
    // Who comes from now on passes, and so does who stands there.
    std::fs::remove_file(m.setup.path("slow")).unwrap();
    let gate = m.setup.path("gate2");
    m.log.wait_until("the roll ends", || {
        drop(std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&gate));
        (m.log.count("reload done") == 1).then_some(())
    });
    assert!(m.wait_count("a", 2).iter().all(|pid| environ(*pid)["MARK"] == "2"));
    assert_eq!(m.stop(), 0);
}

/// It runs once, is named to whoever asked and in the status; the old config goes on, for new workers as well.
#[test]
fn after_a_pre_start_hook_that_failed_workers_are_those_of_the_old_config() {
    let pool =
        |more: &str| format!("[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"20ms\"\nworkers = 2\n{more}\n");
    let mut m = setup(&pool("")).start().ready();
    let before = m.wait_count("a", 2);
    m.rewrite(&pool("env.MARK = \"2\"\nhooks.pre_start = [\"sh\", \"-c\", \"echo began >&2; exit 1\"]"));
    let said = m.code(3, &["reload"]);
    assert!(said.contains("pre_start hook failed") && said.contains("config 1 stays in force"), "{said}");
    let status = m.request(r#"{"method":"status"}"#)["parameters"].clone();
    assert!(status["reload_failed"]["reason"].as_str().unwrap().contains("pre_start hook failed"), "{status}");
    assert_eq!((m.log.count("hook pre_start | began"), m.pids("a")), (1, before.clone()));
    kill(before[0], libc::SIGKILL);
    m.log.wait_for("a:0 ready", 2);
    let now = m.wait_count("a", 2);
    assert!(!now.contains(&before[0]) && now.iter().all(|pid| !environ(*pid).contains_key("MARK")));
    assert_eq!(m.log.count("hook pre_start | began"), 1);
    assert_eq!(m.stop(), 0);
}

/// Files below the folder, with their owner and mode.
fn files(folder: &std::path::Path, out: &mut std::collections::BTreeMap<String, String>) {
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let meta = std::fs::symlink_metadata(entry.path()).unwrap();
        let mut path = entry.path().display().to_string();
        // One notify socket is as good as another: each is used once.
        if path.contains("/.n/") && entry.file_name() != "einhorn" && !meta.is_dir() {
            path = format!("{} of {}", path.trim_end_matches(|c: char| c.is_ascii_digit()), meta.uid());
        }
        out.insert(path, format!("{} {} {:o}", meta.uid(), meta.gid(), meta.mode()));
        if meta.is_dir() {
            files(&entry.path(), out);
        }
    }
}

/// The last pool of all cannot listen: owners, sockets, options, the title, the name and the log are as before for the others.
#[test]
fn a_config_that_is_rejected_at_its_last_pool_has_changed_nothing_for_the_others() {
    if !is_root() {
        return skip("a_config_that_is_rejected_at_its_last_pool_has_changed_nothing_for_the_others", "needs root");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free_port();
    let pools = |user: u32, backlog: u32, mode: &str, last: &str| {
        format!(
            "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nprotocols = [\"systemd\", \"einhorn\"]\nuser = {user}\ngroup = {user}\n\
             supplementary_groups = []\n[pool.a.listen.web]\naddress = \"127.0.0.1:{port}\"\nbacklog = {backlog}\n\
             [pool.a.listen.file]\naddress = \"unix:DIR/a.sock\"\nmode = \"{mode}\"\n{last}"
        )
    };
    let mut m = setup(&pools(65_533, 100, "0600", "")).start().ready();
    let seen = |m: &Master| {
        let mut all = std::collections::BTreeMap::new();
        files(&m.setup.path("run"), &mut all);
        files(std::path::Path::new(&m.setup.notify_home()), &mut all);
        files(&m.setup.path(""), &mut all);
        let listeners = m.request(r#"{"method":"listeners"}"#)["parameters"].to_string();
        all.extend([("title".to_owned(), cmdline(m.pid())), ("listeners".to_owned(), listeners)]);
        all.extend([("workers".to_owned(), format!("{:?}", m.pids("a")))]);
        all.extend([("umask".to_owned(), proc_status(m.pid())["Umask"].clone())]);
        all
    };
    let before = seen(&m);
    let last = format!("[pool.z]\ncommand = \"sleep 1000\"\nlisten = \"{}\"\n", taken.local_addr().unwrap());
    m.rewrite(&pools(65_532, 200, "0666", &last));
    let text = std::fs::read_to_string(&m.config).unwrap();
    let text = text.replacen("name = \"t\"\n", "name = \"u\"\numask = \"0077\"\n", 1).replacen("\"debug\"", "\"error\"", 1);
    std::fs::write(&m.config, text).unwrap();
    let said = m.code(3, &["reload"]);
    assert!(said.contains("the port is in use by"), "{said}");
    assert_eq!(seen(&m), before);
    // Nor at a later step of making it ready,
    let with = |m: &Master, last: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(&m.config).unwrap();
        let (head, _) = text.split_once("[pool.z]").unwrap();
        assert!(head.contains(from));
        std::fs::write(&m.config, head.replacen(from, to, 1) + last).unwrap();
    };
    let same = "[pool.a]";
    with(&m, "[pool.z]\ncommand = \"sleep 1000\"\nuser = 65533\ngroup = \"no-such-group\"\n", same, same);
    let said = m.code(3, &["reload"]);
    assert!(said.contains("this host has no such group"), "{said}");
    assert_eq!(seen(&m), before);
    // while the hook runs that comes before its workers, and once it has failed,
    gate(&m.setup.path("gate"));
    for (what, mode) in [("", 0o711), ("gate", 0o666)] {
        std::fs::set_permissions(m.setup.path(what), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let before = seen(&m);
    let hook = "hooks.pre_start = [\"sh\", \"-c\", \"echo began >&2; cat DIR/gate; exit 1\"]";
    let hook = hook.replace("DIR", m.setup.dir.path().to_str().unwrap());
    with(&m, "[pool.z]\ncommand = \"sleep 1000\"\n", same, &format!("{same}\n{hook}"));
    m.ok(&["reload", "--no-wait"]);
    m.log.wait_for("hook pre_start | began", 1);
    let during = seen(&m);
    for (what, how) in &before {
        assert_eq!(during.get(what), Some(how), "{what}");
    }
    assert!(during.keys().any(|what| what.ends_with("/z")) && during.keys().any(|what| what.ends_with("/u.sock")));
    open_gate(&m.setup.path("gate"));
    m.log.wait_for("config 1 stays in force", 1);
    // The last canary may end after the reply.
    m.log.wait_until("all is as before", || (seen(&m) == before).then_some(()));
    // or after a canary of another user has been there.
    let text = std::fs::read_to_string(&m.config).unwrap();
    let bad = text.replacen("sleep 1000", "sh -c 'ls -nd {runtime} >&2; exit 3'", 1).replacen(&hook, "", 1);
    std::fs::write(&m.config, bad).unwrap();
    let said = m.code(3, &["reload"]);
    assert!(said.contains(" 65532 ") && said.contains("exit code 3"), "{said}");
    m.log.wait_until("all is as before", || (seen(&m) == before).then_some(()));
    std::fs::write(&m.config, text.replacen(&hook, "", 1).split_once("[pool.z]").unwrap().0.to_owned() + &last).unwrap();
    m.ok(&["reopen"]);
    m.log.wait_for("reopen, asked by", 1);
    // And all of that does change with one that can be used.
    let text = std::fs::read_to_string(&m.config).unwrap();
    std::fs::write(&m.config, text.replace(&last, "")).unwrap();
    m.ok(&["reload"]);
    m.socket = m.setup.path("run").join("u.sock");
    let after = seen(&m);
    for what in ["title", "listeners", "workers", "umask"] {
        assert_ne!(after[what], before[what], "{what}");
    }
    m.ok(&["reopen"]);
    assert_eq!(m.log.count("reopen, asked by"), 1, "{}", m.log.text());
    assert_eq!(m.stop(), 0);
}

/// What is made for one is not taken away with the other: neither with one that it takes the place of, nor with one that is refused beside it.
#[test]
fn a_config_that_is_tried_keeps_what_another_one_that_goes_had_as_well() {
    if !is_root() {
        return skip("a_config_that_is_tried_keeps_what_another_one_that_goes_had_as_well", "needs root to give workers away");
    }
    let pool = |more: &str| format!("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\n{more}\n");
    let tried = |mark: u32| {
        pool(&format!(
            "env = {{ MARK = \"{mark}\", RUNTIME = \"{{runtime}}\" }}\nprotocols = [\"einhorn\"]\nready = \"notify\"\nuser = 65532\ngroup = 65532"
        ))
    };
    let mut m = setup(&pool("ready = \"exec\"")).start().ready();
    let old = m.pids("a")[0];
    let canary = |m: &Master, mark: &str| {
        m.log.wait_until("the canary runs", || {
            let pid = m.all_pids("a").into_iter().find(|pid| *pid != old && cmdline(*pid).starts_with("sleep"))?;
            let environment = environ_of_living(pid)?;
            (environment.get("MARK").map(String::as_str) == Some(mark)).then_some(environment)
        })
    };
    let is_whole = |environment: &std::collections::BTreeMap<String, String>| {
        let owner = |path: &str| std::fs::symlink_metadata(path).ok().map(|meta| std::os::unix::fs::MetadataExt::uid(&meta));
        (owner(&environment["EINHORN_SOCK_PATH"]), owner(&environment["RUNTIME"])) == (Some(65_532), Some(65_532))
    };
    m.rewrite(&tried(2));
    m.ok(&["reload", "--no-wait"]);
    let second = canary(&m, "2");
    assert!(is_whole(&second), "{second:?}");
    m.rewrite(&tried(3));
    m.ok(&["reload", "--no-wait"]);
    let third = canary(&m, "3");
    assert!(is_whole(&third), "{third:?}");
    // Refused, while the other one is tried.
    m.rewrite(&format!("{}[pool.z]\ncommand = \"sleep 1000\"\ngroup = \"no-such-group\"\n", tried(4)));
    let said = m.code(3, &["reload"]);
    assert!(said.contains("this host has no such group"), "{said}");
    assert!(canary(&m, "3") == third && is_whole(&third), "{third:?}");
    m.ok(&["reload", "--abort"]);
    m.log.wait_until("all is the old one's", || (m.pids("a") == [old] && !is_whole(&third)).then_some(()));
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}
