//! Owns Unix sockets as files: the length of their names, making them appear whole and at once, telling a stale one from a live one, removing
//! or changing only what is ours. Never unlink-then-bind: clients would find nothing in between.

use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use super::errno::{check, retry};
use super::io::own;

/// What sun_path holds without its NUL.
pub(crate) const LONGEST: usize = 107;

/// A file's identity, whatever its name. Good for as long as the file, or the socket bound to it, is open: its inode number cannot come round
/// again before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of what lies at the path, a symbolic link itself.
    pub(crate) fn of(path: &Path) -> io::Result<FileId> {
        fs::symlink_metadata(path).map(|m| FileId { device: m.dev(), inode: m.ino() })
    }

    pub(crate) fn of_open(file: &File) -> io::Result<FileId> {
        file.metadata().map(|m| FileId { device: m.dev(), inode: m.ino() })
    }
}

/// Removes the file at `path` if it is still that one. False: it is another, or gone.
pub(crate) fn unlink_if(path: &Path, id: FileId) -> io::Result<bool> {
    match FileId::of(path) {
        Ok(there) if there == id => fs::remove_file(path).map(|()| true),
        Ok(_) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Changes the permission bits of the file at `path` if it is still that one. False: it is another, or gone.
pub(crate) fn chmod_if(path: &Path, id: FileId, mode: u32) -> io::Result<bool> {
    match FileId::of(path) {
        Ok(there) if there == id => fs::set_permissions(path, Permissions::from_mode(mode)).map(|()| true),
        Ok(_) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
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

/// Nothing there, or a socket that nobody listens on any more? Told by connecting to it.
pub(crate) fn check_free(path: &Path) -> Result<(), Occupied> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Occupied::Unknown(e)),
    };
    if !kind.is_socket() {
        return Err(Occupied::Foreign(match kind {
            k if k.is_symlink() => "a symbolic link",
            k if k.is_dir() => "a directory",
            k if k.is_file() => "a regular file",
            _ => "no socket",
        }));
    }
    let probe = socket(libc::SOCK_STREAM).map_err(Occupied::Unknown)?;
    match connect(&probe, path) {
        Ok(()) => Err(Occupied::Live),
        Err(e) => match e.raw_os_error() {
            // Nobody listens; or it went away meanwhile.
            Some(libc::ECONNREFUSED | libc::ENOENT) => Ok(()),
            // A full queue; a socket of another type, with an owner (else it would have refused).
            Some(libc::EAGAIN | libc::EPROTOTYPE) => Err(Occupied::Live),
            _ => Err(Occupied::Unknown(e)),
        },
    }
}

/// Who may connect to a socket's file. What is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Access {
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<u32>,
    pub(crate) group: Option<u32>,
}

impl Access {
    /// An error comes with the name of what could not be set.
    pub(crate) fn set(self, path: &Path) -> Result<(), (&'static str, io::Error)> {
        // The mode first: only its owner may set it.
        if let Some(mode) = self.mode {
            fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| ("mode", e))?;
        }
        // The group first: who has given a file away may not do more.
        if self.group.is_some() {
            lchown(path, None, self.group).map_err(|e| ("group", e))?;
        }
        if self.owner.is_some() {
            lchown(path, self.owner, None).map_err(|e| ("owner", e))?;
        }
        Ok(())
    }
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

/// A listening stream socket and the identity of its file.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) fd: OwnedFd,
    pub(crate) file: FileId,
}

/// Makes a listening socket appear at `path`, over a stale one that may be there: bound under another name in the same directory, given
/// its mode and owner, listening, and then renamed. The caller has made sure that it is the only one to do so. An error names its step.
pub(crate) fn bind_and_rename(path: &Path, access: Access, backlog: u32) -> Result<Bound, Failed> {
    // What clients cannot connect to is no use.
    let step = |attempt| move |e| Failed::Step(attempt, e);
    address(path).map_err(step("use this path"))?;
    let fd = socket(libc::SOCK_STREAM).map_err(step("make a socket"))?;
    let temporary = temporary(path);
    // Left behind by one that died here.
    if fs::symlink_metadata(&temporary).is_ok_and(|m| m.file_type().is_socket()) {
        fs::remove_file(&temporary).map_err(step("remove what an earlier start left behind"))?;
    }
    bind_anywhere(&fd, &temporary).map_err(step("make the socket file"))?;
    let finished = finish(&fd, &temporary, path, access, backlog);
    if finished.is_err() {
        // The error that counts is the first one: this is only tidying up.
        let _ = fs::remove_file(&temporary);
    }
    finished.map(|file| Bound { fd, file })
}

fn finish(fd: &OwnedFd, temporary: &Path, path: &Path, access: Access, backlog: u32) -> Result<FileId, Failed> {
    let step = |attempt| move |e| Failed::Step(attempt, e);
    // Nobody can connect before listen: mode and owner are right from the first moment that counts.
    access.set(temporary).map_err(|(what, e)| Failed::Access(what, e))?;
    let file = FileId::of(temporary).map_err(step("look at the socket file"))?;
    listen(fd, backlog).map_err(step("listen"))?;
    fs::rename(temporary, path).map_err(step("rename the socket file into place"))?;
    Ok(file)
}

/// `NAME.new`, which whoever lists sockets understands; something short and hidden when that would not fit.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    if name.len() <= LONGEST {
        return PathBuf::from(name);
    }
    let mut hash = DefaultHasher::new();
    path.file_name().hash(&mut hash);
    path.with_file_name(format!(".{:x}.new", hash.finish()))
}

/// Even that may be too long in a deep directory: then by way of the directory's descriptor.
fn bind_anywhere(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    if path.as_os_str().len() <= LONGEST {
        return bind(fd, path);
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return bind(fd, path) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let dir = File::open(parent)?;
    bind(fd, &Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}
