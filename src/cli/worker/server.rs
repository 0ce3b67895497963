//! Owns the worker's life: booting, serving, draining, and the one loop in which all of it happens. Every wait is in
//! epoll with a computed timeout, so an idle worker makes no system call between its beats. Refuses new connections from
//! the stop signal on: the queue belongs to the siblings.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::connections::{Connections, Surroundings};
use super::faults::{self, Fault, Faults};
use super::listener::{self, Listener};
use super::notify::Notifier;
use super::reply::Site;
use super::{Args, BOOT_FAILED, LOAD_FAILED, clock, say};

/// Epoll's tokens: a connection's is its place, below these.
const LISTENERS: u64 = 1 << 32;
const SIGNALS: u64 = u64::MAX;
/// Events taken in one turn.
const EVENTS: usize = 256;
/// Busyness is reported at most this often.
const BUSY_EVERY: Duration = Duration::from_millis(100);

/// The running worker.
pub(super) struct Server<'a> {
    args: &'a Args,
    epoll: Epoll,
    signals: SignalFd,
    listeners: Vec<Listener>,
    connections: Connections,
    site: Site,
    notifier: Notifier,
    faults: Faults,
    life: Life,
    now: Instant,
    chatter: Option<(Instant, u64)>,
    /// What was reported last, and when the next report may go out.
    busy: (usize, Instant),
    told: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Ready at this time, or never.
    Booting(Option<Instant>),
    Serving,
    /// Idle connections may bring one more request until this time.
    Draining(Option<Instant>),
}

