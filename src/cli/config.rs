//! `poolmaster config show`, `config origin KEY` and `config schema`: what is in force, why, and what could be.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Context, Exit, check, output};
use crate::client::{Places, Search, locate};
use crate::config::{Loaded, Origin, explain, schema};
use crate::protocol::{Call, Request, StatusParameters, StatusReply};
use crate::telemetry::without_turns;

/// Show what is in force (show), why (origin), what could be (schema)
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  poolmaster config show pools.toml                all values, and their classes
  poolmaster config origin pool.web.workers        where one comes from, what it hides
  poolmaster config schema > pools.schema.json     for an editor's TOML plugin

While a master runs this config, the numbers that operators gave its pools by `scale` or by
signal are the strongest layer.

In a config, `#:schema ./pools.schema.json` as the first line names the schema to editors
that use Taplo (Even Better TOML, Helix, Zed).")]
pub struct Args {
    /// What to say about the config
    #[command(subcommand)]
    pub verb: Verb,
    /// The config file; without it ./pools.toml, then /etc/poolmaster/pools.toml
    // Ids of their own: those of the flags that find a master would be taken for them.
    #[arg(short, long = "config", id = "config_file", global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set a key, as in --set pool.web.workers=8; lists and tables in TOML syntax
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Answer in JSON
    #[arg(long = "json", id = "config_json", global = true)]
    pub json: bool,
}

/// The verbs of `config`.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Verb {
    /// All values in force, as a config that means the same; secrets as ***
    Show {
        /// The config file, as with --config
        file: Option<PathBuf>,
    },
    /// Where the value of a key comes from, and what it hides
    Origin {
        /// The key, as in pool.web.workers; of a table, all keys in it
        key: String,
        /// The config file, as with --config
        file: Option<PathBuf>,
    },
    /// The JSON Schema of a config (draft 7), for editors; reads no config
    Schema,
}

impl Args {
    /// The file, wherever it was named.
    fn file(&self) -> Option<PathBuf> {
        let named = match &self.verb {
            Verb::Show { file } | Verb::Origin { file, .. } => file.clone(),
            Verb::Schema => None,
        };
        named.or_else(|| self.config.clone())
    }
}

/// Answers about the config.
pub fn run(args: &Args, ctx: &Context) -> Exit {
    if matches!(args.verb, Verb::Schema) {
        return if output::out(&schema::text()) { Exit::Done } else { Exit::Failed };
    }
    if let Verb::Origin { key, file: None } = &args.verb
        && (key.contains('/') || key.ends_with(".toml") || key.ends_with(".json"))
    {
        output::err(&format!("error: {key:?} is a file, and no key: poolmaster config origin KEY {key}\nno origin to show\n"));
        return Exit::Usage;
    }
    let (text, errors, exit) = match check::sources(args.file(), &args.set, ctx) {
        Ok(sources) => match explain(&sources) {
            Ok(mut loaded) => {
                loaded.operators = operators(&loaded, ctx).unwrap_or_default();
                answer(args, &loaded)
            }
            Err(diags) => {
                let last = "the config has errors: there is nothing to show";
                (String::new(), format!("{diags}\n{last}\n"), Exit::Usage)
            }
        },
        Err(usage) => (String::new(), format!("error: {usage}\nnothing was read: wrong usage\n"), Exit::Usage),
    };
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().write_all(without_turns(&text).as_bytes());
    let _ = std::io::stderr().write_all(without_turns(&errors).as_bytes());
    exit
}

/// A master that does not answer by then is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// The numbers that operators have set in the master that runs this config. `None`: none runs, or it does not tell us.
fn operators(loaded: &Loaded, ctx: &Context) -> Option<BTreeMap<String, u32>> {
    let master = &loaded.config.master;
    let places = Places { socket: master.socket.clone(), runtime_dir: master.runtime_dir.clone() };
    let search = Search {
        config: loaded.config.path.as_deref(),
        env_runtime_dir: ctx.var("POOLMASTER_RUNTIME_DIR").map(Path::new),
        xdg_runtime_dir: ctx.var("XDG_RUNTIME_DIR"),
        uid: nix::unistd::geteuid().as_raw(),
        here: Some(&ctx.cwd),
        places_of_config: &|_| Ok(places.clone()),
        patience: PATIENCE,
        ..Search::default()
    };
    // A text without a file has no master.
    search.config?;
    let call = Call::new(Request::Status(StatusParameters::default()));
    let status: StatusReply = locate(&search).ok()?.ask(&call, Some(PATIENCE)).ok()?.parameters().ok()?;
    Some(status.pools.into_iter().filter_map(|pool| Some((pool.name, pool.operator?))).collect())
}

/// stdout, stderr and the exit code.
fn answer(args: &Args, loaded: &Loaded) -> (String, String, Exit) {
    let text = match &args.verb {
        Verb::Show { .. } if args.json => format!("{:#}\n", loaded.show_json()),
        Verb::Show { .. } => loaded.show_toml(),
        Verb::Origin { key, .. } => match loaded.origin(key) {
            Ok(origins) if args.json => format!("{:#}\n", origins.iter().map(Origin::json).collect::<Value>()),
            Ok(origins) => origins.iter().map(Origin::text).collect(),
            Err(why) => return (String::new(), format!("error: {why}\nno origin to show\n"), Exit::Usage),
        },
        Verb::Schema => schema::text(),
    };
    (text, String::new(), Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn both_verbs_answer_in_text_and_json() {
        let text = Some("[pool.a]\ncommand='x'\nworkers=2\n".to_owned());
        let loaded = explain(&Sources { path: Some("/etc/p/pools.toml".into()), text, ..Sources::default() }).expect("valid");
        let ask = |verb: &Verb, json| answer(&Args { verb: verb.clone(), config: None, set: Vec::new(), json }, &loaded);
        let origin = Verb::Origin { key: "pool.a.workers".to_owned(), file: None };
        assert!(ask(&Verb::Show { file: None }, false).0.contains("[pool.a]\ncommand = \"x\" # rolling\nworkers = 2 # live\n"));
        let shown: Value = serde_json::from_str(&ask(&Verb::Show { file: None }, true).0).expect("JSON");
        assert_eq!((shown["pool"]["a"]["workers"].as_u64(), shown["order"][0].as_str()), (Some(2), Some("a")));
        assert!(ask(&origin, false).0.starts_with("pool.a.workers = 2\n  from /etc/p/pools.toml:3:9\n"));
        let shown: Value = serde_json::from_str(&ask(&origin, true).0).expect("JSON");
        assert_eq!(shown[0]["hidden"][0]["value"].as_str(), Some("1"));
        let (out, err, exit) = ask(&Verb::Origin { key: "pool.a.wokers".to_owned(), file: None }, false);
        assert!(out.is_empty() && err.contains("did you mean `workers`?") && exit == Exit::Usage, "{err}");
    }
}
