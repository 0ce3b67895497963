//! Owns the framing: bytes in any pieces become lines. Refuses to hold an endless line, and reads or writes nothing itself.

use std::fmt;

/// The longest request, in bytes without its newline.
pub const MAX_FRAME: usize = 64 * 1024;
/// The longest reply that a client takes: a `status` of 100,000 workers fits.
pub const MAX_REPLY: usize = 64 * 1024 * 1024;
/// An emptied buffer larger than this is given back.
const KEEP: usize = 16 * 1024;

/// The stream cannot be understood any more: answer, then close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A line is longer than it may be.
    TooLong {
        /// The longest allowed, in bytes.
        max: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { max } => write!(f, "a message is longer than {max} bytes"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Collects bytes, hands out complete lines.
///
/// Costs O(n) for n bytes whatever the pieces are. The unfinished line never takes more than `max` bytes: from the byte that
/// is too many on, everything is thrown away unseen, and the error comes after the complete lines before it. So a caller
/// that pushes only once [`LineBuffer::next_frame`] has nothing left holds at most `max` and one piece.
#[derive(Debug)]
pub struct LineBuffer {
    /// Complete lines from `start`, then the unfinished one from `tail`.
    bytes: Vec<u8>,
    /// Everything before it was handed out.
    start: usize,
    /// Where the unfinished line begins.
    tail: usize,
    max: usize,
    refused: bool,
}

impl LineBuffer {
    /// All that was not handed out yet.
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// A buffer that goes on with that.
    pub fn resume(max: usize, rest: &[u8]) -> LineBuffer {
        let mut buffer = LineBuffer::new(max);
        buffer.push(rest);
        buffer
    }

    /// An empty buffer for lines of up to `max` bytes.
    pub fn new(max: usize) -> LineBuffer {
        LineBuffer { bytes: Vec::new(), start: 0, tail: 0, max, refused: false }
    }

    /// Takes one piece, as it came from the socket. After a refusal the rest of the stream is ignored.
    pub fn push(&mut self, piece: &[u8]) {
        if self.refused {
            return;
        }
        self.compact();
        for part in piece.split_inclusive(|b| *b == b'\n') {
            let ends = part.last() == Some(&b'\n');
            let length = self.bytes.len() - self.tail + part.len() - usize::from(ends);
            if length > self.max {
                self.bytes.truncate(self.tail);
                self.refused = true;
                return;
            }
            self.bytes.extend_from_slice(part);
            if ends {
                self.tail = self.bytes.len();
            }
        }
    }

    /// The next complete line without its end (`\n` or `\r\n`). Empty lines are skipped. `None`: more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while self.start < self.tail {
            let rest = &self.bytes[self.start..self.tail];
            let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            let line = &rest[..end];
            self.start += (end + 1).min(rest.len());
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                return Ok(Some(line.to_vec()));
            }
        }
        if self.refused { Err(FrameError::TooLong { max: self.max }) } else { Ok(None) }
    }

    /// [`LineBuffer::next_frame`] has something to give, a refusal included (or there are empty lines to skip).
    pub fn has_frame(&self) -> bool {
        self.start < self.tail || self.refused
    }

    /// Bytes of a line that has not ended yet: non-zero at the end of the stream means that it was cut off.
    pub fn unfinished(&self) -> usize {
        self.bytes.len() - self.tail
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Forgets what was handed out. Moves bytes only when at least as many are forgotten, which keeps the total cost linear.
    fn compact(&mut self) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            if self.bytes.capacity() > KEEP {
                self.bytes = Vec::new();
            }
        } else if self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
        } else {
            return;
        }
        self.tail -= self.start;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All frames, and the error if there is one, of a stream cut into pieces of these lengths (cycled).
    fn frames(max: usize, stream: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let (mut buffer, mut out) = (LineBuffer::new(max), Vec::new());
        let (mut rest, mut turn) = (stream, 0);
        while !rest.is_empty() {
            let n = cuts.get(turn % cuts.len().max(1)).copied().unwrap_or(rest.len()).clamp(1, rest.len());
            let (piece, after) = rest.split_at(n);
            buffer.push(piece);
            loop {
                match buffer.next_frame() {
                    Ok(Some(frame)) => out.push(frame),
                    Ok(None) => break,
                    Err(e) => return (out, Some(e)),
                }
            }
            assert!(buffer.held() <= max, "held {} of at most {max} bytes", buffer.held());
            (rest, turn) = (after, turn + 1);
        }
        (out, None)
    }

    #[test]
    fn lines_come_out_as_they_went_in() {
        let (got, error) = frames(64, b"{\"a\":1}\n\n{\"b\":2}\r\n\r\nunfinished", &[3]);
        assert_eq!(got, [b"{\"a\":1}".to_vec(), b"{\"b\":2}".to_vec()]);
        assert_eq!(error, None);
    }

    #[test]
    fn the_longest_line_is_taken_and_one_byte_more_is_not() {
        let mut exact = vec![b'x'; 100];
        exact.push(b'\n');
        assert_eq!(frames(100, &exact, &[7]).0, [vec![b'x'; 100]]);
        let mut long = b"first\n".to_vec();
        long.extend(vec![b'x'; 101]);
        assert_eq!(frames(100, &long, &[1]), (vec![b"first".to_vec()], Some(FrameError::TooLong { max: 100 })));
    }

    #[test]
    fn an_endless_line_costs_nothing_beyond_the_limit() {
        let mut buffer = LineBuffer::new(MAX_FRAME);
        let piece = vec![b'x'; 16 * 1024];
        for _ in 0..4096 {
            buffer.push(&piece);
            assert!(buffer.held() <= MAX_FRAME);
        }
        assert_eq!(buffer.next_frame(), Err(FrameError::TooLong { max: MAX_FRAME }));
        buffer.push(b"late\n");
        assert_eq!(buffer.next_frame(), Err(FrameError::TooLong { max: MAX_FRAME }));
        assert_eq!(buffer.held(), 0);
    }

    #[test]
    fn unfinished_bytes_are_known() {
        let mut buffer = LineBuffer::new(10);
        buffer.push(b"ab\ncd");
        assert_eq!(buffer.unfinished(), 2);
        buffer.push(b"\n");
        assert_eq!(buffer.unfinished(), 0);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            lines in proptest::collection::vec("[a-z{}\r]{0,40}", 0..30),
            cuts in proptest::collection::vec(1usize..50, 0..40),
            max in 1usize..45,
        ) {
            let stream = lines.iter().flat_map(|l| l.bytes().chain([b'\n'])).collect::<Vec<u8>>();
            let whole = frames(max, &stream, &[]);
            prop_assert_eq!(&frames(max, &stream, &cuts), &whole);
            prop_assert_eq!(&frames(max, &stream, &[1]), &whole);
        }

        #[test]
        fn junk_never_panics(
            junk in proptest::collection::vec(any::<u8>(), 0..2000),
            cuts in proptest::collection::vec(1usize..50, 0..10),
            max in 0usize..300,
        ) {
            let _ = frames(max, &junk, &cuts);
        }
    }
}
