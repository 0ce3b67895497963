//! `plan`: what a reload would do, asked before anything is done.

use std::path::PathBuf;

use super::exit::Exit;
use super::words::{Tone, count, printable, time, wrapped};
use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::{
    ChangeClass, ListenerVerdict, PlanChange, PlanListener, PlanParameters, PlanReply, PlanValue, PoolPlan, PoolVerdict, Request,
};

/// Show what a reload would do, without doing any of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster plan                  before `poolmaster reload`
  poolmaster plan next.toml        another file in the place of the config
  poolmaster plan --restart        what HUP would do
  poolmaster plan; test $? -le 10 && poolmaster reload     unless a worker
                                   would be touched

Each key that differs is shown with what its change costs: none, live (applied
to running workers), rolling (workers are replaced), rebind (sockets are opened
anew), master (takes a restart of the master).")]
pub struct Args {
    /// Another file in the place of the master's config
    #[arg(value_name = "CONFIG")]
    pub file: Option<PathBuf>,

    /// As of `reload --restart`: workers of unchanged pools are replaced too
    #[arg(long)]
    pub restart: bool,

    /// Only this pool of the config (may be repeated)
    #[arg(long, value_name = "POOL", value_parser = crate::protocol::parse_pool)]
    pub pool: Vec<String>,
}

/// Asks and shows.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let config = args.file.as_ref().map(|file| session.absolute(file)).transpose()?;
    ask(PlanParameters { config, restart: args.restart, pools: args.pool.clone() }, session)
}

/// The same for `reload --dry-run`. The exit code tells how much would change.
pub(super) fn ask(parameters: PlanParameters, session: &Session<'_>) -> Result<Answer, ClientError> {
    let reply = session.question(Request::Plan(parameters))?;
    let exit = weight(&session.read(&reply)?);
    Ok(Answer { exit, ..session.show(&reply, |plan: &PlanReply| render(plan, session.colours()))? })
}

/// How much a plan would change.
fn weight(plan: &PlanReply) -> Exit {
    let touched = |pool: &PoolPlan| match pool.verdict {
        PoolVerdict::Same | PoolVerdict::Live => false,
        PoolVerdict::Rolling | PoolVerdict::Added | PoolVerdict::Removed => true,
    };
    if needs_master(plan) {
        Exit::PlanMaster
    } else if plan.pools.iter().any(touched) {
        Exit::PlanWorkers
    } else if is_idle(plan) {
        Exit::Done
    } else {
        Exit::PlanLive
    }
}

fn needs_master(plan: &PlanReply) -> bool {
    plan.master.iter().chain(plan.pools.iter().flat_map(|p| &p.changes)).any(|c| c.class == ChangeClass::Master)
}

fn is_idle(plan: &PlanReply) -> bool {
    plan.master.is_empty() && plan.pools.iter().all(|p| p.verdict == PoolVerdict::Same)
}

fn render(plan: &PlanReply, colours: bool) -> String {
    let source = plan.config.as_deref().map_or("the flags of its start".to_owned(), |path| format!("the config {path}"));
    let mut out = wrapped(&printable(&format!("{}: from config {} to {source}", plan.instance, plan.revision)), 0);
    for warning in &plan.warnings {
        out.push_str(&wrapped(&printable(&format!("warning: {warning}")), 2));
    }
    if !plan.master.is_empty() {
        out.push_str("master\n");
        plan.master.iter().for_each(|change| out.push_str(&changed(change, colours)));
    }
    for pool in &plan.pools {
        out.push_str(&of_pool(pool, colours));
    }
    out.push_str(&wrapped(&conclusion(plan), 0));
    out
}

fn of_pool(pool: &PoolPlan, colours: bool) -> String {
    let (word, tone) = match pool.verdict {
        PoolVerdict::Same => ("unchanged", Tone::Faint),
        PoolVerdict::Live => ("changed live, no worker is replaced", Tone::Good),
        PoolVerdict::Rolling => ("workers are replaced", Tone::Caution),
        PoolVerdict::Added => ("new", Tone::Good),
        PoolVerdict::Removed => ("removed", Tone::Bad),
    };
    let mut out = format!("{}: {}\n", printable(&pool.name), tone.paint(word, colours));
    pool.changes.iter().for_each(|change| out.push_str(&changed(change, colours)));
    let (listeners, remarks) = (pool.listeners.iter().map(listener), pool.remarks.iter().cloned());
    for line in listeners.chain(renamed(pool)).chain(steps(pool)).chain(remarks) {
        out.push_str(&wrapped(&printable(&line), 4));
    }
    out
}

