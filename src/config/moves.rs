//! Owns what becomes of the listeners between two configs, and which pool that comes looks like one that goes. Pure: of sockets it knows only
//! the addresses.

use std::collections::BTreeMap;
use std::path::Path;

use super::spec::{Address, Config, Listener, Pool};

/// A listener of one of two configs, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerDiff {
    /// Its name within its pool.
    pub name: String,
    /// Where it listens; of one that goes, where it did.
    pub address: String,
    /// What becomes of it.
    pub what: Fate,
}

/// What becomes of a listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// A socket is opened for it.
    Opened,
    /// It listens elsewhere: a socket is opened there, the one here is closed.
    Moved {
        /// Where it was.
        from: String,
    },
    /// It is open already, for this listener: `POOL.LISTENER` that goes or listens elsewhere now, or that it shares the socket of.
    TakenOver {
        /// The one that had it.
        from: String,
    },
    /// The socket stays; options of it change.
    Changed,
    /// The socket goes.
    Closed,
    /// Another one has the socket from now on.
    GivenTo {
        /// `POOL.LISTENER`.
        to: String,
    },
}

/// `POOL.LISTENER`.
fn full(pool: &Pool, listener: &Listener) -> String {
    format!("{}.{}", pool.spec.name, listener.name)
}

fn is_any_port(address: &Address) -> bool {
    matches!(address, Address::Tcp { addr, .. } | Address::Udp { addr, .. } if addr.port() == 0)
}

/// What makes a pool look like another: its program, where that runs, and where it listens.
type Looks<'a> = (&'a [String], Option<&'a Path>, Vec<&'a Address>);

fn looks(pool: &Pool) -> Looks<'_> {
    let addresses = pool.listeners.iter().map(|listener| &listener.address).collect();
    (&pool.launch.argv, pool.launch.working_dir.as_deref(), addresses)
}

/// One of the two configs.
struct Side<'a> {
    pools: BTreeMap<&'a str, &'a Pool>,
    /// Who has an address first. Any free port is another one for each.
    owners: BTreeMap<&'a Address, String>,
}

impl<'a> Side<'a> {
    fn of(config: &'a Config) -> Side<'a> {
        let mut owners = BTreeMap::new();
        for (pool, listener) in config.pools.iter().flat_map(|pool| pool.listeners.iter().map(move |l| (pool, l))) {
            if !is_any_port(&listener.address) {
                owners.entry(&listener.address).or_insert_with(|| full(pool, listener));
            }
        }
        Side { pools: config.pools.iter().map(|pool| (pool.spec.name.as_str(), pool)).collect(), owners }
    }
}

/// Two configs, looked at once for all pools.
pub(super) struct Moves<'a> {
    old: Side<'a>,
    new: Side<'a>,
    /// Pools that go, by their looks; `None`: several look so.
    gone: BTreeMap<Looks<'a>, Option<&'a str>>,
}

