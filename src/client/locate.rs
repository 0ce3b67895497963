//! Owns the choice of the master: the socket that is named, or the only one that answers. Never guesses between two.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dial::{Dialled, dial};
use super::places::{Places, first_of_second, runtime_dirs, sockets_in};
use super::{ClientError, Connection};
use crate::protocol::{Call, InfoReply, Request};

/// Where to look. What stands in a flag beats what stands in the environment: `-c b.toml shutdown` must not reach the
/// master that an old `POOLMASTER_SOCKET` names.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// `--socket`.
    pub socket: Option<&'a Path>,
    /// `-c`.
    pub config: Option<&'a Path>,
    /// `--runtime-dir`.
    pub runtime_dir: Option<&'a Path>,
    /// `$POOLMASTER_SOCKET`.
    pub env_socket: Option<&'a Path>,
    /// `$POOLMASTER_RUNTIME_DIR`.
    pub env_runtime_dir: Option<&'a Path>,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<&'a str>,
    /// The effective user.
    pub uid: u32,
    /// The working directory: of several masters, that of its `pools.toml` is meant.
    pub here: Option<&'a Path>,
    /// Tells where a config's master is found, or what is wrong with the config.
    pub places_of_config: &'a dyn Fn(&Path) -> Result<Places, String>,
    /// How long to wait for a master that takes no connection.
    pub patience: Duration,
}

impl Default for Search<'_> {
    /// Nothing is named.
    fn default() -> Self {
        Search {
            socket: None,
            config: None,
            runtime_dir: None,
            env_socket: None,
            env_runtime_dir: None,
            xdg_runtime_dir: None,
            uid: 0,
            here: None,
            places_of_config: &|_| Err("no config is named".to_owned()),
            patience: Duration::ZERO,
        }
    }
}

/// How long another master than the one that is meant may take to say what it runs.
const OTHERS: Duration = Duration::from_secs(1);

/// Finds the master and connects.
pub fn locate(search: &Search<'_>) -> Result<Connection, ClientError> {
    if let Some(path) = search.socket {
        return named(path, "--socket", search.patience);
    }
    if let Some(config) = search.config {
        return of_config(config, search);
    }
    if let Some(dir) = search.runtime_dir {
        return only_one(&[dir.to_owned()], search);
    }
    if let Some(path) = search.env_socket {
        return named(path, "$POOLMASTER_SOCKET", search.patience);
    }
    match search.env_runtime_dir {
        Some(dir) => only_one(&[dir.to_owned()], search),
        None => only_one(&runtime_dirs(search.uid, search.xdg_runtime_dir), search),
    }
}

/// The master that runs this config: on the socket that the config says, else on that of an earlier edition of it. A file whose
/// `master.name` was edited is still that of the master that has not read it again.
fn of_config(config: &Path, search: &Search<'_>) -> Result<Connection, ClientError> {
    let shown = config.display();
    let places = (search.places_of_config)(config)
        .map_err(|why| ClientError::BadConfig(format!("cannot tell the control socket from {shown}: {why}")));
    let direct = match &places {
        Ok(Places { socket, .. }) => {
            named(socket, &format!("the socket of {shown}"), search.patience).and_then(|mut connection| {
                confirm(&mut connection, config, search)?;
                Ok(connection)
            })
        }
        Err(why) => Err(why.clone()),
    };
    let error = match direct {
        Err(error @ (ClientError::NoMaster(_) | ClientError::BadConfig(_))) => error,
        other => return other,
    };
    let mut dirs: Vec<PathBuf> = search.runtime_dir.into_iter().map(Path::to_owned).collect();
    dirs.extend(places.ok().map(|places| places.runtime_dir));
    dirs.extend(search.env_runtime_dir.map(Path::to_owned));
    dirs.extend(runtime_dirs(search.uid, search.xdg_runtime_dir));
    let mut sockets: Vec<PathBuf> = dirs.iter().flat_map(|dir| sockets_in(dir, search.uid).unwrap_or_default()).collect();
    sockets.sort();
    sockets.dedup();
    let second = |path: &PathBuf| first_of_second(path).is_some_and(|first| sockets.contains(&first));
    let hasty = Search { patience: search.patience.min(OTHERS), ..*search };
    let mut found: Vec<Connection> = Vec::new();
    for socket in sockets.iter().filter(|path| !second(path)) {
        // Others than the one that is meant may hang, or be of another version: that is not this order's business.
        if let Dialled::Alive(stream) = dial(socket, hasty.patience) {
            let mut connection = Connection::new(stream, socket);
            if confirm(&mut connection, config, &hasty).is_ok() {
                found.push(connection);
            }
        }
    }
    if found.len() > 1 {
        return Err(ClientError::Several(format!(
            "several masters run {shown}; name one with --socket:{}",
            listed(found.iter().map(Connection::path))
        )));
    }
    found.pop().ok_or(error)
}

