//! Owns how a worker is started: its command, environment and output; and whether their templates can be filled in.

use std::path::PathBuf;

use std::collections::BTreeMap;

use super::super::diagnostics::{Diagnostic, Diagnostics};
use super::super::kind::Typed;
use super::super::node::{Layer, Node, Place, Raw};
use super::super::spec::{EnvFile, Launch, Look, Output, Protocols};
use super::super::{keys, template, words};
use super::reader::Reader;
use super::{default_node, known_names};
use crate::supervisor::PoolId;

/// Variables that poolmaster sets itself, after the pool's own.
const OURS: [&str; 7] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];

pub(super) fn build(
    r: &Reader<'_>,
    pool: &str,
    siblings: &BTreeMap<&str, PoolId>,
    listeners: &[String],
    (protocols, look): (Protocols, Option<Look>),
    diags: &mut Diagnostics,
) -> Launch {
    let argv = r.words("command");
    // A misspelt one was reported as unknown.
    let misspelt = || r.node.entries().iter().any(|(name, _)| super::nearest(name, ["command"]).is_some());
    if r.find("command").is_none() && !misspelt() {
        let others = || siblings.keys().copied().filter(|other| *other != pool);
        // What a flag or a variable alone names is no new pool.
        let only_named = matches!(r.node.key.layer, Layer::Environment | Layer::Flag) && others().next().is_some();
        let what = format!("{}: {}", r.path, if only_named { "there is no such pool" } else { "has no command" });
        let near = super::nearest(pool, others());
        let help = match near {
            _ if only_named => super::known_names(pool, others(), "pools"),
            Some(near) => format!("did you mean the pool \"{near}\"? A pool of its own needs command = \"...\""),
            None => "add command = \"...\": the program that each worker runs".to_owned(),
        };
        diags.missing(Diagnostic::error(Some(r.node.key.clone()), what).help(help));
    }
    let command = r.place("command");
    for word in &argv {
        words_of(r, "command", word, &command, (listeners, protocols.port.is_some()), diags);
    }
    if let Some(Raw::Str(line)) = r.find("command").map(|node| &node.raw)
        && let Some(operator) = words::operator(line)
    {
        let help = "no shell runs; if one is meant: command = [\"sh\", \"-c\", \"...\"]; if not, quote it";
        diags.warn(&command, format!("{}.command: {operator} is passed to the program as an argument", r.path), help);
    } else if let Some(Raw::Str(line)) = r.find("command").map(|node| &node.raw)
        && let Some((word, help)) = words::shell_word(line, shell_script(&argv).is_some())
    {
        diags.warn(&command, format!("{}.command: {word} is passed to the program as it stands there", r.path), help);
    }
    if let Some((name, value)) = argv.first().and_then(|word| word.split_once('=')).filter(|(name, _)| is_variable(name)) {
        let what = format!("{}.command: its first word, {name}=..., is taken for the program", r.path);
        let secret = template::sounds_secret(name);
        let help = match secret {
            true => {
                format!("put it into a file of its own, and name that in [{}.secrets]: {name} = \"/run/secrets/...\"", r.path)
            }
            false => format!("variables are set in [{}.env]: {name} = {value:?}", r.path),
        };
        let mut error = Diagnostic::error(Some(command.clone()), what).help(help);
        error.secret = secret;
        diags.push(error);
    }
    if protocols.systemd && protocols.listen_pid && !listeners.is_empty() && is_shell_wrapper(&argv) {
        let help = "begin the shell's last command with `exec`: LISTEN_PID then names the server, and signals reach it directly; or set \
                    listen_pid = \"omit\" if the server takes that";
        diags.warn(
            &command,
            format!("{}.command: the shell stays between poolmaster and the server, which ignores its sockets then", r.path),
            help,
        );
    }
    let (stdout, stderr) = (r.output("log.stdout"), r.output("log.stderr"));
    if stdout == Output::Stderr && stderr == Output::Stdout {
        diags.error(
            &r.place("log.stdout"),
            format!("{}.log: stdout and stderr follow each other", r.path),
            "let one of them be inherit, null, capture or file:PATH",
        );
    }
    Launch {
        argv,
        working_dir: r.path_of("working_dir"),
        env: environment(r, (listeners, protocols.port.is_some()), diags),
        env_pass: env_pass(r, diags),
        env_files: env_files(r, diags),
        secrets: secrets(r, diags),
        argv0: Some(r.text("argv0")).filter(|name| !name.is_empty()),
        stdout,
        stderr,
        max_line: usize::try_from(r.size("log.max_line")).unwrap_or(usize::MAX),
        protocols,
        look,
    }
}

fn environment(r: &Reader<'_>, known: (&[String], bool), diags: &mut Diagnostics) -> Vec<(String, Option<String>)> {
    let mut out = Vec::new();
    for (name, node) in r.find("env").map(|env| env.entries()).unwrap_or_default() {
        let key = format!("env.{name}");
        variable(r, "env", name, node, diags);
        if let Some(Typed::Env(value)) = r.get_as(Some(node), "env.*") {
            if let Some(value) = &value {
                words_of(r, &key, value, &node.place, known, diags);
            }
            out.push((name.clone(), value));
        }
    }
    out
}

