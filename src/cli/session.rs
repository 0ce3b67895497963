//! Owns what all verbs share that talk to a master: the flags that find it, asking it, and showing its reply.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::interrupt::Interrupt;
use super::steps::Steps;
use super::{Context, Exit, instance, output};
use crate::client::{ClientError, Connection, Search, locate};
use crate::protocol::{Call, ErrorName, Failure, OutcomeReply, ProgressReply, Reply, Request};

/// How long a master may take to answer a question, or to accept an order.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two tries with a master that has no place.
const AGAIN: Duration = Duration::from_millis(100);
/// What a master gets beyond `--timeout` to say itself that the time is over.
const GRACE: Duration = Duration::from_millis(500);

/// Flags of every verb that talks to a master.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which master, and how")]
pub struct Reach {
    /// The master's control socket [env: POOLMASTER_SOCKET]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// The config of the master that is meant
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where to look for control sockets [env: POOLMASTER_RUNTIME_DIR]
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,

    /// Print the master's reply as JSON
    #[arg(long)]
    pub json: bool,

    /// Wait no longer than this (30s, 2m): exit 5, the work goes on
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    pub timeout: Option<Duration>,
}

impl Reach {
    /// What was typed after the verb, else what was typed before it.
    pub(super) fn or(self, before: Reach) -> Reach {
        Reach {
            socket: self.socket.or(before.socket),
            config: self.config.or(before.config),
            runtime_dir: self.runtime_dir.or(before.runtime_dir),
            json: self.json || before.json,
            timeout: self.timeout.or(before.timeout),
        }
    }

    /// The first flag that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        [
            (self.socket.is_some(), "--socket"),
            (self.config.is_some(), "--config"),
            (self.runtime_dir.is_some(), "--runtime-dir"),
            (self.json, "--json"),
            (self.timeout.is_some(), "--timeout"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }
}

/// Flags of verbs whose effect may take a while.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Waiting {
    /// Return once the effect is real (the default)
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,

    /// Return as soon as the master has taken the order
    #[arg(long, overrides_with = "wait")]
    pub no_wait: bool,
}

/// What a verb has to say in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For stdout.
    pub text: String,
    /// The exit code.
    pub exit: Exit,
    /// For stderr, when the code is not 0.
    pub why: String,
}

impl Answer {
    /// All is well.
    pub fn done(text: String) -> Answer {
        Answer { text, exit: Exit::Done, why: String::new() }
    }
}

/// One verb's talk with a master.
#[derive(Debug)]
pub struct Session<'a> {
    reach: &'a Reach,
    ctx: &'a Context,
}

impl<'a> Session<'a> {
    /// With these flags, in these surroundings.
    pub fn new(reach: &'a Reach, ctx: &'a Context) -> Session<'a> {
        Session { reach, ctx }
    }

    /// Output may have colours.
    pub fn colours(&self) -> bool {
        self.ctx.colours()
    }

    /// Output is JSON.
    pub fn json(&self) -> bool {
        self.reach.json
    }

    /// A file as the master has to name it, which runs in another folder.
    pub fn absolute(&self, file: &Path) -> Result<String, ClientError> {
        let path = self.ctx.cwd.join(file);
        path.into_os_string().into_string().map_err(|path| {
            let words = format!("the path {} is not UTF-8: the master cannot be told of it", path.display());
            ClientError::Answered(Failure::new(ErrorName::InvalidParameter, words))
        })
    }

    /// `timeout_ms` of a request.
    pub fn timeout_ms(&self) -> Option<u64> {
        self.reach.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX))
    }

    /// Finds the master and connects.
    pub fn connect(&self) -> Result<Connection, ClientError> {
        let path = |name| self.ctx.var(name).map(Path::new);
        locate(&Search {
            socket: self.reach.socket.as_deref(),
            config: self.reach.config.as_deref(),
            runtime_dir: self.reach.runtime_dir.as_deref(),
            env_socket: path("POOLMASTER_SOCKET"),
            env_runtime_dir: path("POOLMASTER_RUNTIME_DIR"),
            xdg_runtime_dir: self.ctx.var("XDG_RUNTIME_DIR"),
            uid: nix::unistd::geteuid().as_raw(),
            here: Some(&self.ctx.cwd),
            places_of_config: &|config| instance::places_of(config, self.ctx),
            patience: self.reach.timeout.unwrap_or(ANSWER),
        })
    }

    /// Asks a question. It is answered at once, or the master is not well.
    pub fn question(&self, request: Request) -> Result<Reply, ClientError> {
        self.question_with_peer(request).map(|(reply, _)| reply)
    }

    /// The same; and the master's pid as it is seen from here ([`Connection::peer_pid`]).
    pub fn question_with_peer(&self, request: Request) -> Result<(Reply, Option<i32>), ClientError> {
        let patience = self.reach.timeout.unwrap_or(ANSWER);
        patiently(patience, || {
            let mut connection = self.connect()?;
            Ok((connection.ask(&Call::new(request.clone()), Some(patience))?, connection.peer_pid()))
        })
    }

    /// Gives an order whose effect may take a while, and shows what came of it.
    pub fn order(&self, request: Request) -> Result<Answer, ClientError> {
        patiently(ANSWER, || self.order_on(&mut self.connect()?, request.clone()))
    }

    /// The same, on a connection that is used on.
    pub fn order_on(&self, connection: &mut Connection, request: Request) -> Result<Answer, ClientError> {
        let patience = request.patience();
        let bound = if patience.wait { patience.timeout.map(|t| t + GRACE) } else { Some(ANSWER) };
        // Of what is replaced one wants to see how far it is.
        let hint = hint(&request);
        let more = patience.wait && !self.json() && hint.is_some();
        let interrupt = Interrupt::watch();
        let mut steps = Steps::new(self.ctx.live());
        let reply = connection.follow(&Call { request, more }, bound, interrupt.as_ref().map(Interrupt::fd), |reply| {
            if let Ok(step) = reply.parameters::<ProgressReply>() {
                output::err(&steps.show(&step));
            }
        });
        match reply {
            Err(ClientError::Interrupted(words)) => Err(ClientError::Interrupted(format!(
                "{words}; see how far it is: poolmaster status{}",
                hint.unwrap_or_default()
            ))),
            other => self.outcome(&other?),
        }
    }

    /// Gives an order that takes effect at once.
    pub fn command(&self, request: Request) -> Result<Answer, ClientError> {
        let reply = self.question(request)?;
        self.outcome(&reply)
    }

    /// The reply's content.
    pub fn read<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, ClientError> {
        reply.parameters().map_err(|e| {
            ClientError::Garbled(format!(
                "the master answered with {e}; is it of another version than this client ({})?",
                super::VERSION
            ))
        })
    }

    /// The reply as it came with `--json`, else as `render` shows it.
    pub fn show<T: DeserializeOwned>(&self, reply: &Reply, render: impl FnOnce(&T) -> String) -> Result<Answer, ClientError> {
        let content = self.read::<T>(reply)?;
        Ok(Answer::done(if self.json() { format!("{}\n", reply.json()) } else { render(&content) }))
    }

    fn outcome(&self, reply: &Reply) -> Result<Answer, ClientError> {
        let outcome: OutcomeReply = self.read(reply)?;
        let exit = Exit::of(outcome.code);
        let words = super::words::printable(&outcome.message);
        let text = match (self.json(), exit, words.is_empty()) {
            (true, ..) => format!("{}\n", reply.json()),
            (false, Exit::Done, false) => format!("{words}\n"),
            _ => String::new(),
        };
        Ok(Answer { text, exit, why: words })
    }
}

