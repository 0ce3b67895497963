//! `poolmaster check [CONFIG]`: is the config right, and could this host run it? Starts nothing, changes nothing.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::host::{self, Look};
use super::{Context, Exit};
use crate::config::diagnostics::{Diagnostic, Diagnostics, note};
use crate::config::spec::Config;
use crate::config::{Flag, Sources, judge};
use crate::telemetry::without_turns;

/// Find all errors of a config, without starting anything
#[derive(clap::Args, Clone, Debug, Default)]
#[command(after_help = "\
Examples:
  poolmaster check                              ./pools.toml, or the one in /etc
  poolmaster check shop.toml --strict           warnings count as errors, for CI
  poolmaster check --set pool.web.workers=0     would this be right?")]
pub struct Args {
    /// The config file; without it ./pools.toml, then /etc/poolmaster/pools.toml
    pub config: Option<PathBuf>,
    /// The same, as other verbs are told it
    #[arg(short = 'c', long = "config", id = "config_named", value_name = "FILE", conflicts_with = "config")]
    pub named: Option<PathBuf>,
    /// Warnings, and keys that are not in this version yet, are errors
    #[arg(long)]
    pub strict: bool,
    /// Judge the config alone, not whether this host could run it
    #[arg(long)]
    pub no_host: bool,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Set a key, as in --set pool.web.workers=8; lists and tables in TOML syntax
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl Args {
    /// The file, however it was named.
    fn file(&self) -> Option<&PathBuf> {
        self.config.as_ref().or(self.named.as_ref())
    }
}

/// Checks the config and says so.
pub fn run(args: &Args, ctx: &Context) -> Exit {
    let (text, errors, exit) = match sources(args.file().cloned(), &args.set, ctx) {
        Ok(sources) => {
            let (loaded, diags) = judge(&sources);
            let host = loaded.as_ref().filter(|_| !args.no_host);
            let found = host.map(|loaded| host::findings(loaded, ctx, Look::All)).unwrap_or_default();
            answer(args, loaded.map(|loaded| loaded.config).as_ref(), diags, found)
        }
        Err(usage) => (String::new(), format!("error: {usage}\nnothing was checked: wrong usage\n"), Exit::Usage),
    };
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().write_all(without_turns(&text).as_bytes());
    let _ = std::io::stderr().write_all(without_turns(&errors).as_bytes());
    exit
}

/// What a config is read from, for the verbs that look at one without running it.
pub(super) fn sources(config: Option<PathBuf>, set: &[String], ctx: &Context) -> Result<Sources, String> {
    let flags = set.iter().map(|argument| Flag::set(argument)).collect::<Result<Vec<_>, _>>()?;
    Ok(Sources { path: config, text: None, env: ctx.env.clone(), flags, facts: ctx.facts() })
}

/// stdout, stderr and the exit code. `config` is `None` when it could not be read whole; `found` is what the host has against it.
fn answer(args: &Args, config: Option<&Config>, mut all: Diagnostics, found: Vec<Diagnostic>) -> (String, String, Exit) {
    let own = all.errors().count();
    // What is wrong anyway has its error.
    let wrong_there: Vec<_> = all.errors().filter_map(|error| error.place.clone()).collect();
    let news = found.into_iter().filter(|it| it.place.as_ref().is_none_or(|place| !wrong_there.contains(place)));
    news.for_each(|diagnostic| all.push(diagnostic));
    all.sort();
    let Some(config) = config.filter(|_| !all.failed()) else { return refused(args, &all, own) };
    all.not_yet.clone_from(&config.not_yet);
    let strict = args.strict && !(all.is_empty() && all.not_yet.is_empty());
    let exit = if strict { Exit::Usage } else { Exit::Done };
    let strictly = if strict { strictly(config, all.len()) } else { String::new() };
    if args.json {
        let warnings: Vec<_> = all.warnings().map(Diagnostic::json).collect();
        let out = json!({
            "ok": !strict, "path": config.path, "errors": [], "warnings": warnings, "not_yet": config.not_yet,
            "pools": config.pools.len(), "workers": workers(config), "listeners": listeners(config),
        });
        return (format!("{out}\n"), strictly, exit);
    }
    let mut errors = all.to_string();
    if !all.not_yet.is_empty() {
        errors.push_str(&note("`run` refuses a config that asks for what is not in this version yet"));
    }
    if strict {
        return (String::new(), format!("{errors}\n{strictly}"), exit);
    }
    (format!("{}\n", summary(config)), errors, exit)
}

/// The answer to a config with errors: so many of its own, the others of this host.
fn refused(args: &Args, diags: &Diagnostics, own: usize) -> (String, String, Exit) {
    let more = if diags.dropped() > 0 { "more than " } else { "" };
    let host = diags.errors().count().saturating_sub(own);
    let last = match (own, host) {
        (own, 0) => format!("{more}{} in the config: nothing would be started", plural(own, "error")),
        (0, host) => format!("{more}{} on this host: not all of it could start", plural(host, "error")),
        (own, host) => format!("{more}{} in the config, {host} on this host: nothing would be started", plural(own, "error")),
    };
    if !args.json {
        return (String::new(), format!("{diags}\n{last}\n"), Exit::Usage);
    }
    let errors: Vec<_> = diags.errors().map(Diagnostic::json).collect();
    let warnings: Vec<_> = diags.warnings().map(Diagnostic::json).collect();
    let out = json!({ "ok": false, "errors": errors, "warnings": warnings, "not_yet": diags.not_yet });
    (format!("{out}\n"), format!("{last}\n"), Exit::Usage)
}

/// `pools.toml: refused by --strict: 1 warning, 2 keys that are not in this version yet`
fn strictly(config: &Config, warnings: usize) -> String {
    let later = config.not_yet.len();
    let mut why: Vec<String> = (warnings > 0).then(|| plural(warnings, "warning")).into_iter().collect();
    if later > 0 {
        why.push(format!("{} not in this version yet", plural(later, "setting")));
    }
    format!("{}: refused by --strict: {}\n", shown(config), why.join(", "))
}

/// `pools.toml: ok: 3 pools, 7 workers, 2 listeners`
fn summary(config: &Config) -> String {
    format!(
        "{}: ok: {}, {}, {}",
        shown(config),
        plural(config.pools.len(), "pool"),
        plural(workers(config), "worker"),
        plural(listeners(config), "listener")
    )
}

fn shown(config: &Config) -> String {
    config
        .path
        .as_ref()
        .and_then(|path| path.file_name())
        .map_or_else(|| "config".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn workers(config: &Config) -> usize {
    config.pools.iter().filter(|pool| pool.spec.autostart).map(|pool| pool.spec.workers as usize).sum()
}

fn listeners(config: &Config) -> usize {
    config.pools.iter().map(|pool| pool.listeners.len()).sum()
}

fn plural(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str, args: &Args) -> (String, String, Exit) {
        let facts = crate::config::Facts { cpus: 4, uid: 1000, cwd: PathBuf::from("/srv/shop"), ..Default::default() };
        let path = Some(PathBuf::from("pools.toml"));
        let (loaded, diags) = judge(&Sources { path, text: Some(text.to_owned()), facts, ..Sources::default() });
        let host = vec![Diagnostic::error(None, "the host has something against it")];
        let found = if text.contains("host") { host } else { Vec::new() };
        answer(args, loaded.map(|loaded| loaded.config).as_ref(), diags, found)
    }

    const GOOD: &str = "[pool.a]\ncommand='x'\nworkers=2\nlisten=':80'\n[pool.b]\ncommand='x'\nautostart=false\n";
    const LATER: &str = "[pool.a]\ncommand='x'\nrecycle.at='04:00'\ngraceful_timeout='2m'\n";

    #[test]
    fn a_good_config_is_summed_up() {
        let (out, err, exit) = answered(GOOD, &Args::default());
        assert_eq!((out.as_str(), err.as_str(), exit), ("pools.toml: ok: 2 pools, 2 workers, 1 listener\n", "", Exit::Done));
        let (out, err, exit) = answered(GOOD, &Args { json: true, strict: true, ..Args::default() });
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((json["ok"].as_bool(), json["workers"].as_u64(), err.as_str(), exit), (Some(true), Some(2), "", Exit::Done));
    }

    #[test]
    fn errors_end_with_what_the_code_means() {
        let (out, err, exit) = answered("[pool.a]\nwokers=2\n", &Args::default());
        assert_eq!((out.as_str(), exit), ("", Exit::Usage));
        assert!(err.ends_with("\n2 errors in the config: nothing would be started\n"), "{err}");
        let (out, _, exit) = answered("[pool.a]\nwokers=2\n", &Args { json: true, ..Args::default() });
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((json["ok"].as_bool(), json["errors"][1]["line"].as_u64(), exit), (Some(false), Some(2), Exit::Usage));
    }

    #[test]
    fn everything_is_told_at_once() {
        let (_, err, exit) = answered("[pool.a]\nwokers=2\n# host\n", &Args::default());
        assert!(err.contains("there is no such key") && err.contains("the host has something"), "{err}");
        assert!(err.ends_with("\n2 errors in the config, 1 on this host: nothing would be started\n"), "{err}");
        let (_, err, _) = answered("[pool.a]\ncommand='x'\n# host\n", &Args::default());
        assert!(err.ends_with("\n1 error on this host: not all of it could start\n"), "{err}");
        assert_eq!(exit, Exit::Usage);
    }

    #[test]
    fn what_is_not_there_yet_is_a_note_and_strict_refuses_it() {
        let (out, err, exit) = answered(LATER, &Args::default());
        assert!(out.starts_with("pools.toml: ok: ") && exit == Exit::Done, "{out}");
        assert!(err.contains("note: pool.a.recycle.at: not in this version yet (pools.toml:3:12)\n"), "{err}");
        assert!(err.contains("warning: pool.a.graceful_timeout"), "{err}");
        let (out, err, exit) = answered(LATER, &Args { strict: true, ..Args::default() });
        assert_eq!((out.as_str(), exit), ("", Exit::Usage));
        assert!(err.ends_with("pools.toml: refused by --strict: 1 warning, 1 setting not in this version yet\n"), "{err}");
    }
}
