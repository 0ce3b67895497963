//! Owns the validated result of all layers: what the core is told ([`crate::supervisor::PoolSpec`]) and what the runtime
//! needs to start workers and open sockets. No strings are left to interpret but the templates named as such.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::supervisor::{MasterSpec, PoolSpec};

/// A whole config, ready to be put in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it came from; `None`: only flags.
    pub path: Option<PathBuf>,
    /// The master's own settings.
    pub master: Master,
    /// The pools, in the order of the file.
    pub pools: Vec<Pool>,
    /// What is suspicious but no error, in words, with its place.
    pub warnings: Vec<String>,
    /// What it asks for and this version does not have, in words, with its place. A config with any of it is not put in force.
    pub not_yet: Vec<String>,
}

/// The master's own settings.
#[derive(Clone, Debug)]
pub struct Master {
    /// Instance name.
    pub name: String,
    /// What the core has to know.
    pub spec: MasterSpec,
    /// Runtime directory.
    pub runtime_dir: PathBuf,
    /// Pid file.
    pub pidfile: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Its permission bits.
    pub socket_mode: u32,
    /// User ids that may connect, beside root and the master's own.
    pub socket_uids: Vec<u32>,
    /// File mode mask of the master and its workers.
    pub umask: Option<u32>,
    /// False: workers go on when the master dies.
    pub stop_with_master: bool,
    /// The master's log.
    pub log: MasterLog,
    /// Record the core's events here.
    pub trace: Option<PathBuf>,
}

/// The master's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterLog {
    /// error, warn, info, debug, trace.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
    /// A file instead of stderr.
    pub file: Option<PathBuf>,
}

/// One pool.
#[derive(Clone, Debug)]
pub struct Pool {
    /// What the core is told.
    pub spec: PoolSpec,
    /// How a worker is started.
    pub launch: Launch,
    /// Its listeners, in the order of their descriptors (3, 4, ...).
    pub listeners: Vec<Listener>,
    /// Real-time signals to the master.
    pub signals: ScaleSignals,
}

/// Signals to the master that belong to one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScaleSignals {
    /// One worker more.
    pub up: Option<i32>,
    /// One worker fewer.
    pub down: Option<i32>,
    /// Replace all workers.
    pub restart: Option<i32>,
}

/// How a worker is started. `argv` and the values of `env` are templates: `{pool}`, `{slot}`, `{generation}`, `{fd}`, `{fd:NAME}`,
/// `{cpus}` and `{runtime}` are filled in at each spawn by [`crate::config::template`]; `${VAR}` is already resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments. Never empty.
    pub argv: Vec<String>,
    /// Working directory; `None`: the master's.
    pub working_dir: Option<PathBuf>,
    /// Variables to set (`Some`) or to remove (`None`).
    pub env: Vec<(String, Option<String>)>,
    /// Where stdout goes.
    pub stdout: Output,
    /// Where stderr goes.
    pub stderr: Output,
    /// Captured lines: longest, in bytes.
    pub max_line: usize,
    /// The worker speaks the systemd protocols: LISTEN_FDS, NOTIFY_SOCKET, WATCHDOG_USEC are set.
    pub systemd: bool,
}

/// Where a worker's stdout or stderr goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To the master's own.
    Inherit,
    /// To /dev/null.
    Null,
    /// To the master, which relays it line by line and keeps the last lines for reports.
    Capture,
    /// To where stderr goes (stdout only... of `stdout`).
    Stderr,
    /// To where stdout goes (of `stderr`).
    Stdout,
    /// To this file, appended.
    File(PathBuf),
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name in the config, LISTEN_FDNAMES and `{fd:NAME}`.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Length of the accept queue.
    pub backlog: u32,
    /// O_NONBLOCK on the shared description.
    pub nonblocking: bool,
    /// TCP_NODELAY, inherited by accepted sockets.
    pub nodelay: bool,
    /// Permission bits of a Unix socket; `None`: by the umask.
    pub mode: Option<u32>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// TCP; `dual` on `[::]`: IPv4 as well.
    Tcp {
        /// Address and port.
        addr: SocketAddr,
        /// IPV6_V6ONLY is off.
        dual: bool,
    },
    /// A Unix stream socket at this path.
    Unix(PathBuf),
}
