//! Owns the way to a directory entry that is made, changed or removed: its folder is reached step by step, and from there on everything goes by
//! the folder's descriptor, whatever is done to the path meanwhile. A symbolic link that a stranger made (neither root nor we) is followed only
//! to what is the stranger's own: else others would steer what we may do. The rule is that of systemd's "unsafe path transitions".

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use nix::fcntl::{self, AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

use super::process::effective_uid;
use super::socket_file::FileId;

/// Links of one path, as the kernel allows.
const LINKS: u32 = 40;

/// What becomes of a link in the place of the last name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// It is the entry.
    Keep,
    /// The entry is where it leads to.
    Follow,
}

/// A name in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    folder: Rc<OwnedFd>,
    name: OsString,
    /// Who made a link that was followed, and where.
    link: Option<(u32, PathBuf)>,
    /// A folder on the way belongs to a stranger, who can put a link in its place at any time.
    steerable: bool,
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Files of root's and of our own are under nobody else's control.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == effective_uid()
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components().filter(|c| !matches!(c, Component::RootDir)).map(|c| c.as_os_str().to_owned()).collect()
}

impl Entry {
    /// Reaches the folder of `path`. The entry itself need not be there.
    pub(crate) fn at(path: &Path, last: Last) -> io::Result<Entry> {
        let entry = walk(path, last)?;
        if let Some((uid, link)) = &entry.link
            && fstat(&*entry.folder)?.st_uid != *uid
        {
            return Err(not_followed(*uid, link));
        }
        Ok(entry)
    }

    /// Opens the file at `path` to read, by links that strangers made only what is theirs. Never waits for anybody.
    pub(crate) fn read(path: &Path) -> io::Result<File> {
        let entry = walk(path, Last::Follow)?;
        let file = entry.open(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, 0)?;
        match &entry.link {
            Some((uid, link)) if fstat(&file)?.st_uid != *uid => Err(not_followed(*uid, link)),
            _ => Ok(file),
        }
    }

    /// The same folder, another name: this one's with an ending.
    pub(crate) fn beside(&self, ending: &str) -> Entry {
        let mut name = self.name.clone();
        name.push(ending);
        Entry { name, ..self.clone() }
    }

    /// Somebody else can make the path lead elsewhere: no call may be given the path.
    pub(crate) fn is_steerable(&self) -> bool {
        self.steerable
    }

