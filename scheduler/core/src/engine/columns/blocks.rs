//! The best node for a pod that is asked about once, without a look at every node.
//!
//! Rows are in blocks of [`ROWS`]. Of each block the least and the most of every amount is kept; from
//! these follows a bound that no score of the block's rows is above, as a score falls (or rises)
//! with each amount, and rounding keeps the order. So the highest score is found by going over the
//! bounds, and over the rows of those blocks alone whose bound is above the highest score found so
//! far. If none of the rows that are tried first has it ([`Draw`]), those that do are gathered.

#[cfg(test)]
mod tests;

use super::{Columns, Demand, Row, integer, least, rounded, sum, truncated};
use crate::cache::ChangeLog;
use crate::engine::Draw;
use crate::engine::tournament::NONE;

/// Rows of a block.
const ROWS: usize = 16;

/// All blocks.
#[derive(Debug, Default)]
pub(in crate::engine) struct Blocks {
    all: Vec<Block>,
    bounds: Vec<i32>,
    /// Up to where [`ChangeLog::rows`] is taken over.
    cursor: u64,
    rows: usize,
}

/// The least (`low`) and the most (`high`) of the amounts of a block.
#[derive(Clone, Copy, Debug)]
struct Block {
    low: Row,
    high: Row,
}

/// For whom the best row is looked for: what it asks, and what is added for each row.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Wanted<'a> {
    pub(in crate::engine) demand: &'a Demand,
    /// [`NONE`] for rows that will not do.
    pub(in crate::engine) base: &'a [i32],
    /// The highest of `base`.
    pub(in crate::engine) base_max: i32,
}

impl Blocks {
    /// Takes over what changed since the last time. The columns are up to date, and all regular.
    pub(in crate::engine) fn catch_up(&mut self, columns: &Columns, changes: &ChangeLog) {
        let rows = columns.cpu.len();
        let missed = changes.rows.since(self.cursor).filter(|_| self.rows == rows);
        match missed.filter(|missed| missed.len() < rows / ROWS) {
            Some(missed) => {
                for row in missed.iter().map(|row| *row as usize).filter(|row| *row < rows) {
                    self.all[row / ROWS] = Block::of(columns, row / ROWS);
                }
            }
            None => {
                self.all.clear();
                self.all.extend((0..rows.div_ceil(ROWS)).map(|at| Block::of(columns, at)));
            }
        }
        self.rows = rows;
        self.cursor = changes.rows.end();
    }

    /// One of the best rows; `None` if no row will do.
    pub(in crate::engine) fn find(
        &mut self,
        wanted: Wanted<'_>,
        columns: &Columns,
        draw: Draw,
    ) -> Option<usize> {
        let highest = self.highest(wanted, columns).filter(|highest| *highest != NONE)?;
        let tried = draw.first(self.rows, |row| wanted.total(columns, row) == highest);
        tried.or_else(|| {
            let best = self.best(wanted, columns, highest);
            best.get(draw.nth(best.len())).copied()
        })
    }

    /// The highest total; [`NONE`] if no row will do.
    fn highest(&mut self, wanted: Wanted<'_>, columns: &Columns) -> Option<i32> {
        self.bounds.clear();
        self.bounds.extend(self.all.iter().map(|block| wanted.bound(block)));
        let bounds = self.bounds.iter().copied().enumerate();
        let (first, _) = bounds.clone().max_by_key(|(_, bound)| *bound)?;
        let mut highest = self.highest_of(wanted, columns, first);
        for (at, bound) in bounds {
            if bound > highest {
                highest = highest.max(self.highest_of(wanted, columns, at));
            }
        }
        Some(highest)
    }

    fn highest_of(&self, wanted: Wanted<'_>, columns: &Columns, at: usize) -> i32 {
        rows_of(at, self.rows).map(|row| wanted.total(columns, row)).max().unwrap_or(NONE)
    }

