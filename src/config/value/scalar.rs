//! Owns durations, sizes, shares, permission bits, names and signals.

use std::time::Duration;

use super::super::spec::{Account, Bounds};
use crate::supervisor::{Share, signal_number};

/// A duration as people write it: `30s`, `1m 30s`, `500ms`; bare digits are seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    if text.starts_with('-') {
        return Err("a duration cannot be negative".to_owned());
    }
    if let Ok(fraction) = text.parse::<f64>() {
        return Err(unitless(fraction));
    }
    humantime::parse_duration(text).map_err(|_| "this is no duration".to_owned())
}

/// What is wrong with a duration that is a bare fraction.
pub(crate) fn unitless(fraction: f64) -> String {
    match fraction.is_finite() && fraction >= 0.0 {
        true => format!("a fraction needs a unit, as in \"{}ms\"", (fraction * 1000.0).round()),
        false => "this is no duration".to_owned(),
    }
}

/// Writes a duration so that [`duration`] reads it back.
pub(crate) fn duration_text(d: Duration) -> String {
    humantime::format_duration(d).to_string()
}

/// A number of bytes: `512M`, `16K`, `4G`, `1.5G`, with or without `B` or `iB`; bare digits are bytes. K, M, G and T are powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "this is no size".to_owned();
    let upper = text.trim().to_ascii_uppercase();
    let split = upper.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(upper.len());
    let (number, unit) = upper.split_at(split);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(wrong()),
    };
    if let Ok(n) = number.parse::<u64>() {
        return n.checked_mul(1 << shift).ok_or_else(|| "this is more than 64 bits hold".to_owned());
    }
    let n =
        number.parse::<f64>().map_err(|_| wrong())? * f64::from(1u32 << (shift.min(30))) * if shift == 40 { 1024.0 } else { 1.0 };
    // Exact up to 2^53, far beyond any size that is meant.
    if n.is_finite() && (0.0..9.0e15).contains(&n) { Ok(n as u64) } else { Err(wrong()) }
}

/// A number of workers or a percentage of them.
pub(crate) fn share(text: &str) -> Result<Share, String> {
    let text = text.trim();
    match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().map(Share::Percent).map_err(|_| "this is no percentage".to_owned()),
        None => text.parse().map(Share::Count).map_err(|_| "this is neither a number nor a percentage".to_owned()),
    }
}

/// Permission bits or a file mode mask, in octal.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let digits = text.trim().strip_prefix("0o").unwrap_or(text.trim());
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o7777 && !digits.is_empty() && !digits.starts_with('+') => Ok(mode),
        Ok(_) => Err("these are more than the 12 permission bits".to_owned()),
        Err(_) => Err("this is no octal number".to_owned()),
    }
}

/// A signal by name or number.
pub(crate) fn signal(text: &str) -> Result<i32, String> {
    signal_number(text).ok_or_else(|| format!("there is no signal {text:?}"))
}

/// A user or group by name or number. The number -1 means "no change" to the kernel, and is nobody's.
pub(crate) fn account(text: &str) -> Option<Account> {
    match text.parse::<u32>() {
        Ok(u32::MAX) => None,
        Ok(id) => Some(Account::Id(id)),
        Err(_) if text.is_empty() || text.contains([':', '\0', '/']) || text.starts_with('-') => None,
        Err(_) => Some(Account::Name(text.to_owned())),
    }
}

/// A resource limit: `65536`, `512M`, `unlimited`, or a soft and a hard one, `1024:65536`.
pub(crate) fn limit(text: &str) -> Result<Bounds, String> {
    let one = |text: &str| match text.trim() {
        "unlimited" | "infinity" | "max" => Ok(None),
        text => size(text).map(Some).map_err(|_| "this is no limit".to_owned()),
    };
    let (soft, hard) = match text.split_once(':') {
        Some((soft, hard)) => (one(soft)?, one(hard)?),
        None => (one(text)?, one(text)?),
    };
    if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
        return Err("the soft limit is above the hard one".to_owned());
    }
    Ok(Bounds { soft, hard })
}

/// The rule for names of pools, listeners and templates: they end up in file names, variables and URLs.
pub(crate) fn name(text: &str) -> Result<(), &'static str> {
    let first = text.bytes().next();
    if first.is_none() {
        return Err("a name cannot be empty");
    }
    if text.len() > 32 {
        return Err("a name has at most 32 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("a name has only the characters a-z, 0-9 and -");
    }
    if !first.is_some_and(|b| b.is_ascii_lowercase()) {
        return Err("a name starts with a letter");
    }
    if text == "all" {
        return Err("\"all\" stands for every pool on the command line");
    }
    if text.contains("--") || text.ends_with('-') {
        return Err("a name has no -- and no - at its end");
    }
    Ok(())
}

/// The nearest valid name: lower case, anything else a single `-`. Empty when nothing is left.
pub(crate) fn sanitized_name(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' => out.push(c),
            '0'..='9' if !out.is_empty() => out.push(c),
            _ if !out.is_empty() && !out.ends_with('-') => out.push('-'),
            _ => {}
        }
    }
    out.truncate(32);
    out.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("30s", Some(30_000)),
            ("1m 30s", Some(90_000)),
            ("500ms", Some(500)),
            ("0s", Some(0)),
            ("0", Some(0)),
            ("12", Some(12_000)),
            (" 2h ", Some(7_200_000)),
            ("-1s", None),
            ("1.5", None),
            ("", None),
            ("s", None),
            ("5 parsecs", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration(text).ok(), want.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in [
            ("16K", Some(16_384)),
            ("512M", Some(512 << 20)),
            ("4G", Some(4 << 30)),
            ("1.5G", Some(3 << 29)),
            ("1T", Some(1 << 40)),
            ("100", Some(100)),
            ("10 kb", Some(10_240)),
            ("2MiB", Some(2 << 20)),
            ("", None),
            ("K", None),
            ("1X", None),
            ("-1", None),
            ("1..5K", None),
            ("99999999999999T", None),
        ] {
            assert_eq!(size(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn shares_modes_and_signals() {
        assert_eq!(share("25%"), Ok(Share::Percent(25)));
        assert_eq!(share("3"), Ok(Share::Count(3)));
        assert!(share("-1").is_err() && share("x%").is_err() && share("").is_err());
        assert_eq!((mode("0600"), mode("0o660"), mode("22")), (Ok(0o600), Ok(0o660), Ok(0o22)));
        assert!(mode("888").is_err() && mode("77777").is_err() && mode("").is_err() && mode("+7").is_err());
        assert_eq!(signal("TERM"), Ok(15));
        assert!(signal("TREM").is_err());
    }

    #[test]
    fn names() {
        for good in ["a", "web", "web-2", "a1-b2", &"a".repeat(32)] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in ["", "2web", "-a", "a-", "a--b", "Web", "we_b", "wéb", "a.b", &"a".repeat(33)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn sanitized_names_are_valid_or_empty(text in "\\PC{0,60}") {
            let clean = sanitized_name(&text);
            proptest::prop_assert!(clean.is_empty() || name(&clean).is_ok(), "{}", clean);
        }

        #[test]
        fn durations_read_back(ms in 0u64..1_000_000_000_000) {
            let d = Duration::from_millis(ms);
            proptest::prop_assert_eq!(duration(&duration_text(d)), Ok(d));
        }

        #[test]
        fn nothing_makes_a_parser_panic(text in "\\PC{0,20}") {
            let _ = (duration(&text), size(&text), share(&text), mode(&text), signal(&text), name(&text));
        }
    }
}
