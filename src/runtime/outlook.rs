//! Owns the look ahead: as whom, and with which PATH, would the workers of a pool be started? For those who check a config without running it.

use std::ffi::OsString;

use super::accounts::Accounts;
use super::environment::Environment;
use super::identity::Workers;
use crate::config::spec::Pool;
use crate::os::access::Who;

/// How the workers of a pool would be started.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// Their PATH; `None`: they have none.
    pub path: Option<String>,
    /// As whom.
    pub who: Who,
    /// Variables that are too long for any program, and why.
    pub too_long: Vec<(String, String)>,
}

/// Why they could not be started like this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// The key of the pool, and the item of its list.
    pub key: (&'static str, usize),
    /// In words, with the key's value.
    pub why: String,
}

/// Looks ahead, with the environment that a master would be started with.
pub fn outlook(environment: &[(OsString, OsString)], pool: &Pool) -> Result<Outlook, Vec<Hindrance>> {
    let (identity, accounts) = (&pool.identity, Accounts::default());
    let mut hindrances = Vec::new();
    let mut ask = |key: &'static str, item: usize, answer: Result<(), String>| {
        hindrances.extend(answer.err().map(|why| Hindrance { key: (key, item), why }));
    };
    if let Some(user) = &identity.user {
        ask("user", 0, accounts.user(user, "user").map(drop));
    }
    if let Some(group) = &identity.group {
        ask("group", 0, accounts.group(group, "group").map(drop));
    }
    for (item, group) in identity.groups.iter().flatten().enumerate() {
        ask("supplementary_groups", item, accounts.group(group, "supplementary_groups").map(drop));
    }
    if !hindrances.is_empty() {
        return Err(hindrances);
    }
    let workers = Workers::of(identity, &accounts).map_err(|why| {
        let key =
            ["user", "group", "chroot", "supplementary_groups"].into_iter().find(|key| why.starts_with(key)).unwrap_or("user");
        vec![Hindrance { key: (key, 0), why }]
    })?;
    let environment = Environment::of(environment, pool, "", &workers.login);
    let too_long = environment.too_long();
    Ok(Outlook { path: environment.path, who: workers.who(), too_long })
}
