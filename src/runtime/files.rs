//! Owns the master's files on the host: runtime directory, lock, pid file, control socket, and a directory for each pool. Only what
//! this master made is removed, and nothing is left when it ends.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::spec;
use crate::os::dirs::{self, FileId};
use crate::os::handover::{BoundState, LockState, Passed, Taken};
use crate::os::lockfile::{InstanceLock, LockError, PidFile};
use crate::os::unix::ControlListener;

/// A file that the master needs could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The runtime directory, or one below it.
    #[error("{0}; give another place with --runtime-dir or master.runtime_dir")]
    Directory(String),
    /// Another master has the name.
    #[error("another master runs under the name {name}{pid}: this one would take its socket; stop it first (poolmaster shutdown -c ITS-CONFIG), or give this one another master.name", pid = .pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Taken {
        /// Instance name.
        name: String,
        /// The holder.
        pid: Option<i32>,
    },
    /// The lock file.
    #[error(transparent)]
    Lock(LockError),
    /// The pid file.
    #[error("the pid file: {0}")]
    Pid(LockError),
    /// The control socket.
    #[error("cannot open the control socket {path}: {cause}; give another one in master.socket", path = .path.display())]
    Socket {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// What is on the host because of this master.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) control: ControlListener,
    pub(super) socket: PathBuf,
    pub(super) pid: Option<PidFile>,
    pools: Made,
    /// Where the pools' notify sockets are when `pools` is on a disk: in memory.
    memory: Option<Made>,
    /// That it takes none was told.
    told_spare: Cell<bool>,
    /// A folder that others were let look into, and the mode that it had.
    closed: Option<(PathBuf, u32)>,
    /// What is in the root directories of pools that have their own.
    jailed: Vec<Made>,
    /// Those of each pool, and for whom they were made.
    of_pools: BTreeMap<String, (u32, Option<PathBuf>, PoolDirs)>,
    uid: u32,
    /// A master of this name ended here without tidying up.
    pub(super) after_a_crash: bool,
    /// Of names that this master had before.
    pub(super) former: Vec<InstanceLock>,
    /// Last: another master may come as soon as it is free.
    pub(super) lock: Option<InstanceLock>,
}

/// A directory that this master made, and which it is: another one may come in its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Made {
    path: PathBuf,
    id: FileId,
}

impl Made {
    /// Makes it anew when it is gone. True: it was.
    fn restore(&mut self, uid: u32) -> Result<bool, FilesError> {
        let (id, made) = directory(&self.path, 0o711, uid)?;
        if id != self.id && !made {
            let path = self.path.display();
            return Err(FilesError::Directory(format!(
                "{path} was removed, and another one was made in its place by somebody else"
            )));
        }
        self.id = id;
        Ok(made)
    }

    /// Removes it. The error is in words.
    fn remove(&self) -> Result<(), String> {
        match dirs::remove_tree(&self.path, self.id) {
            Ok(true) => Ok(()),
            Ok(false) if self.path.exists() => Err(format!("{} is another one's by now: left alone", self.path.display())),
            Ok(false) => Err(format!("{} was gone already", self.path.display())),
            Err(e) => Err(format!("cannot remove {}: {e}", self.path.display())),
        }
    }
}

/// The same in the state that one image of the master hands to the next.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FilesState {
    control: BoundState,
    socket: PathBuf,
    pid: Option<LockState>,
    pools: Made,
    memory: Option<Made>,
    closed: Option<(PathBuf, u32)>,
    jailed: Vec<Made>,
    of_pools: BTreeMap<String, (u32, Option<PathBuf>, PoolDirs)>,
    former: Vec<LockState>,
    lock: Option<LockState>,
}

impl FilesState {
    /// Their descriptors.
    pub(super) fn passed(&self) -> Vec<Passed> {
        let locks = self.pid.iter().chain(&self.former).chain(&self.lock);
        locks.flat_map(LockState::passed).chain(self.control.passed()).collect()
    }
}

