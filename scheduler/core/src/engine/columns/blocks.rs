//! The best node for a pod that is asked about once, without a look at every node.
//!
//! Rows are put in an order in which those that are alike follow each other: by size, then along a
//! curve through the plane of CPU and memory in use (Morton's). In this order they are in *blocks* of
//! 16, and blocks in *superblocks* of 16. Of each the least and the most of every amount is kept; from
//! these follows a bound that no score of its rows is above, as a score falls (or rises) with each
//! amount, and rounding keeps the order. So the highest score is found by going over the bounds of
//! superblocks, over those of the blocks in superblocks whose bound is above the highest score found
//! so far, and over the rows of those blocks alone of which the same is true. As rows of a block are
//! alike, bounds are near: those above the best are of blocks along a line of equal scores.
//!
//! A row that changes leaves its place, which stays empty, and is appended in a block at the end. When
//! so many are appended that going over them costs as much as sorting does a pod, all are sorted anew.

#[cfg(test)]
mod tests;

use super::{Amounts, Columns, Demand, Row, integer, least, most, rounded, score, sum, truncated};
use crate::cache::ChangeLog;
use crate::engine::Draw;
use crate::engine::fixed::{Fixed, Raws};
use crate::engine::tournament::NONE;

/// Rows of a block, and blocks of a superblock.
const FAN_OUT: usize = 16;

/// No row is at the position, or the row is at no position.
const NOWHERE: u32 = u32::MAX;

/// All blocks.
#[derive(Debug, Default)]
pub(in crate::engine) struct Blocks {
    /// The row at each position, of whole blocks.
    rows: Vec<u32>,
    /// The position of each row.
    positions: Vec<u32>,
    /// By position.
    amounts: Amounts,
    blocks: Bounds,
    superblocks: Bounds,
    /// The next position.
    end: usize,
    /// Up to here positions are in order.
    sorted: usize,
    /// Up to where [`ChangeLog::rows`] is taken over.
    cursor: u64,
    /// Buffers.
    keys: Vec<(u64, u32)>,
    bounds: Vec<i32>,
    best: Vec<usize>,
}

/// The least and the most of the amounts of some rows, for many of such sets.
#[derive(Debug, Default)]
struct Bounds {
    low: Amounts,
    high: Amounts,
    count: usize,
}

/// For whom the best row is looked for: what it asks, and what is added for each row.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Wanted<'a> {
    demand: &'a Demand,
    /// [`NONE`] for rows that will not do.
    base: &'a [i32],
    /// The highest of `base`.
    base_max: i32,
}

impl Blocks {
    /// Takes over what changed since the last time. The columns are up to date, and all regular.
    pub(in crate::engine) fn catch_up(&mut self, columns: &Columns, changes: &ChangeLog) {
        let rows = columns.is_irregular.len();
        let missed = changes.rows.since(self.cursor).filter(|_| self.positions.len() == rows);
        match missed.filter(|missed| missed.len() <= appended_max(rows)) {
            Some(missed) => {
                for row in missed.iter().map(|row| *row as usize).filter(|row| *row < rows) {
                    self.changed(row, columns);
                }
            }
            None => self.sort(columns),
        }
        self.cursor = changes.rows.end();
    }

    /// The row has other amounts now.
    pub(in crate::engine) fn changed(&mut self, row: usize, columns: &Columns) {
        if self.end - self.sorted >= appended_max(self.positions.len()) {
            return self.sort(columns);
        }
        self.rows[self.positions[row] as usize] = NOWHERE;
        self.append(row, &columns.row(row));
    }

    /// The next so many changes of the log are those that [`Blocks::changed`] was told of; if not
    /// `are_exact`, all rows are read anew.
    pub(in crate::engine) fn skip(&mut self, changes: usize, are_exact: bool) {
        self.cursor = if are_exact { self.cursor + changes as u64 } else { u64::MAX };
    }

