//! Owns the spelling of the worker's flag values. Refuses what would be silently cut or rounded.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::supervisor::signal_number;

/// `500ms`, `5s`, `1m30s`, or `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 500ms, 5s or 1m30s"))
}

/// As [`duration`], but not zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be more than 0".to_owned()),
        time => Ok(time),
    }
}

/// `5s`, or `5s:1` with an exit code.
pub(super) fn exit_after(text: &str) -> Result<(Duration, u8), String> {
    let (time, code) = text.split_once(':').unwrap_or((text, "0"));
    let code = code.parse().map_err(|_| format!("{code:?} is not an exit code from 0 to 255"))?;
    Ok((duration(time)?, code))
}

/// `1M/s`, or `1M`: bytes in a second.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let size = text.strip_suffix("/s").unwrap_or(text);
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match size[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        unit => return Err(format!("{unit:?} is no unit; write it like 512K/s, 1M/s or 1G/s")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{digits:?} is not a number; write it like 1M/s"))?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(|| "must be more than 0, and fit 64 bits".to_owned())
}

/// A signal whose default is to end the process.
pub(super) fn crash_signal(text: &str) -> Result<Signal, String> {
    let number = signal_number(text).ok_or_else(|| format!("{text:?} is no signal"))?;
    match Signal::try_from(number) {
        Ok(
            Signal::SIGCHLD
            | Signal::SIGCONT
            | Signal::SIGSTOP
            | Signal::SIGTSTP
            | Signal::SIGTTIN
            | Signal::SIGTTOU
            | Signal::SIGURG
            | Signal::SIGWINCH,
        ) => Err(format!("{text} does not end a process")),
        Ok(signal) => Ok(signal),
        Err(_) => Err(format!("{text}: real-time signals are not for crashes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(exit_after("500ms:7"), Ok((Duration::from_millis(500), 7)));
        assert_eq!(exit_after("2s"), Ok((Duration::from_secs(2), 0)));
        assert_eq!(rate("1M/s"), Ok(1 << 20));
        assert_eq!(rate("512k"), Ok(512 << 10));
        assert_eq!(crash_signal("abrt"), Ok(Signal::SIGABRT));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(duration("5").is_err_and(|why| why.ends_with("; write it like 500ms, 5s or 1m30s")));
        let why = |text: &str| Err(text.to_owned());
        assert_eq!(positive_duration("0s"), why("must be more than 0").map(|()| Duration::ZERO));
        assert_eq!(exit_after("5s:300"), why("\"300\" is not an exit code from 0 to 255").map(|()| (Duration::ZERO, 0)));
        for (text, want) in [
            ("0", "must be more than 0, and fit 64 bits"),
            ("1X/s", "\"X\" is no unit; write it like 512K/s, 1M/s or 1G/s"),
            ("M/s", "\"\" is not a number; write it like 1M/s"),
            ("99999999999G", "must be more than 0, and fit 64 bits"),
        ] {
            assert_eq!(rate(text), why(want).map(|()| 0), "{text}");
        }
        for (text, want) in [
            ("CHLD", "CHLD does not end a process"),
            ("BOGUS", "\"BOGUS\" is no signal"),
            ("RTMIN", "RTMIN: real-time signals are not for crashes"),
        ] {
            assert_eq!(crash_signal(text), why(want).map(|()| Signal::SIGABRT), "{text}");
        }
    }
}
