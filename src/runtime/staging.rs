//! Owns configs that are made ready beside the one in force: everything that can fail is done here, and nothing that runs is touched. Then
//! each is put in force, which cannot fail, or taken back.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::accounts::Accounts;
use super::environment::Environment;
use super::identity::Workers;
use super::master::Master;
use super::names::NewNames;
use super::pools::{PoolRun, Prepared};
use super::processes::Process;
use super::reading::Purpose;
use super::signals::SignalMap;
use super::sockets::{OpenSockets, Opened};
use super::start::StartError;
use crate::config::diff::{self, Diff};
use crate::config::spec::Config;
use crate::supervisor::{ConfigSource, Event, PoolId};
use crate::telemetry::{LogOptions, PreparedLog};

/// A config that is ready to be put in force.
pub(super) struct Staged {
    pub(super) config: Rc<Config>,
    /// Those of pools that are not as they are under the config in force.
    pub(super) runs: BTreeMap<PoolId, Rc<PoolRun>>,
    opened: Vec<Opened>,
    socket_uids: Vec<u32>,
    /// What is known of all its accounts.
    accounts: Accounts,
    log: PreparedLog,
    pub(super) names: NewNames,
    /// Pools that are the same but for settings that running workers can take over.
    live: BTreeSet<PoolId>,
    /// What waits for the next start of the master: the key, and the change in words.
    waits: Vec<(String, String)>,
}

/// What is to be made ready.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) from: ConfigSource,
    pub(super) pools: Vec<PoolId>,
    pub(super) restart: bool,
}

impl Master {
    /// Makes another config ready, once it has been read, and tells the core of it.
    pub(super) fn read_config(&mut self, wanted: Wanted) {
        self.canary_words.clear();
        let kept = match wanted.from {
            ConfigSource::File => None,
            ConfigSource::Kept(revision) => match self.configs.get(&revision) {
                Some(config) => Some(Box::new(Config::clone(config))),
                None => {
                    let reason = format!("config {revision} is not kept any more");
                    return self.facts.push_back(Event::ConfigRejected { reason, invalid: true });
                }
            },
        };
        self.reading.ask(Purpose::Reload(wanted, kept));
    }

    /// What there is of the config that is wanted.
    pub(super) fn config_was_read(&mut self, read: Result<(Config, Accounts), String>, wanted: &Wanted) {
        let config = read.and_then(|(mut config, accounts)| {
            self.ids.renumber(&mut config);
            self.as_second(&mut config);
            // Pools that stay as they are have accounts as well.
            accounts.fill_from(&self.accounts);
            let config = if wanted.pools.is_empty() { config } else { self.only_pools(config, &wanted.pools)? };
            Ok((config, accounts))
        });
        let event = match config {
            Err(reason) => Event::ConfigRejected { reason, invalid: true },
            Ok((config, accounts)) => match self.stage_beside(config, accounts, wanted) {
                Ok(event) => event,
                Err(e) => Event::ConfigRejected { reason: e.to_string(), invalid: false },
            },
        };
        self.facts.push_back(event);
    }

    /// The config in force, with these pools as another has them.
    pub(super) fn only_pools(&self, mut other: Config, pools: &[PoolId]) -> Result<Config, String> {
        let Some(present) = self.configs.get(&self.revision) else { return Err("no config is in force yet".to_owned()) };
        let mut merged = Config::clone(present);
        for id in pools {
            let name = self.ids.name_of(*id);
            let taken = other.pools.iter().position(|p| p.spec.id == *id).map(|at| other.pools.remove(at));
            let there = merged.pools.iter().position(|p| p.spec.id == *id);
            match (taken, there) {
                (Some(pool), Some(at)) => merged.pools[at] = pool,
                (Some(pool), None) => merged.pools.push(pool),
                (None, Some(at)) => drop(merged.pools.remove(at)),
                (None, None) => return Err(format!("there is no pool {name:?}, neither in force nor in the config")),
            }
            merged.settings.take_pool(&name, &other.settings);
        }
        let known: BTreeSet<PoolId> = merged.pools.iter().map(|p| p.spec.id).collect();
        for pool in &merged.pools {
            if let Some(missing) = pool.spec.after.iter().find(|id| !known.contains(id)) {
                let (name, missing) = (&pool.spec.name, self.ids.name_of(*missing));
                return Err(format!(
                    "pool {name} is to start after {missing}, which is not in force; reload both: --pool {name} --pool {missing}"
                ));
            }
        }
        if let Some(number) = SignalMap::twice(&merged.pools) {
            let signal = crate::supervisor::signal_name(number);
            return Err(format!("{signal} would mean two things: the pool that has it now is not reloaded; reload all"));
        }
        merged.master.spec.default_pool = merged.master.spec.default_pool.filter(|id| known.contains(id));
        Ok(merged)
    }

