//! Owns the validated result of all layers: what the core is told ([`crate::supervisor::PoolSpec`]) and what the runtime
//! needs to start workers and open sockets. No strings are left to interpret but the templates named as such.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::supervisor::{MasterSpec, PoolSpec};

/// A whole config, ready to be put in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// All of it as a config file, for a log at level debug; empty at the others.
    pub shown: String,
    /// Its keys as they were given, to be compared with those of another one.
    pub settings: super::diff::Settings,
}

/// The master's own settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Users that may connect, beside root and the master's own.
    pub socket_users: Vec<Account>,
    /// File mode mask of the master and its workers.
    pub umask: Option<u32>,
    /// False: workers go on when the master dies.
    pub stop_with_master: bool,
    /// The master's log.
    pub log: MasterLog,
    /// Record the core's events here.
    pub trace: Option<PathBuf>,
    /// It runs in the background.
    pub daemon: bool,
    /// Pools without listeners start in a second master beside the first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second_starts: bool,
    /// How long a start tries again for an address that is in use.
    pub bind_retry: Duration,
    /// Commands for its own moments.
    pub hooks: MasterHooks,
}

/// Commands for the master's moments; an empty one is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterHooks {
    /// Before the first pool starts; it has to succeed.
    pub starting: Vec<String>,
    /// Once everything is up.
    pub ready: Vec<String>,
    /// After each reload, however it ended.
    pub reload: Vec<String>,
    /// Before another program takes the place of the master's; it has to succeed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upgrade: Vec<String>,
    /// After the last worker is gone.
    pub exit: Vec<String>,
    /// The longest run of one.
    pub timeout: Duration,
}

/// Commands for a pool's moments: templates, filled in as `argv` is; an empty one is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Before the first worker under a config; it has to succeed.
    pub pre_start: Vec<String>,
    /// Before each worker; it has to succeed.
    pub pre_spawn: Vec<String>,
    /// When a worker's program runs.
    pub post_spawn: Vec<String>,
    /// When a worker is ready.
    pub ready: Vec<String>,
    /// Before the first stop signal, which waits for it.
    pub pre_stop: Vec<String>,
    /// After a worker ended.
    pub worker_exit: Vec<String>,
    /// When the number of workers was changed.
    pub scaled: Vec<String>,
    /// The longest run of one.
    pub timeout: Duration,
}

/// A user or a group, as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Account {
    /// By number.
    Id(u32),
    /// By name: looked up when the config is put in force.
    Name(String),
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Account::Id(id) => write!(f, "{id}"),
            Account::Name(name) => f.write_str(name),
        }
    }
}

/// A resource limit; `None`: unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// What holds.
    pub soft: Option<u64>,
    /// How far it may be raised.
    pub hard: Option<u64>,
}

/// The master's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterLog {
    /// error, warn, info, debug, trace.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
    /// A file instead of stderr.
    pub file: Option<PathBuf>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// What the core is told.
    pub spec: PoolSpec,
    /// How a worker is started.
    pub launch: Launch,
    /// Who it is, and what it may use.
    pub identity: Identity,
    /// Commands for its moments.
    pub hooks: Hooks,
    /// Its listeners, in the order of their descriptors (3, 4, ...).
    pub listeners: Vec<Listener>,
    /// Real-time signals to the master.
    pub signals: ScaleSignals,
}

/// Signals to the master that belong to one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Program and arguments. Never empty.
    pub argv: Vec<String>,
    /// Working directory; `None`: the master's.
    pub working_dir: Option<PathBuf>,
    /// Variables to set (`Some`) or to remove (`None`).
    pub env: Vec<(String, Option<String>)>,
    /// Start from these of the master's variables alone (a `*` at the end stands for any rest); `None`: from all.
    pub env_pass: Option<Vec<String>>,
    /// Files of variables, read at each spawn.
    pub env_files: Vec<EnvFile>,
    /// Variables whose values are in files, read at each spawn.
    pub secrets: Vec<(String, PathBuf)>,
    /// First word of the command as the program sees it; `None`: as in `argv`.
    pub argv0: Option<String>,
    /// Where stdout goes.
    pub stdout: Output,
    /// Where stderr goes.
    pub stderr: Output,
    /// Captured lines: longest, in bytes.
    pub max_line: usize,
    /// How sockets and readiness are spoken about.
    pub protocols: Protocols,
    /// How readiness is seen from outside; `None`: by the kernel's tables, if at all.
    pub look: Option<Look>,
}

/// The protocols that are spoken with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocols {
    /// LISTEN_FDS, NOTIFY_SOCKET and WATCHDOG_USEC are set.
    pub systemd: bool,
    /// LISTEN_PID is set with them; false: for wrappers that fork.
    pub listen_pid: bool,
    /// EINHORN_FD_0 and its like are set, and an acknowledgement is taken as "ready".
    pub einhorn: bool,
    /// SERVER_STARTER_PORT is set.
    pub server_starter: bool,
    /// The listener is descriptor 0.
    pub stdin: bool,
    /// A line written to the descriptor of this number says "ready", as s6 has it.
    pub ready_fd: Option<u32>,
    /// The workers listen themselves: slot 0 at this address, the others at the ports that follow.
    pub port: Option<SocketAddr>,
}

