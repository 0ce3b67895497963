//! Owns reading how much of something this process and its children may have: descriptors, signals that wait, processes.

use super::process;
use super::procfs::read;

/// What bounds a master and its workers. `None`: no bound, or not to be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Descriptors that this process may have open, when it raises its own limit.
    pub descriptors: Option<u64>,
    /// Signals that may wait for this user's processes.
    pub signals: Option<u64>,
    /// Processes and threads, each bound with its name and how many are there already.
    pub processes: Vec<(String, u64, u64)>,
}

/// Reads them.
pub fn bounds() -> Bounds {
    let finite = |n: u64| (n != libc::RLIM64_INFINITY).then_some(n);
    Bounds {
        descriptors: finite(process::limit(libc::RLIMIT_NOFILE).1),
        signals: finite(process::limit(libc::RLIMIT_SIGPENDING).1),
        processes: processes(),
    }
}

fn processes() -> Vec<(String, u64, u64)> {
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let mut out = Vec::new();
    // The last field but one of loadavg is `running/all`, in threads.
    let all = read("/proc/loadavg").and_then(|text| text.split(['/', ' ']).nth(4)?.parse().ok()).unwrap_or(0);
    for name in ["threads-max", "pid_max"] {
        out.extend(number(&format!("/proc/sys/kernel/{name}")).map(|most| (format!("kernel.{name}"), most, all)));
    }
    // Each group up to the root of the hierarchy has its own bound; "max" is none.
    let own = read("/proc/self/cgroup").unwrap_or_default();
    let mut group = own.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned);
    while let Some(path) = group.filter(|path| path != "/") {
        let file = |name: &str| number(&format!("/sys/fs/cgroup{path}/pids.{name}"));
        if let Some(most) = file("max") {
            out.push((format!("pids.max of the cgroup {path}"), most, file("current").unwrap_or(0)));
        }
        group = path.rsplit_once('/').map(|(parent, _)| parent.to_owned()).filter(|parent| !parent.is_empty());
    }
    if process::effective_uid() != 0
        && let (_, hard) = process::limit(libc::RLIMIT_NPROC)
        && hard != libc::RLIM64_INFINITY
    {
        out.push(("RLIMIT_NPROC (ulimit -u)".to_owned(), hard, 0));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_bounds() {
        let bounds = bounds();
        assert!(bounds.descriptors.is_none_or(|n| n > 2));
        let (name, most, used) = bounds.processes.first().unwrap();
        assert_eq!(name, "kernel.threads-max");
        assert!(*used > 0 && used < most, "{used} of {most}");
    }
}
