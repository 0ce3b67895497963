//! Owns how this process shows in lists of processes: the area of its arguments, overwritten in place. Where the title is longer than the
//! arguments were, it goes on in the area of the environment, which is moved away first (as setproctitle(3) has it).

use std::ffi::{CStr, CString, c_char};
use std::ops::Range;
use std::sync::OnceLock;

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

/// The bytes that the title may fill, once it was set.
static ROOM: OnceLock<Option<Range<usize>>> = OnceLock::new();

/// Shows the process under this title. True: it does. The first time with one thread only: the arguments that the program was given are gone
/// then, and how long a title may be is decided.
pub fn set(title: &str) -> bool {
    let Ok(text) = CString::new(title) else { return false };
    let bytes = text.as_bytes();
    if ROOM.get().is_none() && std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() != 1) {
        return false;
    }
    let Some(room) = ROOM.get_or_init(|| room_for(bytes.len())) else { return false };
    let shown = bytes.get(..room.len() - 1).unwrap_or(bytes);
    for (offset, address) in room.clone().enumerate() {
        // With no zero at the end of the arguments, the kernel reads on into the environment.
        let byte = shown.get(offset).copied().unwrap_or(0);
        // SAFETY: inside of the area that the kernel gave to this process for its arguments and environment, which nobody uses any more.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(byte) };
    }
    true
}

/// The arguments, and the environment as well where a title of this length needs it.
fn room_for(length: usize) -> Option<Range<usize>> {
    let area = area()?;
    let fits = length < area.arguments_end - area.start;
    Some(area.start..if fits || !move_environment() { area.arguments_end } else { area.end })
}
