//! Owns orders for another config until one of them begins: read one after the other, merged where they ask for the same, never lost.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::history::{Ended, Record};
use super::{Action, CommandId, ConfigSource, Outcome, PoolId, Supervisor, Time, What};

/// An order for another config.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wish {
    /// Which.
    pub(super) from: ConfigSource,
    /// The workers of unchanged pools too.
    pub(super) restart: bool,
    /// Only these pools. Empty: all.
    pub(super) pools: BTreeSet<PoolId>,
    /// Who ordered it, and how.
    pub(super) by: Vec<String>,
    /// It is wanted no more: what is read for it is left.
    pub(super) aborted: bool,
    /// Who waits for it.
    pub(super) orders: Vec<CommandId>,
    /// It comes by itself, for a reload failed after its commit: why.
    pub(super) failure: Option<String>,
}

impl Wish {
    pub(super) fn of(from: ConfigSource, by: String) -> Wish {
        Wish { from, restart: false, pools: BTreeSet::new(), by: vec![by], aborted: false, orders: Vec::new(), failure: None }
    }

    /// Does one for both of them.
    fn merge(&mut self, other: Wish) {
        self.restart |= other.restart;
        if self.pools.is_empty() || other.pools.is_empty() {
            self.pools.clear();
        } else {
            self.pools.extend(other.pools);
        }
        self.by.extend(other.by);
        self.orders.extend(other.orders);
    }

    /// A pool that it is about.
    pub(super) fn covers(&self, id: PoolId) -> bool {
        self.pools.is_empty() || self.pools.contains(&id)
    }
}

impl Supervisor {
    /// Takes an order. What is being read now may be older than what it is about, so it waits for a reading of its own.
    pub(super) fn wish(&mut self, wish: Wish, out: &mut Vec<Action>) {
        let waiting = self.wishes.len() - usize::from(self.reading);
        let same = |last: &&mut Wish| waiting > 0 && last.from == wish.from && last.failure.is_none() && !last.aborted;
        match self.wishes.back_mut().filter(same) {
            Some(last) => last.merge(wish),
            None => self.wishes.push_back(wish),
        }
        self.read_next(out);
    }

    /// Asks for the next config that is wanted.
    pub(super) fn read_next(&mut self, out: &mut Vec<Action>) {
        if self.reading || self.ending.is_some() {
            return;
        }
        if let Some(wish) = self.wishes.front() {
            self.reading = true;
            out.push(Action::ReadConfig { from: wish.from, pools: wish.pools.iter().copied().collect(), restart: wish.restart });
        }
    }

    /// The config cannot be used: nothing changes, and what runs goes on.
    pub(super) fn config_rejected(&mut self, now: Time, reason: &str, invalid: bool, out: &mut Vec<Action>) {
        let Some(wish) = self.take_wish() else { return };
        if self.ending.is_some() {
            return;
        }
        if wish.aborted {
            return self.read_next(out);
        }
        let text = match &wish.failure {
            Some(why) => format!("{why}; and the config before it cannot be put in force again: {reason}"),
            None => reason.to_owned(),
        };
        self.cx(now, out).note(super::Level::Error, None, None, What::ConfigRejected { reason: text.clone() });
        self.failed_at = Some((now, text.clone()));
        let ended = Some((now, Ended::Refused, text.clone()));
        self.history.begin(Record { revision: None, at: now, by: wish.by, changes: Vec::new(), ended });
        let stays = format!("nothing was changed, config {} stays in force", self.revision);
        for id in wish.orders {
            let outcome = match (&wish.failure, invalid) {
                (Some(_), _) => Outcome::Failed(text.clone()),
                (None, true) => Outcome::Invalid(format!("the new config cannot be used, {stays}: {reason}")),
                (None, false) => Outcome::RolledBack(format!("the new config cannot be put in force, {stays}: {reason}")),
            };
            self.finish(id, outcome, out);
        }
        self.read_next(out);
    }

    /// What is ordered and has not begun is wanted no more, but for a way back that is taken already. Gives how many there were.
    pub(super) fn abort_wishes(&mut self, out: &mut Vec<Action>) -> usize {
        let mut orders = Vec::new();
        let mut aborted = 0;
        let reading = self.reading;
        let mut first = true;
        self.wishes.retain_mut(|wish| {
            let being_read = std::mem::take(&mut first) && reading;
            if wish.failure.is_some() || wish.aborted {
                return true;
            }
            aborted += 1;
            orders.append(&mut wish.orders);
            wish.aborted = true;
            being_read
        });
        let text =
            format!("aborted by an operator before it was tried; nothing was changed, config {} stays in force", self.revision);
        orders.into_iter().for_each(|id| self.finish(id, Outcome::RolledBack(text.clone()), out));
        aborted
    }

    /// The wish whose config has come.
    pub(super) fn take_wish(&mut self) -> Option<Wish> {
        if !std::mem::take(&mut self.reading) {
            return None;
        }
        self.wishes.pop_front()
    }
}
