//! Locks and pid files.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::support::{Killed, ended, outcome, plan, soon};
use crate::os::io::pipe_cloexec;
use crate::os::lockfile::{InstanceLock, LockError, PidFile};
use crate::os::process::self_pid;
use crate::os::spawn::{Source, spawn};

#[test]
fn there_is_one_holder_and_it_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("shop.lock");
    let lock = InstanceLock::take(&path).unwrap();
    let refused = InstanceLock::take(&path).unwrap_err();
    assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid == self_pid()));
    assert!(refused.to_string().contains(&format!("is held by process {} (", self_pid())), "{refused}");
    lock.release().unwrap();
    assert!(!path.exists());
    let again = soon(|| InstanceLock::take(&path));
    drop(again);
    assert!(path.exists());
    soon(|| InstanceLock::take(&path));
}

#[test]
fn a_lock_file_tells_where_its_holder_is_reached() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("shop.lock");
    let lock = InstanceLock::take(&path).unwrap();
    assert_eq!(InstanceLock::told(&path), None);
    for socket in ["/a/much/longer/path/than/the/next/one.sock", "/s"] {
        lock.tell(Path::new(socket)).unwrap();
        assert_eq!(InstanceLock::told(&path), Some(PathBuf::from(socket)));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n{socket}\n", self_pid()));
    }
    let refused = InstanceLock::take(&path).unwrap_err();
    assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid == self_pid()), "{refused}");
    symlink(&path, temp.path().join("link.lock")).unwrap();
    fs::create_dir(temp.path().join("dir.lock")).unwrap();
    for (name, text) in [("a.lock", "7\nrelative\n"), ("b.lock", ""), ("c.lock", "7\n"), ("d.lock", "no number")] {
        fs::write(temp.path().join(name), text).unwrap();
    }
    for none in ["link.lock", "dir.lock", "a.lock", "b.lock", "c.lock", "d.lock", "none.lock"] {
        assert_eq!(InstanceLock::told(&temp.path().join(none)), None, "{none}");
    }
}

#[test]
fn a_lock_is_no_way_to_write_elsewhere() {
    let temp = tempfile::tempdir().unwrap();
    let (link, target) = (temp.path().join("link"), temp.path().join("target"));
    fs::write(&target, "precious").unwrap();
    symlink(&target, &link).unwrap();
    assert!(matches!(InstanceLock::take(&link), Err(LockError::Foreign { .. })));
    assert!(matches!(PidFile::create(&link), Err(LockError::Foreign { .. })));
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

#[test]
fn a_pid_file_lives_and_goes_with_its_owner() {
    let temp = tempfile::tempdir().unwrap();
    let (path, new) = (temp.path().join("a.pid"), temp.path().join("b.pid"));
    let mut file = PidFile::create(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", self_pid()));
    file.rename(&new).unwrap();
    assert!(!path.exists() && file.path() == new);
    assert!(file.remove().unwrap());
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn another_ones_pid_file_is_not_removed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.pid");
    let file = PidFile::create(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "1\n").unwrap();
    assert!(!file.remove().unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
}

#[test]
fn a_stale_pid_file_is_replaced_a_held_one_never() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.pid");
    // Gone; and alive, but without the lock: a number that came round again.
    for stale in ["5000000\n", "1\n", ""] {
        fs::write(&path, stale).unwrap();
        assert!(soon(|| PidFile::create(&path)).remove().unwrap());
    }
    // Another process that has the lock: it inherited it from us.
    let (r, w) = pipe_cloexec().unwrap();
    let file = File::create_new(&path).unwrap();
    file.try_lock().unwrap();
    let mut cat = plan(&["cat"]);
    (cat.stdin, cat.fds) = (Source::Fd(r.as_fd()), vec![file.as_fd()]);
    let child = spawn(&cat).unwrap();
    outcome(&child).unwrap();
    drop(file);
    fs::write(&path, format!("{}\n", child.pid)).unwrap();
    let refused = PidFile::create(&path).unwrap_err();
    assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid == child.pid), "{refused}");
    assert!(refused.to_string().contains("(cat)"), "{refused}");
    drop(w);
    ended(child.pid);
    assert!(soon(|| PidFile::create(&path)).remove().unwrap());
}

#[test]
fn what_is_no_pid_file_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.pid");
    fs::write(&path, "important notes").unwrap();
    let text = PidFile::create(&path).unwrap_err().to_string();
    assert!(text.contains("is no pid file") && text.contains("not touched"), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "important notes");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(PidFile::create(&path), Err(LockError::Foreign { .. })));
    let missing = temp.path().join("no/such/dir/a.pid");
    assert!(matches!(PidFile::create(&missing), Err(LockError::Io { .. })));
}

#[test]
fn the_holder_of_a_dead_process_is_not_believed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("x.lock");
    let (r, _w) = pipe_cloexec().unwrap();
    let lock = InstanceLock::take(&path).unwrap();
    let mut cat = plan(&["cat"]);
    cat.stdin = Source::Fd(r.as_fd());
    let child = spawn(&cat).unwrap();
    let _killed = Killed(child.pid);
    outcome(&child).unwrap();
    // The child runs, and has nothing of ours: the lock ends with us.
    drop(lock);
    soon(|| InstanceLock::take(&path));
}