    /// One of the rows with the highest total, which [`Blocks::highest`] has just found.
    pub(in crate::engine) fn choose(
        &mut self,
        wanted: Wanted<'_>,
        columns: &Columns,
        highest: i32,
        draw: Draw,
    ) -> Option<usize> {
        let is_best = |row: usize| wanted.total(columns, row) == highest;
        draw.first(self.positions.len(), is_best).or_else(|| {
            self.gather(wanted, highest);
            let nth = draw.nth(self.best.len());
            (nth < self.best.len()).then(|| *self.best.select_nth_unstable(nth).1)
        })
    }

    /// The highest total; `None` if no row will do.
    pub(in crate::engine) fn highest(&mut self, wanted: Wanted<'_>) -> Option<i32> {
        let mut bounds = std::mem::take(&mut self.bounds);
        bounds.resize(self.superblocks.count, NONE);
        self.superblocks.score(0, wanted, &mut bounds);
        let first = (0..bounds.len()).max_by_key(|at| bounds[*at]);
        let mut highest = NONE;
        for at in first.into_iter().chain(0..bounds.len()) {
            if bounds[at] > highest {
                highest = self.highest_of(wanted, at, highest);
            }
        }
        self.bounds = bounds;
        (highest != NONE).then_some(highest)
    }

    /// The highest total of a superblock's rows, or what is known already.
    fn highest_of(&self, wanted: Wanted<'_>, superblock: usize, mut highest: i32) -> i32 {
        let bounds = self.bounds_in(wanted, superblock);
        let first = (0..FAN_OUT).max_by_key(|at| bounds[*at]);
        for at in first.into_iter().chain(0..FAN_OUT) {
            if bounds[at] > highest {
                let totals = self.totals(wanted, superblock * FAN_OUT + at);
                highest = totals.into_iter().fold(highest, i32::max);
            }
        }
        highest
    }

    /// Leaves the rows with the highest total in `best`, in no order.
    fn gather(&mut self, wanted: Wanted<'_>, highest: i32) {
        let mut best = std::mem::take(&mut self.best);
        best.clear();
        let may_have = |bounds: &[i32], at: usize| bounds[at] >= highest;
        for superblock in (0..self.bounds.len()).filter(|at| may_have(&self.bounds, *at)) {
            let bounds = self.bounds_in(wanted, superblock);
            for at in (0..FAN_OUT).filter(|at| may_have(&bounds, *at)) {
                let block = superblock * FAN_OUT + at;
                let rows = &self.rows[block * FAN_OUT..(block + 1) * FAN_OUT];
                let totals = self.totals(wanted, block).into_iter().zip(rows);
                best.extend(totals.filter(|(t, _)| *t == highest).map(|(_, row)| *row as usize));
            }
        }
        self.best = best;
    }

    /// The bounds of a superblock's blocks; [`NONE`] for those that are not there.
    #[inline]
    fn bounds_in(&self, wanted: Wanted<'_>, superblock: usize) -> [i32; FAN_OUT] {
        let mut bounds = [NONE; FAN_OUT];
        let start = superblock * FAN_OUT;
        let count = FAN_OUT.min(self.blocks.count - start);
        self.blocks.score(start, wanted, &mut bounds[..count]);
        bounds
    }

    /// The totals of a block's positions.
    #[inline]
    fn totals(&self, wanted: Wanted<'_>, block: usize) -> [i32; FAN_OUT] {
        let start = block * FAN_OUT;
        let (mut base, mut totals) = ([NONE; FAN_OUT], [NONE; FAN_OUT]);
        for (base, row) in base.iter_mut().zip(&self.rows[start..start + FAN_OUT]) {
            *base = wanted.base.get(*row as usize).copied().unwrap_or(NONE);
        }
        score(&self.amounts.from(start, FAN_OUT), wanted.demand, &base, &mut totals);
        totals
    }

    /// Puts all rows in order.
    fn sort(&mut self, columns: &Columns) {
        let rows = columns.is_irregular.len();
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        keys.extend((0..).zip(0..rows).map(|(number, row)| (columns.row(row).key(), number)));
        keys.sort_unstable();
        self.rows.clear();
        self.end = 0;
        self.positions.clear();
        self.positions.resize(rows, NOWHERE);
        (self.blocks.count, self.superblocks.count) = (0, 0);
        for (_, row) in &keys {
            self.append(*row as usize, &columns.row(*row as usize));
        }
        // What is appended later is unlike these.
        self.end = self.rows.len();
        self.sorted = self.end;
        self.keys = keys;
    }