    /// A path for calls that take no descriptor. It leads to this very folder for as long as the entry is held.
    pub(crate) fn by_descriptor(&self) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.folder.as_raw_fd())).join(&self.name)
    }

    /// Opens it, never through a link. New files get this mode, less the umask.
    pub(crate) fn open(&self, flags: OFlag, mode: u32) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(fcntl::openat(&*self.folder, self.name.as_os_str(), flags, Mode::from_bits_truncate(mode))?))
    }

    /// What is there, a link itself.
    pub(crate) fn stat(&self) -> io::Result<FileStat> {
        Ok(fstatat(&*self.folder, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Whose it is, if what is there is a link.
    pub(crate) fn link_owner(&self) -> Option<u32> {
        self.stat().ok().filter(|stat| kind(stat) == SFlag::S_IFLNK).map(|stat| stat.st_uid)
    }

    /// Which file is there.
    pub(crate) fn id(&self) -> io::Result<FileId> {
        self.stat().map(|stat| FileId::of_stat(&stat))
    }

    /// Makes a folder.
    pub(crate) fn make_folder(&self, mode: u32) -> io::Result<()> {
        Ok(mkdirat(&*self.folder, self.name.as_os_str(), Mode::from_bits_truncate(mode))?)
    }

    /// Removes what is no folder.
    pub(crate) fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(&*self.folder, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes it if it is still that file. False: it is another, or gone.
    pub(crate) fn remove_if(&self, id: FileId) -> io::Result<bool> {
        match self.id() {
            Ok(there) if there == id => self.remove().map(|()| true),
            Ok(_) => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes a folder that is empty.
    pub(crate) fn remove_folder(&self) -> io::Result<()> {
        Ok(unlinkat(&*self.folder, self.name.as_os_str(), UnlinkatFlags::RemoveDir)?)
    }

    /// Gives it the place of another entry, of whatever is there.
    pub(crate) fn rename(&self, to: &Entry) -> io::Result<()> {
        Ok(fcntl::renameat(&*self.folder, self.name.as_os_str(), &*to.folder, to.name.as_os_str())?)
    }

    /// Makes a further name of the file that is there, a link itself, where nothing is.
    pub(crate) fn link(&self, to: &Entry) -> io::Result<()> {
        let (from, at) = (self.name.as_os_str(), to.name.as_os_str());
        Ok(nix::unistd::linkat(&*self.folder, from, &*to.folder, at, AtFlags::empty())?)
    }

    /// The file that is there, if it is still that one, to be changed by its descriptor alone.
    pub(crate) fn pin(&self, id: FileId) -> io::Result<Option<Pinned>> {
        let file = match self.open(OFlag::O_PATH, 0) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        Ok((FileId::of_open(&file)? == id).then_some(Pinned(file)))
    }
}

/// A file held by a descriptor that can do nothing but name it.
#[derive(Debug)]
pub(crate) struct Pinned(File);

impl Pinned {
    /// Sets its permission bits, whatever the umask.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        // fchmod(2) refuses such a descriptor; the kernel's own link to it is as good.
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Ok(fchmodat(AT_FDCWD, path.as_str(), Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)?)
    }

    /// Sets its owner, its group. What is `None` stays.
    pub(crate) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        Ok(fchownat(self.0.as_fd(), "", uid, gid, AtFlags::AT_EMPTY_PATH)?)
    }
}

/// Removes a folder with all that is in it, if it is still that one. False: it is another, or gone.
pub(crate) fn remove_tree(path: &Path, id: FileId) -> io::Result<bool> {
    let entry = Entry::at(path, Last::Keep)?;
    let folder = match entry.open(OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    if FileId::of_open(&folder)? != id {
        return Ok(false);
    }
    empty(&folder)?;
    match entry.id() {
        Ok(there) if there == id => entry.remove_folder().map(|()| true),
        _ => Ok(false),
    }
}

/// Removes all that is in a folder; what others put there meanwhile stays.
fn empty(folder: &File) -> io::Result<()> {
    for found in fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))? {
        let found = found?;
        // What is below is removed by descriptors too, and no link is followed.
        let removed = if found.file_type()?.is_dir() { fs::remove_dir_all(found.path()) } else { fs::remove_file(found.path()) };
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn not_followed(uid: u32, link: &Path) -> io::Error {
    let why = format!("{} is a symbolic link that uid {uid} made, and is not followed to what is not theirs", link.display());
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn walk(path: &Path, last: Last) -> io::Result<Entry> {
    let mut left = names(path);
    let mut folder = open_folder(AT_FDCWD, if path.is_absolute() { "/" } else { "." }.as_ref())?;
    let (mut at, mut links, mut link) = (PathBuf::from(if path.is_absolute() { "/" } else { "" }), 0, None::<(u32, PathBuf)>);
    let mut steerable = false;
    loop {
        let Some(name) = left.pop_front() else { return Err(invalid("it names no file")) };
        let is_last = left.is_empty() && name != ".." && name != ".";
        let found = match fstatat(&folder, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(nix::Error::ENOENT) if is_last => None,
            found => Some(found?),
        };
        let is_link = found.as_ref().is_some_and(|stat| kind(stat) == SFlag::S_IFLNK);
        if is_last && !(is_link && last == Last::Follow) {
            return Ok(Entry { folder: Rc::new(folder), name, link, steerable });
        }
        if is_link {
            links += 1;
            if links > LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            // The very link whose owner is asked: by its own descriptor.
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let held = fcntl::openat(&folder, name.as_os_str(), flags, Mode::empty())?;
            let owner = fstat(&held)?.st_uid;
            if !is_trusted(owner) {
                match &link {
                    Some((other, first)) if *other != owner => return Err(not_followed(*other, first)),
                    _ => link = link.or(Some((owner, at.join(&name)))),
                }
            }
            let target = PathBuf::from(fcntl::readlinkat(&held, "")?);
            if target.is_absolute() {
                folder = open_folder(AT_FDCWD, "/".as_ref())?;
                at = PathBuf::from("/");
            }
            let mut names = names(&target);
            names.append(&mut left);
            left = names;
            continue;
        }
        folder = open_folder(&folder, &name)?;
        steerable |= !is_trusted(fstat(&folder)?.st_uid);
        at.push(&name);
    }
}

fn open_folder(from: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    // Not through a link that has come in its place since.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(fcntl::openat(from, name.as_bytes(), flags, Mode::empty())?)
}