/// What is looked at from outside to see that a worker is ready: templates, filled in for each worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Look {
    /// An address that takes connections ([`crate::config::target::target`]).
    Tcp(String),
    /// A page that answers with 200 to 399 ([`crate::config::target::page`]).
    Http(String),
    /// A command that ends with 0.
    Command(Vec<String>),
}

/// A file of variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFile {
    /// Where.
    pub path: PathBuf,
    /// It need not be there.
    pub optional: bool,
}

/// Who a worker is, and what it may use. What is `None`, empty or false stays as the master has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub user: Option<Account>,
    /// Group; `None`: the user's own.
    pub group: Option<Account>,
    /// Supplementary groups; `None`: the user's.
    pub groups: Option<Vec<Account>>,
    /// File mode mask.
    pub umask: Option<u32>,
    /// Root directory.
    pub chroot: Option<PathBuf>,
    /// Scheduling priority, -20 to 19.
    pub nice: Option<i32>,
    /// How readily the kernel kills it when memory is out, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// CPUs, given to the slots in turn.
    pub cpus: Vec<u32>,
    /// No privileges can be gained by exec.
    pub no_new_privileges: bool,
    /// Numbers of the ambient capabilities; all others are dropped.
    pub capabilities: Option<Vec<u8>>,
    /// Resource limits.
    pub limits: Vec<(Resource, Bounds)>,
}

/// What a resource limit bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// Open files.
    OpenFiles,
    /// Size of a core file, bytes.
    Core,
    /// Processes of the user.
    Processes,
    /// Locked memory, bytes.
    LockedMemory,
    /// Stack, bytes.
    Stack,
    /// Address space, bytes.
    AddressSpace,
    /// CPU time, seconds.
    Cpu,
    /// Size of written files, bytes.
    FileSize,
}

impl Resource {
    /// Its name below `limits`.
    pub fn key(self) -> &'static str {
        match self {
            Resource::OpenFiles => "nofile",
            Resource::Core => "core",
            Resource::Processes => "nproc",
            Resource::LockedMemory => "memlock",
            Resource::Stack => "stack",
            Resource::AddressSpace => "as",
            Resource::Cpu => "cpu",
            Resource::FileSize => "fsize",
        }
    }
}

/// Where a worker's stdout or stderr goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name in the config, LISTEN_FDNAMES and `{fd:NAME}`.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// `POOL.LISTENER`, when the socket is that one's, with its address and options.
    pub shared: Option<String>,
    /// Length of the accept queue; 0: there is none (UDP).
    pub backlog: u32,
    /// One socket for each slot, on one port.
    pub reuseport: bool,
    /// O_NONBLOCK on the shared description.
    pub nonblocking: bool,
    /// TCP_NODELAY, inherited by accepted sockets.
    pub nodelay: bool,
    /// Permission bits of a Unix socket; `None`: by the umask.
    pub mode: Option<u32>,
    /// Owner of a Unix socket; `None`: the master's user.
    pub owner: Option<Account>,
    /// Group of a Unix socket; `None`: the master's.
    pub group: Option<Account>,
    /// What else may be set.
    pub options: SocketOptions,
}

/// Options of TCP and UDP sockets. What is zero, empty, false or `None` is as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOptions {
    /// Bind an address that the host does not have (yet).
    pub freebind: bool,
    /// Wake workers only when data is there, or after so many seconds.
    pub defer_accept: u32,
    /// Queue length of TCP Fast Open.
    pub fastopen: u32,
    /// TCP keepalive, inherited by accepted sockets.
    pub keepalive: Option<bool>,
    /// The network interface to bind to.
    pub device: String,
    /// Packet mark.
    pub mark: u32,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Address {
    /// TCP; `dual` on `[::]`: IPv4 as well.
    Tcp {
        /// Address and port.
        addr: SocketAddr,
        /// IPV6_V6ONLY is off.
        dual: bool,
    },
    /// UDP; `dual` on `[::]`: IPv4 as well.
    Udp {
        /// Address and port.
        addr: SocketAddr,
        /// IPV6_V6ONLY is off.
        dual: bool,
    },
    /// A Unix stream socket at this path.
    Unix(PathBuf),
    /// A Unix stream socket of this abstract name, without its leading NUL byte or `@`.
    Abstract(String),
    /// The socket of this name that the master was started with.
    Inherit(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp { addr, .. } => write!(f, "tcp://{addr}"),
            Address::Udp { addr, .. } => write!(f, "udp://{addr}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Abstract(name) => write!(f, "unix:@{name}"),
            Address::Inherit(name) => write!(f, "inherit:{name}"),
        }
    }
}
