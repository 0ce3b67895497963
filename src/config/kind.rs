//! Owns the types of keys: what each accepts, in which words it refuses, and the typed value it gives. Knows no key by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::node::{Node, Place, Raw};
use super::spec::Output;
use super::template::{self, Use};
use super::toml_text;
use super::value::address::{self, Spelled};
use super::value::scalar;
use super::value::start::{self, Ready, Workers};
use super::words;
use crate::supervisor::Share;

/// When a key or one of its values takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In this version.
    Now,
    /// In a later one: `check` accepts it, `run` refuses it, unless it says what holds anyway (the default).
    Later,
    /// In a later one, its default too: `run` refuses it whatever its value.
    LaterEvenDefault,
}

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// true or false.
    Bool,
    /// A whole number in a range.
    Int(i64, i64),
    /// A number in a range, both ends included.
    Float(f64, f64),
    /// Any string.
    Text,
    /// A name by the rules for pools.
    Name,
    /// A file or folder; `""`: none.
    Path,
    /// A time; zero allowed or not.
    Duration {
        /// 0 has a meaning.
        zero: bool,
    },
    /// Bytes, at least so many.
    Size(u64),
    /// A signal; `""` allowed or not.
    Signal {
        /// "" has a meaning.
        empty: bool,
    },
    /// A real-time signal, or `""`.
    RealTime,
    /// One of these words.
    Choice(&'static [(&'static str, When)]),
    /// A number of workers, or "auto".
    Workers,
    /// A number from 1, or "auto".
    AtOnce,
    /// A command: a list of words, or a line that is split.
    Argv {
        /// No words at all has a meaning.
        empty: bool,
    },
    /// A list of strings.
    Strings,
    /// A list of whole numbers in a range.
    Ints(i64, i64),
    /// A list of these words.
    Choices(&'static [(&'static str, When)]),
    /// Signals and waits in turn.
    Steps,
    /// How a worker gets ready.
    Ready,
    /// A number or a percentage.
    Share,
    /// A share per time, "100%/1s".
    Rate,
    /// Octal permission bits.
    Mode,
    /// Where output goes; the name of the other stream.
    Output(&'static str),
    /// One address or a list of them.
    Listen,
    /// One address.
    Address,
    /// The value of a variable; false removes it.
    Env,
    /// Where a secret is: "file:PATH".
    Secret,
    /// A user or group, by name or number.
    User,
    /// A list of users or groups.
    Users(When),
    /// A resource limit: a number, a size or "unlimited".
    Limit,
    /// "HH:MM", or "".
    Clock,
    /// A list of tables with from, to, days, min.
    Schedule,
}

/// A value of a [`Kind`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Typed {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Path(Option<PathBuf>),
    Duration(Duration),
    Size(u64),
    Signal(Option<i32>),
    Workers(Workers),
    AtOnce(Option<u32>),
    Words(Vec<String>),
    Ints(Vec<i64>),
    Ready(Ready),
    Share(Share),
    Mode(u32),
    Output(Output),
    Addresses(Vec<Spelled>),
    Env(Option<String>),
    /// Valid, of a type that no key uses in this version.
    Other,
}

/// A typed value, and which part of it is not there yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checked {
    pub(super) value: Typed,
    pub(super) later: Option<String>,
}

/// Why a value was refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) help: String,
    /// The part of the value that is wrong, when it is not all of it.
    pub(super) place: Option<Place>,
}

/// What values may depend on beside themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) cwd: &'a Path,
}

type Answer = Result<Checked, Problem>;

fn problem(message: impl Into<String>, help: impl Into<String>) -> Problem {
    Problem { message: message.into(), help: help.into(), place: None }
}

fn ok(value: Typed) -> Answer {
    Ok(Checked { value, later: None })
}

