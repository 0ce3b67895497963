//! Other users of the host: what they plant where a master's files go is neither followed nor touched, what they own is not trusted, and
//! their clients are turned away.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::*;

/// Nobody of this host.
const STRANGER: u32 = 54_321;

/// A directory as /tmp is, with a file of root's beside it that has to stay as it is.
struct Shared {
    dir: tempfile::TempDir,
    precious: PathBuf,
}

fn shared() -> Option<Shared> {
    if !is_root() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let all = dir.path().join("all");
    fs::create_dir(&all).unwrap();
    fs::set_permissions(&all, fs::Permissions::from_mode(0o1777)).unwrap();
    let precious = dir.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    Some(Shared { dir, precious })
}

impl Shared {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("all").join(name)
    }

    /// A link of the stranger's to the file of root's.
    fn link(&self, name: &str, target: &Path) -> PathBuf {
        let path = self.at(name);
        symlink(target, &path).unwrap();
        std::os::unix::fs::lchown(&path, Some(STRANGER), Some(STRANGER)).unwrap();
        path
    }

    /// A master with this in its config does not start; what it says.
    fn refused(&self, master: &str, pool: &str) -> String {
        let mut m =
            setup(&format!("[pool.a]\ncommand = \"sleep 1000\"\n{pool}")).master(&format!("bind_retry = 0\n{master}")).start();
        assert_eq!(m.ends(), 1, "{master} {pool}: {}", m.log.text());
        self.untouched();
        m.log.text()
    }

    fn untouched(&self) {
        assert_eq!(fs::read_to_string(&self.precious).unwrap(), "precious");
        assert_eq!(fs::metadata(&self.precious).unwrap().permissions().mode() & 0o777, 0o644);
    }
}

fn needs_root(test: &str) {
    skip(test, "needs root, to be two users");
}

#[test]
fn links_that_others_planted_are_not_followed() {
    let Some(s) = shared() else { return needs_root("links_that_others_planted_are_not_followed") };
    for (key, name) in [("pidfile", "a.pid"), ("socket", "a.sock"), ("log.file", "a.log"), ("trace", "a.trace")] {
        let path = s.link(name, &s.precious);
        let told = s.refused(&format!("{key} = \"{}\"", path.display()), "");
        assert!(told.contains(&path.display().to_string()) && told.contains("symbolic link"), "{key}: {told}");
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink(), "{key}: it is left alone");
    }
    for name in ["b.sock", "b.sock.lock"] {
        let path = s.link(name, &s.precious);
        let told = s.refused("", &format!("listen = \"unix:{}\"\n", s.at("b.sock").display()));
        assert!(told.contains("symbolic link"), "{name}: {told}");
        fs::remove_file(path).unwrap();
    }
    let elsewhere = s.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let path = s.link("run", &elsewhere);
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").arg("--runtime-dir").arg(&path.display().to_string()).start();
    assert_eq!(m.ends(), 1);
    assert!(m.log.text().contains("cannot use the directory") && m.log.text().contains("a real directory"), "{}", m.log.text());
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    // A worker's output too; the pool fails, not the master.
    let path = s.link("out", &s.precious);
    let pools = format!(
        "[pool.a]\ncommand = \"echo spoiled\"\nlog.stdout = \"file:{}\"\n[pool.b]\ncommand = \"sleep 1000\"\n",
        path.display()
    );
    let mut m = setup(&pools).start();
    m.log.wait_for("a symbolic link that uid 54321 made", 1);
    m.log.wait_for("b:0 ready", 1);
    assert_eq!(m.stop(), 0);
    s.untouched();
    // A link of root's own is as good as the file.
    symlink(s.dir.path().join("real.log"), s.at("own.log")).unwrap();
    let mut m =
        setup("[pool.a]\ncommand = \"sleep 1000\"\n").master(&format!("log.file = \"{}\"", s.at("own.log").display())).start();
    m.log.wait_until("the log goes there", || {
        fs::read_to_string(s.dir.path().join("real.log")).is_ok_and(|text| text.contains("ready: 1 pool")).then_some(())
    });
    assert_eq!(m.stop(), 0);
}

#[test]
fn directories_that_others_own_or_write_to_are_not_used() {
    let Some(s) = shared() else { return needs_root("directories_that_others_own_or_write_to_are_not_used") };
    let try_in = |dir: &Path| {
        let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").arg("--runtime-dir").arg(&dir.display().to_string()).start();
        assert_eq!(m.ends(), 1, "{}", m.log.text());
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "nothing was put there");
        m.log.text()
    };
    let theirs = s.at("theirs");
    fs::create_dir(&theirs).unwrap();
    give_to(&theirs, STRANGER);
    let told = try_in(&theirs);
    assert!(told.contains("it belongs to uid 54321, who could replace what is put there"), "{told}");
    let open = s.at("open");
    fs::create_dir(&open).unwrap();
    for (mode, who) in [(0o777, "everyone"), (0o775, "its group")] {
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&open, None, Some(STRANGER)).unwrap();
        let told = try_in(&open);
        assert!(told.contains(&format!("{who} may write there")) && told.contains("chmod go-w"), "{told}");
    }
}

