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

/// What a worker wants of the descriptors it sent along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOrder {
    /// Keep them for the slot's next worker.
    Keep {
        /// For LISTEN_FDNAMES.
        name: String,
        /// Drop them when their other side is gone.
        watch: bool,
    },
    /// Forget those of this name.
    Remove {
        /// FDNAME.
        name: String,
    },
}

/// The longest FDNAME.
const NAME_MAX: usize = 255;

/// The order in a datagram, if there is one. A name that cannot stand in LISTEN_FDNAMES is as good as none.
pub fn store_order(datagram: &[u8]) -> Option<StoreOrder> {
    let has = |wanted: &[u8]| datagram.split(|b| *b == b'\n').take(LINES_MAX).any(|line| line == wanted);
    let name = datagram.split(|b| *b == b'\n').take(LINES_MAX).find_map(|line| line.strip_prefix(b"FDNAME="));
    let valid = |name: &&[u8]| {
        !name.is_empty() && name.len() <= NAME_MAX && name.iter().all(|b| b.is_ascii() && !b.is_ascii_control() && *b != b':')
    };
    let name = name.filter(valid).map(|name| String::from_utf8_lossy(name).into_owned());
    if has(b"FDSTORE=1") {
        let name = name.unwrap_or_else(|| "stored".to_owned());
        return Some(StoreOrder::Keep { name, watch: !has(b"FDPOLL=0") });
    }
    name.filter(|_| has(b"FDSTOREREMOVE=1")).map(|name| StoreOrder::Remove { name })
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
        (b"RESTART_RESET", b"1") => Some(Notification::RestartReset),
        (b"MAINPID", pid) => Some(Notification::MainPid(number(pid).filter(|pid: &i32| *pid > 0)?)),
        (b"X_POOLMASTER_BUSY", share) => {
            let at = share.iter().position(|b| *b == b'/')?;
            let (busy, of) = (number(&share[..at])?, number(&share[at + 1..])?);
            (of > 0).then_some(Notification::Busy { busy, of })
        }
        (b"STATUS", text) => Some(Notification::Status(printable(cut(text)))),
        _ => None,
    }
}

fn cut(text: &[u8]) -> &[u8] {
    text.get(..STATUS_MAX).unwrap_or(text)
}

fn micros(digits: &[u8]) -> Option<Duration> {
    number(digits).map(Duration::from_micros)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(digits).ok()?;
    // `+5` parses as a number in Rust but is none in the protocol.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
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
    fn rarer_words_are_understood() {
        for (text, want) in [
            (&b"X_POOLMASTER_BUSY=3/8"[..], Some(Notification::Busy { busy: 3, of: 8 })),
            (b"X_POOLMASTER_BUSY=9/8", Some(Notification::Busy { busy: 9, of: 8 })),
            (b"X_POOLMASTER_BUSY=3/0", None),
            (b"X_POOLMASTER_BUSY=3", None),
            (b"X_POOLMASTER_BUSY=-3/8", None),
            (b"RESTART_RESET=1", Some(Notification::RestartReset)),
            (b"RESTART_RESET=0", None),
            (b"MAINPID=42", Some(Notification::MainPid(42))),
            (b"MAINPID=0", None),
            (b"MAINPID=99999999999", None),
        ] {
            assert_eq!(parse(text), want.into_iter().collect::<Vec<_>>(), "{}", String::from_utf8_lossy(text));
        }
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

    #[test]
    fn orders_about_descriptors() {
        let keep = |name: &str, watch| Some(StoreOrder::Keep { name: name.to_owned(), watch });
        assert_eq!(store_order(b"FDSTORE=1\nFDNAME=cache"), keep("cache", true));
        assert_eq!(store_order(b"FDNAME=a\nFDPOLL=0\nFDSTORE=1"), keep("a", false));
        for nameless in [&b"FDSTORE=1"[..], b"FDSTORE=1\nFDNAME=a:b", b"FDSTORE=1\nFDNAME=", b"FDSTORE=1\nFDNAME=\x01"] {
            assert_eq!(store_order(nameless), keep("stored", true));
        }
        assert_eq!(store_order(b"FDSTOREREMOVE=1\nFDNAME=a"), Some(StoreOrder::Remove { name: "a".to_owned() }));
        for nothing in [&b"READY=1"[..], b"FDNAME=a", b"FDSTORE=0", b"FDSTOREREMOVE=1", b""] {
            assert_eq!(store_order(nothing), None, "{nothing:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (parse(&bytes), store_order(&bytes));
        }
    }
}
