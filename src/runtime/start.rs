//! Owns the start of a master: everything that can fail fails here, before the first worker, with nothing left behind.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;

use super::acks::Acks;
use super::clients::Clients;
use super::daemon::Report;
use super::environment::Environment;
use super::fdstore::FdStore;
use super::files::{Files, FilesError};
use super::guard;
use super::handed::Handed;
use super::hooks::{Hooks, Preparing};
use super::identity::{self, Workers};
use super::launch::Common;
use super::linger::Lingering;
use super::looks::Looks;
use super::master::Master;
use super::notify::NotifySockets;
use super::pools::{Ids, PoolRun, Prepared};
use super::processes::Processes;
use super::sabotage::Sabotage;
use super::service::Service;
use super::signals::SignalMap;
use super::sockets::OpenError;
use super::steer::Steering;
use super::token::Token;
use super::trace::Trace;
use crate::config::spec::Config;
use crate::os::activation::Inherited;
use crate::os::epoll::{Epoll, Interest};
use crate::os::{clock, process, signals, spawn, title};
use crate::supervisor::{Event, Supervisor, Time};
use crate::telemetry::{Log, LogError, LogOptions};

/// Reads the config again, for HUP and `reload`; the error is told in words.
pub type Reader = Box<dyn Fn() -> Result<Config, String>>;

/// What a master is started with.
pub struct Settings {
    /// The config, checked.
    pub config: Config,
    /// Reads it again.
    pub reader: Reader,
    /// The environment of the master itself.
    pub environment: Vec<(OsString, OsString)>,
    /// The sockets that it was started with.
    pub inherited: Vec<Inherited>,
    /// Its working directory, by the name that it was started in. New workers go there anew, if it is still there.
    pub directory: PathBuf,
    /// Of a daemon: who waits to hear that it is ready.
    pub report: Option<Report>,
}

