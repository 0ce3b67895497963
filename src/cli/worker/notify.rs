//! Owns what the worker tells its master: sd_notify datagrams and the heartbeat's timing. Never blocks: a message that finds
//! the master's queue full waits here for its next try. Refuses to fail: a worker without a master serves all the same.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// A full queue is tried again after this.
const RETRY: Duration = Duration::from_millis(50);
/// Messages kept for a master that does not read; beyond it the oldest go, beats first.
const KEPT: usize = 16;

/// The worker's line to its master.
#[derive(Debug)]
pub(super) struct Notifier {
    line: Option<(UnixDatagram, SocketAddr)>,
    unsent: VecDeque<String>,
    retry: Option<Instant>,
    /// Half of the watchdog's time, and when the next beat is due once it beats.
    every: Option<Duration>,
    beat: Option<Instant>,
}

impl Notifier {
    /// From the environment that the master set. `Err` tells what is wrong with it, in words.
    pub(super) fn from_env(env: &[(String, String)], pid: i32) -> Result<Self, String> {
        let var = |name: &str| env.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        let line = match var("NOTIFY_SOCKET").filter(|path| !path.is_empty()) {
            Some(path) => Some(open(path).map_err(|error| format!("cannot use NOTIFY_SOCKET={path:?}: {error}"))?),
            None => None,
        };
        let mine = var("WATCHDOG_PID").is_none_or(|text| text.parse() == Ok(pid));
        let every = match var("WATCHDOG_USEC").filter(|_| mine) {
            Some(text) => match text.parse::<u64>() {
                Ok(micros) if micros > 0 => Some(Duration::from_micros(micros) / 2),
                _ => return Err(format!("WATCHDOG_USEC={text:?} is not a number of microseconds above 0")),
            },
            None => None,
        };
        let every = every.filter(|_| line.is_some());
        Ok(Notifier { line, unsent: VecDeque::new(), retry: None, every, beat: None })
    }

    /// Sends a message, or keeps it for the next try.
    pub(super) fn send(&mut self, message: String, now: Instant) {
        if self.line.is_none() {
            return;
        }
        if self.unsent.len() == KEPT {
            let old = self.unsent.iter().position(|m| m.starts_with("WATCHDOG=1")).unwrap_or(0);
            self.unsent.remove(old);
        }
        self.unsent.push_back(message);
        self.flush(now);
    }

    /// The first beat is due at once; from then on at half of the watchdog's time.
    pub(super) fn start_beating(&mut self, now: Instant) {
        self.beat = self.every.map(|_| now);
    }

    /// A beat is due.
    pub(super) fn is_beat_due(&self, now: Instant) -> bool {
        self.beat.is_some_and(|at| at <= now)
    }

    /// Sends the beat, with a word on how things are if there is a new one.
    pub(super) fn beat(&mut self, status: Option<String>, now: Instant) {
        // From the time it was due, so that being late once does not move all later beats, but never in the past.
        let due = self.beat.unwrap_or(now);
        self.beat = self.every.map(|every| (due + every).max(now + every / 2));
        let message = match status {
            Some(status) => format!("WATCHDOG=1\nSTATUS={status}"),
            None => "WATCHDOG=1".to_owned(),
        };
        self.send(message, now);
    }

    /// Tries again what could not be sent.
    pub(super) fn flush(&mut self, now: Instant) {
        self.retry = None;
        let Some((socket, address)) = &self.line else { return };
        while let Some(message) = self.unsent.front() {
            match socket.send_to_addr(message.as_bytes(), address) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.retry = Some(now + RETRY);
                    return;
                }
                // Sent, or nobody is there to hear it: the address stays, as a new master may bind it again.
                _ => {}
            }
            self.unsent.pop_front();
        }
    }

    /// A try is due.
    pub(super) fn is_flush_due(&self, now: Instant) -> bool {
        self.retry.is_some_and(|at| at <= now)
    }

    /// When there is something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.beat, self.retry].into_iter().flatten().min()
    }
}

fn open(path: &str) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if path.starts_with('/') => SocketAddr::from_pathname(path)?,
        None => return Err(std::io::Error::new(ErrorKind::InvalidInput, "neither a path from / nor an abstract @name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_that_does_not_read_blocks_nothing_and_loses_beats_before_news() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let master = UnixDatagram::bind(&path).unwrap();
        master.set_nonblocking(true).unwrap();
        let env = [
            ("NOTIFY_SOCKET".to_owned(), path.display().to_string()),
            ("WATCHDOG_USEC".to_owned(), "2000000".to_owned()),
            ("WATCHDOG_PID".to_owned(), "7".to_owned()),
        ];
        let mut notifier = Notifier::from_env(&env, 7).unwrap();
        let start = super::super::clock::now();
        notifier.start_beating(start);
        assert_eq!(notifier.next_deadline(), Some(start));
        // More than the kernel's queue (at most some hundreds) and ours together.
        (0..5000).for_each(|_| notifier.beat(None, start));
        assert_eq!(notifier.unsent.len(), KEPT);
        assert_eq!(notifier.next_deadline(), Some(start + RETRY));
        notifier.send("STOPPING=1".to_owned(), start);
        (0..100).for_each(|_| notifier.beat(None, start));
        let mut messages = Vec::new();
        let mut buffer = [0; 256];
        while !notifier.unsent.is_empty() {
            while let Ok(n) = master.recv(&mut buffer) {
                messages.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
            }
            notifier.flush(start + RETRY);
        }
        while let Ok(n) = master.recv(&mut buffer) {
            messages.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
        assert!(messages.iter().any(|m| m == "STOPPING=1"));
        assert!(notifier.retry.is_none());
    }

    #[test]
    fn a_watchdog_is_for_one_process_and_needs_a_line() {
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        let every = |pairs: &[(&str, &str)]| Notifier::from_env(&env(pairs), 7).map(|n| n.every);
        let line = ("NOTIFY_SOCKET", "@x");
        assert_eq!(every(&[line, ("WATCHDOG_USEC", "30000000")]), Ok(Some(Duration::from_secs(15))));
        assert_eq!(every(&[line, ("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "8")]), Ok(None));
        assert_eq!(every(&[("WATCHDOG_USEC", "30000000")]), Ok(None));
        assert!(every(&[line, ("WATCHDOG_USEC", "soon")]).is_err());
        assert!(every(&[("NOTIFY_SOCKET", "relative/path")]).is_err());
    }
}
