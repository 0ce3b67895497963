//! Owns the upgrade in place: another program takes the place of this one in the same process, with the same workers, sockets and clients. First
//! it reads a copy of the state as a child and says what it would do; only then it is executed. What fails before its first effect leaves, or puts
//! back, the program that was.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clients::Awaits;
use super::handover::{Head, OrderState, Written, read};
use super::master::Master;
use super::notify::NotifySockets;
use super::token::Token;
use crate::os::epoll::Interest;
use crate::os::handover::{Passed, Taken, exec, exec_open, left_open, memory_file, own_program, read_memory_file};
use crate::os::io as fdio;
use crate::os::path;
use crate::os::signals::kill_group;
use crate::os::spawn::{self, ExecState, Plan, Source};
use crate::protocol::{ErrorName, Failure, UpgradeParameters, encode_outcome};
use crate::supervisor::{ExitStatus, KILL, Outcome, Time, count, human};

/// The number of the descriptor that the state is in, for the next image.
const STATE: &str = "POOLMASTER_UPGRADE";
/// Why the next image could not go on, for the one before it.
const FAILED: &str = "POOLMASTER_UPGRADE_FAILED";
/// Where the first image was started, by name: by now that may lead to another place than the one that this process is in.
const DIRECTORY: &str = "POOLMASTER_UPGRADE_DIRECTORY";
/// For a child that looks whether it could go on from the state in its descriptor 3.
const CHECK: &str = "POOLMASTER_UPGRADE_CHECK";
/// How long it all may take, where the order does not say.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at what is in the way.
const AGAIN: Duration = Duration::from_millis(10);
/// The log has so many looks, some 100 ms, to be written before the program goes.
const LAST_LINES: u32 = 500;
/// Of what the child says, so much is read.
const MOST: usize = 4096;
/// The first word of a child that could go on.
const WELL: &str = "poolmaster-upgrade: ";
/// What it doubts all the same.
const DOUBT: &str = "poolmaster-upgrade doubts: ";
/// The first words of one that could not.
const ILL: &str = "poolmaster-upgrade refused: ";

/// An upgrade that is under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    order: OrderState,
    program: CString,
    /// By which name the next one is started.
    argv0: OsString,
    until: Time,
    limit: Duration,
    /// For the end of a reload, too.
    waits: bool,
    stage: Stage,
    look_at: Time,
}

#[derive(Debug)]
enum Stage {
    /// Until nothing is in the way of writing the state down.
    Waiting,
    /// The next program reads a copy of it.
    Checking { pid: i32, exec: spawn::ExecPipe, out: OwnedFd, said: Vec<u8>, ended: Option<ExitStatus> },
    /// It could: the hook before it runs.
    Hooked,
    /// Until nothing is in the way.
    Ready,
}

/// What is in the way of an upgrade.
enum InTheWay {
    /// Over within moments.
    Passing(String),
    /// As long as something else goes on.
    Going(String),
    /// Nothing that ends by itself.
    Standing(String),
}

impl Upgrade {
    /// When to look again.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        match self.stage {
            Stage::Checking { .. } => Some(self.until),
            Stage::Hooked => None,
            Stage::Waiting | Stage::Ready => Some(self.look_at.min(self.until)),
        }
    }
}