impl Files {
    /// For the next image of the master.
    pub(super) fn state(&self) -> io::Result<FilesState> {
        Ok(FilesState {
            control: self.control.state()?,
            socket: self.socket.clone(),
            pid: self.pid.as_ref().map(PidFile::state).transpose()?,
            pools: self.pools.clone(),
            memory: self.memory.clone(),
            closed: self.closed.clone(),
            jailed: self.jailed.clone(),
            of_pools: self.of_pools.clone(),
            former: self.former.iter().map(InstanceLock::state).collect::<io::Result<_>>()?,
            lock: self.lock.as_ref().map(InstanceLock::state).transpose()?,
        })
    }

    /// As the image before has left them.
    pub(super) fn restore_state(state: FilesState, uid: u32, taken: &mut Taken) -> io::Result<Files> {
        let mut lock = |lock| InstanceLock::restore(lock, taken);
        let former = state.former.into_iter().map(&mut lock).collect::<io::Result<_>>()?;
        let own = state.lock.map(&mut lock).transpose()?;
        Ok(Files {
            control: ControlListener::restore(state.control, taken)?,
            socket: state.socket,
            pid: state.pid.map(|pid| PidFile::restore(pid, taken)).transpose()?,
            pools: state.pools,
            memory: state.memory,
            told_spare: Cell::new(false),
            closed: state.closed,
            jailed: state.jailed,
            of_pools: state.of_pools,
            uid,
            after_a_crash: false,
            former,
            lock: own,
        })
    }

    /// Takes the name, then makes everything that goes with it.
    /// `folder`: what its folder for workers is called.
    pub(super) fn take(master: &spec::Master, folder: &str, uid: u32) -> Result<Files, FilesError> {
        directory(&master.runtime_dir, 0o711, uid)?;
        let lock_path = master.runtime_dir.join(format!("{}.lock", master.name));
        let lock = InstanceLock::take(&lock_path).map_err(|e| match e {
            LockError::Held { pid, .. } => FilesError::Taken { name: master.name.clone(), pid },
            other => FilesError::Lock(other),
        })?;
        let (mut pid, mut pools) = (None, None);
        let made = under_lock(master, folder, uid, &mut pid, &mut pools).and_then(|made| {
            lock.tell(&master.socket).map_err(FilesError::Lock)?;
            Ok(made)
        });
        match made {
            Ok((control, pools, after_a_crash)) => Ok(Files {
                after_a_crash,
                control,
                socket: master.socket.clone(),
                pid,
                pools,
                memory: in_memory(master, folder, uid),
                told_spare: Cell::new(false),
                closed: None,
                jailed: Vec::new(),
                of_pools: BTreeMap::new(),
                uid,
                former: Vec::new(),
                lock: Some(lock),
            }),
            Err(e) => {
                // The error that counts is `e`: this is only tidying up.
                if let Some(pools) = pools {
                    let _ = pools.remove();
                }
                if let Some(pid) = pid {
                    let _ = pid.remove();
                }
                let _ = lock.release();
                Err(e)
            }
        }
    }

    /// Makes anew what somebody has removed since it was made. Gives what there is to be told, and the control socket that nobody can find any more.
    pub(super) fn restore(&mut self, socket_mode: u32) -> (Vec<String>, Option<ControlListener>) {
        let mut words = Vec::new();
        let lost = match self.restore_name(socket_mode, &mut words) {
            Ok(lost) => lost,
            Err(e) => {
                words.push(e.to_string());
                None
            }
        };
        (words, lost)
    }

