//! Owns the way back: a state that was written down becomes a master again. Whatever can fail is done first, and leaves all as it was; what was
//! left open under its old numbers is closed when there is no way back any more.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use super::super::acks::Acks;
use super::super::clients::Clients;
use super::super::environment::Environment;
use super::super::fdstore::FdStore;
use super::super::files::Files;
use super::super::handover::{CaptureState, FORMAT, Head, MasterState, OrderState, ProcessState, Record, RunState, SocketState};
use super::super::master::Master;
use super::super::notify::NotifySockets;
use super::super::output::Capture;
use super::super::pools::{Ids, PoolRun, Prepared};
use super::super::processes::Process;
use super::super::second::Second;
use super::super::signals::SignalMap;
use super::super::sockets::{Slots, Socket};
use super::super::token::Token;
use crate::config::spec::Config;
use crate::os::epoll::Interest;
use crate::os::handover::Taken;
use crate::os::listener::Listening;
use crate::os::notify::NotifySocket;
use crate::supervisor::Supervisor;
use std::os::fd::{AsFd, OwnedFd};

/// Reads a state. The error is in words.
pub(in super::super) fn read(bytes: &[u8]) -> Result<Record<Supervisor>, String> {
    let head: Head = serde_json::from_slice(bytes).map_err(|e| format!("the state is none of a master: {e}"))?;
    if head.format != FORMAT {
        return Err(format!(
            "the state has format {} (written by poolmaster {}), and poolmaster {} reads format {FORMAT} only",
            head.format,
            head.version,
            env!("CARGO_PKG_VERSION")
        ));
    }
    let record: Record<Supervisor> = serde_json::from_slice(bytes).map_err(|e| format!("the state cannot be read: {e}"))?;
    is_whole(&record)?;
    Ok(record)
}

/// Whatever is named in it is there.
fn is_whole(record: &Record<Supervisor>) -> Result<(), String> {
    if !record.configs.iter().any(|(revision, _)| *revision == record.master.revision) {
        return Err("the state has no config that is in force".to_owned());
    }
    let has_run = |place: &usize| *place < record.runs.len();
    let has_socket = |place: &usize| *place < record.sockets.len();
    let known = record.current.values().all(has_run)
        && record.runs.iter().all(|run| run.sockets.iter().all(has_socket))
        && record
            .processes
            .iter()
            .all(|process| has_run(&process.run) && process.seats.iter().all(|(place, _)| has_socket(place)));
    if known { Ok(()) } else { Err("the state names what is not in it".to_owned()) }
}

/// A listener whose descriptors are had. None of it is a [`Socket`] yet: whose end would take its file along.
struct OpenSocket {
    listening: Rc<Listening>,
    slots: Option<Slots>,
    state: SocketState,
}

/// The descriptors of one worker.
struct Streams {
    notify: Option<NotifySocket>,
    ready: Option<OwnedFd>,
    stdout: Option<Capture>,
    stderr: Option<Capture>,
}

/// What needs nothing of the host.
pub(in super::super) struct Rest {
    pub(in super::super) head: Head,
    core: Supervisor,
    pub(in super::super) master: MasterState,
    configs: Vec<(u32, Config)>,
    runs: Vec<RunState>,
    current: std::collections::BTreeMap<crate::supervisor::PoolId, usize>,
    pub(in super::super) order: Option<OrderState>,
}

/// Takes all descriptors of a state. The error is in words.
pub(in super::super) fn open(record: Record<Supervisor>, uid: u32, taken: &mut Taken) -> Result<(Files, Config, Parts), String> {
    let failed = |what: &'static str| move |e: io::Error| format!("{what} cannot be taken over: {e}");
    let in_force = record.configs.iter().find(|(revision, _)| *revision == record.master.revision);
    let config = in_force.map(|(_, config)| config.clone()).ok_or("the state has no config that is in force")?;
    let mut locks = Vec::new();
    let mut sockets = Vec::new();
    for mut state in record.sockets {
        let listening = Listening::restore(state.listening.clone(), taken, &mut locks).map_err(failed("a listener"))?;
        let listening = Rc::new(listening);
        let slots = state.slots.take().map(|slots| Slots::restore(slots, &listening, taken)).transpose();
        sockets.push(OpenSocket { slots: slots.map_err(failed("a listener"))?, listening, state });
    }
    let mut processes = Vec::new();
    for mut process in record.processes {
        let run = record.runs.get(process.run).ok_or("the state names a run that is not in it")?;
        let max_line = run.config.launch.max_line;
        let mut capture = |state: Option<CaptureState>, stream| {
            let taken = &mut *taken;
            state.map(|state| Capture::restore(state, max_line, stream, taken)).transpose()
        };
        let streams = Streams {
            stdout: capture(process.stdout.take(), "stdout").map_err(failed("the output of a worker"))?,
            stderr: capture(process.stderr.take(), "stderr").map_err(failed("the output of a worker"))?,
            notify: process
                .notify
                .take()
                .map(|socket| NotifySocket::restore(socket, taken))
                .transpose()
                .map_err(failed("the notify socket of a worker"))?,
            ready: process.ready.take().map(|fd| taken.take(&fd)).transpose().map_err(failed("the pipe of a worker"))?,
        };
        processes.push((process, streams));
    }
    let files = Files::restore_state(record.files, uid, taken).map_err(failed("a file of the master"))?;
    let parts = Parts {
        acks: Acks::restore(record.acks, taken).map_err(failed("a socket for acknowledgements"))?,
        store: FdStore::restore(record.stored, taken).map_err(failed("a descriptor of a worker"))?,
        clients: Clients::restore(record.clients, Master::now(), taken).map_err(failed("a client"))?,
        sockets,
        processes,
        rest: Rest {
            head: record.head,
            core: record.core,
            master: record.master,
            configs: record.configs,
            runs: record.runs,
            current: record.current,
            order: record.order,
        },
    };
    Ok((files, config, parts))
}

