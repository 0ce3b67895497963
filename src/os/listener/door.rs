//! Owns closing a listener's door: nobody new is let in, and those who wait are still served.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::os::errno::check;

/// Offset of the flags in a TCP header (RFC 9293), and the flags SYN and ACK.
const FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// One instruction of a classic socket filter.
const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Drops whoever begins to connect: its SYN is sent again later, to whoever listens then. Handshakes that have begun go on.
pub(super) fn drop_beginners(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN | ACK),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let length = libc::socklen_t::try_from(size_of_val(&filter)).unwrap_or(0);
    // SAFETY: the program is valid for reading, for the length that it gives; the kernel copies it.
    check(unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), length)
    })
    .map(drop)
}

/// Lets them in again. There may have been nothing that kept them out.
pub(super) fn admit(fd: BorrowedFd<'_>) -> io::Result<()> {
    let unused = 0_i32;
    let length = libc::socklen_t::try_from(size_of_val(&unused)).unwrap_or(0);
    // SAFETY: `unused` is valid for reading for its length.
    match check(unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, (&raw const unused).cast(), length)
    }) {
        Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
        _ => Ok(()),
    }
}