impl Kind {
    /// What is allowed, to follow "allowed: " in an error, and for the manual.
    pub fn allowed(self) -> String {
        let words =
            |choices: &[(&str, When)]| choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        match self {
            Kind::Bool => "true or false".to_owned(),
            Kind::Int(min, i64::MAX) => format!("a whole number from {min}"),
            Kind::Int(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Float(min, max) if max >= 1e9 => format!("a number from {min}"),
            Kind::Float(min, max) => format!("a number from {min} to {max}"),
            Kind::Text => "a string".to_owned(),
            Kind::Name => "a name: a-z, 0-9 and single -, starting with a letter, at most 32 characters".to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::Duration { zero: true } => "a duration such as \"30s\", \"1m 30s\", \"500ms\" or \"0s\"; a bare number is seconds".to_owned(),
            Kind::Duration { zero: false } => "a duration above zero such as \"30s\" or \"1m 30s\"; a bare number is seconds".to_owned(),
            Kind::Size(_) => "a size such as \"16K\", \"512M\" or \"4G\"; a bare number is bytes".to_owned(),
            Kind::Signal { empty: false } => "a signal such as \"TERM\", \"QUIT\" or \"RTMIN+3\"".to_owned(),
            Kind::Signal { empty: true } => "a signal such as \"TERM\", \"QUIT\" or \"RTMIN+3\", or \"\"".to_owned(),
            Kind::RealTime => "a real-time signal, \"RTMIN\" to \"RTMIN+30\", or \"\"".to_owned(),
            Kind::Choice(choices) => words(choices),
            Kind::Workers => "a number, \"auto\" (usable CPUs) or \"auto*2\"".to_owned(),
            Kind::AtOnce => "a number from 1, or \"auto\"".to_owned(),
            Kind::Argv { .. } => "a list of words [\"prog\", \"arg\"], or a string that is split like a shell would".to_owned(),
            Kind::Strings => "a list of strings".to_owned(),
            Kind::Ints(min, max) => format!("a list of whole numbers from {min} to {max}"),
            Kind::Choices(choices) => format!("a list of any of {}", words(choices)),
            Kind::Steps => "signals, each followed by a wait: [\"QUIT\", \"10s\", \"TERM\", \"5s\"]".to_owned(),
            Kind::Ready => "\"auto\", \"exec\", \"accepting\", \"notify\", \"delay:2s\", \"fd:N\", \"tcp:ADDR\", \"http:URL\" or \"command:...\"".to_owned(),
            Kind::Share => "a number of workers, or a percentage such as \"25%\"".to_owned(),
            Kind::Rate => "a share per time such as \"100%/1s\" or \"4/10s\"".to_owned(),
            Kind::Mode => "octal permission bits in quotes, such as \"0600\"".to_owned(),
            Kind::Output(other) => format!("\"inherit\", \"null\", \"capture\", \"{other}\" or \"file:PATH\""),
            Kind::Listen => "an address, a list of addresses, or a table of names to addresses".to_owned(),
            Kind::Address => "an address such as \"tcp://0.0.0.0:8000\", \":8000\" or \"unix:/path\"".to_owned(),
            Kind::Env => "a string, a whole number, or false to remove the variable".to_owned(),
            Kind::Secret => "where the secret is: \"file:PATH\"".to_owned(),
            Kind::User => "a name or a number".to_owned(),
            Kind::Users(_) => "a list of names or numbers".to_owned(),
            Kind::Limit => "a number, a size such as \"1G\", or \"unlimited\"".to_owned(),
            Kind::Clock => "a time of day \"HH:MM\", or \"\"".to_owned(),
            Kind::Schedule => "a list of tables { from = \"08:00\", to = \"20:00\", days = \"mon-fri\", min = 6 }".to_owned(),
        }
    }

    /// Reads text that was given without TOML's quotes (a variable, a flag, an interpolated string) by the key's type.
    pub(super) fn read_text(self, text: &str, place: &Place) -> Result<Raw, Problem> {
        let bracketed = text.trim_start().starts_with('[');
        let string = || Raw::Str(text.to_owned());
        match self {
            Kind::Bool => Ok(text.trim().parse().map_or_else(|_| string(), Raw::Bool)),
            Kind::Int(..) | Kind::Workers | Kind::AtOnce | Kind::Share | Kind::User | Kind::Limit => {
                Ok(text.trim().parse().map_or_else(|_| string(), Raw::Int))
            }
            Kind::Float(..) => Ok(text.trim().parse().map_or_else(|_| string(), Raw::Float)),
            Kind::Strings | Kind::Ints(..) | Kind::Choices(_) | Kind::Steps | Kind::Users(_) | Kind::Schedule => {
                match toml_text::value(text.trim(), place) {
                    Ok(raw @ Raw::List(_)) => Ok(raw),
                    Ok(_) | Err(_) => {
                        Err(problem(format!("{text:?} is not a list in TOML syntax"), format!("allowed: {}", self.allowed())))
                    }
                }
            }
            // "[::]:8000" is an address, no list.
            Kind::Argv { .. } | Kind::Listen if bracketed => match toml_text::value(text.trim(), place) {
                Ok(raw) => Ok(raw),
                Err(_) if self == Kind::Listen => Ok(string()),
                Err(e) => {
                    Err(problem(format!("{text:?} is not a list in TOML syntax: {e}"), format!("allowed: {}", self.allowed())))
                }
            },
            _ => Ok(string()),
        }
    }

    /// True for values that are filled in at each spawn: their `${VAR}` is resolved here, their `{word}`s stay.
    fn is_template(self) -> bool {
        matches!(self, Kind::Argv { .. } | Kind::Env)
    }

    /// Judges a value.
    pub(super) fn check(self, node: &Node, around: Around<'_>) -> Answer {
        let reread;
        let raw = match &node.raw {
            Raw::Str(text) if !self.is_template() && template::has_reference(text) => {
                reread = self.read_text(&around.resolve(text, Use::Value)?, &node.place)?;
                &reread
            }
            raw => raw,
        };
        let refuse = |what: &str| Err(problem(format!("{what}, found {}", raw.shown()), format!("allowed: {}", self.allowed())));
        match (self, raw) {
            (Kind::Bool, Raw::Bool(b)) => ok(Typed::Bool(*b)),
            (Kind::Int(min, max), Raw::Int(n)) if (min..=max).contains(n) => ok(Typed::Int(*n)),
            (Kind::Int(..), Raw::Int(_)) => refuse("out of range"),
            (Kind::Float(min, max), Raw::Float(f)) if (min..=max).contains(f) => ok(Typed::Float(*f)),
            // Exact for all numbers in the ranges of the keys.
            (Kind::Float(min, max), Raw::Int(n)) if (min..=max).contains(&(*n as f64)) => ok(Typed::Float(*n as f64)),
            (Kind::Float(..), Raw::Float(_) | Raw::Int(_)) => refuse("out of range"),
            (Kind::Duration { zero }, Raw::Int(n)) => match u64::try_from(*n) {
                Ok(0) if !zero => refuse("has to be above zero"),
                Ok(n) => ok(Typed::Duration(Duration::from_secs(n))),
                Err(_) => refuse("a duration cannot be negative"),
            },
            (Kind::Size(least), Raw::Int(n)) => match u64::try_from(*n) {
                Ok(n) if n >= least => ok(Typed::Size(n)),
                _ => refuse("out of range"),
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
            (Kind::Mode, Raw::Int(n)) => Err(problem(
                format!("{n} is a decimal number"),
                format!("permission bits are octal: write them in quotes, \"0{n}\""),
            )),
            (Kind::Env, Raw::Int(n)) => ok(Typed::Env(Some(n.to_string()))),
            (Kind::Env, Raw::Bool(false)) => ok(Typed::Env(None)),
            (Kind::Env, Raw::Str(text)) => match around.resolve(text, Use::Template)? {
                text if text.contains('\0') => Err(problem("a variable cannot hold a NUL byte", "remove it")),
                text => ok(Typed::Env(Some(text))),
            },
            // Their values are not quoted: they may be secrets.
            (Kind::Env, Raw::Bool(true) | Raw::Float(_)) => Err(problem("a variable is text", "write the value in quotes")),
            (Kind::Secret, Raw::Str(text)) if text.strip_prefix("file:").is_some_and(|p| !p.is_empty()) => ok(Typed::Other),
            (Kind::Env | Kind::Secret, _) => Err(problem("not allowed here", format!("allowed: {}", self.allowed()))),
            (Kind::User | Kind::Limit, Raw::Int(n)) if u32::try_from(*n).is_ok() => ok(Typed::Other),
            (Kind::Listen, Raw::Int(n)) | (Kind::Address, Raw::Int(n)) => Err(problem(
                format!("{n} is a number, an address is a string"),
                format!("write \":{n}\" for port {n} on all interfaces"),
            )),
            (_, Raw::Str(text)) => self.text(text, around),
            (_, Raw::List(items)) => self.list(items, around),
            _ => refuse(&format!("this cannot be {}", raw.what())),
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
                Ok(ready) => {
                    Ok(Checked { value: Typed::Ready(ready), later: (ready == Ready::Later).then(|| format!("{text:?}")) })
                }
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
            Kind::Listen | Kind::Address => {
                let spelled = listen_address(text, around)?;
                let later = (spelled == Spelled::Later).then(|| format!("{text:?}"));
                Ok(Checked { value: Typed::Addresses(vec![spelled]), later })
            }
            Kind::User if !text.is_empty() => ok(Typed::Other),
            Kind::Limit if matches!(text, "unlimited" | "max") || scalar::size(text).is_ok() => ok(Typed::Other),
            Kind::Clock if text.is_empty() || is_clock(text) => ok(Typed::Other),
            _ => Err(problem(format!("this cannot be a string, found {text:?}"), format!("allowed: {}", self.allowed()))),
        }
    }

    fn unknown_word(self, text: &str, choices: &[(&'static str, When)]) -> Problem {
        let help = format!("allowed: {}", self.allowed());
        let near = super::near::nearest(text, choices.iter().map(|(word, _)| *word));
        let help = near.map_or(help.clone(), |near| format!("did you mean \"{near}\"? {help}"));
        problem(format!("{text:?} is not one of its words"), help)
    }

    fn command(self, line: &str, empty: bool, around: Around<'_>) -> Answer {
        let split = words::split(line)
            .map_err(|e| problem(format!("cannot be split into words: {e}"), "close the quote, or write a list of words"))?;
        if split.is_empty() && !empty {
            return Err(problem("the command is empty", format!("allowed: {}", self.allowed())));
        }
        let words = split.iter().map(|word| around.resolve(word, Use::Template)).collect::<Result<Vec<_>, _>>()?;
        self.argv(words, empty)
    }

    fn argv(self, words: Vec<String>, empty: bool) -> Answer {
        if words.first().is_some_and(String::is_empty) || (words.is_empty() && !empty) {
            return Err(problem("the command is empty", format!("allowed: {}", self.allowed())));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(problem("a command cannot hold a NUL byte", "remove it"));
        }
        ok(Typed::Words(words))
    }

    fn list(self, items: &[Node], around: Around<'_>) -> Answer {
        match self {
            Kind::Argv { empty } => self.argv(strings(items, around, Use::Template)?, empty),
            Kind::Strings => ok(Typed::Words(strings(items, around, Use::Value)?)),
            Kind::Ints(min, max) => {
                let number = |item: &Node| match item.raw {
                    Raw::Int(n) if (min..=max).contains(&n) => Ok(n),
                    _ => Err(wrong_item(item, format!("allowed: {}", self.allowed()))),
                };
                ok(Typed::Ints(items.iter().map(number).collect::<Result<_, _>>()?))
            }
            Kind::Choices(choices) => {
                let words = strings(items, around, Use::Value)?;
                let mut later = None;
                for (word, item) in words.iter().zip(items) {
                    match choices.iter().find(|(choice, _)| choice == word) {
                        Some((_, When::Now)) => {}
                        Some((word, _)) => later = Some(format!("{word:?}")),
                        None => return Err(Problem { place: Some(item.place.clone()), ..self.unknown_word(word, choices) }),
                    }
                }
                Ok(Checked { value: Typed::Words(words), later })
            }
            Kind::Steps => {
                let words = strings(items, around, Use::Value)?;
                let refs: Vec<&str> = words.iter().map(String::as_str).collect();
                match start::stop_sequence(&refs, Duration::ZERO) {
                    Ok(_) => ok(Typed::Words(words)),
                    Err((at, e)) => {
                        let place = items.get(at).map(|item| item.place.clone());
                        let turn = if at % 2 == 0 { "a signal is due here" } else { "a wait is due here" };
                        Err(Problem { message: format!("{turn}: {e}"), help: format!("allowed: {}", self.allowed()), place })
                    }
                }
            }
            Kind::Listen => {
                let (mut addresses, mut later) = (Vec::new(), None);
                for (text, item) in strings(items, around, Use::Value)?.iter().zip(items) {
                    let spelled = listen_address(text, around).map_err(|p| Problem { place: Some(item.place.clone()), ..p })?;
                    if spelled == Spelled::Later {
                        later = Some(format!("{text:?}"));
                    }
                    addresses.push(spelled);
                }
                Ok(Checked { value: Typed::Addresses(addresses), later })
            }
            Kind::Users(when) => {
                let (mut ids, mut later) = (Vec::new(), (when != When::Now && !items.is_empty()).then(String::new));
                for item in items {
                    match &item.raw {
                        Raw::Int(n) if u32::try_from(*n).is_ok() => ids.push(*n),
                        Raw::Str(text) if !text.is_empty() => match around.resolve(text, Use::Value)?.parse::<u32>() {
                            Ok(n) => ids.push(i64::from(n)),
                            Err(_) => later = Some(format!("the name {text:?} (a number works)")),
                        },
                        _ => return Err(wrong_item(item, format!("allowed: {}", self.allowed()))),
                    }
                }
                Ok(Checked { value: Typed::Ints(ids), later: later.filter(|what| !what.is_empty()) })
            }
            Kind::Schedule => items.iter().try_for_each(schedule_entry).and_then(|()| ok(Typed::Other)),
            _ => Err(problem("this cannot be a list", format!("allowed: {}", self.allowed()))),
        }
    }
}

impl Around<'_> {
    fn resolve(&self, text: &str, target: Use) -> Result<String, Problem> {
        let lookup = |name: &str| self.env.get(name).map(String::as_str);
        template::resolve(text, &lookup, target).map_err(|missing| {
            let name = missing.first().cloned().unwrap_or_default();
            let help = format!("set it, write ${{{name}:-default}}, or $${{{name}}} to leave it as it is");
            problem(format!("${{{}}} is not set in the environment", missing.join("}, ${")), help)
        })
    }
}

fn listen_address(text: &str, around: Around<'_>) -> Result<Spelled, Problem> {
    if let Some(word) = template::asked(text).first() {
        return Err(problem(
            format!("a listener is shared by all workers, {{{word}}} has no meaning in its address"),
            address::SPELLINGS,
        ));
    }
    address::parse(text, around.cwd).map_err(|(what, help)| problem(format!("{what}: {text:?}"), help))
}

fn wrong_item(item: &Node, help: String) -> Problem {
    Problem { message: format!("this list cannot hold {}", item.raw.shown()), help, place: Some(item.place.clone()) }
}

fn strings(items: &[Node], around: Around<'_>, target: Use) -> Result<Vec<String>, Problem> {
    let string = |item: &Node| match &item.raw {
        Raw::Str(text) => around.resolve(text, target).map_err(|p| Problem { place: Some(item.place.clone()), ..p }),
        raw => Err(wrong_item(
            item,
            match raw {
                Raw::Int(_) | Raw::Float(_) | Raw::Bool(_) => format!("write it in quotes: \"{}\"", raw.shown()),
                _ => "allowed: a list of strings".to_owned(),
            },
        )),
    };
    items.iter().map(string).collect()
}

fn is_clock(text: &str) -> bool {
    let part = |text: &str, below: u8| {
        text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) && text.parse().is_ok_and(|n: u8| n < below)
    };
    text.split_once(':').is_some_and(|(hours, minutes)| part(hours, 24) && part(minutes, 60))
}

fn schedule_entry(item: &Node) -> Result<(), Problem> {
    let help = || format!("allowed: {}", Kind::Schedule.allowed());
    if !matches!(item.raw, Raw::Table(_)) {
        return Err(wrong_item(item, help()));
    }
    for (name, value) in item.entries() {
        let valid = match (name.as_str(), &value.raw) {
            ("from" | "to", Raw::Str(text)) => is_clock(text),
            ("days", Raw::Str(text)) => text.split([',', '-']).all(|day| DAYS.contains(&day.trim())),
            ("min" | "max", Raw::Int(n)) => u32::try_from(*n).is_ok(),
            _ => false,
        };
        if !valid {
            return Err(Problem {
                message: format!("`{name}` is wrong in this entry"),
                help: help(),
                place: Some(value.key.clone()),
            });
        }
    }
    let complete = ["from", "to"].iter().all(|name| item.get(name).is_some());
    if complete {
        Ok(())
    } else {
        Err(Problem { message: "`from` or `to` is missing".to_owned(), help: help(), place: Some(item.place.clone()) })
    }
}

const DAYS: [&str; 8] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun", "daily"];
