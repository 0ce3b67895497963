//! What several files of live tests ask of a master: the code and the words of a verb, the order of log lines, gates for workers.

use std::ffi::CString;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{Lines, Master, PATIENCE};

/// A verb's exit code, and all that it said.
pub fn told(out: &Output) -> (i32, String) {
    let words = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status.code().unwrap_or(-1), words)
}

impl Master {
    /// Runs a verb that has to end with this code; gives its words.
    pub fn code(&self, code: i32, args: &[&str]) -> String {
        let (got, words) = told(&self.cli(args));
        assert_eq!(got, code, "{args:?}: {words}\nlog:\n{}", self.log.text());
        words
    }

    /// The master ends by itself: its exit code, once its last words are in the log.
    pub fn ends(&mut self) -> i32 {
        let code = self.wait().code().unwrap_or(-1);
        self.log.wait_for(&format!("exit code {code}"), 1);
        code
    }

    /// The worker that fills a slot: its pid, once it is in this state.
    pub fn wait_state(&self, pool: &str, slot: u64, state: &str) -> i32 {
        self.log.wait_until(&format!("{pool}:{slot} is {state}"), || {
            let status = self.pool(pool);
            let worker = status["workers"].as_array()?.iter().find(|w| w["slot"] == slot && w["state"] == state)?;
            i32::try_from(worker["pid"].as_i64()?).ok()
        })
    }
}

impl Lines {
    /// The number of the first line that has this in it. It is there, or the test fails.
    pub fn at(&self, what: &str) -> usize {
        self.all().iter().position(|l| l.contains(what)).unwrap_or_else(|| panic!("{what:?} is missing in\n{}", self.text()))
    }

    /// These lines were written in this order.
    pub fn assert_order(&self, whats: &[&str]) {
        let places: Vec<usize> = whats.iter().map(|w| self.at(w)).collect();
        assert!(places.is_sorted(), "{whats:?} are lines {places:?} of\n{}", self.text());
    }
}

/// The time after a word of a log line: `... after 1.5s (why)` with `after ` is 1.5 s.
pub fn time_in(line: &str, word: &str) -> Duration {
    let rest = line.split_once(word).unwrap_or_else(|| panic!("no {word:?} in {line:?}")).1;
    let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let seconds: f64 = number.parse().unwrap_or_else(|e| panic!("{line:?}: {e}"));
    Duration::from_secs_f64(if rest[number.len()..].starts_with("ms") { seconds / 1000.0 } else { seconds })
}

/// A named pipe: a worker that reads it waits there until [`open_gate`].
pub fn gate(path: &Path) {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a valid string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

/// Lets one worker pass; returns once it stood there.
pub fn open_gate(path: &Path) {
    use std::os::unix::fs::OpenOptionsExt;
    let until = Instant::now() + PATIENCE;
    // One whom nobody comes to any more would be waited for without an end.
    let mut gate = loop {
        match std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path) {
            Ok(gate) => break gate,
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => {
                assert!(Instant::now() < until, "nobody stands at {}", path.display());
                std::thread::yield_now();
            }
            Err(e) => panic!("{}: {e}", path.display()),
        }
    };
    std::io::Write::write_all(&mut gate, b"\n").unwrap();
}

/// A Python 3 interpreter, started without wrappers.
pub fn python() -> Option<&'static str> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        let out = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
        let path = String::from_utf8(out.stdout).ok()?.trim().to_owned();
        (out.status.success() && !path.is_empty()).then_some(path)
    };
    FOUND.get_or_init(find).as_deref()
}
