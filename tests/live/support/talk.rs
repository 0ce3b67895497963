//! Talking to a master's sockets by hand, well or badly.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Master, PATIENCE, environ};

/// A control client that sends bytes as they are and reads replies line by line.
pub struct RawClient {
    pub stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl RawClient {
    pub fn connect(socket: &Path) -> RawClient {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        RawClient { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next reply; `None` when the master has closed the connection.
    pub fn reply(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"))),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("no reply: {e}"),
        }
    }

    /// The last reply was the last.
    pub fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(String::from_utf8_lossy(&rest), ""),
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
        }
    }
}

impl Master {
    pub fn client(&self) -> RawClient {
        RawClient::connect(&self.socket)
    }

    /// Waits until the control socket answers: for masters whose log cannot be followed.
    pub fn answering(self) -> Master {
        self.log.wait_until("the control socket answers", || UnixStream::connect(&self.socket).ok());
        self
    }

    /// One worker, as `status` gives it.
    pub fn worker(&self, pool: &str, slot: usize) -> Value {
        self.pool(pool)["workers"][slot].clone()
    }

    /// Pids of all the workers of a pool that have one, whatever their state.
    pub fn all_pids(&self, pool: &str) -> Vec<i32> {
        let pool = self.pool(pool);
        let workers = pool["workers"].as_array().cloned().unwrap_or_default();
        workers.iter().filter_map(|w| i32::try_from(w["pid"].as_i64()?).ok()).collect()
    }
}

/// The sending end of a worker's notify socket.
pub struct Notifier {
    pub socket: UnixDatagram,
    pub path: PathBuf,
}

impl Notifier {
    pub fn of(worker: i32) -> Notifier {
        let path = PathBuf::from(&environ(worker)["NOTIFY_SOCKET"]);
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(&path).unwrap();
        Notifier { socket, path }
    }

    pub fn send(&self, bytes: &[u8]) {
        self.socket.send(bytes).unwrap();
    }

    /// One datagram with these descriptors attached.
    pub fn send_with_fds(&self, bytes: &[u8], fds: &[RawFd]) {
        let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let size = u32::try_from(size_of_val(fds)).unwrap();
        let mut control = vec![0u64; 64];
        // SAFETY: all-zero is a valid msghdr, filled in below with buffers that live until the call is over.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: a pure computation.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as _;
        assert!(message.msg_controllen as usize <= control.len() * 8);
        // SAFETY: the control buffer has room for one header and all the descriptors (asserted above).
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(header).cast::<RawFd>(), fds.len());
        }
        // SAFETY: a filled-in message.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, 0) };
        assert_eq!(sent, isize::try_from(bytes.len()).unwrap(), "{}", std::io::Error::last_os_error());
    }
}

/// Reads to the end, ignoring how it ended.
pub fn drain(stream: &mut impl Read) -> usize {
    let (mut total, mut buffer) = (0, [0; 65536]);
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 {
            break;
        }
        total += n;
    }
    total
}