impl<'a> Moves<'a> {
    pub(super) fn of(old: &'a Config, new: &'a Config) -> Moves<'a> {
        let (old, new) = (Side::of(old), Side::of(new));
        let mut gone: BTreeMap<Looks<'a>, Option<&'a str>> = BTreeMap::new();
        for (name, pool) in old.pools.iter().filter(|(name, _)| !new.pools.contains_key(*name)) {
            gone.entry(looks(pool)).and_modify(|one| *one = None).or_insert(Some(name));
        }
        Moves { old, new, gone }
    }

    /// What becomes of the listeners of one pool, in the order of the new config, those that go last. One that stays as it is, is left out.
    pub(super) fn listeners(&self, name: &str) -> Vec<ListenerDiff> {
        let (before, after) = (self.old.pools.get(name), self.new.pools.get(name));
        let mut out = Vec::new();
        for listener in after.iter().flat_map(|pool| &pool.listeners) {
            let present = before.and_then(|pool| pool.listeners.iter().find(|l| l.name == listener.name));
            let what = match (present, self.old.owners.get(&listener.address)) {
                (Some(present), _) if present.address == listener.address => {
                    if present == listener {
                        continue;
                    }
                    Fate::Changed
                }
                (_, Some(from)) => Fate::TakenOver { from: from.clone() },
                (Some(present), None) => Fate::Moved { from: present.address.to_string() },
                (None, None) => Fate::Opened,
            };
            out.push(ListenerDiff { name: listener.name.clone(), address: listener.address.to_string(), what });
        }
        for listener in before.iter().flat_map(|pool| &pool.listeners) {
            let stays = |l: &Listener| l.name == listener.name && l.address == listener.address;
            if after.is_some_and(|pool| pool.listeners.iter().any(stays)) {
                continue;
            }
            let what = match self.new.owners.get(&listener.address) {
                Some(to) => Fate::GivenTo { to: to.clone() },
                None => Fate::Closed,
            };
            // That of one that moves is told with the move.
            let moves = out.iter().any(|diff| diff.name == listener.name && matches!(diff.what, Fate::Moved { .. }));
            if what != Fate::Closed || !moves {
                out.push(ListenerDiff { name: listener.name.clone(), address: listener.address.to_string(), what });
            }
        }
        out
    }

    /// The pool that goes and that this one, which comes, looks like: the same program with the same listeners.
    pub(super) fn renamed_from(&self, pool: &Pool) -> Option<&'a str> {
        let comes = !self.old.pools.contains_key(pool.spec.name.as_str());
        self.gone.get(&looks(pool)).copied().flatten().filter(|_| comes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn config(text: &str) -> Config {
        load(&Sources { path: Some("/etc/p/pools.toml".into()), text: Some(text.to_owned()), ..Sources::default() })
            .expect("valid")
    }

    /// `NAME ADDRESS FATE` of each, by commas.
    fn told(old: &str, new: &str, pool: &str) -> String {
        let (old, new) = (config(old), config(new));
        let lines = Moves::of(&old, &new).listeners(pool).into_iter().map(|diff| {
            let what = match diff.what {
                Fate::Opened => "opened".to_owned(),
                Fate::Moved { from } => format!("moved from {from}"),
                Fate::TakenOver { from } => format!("taken over from {from}"),
                Fate::Changed => "changed".to_owned(),
                Fate::Closed => "closed".to_owned(),
                Fate::GivenTo { to } => format!("given to {to}"),
            };
            format!("{} {} {what}", diff.name, diff.address)
        });
        lines.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn each_fate_of_a_listener_is_told() {
        let pool = |name: &str, listen: &str| format!("[pool.{name}]\ncommand = \"x\"\nlisten = {listen}\n");
        let one = pool("a", "\"127.0.0.1:81\"");
        for (new, want) in [
            (one.clone(), ""),
            (pool("a", "{ main = { address = \"127.0.0.1:81\", backlog = 7 } }"), "main tcp://127.0.0.1:81 changed"),
            (pool("a", "\"127.0.0.1:82\""), "main tcp://127.0.0.1:82 moved from tcp://127.0.0.1:81"),
            (
                pool("a", "{ x = \"127.0.0.1:81\" }"),
                "x tcp://127.0.0.1:81 taken over from a.main, main tcp://127.0.0.1:81 given to a.x",
            ),
            (pool("a", "[]"), "main tcp://127.0.0.1:81 closed"),
            (pool("b", "\"127.0.0.1:81\""), "main tcp://127.0.0.1:81 given to b.main"),
            (pool("a", "[\"127.0.0.1:81\", \"unix:/s\"]"), "main-2 unix:/s opened"),
            (pool("a", "\"127.0.0.1:0\""), "main tcp://127.0.0.1:0 moved from tcp://127.0.0.1:81"),
        ] {
            assert_eq!(told(&one, &new, "a"), want, "{new}");
        }
        let both = pool("a", "\"127.0.0.1:81\"") + &pool("b", "\"127.0.0.1:82\"");
        let swapped = pool("a", "\"127.0.0.1:82\"") + &pool("b", "\"127.0.0.1:81\"");
        assert_eq!(
            told(&both, &swapped, "a"),
            "main tcp://127.0.0.1:82 taken over from b.main, main tcp://127.0.0.1:81 given to b.main"
        );
        let shared = one.clone() + &pool("b", "{ main = { share = \"a.main\" } }");
        assert_eq!(told(&one, &shared, "b"), "main tcp://127.0.0.1:81 taken over from a.main");
        assert_eq!(told(&shared, &one, "b"), "main tcp://127.0.0.1:81 given to a.main");
        let job = "[pool.j]\ncommand = \"x\"\n";
        assert_eq!(told(job, &one, "a"), "main tcp://127.0.0.1:81 opened");
        assert_eq!(told(&one, job, "a"), "main tcp://127.0.0.1:81 closed");
    }

    #[test]
    fn a_pool_under_another_name_is_known_by_its_program_and_its_listeners() {
        let pool = |name: &str, command: &str| format!("[pool.{name}]\ncommand = \"{command}\"\nlisten = \":81\"\n");
        let renamed = |old: &str, new: &str| {
            let (old, new) = (config(old), config(new));
            new.pools.iter().find_map(|pool| Moves::of(&old, &new).renamed_from(pool).map(str::to_owned))
        };
        assert_eq!(renamed(&pool("a", "x"), &pool("b", "x")).as_deref(), Some("a"));
        assert_eq!(renamed(&pool("a", "x"), &pool("b", "y")), None);
        assert_eq!(renamed(&pool("a", "x"), &pool("a", "x")), None);
        // Two that look like it: nobody knows which.
        let job = |name: &str| format!("[pool.{name}]\ncommand = \"x\"\n");
        assert_eq!(renamed(&(job("a") + &job("b")), &job("c")), None);
    }
}
