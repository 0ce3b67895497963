//! Who workers are and what they may use: set in a config, looked at from outside, as root and as an ordinary user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::support::*;

const NOBODY: u32 = 65534;
/// An ordinary user that needs no name.
const SOMEBODY: u32 = 54321;

/// The fields of /proc/PID/status by name, blanks made one.
fn status(pid: i32, name: &str) -> String {
    proc_status(pid).get(name).unwrap_or_else(|| panic!("no {name}")).split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn limit_of(pid: i32, name: &str) -> (String, String) {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

fn nice_of(pid: i32) -> i32 {
    // Field 19 of proc_pid_stat(5); the list begins with the third.
    proc_stat(pid)[16].parse().unwrap()
}

#[test]
fn root_gives_its_workers_away_and_they_keep_what_they_need() {
    if !is_root() {
        return skip("root_gives_its_workers_away_and_they_keep_what_they_need", "needs root");
    }
    let s = setup(&format!(
        "[pool.a]
command = \"POOLMASTER worker\"
ready = \"notify\"
workers = 2
user = \"{NOBODY}\"
group = 12
supplementary_groups = [7, 34]
umask = \"0027\"
nice = 5
oom_score_adj = 250
cpu_affinity = [0]
no_new_privileges = true
capabilities = [\"net_bind_service\"]
working_dir = \"/\"
stop_signal = \"TERM\"
timeout = \"10s\"
limits = {{ nofile = \"300:400\", core = 0, stack = \"4M\", cpu = \"1000:unlimited\", fsize = \"1G\", memlock = \"64K\", nproc = 5000, as = \"64G\" }}
env = {{ OUT = \"{{runtime}}/x\" }}
[pool.b]
command = \"sleep 1000\"
"
    ));
    let binary = binary_for_all(s.dir.path());
    let text = binary.display().to_string();
    let m = s.arg("--set").arg(&format!("pool.a.command=[\"{text}\", \"worker\"]")).start().ready();
    // Readiness and heartbeats came by a socket that is theirs, in a directory that is not.
    for pid in m.pids("a") {
        assert_eq!(status(pid, "Uid"), "65534 65534 65534 65534");
        assert_eq!(status(pid, "Gid"), "12 12 12 12");
        assert_eq!(status(pid, "Groups"), "7 34");
        assert_eq!(status(pid, "Umask"), "0027");
        assert_eq!(status(pid, "NoNewPrivs"), "1");
        assert_eq!(status(pid, "Cpus_allowed_list"), "0");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(pid, set), "0000000000000400", "{set}");
        }
        assert_eq!(nice_of(pid), 5);
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "250");
        for (name, soft, hard) in [
            ("Max open files", "300", "400"),
            ("Max core file size", "0", "0"),
            ("Max stack size", "4194304", "4194304"),
            ("Max cpu time", "1000", "unlimited"),
            ("Max file size", "1073741824", "1073741824"),
            ("Max locked memory", "65536", "65536"),
            ("Max processes", "5000", "5000"),
            ("Max address space", "68719476736", "68719476736"),
        ] {
            assert_eq!(limit_of(pid, name), (soft.to_owned(), hard.to_owned()), "{name}");
        }
        let env = environ(pid);
        assert_eq!(env.get("USER").map(String::as_str), Some("nobody"), "its login");
        assert!(env["HOME"].starts_with('/') && env["HOME"] != "/root", "{}", env["HOME"]);
        let own = Path::new(&env["OUT"]).parent().unwrap();
        let meta = fs::metadata(own).unwrap();
        assert_eq!((meta.uid(), meta.permissions().mode() & 0o7777), (NOBODY, 0o700), "its own directory");
        let socket = fs::metadata(&env["NOTIFY_SOCKET"]).unwrap();
        assert_eq!((socket.uid(), socket.permissions().mode() & 0o777), (NOBODY, 0o600), "its own socket");
    }
    m.log.wait_until("heartbeats come", || m.worker("a", 0)["beat_ago_ms"].as_u64().map(drop));
    // What belongs to one pool is no other's, nor the master's.
    let other = m.pids("b")[0];
    for pid in [other, m.pid()] {
        assert_eq!(status(pid, "Uid"), "0 0 0 0");
        assert_eq!(nice_of(pid), nice_of(std::process::id().cast_signed()));
    }
}

#[test]
fn fault_a_change_of_user_clears_the_death_signal() {
    if !is_root() {
        return skip("fault_a_change_of_user_clears_the_death_signal", "needs root");
    }
    let m = setup(&format!("[pool.a]\ncommand = \"sleep 1000\"\nworkers = 2\nuser = {NOBODY}\ngroup = 12\n")).start().ready();
    let pids = m.all_pids("a");
    assert_eq!(pids.len(), 2);
    m.kill_dead(m.pid());
    let until = std::time::Instant::now() + PATIENCE;
    for pid in pids {
        wait_gone(pid, until);
    }
}

#[test]
fn an_ordinary_user_may_lower_itself_and_is_told_what_it_may_not() {
    if !is_root() {
        return skip("an_ordinary_user_may_lower_itself_and_is_told_what_it_may_not", "needs root to become somebody else");
    }
    let pool = |more: &str| format!("[pool.a]\ncommand = \"sleep 1000\"\nrestart.budget.failures = 1\n{more}\n");
    let as_somebody = |more: &str| {
        let s = setup(&pool(more));
        let binary = binary_for_all(s.dir.path());
        give_to(s.dir.path(), SOMEBODY);
        s.program(&binary).pre_exec(|| become_user(SOMEBODY))
    };
    let more = format!(
        "user = {SOMEBODY}\ngroup = {SOMEBODY}\numask = \"0077\"\nnice = 3\noom_score_adj = 900\nno_new_privileges = true\n\
         limits = {{ nofile = 64 }}\ncpu_affinity = [0]\nworking_dir = \"/usr\"\nstop_sequence = [\"INT\", \"5s\"]"
    );
    let mut m = as_somebody(&more).start().ready();
    let pid = m.pids("a")[0];
    assert_eq!(status(pid, "Uid"), [SOMEBODY; 4].map(|n| n.to_string()).join(" "));
    assert_eq!(
        (status(pid, "Umask"), status(pid, "NoNewPrivs"), status(pid, "Cpus_allowed_list")),
        ("0077".into(), "1".into(), "0".into())
    );
    assert_eq!((nice_of(pid), limit_of(pid, "Max open files")), (3, ("64".into(), "64".into())));
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "900");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/usr"));
    assert_eq!(m.stop(), 0);
    // Known before anything is started.
    let mut m = as_somebody("user = \"root\"").start();
    assert_eq!(m.ends(), 1);
    let said = m.log.text();
    assert!(said.contains("pool a: user = \"root\": this master runs as uid 54321") && said.contains("only root may"), "{said}");
    let mut m = as_somebody("chroot = \"/usr\"").start();
    assert_eq!(m.ends(), 1);
    assert!(m.log.text().contains("only root may change the root directory"), "{}", m.log.text());
    // Known by the kernel alone.
    for (key, what) in [
        ("nice = -5", "cannot set its priority to -5: the kernel does not permit it to this master (is it root?)"),
        (
            "oom_score_adj = -500",
            "cannot set its oom_score_adj to -500: the kernel does not permit it to this master (is it root?)",
        ),
        (
            "limits = { nofile = 999999999 }",
            "cannot set its resource limits: limits.nofile: 999999999 is more than the kernel takes: fs.nr_open is",
        ),
        ("capabilities = []", "cannot set its capabilities: the kernel does not permit it to this master (is it root?)"),
    ] {
        let mut m = as_somebody(key).start();
        assert_eq!(m.ends(), 3, "{key}");
        assert!(m.log.text().contains(what), "{key}: {}", m.log.text());
    }
}

#[test]
fn root_without_the_right_to_it_is_told_which_it_lacks() {
    if !is_root() {
        return skip("root_without_the_right_to_it_is_told_which_it_lacks", "needs root to give rights away");
    }
    // As in a container: root, and without the right to it.
    const CAP_SETUID: libc::c_ulong = 7;
    const CAP_SYS_CHROOT: libc::c_ulong = 18;
    for (key, capability, name) in
        [("chroot = \"/usr\"", CAP_SYS_CHROOT, "CAP_SYS_CHROOT"), ("user = 65534\ngroup = 65534", CAP_SETUID, "CAP_SETUID")]
    {
        let s = setup(&format!("[pool.a]\ncommand = [\"/bin/true\"]\n{key}\n"));
        // SAFETY: takes plain numbers, in the child alone.
        let without = move || match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        };
        let mut m = s.pre_exec(without).start();
        assert_eq!(m.ends(), 1);
        let said = m.log.text();
        assert!(said.contains(&format!("this master is root, but has no {name}, without which it may not ")), "{said}");
    }
    // The last CPU that the kernel knows of is seldom there.
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\ncpu_affinity = [1023]\nrestart.budget.failures = 1\n").start();
    assert!(m.ends() != 0);
    let said = m.log.text();
    assert!(said.contains("cannot bind it to a CPU of cpu_affinity = [1023]: "), "{said}");
}

#[test]
fn a_pool_in_a_root_directory_of_its_own_reports_and_serves_from_there() {
    if !is_root() {
        return skip("a_pool_in_a_root_directory_of_its_own_reports_and_serves_from_there", "needs root");
    }
    let s = setup(
        "[pool.a]\ncommand = [\"/poolmaster\", \"worker\"]\nchroot = \"DIR/jail\"\nready = \"notify\"\nuser = 65534\ngroup = 65534\n\
         listen = \"unix:DIR/a.sock\"\nenv = { HERE = \"{runtime}\" }\n",
    );
    let jail = s.path("jail");
    fs::create_dir(&jail).unwrap();
    // With the libraries that the binary needs, found by the loader itself.
    let needed = output_of("ldd", &[POOLMASTER]).unwrap();
    let files = needed.split_ascii_whitespace().filter(|word| word.starts_with('/'));
    for file in files {
        let to = jail.join(&file[1..]);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        copy_program(file, &to);
    }
    copy_program(POOLMASTER, &jail.join("poolmaster"));
    let mut m = s.start().ready();
    let pid = m.pids("a")[0];
    assert_eq!(fs::read_link(format!("/proc/{pid}/root")).unwrap(), jail.canonicalize().unwrap());
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), jail.canonicalize().unwrap());
    let env = environ(pid);
    let inside = |path: &str| jail.join(&path[1..]);
    assert!(inside(&env["NOTIFY_SOCKET"]).exists(), "{}", env["NOTIFY_SOCKET"]);
    assert_eq!(fs::metadata(inside(&env["HERE"])).unwrap().uid(), NOBODY);
    let here = inside(&env["HERE"]);
    assert_eq!(m.stop(), 0);
    assert!(!here.exists() && !here.parent().unwrap().exists(), "nothing of ours is left in there");
}