    fn restore_name(&mut self, socket_mode: u32, words: &mut Vec<String>) -> Result<Option<ControlListener>, FilesError> {
        let Some(lock) = &self.lock else { return Ok(None) };
        let path = lock.path().to_owned();
        if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
            directory(dir, 0o711, self.uid)?;
            words.push(format!("the runtime directory {} was removed by somebody: made anew", dir.display()));
        }
        if !lock.is_there() {
            // Another master may have come in between, and then everything with this name is its own.
            let lock = InstanceLock::take(&path).map_err(FilesError::Lock)?;
            lock.tell(&self.socket).map_err(FilesError::Lock)?;
            self.lock = Some(lock);
            words.push(format!("the lock {} was removed by somebody: made anew", path.display()));
        }
        if let Some(path) = self.pid.as_ref().filter(|pid| !pid.is_there()).map(|pid| pid.path().to_owned()) {
            self.pid = Some(PidFile::create(&path).map_err(FilesError::Pid)?);
            words.push(format!("the pid file {} was removed by somebody: made anew", path.display()));
        }
        if self.control.is_there() {
            return Ok(None);
        }
        let control = ControlListener::bind(&self.socket, socket_mode)
            .map_err(|cause| FilesError::Socket { path: self.socket.clone(), cause })?;
        words.push(format!("the control socket {} was removed by somebody: made anew", self.socket.display()));
        Ok(Some(std::mem::replace(&mut self.control, control)))
    }

    /// They are where they were made.
    pub(super) fn has_pool_dirs(&self, name: &str) -> bool {
        self.of_pools.get(name).is_some_and(|(_, _, dirs)| dirs.are_there())
    }

    /// The directories of a pool, made when missing: its own, which belongs to its user, and that of its notify sockets, which is ours. Those
    /// of workers with another root directory are in there, at the same path. What is there already keeps its owner: a config that is only
    /// tried takes nothing away.
    pub(super) fn pool_dirs(&mut self, name: &str, uid: u32, chroot: Option<&Path>) -> Result<PoolDirs, FilesError> {
        // A config of thousands of pools is put in force without making anything twice.
        if let Some(dirs) = self.given(name, uid, chroot) {
            return Ok(dirs.clone());
        }
        let dirs = self.make_pool_dirs(name, uid, chroot)?;
        if !self.of_pools.contains_key(name) {
            self.of_pools.insert(name.to_owned(), (uid, chroot.map(Path::to_owned), dirs.clone()));
        }
        Ok(dirs)
    }

    /// Gives the directories of a pool to this user, whose workers are started in them.
    pub(super) fn give_pool_dirs(&mut self, name: &str, uid: u32, chroot: Option<&Path>) -> Result<(), FilesError> {
        if self.given(name, uid, chroot).is_some() {
            return Ok(());
        }
        let dirs = self.make_pool_dirs(name, uid, chroot)?;
        // Below a directory of ours alone: whoever has it, got it from us.
        dirs::ensure_owned(&dirs.own, 0o700, uid).map_err(|e| FilesError::Directory(e.to_string()))?;
        self.of_pools.insert(name.to_owned(), (uid, chroot.map(Path::to_owned), dirs));
        Ok(())
    }

    /// They are there, and this user's.
    fn given(&self, name: &str, uid: u32, chroot: Option<&Path>) -> Option<&PoolDirs> {
        let (owner, root, dirs) = self.of_pools.get(name)?;
        (*owner == uid && root.as_deref() == chroot && dirs.are_there()).then_some(dirs)
    }

    /// Removes a directory of a pool with all that is in it, if it is one that was made here.
    pub(super) fn drop_place(&self, name: &str, place: &Path) {
        for root in [&self.pools].into_iter().chain(&self.memory).chain(&self.jailed) {
            let made = [root.path.join(name), root.path.join(NOTIFY).join(name)];
            made.iter().filter(|dir| **dir == place).for_each(|dir| drop_tree(dir));
        }
    }

    fn make_pool_dirs(&mut self, name: &str, uid: u32, chroot: Option<&Path>) -> Result<PoolDirs, FilesError> {
        if self.pools.restore(self.uid)? {
            tracing::warn!("{} was removed by somebody: made anew", self.pools.path.display());
        }
        let own = chroot.map_or_else(|| self.pools.path.clone(), |root| below(root, &self.pools.path));
        if let Some(root) = chroot {
            let id = make_below(root, &own)?;
            if !self.jailed.iter().any(|made| made.path == own) {
                self.jailed.push(Made { path: own.clone(), id });
            }
        }
        let notify = match self.memory_dir(name).filter(|_| chroot.is_none()) {
            Some(notify) => notify,
            None => self.sockets_below(&own, name)?,
        };
        let dir = own.join(name);
        dirs::ensure_there(&dir, 0o700, uid).map_err(|e| FilesError::Directory(e.to_string()))?;
        Ok(PoolDirs { seen: self.pools.path.join(name), own: dir, notify })
    }

    /// Another place for a pool's notify sockets than memory, which does not take them.
    pub(super) fn spare_dir(&self, name: &str, why: &io::Error) -> Result<PathBuf, FilesError> {
        if let Some(memory) = self.memory.as_ref().filter(|_| !self.told_spare.replace(true)) {
            tracing::warn!(
                "cannot make notify sockets in {}: {why}; they are made in {} instead",
                memory.path.display(),
                self.pools.path.display()
            );
        }
        self.sockets_below(&self.pools.path, name)
    }

    /// The place in memory, if it can be had.
    fn memory_dir(&mut self, name: &str) -> Option<PathBuf> {
        let memory = self.memory.as_mut()?;
        let made = memory.path.parent().map_or(Ok(false), |shared| directory(shared, 0o711, self.uid).map(|(_, made)| made));
        let path = memory.path.clone();
        match made.and_then(|_| memory.restore(self.uid)) {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!("{} was removed by somebody (logind does so with RemoveIPC=yes): made anew", path.display())
            }
            Err(e) => {
                tracing::warn!("{e}; the workers' notify sockets are made in {} instead", self.pools.path.display());
                return None;
            }
        }
        match self.sockets_below(&path, name) {
            Ok(dir) => Some(dir),
            Err(e) => {
                tracing::warn!(pool = name, "{e}; its workers' notify sockets are made in {} instead", self.pools.path.display());
                None
            }
        }
    }

    fn sockets_below(&self, root: &Path, name: &str) -> Result<PathBuf, FilesError> {
        let sockets = root.join(NOTIFY);
        directory(&sockets, 0o711, self.uid)?;
        let sockets = sockets.join(name);
        directory(&sockets, 0o711, self.uid)?;
        Ok(sockets)
    }

    /// Lets users find the control socket who may use it, or nobody any more. What cannot be helped shows to whoever looks for it.
    pub(super) fn let_look(&mut self, others: bool) {
        let Some(dir) = self.socket.parent().map(Path::to_owned) else { return };
        // Any other folder is somebody's own: what may be seen of it is theirs to say.
        let ours = self.lock.as_ref().and_then(|lock| lock.path().parent()).is_some_and(|runtime| runtime == dir);
        if others && !ours {
            if dirs::is_closed(&dir) {
                let (dir, socket) = (dir.display(), self.socket.display());
                tracing::warn!(
                    "the users of master.socket_users cannot reach {socket}: others may not enter {dir}; let them (chmod o+x), or put the socket \
                     elsewhere (without master.socket it is in the runtime directory)"
                );
            }
        } else if others {
            let before = dirs::let_look(&dir, self.uid).ok().flatten();
            self.closed = before.map(|mode| (dir, mode)).or(self.closed.take());
        } else if let Some((dir, mode)) = self.closed.take() {
            let _ = dirs::set_mode(&dir, self.uid, mode);
        }
    }

    /// Changes the permission bits of the control socket, while clients are connected and others connect. The error is in words.
    pub(super) fn set_socket_mode(&self, mode: u32) -> Result<(), String> {
        self.control.set_mode(mode).map_err(|e| {
            format!(
                "cannot change the mode of the control socket {} to {mode:04o}: {e}; it stays as it was",
                self.socket.display()
            )
        })
    }

    /// Removes a pool's directories.
    pub(super) fn drop_pool_dir(&mut self, name: &str) {
        self.of_pools.remove(name);
        for root in [&self.pools].into_iter().chain(&self.memory).chain(&self.jailed) {
            [root.path.join(name), root.path.join(NOTIFY).join(name)].iter().for_each(|dir| drop_tree(dir));
        }
    }

    /// Gives up the names that this master had before. What cannot be removed is named, for the log.
    pub(super) fn release_former(&mut self) -> Vec<String> {
        let released = self.former.drain(..).map(InstanceLock::release);
        released.filter_map(|done| Some(format!("cannot remove the lock file of the earlier name: {}", done.err()?))).collect()
    }

    /// Removes everything. What cannot be removed is named, for the log.
    pub(super) fn remove(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        self.let_look(false);
        if let Err(e) = self.control.unlink() {
            left.push(format!("cannot remove the control socket {}: {e}", self.socket.display()));
        }
        left.extend(self.pools.remove().err());
        if let Some(memory) = self.memory.take() {
            left.extend(memory.remove().err());
            // Fails as it should while another instance uses it.
            let _ = memory.path.parent().map(dirs::remove_empty);
        }
        for made in self.jailed.drain(..) {
            left.extend(made.remove().err());
            // Fails as it should when it was not made by us alone.
            let _ = made.path.parent().map(dirs::remove_empty);
        }
        if let Some(Err(e)) = self.pid.take().map(PidFile::remove) {
            left.push(format!("cannot remove the pid file: {e}"));
        }
        for lock in self.former.drain(..).chain(self.lock.take()) {
            if let Err(e) = lock.release() {
                left.push(format!("cannot remove the lock file: {e}"));
            }
        }
        left
    }
}