impl Master {
    /// Takes the order. `trusted`: who gave it may name any program.
    pub(super) fn begin_upgrade(&mut self, client: u64, p: &UpgradeParameters, trusted: bool) -> Result<(), Failure> {
        let refused = |why: String| Failure::new(ErrorName::Refused, format!("{why}; the running program goes on"));
        if self.upgrade.is_some() {
            return Err(refused("an upgrade is under way already".to_owned()));
        }
        if p.binary.is_some() && !trusted {
            let words = "upgrade: only root and the master's own user may name the program (--binary)";
            return Err(Failure::new(ErrorName::NotPermitted, words));
        }
        match self.in_the_way() {
            Some(InTheWay::Standing(why)) => return Err(refused(why)),
            Some(InTheWay::Going(why)) if !p.wait_for_rest => {
                return Err(refused(format!("{why}: wait for its end, or upgrade --wait")));
            }
            Some(InTheWay::Going(_) | InTheWay::Passing(_)) | None => {}
        }
        let named = p.binary.as_ref().map(OsString::from);
        let argv0 = named.or_else(|| self.second.command_line().first().cloned()).unwrap_or_default();
        let program = self.find_program(&argv0).map_err(|why| Failure::new(ErrorName::RolledBack, why))?;
        let limit = p.timeout_ms.map_or(LIMIT, Duration::from_millis);
        let Some(waiting) = self.clients.get_mut(client) else { return Ok(()) };
        waiting.waiting = Some(Awaits::Upgrade);
        let by = format!("pid {} (uid {})", waiting.peer.pid, waiting.peer.uid);
        tracing::info!("upgrade asked by {by}: {} reads a copy of the state first", program.to_string_lossy());
        let now = Master::now();
        self.upgrade = Some(Upgrade {
            order: OrderState { client: Some(client), by },
            program,
            argv0,
            until: now + limit,
            limit,
            waits: p.wait_for_rest,
            stage: Stage::Waiting,
            look_at: now,
        });
        Ok(())
    }

    /// The program by its name, as it was found at the start: a link that was flipped since leads to the new one.
    fn find_program(&self, argv0: &OsStr) -> Result<CString, String> {
        let variable = |name: &str| self.environment.iter().find(|(n, _)| n == name).map(|(_, value)| value.to_string_lossy());
        let directory = self.common.directory.as_ref().map(|dir| Path::new(OsStr::from_bytes(dir.as_bytes())));
        let found = path::candidates(&argv0.to_string_lossy(), variable("PATH").as_deref(), directory);
        let absolute = |program: CString| {
            let program = PathBuf::from(OsStr::from_bytes(program.as_bytes()));
            directory.map_or_else(|| program.clone(), |directory| directory.join(&program))
        };
        let shown = argv0.to_string_lossy().into_owned();
        let mut why = format!("there is no program {shown:?}");
        for program in found.into_iter().map(absolute) {
            match std::fs::metadata(&program) {
                Ok(meta) if meta.is_file() => {
                    let executable = nix::unistd::access(&program, nix::unistd::AccessFlags::X_OK);
                    match executable.map(|()| CString::new(program.as_os_str().as_bytes())) {
                        Ok(Ok(program)) => return Ok(program),
                        _ => why = format!("{} cannot be executed", program.display()),
                    }
                }
                Ok(_) => why = format!("{} is no file", program.display()),
                Err(_) => {}
            }
        }
        Err(format!("{why}; the running program goes on; name another one with --binary"))
    }

    /// What keeps the state from being written down now.
    fn in_the_way(&self) -> Option<InTheWay> {
        use InTheWay::{Going, Passing, Standing};
        if self.core.is_ending() || self.exit.is_some() {
            return Some(Standing("this master is on its way out".to_owned()));
        }
        if self.second.is_one_of_two() {
            return Some(Standing("there are two masters (USR2): stop one of them first".to_owned()));
        }
        if self.held_config.is_some() || self.report.is_some() || self.revision == 0 {
            return Some(Going("this master is starting".to_owned()));
        }
        if self.core.reload_progress().is_some() || !self.staged.is_empty() {
            return Some(Going("a reload is under way".to_owned()));
        }
        if let Some(pool) = self.core.pools().iter().find(|pool| pool.rolling > 0) {
            return Some(Going(format!("workers of pool {} are being replaced", pool.spec.name)));
        }
        if self.is_held_up() {
            return Some(Passing("hooks run".to_owned()));
        }
        if self.reading.is_busy() || self.clients.plans() {
            return Some(Passing("a config is being read".to_owned()));
        }
        let leaving = |state| matches!(state, crate::supervisor::WorkerState::Leaving);
        if self.core.pools().iter().any(|pool| self.core.workers(pool.spec.id).iter().any(|w| leaving(w.state))) {
            return Some(Passing("a worker serves its queue before it is stopped".to_owned()));
        }
        if self.processes.all().any(|process| process.exec.is_some() || process.postponed.is_some()) {
            return Some(Passing("a worker is being started".to_owned()));
        }
        if self.looks.is_busy() || self.acks.is_busy() {
            return Some(Passing("a worker is being looked at".to_owned()));
        }
        let busy = !self.actions.is_empty() || !self.facts.is_empty() || !self.notes.is_empty() || !self.leftovers.is_empty();
        busy.then(|| Passing("the loop has something to do".to_owned()))
    }

