//! Owns the one act of connecting to a socket path, and what its failure says about the path.

use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt::SendTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::os::clock::wall;

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

/// A socket's file is there before its owner listens on it (bind(2), chown(2), listen(2)): for this long after it was made or changed, a refusal
/// means nothing yet.
const BEING_MADE: Duration = Duration::from_millis(250);
const AGAIN: Duration = Duration::from_millis(5);

#[expect(clippy::disallowed_methods, reason = "the kernel tells nobody of a listen(2): there is no event to wait for")]
fn pause() {
    std::thread::sleep(AGAIN);
}

/// A socket's file that is younger than `BEING_MADE`.
fn is_being_made(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| {
        let changed = Duration::new(u64::try_from(meta.ctime()).unwrap_or(0), u32::try_from(meta.ctime_nsec()).unwrap_or(0));
        let age = wall().duration_since(SystemTime::UNIX_EPOCH + changed);
        // One of the future is a clock that was set back.
        meta.file_type().is_socket() && age.is_ok_and(|age| age < BEING_MADE)
    })
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
    let attempt = || {
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).and_then(|fd| {
            let ms = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX).max(1);
            setsockopt(&fd, SendTimeout, &TimeVal::milliseconds(ms.min(86_400_000)))?;
            connect(fd.as_raw_fd(), &address)?;
            Ok(UnixStream::from(fd))
        })
    };
    let mut connected = attempt();
    while matches!(connected, Err(Errno::ECONNREFUSED)) && is_being_made(path) {
        pause();
        connected = attempt();
    }
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

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Backlog, bind, listen};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a client beside the owner of the socket")]
    fn a_socket_that_is_being_made_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.sock");
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        let client = std::thread::spawn({
            let path = path.clone();
            move || dial(&path, Duration::from_secs(5))
        });
        std::thread::yield_now();
        listen(&fd, Backlog::new(5).unwrap()).unwrap();
        assert!(matches!(client.join().unwrap(), Dialled::Alive(_)));
        // One whose owner is gone is stale, at the latest when it is no news any more.
        drop(fd);
        assert!(matches!(dial(&path, Duration::from_secs(5)), Dialled::Stale));
        assert!(!is_being_made(&path));
    }
}
