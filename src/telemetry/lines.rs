//! Owns the way from bytes to lines: bounded, binary safe, and harmless on a terminal.

use std::borrow::Cow;
use std::collections::VecDeque;

/// Splits a stream into lines of at most `max` bytes; longer ones come in pieces.
#[derive(Clone, Debug)]
pub struct Lines {
    partial: Vec<u8>,
    max: usize,
}

impl Lines {
    /// An empty splitter.
    pub fn new(max: usize) -> Lines {
        Lines { partial: Vec::new(), max: max.max(1) }
    }

    /// The line that has no end yet.
    pub fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// A splitter that goes on with such a line.
    pub fn resume(max: usize, partial: Vec<u8>) -> Lines {
        Lines { partial, max: max.max(1) }
    }

    /// Lines that come from now on may be this long.
    pub fn set_max(&mut self, max: usize) {
        self.max = max.max(1);
    }

    /// Takes a piece of the stream, hands out every line that it completes.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            let (body, ends) = match part.strip_suffix(b"\n") {
                Some(body) => (body, true),
                None => (part, false),
            };
            let mut rest = body;
            while !rest.is_empty() && self.partial.len() + rest.len() > self.max {
                // What is there may be longer than a limit that was lowered.
                let (now, later) = rest.split_at(self.max.saturating_sub(self.partial.len()));
                self.partial.extend_from_slice(now);
                each(&self.partial);
                self.partial.clear();
                rest = later;
            }
            if !ends {
                self.partial.extend_from_slice(rest);
            } else if self.partial.is_empty() {
                each(rest);
            } else {
                self.partial.extend_from_slice(rest);
                each(&self.partial);
                self.partial.clear();
            }
        }
    }

    /// As [`Lines::push`] and [`Lines::finish`], for the last piece of a stream of which only so many lines at its end are wanted.
    pub fn push_last(&mut self, bytes: &[u8], most: usize, mut each: impl FnMut(&[u8])) {
        // The end of the line before them.
        let before =
            bytes.iter().rev().enumerate().filter(|(_, b)| **b == b'\n').nth(most).map(|(from_end, _)| bytes.len() - from_end);
        if before.is_some() {
            self.partial.clear();
        }
        self.push(bytes.get(before.unwrap_or(0)..).unwrap_or_default(), &mut each);
        self.finish(each);
    }

    /// What is left at the end of the stream.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            each(&self.partial);
            self.partial = Vec::new();
        }
    }
}

/// The last lines of a worker, for reports about its end.
#[derive(Debug)]
pub struct Tail {
    /// As they came. The room of one that goes is used again: a flood of lines makes nothing.
    lines: VecDeque<Vec<u8>>,
    most: usize,
}

/// Longest line kept for a report, in bytes.
const KEPT: usize = 512;

impl Tail {
    /// Keeps the last `most` lines.
    pub fn new(most: usize) -> Tail {
        Tail { lines: VecDeque::new(), most }
    }

    /// How many lines it keeps.
    pub fn most(&self) -> usize {
        self.most
    }

    /// One more line.
    pub fn push(&mut self, line: &[u8]) {
        let mut kept = if self.lines.len() == self.most { self.lines.pop_front().unwrap_or_default() } else { Vec::new() };
        kept.clear();
        kept.extend_from_slice(line.get(..KEPT).unwrap_or(line));
        self.lines.push_back(kept);
    }

    /// The lines as they came, oldest first.
    pub fn raw(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(Vec::as_slice)
    }

    /// The lines, oldest first, fit for a terminal.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(|line| printable(line))
    }

    /// Nothing was written.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Text that cannot move a terminal's cursor or change its colours: control characters are shown as escapes, bytes that are not
/// UTF-8 as the replacement character.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    print_to(&mut out, bytes);
    out
}

/// A mark that makes terminals show what follows in another order than it stands there (Unicode TR9).
pub fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with such marks written out, in a way that JSON and TOML read as the same.
pub fn without_turns(text: &str) -> Cow<'_, str> {
    if !text.chars().any(turns_text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match turns_text(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Adds to a text what [`printable`] makes of the bytes.
pub(super) fn print_to(out: &mut String, bytes: &[u8]) {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    if bytes.iter().all(|b| (0x20..0x7f).contains(b) || *b == b'\t') {
        return out.push_str(&text);
    }
    for c in text.chars() {
        if (c.is_control() && c != '\t') || turns_text(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(max: usize, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::new(max), Vec::new());
        for piece in pieces {
            lines.push(piece, |l| out.push(l.to_vec()));
        }
        lines.finish(|l| out.push(l.to_vec()));
        out
    }

    #[test]
    fn marks_that_turn_text_are_written_out() {
        for mark in ['\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'] {
            assert_eq!(without_turns(&format!("a{mark}b")), format!("a\\u{:04x}b", u32::from(mark)));
            assert!(!printable(format!("a{mark}b").as_bytes()).contains(mark));
        }
        assert_eq!(without_turns("pl\u{e4}in \u{5d0}"), "pl\u{e4}in \u{5d0}", "letters are letters");
    }

    #[test]
    fn lines_are_put_together_across_reads() {
        assert_eq!(
            split(10, &[b"ab", b"c\nd", b"\n", b"\nrest"]),
            [b"abc".to_vec(), b"d".to_vec(), b"".to_vec(), b"rest".to_vec()]
        );
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        assert_eq!(split(4, &[b"abcdefghij\n"]), [b"abcd".to_vec(), b"efgh".to_vec(), b"ij".to_vec()]);
    }

    #[test]
    fn a_limit_that_is_lowered_cuts_what_comes() {
        let (mut lines, mut out) = (Lines::new(8), Vec::new());
        lines.push(b"abcdef", |l| out.push(l.to_vec()));
        lines.set_max(4);
        lines.push(b"ghijk\nlm", |l| out.push(l.to_vec()));
        lines.set_max(1);
        lines.push(b"\n", |l| out.push(l.to_vec()));
        assert_eq!(out, [b"abcdef".to_vec(), b"ghij".to_vec(), b"k".to_vec(), b"lm".to_vec()]);
    }

    #[test]
    fn the_last_lines_are_those_that_the_whole_would_end_with() {
        let stream = b"a\nb\n\nc\nd".as_slice();
        for most in 0..7 {
            let (mut lines, mut out, mut all) = (Lines::new(9), Vec::new(), Vec::new());
            lines.push(b"par", |_| {});
            let mut whole = lines.clone();
            lines.push_last(stream, most, |l| out.push(l.to_vec()));
            whole.push(stream, |l| all.push(l.to_vec()));
            whole.finish(|l| all.push(l.to_vec()));
            assert!(all.ends_with(&out) && out.len() >= most.min(5), "{most}: {out:?} of {all:?}");
        }
    }

    #[test]
    fn terminal_escapes_lose_their_teeth() {
        assert_eq!(printable(b"a\x1b[31mb\x07\tc\r"), "a\\u{1b}[31mb\\u{7}\tc");
        assert_eq!(printable(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let mut tail = Tail::new(2);
        for line in [b"a", b"b", b"c"] {
            tail.push(line);
        }
        assert_eq!(tail.lines().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(tail.most(), 2);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_added(stream in proptest::collection::vec(any::<u8>(), 0..400), cut in 1usize..40, max in 1usize..50) {
            let pieces: Vec<&[u8]> = stream.chunks(cut).collect();
            let joined: Vec<u8> = split(max, &pieces).concat();
            let plain: Vec<u8> = stream.iter().copied().filter(|b| *b != b'\n').collect();
            prop_assert_eq!(joined, plain);
        }
    }
}
