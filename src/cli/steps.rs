//! Owns what is shown of an order that replaces workers while it goes on: on a terminal one live line for each pool, else a line for each step.

use std::collections::BTreeMap;

use super::words::{printable, time};
use crate::protocol::{PoolProgress, ProgressReply, ReloadStage};

/// Columns that a line has: one that is wrapped cannot be drawn over.
const WIDTH: usize = 79;
/// Lines that are drawn over, less than any terminal has.
const MOST: usize = 20;

/// What is shown so far.
#[derive(Debug)]
pub(super) struct Steps {
    terminal: bool,
    /// Lines that are drawn over next.
    drawn: usize,
    /// What was said last of each pool.
    told: BTreeMap<String, String>,
}

impl Steps {
    pub(super) fn new(terminal: bool) -> Steps {
        Steps { terminal, drawn: 0, told: BTreeMap::new() }
    }

    /// What to write for this step.
    pub(super) fn show(&mut self, step: &ProgressReply) -> String {
        if self.terminal { self.draw(step) } else { self.list(step) }
    }

    fn draw(&mut self, step: &ProgressReply) -> String {
        // Those that are through go first, where not all have room.
        let mut pools: Vec<&PoolProgress> = step.pools.iter().collect();
        let more = pools.len().saturating_sub(MOST);
        if more > 0 {
            pools.sort_by_key(|pool| matches!(pool.stage, ReloadStage::Done | ReloadStage::Waiting));
            pools.truncate(MOST);
        }
        let mut lines: Vec<String> = pools.iter().map(|pool| line(pool, true)).collect();
        if more > 0 {
            lines.push(format!("and {more} more pools"));
        }
        let up = if self.drawn > 0 { format!("\u{1b}[{}A", self.drawn) } else { String::new() };
        let left = self.drawn.saturating_sub(lines.len());
        self.drawn = lines.len() + left;
        let cut = |line: &String| line.chars().take(WIDTH).collect::<String>();
        let lines = lines.iter().map(cut).chain(std::iter::repeat_n(String::new(), left));
        format!("{up}{}", lines.map(|line| format!("\r\u{1b}[2K{line}\n")).collect::<String>())
    }

    fn list(&mut self, step: &ProgressReply) -> String {
        let mut out = String::new();
        for pool in &step.pools {
            let line = line(pool, false);
            if self.told.get(&pool.name) != Some(&line) {
                out.push_str(&format!("{line}\n"));
                self.told.insert(pool.name.clone(), line);
            }
        }
        out
    }
}

/// `web: rolling, 3/8 replaced, 1 starting, 2 draining, about 12s left`
fn line(pool: &PoolProgress, live: bool) -> String {
    let mut line = format!("{}: {}", pool.name, pool.stage.word());
    if pool.total > 0 && !matches!(pool.stage, ReloadStage::Waiting | ReloadStage::Canary) {
        line.push_str(&format!(", {}/{} replaced", pool.replaced, pool.total));
    }
    if live {
        let some = |n: u32, what: &str| if n > 0 { format!(", {n} {what}") } else { String::new() };
        line.push_str(&some(pool.starting, "starting"));
        line.push_str(&some(pool.draining, "draining"));
        if let Some(left) = pool.left_ms.filter(|_| matches!(pool.stage, ReloadStage::Canary | ReloadStage::Rolling)) {
            line.push_str(&format!(", about {} left", time(left.div_ceil(1000) * 1000)));
        }
    }
    printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, stage: ReloadStage, replaced: u32) -> PoolProgress {
        let left_ms = Some(12_000);
        PoolProgress { name: name.to_owned(), stage, replaced, total: 8, starting: 1, draining: 2, left_ms }
    }

    fn step(pools: Vec<PoolProgress>) -> ProgressReply {
        ProgressReply { stage: ReloadStage::Rolling, revision: 2, pools }
    }

    #[test]
    fn on_a_terminal_each_pool_has_a_line_that_is_drawn_over() {
        let mut steps = Steps::new(true);
        let first = steps.show(&step(vec![pool("web", ReloadStage::Canary, 0), pool("jobs", ReloadStage::Waiting, 0)]));
        let told =
            "\r\u{1b}[2Kweb: canary, 1 starting, 2 draining, about 12s left\n\r\u{1b}[2Kjobs: waiting, 1 starting, 2 draining\n";
        assert_eq!(first, told);
        let second = steps.show(&step(vec![pool("web", ReloadStage::Rolling, 3)]));
        let told = "\u{1b}[2A\r\u{1b}[2Kweb: rolling, 3/8 replaced, 1 starting, 2 draining, about 12s left\n\r\u{1b}[2K\n";
        assert_eq!(second, told);
        // However many and however named.
        let pools = (0..100).map(|n| pool(&format!("p{n}-{}", "x".repeat(100)), ReloadStage::Rolling, 1)).collect();
        let many = steps.show(&step(pools));
        assert_eq!(many.lines().count(), MOST + 1);
        assert!(many.contains("and 80 more pools"));
        assert!(many.lines().all(|line| line.rsplit("[2K").next().unwrap_or("").chars().count() <= WIDTH));
    }

    #[test]
    fn elsewhere_each_step_of_a_pool_has_a_line_once() {
        let mut steps = Steps::new(false);
        let web = |stage, replaced| step(vec![pool("web", stage, replaced)]);
        assert_eq!(steps.show(&web(ReloadStage::Canary, 0)), "web: canary\n");
        assert_eq!(steps.show(&web(ReloadStage::Canary, 1)), "");
        assert_eq!(steps.show(&web(ReloadStage::Rolling, 1)), "web: rolling, 1/8 replaced\n");
        assert_eq!(steps.show(&web(ReloadStage::Rolling, 1)), "");
        assert_eq!(steps.show(&web(ReloadStage::Done, 8)), "web: done, 8/8 replaced\n");
    }
}