    fn stage_beside(&mut self, mut config: Config, accounts: Accounts, wanted: &Wanted) -> Result<Event, StartError> {
        let difference = self.configs.get(&self.revision).map(|present| diff::diff(present, &config));
        if let Some(present) = self.configs.get(&self.revision) {
            config.keep_fixed(present);
        }
        let (mut roll, mut housed) = (BTreeSet::new(), Vec::new());
        let staged = self.stage(config, accounts, difference.as_ref(), wanted, (&mut roll, &mut housed));
        let (revision, mut staged) =
            staged.inspect_err(|_| housed.into_iter().for_each(|(id, places)| self.take_back(id, &places)))?;
        let waits = difference.iter().flat_map(|d| &d.master).filter(|change| change.class == diff::Class::Master);
        staged.waits = waits.map(|change| (change.key.clone(), change.to_string())).collect();
        let (master, pools) = (staged.config.master.spec.clone(), staged.config.pools.iter().map(|p| p.spec.clone()).collect());
        self.staged.insert(revision, staged);
        let changes = difference.as_ref().map(words_of_changes).unwrap_or_default();
        Ok(Event::Configure { revision, base: self.revision, master, pools, roll: roll.into_iter().collect(), changes })
    }

    /// What was made for a pool of a config that is not taken goes, and what its workers were given is the old ones' again: unless another config
    /// that is tried has it, or a worker that is not gone yet.
    fn take_back(&mut self, id: PoolId, places: &[PathBuf]) {
        let tried: Vec<Rc<PoolRun>> = self.staged.values().filter_map(|staged| staged.runs.get(&id).cloned()).collect();
        let Some(present) = self.runs.get(&id).filter(|_| self.is_in_force(id)).cloned() else {
            if tried.is_empty() && self.core.pool(id).is_none() {
                self.forget_pool(id);
            }
            return;
        };
        if tried.is_empty() {
            self.give_pool(&present);
        }
        let living: Vec<Rc<PoolRun>> =
            self.processes.all().filter(|p| p.id.pool == id && !p.exited).map(|p| Rc::clone(&p.run)).collect();
        let users: Vec<Rc<PoolRun>> = tried.into_iter().chain([Rc::clone(&present)]).chain(living).collect();
        self.keep_acks(id, &users);
        let of_workers = self.processes.all().filter_map(|p| p.notify.as_ref()?.path().parent().map(Path::to_owned));
        let kept: BTreeSet<PathBuf> = users.iter().flat_map(|run| run.places()).chain(of_workers).collect();
        let name = present.config.spec.name.clone();
        places.iter().filter(|place| !kept.contains(*place)).for_each(|place| self.files.drop_place(&name, place));
    }

