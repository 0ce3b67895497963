//! Owns the descriptors that workers leave with the master (FDSTORE=1) for the next worker of their slot. They are bounded, kept once each,
//! and dropped when the other side is gone, unless the worker said that nobody has to watch them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::handover::StoredState;
use super::master::Master;
use super::throttle::Repeated;
use super::token::Token;
use crate::os::epoll::{Epoll, Interest};
use crate::os::handover::{Passed, Taken};
use crate::os::io::same_file;
use crate::supervisor::{PoolId, WorkerId};
use crate::telemetry::systemd::StoreOrder;

/// Most descriptors kept for one slot.
const MOST: usize = 64;

#[derive(Debug)]
struct Stored {
    number: u64,
    name: String,
    /// Dropped when the other side is gone.
    watch: bool,
    fd: OwnedFd,
}

/// All of them, by pool and slot.
#[derive(Debug, Default)]
pub(super) struct FdStore {
    by_slot: BTreeMap<(PoolId, u32), Vec<Stored>>,
    next: u64,
}

impl FdStore {
    /// What the next worker of a slot is given, with the names.
    pub(super) fn of(&self, pool: PoolId, slot: u32) -> Vec<(&str, BorrowedFd<'_>)> {
        self.by_slot.get(&(pool, slot)).into_iter().flatten().map(|s| (s.name.as_str(), s.fd.as_fd())).collect()
    }
}

impl FdStore {
    /// For the next image of the master.
    pub(super) fn state(&self) -> std::io::Result<Vec<StoredState>> {
        let all = self.by_slot.iter().flat_map(|(place, kept)| kept.iter().map(move |stored| (*place, stored)));
        all.map(|((pool, slot), stored)| {
            Ok(StoredState { pool, slot, name: stored.name.clone(), watch: stored.watch, fd: Passed::of(&stored.fd)? })
        })
        .collect()
    }

    /// As the image before has left them.
    pub(super) fn restore(state: Vec<StoredState>, taken: &mut Taken) -> std::io::Result<FdStore> {
        let mut store = FdStore::default();
        for StoredState { pool, slot, name, watch, fd } in state {
            let number = store.next;
            store.next += 1;
            let stored = Stored { number, name, watch, fd: taken.take(&fd)? };
            store.by_slot.entry((pool, slot)).or_default().push(stored);
        }
        Ok(store)
    }

    /// From now on their other sides are watched.
    pub(super) fn watch(&self, epoll: &Epoll) {
        for stored in self.by_slot.values().flatten().filter(|stored| stored.watch) {
            // As when it was taken: files and the like cannot be watched.
            let _ = epoll.add(stored.fd.as_fd(), Token::Stored(stored.number).into(), Interest::Hangup);
        }
    }
}

impl Master {
    /// A worker asks to keep or to forget descriptors. What is not kept is closed here.
    pub(super) fn store(&mut self, worker: WorkerId, order: StoreOrder, fds: Vec<OwnedFd>) {
        let key = (worker.pool, worker.slot);
        let pool = self.name_of(worker.pool);
        match order {
            StoreOrder::Remove { name } => {
                let kept = self.fdstore.by_slot.remove(&key).unwrap_or_default();
                let (gone, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|stored| stored.name == name);
                for stored in gone {
                    let _ = self.epoll.remove(stored.fd.as_fd());
                    tracing::debug!(pool, slot = worker.slot, "descriptor {} is not kept any more", stored.name);
                }
                if !kept.is_empty() {
                    self.fdstore.by_slot.insert(key, kept);
                }
            }
            StoreOrder::Keep { name, watch } => {
                // The worker's own layout has no room for more descriptors behind the listeners.
                let room = self.runs.get(&worker.pool).is_some_and(|run| run.config.launch.protocols.ready_fd.is_none());
                for fd in fds {
                    let kept = self.fdstore.by_slot.entry(key).or_default();
                    if kept.iter().any(|stored| same_file(stored.fd.as_fd(), fd.as_fd())) {
                        continue;
                    }
                    if !room || kept.len() >= MOST {
                        if self.tells(Repeated::Store) {
                            tracing::warn!(
                                pool,
                                slot = worker.slot,
                                "a descriptor that the worker wants kept was closed: at most {MOST} are, and none with ready = \"fd:N\""
                            );
                        }
                        break;
                    }
                    let number = self.fdstore.next;
                    self.fdstore.next += 1;
                    if watch {
                        // Files and the like cannot be watched, and need not be.
                        let _ = self.epoll.add(fd.as_fd(), Token::Stored(number).into(), Interest::Hangup);
                    }
                    tracing::debug!(pool, slot = worker.slot, "descriptor {name} is kept for the slot's next worker");
                    kept.push(Stored { number, name: name.clone(), watch, fd });
                }
            }
        }
    }

    /// A kept descriptor's other side is gone.
    pub(super) fn stored_is_dead(&mut self, number: u64) {
        for kept in self.fdstore.by_slot.values_mut() {
            if let Some(at) = kept.iter().position(|stored| stored.number == number) {
                let stored = kept.remove(at);
                let _ = self.epoll.remove(stored.fd.as_fd());
                return;
            }
        }
    }

    /// The pool is gone, and with it whoever could want them.
    pub(super) fn empty_store_of(&mut self, pool: PoolId) {
        let epoll = &self.epoll;
        self.fdstore.by_slot.retain(|(of, _), kept| {
            if *of == pool {
                for stored in kept.iter() {
                    let _ = epoll.remove(stored.fd.as_fd());
                }
            }
            *of != pool
        });
    }
}
