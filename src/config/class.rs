//! Owns the change classes: what it costs to put another value of a key in force.

use std::fmt;

/// What a change of a key costs at a reload, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nothing that runs is touched: the value holds for what is started, opened or done from then on.
    None,
    /// Running workers and open sockets get it at once; nothing is replaced.
    Live,
    /// Workers are replaced by new ones.
    Rolling,
    /// Sockets are opened anew, and the workers that have them are replaced.
    Rebind,
    /// It takes a new master; until then the old value holds.
    Master,
}

impl Class {
    /// All of them, weakest first.
    pub const ALL: [Class; 5] = [Class::None, Class::Live, Class::Rolling, Class::Rebind, Class::Master];

    /// As the manual and `plan` have it.
    pub fn word(self) -> &'static str {
        match self {
            Class::None => "none",
            Class::Live => "live",
            Class::Rolling => "rolling",
            Class::Rebind => "rebind",
            Class::Master => "master",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