#[test]
fn what_others_left_under_our_names_is_replaced_or_named_but_never_believed() {
    let test = "what_others_left_under_our_names_is_replaced_or_named_but_never_believed";
    let Some(s) = shared() else { return needs_root(test) };
    // A pid file with the number of somebody who lives, but without a lock: nobody's.
    let victim = setup("[pool.v]\ncommand = \"sleep 1000\"\n").start().ready();
    let pidfile = s.at("m.pid");
    fs::write(&pidfile, format!("{}\n", victim.pid())).unwrap();
    give_to(&pidfile, STRANGER);
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n")
        .master(&format!("pidfile = \"{}\"\nsocket = \"{}\"", pidfile.display(), s.at("m.sock").display()))
        .start();
    m.log.wait_for("ready: 1 pool", 1);
    assert_eq!(fs::read_to_string(&pidfile).unwrap().trim(), m.pid().to_string());
    let meta = fs::metadata(&pidfile).unwrap();
    assert_eq!((std::os::unix::fs::MetadataExt::uid(&meta), meta.permissions().mode() & 0o777), (0, 0o644));
    // A client goes by the socket, whatever a file says.
    fs::write(&pidfile, format!("{}\n", victim.pid())).unwrap();
    assert_eq!(cli(&s.at("m.sock"), &["shutdown"]).status.code(), Some(0));
    assert_eq!(m.wait().code(), Some(0));
    assert!(is_alive(victim.pid()));
    assert_eq!(victim.log.count("shutting down"), 0);
    // What is no pid file is named and left alone.
    fs::write(&pidfile, "a diary").unwrap();
    give_to(&pidfile, STRANGER);
    let told = s.refused(&format!("pidfile = \"{}\"", pidfile.display()), "");
    assert!(told.contains("no pid file (there is no process id in it)"), "{told}");
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), "a diary");
    // A socket where somebody listens is theirs.
    let theirs = UnixListener::bind(s.at("t.sock")).unwrap();
    give_to(&s.at("t.sock"), STRANGER);
    let told = s.refused("", &format!("listen = \"unix:{}\"\n", s.at("t.sock").display()));
    assert!(told.contains("another process listens there"), "{told}");
    drop(theirs);
    // A lock that somebody holds keeps this name from us, and no more.
    let lock = s.at("l.sock.lock");
    fs::write(&lock, "1\n").unwrap();
    give_to(&lock, STRANGER);
    let held = fs::File::open(&lock).unwrap();
    // SAFETY: locks an open file.
    assert_eq!(unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(&held), libc::LOCK_EX) }, 0);
    let told = s.refused("", &format!("listen = \"unix:{}\"\n", s.at("l.sock").display()));
    assert!(told.contains("l.sock.lock is held by"), "{told}");
}

/// A verb of an ordinary user's.
fn as_stranger(binary: &Path, args: &[&str]) -> (i32, String) {
    told(&Command::new(binary).args(args).uid(STRANGER).gid(STRANGER).env_remove("POOLMASTER_SOCKET").output().unwrap())
}

