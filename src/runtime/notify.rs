//! Owns the supply of notify sockets. Making and removing a socket's file costs more than a fork on some file systems: for each pool one
//! is kept ready, and what is to go goes once nothing urgent is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::janitor::Janitor;
use crate::os::epoll::Epoll;
use crate::os::notify::NotifySocket;
use crate::supervisor::PoolId;

/// Where the notify sockets of a pool are, and whose they are; `None`: ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotifyHome<'a> {
    pub(super) dir: &'a Path,
    pub(super) owner: Option<u32>,
}

#[derive(Debug)]
struct Kept {
    socket: NotifySocket,
    owner: Option<u32>,
}

/// Sockets to come and to go.
#[derive(Debug, Default)]
pub(super) struct NotifySockets {
    /// Numbers the files. A path of a socket has at most 107 bytes, so the names are short.
    next: u64,
    ready: BTreeMap<PoolId, Kept>,
    used: BTreeSet<PoolId>,
    gone: Vec<NotifySocket>,
    janitor: Janitor,
}

/// So many that have retired are disposed of at once.
const MANY: usize = 16;

impl NotifySockets {
    /// With a thread that disposes of what has retired.
    pub(super) fn new() -> NotifySockets {
        NotifySockets { janitor: Janitor::start(), ..NotifySockets::default() }
    }

    /// A socket that no worker has had before.
    pub(super) fn take(&mut self, pool: PoolId, home: NotifyHome<'_>) -> io::Result<NotifySocket> {
        self.used.insert(pool);
        match self.ready.remove(&pool) {
            Some(kept) if kept.owner == home.owner && kept.socket.path().parent() == Some(home.dir) && kept.socket.is_there() => {
                Ok(kept.socket)
            }
            // Of an earlier config, for another user or root directory; or somebody has removed it.
            Some(other) => {
                self.gone.push(other.socket);
                self.bind(home)
            }
            None => self.bind(home),
        }
    }

    /// One that is made at once.
    pub(super) fn bind(&mut self, home: NotifyHome<'_>) -> io::Result<NotifySocket> {
        self.next += 1;
        NotifySocket::bind(&home.dir.join(format!("n{}", self.next)), 0o600, home.owner)
    }

    /// The worker has ended, and everything that it said was read. Nobody listens to what its descendants may still say.
    pub(super) fn retire(&mut self, socket: Option<NotifySocket>, epoll: &Epoll) {
        if let Some(socket) = socket {
            // Not watched at all is as good.
            let _ = epoll.remove(socket.as_fd());
            self.gone.push(socket);
        }
        // When many die at once, the first are disposed of while the others are reaped.
        if self.gone.len() == MANY {
            self.janitor.take(std::mem::take(&mut self.gone));
        }
    }

    /// Waits until what has retired is gone.
    pub(super) fn finish(&mut self) {
        self.janitor.take(std::mem::take(&mut self.gone));
        self.janitor.finish();
    }

    /// Removes what is to go, makes what will be needed. A failure is told by the spawn that needs it.
    pub(super) fn tidy<'a>(&mut self, home_of: impl Fn(PoolId) -> Option<NotifyHome<'a>>) {
        if !self.gone.is_empty() {
            self.janitor.take(std::mem::take(&mut self.gone));
        }
        for pool in std::mem::take(&mut self.used) {
            if !self.ready.contains_key(&pool)
                && let Some(home) = home_of(pool)
                && let Ok(socket) = self.bind(home)
            {
                self.ready.insert(pool, Kept { socket, owner: home.owner });
            }
        }
    }

    /// Nobody is to find one that no worker has: the next image of the master makes its own. Gives the last number that was used.
    pub(super) fn pack(&mut self) -> u64 {
        self.gone.extend(std::mem::take(&mut self.ready).into_values().map(|kept| kept.socket));
        self.finish();
        self.next
    }

    /// After the last number that the image before has used.
    pub(super) fn after(next: u64) -> NotifySockets {
        NotifySockets { next, ..NotifySockets::new() }
    }

    /// The pool is gone.
    pub(super) fn drop_pool(&mut self, pool: PoolId) {
        self.ready.remove(&pool);
        self.used.remove(&pool);
    }
}
