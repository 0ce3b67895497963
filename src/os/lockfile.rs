//! Owns "only one of us": locks on files, which end with the process whatever happens to it, and the pid file. Refuses to judge by a
//! process id alone: numbers come round again.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::entry::{Entry, Last};
use super::errno::{check, reason, retry};
use super::handover::{LockState, Passed, Taken};
use super::process::{exists, self_pid};
use super::procfs;
use super::socket_file::{FileId, unlink_if};

/// Why a lock or a pid file was not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("{} is held by {}", path.display(), holder(*pid))]
    Held {
        /// The file.
        path: PathBuf,
        /// The process that wrote itself into it; `None` when it has not (yet).
        pid: Option<i32>,
    },
    /// Something is there that must not be touched.
    #[error("{} is {what}: not touched; name another file, or remove it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is, in words.
        what: &'static str,
    },
    /// The kernel refused.
    #[error("cannot {attempt} {}: {}", path.display(), reason(source))]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn holder(pid: Option<i32>) -> String {
    match pid.map(|pid| (pid, procfs::command(pid))) {
        None => "another process".to_owned(),
        Some((pid, None)) => format!("process {pid}"),
        Some((pid, Some(name))) => format!("process {pid} ({name})"),
    }
}

fn failed<'a>(attempt: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LockError + 'a {
    move |source| LockError::Io { attempt, path: path.to_owned(), source }
}

/// The same of an open with O_NOFOLLOW.
fn unopened<'a>(attempt: &'static str, path: &'a Path, entry: &'a Entry) -> impl FnOnce(io::Error) -> LockError + 'a {
    move |e| match e.raw_os_error() {
        // EACCES: kernels that refuse others' links themselves in directories that everybody may write to.
        Some(libc::ELOOP | libc::EACCES) if entry.link_owner().is_some() => {
            LockError::Foreign { path: path.to_owned(), what: "a symbolic link" }
        }
        _ => failed(attempt, path)(e),
    }
}

/// False: another open file has the lock.
fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: locks an open file.
    match retry(|| unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

/// The pid in the first line of a file that [`write_pid`] wrote. `None`: something else is in it.
fn read_pid(file: &mut File) -> io::Result<Option<i32>> {
    let mut text = Vec::new();
    file.rewind()?;
    Read::by_ref(file).take(32).read_to_end(&mut text)?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok()).filter(|pid| *pid > 0))
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", self_pid())
}

/// A lock on a file of its own: whoever has it is the one. It ends with this value, or with the process.
#[derive(Debug)]
pub struct InstanceLock {
    file: File,
    path: PathBuf,
}

impl InstanceLock {
    /// Takes the lock on the file `path`, made when missing, and writes our pid into it.
    pub fn take(path: &Path) -> Result<InstanceLock, LockError> {
        let entry = Entry::at(path, Last::Keep).map_err(failed("reach the folder of the lock file", path))?;
        loop {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NONBLOCK;
            let mut file = entry.open(flags, 0o600).map_err(unopened("open the lock file", path, &entry))?;
            if !file.metadata().map_err(failed("look at the lock file", path))?.is_file() {
                return Err(LockError::Foreign { path: path.to_owned(), what: "no regular file" });
            }
            if !try_lock(&file).map_err(failed("lock", path))? {
                let pid = read_pid(&mut file).unwrap_or(None);
                return Err(LockError::Held { path: path.to_owned(), pid });
            }
            // Its last holder may have removed it between our open and our lock: then the lock is on nothing.
            let ours = FileId::of_open(&file).map_err(failed("look at the lock file", path))?;
            if entry.id().is_ok_and(|there| there == ours) {
                write_pid(&mut file).map_err(failed("write the lock file", path))?;
                return Ok(InstanceLock { file, path: path.to_owned() });
            }
        }
    }

    /// Writes where the holder is reached as the second line of the file, for whoever looks for it.
    pub fn tell(&self, socket: &Path) -> Result<(), LockError> {
        let mut text = format!("{}\n", self_pid()).into_bytes();
        text.extend_from_slice(socket.as_os_str().as_bytes());
        text.push(b'\n');
        // One write, over what was: nobody reads half a path.
        let written = self.file.write_all_at(&text, 0).and_then(|()| self.file.set_len(text.len() as u64));
        written.map_err(failed("write the lock file", &self.path))
    }

    /// Where the holder of the lock file `path` said that it is reached. `None`: it said nothing, or the file is none of these.
    pub fn told(path: &Path) -> Option<PathBuf> {
        let entry = Entry::at(path, Last::Keep).ok()?;
        let file = entry.open(OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0).ok()?;
        let mut text = Vec::new();
        file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        file.take(4200).read_to_end(&mut text).ok()?;
        let socket = text.split(|byte| *byte == b'\n').nth(1).filter(|line| line.starts_with(b"/"))?;
        Some(PathBuf::from(OsStr::from_bytes(socket)))
    }

    /// The file at the path is still the one that is locked: else others do not see the lock.
    pub fn is_there(&self) -> bool {
        is_at(&self.path, &self.file)
    }