fn changed(change: &PlanChange, colours: bool) -> String {
    let (word, tone) = class(change.class);
    let value = |value: &Option<PlanValue>| {
        value.as_ref().map_or("unset".to_owned(), |value| format!("{} ({})", value.value, value.origin))
    };
    let line = format!("{}, {word}: {} becomes {}", change.key, value(&change.old), value(&change.new));
    wrapped(&printable(&line), 4).replacen(&format!(", {word}:"), &format!(", {}:", tone.paint(word, colours)), 1)
}

/// What becomes of a listener.
fn listener(l: &PlanListener) -> String {
    let other = l.other.as_deref().unwrap_or("another one");
    let what = match l.verdict {
        ListenerVerdict::Opened => "is opened".to_owned(),
        ListenerVerdict::Moved => format!("is opened before {other} is closed"),
        ListenerVerdict::TakenOver => format!("is the socket that {other} has: it stays open, with who waits there"),
        ListenerVerdict::Changed => "gets other options, the socket stays open".to_owned(),
        ListenerVerdict::Closed => "is closed once nobody waits there".to_owned(),
        ListenerVerdict::GivenTo => format!("stays open, for {other}"),
    };
    format!("listener {}: {} {what}", l.name, l.address)
}

/// A pool under another name is another pool.
fn renamed(pool: &PoolPlan) -> Option<String> {
    let from = pool.renamed_from.as_deref()?;
    Some(format!(
        "looks like {from} under another name: its workers are new ones, and a number that `scale` gave {from} goes with it"
    ))
}

fn class(class: ChangeClass) -> (&'static str, Tone) {
    match class {
        ChangeClass::None => ("none", Tone::Faint),
        ChangeClass::Live => ("live", Tone::Good),
        ChangeClass::Rolling => ("rolling", Tone::Caution),
        ChangeClass::Rebind => ("rebind", Tone::Caution),
        ChangeClass::Master => ("master", Tone::Bad),
    }
}

/// What happens to its workers, in order.
fn steps(pool: &PoolPlan) -> Vec<String> {
    let mut steps = Vec::new();
    match pool.verdict {
        PoolVerdict::Same | PoolVerdict::Live => {}
        PoolVerdict::Removed => steps.push(format!("stops {}", count(pool.replaces, "worker"))),
        PoolVerdict::Added if pool.canaries > 0 => {
            steps.push(format!(
                "starts {} first; it must get good before the config is put in force",
                count(pool.canaries, "worker")
            ));
        }
        PoolVerdict::Added => {}
        PoolVerdict::Rolling if pool.replaces > 0 => {
            let first = match pool.canaries {
                0 => String::new(),
                n => format!(", {} first", if n == 1 { "1 canary".to_owned() } else { format!("{n} canaries") }),
            };
            let slots: Vec<String> = pool.order.iter().map(u32::to_string).collect();
            let slots = if slots.is_empty() { String::new() } else { format!("; slots in turn: {}", slots.join(", ")) };
            let workers = count(pool.replaces, "worker");
            let peak = count(pool.peak, "process").replace("processs", "processes");
            steps.push(format!("replaces {workers}{first}; at most {peak} at one time{slots}"));
        }
        PoolVerdict::Rolling => {}
    }
    if let Some(ms) = pool.expected_ms {
        steps.push(format!("about {}, by the starts seen so far", time(ms)));
    }
    steps
}

