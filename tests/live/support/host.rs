//! What /proc tells of a process from outside, and running as somebody else.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::POOLMASTER;

/// Everything of `/proc/PID/status`.
pub fn proc_status(pid: i32) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
}

/// Resident memory now, in KiB.
pub fn rss_kib(pid: i32) -> u64 {
    proc_status(pid)["VmRSS"].trim_end_matches(" kB").parse().unwrap()
}

/// Its highest resident memory so far, in KiB.
pub fn peak_kib(pid: i32) -> u64 {
    proc_status(pid)["VmHWM"].trim_end_matches(" kB").parse().unwrap()
}

/// Its descriptors and what they lead to.
pub fn fds(pid: i32) -> BTreeMap<i32, String> {
    let dir = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    dir.filter_map(|e| {
        let e = e.unwrap();
        let number = e.file_name().to_string_lossy().parse().unwrap();
        Some((number, std::fs::read_link(e.path()).ok()?.display().to_string()))
    })
    .collect()
}

/// Pipes that a process has opened itself: less those that it got from this test, or from whatever runs the tests.
pub fn own_pipes(pid: i32) -> usize {
    let ours: Vec<String> = fds(i32::try_from(std::process::id()).unwrap()).into_values().collect();
    fds(pid).into_values().filter(|f| f.starts_with("pipe:") && !ours.contains(f)).count()
}

pub fn environ(pid: i32) -> BTreeMap<String, String> {
    environ_of_living(pid).unwrap()
}

/// The same of one that may have ended by itself meanwhile.
pub fn environ_of_living(pid: i32) -> Option<BTreeMap<String, String>> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).ok().filter(|bytes| !bytes.is_empty())?;
    let text = String::from_utf8(bytes).unwrap();
    Some(text.split('\0').filter_map(|e| e.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

/// The fields of `/proc/PID/stat` from the third (the state) on.
pub fn proc_stat(pid: i32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    text[text.rfind(')').unwrap() + 2..].split_whitespace().map(str::to_owned).collect()
}

/// Clock ticks of CPU time, user and system.
pub fn cpu_ticks(pid: i32) -> u64 {
    let stat = proc_stat(pid);
    stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap()
}

/// Context switches of all its threads, wanted and unwanted.
pub fn switches(pid: i32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|t| std::fs::read_to_string(t.unwrap().path().join("status")).unwrap())
        .flat_map(|s| s.lines().filter(|l| l.contains("ctxt_switches")).map(str::to_owned).collect::<Vec<_>>())
        .map(|l| l.split_whitespace().last().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Children of a process, zombies too.
pub fn children(pid: i32) -> Vec<i32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .map(|c| c.parse().unwrap())
        .collect()
}

/// A length of time in which the process does not end: what has to stay as it is can only be watched for a while.
pub fn watch_for(pid: i32, time: Duration) {
    // SAFETY: no memory is involved.
    let fd = i32::try_from(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).unwrap();
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    let n = unsafe { libc::poll(&raw mut poll, 1, i32::try_from(time.as_millis()).unwrap()) };
    // SAFETY: ours, not used again.
    unsafe { libc::close(fd) };
    assert_eq!(n, 0, "process {pid} ended");
}

/// Becomes another user for good; for use between fork and exec.
pub fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: system calls without memory of ours; raw, since the libc ones synchronise threads.
    let done = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) == 0
            && libc::syscall(libc::SYS_setresgid, uid, uid, uid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets a limit, soft and hard; for use between fork and exec.
pub fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is valid for reading.
    if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Copies a program, by another process: a child that another test starts meanwhile would hold our writing end, and the kernel executes no
/// file that is open for writing.
pub fn copy_program(from: impl AsRef<Path>, to: &Path) {
    let done = Command::new("cp").arg(from.as_ref()).arg(to).status().unwrap();
    assert!(done.success());
    std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

/// The binary, where any user can run it.
pub fn binary_for_all(dir: &Path) -> PathBuf {
    let copy = dir.join("poolmaster");
    copy_program(POOLMASTER, &copy);
    copy
}

pub fn give_to(path: &Path, uid: u32) {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a valid string.
    assert_eq!(unsafe { libc::chown(path.as_ptr(), uid, uid) }, 0);
}

/// The soft and hard limit of open files, of this test.
pub fn nofile() -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: valid for writing.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    (limit.rlim_cur, limit.rlim_max)
}
