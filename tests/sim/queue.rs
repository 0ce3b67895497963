//! Owns the virtual clock's agenda: what will happen, earliest first, in the order of arrival at one instant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use poolmaster::supervisor::{Event, Notification, Time, WorkerId};

use crate::shadow::Reading;

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A fact for the core.
    Fact(Event),
    /// A process does something.
    Proc(WorkerId, Step),
    /// Somebody outside (an operator, a signal sender) acts; the number names the stream.
    Storm(u32),
    /// The config has been read: time to answer. `base`: what it was compared with; `None`: what is in force by then.
    ConfigRead { reading: Reading, base: Option<u32> },
}

/// What a process does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Fork or exec fails.
    SpawnFails,
    /// Its hooks are done, and it is forked.
    Prepared,
    /// exec succeeds.
    Exec,
    /// A datagram on the notify socket.
    Say(Notification),
    /// Heartbeats begin or go on.
    Beat,
    /// The leader ends on its own account.
    Die,
    /// The leader ends by this signal.
    DieBy(i32),
    /// The leader's exit is reaped and reported.
    Report,
    /// What was left of the group ends.
    GroupEnds,
}

/// A priority queue, stable at one instant.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(Time, u64)>>,
    items: BTreeMap<u64, Item>,
    next: u64,
}

impl Queue {
    pub(crate) fn at(&mut self, when: Time, item: Item) {
        self.heap.push(Reverse((when, self.next)));
        self.items.insert(self.next, item);
        self.next += 1;
    }

    pub(crate) fn next_time(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((t, _))| *t)
    }

    /// The next item that is due at `now`.
    pub(crate) fn due(&mut self, now: Time) -> Option<Item> {
        if self.next_time()? > now {
            return None;
        }
        let Reverse((_, seq)) = self.heap.pop()?;
        self.items.remove(&seq)
    }
}
