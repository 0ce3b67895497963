//! Owns the addresses of listeners: those that this host does not have, or does not let this user have; and those that others have. The latter
//! is a warning only: who has it now may be gone by the start, and it may be the master of this very config, of which nothing is said.

use std::net::SocketAddr;

use super::Found;
use crate::config::node::Place;
use crate::config::spec::Address;
use crate::os::listener::holder::{self, Holder};
use crate::os::listener::{assignable, first_unprivileged};

/// Those that no start could bind.
pub(super) fn missing(found: &mut Found<'_>) {
    let config = found.loaded.config.clone();
    for pool in &config.pools {
        for listener in pool.listeners.iter().filter(|l| l.shared.is_none()) {
            let (Address::Tcp { addr, .. } | Address::Udp { addr, .. }) = &listener.address else { continue };
            let key = format!("pool.{}.listen.{}", pool.spec.name, listener.name);
            let place = place(found, &pool.spec.name, &listener.name);
            let anywhere = listener.options.freebind || !listener.options.device.is_empty();
            if let SocketAddr::V6(v6) = addr
                && v6.ip().is_unicast_link_local()
                && v6.scope_id() == 0
                && listener.options.device.is_empty()
            {
                let message = format!("{key}: {} is the address of a link, and which one is not said", addr.ip());
                found.error(
                    place.clone(),
                    message,
                    format!(
                        "name its interface: listen.{} = {{ address = \"{}\", device = \"eth0\" }}",
                        listener.name, listener.address
                    ),
                );
            } else if let Some(why) = assignable(*addr).filter(|_| !anywhere) {
                let message = format!("{key}: no socket can be bound to {}: {why}", addr.ip());
                found.error(place.clone(), message, "name one of `ip address`, all of them (\":PORT\"), or set freebind");
            }
            if let Some(first) = first_unprivileged(addr.port()) {
                let message = format!("{key}: port {} is below {first}: only root may bind it", addr.port());
                found.error(place, message, "run the master as root (or give it CAP_NET_BIND_SERVICE), or choose a higher port");
            }
        }
    }
}

/// Those that others have.
pub(super) fn taken(found: &mut Found<'_>) {
    let config = found.loaded.config.clone();
    // By the pid file: the first line is its number.
    let master =
        std::fs::read_to_string(&config.master.pidfile).ok().and_then(|text| text.lines().next()?.trim().parse::<i32>().ok());
    let ours = |holder: &Holder| master.is_some_and(|pid| holder.pid == pid || holder.parent == pid);
    for pool in &config.pools {
        for listener in pool.listeners.iter().filter(|l| l.shared.is_none()) {
            let held = match &listener.address {
                Address::Tcp { addr, .. } | Address::Udp { addr, .. } if addr.port() == 0 => None,
                Address::Tcp { addr, .. } => holder::of_port(*addr).map(|by| (by, format!("port {}", addr.port()))),
                Address::Udp { addr, .. } => holder::of_udp_port(*addr).map(|by| (by, format!("UDP port {}", addr.port()))),
                Address::Abstract(name) => {
                    let name = format!("@{name}");
                    holder::of_path(std::path::Path::new(&name)).map(|by| (by, name))
                }
                Address::Inherit(_) => None,
                Address::Unix(path) => holder::of_path(path).map(|by| (by, path.display().to_string())),
            };
            let Some((by, what)) = held.filter(|(by, _)| !by.as_ref().is_some_and(ours)) else { continue };
            let place = place(found, &pool.spec.name, &listener.name);
            let by = by.map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
            let message = format!("pool.{}.listen.{}: {by} listens on {what} now", pool.spec.name, listener.name);
            found.warn(place, message, "stop it before the start, or choose another address");
        }
    }
}

/// Where a listener was given: by its name, or as the items of a list are named.
pub(super) fn place(found: &Found<'_>, pool: &str, listener: &str) -> Place {
    let path = ["pool", pool, "listen", listener, "address"];
    if found.loaded.is_given(&path) {
        return found.loaded.place(&path);
    }
    if found.loaded.is_given(&path[..4]) {
        return found.loaded.place(&path[..4]);
    }
    let item = listener.strip_prefix("main-").and_then(|n| n.parse::<usize>().ok()).map_or(0, |n| n.saturating_sub(1));
    found.loaded.item_place(&path[..3], item)
}
