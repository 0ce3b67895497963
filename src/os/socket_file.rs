//! Owns Unix sockets as files: the length of their names, making them appear with the mode and owner that they are to have, telling a stale one
//! from a live one, changing only what is ours. A live socket is never replaced, and a stale one let nobody in anyway: so a new one is bound by
//! the very name that clients use, which is what the kernel and whoever cleans up old files know it by from then on.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use nix::sys::stat::{FileStat, SFlag};

use super::entry::{Entry, Last};
use super::errno::{check, retry};
use super::io::own;

/// What sun_path holds without its NUL.
pub(crate) const LONGEST: usize = 107;

/// A file's identity, whatever its name. Good for as long as the file, or the socket bound to it, is open: its inode number cannot come round
/// again before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of_stat(stat: &FileStat) -> FileId {
        FileId { device: stat.st_dev, inode: stat.st_ino }
    }

    pub(crate) fn of_open(file: &File) -> io::Result<FileId> {
        file.metadata().map(|m| FileId { device: m.dev(), inode: m.ino() })
    }
}

/// An address for bind and connect. Paths that do not fit are an error in words.
pub(crate) fn address(path: &Path) -> io::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.len() > LONGEST || bytes.contains(&0) {
        let text = format!("the path of a Unix socket has 1 to {LONGEST} bytes, this one {}: {}", bytes.len(), path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut address =
        libc::sockaddr_un { sun_family: libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or(1), sun_path: [0; 108] };
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = (*from).cast_signed();
    }
    let length = std::mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
    Ok((address, libc::socklen_t::try_from(length).unwrap_or(0)))
}

/// A Unix socket, close-on-exec and nonblocking.
pub(crate) fn socket(kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory of ours is involved.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { own(fd) })
}

pub(crate) fn connect(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    let (address, length) = address(path)?;
    // SAFETY: the address is valid for reading for its length.
    retry(|| unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}

pub(crate) fn bind(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    let (address, length) = address(path)?;
    // SAFETY: the address is valid for reading for its length.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}

pub(crate) fn listen(fd: &OwnedFd, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: no memory of ours is involved.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// Why a path is not free for a socket of ours.
#[derive(Debug)]
pub(crate) enum Occupied {
    /// Somebody is listening there.
    Live,
    /// What is there is no socket, but this.
    Foreign(&'static str),
    /// It cannot be told.
    Unknown(io::Error),
}

/// Nothing there, or a socket that nobody listens on any more? Told by connecting to it. Gives the stale one.
pub(crate) fn check_free(entry: &Entry) -> Result<Option<FileId>, Occupied> {
    let stat = match entry.stat() {
        Ok(stat) => stat,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Occupied::Unknown(e)),
    };
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFSOCK => {}
        SFlag::S_IFLNK => return Err(Occupied::Foreign("a symbolic link")),
        SFlag::S_IFDIR => return Err(Occupied::Foreign("a directory")),
        SFlag::S_IFREG => return Err(Occupied::Foreign("a regular file")),
        _ => return Err(Occupied::Foreign("no socket")),
    }
    let stale = Some(FileId::of_stat(&stat));
    let probe = socket(libc::SOCK_STREAM).map_err(Occupied::Unknown)?;
    match connect(&probe, &entry.by_descriptor()) {
        Ok(()) => Err(Occupied::Live),
        Err(e) => match e.raw_os_error() {
            // Nobody listens; or it went away meanwhile.
            Some(libc::ECONNREFUSED | libc::ENOENT) => Ok(stale),
            // A full queue; a socket of another type, with an owner (else it would have refused).
            Some(libc::EAGAIN | libc::EPROTOTYPE) => Err(Occupied::Live),
            _ => Err(Occupied::Unknown(e)),
        },
    }
}

/// Who may connect to a socket's file. What is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<u32>,
    pub(crate) group: Option<u32>,
}

impl Access {
    /// What was asked for before and is not any more, goes back to what a new file would have, by this umask.
    pub(crate) fn after(self, before: Access, umask: u32) -> Access {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Access {
            mode: self.mode.or(before.mode.map(|_| 0o777 & !umask)),
            owner: self.owner.or(before.owner.map(|_| uid)),
            group: self.group.or(before.group.map(|_| gid)),
        }
    }

    /// For the file at the entry, if it is still that one; nothing to do where it is another, or gone. An error comes with the name of what could
    /// not be set.
    pub(crate) fn set(self, entry: &Entry, id: FileId) -> Result<bool, (&'static str, io::Error)> {
        let Some(file) = entry.pin(id).map_err(|e| ("mode", e))? else { return Ok(false) };
        // The mode first: only its owner may set it.
        if let Some(mode) = self.mode {
            file.set_mode(mode).map_err(|e| ("mode", e))?;
        }
        // The group first: who has given a file away may not do more.
        if self.group.is_some() {
            file.set_owner(None, self.group).map_err(|e| ("group", e))?;
        }
        if self.owner.is_some() {
            file.set_owner(self.owner, None).map_err(|e| ("owner", e))?;
        }
        Ok(true)
    }
}

/// The same for the file at a path.
pub(crate) fn set_access(path: &Path, id: FileId, access: Access) -> Result<bool, (&'static str, io::Error)> {
    access.set(&Entry::at(path, Last::Keep).map_err(|e| ("mode", e))?, id)
}

/// A second name of the socket's file: by it the first one can be made again when somebody has removed that, and who connects there then comes
/// to the same socket.
const SPARE: &str = ".spare";

/// Makes the second name. Where that is not to be had, it is done without. The caller has made sure that it is the only one to do so.
pub(crate) fn keep_spare(entry: &Entry) {
    let spare = entry.beside(SPARE);
    // That of an earlier start, but nothing else.
    if let Ok(stat) = spare.stat()
        && SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK
    {
        let _ = spare.remove_if(FileId::of_stat(&stat));
    }
    let _ = entry.link(&spare);
}

/// Gives the file its name back. False: its second name is gone as well, or something is in its place.
pub(crate) fn restore(path: &Path, id: FileId) -> io::Result<bool> {
    let entry = Entry::at(path, Last::Keep)?;
    let spare = entry.beside(SPARE);
    match spare.id() {
        Ok(there) if there == id => {}
        Ok(_) => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    }
    match spare.link(&entry) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    }
}

