//! Owns the way from a request to an order for the core, or to an answer at once. Names become ids here.

use super::clients::Awaits;
use super::master::Master;
use crate::protocol::{Call, ErrorName, Failure, Pools, Request, Selector, encode_failure, encode_outcome, encode_reply};
use crate::supervisor::{Action, Command, CommandId, Event, Outcome, PoolId, Sender, Target};

impl Master {
    /// One request, read whole.
    pub(super) fn serve_request(&mut self, client: u64, frame: &[u8]) {
        let answer = Call::parse(frame).and_then(|call| self.answer(client, call.request, call.more));
        match answer {
            Ok(Some(line)) => self.clients.send(client, &line),
            Ok(None) => {}
            Err(failure) => self.clients.send(client, &encode_failure(&failure)),
        }
    }

    /// The reply at once, or `None` when the core will give it.
    fn answer(&mut self, client: u64, request: Request, more: bool) -> Result<Option<Vec<u8>>, Failure> {
        let patience = request.patience();
        let command = match request {
            Request::Info => return encode_reply(&self.info(), false).map(Some),
            Request::Status(p) => return encode_reply(&self.status(self.one(p.pool.as_deref())?, p.workers), false).map(Some),
            Request::Ps(p) => return encode_reply(&self.ps(self.one(p.pool.as_deref())?), false).map(Some),
            Request::Health(p) => return encode_reply(&self.health(self.one(p.pool.as_deref())?), false).map(Some),
            Request::Listeners(p) => return encode_reply(&self.listeners(self.one(p.pool.as_deref())?), false).map(Some),
            Request::History => return encode_reply(&self.history(), false).map(Some),
            Request::Signals => return encode_reply(&self.signals(), false).map(Some),
            Request::Scale(p) => Command::Scale { pool: self.pool_id(&p.pool)?, change: p.change },
            Request::Stop(p) => Command::Stop { pools: self.pool_ids(&p.pools)? },
            Request::Start(p) => Command::Start { pools: self.pool_ids(&p.pools)? },
            Request::Restart(p) => Command::Restart { targets: self.targets(&p.targets)? },
            Request::Kill(p) => match self.targets(std::slice::from_ref(&p.target))?[..] {
                [target] => Command::Kill { target, signal: p.signal },
                _ => return Err(Failure::new(ErrorName::InvalidParameter, "kill is for one pool or one slot at a time")),
            },
            Request::Wait(p) => Command::Wait { pool: self.pool_id(&p.pool)?, until: p.until },
            Request::Retry(p) => Command::Retry { pool: self.pool_id(&p.pool)? },
            Request::Plan(p) => {
                let uid = self.clients.get_mut(client).map(|client| client.peer.uid);
                let trusted = uid.is_some_and(|uid| uid == 0 || uid == self.uid);
                self.begin_plan(client, p, trusted)?;
                if let Some(client) = self.clients.get_mut(client) {
                    client.waiting = Some(Awaits::Plan);
                }
                return Ok(None);
            }
            Request::Reload(p) => {
                let pools = p.pools.iter().map(|name| self.ids.named(name)).collect();
                Command::Reload { restart: p.restart, pools }
            }
            Request::Abort(_) => Command::Abort,
            Request::Upgrade(p) => {
                let uid = self.clients.get_mut(client).map(|client| client.peer.uid);
                let trusted = uid.is_some_and(|uid| uid == 0 || uid == self.uid);
                self.begin_upgrade(client, &p, trusted)?;
                return Ok(None);
            }
            Request::Rollback(_) => Command::Rollback,
            Request::Reopen => Command::Reopen,
            Request::Shutdown(p) => Command::Shutdown { now: p.now },
        };
        let id = CommandId(self.next_command);
        self.next_command += 1;
        let Some(waiting) = self.clients.get_mut(client) else { return Ok(None) };
        let sender =
            Sender { pid: if waiting.peer.pid == 0 { Sender::OUTSIDE } else { waiting.peer.pid }, uid: waiting.peer.uid };
        waiting.waiting = Some(Awaits::Order(id));
        waiting.watch = super::progress::Watch::of(&command).filter(|_| more && patience.wait);
        self.commands.insert(id, client);
        if matches!(command, Command::Reload { .. } | Command::Rollback) {
            self.reload_orders.insert(id);
        }
        if matches!(command, Command::Reopen) {
            self.reopen_orders.insert(id);
        }
        self.feed(Event::Command { id, command, sender, timeout: patience.timeout });
        if !patience.wait && !self.has_reply(id) {
            // Taken and not refused: that is all this client wants to know.
            self.feed(Event::Abandoned { id });
            self.forget_order(id);
            if let Some(client) = self.clients.get_mut(client) {
                client.waiting = None;
            }
            return Ok(Some(encode_outcome(&Outcome::Done("ordered; it goes on".to_owned()))));
        }
        Ok(None)
    }

