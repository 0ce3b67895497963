//! `health`: one question, answered by the exit code.

use super::table::{Side, Table};
use super::words::{Tone, phase};
use super::{Answer, Exit, Session};
use crate::client::ClientError;
use crate::protocol::{HealthParameters, HealthReply, Request};

/// Tell by exit code whether every pool is well
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster health              exit 0: all is well; 1: it is not
  poolmaster health web

A pool is well when it runs with at least min_ready ready workers, when all its jobs
are completed, or when an operator stopped it.")]
pub struct Args {
    /// Only this pool
    pub pool: Option<String>,
}

/// Asks and shows.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let reply = session.question(Request::Health(HealthParameters { pool: args.pool.clone() }))?;
    let health: HealthReply = session.read(&reply)?;
    let mut answer = session.show(&reply, |h: &HealthReply| render(h, session.colours()))?;
    if !health.ok {
        let sick: Vec<&str> = health.pools.iter().filter(|p| !p.ok).map(|p| p.name.as_str()).collect();
        answer.exit = Exit::Failed;
        answer.why = format!("not well: {}; `poolmaster status` tells more", sick.join(", "));
    }
    Ok(answer)
}

fn render(health: &HealthReply, colours: bool) -> String {
    let mut table = Table::new(
        0,
        &[("POOL", Side::Left), ("HEALTH", Side::Left), ("STATE", Side::Left), ("READY", Side::Right), ("NEEDS", Side::Right)],
    );
    for pool in &health.pools {
        let (word, tone) = phase(pool.phase);
        table.row(vec![
            (pool.name.clone(), Tone::Plain),
            if pool.ok { ("ok".to_owned(), Tone::Good) } else { ("not ok".to_owned(), Tone::Bad) },
            (word.to_owned(), if pool.ok { tone } else { Tone::Plain }),
            (format!("{}/{}", pool.ready, pool.target), Tone::Plain),
            (pool.min_ready.to_string(), Tone::Plain),
        ]);
        if let Some(why) = &pool.why {
            table.remark(why);
        }
    }
    table.render(colours)
}