    /// The locked file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, then gives the lock up. (Dropping gives it up and leaves the file: harmless.)
    pub fn release(self) -> io::Result<()> {
        unlink_if(&self.path, FileId::of_open(&self.file)?).map(drop)
    }
}

impl InstanceLock {
    /// For the next image of this process.
    pub fn state(&self) -> io::Result<LockState> {
        Ok(LockState { fd: Passed::of(&self.file)?, path: self.path.clone() })
    }

    /// As the image before this one has left it: the lock is on the open file.
    pub fn restore(state: LockState, taken: &mut Taken) -> io::Result<InstanceLock> {
        Ok(InstanceLock { file: taken.take(&state.fd)?.into(), path: state.path })
    }
}

impl AsFd for InstanceLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A file with our pid, locked for as long as we live, so that a recycled number is never taken for us.
#[derive(Debug)]
pub struct PidFile {
    file: File,
    path: PathBuf,
}

impl PidFile {
    /// Writes the file under another name and renames it to `path`: nobody ever sees half of it. Refused when a living process
    /// other than this one has it; a stale one is replaced, something that is no pid file never.
    pub fn create(path: &Path) -> Result<PidFile, LockError> {
        // Kept until the rename: two that find the same stale file do not both go on.
        let entry = Entry::at(path, Last::Keep).map_err(failed("reach the folder of the pid file", path))?;
        let _stale = stale(path, &entry)?;
        let temporary = entry.beside(&format!(".{}.new", self_pid()));
        let mut file = match create_new(&temporary) {
            // A process with our number left it behind: it cannot be alive.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                temporary.remove().and_then(|()| create_new(&temporary)).map_err(failed("write", path))?
            }
            other => other.map_err(failed("write", path))?,
        };
        let written = try_lock(&file).and_then(|_| write_pid(&mut file)).and_then(|()| temporary.rename(&entry));
        if let Err(e) = written {
            // The error that counts is `e`: this one is only tidying up.
            let _ = temporary.remove();
            return Err(failed("write the pid file", path)(e));
        }
        Ok(PidFile { file, path: path.to_owned() })
    }

    /// The file at the path is still this one.
    pub fn is_there(&self) -> bool {
        is_at(&self.path, &self.file)
    }

    /// Where it is now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it another name, over a file that may be there: the promotion of a second master.
    pub fn rename(&mut self, new: &Path) -> io::Result<()> {
        Entry::at(&self.path, Last::Keep)?.rename(&Entry::at(new, Last::Keep)?)?;
        self.path = new.to_owned();
        Ok(())
    }

    /// Removes it, if it is still ours: this very file, with our pid in it. True: it was.
    pub fn remove(mut self) -> io::Result<bool> {
        if read_pid(&mut self.file)? != Some(self_pid()) {
            return Ok(false);
        }
        unlink_if(&self.path, FileId::of_open(&self.file)?)
    }
}

impl PidFile {
    /// For the next image of this process.
    pub fn state(&self) -> io::Result<LockState> {
        Ok(LockState { fd: Passed::of(&self.file)?, path: self.path.clone() })
    }

    /// As the image before this one has left it.
    pub fn restore(state: LockState, taken: &mut Taken) -> io::Result<PidFile> {
        Ok(PidFile { file: taken.take(&state.fd)?.into(), path: state.path })
    }
}

impl AsFd for PidFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn is_at(path: &Path, file: &File) -> bool {
    let there = Entry::at(path, Last::Keep).and_then(|entry| entry.id());
    matches!((there, FileId::of_open(file)), (Ok(there), Ok(own)) if there == own)
}

fn create_new(entry: &Entry) -> io::Result<File> {
    // Everyone may read who the master is.
    let file = entry.open(OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL, 0o644)?;
    // The umask may have taken the read permission of others away.
    // SAFETY: sets the mode of an open file.
    check(unsafe { libc::fchmod(file.as_raw_fd(), 0o644) })?;
    Ok(file)
}

/// The stale file at `path`, locked by us, if there is one; the reason to keep away, if there is one.
fn stale(path: &Path, entry: &Entry) -> Result<Option<File>, LockError> {
    let mut file = match entry.open(OFlag::O_RDONLY | OFlag::O_NONBLOCK, 0) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unopened("open the pid file", path, entry)(e)),
    };
    let metadata = file.metadata().map_err(failed("look at", path))?;
    if !metadata.is_file() {
        return Err(LockError::Foreign { path: path.to_owned(), what: "no regular file" });
    }
    let pid = read_pid(&mut file).unwrap_or(None);
    if pid.is_none() && metadata.len() > 0 {
        return Err(LockError::Foreign { path: path.to_owned(), what: "no pid file (there is no process id in it)" });
    }
    let free = try_lock(&file).map_err(failed("lock", path))?;
    let living = pid.is_none_or(|pid| pid != self_pid() && exists(pid));
    if !free && living {
        return Err(LockError::Held { path: path.to_owned(), pid });
    }
    Ok(Some(file))
}
