//! Owns a pool's listeners: one address, a list of them, or a table of names.

use super::super::diagnostics::{Diagnostic, Diagnostics};
use super::super::kind::Typed;
use super::super::node::{Node, Place, Raw};
use super::super::spec::{Address, Listener, SocketOptions};
use super::reader::Reader;
use super::share::Shared;

/// A pool's listeners, and the names of all that are written, those of a kind that is not there yet included.
#[derive(Default)]
pub(super) struct Listeners {
    pub(super) list: Vec<Listener>,
    pub(super) names: Vec<String>,
    /// Those that are other pools': not in `list`.
    pub(super) shares: Vec<Shared>,
    /// Where each of `list` was written.
    pub(super) places: Vec<Place>,
}

/// In the order of the descriptors: of a list as written, of a table sorted by name.
pub(super) fn build(r: &Reader<'_>, diags: &mut Diagnostics) -> Listeners {
    let mut out = Listeners::default();
    let Some(node) = r.find("listen") else { return out };
    if !matches!(node.raw, Raw::Table(_)) {
        let Some(Typed::Addresses(addresses)) = r.get_as(Some(node), "listen") else {
            // Wrong, and said so; a name keeps `{fd}` from being called wrong as well.
            out.names.push("main".to_owned());
            return out;
        };
        for (at, address) in addresses.into_iter().enumerate() {
            out.add(r, name(at), Some(address), None, r.item_place("listen", at));
        }
        return out;
    }
    let mut entries: Vec<_> = node.entries().iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, entry) in entries {
        let options = matches!(entry.raw, Raw::Table(_)).then_some(entry);
        if let Some((options, share)) = options.and_then(|o| Some((o, o.get("share")?))) {
            out.share(r, name, options, share, diags);
            continue;
        }
        let address = match options {
            Some(options) => options.get("address"),
            None => Some(entry),
        };
        if address.is_none() {
            let what = format!("{}.listen.{name}: has no address", r.path);
            let help = "add address = \"tcp://0.0.0.0:8000\", or write the listener as one string";
            diags.missing(Diagnostic::error(Some(entry.key.clone()), what).help(help));
        }
        let place = address.map_or_else(|| entry.key.clone(), |node| node.place.clone());
        let address = match address.and_then(|node| r.get_as(Some(node), "listen.*.address")) {
            Some(Typed::Addresses(mut list)) => list.pop(),
            _ => None,
        };
        if let (Some(address), Some(options)) = (&address, options) {
            misfits(&format!("{}.listen.{name}", r.path), address, options, diags);
        }
        out.add(r, name.clone(), address, options, place);
    }
    out
}

/// The name of the listener at this place of a list, from 0.
pub(in super::super) fn name(at: usize) -> String {
    if at == 0 { "main".to_owned() } else { format!("main-{}", at + 1) }
}

impl Listeners {
    /// The same socket as another pool's, which has the address and the options.
    fn share(&mut self, r: &Reader<'_>, name: &str, options: &Node, share: &Node, diags: &mut Diagnostics) {
        for (key, entry) in options.entries().iter().filter(|(key, _)| key != "share") {
            let what = format!("{}.listen.{name}.{key}: a listener that is shared is as its owner has it", r.path);
            diags.error(&entry.key, what, format!("set {key} there, or remove `share`"));
        }
        if let Some(Typed::Text(target)) = r.get_as(Some(share), "listen.*.share") {
            self.shares.push(Shared { name: name.to_owned(), at: self.names.len(), target, place: share.place.clone() });
        }
        self.names.push(name.to_owned());
    }

