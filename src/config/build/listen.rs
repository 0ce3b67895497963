//! Owns a pool's listeners: one address, a list of them, or a table of names.

use super::super::diagnostics::Diagnostics;
use super::super::kind::Typed;
use super::super::node::{Node, Place, Raw};
use super::super::spec::{Address, Listener};
use super::super::value::address::Spelled;
use super::reader::Reader;

/// A pool's listeners, and the names of all that are written, those of a kind that is not there yet included.
pub(super) struct Listeners {
    pub(super) list: Vec<Listener>,
    pub(super) names: Vec<String>,
    /// Where each of `list` was written.
    pub(super) places: Vec<Place>,
}

/// In the order of the descriptors: of a list as written, of a table sorted by name.
pub(super) fn build(r: &Reader<'_>, diags: &mut Diagnostics) -> Listeners {
    let mut out = Listeners { list: Vec::new(), names: Vec::new(), places: Vec::new() };
    let Some(node) = r.find("listen") else { return out };
    if !matches!(node.raw, Raw::Table(_)) {
        let Some(Typed::Addresses(addresses)) = r.get_as(Some(node), "listen") else {
            // Wrong, and said so; a name keeps `{fd}` from being called wrong as well.
            out.names.push("main".to_owned());
            return out;
        };
        for (at, address) in addresses.into_iter().enumerate() {
            let name = if at == 0 { "main".to_owned() } else { format!("main-{}", at + 1) };
            out.add(r, name, Some(address), None, r.item_place("listen", at));
        }
        return out;
    }
    let mut entries: Vec<_> = node.entries().iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, entry) in entries {
        let options = matches!(entry.raw, Raw::Table(_)).then_some(entry);
        let address = match options {
            Some(options) => options.get("address"),
            None => Some(entry),
        };
        if address.is_none() && entry.get("share").is_none() {
            let what = format!("{}.listen.{name}: has no address", r.path);
            diags.error(&entry.key, what, "add address = \"tcp://0.0.0.0:8000\", or write the listener as one string");
        }
        let place = address.map_or_else(|| entry.key.clone(), |node| node.place.clone());
        let address = match address.and_then(|node| r.get_as(Some(node), "listen.*.address")) {
            Some(Typed::Addresses(mut list)) => list.pop(),
            _ => None,
        };
        if let (Some(Spelled::Address(Address::Tcp { .. })), Some(mode)) = (&address, options.and_then(|o| o.get("mode"))) {
            diags.error(
                &mode.key,
                format!("{}.listen.{name}.mode: a TCP listener has no permission bits", r.path),
                "remove it: mode is for Unix sockets",
            );
        }
        out.add(r, name.clone(), address, options, place);
    }
    out
}

impl Listeners {
    fn add(&mut self, r: &Reader<'_>, name: String, address: Option<Spelled>, options: Option<&Node>, place: Place) {
        let option = |key: &str| r.get_as(options.and_then(|o| o.get(key)), &format!("listen.*.{key}"));
        let on = |key: &str| matches!(option(key), Some(Typed::Bool(true)));
        self.names.push(name.clone());
        if let Some(Spelled::Address(address)) = address {
            self.places.push(place);
            let backlog = match option("backlog") {
                _ if matches!(address, Address::Udp { .. }) => 0,
                Some(Typed::Int(n)) => u32::try_from(n).unwrap_or(1024),
                _ => 1024,
            };
            self.list.push(Listener {
                name,
                address,
                backlog,
                nonblocking: on("nonblocking"),
                nodelay: on("nodelay"),
                mode: match option("mode") {
                    Some(Typed::Mode(mode)) => Some(mode),
                    _ => None,
                },
            });
        }
    }
}
