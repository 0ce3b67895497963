//! Owns the way from "start this worker" to a running child: its notify socket, pipes, argument list, environment. Any failure on
//! the way is told as one error in words, with whose fault it is.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::dialects;
use super::environment::too_long;
use super::identity::refused_limit;
use super::output::Capture;
use super::pools::PoolRun;
use super::processes::Process;
use super::sockets::Socket;
use crate::config::spec::Output;
use crate::config::template::{Vars, expand};
use crate::os::listener::ListenError;
use crate::os::notify::NotifySocket;
use crate::os::spawn::{self, Identity, Plan, Resource, Source, SpawnFailure, Step};
use crate::os::{self, io as fdio, path};
use crate::supervisor::{SpawnError, SpawnFault, WorkerId};

/// What every child of this master gets alike.
#[derive(Debug)]
pub(super) struct Common {
    /// Limits that the master raised for itself, as they were.
    pub(super) nofile: Option<(u64, u64)>,
    /// The master's own limit of descriptors.
    pub(super) most_descriptors: u64,
    pub(super) sigpending: Option<(u64, u64)>,
    /// Signals whose disposition the master changed, or was started with changed.
    pub(super) reset_signals: Vec<i32>,
    /// Sent to a worker when the master dies.
    pub(super) death_signal: Option<i32>,
    pub(super) cpus: u32,
    /// Where the master was started, by name.
    pub(super) directory: Option<CString>,
    /// The running binary.
    pub(super) own_binary: PathBuf,
}

/// Descriptors that no worker's start may take, counted from the limit down: a master that is full must still be told what to do.
const RESERVE: u64 = 8;

impl Common {
    /// The limit that a worker gets of what the master raised for itself, where its pool sets none.
    pub(super) fn given_back(&self, resource: Resource) -> Option<(u64, u64)> {
        match resource {
            Resource::OpenFiles => self.nofile,
            Resource::Signals => self.sigpending,
            _ => None,
        }
    }

    /// The kernel gives the lowest free numbers: one near the limit says that few are left.
    fn keep_reserve<'fd>(&self, made: impl Iterator<Item = BorrowedFd<'fd>>) -> Result<(), SpawnError> {
        let highest = made.map(|fd| fd.as_raw_fd()).max().unwrap_or(0);
        if u64::from(highest.unsigned_abs()) + RESERVE < self.most_descriptors {
            return Ok(());
        }
        let full = std::io::Error::from_raw_os_error(libc::EMFILE);
        Err(lack(&format!("start another worker: the last {RESERVE} descriptors are kept for orders to the master"), &full))
    }
}

