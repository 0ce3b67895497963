//! What workers find in their environment: the master's, files, secrets, the pool's own, the contract's; and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::support::*;

#[test]
fn a_clean_environment_has_what_is_passed_and_what_is_set() {
    let mut m = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nenv_clear = true\nenv_pass = [\"PATH\", \"LC_*\", \"MISSING\"]\nenv = { OWN = \"x{slot}\" }\n\
         [pool.b]\ncommand = \"sleep 1000\"\nenv_clear = true\n[pool.c]\ncommand = \"sleep 1000\"\nargv0 = \"napper-{slot}\"\n",
    )
    .env("LC_TIME", "C.UTF-8")
    .env("LC_PAPER", "A4")
    .env("LCX", "no")
    .env("LANG", "C")
    .env("HOME", "/home/of/master")
    .start()
    .ready();
    let ours = |name: &String| !name.starts_with("POOLMASTER_") && !name.starts_with("NOTIFY_");
    let names = |pool: &str| environ(m.pids(pool)[0]).into_keys().filter(ours).collect::<Vec<_>>();
    assert_eq!(names("a"), ["LC_PAPER", "LC_TIME", "OWN", "PATH"]);
    assert_eq!(names("b"), ["HOME", "LANG", "PATH"]);
    let env = environ(m.pids("a")[0]);
    assert_eq!((env["OWN"].as_str(), env["POOLMASTER_POOL"].as_str()), ("x0", "a"));
    let pid = m.pids("c")[0];
    assert_eq!(fs::read(format!("/proc/{pid}/cmdline")).unwrap(), b"napper-0\x001000\0");
    assert!(environ(pid).contains_key("LCX"));
    assert_eq!(m.stop(), 0);
}

#[test]
fn files_of_variables_are_read_at_each_spawn_between_the_masters_and_the_pools() {
    let s = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nboot = \"retry\"\nenv_files = [\"DIR/one.env\", \"-DIR/two.env\"]\nenv = { SET = \"by the pool\", GONE = false }\n",
    )
    .env("FROM", "the master")
    .env("GONE", "not quite");
    fs::write(s.path("one.env"), "# for a\nFROM=one\nSET=no\nGONE=no\nPOOLMASTER_POOL=no\nexport TWO='a b'\n").unwrap();
    let mut m = s.start().ready();
    let first = m.pids("a")[0];
    let env = environ(first);
    assert_eq!((env["FROM"].as_str(), env["SET"].as_str(), env["TWO"].as_str()), ("one", "by the pool", "a b"));
    assert_eq!((env.get("GONE"), env["POOLMASTER_POOL"].as_str()), (None, "a"));
    // The next worker has what is there then.
    fs::write(m.setup.path("two.env"), "FROM=two\n").unwrap();
    kill(first, libc::SIGKILL);
    let next = m.log.wait_until("a new worker", || m.pids("a").into_iter().find(|pid| *pid != first));
    assert_eq!(environ(next)["FROM"], "two");
    // A file that is wrong is told with its line, and never with its text.
    fs::write(m.setup.path("two.env"), "A=1\nhunter2\n").unwrap();
    kill(next, libc::SIGKILL);
    let told = m.log.wait_for("two.env: line 2: it has no NAME=VALUE", 1);
    assert!(told.contains("cannot read the variables of") && !m.log.text().contains("hunter2"), "{told}");
    fs::write(m.setup.path("two.env"), "").unwrap();
    m.wait_count("a", 1);
    fs::remove_file(m.setup.path("one.env")).unwrap();
    kill(m.pids("a")[0], libc::SIGKILL);
    m.log.wait_for("one.env: no such file or directory", 1);
    fs::write(m.setup.path("one.env"), "").unwrap();
    m.wait_count("a", 1);
    assert_eq!(m.stop(), 0);
}