    /// Gives the row a position at the end.
    #[expect(clippy::cast_possible_truncation, reason = "fewer than 2^32 rows")]
    fn append(&mut self, row: usize, amounts: &Row) {
        let position = self.end;
        self.end += 1;
        if position == self.rows.len() {
            self.rows.resize(position + FAN_OUT, NOWHERE);
            self.amounts.resize(position + FAN_OUT);
        }
        self.rows[position] = row as u32;
        self.positions[row] = position as u32;
        self.amounts.set(position, amounts);
        self.blocks.widen(position / FAN_OUT, amounts);
        self.superblocks.widen(position / (FAN_OUT * FAN_OUT), amounts);
    }
}

/// With more rows appended all are sorted: by then a pod costs a look at half as many, and a share of
/// the sorting that is about as much.
fn appended_max(rows: usize) -> usize {
    if cfg!(test) { 3 } else { 64 + 3 * rows.isqrt() }
}

impl Bounds {
    /// The set has another member.
    fn widen(&mut self, at: usize, amounts: &Row) {
        if at < self.count {
            self.low.set(at, &self.low.get(at).with(amounts, least));
            self.high.set(at, &self.high.get(at).with(amounts, most));
        } else {
            self.count = at + 1;
            self.low.resize(self.count.max(self.low.cpu.len()));
            self.high.resize(self.count.max(self.high.cpu.len()));
            self.low.set(at, amounts);
            self.high.set(at, amounts);
        }
    }

    /// What no total of the sets from one on is above.
    #[inline]
    fn score(&self, start: usize, wanted: Wanted<'_>, out: &mut [i32]) {
        let (low, high) = (self.low.from(start, out.len()), self.high.from(start, out.len()));
        let demand = *wanted.demand;
        for (at, out) in out.iter_mut().enumerate() {
            *out = sum(wanted.base_max, integer(demand.bound(&low.row(at), &high.row(at))));
        }
    }
}

impl<'a> Wanted<'a> {
    /// `None` if nodes differ in a plugin whose scores are relative to the highest.
    pub(in crate::engine) fn new(demand: &'a Demand, fixed: &'a Fixed) -> Option<Self> {
        let (base, base_max) = (fixed.base.as_slice(), fixed.highest);
        (!fixed.raws.iter().any(Raws::matters)).then_some(Self { demand, base, base_max })
    }

    fn total(self, columns: &Columns, row: usize) -> i32 {
        match self.base[row] {
            NONE => NONE,
            base => sum(base, self.demand.score(&columns.row(row))),
        }
    }
}

impl Demand {
    /// As [`Demand::value`], of a row that has of every amount what is best.
    #[inline(always)]
    fn bound(&self, low: &Row, high: &Row) -> f64 {
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
        let apart = most(most(cpu_low - memory_high, memory_low - cpu_high), 0.0);
        let balanced = truncated((1.0 - apart / 2.0) * 100.0);
        let total = fit * self.arithmetic.fit_weight + balanced * self.arithmetic.balanced_weight;
        if fits { total } else { f64::NEG_INFINITY }
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

    /// Rows with near keys are alike: of one size, and with about as much in use. Only how near bounds
    /// are depends on it.
    fn key(&self) -> u64 {
        let size = self.cpu.to_bits() ^ self.memory.to_bits().rotate_left(29);
        let size = size.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let cpu = spread(self.cpu_nonzero * self.cpu_inverse);
        let memory = spread(self.memory_nonzero * self.memory_inverse);
        size << 32 | cpu << 1 | memory
    }
}

/// The first 16 bits of a part of 1, with room for another's between them.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturating")]
fn spread(part: f64) -> u64 {
    let mut bits = u64::from((part * 65536.0) as u16);
    bits = (bits | bits << 8) & 0x00ff_00ff;
    bits = (bits | bits << 4) & 0x0f0f_0f0f;
    bits = (bits | bits << 2) & 0x3333_3333;
    (bits | bits << 1) & 0x5555_5555
}