/// The directories of one pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PoolDirs {
    /// Its own, as its workers see it.
    pub(super) seen: PathBuf,
    /// The same as we see it.
    own: PathBuf,
    /// Of its notify sockets, as we see it.
    pub(super) notify: PathBuf,
}

impl PoolDirs {
    /// Both, as we see them.
    pub(super) fn places(&self) -> [PathBuf; 2] {
        [self.own.clone(), self.notify.clone()]
    }

    fn are_there(&self) -> bool {
        [&self.own, &self.notify].into_iter().all(|dir| std::fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir()))
    }
}

/// Where the notify sockets are, beside the pools' own directories: no pool can have this name.
const NOTIFY: &str = ".n";

/// With all that is in it. One that is not there is as good as removed.
fn drop_tree(dir: &Path) {
    let _ = dirs::found(dir).and_then(|id| dirs::remove_tree(dir, id));
}

/// An absolute path as it is seen from outside of a root directory.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes the directories from a root directory down to `path`, each checked to be ours or root's: inside of the root directory anybody may
/// have left anything. Gives which the last one is.
fn make_below(root: &Path, path: &Path) -> Result<FileId, FilesError> {
    let (mut at, mut last) = (root.to_owned(), None);
    for part in path.strip_prefix(root).unwrap_or(path) {
        at.push(part);
        last = Some(directory(&at, 0o711, 0)?.0);
    }
    last.ok_or_else(|| FilesError::Directory(format!("{} is the root directory itself", path.display())))
}