    /// At the end of a turn: the next step, if its time has come.
    pub(super) fn upgrade_due(&mut self) {
        let Some(upgrade) = &self.upgrade else { return };
        let now = Master::now();
        let (late, limit, waits) = (now >= upgrade.until, upgrade.limit, upgrade.waits);
        match &upgrade.stage {
            Stage::Checking { pid, .. } => {
                if late {
                    // It leads its own group.
                    let _ = kill_group(*pid, KILL);
                    self.stillborn.insert(*pid);
                    self.upgrade_failed(format!("the new program did not read the state within {}", human(limit)));
                }
            }
            // It has a time limit of its own.
            Stage::Hooked => {}
            stage @ (Stage::Waiting | Stage::Ready) => {
                let checked = matches!(stage, Stage::Ready);
                match self.in_the_way() {
                    None if checked => self.execute(),
                    None => self.begin_check(),
                    Some(InTheWay::Standing(why)) => self.upgrade_refused(why),
                    Some(InTheWay::Going(why)) if !waits => self.upgrade_refused(why),
                    Some(InTheWay::Going(why) | InTheWay::Passing(why)) if late => {
                        self.upgrade_refused(format!("{why}, still after {}", human(limit)));
                    }
                    Some(InTheWay::Going(_) | InTheWay::Passing(_)) => {
                        if let Some(upgrade) = &mut self.upgrade {
                            upgrade.look_at = now + AGAIN;
                        }
                    }
                }
            }
        }
    }

    /// The new program reads a copy of the state.
    fn begin_check(&mut self) {
        match self.try_check() {
            Ok(stage) => {
                if let Some(upgrade) = &mut self.upgrade {
                    upgrade.stage = stage;
                }
            }
            Err(why) => self.upgrade_failed(why),
        }
    }

    fn try_check(&mut self) -> Result<Stage, String> {
        let Some(upgrade) = &self.upgrade else { return Err("there is none".to_owned()) };
        let (order, program, argv0) = (upgrade.order.clone(), upgrade.program.clone(), upgrade.argv0.clone());
        let words = |e: std::io::Error| format!("the state cannot be written down: {e}");
        let state = self.write_down(Some(order), None).map_err(words)?;
        self.unpack();
        let state = memory_file(&state.bytes).map_err(words)?;
        let (out, report) = fdio::news_pipe().map_err(words)?;
        let argv = self.words_for(&argv0)?;
        let env = self.environment_with(&[(CHECK, "1".into())]);
        let mut plan = Plan::new(vec![program], argv, env);
        plan.default_dir.clone_from(&self.common.directory);
        plan.identity.umask = Some(self.inherited_umask);
        plan.stdout = Source::Fd(report.as_fd());
        plan.stderr = Source::Fd(report.as_fd());
        plan.fds = vec![state.as_fd()];
        plan.death_signal = Some(KILL);
        plan.reset_signals = &self.common.reset_signals;
        let child = spawn::spawn(&plan).map_err(|failure| format!("the new program cannot be started: {failure}"))?;
        drop(plan);
        let watched = self.epoll.add(out.as_fd(), Token::Upgrade.into(), Interest::Read);
        watched.map_err(|e| format!("the new program cannot be watched: {e}"))?;
        Ok(Stage::Checking { pid: child.pid, exec: child.exec, out, said: Vec::new(), ended: None })
    }

