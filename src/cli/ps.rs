//! `ps`: which process is which worker.

use super::remarks::on_worker;
use super::table::{Side, Table};
use super::words::{Tone, size, state, time};
use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::{PsParameters, PsReply, Request};

/// List all processes: pid, pool and slot
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster ps            the master and all workers
  poolmaster ps web        one pool's workers")]
pub struct Args {
    /// Only this pool
    pub pool: Option<String>,
}

/// Asks and shows.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let reply = session.question(Request::Ps(PsParameters { pool: args.pool.clone() }))?;
    session.show(&reply, |ps: &PsReply| render(ps, session.colours()))
}

fn render(ps: &PsReply, colours: bool) -> String {
    let mut table = Table::new(
        0,
        &[
            ("PID", Side::Right),
            ("WORKER", Side::Left),
            ("GEN", Side::Right),
            ("CONF", Side::Right),
            ("STATE", Side::Left),
            ("AGE", Side::Right),
            ("RSS", Side::Right),
            ("REMARKS", Side::Left),
        ],
    );
    let plain = |text: String| (text, Tone::Plain);
    table.row(vec![
        plain(ps.pid.to_string()),
        plain("(master)".to_owned()),
        plain("-".to_owned()),
        plain("-".to_owned()),
        plain("-".to_owned()),
        plain(time(ps.uptime_ms)),
        plain(ps.rss_bytes.map(size).unwrap_or_default()),
        plain(ps.instance.clone()),
    ]);
    for entry in &ps.workers {
        let worker = &entry.worker;
        let (word, tone) = state(worker.state);
        table.row(vec![
            plain(worker.pid.map_or("-".to_owned(), |p| p.to_string())),
            plain(format!("{}:{}", entry.pool, worker.slot)),
            plain(worker.generation.to_string()),
            plain(worker.revision.to_string()),
            (word.to_owned(), tone),
            plain(time(worker.age_ms)),
            plain(worker.rss_bytes.map(size).unwrap_or_default()),
            plain(on_worker(worker)),
        ]);
    }
    table.render(colours)
}