/// The pid file first, then what goes with the name: what an earlier master left behind under it is stale.
fn under_lock(
    master: &spec::Master,
    folder: &str,
    uid: u32,
    pid: &mut Option<PidFile>,
    pools: &mut Option<Made>,
) -> Result<(ControlListener, Made, bool), FilesError> {
    *pid = Some(PidFile::create(&master.pidfile).map_err(FilesError::Pid)?);
    let path = master.runtime_dir.join(format!("{folder}.d"));
    let after_a_crash = path.exists();
    sweep(master, folder);
    let (id, _) = directory(&path, 0o711, uid)?;
    let made = pools.insert(Made { path, id });
    let control = ControlListener::bind(&master.socket, master.socket_mode)
        .map_err(|cause| FilesError::Socket { path: master.socket.clone(), cause })?;
    Ok((control, Made { path: made.path.clone(), id }, after_a_crash))
}

/// What an earlier master of the same name left behind. What cannot be removed is told by whoever needs its place.
fn remove_stale(path: &Path) {
    let _ = dirs::found(path).and_then(|id| dirs::remove_tree(path, id));
}

/// Removes the folders that masters of this name have left behind: `folder`, and those of second masters whose process is gone.
pub(super) fn sweep(master: &spec::Master, folder: &str) {
    remove_stale(&master.runtime_dir.join(format!("{folder}.d")));
    for entry in std::fs::read_dir(&master.runtime_dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&master.name)?.strip_prefix('.')?.strip_suffix(".d"));
        let gone = |pid: i32| !crate::os::process::exists(pid);
        if number.and_then(|number| number.parse().ok()).is_some_and(gone) {
            remove_stale(&entry.path());
        }
    }
}

