//! Owns the memory lent to a child until it executes its program: its instructions and a stack. It comes back when the end-of-file of the
//! child's report pipe shows that the child has left this memory, and not before. Refuses to guess: what may still be in use is kept.

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::child;
use super::image::Image;
use crate::os::errno::check;
use crate::os::signals::block_for_fork;

/// Ample: the child's few calls need less than 2 KiB, a debug build twice that.
const STACK: usize = 64 * 1024;
/// Below the stack, so that an overflow is a fault and never a silent write: as large as the largest page there is on Linux hosts.
const GUARD: usize = 64 * 1024;
/// Stacks kept for the next children: a burst has few children between start and exec at a time.
const KEPT_STACKS: usize = 16;

/// A mapped stack that grows down to a guard.
#[derive(Debug)]
struct Stack(NonNull<libc::c_void>);

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Stack {}

impl Stack {
    fn new() -> io::Result<Stack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(ptr::null_mut(), GUARD + STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack(NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?);
        // SAFETY: the lower part of the mapping just made, which nobody uses.
        check(unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) })?;
        Ok(stack)
    }

    fn top(&self) -> *mut libc::c_void {
        self.0.as_ptr().wrapping_byte_add(GUARD + STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size; no child runs on it any more.
        unsafe { libc::munmap(self.0.as_ptr(), GUARD + STACK) };
    }
}

/// 1 while a child uses the master's table of descriptors, then 0. Written by the child, and by the kernel at the child's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableWord(NonNull<AtomicU32>);

// SAFETY: an atomic; it lives until the child's report pipe is at its end, which it is not before the pad is cleared.
unsafe impl Send for TableWord {}

impl TableWord {
    /// Sleeps until the child has its own table, or has ended. Between its start and there the child makes two system calls, neither of
    /// which waits for anything.
    pub(super) fn wait(self) {
        // SAFETY: alive, as said above.
        let word = unsafe { self.0.as_ref() };
        while word.load(Ordering::Acquire) != 0 {
            // Not a private futex: the kernel's own wake at the end of a thread is for a shared one.
            // SAFETY: waits on a live word; any outcome is looked at by the loop.
            unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 1, ptr::null::<libc::timespec>()) };
        }
    }
}

/// What one child uses.
#[derive(Debug)]
struct Loan {
    /// The child's own until the end-of-file: nobody else reads or writes it.
    image: NonNull<Image>,
    stack: Stack,
    table: TableWord,
    /// The reading end of its report pipe.
    pipe: OwnedFd,
}

// SAFETY: whoever holds the loan does nothing with the image but free it, once the child is done.
unsafe impl Send for Loan {}

impl Loan {
    /// The child has left this memory. A report that nobody wanted is read and thrown away.
    fn is_over(&self) -> bool {
        let mut unread = [0; 64];
        loop {
            match crate::os::io::read(&self.pipe, &mut unread) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    fn take_back(self) -> Stack {
        // SAFETY: made by Box::into_raw in `clone`; the child is done with it, and `self` ends here.
        drop(unsafe { Box::from_raw(self.image.as_ptr()) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.table.0.as_ptr()) });
        self.stack
    }
}

/// What is idle, and what is still with children that nobody waits for any more.
struct Store {
    stacks: Vec<Stack>,
    open: Vec<Loan>,
}

static STORE: Mutex<Store> = Mutex::new(Store { stacks: Vec::new(), open: Vec::new() });

impl Store {
    fn stack(&mut self) -> io::Result<Stack> {
        for loan in self.open.extract_if(.., |loan| loan.is_over()) {
            self.stacks.push(loan.take_back());
        }
        self.stacks.truncate(KEPT_STACKS);
        self.stacks.pop().map_or_else(Stack::new, Ok)
    }

    fn close(&mut self, loan: Loan) {
        if loan.is_over() {
            let stack = loan.take_back();
            if self.stacks.len() < KEPT_STACKS {
                self.stacks.push(stack);
            }
        } else {
            self.open.push(loan);
        }
    }
}

fn with_store<T>(work: impl FnOnce(&mut Store) -> T) -> T {
    work(&mut STORE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A loan that is given back, now or when the child is done, when this is dropped.
#[derive(Debug)]
pub(super) struct Lent(Option<Loan>);

impl Lent {
    pub(super) fn pipe(&self) -> &OwnedFd {
        match &self.0 {
            Some(loan) => &loan.pipe,
            None => unreachable!("a loan is taken out by drop only"),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(loan) = self.0.take() {
            with_store(|store| store.close(loan));
        }
    }
}

/// A child that has started.
pub(super) struct Started {
    pub pid: i32,
    pub lent: Lent,
    /// Where it begins with the master's table of descriptors too ([`Image::own_table_until`]).
    pub word: Option<TableWord>,
}

/// Starts a child that carries the image out, in this very memory (`share`) or in a copy of it.
pub(super) fn clone(mut image: Image, pipe: OwnedFd, share: bool) -> io::Result<Started> {
    let stack = with_store(Store::stack)?;
    let shares = share && image.own_table_until.is_some();
    let table = TableWord(NonNull::from(Box::leak(Box::new(AtomicU32::new(shares.into())))));
    image.shares_table = table.0.as_ptr();
    let mut flags = libc::SIGCHLD;
    if share {
        flags |= libc::CLONE_VM;
    }
    if shares {
        // The kernel clears the word too when the child ends before it could: nobody waits for a dead one.
        flags |= libc::CLONE_FILES | libc::CLONE_CHILD_CLEARTID;
    }
    let loan = Loan { image: NonNull::from(Box::leak(Box::new(image))), stack, table, pipe };
    let nothing = ptr::null_mut::<libc::c_void>();
    // No handler and no signal may act in the child before it is set up: a TERM sent meanwhile waits, and acts before the exec.
    let mask = block_for_fork();
    // SAFETY: the child runs `child::start`, which does not return, on a stack and an image that are its own until it has left this memory.
    let pid = unsafe {
        libc::clone(child::start, loan.stack.top(), flags, loan.image.as_ptr().cast(), nothing, nothing, table.0.as_ptr())
    };
    let pid = check(pid);
    mask.restore();
    match pid {
        Ok(pid) => Ok(Started { pid, lent: Lent(Some(loan)), word: shares.then_some(table) }),
        Err(e) => {
            let stack = loan.take_back();
            with_store(|store| store.stacks.push(stack));
            Err(e)
        }
    }
}

/// Since Linux 5.16 a core dump ends the threads of one process. Before, it ended every process that shares the memory: a QUIT that reaches a
/// child before its exec would take the master along. There the memory is copied, as by fork.
pub(super) fn may_share() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| crate::os::process::kernel_is_at_least(5, 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_has_its_size_and_a_guard() {
        let stack = Stack::new().unwrap();
        let lowest = stack.top().wrapping_byte_sub(STACK).cast::<u8>();
        // SAFETY: the lowest byte of the stack, which nobody else uses.
        unsafe { lowest.write(1) };
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let guard = format!("-{:x} ---p", lowest as usize);
        assert!(maps.lines().any(|l| l.contains(&guard) || l.contains(&format!("-{:012x} ---p", lowest as usize))), "{maps}");
    }
}