fn env_pass(r: &Reader<'_>, diags: &mut Diagnostics) -> Option<Vec<String>> {
    let clear = r.bool("env_clear");
    // What `config show` writes asks for nothing.
    let texts = |raw: &Raw| match raw {
        Raw::List(items) => items.iter().map(|item| item.raw.shown()).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let default = keys::of_pool("env_pass").and_then(default_node).map(|node| texts(&node.raw));
    if !clear && r.is_set("env_pass") && r.find("env_pass").map(|node| texts(&node.raw)) != default {
        diags.warn(
            &r.place("env_pass"),
            format!("{}.env_pass: has no effect, all variables of the master are passed on", r.path),
            "add env_clear = true, or remove it",
        );
    }
    clear.then(|| r.words("env_pass"))
}

fn env_files(r: &Reader<'_>, diags: &mut Diagnostics) -> Vec<EnvFile> {
    let words = r.words("env_files");
    let read = |(at, word): (usize, &String)| {
        let (path, optional) = word.strip_prefix('-').map_or((word.as_str(), false), |path| (path, true));
        if path.is_empty() {
            let what = format!("{}.env_files: {word:?} names no file", r.path);
            diags.error(&r.item_place("env_files", at), what, "write a path, or -PATH for a file that need not be there");
        }
        EnvFile { path: r.absolute(path), optional }
    };
    words.iter().enumerate().map(read).collect()
}

fn secrets(r: &Reader<'_>, diags: &mut Diagnostics) -> Vec<(String, PathBuf)> {
    let mut out = Vec::new();
    for (name, node) in r.find("secrets").map(|secrets| secrets.entries()).unwrap_or_default() {
        variable(r, "secrets", name, node, diags);
        if r.find(&format!("env.{name}")).is_some() {
            let what = format!("{}.secrets.{name}: the variable is in env as well", r.path);
            diags.error(&node.key, what, "remove one of the two");
        }
        if let Some(Typed::Secret(path)) = r.get_as(Some(node), "secrets.*") {
            out.push((name.clone(), path));
        }
    }
    out
}

/// Judges the name of a variable.
fn variable(r: &Reader<'_>, table: &str, name: &str, node: &Node, diags: &mut Diagnostics) {
    let key = format!("{table}.{name}");
    if name.is_empty() || name.contains(['=', '\0']) {
        let what = format!("{}.{key}: {name:?} cannot be the name of a variable", r.path);
        diags.error(&node.key, what, "a name is not empty and has no = in it");
    }
    if OURS.contains(&name) || name.starts_with("POOLMASTER_") {
        let help = "choose another name, or remove it";
        diags.warn(&node.key, format!("{}.{key}: poolmaster sets this variable itself, for each worker", r.path), help);
    }
}

/// `{fd}` needs exactly one listener, `{fd:NAME}` one of that name, `{port}` the protocol of that name.
fn words_of(r: &Reader<'_>, key: &str, text: &str, place: &Place, (listeners, port): (&[String], bool), diags: &mut Diagnostics) {
    for word in template::asked(text) {
        let what = |what: &str| format!("{}.{key}: {{{word}}}: {what}", r.path);
        match (word.strip_prefix("fd:"), listeners) {
            (Some(name), _) if !listeners.iter().any(|l| l == name) => {
                let help = known_names(name, listeners.iter().map(String::as_str), "listeners");
                diags.missing(Diagnostic::error(Some(place.clone()), what("the pool has no listener of that name")).help(help));
            }
            (None, []) if word == "fd" => {
                let help = "add listen = \":8000\", or write {{fd}} to keep the text";
                diags.missing(Diagnostic::error(Some(place.clone()), what("the pool has no listener")).help(help));
            }
            (None, [first, _, ..]) if word == "fd" => {
                let help = format!("write {{fd:{first}}} or another of: {}", listeners.join(", "));
                diags.error(place, what(&format!("the pool has {} listeners", listeners.len())), help);
            }
            (None, _) if word == "port" && !port => {
                let help = "add protocols = [\"port\"], or write {{port}} to keep the text";
                diags.missing(Diagnostic::error(Some(place.clone()), what("the workers have no ports of their own")).help(help));
            }
            _ => {}
        }
    }
}

/// `A` of `A=b server`, which only a shell understands.
fn is_variable(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|b| !b.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `sh -c "prep; server"`: the server is not the process that was started.
fn is_shell_wrapper(argv: &[String]) -> bool {
    let Some(script) = shell_script(argv) else { return false };
    let last = script.trim_end_matches([';', ' ', '\n']).rsplit([';', '\n', '&', '|']).next().unwrap_or_default();
    !last.trim_start().starts_with("exec ")
}

/// The script that a shell is given as an argument (`sh -c`).
fn shell_script(argv: &[String]) -> Option<&str> {
    let [program, options, script, ..] = argv else { return None };
    let shell = program.rsplit('/').next().is_some_and(|name| SHELLS.contains(&name));
    let command = options.starts_with('-') && !options.starts_with("--") && options.contains('c');
    (shell && command).then_some(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_wrappers_are_recognised() {
        for (argv, want) in [
            (&["sh", "-c", "prep; server"][..], true),
            (&["/bin/bash", "-ec", "server"], true),
            (&["sh", "-c", "exec server"], false),
            (&["sh", "-c", "prep && exec server --x"], false),
            (&["sh", "-c", "cd /x\nexec server;\n"], false),
            (&["sh", "script.sh"], false),
            (&["sh", "./x", "-c"], false),
            (&["server", "-c", "file"], false),
        ] {
            let argv: Vec<String> = argv.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(is_shell_wrapper(&argv), want, "{argv:?}");
        }
    }
}
