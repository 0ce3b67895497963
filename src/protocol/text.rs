//! Owns the words that stand for the core's values in messages and on the command line: a change of scale, a condition to wait
//! for, a signal. Each is read and written here, and only here.

use std::fmt;

use crate::supervisor::{Condition, ScaleChange, signal_number};

/// The most workers that a message may ask for at once; far beyond any host, and far from overflow.
const MOST: u32 = 1_000_000;

/// A word that means nothing, and what would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(String);

impl ParseError {
    pub(super) fn new(words: String) -> ParseError {
        ParseError(words)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}

/// Reads `+1`, `-2`, `6`, `50%` or `config`.
pub fn parse_scale(text: &str) -> Result<ScaleChange, ParseError> {
    let change = match text {
        "config" => Some(ScaleChange::Config),
        _ if text.ends_with('%') => {
            digits(text.trim_end_matches('%')).filter(|_| text.matches('%').count() == 1).map(ScaleChange::Percent)
        }
        _ => match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(n), _) => digits(n).map(|n| ScaleChange::By(i64::from(n))),
            (_, Some(n)) => digits(n).map(|n| ScaleChange::By(-i64::from(n))),
            _ => digits(text).map(ScaleChange::To),
        },
    };
    change.ok_or_else(|| {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
            return ParseError(format!("{text:?}: at most {MOST} workers can be asked for at once"));
        }
        let why = match unsigned.strip_suffix('%') {
            Some(n) if digits(n).is_some() && unsigned != text => "a percentage is of `scale.max` and has no sign",
            _ => "this is no number of workers",
        };
        ParseError(format!("{text:?}: {why}: use +1, -2, 6, 50% (of scale.max), or config (back to the file's number)"))
    })
}

/// Writes what [`parse_scale`] reads.
pub fn scale_text(change: ScaleChange) -> String {
    match change {
        ScaleChange::By(n) => format!("{n:+}"),
        ScaleChange::To(n) => n.to_string(),
        ScaleChange::Percent(p) => format!("{p}%"),
        ScaleChange::Config => "config".to_owned(),
    }
}

/// Reads `ready`, `stopped`, `settled` or `count=N`.
pub fn parse_condition(text: &str) -> Result<Condition, ParseError> {
    match (text, text.strip_prefix("count=").and_then(digits)) {
        ("ready", _) => Ok(Condition::Ready),
        ("stopped", _) => Ok(Condition::Stopped),
        ("settled", _) => Ok(Condition::Settled),
        (_, Some(n)) => Ok(Condition::Count(n)),
        _ => Err(ParseError(format!("{text:?}: one can wait for `ready`, `stopped`, `settled` or `count=N`"))),
    }
}

/// Writes what [`parse_condition`] reads.
pub fn condition_text(condition: Condition) -> String {
    match condition {
        Condition::Ready => "ready".to_owned(),
        Condition::Stopped => "stopped".to_owned(),
        Condition::Settled => "settled".to_owned(),
        Condition::Count(n) => format!("count={n}"),
    }
}

/// Reads a signal as people write it: `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub fn parse_signal(text: &str) -> Result<i32, ParseError> {
    signal_number(text)
        .ok_or_else(|| ParseError(format!("{text:?} is not a signal; use a name or a number, as in HUP, 1 or RTMIN+3")))
}

/// Plain decimal digits: no sign, no blanks.
fn digits(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| plain && *n <= MOST)
}

/// Serde for a [`ScaleChange`] as its text.
pub(super) mod scale {
    use crate::supervisor::ScaleChange;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::protocol) fn serialize<S: Serializer>(change: &ScaleChange, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::scale_text(*change))
    }

    pub(in crate::protocol) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<ScaleChange, D::Error> {
        super::parse_scale(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

/// Serde for a [`Condition`] as its text.
pub(super) mod condition {
    use crate::supervisor::Condition;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::protocol) fn serialize<S: Serializer>(condition: &Condition, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::condition_text(*condition))
    }

    pub(in crate::protocol) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Condition, D::Error> {
        super::parse_condition(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

/// Serde for a signal number as its name.
pub(super) mod signal {
    use crate::supervisor::signal_name;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::protocol) fn serialize<S: Serializer>(signal: &i32, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&signal_name(*signal))
    }

    pub(in crate::protocol) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<i32, D::Error> {
        super::parse_signal(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_scale_are_read_and_written_alike() {
        for (text, want) in [
            ("+1", ScaleChange::By(1)),
            ("-2", ScaleChange::By(-2)),
            ("6", ScaleChange::To(6)),
            ("0", ScaleChange::To(0)),
            ("50%", ScaleChange::Percent(50)),
            ("150%", ScaleChange::Percent(150)),
            ("config", ScaleChange::Config),
            ("+1000000", ScaleChange::By(1_000_000)),
        ] {
            assert_eq!(parse_scale(text), Ok(want), "{text}");
            assert_eq!(scale_text(want), text);
        }
    }

    #[test]
    fn what_is_no_change_of_scale_says_what_would_be() {
        for text in ["", "+", "-", "%", "++1", "+-1", "1.5", " 1", "1 ", "six", "5%%", "Config", "+50%", "-50%"] {
            let error = parse_scale(text).unwrap_err().to_string();
            assert!(error.contains("use +1, -2, 6, 50%"), "{text:?}: {error}");
        }
        for text in ["99999999999", "1000001", "+1000001", "-1000001"] {
            assert!(parse_scale(text).unwrap_err().to_string().contains("at most 1000000 workers"), "{text:?}");
        }
        assert!(parse_scale("-50%").unwrap_err().to_string().contains("has no sign"));
    }

    #[test]
    fn conditions_are_read_and_written_alike() {
        for (text, want) in [
            ("ready", Condition::Ready),
            ("stopped", Condition::Stopped),
            ("settled", Condition::Settled),
            ("count=3", Condition::Count(3)),
            ("count=0", Condition::Count(0)),
        ] {
            assert_eq!(parse_condition(text), Ok(want), "{text}");
            assert_eq!(condition_text(want), text);
        }
        for text in ["", "Ready", "count", "count=", "count=-1", "count=x", "3"] {
            assert!(parse_condition(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn signals_are_names_or_numbers() {
        assert_eq!(parse_signal("hup"), Ok(1));
        assert_eq!(parse_signal("RTMIN+1"), Ok(35));
        assert!(parse_signal("BOGUS").unwrap_err().to_string().contains("is not a signal"));
    }
}
