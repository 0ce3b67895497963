//! `run`: reads the config, starts a master in the foreground, ends with its exit code.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::host::{self, Look};
use super::{Context, Exit, output};
use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::spec::Config;
use crate::config::{self, Flag, Sources};
use crate::os::activation;
use crate::runtime::daemon::{self, Outcome, Side, Waiting};
use crate::runtime::{self, Again, Beside, Handover, Settings, StartError};

/// Start a master and keep its pools alive
///
/// The master stays in the foreground and logs to stderr. Stop it with Ctrl-C (quickly), `kill` (gracefully), or
/// `poolmaster shutdown`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster run                               the config in ./pools.toml, or in
                                               /etc/poolmaster/pools.toml
  poolmaster run shop.toml --workers web=8     a config, with one value from here
  poolmaster run --only web                    one of its pools alone
  poolmaster run --listen :8000 --workers 4 -- uvicorn app:app --fd {fd}
                                               no config: one pool named main

Exit codes: 0 stopped as ordered, 1 failed, 2 wrong usage or wrong config, 3 a
worker could not boot, 4 a worker could not load its application, 70 internal
error.")]
pub struct Args {
    /// The config file [default: ./pools.toml, then /etc/poolmaster/pools.toml]
    pub config: Option<PathBuf>,
    /// The same, as other verbs are told it
    #[arg(short = 'c', long = "config", id = "config_named", value_name = "FILE", conflicts_with = "config")]
    pub named: Option<PathBuf>,

    /// Run only this pool of the config (may be repeated)
    #[arg(long, value_name = "POOL")]
    pub only: Vec<String>,

    /// Set any key of the config, for example pool.web.graceful_timeout=10s (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Set a pool's number of workers; without a config, the number itself
    #[arg(long, value_name = "POOL=N")]
    pub workers: Vec<String>,

    /// Directory for the control socket, the pid file and the workers' notify sockets
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,

    /// Go to the background; this process ends once the pools are ready, or have failed (needs a log file)
    #[arg(long)]
    pub daemon: bool,

    /// Least level that is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// Log as JSON lines or as text
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Log to this file instead of stderr
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Record every event and action of the core, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// Without a config: an address to listen on, such as :8000 or unix:/run/app.sock (may be repeated)
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    pub listen: Vec<String>,

    /// Without a config: the command of the one pool, after `--`
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "config")]
    pub command: Vec<String>,
}

impl Args {
    /// The file, however it was named.
    fn file(&self) -> Option<&PathBuf> {
        self.config.as_ref().or(self.named.as_ref())
    }
}

/// Runs until the master ends.
pub fn run(args: &Args, ctx: &Context) -> Exit {
    // Another program was here a moment ago, or is to be told whether this one could go on in its place.
    let reads = |path: &Path| {
        let sources = sources(args, ctx)?;
        let loaded = config::explain(&Sources { path: Some(ctx.cwd.join(path)), ..sources });
        let first = |all: Diagnostics| all.errors().next().map_or_else(|| all.to_string(), Diagnostic::line);
        keep(&mut loaded.map_err(first)?.config, &args.only)
    };
    if let Some(verdict) = runtime::check(&ctx.environ, reads) {
        return told(verdict.and_then(|words| sources(args, ctx).map(|_| words)));
    }
    if let Some(handover) = Handover::of(&ctx.environ) {
        return go_on(args, ctx, handover);
    }
    // Before anything else is opened.
    let inherited = match activation::take(&ctx.environ) {
        Ok(inherited) => inherited,
        Err(e) => {
            output::err(&format!("poolmaster: cannot start: {e}\n"));
            return Exit::Failed;
        }
    };
    let mut sources = match sources(args, ctx) {
        Ok(sources) => sources,
        Err(text) => return usage(&text),
    };
    let only = args.only.clone();
    let config = match load(&sources, &only, ctx) {
        Ok(config) => config,
        Err(text) => return usage(&text),
    };
    // The file is found once: another one that is found first one day is not this master's.
    if let Some(path) = &config.path {
        sources.path = Some(ctx.cwd.join(path));
    }
    let mut report = None;
    // A second master has the first one's place in the background.
    let beside = Beside::of(&ctx.environ);
    if config.master.daemon && beside.is_none() {
        // Warnings reach the log as well; here they reach who starts it.
        for warning in &config.warnings {
            output::err(&format!("warning: {warning}\n"));
        }
        match daemon::split() {
            Ok(Side::First(waiting)) => {
                // They are the daemon's.
                drop(inherited);
                return first(&waiting, &config);
            }
            Ok(Side::Daemon(end)) => report = Some(end),
            Err(e) => {
                output::err(&format!("poolmaster: cannot go to the background: {e}\n"));
                return Exit::Failed;
            }
        }
    }
    let again = Sources::clone(&sources);
    let reader = reader(sources, only, ctx);
    let (environment, directory, command_line) = (ctx.environ.clone(), ctx.cwd.clone(), ctx.args.clone());
    match runtime::run(Settings { config, reader, environment, inherited, directory, command_line, beside, report }) {
        Ok(code) => Exit::of(code),
        Err(e) => {
            output::err(&format!("poolmaster: cannot start: {e}\n"));
            if let Some(place) = place_of(&e, &again, ctx) {
                output::err(&format!("  at {place}; `poolmaster check` tells more\n"));
            }
            Exit::Failed
        }
    }
}