    /// Makes everything that a config needs on the host. Takes nothing away from what runs; what was made is removed by
    /// [`Master::take_back`] on an error.
    pub(super) fn stage(
        &mut self,
        config: Config,
        accounts: Accounts,
        difference: Option<&Diff>,
        wanted: &Wanted,
        (roll, housed): (&mut BTreeSet<PoolId>, &mut Vec<(PoolId, [PathBuf; 2])>),
    ) -> Result<(u32, Staged), StartError> {
        let users = config.master.socket_users.iter().map(|user| accounts.user(user, "master.socket_users"));
        let socket_uids = users.map(|found| Ok(found?.0)).collect::<Result<_, _>>().map_err(StartError::Account)?;
        let log = LogOptions {
            level: config.master.log.level.clone(),
            json: config.master.log.json,
            file: config.master.log.file.clone(),
        };
        let log = self.log.prepare(&log)?;
        let names = self.offer_name(&config.master)?;
        let mut open = OpenSockets::of(self.open_sockets(), &config);
        self.handed.keep_for(&config.pools);
        let classes = difference.map(Diff::classes);
        let (mut runs, mut opened, mut live) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        // One patience for all of them: a master of the same config leaves them together.
        let patient_until = Master::now() + config.master.bind_retry;
        // First what is most likely to fail, of all pools.
        let mut listeners = Vec::new();
        for pool in &config.pools {
            let mut sockets = Vec::new();
            for listener in &pool.listeners {
                let one = self.open_listener(&pool.spec.name, listener, &mut open, patient_until, &accounts)?;
                sockets.push(Rc::clone(&one.socket));
                opened.push(one);
            }
            listeners.push(sockets);
        }
        for (pool, sockets) in config.pools.iter().zip(listeners) {
            let present = self.runs.get(&pool.spec.id).filter(|_| self.is_in_force(pool.spec.id)).cloned();
            let asked = wanted.restart && (wanted.pools.is_empty() || wanted.pools.contains(&pool.spec.id));
            let workers = Workers::of(&pool.identity, &accounts)
                .map_err(|e| StartError::Account(format!("pool {}: {e}", pool.spec.name)))?;
            let dirs = self.files.pool_dirs(&pool.spec.name, workers.uid().unwrap_or(self.uid), pool.identity.chroot.as_deref());
            let dirs = dirs.map_err(|e| StartError::Files(Box::new(e)))?;
            if present.as_ref().is_none_or(|present| !present.is_at_home(&workers, pool, &dirs.notify)) {
                housed.push((pool.spec.id, dirs.places()));
            }
            // Of thousands of pools most stay as they are.
            let instance = config.master.name.as_str();
            if !asked && present.as_ref().is_some_and(|present| present.is_as(pool, &sockets, &workers, (&dirs, instance))) {
                continue;
            }
            let same = |run: &&Rc<PoolRun>| {
                run.instance == instance && run.config.launch == pool.launch && run.workers.login == workers.login
            };
            let same = present.as_ref().filter(same);
            let environment = same
                .map(|run| Rc::clone(&run.environment))
                .unwrap_or_else(|| Rc::new(Environment::of(&self.environment, pool, instance, &workers.login)));
            let mut run = PoolRun {
                sockets,
                dir: dirs.seen,
                notify_dir: dirs.notify,
                environment,
                instance: instance.to_owned(),
                files: super::environment::prints(pool),
                workers,
                prepared: Rc::new(Cell::new(Prepared::NotYet)),
                config: pool.clone(),
                path_told: Cell::new(false),
            };
            if let Some(present) = present {
                let class = match &classes {
                    Some(classes) => classes.get(pool.spec.name.as_str()).copied().unwrap_or(diff::Class::None),
                    None => diff::Class::Rolling,
                };
                let same_sockets = present.sockets.len() == run.sockets.len()
                    && present.sockets.iter().zip(&run.sockets).all(|(a, b)| Rc::ptr_eq(a, b));
                let outdated = class >= diff::Class::Rolling
                    || diff::needs_new_workers(&present.config, pool)
                    || !same_sockets
                    || present.files != run.files
                    || !present.workers.same_person(&run.workers);
                if outdated {
                    roll.insert(pool.spec.id);
                } else {
                    live.insert(pool.spec.id);
                }
                if !outdated && !asked {
                    // What was done for it once is not done again.
                    run.prepared = present.prepared.clone();
                }
            }
            self.open_acks(pool.spec.id, &run).map_err(|cause| StartError::Acks { pool: pool.spec.name.clone(), cause })?;
            runs.insert(pool.spec.id, Rc::new(run));
        }
        if !config.shown.is_empty() {
            tracing::debug!("the whole config, from all of its layers:\n{}", config.shown);
        }
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        self.warn_of_clamped_backlogs(&config);
        self.last_revision += 1;
        Ok((
            self.last_revision,
            Staged { config: Rc::new(config), runs, opened, socket_uids, accounts, log, names, live, waits: Vec::new() },
        ))
    }

    /// The config in force has this pool.
    pub(super) fn is_in_force(&self, id: PoolId) -> bool {
        self.pools_in_force.contains(&id)
    }

    /// Puts a config in force. Nothing of it can fail.
    pub(super) fn put_in_force(&mut self, revision: u32, staged: Staged) {
        let Staged { config, runs, opened, socket_uids, accounts, log, names, live, waits } = staged;
        self.handed.close_rest();
        for one in &opened {
            one.apply();
        }
        // Pools that left the config keep their last run until their workers are gone.
        let mut taken_over = Vec::new();
        for (id, run) in runs {
            self.names.insert(id, run.config.spec.name.clone());
            let before = self.runs.insert(id, Rc::clone(&run));
            if before.as_ref().is_none_or(|before| !before.is_at_home(&run.workers, &run.config, &run.notify_dir)) {
                self.give_pool(&run);
                self.keep_acks(id, std::slice::from_ref(&run));
            }
            taken_over.extend(before.filter(|_| live.contains(&id)).map(|before| (id, before, run)));
        }
        self.processes.take_over(&taken_over);
        for (id, before, run) in taken_over {
            self.preparing.take_over(&before, &run);
            self.apply_attributes(id, &before.config.identity, &run.config.identity);
        }
        config.pools.iter().for_each(|pool| self.steering.changed(pool.spec.id));
        self.signal_map = SignalMap::of(&config.pools);
        self.revision = revision;
        self.not_applied = waits.iter().map(|(key, _)| key.clone()).collect();
        for (_, change) in waits {
            tracing::warn!("{change}: needs a new master; the old value holds until it is started anew");
        }
        // For what is made and started from now on.
        crate::os::process::set_umask(config.master.umask.unwrap_or(self.inherited_umask));
        self.config.umask = config.master.umask;
        self.config.spec = config.master.spec.clone();
        self.config.hooks = config.master.hooks.clone();
        self.take_name(names, &config.master);
        self.socket_uids = socket_uids;
        self.accounts = accounts;
        self.files.let_look(!self.socket_uids.is_empty());
        if self.config.socket_mode != config.master.socket_mode {
            self.config.socket_mode = config.master.socket_mode;
            if let Err(e) = self.files.set_socket_mode(config.master.socket_mode) {
                tracing::warn!("{e}");
            }
        }
        self.config.log = config.master.log.clone();
        self.log.switch(log);
        self.pools_in_force = config.pools.iter().map(|pool| pool.spec.id).collect();
        self.configs.insert(revision, config);
    }

