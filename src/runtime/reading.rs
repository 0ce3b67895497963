//! Owns the reading of configs beside the loop, one after the other: a config of thousands of pools takes a second, a file may lie on a disk that
//! hangs. A thread is there only while there is something to be read.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

use super::accounts::Accounts;
use super::master::Master;
use super::plan::Draft;
use super::staging::Wanted;
use crate::config::spec::Config;
use crate::os::io::Bell;
use crate::protocol::{PlanParameters, PlanReply, encode_failure, encode_reply};

/// Reads the config again, for HUP and `reload`, or another file in its place, for `plan`; the error is told in words.
pub type Reader = Arc<dyn Fn(Option<&Path>) -> Result<Config, String> + Send + Sync>;

/// What a config is read for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// The core asked for it: what the file holds now, or a config that was kept.
    Reload(Wanted, Option<Box<Config>>),
    /// A client did.
    Plan(u64, PlanParameters),
}

impl Purpose {
    fn take_kept(&mut self) -> Option<Box<Config>> {
        match self {
            Purpose::Reload(_, kept) => kept.take(),
            Purpose::Plan(..) => None,
        }
    }

    fn file(&self) -> Option<PathBuf> {
        match self {
            Purpose::Reload(..) => None,
            Purpose::Plan(_, parameters) => parameters.config.as_ref().map(PathBuf::from),
        }
    }
}

/// What has been done beside the loop.
enum Done {
    /// A config was read.
    Read(Purpose, Box<Result<(Config, Accounts), String>>),
    /// It was foreseen what a config would do, for this client.
    Foreseen(u64, Box<PlanReply>),
}

/// What is read, and what is to be.
pub(super) struct Reading {
    reader: Reader,
    waiting: VecDeque<Purpose>,
    busy: bool,
    /// Rings once something has been read.
    bell: Arc<Bell>,
    results: Receiver<Done>,
    give: Sender<Done>,
}

impl Reading {
    pub(super) fn new(reader: Reader) -> io::Result<Reading> {
        let (give, results) = channel();
        Ok(Reading { reader, waiting: VecDeque::new(), busy: false, bell: Arc::new(Bell::new()?), results, give })
    }

    /// Something is read, or waits to be.
    pub(super) fn is_busy(&self) -> bool {
        self.busy || !self.waiting.is_empty()
    }

    /// Reads it when its turn has come.
    pub(super) fn ask(&mut self, purpose: Purpose) {
        self.waiting.push_back(purpose);
        self.go_on();
    }

    fn go_on(&mut self) {
        if self.busy {
            return;
        }
        let Some(purpose) = self.waiting.pop_front() else { return };
        self.busy = true;
        let (reader, give, bell) = (Arc::clone(&self.reader), self.give.clone(), Arc::clone(&self.bell));
        let cell = Arc::new(std::sync::Mutex::new(Some(purpose)));
        let mine = Arc::clone(&cell);
        let read = move || {
            let Some(mut purpose) = mine.lock().ok().and_then(|mut cell| cell.take()) else { return };
            let file = purpose.file();
            let kept = purpose.take_kept();
            let config = catch_unwind(AssertUnwindSafe(|| {
                let config = kept.map_or_else(|| reader(file.as_deref()), |kept| Ok(*kept))?;
                let accounts = Accounts::of(&config);
                Ok((config, accounts))
            }));
            let config = config
                .unwrap_or_else(|_| Err("the config could not be read: a fault of poolmaster, please report it".to_owned()));
            // Nobody hears it when the master has ended meanwhile.
            let _ = give.send(Done::Read(purpose, Box::new(config)));
            bell.ring();
        };
        // Signals are blocked: the thread keeps the mask of its maker. Where no thread can be had, the loop waits for it.
        if Builder::new().name("poolmaster-config".to_owned()).spawn(read.clone()).is_err() {
            read();
        }
    }

    /// Finds out what a plan leaves open.
    fn foresee(&self, client: u64, draft: Draft) {
        let (give, bell) = (self.give.clone(), Arc::clone(&self.bell));
        let cell = Arc::new(std::sync::Mutex::new(Some(draft)));
        let foresee = move || {
            let Some(draft) = cell.lock().ok().and_then(|mut cell| cell.take()) else { return };
            let _ = give.send(Done::Foreseen(client, Box::new(draft.complete())));
            bell.ring();
        };
        if Builder::new().name("poolmaster-plan".to_owned()).spawn(foresee.clone()).is_err() {
            foresee();
        }
    }

    /// What has been done; the next config is begun.
    fn next(&mut self) -> Option<Done> {
        self.bell.quiet();
        let done = self.results.try_recv().ok()?;
        if matches!(done, Done::Read(..)) {
            self.busy = false;
            self.go_on();
        }
        Some(done)
    }
}

impl AsFd for Reading {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Master {
    /// A config has been read, or what one would do is foreseen.
    pub(super) fn take_config(&mut self) {
        while let Some(done) = self.reading.next() {
            match done {
                Done::Read(Purpose::Reload(wanted, _), config) => self.config_was_read(*config, &wanted),
                Done::Read(Purpose::Plan(client, parameters), config) => {
                    match self.plan(&parameters, config.map(|(config, _)| config)) {
                        Ok(draft) => self.reading.foresee(client, draft),
                        Err(failure) => self.clients.answer_plan(client, &encode_failure(&failure)),
                    }
                }
                Done::Foreseen(client, plan) => {
                    let line = encode_reply(&*plan, false).unwrap_or_else(|failure| encode_failure(&failure));
                    self.clients.answer_plan(client, &line);
                }
            }
        }
    }
}
