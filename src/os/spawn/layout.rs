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

/// Where everything goes: 0, 1, 2, the passed ones, then the pipe for reports. What lies above is foreign, and what lies between.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub moves: Vec<Move>,
    /// The place of the pipe for reports: the last one, and the only one that closes on exec.
    pub report: RawFd,
    /// First and last number of each stretch between the places.
    pub gaps: Vec<(RawFd, RawFd)>,
}

impl Layout {
    /// Each descriptor and its place, in rising order of the places; last the pipe for reports.
    pub(super) fn new(sources: &[(RawFd, RawFd)]) -> Layout {
        let report = sources.last().map_or(0, |(_, to)| *to);
        let moves = sources.iter().map(|&(from, to)| Move { from, to, by_scratch: from <= report && from != to });
        let between = sources.iter().zip(sources.iter().skip(1)).map(|((_, low), (_, high))| (low + 1, high - 1));
        Layout { moves: moves.collect(), report, gaps: between.filter(|(first, last)| first <= last).collect() }
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

    /// To 0, 1, 2 ...
    fn in_order(sources: &[RawFd]) -> Vec<(RawFd, RawFd)> {
        sources.iter().copied().zip(0..).collect()
    }

    #[test]
    fn places_may_be_far_apart() {
        let mut table = [(0, "in"), (1, "out"), (2, "err"), (3, "a"), (7, "foreign"), (8, "pipe"), (9, "b")].into();
        let layout = Layout::new(&[(0, 0), (1, 1), (2, 2), (3, 3), (9, 8), (8, 9)]);
        assert_eq!((layout.gaps.as_slice(), layout.report), (&[(4, 7)][..], 9));
        play(&layout, &mut table);
        let want = [(0, "in"), (1, "out"), (2, "err"), (3, "a"), (7, "foreign"), (8, "b"), (9, "pipe")];
        assert_eq!(table, want.into(), "what lies between is closed by the child");
    }

    #[test]
    fn a_shuffle_of_occupied_places_loses_nothing() {
        let mut table = [(0, "in"), (1, "out"), (2, "err"), (3, "a"), (4, "b"), (5, "c"), (6, "pipe"), (9, "other")].into();
        // Reversed, one of them twice, the pipe in the way, stdout and stderr swapped.
        let layout = Layout::new(&in_order(&[9, 2, 1, 5, 4, 3, 4, 6]));
        play(&layout, &mut table);
        let want = [(0, "other"), (1, "err"), (2, "out"), (3, "c"), (4, "b"), (5, "a"), (6, "b"), (7, "pipe")];
        assert_eq!(table, want.into());
    }

    #[test]
    fn what_is_in_place_or_above_needs_no_scratch() {
        let layout = Layout::new(&in_order(&[0, 1, 2, 3, 20, 21]));
        assert!(layout.moves.iter().all(|m| !m.by_scratch));
        assert_eq!((layout.report, layout.first_foreign()), (5, 6));
    }
}