/// How to follow an order that replaces workers, and to stop it; `None`: it does not.
fn hint(request: &Request) -> Option<&'static str> {
    match request {
        Request::Reload(_) => {
            Some("; wait for it: poolmaster wait POOL --for settled; undo it while it is tried: poolmaster reload --abort")
        }
        Request::Restart(_) | Request::Rollback(_) => Some("; wait for it: poolmaster wait POOL --for settled"),
        Request::Info
        | Request::Status(_)
        | Request::Ps(_)
        | Request::Health(_)
        | Request::Listeners(_)
        | Request::Signals
        | Request::Plan(_)
        | Request::History
        | Request::Scale(_)
        | Request::Stop(_)
        | Request::Start(_)
        | Request::Kill(_)
        | Request::Wait(_)
        | Request::Retry(_)
        | Request::Abort(_)
        | Request::Upgrade(_)
        | Request::Reopen
        | Request::Shutdown(_) => None,
    }
}

/// Tries again for a while where the master has no place for one more client: it has not even read what was asked.
#[expect(clippy::disallowed_methods, reason = "a client has no loop that could hand it the time")]
fn patiently<T>(patience: Duration, mut ask: impl FnMut() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let begin = std::time::Instant::now();
    loop {
        match ask() {
            Err(ClientError::Answered(failure)) if failure.error == ErrorName::Busy.as_str() && begin.elapsed() < patience => {
                std::thread::park_timeout(AGAIN);
            }
            other => return other,
        }
    }
}

/// Words that name no pools. Found before a master is looked for.
pub(super) fn usage(e: crate::protocol::ParseError) -> ClientError {
    ClientError::Answered(Failure::new(ErrorName::InvalidParameter, e.to_string()))
}

/// Reads `30s`, `1m 30s`, or a bare number of seconds, as the config does.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u32>().ok().map(|s| Duration::from_secs(u64::from(s)));
    match seconds.map_or_else(|| humantime::parse_duration(text).map_err(|e| e.to_string()), Ok) {
        Ok(d) if d.as_millis() == 0 => Err("it must be at least 1ms; to wait for nothing use --no-wait".to_owned()),
        Ok(d) if d > Duration::from_secs(366 * 86_400) => Err("a year is the longest".to_owned()),
        Ok(d) => Ok(d),
        Err(_) => Err("it is no time: write 500ms, 30s or \"1m 30s\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_durations_or_seconds() {
        assert_eq!(parse_timeout("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_timeout("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_timeout("200ms"), Ok(Duration::from_millis(200)));
        for bad in ["", "0", "0s", "1ns", "soon", "-1", "1000y"] {
            assert!(parse_timeout(bad).is_err(), "{bad:?}");
        }
    }
}