    /// The core has decided for it.
    pub(super) fn commit(&mut self, revision: u32, keep: Option<u32>) {
        let Some(staged) = self.staged.remove(&revision) else { return };
        self.put_in_force(revision, staged);
        self.configs.retain(|of, _| *of == revision || Some(*of) == keep);
    }

    /// The core has decided against it: what was made for it goes with the last worker that has it.
    pub(super) fn discard(&mut self, revision: u32) {
        let Some(staged) = self.staged.remove(&revision) else { return };
        let canaries =
            self.processes.all().filter(|p| !p.exited && staged.runs.get(&p.id.pool).is_some_and(|r| Rc::ptr_eq(r, &p.run)));
        let words: Vec<_> = canaries.filter_map(words_of).collect();
        self.canary_words.extend(words);
        self.cancel_pre_starts(revision, &staged.runs.values().cloned().collect::<Vec<_>>());
        for (id, run) in &staged.runs {
            if self.runs.get(id).is_none_or(|present| !present.is_at_home(&run.workers, &run.config, &run.notify_dir)) {
                self.take_back(*id, &run.places());
            }
        }
    }

    /// A worker has ended: if it was a canary, what it said last is kept for the report.
    pub(super) fn keep_canary_words(&mut self, number: u64) {
        let Some(process) = self.processes.get(number) else { return };
        let tried = |staged: &Staged| staged.runs.get(&process.id.pool).is_some_and(|run| Rc::ptr_eq(run, &process.run));
        if self.staged.values().any(tried) {
            let words = words_of(process);
            self.canary_words.extend(words);
        }
    }

    /// What a pool's workers are started from under this config.
    pub(super) fn run_under(&self, pool: PoolId, revision: u32) -> Option<&Rc<PoolRun>> {
        let staged = self.staged.get(&revision).and_then(|staged| staged.runs.get(&pool));
        staged.or_else(|| self.runs.get(&pool))
    }

    /// Nothing of the pool is left.
    pub(super) fn forget_pool(&mut self, pool: PoolId) {
        let run = self.runs.remove(&pool);
        // Whoever has the same listener closes what was this pool's of it.
        let shares = |other: &PoolRun| {
            let mut own = run.iter().flat_map(|run| &run.sockets).filter(|socket| socket.slots().is_some());
            own.any(|socket| other.sockets.iter().any(|one| Rc::ptr_eq(one, socket)))
        };
        let others: Vec<PoolId> = self.runs.iter().filter(|(_, other)| shares(other)).map(|(id, _)| *id).collect();
        others.into_iter().for_each(|other| self.steering.changed(other));
        let name = run.map_or_else(|| self.ids.name_of(pool), |run| run.config.spec.name.clone());
        self.notify_sockets.drop_pool(pool);
        self.close_acks(pool);
        self.empty_store_of(pool);
        self.files.drop_pool_dir(&name);
    }
}

/// So many lines are kept of what a config changes.
const MOST_CHANGES: usize = 12;

/// What a config changes, for the history.
fn words_of_changes(difference: &Diff) -> Vec<String> {
    let master = difference.master.iter().map(ToString::to_string);
    let pools = difference.pools.iter().flat_map(|pool| {
        let whole = match pool.what {
            diff::What::Added => Some(format!("pool {}: added", pool.name)),
            diff::What::Removed => Some(format!("pool {}: removed", pool.name)),
            diff::What::Same | diff::What::Changed => None,
        };
        let keys = pool.changes.iter().filter(|_| whole.is_none()).map(ToString::to_string).collect::<Vec<_>>();
        whole.into_iter().chain(keys)
    });
    let mut lines: Vec<String> = master.chain(pools).collect();
    let more = lines.len().saturating_sub(MOST_CHANGES);
    if more > 1 {
        lines.truncate(MOST_CHANGES);
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Who it is, and the last lines that it said; `None`: it said nothing.
fn words_of(process: &Process) -> Option<(String, Vec<String>)> {
    let who = format!("last output of {}:{} (pid {})", process.run.config.spec.name, process.id.slot, process.pid);
    let lines: Vec<String> = process.tail.lines().collect();
    (!lines.is_empty()).then_some((who, lines))
}
