//! Owns the launch pad: a few low descriptor numbers, always taken. What a child needs is put there while it starts, so that the child,
//! which begins with the master's very table, makes its own from the low numbers alone. Copying a table of thousands of workers'
//! descriptors, and closing them again, would cost each start more than all the rest (0.35 us for each descriptor of the master's).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lent::TableWord;
use crate::os::errno::check;
use crate::os::io::dev_null;

/// stdin, stdout, stderr, the report pipe, and a dozen listeners. A child that needs more begins with a copy of the whole table.
const SLOTS: usize = 16;

struct Pad {
    /// The numbers, each holding /dev/null while no child starts. Empty: not there yet, or out of descriptors.
    slots: Vec<OwnedFd>,
    /// The child that may still need what is on the pad, and the numbers in use.
    child: Option<(TableWord, Vec<RawFd>)>,
}

static PAD: Mutex<Pad> = Mutex::new(Pad { slots: Vec::new(), child: None });

fn pad() -> MutexGuard<'static, Pad> {
    PAD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the numbers, if they are not taken yet. The lower the better: call it before anything else is opened.
pub fn reserve() {
    let mut pad = pad();
    if pad.slots.is_empty() && close_range_is_permitted() {
        // Without them every start is slower, but works.
        pad.slots = take().unwrap_or_default();
    }
}

/// Some sandboxes know no close_range, and permit no unshare either: there a child could not make a table of its own.
fn close_range_is_permitted() -> bool {
    // SAFETY: closes nothing, as no descriptor has this number.
    check(unsafe { libc::syscall(libc::SYS_close_range, libc::c_uint::MAX, libc::c_uint::MAX, 0) }).is_ok()
}

fn take() -> io::Result<Vec<OwnedFd>> {
    let null = dev_null()?;
    (0..SLOTS).map(|_| null.try_clone_to_owned()).collect()
}

/// Clears the pad, once the child that was started last has its own table: at once, as a rule.
pub fn settle() {
    pad().settle();
}

impl Pad {
    fn settle(&mut self) {
        if let Some((word, used)) = self.child.take() {
            word.wait();
            clear(&used);
        }
    }
}

/// Above all the report pipe has to go: its end is the news that it brings.
fn clear(used: &[RawFd]) {
    let Ok(null) = dev_null() else { return };
    for &slot in used {
        // SAFETY: the slot is the pad's own number.
        unsafe { libc::dup3(null.as_raw_fd(), slot, libc::O_CLOEXEC) };
    }
}

/// The descriptors of one child, where they are until it has its own table.
pub(super) struct Placed {
    /// 0, 1, 2, the passed ones, the report pipe: each with its place in the child.
    pub sources: Vec<(RawFd, RawFd)>,
    /// All of them lie below this number: the child needs nothing from here on. `None`: they may be anywhere, and the child gets a copy of
    /// the table.
    pub end: Option<RawFd>,
    /// Nobody else uses the pad meanwhile.
    pad: Option<MutexGuard<'static, Pad>>,
    used: Vec<RawFd>,
}

/// Leaves the sources where they are.
pub(super) fn stay(sources: Vec<(RawFd, RawFd)>) -> Placed {
    Placed { sources, end: None, pad: None, used: Vec::new() }
}

/// Puts the sources on the pad, all but the master's own 0, 1 and 2: those that are passed on at the very numbers they will have, if these are on it.
pub(super) fn place(sources: Vec<(RawFd, RawFd)>) -> Placed {
    let mut pad = pad();
    pad.settle();
    let mut free: Vec<RawFd> = pad.slots.iter().map(AsRawFd::as_raw_fd).collect();
    let mut placed = stay(sources);
    placed.pad = Some(pad);
    let Some(last) = free.iter().copied().max() else { return placed };
    let mut sources = placed.sources.clone();
    for (source, wanted) in &mut sources {
        // Also one that lies low: it may be closed, or its number another's, before the child has its own table.
        if *source > libc::STDERR_FILENO {
            let at = free.iter().position(|slot| slot == wanted).or(free.len().checked_sub(1));
            let Some(slot) = at.map(|at| free.remove(at)) else { return placed };
            // SAFETY: the slot is the pad's own number; what it held is /dev/null.
            if check(unsafe { libc::dup3(*source, slot, libc::O_CLOEXEC) }).is_err() {
                return placed;
            }
            placed.used.push(slot);
            *source = slot;
        }
    }
    (placed.sources, placed.end) = (sources, Some(last + 1));
    placed
}

impl Placed {
    /// The child has started: the pad stays as it is until the child has its own table.
    pub(super) fn leave_to(mut self, word: Option<TableWord>) {
        if let (Some(word), Some(pad)) = (word, &mut self.pad) {
            pad.child = Some((word, std::mem::take(&mut self.used)));
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        clear(&self.used);
    }
}
