//! Owns the order in which a child's descriptors are moved to their places. Pure: computed before the fork, carried out after it.

use std::os::fd::RawFd;

/// One descriptor that has to be at `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub from: RawFd,
    pub to: RawFd,
    /// `from` lies where another one belongs, and would be overwritten: it has to be duplicated above them all first.
    pub by_scratch: bool,
}

/// Where everything goes: 0, 1, 2, then the passed ones, then the pipe for reports. What lies above is foreign.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub moves: Vec<Move>,
    /// The place of the pipe for reports: the last one, and the only one that closes on exec.
    pub report: RawFd,
}

impl Layout {
    /// `sources`: of 0, 1, 2, then of the passed ones, last the pipe for reports.
    pub(super) fn new(sources: &[RawFd]) -> Layout {
        let places = RawFd::try_from(sources.len()).unwrap_or(RawFd::MAX);
        let moves = sources.iter().zip(0..).map(|(&from, to)| Move { from, to, by_scratch: from < places && from != to });
        Layout { moves: moves.collect(), report: places - 1 }
    }

    /// Where the pipe for reports is at this moment: the moves keep `from` true as they are carried out.
    pub(super) fn report_now(&self) -> RawFd {
        self.moves.last().map_or(self.report, |m| m.from)
    }

    /// First number that belongs to nobody: scratch space at first, then closed from here on.
    pub(super) fn first_foreign(&self) -> RawFd {
        self.report + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries the moves out on a toy descriptor table, as the child does.
    fn play(layout: &Layout, table: &mut std::collections::BTreeMap<RawFd, &'static str>) {
        let mut from: Vec<RawFd> = layout.moves.iter().map(|m| m.from).collect();
        for (m, from) in layout.moves.iter().zip(&mut from) {
            if m.by_scratch {
                let free = (layout.first_foreign()..).find(|n| !table.contains_key(n)).unwrap();
                table.insert(free, table[&m.from]);
                *from = free;
            }
        }
        for (m, from) in layout.moves.iter().zip(from) {
            table.insert(m.to, table[&from]);
        }
        table.retain(|n, _| *n < layout.first_foreign());
    }

    #[test]
    fn a_shuffle_of_occupied_places_loses_nothing() {
        let mut table = [(0, "in"), (1, "out"), (2, "err"), (3, "a"), (4, "b"), (5, "c"), (6, "pipe"), (9, "other")].into();
        // Reversed, one of them twice, the pipe in the way, stdout and stderr swapped.
        let layout = Layout::new(&[9, 2, 1, 5, 4, 3, 4, 6]);
        play(&layout, &mut table);
        let want = [(0, "other"), (1, "err"), (2, "out"), (3, "c"), (4, "b"), (5, "a"), (6, "b"), (7, "pipe")];
        assert_eq!(table, want.into());
    }

    #[test]
    fn what_is_in_place_or_above_needs_no_scratch() {
        let layout = Layout::new(&[0, 1, 2, 3, 20, 21]);
        assert!(layout.moves.iter().all(|m| !m.by_scratch));
        assert_eq!((layout.report, layout.first_foreign()), (5, 6));
    }
}
