//! Owns what to say about a name that is no key: a slip, the right key in the wrong table, or the word of another program.

use super::super::near::nearest;
use super::{all, below, in_definitions};

/// What other programs call it, in small letters without `_` and `-`, and the key that does it here.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("numprocs", "pool.*.workers"),
    ("processes", "pool.*.workers"),
    ("instances", "pool.*.workers"),
    ("replicas", "pool.*.workers"),
    ("concurrency", "pool.*.workers"),
    ("count", "pool.*.workers"),
    ("cmd", "pool.*.command"),
    ("program", "pool.*.command"),
    ("exec", "pool.*.command"),
    ("execstart", "pool.*.command"),
    ("run", "pool.*.command"),
    ("script", "pool.*.command"),
    ("entrypoint", "pool.*.command"),
    ("args", "pool.*.command"),
    ("bind", "pool.*.listen"),
    ("port", "pool.*.listen"),
    ("socket", "pool.*.listen"),
    ("directory", "pool.*.working_dir"),
    ("workingdirectory", "pool.*.working_dir"),
    ("cwd", "pool.*.working_dir"),
    ("chdir", "pool.*.working_dir"),
    ("environment", "pool.*.env"),
    ("envfile", "pool.*.env_files"),
    ("environmentfile", "pool.*.env_files"),
    ("killsignal", "pool.*.stop_signal"),
    ("stopwaitsecs", "pool.*.graceful_timeout"),
    ("killtimeout", "pool.*.graceful_timeout"),
    ("timeoutstopsec", "pool.*.graceful_timeout"),
    ("stoptimeout", "pool.*.graceful_timeout"),
    ("stopgraceperiod", "pool.*.graceful_timeout"),
    ("stdoutlogfile", "pool.*.log.stdout"),
    ("stderrlogfile", "pool.*.log.stderr"),
    ("errorlog", "pool.*.log.stderr"),
    ("autorestart", "pool.*.restart.policy"),
    ("restartpolicy", "pool.*.restart.policy"),
    ("respawn", "pool.*.restart.policy"),
    ("startsecs", "pool.*.settle"),
    ("startretries", "pool.*.restart.budget.failures"),
    ("startlimitburst", "pool.*.restart.budget.failures"),
    ("restartsec", "pool.*.restart.backoff.base"),
    ("restartdelay", "pool.*.restart.backoff.base"),
    ("uid", "pool.*.user"),
    ("gid", "pool.*.group"),
    ("dependson", "pool.*.after"),
    ("requires", "pool.*.after"),
    ("priority", "pool.*.after"),
    ("enabled", "pool.*.autostart"),
    ("healthcheck", "pool.*.probe.check"),
    ("livenessprobe", "pool.*.probe.check"),
    ("watchdog", "pool.*.timeout"),
    ("watchdogsec", "pool.*.timeout"),
    ("heartbeat", "pool.*.timeout"),
    ("autoscale", "pool.*.scale.mode"),
    ("limitnofile", "pool.*.limits.nofile"),
    ("metrics", "master.http"),
    ("prometheus", "master.http"),
    ("loglevel", "master.log.level"),
    ("daemonize", "master.daemon"),
];

/// A table's own names are searched before the others: the part of the config that a path is in.
fn part_of(path: &[&str]) -> Option<&'static str> {
    match in_definitions(path).first() {
        Some(&"pool") => Some("pool.*."),
        Some(&"master") => Some("master."),
        _ => None,
    }
}

/// What to say about a path whose last name is no key. `None`: nothing is near.
pub(in super::super) fn meant(path: &[&str]) -> Option<String> {
    let (name, parent) = path.split_last()?;
    let part = part_of(parent);
    let known = |of: &dyn Fn(&str) -> bool| told(path, &elsewhere(name).into_iter().filter(|p| of(p)).collect::<Vec<_>>());
    let outermost = in_definitions(parent).len() <= 2;
    let others = || {
        let bare: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        let found = OTHER_WORDS.iter().find(|(word, _)| outermost && *word == bare)?;
        Some(format!("here it is called `{}`", shown(path, found.1)))
    };
    let slip = || nearest(name, below(parent)).map(|near| format!("did you mean `{near}`?"));
    part.and_then(|part| known(&|p| p.starts_with(part)))
        .or_else(others)
        .or_else(slip)
        .or_else(|| known(&|p| part.is_none_or(|part| !p.starts_with(part))))
}

