//! Owns the record of reloads: which configs there were, who ordered them, what they changed, and how it ended.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Supervisor, Time};

/// So many are remembered.
pub const REMEMBERED: usize = 20;

/// One config that was tried, or refused before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number. `None`: it never had one.
    pub revision: Option<u32>,
    /// When it was read.
    pub at: Time,
    /// Who wanted it.
    pub by: Vec<String>,
    /// What it changes, one line each.
    pub changes: Vec<String>,
    /// How and when it ended. `None`: it is under way.
    pub ended: Option<(Time, Ended, String)>,
}

/// How a reload has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It came in force, with all its workers.
    InForce,
    /// The config, or the host, did not let it be tried.
    Refused,
    /// Undone before it came in force.
    Undone,
    /// It came in force and failed, and the config before was brought back.
    RolledBack,
    /// It is in force, but not all workers are replaced.
    Halted,
    /// A newer one took its place.
    Superseded,
}

impl Ended {
    /// The word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Ended::InForce => "in-force",
            Ended::Refused => "refused",
            Ended::Undone => "undone",
            Ended::RolledBack => "rolled-back",
            Ended::Halted => "halted",
            Ended::Superseded => "superseded",
        }
    }
}

/// The last ones, the oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct History(VecDeque<Record>);

impl History {
    pub(super) fn begin(&mut self, record: Record) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    /// What happened later says more.
    pub(super) fn end(&mut self, now: Time, revision: u32, ended: Ended, words: &str) {
        if let Some(record) = self.0.iter_mut().rev().find(|record| record.revision == Some(revision)) {
            record.ended = Some((now, ended, words.to_owned()));
        }
    }
}

impl Supervisor {
    /// The last configs, the oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Record> {
        self.history.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut history = History::default();
        for revision in 1..=30 {
            let record = Record { revision: Some(revision), at: Time(0), by: Vec::new(), changes: Vec::new(), ended: None };
            history.begin(record);
        }
        history.end(Time(5), 30, Ended::Undone, "why");
        history.end(Time(6), 3, Ended::Undone, "forgotten");
        let revisions: Vec<u32> = history.0.iter().filter_map(|record| record.revision).collect();
        assert_eq!(revisions, (11..=30).collect::<Vec<u32>>());
        let ended: Vec<_> = history.0.iter().filter_map(|record| record.ended.clone()).collect();
        assert_eq!(ended, [(Time(5), Ended::Undone, "why".to_owned())]);
    }
}
