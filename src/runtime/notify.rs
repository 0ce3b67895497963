//! Owns the supply of notify sockets. Making and removing a socket's file costs more than a fork on some file systems: for each pool one
//! is kept ready, and what is to go goes once nothing urgent is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

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
}

impl NotifySockets {
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

    /// The worker has ended, and everything that it said was read.
    pub(super) fn retire(&mut self, socket: Option<NotifySocket>) {
        self.gone.extend(socket);
    }

    /// Removes what is to go, makes what will be needed. A failure is told by the spawn that needs it.
    pub(super) fn tidy<'a>(&mut self, dir_of: impl Fn(PoolId) -> Option<&'a Path>) {
        for socket in self.gone.drain(..) {
            // Its directory goes with the master in any case.
            let _ = socket.unlink();
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