/// The keys and tables of that name, of each part of the config those that lie least deep.
fn elsewhere(name: &str) -> Vec<String> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for (part, key) in
        all().filter_map(|key| ["master.", "pool.*."].into_iter().find_map(|part| Some((part, key.path.strip_prefix(part)?))))
    {
        let names: Vec<&str> = key.split('.').collect();
        if let Some(at) = names.iter().position(|n| *n == name) {
            let entry = (part, names[..=at].to_vec());
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    let least = |part: &str| found.iter().filter(|(p, _)| *p == part).map(|(_, names)| names.len()).min();
    found
        .iter()
        .filter(|(part, names)| Some(names.len()) == least(part))
        .map(|(part, names)| format!("{part}{}", names.join(".")))
        .collect()
}

fn told(path: &[&str], found: &[String]) -> Option<String> {
    let all: Vec<String> = found.iter().map(|p| format!("`{}`", shown(path, p))).collect();
    match all.as_slice() {
        [] => None,
        [one] => Some(format!("there is {one}")),
        [first @ .., last] => Some(format!("there is {} and {last}", first.join(", "))),
    }
}

/// A definition's path, with the names of the path that was written.
fn shown(path: &[&str], definition: &str) -> String {
    let own = match (path, definition.strip_prefix("pool.*.")) {
        (["defaults", ..], Some(rest)) => format!("defaults.{rest}"),
        ([kind @ ("pool" | "template"), name, _, ..], Some(rest)) => format!("{kind}.{name}.{rest}"),
        _ => definition.to_owned(),
    };
    own.replace('*', "NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_point_to_the_right_place() {
        for (path, want) in [
            (&["pool", "web", "wokers"][..], Some("did you mean `workers`?")),
            (&["pools"], Some("did you mean `pool`?")),
            (&["default"], Some("did you mean `defaults`?")),
            (&["pool", "web", "max_surge"], Some("there is `pool.web.rollout.max_surge`")),
            (&["pool", "web", "up_signal"], Some("there is `pool.web.scale.up_signal`")),
            (&["defaults", "factor"], Some("there is `defaults.restart.backoff.factor`")),
            (&["template", "x", "factor"], Some("there is `template.x.restart.backoff.factor`")),
            (&["workers"], Some("there is `pool.NAME.workers`")),
            (&["hooks"], Some("there is `master.hooks` and `pool.NAME.hooks`")),
            (&["log"], Some("there is `master.log` and `pool.NAME.log`")),
            (&["listen"], Some("there is `pool.NAME.listen`")),
            (&["metrics"], Some("here it is called `master.http`")),
            (&["master", "workers"], Some("there is `pool.NAME.workers`")),
            (&["pool", "web", "level"], Some("there is `master.log.level`")),
            (&["pool", "web", "numprocs"], Some("here it is called `pool.web.workers`")),
            (&["defaults", "StopWaitSecs"], Some("here it is called `defaults.graceful_timeout`")),
            (&["pool", "web", "zzzzz"], None),
        ] {
            assert_eq!(meant(path).as_deref(), want, "{path:?}");
        }
    }

    #[test]
    fn the_words_of_others_lead_to_keys_and_are_none() {
        for (word, key) in OTHER_WORDS {
            assert!(all().any(|k| k.path == *key || k.path.starts_with(&format!("{key}."))), "{key} is no key");
            assert!(all().all(|k| k.path.split('.').nth(2) != Some(word)), "{word} is a key");
        }
    }
}
