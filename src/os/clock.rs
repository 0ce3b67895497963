//! Owns the reading of clocks: nobody else does, so that time is an argument everywhere.

use std::time::SystemTime;

/// Nanoseconds on CLOCK_MONOTONIC. Does not run while the machine is suspended and never goes back.
pub fn now() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is valid for writing. The call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    let (seconds, nanos) = (u64::try_from(t.tv_sec).unwrap_or(0), u64::try_from(t.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// The wall clock, for time stamps and schedules only: it may jump.
#[allow(clippy::disallowed_methods)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    #[test]
    fn monotonic_time_does_not_go_back() {
        let first = super::now();
        let second = super::now();
        assert!(first > 0 && second >= first);
    }
}
