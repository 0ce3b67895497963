//! Owns all that a child needs between its start and its exec, laid out before: it allocates nothing itself. Self-contained, so that it may
//! outlive the plan it is made from.

use std::ffi::{CString, c_char};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::AtomicU32;

use super::Plan;
use super::identity::Persona;
use super::layout::Layout;
use super::pad::Placed;

/// Room for any process id in decimal.
const DIGITS: usize = 12;

/// The child's instructions. The pointers lead into `text`, which is never touched again but by the child.
#[derive(Debug)]
pub(super) struct Image {
    /// All strings, each with its NUL.
    text: Vec<u8>,
    /// The candidates.
    pub programs: Vec<*const c_char>,
    /// Null-terminated, as `env`.
    pub argv: Vec<*const c_char>,
    pub env: Vec<*const c_char>,
    /// Where the child writes its process id: offsets of zeroed room in `text`.
    pid_rooms: Vec<usize>,
    /// Null: stay.
    pub working_dir: *const c_char,
    /// A working directory that is not there is an error.
    pub dir_is_needed: bool,
    pub persona: Persona,
    /// Until its table is its own, the child uses the master's, and changes nothing in it. From this number on it needs nothing of it.
    pub own_table_until: Option<RawFd>,
    /// 1 until then; set when the loan is made.
    pub shares_table: *const AtomicU32,
    pub layout: Layout,
    pub death_signal: Option<i32>,
    pub reset_signals: Vec<i32>,
    /// The master.
    pub parent: i32,
}

impl Image {
    pub(super) fn new(plan: &Plan<'_>, placed: &Placed) -> Image {
        let pid_names: Vec<&[u8]> = [(plan.listen_pid, &b"LISTEN_PID="[..]), (plan.watchdog_pid, &b"WATCHDOG_PID="[..])]
            .into_iter()
            .filter_map(|(wanted, name)| wanted.then_some(name))
            .collect();
        let mut text = Vec::with_capacity(size_of_text(plan));
        let programs = offsets(&mut text, &plan.programs);
        let argv = offsets(&mut text, &plan.argv);
        let mut env = offsets(&mut text, &plan.env);
        let mut pid_rooms = Vec::with_capacity(pid_names.len());
        for name in pid_names {
            env.push(text.len());
            text.extend_from_slice(name);
            pid_rooms.push(text.len());
            text.resize(text.len() + DIGITS, 0);
        }
        let working_dir = plan.working_dir.as_ref().or(plan.default_dir.as_ref()).map(|dir| offset(&mut text, dir));
        let chroot = plan.identity.chroot.as_ref().map(|dir| offset(&mut text, dir));
        // Nothing is added from here on: the text stays where it is.
        let at = |&offset: &usize| text.get(offset..).map_or(ptr::null(), |rest| rest.as_ptr().cast::<c_char>());
        let list = |offsets: &[usize]| offsets.iter().map(at).chain([ptr::null()]).collect::<Vec<_>>();
        Image {
            programs: programs.iter().map(at).collect(),
            argv: list(&argv),
            env: list(&env),
            pid_rooms,
            working_dir: working_dir.as_ref().map_or(ptr::null(), at),
            dir_is_needed: plan.working_dir.is_some(),
            persona: Persona::new(&plan.identity, chroot.as_ref().map(at)),
            own_table_until: placed.end,
            shares_table: ptr::null(),
            layout: Layout::new(&placed.sources),
            death_signal: plan.death_signal,
            reset_signals: plan.reset_signals.to_vec(),
            parent: crate::os::process::self_pid(),
            text,
        }
    }

    /// Writes the child's process id wherever it belongs. Runs in the child: no allocation, no panic.
    pub(super) fn set_pid(&mut self, pid: u32) {
        for &room in &self.pid_rooms {
            if let Some(room) = self.text.get_mut(room..) {
                write_number(room, pid);
            }
        }
    }
}

fn size_of_text(plan: &Plan<'_>) -> usize {
    let strings = plan
        .programs
        .iter()
        .chain(&plan.argv)
        .chain(&plan.env)
        .chain(&plan.working_dir)
        .chain(&plan.default_dir)
        .chain(&plan.identity.chroot);
    strings.map(|s| s.as_bytes_with_nul().len()).sum::<usize>() + 2 * ("WATCHDOG_PID=".len() + DIGITS)
}

fn offset(text: &mut Vec<u8>, string: &CString) -> usize {
    let start = text.len();
    text.extend_from_slice(string.as_bytes_with_nul());
    start
}

fn offsets(text: &mut Vec<u8>, strings: &[CString]) -> Vec<usize> {
    strings.iter().map(|s| offset(text, s)).collect()
}

/// The number in decimal; what follows it is left alone.
fn write_number(room: &mut [u8], number: u32) {
    let mut digits = 1;
    let mut rest = number / 10;
    while rest > 0 {
        digits += 1;
        rest /= 10;
    }
    rest = number;
    for slot in room.iter_mut().take(digits).rev() {
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_padding() {
        for number in [0, 7, 10, 4_194_304, u32::MAX] {
            let mut room = [0; DIGITS];
            write_number(&mut room, number);
            let text: Vec<u8> = room.into_iter().take_while(|b| *b != 0).collect();
            assert_eq!(String::from_utf8(text).unwrap(), number.to_string());
        }
    }
}
