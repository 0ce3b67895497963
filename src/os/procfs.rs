//! Owns the reading of small files below /proc and /sys. What is missing, gone or forbidden is `None`: these are looks, never
//! needs.

use std::fs;

/// A whole small file as text.
pub(crate) fn read(path: &str) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The field numbered as in proc_pid_stat(5), from 3 on, of /proc/PID/stat: those after the command name, which may itself
/// contain spaces and parentheses.
pub(crate) fn stat_field(pid: i32, number: usize) -> Option<u64> {
    field(&read(&format!("/proc/{pid}/stat"))?, number)
}

fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// The command name of a process.
pub(crate) fn command(pid: i32) -> Option<String> {
    read(&format!("/proc/{pid}/comm")).map(|c| c.trim_end().to_owned())
}

/// The numeric entries of a directory below /proc: process ids, thread ids, descriptors.
pub(crate) fn numbers(dir: &str) -> impl Iterator<Item = i32> + use<> {
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// `socket:[N]`, the target of a descriptor's link, as N.
pub(crate) fn socket_inode(pid: i32, fd: u64) -> Option<u64> {
    let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 7 8 9 0";
        assert_eq!(field(stat, 4), Some(7));
        assert_eq!(field(stat, 6), Some(9));
        assert_eq!(field(stat, 2), None);
    }

    #[test]
    fn our_own_entries_are_found() {
        let me = std::process::id().cast_signed();
        assert!(numbers("/proc").any(|pid| pid == me));
        assert!(stat_field(me, 22).is_some_and(|start| start > 0));
        assert!(command(me).is_some());
    }
}
