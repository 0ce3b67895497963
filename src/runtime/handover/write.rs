//! Owns the master written down: all that its next image needs, with the descriptors that it is to find open.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::super::master::Master;
use super::super::pools::{PoolRun, Prepared};
use super::super::processes::Process;
use super::super::sockets::Socket;
use super::record::{FORMAT, Head, MasterState, OrderState, ProcessState, Record, RunState, SocketState};
use crate::os::handover::{BoundState, ListeningState, Passed};
use crate::supervisor::{PoolId, Supervisor};

/// The state, and the descriptors that are named in it.
pub(in super::super) struct Written {
    pub(in super::super) bytes: Vec<u8>,
    pub(in super::super) passed: Vec<Passed>,
}

/// Things that several have, by their place in a list.
struct Shared<T>(Vec<Rc<T>>, BTreeMap<*const T, usize>);

impl<T> Shared<T> {
    fn of(&mut self, one: &Rc<T>) -> usize {
        let Shared(list, places) = self;
        *places.entry(Rc::as_ptr(one)).or_insert_with(|| {
            list.push(Rc::clone(one));
            list.len() - 1
        })
    }
}

impl Master {
    /// Writes it down, at the end of a turn. `program`: the one that runs, open.
    pub(in super::super) fn write_down(&mut self, order: Option<OrderState>, program: Option<Passed>) -> io::Result<Written> {
        let next_notify = self.notify_sockets.pack();
        let (mut runs, mut sockets) = (Shared(Vec::new(), BTreeMap::new()), Shared(Vec::new(), BTreeMap::new()));
        let current: BTreeMap<PoolId, usize> = self.runs.iter().map(|(id, run)| (*id, runs.of(run))).collect();
        let one = |process| process_state(process, runs.of(&process.run), &mut sockets);
        let processes: Vec<ProcessState> = self.processes.all().map(one).collect::<io::Result<_>>()?;
        let runs: Vec<RunState> = runs.0.iter().map(|run| run_state(run, &mut sockets)).collect();
        let sockets: Vec<SocketState> = sockets.0.iter().map(|socket| socket.state()).collect::<io::Result<_>>()?;
        let record: Record<&Supervisor> = Record {
            head: Head { format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned(), pid: self.pid, at: Master::now() },
            core: &self.core,
            master: MasterState {
                revision: self.revision,
                last_revision: self.last_revision,
                in_force: self.pools_in_force.clone(),
                ids: self.ids.all().clone(),
                names: self.names.clone(),
                not_applied: self.not_applied.clone(),
                socket_uids: self.socket_uids.clone(),
                started: self.started,
                inherited_umask: self.inherited_umask,
                nofile: self.common.nofile,
                sigpending: self.common.sigpending,
                reset_signals: self.common.reset_signals.clone(),
                next_command: self.next_command,
                commands: self.commands.clone(),
                reload_orders: self.reload_orders.clone(),
                reopen_orders: self.reopen_orders.clone(),
                next_notify,
                stillborn: self.stillborn.clone(),
                command_line: self.second.command_line().to_vec(),
                told_ready: self.service.is_told_ready(),
            },
            configs: self.configs.iter().map(|(revision, config)| (*revision, config.as_ref().clone())).collect(),
            runs,
            current,
            sockets,
            processes,
            files: self.files.state()?,
            acks: self.acks.state()?,
            stored: self.fdstore.state()?,
            clients: self.clients.state()?,
            order,
            program,
        };
        let bytes = serde_json::to_vec(&record).map_err(io::Error::other)?;
        Ok(Written { bytes, passed: record.passed() })
    }
}

impl<C> Record<C> {
    /// The descriptors that are named in it.
    fn passed(&self) -> Vec<Passed> {
        let captures = |process: &ProcessState| {
            let outputs = process.stdout.iter().chain(&process.stderr).map(|capture| capture.fd).collect::<Vec<_>>();
            let notify = process.notify.iter().flat_map(BoundState::passed).collect::<Vec<_>>();
            [outputs, notify, process.ready.into_iter().collect()].concat()
        };
        let sockets = self.sockets.iter().flat_map(|socket| {
            let slots = socket.slots.iter().flat_map(|slots| slots.group.passed());
            ListeningState::passed(&socket.listening).into_iter().chain(slots)
        });
        sockets
            .chain(self.processes.iter().flat_map(captures))
            .chain(self.files.passed())
            .chain(self.acks.values().flat_map(BoundState::passed))
            .chain(self.stored.iter().map(|stored| stored.fd))
            .chain(self.clients.iter().map(|client| client.fd))
            .chain(self.program)
            .collect()
    }
}

fn run_state(run: &Rc<PoolRun>, sockets: &mut Shared<Socket>) -> RunState {
    RunState {
        config: run.config.clone(),
        sockets: run.sockets.iter().map(|socket| sockets.of(socket)).collect(),
        workers: run.workers.clone(),
        dir: run.dir.clone(),
        notify_dir: run.notify_dir.clone(),
        instance: run.instance.clone(),
        prepared: run.prepared.get() == Prepared::Done,
        files: run.files.clone(),
    }
}

fn process_state(process: &Process, run: usize, sockets: &mut Shared<Socket>) -> io::Result<ProcessState> {
    Ok(ProcessState {
        id: process.id,
        pid: process.pid,
        run,
        notify: process.notify.as_ref().map(|socket| socket.state()).transpose()?,
        ready: process.ready.as_ref().map(Passed::of).transpose()?,
        stdout: process.stdout.as_ref().map(|capture| capture.state()).transpose()?,
        stderr: process.stderr.as_ref().map(|capture| capture.state()).transpose()?,
        tail: process.tail.raw().map(<[u8]>::to_vec).collect(),
        exited: process.exited,
        told_to_stop: process.told_to_stop,
        seats: process.seats.iter().map(|(socket, member)| (sockets.of(socket), *member)).collect(),
    })
}
