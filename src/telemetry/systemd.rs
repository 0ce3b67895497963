//! Owns what workers say by sd_notify(3): a datagram of `KEY=VALUE` lines becomes what the core understands. Junk costs nothing.

use std::time::Duration;

use super::printable;
use crate::supervisor::Notification;

/// The longest STATUS= that is kept, in bytes.
const STATUS_MAX: usize = 256;
/// Lines looked at in one datagram.
const LINES_MAX: usize = 64;

/// What one datagram says, in its order. Unknown keys, values that are no numbers and all that is not text are passed over.
pub fn parse(datagram: &[u8]) -> Vec<Notification> {
    datagram.split(|b| *b == b'\n').take(LINES_MAX).filter_map(field).collect()
}

fn field(line: &[u8]) -> Option<Notification> {
    let at = line.iter().position(|b| *b == b'=')?;
    let (key, value) = (&line[..at], &line[at + 1..]);
    match (key, value) {
        (b"READY", b"1") => Some(Notification::Ready),
        (b"RELOADING", b"1") => Some(Notification::Reloading),
        (b"STOPPING", b"1") => Some(Notification::Stopping),
        (b"WATCHDOG", b"1") => Some(Notification::Beat),
        (b"WATCHDOG", b"trigger") => Some(Notification::Trigger),
        (b"WATCHDOG_USEC", usec) => Some(Notification::Timeout(micros(usec)?)),
        (b"EXTEND_TIMEOUT_USEC", usec) => Some(Notification::Extend(micros(usec)?)),
        (b"STATUS", text) => Some(Notification::Status(printable(cut(text)))),
        _ => None,
    }
}

fn cut(text: &[u8]) -> &[u8] {
    text.get(..STATUS_MAX).unwrap_or(text)
}

fn micros(digits: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(digits).ok()?;
    // `+5` parses as a number in Rust but is none in the protocol.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok().map(Duration::from_micros))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_datagram_may_say_several_things() {
        assert_eq!(
            parse(b"STATUS=loading\nREADY=1\nWATCHDOG=1\nX_OTHER=3\nEXTEND_TIMEOUT_USEC=1500000"),
            [
                Notification::Status("loading".into()),
                Notification::Ready,
                Notification::Beat,
                Notification::Extend(Duration::from_millis(1500)),
            ]
        );
    }

    #[test]
    fn junk_says_nothing() {
        for junk in [
            &b"READY=0"[..],
            b"READY",
            b"=1",
            b"",
            b"READY=1 ",
            b"WATCHDOG_USEC=-1",
            b"WATCHDOG_USEC=+1",
            b"WATCHDOG_USEC=",
            b"\xff\xfe=1",
        ] {
            assert_eq!(parse(junk), [], "{junk:?}");
        }
        assert_eq!(parse(b"WATCHDOG_USEC=99999999999999999999999"), []);
    }

    #[test]
    fn a_status_is_bounded_and_harmless() {
        let mut long = b"STATUS=\x1b[2J".to_vec();
        long.extend(vec![b'x'; 10_000]);
        let [Notification::Status(text)] = &parse(&long)[..] else { panic!("one status") };
        assert!(text.len() < 300 && text.starts_with("\\u{1b}[2J"));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