/// Removes all names of the file, each if it is still that one. False: the first was another one's, or gone.
pub(crate) fn unlink_all(path: &Path, id: FileId) -> io::Result<bool> {
    let entry = Entry::at(path, Last::Keep)?;
    let spare = entry.beside(SPARE).remove_if(id);
    let removed = entry.remove_if(id)?;
    spare.map(|_| removed)
}

/// Removes the file at `path` if it is still that one. False: it is another, or gone.
pub(crate) fn unlink_if(path: &Path, id: FileId) -> io::Result<bool> {
    Entry::at(path, Last::Keep)?.remove_if(id)
}

/// Why a socket did not appear.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Its file could not be given its mode, owner or group.
    Access(&'static str, io::Error),
    /// Another step.
    Step(&'static str, io::Error),
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> io::Error {
        match failed {
            Failed::Access(_, e) | Failed::Step(_, e) => e,
        }
    }
}

/// A socket that has a file, and the identity of that.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) fd: OwnedFd,
    pub(crate) file: FileId,
}

/// Makes a listening socket appear at `path`, where there is nothing, or that stale one (see [`check_free`]): with its mode and owner before
/// anybody can connect. The caller has made sure that it is the only one to do so. An error names its step.
pub(crate) fn listen_at(
    path: &Path,
    entry: &Entry,
    stale: Option<FileId>,
    access: Access,
    backlog: u32,
) -> Result<Bound, Failed> {
    let step = |attempt| move |e| Failed::Step(attempt, e);
    // What clients cannot connect to is no use.
    address(path).map_err(step("use this path"))?;
    if let Some(stale) = stale {
        entry.remove_if(stale).map_err(step("remove what an earlier start left behind"))?;
    }
    let bound = bind_at(libc::SOCK_STREAM, path, entry, access)?;
    if let Err(e) = listen(&bound.fd, backlog) {
        // The error that counts is `e`: this is only tidying up.
        let _ = entry.remove_if(bound.file);
        return Err(Failed::Step("listen", e));
    }
    Ok(bound)
}

/// Makes a bound socket, whose file has its mode and owner before anything else is done with it.
pub(crate) fn bind_at(kind: i32, path: &Path, entry: &Entry, access: Access) -> Result<Bound, Failed> {
    let step = |attempt| move |e| Failed::Step(attempt, e);
    let fd = socket(kind).map_err(step("make a socket"))?;
    if let Some(mode) = access.mode {
        // The file is born with these, less the umask.
        // SAFETY: sets the mode of an open socket.
        check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }).map_err(|e| Failed::Access("mode", e))?;
    }
    // By the path where nobody can lead it elsewhere: the kernel shows it by what it is bound to.
    let by_descriptor = entry.is_steerable() || path.as_os_str().len() > LONGEST;
    let name = if by_descriptor { entry.by_descriptor() } else { path.to_owned() };
    bind(&fd, &name).map_err(step("make the socket file"))?;
    let file = entry.id().map_err(step("look at the socket file"))?;
    match access.set(entry, file) {
        Ok(true) => Ok(Bound { fd, file }),
        Ok(false) => Err(Failed::Step("look at the socket file", io::ErrorKind::NotFound.into())),
        Err((what, e)) => {
            // The error that counts is `e`: this is only tidying up.
            let _ = entry.remove_if(file);
            Err(Failed::Access(what, e))
        }
    }
}
