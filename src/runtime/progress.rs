//! Owns what is told of workers being replaced: to `status`, and step by step to clients that wait for it.

use super::master::Master;
use std::time::SystemTime;

use crate::os::clock::wall;
use crate::protocol::{HistoryEntry, HistoryReply, PoolProgress, ProgressReply, ReloadFailure, ReloadStage, encode_reply};
use crate::supervisor::{self, Command, PoolId, Record, Time};

/// What a client follows while it waits for its order.
#[derive(Debug)]
pub(super) struct Watch {
    /// The pools of a restart. `None`: the reload.
    pools: Option<Vec<PoolId>>,
    /// What it was told last.
    told: Option<ProgressReply>,
}

/// A client that has so much unread is told of no steps.
const UNREAD: usize = 64 * 1024;

impl Watch {
    /// Of an order that has steps.
    pub(super) fn of(command: &Command) -> Option<Watch> {
        let pools = match command {
            Command::Reload { .. } | Command::Rollback => None,
            Command::Restart { targets } => {
                let mut pools: Vec<PoolId> = targets.iter().map(|target| target.pool).collect();
                pools.dedup();
                Some(pools)
            }
            Command::Scale { .. }
            | Command::Stop { .. }
            | Command::Start { .. }
            | Command::Kill { .. }
            | Command::Wait { .. }
            | Command::Retry { .. }
            | Command::Abort
            | Command::Reopen
            | Command::Shutdown { .. } => return None,
        };
        Some(Watch { pools, told: None })
    }
}

impl Master {
    /// The reload under way.
    pub(super) fn reload_status(&self) -> Option<ProgressReply> {
        let (stage, revision, pools) = self.core.reload_progress()?;
        let pools = pools.iter().map(|p| self.pool_progress(p)).collect();
        Some(ProgressReply { stage, revision, pools })
    }

    /// The last one, if it failed.
    pub(super) fn reload_failure(&self) -> Option<ReloadFailure> {
        let (at, reason) = self.core.reload_failure()?;
        let ago = Master::now() - at;
        let reason = format!("{reason}{}", self.last_words());
        Some(ReloadFailure { ago_ms: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX), reason })
    }

    /// The last configs.
    pub(super) fn history(&self) -> HistoryReply {
        let (now, wall) = (Master::now(), wall());
        let at = |at: Time| {
            let since = wall.checked_sub(now - at).and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            since.map_or(0, |since| since.as_secs())
        };
        let entry = |record: &Record| HistoryEntry {
            revision: record.revision,
            at: at(record.at),
            by: record.by.clone(),
            changes: record.changes.clone(),
            ended: record.ended.as_ref().map(|(_, how, _)| *how),
            took_ms: record.ended.as_ref().map(|(until, ..)| u64::try_from((*until - record.at).as_millis()).unwrap_or(u64::MAX)),
            words: record.ended.as_ref().map(|(.., words)| words.clone()).unwrap_or_default(),
        };
        HistoryReply { revision: self.revision, configs: self.core.history().map(entry).collect() }
    }

    /// What the canaries of the last reload that failed have said, for the end of a message.
    pub(super) fn last_words(&self) -> String {
        let said = self.canary_words.iter().map(|(who, lines)| format!("\n{who}:\n    {}", lines.join("\n    ")));
        said.collect()
    }

    /// Tells those who wait what has changed.
    pub(super) fn tell_progress(&mut self) {
        if !self.clients.has_watchers() {
            return;
        }
        for number in self.clients.watchers() {
            let Some(watch) = self.clients.get_mut(number).and_then(|client| client.watch.take()) else { continue };
            let now = match (&watch.pools, &watch.told) {
                (Some(pools), _) => self.restart_progress(pools),
                (None, told) => self.reload_status().or_else(|| told.as_ref().map(|told| self.drain_progress(told))),
            };
            let news = now.filter(|now| watch.told.as_ref() != Some(now));
            let Some(client) = self.clients.get_mut(number) else { continue };
            let unread = client.unsent();
            client.watch = Some(Watch { pools: watch.pools, told: news.clone().or(watch.told) });
            if let Some(line) = news.filter(|_| unread < UNREAD).and_then(|news| encode_reply(&news, true).ok()) {
                self.clients.send(number, &line);
            }
        }
    }

    fn pool_progress(&self, p: &supervisor::PoolProgress) -> PoolProgress {
        PoolProgress {
            name: self.ids.name_of(p.pool),
            stage: p.stage,
            replaced: p.replaced,
            total: p.total,
            starting: p.starting,
            draining: p.draining,
            left_ms: p.left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    fn restart_progress(&self, pools: &[PoolId]) -> Option<ProgressReply> {
        let pools: Vec<supervisor::PoolProgress> = pools.iter().filter_map(|id| self.core.roll_progress(*id)).collect();
        let stage = pools.iter().map(|p| p.stage).min()?;
        Some(ProgressReply { stage, revision: self.revision, pools: pools.iter().map(|p| self.pool_progress(p)).collect() })
    }

    /// The reload is over, its old workers may still be there.
    fn drain_progress(&self, told: &ProgressReply) -> ProgressReply {
        let of = |p: &PoolProgress| {
            let id = self.ids.of_name(&p.name)?;
            self.core.roll_progress(id).map(|now| self.pool_progress(&now))
        };
        let pools: Vec<PoolProgress> = told.pools.iter().filter_map(of).collect();
        let stage = pools.iter().map(|p| p.stage).min().unwrap_or(ReloadStage::Done);
        ProgressReply { stage, revision: told.revision, pools }
    }
}
