//! Owns the sockets that the master was started with, until listeners of the first config have taken them, by name (`inherit:NAME`) or by
//! address. What nobody wants is told and closed.

use std::collections::BTreeMap;

use super::second::Shared;
use crate::config::spec::Pool;
use crate::os::activation::Inherited;
use crate::os::dirs::FileId;
use crate::os::listener::ListenAddress;

#[derive(Debug)]
struct Socket {
    inherited: Inherited,
    /// Where it is bound; `None`: it is nothing that can be a listener.
    address: Option<ListenAddress>,
    /// A listener of the config has its address.
    addressed: bool,
    /// Of a first master: which listener of its config has it, `POOL.LISTENER`, and the address there.
    first: Option<Shared>,
}

impl Socket {
    fn words(&self) -> String {
        let address = self.address.as_ref().map_or_else(|| "no socket of a kind that listens".to_owned(), ToString::to_string);
        format!("{:?} ({address})", self.inherited.name)
    }
}

/// What the master was started with.
#[derive(Debug, Default)]
pub(super) struct Handed {
    left: Vec<Socket>,
    /// All that there were, in words.
    all: Vec<String>,
    /// Those that a first master has made, by inode: which file they have.
    own: BTreeMap<u64, Option<FileId>>,
    /// They come from a first master.
    shared: bool,
}

impl Handed {
    pub(super) fn of(inherited: Vec<Inherited>) -> Handed {
        let look = |inherited: Inherited| {
            let address = ListenAddress::of(&inherited.fd).ok().flatten();
            Socket { inherited, address, addressed: false, first: None }
        };
        let left: Vec<Socket> = inherited.into_iter().map(look).collect();
        Handed { all: left.iter().map(Socket::words).collect(), left, own: BTreeMap::new(), shared: false }
    }

    /// What a first master has handed over: whose each is, and where.
    pub(super) fn of_first(inherited: Vec<Inherited>, told: &[Shared]) -> Handed {
        let mut handed = Handed::of(inherited);
        handed.shared = true;
        for (socket, told) in handed.left.iter_mut().zip(told) {
            let inode = crate::os::listener::inode_of(&socket.inherited.fd).filter(|_| told.own);
            handed.own.extend(inode.map(|inode| (inode, told.file)));
            socket.first = Some(told.clone());
        }
        handed
    }

    /// The first master's socket for this listener of the same config, or of another one with its address. Where that is in numbers, with a real
    /// port.
    pub(super) fn of_listener(&mut self, origin: &str, address: &str) -> Option<(Inherited, Option<ListenAddress>)> {
        let same = |socket: &Socket| socket.first.as_ref().is_some_and(|first| first.of == origin && first.at == address);
        let there = |socket: &Socket| socket.first.as_ref().is_some_and(|first| first.at == address && !address.ends_with(":0"));
        let at = self.left.iter().position(same).or_else(|| self.left.iter().position(there))?;
        let socket = self.left.remove(at);
        Some((socket.inherited, socket.address))
    }

    /// Keeps those that listeners want by address from being taken by name.
    pub(super) fn keep_for(&mut self, pools: &[Pool]) {
        let wanted: Vec<ListenAddress> =
            pools.iter().flat_map(|pool| &pool.listeners).filter_map(|l| super::sockets::address_of(&l.address)).collect();
        for socket in &mut self.left {
            socket.addressed = socket.address.as_ref().is_some_and(|address| wanted.iter().any(|w| w.same_place(address)));
        }
    }

    /// Those that a first master has made, and that are this one's once that is gone: by inode, with the file that they have.
    pub(super) fn own(&self) -> &BTreeMap<u64, Option<FileId>> {
        &self.own
    }

    /// They come from a first master, whose workers have them as well.
    pub(super) fn are_shared(&self) -> bool {
        self.shared
    }

    /// The socket of that address.
    pub(super) fn at(&mut self, wanted: &ListenAddress) -> Option<(Inherited, ListenAddress)> {
        let at = self.left.iter().position(|s| s.address.as_ref().is_some_and(|address| wanted.same_place(address)))?;
        let socket = self.left.remove(at);
        Some((socket.inherited, socket.address?))
    }

    /// The socket of that name. `Err`: why there is none, in words.
    pub(super) fn named(&mut self, name: &str) -> Result<(Inherited, ListenAddress), String> {
        let ours = |s: &Socket| s.inherited.name == name && !s.addressed;
        let found: Vec<String> = self.left.iter().filter(|s| ours(s)).map(Socket::words).collect();
        if found.len() > 1 {
            return Err(format!(
                "{} sockets have this name: {}; give each its own (FileDescriptorName= of systemd), or write their addresses",
                found.len(),
                found.join(", ")
            ));
        }
        let Some(at) = self.left.iter().position(ours) else { return Err(self.missing(name)) };
        let socket = self.left.remove(at);
        match socket.address {
            Some(address) => Ok((socket.inherited, address)),
            None => Err("what has this name is no TCP, UDP or Unix stream socket that is bound to an address".to_owned()),
        }
    }

    fn missing(&self, name: &str) -> String {
        if self.all.is_empty() {
            return "the master was started without sockets (LISTEN_FDS); start it by whoever hands them over, a systemd .socket \
                    unit for instance, or write an address"
                .to_owned();
        }
        let all = self.all.join(", ");
        match self.all.iter().any(|words| words.starts_with(&format!("{name:?} "))) {
            true => format!(
                "the socket of this name is another listener's, or nobody's since an earlier config; the master was started with {all}"
            ),
            false => format!("the master was started without a socket of this name; it has {all}"),
        }
    }

    /// Closes what no listener wanted, and says so.
    pub(super) fn close_rest(&mut self) {
        for socket in self.left.drain(..) {
            if let Some(Shared { of, at, .. }) = &socket.first {
                tracing::info!("listener {of} ({at}) of the first master is in no pool of this config: it is left to that one");
                continue;
            }
            let name = &socket.inherited.name;
            tracing::warn!(
                "the master was started with {}, and no listener of the config wants it: it is closed; write listen = \"inherit:{name}\", \
                 or its address, to use it",
                socket.words()
            );
        }
    }
}
