//! Owns the look-ups of accounts: the name service may ask a network, and the loop never waits for one. Each is asked for once for each config.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::identity::Workers;
use super::sockets;
use crate::config::spec::{Account, Config};
use crate::os::users::{self, Person};

type Answer<T> = Result<T, String>;
type Answers<K, T> = RefCell<BTreeMap<K, Answer<T>>>;

/// What is known of the accounts of a config. What is not known yet is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    users: Answers<Account, Option<Person>>,
    groups: Answers<String, Option<u32>>,
    groups_of: Answers<(String, u32), Vec<u32>>,
}

/// Asks once. The answers of a name service are errors too: whoever asked for the same a moment later would wait as long for the same one.
fn known<K: Ord, T: Clone>(answers: &Answers<K, T>, key: K, ask: impl FnOnce() -> std::io::Result<T>) -> Answer<T> {
    answers.borrow_mut().entry(key).or_insert_with(|| ask().map_err(|e| e.to_string())).clone()
}

fn unknown(key: &str, name: &str, e: &str) -> String {
    format!("{key} = \"{name}\": cannot look it up: {e}")
}

impl Accounts {
    /// Asks for all that putting this config in force asks for.
    pub(super) fn of(config: &Config) -> Accounts {
        let accounts = Accounts::default();
        // What is wrong is told by whoever needs it.
        for user in &config.master.socket_users {
            let _ = accounts.user(user, "master.socket_users");
        }
        for pool in &config.pools {
            let _ = Workers::of(&pool.identity, &accounts);
            for listener in &pool.listeners {
                let _ = sockets::owner_of(listener, &accounts);
                let _ = sockets::group_of(listener, &accounts);
            }
        }
        accounts
    }

    /// Takes over what it does not know.
    pub(super) fn fill_from(&self, other: &Accounts) {
        fn fill<K: Ord + Clone, T: Clone>(mine: &Answers<K, T>, other: &Answers<K, T>) {
            let mut mine = mine.borrow_mut();
            for (key, answer) in &*other.borrow() {
                mine.entry(key.clone()).or_insert_with(|| answer.clone());
            }
        }
        fill(&self.users, &other.users);
        fill(&self.groups, &other.groups);
        fill(&self.groups_of, &other.groups_of);
    }

    /// A user's number, and what is known of it.
    pub(super) fn user(&self, account: &Account, key: &str) -> Result<(u32, Option<Person>), String> {
        let answer = known(&self.users, account.clone(), || match account {
            Account::Id(uid) => users::user_numbered(*uid),
            Account::Name(name) => users::user_named(name),
        });
        let person = answer.map_err(|e| unknown(key, &account.to_string(), &e))?;
        match (account, person) {
            (Account::Id(uid), login) => Ok((*uid, login)),
            (Account::Name(_), Some(person)) => Ok((person.uid, Some(person))),
            (Account::Name(name), None) => {
                Err(format!("{key} = \"{name}\": this host has no such user; make it (useradd), or name another"))
            }
        }
    }

    /// A group's number.
    pub(super) fn group(&self, account: &Account, key: &str) -> Result<u32, String> {
        match account {
            Account::Id(gid) => Ok(*gid),
            Account::Name(name) => known(&self.groups, name.clone(), || users::group_named(name))
                .map_err(|e| unknown(key, name, &e))?
                .ok_or_else(|| format!("{key} = \"{name}\": this host has no such group; make it (groupadd), or name another")),
        }
    }

    /// All groups of a user, as a login would give them.
    pub(super) fn groups_of(&self, name: &str, gid: u32) -> Result<Vec<u32>, String> {
        let answer = known(&self.groups_of, (name.to_owned(), gid), || users::groups_of(name, gid));
        answer.map_err(|e| unknown("user", name, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_numbers_and_unknown_ones_are_told() {
        let accounts = Accounts::default();
        let name = |name: &str| Account::Name(name.to_owned());
        assert_eq!(accounts.user(&name("root"), "user").unwrap().1.map(|person| person.uid), Some(0));
        assert_eq!(accounts.group(&name("root"), "group"), Ok(0));
        assert!(
            accounts.user(&name("no-such-user-here"), "owner").unwrap_err().starts_with("owner = \"no-such-user-here\": this")
        );
        assert!(accounts.group(&name("no-such-group"), "group").unwrap_err().contains("has no such group"));
    }

    #[test]
    fn what_is_known_is_not_asked_for_again() {
        let (ours, theirs) = (Accounts::default(), Accounts::default());
        let person = Person { uid: 7, gid: 8, name: "ann".to_owned(), home: "/".into(), shell: "/bin/sh".into() };
        let ann = Account::Name("no-such-user-here".to_owned());
        theirs.users.borrow_mut().insert(ann.clone(), Ok(Some(person.clone())));
        assert_eq!(theirs.user(&ann, "user").unwrap(), (7, Some(person.clone())));
        ours.fill_from(&theirs);
        assert_eq!(ours.user(&ann, "user").unwrap(), (7, Some(person)));
        // What was found out later is kept.
        let late = Accounts::default();
        assert!(late.user(&ann, "user").is_err());
        late.fill_from(&theirs);
        assert!(late.user(&ann, "user").is_err());
    }
}
