//! Owns what the manual says of a verb beside its flags and its help: the exit codes that it can give with what they mean there, the files
//! that it touches, the pages to read next. The pages themselves are made from this and from the command line.

use super::Exit;
use super::groups::ALONE;

/// A verb's part of the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The verb.
    pub verb: &'static str,
    /// More than its help says, in paragraphs; may be empty.
    pub text: &'static [&'static str],
    /// Exit codes that need words of their own here; for the others see [`Entry::endings`].
    endings: &'static [(Exit, &'static str)],
    /// Verbs to read about next.
    pub see_also: &'static [&'static str],
}

const fn entry(
    verb: &'static str,
    endings: &'static [(Exit, &'static str)],
    see_also: &'static [&'static str],
    text: &'static [&'static str],
) -> Entry {
    Entry { verb, text, endings, see_also }
}

/// All verbs.
const ENTRIES: &[Entry] = &[
    entry(
        "run",
        &[
            (
                Exit::Done,
                "The master ended as it was told to: by a signal, by `poolmaster shutdown`, or because all jobs are completed.",
            ),
            (
                Exit::Failed,
                "The master could not start (another one runs here, an address is in use, a file cannot be written), or ended for another reason than the ones below.",
            ),
            (
                Exit::Usage,
                "Wrong usage, an error in the config, or a key that this version does not have yet. Nothing was started.",
            ),
            (
                Exit::RolledBack,
                "A worker could not boot: it ended with code 3 before it was ever good, or the pool spent its failure budget so. All other workers were stopped.",
            ),
            (Exit::NoMaster, "A worker could not load its application: it ended with code 4 in the same way."),
            (Exit::Internal, "A fault of poolmaster itself; its workers were stopped."),
        ],
        &["check", "status", "scale", "shutdown"],
        &[
            "The sockets of all pools are opened first, then the pools are started, each once the pools of its `after` are ready. From \
             then on the master keeps the wanted number of workers in each pool: what dies is replaced at once, what dies early again and \
             again is tried less and less often.",
            "Values come from these layers, the weakest first: built-in defaults, the config file, its include files, environment \
             variables (`POOLMASTER__POOL__WEB__WORKERS=8`), flags. `poolmaster config origin` tells which layer a value comes from.",
            "USR2 starts a second master beside this one: the program is found anew by the words that this one was started with, in its \
             working directory, with its environment, and gets the same listening sockets. It has workers of its own and goes by `NAME.2` \
             (control socket, pid file, lock). A deployment: USR2; look at the new one (`poolmaster --socket .../NAME.2.sock status`); then WINCH \
             to the old one, which parks its workers, and, when all is well, TERM to it. Back out: TERM to the new one, HUP to the old. When the \
             old one is gone, however it ended, the new one takes its name, its files and its socket files at once. systemd is told of the new \
             main process (`MAINPID=`) when the old one is stopped by TERM; should the old one be killed, systemd ends the unit. Pools without listeners start in it only then. USR2 is refused, with the reason in the log, \
             while there are two masters, while workers are being replaced, and where a listener has `reuseport`. Where the old one is process 1 \
             of a container, it may not end: there the new one can only be looked at.",
            "Without a config, the words after `--` are the command of one pool named `main`. They are taken as they are, but for words \
             in braces such as `{fd}` and `{slot}`, which are filled in for each worker.",
        ],
    ),
    entry("status", &[], &["ps", "health", "listeners"], &[]),
    entry("ps", &[], &["status", "kill"], &[]),
    entry(
        "scale",
        &[
            (Exit::Failed, "The number is set, but the pool cannot reach it: its workers do not get ready."),
            (Exit::Refused, "The number lies beyond `scale.max` or below `scale.min`, or the master is shutting down."),
        ],
        &["status", "wait", "config"],
        &[],
    ),
    entry(
        "reload",
        &[
            (
                Exit::Failed,
                "The config is in force, but new workers after the canaries did not get good: the old ones that were not yet replaced keep serving (`rollout.on_failure = \"halt\"`, or there is no way back).",
            ),
            (Exit::Usage, "Wrong usage, or the config has errors. Nothing was changed."),
            (
                Exit::RolledBack,
                "Nothing is changed any more: a listener could not be opened, `pre_start` or a canary failed, or it failed later and the last good config was brought back; or a newer reload took its place.",
            ),
            (
                Exit::Refused,
                "The master is shutting down; or with `--abort`: there is nothing to abort, or it is in force already.",
            ),
        ],
        &["plan", "rollback", "history", "check", "restart", "config"],
        &[
            "A reload is one transaction over all pools. The config is read and checked, new listeners are opened and `pre_start` is run; \
             then each pool whose workers have to be replaced gets `rollout.canary` new workers beside the old ones, in the order of \
             `after`. Only when all canaries are good does the new config come in force. If anything fails before, the canaries are \
             stopped, the new listeners are closed, and no old worker has noticed.",
            "Then the other workers follow within `rollout.max_surge` and `rollout.max_unavailable`. Should `rollout.failures` new workers \
             in a row not get good, the last good config is brought back (`rollout.on_failure = \"rollback\"`), or the old workers that \
             are left keep serving (`\"halt\"`). A rollback brings back the config, not files that were replaced on disk.",
            "By default a quarter of the workers is replaced at one time: the roll takes about four times a start and `settle`, and there is a \
             quarter more of them until it is through. Where memory is short, `rollout.max_surge = 1`; `poolmaster plan --restart` tells \
             the time and the most processes of either.",
            "What differs only in keys of the class `live` is given to the running workers; pools that do not differ are not touched. \
             `poolmaster plan` tells all of it beforehand.",
            "`--abort` undoes what was ordered and is not in force yet, also what is being read or waits for its turn; it returns once the \
             canaries are gone. Whoever waits for the reload is told so (exit code 3). What is in force already goes back by \
             `poolmaster rollback`.",
        ],
    ),
    entry(
        "plan",
        &[
            (Exit::Done, "Nothing would change."),
            (Exit::Usage, "Wrong usage, or the config has errors: a reload would change nothing."),
            (Exit::Refused, "No config is in force yet."),
            (Exit::PlanLive, "Some settings would change, and no worker would be touched."),
            (Exit::PlanWorkers, "Workers would be replaced, started or stopped."),
            (Exit::PlanMaster, "Some of it holds only with a new master; the rest as above."),
        ],
        &["reload", "check", "config"],
        &[
            "The master reads the config as `reload` would, compares it with what is in force, and does nothing of it. For each pool: the keys \
             that differ, with the place of either value and the class of the change; how many workers would be replaced, in which order, \
             with how many canaries; how many processes there would be at most, should each old worker take all of its time to stop; how long it \
             would take, by the starts seen so far and with old workers that stop at once. The last three are what a copy of the master's own \
             decisions does with the new config, in a world where every worker gets good.",
            "Only root and the master's own user may have it read another file than its own config.",
        ],
    ),
    entry(
        "rollback",
        &[
            (
                Exit::Failed,
                "The way back was begun, but its workers do not get good. Old ones that were not yet replaced keep serving.",
            ),
            (Exit::RolledBack, "The config before could not be put in force again. Nothing was changed."),
            (Exit::Refused, "There is no earlier good config to go back to, or the master is shutting down."),
        ],
        &["reload", "plan", "config"],
        &[
            "The master keeps the last good config before the one in force in memory: rolled back to, it comes with the commands, the \
             environment and the listeners that it had. A reload that is not committed yet is undone instead. Files on disk are not \
             touched: the next `reload` reads them as they are.",
        ],
    ),
    entry(
        "upgrade",
        &[
            (
                Exit::RolledBack,
                "The new program was not found, cannot be executed, or could not go on from the master's state: the one that was goes on, with all \
                 that it had.",
            ),
            (
                Exit::Refused,
                "Something is in the way: a reload or a replacement of workers (`--wait` waits for its end), two masters; or the master is \
                 shutting down.",
            ),
        ],
        &["reload", "restart", "shutdown"],
        &[
            "The new program takes the place of the old one in the same process: the pid stays, and with it the workers, their sockets and who waits \
             there, their reports and their output, the control socket and who is connected to it. The config is not read again, and no worker is \
             touched: new ones are started by the new program.",
            "First the new program is started as a child and reads a copy of the state. If it cannot, or says nothing within `--timeout` (20 s), all is \
             as it was. Then the master executes it. Should it fail before it has taken over, it executes the old program again, from the open \
             file, with the same state. For some milliseconds nobody supervises: what happens then is acted on right after; the answer tells how \
             long it was.",
            "Without `--binary` it is the program that the master was started as, looked for anew: a symbolic link that was flipped meanwhile leads to \
             the new release. Only root and the master's own user may name another one. A state of a format that the new program does not know is \
             refused by it: start it beside the old one instead (USR2).",
            "The service manager is told RELOADING=1 before and READY=1 after; its pid file and MAINPID stay true.",
        ],
    ),
    entry(
        "history",
        &[],
        &["reload", "rollback", "plan"],
        &[
            "The master remembers the last 20 configs that it was to put in force, in memory: when each was read, who ordered it, what it \
             changed (the first 12 keys and pools), and how it ended. `in force` is the one that holds now.",
        ],
    ),
    entry(
        "restart",
        &[
            (Exit::Failed, "New workers do not get good. Old ones that were not yet replaced keep serving."),
            (
                Exit::RolledBack,
                "The canary did not get good. No old worker was touched. (Of several pools, where one fails so: 1; the others go on.)",
            ),
            (
                Exit::Refused,
                "There is no such slot, the pool has no workers to replace (it is stopped), or the master is shutting down.",
            ),
        ],
        &["reload", "kill"],
        &[
            "For a program that was replaced in place, or one that is to start afresh. The first `rollout.canary` new workers of each pool have \
             to be good before others follow, and the first of them that is not ends it; from then on `rollout.failures` in a row do. \
             Workers start within `rollout.max_surge` and `rollout.max_unavailable`, as at a reload.",
        ],
    ),
    entry(
        "start",
        &[(Exit::Failed, "A pool cannot get ready: its workers die early."), (Exit::Refused, "The master is shutting down.")],
        &["stop", "retry"],
        &[],
    ),
    entry("stop", &[(Exit::Refused, "The master is shutting down.")], &["start", "shutdown", "scale"], &[]),
    entry(
        "shutdown",
        &[
            (Exit::Failed, "Everything is down, but the master ended with a failure."),
            (
                Exit::TimedOut,
                "`--timeout` was over before everything was down, or the master's process outlived its last worker. It goes on.",
            ),
        ],
        &["stop", "run"],
        &[],
    ),
    entry(
        "init",
        &[
            (Exit::Done, "The file is written."),
            (Exit::Failed, "It is there already, or it cannot be written. Nothing was changed."),
            (Exit::Usage, "Wrong usage."),
        ],
        &["check", "run"],
        &[
            "Each starter is a config that is right as it is: put in the command, and it runs. Lines with `#` before a key show what else \
             there is.",
        ],
    ),
    entry(
        "check",
        &[
            (Exit::Done, "The config is right."),
            (Exit::Failed, "The answer could not be written."),
            (
                Exit::Usage,
                "The config has errors, or `--strict` was given and there is a warning or a key that this version does not have yet; or wrong usage.",
            ),
        ],
        &["config", "run"],
        &[
            "All errors of all layers are told in one run, each with its place, the reason, and what is allowed. Warnings, and keys that \
             this version does not have yet, are told too; `--strict` makes errors of them. Nothing is started, and nothing but the \
             config files is read.",
        ],
    ),
    entry(
        "config",
        &[
            (Exit::Done, "The question is answered."),
            (Exit::Failed, "The answer could not be written."),
            (Exit::Usage, "The config has errors, there is no such key, or wrong usage."),
        ],
        &["check", "run"],
        &[
            "These verbs read the config and the environment as `poolmaster run` would, and talk to no master. What a running master has \
             taken over from a flag of `run` or from `poolmaster scale` is shown by `poolmaster status`.",
        ],
    ),
    entry("reopen", &[(Exit::Done, "The log file is open anew.")], &["signals"], &[]),
    entry(
        "wait",
        &[
            (Exit::Done, "It is so."),
            (Exit::Failed, "It cannot come to be so by waiting: the pool is failed, or left the config."),
            (Exit::TimedOut, "`--timeout` was over before it was so."),
            (Exit::Refused, "The master is shutting down."),
        ],
        &["status", "health"],
        &[],
    ),
    entry(
        "health",
        &[(Exit::Done, "Every pool asked for is well."), (Exit::Failed, "At least one is not.")],
        &["status", "wait"],
        &[],
    ),
    entry("signals", &[], &["scale", "kill"], &[]),
    entry("listeners", &[], &["status"], &[]),
    entry(
        "retry",
        &[
            (Exit::Failed, "The try failed too; the pool backs off again."),
            (
                Exit::Refused,
                "There is nothing to retry: the pool is stopped, parked or completed; or the master is shutting down.",
            ),
        ],
        &["status", "start"],
        &[],
    ),
    entry(
        "kill",
        &[
            (Exit::Done, "The signal is sent to all of them."),
            (Exit::Failed, "There is no such worker, or the signal could not be sent to all of them."),
            (Exit::Refused, "The master is shutting down."),
        ],
        &["restart", "stop", "ps"],
        &[],
    ),
    entry(
        "worker",
        &[
            (Exit::Done, "It was told to stop, or to exit."),
            (Exit::Failed, "It failed while it served."),
            (Exit::Usage, "Wrong usage."),
            (Exit::RolledBack, "It could not boot (worker contract: the application failed to boot)."),
            (Exit::NoMaster, "It was told not to load its application (worker contract: the application could not be loaded)."),
        ],
        &["run"],
        &[
            "A small HTTP server that speaks the whole worker contract: it takes the listeners from `LISTEN_FDS`, says `READY=1`, sends \
             heartbeats, drains on its stop signal. It needs nothing else to be installed, and can be told to misbehave in every way that \
             a worker can, so that failures can be rehearsed before they happen.",
        ],
    ),
    entry(
        "completions",
        &[(Exit::Done, "The script is written."), (Exit::Failed, "It could not be written."), (Exit::Usage, "Wrong usage.")],
        &["config"],
        &[
            "The script goes to standard output. It completes verbs, flags and file names; it asks no master, so that a shell never waits \
             for one.",
        ],
    ),
];

