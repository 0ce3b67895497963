//! Owns questions about processes and the settings of this one. Answers that cannot be had are `None`, never a guess.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::errno::check;
use super::io::own;
use super::procfs;

/// Orphans of our children become our children: whole groups can be stopped, and nobody is left unreaped.
pub fn set_subreaper() -> io::Result<()> {
    // SAFETY: takes plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Is the running kernel this release or a later one? One that does not say is an old one.
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let Ok(name) = nix::sys::utsname::uname() else { return false };
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Does this process have a terminal that signals it?
pub fn has_controlling_terminal() -> bool {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: the path is a C string.
    match check(unsafe { libc::open(c"/dev/tty".as_ptr(), flags) }) {
        Ok(fd) => {
            // SAFETY: just opened, owned by nobody else.
            drop(unsafe { super::io::own(fd) });
            true
        }
        Err(_) => false,
    }
}

/// Raises the soft limit of open descriptors to the hard one. Gives the original soft and hard limit: what a child gets back
/// ([`crate::os::spawn::Identity::limits`]), for select(2) in a worker cannot count beyond 1,024.
pub fn raise_nofile() -> (u64, u64) {
    let (soft, _) = raise_limit(libc::RLIMIT_NOFILE);
    let (_, hard) = limit(libc::RLIMIT_NOFILE);
    (soft, hard)
}

/// How many descriptors this process may have open now.
pub fn most_descriptors() -> u64 {
    limit(libc::RLIMIT_NOFILE).0
}

#[cfg(target_env = "gnu")]
pub(crate) type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub(crate) type Resource = libc::c_int;

/// Soft and hard limit.
pub(crate) fn limit(resource: Resource) -> (u64, u64) {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writing; the call cannot fail for a known resource.
    unsafe { libc::getrlimit64(resource, &mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// Soft limit before and after an attempt to raise it to the hard one.
pub(crate) fn raise_limit(resource: Resource) -> (u64, u64) {
    let (before, hard) = limit(resource);
    if before < hard {
        let wanted = libc::rlimit64 { rlim_cur: hard, rlim_max: hard };
        // A failure shows in what is read back.
        // SAFETY: `wanted` is valid for reading.
        unsafe { libc::setrlimit64(resource, &wanted) };
    }
    (before, limit(resource).0)
}

/// CAP_SYS_RESOURCE (capabilities(7)).
const SYS_RESOURCE: u8 = 24;

/// Why setrlimit(2) refuses this limit to us; `None`: it takes it.
pub(crate) fn refused_limit(resource: Resource, wanted: u64) -> Option<String> {
    let asked = || if wanted == libc::RLIM64_INFINITY { "no limit".to_owned() } else { wanted.to_string() };
    // sys_setrlimit: not even root goes beyond this one.
    let most = procfs::read("/proc/sys/fs/nr_open").and_then(|text| text.trim().parse::<u64>().ok());
    if let Some(most) = most.filter(|most| resource == libc::RLIMIT_NOFILE && wanted > *most) {
        return Some(format!("{} is more than the kernel takes: fs.nr_open is {most}", asked()));
    }
    let (_, hard) = limit(resource);
    (wanted > hard && !has_capability(SYS_RESOURCE))
        .then(|| format!("{} is more than this user's hard limit, {hard}, which only root may raise", asked()))
}

/// A descriptor that can be read once this process has ended, whoever's child it is (pidfd_open(2)).
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = check(i32::try_from(fd).unwrap_or(-1))?;
    // SAFETY: just made, owned by nobody else. The kernel has set close-on-exec.
    Ok(unsafe { own(fd) })
}

/// Who started this process.
pub fn parent_pid() -> i32 {
    // SAFETY: always succeeds.
    unsafe { libc::getppid() }
}

/// Our own process id.
pub fn self_pid() -> i32 {
    std::process::id().cast_signed()
}

/// The user we act as.
pub fn effective_uid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

/// The group we act as.
pub fn effective_gid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::getegid() }
}

/// Do we have this capability (by its number) in force?
pub fn has_capability(number: u8) -> bool {
    let status = procfs::read("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    1_u64.checked_shl(number.into()).is_some_and(|bit| set & bit != 0)
}

/// CPUs this process may use: by affinity, or by the cgroup's quota rounded up, whichever is smaller. At least 1.
pub fn cpus() -> usize {
    let quota = procfs::read("/proc/self/cgroup").as_deref().and_then(quota).unwrap_or(usize::MAX);
    affinity().min(quota).max(1)
}

fn affinity() -> usize {
    // Room for 8,192 CPUs, the most a kernel is built for.
    let mut mask = [0_u64; 128];
    // SAFETY: the mask is valid for writing for its whole size. The raw call, as libc's takes 1,024 CPUs only.
    let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr()) };
    if got <= 0 {
        return std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    }
    mask.iter().map(|word| word.count_ones() as usize).sum()
}