#[test]
fn clients_of_another_user_are_turned_away_in_words() {
    let Some(s) = shared() else { return needs_root("clients_of_another_user_are_turned_away_in_words") };
    let binary = binary_for_all(s.dir.path());
    let m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").start().ready();
    fs::set_permissions(m.setup.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let socket = m.socket.display().to_string();
    for verb in [&["status"][..], &["scale", "a", "+1"], &["kill", "a"], &["shutdown"]] {
        let args: Vec<&str> = verb.iter().copied().chain(["--socket", &socket]).collect();
        let (code, said) = as_stranger(&binary, &args);
        assert_eq!(code, 6, "{verb:?}: {said}");
        assert!(
            said.contains(&format!("{socket} (uid 0, mode 0600)")) && said.contains("master.socket_users"),
            "{verb:?}: {said}"
        );
    }
    assert_eq!((m.pids("a").len(), m.log.count("asked by")), (1, 0));
    // The runtime directory lets nobody see what is in it.
    let (code, said) = as_stranger(&binary, &["status", "--runtime-dir", &m.setup.path("run").display().to_string()]);
    assert!(matches!(code, 4 | 6) && said.contains("not readable"), "{code} {said}");
    // Nor does an ordinary user's master take what root has.
    let config = s.dir.path().join("theirs.toml");
    fs::write(&config, "[pool.a]\ncommand = \"sleep 1000\"\n").unwrap();
    let (code, said) = as_stranger(
        &binary,
        &["run", &config.display().to_string(), "--runtime-dir", &m.setup.path("run").display().to_string()],
    );
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cannot open the lock file") || said.contains("cannot use the directory"), "{said}");
}

#[test]
fn a_directory_of_a_stranger_is_not_asked_for_masters() {
    let Some(s) = shared() else { return needs_root("a_directory_of_a_stranger_is_not_asked_for_masters") };
    // Where a client of this user looks by itself, somebody else was first.
    let uid = 54_320;
    let planted = PathBuf::from(format!("/tmp/poolmaster-{uid}"));
    if planted.exists() {
        return skip("a_directory_of_a_stranger_is_not_asked_for_masters", "its place is taken");
    }
    fs::create_dir(&planted).unwrap();
    let fake = UnixListener::bind(planted.join("fake.sock")).unwrap();
    fake.set_nonblocking(true).unwrap();
    give_to(&planted, STRANGER);
    let binary = binary_for_all(s.dir.path());
    let out = Command::new(binary)
        .arg("status")
        .uid(uid)
        .gid(uid)
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("POOLMASTER_SOCKET")
        .output();
    let asked = fake.accept().is_ok();
    fs::remove_dir_all(&planted).unwrap();
    let (code, said) = told(&out.unwrap());
    assert!(!asked, "{said}");
    assert!(code == 4 && said.contains("not a directory of this user alone"), "{code}: {said}");
}

/// A linked folder is no way either, wherever the path comes from: whoever made the link may lead it to what only root may change.
#[test]
fn linked_folders_of_others_are_not_followed_by_any_key() {
    let Some(s) = shared() else { return needs_root("linked_folders_of_others_are_not_followed_by_any_key") };
    let secret = s.dir.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let away = s.link("away", &secret);
    let at = |name: &str| away.join(name).display().to_string();
    for key in ["pidfile", "socket", "log.file", "trace"] {
        let told = s.refused(&format!("{key} = \"{}\"", at(key)), "");
        assert!(told.contains("away is a symbolic link that uid 54321 made"), "{key}: {told}");
    }
    let told = s.refused("", &format!("listen = \"unix:{}\"\n", at("u.sock")));
    assert!(told.contains("away is a symbolic link that uid 54321 made"), "{told}");
    let mut m = setup("[pool.a]\ncommand = \"sleep 1000\"\n").arg("--runtime-dir").arg(&at("run")).start();
    assert_eq!(m.ends(), 1);
    assert!(m.log.text().contains("away is a symbolic link that uid 54321 made"), "{}", m.log.text());
    // Of a pool alone, it is the pool that fails.
    for key in [
        format!("log.stdout = \"file:{}\"", at("out")),
        format!("env_files = [\"{}\"]", at("env")),
        format!("secrets.A = \"file:{}\"", at("a")),
    ] {
        fs::write(secret.join("env"), "SECRET=root").unwrap();
        fs::write(secret.join("a"), "root").unwrap();
        let mut m = setup(&format!("[pool.a]\ncommand = \"sleep 1000\"\n{key}\n[pool.b]\ncommand = \"sleep 1000\"\n")).start();
        m.log.wait_for("away is a symbolic link that uid 54321 made", 1);
        assert!(!m.log.text().contains("SECRET"), "{}", m.log.text());
        m.log.wait_for("b:0 ready", 1);
        assert_eq!(m.stop(), 0);
        fs::remove_file(secret.join("env")).unwrap();
        fs::remove_file(secret.join("a")).unwrap();
    }
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 0, "nothing was put there");
    s.untouched();
}

/// The pool's own user links its file of variables to what it may not read: root does not read it for them.
#[test]
fn a_pools_user_gets_nothing_read_by_a_link() {
    let Some(s) = shared() else { return needs_root("a_pools_user_gets_nothing_read_by_a_link") };
    let private = s.dir.path().join("private.env");
    fs::write(&private, "TOKEN=of-root\n").unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
    let link = s.link("their.env", &private);
    let pools = format!(
        "[pool.a]\ncommand = \"sh -c 'env; sleep 1000'\"\nuser = {STRANGER}\ngroup = {STRANGER}\nworking_dir = \"/\"\nlog.stdout = \"capture\"\nenv_files = [\"{}\"]\n",
        link.display()
    );
    let mut m = setup(&pools).start();
    m.log.wait_for("their.env is a symbolic link that uid 54321 made, and is not followed", 1);
    // To a file of their own they may link it.
    let theirs = s.at("real.env");
    fs::write(&theirs, "TOKEN=of-theirs\n").unwrap();
    std::os::unix::fs::chown(&theirs, Some(STRANGER), None).unwrap();
    fs::remove_file(&link).unwrap();
    s.link("their.env", &theirs);
    m.log.wait_for("TOKEN=of-theirs", 1);
    assert!(!m.log.text().contains("of-root"));
    m.stop();
}

/// A master whose runtime directory was emptied, and whose name another one has by now, ends without taking that one's things along.
#[test]
fn a_master_that_ends_leaves_the_directory_of_its_successor() {
    let mut first = setup("[pool.a]\ncommand = \"sleep 1000\"\n").start().ready();
    let run = first.setup.path("run");
    let name =
        fs::read_dir(&run).unwrap().find_map(|e| e.unwrap().file_name().to_str()?.strip_suffix(".d").map(str::to_owned)).unwrap();
    let dir = run.join(format!("{name}.d"));
    fs::rename(&dir, run.join("gone")).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("mark"), "of the successor").unwrap();
    assert_eq!(first.stop(), 0);
    assert_eq!(fs::read_to_string(dir.join("mark")).unwrap(), "of the successor");
    assert!(first.log.text().contains("is another one's by now: left alone"), "{}", first.log.text());
}
