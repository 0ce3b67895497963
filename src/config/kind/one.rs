//! Owns judging one value that is no list: its type, its range, its words.

use std::time::Duration;

use super::super::node::{Node, Raw};
use super::super::spec::{Account, Address, Bounds};
use super::super::template::{self, Use};
use super::super::value::address;
use super::super::value::scalar;
use super::super::value::start::{self, Workers};
use super::super::words;
use super::{Answer, Around, Checked, Kind, Problem, Typed, When, gather, ok, problem};
use crate::supervisor::Share;

impl Kind {
    /// Judges a value.
    pub(in super::super) fn check(self, node: &Node, around: Around<'_>) -> Answer {
        match secret_variable(&node.raw) {
            // What is wrong with its value would show the value.
            Some(name) => self.judge(node, around).map_err(|problem| match around.env.contains_key(name) {
                true => Problem {
                    place: problem.place,
                    ..super::problem(
                        format!("the value of ${{{name}}} does not fit here"),
                        format!("allowed: {}", self.allowed()),
                    )
                },
                false => problem,
            }),
            None => self.judge(node, around),
        }
    }

    fn judge(self, node: &Node, around: Around<'_>) -> Answer {
        let reread;
        let raw = match &node.raw {
            Raw::Str(text) if !self.is_template() && template::has_reference(text) => {
                reread = self.read_text(&around.resolve(text, Use::Value)?, &node.place)?;
                &reread
            }
            raw => raw,
        };
        let refuse = |what: &str| Err(problem(format!("{what}, found {}", raw.shown()), format!("allowed: {}", self.allowed())));
        let wrong_type = || match raw {
            Raw::List(_) | Raw::Table(_) | Raw::Odd(_) => {
                Err(problem(format!("this cannot be {}", raw.what()), format!("allowed: {}", self.allowed())))
            }
            _ => refuse(&format!("this cannot be {}", raw.what())),
        };
        match (self, raw) {
            (Kind::Bool, Raw::Bool(b)) => ok(Typed::Bool(*b)),
            (Kind::Int(min, max), Raw::Int(n)) if (min..=max).contains(n) => ok(Typed::Int(*n)),
            (Kind::Int(..), Raw::Int(_)) => refuse("out of range"),
            (Kind::Float(min, max), Raw::Float(f)) if (min..=max).contains(f) => ok(Typed::Float(*f)),
            // Exact for all numbers in the ranges of the keys.
            (Kind::Float(min, max), Raw::Int(n)) if (min..=max).contains(&(*n as f64)) => ok(Typed::Float(*n as f64)),
            (Kind::Float(..), Raw::Float(_) | Raw::Int(_)) => refuse("out of range"),
            (Kind::Int(..) | Kind::Float(..), Raw::Str(text)) => Err(match text.trim().parse::<f64>() {
                // Only what is then taken.
                Ok(f) if self.takes(f) => problem(format!("a number in quotes: {text:?}"), format!("write {}", text.trim())),
                Ok(_) => problem(format!("a number in quotes: {text:?}"), format!("allowed: {}", self.allowed())),
                Err(_) => problem(format!("this is no number: {text:?}"), format!("allowed: {}", self.allowed())),
            }),
            (Kind::Bool, Raw::Str(text)) => Err(neither_nor(&format!("{text:?}"), text)),
            (Kind::Bool, Raw::Int(n)) => Err(neither_nor(&n.to_string(), &n.to_string())),
            (Kind::Duration { .. }, Raw::Float(f)) => Err(problem(scalar::unitless(*f), format!("allowed: {}", self.allowed()))),
            (Kind::Duration { zero }, Raw::Int(n)) => match u64::try_from(*n) {
                Ok(0) if !zero => refuse("has to be above zero"),
                Ok(n) => ok(Typed::Duration(Duration::from_secs(n))),
                Err(_) => refuse("a duration cannot be negative"),
            },
            (Kind::Size(least), Raw::Int(n)) => match u64::try_from(*n) {
                Ok(n) if n >= least => ok(Typed::Size(n)),
                _ => refuse(&format!("has to be at least {least} bytes")),
            },
            (Kind::Signal { .. } | Kind::RealTime, Raw::Int(n)) => self.signal(&n.to_string()),
            (Kind::Workers, Raw::Int(n)) => match u32::try_from(*n) {
                Ok(n) => ok(Typed::Workers(Workers::Count(n))),
                Err(_) => refuse("out of range"),
            },
            (Kind::AtOnce, Raw::Int(n)) => match u32::try_from(*n) {
                Ok(n) if n > 0 => ok(Typed::AtOnce(Some(n))),
                _ => refuse("out of range"),
            },
            (Kind::Share, Raw::Int(n)) => match u32::try_from(*n) {
                Ok(n) => ok(Typed::Share(Share::Count(n))),
                Err(_) => refuse("out of range"),
            },
            (Kind::Mode, Raw::Int(n)) => {
                // Written as the bits are, or meant as the number.
                let octal =
                    if n.to_string().bytes().all(|b| (b'0'..=b'7').contains(&b)) { n.to_string() } else { format!("{n:o}") };
                let sensible = u32::from_str_radix(&octal, 8).is_ok_and(|bits| bits <= 0o7777);
                let help = match sensible {
                    true => format!("permission bits are octal: write them in quotes, \"{octal:0>4}\""),
                    false => format!("allowed: {}", self.allowed()),
                };
                Err(problem(format!("{n} is a decimal number"), help))
            }
            (Kind::Env, Raw::Int(n)) => ok(Typed::Env(Some(n.to_string()))),
            (Kind::Env, Raw::Bool(false)) => ok(Typed::Env(None)),
            (Kind::Env, Raw::Str(text)) => match around.resolve(text, Use::Template)? {
                text if text.contains('\0') => Err(problem("a variable cannot hold a NUL byte", "remove it")),
                text => ok(Typed::Env(Some(text))),
            },
            // Their values are not quoted: they may be secrets.
            (Kind::Env, Raw::Bool(true) | Raw::Float(_)) => Err(problem("a variable is text", "write the value in quotes")),
            (Kind::Secret, Raw::Str(text)) if text.strip_prefix("file:").is_some_and(|p| !p.is_empty() && !p.contains('\0')) => {
                ok(Typed::Secret(address::absolute(text.trim_start_matches("file:"), around.cwd)))
            }
            (Kind::Secret, Raw::Str(_)) => Err(problem("this is not where a secret is", format!("allowed: {}", self.allowed()))),
            (Kind::Env | Kind::Secret, _) => {
                Err(problem(format!("this cannot be {}", raw.what()), format!("allowed: {}", self.allowed())))
            }
            (Kind::User, Raw::Int(n)) if u32::try_from(*n).is_ok_and(|id| id != u32::MAX) => {
                ok(Typed::Account(u32::try_from(*n).ok().map(Account::Id)))
            }
            (Kind::Limit, Raw::Int(n)) => match u64::try_from(*n) {
                Ok(n) => ok(Typed::Limit(Bounds { soft: Some(n), hard: Some(n) })),
                Err(_) => refuse("a limit cannot be negative"),
            },
            (Kind::Listen, Raw::Int(n)) | (Kind::Address, Raw::Int(n)) => Err(problem(
                format!("{n} is a number, an address is a string"),
                format!("write \":{n}\" for port {n} on all interfaces"),
            )),
            (_, Raw::Str(text)) => self.text(text, around),
            (_, Raw::List(items)) => self.list(items, around),
            _ => wrong_type(),
        }
    }