/// Words for the codes of the verbs that talk to a master.
const OF_CLIENTS: [(Exit, &str); 8] = [
    (Exit::Done, "Done: the effect is real. With `--no-wait`: the master has taken the order."),
    (Exit::Failed, "It was tried and failed, or the connection broke before the answer was complete."),
    (Exit::Usage, "Wrong usage, a pool that is not there, or a config (`-c`) that cannot be read. Nothing was changed."),
    (Exit::NoMaster, "No master was found, or more than one and none was named."),
    (Exit::TimedOut, "`--timeout` was over before the effect was real. The work goes on."),
    (Exit::NotPermitted, "This user may not use the master's control socket."),
    (Exit::Refused, "The master refused it. Nothing was changed."),
    (Exit::Internal, "A fault of poolmaster itself."),
];

/// Verbs that are answered at once.
const AT_ONCE: [&str; 8] = ["status", "ps", "health", "signals", "listeners", "kill", "plan", "reopen"];
/// Verbs that no master refuses.
const NEVER_REFUSED: [&str; 7] = ["status", "ps", "health", "signals", "listeners", "reopen", "shutdown"];

impl Entry {
    /// True for verbs that talk to a master.
    pub fn is_client(&self) -> bool {
        !ALONE.contains(&self.verb)
    }

