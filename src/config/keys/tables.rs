//! Owns what the tables of a config are about: the headings of the manual, and the texts that an editor shows.

/// The path of a table, as in the keys' paths, and what it is about. In the order of the manual.
const TABLES: &[(&str, &str)] = &[
    ("", "a config of poolmaster: the master, and its pools of workers"),
    ("master", "the master itself"),
    ("master.log", "the master's own log"),
    ("master.signals", "what signals to the master do"),
    ("master.hooks", "commands run at turns of the master's life"),
    ("pool.*", "a pool: workers of one program, and their sockets"),
    ("pool.*.listen", "the pool's listeners, by name"),
    ("pool.*.listen.*", "one listener, with options"),
    ("pool.*.env", "environment variables of the workers, by name"),
    ("pool.*.secrets", "environment variables of the workers whose values are read from files, by name"),
    ("pool.*.probe", "liveness probe of each worker"),
    ("pool.*.restart", "what follows the end of a worker that nobody asked for"),
    ("pool.*.restart.backoff", "waits between retries after early deaths"),
    ("pool.*.restart.budget", "early deaths until the pool backs off: from then on one worker is tried at a time"),
    ("pool.*.recycle", "replacing workers that are old or large"),
    ("pool.*.scale", "how many workers there may be, and who decides"),
    ("pool.*.scale.queue", "scaling by connections that wait in the accept queue"),
    ("pool.*.scale.busy", "scaling by what workers report as busy"),
    ("pool.*.scale.cpu", "scaling by CPU time"),
    ("pool.*.scale.memory", "the bound that memory sets to scaling"),
    ("pool.*.scale.command", "scaling by a number that a command prints"),
    ("pool.*.rollout", "how workers are replaced by new ones at a reload or restart"),
    ("pool.*.limits", "resource limits of the workers; those that are not set are the master's"),
    ("pool.*.log", "where the workers' output goes"),
    ("pool.*.log.rotate", "rotation of the file of captured lines"),
    ("pool.*.hooks", "commands run at turns of the pool's and its workers' lives"),
];

/// All tables, with what they are about.
pub fn tables() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES.iter().copied()
}

/// What a table is about.
pub(in super::super) fn about_table(path: &[&str]) -> Option<&'static str> {
    let path = path.join(".");
    TABLES.iter().find(|(table, _)| *table == path).map(|(_, about)| *about)
}