    fn signal(self, text: &str) -> Answer {
        match scalar::signal(text) {
            Ok(n) if self == Kind::RealTime && n < 34 => {
                Err(problem(format!("{text} has a fixed meaning for the master"), format!("allowed: {}", self.allowed())))
            }
            Ok(n) => ok(Typed::Signal(Some(n))),
            Err(e) => Err(problem(e, format!("allowed: {}", self.allowed()))),
        }
    }

    fn text(self, text: &str, around: Around<'_>) -> Answer {
        let because = |what: String| problem(format!("{what}: {text:?}"), format!("allowed: {}", self.allowed()));
        match self {
            Kind::Text => ok(Typed::Text(text.to_owned())),
            Kind::Name => match scalar::name(text) {
                Ok(()) => ok(Typed::Text(text.to_owned())),
                Err(e) => Err(because(e.to_owned())),
            },
            Kind::Path if text.contains('\0') => Err(problem("a path has no NUL byte", "remove it")),
            Kind::Path => ok(Typed::Path((!text.is_empty()).then(|| address::absolute(text, around.cwd)))),
            Kind::Duration { zero } => match scalar::duration(text) {
                Ok(d) if d.is_zero() && !zero => Err(because("has to be above zero".to_owned())),
                Ok(d) => ok(Typed::Duration(d)),
                Err(e) => Err(because(e)),
            },
            Kind::Size(least) => match scalar::size(text) {
                Ok(n) if n >= least => ok(Typed::Size(n)),
                Ok(_) => Err(because(format!("has to be at least {least} bytes"))),
                Err(e) => Err(because(e)),
            },
            Kind::Signal { empty: true } | Kind::RealTime if text.is_empty() => ok(Typed::Signal(None)),
            Kind::Signal { .. } | Kind::RealTime => self.signal(text),
            Kind::Choice(choices) => match choices.iter().find(|(word, _)| *word == text) {
                Some((word, when)) => Ok(Checked {
                    value: Typed::Text((*word).to_owned()),
                    later: (*when != When::Now).then(|| format!("{word:?}")),
                }),
                None => Err(self.unknown_word(text, choices)),
            },
            Kind::Workers => match start::workers(text) {
                Some(workers) => ok(Typed::Workers(workers)),
                None => Err(because("this is no number of workers".to_owned())),
            },
            Kind::AtOnce => match text {
                "auto" => ok(Typed::AtOnce(None)),
                _ => Err(because("this is no number".to_owned())),
            },
            Kind::Argv { empty } => self.command(text, empty, around),
            Kind::Ready => match start::ready(text) {
                Ok(ready) => ok(Typed::Ready(ready)),
                Err(e) => Err(problem(e, format!("allowed: {}", self.allowed()))),
            },
            Kind::Share => scalar::share(text).map(|s| Checked { value: Typed::Share(s), later: None }).map_err(because),
            Kind::Rate => {
                let valid = text.split_once('/').is_some_and(|(share, per)| {
                    scalar::share(share).is_ok() && scalar::duration(per).is_ok_and(|d| !d.is_zero())
                });
                if valid { ok(Typed::Other) } else { Err(because("this is no rate".to_owned())) }
            }
            Kind::Mode => scalar::mode(text).map(|m| Checked { value: Typed::Mode(m), later: None }).map_err(because),
            Kind::Output(other) => match start::output(text, other, around.cwd) {
                Some(output) => ok(Typed::Output(output)),
                None => Err(because("output cannot go there".to_owned())),
            },
            Kind::Listen | Kind::Address => ok(Typed::Addresses(vec![listen_address(text, around)?])),
            Kind::User if text.is_empty() => ok(Typed::Account(None)),
            Kind::User => match scalar::account(text) {
                Some(account) => ok(Typed::Account(Some(account))),
                None => Err(because("this is no user or group".to_owned())),
            },
            Kind::Limit => scalar::limit(text).map(|l| Checked { value: Typed::Limit(l), later: None }).map_err(because),
            Kind::Clock if text.is_empty() || is_clock(text) => ok(Typed::Other),
            Kind::Clock => Err(because("this is no time of day".to_owned())),
            _ if self.is_list_of_words() => {
                Err(problem(format!("this takes a list, found {text:?}"), format!("write [{text:?}]")))
            }
            _ => Err(problem(format!("this cannot be a string, found {text:?}"), format!("allowed: {}", self.allowed()))),
        }
    }