/// The smallest quota from our cgroup up to the root, in whole CPUs rounded up.
fn quota(own_cgroups: &str) -> Option<usize> {
    let path = own_cgroups.lines().find_map(|l| l.strip_prefix("0::"))?;
    let root = Path::new("/sys/fs/cgroup");
    let mut dir: PathBuf = root.join(path.trim_start_matches('/'));
    let mut smallest = None;
    while dir.starts_with(root) {
        let here = procfs::read(&dir.join("cpu.max").to_string_lossy()).as_deref().and_then(parse_cpu_max);
        smallest = match (smallest, here) {
            (Some(a), Some(b)) => Some(std::cmp::min::<usize>(a, b)),
            (a, b) => a.or(b),
        };
        if !dir.pop() {
            break;
        }
    }
    smallest
}

fn parse_cpu_max(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| usize::try_from(quota.div_ceil(period)).unwrap_or(usize::MAX).max(1))
}

/// Memory of a process that is in RAM now, in bytes. `None` when it is gone.
pub fn resident_bytes(pid: i32) -> Option<u64> {
    let pages: u64 = procfs::read(&format!("/proc/{pid}/statm"))?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: takes a plain number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.checked_mul(u64::try_from(page).ok()?)
}

/// The session that a process is in; `None` when it is gone.
pub fn session_of(pid: i32) -> Option<i32> {
    procfs::stat_field(pid, 6).and_then(|session| i32::try_from(session).ok())
}

/// When a process started, in clock ticks since boot: with the boot id and the pid this names a process for good.
pub fn start_time(pid: i32) -> Option<u64> {
    procfs::stat_field(pid, 22)
}

/// The command name of a process (at most 15 bytes).
pub fn command(pid: i32) -> Option<String> {
    procfs::command(pid)
}

/// Changes at each boot.
pub fn boot_id() -> Option<String> {
    procfs::read("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

/// Does a process with this id exist? One that has ended but is not reaped yet does.
pub fn exists(pid: i32) -> bool {
    match super::signals::kill(pid, 0) {
        Ok(()) => true,
        Err(e) => e.raw_os_error() == Some(libc::EPERM),
    }
}

/// What is taken from the mode of new files. To ask for it without a moment of another one, there is /proc alone.
pub fn umask() -> u32 {
    let status = procfs::read("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
}

/// Sets the mask of file modes of this process; gives the one before.
pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::umask(mask) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up() {
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max("50000 100000\n"), Some(1));
        assert_eq!(parse_cpu_max("400000 100000"), Some(4));
        assert_eq!(parse_cpu_max("1 0"), None);
    }

    #[test]
    fn we_know_ourselves() {
        let me = self_pid();
        assert!(resident_bytes(me).is_some_and(|b| b > 100_000));
        assert!(start_time(me).is_some_and(|t| t > 0));
        assert!(boot_id().is_some_and(|id| id.len() == 36));
        assert!(exists(me));
        let cpus = cpus();
        assert!(cpus >= 1 && cpus <= std::thread::available_parallelism().unwrap().get() + 1);
    }

    #[test]
    fn nobody_is_asked_about_in_vain() {
        // Beyond the largest pid there can be (2^22).
        assert_eq!(resident_bytes(5_000_000), None);
        assert_eq!(start_time(5_000_000), None);
        assert!(!exists(5_000_000));
    }
}
