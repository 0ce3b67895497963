//! `status`: the pools, why they are so, and what comes next.

use super::remarks::{on_pool, on_worker, pool_state};
use super::table::{Side, Table};
use super::words::{Tone, printable, size, state, time, wrapped};
use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::{MasterPhase, PoolProgress, PoolStatus, Request, StatusParameters, StatusReply, WorkerStatus};

/// Show pools, and with -v their workers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster status            all pools
  poolmaster status web -v     one pool, with its workers
  poolmaster status --json | jq '.pools[] | {name, ready, target}'

A pool that is not as it should be says why, and when the next try comes.")]
pub struct Args {
    /// Only this pool
    pub pool: Option<String>,

    /// List each pool's workers too
    #[arg(short, long)]
    pub verbose: bool,
}

/// Asks and shows.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let workers = args.verbose || session.json();
    let reply = session.question(Request::Status(StatusParameters { pool: args.pool.clone(), workers }))?;
    session.show(&reply, |status: &StatusReply| render(status, args.verbose, session.colours()))
}

fn render(status: &StatusReply, verbose: bool, colours: bool) -> String {
    let (phase, tone) = match status.phase {
        MasterPhase::Running => ("running", Tone::Good),
        MasterPhase::Stopping => ("stopping", Tone::Caution),
    };
    let config = match &status.config {
        Some(path) => format!("config {path} (revision {})", status.revision),
        None => "no config file".to_owned(),
    };
    let up = match status.phase {
        MasterPhase::Running => format!("for {}", time(status.uptime_ms)),
        MasterPhase::Stopping => format!("after {}", time(status.uptime_ms)),
    };
    let line = format!("{}: {phase} {up}, pid {}, {config}", status.instance, status.pid);
    let head = wrapped(&printable(&line), 0).replacen(phase, &tone.paint(phase, colours), 1);
    let head = format!("{head}{}", reload(status));
    if status.pools.is_empty() {
        return format!("{head}no pools\n");
    }
    format!("{head}\n{}", pools(status, verbose, colours))
}

/// A reload under way, and the last one if it failed.
fn reload(status: &StatusReply) -> String {
    let mut out = String::new();
    if let Some(reload) = &status.reload {
        let of = |p: &PoolProgress| format!("{} {} ({}/{})", p.name, p.stage.word(), p.replaced, p.total);
        let pools: Vec<String> = reload.pools.iter().map(of).collect();
        let line = format!("reload to config {}: {}; {}", reload.revision, reload.stage.word(), pools.join(", "));
        out.push_str(&wrapped(&printable(line.trim_end_matches("; ")), 0));
    }
    if let Some(failure) = &status.reload_failed {
        // What a canary said stands below, on lines of its own.
        let (why, said) = failure.reason.split_once('\n').unwrap_or((&failure.reason, ""));
        out.push_str(&wrapped(&printable(&format!("last reload failed {} ago: {why}", time(failure.ago_ms))), 0));
        out.extend(said.lines().map(|line| format!("    {}\n", printable(line.trim_end()))));
    }
    out
}

fn pools(status: &StatusReply, verbose: bool, colours: bool) -> String {
    let pools = &status.pools;
    let mut table = Table::new(
        0,
        &[
            ("POOL", Side::Left),
            ("STATE", Side::Left),
            ("READY", Side::Right),
            ("STARTING", Side::Right),
            ("STOPPING", Side::Right),
            ("RESTARTS", Side::Right),
            ("LISTENERS", Side::Left),
        ],
    );
    let widest = |text: &dyn Fn(&PoolStatus) -> usize| pools.iter().map(text).max().unwrap_or(0);
    let room = 80_usize.saturating_sub(widest(&|p| p.name.len().max(4)) + widest(&|p| pool_state(p).0.len().max(5)) + 41);
    for pool in pools {
        let (word, tone) = pool_state(pool);
        let figure = |n: u32| (n.to_string(), if n == 0 { Tone::Faint } else { Tone::Caution });
        let listeners = match pool.listeners.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            [first, more @ ..] => format!("{first} (+{})", more.len()),
        };
        // Too wide for a terminal: on lines of their own.
        let below = listeners.chars().count() > room;
        table.row(vec![
            (pool.name.clone(), Tone::Plain),
            (word.to_owned(), tone),
            (format!("{}/{}", pool.ready, pool.target), Tone::Plain),
            figure(pool.starting),
            figure(pool.stopping),
            (pool.restarts.to_string(), if pool.restarts == 0 { Tone::Faint } else { Tone::Plain }),
            (if below { String::new() } else { listeners }, Tone::Plain),
        ]);
        if below {
            table.remark(&format!("listens on {}", pool.listeners.join(", ")));
        }
        for remark in on_pool(pool, status.phase) {
            table.remark(&remark);
        }
        if verbose && !pool.workers.is_empty() {
            table.below(&format!("{}\n", workers(&pool.workers, colours)));
        }
    }
    table.render(colours)
}

fn workers(workers: &[WorkerStatus], colours: bool) -> String {
    let mut table = Table::new(
        2,
        &[
            ("SLOT", Side::Right),
            ("GEN", Side::Right),
            ("CONF", Side::Right),
            ("PID", Side::Right),
            ("STATE", Side::Left),
            ("FOR", Side::Right),
            ("AGE", Side::Right),
            ("RSS", Side::Right),
            ("REMARKS", Side::Left),
        ],
    );
    for worker in workers {
        let (word, tone) = state(worker.state);
        table.row(vec![
            (worker.slot.to_string(), Tone::Plain),
            (worker.generation.to_string(), Tone::Plain),
            (worker.revision.to_string(), Tone::Plain),
            (worker.pid.map_or("-".to_owned(), |p| p.to_string()), Tone::Plain),
            (word.to_owned(), tone),
            (time(worker.since_ms), Tone::Plain),
            (time(worker.age_ms), Tone::Plain),
            (worker.rss_bytes.map(size).unwrap_or_default(), Tone::Plain),
            (on_worker(worker), Tone::Plain),
        ]);
    }
    table.render(colours)
}
