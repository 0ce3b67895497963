//! Owns what passes from one image of this process to the next: descriptors that stay open across exec, the file in memory that tells what they
//! are, and exec itself. A descriptor is taken once, and only if it is what the state says that it is.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::errno::check;
use super::inherit::duplicate;
use super::listener::ListenAddress;
use super::socket_file::{Access, FileId};

/// A descriptor, by its number, and what it is: the number alone could be anything in the next image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    fd: RawFd,
    device: u64,
    inode: u64,
}

/// A file that is locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockState {
    pub(super) fd: Passed,
    pub(super) path: PathBuf,
}

/// A socket that is bound to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundState {
    pub(super) fd: Passed,
    pub(super) path: PathBuf,
    pub(super) file: FileId,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListeningState {
    pub(super) fd: Passed,
    pub(super) address: ListenAddress,
    /// Somebody else has made it.
    pub(super) inherited: bool,
    pub(super) nonblocking: bool,
    pub(super) access: Access,
    /// That of a Unix socket: which one, where, and its lock.
    pub(super) file: Option<(PathBuf, FileId, LockState)>,
}

/// Listeners that share a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    pub(super) address: ListenAddress,
    pub(super) loose: Option<u32>,
    /// In the order of the kernel's array. `None`: the one that stays with the listener, which is told of there.
    pub(super) members: Vec<(u32, Option<ListeningState>)>,
    pub(super) lost: Vec<(u32, Option<ListeningState>)>,
    pub(super) disordered: bool,
    /// What the program that is attached picks from.
    pub(super) picks: Option<Vec<usize>>,
    pub(super) open: bool,
}

impl Passed {
    /// What this descriptor is.
    pub fn of(fd: impl AsFd) -> io::Result<Passed> {
        let stat = nix::sys::stat::fstat(&fd)?;
        Ok(Passed { fd: fd.as_fd().as_raw_fd(), device: stat.st_dev, inode: stat.st_ino })
    }

    /// Lets it stay open across exec, or no more.
    pub fn keep(&self, open: bool) -> io::Result<()> {
        let flags = if open { 0 } else { libc::FD_CLOEXEC };
        // SAFETY: two integers; a number that is not open gives EBADF.
        check(unsafe { libc::fcntl(self.fd, libc::F_SETFD, flags) }).map(drop)
    }

    /// The same file or socket.
    pub fn is_same(&self, other: &Passed) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl LockState {
    /// Its descriptors.
    pub fn passed(&self) -> Vec<Passed> {
        vec![self.fd]
    }
}

impl BoundState {
    /// Its descriptors.
    pub fn passed(&self) -> Vec<Passed> {
        vec![self.fd]
    }
}

impl ListeningState {
    /// Its descriptors.
    pub fn passed(&self) -> Vec<Passed> {
        std::iter::once(self.fd).chain(self.file.iter().map(|(_, _, lock)| lock.fd)).collect()
    }
}

impl GroupState {
    /// Its descriptors.
    pub fn passed(&self) -> Vec<Passed> {
        self.members.iter().chain(&self.lost).filter_map(|(_, state)| state.as_ref()).flat_map(ListeningState::passed).collect()
    }
}

/// Descriptors that were taken from the image before. They stay open as they were left too, until all of them are had: else there is no way back.
#[derive(Debug, Default)]
pub struct Taken(BTreeSet<RawFd>);

impl Taken {
    /// Takes one, by a number of its own that is closed at the next exec. Refused when it is not what it is said to be, or was taken before.
    pub fn take(&mut self, passed: &Passed) -> io::Result<OwnedFd> {
        let wrong = |why: &str| io::Error::other(format!("descriptor {} {why}", passed.fd));
        // 0 to 2 are not handed over: everybody has them.
        if passed.fd <= libc::STDERR_FILENO || self.0.contains(&passed.fd) {
            return Err(wrong("was taken before"));
        }
        let fd = duplicate(passed.fd).map_err(|e| match e.raw_os_error() {
            Some(libc::EBADF) => wrong("is not open"),
            _ => e,
        })?;
        if !Passed::of(&fd)?.is_same(passed) {
            return Err(wrong("is another one than the state says"));
        }
        self.0.insert(passed.fd);
        Ok(fd)
    }

    /// The one of this number, whatever it is: it is where the others are told of.
    pub fn take_number(&mut self, fd: RawFd) -> io::Result<OwnedFd> {
        let taken = duplicate(fd)?;
        self.0.insert(fd);
        Ok(taken)
    }

    /// There is no way back any more: closes them under the numbers that they were left by.
    pub fn close_left(self) {
        for fd in self.0 {
            // SAFETY: the image before has left it open for this one, and nothing in here but the state knows of the number.
            let _ = check(unsafe { libc::close(fd) });
        }
    }
}

/// A file in memory with these bytes.
pub fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let fd = memfd_create(c"poolmaster-state", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// All of such a file, wherever its position is.
pub fn read_memory_file(fd: OwnedFd) -> io::Result<(Vec<u8>, OwnedFd)> {
    let file = File::from(fd);
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok((bytes, file.into()))
}

/// The descriptor of this number, which another image has left open for this one; it stays open under that number too.
pub fn left_open(fd: RawFd) -> io::Result<OwnedFd> {
    duplicate(fd)
}

/// The program that runs here, to be executed again whatever becomes of its file.
pub fn own_program() -> io::Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    Ok(open(c"/proc/self/exe", OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?)
}

/// Puts another program in the place of this one: the same process, with the same children. Gives why it could not be.
pub fn exec(program: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    match nix::unistd::execve(program, argv, env) {
        Ok(never) => match never {},
        Err(e) => e.into(),
    }
}

/// The same with a program that is open.
pub fn exec_open(program: BorrowedFd<'_>, argv: &[CString], env: &[CString]) -> io::Error {
    match nix::unistd::execveat(program, c"", argv, env, nix::fcntl::AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(e) => e.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_taken_once_and_only_if_it_is_the_same() {
        let one = memory_file(b"state").unwrap();
        let passed = Passed::of(&one).unwrap();
        let other = Passed { inode: passed.inode + 1, ..passed };
        let mut taken = Taken::default();
        let why = taken.take(&other).unwrap_err().to_string();
        assert_eq!(why, format!("descriptor {} is another one than the state says", passed.fd));
        let again = taken.take(&passed).unwrap();
        assert_eq!(taken.take(&passed).unwrap_err().to_string(), format!("descriptor {} was taken before", passed.fd));
        assert_eq!(read_memory_file(again).unwrap().0, b"state");
        // Ours is still open: a failed try leaves all as it was.
        assert_eq!(Passed::of(&one).unwrap(), passed);
        let closed = Passed { fd: 9_999, ..passed };
        assert_eq!(taken.take(&closed).unwrap_err().to_string(), "descriptor 9999 is not open");
        std::mem::forget(one);
        taken.close_left();
        assert!(duplicate(passed.fd).is_err());
    }
}
