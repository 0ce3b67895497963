//! Owns the one way by which a fact that the core has noted reaches whoever listens: the log, hooks, systemd, whoever waits for the daemon,
//! the programs that steer connections. Each sees every fact once, in the order in which the core noted them.

use super::master::Master;
use super::throttle::Repeated;
use crate::supervisor::{Action, ExitStatus, Level, Note, What};

impl Master {
    /// Tells what the core has noted. After the deeds: a worker that is missing comes first, and the thread that writes does not take a
    /// processor from its start.
    pub(super) fn publish(&mut self) {
        if self.notes.is_empty() {
            return;
        }
        while let Some(note) = self.notes.pop_front() {
            self.publish_one(&note);
        }
        self.service.update(&self.core);
    }

    /// The same at once, with what stands among deeds that are still to be done: for a line that has to come after it.
    pub(super) fn publish_ahead(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Note(note) => self.hear(note),
                deed => self.actions.push_back(deed),
            }
        }
        self.publish();
    }

    /// Takes a fact in. Connections are steered by it at once: who is told to be ready gets them by then.
    pub(super) fn hear(&mut self, note: Note) {
        if let Some(worker) = note.worker {
            self.steering.changed(worker.pool);
        }
        self.notes.push_back(note);
    }

    fn publish_one(&mut self, note: &Note) {
        // What a signal did is told by its effects; that it came, and changed nothing, is nothing new the hundredth time.
        let tells = match &note.what {
            What::Signal { signal, .. } => self.tells(Repeated::MasterSignal(signal.name())),
            _ => true,
        };
        if tells {
            self.log_note(note);
        }
        self.hook_on(note);
        self.report_on(note);
        if matches!(note.what, What::ShuttingDown { .. }) {
            self.hand_over_word();
        }
        self.service.hear(note, self.config.spec.graceful_timeout);
    }

    /// Whoever started this daemon waits for its pools, or, when none of them starts by itself, for nothing more than a config in force.
    fn report_on(&mut self, note: &Note) {
        let but = match &note.what {
            What::AllReady { others, .. } => others.iter().map(|(name, phase)| format!("{name} is {}", phase.word())).collect(),
            What::Configured { .. } if self.core.pools().iter().all(|pool| !pool.spec.autostart) => Vec::new(),
            _ => return,
        };
        if let Some(report) = self.report.take() {
            report.ready(&but.join(", "));
        }
    }

    /// What is the likeliest reason for an end, where there is one.
    fn hint(&mut self, note: &Note) -> String {
        let (What::Exited { status, asked: None, early, .. }, Some(worker)) = (&note.what, note.worker) else {
            return String::new();
        };
        let wanted_our_port = self.wanted_our_port.remove(&worker);
        let Some(run) = self.runs.get(&worker.pool) else { return String::new() };
        let launch = &run.config.launch;
        match (status, launch.argv.as_slice()) {
            _ if !early => String::new(),
            (_, _) if wanted_our_port => {
                let address = run.sockets.first().map(|socket| socket.listening.local_addr().to_string()).unwrap_or_default();
                format!(
                    "; the master holds {address} for this pool: have the program take that over (as descriptor 3, by LISTEN_FDS or {{fd}}), \
                     or take `listen` away and let it bind its own"
                )
            }
            (ExitStatus::Code(0), [only]) if !launch.protocols.stdin && reads_stdin(only) => {
                "; it reads its stdin, which is /dev/null: give it a script, or a file".to_owned()
            }
            (ExitStatus::Code(0), _) => {
                "; does it go into the background (daemonize)? it has to stay in the foreground".to_owned()
            }
            _ => String::new(),
        }
    }

    /// A line of the log.
    fn log_note(&mut self, note: &Note) {
        let hint = self.hint(note);
        let pid = note.worker.and_then(|w| self.processes.pid_of(w));
        let pool = note.pool.map(|p| self.name_of(p));
        let pool = pool.as_deref();
        let what = format!("{}{hint}", note.what);
        macro_rules! log {
            ($level:ident) => {
                match (pool, note.worker, pid) {
                    (Some(pool), Some(w), Some(pid)) => {
                        tracing::$level!(pool, slot = w.slot, generation = w.generation, pid, "{what}");
                    }
                    (Some(pool), Some(w), None) => tracing::$level!(pool, slot = w.slot, generation = w.generation, "{what}"),
                    (Some(pool), None, _) => tracing::$level!(pool, "{what}"),
                    (None, _, _) => tracing::$level!("{what}"),
                }
            };
        }
        match note.level {
            Level::Debug => log!(debug),
            Level::Info => log!(info),
            Level::Warn => log!(warn),
            Level::Error => log!(error),
        }
    }
}

/// Programs that without an argument do what they read.
fn reads_stdin(program: &str) -> bool {
    const KNOWN: [&str; 17] =
        ["sh", "bash", "dash", "zsh", "ksh", "ash", "cat", "node", "ruby", "irb", "perl", "php", "lua", "psql", "tee", "bc", "R"];
    let name = program.rsplit('/').next().unwrap_or(program);
    KNOWN.contains(&name)
        || name.strip_prefix("python").is_some_and(|version| version.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use super::reads_stdin;

    #[test]
    fn interpreters_are_known_by_name() {
        for (program, want) in [
            ("sh", true),
            ("/usr/bin/python3", true),
            ("python3.11", true),
            ("python", true),
            ("pythonw", false),
            ("./server", false),
            ("nginx", false),
            ("/opt/cat", true),
        ] {
            assert_eq!(reads_stdin(program), want, "{program}");
        }
    }
}