/// Reads the config again, or another one in its place.
fn reader(sources: Sources, only: Vec<String>, ctx: &Context) -> runtime::Reader {
    let surroundings = ctx.clone();
    Arc::new(move |other: Option<&Path>| match other {
        None => load(&sources, &only, &surroundings),
        Some(path) => load(&Sources { path: Some(path.to_owned()), ..Sources::clone(&sources) }, &only, &surroundings),
    })
}

/// Says whether this program could go on in the place of the one that has started it.
fn told(verdict: Result<String, String>) -> Exit {
    match verdict {
        Ok(words) => {
            output::out(&format!("{words}\n"));
            Exit::Done
        }
        Err(why) => {
            output::err(&format!("{why}\n"));
            Exit::Failed
        }
    }
}

/// Goes on in the place of the program before this one.
fn go_on(args: &Args, ctx: &Context, handover: Handover) -> Exit {
    let cwd = handover.directory().map_or_else(|| ctx.cwd.clone(), Path::to_owned);
    let ctx = &Context { cwd, ..ctx.clone() };
    let (only, surroundings) = (args.only.clone(), ctx.clone());
    // That it has some was made sure of by the child before.
    let mut sources = sources(args, ctx).unwrap_or_default();
    let reader = Box::new(move |path: Option<PathBuf>| {
        sources.path = path.map(|path| surroundings.cwd.join(path));
        reader(sources, only, &surroundings)
    });
    let (environment, directory, command_line) = (ctx.environ.clone(), ctx.cwd.clone(), ctx.args.clone());
    match runtime::resume(Again { handover, reader, environment, directory, command_line }) {
        Ok(code) => Exit::of(code),
        Err(e) => {
            output::err(&format!("poolmaster: {e}; its workers go on, and nobody supervises them\n"));
            Exit::Internal
        }
    }
}

/// Where the config asks for what kept it from starting: found anew by whoever knows places.
fn place_of(e: &StartError, sources: &Sources, ctx: &Context) -> Option<String> {
    let key = match e {
        StartError::Listen { pool, listener, .. } => format!("pool.{pool}.listen.{listener}"),
        StartError::Account(text) => {
            let (pool, rest) = text.strip_prefix("pool ")?.split_once(": ")?;
            format!("pool.{pool}.{}", rest.split([' ', ':']).next()?)
        }
        _ => return None,
    };
    let loaded = config::explain(sources).ok()?;
    let found = host::findings(&loaded, ctx, Look::All);
    found.into_iter().find(|it| it.is_error() && it.message.starts_with(&key))?.place.map(|place| place.words())
}

/// The process on the terminal, until the daemon is ready or has failed.
fn first(waiting: &Waiting, config: &Config) -> Exit {
    let log = config.master.log.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let name = &config.master.name;
    match waiting.wait(|what| output::err(&format!("poolmaster: {name}: {what}; its log: {log}\n"))) {
        Ok(Outcome::Ready(pid, but)) => {
            output::out(&format!("{name} runs in the background (pid {pid}), its log: {log}\n"));
            if !but.is_empty() {
                output::err(&format!("poolmaster: {name}: not all pools are ready: {but}\n"));
            }
            Exit::Done
        }
        Ok(Outcome::Failed(code, why)) => {
            output::err(&format!("poolmaster: {name} did not start: {why}; its log: {log}\n"));
            if code == 0 { Exit::Failed } else { Exit::of(code) }
        }
        Err(e) => {
            output::err(&format!("poolmaster: cannot wait for the daemon: {e}; see its log: {log}\n"));
            Exit::Failed
        }
    }
}

