//! Owns the kernel's figures about a listening socket: the accept queue and its limit, whether it still listens, its inode number.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::os::errno::{check, retry};
use crate::os::io::{own, read, write};

/// TCP_LISTEN of the kernel's tcp_states.h.
const TCP_LISTEN: u8 = 10;
/// From linux/sock_diag.h and linux/unix_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_RQLEN: u16 = 4;

pub(super) fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut stat = MaybeUninit::<libc::stat64>::zeroed();
    // SAFETY: `stat` is valid for writing.
    check(unsafe { libc::fstat64(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: zeroed is valid, and the call wrote a valid one.
    Ok(unsafe { stat.assume_init() }.st_ino)
}

/// Length and limit of a TCP listener's queue. `None`: it does not listen (any more).
pub(super) fn tcp(fd: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let mut info = [0_u8; 256];
    let mut length = libc::socklen_t::try_from(info.len()).ok()?;
    let raw = fd.as_raw_fd();
    // SAFETY: `info` is valid for writing for `length` bytes.
    check(unsafe { libc::getsockopt(raw, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length) }).ok()?;
    // Of a listener, tcpi_unacked (at 24) is the queue's length and tcpi_sacked (at 28) its limit.
    let complete = usize::try_from(length).is_ok_and(|n| n >= 32);
    (complete && info[0] == TCP_LISTEN).then_some(())?;
    Some((word(&info, 24)?, word(&info, 28)?))
}

/// Has a Unix listener or a UDP socket been shut down? Its state stays "listening" then; the hang-up shows it.
pub(super) fn hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one valid entry; no waiting.
    retry(|| unsafe { libc::poll(&mut poll, 1, 0) }).is_ok() && poll.revents & (libc::POLLHUP | libc::POLLRDHUP) != 0
}

/// Length and limit of a Unix listener's queue, by netlink: no socket option tells it.
pub(super) fn unix(inode: u64) -> Option<(u32, u32)> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory of ours is involved.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG) }).ok()?;
    // SAFETY: just made, owned by nobody else.
    let netlink = unsafe { own(fd) };
    write(&netlink, &request(u32::try_from(inode).ok()?)).ok()?;
    // The kernel answers within the write: nothing to wait for.
    let mut reply = [0; 256];
    let length = read(&netlink, &mut reply).ok()?;
    parse_reply(reply.get(..length)?)
}

/// struct nlmsghdr, then struct unix_diag_req.
fn request(inode: u32) -> [u8; 40] {
    let mut message = [0; 40];
    put(&mut message, 0, &40_u32.to_ne_bytes());
    put(&mut message, 4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(&mut message, 6, &NLM_F_REQUEST.to_ne_bytes());
    put(&mut message, 16, &[u8::try_from(libc::AF_UNIX).unwrap_or(1)]);
    // All states.
    put(&mut message, 20, &u32::MAX.to_ne_bytes());
    put(&mut message, 24, &inode.to_ne_bytes());
    put(&mut message, 28, &UDIAG_SHOW_RQLEN.to_ne_bytes());
    // The cookie: any.
    put(&mut message, 32, &u64::MAX.to_ne_bytes());
    message
}

fn put(message: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in message.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// struct nlmsghdr (16 bytes), struct unix_diag_msg (16), then attributes: length, type, data, each aligned to 4.
fn parse_reply(reply: &[u8]) -> Option<(u32, u32)> {
    if half(reply, 4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut at = 32;
    while let (Some(length), Some(kind)) = (half(reply, at), half(reply, at + 2)) {
        if kind == UNIX_DIAG_RQLEN {
            return Some((word(reply, at + 4)?, word(reply, at + 8)?));
        }
        at += usize::from(length).max(4).next_multiple_of(4);
    }
    None
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_parsed_and_garbage_ends() {
        let mut reply = vec![0; 32];
        put(&mut reply, 4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        // Another attribute of odd length, then the queue.
        for half in [5_u16, 0, 0, 0, 12, UNIX_DIAG_RQLEN] {
            reply.extend(half.to_ne_bytes());
        }
        for word in [3_u32, 128] {
            reply.extend(word.to_ne_bytes());
        }
        assert_eq!(parse_reply(&reply), Some((3, 128)));
        assert_eq!(parse_reply(&reply[..40]), None);
        assert_eq!(parse_reply(&[0; 64]), None);
        assert_eq!(parse_reply(&[]), None);
    }
}