#[test]
fn an_unknown_user_or_group_stops_the_start_and_not_a_running_master() {
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\nuser = \"no-such-user\"\n").start();
    assert_eq!(m.ends(), 1);
    assert!(m.log.text().contains("pool a: user = \"no-such-user\": this host has no such user"), "{}", m.log.text());
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").start().ready();
    let before = m.pids("a");
    m.rewrite("[pool.a]\ncommand = \"sleep 1000\"\ngroup = \"no-such-group\"\n");
    let said = m.code(3, &["reload"]);
    assert!(said.contains("group = \"no-such-group\": this host has no such group"), "{said}");
    assert_eq!(m.pids("a"), before);
    assert_eq!(m.stop(), 0);
}

#[test]
fn another_user_after_a_reload_has_its_own_sockets_and_directory() {
    if !is_root() {
        return skip("another_user_after_a_reload_has_its_own_sockets_and_directory", "needs root");
    }
    let pool = |user: &str| {
        format!(
            "[pool.a]\ncommand = [\"DIR/poolmaster\", \"worker\"]\nready = \"notify\"\nenv = {{ O = \"{{runtime}}\" }}\n{user}\n"
        )
    };
    let s = setup(&pool("user = 65534\ngroup = 65534"));
    binary_for_all(s.dir.path());
    let mut m = s.start().ready();
    let text = pool(&format!("user = {SOMEBODY}\ngroup = 7"));
    m.rewrite(&text);
    m.ok(&["reload", "--timeout", "20s"]);
    let pid = m.pids("a")[0];
    assert_eq!((status(pid, "Uid"), status(pid, "Groups")), ([SOMEBODY; 4].map(|n| n.to_string()).join(" "), String::new()));
    assert_eq!(fs::metadata(&environ(pid)["O"]).unwrap().uid(), SOMEBODY);
    assert_eq!(m.stop(), 0);
}

