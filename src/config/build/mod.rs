//! Owns turning merged trees into the specs that the core and the runtime use. Types were judged layer by layer; what is wrong with
//! a value alone is not said again here, its default stands in so that everything else is still judged.

mod cross;
mod hooks;
mod identity;
mod launch;
mod listen;
mod master;
mod pool;
mod protocols;
mod reader;
mod share;
mod times;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::diagnostics::{Diagnostic, Diagnostics};
use super::kind::Around;
use super::near::nearest;
use super::node::{Node, Place, Raw};
use super::spec::{Config, Master, Pool};
use super::{Facts, keys};
use crate::supervisor::PoolId;
pub(super) use listen::name as listener_name;
use reader::Reader;
pub(super) use reader::default_node;

/// The merged trees of a config.
#[derive(Clone, Debug)]
pub(super) struct Trees {
    /// `[master]`.
    pub(super) master: Node,
    /// The pools, in the order of the file.
    pub(super) pools: Vec<(String, Node)>,
}

impl Trees {
    /// Puts the number in force where the bounds of a pool override the default one.
    pub(super) fn settle(&mut self, config: &Config) {
        for ((_, tree), pool) in self.pools.iter_mut().zip(&config.pools) {
            if let Some(node) = tree.get("workers").filter(|node| node.place == Place::BUILT_IN).cloned() {
                tree.insert(&["workers".to_owned()], Node { raw: Raw::Int(pool.spec.workers.into()), ..node });
            }
        }
    }
}

/// Builds the specs and judges what depends on more than one value. The result is only good when `diags` has no error.
pub(super) fn config(path: Option<PathBuf>, trees: &Trees, facts: &Facts, around: Around<'_>, diags: &mut Diagnostics) -> Config {
    let ids: BTreeMap<&str, PoolId> = trees.pools.iter().zip(0..).map(|((name, _), id)| (name.as_str(), PoolId(id))).collect();
    let master_reader = Reader::new(&trees.master, "master", keys::of_master, around);
    let mut master = master::build(&master_reader, path.as_deref(), facts, diags);
    // With errors so far there may be some that could not be read.
    if trees.pools.is_empty() && !diags.failed() {
        let none = Diagnostic::error(None, "there are no pools");
        diags.push(none.help("a config needs at least one: [pool.web] with command = \"...\""));
    }
    let mut pools = Vec::new();
    for (name, tree) in &trees.pools {
        let reader = Reader::new(tree, &format!("pool.{name}"), keys::of_pool, around);
        pools.push((pool::build(name, &ids, &reader, facts, diags), reader));
    }
    share::resolve(&mut pools, diags);
    cross::check(&mut master, &master_reader, &pools, diags);
    let mut pools: Vec<Pool> = pools.into_iter().map(|(built, _)| built.pool).collect();
    for pool in &mut pools {
        pool.spec.release = release(&master, pool);
        // Of a listener that all share, when it leaves the config.
        pool.spec.farewell = Some(master.spec.linger).filter(|linger| !linger.is_zero() && !pool.listeners.is_empty());
        pool.spec.pre_start = !pool.hooks.pre_start.is_empty();
        pool.spec.prepares = pool.spec.pre_start || !pool.hooks.pre_spawn.is_empty();
        pool.spec.prepare = prepare(pool);
    }
    Config { path, master, pools, warnings: Vec::new(), not_yet: Vec::new(), shown: String::new(), settings: Default::default() }
}

/// The master's own settings alone, errors let be.
pub(super) fn master(path: Option<&Path>, tree: &Node, facts: &Facts, around: Around<'_>) -> Master {
    master::build(&Reader::new(tree, "master", keys::of_master, around), path, facts, &mut Diagnostics::default())
}

/// How long it may take before a worker is told to stop. `None`: nothing comes before.
fn release(master: &Master, pool: &Pool) -> Option<Duration> {
    let queue = pool.listeners.iter().any(|listener| listener.reuseport).then_some(master.spec.linger);
    let hook = Some(pool.hooks.timeout).filter(|_| !pool.hooks.pre_stop.is_empty());
    let parts = [queue, hook];
    parts.iter().any(Option::is_some).then(|| parts.into_iter().flatten().sum())
}

/// How long the hooks before a start may take, with what it takes to end one that has had its time. `None`: there is none.
fn prepare(pool: &Pool) -> Option<Duration> {
    const GRACE: Duration = Duration::from_secs(3);
    let hooks = [&pool.hooks.pre_start, &pool.hooks.pre_spawn].into_iter().filter(|hook| !hook.is_empty()).count();
    (hooks > 0).then(|| (pool.hooks.timeout.saturating_add(GRACE)).saturating_mul(u32::try_from(hooks).unwrap_or(u32::MAX)))
}

/// "did you mean": for a name that should be one of these, else what there is.
fn known_names<'a>(typed: &str, names: impl Iterator<Item = &'a str> + Clone, what: &str) -> String {
    match nearest(typed, names.clone()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => match names.collect::<Vec<_>>()[..] {
            [] => format!("there are no {what}"),
            ref names => format!("the {what}: {}", names.join(", ")),
        },
    }
}
