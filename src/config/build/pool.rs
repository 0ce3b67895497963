//! Owns one pool's spec: its numbers in their bounds, its waits, its readiness.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::Facts;
use super::super::diagnostics::{Diagnostic, Diagnostics};
use super::super::node::Place;
use super::super::spec::{Pool, ScaleSignals};
use super::super::value::scalar::duration_text;
use super::super::value::start::{Workers, stop_sequence};
use super::reader::Reader;
use super::share::Shared;
use super::{hooks, identity, known_names, launch, listen, protocols, times};
use crate::supervisor::{
    Backoff, Budget, KillMode, OnBootFailure, OnRollFailure, PoolId, PoolSpec, ReadyKind, Remove, Restart, RestartPolicy,
    Rollout, Share, StopStep, TimeoutFrom,
};

/// A pool, and the places that checks across pools point to.
pub(super) struct Built {
    pub(super) pool: Pool,
    pub(super) addresses: Vec<Place>,
    /// Listeners that are other pools'; not among its own until all pools are known.
    pub(super) shares: Vec<Shared>,
    /// The names of all its listeners, those included that are wrong.
    pub(super) names: Vec<String>,
}

pub(super) fn build(name: &str, ids: &BTreeMap<&str, PoolId>, r: &Reader<'_>, facts: &Facts, diags: &mut Diagnostics) -> Built {
    let mut listeners = listen::build(r, diags);
    let protocols = protocols::build(r, &mut listeners, diags);
    let (ready, look) = protocols::ready(r, !listeners.names.is_empty(), &protocols, diags);
    let launch = launch::build(r, name, ids, &listeners.names, (protocols, look), diags);
    let (workers, min, max) = workers(r, facts, diags);
    let stop = stop(r);
    let timeout = Some(r.duration("timeout")).filter(|d| !d.is_zero());
    if timeout.is_some() && !launch.protocols.systemd {
        let what = format!("{}.timeout: without protocols = [\"systemd\"] a worker cannot send a heartbeat", r.path);
        diags.lacks(&r.place("timeout"), what, "add the protocol, or remove the timeout");
    }
    let spec = PoolSpec {
        id: ids.get(name).copied().unwrap_or(PoolId(0)),
        name: name.to_owned(),
        workers,
        min,
        max,
        remove: match r.text("scale.remove").as_str() {
            "newest" => Remove::Newest,
            "highest-slot" => Remove::HighestSlot,
            // What belongs to slots stays without gaps: ports, and sockets.
            _ if protocols.port.is_some() || (!r.is_set("scale.remove") && listeners.list.iter().any(|l| l.reuseport)) => {
                Remove::HighestSlot
            }
            _ => Remove::Oldest,
        },
        required: r.bool("required"),
        boot: if r.text("boot") == "retry" { OnBootFailure::Retry } else { OnBootFailure::Fail },
        after: after(r, name, ids, diags),
        autostart: r.bool("autostart"),
        ready,
        start_timeout: r.duration("start_timeout"),
        settle: r.duration("settle"),
        boot_error_codes: r.codes("boot_error_codes"),
        max_starting: r.at_once("max_starting").or((ready != ReadyKind::Exec).then(|| facts.cpus.max(1).saturating_mul(2))),
        spawn_interval: r.duration("spawn_interval"),
        timeout,
        timeout_from: if r.text("timeout_from") == "ready" { TimeoutFrom::Ready } else { TimeoutFrom::FirstBeat },
        abort_grace: r.duration("abort_grace"),
        // Once all pools and their listeners are known.
        release: None,
        farewell: None,
        prepares: false,
        prepare: None,
        pre_start: false,
        quick_signal: r.signal("quick_signal").or(stop.first().map(|step| step.signal)).unwrap_or(15),
        stop,
        quick_timeout: r.duration("quick_timeout"),
        kill_mode: match r.text("kill_mode").as_str() {
            "process" => KillMode::Process,
            "group" => KillMode::Group,
            _ => KillMode::Mixed,
        },
        reopen_signal: r.signal("reopen_signal"),
        min_ready: min_ready(r, workers, max, diags),
        restart: restart(r, diags),
        rollout: rollout(r, protocols.port.is_some(), diags),
    };
    times::check(r, &spec, diags);
    let signals = ScaleSignals {
        up: r.signal("scale.up_signal"),
        down: r.signal("scale.down_signal"),
        restart: r.signal("scale.restart_signal"),
    };
    Built {
        pool: Pool {
            spec,
            launch,
            identity: identity::build(r, diags),
            hooks: hooks::of_pool(r, diags),
            listeners: listeners.list,
            signals,
        },
        addresses: listeners.places,
        shares: listeners.shares,
        names: listeners.names,
    }
}

fn workers(r: &Reader<'_>, facts: &Facts, diags: &mut Diagnostics) -> (u32, u32, Option<u32>) {
    let (min, max) = (r.count("scale.min").unwrap_or(1), r.count("scale.max"));
    if let Some(max) = max.filter(|max| min > *max) {
        diags.error(
            &r.place("scale.min"),
            format!("{}.scale: min = {min} is above max = {max}", r.path),
            "exchange them, or raise max",
        );
        return (min, min, None);
    }
    if min == 0 && r.is_set("scale.min") {
        let help = "it starts with `workers` and can be scaled to 0; use min = 1 when that is not meant";
        diags.warn(
            &r.place("scale.min"),
            format!("{}.scale.min: connections do not start a pool yet (on demand is not in this version)", r.path),
            help,
        );
    }
    let wish = r.workers("workers");
    let count = wish.on(facts.cpus.max(1));
    let clamped = count.max(min).min(max.unwrap_or(u32::MAX));
    if count != clamped && r.is_set("workers") {
        let bound = if count < min { format!("scale.min = {min}") } else { format!("scale.max = {clamped}") };
        let side = if count < min { "below" } else { "above" };
        match wish {
            Workers::Count(_) => {
                let what = format!("{}.workers: {count} is {side} {bound}", r.path);
                diags.error(&r.place("workers"), what, "change one of the two");
            }
            // The same config has to work on hosts of all sizes.
            Workers::Auto(_) => {
                let what = format!("{}.workers: auto means {count} here, {side} {bound}: {clamped} it is", r.path);
                diags.warn(&r.place("workers"), what, "change one of the two");
            }
        }
    }
    (clamped, min, max)
}

