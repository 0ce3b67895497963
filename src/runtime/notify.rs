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

/// Sockets to come and to go.
#[derive(Debug, Default)]
pub(super) struct NotifySockets {
    /// Numbers the files. A path of a socket has at most 107 bytes, so the names are short.
    next: u64,
    ready: BTreeMap<PoolId, NotifySocket>,
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
    pub(super) fn take(&mut self, pool: PoolId, dir: &Path) -> io::Result<NotifySocket> {
        self.used.insert(pool);
        match self.ready.remove(&pool) {
            Some(socket) => Ok(socket),
            None => self.bind(dir),
        }
    }

    fn bind(&mut self, dir: &Path) -> io::Result<NotifySocket> {
        self.next += 1;
        NotifySocket::bind(&dir.join(format!("n{}", self.next)), 0o600)
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
    pub(super) fn tidy<'a>(&mut self, dir_of: impl Fn(PoolId) -> Option<&'a Path>) {
        if !self.gone.is_empty() {
            self.janitor.take(std::mem::take(&mut self.gone));
        }
        for pool in std::mem::take(&mut self.used) {
            if !self.ready.contains_key(&pool)
                && let Some(dir) = dir_of(pool)
                && let Ok(socket) = self.bind(dir)
            {
                self.ready.insert(pool, socket);
            }
        }
    }

    /// The pool is gone.
    pub(super) fn drop_pool(&mut self, pool: PoolId) {
        self.ready.remove(&pool);
        self.used.remove(&pool);
    }
}
