//! Owns how pools and slots are named in messages and on the command line: `web`, `web:3`, `all`. Whether such a pool exists
//! is not known here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ParseError;

/// The word for every pool. No pool may have it as its name.
const ALL: &str = "all";

/// Some workers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Selector {
    /// `all`: every worker of every pool.
    All,
    /// `web`: every worker of a pool.
    Pool(String),
    /// `web:3`: the workers of one slot.
    Slot {
        /// The pool's name.
        pool: String,
        /// The slot's number.
        slot: u32,
    },
}

impl FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Selector, ParseError> {
        let (pool, slot) = match text.split_once(':') {
            Some((pool, slot)) => (pool, Some(slot)),
            None => (text, None),
        };
        if pool == ALL && slot.is_none() {
            return Ok(Selector::All);
        }
        let pool = pool_name(pool)?;
        let Some(slot) = slot else { return Ok(Selector::Pool(pool)) };
        // A number as it is written everywhere else: parse() takes a sign, too.
        let digits = !slot.is_empty() && slot.bytes().all(|b| b.is_ascii_digit());
        match slot.parse::<u32>() {
            _ if !digits => Err(ParseError::new(format!("{text:?}: a slot is a number from 0, as in `{pool}:3`"))),
            Ok(slot) if pool != ALL => Ok(Selector::Slot { pool, slot }),
            Ok(_) => Err(ParseError::new(format!("{text:?}: a slot belongs to one pool, `all` has none"))),
            Err(_) => Err(ParseError::new(format!("{text:?}: a slot is a number from 0, as in `{pool}:3`"))),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::All => f.write_str(ALL),
            Selector::Pool(pool) => f.write_str(pool),
            Selector::Slot { pool, slot } => write!(f, "{pool}:{slot}"),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Selector, ParseError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> String {
        selector.to_string()
    }
}

/// Whole pools: `["all"]`, or a list of names that is never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub enum Pools {
    /// Every pool.
    All,
    /// These.
    Named(Vec<String>),
}

impl TryFrom<Vec<String>> for Pools {
    type Error = ParseError;

    fn try_from(names: Vec<String>) -> Result<Pools, ParseError> {
        if names.is_empty() {
            return Err(ParseError::new("no pool is named; give names, or `all`".to_owned()));
        }
        if names.iter().any(|n| n == ALL) {
            return match names.len() {
                1 => Ok(Pools::All),
                _ => Err(ParseError::new("`all` stands alone: it names every pool already".to_owned())),
            };
        }
        names.iter().map(|n| pool_name(n)).collect::<Result<_, _>>().map(Pools::Named)
    }
}

impl From<Pools> for Vec<String> {
    fn from(pools: Pools) -> Vec<String> {
        match pools {
            Pools::All => vec![ALL.to_owned()],
            Pools::Named(names) => names,
        }
    }
}

/// The name of one pool, for what takes one pool only.
pub fn parse_pool(text: &str) -> Result<String, ParseError> {
    if text == ALL {
        return Err(ParseError::new("one pool is meant here, not `all`".to_owned()));
    }
    pool_name(text)
}

/// A word that can be a pool's name (`[a-z][a-z0-9-]*`, at most 32 characters: config.md), so that a typing error is told
/// apart from a pool that does not exist.
fn pool_name(text: &str) -> Result<String, ParseError> {
    let fits = text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if fits {
        return Ok(text.to_owned());
    }
    let hint = if text.contains(':') { "; whole pools are meant here, not slots" } else { "" };
    let shown: String = text.chars().take(40).collect();
    Err(ParseError::new(format!("{shown:?} is not a pool name (a-z, 0-9 and -, starting with a letter){hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_and_written_alike() {
        let slot = |n| Selector::Slot { pool: "web".to_owned(), slot: n };
        for (text, want) in [
            ("all", Selector::All),
            ("web", Selector::Pool("web".to_owned())),
            ("web:0", slot(0)),
            ("web:17", slot(17)),
            ("all-day", Selector::Pool("all-day".to_owned())),
        ] {
            assert_eq!(text.parse::<Selector>().as_ref(), Ok(&want), "{text}");
            assert_eq!(want.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_selector_is_told_why() {
        for (text, part) in [
            ("", "not a pool name"),
            ("Web", "not a pool name"),
            ("-2", "not a pool name"),
            ("web:", "a slot is a number"),
            ("web:x", "a slot is a number"),
            ("web:-1", "a slot is a number"),
            ("web:+3", "a slot is a number"),
            ("web:1:2", "a slot is a number"),
            ("all:1", "`all` has none"),
            ("web:99999999999", "a slot is a number"),
        ] {
            let error = text.parse::<Selector>().unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn pools_are_all_or_names() {
        let pools = |names: &[&str]| Pools::try_from(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(pools(&["all"]), Ok(Pools::All));
        assert_eq!(pools(&["web", "jobs"]), Ok(Pools::Named(vec!["web".to_owned(), "jobs".to_owned()])));
        assert!(pools(&[]).unwrap_err().to_string().contains("no pool is named"));
        assert!(pools(&["all", "web"]).unwrap_err().to_string().contains("stands alone"));
        assert!(pools(&["web:1"]).unwrap_err().to_string().contains("not slots"));
    }
}
