//! Owns where masters put their sockets when nobody says otherwise, and which files there may be one. Looks, connects to nothing.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::os::lockfile::InstanceLock;

/// Root's runtime directory.
const SYSTEM: &str = "/run/poolmaster";

/// Where a master of this user has its runtime directory when neither flag, environment nor config name one: for root
/// `/run/poolmaster`, for others `$XDG_RUNTIME_DIR/poolmaster` or `/tmp/poolmaster-UID`.
pub fn own_runtime_dir(uid: u32, xdg_runtime_dir: Option<&str>) -> PathBuf {
    match xdg_runtime_dir.filter(|d| d.starts_with('/')) {
        _ if uid == 0 => PathBuf::from(SYSTEM),
        Some(xdg) => Path::new(xdg).join("poolmaster"),
        None => PathBuf::from(format!("/tmp/poolmaster-{uid}")),
    }
}

/// Where a client of this user looks: its own places and root's.
pub fn runtime_dirs(uid: u32, xdg_runtime_dir: Option<&str>) -> Vec<PathBuf> {
    // Both of a user's own: a master started from cron has no XDG_RUNTIME_DIR, the shell that asks for it has.
    let mut dirs = vec![own_runtime_dir(uid, xdg_runtime_dir), own_runtime_dir(uid, None), PathBuf::from(SYSTEM)];
    let mut seen = Vec::new();
    dirs.retain(|d| {
        let new = !seen.contains(d);
        seen.push(d.clone());
        new
    });
    dirs
}

/// Where the master of a config puts what it is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Its control socket.
    pub socket: PathBuf,
    /// Its runtime directory.
    pub runtime_dir: PathBuf,
}

/// The control sockets in a runtime directory, by name, and those elsewhere that a lock file in it tells of; or why there is nothing to
/// be seen in it.
pub(super) fn sockets_in(dir: &Path, uid: u32) -> Result<Vec<PathBuf>, String> {
    let about = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => "not there".to_owned(),
        std::io::ErrorKind::PermissionDenied => "not readable by this user".to_owned(),
        _ => e.to_string(),
    };
    let meta = fs::symlink_metadata(dir).map_err(about)?;
    // In /tmp anybody may have made the directory first, and would then be told what this user tells his master.
    if dir.starts_with("/tmp")
        && dir.parent() == Some(Path::new("/tmp"))
        && (!meta.is_dir() || meta.uid() != uid || meta.mode() & 0o022 != 0)
    {
        return Err("ignored: not a directory of this user alone".to_owned());
    }
    let ends_in = |path: &Path, end: &str| path.extension().is_some_and(|x| x == end);
    let (mut sockets, mut elsewhere) = (Vec::new(), Vec::new());
    for file in fs::read_dir(dir).map_err(about)?.filter_map(Result::ok) {
        let path = file.path();
        match file.file_type() {
            Ok(kind) if kind.is_socket() && ends_in(&path, "sock") => sockets.push(path),
            Ok(kind) if kind.is_file() && ends_in(&path, "lock") => elsewhere.extend(InstanceLock::told(&path)),
            _ => {}
        }
    }
    // What a master that is gone wrote is no stale file.
    sockets.extend(elsewhere.into_iter().filter(|socket| socket.exists()));
    sockets.sort();
    sockets.dedup();
    Ok(sockets)
}

/// The first master's socket, when this is the one of a second master (`NAME.2.sock`).
pub(super) fn first_of_second(socket: &Path) -> Option<PathBuf> {
    let name = socket.file_name()?.to_str()?.strip_suffix(".2.sock")?;
    Some(socket.with_file_name(format!("{name}.sock")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn root_has_one_place_and_others_look_in_all() {
        assert_eq!(runtime_dirs(0, Some("/run/user/0")), [PathBuf::from("/run/poolmaster")]);
        assert_eq!(
            runtime_dirs(1000, Some("/run/user/1000")),
            [PathBuf::from("/run/user/1000/poolmaster"), PathBuf::from("/tmp/poolmaster-1000"), PathBuf::from("/run/poolmaster")]
        );
        assert_eq!(runtime_dirs(1000, None), [PathBuf::from("/tmp/poolmaster-1000"), PathBuf::from("/run/poolmaster")]);
        assert_eq!(own_runtime_dir(7, Some("relative")), PathBuf::from("/tmp/poolmaster-7"));
    }

    #[test]
    fn only_sockets_count_as_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let listeners = ["b.sock", "a.sock", "other"].map(|n| UnixListener::bind(dir.path().join(n)).unwrap());
        fs::write(dir.path().join("file.sock"), "").unwrap();
        fs::create_dir(dir.path().join("dir.sock")).unwrap();
        let found = sockets_in(dir.path(), nix::unistd::geteuid().as_raw()).unwrap();
        assert_eq!(found, [dir.path().join("a.sock"), dir.path().join("b.sock")]);
        // Those that a lock file tells of, once each.
        let told = [("x", "other"), ("a", "a.sock"), ("y", "other"), ("z", "gone")].map(|(name, socket)| {
            let lock = InstanceLock::take(&dir.path().join(format!("{name}.lock"))).unwrap();
            lock.tell(&dir.path().join(socket)).unwrap();
            lock
        });
        let found = sockets_in(dir.path(), nix::unistd::geteuid().as_raw()).unwrap();
        assert_eq!(found, ["a.sock", "b.sock", "other"].map(|name| dir.path().join(name)));
        drop((listeners, told));
    }

    #[test]
    fn a_strangers_directory_in_tmp_is_ignored() {
        let dir = tempfile::Builder::new().prefix("poolmaster-test-").tempdir_in("/tmp").unwrap();
        let stranger = nix::unistd::geteuid().as_raw() + 1;
        assert!(sockets_in(dir.path(), stranger).unwrap_err().contains("ignored"));
        assert_eq!(sockets_in(dir.path(), stranger - 1), Ok(Vec::new()));
    }

    #[test]
    fn second_masters_are_known_by_their_name() {
        assert_eq!(first_of_second(Path::new("/r/shop.2.sock")), Some(PathBuf::from("/r/shop.sock")));
        assert_eq!(first_of_second(Path::new("/r/shop.sock")), None);
        assert_eq!(first_of_second(Path::new("/r/shop2.sock")), None);
    }
}
