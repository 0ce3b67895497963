//! `history`: the last configs, and what became of them.

use std::time::{Duration, SystemTime};

use super::words::{Tone, printable, time, wrapped};
use super::{Answer, Session};
use crate::client::ClientError;
use crate::protocol::{Ended, HistoryEntry, HistoryReply, Request};

/// Show the last reloads: when, by whom, what changed, how it ended
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster history             the last 20 configs, the newest last
  poolmaster history --json | jq '.configs[-1].changes'

A reload whose config was refused has no number. Times are UTC.")]
pub struct Args {}

/// Asks and shows.
pub fn run(_: &Args, session: &Session<'_>) -> Result<Answer, ClientError> {
    let reply = session.question(Request::History)?;
    session.show(&reply, |history: &HistoryReply| render(history, session.colours()))
}

fn render(history: &HistoryReply, colours: bool) -> String {
    history.configs.iter().map(|entry| block(entry, history.revision, colours)).collect()
}

fn block(entry: &HistoryEntry, in_force: u32, colours: bool) -> String {
    let (how, tone) = match entry.ended {
        None => ("under way", Tone::Caution),
        Some(Ended::InForce) if entry.revision == Some(in_force) => ("in force", Tone::Good),
        Some(Ended::InForce) => ("was in force", Tone::Plain),
        Some(Ended::Refused) => ("refused", Tone::Bad),
        Some(Ended::Undone) => ("undone", Tone::Bad),
        Some(Ended::RolledBack) => ("failed and rolled back", Tone::Bad),
        Some(Ended::Halted) => ("stopped halfway", Tone::Bad),
        Some(Ended::Superseded) => ("superseded", Tone::Caution),
    };
    let what = entry.revision.map_or("reload".to_owned(), |revision| format!("config {revision}"));
    let at = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(entry.at));
    let took = entry.took_ms.filter(|ms| *ms > 0).map_or(String::new(), |ms| format!(" after {}", time(ms)));
    let head = format!("{at} {what}: {how}{took}");
    let mut out = wrapped(&head, 0).replacen(how, &tone.paint(how, colours), 1);
    for by in &entry.by {
        out.push_str(&wrapped(&printable(&format!("by {by}")), 4));
    }
    for change in &entry.changes {
        out.push_str(&wrapped(&printable(change), 4));
    }
    // Of one that came in force, all is said.
    if entry.ended != Some(Ended::InForce) && !entry.words.is_empty() {
        out.push_str(&wrapped(&printable(&entry.words), 4));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(revision: Option<u32>, ended: Option<Ended>) -> HistoryEntry {
        HistoryEntry {
            revision,
            at: 1_796_000_000,
            by: vec!["reload, asked by pid 7 (uid 0)".to_owned()],
            changes: vec!["pool.web.workers: 2 -> 4".to_owned()],
            ended,
            took_ms: ended.map(|_| 1234),
            words: "why\u{1b}[2J".to_owned(),
        }
    }

    #[test]
    fn each_config_is_a_block_whose_first_line_says_how_it_ended() {
        let configs = vec![
            entry(Some(1), Some(Ended::InForce)),
            entry(None, Some(Ended::Refused)),
            entry(Some(2), Some(Ended::InForce)),
            entry(Some(3), None),
        ];
        let text = render(&HistoryReply { revision: 2, configs }, false);
        let heads: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(
            heads,
            [
                "2026-11-30T00:53:20Z config 1: was in force after 1.2s",
                "2026-11-30T00:53:20Z reload: refused after 1.2s",
                "2026-11-30T00:53:20Z config 2: in force after 1.2s",
                "2026-11-30T00:53:20Z config 3: under way",
            ]
        );
        assert_eq!(text.matches("    pool.web.workers: 2 -> 4\n").count(), 4);
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
