//! The control socket, both ends.

use std::os::unix::fs::PermissionsExt;

use super::support::{in_own_process, soon};
use crate::os::io::{read, write};
use crate::os::process::{effective_uid, self_pid};
use crate::os::unix::{Accepted, ControlListener, connect, peer_of};

#[test]
fn clients_are_accepted_with_their_credentials() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("control");
    let listener = ControlListener::bind(&path, 0o640).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(matches!(listener.accept().unwrap(), Accepted::Idle));
    let client = connect(&path).unwrap();
    let Accepted::Client(server, peer) = listener.accept().unwrap() else { panic!("no client") };
    assert_eq!((peer.pid, peer.uid), (self_pid(), effective_uid()));
    assert_eq!(peer_of(&client).unwrap().pid, self_pid());
    assert_eq!(read(&server, &mut [0; 4]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    write(&server, b"hello").unwrap();
    let mut buf = [0; 16];
    assert_eq!(read(&client, &mut buf).unwrap(), 5, "the client's end blocks until there is something");
}

#[test]
fn the_path_is_taken_only_when_nobody_uses_it() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("control");
    let first = ControlListener::bind(&path, 0o600).unwrap();
    let text = ControlListener::bind(&path, 0o600).unwrap_err().to_string();
    assert!(text.contains("another process listens on"), "{text}");
    drop(first);
    assert!(path.exists(), "dropping leaves the file");
    let second = soon(|| ControlListener::bind(&path, 0o600));
    second.unlink().unwrap();
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    let text = ControlListener::bind(&path, 0o600).unwrap_err().to_string();
    assert!(text.contains("is a regular file: not replaced"), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn the_mode_is_changed_of_our_own_file_alone() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("control");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let listener = ControlListener::bind(&path, 0o600).unwrap();
    listener.set_mode(0o666).unwrap();
    assert_eq!(mode(&path), 0o666, "whatever the umask");
    listener.set_mode(0o640).unwrap();
    assert_eq!(mode(&path), 0o640);
    // Another file at the path, a link to another, nothing.
    let other = temp.path().join("other");
    std::fs::write(&other, "").unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o604)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let refused = || listener.set_mode(0o666).unwrap_err().to_string();
    assert!(refused().contains("removed or replaced"));
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert!(refused().contains("removed or replaced"));
    std::fs::rename(&other, &path).unwrap();
    assert!(refused().contains("removed or replaced"));
    assert_eq!(mode(&path), 0o604);
}

#[test]
fn promotion_renames_over_the_old_one() {
    let temp = tempfile::tempdir().unwrap();
    let (old, new) = (temp.path().join("name"), temp.path().join("name.2"));
    let first = ControlListener::bind(&old, 0o600).unwrap();
    let mut second = ControlListener::bind(&new, 0o600).unwrap();
    second.rename(&old).unwrap();
    first.unlink().unwrap();
    let _client = connect(&old).unwrap();
    assert!(matches!(second.accept().unwrap(), Accepted::Client(..)));
    assert!(!new.exists());
}

#[test]
fn no_master_is_told_plainly() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("control");
    assert_eq!(connect(&path).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    drop(ControlListener::bind(&path, 0o600).unwrap());
    soon(|| match connect(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn running_out_of_descriptors_turns_clients_away() {
    in_own_process("out_of_descriptors_a_client_is_turned_away_and_nothing_spins");
}
