//! Owns what becomes of the listeners between two configs, and which pool that comes looks like one that goes. Pure: of sockets it knows only
//! the addresses.

use std::collections::BTreeMap;

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

/// Who has an address. Any free port is another one for each.
fn by_address(config: &Config) -> BTreeMap<&Address, Vec<String>> {
    let mut found: BTreeMap<&Address, Vec<String>> = BTreeMap::new();
    for (pool, listener) in config.pools.iter().flat_map(|pool| pool.listeners.iter().map(move |l| (pool, l))) {
        if !is_any_port(&listener.address) {
            found.entry(&listener.address).or_default().push(full(pool, listener));
        }
    }
    found
}

fn is_any_port(address: &Address) -> bool {
    matches!(address, Address::Tcp { addr, .. } | Address::Udp { addr, .. } if addr.port() == 0)
}

/// What becomes of the listeners of one pool, in the order of the new config, those that go last. One that stays as it is, is left out.
pub(super) fn listeners(old: &Config, new: &Config, name: &str) -> Vec<ListenerDiff> {
    let find = |config: &'_ Config| config.pools.iter().position(|pool| pool.spec.name == name);
    let (before, after) = (find(old).map(|at| &old.pools[at]), find(new).map(|at| &new.pools[at]));
    let (had, have) = (by_address(old), by_address(new));
    let mut out = Vec::new();
    for listener in after.iter().flat_map(|pool| &pool.listeners) {
        let present = before.and_then(|pool| pool.listeners.iter().find(|l| l.name == listener.name));
        let from = had.get(&listener.address).and_then(|owners| owners.first());
        let what = match (present, from) {
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
        let stays = |l: &&Listener| l.name == listener.name && l.address == listener.address;
        if after.is_some_and(|pool| pool.listeners.iter().any(|l| stays(&l))) {
            continue;
        }
        let what = match have.get(&listener.address).and_then(|owners| owners.first()) {
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
pub(super) fn renamed_from<'a>(old: &'a Config, new: &Config, pool: &Pool) -> Option<&'a str> {
    let gone = |other: &&Pool| new.pools.iter().all(|p| p.spec.name != other.spec.name);
    let comes = old.pools.iter().all(|p| p.spec.name != pool.spec.name);
    let alike = |other: &&Pool| {
        let sockets = |pool: &Pool| pool.listeners.iter().map(|l| l.address.clone()).collect::<Vec<_>>();
        other.launch.argv == pool.launch.argv
            && other.launch.working_dir == pool.launch.working_dir
            && sockets(other) == sockets(pool)
    };
    let mut found = old.pools.iter().filter(gone).filter(alike);
    let one = found.next().filter(|_| comes && found.next().is_none())?;
    Some(&one.spec.name)
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
        let lines = listeners(&config(old), &config(new), pool).into_iter().map(|diff| {
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
            new.pools.iter().find_map(|pool| renamed_from(&old, &new, pool).map(str::to_owned))
        };
        assert_eq!(renamed(&pool("a", "x"), &pool("b", "x")).as_deref(), Some("a"));
        assert_eq!(renamed(&pool("a", "x"), &pool("b", "y")), None);
        assert_eq!(renamed(&pool("a", "x"), &pool("a", "x")), None);
        // Two that look like it: nobody knows which.
        let job = |name: &str| format!("[pool.{name}]\ncommand = \"x\"\n");
        assert_eq!(renamed(&(job("a") + &job("b")), &job("c")), None);
    }
}
