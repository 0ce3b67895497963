//! Owns the folders and files that have to be there: working directories, folders of logs and sockets, files of variables and secrets.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use super::{Found, View};
use crate::config::env_file;
use crate::config::node::Place;
use crate::config::spec::{Account, Address, Output};
use crate::os::access::{Obstacle, Want, Who, head, reach};
use crate::os::users;

/// Most bytes of a file of variables.
const FILE_LIMIT: u64 = 1 << 20;

pub(super) fn of_master(found: &mut Found<'_>) {
    let master = found.loaded.config.master.clone();
    let files = [
        ("runtime_dir", Some(master.runtime_dir)),
        ("socket", Some(master.socket)),
        ("pidfile", Some(master.pidfile)),
        ("log.file", master.log.file),
        ("trace", master.trace),
    ];
    for (key, path) in files {
        // By default they lie in the runtime directory, which is made.
        if let Some(path) = path.filter(|_| found.loaded.is_given(&super::path_of("master", key))) {
            let place = found.master(key);
            folder_of(&format!("master.{key}"), &path, place, found);
            if key != "runtime_dir" && path.is_dir() {
                let place = found.master(key);
                found.error(place, format!("master.{key}: {} is a folder", path.display()), "name a file in it");
            }
        }
    }
}

pub(super) fn of_pool(view: &View<'_>, found: &mut Found<'_>) {
    let name = view.name().to_owned();
    let at = |key: &str| format!("pool.{name}.{key}");
    if let Some(root) = &view.pool.identity.chroot {
        folder(&at("chroot"), root, &Who::me(), "", found.pool(&name, "chroot"), found);
    }
    if let Some(dir) = &view.pool.launch.working_dir {
        let place = found.pool(&name, "working_dir");
        folder(&at("working_dir"), &view.outside(dir), view.who, &view.as_user(), place, found);
    }
    for (key, output) in [("log.stdout", &view.pool.launch.stdout), ("log.stderr", &view.pool.launch.stderr)] {
        if let Output::File(path) = output {
            folder_of(&at(key), path, found.pool(&name, key), found);
        }
    }
    for listener in view.pool.listeners.iter().filter(|l| l.shared.is_none()) {
        if let Address::Unix(path) = &listener.address {
            let place = super::addresses::place(found, &name, &listener.name);
            folder_of(&format!("pool.{name}.listen.{}", listener.name), path, place.clone(), found);
            occupied(&name, &listener.name, path, place.clone(), found);
            for (key, account) in [("owner", &listener.owner), ("group", &listener.group)] {
                known(
                    &["pool", &name, "listen", &listener.name, key],
                    if key == "owner" { "user" } else { key },
                    account.as_ref(),
                    found,
                );
            }
        }
    }
    for (item, file) in view.pool.launch.env_files.iter().enumerate() {
        let place = found.loaded.item_place(&["pool", &name, "env_files"], item);
        variables(&at("env_files"), &file.path, file.optional, place, found);
    }
    for (variable, path) in &view.pool.launch.secrets {
        let place = found.loaded.place(&["pool", &name, "secrets", variable]);
        secret(&at(&format!("secrets.{variable}")), path, place, found);
    }
}

/// A folder that has to be there, and to be entered by the user.
fn folder(key: &str, dir: &Path, who: &Who, as_user: &str, place: Place, found: &mut Found<'_>) {
    let shown = dir.display();
    if std::fs::metadata(dir).is_ok_and(|meta| !meta.is_dir()) {
        return found.error(place, format!("{key}: {shown} is no folder"), "name a folder");
    }
    match reach(dir, who, Want::Execute) {
        Ok(_) => {}
        Err(Obstacle::Missing(first)) => {
            let what = match first == dir {
                true => format!("{key}: the folder {shown} does not exist"),
                false => format!("{key}: {shown} does not exist: there is no {}", first.display()),
            };
            found.error(place, what, format!("mkdir -p {shown}"));
        }
        Err(Obstacle::NoFolder(file)) => {
            found.error(place, format!("{key}: {shown} cannot exist: {} is no folder", file.display()), "name a folder");
        }
        Err(Obstacle::Closed(folder, mode)) => {
            let what = format!("{key}: {shown} cannot be entered{as_user}: {} has mode {mode:04o}", folder.display());
            found.warn(place, what, "let that user through, or name another folder");
        }
        Err(Obstacle::Forbidden(mode)) => {
            let what = format!("{key}: {shown} cannot be entered{as_user}: it has mode {mode:04o}");
            found.warn(place, what, "let that user in, or name another folder");
        }
        Err(Obstacle::Kernel(why)) => {
            found.error(place, format!("{key}: {shown} cannot be looked at: {why}"), "correct the path")
        }
    }
}

