//! Owns both ends of the control socket: accepting clients, who the kernel says they are, and connecting to a master. Refuses to read or
//! write: framing is the protocol's.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::entry::{Entry, Last};
use super::errno::{check, retry};
use super::handover::{BoundState, Passed, Taken};
use super::io::{open_null, own, set_nonblocking};
use super::socket_file::{self, Access, FileId, Occupied, check_free, listen_at, set_access, unlink_if};

/// Clients that may wait to be accepted.
const BACKLOG: u32 = 64;

/// How long a client waits for room in a master's queue, and for each write.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is at the other end, as it was when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PeerCred {
    /// Process id; 0 when it lives in a pid namespace of its own.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// What came of looking for a client.
#[derive(Debug)]
pub enum Accepted {
    /// A client. Its socket is nonblocking.
    Client(OwnedFd, PeerCred),
    /// A client, by the last descriptor there was: close it, or another one, before anything else is opened.
    Last(OwnedFd, PeerCred),
    /// A client that was gone again.
    Gone,
    /// Nobody is waiting.
    Idle,
}

/// The master's end.
#[derive(Debug)]
pub struct ControlListener {
    fd: OwnedFd,
    path: PathBuf,
    file: FileId,
    /// A descriptor kept to be given up when there is no other.
    reserve: RefCell<Option<OwnedFd>>,
}

impl ControlListener {
    /// Listens at `path` with these permission bits, at once and whole. Refused when somebody listens there, or when something other
    /// than a socket is there.
    pub fn bind(path: &Path, mode: u32) -> io::Result<ControlListener> {
        let entry = Entry::at(path, Last::Keep)?;
        let stale = check_free(&entry).map_err(|occupied| match occupied {
            Occupied::Live => io::Error::new(io::ErrorKind::AddrInUse, format!("another process listens on {}", path.display())),
            Occupied::Foreign(what) => {
                let text = format!("{} is {what}: not replaced; remove it or name another path", path.display());
                io::Error::new(io::ErrorKind::AlreadyExists, text)
            }
            Occupied::Unknown(e) => e,
        })?;
        let bound = listen_at(path, &entry, stale, Access { mode: Some(mode), ..Access::default() }, BACKLOG)?;
        let reserve = RefCell::new(Some(open_null()?));
        Ok(ControlListener { fd: bound.fd, path: path.to_owned(), file: bound.file, reserve })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the next client. After an error (no memory; no descriptor, and none in reserve) the client is still waiting: look again later, not at
    /// once.
    pub fn accept(&self) -> io::Result<Accepted> {
        let mut reserve = self.reserve.borrow_mut();
        if reserve.is_none() {
            *reserve = open_null().ok();
        }
        match accept_one(&self.fd) {
            Ok(None) => Ok(Accepted::Idle),
            Ok(Some(client)) => Ok(match peer_of(&client) {
                Ok(peer) => Accepted::Client(client, peer),
                Err(_) => Accepted::Gone,
            }),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                // Made again with the next look.
                drop(reserve.take());
                let Some(client) = accept_one(&self.fd)? else { return Ok(Accepted::Idle) };
                Ok(match peer_of(&client) {
                    Ok(peer) => Accepted::Last(client, peer),
                    Err(_) => Accepted::Gone,
                })
            }
            Err(e) => Err(e),
        }
    }

    /// The file at the path is still ours: else nobody finds us.
    pub fn is_there(&self) -> bool {
        Entry::at(&self.path, Last::Keep).and_then(|entry| entry.id()).is_ok_and(|there| there == self.file)
    }

    /// Removes the file, if it is still ours.
    pub fn unlink(&self) -> io::Result<()> {
        unlink_if(&self.path, self.file).map(drop)
    }

    /// Changes the permission bits of the file. Refused when what is at the path is not ours any more: it is left alone.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.set_access(Access { mode: Some(mode), ..Access::default() })
    }

    /// Gives the file to that user. Refused as [`ControlListener::set_mode`].
    pub fn set_owner(&self, uid: u32) -> io::Result<()> {
        self.set_access(Access { owner: Some(uid), ..Access::default() })
    }

    fn set_access(&self, access: Access) -> io::Result<()> {
        if set_access(&self.path, self.file, access).map_err(|(_, e)| e)? {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "the socket file was removed or replaced by somebody else"))
    }

    /// Moves the file over `new`: the promotion of a second master.
    pub fn rename(&mut self, new: &Path) -> io::Result<()> {
        Entry::at(&self.path, Last::Keep)?.rename(&Entry::at(new, Last::Keep)?)?;
        self.path = new.to_owned();
        Ok(())
    }
}

impl ControlListener {
    /// For the next image of this process.
    pub fn state(&self) -> io::Result<BoundState> {
        Ok(BoundState { fd: Passed::of(&self.fd)?, path: self.path.clone(), file: self.file })
    }

    /// As the image before this one has left it, with those who wait at it.
    pub fn restore(state: BoundState, taken: &mut Taken) -> io::Result<ControlListener> {
        let reserve = RefCell::new(Some(open_null()?));
        Ok(ControlListener { fd: taken.take(&state.fd)?, path: state.path, file: state.file, reserve })
    }
}

impl AsFd for ControlListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn accept_one(fd: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    loop {
        // SAFETY: no address is asked for.
        let got = retry(|| unsafe { libc::accept4(fd.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) });
        return match got {
            // SAFETY: just made, owned by nobody else.
            Ok(client) => Ok(Some(unsafe { own(client) })),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // That one has gone again.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(e) => Err(e),
        };
    }
}

/// Who is at the other end of a connected Unix socket.
pub fn peer_of(fd: impl AsFd) -> io::Result<PeerCred> {
    let mut peer = MaybeUninit::<libc::ucred>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: `peer` is valid for writing for `length` bytes.
    check(unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, peer.as_mut_ptr().cast(), &mut length) })?;
    // SAFETY: zeroed is valid, and the call wrote a valid one.
    let peer = unsafe { peer.assume_init() };
    Ok(PeerCred { pid: peer.pid, uid: peer.uid, gid: peer.gid })
}

/// Connects to a master. The socket is blocking; a master that takes no clients or reads nothing is given up after 5 s (`WouldBlock`).
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket_file::socket(libc::SOCK_STREAM)?;
    set_nonblocking(&fd, false)?;
    let patience = libc::timeval { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(5) as _, tv_usec: 0 };
    let length = libc::socklen_t::try_from(size_of::<libc::timeval>()).unwrap_or(0);
    let raw = fd.as_raw_fd();
    // SAFETY: `patience` is valid for reading for its length.
    check(unsafe { libc::setsockopt(raw, libc::SOL_SOCKET, libc::SO_SNDTIMEO, (&raw const patience).cast(), length) })?;
    socket_file::connect(&fd, path)?;
    Ok(fd)
}
