//! Owns the start of a master: everything that can fail fails here, before the first worker, with nothing left behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{CString, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::accounts::Accounts;
use super::acks::Acks;
use super::clients::Clients;
use super::daemon::Report;
use super::fdstore::FdStore;
use super::files::{Files, FilesError};
use super::guard;
use super::handed::Handed;
use super::handover;
use super::hooks::{Hooks, Preparing};
use super::launch::Common;
use super::linger::Lingering;
use super::looks::Looks;
use super::master::Master;
use super::names::title_of;
use super::notify::NotifySockets;
use super::pools::Ids;
use super::processes::Processes;
use super::reading::{Reader, Reading};
use super::reap;
use super::sabotage::Sabotage;
use super::second::{self, Beside, Second};
use super::service::Service;
use super::signals::SignalMap;
use super::sockets::OpenError;
use super::staging::Wanted;
use super::steer::Steering;
use super::throttle::Throttle;
use super::token::Token;
use super::trace::Trace;
use super::upgrade::{self, Handover};
use crate::config::spec::Config;
use crate::os::activation::Inherited;
use crate::os::epoll::{Epoll, Interest};
use crate::os::handover::Taken;
use crate::os::{clock, leftovers, process, signals, spawn, title};
use crate::supervisor::{ConfigSource, Event, Supervisor, Time, human};
use crate::telemetry::{Log, LogError, LogOptions};

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
    /// The words that it was started with, the program first.
    pub command_line: Vec<OsString>,
    /// It is the second of two masters.
    pub beside: Option<Beside>,
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
    let Settings { mut config, reader, environment, inherited, directory, command_line, beside, report: _ } = settings;
    // Its folder keeps its name when it takes the name of the first: of each second one it is another.
    let mut folder = config.master.name.clone();
    if beside.is_some() {
        folder = format!("{folder}.{}", process::self_pid());
        second::rename(&mut config.master);
    }
    // One thread so far, and nobody reads the arguments any more.
    title::set(&title_of(&config.master.name));
    // Whoever started us may have ignored it; kept so, no worker's end would ever be seen.
    signals::hear_of_children();
    // Asked for by setting it: whatever is in between is made by nobody.
    let inherited_umask = process::set_umask(config.master.umask.unwrap_or(0o077));
    process::set_umask(config.master.umask.unwrap_or(inherited_umask));
    let uid = process::effective_uid();
    let files = Files::take(&config.master, &folder, uid).map_err(|e| StartError::Files(Box::new(e)))?;
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
    master.second = Second::of(command_line);
    master.handed = match &beside {
        Some(beside) => Handed::of_first(inherited, beside.sockets()),
        None => Handed::of(inherited),
    };
    if let Some(beside) = &beside
        && let Err(cause) = master.watch_first(beside)
    {
        master.close();
        return Err(StartError::Kernel { attempt: "watch the first master", cause });
    }
    master.inherited_umask = inherited_umask;
    if master.files.after_a_crash {
        warn_of_leftovers(&master.config.name);
    }
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

/// What a master goes on with that was another program until a moment ago.
pub struct Again {
    /// The state that it has left.
    pub handover: Handover,
    /// Makes the reader of configs, for the file that it runs.
    pub reader: Box<dyn FnOnce(Option<PathBuf>) -> Reader>,
    /// As of [`Settings`].
    pub environment: Vec<(OsString, OsString)>,
    /// As of [`Settings`].
    pub directory: PathBuf,
    /// As of [`Settings`].
    pub command_line: Vec<OsString>,
}

