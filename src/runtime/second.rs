//! Owns the second master: how one is started beside this one, on the same sockets (USR2), and how a second one takes the place of a first that
//! is gone. Each of the two has its own workers; until then the second one goes by `NAME.2`.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::files;
use super::master::Master;
use super::sockets::Socket;
use super::throttle::Repeated;
use super::token::Token;
use crate::config::spec::{self, Config};
use crate::os::dirs::FileId;
use crate::os::epoll::Interest;
use crate::os::listener::Listening;
use crate::os::path;
use crate::os::process::{parent_pid, pidfd, self_pid};
use crate::os::spawn::{self, Plan, Resource};
use crate::supervisor::{Command, CommandId, Event, ExitStatus, PoolId, Sender, Time};

/// What a second master is told by the first.
const VARIABLE: &str = "POOLMASTER_SECOND";
/// What its files are called beside those of the first.
const SUFFIX: &str = ".2";
/// More is not taken (LISTEN_FDS), nor fits into a variable.
const MOST: usize = 512;
/// Between two tries to take the name of a first master that is gone.
const AGAIN: Duration = Duration::from_secs(1);

/// What a second master is told by the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beside {
    /// The first.
    parent: i32,
    /// In the order of the descriptors.
    sockets: Vec<Shared>,
}

/// A listening socket of the first master.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Shared {
    /// Whose it is: `POOL.LISTENER`.
    pub(super) of: String,
    /// Where it listens, as in the config.
    pub(super) at: String,
    /// The first has made it; false: a service manager has.
    pub(super) own: bool,
    /// The file of a Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<FileId>,
}

impl Beside {
    /// This process was started as a second master.
    pub fn of(environment: &[(OsString, OsString)]) -> Option<Beside> {
        let (_, text) = environment.iter().find(|(name, _)| name == VARIABLE)?;
        let beside: Beside = serde_json::from_slice(text.as_bytes()).ok()?;
        // One that is left over from somewhere is nobody's word. The first may be gone already.
        let ours = environment.iter().any(|(name, pid)| name == "LISTEN_PID" && pid.to_str() == Some(&self_pid().to_string()));
        (ours || beside.parent == parent_pid()).then_some(beside)
    }

    pub(super) fn sockets(&self) -> &[Shared] {
        &self.sockets
    }
}

/// Gives a second master its own files.
pub(super) fn rename(master: &mut spec::Master) {
    master.name.push_str(SUFFIX);
    master.pidfile = beside(&master.pidfile, "");
    master.socket = beside(&master.socket, ".sock");
    // Two do not write into one.
    master.trace = master.trace.take().map(|path| beside(&path, ""));
}

/// Undoes [`rename`].
fn first_name(master: &mut spec::Master) {
    let back = |path: &Path, end: &str| {
        let text = path.as_os_str().as_bytes();
        let stem = text.strip_suffix(format!("{SUFFIX}{end}").as_bytes()).map(|stem| (stem, end));
        let (stem, end) = stem.or(text.strip_suffix(SUFFIX.as_bytes()).map(|stem| (stem, ""))).unwrap_or((text, ""));
        PathBuf::from(OsStr::from_bytes(&[stem, end.as_bytes()].concat()))
    };
    if let Some(name) = master.name.strip_suffix(SUFFIX) {
        master.name = name.to_owned();
        master.pidfile = back(&master.pidfile, "");
        master.socket = back(&master.socket, ".sock");
    }
}

/// `t.pid`: `t.pid.2`. `t.sock`: `t.2.sock`, where clients look.
fn beside(path: &Path, end: &str) -> PathBuf {
    let text = path.as_os_str().as_bytes();
    let (stem, end) = text.strip_suffix(end.as_bytes()).map_or((text, ""), |stem| (stem, end));
    PathBuf::from(OsString::from_vec([stem, SUFFIX.as_bytes(), end.as_bytes()].concat()))
}

/// The other one of two masters.
#[derive(Debug, Default)]
pub(super) struct Second {
    /// The words that this master was started with.
    command_line: Vec<OsString>,
    /// One that was started by this master.
    child: Option<Child>,
    /// The one that has started this master.
    parent: Option<Parent>,
    /// Pools that start once it is gone.
    waiting: Vec<PoolId>,
}

