//! Owns bytes through descriptors: read, write, pipes, /dev/null. Refuses to loop: one call, one system call (taken up again
//! only when interrupted), so that a caller's bounds hold.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IsTerminal, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::OnceLock;

use nix::fcntl::{self, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag};

use super::entry::{Entry, Last};
use super::errno::{check, retry};

/// Takes a descriptor that a successful call has just returned.
///
/// # Safety
/// `fd` is open, and owned by nobody else.
pub(crate) unsafe fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Reads once. 0 is end-of-file; nothing there on a nonblocking descriptor is `WouldBlock`.
pub fn read(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the buffer is valid for writing for its whole length.
    let n = retry(|| unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) })?;
    Ok(usize::try_from(n).unwrap_or(0))
}

/// Writes once, perhaps less than all.
pub fn write(fd: impl AsFd, buf: &[u8]) -> io::Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the buffer is valid for reading for its whole length.
    let n = retry(|| unsafe { libc::write(fd, buf.as_ptr().cast(), buf.len()) })?;
    Ok(usize::try_from(n).unwrap_or(0))
}

/// A pipe: read end, write end. Both close-on-exec and blocking.
#[cfg(test)]
pub(crate) fn pipe_cloexec() -> io::Result<(OwnedFd, OwnedFd)> {
    pipe_with(libc::O_CLOEXEC)
}

pub(crate) fn pipe_with(flags: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), flags) })?;
    // SAFETY: the call has just made it and nobody else knows it.
    let read = unsafe { own(ends[0]) };
    // SAFETY: as above.
    let write = unsafe { own(ends[1]) };
    Ok((read, write))
}

/// Wakes the loop from another thread: readable from a ring to the next [`Bell::quiet`].
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A silent one.
    pub fn new() -> io::Result<Bell> {
        // SAFETY: no memory of ours is involved.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: just made, owned by nobody else.
        Ok(Bell(unsafe { own(fd) }))
    }

    /// Any number of times.
    pub fn ring(&self) {
        // Its only failure is that it rings already.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Until the next ring.
    pub fn quiet(&self) {
        let _ = read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A pipe for news from a program: reading never waits, writing does.
pub fn news_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(libc::O_CLOEXEC)?;
    set_nonblocking(&read, true)?;
    Ok((read, write))
}

/// Do both lead to the same open file? (By kcmp(2) where the kernel has it, else by what the file system says.)
pub fn same_file(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    let pid = std::process::id();
    /// KCMP_FILE of linux/kcmp.h.
    const FILE: i32 = 0;
    // SAFETY: compares two open descriptors of this process.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, FILE, a.as_raw_fd(), b.as_raw_fd()) };
    if order >= 0 {
        return order == 0;
    }
    let id = |fd| nix::sys::stat::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

/// A pipe for the output of a program that may outlive us: our reading end (nonblocking), and the program's end, open for reading too. So the
/// pipe never lacks a reader, and a program that still has something to say after our death is not ended by SIGPIPE in the middle of its work;
/// what it says fills the pipe (64 KiB), and beyond that it waits. The end-of-file comes as ever, once the program's end is closed everywhere.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(libc::O_CLOEXEC | libc::O_NONBLOCK)?;
    // An open file description of its own, and so without O_NONBLOCK.
    let both = CString::new(format!("/proc/self/fd/{}", write.as_raw_fd()))?;
    // SAFETY: the path is a C string.
    match retry(|| unsafe { libc::open(both.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) }) {
        // SAFETY: just opened, owned by nobody else.
        Ok(fd) => Ok((read, unsafe { own(fd) })),
        // Without /proc there is only the usual kind.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            set_nonblocking(&write, false)?;
            Ok((read, write))
        }
        Err(e) => Err(e),
    }
}

/// All of a regular file of at most `limit` bytes. Never waits for anybody: a FIFO or a device is refused, not read. A symbolic link that is
/// neither ours nor root's is followed only to a file of its own maker's: others may have put it there to have a file of ours read.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = Entry::read(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Opens a file for appending; made with mode 0640 when missing. Never waits: a named pipe that nobody reads is an error. A symbolic link on the
/// way that is neither ours nor root's is followed only to a folder of its own maker's: others may have put it there to have a file of ours
/// written to.
pub fn append_to(path: &Path) -> io::Result<File> {
    open_to_write(path, OFlag::O_APPEND)
}

/// Opens an empty file to write to, with the same care.
pub fn overwrite(path: &Path) -> io::Result<File> {
    open_to_write(path, OFlag::O_TRUNC)
}

fn open_to_write(path: &Path, how: OFlag) -> io::Result<File> {
    let flags = how | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = Entry::at(path, Last::Follow)?.open(flags, 0o640).map_err(|e| match e.raw_os_error() {
        Some(libc::ENXIO) => io::Error::new(io::ErrorKind::NotConnected, "it is a named pipe that nobody reads, or a socket"),
        _ => e,
    })?;
    set_nonblocking(&file, false)?;
    Ok(file)
}

