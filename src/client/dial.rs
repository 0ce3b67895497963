//! Owns the one act of connecting to a socket path, and what its failure says about the path.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt::SendTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

/// What a socket path turned out to be.
#[derive(Debug)]
pub(super) enum Dialled {
    /// Somebody listens.
    Alive(UnixStream),
    /// The file is there, nobody listens.
    Stale,
    /// There is no such file.
    Absent,
    /// This user may not connect.
    Denied,
    /// Somebody listens but takes no connections: the queue stayed full for the whole time.
    Stalled,
    /// It is something else.
    Wrong(String),
}

/// Connects. A full accept queue is waited for up to `patience`: connect(2) on a Unix socket obeys SO_SNDTIMEO (unix(7) does
/// not say so; the kernel's unix_stream_connect does), so no helper thread or polling is needed.
pub(super) fn dial(path: &Path, patience: Duration) -> Dialled {
    let address = match UnixAddr::new(path) {
        Ok(address) => address,
        Err(Errno::ENAMETOOLONG) => {
            let bytes = path.as_os_str().len();
            return Dialled::Wrong(format!("the path is {bytes} bytes long, a socket's takes at most 107 (sun_path)"));
        }
        Err(e) => return Dialled::Wrong(e.desc().to_owned()),
    };
    let connected = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).and_then(|fd| {
        let ms = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX).max(1);
        setsockopt(&fd, SendTimeout, &TimeVal::milliseconds(ms.min(86_400_000)))?;
        connect(fd.as_raw_fd(), &address)?;
        Ok(UnixStream::from(fd))
    });
    match connected {
        Ok(stream) => Dialled::Alive(stream),
        // Of what is no socket at all the kernel says the same.
        Err(Errno::ECONNREFUSED) if std::fs::metadata(path).is_ok_and(|meta| !meta.file_type().is_socket()) => {
            Dialled::Wrong("it is no socket".to_owned())
        }
        Err(Errno::ECONNREFUSED) => Dialled::Stale,
        Err(Errno::ENOENT | Errno::ENOTDIR) => Dialled::Absent,
        Err(Errno::EACCES | Errno::EPERM) => Dialled::Denied,
        Err(Errno::EAGAIN) => Dialled::Stalled,
        Err(Errno::EPROTOTYPE) => Dialled::Wrong("it is not a stream socket".to_owned()),
        Err(e) => Dialled::Wrong(e.desc().to_owned()),
    }
}