    /// The exit codes that the verb can give, each with its meaning there.
    pub fn endings(&self) -> Vec<(Exit, &'static str)> {
        let words = |exit: Exit| {
            let own = self.endings.iter().find(|(code, _)| *code == exit);
            let shared = OF_CLIENTS.iter().find(|(code, _)| self.is_client() && *code == exit);
            match exit {
                Exit::Refused if NEVER_REFUSED.contains(&self.verb) => None,
                Exit::TimedOut if own.is_none() && AT_ONCE.contains(&self.verb) => {
                    Some("No answer within 5 seconds, or within `--timeout`: the master is not well, or the host is very busy.")
                }
                Exit::Done if own.is_none() && AT_ONCE.contains(&self.verb) => Some("The question is answered."),
                _ => own.or(shared).map(|(_, words)| *words),
            }
        };
        Exit::ALL.into_iter().filter_map(|exit| Some((exit, words(exit)?))).collect()
    }

    /// The files that the verb reads or writes, each with what it is.
    pub fn files(&self) -> Vec<(&'static str, &'static str)> {
        const CONFIG: [(&str, &str); 2] = [
            ("./pools.toml", "The config, when none is named."),
            ("/etc/poolmaster/pools.toml", "The config, when there is none in the working directory."),
        ];
        const RUNTIME: (&str, &str) = (
            "/run/poolmaster",
            "The runtime directory of masters run by root. For other users `$XDG_RUNTIME_DIR/poolmaster`, or `/tmp/poolmaster-UID`.",
        );
        const SOCKET: (&str, &str) = ("NAME.sock", "In the runtime directory: the control socket of the master named NAME.");
        match self.verb {
            "run" => CONFIG
                .into_iter()
                .chain([
                    RUNTIME,
                    SOCKET,
                    (
                        "NAME.pid, NAME.lock",
                        "There too: the master's process id, and the lock that keeps a second master of this name away and says where its control socket is.",
                    ),
                    ("NAME.d/POOL/", "There too: the pool's own directory, `{runtime}` in a command."),
                ])
                .collect(),
            "check" | "config" => CONFIG.to_vec(),
            "worker" => vec![("$NOTIFY_SOCKET", "Where it reports to its master.")],
            "init" => vec![("./pools.toml", "What is written, when no file is named.")],
            "completions" => vec![
                ("~/.local/share/bash-completion/completions/poolmaster", "Where bash finds it."),
                ("~/.zfunc/_poolmaster", "Where zsh finds it, when `~/.zfunc` is in `fpath`."),
                ("~/.config/fish/completions/poolmaster.fish", "Where fish finds it."),
                ("~/.config/elvish/rc.elv", "Where elvish reads it from: append it there."),
            ],
            _ if self.is_client() => vec![RUNTIME, SOCKET],
            _ => Vec::new(),
        }
    }
}

/// The entries of all verbs.
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_an_entry_and_every_entry_a_verb() {
        let command = super::super::command();
        let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        for verb in &verbs {
            assert_eq!(ENTRIES.iter().filter(|entry| entry.verb == *verb).count(), 1, "{verb}");
        }
        for entry in ENTRIES {
            assert!(verbs.contains(&entry.verb), "{}", entry.verb);
            assert!(
                !entry.see_also.contains(&entry.verb) && entry.see_also.iter().all(|verb| verbs.contains(verb)),
                "{}",
                entry.verb
            );
            assert!(!entry.files().is_empty(), "{}", entry.verb);
        }
    }

    #[test]
    fn every_verb_can_succeed_and_be_used_wrongly() {
        for entry in ENTRIES {
            let codes: Vec<u8> = entry.endings().iter().map(|(exit, _)| exit.code()).collect();
            assert!(codes.contains(&0) && codes.contains(&2) && codes.is_sorted(), "{}: {codes:?}", entry.verb);
            assert_eq!(codes.contains(&4) && codes.contains(&6), entry.is_client(), "{}: {codes:?}", entry.verb);
        }
    }
}