impl<'a> Server<'a> {
    /// Takes the listeners and the signals.
    ///
    /// # Errors
    /// The cause, in words, for which the worker cannot boot.
    pub(super) fn new(args: &'a Args, env: &[(String, String)]) -> Result<Self, String> {
        let now = clock::now();
        let pid = nix::unistd::getpid().as_raw();
        let wrong = &args.misbehaviour;
        let notifier = Notifier::from_env(env, pid)?;
        let listeners = listener::gather(env, pid, &args.serving.fd, &args.serving.listen)?;
        if wrong.spawn_child {
            // Before the signals are blocked, which a child would inherit.
            faults::spawn_child(wrong.ignore_term).map_err(|error| format!("cannot start a child: {error}"))?;
        }
        let system = |what: &'static str| move |error: Errno| format!("cannot {what}: {error}");
        let mask = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1]);
        mask.thread_block().map_err(system("block the signals it handles"))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&mask, flags).map_err(system("make a signalfd"))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(system("make an epoll"))?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS)).map_err(system("wait for signals"))?;
        Ok(Server {
            args,
            epoll,
            signals,
            listeners,
            connections: Connections::new(args.serving.idle_timeout),
            site: Site::new(env, pid, wrong.allow_crash),
            notifier,
            faults: Faults::new(wrong, now),
            life: Life::Booting((!wrong.never_ready).then(|| now + wrong.slow_start.unwrap_or_default())),
            now,
            chatter: args.serving.chatter.map(|every| (now + every, 0)),
            busy: (0, now),
            told: String::new(),
        })
    }

    /// Runs until there is a reason to end; the result is the exit code.
    pub(super) fn run(mut self) -> u8 {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            if let Some(code) = self.tend() {
                return code;
            }
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    say(&format!("cannot wait for events: {error}; giving up"));
                    return 1;
                }
            };
            self.now = clock::now();
            self.site.tick(clock::unix_seconds());
            let mut signalled = false;
            for event in &events[..count] {
                match event.data() {
                    SIGNALS => signalled = true,
                    token if token >= LISTENERS => self.accept((token - LISTENERS) as usize, event.events()),
                    token => self.turn(token as usize, event.events()),
                }
            }
            // Signals last: a connection that woke this worker is taken even if the stop signal came in the same turn, as
            // the kernel has woken no sibling for it.
            if signalled && let Some(code) = self.take_signals() {
                return code;
            }
        }
    }

    /// Does what time or the last turn made due.
    fn tend(&mut self) -> Option<u8> {
        let now = self.now;
        match self.faults.due(now) {
            Some(Fault::Exit(code)) => return Some(code),
            Some(Fault::Hang) => faults::hang(),
            Some(Fault::Crash) => faults::crash(self.args.misbehaviour.crash_signal),
            None if self.connections.crash => faults::crash(self.args.misbehaviour.crash_signal),
            None => {}
        }
        if is_due(self.connections.next_deadline(), now) {
            let (connections, mut around) = self.parts();
            connections.expire(&mut around);
        }
        match self.life {
            Life::Booting(at) if is_due(at, now) => {
                if let Some(code) = self.boot() {
                    return Some(code);
                }
            }
            Life::Booting(_) => {}
            Life::Serving if self.args.serving.max_requests.is_some_and(|most| self.site.answered >= most) => {
                self.stop();
                return self.tend();
            }
            Life::Serving => self.arm_listeners(),
            Life::Draining(until) => {
                if is_due(until, now) {
                    self.life = Life::Draining(None);
                    let (connections, mut around) = self.parts();
                    connections.end_idling(&mut around);
                }
                if self.connections.open() == 0 {
                    return Some(0);
                }
            }
        }
        self.report();
        None
    }

    /// Boots, or fails to as told.
    fn boot(&mut self) -> Option<u8> {
        let wrong = &self.args.misbehaviour;
        if wrong.fail_boot {
            say("failed to boot: told to by --fail-boot");
            return Some(BOOT_FAILED);
        }
        if wrong.fail_load {
            say("the application cannot be loaded: told so by --fail-load");
            return Some(LOAD_FAILED);
        }
        self.life = Life::Serving;
        self.arm_listeners();
        let names: Vec<&str> = self.listeners.iter().map(|l| l.name.as_str()).collect();
        let status = if names.is_empty() { "working, no listener".to_owned() } else { format!("serving {}", names.join(", ")) };
        let busy = self.args.serving.report_busy.map(|capacity| format!("\nX_POOLMASTER_BUSY=0/{capacity}")).unwrap_or_default();
        self.notifier.send(format!("READY=1\nSTATUS={status}{busy}"), self.now);
        self.notifier.start_beating(self.now);
        if wrong.shutdown_listener {
            self.listeners.iter().for_each(Listener::sabotage);
        }
        wrong.exit
    }

    /// Waits for connections on each listener, unless there are too many open or the listener has to rest.
    fn arm_listeners(&mut self) {
        let full = self.connections.open() >= self.args.serving.max_connections as usize;
        for (listener, token) in self.listeners.iter_mut().zip(LISTENERS..) {
            if full {
                listener.disarm(&self.epoll);
            } else if !listener.is_armed() && listener.retry_at().is_none_or(|at| at <= self.now) {
                listener.arm(&self.epoll, token);
            }
        }
    }

    fn accept(&mut self, index: usize, events: EpollFlags) {
        let Some(listener) = self.listeners.get_mut(index) else { return };
        let mut left = (self.args.serving.max_connections as usize).saturating_sub(self.connections.open());
        // Emptied when the worker stops, if nobody else will.
        if !listener.is_own() || self.life == Life::Serving {
            left = left.min(listener.batch());
        }
        while left > 0 {
            left -= 1;
            let mut around = Surroundings { epoll: &self.epoll, site: &mut self.site, now: self.now };
            match listener.accept() {
                Ok(Some(connection)) => self.connections.admit(connection, &mut around),
                Ok(None) if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) => {
                    listener.pause(&self.epoll, self.now);
                    return;
                }
                Ok(None) => return,
                Err(error) => {
                    say(&format!("cannot accept on {}: {error}; trying again later", listener.name));
                    listener.pause(&self.epoll, self.now);
                    return;
                }
            }
        }
    }

    fn turn(&mut self, index: usize, events: EpollFlags) {
        let (connections, mut around) = self.parts();
        connections.turn(index, events, &mut around);
    }

    fn parts(&mut self) -> (&mut Connections, Surroundings<'_>) {
        (&mut self.connections, Surroundings { epoll: &self.epoll, site: &mut self.site, now: self.now })
    }

    fn take_signals(&mut self) -> Option<u8> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo == Signal::SIGUSR1 as u32 {
                // Reopen log files: there are none, as stderr is the log.
                continue;
            }
            if self.args.misbehaviour.ignore_term {
                say("told to stop, and ignoring it (--ignore-term)");
                continue;
            }
            match self.life {
                Life::Serving => self.stop(),
                Life::Booting(_) | Life::Draining(_) => return Some(0),
            }
        }
        None
    }

    /// The graceful stop. No request that was sent before its client could know is lost: what woke this worker is accepted,
    /// a listener of our own is emptied, and every connection may bring one more request, whose answer announces the end.
    fn stop(&mut self) {
        self.life = Life::Draining(Some(self.now + self.args.serving.drain));
        for index in 0..self.listeners.len() {
            if self.listeners[index].is_armed() {
                self.accept(index, EpollFlags::empty());
            }
            self.listeners[index].disarm(&self.epoll);
        }
        self.listeners.clear();
        self.site.stopping = true;
        self.notifier.send(format!("STOPPING=1\nSTATUS=stopping, {} connections open", self.connections.open()), self.now);
    }

    /// Tells the master, and whoever reads stderr, how things are.
    fn report(&mut self) {
        let now = self.now;
        if self.notifier.is_flush_due(now) {
            self.notifier.flush(now);
        }
        if self.notifier.is_beat_due(now) {
            let status = format!("{} requests answered, {} connections open", self.site.answered, self.connections.open());
            let news = self.site.answered > 0 && self.life == Life::Serving && status != self.told;
            self.notifier.beat(news.then(|| status.clone()), now);
            self.told = status;
        }
        if let Some(capacity) = self.args.serving.report_busy
            && is_due(self.busy_deadline(), now)
        {
            self.busy = (self.connections.answering(), now + BUSY_EVERY);
            self.notifier.send(format!("X_POOLMASTER_BUSY={}/{capacity}", self.busy.0), now);
        }
        if let (Some((at, lines)), Some(every)) = (&mut self.chatter, self.args.serving.chatter)
            && *at <= now
        {
            *at = (*at + every).max(now);
            *lines += 1;
            say(&format!("line {lines}: {} requests answered", self.site.answered));
        }
    }

    fn busy_deadline(&self) -> Option<Instant> {
        let changed = self.args.serving.report_busy.is_some() && self.connections.answering() != self.busy.0;
        changed.then_some(self.busy.1)
    }

    /// Time to the next deadline, rounded up to epoll's milliseconds so that it is over when epoll says so.
    fn timeout(&self) -> EpollTimeout {
        let life = match self.life {
            Life::Booting(at) | Life::Draining(at) => at,
            Life::Serving => None,
        };
        let fixed = [
            life,
            self.faults.next_deadline(),
            self.connections.next_deadline(),
            self.notifier.next_deadline(),
            self.chatter.map(|(at, _)| at),
            self.busy_deadline(),
        ];
        let retries = self.listeners.iter().map(Listener::retry_at);
        let Some(at) = fixed.into_iter().chain(retries).flatten().min() else { return EpollTimeout::NONE };
        let millis = at.saturating_duration_since(self.now).as_nanos().div_ceil(1_000_000);
        EpollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
    }
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at <= now)
}
