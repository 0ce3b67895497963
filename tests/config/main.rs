//! The config room from outside: whole files in, specs or diagnostics out.

mod bad;
mod diff;
mod hostile;
mod keys;
mod layers;
mod load;
mod origin;

use std::path::PathBuf;

use poolmaster::config::diagnostics::Diagnostics;
use poolmaster::config::spec::Config;
use poolmaster::config::{Facts, Flag, Loaded, Sources, explain, load};

/// A host with 4 CPUs and a user without privileges.
pub fn facts() -> Facts {
    Facts {
        cpus: 4,
        uid: 1000,
        cwd: PathBuf::from("/srv/shop"),
        runtime_dir: None,
        xdg_runtime_dir: Some(PathBuf::from("/run/user/1000")),
    }
}

/// A config file's text as `pools.toml`, with this environment and these flags.
pub fn sources(text: &str, env: &[(&str, &str)], set: &[&str]) -> Sources {
    Sources {
        path: Some(PathBuf::from("pools.toml")),
        text: Some(text.to_owned()),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: set.iter().map(|argument| Flag::set(argument).expect("KEY=VALUE")).collect(),
        facts: facts(),
    }
}

/// The config that a text means.
pub fn good(text: &str) -> Config {
    good_with(text, &[], &[])
}

/// The config that a text means, with this environment and these flags.
pub fn good_with(text: &str, env: &[(&str, &str)], set: &[&str]) -> Config {
    load(&sources(text, env, set)).unwrap_or_else(|diags| panic!("{diags}\nin:\n{text}"))
}

/// The same, with origins.
pub fn explained(text: &str, env: &[(&str, &str)], set: &[&str]) -> Loaded {
    explain(&sources(text, env, set)).unwrap_or_else(|diags| panic!("{diags}\nin:\n{text}"))
}

/// What is wrong with a text.
pub fn wrong(text: &str, env: &[(&str, &str)], set: &[&str]) -> Diagnostics {
    match load(&sources(text, env, set)) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(diags) => diags,
    }
}