/// Two configs of one folder have the same name, if they do not say otherwise: the master of one is not that of the other.
fn confirm(connection: &mut Connection, config: &Path, search: &Search<'_>) -> Result<(), ClientError> {
    let info: InfoReply = connection.ask(&Call::new(Request::Info), Some(search.patience))?.parameters().map_err(|e| {
        ClientError::Garbled(format!(
            "the master on {} answered with {e}; is it of another version?",
            connection.path().display()
        ))
    })?;
    let meant = search.here.map_or_else(|| config.to_owned(), |here| here.join(config));
    let place = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let its = info.config.as_deref().map(Path::new);
    // Its file may be gone, or another by now: then the name counts.
    if its.is_some_and(|its| its == meant || place(its).is_some() && place(its) == place(&meant)) {
        return Ok(());
    }
    let socket = connection.path().display();
    Err(ClientError::NoMaster(format!(
        "no master of {} is running: the one on {socket} (pid {}), which has the same name, runs {}; it was told nothing; \
         name it with --socket {socket}, or give each config a name (master.name)",
        config.display(),
        info.pid,
        its.map_or_else(|| "no config file".to_owned(), |its| its.display().to_string()),
    )))
}

/// The one that is named, or why not.
fn named(path: &Path, by: &str, patience: Duration) -> Result<Connection, ClientError> {
    let shown = path.display();
    Err(match dial(path, patience) {
        Dialled::Alive(stream) => return Ok(Connection::new(stream, path)),
        Dialled::Stale => ClientError::NoMaster(format!(
            "no master answers on {shown} ({by}): the socket file is stale, its master is gone; `poolmaster run` replaces it"
        )),
        Dialled::Absent => {
            ClientError::NoMaster(format!("no master answers on {shown} ({by}): there is no such socket; is the master running?"))
        }
        Dialled::Denied => denied(&[path.to_owned()]),
        Dialled::Stalled => stalled(path, patience),
        Dialled::Wrong(why) => ClientError::NoMaster(format!("no master can be reached on {shown} ({by}): {why}")),
    })
}

/// The only one that answers in these directories.
fn only_one(dirs: &[PathBuf], search: &Search<'_>) -> Result<Connection, ClientError> {
    let (mut alive, mut stale, mut forbidden, mut hung, mut looked) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for dir in dirs {
        let found = sockets_in(dir, search.uid);
        let note = match &found {
            Ok(sockets) if sockets.is_empty() => "no socket in it".to_owned(),
            Ok(_) => String::new(),
            Err(why) => why.clone(),
        };
        looked.push((dir, note));
        for socket in found.unwrap_or_default() {
            match dial(&socket, search.patience) {
                Dialled::Alive(stream) => alive.push(Connection::new(stream, &socket)),
                Dialled::Stale => stale.push(socket),
                Dialled::Denied => forbidden.push(socket),
                Dialled::Stalled => hung.push(socket),
                Dialled::Absent | Dialled::Wrong(_) => {}
            }
        }
    }
    // A second master is reached by `--socket` as long as the first one lives.
    let all: Vec<PathBuf> = alive.iter().map(|c| c.path().to_owned()).chain(hung.iter().cloned()).collect();
    let second = |p: &Path| first_of_second(p).is_some_and(|first| all.contains(&first));
    alive.retain(|c| !second(c.path()));
    hung.retain(|p| !second(p));

    if alive.len() + hung.len() > 1 {
        if let Some(config) = search.here.map(|here| here.join("pools.toml")).filter(|config| config.exists())
            && let Some(at) = alive.iter_mut().position(|c| confirm(c, &config, search).is_ok())
        {
            return Ok(alive.swap_remove(at));
        }
        let list = alive.iter().map(Connection::path).chain(hung.iter().map(PathBuf::as_path));
        let here = search.here.is_some_and(|here| here.join("pools.toml").exists());
        return Err(ClientError::Several(format!(
            "several masters are running{}; name one with --socket, -c or $POOLMASTER_SOCKET:{}",
            if here { ", none of ./pools.toml" } else { "" },
            listed(list)
        )));
    }
    if let Some(connection) = alive.pop() {
        return Ok(connection);
    }
    if let Some(path) = hung.pop() {
        return Err(stalled(&path, search.patience));
    }
    if !forbidden.is_empty() {
        return Err(denied(&forbidden));
    }
    let mut words = "no master is running; looked in:".to_owned();
    for (dir, note) in looked {
        words.push_str(&format!("\n  {}", dir.display()));
        if !note.is_empty() {
            words.push_str(&format!(" ({note})"));
        }
    }
    if !stale.is_empty() {
        words.push_str("\nstale socket files, whose masters are gone:");
        words.push_str(&listed(stale.iter().map(PathBuf::as_path)));
    }
    words.push_str("\nstart one with `poolmaster run`, or name its socket with --socket or its config with -c");
    Err(ClientError::NoMaster(words))
}

fn listed<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    paths.map(|p| format!("\n  {}", p.display())).collect()
}

fn denied(paths: &[PathBuf]) -> ClientError {
    ClientError::NotPermitted(format!(
        "this user may not connect to:{}\nask as root or as the master's user, or let others in by master.socket_mode and master.socket_users",
        paths.iter().map(|path| format!("\n  {}{}", path.display(), belongs(path))).collect::<String>()
    ))
}

/// Whose it is, and who may use it, where that can be seen.
fn belongs(path: &Path) -> String {
    let seen = std::fs::symlink_metadata(path);
    seen.map(|m| format!(" (uid {}, mode {:04o})", m.uid(), m.mode() & 0o7777)).unwrap_or_default()
}

fn stalled(path: &Path, patience: Duration) -> ClientError {
    ClientError::TimedOut(format!(
        "the master on {} took no connection within {}: it is stopped, or overrun by clients",
        path.display(),
        crate::supervisor::human(patience)
    ))
}