#[test]
fn secrets_reach_the_worker_and_nobody_else() {
    let s = setup(
        "[pool.a]\ncommand = \"sleep 1000\"\nboot = \"retry\"\nsecrets = { DB = \"file:DIR/db\", PEM = \"file:DIR/pem\" }\n",
    )
    .master("log = { level = \"trace\" }")
    .env("DB", "of the master");
    fs::write(s.path("db"), "hunter2\n").unwrap();
    fs::write(s.path("pem"), "a\nb\n").unwrap();
    fs::set_permissions(s.path("db"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut m = s.start().ready();
    let env = environ(m.pids("a")[0]);
    assert_eq!((env["DB"].as_str(), env["PEM"].as_str()), ("hunter2", "a\nb"));
    // Rotated: the next worker has the new one.
    fs::write(m.setup.path("db"), "correct horse").unwrap();
    let first = m.pids("a")[0];
    kill(first, libc::SIGKILL);
    let next = m.log.wait_until("a new worker", || m.pids("a").into_iter().find(|pid| *pid != first));
    assert_eq!(environ(next)["DB"], "correct horse");
    let config = m.config.display().to_string();
    let shown = [
        m.ok(&["status", "-v"]),
        m.ok(&["status", "--json"]),
        output_of(POOLMASTER, &["config", "show", &config]).unwrap(),
        output_of(POOLMASTER, &["config", "show", "--json", &config]).unwrap(),
        output_of(POOLMASTER, &["config", "origin", "pool.a.secrets.DB", "-c", &config]).unwrap(),
        m.log.text(),
    ];
    for text in &shown {
        assert!(!text.contains("hunter2") && !text.contains("correct horse"), "{text}");
    }
    assert!(shown[2].contains("\"***\""), "{}", shown[2]);
    // Gone, or no secret at all: the start fails, and says which without the secret.
    fs::remove_file(m.setup.path("db")).unwrap();
    kill(next, libc::SIGKILL);
    m.log.wait_for("cannot read the secret DB from", 1);
    fs::write(m.setup.path("db"), "x\0y").unwrap();
    m.log.wait_for("it has a NUL byte in it", 1);
    fs::write(m.setup.path("db"), "fine").unwrap();
    m.wait_count("a", 1);
    assert_eq!(m.stop(), 0);
}

#[test]
fn listen_pid_may_be_left_out_for_wrappers() {
    let mut m = setup(
        "[pool.a]\ncommand = [\"sh\", \"-c\", \"POOLMASTER worker & wait\"]\nlisten = \"127.0.0.1:0\"\nlisten_pid = \"omit\"\nready = \"exec\"\n",
    )
    .start()
    .ready();
    let env = environ(m.pids("a")[0]);
    assert_eq!((env.get("LISTEN_FDS").map(String::as_str), env.get("LISTEN_PID")), (Some("1"), None));
    assert_eq!(m.stop(), 0);
}

/// What no program can be given: named by `check`, and by the pool that is asked to.
#[test]
fn a_variable_that_is_too_long_is_named() {
    let pools = "[pool.a]\ncommand = \"sleep 1000\"\nenv_files = [\"DIR/long.env\"]\nboot = \"retry\"\n[pool.b]\ncommand = \"sleep 1000\"\n";
    let s = setup(pools);
    fs::write(s.path("long.env"), format!("LONG={}\n", "x".repeat(200_000))).unwrap();
    let mut m = s.start();
    let told = m.log.wait_for("the variable LONG is 200006 bytes long with its name, the kernel takes at most 131072", 1);
    assert!(told.contains("a:0 cannot execute"), "{told}");
    m.wait_count("b", 1);
    assert_eq!(m.stop(), 0);
    let long = tempfile::tempdir().unwrap();
    let file = long.path().join("long.toml");
    fs::write(&file, format!("[pool.a]\ncommand = \"sleep 1000\"\nenv.LONG = \"{}\"\n", "x".repeat(200_000))).unwrap();
    let out = std::process::Command::new(POOLMASTER).arg("check").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.contains("the variable LONG is 200006 bytes long"),
        "{}",
        said.lines().filter(|l| l.len() < 300).collect::<String>()
    );
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn a_path_through_a_link_leads_where_the_kernel_says() {
    let s = setup(
        "[pool.a]\ncommand = [\"sh\", \"-c\", \"pwd -P; exec sleep 1000\"]\nworking_dir = \"DIR/link/..\"\nlog = { stdout = \"file:DIR/link/../out\" }\n",
    );
    let (real, own) = (s.path("real"), s.dir.path().to_owned());
    fs::create_dir_all(real.join("sub")).unwrap();
    std::os::unix::fs::symlink(real.join("sub"), own.join("link")).unwrap();
    let mut m = s.start().ready();
    let told =
        m.log.wait_until("its working directory", || fs::read_to_string(real.join("out")).ok().filter(|text| !text.is_empty()));
    assert_eq!(told.trim(), fs::canonicalize(&real).unwrap().display().to_string(), "not the folder above the link");
    assert!(!own.join("out").exists());
    assert_eq!(m.stop(), 0);
}
