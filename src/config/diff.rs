//! Owns what differs between two configs: key by key, with the old value and the new one, where each comes from, and what the change costs.
//! Refuses to know what runs: whether a pool has workers at all is for others to say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use super::class::Class;
use super::kind::Typed;
use super::moves::Moves;
pub use super::moves::{Fate, ListenerDiff};
use super::node::Place;
pub use super::settings::Settings;
use super::settings::{self, Given};
use super::show;
use super::spec::{Config, Identity, Launch, Listener, Master, Pool};

/// What differs between two configs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The master's own keys that differ.
    pub master: Vec<Change>,
    /// The pools of both, in the order of the new config; those that leave it last.
    pub pools: Vec<PoolDiff>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDiff {
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub what: What,
    /// Its keys that differ; of a pool that comes or goes, none.
    pub changes: Vec<Change>,
    /// What becomes of its listeners; those that stay as they are, are left out.
    pub listeners: Vec<ListenerDiff>,
    /// It comes, and looks like this one, which goes: the same program with the same listeners.
    pub renamed_from: Option<String>,
}

/// What becomes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It means the same in both.
    Same,
    /// Some keys differ.
    Changed,
    /// Only the new config has it.
    Added,
    /// Only the old one has it.
    Removed,
}

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its whole path, as it is written.
    pub key: String,
    /// What it costs to put the new value in force.
    pub class: Class,
    /// The old value; `None`: it was not set and has no default.
    pub old: Option<Shown>,
    /// The new value.
    pub new: Option<Shown>,
}

/// A value for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// In TOML syntax; a secret is `***`.
    pub value: String,
    /// `pools.toml:4:11`, `variable ...`, `flag ...`, `built-in default`.
    pub origin: String,
}

impl Diff {
    /// What it costs to put the new config in force: the strongest class of all changes.
    pub fn class(&self) -> Class {
        strongest(&self.master).max(self.pools.iter().map(PoolDiff::class).max().unwrap_or(Class::None))
    }

    /// What it costs for each pool.
    pub fn classes(&self) -> BTreeMap<&str, Class> {
        self.pools.iter().map(|pool| (pool.name.as_str(), pool.class())).collect()
    }
}

impl PoolDiff {
    /// What it costs. A pool that comes or goes has workers that start or stop.
    pub fn class(&self) -> Class {
        match self.what {
            What::Same | What::Changed => strongest(&self.changes),
            What::Added | What::Removed => Class::Rolling,
        }
    }
}

impl std::fmt::Display for Change {
    /// `pool.web.workers: 2 -> 4`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = |shown: &Option<Shown>| shown.as_ref().map_or_else(|| "not set".to_owned(), |shown| shown.value.clone());
        write!(f, "{}: {} -> {}", self.key, value(&self.old), value(&self.new))
    }
}

fn strongest(changes: &[Change]) -> Class {
    changes.iter().map(|change| change.class).max().unwrap_or(Class::None)
}

/// What differs. Another way to write the same value is no difference.
pub fn diff(old: &Config, new: &Config) -> Diff {
    let mut master = changes(&old.settings.master, &new.settings.master);
    settle_derived(&mut master, &old.master, &new.master);
    let moves = Moves::of(old, new);
    let by_name = |config: &'_ Config| -> BTreeMap<String, usize> {
        (0..).zip(&config.pools).map(|(at, pool)| (pool.spec.name.clone(), at)).collect()
    };
    let (had, have) = (by_name(old), by_name(new));
    let mut pools: Vec<PoolDiff> = Vec::new();
    for pool in &new.pools {
        let name = pool.spec.name.clone();
        let listeners = moves.listeners(&name);
        let Some(before) = had.get(&name).map(|at| &old.pools[*at]) else {
            let renamed_from = moves.renamed_from(pool).map(str::to_owned);
            pools.push(PoolDiff { name, what: What::Added, changes: Vec::new(), listeners, renamed_from });
            continue;
        };
        let mut changes = changes(old.settings.of_pool(&name), new.settings.of_pool(&name));
        if !needs_new_workers(before, pool) {
            // Nothing comes of these, as of `env_pass` without `env_clear`.
            let idle = changes.iter_mut().filter(|change| (Class::Rolling..=Class::Rebind).contains(&change.class));
            idle.for_each(|change| change.class = Class::None);
        }
        let what = if changes.is_empty() { What::Same } else { What::Changed };
        pools.push(PoolDiff { name, what, changes, listeners, renamed_from: None });
    }
    let gone = old.pools.iter().map(|pool| pool.spec.name.clone()).filter(|name| !have.contains_key(name));
    pools.extend(gone.map(|name| {
        let listeners = moves.listeners(&name);
        PoolDiff { name, what: What::Removed, changes: Vec::new(), listeners, renamed_from: None }
    }));
    Diff { master, pools }
}

/// The keys of one table that differ, in the order of the definitions.
fn changes(old: &[Given], new: &[Given]) -> Vec<Change> {
    // As most of thousands of pools.
    let same = |(a, b): (&Given, &Given)| a.path == b.path && a.value == b.value;
    if old.len() == new.len() && old.iter().zip(new).all(same) {
        return Vec::new();
    }
    let (old, new) = (Side::of(old, new), Side::of(new, old));
    let mut all: Vec<&Given> = new.given.values().collect();
    all.extend(old.given.values().filter(|given| !new.given.contains_key(&given.path)));
    all.sort_by(|a, b| settings::order(a).cmp(&settings::order(b)));
    all.iter().filter_map(|given| changed(given, &old, &new)).collect()
}

/// One of the two tables, by the paths of its keys.
struct Side {
    given: BTreeMap<Vec<String>, Given>,
    /// Names of its listeners.
    listeners: BTreeSet<String>,
}

