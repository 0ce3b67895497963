//! What a worker is started from, however late: row 29 of the parity table. Row 28 is in `faults_hygiene`.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::support::*;

const POOL: &str = "[pool.web]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n";

/// A master that was started in `DIR/current`, which leads to `DIR/one`; `pwd` is what the shell said of it.
fn deployed(pwd: &str) -> Master {
    let s = setup(POOL);
    for release in ["one", "two"] {
        std::fs::create_dir(s.path(release)).unwrap();
    }
    symlink("one", s.path("current")).unwrap();
    let current = std::ffi::CString::new(s.path("current").as_os_str().as_bytes()).unwrap();
    let pwd = s.path(pwd).display().to_string();
    s.env("PWD", &pwd)
        .pre_exec(move || {
            // SAFETY: a valid string.
            if unsafe { libc::chdir(current.as_ptr()) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        })
        .start()
        .ready()
}

/// The link leads to the other release from now on.
fn deploy(m: &Master) {
    symlink("two", m.setup.path("next")).unwrap();
    std::fs::rename(m.setup.path("next"), m.setup.path("current")).unwrap();
}

fn directory(pid: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap()
}

fn real(m: &Master, name: &str) -> PathBuf {
    m.setup.path(name).canonicalize().unwrap()
}

/// The worker that comes after this one.
fn next(m: &Master, old: i32) -> i32 {
    m.log.wait_until("another worker", || Some(m.wait_count("web", 1)[0]).filter(|pid| *pid != old))
}

#[test]
fn row_29_new_workers_start_where_pwd_leads_now() {
    let m = deployed("current");
    let first = m.pids("web")[0];
    assert_eq!(directory(first), real(&m, "one"));
    assert_eq!(environ(first)["PWD"], m.setup.path("current").display().to_string());
    deploy(&m);
    m.signal(libc::SIGHUP);
    let second = next(&m, first);
    assert_eq!(directory(second), real(&m, "two"), "a reload follows the link");
    // Not only at a reload: a worker that died is replaced by one of the new release, too.
    kill(second, libc::SIGKILL);
    assert_eq!(directory(next(&m, second)), real(&m, "two"));
}

#[test]
fn row_29_a_pwd_that_names_another_place_is_not_believed() {
    for lie in ["two", "nowhere"] {
        let m = deployed(lie);
        let first = m.pids("web")[0];
        assert_eq!(directory(first), real(&m, "one"), "PWD said {lie}");
        deploy(&m);
        m.signal(libc::SIGHUP);
        assert_eq!(directory(next(&m, first)), real(&m, "one"), "the real directory stays, without a name that can move");
    }
}

#[test]
fn row_29_a_release_directory_that_is_gone_keeps_nobody_from_starting() {
    let mut m = deployed("current");
    let first = m.pids("web")[0];
    for name in ["current", "one"].map(|n| m.setup.path(n)) {
        if name.is_symlink() { std::fs::remove_file(name).unwrap() } else { std::fs::remove_dir(name).unwrap() }
    }
    m.signal(libc::SIGHUP);
    let second = next(&m, first);
    assert!(directory(second).display().to_string().ends_with("/one (deleted)"), "where the master is");
    assert_eq!(m.stop(), 0);
}

#[test]
fn row_29_arguments_and_environment_are_the_original_ones_byte_for_byte() {
    // No other program than a shell puts such bytes there.
    let script = r#"export ODD="$(printf '\377\376 =x')" LINES_="a
b"; exec "$@""#;
    let mut m = setup(POOL).under(&["sh", "-c", script, "sh"]).env("EMPTY", "").start().ready();
    let bytes = |pid: i32, file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
    let variables = |pid: i32| -> Vec<Vec<u8>> { bytes(pid, "environ").split(|b| *b == 0).map(<[u8]>::to_vec).collect() };
    let (arguments, original) = (bytes(m.pid(), "cmdline"), variables(m.pid()));
    let first = m.pids("web")[0];
    let of_first = variables(first);
    m.rewrite("[pool.web]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\nenv = { NEW = \"1\" }\n");
    m.signal(libc::SIGHUP);
    let second = next(&m, first);
    let of_second = variables(second);
    for worker in [&of_first, &of_second] {
        for wanted in [&b"ODD=\xff\xfe =x"[..], b"LINES_=a\nb", b"EMPTY="] {
            assert!(original.iter().any(|v| v == wanted) && worker.iter().any(|v| v == wanted), "{wanted:?}");
        }
        // All of the master's own, but for what is meant for masters.
        let missing: Vec<String> = original
            .iter()
            .filter(|v| !worker.contains(v) && !v.is_empty())
            .map(|v| String::from_utf8_lossy(v).into_owned())
            .filter(|v| !["POOLMASTER", "NOTIFY_SOCKET", "LISTEN_"].iter().any(|p| v.starts_with(p)))
            .collect();
        assert_eq!(missing, Vec::<String>::new());
    }
    let has_new = |variables: &[Vec<u8>]| variables.iter().any(|v| v == b"NEW=1");
    assert!(!has_new(&of_first) && has_new(&of_second));
    assert_eq!(bytes(m.pid(), "cmdline"), arguments, "the master's own arguments are as they were");
    assert_eq!(bytes(second, "cmdline"), b"sleep\x001000\0");
}
