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
    let (reply, seen) = session.question_with_peer(Request::Signals)?;
    session.show(&reply, |s: &SignalsReply| render(s, seen, session.colours()))
}

/// `seen`: the master's pid from here, which may be another one than it has for itself.
fn render(reply: &SignalsReply, seen: Option<i32>, colours: bool) -> String {
    let mut table =
        Table::new(0, &[("COMMAND", Side::Left), ("SIGNAL", Side::Left), ("POOL", Side::Left), ("EFFECT", Side::Left)]);
    for entry in &reply.signals {
        table.row(vec![
            (command(&entry.kill, reply.pid, seen), Tone::Plain),
            (entry.name.clone(), Tone::Plain),
            (entry.pool.clone().unwrap_or_default(), Tone::Plain),
            (entry.effect.clone(), Tone::Plain),
        ]);
    }
    let mut out = table.render(colours);
    if seen.is_none() {
        let text = "The master lives in a pid namespace that is not seen from here: no signal can be sent to it from this one. There its \
                    pid is";
        out.push_str(&super::words::wrapped(&format!("{text} {}.", reply.pid), 0));
    }
    out
}

fn command(kill: &str, own: i32, seen: Option<i32>) -> String {
    let bare = kill.strip_suffix(&own.to_string()).unwrap_or(kill);
    match seen {
        Some(pid) => format!("{bare}{pid}"),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_the_pid_that_is_right_here() {
        assert_eq!(command("kill -HUP 1", 1, Some(1)), "kill -HUP 1");
        assert_eq!(command("kill -HUP 1", 1, Some(4711)), "kill -HUP 4711");
        assert_eq!(command("kill -HUP 1", 1, None), "-");
    }
}
