//! Owns the look-ups of users and groups. They go through the C library's name service, which may ask a network: only while a config is
//! loaded, never in the loop.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use nix::unistd::{Gid, Group, Uid, User};

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Its number.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its name.
    pub name: String,
    /// Its home directory.
    pub home: PathBuf,
    /// Its login shell.
    pub shell: PathBuf,
}

impl From<User> for Person {
    fn from(user: User) -> Person {
        Person { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: user.name, home: user.dir, shell: user.shell }
    }
}

/// The user of that name; `None`: there is none.
pub fn user_named(name: &str) -> io::Result<Option<Person>> {
    Ok(User::from_name(name)?.map(Person::from))
}

/// The user of that number; `None`: the number has no name, which does not keep anybody from using it.
pub fn user_numbered(uid: u32) -> io::Result<Option<Person>> {
    Ok(User::from_uid(Uid::from_raw(uid))?.map(Person::from))
}

/// The number of the group of that name; `None`: there is none.
pub fn group_named(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// All groups of a user, `gid` among them, as a login would give them.
pub fn groups_of(name: &str, gid: u32) -> io::Result<Vec<u32>> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(nix::unistd::getgrouplist(&name, Gid::from_raw(gid))?.into_iter().map(Gid::as_raw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_by_name_and_number() {
        let root = user_named("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(user_numbered(0).unwrap().unwrap(), root);
        assert_eq!(group_named("root").unwrap(), Some(0));
        assert!(groups_of("root", 0).unwrap().contains(&0));
    }

    #[test]
    fn nobody_of_that_name_is_none_and_no_error() {
        assert_eq!(user_named("no-such-user-here").unwrap(), None);
        assert_eq!(user_numbered(3_999_999_999).unwrap(), None);
        assert_eq!(group_named("no-such-group-here").unwrap(), None);
        assert_eq!(user_named("").unwrap(), None);
    }
}
