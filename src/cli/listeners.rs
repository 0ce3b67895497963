//! `listeners`: the sockets that the master holds, and who waits in them.

use super::table::{Side, Table};
use super::words::Tone;
use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::{ListenerStatus, ListenersParameters, ListenersReply, Request};

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

/// Columns of a terminal, and those of the numbers and of the gaps.
const WIDTH: usize = 80;
const NUMBERS: usize = 9 + 3 + 10 + 6 * 2;

fn render(reply: &ListenersReply, colours: bool) -> String {
    if reply.listeners.is_empty() {
        return "no listeners\n".to_owned();
    }
    let sharing = |l: &ListenerStatus| match l.inherited {
        Some(_) => format!("{}, inherited", l.sharing),
        None => l.sharing.clone(),
    };
    // Where a line would be broken, the address has one of its own.
    let longest = |of: &dyn Fn(&ListenerStatus) -> usize| reply.listeners.iter().map(of).max().unwrap_or(0);
    let others = longest(&|l| l.pool.len()).max(4) + longest(&|l| l.name.len()).max(4) + longest(&|l| sharing(l).len()).max(7);
    let beside = others + NUMBERS + longest(&|l| l.address.len()) <= WIDTH;
    let mut columns = vec![
        ("POOL", Side::Left),
        ("NAME", Side::Left),
        ("QUEUE", Side::Right),
        ("SHARING", Side::Left),
        ("FD", Side::Right),
        ("INODE", Side::Right),
    ];
    if beside {
        columns.push(("ADDRESS", Side::Left));
    }
    let mut table = Table::new(0, &columns);
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
        let mut row = vec![
            plain(l.pool.clone()),
            plain(l.name.clone()),
            (queue, tone),
            plain(sharing(l)),
            plain(l.fd.to_string()),
            plain(l.inode.to_string()),
        ];
        if beside {
            row.push(plain(l.address.clone()));
        }
        table.row(row);
        if !beside {
            table.remark(&l.address);
        }
        if limit < l.backlog {
            table.remark(&match crate::os::listener::somaxconn() {
                Some(most) if most == limit => format!("backlog {} is cut to {limit} by net.core.somaxconn", l.backlog),
                _ => format!("backlog {} was cut to {limit} by a worker's own listen(2); a reload sets it again", l.backlog),
            });
        }
        if let Some(why) = &l.why {
            table.remark(why);
        }
    }
    table.render(colours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pool: &str, address: &str) -> String {
        let listener = serde_json::json!({
            "pool": pool, "name": "main", "address": address, "sharing": "shared", "fd": 29, "inode": 17_333_054_u64, "backlog": 1024,
            "queue": 0, "queue_limit": 1024,
        });
        let reply = serde_json::json!({ "listeners": [listener] });
        render(&serde_json::from_value(reply).expect("a reply"), false)
    }

    #[test]
    fn a_line_fits_a_terminal() {
        let short = shown("web", "tcp://127.0.0.1:8000");
        assert_eq!(short.lines().count(), 2);
        let long = shown("abcdefghijklmnopqrstuvwxyz123456", "tcp://127.0.0.1:8000");
        assert_eq!(long.lines().count(), 3);
        assert!(long.ends_with("\n    tcp://127.0.0.1:8000\n"), "{long}");
        for text in [short, long] {
            assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        }
    }
}