/// All of a state but what [`super::super::start`] makes a master of.
pub(in super::super) struct Parts {
    sockets: Vec<OpenSocket>,
    processes: Vec<(ProcessState, Streams)>,
    acks: Acks,
    store: FdStore,
    clients: Clients,
    rest: Rest,
}

impl Parts {
    pub(in super::super) fn inherited_umask(&self) -> u32 {
        self.rest.master.inherited_umask
    }
}

impl Master {
    /// Becomes what was written down. Gives the order that it was done for. On an error nothing may be dropped: files would go with it.
    pub(in super::super) fn become_as(&mut self, parts: Parts) -> io::Result<(Head, Option<OrderState>)> {
        let Parts { sockets, processes, acks, store, clients, rest } = parts;
        let Rest { head, core, master, configs, runs, current, order } = rest;
        let sockets: Vec<Rc<Socket>> =
            sockets.into_iter().map(|it| Rc::new(Socket::restored(it.state, it.listening, it.slots))).collect();
        self.core = core;
        (self.revision, self.last_revision) = (master.revision, master.last_revision);
        self.pools_in_force = master.in_force;
        self.ids = Ids::given(master.ids);
        self.names = master.names;
        self.not_applied = master.not_applied;
        self.socket_uids = master.socket_uids;
        self.started = master.started;
        self.inherited_umask = master.inherited_umask;
        (self.common.nofile, self.common.sigpending) = (master.nofile, master.sigpending);
        self.common.reset_signals = master.reset_signals;
        self.next_command = master.next_command;
        self.commands = master.commands;
        self.reload_orders = master.reload_orders;
        self.reopen_orders = master.reopen_orders;
        self.notify_sockets = NotifySockets::after(master.next_notify);
        self.stillborn = master.stillborn;
        self.second = Second::of(master.command_line);
        self.service.was_told(master.told_ready);
        self.configs = configs.into_iter().map(|(revision, config)| (revision, Rc::new(config))).collect();
        let runs: Vec<Rc<PoolRun>> = runs.into_iter().map(|run| Rc::new(self.run_of_state(run, &sockets))).collect();
        self.runs = current.into_iter().filter_map(|(id, place)| Some((id, Rc::clone(runs.get(place)?)))).collect();
        if let Some(config) = self.configs.get(&self.revision) {
            self.signal_map = SignalMap::of(&config.pools);
        }
        self.first_config = None;
        for (state, streams) in processes {
            let Some(run) = runs.get(state.run) else { continue };
            self.take_process(state, streams, Rc::clone(run), &sockets)?;
        }
        let pools: Vec<_> = self.runs.keys().copied().collect();
        pools.into_iter().for_each(|pool| self.steering.changed(pool));
        acks.watch(&self.epoll)?;
        self.acks = acks;
        store.watch(&self.epoll);
        self.fdstore = store;
        clients.watch(&self.epoll)?;
        self.clients = clients;
        Ok((head, order))
    }

    fn run_of_state(&self, state: RunState, sockets: &[Rc<Socket>]) -> PoolRun {
        let environment = Environment::of(&self.environment, &state.config, &state.instance, &state.workers.login);
        PoolRun {
            sockets: state.sockets.iter().filter_map(|place| sockets.get(*place).cloned()).collect(),
            workers: state.workers,
            dir: state.dir,
            notify_dir: state.notify_dir,
            environment: Rc::new(environment),
            instance: state.instance,
            path_told: Cell::new(false),
            prepared: Rc::new(Cell::new(if state.prepared { Prepared::Done } else { Prepared::NotYet })),
            files: state.files,
            config: state.config,
        }
    }

    fn take_process(
        &mut self,
        state: ProcessState,
        streams: Streams,
        run: Rc<PoolRun>,
        sockets: &[Rc<Socket>],
    ) -> io::Result<()> {
        let number = self.processes.next_number();
        let watch = [
            streams.notify.as_ref().map(|fd| (fd.as_fd(), Token::Notify(number))),
            streams.ready.as_ref().map(|fd| (fd.as_fd(), Token::Ready(number))),
        ];
        for (fd, token) in watch.into_iter().flatten() {
            self.epoll.add(fd, token.into(), Interest::Read)?;
        }
        let outputs = [
            streams.stdout.as_ref().map(|capture| (capture.fd.as_fd(), Token::Stdout(number))),
            streams.stderr.as_ref().map(|capture| (capture.fd.as_fd(), Token::Stderr(number))),
        ];
        for (fd, token) in outputs.into_iter().flatten() {
            self.outputs.add(fd, token.into(), Interest::Read)?;
        }
        let mut process = Process::new(state.id, state.pid, run);
        (process.notify, process.ready) = (streams.notify, streams.ready);
        (process.stdout, process.stderr) = (streams.stdout, streams.stderr);
        process.told_to_stop = state.told_to_stop;
        let seat = |(place, member): &(usize, u32)| Some((Rc::clone(sockets.get(*place)?), *member));
        process.seats = state.seats.iter().filter_map(seat).collect();
        state.tail.iter().for_each(|line| process.tail.push(line));
        self.processes.insert(process);
        if state.exited {
            // Others of its group are there still, or it would be forgotten.
            self.processes.leader_gone(number, true);
        }
        Ok(())
    }
}
