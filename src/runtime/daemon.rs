//! Owns the start in the background: the first process stays on the terminal until the daemon is ready or has failed, and ends with what became
//! of it. Refuses to leave anybody in doubt: whoever starts a daemon learns whether it runs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::os::daemon::{self, Forked};
use crate::os::epoll::{Epoll, Interest};
use crate::os::io as fdio;
use crate::os::signals::{self, SignalFd};

/// After so long, the first process says what it waits for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How the daemon's word begins once it is ready, before what is to be known of it; anything else is a failure: the exit code, a blank, the reason.
const READY: &[u8] = b"ready ";

/// The two sides.
#[derive(Debug)]
pub enum Side {
    /// The process that was started.
    First(Waiting),
    /// The daemon.
    Daemon(Report),
}

/// The daemon's word to the first process. Dropped without a word, it says that the daemon is gone.
#[derive(Debug)]
pub struct Report(OwnedFd);

/// The first process, while it waits.
#[derive(Debug)]
pub struct Waiting {
    child: i32,
    word: OwnedFd,
}

/// What became of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It runs, under this process id; and which pools do not, if any.
    Ready(i32, String),
    /// It does not: exit code and reason.
    Failed(u8, String),
}

/// Splits off the daemon. Before anything else is set up: no thread, no socket, no file.
pub fn split() -> io::Result<Side> {
    let (word, say) = fdio::news_pipe()?;
    // So that a signal that comes while we wait is seen, and passed on.
    let mask = signals::block_all();
    match daemon::split()? {
        Forked::First(child) => Ok(Side::First(Waiting { child, word })),
        Forked::Daemon => {
            mask.restore();
            drop(word);
            daemon::close_standard()?;
            Ok(Side::Daemon(Report(say)))
        }
    }
}

impl Report {
    /// Everything is up.
    pub(super) fn ready(self, but: &str) {
        // A first process that is gone has nobody to tell.
        let _ = fdio::write(&self.0, &[READY, but.as_bytes()].concat());
    }

    /// It is over before it was ready.
    pub fn failed(self, code: u8, why: &str) {
        let _ = fdio::write(&self.0, format!("{code} {why}").as_bytes());
    }
}

impl Waiting {
    /// Waits until the daemon is ready or has failed. Signals are passed on to it: it then stops as a master does. `say` shows what is waited for.
    pub fn wait(&self, say: impl Fn(&str)) -> io::Result<Outcome> {
        let epoll = Epoll::new()?;
        let signal_fd = SignalFd::new()?;
        epoll.add(self.word.as_fd(), 0, Interest::Read)?;
        epoll.add(signal_fd.as_fd(), 1, Interest::Read)?;
        let (mut ready, mut heard, mut said) = (Vec::new(), Vec::new(), false);
        loop {
            epoll.wait(&mut ready, (!said).then_some(PATIENCE))?;
            if ready.is_empty() && !std::mem::replace(&mut said, true) {
                say(&format!("still starting, pid {} (Ctrl-C stops it)", self.child));
            }
            for event in &ready {
                if event.token == 0 {
                    return self.read();
                }
                heard.clear();
                signal_fd.read(&mut heard, 32)?;
                for info in heard.iter().filter(|info| [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT].contains(&info.signo)) {
                    // One that has just ended will be read of.
                    let _ = signals::kill(self.child, info.signo);
                }
            }
        }
    }

    fn read(&self) -> io::Result<Outcome> {
        let mut buffer = [0u8; 4096];
        let length = fdio::read(&self.word, &mut buffer)?;
        let word = buffer.get(..length).unwrap_or_default();
        if let Some(but) = word.strip_prefix(READY) {
            return Ok(Outcome::Ready(self.child, String::from_utf8_lossy(but).into_owned()));
        }
        let text = String::from_utf8_lossy(word);
        let (code, why) = text.split_once(' ').unwrap_or(("1", "it ended without a word: see its log"));
        Ok(Outcome::Failed(code.parse().unwrap_or(1), why.to_owned()))
    }
}
