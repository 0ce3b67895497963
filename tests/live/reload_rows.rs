//! Rows 2, 21 and 24 of the reference's behaviours, and the field's faults of reloading.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use super::support::*;

#[test]
fn row_02_a_reload_on_hup_is_one_transaction() {
    let pools = |workers: u32, n: u32| {
        format!(
            "[pool.web]\ncommand = \"sleep 100{n}\"\nworkers = {workers}\nsettle = \"100ms\"\n[pool.same]\ncommand = \"sleep 1000\"\nsettle = \"20ms\"\n"
        )
    };
    let mut m = setup(&pools(2, 0)).master("log = { level = \"debug\", file = \"DIR/one.log\" }").start();
    let log = |m: &Master, name: &str| std::fs::read_to_string(m.setup.path(name)).unwrap_or_default();
    let m0 = &m;
    m.log.wait_until("ready", || log(m0, "one.log").contains("ready: 2 pools").then_some(()));
    m.wait_state("web", 1, "good");
    let (old, same) = (m.pids("web"), m.pids("same"));
    m.ok(&["scale", "web", "3"]);
    m.setup.replace_master("log = { level = \"debug\", file = \"DIR/two.log\" }");
    m.rewrite(&pools(2, 1));
    m.signal(libc::SIGHUP);
    let m0 = &m;
    m.log.wait_until("done", || log(m0, "two.log").contains("reload done").then_some(()));
    let new = m.wait_count("web", 3);
    assert!(new.iter().all(|pid| cmdline(*pid).ends_with("1001")), "new workers; the operator's number survives");
    assert_ne!(m.wait_count("same", 1), same, "HUP replaces the workers of unchanged pools too");
    for pid in old {
        wait_gone(pid, Instant::now() + PATIENCE);
    }
    let text = format!("{}{}", log(&m, "one.log"), log(&m, "two.log"));
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is not in {text}"));
    assert!(at("config 2 read, not in force yet") < at("the canary is good"));
    assert!(at("the canary is good") < at("config 2 in force"));
    assert!(at("config 2 in force") < at("stopping with SIGTERM: replaced"), "nobody is stopped before the commit");
    assert!(log(&m, "two.log").contains("config 2 in force"), "new log files are in use from the commit on");
    // The count goes back to the file's when the file's changes.
    m.rewrite(&pools(1, 1));
    m.signal(libc::SIGHUP);
    m.wait_count("web", 1);
    assert_eq!(m.stop(), 0);
}

