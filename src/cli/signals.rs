//! `signals`: which signal does what, ready to paste.

use super::table::{Side, Table};
use super::words::Tone;
use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::{Request, SignalsReply};

/// Show which signals the master acts on, ready to paste
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  poolmaster signals | grep web

Real-time signals to a pool are set by scale.up_signal, scale.down_signal and
scale.restart_signal. They queue: 500 sent are 500 counted.")]
pub struct Args {}

/// Asks and shows.
pub fn run(_args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let reply = session.question(Request::Signals)?;
    session.show(&reply, |s: &SignalsReply| render(s, session.colours()))
}

fn render(reply: &SignalsReply, colours: bool) -> String {
    let mut table =
        Table::new(0, &[("COMMAND", Side::Left), ("SIGNAL", Side::Left), ("POOL", Side::Left), ("EFFECT", Side::Left)]);
    for entry in &reply.signals {
        table.row(vec![
            (entry.kill.clone(), Tone::Plain),
            (entry.name.clone(), Tone::Plain),
            (entry.pool.clone().unwrap_or_default(), Tone::Plain),
            (entry.effect.clone(), Tone::Plain),
        ]);
    }
    table.render(colours)
}