    fn has_reply(&self, id: CommandId) -> bool {
        self.actions.iter().any(|a| matches!(a, Action::Reply { id: replied, .. } if *replied == id))
    }

    /// The core's answer to an order.
    pub(super) fn reply(&mut self, id: CommandId, outcome: &Outcome) {
        let reload = self.reload_orders.remove(&id);
        let reopened = self.reopen_orders.remove(&id).then(|| self.log_reopened.clone()).flatten();
        let reopened = reopened.map(|how| how.map_or_else(Outcome::Failed, Outcome::Done));
        let outcome = reopened.as_ref().filter(|_| matches!(outcome, Outcome::Done(_))).unwrap_or(outcome);
        let Some(client) = self.commands.remove(&id) else { return };
        let not_applied = self.not_applied.join(", ");
        if let Some(waiting) = self.clients.get_mut(client) {
            waiting.waiting = None;
            waiting.watch = None;
            // What it sent behind that request is served in the next turn.
            let line = match outcome {
                Outcome::RolledBack(text) => encode_outcome(&Outcome::RolledBack(format!("{text}{}", self.last_words()))),
                // What it did not do is said by the verb too, not in the log alone.
                Outcome::Done(text) if reload && !not_applied.is_empty() => encode_outcome(&Outcome::Done(format!(
                    "{text}; the old value holds until the master is started anew: {not_applied}"
                ))),
                other => encode_outcome(other),
            };
            self.clients.send(client, &line);
        }
    }

    /// Nobody waits for its reply.
    pub(super) fn forget_order(&mut self, id: CommandId) {
        self.commands.remove(&id);
        self.reload_orders.remove(&id);
        self.reopen_orders.remove(&id);
    }

    fn one(&self, name: Option<&str>) -> Result<Option<PoolId>, Failure> {
        // One that a reload under way only tries can be seen, and nothing else.
        let tried = |n: &str| self.ids.of_name(n).filter(|id| self.core.pool(*id).is_some());
        name.map(|n| tried(n).map_or_else(|| self.pool_id(n), Ok)).transpose()
    }

    fn pool_id(&self, name: &str) -> Result<PoolId, Failure> {
        self.names.iter().find(|(id, n)| n.as_str() == name && self.runs.contains_key(id)).map(|(id, _)| *id).ok_or_else(|| {
            let known: Vec<&str> = self.runs.keys().filter_map(|id| self.names.get(id)).map(String::as_str).collect();
            if self.ids.of_name(name).is_some_and(|id| self.core.pool(id).is_some()) {
                let words =
                    format!("pool {name} is not in force yet: a reload under way tries it; wait for its end (poolmaster status)");
                return Failure::new(ErrorName::Refused, words);
            }
            Failure::new(ErrorName::NotFound, format!("there is no pool {name:?} here; there is {}", known.join(", ")))
        })
    }

    /// Pools in config order.
    fn all(&self) -> Vec<PoolId> {
        self.core.pools().iter().map(|p| p.spec.id).filter(|id| self.runs.contains_key(id)).collect()
    }

    fn pool_ids(&self, pools: &Pools) -> Result<Vec<PoolId>, Failure> {
        match pools {
            Pools::All => Ok(self.all()),
            Pools::Named(names) => names.iter().map(|n| self.pool_id(n)).collect(),
        }
    }

    fn targets(&self, selectors: &[Selector]) -> Result<Vec<Target>, Failure> {
        let mut targets = Vec::new();
        for selector in selectors {
            match selector {
                Selector::All => targets.extend(self.all().into_iter().map(|pool| Target { pool, slot: None })),
                Selector::Pool(name) => targets.push(Target { pool: self.pool_id(name)?, slot: None }),
                Selector::Slot { pool, slot } => targets.push(Target { pool: self.pool_id(pool)?, slot: Some(*slot) }),
            }
        }
        Ok(targets)
    }
}