/// Goes on from the state that another program has left for this one, in the same process. What cannot be done puts the program before this one
/// back.
pub fn resume(again: Again) -> Result<u8, StartError> {
    let reset_signals = signals::ignored_at_start();
    signals::block_all();
    let Again { handover, reader, mut environment, directory, command_line } = again;
    let given = environment.clone();
    upgrade::forget(&mut environment);
    let (mut taken, mut back) = (Taken::default(), None);
    let (bytes, state, failed) = handover.take(&mut taken).map_err(kernel("read the state that was handed over"))?;
    let restored = catch_unwind(AssertUnwindSafe(|| {
        let record = handover::read(&bytes)?;
        back = record.program.map(|program| taken.take(&program)).transpose().map_err(|e| e.to_string())?;
        if record.head.pid != process::self_pid() {
            return Err(format!("it is the state of another process ({})", record.head.pid));
        }
        spawn::reserve();
        signals::hear_of_children();
        let (files, config, parts) = handover::open(record, process::effective_uid(), &mut taken)?;
        title::set(&title_of(&config.master.name));
        process::set_umask(config.master.umask.unwrap_or(parts.inherited_umask()));
        let log = LogOptions {
            level: config.master.log.level.clone(),
            json: config.master.log.json,
            file: config.master.log.file.clone(),
        };
        let reader = reader(config.path.clone());
        let mut config = config;
        // What is recorded already goes on.
        let trace = config.master.trace.take();
        let made = assemble(config, reader, (environment, directory), files, &log, reset_signals);
        let mut master = made.map_err(|failed| failed.1.to_string())?;
        master.trace = trace.as_deref().map(Trace::go_on).transpose().map_err(|e| format!("the trace cannot go on: {e}"))?;
        match master.become_as(parts) {
            Ok((head, order)) => {
                let master = std::mem::ManuallyDrop::new(master);
                if failed.is_none() {
                    master.sabotage.on_resume();
                }
                Ok((std::mem::ManuallyDrop::into_inner(master), head, order))
            }
            Err(e) => {
                // With it the files of its sockets would go, which the program before this one has still.
                std::mem::forget(master);
                Err(e.to_string())
            }
        }
    }));
    let restored = restored.unwrap_or_else(|_| Err("an internal error".to_owned()));
    match restored {
        Ok((mut master, head, order)) => {
            taken.close_left();
            drop((state, back));
            master.has_taken_over(&head, order.as_ref(), failed.as_deref());
            // What has ended meanwhile has no signal to come: it may be that of the program before.
            reap::reap(&mut master);
            reap::notice_reaped(&mut master);
            master.act();
            Ok(guard::keep_running(master))
        }
        Err(why) => {
            let why = format!("poolmaster {} cannot go on from the state: {why}", env!("CARGO_PKG_VERSION"));
            let cause = match (back, failed) {
                (Some(program), None) => upgrade::go_back(&program, &command_line, &given, &why),
                _ => std::io::Error::other(why),
            };
            Err(StartError::Kernel { attempt: "go on as another program", cause })
        }
    }
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
        let reading = Reading::new(reader).map_err(kernel("make an eventfd for news of the config"))?;
        epoll.add(reading.as_fd(), Token::Config.into(), Interest::Read).map_err(kernel("watch for news of the config"))?;
        let outputs = Epoll::new().map_err(kernel("make an epoll set"))?;
        epoll.add(outputs.as_fd(), Token::Outputs.into(), Interest::Read).map_err(kernel("watch the output of workers"))?;
        let signal_fd = signals::SignalFd::new().map_err(kernel("make a signalfd"))?;
        epoll.add(signal_fd.as_fd(), Token::Signals.into(), Interest::Read).map_err(kernel("watch for signals"))?;
        epoll.add(files.control.as_fd(), Token::Control.into(), Interest::Read).map_err(kernel("watch the control socket"))?;
        process::set_subreaper().map_err(kernel("become the reaper of orphans"))?;
        let log = Log::start(log_options)?;
        Ok::<_, StartError>((epoll, outputs, reading, signal_fd, log))
    })();
    let (epoll, outputs, reading, signal_fd, log) = match made {
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
        outputs,
        signal_fd,
        signal_map: SignalMap::default(),
        has_terminal: process::has_controlling_terminal(),
        config: config.master.clone(),
        socket_uids: Vec::new(),
        config_path: config.path.clone(),
        first_config: Some(config),
        revision: 0,
        pools_in_force: BTreeSet::new(),
        last_revision: 0,
        configs: BTreeMap::new(),
        wanted_our_port: BTreeSet::new(),
        accounts: Accounts::default(),
        staged: BTreeMap::new(),
        canary_words: Vec::new(),
        reading,
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
        second: Second::default(),
        upgrade: None,
        clients: Clients::default(),
        throttle: Throttle::default(),
        commands: BTreeMap::new(),
        next_command: 1,
        files,
        log,
        relay,
        notified_last: 0,
        leftovers: VecDeque::new(),
        last_words_until: Time(0),
        pid,
        uid: process::effective_uid(),
        started: Time(clock::now()),
        inherited_umask: 0o022,
        not_applied: Vec::new(),
        reload_orders: BTreeSet::new(),
        log_reopened: None,
        reopen_orders: BTreeSet::new(),
        exit: None,
    })
}

/// Most workers of an earlier master that are told one by one.
const MOST_LEFTOVERS: usize = 20;

/// What an earlier master of this name left running, which nobody will stop.
fn warn_of_leftovers(instance: &str) {
    let found = leftovers::of_instance(instance);
    for one in found.iter().take(MOST_LEFTOVERS) {
        let (pool, pid) = (&one.pool, one.pid);
        let (program, age) = (crate::telemetry::printable(one.program.as_bytes()), human(one.age));
        tracing::warn!(
            "{pool}: a worker of an earlier master still runs ({program}, pid {pid}, for {age}): that master was killed, and the worker went on; \
             a new one is started beside it; end it: kill -9 {pid}"
        );
    }
    if found.len() > MOST_LEFTOVERS {
        tracing::warn!("{} more workers of an earlier master still run", found.len() - MOST_LEFTOVERS);
    }
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

    /// Puts the first config in force, and gives the event that tells the core of it.
    fn install(&mut self, mut config: Config) -> Result<Event, StartError> {
        self.ids.renumber(&mut config);
        self.as_second(&mut config);
        let wanted = Wanted { from: ConfigSource::File, pools: Vec::new(), restart: false };
        let (revision, staged) =
            self.stage(config, Accounts::default(), None, &wanted, (&mut BTreeSet::new(), &mut Vec::new()))?;
        let (master, pools) = (staged.config.master.spec.clone(), staged.config.pools.iter().map(|p| p.spec.clone()).collect());
        self.put_in_force(revision, staged);
        Ok(Event::Configure { revision, base: 0, master, pools, roll: Vec::new(), changes: Vec::new() })
    }

    pub(super) fn warn_of_clamped_backlogs(&self, config: &Config) {
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