impl Side {
    /// A lone address and a list are taken as listeners with names, where the other side names its own.
    fn of(own: &[Given], other: &[Given]) -> Side {
        let other_names = other.iter().any(|given| given.path.len() > 1 && given.path[0] == "listen");
        let mut all = BTreeMap::new();
        for given in own {
            let several = if other_names && given.path == ["listen"] { settings::named(given) } else { vec![given.clone()] };
            all.extend(several.into_iter().map(|given| (given.path.clone(), given)));
        }
        let listeners = all.keys().filter(|path| path.len() > 1 && path[0] == "listen").map(|path| path[1].clone()).collect();
        Side { given: all, listeners }
    }

    /// What a key is here.
    fn get(&self, sought: &Given) -> (Option<Typed>, Option<Shown>) {
        if let Some(given) = self.given.get(&sought.path) {
            return (given.value.clone(), Some(given.shown.clone()));
        }
        // A listener that is not there has no defaults.
        match &sought.path[..] {
            [listen, name, ..] if listen == "listen" && !self.listeners.contains(name) => (None, None),
            _ => settings::built_in(sought.definition),
        }
    }
}

fn changed(given: &Given, old: &Side, new: &Side) -> Option<Change> {
    let ((before, old), (after, mut new)) = (old.get(given), new.get(given));
    if before == after {
        return None;
    }
    if let (Some(old), Some(new)) = (&old, &mut new)
        && old.value == new.value
        && new.value.contains("${")
    {
        // What is in the variables may be nobody's business.
        new.value.push_str(" # whose variables have other values now");
    }
    Some(Change { key: given.key.clone(), class: given.definition.class, old, new })
}

/// The name of the instance, and the paths that follow from it, where one of the two configs leaves them to their defaults: these depend on
/// other keys, and so what they come to is compared.
fn settle_derived(changes: &mut Vec<Change>, old: &Master, new: &Master) {
    let path = |path: &Path| show::text_value(&path.to_string_lossy());
    let derived = |master: &Master| {
        [
            ("master.name", show::text_value(&master.name)),
            ("master.runtime_dir", path(&master.runtime_dir)),
            ("master.pidfile", path(&master.pidfile)),
            ("master.socket", path(&master.socket)),
        ]
    };
    for ((key, before), (_, after)) in derived(old).into_iter().zip(derived(new)) {
        let Some(at) = changes.iter().position(|change| change.key == key) else { continue };
        if before == after {
            changes.remove(at);
            continue;
        }
        let origin = || Place::BUILT_IN.words();
        let change = &mut changes[at];
        change.old.get_or_insert_with(|| Shown { value: before, origin: origin() });
        change.new.get_or_insert_with(|| Shown { value: after, origin: origin() });
    }
}

impl Config {
    /// What a running master cannot take over stays as it is in `present`, until it is started anew: so that what is called in force is, and the
    /// next comparison tells of it again.
    pub fn keep_fixed(&mut self, present: &Config) {
        let Master { runtime_dir, stop_with_master, trace, daemon, .. } = present.master.clone();
        let stays = |path: &Path| match path.strip_prefix(&self.master.runtime_dir) {
            // Where nobody names it, it is where the runtime directory is.
            Ok(file) => runtime_dir.join(file),
            Err(_) => path.to_owned(),
        };
        let (pidfile, socket) = (stays(&self.master.pidfile), stays(&self.master.socket));
        self.master = Master { runtime_dir, pidfile, socket, stop_with_master, trace, daemon, ..self.master.clone() };
        self.settings.take_fixed(&present.settings);
    }
}

/// Does it take other workers to put `new` in force? These are the things that a worker has from its start; the classes of the keys say the
/// same, but for keys that come to nothing, and for a listener that is another pool's.
pub fn needs_new_workers(old: &Pool, new: &Pool) -> bool {
    let sockets = |pool: &Pool| pool.listeners.iter().map(fixed_of_listener).collect::<Vec<_>>();
    fixed_of_launch(&old.launch) != fixed_of_launch(&new.launch)
        || fixed_of_identity(&old.identity) != fixed_of_identity(&new.identity)
        || old.spec.ready != new.spec.ready
        || sockets(old) != sockets(new)
}

/// Each part is named, so that a new one cannot be forgotten here.
fn fixed_of_launch(launch: &Launch) -> Launch {
    let Launch {
        argv,
        working_dir,
        env,
        env_pass,
        env_files,
        secrets,
        argv0,
        stdout,
        stderr,
        // Lines are cut where they are read.
        max_line: _,
        protocols,
        look,
    } = launch.clone();
    Launch { argv, working_dir, env, env_pass, env_files, secrets, argv0, stdout, stderr, max_line: 0, protocols, look }
}

fn fixed_of_identity(identity: &Identity) -> Identity {
    let Identity {
        user,
        group,
        groups,
        umask,
        chroot,
        // These four and the limits are set from outside.
        nice: _,
        oom_score_adj: _,
        cpus: _,
        limits: _,
        no_new_privileges,
        capabilities,
    } = identity.clone();
    Identity { user, group, groups, umask, chroot, no_new_privileges, capabilities, ..Identity::default() }
}

/// What of a listener cannot be changed while its socket is open, and what its workers are told of it.
fn fixed_of_listener(listener: &Listener) -> impl PartialEq + use<> {
    let Listener {
        name,
        address,
        shared,
        reuseport,
        backlog: _,
        nonblocking: _,
        nodelay: _,
        mode: _,
        owner: _,
        group: _,
        options: _,
    } = listener.clone();
    (name, address, shared, reuseport)
}
