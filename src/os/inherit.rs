//! Owns the two steps by which a program takes what an inherited listener gives: the descriptor itself, known only by its
//! number, and the connections waiting on it. Refuses to close or to change a descriptor it did not make.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A close-on-exec duplicate of a descriptor known only by its number, numbered 3 or above.
///
/// # Errors
/// `EBADF` when no such descriptor is open, `EMFILE` when no number is free.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC takes two integers and touches no memory of ours; a bad number gives EBADF.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// The next connection waiting on a listener, non-blocking and close-on-exec from the start (one system call, and no
/// moment in which a fork could leak it).
///
/// # Errors
/// `EAGAIN` when none is waiting on a non-blocking listener; else as accept4(2).
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null for both address arguments asks for no address; the listener is borrowed, so it stays open meanwhile.
    let new = unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

    use super::*;

    #[test]
    fn a_duplicate_is_close_on_exec_and_leaves_the_original_open() {
        let original = TcpListener::bind("127.0.0.1:0").unwrap();
        let copy = duplicate(original.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), original.as_raw_fd());
        assert_eq!(fcntl(&copy, FcntlArg::F_GETFD).unwrap(), FdFlag::FD_CLOEXEC.bits());
        drop(copy);
        assert!(original.local_addr().is_ok());
        assert_eq!(duplicate(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn an_accepted_connection_does_not_block_and_an_empty_queue_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(accept(listener.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection = accept(listener.as_fd()).unwrap();
        let flags = OFlag::from_bits_truncate(fcntl(&connection, FcntlArg::F_GETFL).unwrap());
        assert!(flags.contains(OFlag::O_NONBLOCK));
    }
}