/// What is said of a config ends its last line itself: an empty one follows then.
fn usage(text: &str) -> Exit {
    output::err(&format!("{text}\n"));
    Exit::Usage
}

/// What the config is made from: read again from the same places at each reload.
fn sources(args: &Args, ctx: &Context) -> Result<Sources, String> {
    let mut sources = if args.command.is_empty() {
        if !args.listen.is_empty() {
            return Err("error: --listen is for a command given here: poolmaster run --listen :8000 -- COMMAND".to_owned());
        }
        let mut flags = Vec::new();
        for argument in &args.workers {
            if args.file().is_none() && argument.parse::<u32>().is_ok() {
                return Err(format!(
                    "poolmaster: --workers {argument}: a number alone is for a command given here, and no command follows `--`; write \
                     `poolmaster run --workers {argument} -- COMMAND`, or, for a pool of a config, --workers POOL={argument}"
                ));
            }
            flags.push(Flag::workers(argument).map_err(|e| format!("error: {e}"))?);
        }
        Sources { path: args.file().map(|p| ctx.cwd.join(p)), flags, ..Sources::default() }
    } else {
        Sources::adhoc(&args.listen, args.workers.last().cloned(), args.command.clone())
    };
    for argument in &args.set {
        sources.flags.push(Flag::set(argument).map_err(|e| format!("error: {e}"))?);
    }
    let master = |key: &str, flag: &str, value: &str| Flag {
        key: format!("master.{key}"),
        value: value.to_owned(),
        shown_as: format!("--{flag} {value}"),
    };
    let path = |p: &PathBuf| ctx.cwd.join(p).display().to_string();
    sources.flags.extend(args.runtime_dir.iter().map(|v| master("runtime_dir", "runtime-dir", &path(v))));
    if args.daemon {
        sources.flags.push(Flag { key: "master.daemon".to_owned(), value: "true".to_owned(), shown_as: "--daemon".to_owned() });
    }
    sources.flags.extend(args.log_level.iter().map(|v| master("log.level", "log-level", v)));
    sources.flags.extend(args.log_format.iter().map(|v| master("log.format", "log-format", v)));
    sources.flags.extend(args.log_file.iter().map(|v| master("log.file", "log-file", &path(v))));
    sources.flags.extend(args.trace.iter().map(|v| master("trace", "trace", &path(v))));
    sources.env.clone_from(&ctx.env);
    sources.facts = ctx.facts();
    Ok(sources)
}

/// Loads, and looks whether this host could run it.
fn load(sources: &Sources, only: &[String], ctx: &Context) -> Result<Config, String> {
    let mut loaded = config::explain(sources).map_err(|diagnostics| diagnostics.to_string())?;
    keep(&mut loaded.config, only)?;
    // What may be in the way of one pool is no reason to keep the others from starting, or a reload from happening.
    let found = host::findings(&loaded, ctx, Look::NotAddresses);
    loaded.config.warnings.extend(found.iter().map(Diagnostic::line));
    Ok(loaded.config)
}

/// Refuses what this version does not have; keeps the pools that are wanted here.
fn keep(config: &mut Config, only: &[String]) -> Result<(), String> {
    if !config.not_yet.is_empty() {
        let keys = config.not_yet.join("\n  ");
        return Err(format!(
            "error: the config asks for what is not in this version yet, and nothing is silently left out:\n  {keys}"
        ));
    }
    if only.is_empty() {
        return Ok(());
    }
    if let Some(unknown) = only.iter().find(|name| config.pools.iter().all(|p| p.spec.name != **name)) {
        let known: Vec<&str> = config.pools.iter().map(|p| p.spec.name.as_str()).collect();
        return Err(format!("error: --only {unknown}: there is no such pool; the config has {}", known.join(", ")));
    }
    config.pools.retain(|p| only.contains(&p.spec.name));
    let kept: Vec<_> = config.pools.iter().map(|p| p.spec.id).collect();
    for pool in &mut config.pools {
        // Whoever runs one pool alone sees to the order itself.
        pool.spec.after.retain(|id| kept.contains(id));
    }
    config.master.spec.default_pool = config.master.spec.default_pool.filter(|id| kept.contains(id));
    Ok(())
}
