//! Owns taking the sockets that this process was started with (LISTEN_FDS, as systemd and others hand them over). Refuses to judge what they
//! are for; what is announced for another process is left alone.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::errno::words;
use super::io::own;
use super::process::self_pid;

/// Where the descriptors begin (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;
/// More than anybody hands over; less than would make a wrong number close everything.
const MOST: RawFd = 1024;
/// What systemd calls one that has no name.
const UNNAMED: &str = "unknown";

/// A descriptor that this process was started with.
#[derive(Debug)]
pub struct Inherited {
    /// Its name in LISTEN_FDNAMES.
    pub name: String,
    /// It is close-on-exec from now on.
    pub fd: OwnedFd,
}

/// What was handed over is not as it was announced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sockets that this process was started with cannot be taken: {0}; correct whoever starts it, or unset LISTEN_FDS")]
pub struct ActivationError(String);

/// Takes the descriptors that the environment announces for this process. To be called once, before anything else is opened: from then on
/// their numbers could be somebody else's.
pub fn take(environment: &[(OsString, OsString)]) -> Result<Vec<Inherited>, ActivationError> {
    let variable = |name: &str| environment.iter().find(|(n, _)| n == name).map(|(_, value)| value.to_string_lossy());
    let Some(count) = announced(variable("LISTEN_PID").as_deref(), variable("LISTEN_FDS").as_deref())? else {
        return Ok(Vec::new());
    };
    let names = names(variable("LISTEN_FDNAMES").as_deref(), count)?;
    let numbers = FIRST..FIRST + count;
    // All are looked at before the first is taken.
    for number in numbers.clone() {
        // SAFETY: used for one call, which fails when it is not open.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .map_err(|e| ActivationError(format!("LISTEN_FDS={count} announces descriptor {number}: {}", words(e as i32))))?;
    }
    // SAFETY: they are open, and were given to this process to own; nothing else was opened yet.
    Ok(numbers.zip(names).map(|(number, name)| Inherited { name, fd: unsafe { own(number) } }).collect())
}

/// How many there are. `None`: none for this process.
fn announced(pid: Option<&str>, count: Option<&str>) -> Result<Option<RawFd>, ActivationError> {
    // Those of a parent that did not clean up, for instance.
    if pid.and_then(|pid| pid.parse().ok()) != Some(self_pid()) {
        return Ok(None);
    }
    let Some(count) = count else { return Ok(None) };
    match count.parse() {
        Ok(0) => Ok(None),
        Ok(number @ 1..=MOST) => Ok(Some(number)),
        _ => Err(ActivationError(format!("LISTEN_FDS={count:?} is no number from 0 to {MOST}"))),
    }
}

fn names(names: Option<&str>, count: RawFd) -> Result<Vec<String>, ActivationError> {
    let wanted = usize::try_from(count).unwrap_or(0);
    let Some(names) = names else { return Ok(vec![UNNAMED.to_owned(); wanted]) };
    let names: Vec<String> =
        names.split(':').map(|name| if name.is_empty() { UNNAMED.to_owned() } else { name.to_owned() }).collect();
    match names.len() == wanted {
        true => Ok(names),
        false => Err(ActivationError(format!("LISTEN_FDNAMES has {} names for {count} descriptors", names.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_announced_for_this_process_counts() {
        let own = self_pid().to_string();
        assert_eq!(announced(Some(&own), Some("2")), Ok(Some(2)));
        for (pid, count) in
            [(None, Some("2")), (Some("1"), Some("2")), (Some("x"), Some("x")), (Some(&*own), None), (Some(&*own), Some("0"))]
        {
            assert_eq!(announced(pid, count), Ok(None), "{pid:?} {count:?}");
        }
        for wrong in ["-1", "x", "", "5000000"] {
            let told = announced(Some(&own), Some(wrong)).unwrap_err().to_string();
            assert!(told.contains(&format!("LISTEN_FDS={wrong:?} is no number")), "{told}");
        }
    }

    #[test]
    fn names_fit_or_are_missing() {
        assert_eq!(names(Some("a::c"), 3).unwrap(), ["a", "unknown", "c"]);
        assert_eq!(names(None, 2).unwrap(), ["unknown", "unknown"]);
        assert!(names(Some("a:b"), 3).unwrap_err().to_string().contains("2 names for 3 descriptors"));
    }
}
