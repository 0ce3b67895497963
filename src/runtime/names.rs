//! Owns the move of a running master to another name: the lock, the pid file and the control socket under the new name are made beside the
//! old ones, then take their place. What is not taken over is removed again. The folder of the workers keeps its name: workers that run
//! report to paths in it.

use std::os::fd::AsFd;
use std::path::Path;

use super::files::{Files, FilesError};
use super::master::Master;
use super::start::StartError;
use super::token::Token;
use crate::config::spec;
use crate::os::epoll::Interest;
use crate::os::lockfile::{InstanceLock, LockError, PidFile};
use crate::os::title;
use crate::os::unix::ControlListener;

/// Files under a new name; `None`: the present one stays.
#[derive(Debug, Default)]
pub(super) struct NewNames {
    lock: Option<InstanceLock>,
    pid: Option<PidFile>,
    control: Option<ControlListener>,
}

impl NewNames {
    /// The control socket, where it is another one.
    pub(super) fn control(&self) -> Option<&ControlListener> {
        self.control.as_ref()
    }
}

impl Drop for NewNames {
    fn drop(&mut self) {
        // Taken back: nobody needs them, and what cannot be removed is stale, which the next of that name sees.
        if let Some(control) = self.control.take() {
            let _ = control.unlink();
        }
        if let Some(pid) = self.pid.take() {
            let _ = pid.remove();
        }
        if let Some(lock) = self.lock.take() {
            let _ = lock.release();
        }
    }
}

impl Files {
    /// Makes what goes by the name under this config, where it is not what there is.
    pub(super) fn offer(&self, master: &spec::Master) -> Result<NewNames, FilesError> {
        let mut new = NewNames::default();
        let lock = master.runtime_dir.join(format!("{}.lock", master.name));
        if !self.holds(&lock) {
            new.lock = Some(InstanceLock::take(&lock).map_err(|e| match e {
                LockError::Held { pid, .. } => FilesError::Taken { name: master.name.clone(), pid },
                other => FilesError::Lock(other),
            })?);
        }
        if self.pid.as_ref().is_none_or(|pid| pid.path() != master.pidfile) {
            new.pid = Some(PidFile::create(&master.pidfile).map_err(FilesError::Pid)?);
        }
        if self.socket != master.socket {
            let bound = ControlListener::bind(&master.socket, master.socket_mode);
            new.control = Some(bound.map_err(|cause| FilesError::Socket { path: master.socket.clone(), cause })?);
        }
        Ok(new)
    }

    /// Puts them in place of the present ones, whose files go. Gives what could not be removed, in words, and the control socket that was.
    pub(super) fn take_over(
        &mut self,
        mut new: NewNames,
        runtime_dir: &Path,
        name: &str,
    ) -> (Vec<String>, Option<ControlListener>) {
        let mut left = Vec::new();
        let path = runtime_dir.join(format!("{name}.lock"));
        let taken = new.lock.take().or_else(|| {
            let at = self.former.iter().position(|lock| lock.path() == path)?;
            Some(self.former.remove(at))
        });
        let renamed = taken.is_some();
        if let Some(lock) = taken {
            // The folder of the workers goes by the old name to the end: nobody else may take it for a dead master's.
            self.former.extend(self.lock.replace(lock));
        }
        if let Some(pid) = new.pid.take()
            && let Some(Err(e)) = self.pid.replace(pid).map(PidFile::remove)
        {
            left.push(format!("cannot remove the pid file of the earlier name: {e}"));
        }
        let before = new.control.take().map(|control| {
            self.socket = control.path().to_owned();
            std::mem::replace(&mut self.control, control)
        });
        let told = self.lock.iter().chain(&self.former).filter(|_| renamed || before.is_some());
        for lock in told {
            left.extend(lock.tell(&self.socket).err().map(|e| format!("{e}: a client with -c may not find this master")));
        }
        if let Some(Err(e)) = before.as_ref().map(ControlListener::unlink) {
            left.push(format!("cannot remove the control socket of the earlier name: {e}"));
        }
        (left, before)
    }

    fn holds(&self, path: &Path) -> bool {
        self.lock.iter().chain(&self.former).any(|lock| lock.path() == path)
    }
}

/// What a master is called in lists of processes.
pub(super) fn title_of(name: &str) -> String {
    format!("poolmaster: master [{name}]")
}

impl Master {
    /// Makes the files of the name that a config gives to this master. Whoever comes to its socket is served from now on.
    pub(super) fn offer_name(&self, master: &spec::Master) -> Result<NewNames, StartError> {
        let names = self.files.offer(master).map_err(|e| StartError::Files(Box::new(e)))?;
        if let Some(control) = names.control() {
            let watched = self.epoll.add(control.as_fd(), Token::Control.into(), Interest::Read);
            watched.map_err(|cause| StartError::Kernel { attempt: "watch the new control socket", cause })?;
        }
        Ok(names)
    }

    /// Goes by the name of this config.
    pub(super) fn take_name(&mut self, names: NewNames, master: &spec::Master) {
        if names.control.is_some() {
            // Whoever came by the earlier name is served by this one.
            self.accept_clients();
        }
        let (left, before) = self.files.take_over(names, &master.runtime_dir, &master.name);
        if let Some(before) = before {
            let _ = self.epoll.remove(before.as_fd());
        }
        for problem in left {
            tracing::warn!("{problem}");
        }
        if self.config.name != master.name {
            title::set(&title_of(&master.name));
            tracing::info!("this master is called {} now; it was {}", master.name, self.config.name);
        }
        self.config.name.clone_from(&master.name);
        self.config.pidfile.clone_from(&master.pidfile);
        self.config.socket.clone_from(&master.socket);
    }
}
