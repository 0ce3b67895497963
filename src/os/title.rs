//! Owns how this process shows in lists of processes: the area of its arguments, overwritten in place. Where the title is longer than the
//! arguments were, it goes on in the area of the environment, which is moved away first (as setproctitle(3) has it).

use std::ffi::{CStr, CString, c_char};
use std::sync::atomic::{AtomicBool, Ordering};

use super::procfs;

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// The area, from the start of the arguments to the end of the environment.
struct Area {
    start: usize,
    arguments_end: usize,
    end: usize,
}

/// By the kernel's own word (proc_pid_stat(5), fields 48 to 51); `None` where the two do not lie side by side.
fn area() -> Option<Area> {
    let pid = super::process::self_pid();
    let field = |number| procfs::stat_field(pid, number).and_then(|n| usize::try_from(n).ok());
    let (start, arguments_end, env_start, end) = (field(48)?, field(49)?, field(50)?, field(51)?);
    let plausible = start != 0 && start < arguments_end && arguments_end == env_start && env_start <= end;
    plausible.then_some(Area { start, arguments_end, end })
}

/// Copies the environment to where it is safe.
fn move_environment() -> bool {
    let mut moved: Vec<*mut c_char> = Vec::new();
    // SAFETY: the C library's list of variables; nobody changes it, as there is one thread.
    let mut at = unsafe { environ };
    if at.is_null() {
        return false;
    }
    loop {
        // SAFETY: the list ends with a null pointer, and that was not seen yet.
        let entry = unsafe { *at };
        if entry.is_null() {
            break;
        }
        // SAFETY: an entry of the list is a C string.
        moved.push(unsafe { CStr::from_ptr(entry) }.to_owned().into_raw());
        at = at.wrapping_add(1);
    }
    moved.push(std::ptr::null_mut());
    // SAFETY: a list of the same form, which is never freed.
    unsafe { environ = Box::leak(moved.into_boxed_slice()).as_mut_ptr() };
    true
}

/// Shows the process under this title. True: it does. Only once, and with one thread: the arguments that the program was given are gone then.
pub fn set(title: &str) -> bool {
    static DONE: AtomicBool = AtomicBool::new(false);
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    let Ok(text) = CString::new(title) else { return false };
    if !alone || DONE.swap(true, Ordering::Relaxed) {
        return false;
    }
    let Some(area) = area() else { return false };
    let bytes = text.as_bytes();
    let fits = bytes.len() < area.arguments_end - area.start;
    let end = if fits || !move_environment() { area.arguments_end } else { area.end };
    let room = end - area.start;
    let shown = bytes.get(..room - 1).unwrap_or(bytes);
    for (offset, address) in (area.start..end).enumerate() {
        // With no zero at the end of the arguments, the kernel reads on into the environment.
        let byte = shown.get(offset).copied().unwrap_or(0);
        // SAFETY: inside of the area that the kernel gave to this process for its arguments and environment, which nobody uses any more.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(byte) };
    }
    true
}
