//! `listeners`: the sockets that the master holds, and who waits in them.

use super::table::{Side, Table};
use super::words::Tone;
use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::{ListenersParameters, ListenersReply, Request};

/// Show the listening sockets and their queues
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster listeners           QUEUE is: connections that wait / the most that can;
                                 - for UDP, which has none
  poolmaster listeners web

INODE is the socket's number in `ss -e` and in /proc/PID/fd.")]
pub struct Args {
    /// Only this pool
    pub pool: Option<String>,
}

/// Asks and shows.
pub fn run(args: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let reply = session.question(Request::Listeners(ListenersParameters { pool: args.pool.clone() }))?;
    session.show(&reply, |l: &ListenersReply| render(l, session.colours()))
}

fn render(reply: &ListenersReply, colours: bool) -> String {
    if reply.listeners.is_empty() {
        return "no listeners\n".to_owned();
    }
    let mut table = Table::new(
        0,
        &[
            ("POOL", Side::Left),
            ("NAME", Side::Left),
            ("QUEUE", Side::Right),
            ("SHARING", Side::Left),
            ("FD", Side::Right),
            ("INODE", Side::Right),
            // Last: it may be long.
            ("ADDRESS", Side::Left),
        ],
    );
    let plain = |text: String| (text, Tone::Plain);
    for l in &reply.listeners {
        let limit = l.queue_limit.unwrap_or(l.backlog);
        let waiting = l.queue.map_or("?".to_owned(), |n| n.to_string());
        let tone = match l.queue {
            Some(n) if n >= limit => Tone::Bad,
            Some(n) if n > limit / 2 => Tone::Caution,
            _ => Tone::Plain,
        };
        let queue = if l.backlog == 0 { "-".to_owned() } else { format!("{waiting}/{limit}") };
        table.row(vec![
            plain(l.pool.clone()),
            plain(l.name.clone()),
            (queue, tone),
            plain(if l.inherited.is_some() { format!("{}, inherited", l.sharing) } else { l.sharing.clone() }),
            plain(l.fd.to_string()),
            plain(l.inode.to_string()),
            plain(l.address.clone()),
        ]);
        if limit < l.backlog {
            table.remark(&format!("backlog {} is cut to {limit} by net.core.somaxconn", l.backlog));
        }
        if let Some(why) = &l.why {
            table.remark(why);
        }
    }
    table.render(colours)
}