#[test]
fn row_21_only_listeners_that_changed_are_made_anew_and_the_new_one_first() {
    let (a, b, c) = (free_port(), free_port(), free_port());
    let pools = |moves: u16| {
        format!(
            "[pool.web]\ncommand = \"POOLMASTER worker\"\nsettle = \"50ms\"\n[pool.web.listen]\nstays = \"127.0.0.1:{a}\"\nmoves = \"127.0.0.1:{moves}\"\n"
        )
    };
    let mut m = setup(&pools(b)).start().ready();
    let inode = |m: &Master, name: &str| {
        let reply = m.request(r#"{"method":"listeners"}"#)["parameters"]["listeners"].clone();
        let one = reply.as_array().unwrap().iter().find(|l| l["name"] == name).cloned().unwrap();
        (one["inode"].as_u64().unwrap(), one["address"].as_str().unwrap().to_owned())
    };
    let before = (inode(&m, "stays"), inode(&m, "moves"));
    assert!(get(b, "/").unwrap().contains("200 OK"));
    m.rewrite(&pools(c));
    m.ok(&["reload"]);
    let after = (inode(&m, "stays"), inode(&m, "moves"));
    assert_eq!(after.0, before.0, "this one was not touched");
    assert_ne!(after.1, before.1);
    assert!(get(a, "/").unwrap().contains("200 OK") && get(c, "/").unwrap().contains("200 OK"));
    m.log.wait_until("the old one is closed", || get(b, "/").is_err().then_some(()));
    assert_eq!(m.stop(), 0);
}

#[test]
fn row_24_what_cannot_be_loaded_shows_before_any_worker_is_touched() {
    let pools = |n: u32| {
        format!(
            "[pool.web]\ncommand = \"sleep 100{n}\"\nsettle = \"20ms\"\nhooks.pre_start = [\"sh\", \"-c\", \"echo load {n} >> DIR/loads; test ! -e DIR/broken\"]\n"
        )
    };
    let mut m = setup(&pools(0)).start().ready();
    let loads = |m: &Master| std::fs::read_to_string(m.setup.path("loads")).unwrap();
    let before = m.pids("web");
    std::fs::write(m.setup.path("broken"), "").unwrap();
    m.rewrite(&pools(1));
    let said = m.code(3, &["reload"]);
    assert!(said.contains("pre_start hook failed"), "{said}");
    assert_eq!(m.pids("web"), before);
    std::fs::remove_file(m.setup.path("broken")).unwrap();
    m.ok(&["reload"]);
    assert_eq!(loads(&m), "load 0\nload 1\nload 1\n", "once for each config that is tried");
    // A respawn loads nothing, a reload that restarts does.
    kill(m.pids("web")[0], libc::SIGKILL);
    m.log.wait_for("restarting it now", 1);
    m.wait_state("web", 0, "good");
    assert_eq!(loads(&m).lines().count(), 3);
    m.ok(&["reload", "--restart"]);
    assert_eq!(loads(&m).lines().count(), 4);
    assert_eq!(m.stop(), 0);
}

#[test]
fn fault_a_reload_does_not_touch_the_logger() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").master("log = { level = \"info\" }").start().ready();
    m.setup.replace_master("log = { level = \"debug\", file = \"DIR/new.log\", format = \"json\" }");
    let pools = m.setup.pools();
    m.rewrite(&pools);
    m.ok(&["reload"]);
    m.ok(&["scale", "a", "2"]);
    let text = std::fs::read_to_string(m.setup.path("new.log")).unwrap();
    assert!(text.lines().all(|line| line.starts_with('{')) && text.contains("scaled from 1 to 2"), "{text}");
    assert_eq!(m.log.count("scaled from"), 0);
    // A file that cannot be opened is known before anything is changed.
    m.setup.replace_master("log = { level = \"debug\", file = \"/nonexistent/new.log\" }");
    m.rewrite("[pool.a]\ncommand = \"sleep 1001\"\n");
    let pid = m.pids("a");
    let said = m.code(3, &["reload"]);
    assert!(said.contains("/nonexistent/new.log"), "{said}");
    assert_eq!(m.pids("a"), pid);
    assert_eq!(m.stop(), 0);
}

#[test]
fn fault_a_changed_policy_or_timeout_restarts_everything() {
    let pools = |more: &str| format!("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\n{more}\n");
    let mut m = setup(&pools("")).start().ready();
    let before = m.pids("a");
    let edits = [
        "restart.policy = \"on-failure\"",
        "graceful_timeout = \"3s\"",
        "start_timeout = \"7s\"",
        "timeout = \"5s\"",
        "settle = \"3s\"",
        "restart.budget = { failures = 9, within = \"3s\" }",
        "rollout.max_surge = 2",
        "stop_signal = \"INT\"",
    ];
    for edit in edits {
        m.rewrite(&pools(edit));
        let said = m.ok(&["reload"]);
        assert!(said.contains("no worker had to be replaced"), "{edit}: {said}");
        assert_eq!(m.pids("a"), before, "{edit}");
    }
    assert_eq!(m.log.count("started"), 2);
    // And it is in force: the last edit's stop signal.
    assert_eq!(m.stop(), 0);
    m.log.wait_for("stopping with SIGINT", 2);
}

#[test]
fn fault_the_pid_file_and_the_socket_are_made_anew_by_a_reload() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\n").start().ready();
    let print = |m: &Master| {
        ["run/t.pid", "run/t.sock", "run/t.lock"]
            .map(|f| std::fs::metadata(m.setup.path(f)).map(|s| (s.ino(), s.mtime_nsec())).ok())
    };
    let before = print(&m);
    m.ok(&["reload", "--restart"]);
    m.ok(&["reload"]);
    assert_eq!(print(&m), before);
    assert_eq!(m.stop(), 0);
}