/// Starts a worker. The child may still fail on its way to exec: its exec pipe tells. The notify socket is taken by a worker that was started.
pub(super) fn launch(
    id: WorkerId,
    run: &Rc<PoolRun>,
    common: &Common,
    notify: &mut Option<NotifySocket>,
    stored: &[(&str, BorrowedFd<'_>)],
    held: impl Fn(&Rc<Socket>) -> BTreeSet<u32>,
) -> Result<Process, SpawnError> {
    let launch = &run.config.launch;
    let notify_path = notify.as_ref().map(|socket| run.seen(socket.path()));
    let words = Words::of(id, run, common);
    let argv: Vec<String> = launch.argv.iter().map(|a| words.fill(a)).collect();
    let program = argv.first().cloned().unwrap_or_default();
    let (stdout, stderr) = (End::open(&launch.stdout)?, End::open(&launch.stderr)?);
    let ready = launch.protocols.ready_fd.map(|_| fdio::news_pipe()).transpose();
    let ready = ready.map_err(|e| lack("make the pipe for its readiness", &e))?;
    // Only what was made this moment tells how many are left: a notify socket may have been kept from fuller times.
    let made = [stdout.read.as_ref(), stderr.read.as_ref(), ready.as_ref().map(|(read, _)| read)].map(|fd| fd.map(AsFd::as_fd));
    common.keep_reserve(made.into_iter().flatten())?;
    let own = run.config.listeners.iter().map(|listener| listener.reuseport).chain(std::iter::repeat(false));
    let given = run.sockets.iter().zip(own).map(|(socket, own)| socket.give(own, (id.pool, id.slot), &held(socket)));
    let given = given.collect::<Result<Vec<_>, _>>().map_err(no_socket)?;
    let mut fds: Vec<BorrowedFd<'_>> = given.iter().map(|(_, listening)| listening.as_fd()).collect();
    let stdin = fds.first().filter(|_| launch.protocols.stdin).map_or(Source::Null, |fd| Source::Fd(*fd));
    fds.extend(stored.iter().map(|(_, fd)| *fd));
    let names: Vec<&str> = stored.iter().map(|(name, _)| *name).collect();
    let contract = dialects::variables(id, run, &names);
    let env = run.environment.for_worker(id, notify_path.as_deref().map(Path::as_os_str), &contract, |text| words.fill(text))?;
    if let Some((_, why)) = env.iter().find_map(|variable| too_long(variable)) {
        return Err(SpawnError {
            fault: SpawnFault::Exec,
            errno: libc::E2BIG,
            message: format!("cannot execute {program:?}: {why}"),
        });
    }
    let mut identity = run.workers.in_slot(id.slot);
    // What the master raised for itself is given back.
    for resource in [Resource::OpenFiles, Resource::Signals] {
        if let Some((soft, hard)) = common.given_back(resource).filter(|_| !run.workers.limits(resource)) {
            identity.limits.push((resource, soft, hard));
        }
    }
    let number = launch.protocols.ready_fd.and_then(|number| i32::try_from(number).ok());
    let placed = ready.iter().zip(number).map(|((_, write), number)| (write.as_fd(), number)).collect();
    let plan = Plan {
        programs: programs(&program, run.environment.path.as_deref(), common)?,
        argv: named(&argv, launch.argv0.as_ref().map(|name| words.fill(name)))?,
        env,
        listen_pid: launch.protocols.systemd && launch.protocols.listen_pid && !fds.is_empty(),
        watchdog_pid: launch.protocols.systemd && run.config.spec.timeout.is_some(),
        working_dir: launch.working_dir.as_ref().map(|d| path_string(d)).transpose()?,
        default_dir: common.directory.clone().filter(|_| run.config.identity.chroot.is_none()),
        identity,
        stdin,
        stdout: stdout.source(&launch.stdout),
        stderr: stderr.source(&launch.stderr),
        fds,
        placed,
        death_signal: common.death_signal,
        reset_signals: &common.reset_signals,
    };
    let child = spawn::start(&plan).map_err(|failure| explain(failure, run))?;
    drop(plan);
    let mut process = Process::new(id, child.pid, Rc::clone(run));
    let seats = run.sockets.iter().zip(&given).filter_map(|(socket, (member, _))| Some((Rc::clone(socket), (*member)?)));
    process.seats = seats.collect();
    process.exec = Some(child.exec);
    process.notify = notify.take();
    process.ready = ready.map(|(read, _)| read);
    process.stdout = stdout.read.map(|fd| Capture::new(fd, launch.max_line, "stdout"));
    process.stderr = stderr.read.map(|fd| Capture::new(fd, launch.max_line, "stderr"));
    Ok(process)
}

/// Fills in a template for a worker.
pub(super) fn fill(text: &str, id: WorkerId, run: &PoolRun, common: &Common) -> String {
    Words::of(id, run, common).fill(text)
}

/// Starts a command that looks at a worker: as the worker's user, in its directory, with its environment, but none of its sockets; its
/// output goes nowhere. Gives its pid.
pub(super) fn run_beside(argv: &[String], id: WorkerId, run: &PoolRun, common: &Common) -> Result<i32, String> {
    let env = run.environment.for_worker(id, None, &[], |text| fill(text, id, run, common)).map_err(|e| e.message)?;
    run_aside(argv, env, Some(run), run.workers.in_slot(id.slot), None, common)
}

/// Starts a command for a pool, or for the master: in its directory, with /dev/null as stdin, stdout and stderr to `output` or nowhere. It ends
/// with the master. Gives its pid; that it cannot be executed shows by its exit code, 127.
pub(super) fn run_aside(
    argv: &[String],
    env: Vec<CString>,
    run: Option<&PoolRun>,
    identity: Identity,
    output: Option<&OwnedFd>,
    common: &Common,
) -> Result<i32, String> {
    let words = |e: SpawnError| e.message;
    let program = argv.first().map(String::as_str).unwrap_or_default();
    let path = env.iter().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
    let path = path.map(|path| String::from_utf8_lossy(path).into_owned());
    let arguments = argv.iter().map(|word| c_string(word)).collect::<Result<_, _>>().map_err(words)?;
    let mut plan = Plan::new(programs(program, path.as_deref(), common).map_err(words)?, arguments, env);
    plan.identity = identity;
    let launch = run.map(|run| &run.config.launch);
    plan.working_dir =
        launch.and_then(|launch| launch.working_dir.as_ref()).map(|d| path_string(d)).transpose().map_err(words)?;
    plan.default_dir = common.directory.clone().filter(|_| run.is_none_or(|run| run.config.identity.chroot.is_none()));
    plan.stdout = output.map_or(Source::Null, |fd| Source::Fd(fd.as_fd()));
    plan.stderr = Source::SameAsStdout;
    plan.death_signal = Some(libc::SIGKILL);
    plan.reset_signals = &common.reset_signals;
    spawn::spawn(&plan).map(|child| child.pid).map_err(|failure| failure.to_string())
}

/// The arguments, under another name when one is wanted.
fn named(argv: &[String], name: Option<String>) -> Result<Vec<CString>, SpawnError> {
    let mut out: Vec<CString> = argv.iter().map(|a| c_string(a)).collect::<Result<_, _>>()?;
    if let (Some(name), Some(first)) = (name, out.first_mut()) {
        *first = c_string(&name)?;
    }
    Ok(out)
}

/// The name of a program that stands for this very binary, wherever it is: the built-in sample worker needs no PATH.
const OWN_NAME: &str = "poolmaster";

fn programs(program: &str, path: Option<&str>, common: &Common) -> Result<Vec<CString>, SpawnError> {
    if program != OWN_NAME {
        return Ok(path::candidates(program, path, None));
    }
    // Where the file was replaced since the start, the kernel's link still leads to the running one.
    Ok(vec![path_string(&common.own_binary)?, c"/proc/self/exe".to_owned()])
}

/// The words that are filled in for one worker.
struct Words<'a> {
    id: WorkerId,
    run: &'a PoolRun,
    fds: Vec<(&'a str, i32)>,
    cpus: u32,
}

impl<'a> Words<'a> {
    fn of(id: WorkerId, run: &'a PoolRun, common: &Common) -> Words<'a> {
        let fds = run.config.listeners.iter().map(|l| l.name.as_str()).zip(3..).collect();
        Words { id, run, fds, cpus: common.cpus }
    }

    fn fill(&self, text: &str) -> String {
        expand(
            text,
            &Vars {
                pool: &self.run.config.spec.name,
                slot: self.id.slot,
                generation: self.id.generation,
                fds: &self.fds,
                cpus: self.cpus,
                runtime: &self.run.dir,
                port: dialects::port(self.run, self.id.slot),
            },
        )
    }
}

/// The file that stdout or stderr of a worker is connected to, and our end of it when it is a pipe.
#[derive(Default)]
struct End {
    given: Option<OwnedFd>,
    read: Option<OwnedFd>,
}

impl End {
    fn open(output: &Output) -> Result<End, SpawnError> {
        match output {
            Output::Inherit | Output::Null | Output::Stdout | Output::Stderr => Ok(End::default()),
            Output::Capture => {
                let (read, write) = fdio::output_pipe().map_err(|e| lack("make a pipe for its output", &e))?;
                Ok(End { given: Some(write), read: Some(read) })
            }
            Output::File(path) => {
                let file = fdio::append_to(path).map_err(|e| setup(&format!("open its output file {}", path.display()), &e))?;
                Ok(End { given: Some(file.into()), read: None })
            }
        }
    }

    fn source(&self, output: &Output) -> Source<'_> {
        match output {
            Output::Inherit => Source::Inherit,
            Output::Null => Source::Null,
            Output::Capture | Output::File(_) => self.given.as_ref().map_or(Source::Null, |fd| Source::Fd(fd.as_fd())),
            Output::Stdout => Source::SameAsStdout,
            Output::Stderr => Source::SameAsStderr,
        }
    }
}

/// The slot's own socket could not be opened.
fn no_socket(e: ListenError) -> SpawnError {
    let errno = e.errno.unwrap_or(0);
    let lacking = matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS);
    SpawnError { fault: if lacking { SpawnFault::Resources } else { SpawnFault::Setup }, errno, message: e.to_string() }
}

/// The host or the master lacks something.
pub(super) fn lack(attempt: &str, cause: &std::io::Error) -> SpawnError {
    let message = format!("cannot {attempt}: {}", os::reason(cause));
    SpawnError { fault: SpawnFault::Resources, errno: cause.raw_os_error().unwrap_or(0), message }
}

/// The pool's config asks for something that is not there.
pub(super) fn setup(attempt: &str, cause: &std::io::Error) -> SpawnError {
    SpawnError { fault: SpawnFault::Setup, ..lack(attempt, cause) }
}

fn path_string(path: &Path) -> Result<CString, SpawnError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| nul(&path.display().to_string()))
}

