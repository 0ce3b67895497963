//! Entries in folders that others can steer.

use std::fs::{self, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::os::entry::{Entry, Last, remove_tree};
use crate::os::io::{append_to, overwrite, read_file};
use crate::os::listener::{ListenAddress, ListenSpec, Listening, SocketOptions};
use crate::os::lockfile::{InstanceLock, PidFile};
use crate::os::process::effective_uid;
use crate::os::unix::ControlListener;
use crate::os::{dirs, dirs::ensure_dir};

/// Nobody of this host.
const STRANGER: u32 = 54_321;

/// `root`: ours alone. `theirs`: a stranger's, with a link in it to `root`, and one to `theirs/own`.
struct Host {
    dir: tempfile::TempDir,
}

fn host() -> Option<Host> {
    if effective_uid() != 0 {
        eprintln!("skipped: needs root, to be two users");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let host = Host { dir };
    for (name, mode) in [("root", 0o700), ("theirs", 0o755), ("theirs/own", 0o755)] {
        fs::create_dir(host.at(name)).unwrap();
        fs::set_permissions(host.at(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::write(host.at("root/precious"), "precious").unwrap();
    fs::set_permissions(host.at("root/precious"), Permissions::from_mode(0o600)).unwrap();
    symlink(host.at("root"), host.at("theirs/away")).unwrap();
    symlink(host.at("theirs/own"), host.at("theirs/current")).unwrap();
    for name in ["theirs", "theirs/own", "theirs/away", "theirs/current"] {
        lchown(host.at(name), Some(STRANGER), Some(STRANGER)).unwrap();
    }
    Some(host)
}

impl Host {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.at("root")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["precious"]);
        let meta = fs::metadata(self.at("root/precious")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o600, 0));
        assert_eq!(fs::read_to_string(self.at("root/precious")).unwrap(), "precious");
    }
}

fn unix(path: &Path) -> ListenSpec {
    ListenSpec {
        address: ListenAddress::Unix(path.to_owned()),
        backlog: 8,
        nonblocking: true,
        nodelay: false,
        mode: Some(0o666),
        owner: Some(STRANGER),
        group: Some(STRANGER),
        options: SocketOptions::default(),
    }
}

type Operation = fn(&Path) -> Result<(), String>;

/// Every way in which the master makes, changes, removes or reads something by a path.
const OPERATIONS: [(&str, Operation); 9] = [
    ("append", |path| append_to(path).map(drop).map_err(|e| e.to_string())),
    ("overwrite", |path| overwrite(path).map(drop).map_err(|e| e.to_string())),
    ("read", |path| read_file(path, 1000).map(drop).map_err(|e| e.to_string())),
    ("listen", |path| Listening::open(&unix(path)).map(drop).map_err(|e| e.to_string())),
    ("control", |path| ControlListener::bind(path, 0o666).map(drop).map_err(|e| e.to_string())),
    ("pid file", |path| PidFile::create(path).map(drop).map_err(|e| e.to_string())),
    ("lock", |path| InstanceLock::take(path).map(drop).map_err(|e| e.to_string())),
    ("folder", |path| ensure_dir(path, 0o777, 0).map(drop).map_err(|e| e.to_string())),
    ("removal", |path| {
        let id = dirs::found(path).map_err(|e| e.to_string())?;
        remove_tree(path, id).map(drop).map_err(|e| e.to_string())
    }),
];

#[test]
fn no_operation_follows_a_strangers_link_to_what_is_not_theirs() {
    let Some(host) = host() else { return };
    for (what, operation) in OPERATIONS {
        for name in ["new", "precious"] {
            let told = operation(&host.at("theirs/away").join(name)).unwrap_err();
            let missing = what == "read" && name == "new";
            assert!(missing || told.contains("away is a symbolic link that uid 54321 made"), "{what} {name}: {told}");
            host.untouched();
        }
    }
    // As the last name too.
    symlink(host.at("root/precious"), host.at("theirs/file")).unwrap();
    lchown(host.at("theirs/file"), Some(STRANGER), Some(STRANGER)).unwrap();
    for (what, operation) in OPERATIONS {
        if what != "removal" {
            operation(&host.at("theirs/file")).unwrap_err();
            host.untouched();
        }
    }
}

#[test]
fn their_links_to_what_is_theirs_and_ours_to_anything_are_followed() {
    let Some(host) = host() else { return };
    // A link to the current release, as deployments make it.
    append_to(&host.at("theirs/current/log")).unwrap();
    chown(host.at("theirs/own/log"), Some(STRANGER), None).unwrap();
    assert!(read_file(&host.at("theirs/current/log"), 10).unwrap().is_empty());
    let socket = Listening::open(&unix(&host.at("theirs/current/u.sock"))).unwrap();
    let meta = fs::metadata(host.at("theirs/own/u.sock")).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.uid(), meta.gid()), (0o666, STRANGER, STRANGER));
    drop(socket);
    // What is in their folder and not theirs is not read by their link.
    fs::write(host.at("theirs/own/ours"), "x").unwrap();
    assert!(read_file(&host.at("theirs/current/ours"), 10).unwrap_err().to_string().contains("uid 54321"));
    assert_eq!(read_file(&host.at("theirs/own/ours"), 10).unwrap(), b"x");
    symlink(host.at("root"), host.at("link")).unwrap();
    append_to(&host.at("link/precious")).unwrap();
    host.untouched();
    assert_eq!(fs::read_dir(host.at("root")).unwrap().count(), 1);
    // Chains and loops end.
    symlink("loop", host.at("loop")).unwrap();
    assert_eq!(append_to(&host.at("loop")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    assert_eq!(append_to(&host.at("loop/x")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
}

#[test]
fn dots_are_the_kernels_business() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    symlink(dir.path().join("a/b"), dir.path().join("l")).unwrap();
    fs::write(dir.path().join("a/file"), "a").unwrap();
    assert_eq!(read_file(&dir.path().join("l/../file"), 9).unwrap(), b"a");
    assert!(Entry::at(&dir.path().join("l/.."), Last::Keep).is_err(), "that is no name in a folder");
    assert_eq!(append_to(&dir.path().join("no/such")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert_eq!(append_to(&dir.path().join("a/file/x")).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
}

/// A stranger swaps a folder of theirs for a link to ours, and a file for a link, as fast as they can, while the master opens its sockets there.
#[test]
fn a_stranger_who_swaps_links_in_a_loop_gains_nothing() {
    let Some(host) = host() else { return };
    let swap = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); \
                mkdir -p sub 2>/dev/null; rm -rf sub; ln -s ../root sub 2>/dev/null; rm -f sub; \
                ln -sf ../root/precious u.sock.new 2>/dev/null; rm -f u.sock.new; ln -s ../root/precious u.sock 2>/dev/null; rm -f u.sock; done";
    let mut attacker = Command::new("sh");
    attacker.args(["-c", swap]).current_dir(host.at("theirs")).uid(STRANGER).gid(STRANGER).stderr(Stdio::null());
    let mut attacker = attacker.spawn().unwrap();
    let mut tries = 0;
    while attacker.try_wait().unwrap().is_none() {
        for path in ["theirs/sub/u.sock", "theirs/u.sock"] {
            // It may fail; what matters is where it ends up.
            if let Ok(mut socket) = Listening::open(&unix(&host.at(path))) {
                let _ = socket.set_options(&unix(&host.at(path)));
                let _ = socket.unlink_if_owner();
            }
        }
        if let Ok(control) = ControlListener::bind(&host.at("theirs/sub/c.sock"), 0o600) {
            let _ = control.set_mode(0o666);
            let _ = control.unlink();
        }
        let _ = append_to(&host.at("theirs/sub/log"));
        let _ = ensure_dir(&host.at("theirs/sub/dir"), 0o777, STRANGER);
        tries += 1;
    }
    assert!(tries > 10, "only {tries} tries");
    host.untouched();
}

#[test]
fn the_kernel_knows_a_socket_by_the_name_that_clients_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("u.sock");
    let socket = Listening::open(&ListenSpec { owner: None, group: None, ..unix(&path) }).unwrap();
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let inode = socket.inode().to_string();
    let line = table.lines().find(|line| line.split_whitespace().nth(6) == Some(&inode)).expect("it is listed");
    assert!(line.ends_with(&format!(" {}", path.display())), "{line}");
    use std::os::fd::AsFd;
    let name: nix::sys::socket::UnixAddr = nix::sys::socket::getsockname(socket.as_fd().as_raw_fd()).unwrap();
    assert_eq!(name.path(), Some(path.as_path()));
    let mode = fs::metadata(&path).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o666, "whatever the umask");
}

#[test]
fn a_folder_that_came_in_the_place_of_ours_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d");
    let (id, made) = ensure_dir(&path, 0o711, effective_uid()).unwrap();
    assert!(made);
    fs::rename(&path, dir.path().join("moved")).unwrap();
    assert!(!remove_tree(&path, id).unwrap(), "gone");
    let (other, made) = ensure_dir(&path, 0o711, effective_uid()).unwrap();
    assert!(made && other != id);
    fs::create_dir_all(path.join("sub/sub")).unwrap();
    symlink(dir.path().join("moved"), path.join("sub/link")).unwrap();
    fs::write(dir.path().join("moved/file"), "").unwrap();
    assert!(!remove_tree(&path, id).unwrap());
    assert!(path.join("sub/sub").exists());
    assert!(remove_tree(&path, other).unwrap());
    assert!(!path.exists() && dir.path().join("moved/file").exists());
}
