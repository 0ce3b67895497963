//! Owns the master's state: the core, and everything that the core's ids stand for on this host.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::rc::Rc;

use super::accounts::Accounts;
use super::acks::Acks;
use super::clients::Clients;
use super::daemon::Report;
use super::fdstore::FdStore;
use super::files::Files;
use super::handed::Handed;
use super::hooks::{Hooks, Preparing};
use super::launch::Common;
use super::linger::Lingering;
use super::looks::Looks;
use super::notify::NotifySockets;
use super::output::Leftover;
use super::pools::{Ids, PoolRun};
use super::processes::Processes;
use super::reading::Reading;
use super::sabotage::Sabotage;
use super::second::Second;
use super::service::Service;
use super::signals::SignalMap;
use super::sockets::Socket;
use super::staging::Staged;
use super::steer::Steering;
use super::throttle::Throttle;
use super::trace::Trace;
use super::upgrade::Upgrade;
use crate::config::spec;
use crate::os::epoll::Epoll;
use crate::os::signals::SignalFd;
use crate::supervisor::{Action, CommandId, Event, Note, PoolId, Supervisor, Time, WorkerId};
use crate::telemetry::{Log, Relay};

/// Everything.
pub(super) struct Master {
    pub(super) core: Supervisor,
    /// What the core asked for and what has not been done yet, in its order.
    pub(super) actions: VecDeque<Action>,
    /// What the core had to say, until the deeds of the same turn are done.
    pub(super) notes: VecDeque<Note>,
    /// Facts that came of doing it, for the core's next turn.
    pub(super) facts: VecDeque<Event>,
    pub(super) trace: Option<Trace>,

    pub(super) epoll: Epoll,
    /// Captured pipes, within `epoll`: however many are ready, nothing else is behind them.
    pub(super) outputs: Epoll,
    pub(super) signal_fd: SignalFd,
    pub(super) signal_map: SignalMap,
    pub(super) has_terminal: bool,

    pub(super) config: spec::Master,
    /// Users that may give orders, beside root and our own.
    pub(super) socket_uids: Vec<u32>,
    pub(super) config_path: Option<std::path::PathBuf>,
    /// Until it is installed.
    pub(super) first_config: Option<spec::Config>,
    /// Of the config in force.
    pub(super) revision: u32,
    /// Its pools.
    pub(super) pools_in_force: BTreeSet<PoolId>,
    /// The last one given out.
    pub(super) last_revision: u32,
    /// The config in force, and one to go back to.
    pub(super) configs: BTreeMap<u32, Rc<spec::Config>>,
    /// Workers that could not bind an address, until their end was told.
    pub(super) wanted_our_port: BTreeSet<WorkerId>,
    /// What is known of the accounts of the one in force.
    pub(super) accounts: Accounts,
    /// Configs that are ready to be put in force.
    pub(super) staged: BTreeMap<u32, Staged>,
    /// What the canaries of the last reload said before their end, by who they were.
    pub(super) canary_words: Vec<(String, Vec<String>)>,
    pub(super) reading: Reading,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) ids: Ids,
    pub(super) names: BTreeMap<PoolId, String>,
    /// The newest of each pool; workers hold the ones they were started from.
    pub(super) runs: BTreeMap<PoolId, Rc<PoolRun>>,

    pub(super) processes: Processes,
    pub(super) notify_sockets: NotifySockets,
    /// Children that never came to run their program and are not reaped yet.
    pub(super) stillborn: BTreeSet<i32>,
    pub(super) common: Common,

    pub(super) looks: Looks,
    pub(super) lingering: Lingering,
    pub(super) steering: Steering,
    pub(super) hooks: Hooks,
    /// What hooks hold back.
    pub(super) preparing: Preparing,
    /// The first config, while the hook before it runs.
    pub(super) held_config: Option<Event>,
    /// Who waits to hear that this daemon is ready.
    pub(super) report: Option<Report>,
    pub(super) service: Service,
    pub(super) acks: Acks,
    pub(super) fdstore: FdStore,
    /// Sockets that the master was started with and nobody has taken yet.
    pub(super) handed: Handed,
    /// The other one of two masters.
    pub(super) second: Second,
    /// Another program is to take the place of this one.
    pub(super) upgrade: Option<Upgrade>,
    pub(super) clients: Clients,
    pub(super) throttle: Throttle,
    pub(super) commands: BTreeMap<CommandId, u64>,
    pub(super) next_command: u64,

    pub(super) files: Files,
    pub(super) log: Log,
    pub(super) relay: Relay,
    /// The process whose notify socket was read last.
    pub(super) notified_last: u64,
    pub(super) leftovers: VecDeque<Leftover>,
    /// Until when this turn shows what ended workers have left.
    pub(super) last_words_until: Time,
    pub(super) pid: i32,
    pub(super) uid: u32,
    pub(super) started: Time,
    /// As it was at the start, for a config that sets none.
    pub(super) inherited_umask: u32,
    /// Keys of the config in force of which an older value holds, until the master is started anew.
    pub(super) not_applied: Vec<String>,
    /// Orders whose reply names them.
    pub(super) reload_orders: BTreeSet<CommandId>,
    /// How the last try to open the log file anew ended, and the orders that asked for one.
    pub(super) log_reopened: Option<Result<String, String>>,
    pub(super) reopen_orders: BTreeSet<CommandId>,
    pub(super) sabotage: Sabotage,
    /// The core's last word.
    pub(super) exit: Option<(i32, String)>,
}

impl Master {
    /// The monotonic clock, as the core's time.
    pub(super) fn now() -> Time {
        Time(crate::os::clock::now())
    }

    /// Hands one fact to the core and queues what it asks for.
    pub(super) fn feed(&mut self, event: Event) {
        let now = Master::now();
        let mut out = Vec::new();
        match &mut self.trace {
            None => self.core.handle(now, event, &mut out),
            Some(trace) => {
                self.core.handle(now, event.clone(), &mut out);
                trace.turn(now, &event, &out);
            }
        }
        self.actions.extend(out);
    }

    /// Hands over the facts that came of the last actions.
    pub(super) fn feed_facts(&mut self) {
        while let Some(event) = self.facts.pop_front() {
            self.feed(event);
        }
    }

    /// The pool's name, for people.
    pub(super) fn name_of(&self, id: PoolId) -> String {
        // One that is only tried is not in force yet.
        self.names.get(&id).cloned().unwrap_or_else(|| self.ids.name_of(id))
    }

    /// Sockets that are open for any pool, of this config or of an earlier one.
    pub(super) fn open_sockets(&self) -> Vec<Rc<Socket>> {
        let staged = self.staged.values().flat_map(|staged| staged.runs.values());
        let current = self.runs.values().chain(staged).flat_map(|r| r.sockets.iter());
        let held = self.processes.all().flat_map(|p| p.run.sockets.iter());
        let mut seen = BTreeSet::new();
        current.chain(held).chain(self.second.sockets()).filter(|socket| seen.insert(Rc::as_ptr(socket))).cloned().collect()
    }
}