/// A place in memory for the notify sockets of an instance whose runtime directory is on a disk: each worker has a socket of its own, and
/// its start must not wait for a disk, or fail with a full one. `None` where there is no such place, or it is not ours alone.
fn in_memory(master: &spec::Master, folder: &str, uid: u32) -> Option<Made> {
    if dirs::in_memory(&master.runtime_dir) || !dirs::in_memory(Path::new(MEMORY)) {
        return None;
    }
    let home = std::fs::metadata(&master.runtime_dir).ok()?;
    let shared = Path::new(MEMORY).join(format!("poolmaster-{uid}"));
    // The instance by its name and its runtime directory: what an earlier master of the same two left behind is stale.
    let own = shared.join(format!("{folder}-{:x}.{:x}", home.dev(), home.ino()));
    if own.as_os_str().len() > LONGEST {
        return None;
    }
    dirs::ensure_dir(&shared, 0o711, uid).ok()?;
    remove_stale(&own);
    let (id, _) = dirs::ensure_dir(&own, 0o711, uid).ok()?;
    Some(Made { path: own, id })
}

/// In memory on every Linux host, containers too.
const MEMORY: &str = "/dev/shm";
/// A socket's path has at most 107 bytes: this much for the directory leaves room for the name of any pool and the number of any worker.
const LONGEST: usize = 107 - "/.n/".len() - 32 - "/n".len() - 9;

fn directory(path: &Path, mode: u32, uid: u32) -> Result<(FileId, bool), FilesError> {
    dirs::ensure_dir(path, mode, uid).map_err(|e| FilesError::Directory(e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{Sources, load};
    use crate::os::process;

    #[test]
    fn the_mode_of_the_control_socket_is_changed_while_it_is_ours() {
        let temp = tempfile::tempdir().unwrap();
        let text = format!("[master]\nruntime_dir = {:?}\n[pool.web]\ncommand = \"sleep 9\"\n", temp.path().join("run"));
        let master = load(&Sources { text: Some(text), ..Sources::default() }).unwrap().master;
        let mut files = Files::take(&master, &master.name, process::effective_uid()).unwrap();
        let mode = || std::fs::metadata(&master.socket).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(), master.socket_mode);
        files.set_socket_mode(0o660).unwrap();
        assert_eq!(mode(), 0o660);
        std::fs::remove_file(&master.socket).unwrap();
        let words = files.set_socket_mode(0o600).unwrap_err();
        assert_eq!(
            words,
            format!(
                "cannot change the mode of the control socket {} to 0600: the socket file was removed or replaced by somebody else; \
                 it stays as it was",
                master.socket.display()
            )
        );
        assert_eq!(files.remove(), Vec::<String>::new());
    }
}