#[test]
fn names_may_control_the_master_and_others_may_not() {
    if !is_root() {
        return skip("names_may_control_the_master_and_others_may_not", "needs root");
    }
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\n")
        .master("socket_mode = \"0666\"\nsocket_users = [\"nobody\"]")
        .start()
        .ready();
    let ask = |uid: u32| {
        let mut command = std::process::Command::new(binary_for_all(m.setup.dir.path()));
        command.args(["status", "--json", "--socket"]).arg(&m.socket);
        // SAFETY: only async-signal-safe calls.
        unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, move || become_user(uid)) };
        told(&command.output().unwrap())
    };
    assert_eq!(ask(NOBODY).0, 0);
    let (code, said) = ask(SOMEBODY);
    assert!(code == 6 && said.contains("may not control this master"), "{code} {said}");
}

/// Nobody's login is the master's.
#[test]
fn a_user_without_a_name_has_no_login() {
    if !is_root() {
        return skip("a_user_without_a_name_has_no_login", "needs root");
    }
    let pools = "[pool.a]\ncommand = \"sleep 1000\"\nuser = 123456\ngroup = 123456\n[pool.b]\ncommand = \"sleep 1000\"\nuser = 123456\ngroup = 123456\nenv.HOME = \"/tmp\"\n";
    let mut m =
        setup(pools).env("HOME", "/root").env("USER", "root").env("LOGNAME", "root").env("SHELL", "/bin/sh").start().ready();
    let env = environ(m.pids("a")[0]);
    for name in ["HOME", "USER", "LOGNAME", "SHELL"] {
        assert!(!env.contains_key(name), "{name}: {env:?}");
    }
    assert_eq!(environ(m.pids("b")[0])["HOME"], "/tmp");
    assert_eq!(m.stop(), 0);
}