/// The environment's files, the secrets and the variables are read again, and what has left them is gone.
#[test]
fn fault_what_left_the_environment_files_survives() {
    let pools =
        "[pool.a]\ncommand = \"sleep 1000\"\nsettle = \"10ms\"\nenv_files = [\"DIR/app.env\"]\nsecrets.KEY = \"file:DIR/key\"\n";
    let mut s = setup(pools);
    let write = |s: &Setup, name: &str, text: &str| std::fs::write(s.path(name), text).unwrap();
    write(&s, "app.env", "ONE=1\nTWO=2\n");
    write(&s, "key", "first\n");
    s = s.master("");
    let mut m = s.start().ready();
    assert_eq!(environ(m.pids("a")[0])["TWO"], "2");
    let pid = m.pids("a");
    assert!(m.ok(&["reload"]).contains("no worker had to be replaced"));
    assert_eq!(m.pids("a"), pid, "nothing has changed");
    write(&m.setup, "app.env", "ONE=9\n");
    m.ok(&["reload"]);
    let env = environ(m.pids("a")[0]);
    assert_eq!(env["ONE"], "9");
    assert!(!env.contains_key("TWO"));
    write(&m.setup, "key", "second\n");
    m.ok(&["reload"]);
    assert_eq!(environ(m.pids("a")[0])["KEY"], "second");
    // A file that is gone is the canary's failure, not everybody's.
    let pid = m.pids("a");
    std::fs::remove_file(m.setup.path("key")).unwrap();
    let said = m.code(3, &["reload"]);
    assert!(said.contains("read the secret KEY") && !said.contains("second"), "{said}");
    assert_eq!(m.pids("a"), pid);
    assert_eq!(m.stop(), 0);
}

#[test]
fn fault_a_thousand_reloads_leak_something() {
    let (port, other) = (free_port(), free_port());
    // Half of them change something: a variable, now and then an option, a listener, another pool.
    let pools = |n: u32| {
        let more = if n % 20 == 7 { format!("listen.more = \"127.0.0.1:{other}\"\n") } else { String::new() };
        let pool = if n % 20 == 13 { "[pool.b]\ncommand = \"sleep 1001\"\nready = \"exec\"\nsettle = \"0s\"\n" } else { "" };
        format!(
            "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"0s\"\nenv.N = \"{}\"\n\
             listen.main = {{ address = \"127.0.0.1:{port}\", backlog = {} }}\n{more}{pool}",
            n % 7,
            100 + n % 3
        )
    };
    let mut m = setup(&pools(0)).master("log = { level = \"warn\" }").start().answering();
    m.wait_count("a", 1);
    let pid = m.pid();
    let open = || {
        let mut all: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .filter_map(|e| std::fs::read_link(e.unwrap().path()).ok())
            .map(|link| link.display().to_string().chars().filter(|c| !c.is_ascii_digit()).collect())
            .collect();
        all.sort();
        all
    };
    let figure = |name: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let mut client = m.client();
    let mut reload = |m: &mut Master, n: u32| {
        let restart = n.is_multiple_of(4);
        m.rewrite(&pools(n / 2));
        client.send(format!("{{\"method\":\"reload\",\"parameters\":{{\"restart\":{restart}}}}}\n").as_bytes());
        let reply = client.reply().unwrap();
        assert_eq!(reply["parameters"]["code"], 0, "{reply}");
    };
    // Warm up: buffers, the allocator's own.
    (0..100).for_each(|n| reload(&mut m, n));
    // The loop, the log, the one that tidies up.
    let (before, threads, rss) = (open(), 3, figure("VmRSS:"));
    (0..1000).for_each(|n| reload(&mut m, n));
    assert_eq!(open(), before);
    // The one that has read the last config may be on its way out.
    m.log.wait_until("as many threads", || (figure("Threads:") == threads).then_some(()));
    let after = figure("VmRSS:");
    assert!(after <= rss + 512, "the master grew from {rss} to {after} KiB");
    assert_eq!(m.stop(), 0);
}