fn conclusion(plan: &PlanReply) -> String {
    let mut text = if is_idle(plan) {
        "Nothing would change.".to_owned()
    } else {
        match plan.expected_ms {
            Some(ms) => format!("`poolmaster reload` would do this in about {}.", time(ms)),
            None => "`poolmaster reload` would do this.".to_owned(),
        }
    };
    if needs_master(plan) {
        text.push_str(" What is marked \"master\" holds only after a restart of the master.");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(verdict: PoolVerdict) -> PoolPlan {
        PoolPlan {
            name: "web".to_owned(),
            verdict,
            changes: Vec::new(),
            listeners: Vec::new(),
            renamed_from: None,
            replaces: 2,
            canaries: 1,
            in_place: false,
            order: vec![1, 0],
            peak: 3,
            expected_ms: Some(2500),
            remarks: Vec::new(),
        }
    }

    #[test]
    fn a_plan_says_what_changes_where_it_was_set_and_what_it_costs() {
        let value = |value: &str, line: u32| Some(PlanValue { value: value.to_owned(), origin: format!("pools.toml:{line}:1") });
        let mut web = pool(PoolVerdict::Rolling);
        web.changes.push(PlanChange {
            key: "pool.web.umask".to_owned(),
            class: ChangeClass::Rolling,
            old: value("\"0022\"", 3),
            new: value("\"0027\"", 4),
        });
        let plan = PlanReply {
            instance: "shop".to_owned(),
            revision: 3,
            config: Some("/srv/pools.toml".to_owned()),
            class: ChangeClass::Rolling,
            master: vec![PlanChange {
                key: "master.name".to_owned(),
                class: ChangeClass::Master,
                old: None,
                new: value("\"x\"", 1),
            }],
            pools: vec![web, PoolPlan { expected_ms: None, ..pool(PoolVerdict::Same) }],
            warnings: vec!["odd".to_owned()],
            expected_ms: Some(2500),
        };
        assert_eq!(
            render(&plan, false),
            "shop: from config 3 to the config /srv/pools.toml\n  warning: odd\nmaster\n    \
             master.name, master: unset becomes \"x\" (pools.toml:1:1)\nweb: workers are replaced\n    \
             pool.web.umask, rolling: \"0022\" (pools.toml:3:1) becomes \"0027\"\n    (pools.toml:4:1)\n    \
             replaces 2 workers, 1 canary first; at most 3 processes at one time; slots\n    in turn: 1, 0\n    \
             about 2.5s, by the starts seen so far\nweb: unchanged\n\
             `poolmaster reload` would do this in about 2.5s. What is marked \"master\" holds\nonly after a restart of the master.\n"
        );
        let same = PlanReply { master: Vec::new(), pools: vec![pool(PoolVerdict::Same)], ..plan };
        assert!(render(&same, false).ends_with("Nothing would change.\n"));
        let listener = |name: &str, verdict, other: Option<&str>| PlanListener {
            name: name.to_owned(),
            address: "tcp://0.0.0.0:81".to_owned(),
            verdict,
            other: other.map(str::to_owned),
        };
        let mut web = pool(PoolVerdict::Added);
        web.renamed_from = Some("www".to_owned());
        web.listeners = vec![
            listener("a", ListenerVerdict::Opened, None),
            listener("b", ListenerVerdict::Moved, Some("unix:/s")),
            listener("c", ListenerVerdict::TakenOver, Some("www.c")),
            listener("d", ListenerVerdict::Changed, None),
            listener("e", ListenerVerdict::Closed, None),
            listener("f", ListenerVerdict::GivenTo, Some("www.f")),
        ];
        assert_eq!(
            of_pool(&web, false),
            "web: new\n    listener a: tcp://0.0.0.0:81 is opened\n    \
             listener b: tcp://0.0.0.0:81 is opened before unix:/s is closed\n    \
             listener c: tcp://0.0.0.0:81 is the socket that www.c has: it stays open,\n    with who waits there\n    \
             listener d: tcp://0.0.0.0:81 gets other options, the socket stays open\n    \
             listener e: tcp://0.0.0.0:81 is closed once nobody waits there\n    \
             listener f: tcp://0.0.0.0:81 stays open, for www.f\n    \
             looks like www under another name: its workers are new ones, and a number\n    \
             that `scale` gave www goes with it\n    \
             starts 1 worker first; it must get good before the config is put in force\n    \
             about 2.5s, by the starts seen so far\n"
        );
    }
}
