//! Owns the error replies: a name that programs match on, an exit code, and words for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of error a reply is. The wire has `org.poolmaster.` before the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorName {
    /// It was tried and failed.
    Failed,
    /// The line is no message: not JSON, no `method`, or too long.
    BadMessage,
    /// There is no such method.
    UnknownMethod,
    /// A parameter is unknown, missing, or has a wrong value.
    InvalidParameter,
    /// No pool has this name, or the pool has no such slot.
    NotFound,
    /// The config has errors; nothing was changed.
    BadConfig,
    /// A newer order, or the old state, took its place.
    RolledBack,
    /// Not done within `timeout_ms`; the work goes on.
    TimedOut,
    /// This user may not.
    NotPermitted,
    /// An invariant forbids it; nothing was changed.
    Refused,
    /// The master has as many clients or requests as it takes.
    Busy,
    /// A fault of the master itself.
    Internal,
}

/// Names, with the exit code of the verb that gets them (design: exit codes).
const TABLE: [(ErrorName, &str, u8); 12] = [
    (ErrorName::Failed, "org.poolmaster.Failed", 1),
    (ErrorName::BadMessage, "org.poolmaster.BadMessage", 2),
    (ErrorName::UnknownMethod, "org.poolmaster.UnknownMethod", 2),
    (ErrorName::InvalidParameter, "org.poolmaster.InvalidParameter", 2),
    (ErrorName::NotFound, "org.poolmaster.NotFound", 2),
    (ErrorName::BadConfig, "org.poolmaster.BadConfig", 2),
    (ErrorName::RolledBack, "org.poolmaster.RolledBack", 3),
    (ErrorName::TimedOut, "org.poolmaster.TimedOut", 5),
    (ErrorName::NotPermitted, "org.poolmaster.NotPermitted", 6),
    (ErrorName::Refused, "org.poolmaster.Refused", 7),
    (ErrorName::Busy, "org.poolmaster.Busy", 1),
    (ErrorName::Internal, "org.poolmaster.Internal", 70),
];

impl ErrorName {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        TABLE.iter().find(|(n, ..)| *n == self).map_or("org.poolmaster.Internal", |(_, s, _)| s)
    }

    /// The exit code of a verb that gets it.
    pub fn code(self) -> u8 {
        TABLE.iter().find(|(n, ..)| *n == self).map_or(70, |(.., c)| *c)
    }
}

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its name on the wire: one of [`ErrorName`], or one that a newer master invented.
    pub error: String,
    /// The exit code for the verb.
    pub code: u8,
    /// The attempt, the object, the cause and the next step.
    pub message: String,
}

/// `parameters` of an error reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FailureParameters {
    #[serde(default = "one")]
    pub(super) code: u8,
    #[serde(default)]
    pub(super) message: String,
}

fn one() -> u8 {
    1
}

impl Failure {
    /// An error of this kind, with the exit code that belongs to it.
    pub fn new(name: ErrorName, message: impl Into<String>) -> Failure {
        Failure { error: name.as_str().to_owned(), code: name.code(), message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() { f.write_str(&self.error) } else { f.write_str(&self.message) }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_code_of_the_documented_set() {
        for (name, wire, code) in TABLE {
            assert_eq!((name.as_str(), name.code()), (wire, code));
            assert!([1, 2, 3, 5, 6, 7, 70].contains(&code), "{wire}");
            assert!(wire.starts_with("org.poolmaster."));
        }
    }
}