/// The folder of a file that will be made.
fn folder_of(key: &str, file: &Path, place: Place, found: &mut Found<'_>) {
    let Some(dir) = file.parent() else { return };
    // The folder itself is made at the start.
    if dir == found.loaded.config.master.runtime_dir {
        return;
    }
    match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => found.error(place, format!("{key}: {} is no folder", dir.display()), "name a file in a folder"),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {}
        Err(_) => {
            let what = format!("{key}: the folder {} does not exist", dir.display());
            found.error(place, what, format!("mkdir -p {}", dir.display()));
        }
    }
}

/// A user or a group that has to be there at the start.
pub(super) fn known(key: &[&str], what: &str, account: Option<&Account>, found: &mut Found<'_>) {
    let Some(Account::Name(name)) = account else { return };
    let there = match what {
        "user" => users::user_named(name).map(|user| user.is_some()),
        _ => users::group_named(name).map(|group| group.is_some()),
    };
    // A name service that does not answer now may do so at the start.
    if there.is_ok_and(|there| !there) {
        let message = format!("{}: this host has no {what} {name:?}", key.join("."));
        found.error(found.loaded.place(key), message, format!("make it ({what}add), or name another"));
    }
}

/// A listener takes the place of a stale socket, and of nothing else.
fn occupied(pool: &str, listener: &str, path: &Path, place: Place, found: &mut Found<'_>) {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return };
    let kind = meta.file_type();
    let what = if kind.is_socket() {
        return;
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_file() {
        "a file"
    } else {
        "something that is no socket"
    };
    let message = format!("pool.{pool}.listen.{listener}: there is {what} at {}", path.display());
    let help = match kind.is_file() || kind.is_symlink() {
        true => "it is left alone: remove it yourself, or choose another path",
        // A folder, or a device of the whole host's.
        false => "it is left alone: choose another path",
    };
    found.error(place, message, help);
}

fn variables(key: &str, path: &Path, optional: bool, place: Place, found: &mut Found<'_>) {
    let shown = path.display();
    match reach(path, &Who::me(), Want::Read) {
        Err(Obstacle::Missing(_) | Obstacle::NoFolder(_)) if optional => {}
        Err(Obstacle::Missing(_) | Obstacle::NoFolder(_)) => {
            found.error(
                place,
                format!("{key}: there is no file {shown}"),
                "make it, or write a - before its name if it may be missing",
            );
        }
        Ok(meta) if !meta.is_file() => found.error(place, format!("{key}: {shown} is no regular file"), "name a file"),
        Ok(_) => {
            let text = head(path, FILE_LIMIT + 1).unwrap_or_default();
            if text.len() as u64 > FILE_LIMIT {
                return found.error(
                    place,
                    format!("{key}: {shown} is larger than 1 MiB"),
                    "name another file, or split it: env_files takes several",
                );
            }
            match std::str::from_utf8(&text).map(env_file::parse) {
                Ok(Ok(_)) => {}
                Ok(Err((line, why))) => {
                    let help = match why {
                        _ if why.contains("quote") => {
                            "a value stands bare, or in '...' or \"...\" with nothing but a comment after it"
                        }
                        _ if why.contains("NUL") => "take it out",
                        _ => "a line is NAME=VALUE, or a comment after #",
                    };
                    found.error(place, format!("{key}: {shown}:{line}: {why}"), help);
                }
                Err(_) => found.error(place, format!("{key}: {shown} is not UTF-8 text"), "name a file of variables"),
            }
        }
        Err(other) => unreadable(key, path, &other, place, found),
    }
}

fn secret(key: &str, path: &Path, place: Place, found: &mut Found<'_>) {
    let shown = path.display();
    match reach(path, &Who::me(), Want::Read) {
        Err(Obstacle::Missing(_) | Obstacle::NoFolder(_)) => {
            found.error(place, format!("{key}: there is no file {shown}"), "the secret is read from it at each start")
        }
        Ok(meta) if meta.is_dir() => found.error(place, format!("{key}: {shown} is a folder"), "name the file with the secret"),
        Ok(meta) if meta.permissions().mode() & 0o004 != 0 => {
            let mode = meta.permissions().mode() & 0o7777;
            found.warn(
                place,
                format!("{key}: every user of this host can read {shown} (mode {mode:04o})"),
                format!("chmod o-r {shown}"),
            );
        }
        Ok(_) => {}
        Err(other) => unreadable(key, path, &other, place, found),
    }
}

/// By who looks; the master may be somebody else.
fn unreadable(key: &str, path: &Path, obstacle: &Obstacle, place: Place, found: &mut Found<'_>) {
    let why = match obstacle {
        Obstacle::Missing(what) => format!("there is no {}", what.display()),
        Obstacle::NoFolder(file) => format!("{} is no folder", file.display()),
        Obstacle::Closed(folder, mode) => format!("{} has mode {mode:04o}", folder.display()),
        Obstacle::Forbidden(mode) => format!("it has mode {mode:04o}"),
        Obstacle::Kernel(why) => why.clone(),
    };
    found.warn(place, format!("{key}: you cannot read {}: {why}", path.display()), "the master has to, whoever runs it");
}