fn c_string(text: &str) -> Result<CString, SpawnError> {
    CString::new(text).map_err(|_| nul(text))
}

fn nul(text: &str) -> SpawnError {
    let message = format!("cannot pass {text:?} to a program: it has a NUL byte in it");
    SpawnError { fault: SpawnFault::Setup, errno: libc::EINVAL, message }
}

/// A failed step in words, and whose fault it is.
pub(super) fn explain(failure: SpawnFailure, run: &PoolRun) -> SpawnError {
    let SpawnFailure { step, errno } = failure;
    let cause = os::words(errno);
    let program = run.config.launch.argv.first().map_or("", String::as_str);
    let lacking = matches!(errno, libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE);
    let (fault, message) = match step {
        Step::Exec => {
            let message = match errno {
                libc::ENOENT if !program.contains('/') => {
                    run.tell_path(program);
                    format!("cannot execute {program:?}: not found in PATH")
                }
                libc::ENOENT => {
                    format!("cannot execute {program:?}: no such file (or the interpreter in its first line is missing)")
                }
                libc::EACCES => {
                    format!("cannot execute {program:?}: permission denied (is it executable, and its folder reachable?)")
                }
                libc::E2BIG => {
                    format!(
                        "cannot execute {program:?}: its arguments and environment are too long together (a quarter of limits.stack at most)"
                    )
                }
                libc::ENOEXEC => format!("cannot execute {program:?}: not a program (a script needs a #! line)"),
                _ => format!("cannot execute {program:?}: {cause}"),
            };
            let fault = match errno {
                _ if lacking => SpawnFault::Resources,
                libc::ETXTBSY => SpawnFault::Setup,
                _ => SpawnFault::Exec,
            };
            (fault, message)
        }
        Step::WorkingDirectory => {
            let dir = run.config.launch.working_dir.as_deref().unwrap_or(Path::new("."));
            (SpawnFault::Setup, format!("cannot change to the working directory {}: {cause}", dir.display()))
        }
        Step::Limits
            if let Some((resource, why)) =
                run.config.identity.limits.iter().find_map(|(r, bounds)| Some((r, refused_limit(*r, *bounds)?))) =>
        {
            (SpawnFault::Setup, format!("cannot {step}: limits.{}: {why}", resource.key()))
        }
        Step::User | Step::Group | Step::Groups | Step::Capabilities | Step::Nice | Step::OomScore | Step::Limits
            if errno == libc::EPERM || errno == libc::EACCES =>
        {
            let identity = &run.config.identity;
            let wanted = match step {
                Step::User => identity.user.as_ref().map(|user| format!(" to {user}")),
                Step::Group => identity.group.as_ref().map(|group| format!(" to {group}")),
                Step::Nice => identity.nice.map(|nice| format!(" to {nice}")),
                Step::OomScore => identity.oom_score_adj.map(|score| format!(" to {score}")),
                _ => None,
            };
            let message = format!(
                "cannot {step}{}: the kernel does not permit it to this master (is it root?)",
                wanted.unwrap_or_default()
            );
            (SpawnFault::Setup, message)
        }
        Step::Chroot => {
            let root = run.config.identity.chroot.as_deref().unwrap_or(Path::new("/"));
            (SpawnFault::Setup, format!("cannot change the root directory to {}: {cause}", root.display()))
        }
        Step::Affinity => {
            let cpus: Vec<String> = run.config.identity.cpus.iter().map(u32::to_string).collect();
            let cpus = cpus.join(", ");
            (
                SpawnFault::Setup,
                format!("cannot bind it to a CPU of cpu_affinity = [{cpus}]: {cause} (the host may have no such CPU)"),
            )
        }
        step => {
            let fault = if lacking { SpawnFault::Resources } else { SpawnFault::Setup };
            (fault, format!("cannot {step}: {cause}"))
        }
    };
    SpawnError { fault, errno, message }
}