/// Opens anew the pipe or terminal that a descriptor leads to, for writing: flags that others set on theirs (O_NONBLOCK) are not ours then. `None`
/// where that cannot be: a socket, or what another user has opened. Not for a file, whose writers share their place in it.
pub fn own_description(fd: impl AsFd) -> Option<File> {
    let fd = fd.as_fd();
    let kind = SFlag::from_bits_truncate(nix::sys::stat::fstat(fd).ok()?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFIFO && !fd.is_terminal() {
        return None;
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlag::O_WRONLY | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    // A pipe without a reader is not waited for.
    let file = File::from(fcntl::open(path.as_str(), flags, Mode::empty()).ok()?);
    set_nonblocking(&file, false).ok()?;
    Some(file)
}

/// Waits until it can be written to, or is broken.
pub fn wait_writable(fd: impl AsFd) -> io::Result<()> {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Sets or clears O_NONBLOCK. It belongs to the open file description: every process sharing it sees the change.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: reads flags of an open descriptor.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    let wanted = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted != flags {
        // SAFETY: sets flags of an open descriptor.
        check(unsafe { libc::fcntl(fd, libc::F_SETFL, wanted) })?;
    }
    Ok(())
}

/// Asks for a pipe buffer of at least `bytes`; gives what the kernel made of it. Beyond /proc/sys/fs/pipe-max-size: EPERM.
pub fn set_pipe_size(fd: impl AsFd, bytes: usize) -> io::Result<usize> {
    let wanted = i32::try_from(bytes).unwrap_or(i32::MAX);
    // SAFETY: resizes the buffer of an open pipe.
    let size = check(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETPIPE_SZ, wanted) })?;
    Ok(usize::try_from(size).unwrap_or(0))
}

/// /dev/null, for reading and writing. Opened once and kept: no worker's start waits for it, and none fails for want of a
/// descriptor.
pub fn dev_null() -> io::Result<BorrowedFd<'static>> {
    static NULL: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = NULL.get() {
        return Ok(fd.as_fd());
    }
    let fd = open_null()?;
    Ok(NULL.get_or_init(|| fd).as_fd())
}

pub(crate) fn open_null() -> io::Result<OwnedFd> {
    // SAFETY: the path is a C string.
    let fd = retry(|| unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) })?;
    // SAFETY: just opened, owned by nobody else.
    Ok(unsafe { own(fd) })
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_end_is_seen() {
        let (r, w) = pipe_cloexec().unwrap();
        assert_eq!(write(&w, b"abc").unwrap(), 3);
        let mut buf = [0; 8];
        assert_eq!(read(&r, &mut buf).unwrap(), 3);
        assert_eq!(&buf[..3], b"abc");
        drop(w);
        assert_eq!(read(&r, &mut buf).unwrap(), 0);
    }

    #[test]
    fn nonblocking_is_set_and_cleared() {
        let (r, _w) = pipe_cloexec().unwrap();
        set_nonblocking(&r, true).unwrap();
        assert_eq!(read(&r, &mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        set_nonblocking(&r, false).unwrap();
        // SAFETY: reads flags.
        let flags = unsafe { libc::fcntl(r.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }

    #[test]
    fn a_description_of_our_own_has_flags_of_its_own() {
        let (r, w) = pipe_cloexec().unwrap();
        let own = own_description(&w).unwrap();
        set_nonblocking(&w, true).unwrap();
        // SAFETY: reads flags.
        let flags = unsafe { libc::fcntl(own.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        write(&own, b"x").unwrap();
        assert_eq!(read(&r, &mut [0; 4]).unwrap(), 1);
        let temp = tempfile::tempfile().unwrap();
        assert!(own_description(&temp).is_none(), "its place in the file is shared");
        // Full, then read: writing can go on.
        while write(&w, &[0; 4096]).is_ok() {}
        std::thread::scope(|scope| {
            scope.spawn(|| read(&r, &mut [0; 60_000]).unwrap());
            wait_writable(&w).unwrap();
            assert!(write(&w, b"x").is_ok());
        });
    }

    #[test]
    fn an_output_pipe_needs_no_reader_and_still_ends() {
        let (r, w) = output_pipe().unwrap();
        assert_eq!(read(&r, &mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // SAFETY: reads flags.
        let flags = unsafe { libc::fcntl(w.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & (libc::O_NONBLOCK | libc::O_ACCMODE), libc::O_RDWR);
        assert_eq!(write(&w, b"ab").unwrap(), 2);
        assert_eq!(read(&r, &mut [0; 1]).unwrap(), 1);
        let other = w.try_clone().unwrap();
        drop(w);
        assert_eq!(read(&r, &mut [0; 9]).unwrap(), 1);
        drop(other);
        assert_eq!(read(&r, &mut [0; 9]).unwrap(), 0);
        let (r, w) = output_pipe().unwrap();
        drop(r);
        assert_eq!(write(&w, b"nobody reads").unwrap(), 12);
    }

    #[test]
    fn a_file_is_appended_to_without_waiting_for_anybody() {
        let temp = tempfile::tempdir().unwrap();
        let (path, pipe) = (temp.path().join("file"), temp.path().join("pipe"));
        for _ in 0..2 {
            assert_eq!(write(append_to(&path).unwrap(), b"x").unwrap(), 1);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"xx");
        let name = CString::new(pipe.to_str().unwrap()).unwrap();
        // SAFETY: the path is a C string.
        check(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }).unwrap();
        let told = append_to(&pipe).unwrap_err().to_string();
        assert!(told.contains("nobody reads"), "{told}");
        let _reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
        let file = append_to(&pipe).unwrap();
        // SAFETY: reads flags.
        let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }

    #[test]
    fn a_pipe_grows() {
        let (_r, w) = pipe_cloexec().unwrap();
        assert!(set_pipe_size(&w, 256 * 1024).unwrap() >= 256 * 1024);
    }

    #[test]
    fn dev_null_is_opened_once_and_close_on_exec() {
        let (a, b) = (dev_null().unwrap(), dev_null().unwrap());
        assert_eq!(a.as_raw_fd(), b.as_raw_fd());
        // SAFETY: reads flags.
        let flags = unsafe { libc::fcntl(a.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        assert_eq!(read(a, &mut [0; 4]).unwrap(), 0);
        assert_eq!(write(a, b"gone").unwrap(), 4);
    }
}
