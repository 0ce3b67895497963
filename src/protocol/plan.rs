//! Owns the answer to `plan`: what a reload would change, and what that would cost.

use serde::{Deserialize, Serialize};

/// What a change costs, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeClass {
    /// Nothing that runs is touched: it holds for what is started, opened or done from then on.
    None,
    /// It holds for running workers and open sockets at once; nothing is restarted.
    Live,
    /// Workers are replaced, a few at a time.
    Rolling,
    /// Sockets are opened anew, and workers are replaced.
    Rebind,
    /// It takes a restart of the master.
    Master,
}

/// Reply to `plan`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanReply {
    /// Instance name.
    pub instance: String,
    /// Number of the config in force.
    pub revision: u32,
    /// The file that was read for this plan; `None`: only flags.
    #[serde(default)]
    pub config: Option<String>,
    /// The strongest class of all changes.
    pub class: ChangeClass,
    /// Changes of the master's own settings.
    #[serde(default)]
    pub master: Vec<PlanChange>,
    /// All pools, of the config in force and of the new one: in the order of the new one, those that leave it last.
    pub pools: Vec<PoolPlan>,
    /// What is suspicious, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How long it would take, by the starts seen so far; `None`: not known, or nothing to wait for.
    #[serde(default)]
    pub expected_ms: Option<u64>,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanChange {
    /// Its whole path.
    pub key: String,
    /// What its change costs.
    pub class: ChangeClass,
    /// What holds; `None`: it is not set and has no default.
    #[serde(default)]
    pub old: Option<PlanValue>,
    /// What would hold.
    #[serde(default)]
    pub new: Option<PlanValue>,
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanValue {
    /// In TOML syntax; a secret is `***`.
    pub value: String,
    /// `pools.toml:4:11`, `variable ...`, `flag ...`, `built-in default`.
    pub origin: String,
}

/// What would become of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolVerdict {
    /// Nothing.
    Same,
    /// New settings, for the same workers.
    Live,
    /// Its workers are replaced.
    Rolling,
    /// It is new.
    Added,
    /// It goes.
    Removed,
}

/// What would become of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerVerdict {
    /// A socket is opened for it.
    Opened,
    /// It listens elsewhere: a socket is opened there before the one where it was is closed.
    Moved,
    /// It gets the open socket of another listener.
    TakenOver,
    /// The socket stays; options of it change.
    Changed,
    /// Its socket is closed once nobody waits there.
    Closed,
    /// Another listener has its socket.
    GivenTo,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanListener {
    /// Its name within its pool.
    pub name: String,
    /// Where it would listen; of one that goes, where it does.
    pub address: String,
    /// What would become of it.
    pub verdict: ListenerVerdict,
    /// Where it was before, or the other listener as POOL.LISTENER.
    #[serde(default)]
    pub other: Option<String>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolPlan {
    /// Its name.
    pub name: String,
    /// What would become of it.
    pub verdict: PoolVerdict,
    /// The keys that change.
    #[serde(default)]
    pub changes: Vec<PlanChange>,
    /// What would become of its listeners; those that stay as they are, are left out.
    #[serde(default)]
    pub listeners: Vec<PlanListener>,
    /// It comes, and looks like this pool, which goes: the same program with the same listeners.
    #[serde(default)]
    pub renamed_from: Option<String>,
    /// Workers that would be replaced (of a pool that goes: stopped).
    pub replaces: u32,
    /// Workers that would be started by its first step, and have to get good before anything is committed.
    pub canaries: u32,
    /// A canary takes the place of an old worker, which is stopped first: two cannot run in one slot.
    pub in_place: bool,
    /// The slots, in the order in which their workers would be replaced.
    #[serde(default)]
    pub order: Vec<u32>,
    /// Most processes of it at one time.
    pub peak: u32,
    /// How long its part would take, by the starts seen so far.
    #[serde(default)]
    pub expected_ms: Option<u64>,
    /// What is special about it, in words.
    #[serde(default)]
    pub remarks: Vec<String>,
}
