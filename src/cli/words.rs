//! Owns how values are shown to people: sizes, states, wrapped remarks, colours.

use std::time::Duration;

use crate::supervisor::{Phase, WorkerState, human};

/// Columns that output is made for.
pub(super) const WIDTH: usize = 80;

/// How a word is painted on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As everything else.
    Plain,
    /// As it should be.
    Good,
    /// On its way, or something to look at.
    Caution,
    /// Broken.
    Bad,
    /// Of little interest.
    Faint,
}

impl Tone {
    /// The text in this tone.
    pub(super) fn paint(self, text: &str, colours: bool) -> String {
        let code = match self {
            Tone::Plain => return text.to_owned(),
            Tone::Good => 32,
            Tone::Caution => 33,
            Tone::Bad => 31,
            Tone::Faint => 2,
        };
        if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// An age or a wait, from milliseconds.
pub(super) fn time(ms: u64) -> String {
    human(Duration::from_millis(ms))
}

/// Bytes, in units of 1024: `812K`, `5.1M`, `34M`, `1.2G`.
pub(super) fn size(bytes: u64) -> String {
    let (mut tenths, mut unit) = (bytes.saturating_mul(10) / 1024, 0);
    while tenths >= 10_240 && unit < 3 {
        tenths /= 1024;
        unit += 1;
    }
    let unit = ["K", "M", "G", "T"][unit];
    if tenths < 100 && unit != "K" { format!("{}.{}{unit}", tenths / 10, tenths % 10) } else { format!("{}{unit}", tenths / 10) }
}

/// `1 worker`, `2 workers`.
pub(super) fn count(n: u32, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A pool's phase.
pub(super) fn phase(phase: Phase) -> (&'static str, Tone) {
    match phase {
        Phase::Waiting => ("waiting", Tone::Caution),
        Phase::Running => ("running", Tone::Good),
        Phase::BackingOff => ("backing off", Tone::Bad),
        Phase::Stopped => ("stopped", Tone::Faint),
        Phase::Parked => ("parked", Tone::Faint),
        Phase::Failed => ("failed", Tone::Bad),
        Phase::Completed => ("completed", Tone::Good),
        Phase::Removed => ("removed", Tone::Faint),
    }
}

/// A worker's state.
pub(super) fn state(state: WorkerState) -> (&'static str, Tone) {
    match state {
        WorkerState::Spawning => ("spawning", Tone::Caution),
        WorkerState::Starting => ("starting", Tone::Caution),
        WorkerState::Ready => ("ready", Tone::Good),
        WorkerState::Good => ("good", Tone::Good),
        WorkerState::Leaving => ("leaving", Tone::Caution),
        WorkerState::Stopping => ("stopping", Tone::Caution),
        WorkerState::Aborting => ("aborting", Tone::Bad),
        WorkerState::Killed => ("killed", Tone::Bad),
        WorkerState::Lingering => ("lingering", Tone::Bad),
    }
}

/// Text in lines of at most [`WIDTH`] columns, each indented. What is to be pasted stays in one piece: words longer than a
/// line (paths), and commands in backticks.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for piece in pieces(text) {
        let width = piece.chars().count();
        if column > 0 && column + 1 + width > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(&piece);
        column += width;
    }
    if column > 0 {
        out.push('\n');
    }
    out
}

/// Words, and words in backticks together.
fn pieces(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut open = false;
    for word in text.split_whitespace() {
        match out.last_mut() {
            Some(last) if open => {
                last.push(' ');
                last.push_str(word);
            }
            _ => out.push(word.to_owned()),
        }
        open ^= word.matches('`').count() % 2 == 1;
    }
    // A lone backtick in a worker's words is no command.
    if open { text.split_whitespace().map(str::to_owned).collect() } else { out }
}

/// Text from a worker or a file, without what would move a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || crate::telemetry::turns_text(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, want) in [
            (0, "0K"),
            (1023, "0K"),
            (812 * 1024, "812K"),
            (1024 * 1024, "1.0M"),
            (5_400_000, "5.1M"),
            (34 << 20, "34M"),
            (1_300_000_000, "1.2G"),
            (3 << 40, "3.0T"),
        ] {
            assert_eq!(size(bytes), want);
        }
    }

    #[test]
    fn long_remarks_are_wrapped_at_the_width() {
        let text = wrapped(&"word ".repeat(40), 4);
        assert!(text.lines().all(|l| l.len() <= WIDTH && l.starts_with("    word")), "{text}");
        assert_eq!(text.lines().count(), 3);
        assert_eq!(wrapped("", 4), "");
        let command = wrapped(&format!("{} `poolmaster scale web config`", "word ".repeat(14)), 0);
        assert!(command.ends_with("word\n`poolmaster scale web config`\n"), "{command}");
        assert!(wrapped(&"a ` b ".repeat(51), 0).lines().all(|l| l.len() <= WIDTH));
    }

    #[test]
    fn a_worker_cannot_paint_the_operators_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a [2Jb c");
        assert_eq!(printable("\u{9b}31m"), " 31m");
    }
}
