//! Owns the disposal of what workers leave behind: notify sockets to close, their files to remove. It has a thread of its own, for this takes
//! longer than all else that a death asks of the loop, and a file system may be slow.

use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

use crate::os::notify::NotifySocket;

/// Its work is a few calls deep.
const STACK: usize = 64 * 1024;

/// The way to the thread, while there is one.
#[derive(Debug, Default)]
pub(super) struct Janitor(Option<(Sender<Vec<NotifySocket>>, JoinHandle<()>)>);

impl Janitor {
    /// Starts the thread; without one, the work is done by the caller. Signals are blocked before: the thread keeps the mask of its maker.
    pub(super) fn start() -> Janitor {
        let (queue, work) = channel();
        let clean = move || work.into_iter().for_each(dispose);
        Janitor(
            Builder::new().name("poolmaster-tidy".to_owned()).stack_size(STACK).spawn(clean).ok().map(|thread| (queue, thread)),
        )
    }

    /// Closes and removes, soon. Nothing of it may be watched any more.
    pub(super) fn take(&self, sockets: Vec<NotifySocket>) {
        match &self.0 {
            Some((queue, _)) => {
                if let Err(back) = queue.send(sockets) {
                    dispose(back.0);
                }
            }
            None => dispose(sockets),
        }
    }

    /// Waits until all is done.
    pub(super) fn finish(&mut self) {
        if let Some((queue, thread)) = self.0.take() {
            drop(queue);
            // Its panic would be told by the panic hook; the files go with their directory.
            let _ = thread.join();
        }
    }
}

fn dispose(sockets: Vec<NotifySocket>) {
    for socket in sockets {
        // Its directory goes with the master in any case.
        let _ = socket.unlink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_gone_when_it_has_finished_with_a_thread_or_without() {
        for mut janitor in [Janitor::start(), Janitor::default()] {
            let temp = tempfile::tempdir().expect("a temporary directory");
            let sockets = |from: u32| -> Vec<NotifySocket> {
                (from..from + 3)
                    .map(|n| NotifySocket::bind(&temp.path().join(format!("n{n}")), 0o600, None).expect("a socket"))
                    .collect()
            };
            janitor.take(sockets(0));
            janitor.take(sockets(10));
            janitor.finish();
            assert_eq!(std::fs::read_dir(temp.path()).expect("the directory").count(), 0);
            janitor.take(sockets(20));
            assert_eq!(std::fs::read_dir(temp.path()).expect("the directory").count(), 0, "after its end the caller does it");
        }
    }
}