#[derive(Debug)]
struct Child {
    pid: i32,
    exec: spawn::ExecPipe,
    sockets: Vec<Rc<Socket>>,
}

#[derive(Debug)]
struct Parent {
    pid: i32,
    /// Readable once it is gone. `None`: it is.
    fd: Option<OwnedFd>,
    retry_at: Option<Time>,
}

impl Second {
    pub(super) fn of(command_line: Vec<OsString>) -> Second {
        Second { command_line, ..Second::default() }
    }

    /// The words that this master was started with.
    pub(super) fn command_line(&self) -> &[OsString] {
        &self.command_line
    }

    /// There are two masters, and this is one of them.
    pub(super) fn is_one_of_two(&self) -> bool {
        self.child.is_some() || self.parent.is_some()
    }

    /// The second master that this one has started.
    pub(super) fn child(&self) -> Option<i32> {
        self.child.as_ref().map(|child| child.pid)
    }

    /// Sockets that the second master has as well: open as long as it lives, whatever becomes of the listeners here.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Rc<Socket>> {
        self.child.iter().flat_map(|child| &child.sockets)
    }

    /// When to try again to take the name.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.parent.as_ref()?.retry_at
    }
}

impl Master {
    /// From now on the end of the first master is seen.
    pub(super) fn watch_first(&mut self, beside: &Beside) -> std::io::Result<()> {
        let fd = match pidfd(beside.parent) {
            // Gone before, and its number somebody else's by now.
            Ok(_) if parent_pid() != beside.parent => None,
            Ok(fd) => Some(fd),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => None,
            Err(e) => return Err(e),
        };
        if let Some(fd) = &fd {
            self.epoll.add(fd.as_fd(), Token::First.into(), Interest::Read)?;
        }
        self.service.be_silent();
        let retry_at = fd.is_none().then(Master::now);
        self.second.parent = Some(Parent { pid: beside.parent, fd, retry_at });
        Ok(())
    }

    /// A config, as long as this is a second master: its files are called otherwise, and pools that nobody can share start later.
    pub(super) fn as_second(&mut self, config: &mut Config) {
        if self.second.parent.is_none() {
            // One that was kept, or read, before the promotion. No name has a dot of its own.
            return first_name(&mut config.master);
        }
        if !config.master.name.ends_with(SUFFIX) {
            rename(&mut config.master);
        }
        let beside = config.master.second_starts;
        // Whose workers listen themselves cannot have the ports that the first one's have.
        let waits = |pool: &spec::Pool| pool.listeners.is_empty() && (!beside || pool.launch.protocols.port.is_some());
        for pool in config.pools.iter_mut().filter(|pool| pool.spec.autostart && waits(pool)) {
            let id = pool.spec.id;
            if self.core.pool(id).is_none() && !self.second.waiting.contains(&id) {
                let pool = pool.spec.name.as_str();
                tracing::info!(pool, "starts once the first master is gone: it has no listener that two could share");
                self.second.waiting.push(id);
            }
            pool.spec.autostart &= !self.second.waiting.contains(&id);
        }
        // Those of the first are there for whoever comes after them.
        for pool in &mut config.pools {
            pool.spec.after.retain(|before| !self.second.waiting.contains(before));
        }
    }

    /// Starts a second master, unless there are two already.
    pub(super) fn start_second(&mut self, sender: Sender) {
        match self.try_start_second() {
            // The kernel ends all that is left of a pid namespace with its first process.
            Ok(pid) if self.pid == 1 => tracing::warn!(
                "SIGUSR2 from {sender}: second master started (pid {pid}): it has the same sockets and goes by {}{SUFFIX}; this one is process 1 here, and \
                 with its end the whole container ends: the new one can be looked at, and be stopped with TERM, but not take over",
                self.config.name
            ),
            Ok(pid) => tracing::info!(
                "SIGUSR2 from {sender}: second master started (pid {pid}): it has the same sockets and goes by {}{SUFFIX}; stop this one with TERM to let it take over, or that one \
                 with TERM to go back",
                self.config.name
            ),
            Err(why) if self.tells(Repeated::MasterSignal("USR2")) => {
                tracing::warn!("SIGUSR2 from {sender}: no second master is started: {why}");
            }
            Err(_) => {}
        }
    }

