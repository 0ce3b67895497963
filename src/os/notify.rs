//! Owns the datagram socket a worker reports to. One per worker: a message needs no attribution. What arrives is hostile until proven: sizes
//! are bounded by the caller's buffer, the sender is who the kernel says, and no descriptor of a stranger ever stays open here.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::entry::{Entry, Last};
use super::errno::{check, retry};
use super::handover::{BoundState, Passed, Taken};
use super::io::own;
use super::socket_file::{self, Access, Bound, FileId};

/// Asked for as the receive buffer, in bytes: a burst of messages must not block the worker that sends them.
const BUFFER: i32 = 256 * 1024;

/// Most descriptors that are kept of one message: as many as the kernel sends with one (SCM_MAX_FD).
pub const MOST_DESCRIPTORS: usize = 253;
/// Room for the credentials and these, with their headers, in words of eight bytes.
const CONTROL_WORDS: usize = 8 + MOST_DESCRIPTORS.div_ceil(2);

/// One message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes in the buffer.
    pub len: usize,
    /// It was longer than the buffer: the rest is lost.
    pub truncated: bool,
    /// The sender's user id, vouched for by the kernel.
    pub uid: u32,
    /// The sender's process id; 0 when it lives in a pid namespace of its own.
    pub pid: i32,
}

/// The receiving end of sd_notify.
#[derive(Debug)]
pub struct NotifySocket {
    fd: OwnedFd,
    path: PathBuf,
    file: FileId,
}

impl NotifySocket {
    /// Makes the socket at `path` with these permission bits, for that user (`None`: ours); a socket that is there already is stale (the
    /// name is this worker's alone). The directory has to be ours alone.
    pub fn bind(path: &Path, mode: u32, owner: Option<u32>) -> io::Result<NotifySocket> {
        // What a worker cannot send to is no use.
        socket_file::address(path)?;
        let entry = Entry::at(path, Last::Keep)?;
        let access = Access { mode: Some(mode), owner, group: None };
        let bind = || socket_file::bind_at(libc::SOCK_DGRAM, path, &entry, access).map_err(io::Error::from);
        let Bound { fd, file } = match bind() {
            Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE) => {
                entry.remove()?;
                bind()?
            }
            bound => bound?,
        };
        set_option(&fd, libc::SO_PASSCRED, 1)?;
        // Only a wish: the kernel may clamp it.
        let _ = set_option(&fd, libc::SO_RCVBUF, BUFFER);
        Ok(NotifySocket { fd, path: path.to_owned(), file })
    }

    /// For the next image of this process.
    pub fn state(&self) -> io::Result<BoundState> {
        Ok(BoundState { fd: Passed::of(&self.fd)?, path: self.path.clone(), file: self.file })
    }

    /// As the image before this one has left it, with all that waits in it.
    pub fn restore(state: BoundState, taken: &mut Taken) -> io::Result<NotifySocket> {
        Ok(NotifySocket { fd: taken.take(&state.fd)?, path: state.path, file: state.file })
    }

    /// Where it is: the value of NOTIFY_SOCKET.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file at the path is still ours: else no worker finds it.
    pub fn is_there(&self) -> bool {
        Entry::at(&self.path, Last::Keep).and_then(|entry| entry.id()).is_ok_and(|there| there == self.file)
    }

    /// Takes one message; `None`: there is none. An empty message is one of length 0.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<Option<Datagram>> {
        // Room for the credentials, which the kernel puts first, and for nothing else: descriptors sent along find none, and the kernel
        // drops them without ever opening them here.
        let mut control = [0_u64; 4];
        receive(&self.fd, buf, &mut control, &mut |fd| drop(fd))
    }

    /// As [`NotifySocket::recv`], and keeps the descriptors that come along, at most [`MOST_DESCRIPTORS`] of them.
    pub fn recv_with(&self, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Option<Datagram>> {
        fds.clear();
        let mut control = [0_u64; CONTROL_WORDS];
        receive(&self.fd, buf, &mut control, &mut |fd| fds.push(fd))
    }

    /// Removes the file: the directory is ours alone. (Dropping leaves it: an adopted worker goes on reporting to the path.)
    pub fn unlink(&self) -> io::Result<()> {
        Entry::at(&self.path, Last::Keep)?.remove()
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set_option(fd: &OwnedFd, option: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: `value` is valid for reading for its length.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), length) }).map(drop)
}

/// Receives one datagram; hands over every descriptor that found room in `control`.
pub(crate) fn receive(
    fd: &OwnedFd,
    buf: &mut [u8],
    control: &mut [u64],
    take: &mut dyn FnMut(OwnedFd),
) -> io::Result<Option<Datagram>> {
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: all-zero is a valid msghdr: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(control) as _;
    // SAFETY: the header's buffers are valid for writing for the lengths it gives.
    let got = match retry(|| unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) })
    {
        Ok(got) => usize::try_from(got).unwrap_or(0),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(e) => return Err(e),
    };
    let sender = read_control(&message, take);
    let truncated = message.msg_flags & libc::MSG_TRUNC != 0;
    // Without credentials (impossible with SO_PASSCRED): nobody.
    let (uid, pid) = sender.map_or((u32::MAX, 0), |c| (c.uid, c.pid));
    Ok(Some(Datagram { len: got.min(buf.len()), truncated, uid, pid }))
}

/// Walks over all control messages: hands over descriptors, gives the credentials.
fn read_control(message: &libc::msghdr, take: &mut dyn FnMut(OwnedFd)) -> Option<libc::ucred> {
    let mut sender = None;
    // SAFETY: the kernel has filled in the header.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: null, or a header inside the control buffer.
    while let Some(header) = unsafe { next.as_ref() } {
        // SAFETY: the header lies in the control buffer.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: only computes the length of an empty message.
        let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
        #[allow(clippy::unnecessary_cast)] // size_t or socklen_t, by the libc
        let length = (header.cmsg_len as usize).saturating_sub(overhead);
        match (header.cmsg_level, header.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                // SAFETY: that many bytes are there; unaligned reads are allowed for.
                sender = Some(unsafe { data.cast::<libc::ucred>().read_unaligned() });
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => take_all(data, length / size_of::<i32>(), take),
            _ => {}
        }
        // SAFETY: both lie in the control buffer.
        next = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    sender
}

fn take_all(data: *const u8, count: usize, take: &mut dyn FnMut(OwnedFd)) {
    for index in 0..count {
        let number = data.cast::<i32>().wrapping_add(index);
        // SAFETY: `count` numbers are there; unaligned reads are allowed for.
        let fd = unsafe { number.read_unaligned() };
        // SAFETY: the kernel has just opened it for us; nobody else knows it.
        take(unsafe { own(fd) });
    }
}
