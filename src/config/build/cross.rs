//! Owns what several pools, or a pool and the master, have to agree on.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::Duration;

use super::super::diagnostics::{Diagnostic, Diagnostics};
use super::super::node::Place;
use super::super::spec::{Address, Master};
use super::super::value::address::clash;
use super::super::value::scalar::duration_text;
use super::known_names;
use super::pool::Built;
use super::reader::Reader;
use crate::supervisor::{PoolId, signal_name};

type Pools<'a> = [(Built, Reader<'a>)];

pub(super) fn check(master: &mut Master, m: &Reader<'_>, pools: &Pools<'_>, diags: &mut Diagnostics) {
    default_pool(master, m, pools, diags);
    addresses(pools, diags);
    sockets(master, m, pools, diags);
    signals(pools, diags);
    circles(pools, diags);
    timeouts(master, m, pools, diags);
}

fn default_pool(master: &mut Master, m: &Reader<'_>, pools: &Pools<'_>, diags: &mut Diagnostics) {
    let wanted = m.text("default_pool");
    if wanted.is_empty() {
        return;
    }
    let found = pools.iter().find(|(built, _)| built.pool.spec.name == wanted);
    master.spec.default_pool = found.map(|(built, _)| built.pool.spec.id);
    if found.is_none() {
        let names = pools.iter().map(|(built, _)| built.pool.spec.name.as_str());
        let what = format!("master.default_pool: there is no pool {wanted:?}");
        diags.missing(Diagnostic::error(Some(m.place("default_pool")), what).help(known_names(&wanted, names, "pools")));
    }
}

/// What can clash has the same kind, port and name.
type Where<'a> = (u8, u16, &'a OsStr);

fn place_of(address: &Address) -> Where<'_> {
    match address {
        Address::Tcp { addr, .. } => (0, addr.port(), OsStr::new("")),
        Address::Udp { addr, .. } => (1, addr.port(), OsStr::new("")),
        Address::Unix(path) => (2, 0, path.file_name().unwrap_or(path.as_os_str())),
        Address::Abstract(name) => (3, 0, OsStr::new(name)),
        Address::Inherit(name) => (4, 0, OsStr::new(name)),
    }
}

fn addresses(pools: &Pools<'_>, diags: &mut Diagnostics) {
    // By port or name: only those of one can clash.
    let mut seen: BTreeMap<Where<'_>, Vec<(&Address, String)>> = BTreeMap::new();
    for (built, reader) in pools {
        // What is shared is judged where it is owned.
        for (listener, place) in built.pool.listeners.iter().zip(&built.addresses).filter(|(l, _)| l.shared.is_none()) {
            let name = format!("{}.listen.{}", reader.path, listener.name);
            let group = seen.entry(place_of(&listener.address)).or_default();
            if let Some((address, other)) = group.iter().find(|(address, _)| clash(address, &listener.address)) {
                let both = [*address, &listener.address];
                let dual = both.iter().find_map(|address| match address {
                    Address::Tcp { addr, dual: true } => Some(("tcp6", addr)),
                    Address::Udp { addr, dual: true } => Some(("udp6", addr)),
                    _ => None,
                });
                let families =
                    both.iter().any(|a| matches!(a, Address::Tcp { addr, .. } | Address::Udp { addr, .. } if addr.is_ipv4()));
                let help = match other.strip_prefix("pool.").and_then(|other| other.split_once(".listen.")) {
                    Some((pool, owner)) if pool != built.pool.spec.name => {
                        format!(
                            "give each its own address, or share the socket: listen.{} = {{ share = \"{pool}.{owner}\" }}",
                            listener.name
                        )
                    }
                    _ => "give each listener its own address".to_owned(),
                };
                let help = match dual {
                    Some((scheme, addr)) if families => {
                        let own = other.starts_with(&format!("{}.listen.", reader.path));
                        let or = if own { "leave the other one out".to_owned() } else { help };
                        format!("{addr} takes IPv4 connections too: write {scheme}://{addr} for IPv6 alone; or {or}")
                    }
                    _ => help,
                };
                diags.error(place, format!("{name}: {other} has this address already"), help);
            }
            group.push((&listener.address, name));
        }
    }
}

/// A listener on the master's own socket would take its place.
fn sockets(master: &Master, m: &Reader<'_>, pools: &Pools<'_>, diags: &mut Diagnostics) {
    for (built, reader) in pools {
        for (listener, place) in built.pool.listeners.iter().zip(&built.addresses).filter(|(l, _)| l.shared.is_none()) {
            let files = [(&master.socket, "the control socket"), (&master.pidfile, "the pid file")];
            for (_, what) in files.iter().filter(|(path, _)| listener.address == Address::Unix((*path).clone())) {
                let message = format!("{}.listen.{}: this is {what}", reader.path, listener.name);
                diags.error(place, message, "choose another path");
            }
        }
    }
    let files = [
        ("socket", Some(&master.socket)),
        ("pidfile", Some(&master.pidfile)),
        ("log.file", master.log.file.as_ref()),
        ("trace", master.trace.as_ref()),
    ];
    for (at, (key, path)) in files.iter().enumerate() {
        let same = files[..at].iter().find(|(_, other)| path.is_some() && other == path);
        if let Some((other, _)) = same {
            let place = if m.is_set(key) { m.place(key) } else { m.place(other) };
            diags.error(&place, format!("master: {other} and {key} are the same path"), "choose another path for one of them");
        }
    }
}

