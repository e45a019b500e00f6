//! The best of many nodes: a tree of maxima that also says how many nodes share the maximum.
//!
//! Leaves are the totals of the nodes, by row; [`NONE`] stands for a node that will not do. Each
//! inner entry covers [`FAN_OUT`] entries below it. Setting a leaf costs `FAN_OUT * log(rows)` base
//! `FAN_OUT` at most and stops where nothing changes; picking one of the best with the same chance
//! for each costs as much. With 5,000 rows there are 4 levels.

use super::Draw;

/// The total of a node that will not do.
pub(super) const NONE: i32 = i32::MIN;

/// Entries below one entry: 16 totals are one cache line.
const FAN_OUT: usize = 16;

/// The highest total of some rows, and how many have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Best {
    pub(super) total: i32,
    pub(super) count: u32,
}

impl Best {
    const EMPTY: Self = Self { total: NONE, count: 0 };
}

/// The tree.
#[derive(Debug, Default)]
pub(super) struct Tournament {
    leaves: Vec<i32>,
    /// From just above the leaves to the level with one entry.
    levels: Vec<Vec<Best>>,
}

impl Tournament {
    /// The totals by row.
    pub(super) fn totals(&self) -> &[i32] {
        &self.leaves
    }

    /// Takes the totals out, to be put back with [`Tournament::fill`].
    pub(super) fn take(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.leaves)
    }

    /// Sets all totals.
    pub(super) fn fill(&mut self, totals: Vec<i32>) {
        self.leaves = totals;
        self.build();
    }

    /// Sets one total.
    pub(super) fn set(&mut self, row: usize, total: i32) {
        if std::mem::replace(&mut self.leaves[row], total) == total {
            return;
        }
        let mut at = row / FAN_OUT;
        let mut best = best_total(block(&self.leaves, at));
        for level in 0..self.levels.len() {
            if std::mem::replace(&mut self.levels[level][at], best) == best {
                return;
            }
            if level + 1 < self.levels.len() {
                at /= FAN_OUT;
                best = best_of(block(&self.levels[level], at));
            }
        }
    }

    /// The highest total and how many rows have it; `None` if no node will do.
    pub(super) fn best(&self) -> Option<Best> {
        let best = *self.levels.last()?.first()?;
        (best.count > 0).then_some(best)
    }

    /// One of the best rows; `None` if no node will do.
    #[inline]
    pub(super) fn choose(&self, draw: Draw) -> Option<usize> {
        let Best { total, count } = self.best()?;
        if count == 1 {
            return Some(self.pick(0));
        }
        let tried = draw.first(self.leaves.len(), |row| self.leaves[row] == total);
        // The count came from as many rows, so what is below it fits.
        Some(tried.unwrap_or_else(|| self.pick(draw.nth(count as usize) as u32)))
    }

    /// The row of the best numbered `nth`, which is below [`Best::count`].
    fn pick(&self, mut nth: u32) -> usize {
        let Some(Best { total, .. }) = self.best() else { return 0 };
        let mut at = 0;
        for level in self.levels.iter().rev().skip(1) {
            at *= FAN_OUT;
            for entry in &level[at..] {
                if entry.total == total {
                    if nth < entry.count {
                        break;
                    }
                    nth -= entry.count;
                }
                at += 1;
            }
        }
        at *= FAN_OUT;
        for leaf in &self.leaves[at..] {
            if *leaf == total {
                if nth == 0 {
                    break;
                }
                nth -= 1;
            }
            at += 1;
        }
        at
    }

    /// The rows with the highest total.
    #[cfg(test)]
    pub(super) fn all_best(&self) -> Vec<usize> {
        (0..self.best().map_or(0, |best| best.count)).map(|nth| self.pick(nth)).collect()
    }

    fn build(&mut self) {
        let mut width = self.leaves.len().div_ceil(FAN_OUT).max(1);
        let mut depth = 0;
        loop {
            if self.levels.len() == depth {
                self.levels.push(Vec::new());
            }
            let (below, from) = self.levels.split_at_mut(depth);
            let level = &mut from[0];
            level.clear();
            match below.last() {
                None => level.extend(self.leaves.chunks(FAN_OUT).map(best_total)),
                Some(below) => level.extend(below.chunks(FAN_OUT).map(best_of)),
            }
            level.resize(width, Best::EMPTY);
            depth += 1;
            if width == 1 {
                break;
            }
            width = width.div_ceil(FAN_OUT);
        }
        self.levels.truncate(depth);
    }
}

fn block<T>(entries: &[T], at: usize) -> &[T] {
    let start = at * FAN_OUT;
    &entries[start..entries.len().min(start + FAN_OUT)]
}

fn best_total(totals: &[i32]) -> Best {
    let total = totals.iter().copied().fold(NONE, i32::max);
    if total == NONE {
        return Best::EMPTY;
    }
    let count = totals.iter().map(|other| u32::from(*other == total)).sum();
    Best { total, count }
}

fn best_of(entries: &[Best]) -> Best {
    let total = entries.iter().map(|entry| entry.total).fold(NONE, i32::max);
    let count =
        entries.iter().map(|entry| if entry.total == total { entry.count } else { 0 }).sum();
    Best { total, count }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn plain(totals: &[i32]) -> Vec<usize> {
        let highest = totals.iter().copied().max().filter(|highest| *highest != NONE);
        let rows = totals.iter().enumerate();
        rows.filter(|(_, total)| Some(**total) == highest).map(|(row, _)| row).collect()
    }

    fn total() -> impl Strategy<Value = i32> {
        prop_oneof![1 => Just(NONE), 3 => 0..4_i32]
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_a_list(
            mut totals in vec(total(), 0..600), changes in vec((any::<usize>(), total()), 0..50),
        ) {
            let mut tree = Tournament::default();
            tree.fill(totals.clone());
            prop_assert_eq!(tree.all_best(), plain(&totals));
            for (row, total) in changes {
                let Some(row) = row.checked_rem(totals.len()) else { continue };
                totals[row] = total;
                tree.set(row, total);
                prop_assert_eq!(tree.all_best(), plain(&totals));
            }
            let half = totals.len() / 2;
            tree.fill(totals[..half].to_vec());
            prop_assert_eq!(tree.all_best(), plain(&totals[..half]));
        }
    }
}