    /// The rows with the highest total; there are some.
    fn best(&self, wanted: Wanted<'_>, columns: &Columns, highest: i32) -> Vec<usize> {
        let blocks = self.bounds.iter().enumerate().filter(|(_, bound)| **bound >= highest);
        let rows = blocks.flat_map(|(at, _)| rows_of(at, self.rows));
        rows.filter(|row| wanted.total(columns, *row) == highest).collect()
    }
}

impl Wanted<'_> {
    fn total(self, columns: &Columns, row: usize) -> i32 {
        match self.base[row] {
            NONE => NONE,
            base => sum(base, self.demand.score(&columns.row(row))),
        }
    }

    /// No row of the block has a higher total.
    fn bound(self, block: &Block) -> i32 {
        sum(self.base_max, integer(self.demand.bound(block)))
    }
}

impl Demand {
    /// As [`Demand::value`], of a row that has of every amount what is best.
    fn bound(&self, Block { low, high }: &Block) -> f64 {
        let fits = (!self.arithmetic.fits | (high.free_pods > 0.0))
            & (high.cpu - low.cpu_used >= self.cpu_min)
            & (high.memory - low.memory_used >= self.memory_min)
            & (high.free_storage >= self.storage_min);
        // A full node is best if it is small, an empty one if it is large.
        let (size, used) = if self.arithmetic.most_allocated { (low, high) } else { (high, low) };
        let cpu = self.share(size.cpu, size.cpu_inverse, used.cpu_nonzero + self.cpu_nonzero);
        let memory =
            self.share(size.memory, size.memory_inverse, used.memory_nonzero + self.memory_nonzero);
        let [cpu_weight, memory_weight] = self.arithmetic.resource_weights;
        let sum = cpu * cpu_weight + memory * memory_weight;
        let fit = rounded((sum + 0.5) * self.weights_inverse - 0.5);
        let cpu_low = least((low.cpu_used + self.cpu) / high.cpu, 1.0);
        let cpu_high = least((high.cpu_used + self.cpu) / low.cpu, 1.0);
        let memory_low = least((low.memory_used + self.memory) / high.memory, 1.0);
        let memory_high = least((high.memory_used + self.memory) / low.memory, 1.0);
        let apart = (cpu_low - memory_high).max(memory_low - cpu_high).max(0.0);
        let balanced = truncated((1.0 - apart / 2.0) * 100.0);
        let total = fit * self.arithmetic.fit_weight + balanced * self.arithmetic.balanced_weight;
        if fits { total } else { f64::NEG_INFINITY }
    }
}

impl Block {
    fn of(columns: &Columns, at: usize) -> Self {
        let mut rows = rows_of(at, columns.cpu.len()).map(|row| columns.row(row));
        let first = rows.next().unwrap_or(Row::FULL);
        rows.fold(Self { low: first, high: first }, |block, row| Self {
            low: block.low.with(&row, f64::min),
            high: block.high.with(&row, f64::max),
        })
    }
}

impl Row {
    /// Of each amount one or the other.
    fn with(&self, other: &Self, of: fn(f64, f64) -> f64) -> Self {
        let cpu = of(self.cpu, other.cpu);
        let memory = of(self.memory, other.memory);
        Self {
            cpu,
            memory,
            cpu_used: of(self.cpu_used, other.cpu_used),
            memory_used: of(self.memory_used, other.memory_used),
            cpu_nonzero: of(self.cpu_nonzero, other.cpu_nonzero),
            memory_nonzero: of(self.memory_nonzero, other.memory_nonzero),
            cpu_inverse: 1.0 / cpu,
            memory_inverse: 1.0 / memory,
            free_storage: of(self.free_storage, other.free_storage),
            free_pods: of(self.free_pods, other.free_pods),
        }
    }
}

fn rows_of(at: usize, rows: usize) -> std::ops::Range<usize> {
    at * ROWS..rows.min((at + 1) * ROWS)
}