/// What `plan` says before is what `reload` does after, and `plan` itself does nothing.
#[test]
fn a_plan_says_what_the_reload_then_does() {
    let pools = |timeout: &str, umask: &str, last: &str| {
        format!(
            "[pool.same]\ncommand = \"sleep 1000\"\n[pool.live]\ncommand = \"sleep 1001\"\ngraceful_timeout = \"{timeout}\"\n\
             [pool.rolls]\ncommand = \"sleep 1002\"\nworkers = 2\nsettle = \"20ms\"\numask = \"{umask}\"\n{last}"
        )
    };
    let mut m = setup(&pools("9s", "0022", "[pool.goes]\ncommand = \"sleep 1003\"\n")).start().ready();
    for pool in ["same", "live", "goes"] {
        m.wait_state(pool, 0, "good");
    }
    m.wait_state("rolls", 1, "good");
    let before: Vec<_> = ["same", "live", "rolls", "goes"].map(|pool| m.pids(pool)).to_vec();
    assert!(m.ok(&["plan"]).contains("Nothing would change."));
    m.rewrite(&pools("8s", "0077", "[pool.comes]\ncommand = \"sleep 1004\"\nsettle = \"20ms\"\n"));
    let plan: serde_json::Value = serde_json::from_str(m.code(11, &["plan", "--json"]).lines().next().unwrap()).unwrap();
    let verdict = |name: &str| {
        let pools = plan["pools"].as_array().or(plan["parameters"]["pools"].as_array()).unwrap();
        pools.iter().find(|p| p["name"] == name).unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(["same", "live", "rolls", "goes", "comes"].map(verdict), ["same", "live", "rolling", "removed", "added"]);
    let text = m.code(11, &["plan"]);
    assert_eq!(m.code(11, &["reload", "--dry-run"]), text, "it is the same");
    assert!(text.contains("pool.live.graceful_timeout, live:") && text.contains("pool.rolls.umask, rolling:"), "{text}");
    assert_eq!(["same", "live", "rolls", "goes"].map(|pool| m.pids(pool)).to_vec(), before, "nothing was done");
    m.ok(&["reload"]);
    assert_eq!((m.pids("same"), m.pids("live")), (before[0].clone(), before[1].clone()));
    assert!(m.wait_count("rolls", 2).iter().all(|pid| !before[2].contains(pid)));
    wait_gone(before[3][0], Instant::now() + PATIENCE);
    assert_eq!(m.wait_count("comes", 1).len(), 1);
    // A file with errors is told as such, and another file can be asked about.
    std::fs::write(m.setup.path("wrong.toml"), "[pool.web]\nworker = 1\n").unwrap();
    let wrong = m.setup.path("wrong.toml").display().to_string();
    assert!(m.code(2, &["plan", &wrong]).contains("workers"), "the nearest key is named");
    assert_eq!(m.stop(), 0);
}

/// Scripts go by the exit code.
#[test]
fn the_exit_code_of_a_plan_tells_how_much_would_change() {
    let pools = |time: &str, mask: &str| {
        format!("[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\ngraceful_timeout = \"{time}\"\numask = \"{mask}\"\n")
    };
    let mut m = setup(&pools("9s", "0022")).start().ready();
    let pids = m.pids("a");
    for (code, time, mask) in [(0, "9s", "0022"), (10, "8s", "0022"), (11, "9s", "0077"), (11, "8s", "0077")] {
        m.rewrite(&pools(time, mask));
        assert_eq!(m.code(code, &["plan", "--pool", "a"]), m.code(code, &["reload", "--dry-run", "--pool", "a"]));
    }
    m.rewrite(&pools("9s", "0022"));
    m.code(11, &["plan", "--restart"]);
    m.rewrite(&format!("{}[pool.b]\ncommand = \"sleep 1000\"\n", pools("9s", "0022")));
    m.code(11, &["plan"]);
    m.setup.replace_master("trace = \"DIR/trace\"");
    m.rewrite(&pools("9s", "0022"));
    m.code(12, &["plan"]);
    m.rewrite("[pool.a]\nworkers = -1\n");
    m.code(2, &["plan"]);
    assert_eq!(m.pids("a"), pids, "a plan changes nothing");
    assert_eq!(m.stop(), 0);
}

/// A large config is read and compared beside the loop: questions are answered, deaths are noticed meanwhile.
#[test]
fn a_reload_of_hundreds_of_pools_keeps_nobody_waiting() {
    let text: String = (0..1000)
        .map(|n| format!("[pool.p{n}]\ncommand = \"sleep {}\"\nautostart = false\nenv.A = \"{n}\"\n", 2000 + n))
        .collect();
    let mut m = setup(&format!("{text}[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = 0\n")).start();
    m.log.wait_for("a:0 ready", 1);
    let old = m.pids("a")[0];
    for method in ["reload", "plan"] {
        let order = m.client();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (done, mut order) = (&done, order);
            let ordered = scope.spawn(move || {
                order.send(format!("{{\"method\":\"{method}\"}}\n").as_bytes());
                let reply = order.reply();
                done.store(true, std::sync::atomic::Ordering::Release);
                reply
            });
            if method == "reload" {
                m.log.wait_for("asked by", 1);
                kill(old, libc::SIGKILL);
            }
            let (mut client, mut answers) = (m.client(), 0);
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                client.send(b"{\"method\":\"info\"}\n");
                client.reply().expect("an answer");
                answers += 1;
            }
            let reply = ordered.join().unwrap().expect("an answer");
            assert!(reply.get("error").is_none(), "{reply}");
            assert!(answers > 50, "{method}: {answers} answers");
        });
    }
    assert_ne!(m.wait_count("a", 1)[0], old);
    let log = m.log.text();
    assert!(log.find("killed by SIGKILL").unwrap() < log.find("config 2 in force").unwrap(), "it was noticed meanwhile");
    assert_eq!(m.stop(), 0);
}

