//! Owns what signals to the master mean. Scale signals of one turn come summed: the sum is clamped once.

use super::pool::Pool;
use super::shutdown::Manner;
use super::wishes::Wish;
use super::{Action, ConfigSource, Level, MasterSignal, OnHup, Phase, PoolId, Reason, Sender, Supervisor, Time, What};

impl Supervisor {
    pub(super) fn signal(&mut self, now: Time, signal: MasterSignal, sender: Sender, out: &mut Vec<Action>) {
        let tell = |core: &mut Supervisor, level: Level, effect: &str, out: &mut Vec<Action>| {
            let effect = effect.to_owned();
            core.cx(now, out).note(level, None, None, What::Signal { signal, sender, effect });
        };
        if self.ending.is_some()
            && !matches!(signal, MasterSignal::Term | MasterSignal::Int | MasterSignal::Quit | MasterSignal::Usr1)
        {
            return tell(self, Level::Info, "ignored, the master is shutting down", out);
        }
        let by = |signal: MasterSignal| format!("{}, from {sender}", signal.name());
        match signal {
            MasterSignal::Term => self.stop_signal(now, Manner::Graceful, signal.name(), sender, out),
            MasterSignal::Int | MasterSignal::Quit => self.stop_signal(now, Manner::Quick, signal.name(), sender, out),
            MasterSignal::Hup => match self.master.as_ref().map_or(OnHup::Ignore, |m| m.hup) {
                OnHup::Restart => {
                    tell(self, Level::Info, "re-reading the config, then replacing all workers", out);
                    self.wish(Wish { restart: true, ..Wish::of(ConfigSource::File, by(signal)) }, out);
                }
                OnHup::Reload => {
                    tell(self, Level::Info, "re-reading the config, then replacing what it changes", out);
                    self.wish(Wish::of(ConfigSource::File, by(signal)), out);
                }
                OnHup::Ignore => tell(self, Level::Info, "ignored (master.signals.hup)", out),
            },
            MasterSignal::Ttin if self.unpark(now, out) => tell(self, Level::Info, "parked pools run again", out),
            MasterSignal::Ttin | MasterSignal::Ttou => match self.default_pool() {
                Some(pool) => {
                    let by = if signal == MasterSignal::Ttin { 1 } else { -1 };
                    self.scale_by_signal(now, pool, by, sender, out);
                }
                None => tell(
                    self,
                    Level::Warn,
                    "ignored: with several pools, master.default_pool has to say which one it is for",
                    out,
                ),
            },
            MasterSignal::Usr1 => {
                tell(self, Level::Info, "reopening log files", out);
                self.reopen(now, out);
            }
            MasterSignal::Usr2 if self.reload.is_some() || self.reading || self.pools.values().any(Pool::is_rolling) => {
                tell(self, Level::Warn, "ignored: workers are being replaced; send it again once that is done", out);
            }
            MasterSignal::Usr2 => out.push(Action::SecondMaster { sender }),
            MasterSignal::Winch if self.master.as_ref().is_some_and(|m| m.winch_parks) => {
                tell(
                    self,
                    Level::Info,
                    "parking all pools: workers stop, listeners stay; HUP, TTIN or start bring them back",
                    out,
                );
                self.park(now, out);
            }
            MasterSignal::Winch => tell(self, Level::Debug, "ignored (master.signals.winch)", out),
        }
    }

    fn default_pool(&self) -> Option<PoolId> {
        let only = if self.order.len() == 1 { self.order.first().copied() } else { None };
        self.master.as_ref()?.default_pool.or(only)
    }

    /// One turn's scale signals for one pool.
    pub(super) fn scale_by_signal(&mut self, now: Time, id: PoolId, by: i64, sender: Sender, out: &mut Vec<Action>) {
        if self.ending.is_some() || by == 0 {
            return;
        }
        let Some(pool) = self.pools.get(&id) else { return };
        let from = pool.target();
        let wish = i64::from(from).saturating_add(by);
        let floor = pool.spec.min.max(1).min(from);
        let ceiling = pool.spec.max.unwrap_or(super::commands::MOST_WORKERS).max(from);
        let to = u32::try_from(wish.clamp(i64::from(floor), i64::from(ceiling))).unwrap_or(from);
        if i64::from(to) != wish {
            let bound = match (by > 0, pool.spec.max) {
                (true, Some(max)) => format!("scale.max is {max}"),
                (true, None) => format!("no pool has more than {}", super::commands::MOST_WORKERS),
                (false, _) => format!("signals stop at {floor}; `poolmaster scale {} 0` goes to none", pool.spec.name),
            };
            self.cx(now, out).note(Level::Warn, Some(id), None, What::Clamped { wish, to, bound });
        }
        if to != from {
            self.on_pool(now, id, out, |p, cx| p.set_operator(cx, Some(to), format!("signal from {sender}")));
        }
    }

    /// A pool's restart signal.
    pub(super) fn restart_by_signal(&mut self, now: Time, id: PoolId, sender: Sender, out: &mut Vec<Action>) {
        if self.ending.is_some() {
            return;
        }
        let command = "restart by signal".to_owned();
        self.cx(now, out).note(Level::Info, Some(id), None, What::Commanded { command, sender });
        let edition = self.fresh_edition();
        self.on_pool(now, id, out, |p, cx| {
            // What is being tried replaces all of them anyhow, if it is any good.
            if p.may_roll() && !p.is_trying() {
                p.roll_all(cx, edition);
            }
        });
    }

    /// Workers stop, listeners and configured counts stay.
    fn park(&mut self, now: Time, out: &mut Vec<Action>) {
        for planned in self.reload.iter_mut().flat_map(|reload| reload.plan.values_mut()) {
            planned.unpark = false;
        }
        for id in self.order.clone() {
            self.on_pool(now, id, out, |p, cx| match p.phase {
                Phase::Running | Phase::BackingOff | Phase::Waiting => p.halt(cx, Phase::Parked, Reason::Parked),
                Phase::Stopped | Phase::Parked | Phase::Failed | Phase::Completed | Phase::Removed => {}
            });
        }
    }

    /// Brings parked pools back; false when there is none.
    fn unpark(&mut self, now: Time, out: &mut Vec<Action>) -> bool {
        let parked: Vec<PoolId> =
            self.order.iter().filter(|id| self.pools.get(id).is_some_and(|p| p.phase == Phase::Parked)).copied().collect();
        for id in &parked {
            self.start_in_order(now, *id, out);
        }
        !parked.is_empty()
    }

    /// Log files are reopened; workers that asked for it are told.
    pub(super) fn reopen(&mut self, now: Time, out: &mut Vec<Action>) {
        out.push(Action::ReopenLogs);
        for id in self.order.clone() {
            self.on_pool(now, id, out, |p, cx| p.pass_reopen(cx));
        }
    }
}
