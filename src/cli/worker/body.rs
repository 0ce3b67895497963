//! Owns the end of a request's body: counts it off by Content-Length or by chunks and throws it away. Holds none of it, so
//! a body of any size costs nothing. Refuses what RFC 9112 section 7.1 does not allow; framing is where smuggling starts.

/// Chunk extensions and trailer fields are text nobody reads; more than this in one body is refused.
const MAX_TEXT: u32 = 8 * 1024;

/// What of a request's body has still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks, up to the last one and its trailer fields.
    Chunked(Chunks),
}

/// Where in a chunked body the reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    at: At,
    /// Bytes of extensions and trailers that may still come.
    text: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In a chunk's size, with this many digits read.
    Size(u64, u8),
    /// In what follows the size on its line, up to CR.
    Extension(u64),
    /// Before the LF that ends the size's line.
    SizeEnd(u64),
    /// In a chunk's data.
    Data(u64),
    /// Before the CR, then the LF, after a chunk's data.
    DataCr,
    DataLf,
    /// At the start of a trailer line, in one, and before the LF that ends it.
    Trailer,
    TrailerText,
    TrailerLf,
    /// Before the LF of the empty line that ends it all.
    End,
}

/// The body is not framed as the protocol says; the connection cannot be used further.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadBody;

impl Body {
    /// A chunked body of which nothing was read.
    pub(super) fn chunked() -> Self {
        Body::Chunked(Chunks { at: At::Size(0, 0), text: MAX_TEXT })
    }

    /// Takes what of `data` belongs to the body: how many bytes that is, and whether the body is complete.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<(usize, bool), BadBody> {
        match self {
            Body::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                *left -= taken as u64;
                Ok((taken, *left == 0))
            }
            Body::Chunked(chunks) => chunks.take(data),
        }
    }
}

impl Chunks {
    fn take(&mut self, data: &[u8]) -> Result<(usize, bool), BadBody> {
        let mut i = 0;
        while let Some(&byte) = data.get(i) {
            if let At::Data(left) = self.at {
                let rest = data.len() - i;
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest);
                let left = left - taken as u64;
                self.at = if left == 0 { At::DataCr } else { At::Data(left) };
                i += taken;
                continue;
            }
            i += 1;
            match self.step(byte)? {
                Some(at) => self.at = at,
                None => return Ok((i, true)),
            }
        }
        Ok((i, false))
    }

    /// One byte outside of chunk data: where that leads, or `None` at the end of the body.
    fn step(&mut self, byte: u8) -> Result<Option<At>, BadBody> {
        let next = match (self.at, byte) {
            (At::Size(size, digits), b) if b.is_ascii_hexdigit() => {
                if digits == 16 {
                    return Err(BadBody);
                }
                At::Size(size << 4 | u64::from(hex(b)), digits + 1)
            }
            (At::Size(_, 0), _) => return Err(BadBody),
            (At::Size(size, _) | At::Extension(size), b'\r') => At::SizeEnd(size),
            (At::Size(size, _), b';' | b' ' | b'\t') => At::Extension(size),
            (At::Extension(size), b) if is_text(b) => {
                self.count()?;
                At::Extension(size)
            }
            (At::SizeEnd(0), b'\n') => At::Trailer,
            (At::SizeEnd(size), b'\n') => At::Data(size),
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size(0, 0),
            (At::Trailer, b'\r') => At::End,
            (At::TrailerText, b'\r') => At::TrailerLf,
            (At::Trailer | At::TrailerText, b) if is_text(b) => {
                self.count()?;
                At::TrailerText
            }
            (At::TrailerLf, b'\n') => At::Trailer,
            (At::End, b'\n') => return Ok(None),
            _ => return Err(BadBody),
        };
        Ok(Some(next))
    }

    fn count(&mut self) -> Result<(), BadBody> {
        self.text = self.text.checked_sub(1).ok_or(BadBody)?;
        Ok(())
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let mut body = Body::Length(5);
        assert_eq!(body.take(b"abc"), Ok((3, false)));
        assert_eq!(body.take(b"deGET /"), Ok((2, true)));
        for (text, used) in [
            (&b"0\r\n\r\nGET"[..], 5),
            (b"3\r\nabc\r\n0\r\n\r\nrest", 13),
            (b"A;name=\"v\"\r\n0123456789\r\n000\r\nTrailer: x\r\n\r\n", 43),
        ] {
            assert_eq!(Body::chunked().take(text), Ok((used, true)), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn bad_framing_is_refused() {
        for text in [
            &b"\r\n"[..],
            b"g\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b"1\nab",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"11111111111111111\r\n",
            b"0\r\nx: \0\r\n",
            b"1;\x00\r\n",
        ] {
            assert_eq!(Body::chunked().take(text), Err(BadBody), "{}", text.escape_ascii());
        }
        let endless = [b"0;".to_vec(), vec![b'x'; MAX_TEXT as usize + 1]].concat();
        assert_eq!(Body::chunked().take(&endless), Err(BadBody));
    }

    proptest! {
        /// However the bytes are cut into reads, the body ends at the same byte or is refused.
        #[test]
        fn cuts_do_not_matter(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in prop::collection::vec(1_usize..9, 1..60),
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend(format!("{:X}\r\n", chunk.len()).bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\nA: b\r\n\r\n");
            if let Some((index, byte)) = flip {
                let at = index.index(text.len());
                text[at] = byte;
            }
            text.extend(b"NEXT");
            let whole = Body::chunked().take(&text);
            if flip.is_none() {
                prop_assert_eq!(&whole, &Ok((text.len() - 4, true)));
            }
            let (mut body, mut at, mut done, mut bad) = (Body::chunked(), 0, false, false);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(text.len());
                if at == end || done || bad {
                    break;
                }
                match body.take(&text[at..end]) {
                    Ok((used, end)) => (at, done) = (at + used, end),
                    Err(BadBody) => bad = true,
                }
            }
            prop_assert_eq!(whole, if bad { Err(BadBody) } else { Ok((at, done)) });
        }
    }
}
