//! Owns the values about workers' lives: how many, when they are ready, how they are stopped, where their output goes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::spec::Output;
use super::super::template::{self, Vars};
use super::super::{target, words};
use super::address::absolute;
use super::scalar::{duration, signal};
use crate::supervisor::{ReadyKind, StopStep};

/// `workers`: a number, or so many per usable CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Workers {
    /// So many.
    Count(u32),
    /// This factor, in hundredths, of the usable CPUs.
    Auto(u32),
}

impl Workers {
    /// The number it means; "auto" is at least 1.
    pub(crate) fn on(self, cpus: u32) -> u32 {
        match self {
            Workers::Count(n) => n,
            Workers::Auto(hundredths) => {
                u32::try_from((u64::from(cpus) * u64::from(hundredths)).div_ceil(100)).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}

/// `4`, `auto`, `auto*2`, `auto*0.5`.
pub(crate) fn workers(text: &str) -> Option<Workers> {
    let text = text.trim();
    if let Ok(n) = text.parse() {
        return Some(Workers::Count(n));
    }
    let rest = text.strip_prefix("auto")?.trim();
    if rest.is_empty() {
        return Some(Workers::Auto(100));
    }
    let factor: f64 = rest.strip_prefix('*')?.trim().parse().ok()?;
    ((0.01..=1000.0).contains(&factor)).then_some(Workers::Auto((factor * 100.0).round() as u32))
}

/// `ready`, before "auto" is resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ready {
    /// By the pool's listeners.
    Auto,
    /// As said.
    Kind(ReadyKind),
    /// When it writes a line to its descriptor of this number.
    Fd(u32),
    /// When it is seen from outside: what stands behind the kind, a template.
    Outside(Outside, String),
}

/// How a worker's readiness is seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outside {
    /// An address takes connections.
    Tcp,
    /// A page answers.
    Http,
    /// A command ends well.
    Command,
}

/// Reads `ready`. `Err`: what is wrong.
pub(crate) fn ready(text: &str) -> Result<Ready, String> {
    let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    match (kind, rest) {
        ("auto", None) => Ok(Ready::Auto),
        ("exec", None) => Ok(Ready::Kind(ReadyKind::Exec)),
        ("accepting", None) => Ok(Ready::Kind(ReadyKind::Accepting)),
        ("notify", None) => Ok(Ready::Kind(ReadyKind::Notify)),
        ("delay", Some(rest)) => duration(rest).map(|d| Ready::Kind(ReadyKind::Delay(d))).map_err(|e| format!("{text}: {e}")),
        ("fd", Some(rest)) => match rest.parse::<u32>() {
            Ok(number) if number <= MOST_FD => Ok(Ready::Fd(number)),
            Ok(_) => Err(format!("{text}: a descriptor's number is at most {MOST_FD}")),
            Err(_) => Err(format!("{text}: {rest:?} is no descriptor number")),
        },
        ("tcp", Some(rest)) if !rest.is_empty() => {
            target::target(&sample(rest)).map_err(|e| format!("{text}: {e}"))?;
            Ok(Ready::Outside(Outside::Tcp, rest.to_owned()))
        }
        ("http", Some(rest)) if !rest.is_empty() => {
            target::page(&sample(rest)).map_err(|e| format!("{text}: {e}"))?;
            Ok(Ready::Outside(Outside::Http, rest.to_owned()))
        }
        ("command", Some(rest)) if !rest.trim().is_empty() => {
            words::split(rest).map_err(|e| format!("{text}: it cannot be split into words: {e}"))?;
            Ok(Ready::Outside(Outside::Command, rest.to_owned()))
        }
        ("delay" | "fd" | "tcp" | "http" | "command", _) => Err(format!("{kind:?} is only half of it")),
        _ => Err(format!("{text:?} is no way to become ready")),
    }
}

/// Most workers are born with a limit of 1,024 descriptors.
const MOST_FD: u32 = 1000;

/// A template as it may turn out, to judge its form.
fn sample(text: &str) -> String {
    template::expand(
        text,
        &Vars { pool: "web", slot: 0, generation: 1, fds: &[], cpus: 1, runtime: Path::new("/run/web"), port: Some(8000) },
    )
}

/// Where output goes. `other` is the name of the other stream, that this one may follow.
pub(crate) fn output(text: &str, other: &str, cwd: &Path) -> Option<Output> {
    match text {
        "inherit" => Some(Output::Inherit),
        "null" => Some(Output::Null),
        "capture" => Some(Output::Capture),
        "stdout" if other == "stdout" => Some(Output::Stdout),
        "stderr" if other == "stderr" => Some(Output::Stderr),
        _ => text.strip_prefix("file:").filter(|path| !path.is_empty()).map(|path| Output::File(file(path, cwd))),
    }
}

fn file(path: &str, cwd: &Path) -> PathBuf {
    absolute(path, cwd)
}

/// `["QUIT", "10s", "TERM", "5s"]`: signals, each followed by the wait after it. The last wait may be left out: `last` then.
/// `Err`: the index of the wrong item and what is wrong.
pub(crate) fn stop_sequence(items: &[&str], last: Duration) -> Result<Vec<StopStep>, (usize, String)> {
    let mut steps: Vec<StopStep> = Vec::new();
    for (at, pair) in items.chunks(2).enumerate() {
        let Some(name) = pair.first() else { continue };
        let signal = signal(name).map_err(|e| (2 * at, e))?;
        let wait = match pair.get(1) {
            Some(wait) => duration(wait).map_err(|e| (2 * at + 1, e))?,
            None => last,
        };
        steps.push(StopStep { signal, wait });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_counts() {
        for (text, want) in [
            ("4", Some(4)),
            ("0", Some(0)),
            ("auto", Some(6)),
            ("auto*2", Some(12)),
            ("auto * 0.5", Some(3)),
            ("auto*0.01", Some(1)),
            ("-1", None),
            ("auto*", None),
            ("auto*0", None),
            ("auto*-1", None),
            ("auto*NaN", None),
            ("auto+1", None),
            ("many", None),
            ("", None),
        ] {
            assert_eq!(workers(text).map(|w| w.on(6)), want, "{text:?}");
        }
    }

    #[test]
    fn ways_to_become_ready() {
        for (text, want) in [
            ("auto", Some(Ready::Auto)),
            ("exec", Some(Ready::Kind(ReadyKind::Exec))),
            ("delay:2s", Some(Ready::Kind(ReadyKind::Delay(Duration::from_secs(2))))),
            ("fd:5", Some(Ready::Fd(5))),
            ("tcp::8000", Some(Ready::Outside(Outside::Tcp, ":8000".to_owned()))),
            ("tcp:unix:{runtime}/w{slot}.sock", Some(Ready::Outside(Outside::Tcp, "unix:{runtime}/w{slot}.sock".to_owned()))),
            ("http://127.0.0.1:{port}/up", Some(Ready::Outside(Outside::Http, "//127.0.0.1:{port}/up".to_owned()))),
            ("command:./ok {slot}", Some(Ready::Outside(Outside::Command, "./ok {slot}".to_owned()))),
            ("tcp:db.local:80", None),
            ("http://example.org/", None),
            ("command:'", None),
            ("command: ", None),
            ("fd:100000", None),
            ("delay", None),
            ("delay:x", None),
            ("fd:x", None),
            ("tcp:", None),
            ("auto:1", None),
            ("http", None),
            ("", None),
        ] {
            assert_eq!(ready(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn outputs() {
        let cwd = Path::new("/srv");
        assert_eq!(output("file:/a/b", "stderr", cwd), Some(Output::File("/a/b".into())));
        assert_eq!(output("file:b", "stderr", cwd), Some(Output::File("/srv/b".into())));
        assert_eq!(output("stderr", "stderr", cwd), Some(Output::Stderr));
        assert_eq!(output("stdout", "stderr", cwd), None);
        assert_eq!(output("file:", "stderr", cwd), None);
    }

    #[test]
    fn stop_sequences() {
        let s = Duration::from_secs;
        let step = |signal, wait| StopStep { signal, wait: s(wait) };
        assert_eq!(stop_sequence(&["QUIT", "10s", "TERM", "5s"], s(9)), Ok(vec![step(3, 10), step(15, 5)]));
        assert_eq!(stop_sequence(&["QUIT", "10s", "TERM"], s(9)), Ok(vec![step(3, 10), step(15, 9)]));
        assert_eq!(stop_sequence(&[], s(9)), Ok(vec![]));
        assert_eq!(stop_sequence(&["QUIT", "TERM"], s(9)).map_err(|e| e.0), Err(1));
        assert_eq!(stop_sequence(&["10s"], s(9)).map_err(|e| e.0), Err(0));
    }
}