/// What a reload cannot do is named by the verb; what it can do is done.
#[test]
fn no_key_of_the_master_is_passed_over_in_silence() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").master("umask = \"0022\"").start().ready();
    let set = |m: &mut Master, lines: &str| {
        m.setup.replace_master(lines);
        let pools = m.setup.pools();
        m.rewrite(&pools);
    };
    // Applied: for whatever is made and started from then on, and taken back when the key goes.
    let umask = |pid: i32| proc_status(pid)["Umask"].trim().to_owned();
    let own = umask(std::process::id().cast_signed());
    set(&mut m, "umask = \"0027\"");
    assert!(!m.ok(&["reload"]).contains("started anew"));
    assert_eq!(umask(m.pid()), "0027");
    m.ok(&["scale", "a", "+1"]);
    assert_eq!(m.wait_count("a", 2).into_iter().map(umask).collect::<Vec<_>>(), ["0022", "0027"]);
    set(&mut m, "");
    m.ok(&["reload"]);
    assert_eq!(umask(m.pid()), own);
    // Not applied, key by key: the reply names each, and goes on doing so until the file is as it was.
    let lines = [("trace = \"DIR/other.trace\"", "master.trace"), ("log.file = \"DIR/log\"\ndaemon = true", "master.daemon")];
    // This one is in the config of the test itself; what becomes of it is the same.
    let more = ["master.runtime_dir"];
    // The other value of this one is not in this version yet.
    let refused = ["master.on_master_death"];
    let of_master =
        poolmaster::config::keys::all().filter(|key| key.class == poolmaster::config::diff::Class::Master).map(|key| key.path);
    let mut tested: Vec<&str> = lines.iter().map(|(_, key)| *key).chain(more).chain(refused).collect();
    let mut all: Vec<&str> = of_master.collect();
    tested.sort_unstable();
    all.sort_unstable();
    assert_eq!(tested, all, "each key is tried");
    for (line, key) in lines.into_iter().chain(more.map(|key| ("", key))) {
        if line.is_empty() {
            // Above the file, where the test's own values are not in the way.
            let text = std::fs::read_to_string(m.setup.path("pools.toml")).unwrap();
            assert!(text.contains("/run\""), "{text}");
            std::fs::write(m.setup.path("pools.toml"), text.replacen("/run\"", "/elsewhere\"", 1)).unwrap();
            let said = m.ok(&["reload"]);
            assert!(said.contains("the old value holds until the master is started anew") && said.contains(key), "{key}: {said}");
            std::fs::write(m.setup.path("pools.toml"), text).unwrap();
            continue;
        }
        set(&mut m, line);
        for _ in 0..2 {
            let said = m.ok(&["reload"]);
            assert!(
                said.contains("the old value holds until the master is started anew") && said.contains(key),
                "{line}: {said}"
            );
            assert!(m.code(12, &["plan"]).contains(&format!("{key}, master:")));
        }
    }
    set(&mut m, "");
    assert!(!m.ok(&["reload"]).contains("started anew"));
    assert_eq!(m.stop(), 0);
}