    fn add(&mut self, r: &Reader<'_>, name: String, address: Option<Address>, options: Option<&Node>, place: Place) {
        let option = |key: &str| r.get_as(options.and_then(|o| o.get(key)), &format!("listen.*.{key}"));
        let on = |key: &str| matches!(option(key), Some(Typed::Bool(true)));
        let choice = |key: &str| match option(key) {
            Some(Typed::Bool(on)) => Some(on),
            _ => None,
        };
        let number = |key: &str| match option(key) {
            Some(Typed::Int(n)) => u32::try_from(n).unwrap_or(0),
            _ => 0,
        };
        let account = |key: &str| match option(key) {
            Some(Typed::Account(account)) => account,
            _ => None,
        };
        self.names.push(name.clone());
        if let Some(mut address) = address {
            if let (Address::Tcp { addr, dual } | Address::Udp { addr, dual }, Some(alone)) = (&mut address, choice("v6only")) {
                *dual = addr.is_ipv6() && !alone;
            }
            self.places.push(place);
            let backlog = match option("backlog") {
                _ if matches!(address, Address::Udp { .. }) => 0,
                Some(Typed::Int(n)) => u32::try_from(n).unwrap_or(1024),
                _ => 1024,
            };
            self.list.push(Listener {
                name,
                address,
                shared: None,
                backlog,
                reuseport: on("reuseport"),
                nonblocking: on("nonblocking"),
                nodelay: on("nodelay"),
                mode: match option("mode") {
                    Some(Typed::Mode(mode)) => Some(mode),
                    _ => None,
                },
                owner: account("owner"),
                group: account("group"),
                options: SocketOptions {
                    freebind: on("freebind"),
                    defer_accept: match option("defer_accept") {
                        // Whole seconds, and never less than was asked for.
                        Some(Typed::Duration(time)) => {
                            i32::try_from(time.as_nanos().div_ceil(1_000_000_000)).unwrap_or(i32::MAX).unsigned_abs()
                        }
                        _ => 0,
                    },
                    fastopen: number("fastopen"),
                    keepalive: choice("keepalive"),
                    device: match option("device") {
                        Some(Typed::Text(device)) => device,
                        _ => String::new(),
                    },
                    mark: number("mark"),
                },
            });
        }
    }
}

/// Options that are set and cannot mean anything for such an address.
fn misfits(path: &str, address: &Address, options: &Node, diags: &mut Diagnostics) {
    for (key, entry) in options.entries() {
        if let Some((what, help)) = misfit(key, address, entry) {
            diags.error(&entry.key, format!("{path}.{key}: {what}"), help);
        }
    }
}

/// IFNAMSIZ, less the NUL byte; the kernel cuts a longer one.
const LONGEST_INTERFACE: usize = 15;
const ONLY_UNIX: &str = "remove it: mode, owner and group are for Unix sockets";
const ONLY_TCP: &str = "remove it: it is an option of TCP";
const ONLY_IP: &str = "remove it: it is an option of TCP and UDP";

fn misfit(key: &str, address: &Address, value: &Node) -> Option<(String, &'static str)> {
    let file = match key {
        "mode" => "permission bits",
        "owner" => "owner",
        "group" => "group",
        _ => "",
    };
    let of_tcp = matches!(key, "nodelay" | "defer_accept" | "fastopen" | "keepalive");
    let of_ip = matches!(key, "v6only" | "freebind" | "device" | "mark" | "reuseport");
    let told = |what: &str, help| Some((what.to_owned(), help));
    if let ("device", Raw::Str(name)) = (key, &value.raw)
        && name.len() > LONGEST_INTERFACE
    {
        let what = format!("an interface's name has at most {LONGEST_INTERFACE} bytes, this one {}", name.len());
        return Some((what, "`ip link` shows them"));
    }
    match address {
        Address::Tcp { .. } | Address::Udp { .. } if !file.is_empty() => {
            let kind = if matches!(address, Address::Tcp { .. }) { "TCP" } else { "UDP" };
            Some((format!("a {kind} listener has no {file}"), ONLY_UNIX))
        }
        Address::Udp { .. } if key == "backlog" => told("UDP has no queue of connections", "remove it"),
        Address::Udp { .. } if of_tcp => told("UDP has no such option", ONLY_TCP),
        Address::Tcp { addr, .. } | Address::Udp { addr, .. } if key == "v6only" && addr.is_ipv4() => {
            told("this is an IPv4 address", "remove it: it is an option of IPv6 addresses")
        }
        // Only tcp6:// gives all interfaces without IPv4.
        Address::Tcp { addr, dual: false } if key == "v6only" && addr.ip().is_unspecified() => {
            let off = matches!(value.raw, Raw::Bool(false));
            off.then(|| ("tcp6:// says the opposite".to_owned(), "remove it, or write tcp:// instead"))
        }
        Address::Unix(_) | Address::Abstract(_) if of_tcp => told("a Unix socket has no such option", ONLY_TCP),
        Address::Unix(_) | Address::Abstract(_) if of_ip => told("a Unix socket has no such option", ONLY_IP),
        Address::Abstract(_) if !file.is_empty() => Some((
            format!("an abstract name has no file, and so no {file}"),
            "remove it, and mind that every user of the host can connect; or write a path: \"unix:/run/web.sock\"",
        )),
        Address::Inherit(_) if key == "reuseport" && matches!(value.raw, Raw::Bool(true)) => {
            told("there is one socket that is inherited, not one for each slot", "remove it, or give the listener an address")
        }
        Address::Inherit(_) if !file.is_empty() || matches!(key, "v6only" | "freebind") => {
            told("whoever makes the socket that is inherited sets this", "remove it, and set it there")
        }
        _ => None,
    }
}