    pub(super) fn unknown_word(self, text: &str, choices: &[(&'static str, When)]) -> Problem {
        let help = format!("allowed: {}", self.allowed());
        let near = super::super::near::nearest(text, choices.iter().map(|(word, _)| *word));
        let help = near.map_or(help.clone(), |near| format!("did you mean \"{near}\"? {help}"));
        problem(format!("{text:?} is not one of the allowed words"), help)
    }

    /// A number of this kind, in its range.
    fn takes(self, number: f64) -> bool {
        match self {
            // Exact for all numbers in the ranges of the keys.
            Kind::Int(min, max) => number.fract() == 0.0 && (min as f64..=max as f64).contains(&number),
            Kind::Float(min, max) => (min..=max).contains(&number),
            _ => false,
        }
    }

    fn command(self, line: &str, empty: bool, around: Around<'_>) -> Answer {
        let split = words::split(line).map_err(|e| {
            let help = match e.contains("backslash") {
                true => "take it away, or write a list of words",
                false => "close the quote, or write a list of words",
            };
            problem(format!("cannot be split into words: {e}"), help)
        })?;
        if split.is_empty() && !empty {
            return Err(problem("the command is empty", format!("allowed: {}", self.allowed())));
        }
        let words = gather(split.iter().map(|word| around.resolve(word, Use::Template)))?;
        self.argv(words, empty)
    }

    pub(super) fn argv(self, words: Vec<String>, empty: bool) -> Answer {
        if words.first().is_some_and(String::is_empty) || (words.is_empty() && !empty) {
            return Err(problem("the command is empty", format!("allowed: {}", self.allowed())));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(problem("a command cannot hold a NUL byte", "remove it"));
        }
        ok(Typed::Words(words))
    }
}

fn neither_nor(shown: &str, text: &str) -> Problem {
    let help = match text.trim().to_ascii_lowercase().as_str() {
        "yes" | "on" | "1" => "write true",
        "no" | "off" | "0" => "write false",
        "true" | "false" => "write it in small letters, without quotes",
        _ => "allowed: true or false",
    };
    problem(format!("this is neither true nor false: {shown}"), help)
}

/// The first variable in a value that by its name holds a secret.
fn secret_variable(raw: &Raw) -> Option<&str> {
    match raw {
        Raw::Str(text) => template::variables(text).find(|name| template::sounds_secret(name)),
        Raw::List(items) => items.iter().find_map(|item| secret_variable(&item.raw)),
        Raw::Bool(_) | Raw::Int(_) | Raw::Float(_) | Raw::Table(_) | Raw::Odd(_) => None,
    }
}

pub(super) fn listen_address(text: &str, around: Around<'_>) -> Result<Address, Problem> {
    if let Some(word) = template::asked(text).first() {
        return Err(problem(
            format!("a listener is shared by all workers, {{{word}}} has no meaning in its address"),
            address::SPELLINGS,
        ));
    }
    address::parse(text, around.cwd).map_err(|(what, help)| problem(format!("{what}: {text:?}"), help))
}

pub(super) fn is_clock(text: &str) -> bool {
    let part = |text: &str, below: u8| {
        text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) && text.parse().is_ok_and(|n: u8| n < below)
    };
    text.split_once(':').is_some_and(|(hours, minutes)| part(hours, 24) && part(minutes, 60))
}
