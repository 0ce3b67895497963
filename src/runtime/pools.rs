//! Owns what is fixed for a pool by one config: its sockets, its directory, its environment. A worker keeps the one it was started
//! from, so that a socket lives as long as somebody uses it.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::environment::{self, Environment};
use super::files::PoolDirs;
use super::identity::Workers;
use super::notify::NotifyHome;
use super::sockets::Socket;
use crate::config::spec;
use crate::os::path::DEFAULT_PATH;
use crate::supervisor::PoolId;

/// One pool under one config.
#[derive(Debug)]
pub(super) struct PoolRun {
    pub(super) config: spec::Pool,
    /// In the order of the descriptors 3, 4, ...
    pub(super) sockets: Vec<Rc<Socket>>,
    /// Who its workers are.
    pub(super) workers: Workers,
    /// Its directory as its workers see it: `{runtime}`.
    pub(super) dir: PathBuf,
    /// Where its workers' notify sockets are.
    pub(super) notify_dir: PathBuf,
    pub(super) environment: Rc<Environment>,
    /// The master's name that is in it.
    pub(super) instance: String,
    /// Its PATH was told.
    pub(super) path_told: Cell<bool>,
    /// How far the hook before its first worker is.
    pub(super) prepared: Rc<Cell<Prepared>>,
    /// What was in the files that its workers' environment is read from.
    pub(super) files: Vec<(PathBuf, Option<u64>)>,
}

/// How far the hook before a pool's first worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prepared {
    /// Not begun, or it failed.
    NotYet,
    /// It runs.
    Running,
    /// Done, or there is none.
    Done,
}

impl PoolRun {
    /// What another would do in every way, with the directories that are there now.
    pub(super) fn is_as(
        &self,
        config: &spec::Pool,
        sockets: &[Rc<Socket>],
        workers: &Workers,
        (dirs, instance): (&PoolDirs, &str),
    ) -> bool {
        let same_sockets = self.sockets.len() == sockets.len() && self.sockets.iter().zip(sockets).all(|(a, b)| Rc::ptr_eq(a, b));
        same_sockets
            && self.config == *config
            && self.workers == *workers
            && self.instance == instance
            && self.dir == dirs.seen
            && self.notify_dir == dirs.notify
            && self.files == environment::prints(config)
    }

    /// Workers of that kind and config live where these do, as the same user.
    pub(super) fn is_at_home(&self, workers: &Workers, config: &spec::Pool, notify_dir: &Path) -> bool {
        self.workers.uid() == workers.uid()
            && self.config.identity.chroot == config.identity.chroot
            && self.config.launch.protocols.einhorn == config.launch.protocols.einhorn
            && self.notify_dir == notify_dir
    }

    /// Its directories as the master sees them.
    pub(super) fn places(&self) -> [PathBuf; 2] {
        let root = self.config.identity.chroot.as_deref();
        [root.map_or_else(|| self.dir.clone(), |root| super::files::below(root, &self.dir)), self.notify_dir.clone()]
    }

    /// A program was not found: says where it was looked for, once. Each of the many tries that may follow says the rest.
    pub(super) fn tell_path(&self, program: &str) {
        if self.path_told.replace(true) {
            return;
        }
        let pool = self.config.spec.name.as_str();
        let path = self.environment.path.as_deref().unwrap_or(DEFAULT_PATH);
        tracing::error!(pool, "{program:?} is in no folder of the workers' PATH: {path}");
    }
}

impl PoolRun {
    /// Where notify sockets for its workers are made.
    pub(super) fn notify_home(&self) -> NotifyHome<'_> {
        NotifyHome { dir: &self.notify_dir, owner: self.workers.uid() }
    }

    /// A path as its workers see it, within their root directory.
    pub(super) fn seen<'p>(&self, path: &'p Path) -> Cow<'p, Path> {
        match self.config.identity.chroot.as_ref().and_then(|root| path.strip_prefix(root).ok()) {
            Some(inside) => Cow::Owned(Path::new("/").join(inside)),
            None => Cow::Borrowed(path),
        }
    }
}

/// Ids of pool names. A name keeps its id for the life of the master; an id is never used for another name.
#[derive(Debug, Default)]
pub(super) struct Ids {
    by_name: BTreeMap<String, PoolId>,
}

impl Ids {
    fn of(&mut self, name: &str) -> PoolId {
        let next = PoolId(u32::try_from(self.by_name.len()).unwrap_or(u32::MAX));
        *self.by_name.entry(name.to_owned()).or_insert(next)
    }

    /// All of them.
    pub(super) fn all(&self) -> &BTreeMap<String, PoolId> {
        &self.by_name
    }

    /// As they were given out before.
    pub(super) fn given(by_name: BTreeMap<String, PoolId>) -> Ids {
        Ids { by_name }
    }

    /// The id of a name that may come.
    pub(super) fn named(&mut self, name: &str) -> PoolId {
        self.of(name)
    }

    /// The id of a name, if it has one.
    pub(super) fn of_name(&self, name: &str) -> Option<PoolId> {
        self.by_name.get(name).copied()
    }

    /// The name of an id.
    pub(super) fn name_of(&self, id: PoolId) -> String {
        self.by_name.iter().find(|(_, own)| **own == id).map_or_else(|| format!("#{}", id.0), |(name, _)| name.clone())
    }

    /// Puts the master's ids in place of the config's own numbering.
    pub(super) fn renumber(&mut self, config: &mut spec::Config) {
        let map: BTreeMap<PoolId, PoolId> = config.pools.iter().map(|p| (p.spec.id, self.of(&p.spec.name))).collect();
        let new = |id: &PoolId| map.get(id).copied().unwrap_or(*id);
        for pool in &mut config.pools {
            pool.spec.id = new(&pool.spec.id);
            pool.spec.after = pool.spec.after.iter().map(new).collect();
        }
        config.master.spec.default_pool = config.master.spec.default_pool.as_ref().map(new);
    }
}
