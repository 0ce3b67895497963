//! Owns what a master tells of itself, its health, its sockets and the signals it acts on.

use serde::{Deserialize, Serialize};

use crate::supervisor::Phase;

/// Reply to `info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoReply {
    /// Instance name.
    pub instance: String,
    /// The master's version.
    pub version: String,
    /// The master's pid.
    pub pid: i32,
    /// Its config file; `None`: only flags.
    #[serde(default)]
    pub config: Option<String>,
    /// Its methods.
    #[serde(default)]
    pub methods: Vec<String>,
}

/// Reply to `health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReply {
    /// Every pool asked for is well.
    pub ok: bool,
    /// Each of them.
    pub pools: Vec<PoolHealth>,
}

/// One pool's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolHealth {
    /// Its name.
    pub name: String,
    /// It is as it should be: running with at least `min_ready` ready workers, completed, or stopped by an operator.
    pub ok: bool,
    /// Where it is in its life.
    pub phase: Phase,
    /// Ready workers.
    pub ready: u32,
    /// As many there must be.
    pub min_ready: u32,
    /// As many there should be.
    pub target: u32,
    /// The master ends when this pool cannot boot.
    pub required: bool,
    /// What is wrong, in words.
    #[serde(default)]
    pub why: Option<String>,
}

/// Reply to `listeners`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenersReply {
    /// All sockets, in the order of the config.
    pub listeners: Vec<ListenerStatus>,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// The pool that it is configured in.
    pub pool: String,
    /// Its name there.
    pub name: String,
    /// Where it listens: `tcp://0.0.0.0:8000`, `udp://127.0.0.1:53`, `unix:/run/shop.sock`, `unix:@shop`.
    pub address: String,
    /// The master's descriptor.
    pub fd: i32,
    /// The socket's inode, as in `/proc/PID/fd` and `ss -e`.
    pub inode: u64,
    /// The backlog of the config; 0: it has no queue of connections (UDP).
    pub backlog: u32,
    /// Connections waiting to be accepted, where the kernel tells.
    #[serde(default)]
    pub queue: Option<u32>,
    /// The most that can wait: the backlog, cut by the kernel's net.core.somaxconn.
    #[serde(default)]
    pub queue_limit: Option<u32>,
    /// Workers that hold it.
    #[serde(default)]
    pub holders: u32,
    /// How it is shared: `shared` (one queue for all workers), `reuseport`, or `with POOL.LISTENER` (that one's socket).
    pub sharing: String,
    /// The name by which the master was started with it; `None`: it made the socket itself.
    #[serde(default)]
    pub inherited: Option<String>,
    /// With `reuseport`: the socket of each slot. Queue and limit above are the sum.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<SlotSocket>,
    /// What is wrong with it, in words.
    #[serde(default)]
    pub why: Option<String>,
}

/// The socket of one slot (`reuseport`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotSocket {
    /// The slot's number.
    pub slot: u32,
    /// The master's descriptor.
    pub fd: i32,
    /// The socket's inode.
    pub inode: u64,
    /// Connections waiting at it, where the kernel tells.
    #[serde(default)]
    pub queue: Option<u32>,
    /// New connections go to it: its worker is ready.
    pub takes: bool,
}

/// Reply to `signals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalsReply {
    /// The master's pid.
    pub pid: i32,
    /// Each signal that does something, by number.
    pub signals: Vec<SignalEntry>,
}

/// One signal to the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalEntry {
    /// Its number.
    pub number: i32,
    /// Its name: `SIGTTIN`, `SIGRTMIN+1`.
    pub name: String,
    /// What it does.
    pub effect: String,
    /// The pool that it acts on; `None`: the master or all pools.
    #[serde(default)]
    pub pool: Option<String>,
    /// Ready to paste: `kill -TTIN 1234`.
    pub kill: String,
}

impl SignalEntry {
    /// The entry of a signal for the master with this pid. The kill line has the number for real-time signals: shells
    /// disagree about their names.
    pub fn new(number: i32, effect: impl Into<String>, pool: Option<String>, pid: i32) -> SignalEntry {
        let name = crate::supervisor::signal_name(number);
        let word = match name.strip_prefix("SIG") {
            Some(bare) if number < 32 => bare.to_owned(),
            _ => number.to_string(),
        };
        SignalEntry { number, effect: effect.into(), pool, kill: format!("kill -{word} {pid}"), name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kill_lines_can_be_pasted_into_any_shell() {
        assert_eq!(SignalEntry::new(21, "one more", None, 1234).kill, "kill -TTIN 1234");
        assert_eq!(SignalEntry::new(35, "one more", Some("web".to_owned()), 1234).kill, "kill -35 1234");
    }
}