/// A master takes another name while it runs: everything that goes by the name is made anew beside the old one, or nothing is.
#[test]
fn a_master_takes_another_name_and_is_found_by_it() {
    let pools = "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"20ms\"\n";
    let mut m = setup(pools).start().ready();
    let worker = m.wait_count("a", 1);
    let text = std::fs::read_to_string(&m.config).unwrap();
    let called = |m: &Master, name: &str, more: &str| {
        std::fs::write(&m.config, text.replacen("name = \"t\"", &format!("name = \"{name}\"\n{more}"), 1)).unwrap();
    };
    let run = m.setup.path("run");
    let title = |m: &Master| cmdline(m.pid()).trim_end_matches([' ', '\0']).to_owned();
    assert_eq!(title(&m), "poolmaster: master [t]");

    // Somebody else has the name: nothing happens, and nothing is left of the try.
    let other = setup(pools).master(&format!("socket = \"{}\"", m.setup.path("x.sock").display())).start().ready();
    std::fs::write(other.setup.path("note"), "").unwrap();
    called(&m, "u", &format!("socket = \"{}\"", m.setup.path("x.sock").display()));
    // The other one has the socket that the file says: it is told nothing.
    let by_config = |m: &Master, args: &[&str]| {
        let asked = std::process::Command::new(POOLMASTER).args(args).arg("-c").arg(&m.config).output().unwrap();
        (asked.status.code().unwrap(), String::from_utf8_lossy(&[asked.stdout, asked.stderr].concat()).into_owned())
    };
    let (code, said) = by_config(&m, &["reload"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("x.sock"), "{said}");
    assert!(!run.join("u.lock").exists() && !run.join("u.pid").exists(), "nothing is left");
    drop(other);

    // It takes it: by each of the ways in which one finds a master, with the same workers.
    called(&m, "u", "");
    let (code, said) = by_config(&m, &["reload"]);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("started anew"), "{said}");
    assert_eq!(title(&m), "poolmaster: master [u]");
    assert!(!run.join("t.sock").exists() && !run.join("t.pid").exists(), "the earlier name is free of files that lead nowhere");
    assert_eq!(std::fs::read_to_string(run.join("u.pid")).unwrap().trim(), m.pid().to_string());
    m.socket = run.join("u.sock");
    assert_eq!(m.request(r#"{"method":"info"}"#)["parameters"]["instance"], "u");
    let (code, said) = by_config(&m, &["status"]);
    assert!(code == 0 && said.contains("u: running"), "{said}");
    // A file that is being edited leads to its master as well, which says what is wrong with it.
    std::fs::write(&m.config, format!("{text}\n[pool.")).unwrap();
    let dir = run.display().to_string();
    let (code, said) = by_config(&m, &["status", "--runtime-dir", &dir]);
    assert!(code == 0 && said.contains("u: running"), "{said}");
    let (code, said) = by_config(&m, &["reload", "--runtime-dir", &dir]);
    assert!(code == 2 && said.contains("pools.toml:"), "{said}");
    assert_eq!(m.pids("a"), worker);
    // The folder of its workers goes by the earlier name: nobody else takes it.
    assert!(run.join("t.d").exists());
    let rival = setup(pools).arg("--runtime-dir").arg(&run.display().to_string()).start();
    rival.log.wait_for("another master runs under the name t", 1);
    drop(rival);
    m.ok(&["scale", "a", "+1"]);
    let new = *m.wait_count("a", 2).last().unwrap();
    let environment = std::fs::read(format!("/proc/{new}/environ")).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("POOLMASTER_INSTANCE=u\0"));

    // Places that are named, alone, and back again; clients that are connected stay.
    called(&m, "t", &format!("pidfile = \"{0}/p\"\nsocket = \"{0}/s\"", run.display()));
    let mut connected = std::os::unix::net::UnixStream::connect(&m.socket).unwrap();
    m.ok(&["reload"]);
    m.socket = run.join("s");
    called(&m, "t", &format!("pidfile = \"{0}/p\"\nsocket = \"{0}/another\"", run.display()));
    m.ok(&["scale", "a", "3"]);
    let (code, said) = by_config(&m, &["config", "origin", "pool.a.workers"]);
    assert!(code == 0 && said.starts_with("pool.a.workers = 3"), "{said}");
    m.ok(&["scale", "a", "2"]);
    called(&m, "t", &format!("pidfile = \"{0}/p\"\nsocket = \"{0}/s\"", run.display()));
    assert_eq!(std::fs::read_to_string(run.join("p")).unwrap().trim(), m.pid().to_string());
    std::io::Write::write_all(&mut connected, b"{\"method\":\"info\"}\n").unwrap();
    let mut answer = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(connected), &mut answer).unwrap();
    assert!(answer.contains("\"instance\":\"t\""), "{answer}");
    // Where the runtime directory changes as well, which waits for the next start, so does all that is in it.
    std::fs::write(&m.config, text.replacen("/run\"", "/elsewhere\"", 1)).unwrap();
    let said = m.ok(&["reload"]);
    assert!(said.contains("master.runtime_dir") && !m.setup.path("elsewhere").exists(), "{said}");
    m.socket = run.join("t.sock");
    assert_eq!(m.pids("a").len(), 2);
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
    assert!(!run.join("t.lock").exists() && !run.join("u.lock").exists());
}

