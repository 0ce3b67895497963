//! Owns the types of keys: what each accepts, in which words it refuses, and the typed value it gives. Knows no key by name.

mod list;
mod one;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::node::{Place, Raw};
use super::spec::{Account, Address, Bounds, Output};
use super::template::{self, Use};
use super::toml_text;
use super::value::start::{Ready, Workers};
use crate::supervisor::Share;

/// When a key or one of its values takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In this version.
    Now,
    /// In a later one: `check` accepts it, `run` refuses it, unless it says what holds anyway (the default).
    Later,
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
    /// A user or group, by name or number; `""`: none.
    User,
    /// A list of users or groups.
    Users,
    /// A list of capabilities by name.
    Capabilities,
    /// A resource limit: a number, a size or "unlimited"; or a soft and a hard one, "SOFT:HARD".
    Limit,
    /// "HH:MM", or "".
    Clock,
    /// A list of tables with from, to, days, min.
    Schedule,
}

/// A value of a [`Kind`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    Addresses(Vec<Address>),
    Env(Option<String>),
    Secret(PathBuf),
    Account(Option<Account>),
    Accounts(Vec<Account>),
    Capabilities(Vec<u8>),
    Limit(Bounds),
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
    /// What else is wrong with a list.
    pub(super) more: Vec<Problem>,
}

/// What values may depend on beside themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) cwd: &'a Path,
}

type Answer = Result<Checked, Problem>;

fn problem(message: impl Into<String>, help: impl Into<String>) -> Problem {
    Problem { message: message.into(), help: help.into(), place: None, more: Vec::new() }
}

/// All values, or all problems in one.
fn gather<T>(results: impl Iterator<Item = Result<T, Problem>>) -> Result<Vec<T>, Problem> {
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        return Ok(values);
    }
    let more = problems.split_off(1);
    problems.into_iter().next().map_or(Ok(values), |first| Err(Problem { more, ..first }))
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
            Kind::Address => "an address such as \"tcp://0.0.0.0:8000\", \":8000\", \"udp://127.0.0.1:53\", \"unix:/path\" or \"inherit:NAME\"".to_owned(),
            Kind::Env => "a string, a whole number, or false to remove the variable".to_owned(),
            Kind::Secret => "where the secret is: \"file:PATH\"".to_owned(),
            Kind::User => "a name or a number".to_owned(),
            Kind::Users => "a list of names or numbers".to_owned(),
            Kind::Capabilities => "a list of capabilities such as [\"net_bind_service\"]".to_owned(),
            Kind::Limit => "a number, a size such as \"1G\", \"unlimited\", or \"SOFT:HARD\"".to_owned(),
            Kind::Clock => "a time of day in quotes, \"HH:MM\", or \"\"".to_owned(),
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
            Kind::Strings
            | Kind::Ints(..)
            | Kind::Choices(_)
            | Kind::Steps
            | Kind::Users
            | Kind::Capabilities
            | Kind::Schedule => match toml_text::value(text.trim(), place) {
                Ok(raw @ Raw::List(_)) => Ok(raw),
                Ok(_) | Err(_) => {
                    let word = !bracketed && self.is_list_of_words();
                    let help = if word { format!("write [{text:?}]") } else { format!("allowed: {}", self.allowed()) };
                    Err(problem(format!("{text:?} is not a list in TOML syntax"), help))
                }
            },
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

    /// True for lists in which a lone word is one that lacks its brackets.
    fn is_list_of_words(self) -> bool {
        matches!(self, Kind::Strings | Kind::Choices(_) | Kind::Users | Kind::Capabilities)
    }

    /// True for values that are filled in at each spawn: their `${VAR}` is resolved here, their `{word}`s stay.
    fn is_template(self) -> bool {
        matches!(self, Kind::Argv { .. } | Kind::Env)
    }
}

impl Around<'_> {
    fn resolve(&self, text: &str, target: Use) -> Result<String, Problem> {
        let lookup = |name: &str| self.env.get(name).map(String::as_str);
        template::resolve(text, &lookup, target).map_err(|missing| {
            let name = missing.first().cloned().unwrap_or_default();
            let help = format!("set it, write ${{{name}:-default}}, or $${{{name}}} to leave it as it is");
            let are = if missing.len() > 1 { "are" } else { "is" };
            problem(format!("${{{}}} {are} not set in the environment", missing.join("}, ${")), help)
        })
    }
}