fn signals(pools: &Pools<'_>, diags: &mut Diagnostics) {
    let mut seen: Vec<(i32, String)> = Vec::new();
    for (built, reader) in pools {
        let signals = built.pool.signals;
        for (key, signal) in [("up_signal", signals.up), ("down_signal", signals.down), ("restart_signal", signals.restart)] {
            let Some(signal) = signal else { continue };
            let name = format!("{}.scale.{key}", reader.path);
            if let Some((_, other)) = seen.iter().find(|(number, _)| *number == signal) {
                let what = format!("{name}: {} has a purpose already: {other}", signal_name(signal));
                diags.error(&reader.place(&format!("scale.{key}")), what, "give each purpose its own number, RTMIN to RTMIN+30");
            }
            seen.push((signal, name));
        }
    }
}

/// Pools that wait for each other would never start.
fn circles(pools: &Pools<'_>, diags: &mut Diagnostics) {
    let at = |id: PoolId| usize::try_from(id.0).ok().filter(|at| *at < pools.len());
    let name = |at: usize| pools[at].0.pool.spec.name.as_str();
    // Each pool is walked from once. A way that comes back to a pool on itself is a circle.
    let mut done = vec![false; pools.len()];
    let mut on_way = vec![None; pools.len()];
    for start in 0..pools.len() {
        let mut way: Vec<(usize, usize)> = Vec::new();
        if !done[start] {
            on_way[start] = Some(0);
            way.push((start, 0));
        }
        while let Some((pool, next)) = way.last_mut() {
            let pool = *pool;
            let Some(after) = pools[pool].0.pool.spec.after.get(*next) else {
                done[pool] = true;
                on_way[pool] = None;
                way.pop();
                continue;
            };
            *next += 1;
            let Some(after) = at(*after).filter(|after| !done[*after]) else { continue };
            match on_way[after] {
                None => {
                    on_way[after] = Some(way.len());
                    way.push((after, 0));
                }
                Some(from) => {
                    let mut circle: Vec<usize> = way[from..].iter().map(|(pool, _)| *pool).collect();
                    // Told from its first pool in the file.
                    let first = circle.iter().enumerate().min_by_key(|(_, pool)| **pool).map_or(0, |(at, _)| at);
                    circle.rotate_left(first);
                    let shown: Vec<&str> = circle.iter().chain(&circle[..1]).map(|pool| name(*pool)).collect();
                    let reader = &pools[circle[0]].1;
                    let what = format!("{}.after: goes in a circle: {}", reader.path, shown.join(" after "));
                    diags.error(&reader.place("after"), what, "remove one of these `after`s");
                }
            }
        }
    }
}

fn timeouts(master: &Master, m: &Reader<'_>, pools: &Pools<'_>, diags: &mut Diagnostics) {
    let bound = master.spec.graceful_timeout;
    for (built, reader) in pools {
        let pool = &built.pool;
        let stop = pool.spec.stop.iter().fold(Duration::ZERO, |sum, step| sum.saturating_add(step.wait));
        let key = if reader.is_set("stop_sequence") { "stop_sequence" } else { "graceful_timeout" };
        let mut parts = vec![(key, stop)];
        if !pool.hooks.pre_stop.is_empty() {
            parts.insert(0, ("hooks.timeout", pool.hooks.timeout));
        }
        if !pool.listeners.is_empty() && !master.spec.linger.is_zero() {
            parts.insert(0, ("master.linger", master.spec.linger));
        }
        let needed = parts.iter().fold(Duration::ZERO, |sum, (_, time)| sum.saturating_add(*time));
        if needed > bound {
            let place = reader.place(key);
            let place = if place == Place::BUILT_IN { m.place("graceful_timeout") } else { place };
            let words: Vec<String> = parts.iter().map(|(what, time)| format!("{what} {}", duration_text(*time))).collect();
            let sum = if words.len() > 1 { format!(" ({})", words.join(", ")) } else { String::new() };
            let what = format!(
                "{}.{key}: a stop may take {}{sum}, and a shutdown of the master turns quick after {}",
                reader.path,
                duration_text(needed),
                duration_text(bound)
            );
            diags.push(Diagnostic::warning(Some(place), what).help("raise master.graceful_timeout"));
        }
    }
}