    fn try_start_second(&mut self) -> Result<i32, String> {
        if let Some(pid) = self.second.child() {
            return Err(format!("there is one already (pid {pid})"));
        }
        if let Some(parent) = &self.second.parent {
            return Err(format!("this is one itself, and has not taken the place of the first (pid {}) yet", parent.pid));
        }
        // Not those that are on their way out.
        let mut seen = BTreeSet::new();
        let in_force = self.runs.iter().filter(|(id, _)| self.is_in_force(**id)).flat_map(|(_, run)| &run.sockets);
        let sockets: Vec<Rc<Socket>> = in_force.filter(|socket| seen.insert(Rc::as_ptr(socket))).cloned().collect();
        if sockets.len() > MOST {
            return Err(format!("{} listening sockets are more than can be handed over ({MOST})", sockets.len()));
        }
        if let Some(own) = sockets.iter().find(|socket| socket.slots().is_some()) {
            return Err(format!(
                "listener {} has a socket for each worker (reuseport), which two masters cannot share; without the key, from the start of the master on, they can",
                own.origin()
            ));
        }
        let text = serde_json::to_string(&Beside {
            parent: self.pid,
            sockets: sockets
                .iter()
                .map(|socket| Shared {
                    of: socket.origin().to_owned(),
                    at: socket.address().to_string(),
                    own: socket.all().iter().all(|listening| listening.is_own()),
                    file: socket.listening.file(),
                })
                .collect(),
        });
        let text = text.map_err(|e| e.to_string())?;
        let listening: Vec<Rc<Listening>> = sockets.iter().flat_map(|socket| socket.all()).collect();
        let words = |word: &OsString| CString::new(word.as_bytes()).map_err(|_| "a NUL in its command line".to_owned());
        let argv = self.second.command_line.iter().map(words).collect::<Result<Vec<CString>, String>>()?;
        let variable = |name: &str| self.environment.iter().find(|(n, _)| n == name).map(|(_, value)| value.to_string_lossy());
        let program = self.second.command_line.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let mut programs = path::candidates(&program, variable("PATH").as_deref(), None);
        programs.extend(CString::new(self.common.own_binary.as_os_str().as_bytes()));
        let own = [VARIABLE, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"];
        let kept = self.environment.iter().filter(|(name, _)| !own.iter().any(|own| name == own));
        let mut env: Vec<Vec<u8>> = kept.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect();
        env.push(format!("{VARIABLE}={text}").into_bytes());
        if !listening.is_empty() {
            env.push(format!("LISTEN_FDS={}", listening.len()).into_bytes());
        }
        let mut plan = Plan::new(programs, argv, env.into_iter().filter_map(|variable| CString::new(variable).ok()).collect());
        plan.listen_pid = !listening.is_empty();
        plan.watchdog_pid = variable("WATCHDOG_USEC").is_some();
        plan.default_dir.clone_from(&self.common.directory);
        plan.identity.umask = Some(self.inherited_umask);
        plan.fds = listening.iter().map(|listening| listening.as_fd()).collect();
        plan.reset_signals = &self.common.reset_signals;
        for resource in [Resource::OpenFiles, Resource::Signals] {
            if let Some((soft, hard)) = self.common.given_back(resource) {
                plan.identity.limits.push((resource, soft, hard));
            }
        }
        let child = spawn::spawn(&plan).map_err(|failure| format!("cannot start {program:?}: {failure}"))?;
        drop(plan);
        // Whichever of the two ends first takes nothing from the other.
        listening.iter().for_each(|listening| listening.share(true));
        drop(listening);
        self.second.child = Some(Child { pid: child.pid, exec: child.exec, sockets });
        Ok(child.pid)
    }

    /// A child has ended. True: it was the second master.
    pub(super) fn second_ended(&mut self, pid: i32, status: ExitStatus) -> bool {
        let Some(child) = self.second.child.take_if(|child| child.pid == pid) else { return false };
        child.sockets.iter().flat_map(|socket| socket.all()).for_each(|listening| listening.share(false));
        // It may have taken the file of a listener with it.
        child.sockets.iter().for_each(|socket| socket.restore_file());
        self.service.take_back();
        let why = match child.exec.poll() {
            spawn::ExecState::Failed(failure) => format!("its program could not be run: {failure}"),
            _ => status.to_string(),
        };
        tracing::warn!("the second master (pid {pid}) has ended: {why}; this one goes on alone, and USR2 starts another");
        true
    }

    /// The second master, if there is one, is the main process of the unit from now on.
    pub(super) fn hand_over_word(&mut self) {
        if let Some(second) = self.second.child() {
            self.service.hand_over(second);
        }
    }

    /// The first master is gone: this one takes its name, and what was its.
    pub(super) fn promote(&mut self) {
        let Some(parent) = &mut self.second.parent else { return };
        if let Some(fd) = parent.fd.take() {
            let _ = self.epoll.remove(fd.as_fd());
        }
        parent.retry_at = None;
        let pid = parent.pid;
        let begun = self.held_config.is_none() && !self.core.pools().is_empty();
        let Some(config) = self.configs.get(&self.revision).filter(|_| begun) else {
            // Its own config is not in force yet.
            return self.promote_later(AGAIN / 10);
        };
        let mut master = config.master.clone();
        first_name(&mut master);
        let names = match self.offer_name(&master) {
            Ok(names) => names,
            Err(e) => {
                tracing::warn!(
                    "the first master (pid {pid}) is gone, and its name cannot be taken yet: {e}; trying again each second"
                );
                return self.promote_later(AGAIN);
            }
        };
        for config in self.configs.values_mut() {
            first_name(&mut Rc::make_mut(config).master);
        }
        for staged in self.staged.values_mut() {
            first_name(&mut Rc::make_mut(&mut staged.config).master);
        }
        self.take_name(names, &master);
        for problem in self.files.release_former() {
            tracing::warn!("{problem}");
        }
        // One that was killed has left its folder.
        files::sweep(&master, &master.name);
        for listening in self.open_sockets().iter().flat_map(|socket| socket.all()) {
            let Some(file) = self.handed.own().get(&listening.inode()).copied() else { continue };
            if let Err(e) = listening.take_over(file) {
                tracing::warn!("listener {}: its socket serves, but its file cannot be taken over: {e}", listening.local_addr());
            }
        }
        self.second.parent = None;
        self.service.take_back();
        tracing::info!("promoted: the first master (pid {pid}) is gone, this one has its name and its sockets");
        let pools = std::mem::take(&mut self.second.waiting);
        if !pools.is_empty() {
            let id = CommandId(self.next_command);
            self.next_command += 1;
            let sender = Sender { pid: self.pid, uid: self.uid };
            self.facts.push_back(Event::Command { id, command: Command::Start { pools }, sender, timeout: None });
            self.facts.push_back(Event::Abandoned { id });
        }
    }

    fn promote_later(&mut self, wait: Duration) {
        if let Some(parent) = &mut self.second.parent {
            parent.retry_at = Some(Master::now() + wait);
        }
    }

    /// The time for another try has come.
    pub(super) fn second_due(&mut self) {
        if self.second.next_deadline().is_some_and(|at| at <= Master::now()) {
            self.promote();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn a_second_master_has_files_of_its_own_and_takes_the_first_ones_names() {
        for more in ["", "socket = \"/run/x/control\"\npidfile = \"/run/x/pid\""] {
            let text = format!("[master]\nname = \"t\"\nruntime_dir = \"/run/x\"\n{more}\n[pool.a]\ncommand = \"x\"");
            let sources = Sources { path: Some("/etc/p.toml".into()), text: Some(text), ..Sources::default() };
            let first = load(&sources).expect("a config").master;
            let mut second = first.clone();
            rename(&mut second);
            let all = |m: &spec::Master| [PathBuf::from(&m.name), m.pidfile.clone(), m.socket.clone()];
            assert!(all(&first).iter().zip(&all(&second)).all(|(a, b)| a != b), "{second:?}");
            first_name(&mut second);
            assert_eq!(all(&first), all(&second));
        }
        assert_eq!(beside(Path::new("/run/t.sock"), ".sock"), Path::new("/run/t.2.sock"));
    }
}