/// The file that was found at the start is the master's for its life.
#[test]
fn another_file_that_is_found_first_one_day_is_not_taken() {
    if !is_root() || Path::new("/etc/poolmaster/pools.toml").exists() {
        return skip(
            "another_file_that_is_found_first_one_day_is_not_taken",
            "needs root, and a host without /etc/poolmaster/pools.toml",
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("pools.toml");
    let text = |pool: &str| {
        format!(
            "[master]\nname = \"t\"\nruntime_dir = \"{}/run\"\n[pool.{pool}]\ncommand = \"sleep 1000\"\nready = \"exec\"\n",
            dir.path().display()
        )
    };
    std::fs::write(&here, text("mine")).unwrap();
    let mut master = std::process::Command::new(POOLMASTER)
        .arg("run")
        .current_dir(dir.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let socket = dir.path().join("run/t.sock");
    let until = Instant::now() + PATIENCE;
    while cli(&socket, &["status"]).status.code() != Some(0) {
        assert!(Instant::now() < until);
    }
    std::fs::create_dir_all("/etc/poolmaster").unwrap();
    std::fs::write("/etc/poolmaster/pools.toml", text("other")).unwrap();
    std::fs::remove_file(&here).unwrap();
    let out = cli(&socket, &["reload"]);
    std::fs::remove_file("/etc/poolmaster/pools.toml").unwrap();
    let _ = std::fs::remove_dir("/etc/poolmaster");
    let (code, said) = told(&out);
    let status = told(&cli(&socket, &["status"])).1;
    told(&cli(&socket, &["shutdown", "--now"]));
    master.wait().unwrap();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("pools.toml") && status.contains("mine") && !status.contains("other"), "{said} {status}");
}