fn min_ready(r: &Reader<'_>, workers: u32, max: Option<u32>, diags: &mut Diagnostics) -> u32 {
    let wish = r.count("min_ready").unwrap_or(1);
    if !r.is_set("min_ready") {
        return wish;
    }
    if let Some(max) = max.filter(|max| wish > *max) {
        diags.error(
            &r.place("min_ready"),
            format!("{}.min_ready: {wish} is above scale.max = {max}: never reached", r.path),
            "lower it",
        );
    } else if wish > workers {
        let what =
            format!("{}.min_ready: {wish} is above workers = {workers}: the pool is degraded until it is scaled up", r.path);
        diags.warn(&r.place("min_ready"), what, "lower it, or raise workers");
    }
    wish
}

fn after(r: &Reader<'_>, name: &str, ids: &BTreeMap<&str, PoolId>, diags: &mut Diagnostics) -> Vec<PoolId> {
    let mut out = Vec::new();
    for (at, other) in r.words("after").iter().enumerate() {
        let place = r.item_place("after", at);
        match ids.get(other.as_str()) {
            Some(_) if other == name => {
                diags.error(&place, format!("{}.after: a pool cannot start after itself", r.path), "remove it from the list");
            }
            Some(id) if out.contains(id) => {}
            Some(id) => out.push(*id),
            None => {
                let others = ids.keys().copied().filter(|id| *id != name);
                let what = format!("{}.after: there is no pool {other:?}", r.path);
                diags.missing(Diagnostic::error(Some(place), what).help(known_names(other, others, "other pools")));
            }
        }
    }
    out
}

/// The steps of a graceful stop. Never empty.
fn stop(r: &Reader<'_>) -> Vec<StopStep> {
    let graceful = r.duration("graceful_timeout");
    let words = r.words("stop_sequence");
    let refs: Vec<&str> = words.iter().map(String::as_str).collect();
    match stop_sequence(&refs, graceful) {
        Ok(steps) if !steps.is_empty() => steps,
        Ok(_) | Err(_) => vec![StopStep { signal: r.signal("stop_signal").unwrap_or(15), wait: graceful }],
    }
}

fn restart(r: &Reader<'_>, diags: &mut Diagnostics) -> Restart {
    let backoff = Backoff {
        first: r.duration("restart.backoff.first"),
        base: r.duration("restart.backoff.base"),
        factor: r.float("restart.backoff.factor").max(1.0),
        max: r.duration("restart.backoff.max"),
        jitter: r.float("restart.backoff.jitter").clamp(0.0, 1.0),
        reset_after: r.duration("restart.backoff.reset_after"),
    };
    let mut bounded = |key: &str, wait: Duration| {
        if wait > backoff.max {
            let (place, max) = (r.place(&format!("restart.backoff.{key}")), duration_text(backoff.max));
            let place = if place == Place::BUILT_IN { r.place("restart.backoff.max") } else { place };
            let what = format!("{}.restart.backoff: {key} = {} is above max = {max}", r.path, duration_text(wait));
            diags.error(&place, what, "waits grow from `base` up to `max`");
        }
    };
    bounded("first", backoff.first);
    bounded("base", backoff.base);
    Restart {
        policy: match r.text("restart.policy").as_str() {
            "on-failure" => RestartPolicy::OnFailure,
            "never" => RestartPolicy::Never,
            _ => RestartPolicy::Always,
        },
        success_codes: r.codes("restart.success_codes"),
        backoff,
        budget: Budget { failures: r.count("restart.budget.failures").unwrap_or(5), within: r.duration("restart.budget.within") },
        give_up_after: r.count("restart.give_up_after").unwrap_or(0),
    }
}

fn rollout(r: &Reader<'_>, own_ports: bool, diags: &mut Diagnostics) -> Rollout {
    let none = |share: Share| matches!(share, Share::Count(0) | Share::Percent(0));
    let rollout = Rollout {
        max_surge: r.share("rollout.max_surge"),
        max_unavailable: r.share("rollout.max_unavailable"),
        canary: r.count("rollout.canary").unwrap_or(1),
        failures: r.count("rollout.failures").unwrap_or(3),
        on_failure: if r.text("rollout.on_failure") == "halt" { OnRollFailure::Halt } else { OnRollFailure::Rollback },
        bake: r.duration("rollout.bake"),
        max_old_generations: r.count("rollout.max_old_generations").unwrap_or(2),
    };
    let sound = r.sound("rollout.max_surge") && r.sound("rollout.max_unavailable");
    if sound && none(rollout.max_surge) && none(rollout.max_unavailable) {
        let what = format!("{}.rollout: with max_surge = 0 and max_unavailable = 0 no worker could ever be replaced", r.path);
        diags.error(&r.place("rollout.max_surge"), what, "one of the two has to be at least 1, or a percentage above 0");
    }
    if own_ports {
        // Two workers of one slot cannot have its port at once: the old one goes first.
        let unavailable = if none(rollout.max_unavailable) { Share::Count(1) } else { rollout.max_unavailable };
        return Rollout { max_surge: Share::Count(0), max_unavailable: unavailable, ..rollout };
    }
    rollout
}
