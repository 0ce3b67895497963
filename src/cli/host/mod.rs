//! Owns what a config asks of this host: programs, users, folders, files, addresses, limits. What fails every start is an error, what may
//! be right by then a warning. Refuses to change anything: it only looks.

mod addresses;
mod budget;
mod files;
mod limits;
mod program;

use std::path::{Path, PathBuf};

use self::program::Runner;
use super::Context;
use crate::config::Loaded;
use crate::config::diagnostics::Diagnostic;
use crate::config::node::Place;
use crate::config::spec::Pool;
use crate::os::access::Who;
use crate::runtime::{Hindrance, Outlook, outlook};

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Everything.
    All,
    /// Not at addresses: a master that is about to open its sockets, or has them open, knows better.
    NotAddresses,
}

/// Everything about the host that would be in the way of this config.
pub(super) fn findings(loaded: &Loaded, ctx: &Context, look: Look) -> Vec<Diagnostic> {
    let mut found = Found { loaded, list: Vec::new() };
    files::of_master(&mut found);
    let me = Who::me();
    let path = ctx.var("PATH");
    let runner = Runner {
        who: &me,
        root: None,
        start: ctx.cwd.clone(),
        working_dir: None,
        as_user: String::new(),
        whose: "master's",
        path,
    };
    program::of_master(&runner, &mut found);
    for user in &loaded.config.master.socket_users {
        files::known(&["master", "socket_users"], "user", Some(user), &mut found);
    }
    for pool in &loaded.config.pools {
        let name = pool.spec.name.as_str();
        let mut who = Who::me();
        match outlook(&ctx.environ, pool) {
            Ok(Outlook { path, who: they, too_long }) => {
                who = they;
                program::of_pool(&View { pool, who: &who, cwd: &ctx.cwd }, path.as_deref(), &mut found);
                for (variable, why) in too_long {
                    let place = loaded.place(&["pool", name, "env", &variable]);
                    found.error(
                        place,
                        format!("pool.{name}: {why}"),
                        "no program can be started with it: hand it over in a file",
                    );
                }
            }
            Err(hindrances) => {
                // Who they would be is not known: whether their programs are there at all is.
                let own =
                    pool.launch.env.iter().rev().find(|(variable, _)| variable == "PATH").map(|(_, value)| value.as_deref());
                program::of_pool(&View { pool, who: &who, cwd: &ctx.cwd }, own.unwrap_or(path), &mut found);
                for Hindrance { key: (key, item), why } in hindrances {
                    let place = loaded.item_place(&["pool", name, key], item);
                    found.list.push(Diagnostic::error(Some(place), format!("pool.{name}.{why}")));
                }
            }
        }
        files::of_pool(&View { pool, who: &who, cwd: &ctx.cwd }, &mut found);
        limits::check(pool, &mut found);
    }
    addresses::missing(&mut found);
    if look == Look::All {
        addresses::taken(&mut found);
    }
    budget::check(&crate::os::budget::bounds(), &mut found);
    found.list
}

/// What was found so far.
struct Found<'a> {
    loaded: &'a Loaded,
    list: Vec<Diagnostic>,
}

impl Found<'_> {
    /// Of a key of the master.
    fn master(&self, key: &str) -> Place {
        self.loaded.place(&path_of("master", key))
    }

    /// Of a key of a pool.
    fn pool(&self, name: &str, key: &str) -> Place {
        self.loaded.place(&[&["pool", name][..], &key.split('.').collect::<Vec<_>>()].concat())
    }

    fn error(&mut self, place: Place, message: String, help: impl Into<String>) {
        self.list.push(Diagnostic::error(Some(place), message).help(help));
    }

    fn warn(&mut self, place: Place, message: String, help: impl Into<String>) {
        self.list.push(Diagnostic::warning(Some(place), message).help(help));
    }
}

fn path_of<'p>(first: &'p str, key: &'p str) -> Vec<&'p str> {
    std::iter::once(first).chain(key.split('.')).collect()
}

/// A pool as its workers see the host.
struct View<'a> {
    pool: &'a Pool,
    who: &'a Who,
    cwd: &'a Path,
}

impl View<'_> {
    fn name(&self) -> &str {
        &self.pool.spec.name
    }

    /// How their programs are executed.
    fn runner<'v>(&'v self, path: Option<&'v str>) -> Runner<'v> {
        Runner {
            who: self.who,
            root: self.pool.identity.chroot.as_deref(),
            start: self.start(),
            working_dir: self.pool.launch.working_dir.as_deref(),
            as_user: self.as_user(),
            whose: "workers'",
            path,
        }
    }

    /// A path of the workers as it is called outside of their root directory.
    fn outside(&self, path: &Path) -> PathBuf {
        self.runner(None).outside(path)
    }

    /// Where the workers start, as they call it.
    fn start(&self) -> PathBuf {
        let own = self.pool.launch.working_dir.clone();
        own.unwrap_or_else(|| if self.pool.identity.chroot.is_some() { PathBuf::from("/") } else { self.cwd.to_owned() })
    }

    /// ` as the user shop`, when they are not who looks.
    fn as_user(&self) -> String {
        match &self.pool.identity.user {
            Some(user) => format!(" as the user {user}"),
            None => String::new(),
        }
    }
}
