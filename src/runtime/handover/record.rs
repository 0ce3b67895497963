//! Owns the form of the state that one image of the master hands to the next: what is in it, as JSON, by names that only ever are added to. A
//! change that an older reader would misread takes another [`FORMAT`], and is then refused by name.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::files::FilesState;
use super::super::identity::Workers;
use crate::config::spec::{Address, Config, Pool};
use crate::os::handover::{BoundState, GroupState, ListeningState, Passed};
use crate::os::listener::ListenSpec;
use crate::os::unix::PeerCred;
use crate::supervisor::{CommandId, PoolId, Time, WorkerId};

/// What this version writes and reads.
pub(in super::super) const FORMAT: u32 = 1;

/// What is read first: by whom the rest was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Head {
    pub(in super::super) format: u32,
    /// The version of poolmaster.
    pub(in super::super) version: String,
    /// The master.
    pub(in super::super) pid: i32,
    /// When it stopped supervising, by the monotonic clock.
    pub(in super::super) at: Time,
}

/// All of it. `C`: the core.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Record<C> {
    #[serde(flatten)]
    pub(in super::super) head: Head,
    pub(in super::super) core: C,
    pub(in super::super) master: MasterState,
    /// By revision: the one in force, and one to go back to.
    pub(in super::super) configs: Vec<(u32, Config)>,
    /// What workers were started from.
    pub(in super::super) runs: Vec<RunState>,
    /// What new ones are, by their place in `runs`.
    pub(in super::super) current: BTreeMap<PoolId, usize>,
    pub(in super::super) sockets: Vec<SocketState>,
    pub(in super::super) processes: Vec<ProcessState>,
    pub(in super::super) files: FilesState,
    /// Sockets for acknowledgements.
    pub(in super::super) acks: BTreeMap<PoolId, BoundState>,
    /// Descriptors that workers left with the master.
    pub(in super::super) stored: Vec<StoredState>,
    pub(in super::super) clients: Vec<ClientState>,
    /// The order that this is done for.
    pub(in super::super) order: Option<OrderState>,
    /// The program before, to be gone back to.
    pub(in super::super) program: Option<Passed>,
}

/// What is the master's own.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct MasterState {
    pub(in super::super) revision: u32,
    pub(in super::super) last_revision: u32,
    pub(in super::super) in_force: BTreeSet<PoolId>,
    pub(in super::super) ids: BTreeMap<String, PoolId>,
    pub(in super::super) names: BTreeMap<PoolId, String>,
    pub(in super::super) not_applied: Vec<String>,
    pub(in super::super) socket_uids: Vec<u32>,
    pub(in super::super) started: Time,
    pub(in super::super) inherited_umask: u32,
    /// Limits as they were before the master raised them.
    pub(in super::super) nofile: Option<(u64, u64)>,
    pub(in super::super) sigpending: Option<(u64, u64)>,
    pub(in super::super) reset_signals: Vec<i32>,
    pub(in super::super) next_command: u64,
    pub(in super::super) commands: BTreeMap<CommandId, u64>,
    pub(in super::super) reload_orders: BTreeSet<CommandId>,
    pub(in super::super) reopen_orders: BTreeSet<CommandId>,
    pub(in super::super) next_notify: u64,
    pub(in super::super) stillborn: BTreeSet<i32>,
    pub(in super::super) command_line: Vec<OsString>,
    /// The service manager was told that it is ready.
    pub(in super::super) told_ready: bool,
}

/// What is fixed for a pool by one config.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct RunState {
    pub(in super::super) config: Pool,
    /// By their place in `sockets`.
    pub(in super::super) sockets: Vec<usize>,
    pub(in super::super) workers: Workers,
    pub(in super::super) dir: PathBuf,
    pub(in super::super) notify_dir: PathBuf,
    pub(in super::super) instance: String,
    /// The hook before its first worker is done.
    pub(in super::super) prepared: bool,
    pub(in super::super) files: Vec<(PathBuf, Option<u64>)>,
}

/// An open listener.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct SocketState {
    pub(in super::super) address: Address,
    pub(in super::super) origin: String,
    pub(in super::super) inherited: Option<String>,
    pub(in super::super) listening: ListeningState,
    /// Workers may have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) slots: Option<SlotsState>,
}

/// The sockets of slots that share a port.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct SlotsState {
    pub(in super::super) group: GroupState,
    /// What one more is opened by.
    pub(in super::super) spec: ListenSpec,
    /// For which slot of which pool each member was opened.
    pub(in super::super) owners: BTreeMap<u32, (PoolId, u32)>,
    /// The config in force has it so.
    pub(in super::super) wanted: bool,
}

/// A worker's process.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct ProcessState {
    pub(in super::super) id: WorkerId,
    pub(in super::super) pid: i32,
    /// By its place in `runs`.
    pub(in super::super) run: usize,
    pub(in super::super) notify: Option<BoundState>,
    pub(in super::super) ready: Option<Passed>,
    pub(in super::super) stdout: Option<CaptureState>,
    pub(in super::super) stderr: Option<CaptureState>,
    /// Its last lines.
    pub(in super::super) tail: Vec<Vec<u8>>,
    pub(in super::super) exited: bool,
    pub(in super::super) told_to_stop: bool,
    /// Which member of each of its listeners with one for each slot it has: by the listener's place in `sockets`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in super::super) seats: Vec<(usize, u32)>,
}

/// The reading end of a worker's output.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct CaptureState {
    pub(in super::super) fd: Passed,
    /// The line that has no end yet.
    pub(in super::super) partial: Vec<u8>,
}

/// A descriptor that a worker left with the master.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct StoredState {
    pub(in super::super) pool: PoolId,
    pub(in super::super) slot: u32,
    pub(in super::super) name: String,
    pub(in super::super) watch: bool,
    pub(in super::super) fd: Passed,
}

/// A client of the control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct ClientState {
    pub(in super::super) number: u64,
    pub(in super::super) fd: Passed,
    pub(in super::super) peer: PeerCred,
    /// What it has sent and was not looked at yet.
    pub(in super::super) input: Vec<u8>,
    /// What it was sent and has not taken yet.
    pub(in super::super) output: Vec<u8>,
    /// The order that it waits for.
    pub(in super::super) order: Option<CommandId>,
}

/// The order to upgrade.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct OrderState {
    /// Who waits for its end.
    pub(in super::super) client: Option<u64>,
    /// Who gave it, in words.
    pub(in super::super) by: String,
}
