//! `poolmaster check [CONFIG]`: is the config right? Starts nothing, touches nothing but the config files.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::{Context, Exit};
use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::spec::Config;
use crate::config::{Flag, Loaded, Sources, explain};

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
    /// Warnings, and keys that are not in this version yet, are errors
    #[arg(long)]
    pub strict: bool,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Set a key, as in --set pool.web.workers=8; lists and tables in TOML syntax
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Checks the config and says so.
pub fn run(args: &Args, ctx: &Context) -> Exit {
    let (text, errors, exit) = match sources(args.config.clone(), &args.set, ctx) {
        Ok(sources) => answer(args, explain(&sources)),
        Err(usage) => (String::new(), format!("error: {usage}\nnothing was checked: wrong usage (exit 2)\n"), Exit::Usage),
    };
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stderr().write_all(errors.as_bytes());
    exit
}

/// What a config is read from, for the verbs that look at one without running it.
pub(super) fn sources(config: Option<PathBuf>, set: &[String], ctx: &Context) -> Result<Sources, String> {
    let flags = set.iter().map(|argument| Flag::set(argument)).collect::<Result<Vec<_>, _>>()?;
    Ok(Sources { path: config, text: None, env: ctx.env.clone(), flags, facts: ctx.facts() })
}

/// stdout, stderr and the exit code.
fn answer(args: &Args, loaded: Result<Loaded, Diagnostics>) -> (String, String, Exit) {
    match loaded {
        Err(diags) if args.json => {
            let errors: Vec<_> = diags.errors().map(Diagnostic::json).collect();
            let warnings: Vec<_> = diags.warnings().map(Diagnostic::json).collect();
            let out = json!({ "ok": false, "errors": errors, "warnings": warnings, "not_yet": [] });
            (format!("{out}\n"), format!("{}\n", refused(&diags)), Exit::Usage)
        }
        Err(diags) => (String::new(), format!("{diags}\n{}\n", refused(&diags)), Exit::Usage),
        Ok(loaded) => {
            let config = &loaded.config;
            let counted = plural(loaded.warnings.len(), "warning");
            let refused = args.strict && !(loaded.warnings.is_empty() && config.not_yet.is_empty());
            let exit = if refused { Exit::Usage } else { Exit::Done };
            if args.json {
                let warnings: Vec<_> = loaded.warnings.iter().map(Diagnostic::json).collect();
                let out = json!({
                    "ok": !refused, "path": config.path, "errors": [], "warnings": warnings, "not_yet": config.not_yet,
                    "pools": config.pools.len(), "workers": workers(config), "listeners": listeners(config),
                });
                let errors = if refused {
                    format!("{counted} and {}: refused by --strict (exit 2)\n", plural(config.not_yet.len(), "note"))
                } else {
                    String::new()
                };
                return (format!("{out}\n"), errors, exit);
            }
            let mut errors = String::new();
            for warning in &loaded.warnings {
                errors.push_str(&format!("{warning}\n"));
            }
            for line in &config.not_yet {
                errors.push_str(&format!("note: {line}\n"));
            }
            if !config.not_yet.is_empty() {
                errors.push_str("note: `run` refuses a config that asks for what is not in this version yet\n");
            }
            if refused {
                let notes = plural(config.not_yet.len(), "note");
                errors.push_str(&format!("{}: {counted} and {notes}: refused by --strict (exit 2)\n", shown(config)));
                return (String::new(), errors, exit);
            }
            (format!("{}\n", summary(config)), errors, exit)
        }
    }
}

/// The last line of a refusal.
fn refused(diags: &Diagnostics) -> String {
    let more = if diags.dropped() > 0 { "more than " } else { "" };
    format!("{more}{} in the config: nothing would be started (exit 2)", plural(diags.errors().count(), "error"))
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
        answer(args, explain(&Sources { path, text: Some(text.to_owned()), facts, ..Sources::default() }))
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
        assert!(err.ends_with("\n2 errors in the config: nothing would be started (exit 2)\n"), "{err}");
        let (out, _, exit) = answered("[pool.a]\nwokers=2\n", &Args { json: true, ..Args::default() });
        let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((json["ok"].as_bool(), json["errors"][1]["line"].as_u64(), exit), (Some(false), Some(2), Exit::Usage));
    }

    #[test]
    fn what_is_not_there_yet_is_a_note_and_strict_refuses_it() {
        let (out, err, exit) = answered(LATER, &Args::default());
        assert!(out.starts_with("pools.toml: ok: ") && exit == Exit::Done, "{out}");
        assert!(err.contains("note: pool.a.recycle.at: not in this version yet (pools.toml:3:12)\n"), "{err}");
        assert!(err.contains("warning: pool.a.graceful_timeout"), "{err}");
        let (out, err, exit) = answered(LATER, &Args { strict: true, ..Args::default() });
        assert_eq!((out.as_str(), exit), ("", Exit::Usage));
        assert!(err.ends_with("pools.toml: 1 warning and 1 note: refused by --strict (exit 2)\n"), "{err}");
    }
}
