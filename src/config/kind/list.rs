//! Owns judging lists: every wrong item is named, not only the first.

use std::time::Duration;

use super::super::near::nearest;
use super::super::node::{Node, Raw};
use super::super::spec::Account;
use super::super::template::Use;
use super::super::value::{capability, scalar, start};
use super::one::{is_clock, listen_address};
use super::{Answer, Around, Checked, Kind, Problem, Typed, When, gather, ok, problem};

impl Kind {
    pub(super) fn list(self, items: &[Node], around: Around<'_>) -> Answer {
        match self {
            Kind::Argv { empty } => self.argv(strings(items, around, Use::Template)?, empty),
            Kind::Strings => ok(Typed::Words(strings(items, around, Use::Value)?)),
            Kind::Ints(min, max) => {
                let number = |item: &Node| match item.raw {
                    Raw::Int(n) if (min..=max).contains(&n) => Ok(n),
                    _ => Err(wrong_item(item, format!("allowed: {}", self.allowed()))),
                };
                ok(Typed::Ints(gather(items.iter().map(number))?))
            }
            Kind::Choices(choices) => {
                let words = strings(items, around, Use::Value)?;
                let read = |(word, item): (&String, &Node)| match choices.iter().find(|(choice, _)| choice == word) {
                    Some((word, when)) => Ok((*when != When::Now).then(|| format!("{word:?}"))),
                    None => Err(Problem { place: Some(item.place.clone()), ..self.unknown_word(word, choices) }),
                };
                let later = gather(words.iter().zip(items).map(read))?.into_iter().flatten().next();
                Ok(Checked { value: Typed::Words(words), later })
            }
            Kind::Steps => {
                let words = strings(items, around, Use::Value)?;
                let refs: Vec<&str> = words.iter().map(String::as_str).collect();
                match start::stop_sequence(&refs, Duration::ZERO) {
                    Ok(_) => ok(Typed::Words(words)),
                    Err((at, e)) => {
                        let place = items.get(at).map(|item| item.place.clone());
                        let found = words.get(at).map(String::as_str).unwrap_or_default();
                        let what = match at % 2 {
                            0 if scalar::duration(found).is_ok() => format!("a signal is due here, not the wait {found:?}"),
                            0 => e,
                            _ if scalar::signal(found).is_ok() => format!("a wait is due here, not the signal {found:?}"),
                            _ => format!("a wait is due here: {e}: {found:?}"),
                        };
                        Err(Problem { place, ..problem(what, format!("allowed: {}", self.allowed())) })
                    }
                }
            }
            Kind::Listen => {
                for item in items {
                    if let Raw::Int(n) = item.raw {
                        return Err(wrong_item(item, format!("write \":{n}\" for port {n} on all interfaces")));
                    }
                    if matches!(item.raw, Raw::Table(_)) {
                        let help = "name listeners that have options: listen.NAME = { address = \":8000\", ... }";
                        return Err(wrong_item(item, help.to_owned()));
                    }
                }
                let words = strings(items, around, Use::Value)?;
                let read = |(text, item): (&String, &Node)| {
                    listen_address(text, around).map_err(|p| Problem { place: Some(item.place.clone()), ..p })
                };
                let addresses = gather(words.iter().zip(items).map(read))?;
                ok(Typed::Addresses(addresses))
            }
            Kind::Users => {
                let wrong = |item: &Node| wrong_item(item, format!("allowed: {}", self.allowed()));
                let read = |item: &Node| match &item.raw {
                    Raw::Int(n) => u32::try_from(*n).map(Account::Id).map_err(|_| wrong(item)),
                    Raw::Str(text) => scalar::account(&around.resolve(text, Use::Value)?).ok_or_else(|| wrong(item)),
                    _ => Err(wrong(item)),
                };
                ok(Typed::Accounts(gather(items.iter().map(read))?))
            }
            Kind::Capabilities => {
                let words = strings(items, around, Use::Value)?;
                let read = |(word, item): (&String, &Node)| {
                    capability::number(word).ok_or_else(|| {
                        let near = nearest(&word.to_ascii_lowercase(), capability::NAMES);
                        let help = near.map_or_else(
                            || "allowed: names as in capabilities(7), for instance \"net_bind_service\"".to_owned(),
                            |near| format!("did you mean \"{near}\"?"),
                        );
                        Problem { place: Some(item.place.clone()), ..problem(format!("there is no capability {word:?}"), help) }
                    })
                };
                ok(Typed::Capabilities(gather(words.iter().zip(items).map(read))?))
            }
            Kind::Schedule => gather(items.iter().map(schedule_entry)).and_then(|_| ok(Typed::Other)),
            _ => Err(problem("this cannot be a list", format!("allowed: {}", self.allowed()))),
        }
    }
}

fn wrong_item(item: &Node, help: String) -> Problem {
    Problem { place: Some(item.place.clone()), ..problem(format!("this list cannot hold {}", item.raw.shown()), help) }
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
    gather(items.iter().map(string))
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
                place: Some(value.key.clone()),
                ..problem(
                    match name.as_str() {
                        "from" | "to" | "days" | "min" | "max" => format!("`{name}` cannot be {}", value.raw.shown()),
                        _ => format!("an entry has no `{name}`"),
                    },
                    help(),
                )
            });
        }
    }
    let complete = ["from", "to"].iter().all(|name| item.get(name).is_some());
    if complete {
        Ok(())
    } else {
        Err(Problem { place: Some(item.place.clone()), ..problem("`from` or `to` is missing", help()) })
    }
}

const DAYS: [&str; 8] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun", "daily"];
