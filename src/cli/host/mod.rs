//! Owns what a config asks of this host: programs, users, folders, files, addresses, limits. What fails every start is an error, what may
//! be right by then a warning. Refuses to change anything: it only looks.

mod addresses;
mod budget;
mod files;
mod program;

use std::path::{Path, PathBuf};

use super::Context;
use crate::config::Loaded;
use crate::config::diagnostics::Diagnostic;
use crate::config::node::Place;
use crate::config::spec::Pool;
use crate::os::access::Who;
use crate::runtime::{Outlook, outlook};

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
    for pool in &loaded.config.pools {
        let name = pool.spec.name.as_str();
        let mut who = Who::me();
        match outlook(&ctx.environ, pool) {
            Ok(Outlook { path, who: they }) => {
                who = they;
                program::check(&View { pool, who: &who, cwd: &ctx.cwd }, path.as_deref(), &mut found);
            }
            Err(hindrances) => {
                for hindrance in hindrances {
                    let (key, item) = hindrance.key;
                    let place = loaded.item_place(&["pool", name, key], item);
                    let message = format!("pool.{name}.{}", hindrance.why);
                    found.list.push(match hindrance.ours_alone {
                        true => Diagnostic::warning(Some(place), message),
                        false => Diagnostic::error(Some(place), message),
                    });
                }
            }
        }
        files::of_pool(&View { pool, who: &who, cwd: &ctx.cwd }, &mut found);
    }
    if look == Look::All {
        addresses::check(&mut found);
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

    /// A path of the workers as it is called outside of their root directory.
    fn outside(&self, path: &Path) -> PathBuf {
        match &self.pool.identity.chroot {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
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
