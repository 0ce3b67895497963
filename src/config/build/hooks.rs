//! Owns the hooks of the master and of a pool: which commands run when, and for how long.

use super::super::diagnostics::Diagnostics;
use super::super::spec::{Hooks, MasterHooks};
use super::super::template;
use super::reader::Reader;

pub(super) fn of_master(r: &Reader<'_>, diags: &mut Diagnostics) -> MasterHooks {
    let mut command = |key: &str| {
        let words = r.words(&format!("hooks.{key}"));
        for word in words.iter().flat_map(|word| template::asked(word)) {
            let what = format!("{}.hooks.{key}: {{{word}}} has no meaning for the master", r.path);
            diags.error(&r.place(&format!("hooks.{key}")), what, format!("write {{{{{word}}}}} to keep the text"));
        }
        words
    };
    MasterHooks {
        starting: command("starting"),
        ready: command("ready"),
        reload: command("reload"),
        upgrade: command("upgrade"),
        exit: command("exit"),
        timeout: r.duration("hooks.timeout"),
    }
}

pub(super) fn of_pool(r: &Reader<'_>, diags: &mut Diagnostics) -> Hooks {
    let mut command = |key: &str, of_worker: bool| {
        let words = r.words(&format!("hooks.{key}"));
        for word in words.iter().flat_map(|word| template::asked(word)) {
            let fits = match word {
                "slot" | "generation" | "port" => of_worker,
                word => word != "fd" && !word.starts_with("fd:"),
            };
            if !fits {
                let why = if word.starts_with("fd") { "a hook is given no sockets" } else { "it is about no single worker" };
                let what = format!("{}.hooks.{key}: {{{word}}}: {why}", r.path);
                diags.error(&r.place(&format!("hooks.{key}")), what, format!("write {{{{{word}}}}} to keep the text"));
            }
        }
        words
    };
    Hooks {
        pre_start: command("pre_start", false),
        pre_spawn: command("pre_spawn", true),
        post_spawn: command("post_spawn", true),
        ready: command("ready", true),
        pre_stop: command("pre_stop", true),
        worker_exit: command("worker_exit", true),
        scaled: command("scaled", false),
        timeout: r.duration("hooks.timeout"),
    }
}
