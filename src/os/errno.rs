//! Owns the way from a system call's return value to a `Result`, and an error number in words. Refuses to retry anything but
//! an interrupted call.

use std::io;

/// What libc calls return on failure.
pub(crate) trait MinusOne: Copy {
    fn failed(self) -> bool;
}

macro_rules! minus_one {
    ($($number:ty),*) => {
        $(impl MinusOne for $number {
            fn failed(self) -> bool {
                self == -1
            }
        })*
    };
}

// c_int, c_long and ssize_t, whatever they are here.
minus_one!(i32, i64, isize);

/// `-1` becomes the error of the last call.
pub(crate) fn check<T: MinusOne>(value: T) -> io::Result<T> {
    if value.failed() { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Calls again for as long as a signal interrupts.
pub(crate) fn retry<T: MinusOne>(mut call: impl FnMut() -> T) -> io::Result<T> {
    loop {
        match check(call()) {
            Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
            other => return other,
        }
    }
}

/// An error number in words, in lower case and without its number: `no such file or directory`.
pub fn words(errno: i32) -> String {
    let full = io::Error::from_raw_os_error(errno).to_string();
    let text = full.strip_suffix(&format!(" (os error {errno})")).unwrap_or(&full);
    let mut chars = text.chars();
    match (chars.next(), text.chars().nth(1)) {
        // "RPC struct is bad" keeps its capitals.
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// What went wrong, without the number that the library puts behind it.
pub fn reason(e: &io::Error) -> String {
    e.raw_os_error().map_or_else(|| e.to_string(), words)
}

/// A text without the numbers that the library puts behind its words: `No such file or directory (os error 2)`.
pub fn without_numbers(text: &str) -> String {
    const MARK: &str = " (os error ";
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at);
        let number = after.get(MARK.len()..).unwrap_or_default();
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        out.push_str(before);
        match number.get(digits..).and_then(|tail| tail.strip_prefix(')')).filter(|_| digits > 0) {
            Some(tail) => rest = tail,
            None => {
                out.push_str(MARK);
                rest = number;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_no_number_and_no_capital() {
        assert_eq!(words(libc::ENOENT), "no such file or directory");
        assert_eq!(words(libc::EACCES), "permission denied");
    }

    #[test]
    fn a_text_loses_its_numbers_and_nothing_else() {
        for (text, want) in [
            (
                "cannot open x: No such file or directory (os error 2); try again",
                "cannot open x: No such file or directory; try again",
            ),
            ("a (os error 2) b (os error 13)", "a b"),
            ("a (os error x) b", "a (os error x) b"),
            ("a (os error 2", "a (os error 2"),
            ("a (os error )", "a (os error )"),
            ("", ""),
            ("plain", "plain"),
        ] {
            assert_eq!(without_numbers(text), want);
        }
        assert_eq!(reason(&io::Error::from_raw_os_error(libc::ENOENT)), "no such file or directory");
        assert_eq!(reason(&io::Error::other("no number")), "no number");
    }

    #[test]
    fn a_failed_call_carries_its_number() {
        // SAFETY: closing a descriptor that cannot exist has no effect.
        let e = check(unsafe { libc::close(-1) }).expect_err("no such descriptor");
        assert_eq!(e.raw_os_error(), Some(libc::EBADF));
    }
}