    fn words_for(&self, argv0: &OsStr) -> Result<Vec<CString>, String> {
        let rest = self.second.command_line().iter().skip(1).map(OsString::as_os_str);
        let words = std::iter::once(argv0).chain(rest).map(|word| CString::new(word.as_bytes()));
        words.collect::<Result<_, _>>().map_err(|_| "a NUL in its command line".to_owned())
    }

    /// Its own environment, and these.
    fn environment_with(&self, own: &[(&str, OsString)]) -> Vec<CString> {
        let kept = self.environment.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        let own = own.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        kept.chain(own).filter_map(|variable| CString::new(variable).ok()).collect()
    }

    /// The child that reads the state says something, or has closed its end.
    pub(super) fn read_check(&mut self) {
        let Some(Upgrade { stage: Stage::Checking { out, said, .. }, .. }) = &mut self.upgrade else { return };
        let mut buffer = [0; MOST];
        let over = loop {
            match fdio::read(out.as_fd(), &mut buffer) {
                Ok(0) => break true,
                Ok(n) if said.len() < MOST => said.extend(buffer.iter().take(n)),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        if over {
            let _ = self.epoll.remove(out.as_fd());
            self.judge_check();
        }
    }

    /// A child has ended. True: it was the one that reads the state.
    pub(super) fn check_ended(&mut self, dead: i32, status: ExitStatus) -> bool {
        match &mut self.upgrade {
            Some(Upgrade { stage: Stage::Checking { pid, ended, .. }, .. }) if *pid == dead => *ended = Some(status),
            _ => return false,
        }
        self.read_check();
        self.judge_check();
        true
    }

    fn judge_check(&mut self) {
        let Some(Upgrade { stage: Stage::Checking { exec, said, ended: Some(status), out, .. }, .. }) = &self.upgrade else {
            return;
        };
        let said = String::from_utf8_lossy(said).into_owned();
        let verdict = match exec.poll() {
            ExecState::Failed(failure) => Err(format!("the new program cannot be executed: {failure}")),
            ExecState::Pending | ExecState::Running => match said.lines().find_map(|line| line.strip_prefix(WELL)) {
                Some(words) if *status == ExitStatus::Code(0) => Ok(words.to_owned()),
                _ => {
                    let named = said.lines().find_map(|line| line.strip_prefix(ILL));
                    let last = named.or_else(|| said.lines().rfind(|line| !line.trim().is_empty()));
                    let last = last.map(|line| crate::telemetry::printable(line.as_bytes()));
                    Err(format!(
                        "the new program did not take the state: {}",
                        last.unwrap_or_else(|| format!("{status} without a word"))
                    ))
                }
            },
        };
        let _ = self.epoll.remove(out.as_fd());
        match verdict {
            Ok(words) => {
                tracing::info!("upgrade: the new program could go on: {words}");
                if let Some(doubt) = said.lines().find_map(|line| line.strip_prefix(DOUBT)) {
                    let doubt = crate::telemetry::printable(doubt.as_bytes());
                    tracing::warn!(
                        "upgrade: the new program goes on, but does not take the config file as it is now: {doubt}; mend it before the next reload"
                    );
                }
                let program = self.upgrade.as_ref().map(|upgrade| upgrade.program.to_string_lossy().into_owned());
                let hooked = self.hook_upgrade(&program.unwrap_or_default());
                if let Some(upgrade) = &mut self.upgrade {
                    upgrade.stage = if hooked { Stage::Hooked } else { Stage::Ready };
                    upgrade.look_at = Master::now();
                }
            }
            Err(why) => self.upgrade_failed(why),
        }
    }

    /// The hook before it is over.
    pub(super) fn upgrade_hook_ended(&mut self, outcome: Result<(), String>) {
        let Some(upgrade) = self.upgrade.as_mut().filter(|upgrade| matches!(upgrade.stage, Stage::Hooked)) else { return };
        match outcome {
            Ok(()) => {
                let now = Master::now();
                // What it took is not the new program's.
                (upgrade.stage, upgrade.look_at, upgrade.until) = (Stage::Ready, now, now + upgrade.limit);
            }
            Err(why) => self.upgrade_failed(format!("the hook master.hooks.upgrade failed: {why}")),
        }
    }

    /// The point of no return, but for what the new program cannot do.
    fn execute(&mut self) {
        let Some(upgrade) = self.upgrade.take() else { return };
        let Upgrade { order, program, argv0, .. } = upgrade;
        self.say_goodbye();
        self.log.written(LAST_LINES);
        self.service.reload_begins(Master::now());
        let why = match self.try_execute(&order, &program, &argv0) {
            Ok(never) => match never {},
            Err(why) => why,
        };
        self.service.reload_ends();
        self.unpack();
        self.answer_upgrade(&order, &Outcome::RolledBack(format!("{why}; the running program goes on")));
    }

    fn try_execute(&mut self, order: &OrderState, program: &CString, argv0: &OsStr) -> Result<std::convert::Infallible, String> {
        let words = |e: std::io::Error| format!("the state cannot be handed over: {e}");
        let own = own_program().map_err(words)?;
        let argv = self.words_for(argv0)?;
        let Written { bytes, mut passed } =
            self.write_down(Some(order.clone()), Some(Passed::of(&own).map_err(words)?)).map_err(words)?;
        let state = memory_file(&bytes).map_err(words)?;
        passed.push(Passed::of(&state).map_err(words)?);
        let directory = self.common.directory.as_ref().map(|dir| OsString::from_vec(dir.as_bytes().to_vec()));
        let state_at = (STATE, OsString::from(state.as_raw_fd().to_string()));
        let own: Vec<(&str, OsString)> =
            directory.map(|directory| (DIRECTORY, directory)).into_iter().chain([state_at]).collect();
        let env = self.environment_with(&own);
        let kept = passed.iter().try_for_each(|one| one.keep(true));
        let why = match kept {
            Ok(()) => format!("{} cannot be executed: {}", program.to_string_lossy(), exec(program, &argv, &env)),
            Err(e) => format!("the state cannot be handed over: {e}"),
        };
        // What cannot be closed again goes to workers, which is no harm to them.
        passed.iter().for_each(|one| drop(one.keep(false)));
        Err(why)
    }

    /// After [`Master::write_down`], when this program goes on.
    fn unpack(&mut self) {
        let next = self.notify_sockets.pack();
        self.notify_sockets = NotifySockets::after(next);
    }

    fn upgrade_refused(&mut self, why: String) {
        if let Some(upgrade) = self.upgrade.take() {
            self.answer_upgrade(&upgrade.order, &Outcome::Refused(format!("{why}; the running program goes on")));
        }
    }

    fn upgrade_failed(&mut self, why: String) {
        if let Some(upgrade) = self.upgrade.take() {
            self.answer_upgrade(&upgrade.order, &Outcome::RolledBack(format!("{why}; the running program goes on")));
        }
    }

    /// Tells whoever waits, and the log.
    pub(super) fn answer_upgrade(&mut self, order: &OrderState, outcome: &Outcome) {
        let by = &order.by;
        match outcome {
            Outcome::Done(text) => tracing::info!("upgrade by {by}: {text}"),
            Outcome::Refused(text) | Outcome::RolledBack(text) => tracing::error!("upgrade by {by} failed: {text}"),
            Outcome::Failed(text) | Outcome::TimedOut(text) | Outcome::Invalid(text) => {
                tracing::error!("upgrade by {by}: {text}")
            }
        }
        self.service.update(&self.core);
        let Some(number) = order.client else { return };
        if let Some(client) = self.clients.get_mut(number) {
            client.waiting = None;
            self.clients.send(number, &encode_outcome(outcome));
        }
    }

    /// This image goes on from the state of another one, at last.
    pub(super) fn has_taken_over(&mut self, head: &Head, order: Option<&OrderState>, failed: Option<&str>) {
        let gap = Master::now() - head.at;
        let text = format!(
            "poolmaster {} goes on in the place of {}, as the same process ({}) with {}; {:.1} ms without supervision",
            env!("CARGO_PKG_VERSION"),
            head.version,
            self.pid,
            count(self.processes.all().count(), "worker"),
            gap.as_secs_f64() * 1000.0
        );
        let outcome = match failed {
            None => Outcome::Done(text),
            Some(why) => Outcome::RolledBack(format!("{why}; the program before it goes on, with the same state")),
        };
        let order = order.cloned().unwrap_or_else(|| OrderState { client: None, by: "nobody".to_owned() });
        self.answer_upgrade(&order, &outcome);
    }
}

/// The state that another image of this process has left for this one.
#[derive(Debug)]
pub struct Handover {
    state: RawFd,
    /// Why the image in between could not go on.
    failed: Option<String>,
    directory: Option<PathBuf>,
}

impl Handover {
    /// This process was another program until a moment ago.
    pub fn of(environment: &[(OsString, OsString)]) -> Option<Handover> {
        let variable = |wanted: &str| environment.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let number = variable(STATE)?.to_str()?.parse().ok()?;
        Some(Handover {
            state: number,
            failed: variable(FAILED).map(|words| words.to_string_lossy().into_owned()),
            directory: variable(DIRECTORY).map(PathBuf::from),
        })
    }

    /// Where the first image of this process was started, by name.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// What it says, and why the image in between could not go on.
    pub(super) fn take(self, taken: &mut Taken) -> std::io::Result<(Vec<u8>, OwnedFd, Option<String>)> {
        let (bytes, state) = read_memory_file(taken.take_number(self.state)?)?;
        Ok((bytes, state, self.failed))
    }
}

/// None of these is for anybody but the next image.
pub(super) fn forget(environment: &mut Vec<(OsString, OsString)>) {
    environment.retain(|(name, _)| ![STATE, FAILED, DIRECTORY, CHECK].iter().any(|own| name == own));
}

/// Goes back to the program before this one, with the state as it was: all that it has left is open still, by its old numbers. Comes back only when
/// that fails, too. `env`: as this image was given it.
pub(super) fn go_back(program: &OwnedFd, argv: &[OsString], env: &[(OsString, OsString)], why: &str) -> std::io::Error {
    let argv: Vec<CString> = argv.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect();
    let kept = env.iter().filter(|(name, _)| name != FAILED);
    let kept = kept.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let failed = format!("{FAILED}={why}").into_bytes();
    let env: Vec<CString> = kept.chain([failed]).filter_map(|variable| CString::new(variable).ok()).collect();
    exec_open(program.as_fd(), &argv, &env)
}

/// In a child: whether this program could go on from the state in descriptor 3, in words. `None`: nobody asks. `reads`: what is wrong with a config
/// file for this program.
pub fn check(
    environment: &[(OsString, OsString)],
    reads: impl FnOnce(&Path) -> Result<(), String>,
) -> Option<Result<String, String>> {
    environment.iter().find(|(name, _)| name == CHECK)?;
    let bytes = left_open(3).and_then(read_memory_file).map_err(|e| format!("the state cannot be read: {e}"));
    let verdict = bytes.and_then(|(bytes, _)| {
        let record = read(&bytes)?;
        let words = format!(
            "{WELL}poolmaster {} would go on with {} and {}",
            env!("CARGO_PKG_VERSION"),
            count(record.current.len(), "pool"),
            count(record.processes.len(), "worker")
        );
        let config = record.configs.iter().find(|(revision, _)| *revision == record.master.revision);
        let wrong = config.and_then(|(_, config)| reads(config.path.as_deref()?).err());
        let doubt = wrong.map(|why| format!("\n{DOUBT}{}", why.lines().next().unwrap_or_default().trim_start_matches("error: ")));
        Ok(words + &doubt.unwrap_or_default())
    });
    Some(verdict.map_err(|why| format!("{ILL}{why}")))
}
