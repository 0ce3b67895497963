//! Owns the words for how a process ended. Any signal number is known, real-time ones included, whatever libc is in use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a worker's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// It called exit with this code.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// A core was written.
        core: bool,
    },
    /// It was seen to be gone, but the kernel did not say how.
    Unknown,
}

/// SIGKILL's number, the one signal the core sends on its own account beside ABRT.
pub const KILL: i32 = 9;
/// SIGABRT's number.
pub const ABRT: i32 = 6;

/// Linux signal names 1..=31, without "SIG", as on x86 and ARM (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
    "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The kernel's first real-time signal that programs may use; glibc keeps 32 and 33 to itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The name of a signal, as in `SIGTERM` or `SIGRTMIN+3`.
pub fn signal_name(signal: i32) -> String {
    match usize::try_from(signal - 1).ok().and_then(|i| NAMES.get(i)) {
        Some(name) => format!("SIG{name}"),
        None if signal == RTMIN => "SIGRTMIN".to_owned(),
        None if (RTMIN..=RTMAX).contains(&signal) => format!("SIGRTMIN+{}", signal - RTMIN),
        None => format!("signal {signal}"),
    }
}

/// The number of a signal named as `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `RTMAX-1`, in any case.
pub fn signal_number(name: &str) -> Option<i32> {
    let upper = name.trim().to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(n) = bare.parse::<i32>() {
        return ((1..=31).contains(&n) || (RTMIN..=RTMAX).contains(&n)).then_some(n);
    }
    if let Some(at) = NAMES.iter().position(|n| *n == bare) {
        return i32::try_from(at + 1).ok();
    }
    let aliases = [("POLL", 29), ("CLD", 17), ("IOT", 6), ("RTMIN", RTMIN), ("RTMAX", RTMAX)];
    if let Some((_, n)) = aliases.iter().find(|(a, _)| *a == bare) {
        return Some(*n);
    }
    let offset = |prefix: &str, base: i32, sign: i32| {
        let digits = bare.strip_prefix(prefix)?;
        let n = digits.parse::<u8>().ok()?;
        let signal = base + sign * i32::from(n);
        (RTMIN..=RTMAX).contains(&signal).then_some(signal)
    };
    offset("RTMIN+", RTMIN, 1).or_else(|| offset("RTMAX-", RTMAX, -1))
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exited with code {code}"),
            ExitStatus::Signal { signal, core } => {
                write!(f, "killed by {}", signal_name(*signal))?;
                if *core {
                    f.write_str(" (core dumped)")?;
                }
                Ok(())
            }
            ExitStatus::Unknown => f.write_str("ended, how is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_name_reads_back_as_its_number() {
        for n in (1..=31).chain(RTMIN..=RTMAX) {
            assert_eq!(signal_number(&signal_name(n)), Some(n), "{}", signal_name(n));
        }
    }

    #[test]
    fn signals_are_read_as_people_write_them() {
        for (text, want) in [
            ("term", Some(15)),
            ("SIGTERM", Some(15)),
            ("9", Some(9)),
            ("RTMIN+1", Some(35)),
            ("sigrtmax-1", Some(63)),
            ("RTMAX", Some(64)),
            ("0", None),
            ("32", None),
            ("65", None),
            ("RTMIN+31", None),
            ("RTMIN+", None),
            ("", None),
            ("BOGUS", None),
        ] {
            assert_eq!(signal_number(text), want, "{text:?}");
        }
    }

    #[test]
    fn an_exit_is_told_in_words() {
        assert_eq!(ExitStatus::Code(3).to_string(), "exited with code 3");
        assert_eq!(ExitStatus::Signal { signal: 11, core: true }.to_string(), "killed by SIGSEGV (core dumped)");
        assert_eq!(ExitStatus::Signal { signal: 37, core: false }.to_string(), "killed by SIGRTMIN+3");
    }
}
