//! Owns listeners that are another pool's: `share = "web.http"` gives a pool the same socket under a name of its own.

use super::super::diagnostics::{Diagnostic, Diagnostics};
use super::super::node::Place;
use super::super::spec::Listener;
use super::known_names;
use super::pool::Built;
use super::reader::Reader;

/// A listener that is to be another pool's.
pub(super) struct Shared {
    /// Its name here.
    pub(super) name: String,
    /// Its place among the descriptors.
    pub(super) at: usize,
    /// Whose it is, as written.
    pub(super) target: String,
    pub(super) place: Place,
}

/// Puts the listeners that are shared among those of the pools that share them.
pub(super) fn resolve(pools: &mut [(Built, Reader<'_>)], diags: &mut Diagnostics) {
    let mut found: Vec<(usize, usize, Listener, Place)> = Vec::new();
    for (index, (built, reader)) in pools.iter().enumerate() {
        for share in &built.shares {
            match target(&built.pool.spec.name, share, pools) {
                Ok(None) => {}
                Ok(Some(listener)) => {
                    let shared = Some(share.target.clone());
                    found.push((index, share.at, Listener { name: share.name.clone(), shared, ..listener }, share.place.clone()));
                }
                Err((what, help)) => {
                    let what = format!("{}.listen.{}.share: {what}", reader.path, share.name);
                    let error = Diagnostic::error(Some(share.place.clone()), what).help(help);
                    if is_there(&share.target, pools) { diags.push(error) } else { diags.missing(error) }
                }
            }
        }
    }
    // In rising order of their places, so that each is right when its turn comes.
    for (pool, at, listener, place) in found {
        if let Some((built, _)) = pools.get_mut(pool) {
            let at = at.min(built.pool.listeners.len());
            built.pool.listeners.insert(at, listener);
            built.addresses.insert(at, place);
        }
    }
}

/// A pool has a listener of that name, right or wrong.
fn is_there(target: &str, pools: &[(Built, Reader<'_>)]) -> bool {
    target.split_once('.').is_none_or(|(pool, name)| {
        pools.iter().any(|(built, _)| built.pool.spec.name == pool && built.names.iter().any(|other| other == name))
    })
}

/// The listener that is meant; `None`: it is wrong itself, which was said. `Err`: what is wrong, then what to write.
fn target(own: &str, share: &Shared, pools: &[(Built, Reader<'_>)]) -> Result<Option<Listener>, (String, String)> {
    let written = &share.target;
    let Some((pool, name)) = written.split_once('.').filter(|(pool, name)| !pool.is_empty() && !name.is_empty()) else {
        return Err((format!("{written:?} names no listener of a pool"), "write share = \"POOL.LISTENER\"".to_owned()));
    };
    let Some((built, _)) = pools.iter().find(|(built, _)| built.pool.spec.name == pool) else {
        let names = pools.iter().map(|(built, _)| built.pool.spec.name.as_str()).filter(|name| *name != own);
        return Err((format!("there is no pool {pool:?}"), known_names(pool, names, "other pools")));
    };
    if pool == own {
        let help = "its workers have that socket already: remove this one, or name another pool's";
        return Err(("a pool cannot share with itself".to_owned(), help.to_owned()));
    }
    if let Some(other) = built.shares.iter().find(|other| other.name == name) {
        let help = match other.target == format!("{own}.{}", share.name) {
            true => "one of the two needs an address".to_owned(),
            false => format!("write share = {:?}", other.target),
        };
        return Err((format!("{written} is itself a share, of {}", other.target), help));
    }
    if let Some(listener) = built.pool.listeners.iter().find(|listener| listener.name == name) {
        if listener.reuseport {
            let help = "remove reuseport there, or give this listener an address of its own";
            return Err((format!("each slot of {pool} has a socket of its own there (reuseport)"), help.to_owned()));
        }
        return Ok(Some(listener.clone()));
    }
    if built.names.iter().any(|other| other == name) {
        return Ok(None);
    }
    if built.pool.launch.protocols.port.is_some() {
        let help = "share the listener of a pool whose sockets the master opens";
        return Err((format!("the workers of {pool} listen themselves (protocols = [\"port\"])"), help.to_owned()));
    }
    let names = built.names.iter().map(String::as_str);
    Err((format!("pool {pool} has no listener {name:?}"), known_names(name, names, &format!("listeners of {pool}"))))
}
