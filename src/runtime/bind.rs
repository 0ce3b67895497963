//! Owns the patience of a start with an address that is in use.

use std::time::Duration;

use super::accounts::Accounts;
use super::master::Master;
use super::sockets::{self, OpenSockets, Opened};
use super::start::StartError;
use crate::config::spec::Listener;
use crate::supervisor::{Time, signal_name};

/// Between two tries for an address that is in use. Each asks the whole host who has it.
const BIND_PAUSE: Duration = Duration::from_millis(500);

impl Master {
    /// Opens a listener. At the start of the master, whoever has its address may be about to leave it, as one that is being restarted: it is
    /// tried again until then.
    pub(super) fn open_listener(
        &mut self,
        pool: &str,
        listener: &Listener,
        open: &mut OpenSockets,
        until: Time,
        accounts: &Accounts,
    ) -> Result<Opened, StartError> {
        let mut told = false;
        loop {
            let cause = match sockets::open(pool, listener, open, &mut self.handed, accounts) {
                Ok(opened) => return Ok(opened),
                Err(cause) => cause,
            };
            let failed = |cause| StartError::Listen { pool: pool.to_owned(), listener: listener.name.clone(), cause };
            let now = Master::now();
            if self.revision > 0 || !cause.in_use() || now >= until {
                return Err(failed(cause));
            }
            if !told {
                told = true;
                tracing::warn!(
                    pool,
                    "listener {}: {cause}; trying again for {} (master.bind_retry)",
                    listener.name,
                    crate::supervisor::human(self.config.bind_retry)
                );
            }
            if let Some(signal) = self.told_to_end((until - now).min(BIND_PAUSE)) {
                let why = format!("told to stop by {} while its address was in use", signal_name(signal));
                return Err(StartError::Interrupted { pool: pool.to_owned(), listener: listener.name.clone(), why });
            }
        }
    }

    /// Waits for this long, or until a signal ends the master; others mean nothing yet.
    fn told_to_end(&self, time: Duration) -> Option<i32> {
        let until = Master::now() + time;
        let mut heard = Vec::new();
        loop {
            let left = until - Master::now();
            if left.is_zero() || !self.signal_fd.wait(left).ok()? {
                return None;
            }
            self.signal_fd.read(&mut heard, usize::MAX).ok()?;
            if let Some(end) = heard.iter().find(|s| [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT].contains(&s.signo)) {
                return Some(end.signo);
            }
        }
    }
}
