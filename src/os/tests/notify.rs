//! The notify socket under friendly and hostile senders.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use super::support::{DEADLINE, readable_within};
use crate::os::io::{pipe_cloexec, read};
use crate::os::notify::{Datagram, NotifySocket, receive};
use crate::os::process::{effective_uid, self_pid};
use std::os::fd::AsFd;

fn socket() -> (tempfile::TempDir, NotifySocket) {
    let temp = tempfile::tempdir().unwrap();
    let socket = NotifySocket::bind(&temp.path().join("notify"), 0o600, None).unwrap();
    (temp, socket)
}

fn client(socket: &NotifySocket) -> UnixDatagram {
    let client = UnixDatagram::unbound().unwrap();
    client.connect(socket.path()).unwrap();
    client
}

#[test]
fn messages_come_with_their_sender() {
    let (_temp, socket) = socket();
    let mut buf = [0; 64];
    assert_eq!(socket.recv(&mut buf).unwrap(), None);
    let client = client(&socket);
    client.send(b"READY=1").unwrap();
    client.send(b"").unwrap();
    let (uid, pid) = (effective_uid(), self_pid());
    assert_eq!(socket.recv(&mut buf).unwrap(), Some(Datagram { len: 7, truncated: false, uid, pid }));
    assert_eq!(&buf[..7], b"READY=1");
    assert_eq!(socket.recv(&mut buf).unwrap(), Some(Datagram { len: 0, truncated: false, uid, pid }));
    assert_eq!(socket.recv(&mut buf).unwrap(), None);
}

#[test]
fn an_oversized_message_is_cut_and_marked() {
    let (_temp, socket) = socket();
    client(&socket).send(&[b'x'; 5000]).unwrap();
    let mut buf = [0; 64];
    let got = socket.recv(&mut buf).unwrap().unwrap();
    assert!(got.len == 64 && got.truncated);
    assert_eq!(socket.recv(&mut buf).unwrap(), None, "the rest is gone");
}

#[test]
fn the_mode_is_right_and_a_stale_file_is_replaced() {
    let (temp, socket) = socket();
    let mode = std::fs::metadata(socket.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = NotifySocket::bind(&temp.path().join("notify"), 0o622, None).unwrap();
    assert_eq!(std::fs::metadata(second.path()).unwrap().permissions().mode() & 0o777, 0o622);
    second.unlink().unwrap();
    assert!(!second.path().exists());
    assert_eq!(second.unlink().unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_path_that_is_too_long_is_told_in_words() {
    let path = std::path::PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
    let text = NotifySocket::bind(&path, 0o600, None).unwrap_err().to_string();
    assert!(text.contains("107 bytes, this one 125"), "{text}");
}

/// Sends the write end of a fresh pipe `count` times in one message; gives the read end, at its end once no copy is left.
fn send_descriptors(socket: &NotifySocket, count: usize) -> std::os::fd::OwnedFd {
    let (r, w) = pipe_cloexec().unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    let fds: Vec<RawFd> = vec![w.as_raw_fd(); count];
    let address = UnixAddr::new(socket.path()).unwrap();
    let control = [ControlMessage::ScmRights(&fds)];
    sendmsg(sender.as_raw_fd(), &[IoSlice::new(b"FDSTORE=1")], &control, MsgFlags::empty(), Some(&address)).unwrap();
    r
}

fn assert_all_closed(read_end: &std::os::fd::OwnedFd) {
    // Children of other tests hold copies for a moment.
    assert!(readable_within(read_end, DEADLINE), "a descriptor was kept");
    assert_eq!(read(read_end, &mut [0; 1]).unwrap(), 0);
}

#[test]
fn descriptors_sent_along_are_never_kept() {
    let (_temp, socket) = socket();
    for count in [1, 3, 253] {
        let r = send_descriptors(&socket, count);
        let got = socket.recv(&mut [0; 64]).unwrap().unwrap();
        assert_eq!((got.len, got.uid, got.pid), (9, effective_uid(), self_pid()));
        assert_all_closed(&r);
    }
}

#[test]
fn descriptors_that_found_room_are_closed_also_when_not_all_did() {
    let (_temp, socket) = socket();
    let fd = socket.as_fd().try_clone_to_owned().unwrap();
    // Room for all; for some; for one.
    for words in [200, 20, 7] {
        let r = send_descriptors(&socket, 100);
        let mut control = vec![0_u64; words];
        let got = receive(&fd, &mut [0; 64], &mut control, &mut |fd| drop(fd)).unwrap().unwrap();
        assert_eq!(got.uid, effective_uid());
        assert_all_closed(&r);
    }
}