/// The master could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One of its files.
    #[error(transparent)]
    Files(Box<FilesError>),
    /// A listener.
    #[error("pool {pool}: listener {listener}: {cause}")]
    Listen {
        /// The pool.
        pool: String,
        /// The listener's name.
        listener: String,
        /// Why.
        cause: OpenError,
    },
    /// A signal came while a listener's address was in use.
    #[error("pool {pool}: listener {listener}: {why}; nothing was started")]
    Interrupted {
        /// The pool.
        pool: String,
        /// The listener's name.
        listener: String,
        /// By which signal.
        why: String,
    },
    /// A pool's socket for acknowledgements.
    #[error("pool {pool}: cannot open the socket on which its workers acknowledge (protocols = [\"einhorn\"]): {cause}")]
    Acks {
        /// The pool.
        pool: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A user or group.
    #[error("{0}")]
    Account(String),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The trace file.
    #[error("cannot write the trace {path}: {cause}", path = .path.display())]
    Trace {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The kernel refused something that every master needs.
    #[error("cannot {attempt}: {cause}")]
    Kernel {
        /// What was tried.
        attempt: &'static str,
        /// Why.
        cause: std::io::Error,
    },
}

fn kernel(attempt: &'static str) -> impl Fn(std::io::Error) -> StartError {
    move |cause| StartError::Kernel { attempt, cause }
}

/// Below this, a burst of scale signals may be merged by the kernel.
const SIGPENDING_WANTED: u64 = 4096;

/// Runs a master to its end; the number is the exit code.
pub fn run(mut settings: Settings) -> Result<u8, StartError> {
    let mut report = settings.report.take();
    let outcome = start(settings, &mut report);
    if let (Err(e), Some(report)) = (&outcome, report) {
        report.failed(1, &e.to_string());
    }
    outcome
}

/// As [`run`]; who waits for the daemon is told by the master once there is one.
fn start(settings: Settings, report: &mut Option<Report>) -> Result<u8, StartError> {
    // Before any thread: the log's thread keeps the mask of its maker, and no signal may come in between.
    let reset_signals = signals::ignored_at_start();
    // Before any other descriptor is opened: the lowest numbers make the fastest starts.
    spawn::reserve();
    signals::block_all();
    // One thread so far, and nobody reads the arguments any more.
    title::set(&format!("poolmaster: master [{}]", settings.config.master.name));
    // Whoever started us may have ignored it; kept so, no worker's end would ever be seen.
    signals::hear_of_children();
    let Settings { config, reader, environment, inherited, directory, report: _ } = settings;
    if let Some(mask) = config.master.umask {
        process::set_umask(mask);
    }
    let uid = process::effective_uid();
    let files = Files::take(&config.master, uid).map_err(|e| StartError::Files(Box::new(e)))?;
    let log_options =
        LogOptions { level: config.master.log.level.clone(), json: config.master.log.json, file: config.master.log.file.clone() };
    let mut master = match assemble(config, reader, (environment, directory), files, &log_options, reset_signals) {
        Ok(master) => master,
        Err(failed) => {
            let (mut files, e) = *failed;
            files.remove();
            return Err(e);
        }
    };
    master.handed = Handed::of(inherited);
    let config = master.first_config.take();
    match config.map(|config| master.install(config)).transpose() {
        Ok(event) => {
            master.report = report.take();
            event.into_iter().for_each(|event| master.begin(event));
        }
        Err(e @ StartError::Interrupted { .. }) => {
            // As it was told to: no failure of the master's, though whoever waits for a daemon waits in vain.
            master.close();
            tracing::info!("{e}; exit code 0");
            if let Some(report) = report.take() {
                report.failed(1, &e.to_string());
            }
            return Ok(0);
        }
        Err(e) => {
            master.close();
            return Err(e);
        }
    }
    Ok(guard::keep_running(master))
}

fn assemble(
    config: Config,
    reader: Reader,
    (environment, directory): (Vec<(OsString, OsString)>, PathBuf),
    files: Files,
    log_options: &LogOptions,
    reset_signals: Vec<i32>,
) -> Result<Master, Box<(Files, StartError)>> {
    let made = (|| {
        let epoll = Epoll::new().map_err(kernel("make an epoll set"))?;
        let signal_fd = signals::SignalFd::new().map_err(kernel("make a signalfd"))?;
        epoll.add(signal_fd.as_fd(), Token::Signals.into(), Interest::Read).map_err(kernel("watch for signals"))?;
        epoll.add(files.control.as_fd(), Token::Control.into(), Interest::Read).map_err(kernel("watch the control socket"))?;
        process::set_subreaper().map_err(kernel("become the reaper of orphans"))?;
        let log = Log::start(log_options)?;
        Ok::<_, StartError>((epoll, signal_fd, log))
    })();
    let (epoll, signal_fd, log) = match made {
        Ok(made) => made,
        Err(e) => return Err(Box::new((files, e))),
    };
    let pid = process::self_pid();
    // Jitter only has to differ between masters and starts.
    let seed = clock::now() ^ u64::from(pid.cast_unsigned());
    let trace = match config.master.trace.as_ref().map(|path| (path, Trace::create(path, seed))) {
        None => None,
        Some((_, Ok(trace))) => Some(trace),
        Some((path, Err(cause))) => return Err(Box::new((files, StartError::Trace { path: path.clone(), cause }))),
    };
    let common = Common {
        nofile: Some(process::raise_nofile()),
        // After it was raised.
        most_descriptors: process::most_descriptors(),
        sigpending: Some(raise_sigpending()),
        reset_signals,
        death_signal: config.master.stop_with_master.then_some(libc::SIGTERM),
        cpus: u32::try_from(process::cpus()).unwrap_or(1),
        directory: CString::new(directory.into_os_string().into_vec()).ok(),
        own_binary: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")),
    };
    let relay = log.relay();
    let service = Service::of(&environment, Master::now());
    Ok(Master {
        core: Supervisor::new(seed),
        actions: VecDeque::new(),
        notes: VecDeque::new(),
        facts: VecDeque::new(),
        trace,
        epoll,
        signal_fd,
        signal_map: SignalMap::default(),
        has_terminal: process::has_controlling_terminal(),
        config: config.master.clone(),
        socket_uids: Vec::new(),
        config_path: config.path.clone(),
        first_config: Some(config),
        revision: 0,
        reader,
        sabotage: Sabotage::of(&environment),
        environment,
        ids: Ids::default(),
        names: BTreeMap::new(),
        runs: BTreeMap::new(),
        processes: Processes::default(),
        notify_sockets: NotifySockets::new(),
        stillborn: BTreeSet::new(),
        common,
        looks: Looks::default(),
        lingering: Lingering::default(),
        steering: Steering::default(),
        hooks: Hooks::default(),
        preparing: Preparing::default(),
        held_config: None,
        report: None,
        service,
        acks: Acks::default(),
        fdstore: FdStore::default(),
        handed: Handed::default(),
        clients: Clients::default(),
        commands: BTreeMap::new(),
        next_command: 1,
        files,
        log,
        relay,
        pid,
        uid: process::effective_uid(),
        started: Time(clock::now()),
        exit: None,
    })
}

/// The pair for the workers: what the soft limit was, and the hard one.
fn raise_sigpending() -> (u64, u64) {
    let (before, after) = signals::raise_sigpending_limit();
    if after < SIGPENDING_WANTED {
        tracing::warn!(
            "only {after} signals can wait for this master (RLIMIT_SIGPENDING): a larger burst of scale signals would be merged; \
             raise it (ulimit -i), or use `poolmaster scale`"
        );
    }
    (before, after)
}

impl Master {
    /// Puts the first config in force, after the hook that comes before it.
    fn begin(&mut self, event: Event) {
        self.held_config = Some(event);
        if !self.hook_starting()
            && let Some(event) = self.held_config.take()
        {
            self.feed(event);
        }
    }

    /// Makes everything that a config needs on the host, then gives the event that puts it in force. On an error nothing has changed.
    pub(super) fn install(&mut self, mut config: Config) -> Result<Event, StartError> {
        self.ids.renumber(&mut config);
        let revision = self.revision + 1;
        let users = config.master.socket_users.iter().map(|user| identity::look_up(user, "master.socket_users"));
        let socket_uids = users.map(|found| Ok(found?.0)).collect::<Result<_, _>>().map_err(StartError::Account)?;
        let mut open = self.open_sockets();
        self.handed.keep_for(&config.pools);
        let mut runs = BTreeMap::new();
        let mut opened = Vec::new();
        // One patience for all of them: a master of the same config leaves them together.
        let patient_until = Master::now() + config.master.bind_retry;
        for pool in &config.pools {
            let mut sockets = Vec::new();
            for listener in &pool.listeners {
                let one = self.open_listener(&pool.spec.name, listener, &mut open, patient_until)?;
                sockets.push(Rc::clone(&one.socket));
                opened.push(one);
            }
            let workers =
                Workers::of(&pool.identity).map_err(|e| StartError::Account(format!("pool {}: {e}", pool.spec.name)))?;
            let dirs = self.files.pool_dirs(&pool.spec.name, workers.uid().unwrap_or(self.uid), pool.identity.chroot.as_deref());
            let dirs = dirs.map_err(|e| StartError::Files(Box::new(e)))?;
            let run = PoolRun {
                sockets,
                dir: dirs.seen,
                notify_dir: dirs.notify,
                // The name of the running master: another one waits for its next start.
                environment: Environment::of(&self.environment, pool, &self.config.name, workers.login.as_ref()),
                workers,
                prepared: Cell::new(Prepared::NotYet),
                config: pool.clone(),
                path_told: std::cell::Cell::new(false),
            };
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
        self.handed.close_rest();
        // From here on nothing can fail. Pools that left the config keep their last run until their workers are gone.
        for one in &opened {
            one.apply();
        }
        for (id, run) in runs {
            self.names.insert(id, run.config.spec.name.clone());
            self.runs.insert(id, run);
        }
        self.signal_map = SignalMap::of(&config.pools);
        self.log.set_level(&config.master.log.level);
        self.revision = revision;
        let master = config.master.spec.clone();
        // Name, socket and pid file stay as they are until the master is started anew.
        self.config.spec = config.master.spec;
        self.config.hooks = config.master.hooks;
        self.socket_uids = socket_uids;
        Ok(Event::Configure { revision, master, pools: config.pools.into_iter().map(|p| p.spec).collect() })
    }

    fn warn_of_clamped_backlogs(&self, config: &Config) {
        let Some(limit) = crate::os::listener::somaxconn() else { return };
        for pool in &config.pools {
            for listener in pool.listeners.iter().filter(|l| l.backlog > limit) {
                tracing::warn!(
                    pool = pool.spec.name,
                    "listener {}: the kernel cuts its backlog of {} to {limit}; raise net.core.somaxconn, or lower the backlog",
                    listener.name,
                    listener.backlog
                );
            }
        }
    }

    /// Removes what this master made on the host.
    pub(super) fn close(&mut self) {
        self.runs.clear();
        self.notify_sockets.finish();
        for problem in self.files.remove() {
            tracing::warn!("{problem}");
        }
    }
}
