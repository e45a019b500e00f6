//! The nodes' amounts as columns, and the scores of NodeResourcesFit and
//! NodeResourcesBalancedAllocation computed over them.
//!
//! All arithmetic is in `f64` on integers, exact as long as the amounts are below [`AMOUNT_MAX`]
//! and the node has CPU and memory at all; a row for which that does not hold is *irregular* and left
//! to the plugins' own code. Where the plugins divide integers, `floor(a / b)` is computed as
//! `round((a + 1/2) * (1/b) - 1/2)` with `a` at most 100 `b`: the value before rounding is at least
//! `1/(2b)` away from a tie. The product is off by 100 times the relative error of `1/b`, at most 2^-53,
//! and by half a unit of its last place, 2^-47; the rest is exact. That is less for `b` below 2^44, and
//! above for those whose `1/b` is near enough, which [`is_divisor`] asks of each. The fractions of
//! NodeResourcesBalancedAllocation are divided as the plugin divides them.

mod amounts;
mod blocks;
#[cfg(test)]
mod tests;

use super::plan::Arithmetic;
use super::tournament::NONE;
use crate::cache::{ChangeLog, NodeInfo, Snapshot};
use crate::pod::PodInfo;

pub(super) use amounts::Row;
use amounts::{Amounts, View};
pub(super) use blocks::{Blocks, Wanted};

/// Amounts from this on (32 TiB, or 35 billion cores) are left to the plugins.
const AMOUNT_MAX: i64 = 1 << 45;

/// Adding and taking away this rounds to the nearest integer, ties to even.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// What a pod asks of a node, and what that is worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    arithmetic: Arithmetic,
    /// A node with less room than this will not do; minus infinity if nothing is asked for.
    cpu_min: f64,
    memory_min: f64,
    storage_min: f64,
    cpu: f64,
    memory: f64,
    storage: f64,
    cpu_nonzero: f64,
    memory_nonzero: f64,
    /// One over the sum of the resources' weights.
    weights_inverse: f64,
}

impl Demand {
    /// `None` if the pod asks for something else, or for too much.
    pub(super) fn new(arithmetic: Arithmetic, pod: &PodInfo) -> Option<Self> {
        let (real, nonzero) = (&pod.requests, &pod.requests_nonzero);
        if !pod.host_ports.is_empty() || !real.scalar.is_empty() {
            return None;
        }
        let [cpu, memory, storage, cpu_nonzero, memory_nonzero] = [
            real.milli_cpu,
            real.memory_bytes,
            real.ephemeral_storage_bytes,
            nonzero.milli_cpu,
            nonzero.memory_bytes,
        ]
        .map(exact);
        let least = |amount: f64| {
            if arithmetic.fits && amount > 0.0 { amount } else { f64::NEG_INFINITY }
        };
        let mut arithmetic = arithmetic;
        if cpu? == 0.0 && memory? == 0.0 {
            // Its PreScore skips such a pod.
            arithmetic.balanced_weight = 0.0;
        }
        let [a, b] = arithmetic.resource_weights;
        Some(Self {
            arithmetic,
            cpu_min: least(cpu?),
            memory_min: least(memory?),
            storage_min: least(storage?),
            cpu: cpu?,
            memory: memory?,
            storage: storage?,
            cpu_nonzero: cpu_nonzero?,
            memory_nonzero: memory_nonzero?,
            weights_inverse: 1.0 / (a + b),
        })
    }

    /// The weighted score of one node; [`NONE`] if the pod does not fit.
    #[inline]
    pub(super) fn score(&self, row: &Row) -> i32 {
        integer(self.value(row))
    }

    /// Branch-free, so that a loop over columns is vectorised. Minus infinity if the pod does not fit.
    #[inline(always)]
    fn value(&self, row: &Row) -> f64 {
        let fits = (!self.arithmetic.fits | (row.free_pods > 0.0))
            & (row.cpu - row.cpu_used >= self.cpu_min)
            & (row.memory - row.memory_used >= self.memory_min)
            & (row.free_storage >= self.storage_min);
        let cpu = self.share(row.cpu, row.cpu_inverse, row.cpu_nonzero + self.cpu_nonzero);
        let memory =
            self.share(row.memory, row.memory_inverse, row.memory_nonzero + self.memory_nonzero);
        let [cpu_weight, memory_weight] = self.arithmetic.resource_weights;
        let sum = cpu * cpu_weight + memory * memory_weight;
        let fit = rounded((sum + 0.5) * self.weights_inverse - 0.5);
        let cpu = least((row.cpu_used + self.cpu) / row.cpu, 1.0);
        let memory = least((row.memory_used + self.memory) / row.memory, 1.0);
        let balanced = truncated((1.0 - ((cpu - memory) / 2.0).abs()) * 100.0);
        let total = fit * self.arithmetic.fit_weight + balanced * self.arithmetic.balanced_weight;
        if fits { total } else { f64::NEG_INFINITY }
    }

    /// NodeResourcesFit's score of one resource.
    #[inline(always)]
    fn share(&self, has: f64, has_inverse: f64, requested: f64) -> f64 {
        let part = if self.arithmetic.most_allocated {
            least(requested, has)
        } else {
            let left = has - requested;
            if left > 0.0 { left } else { 0.0 }
        };
        rounded((part * 100.0 + 0.5) * has_inverse - 0.5)
    }
}

/// All nodes' amounts, a column each.
#[derive(Debug, Default)]
pub(super) struct Columns {
    amounts: Amounts,
    is_irregular: Vec<bool>,
    irregular_count: usize,
    /// Up to where [`ChangeLog::rows`] is taken over.
    cursor: u64,
}

impl Columns {
    /// Takes over what changed since the last time.
    pub(super) fn catch_up(&mut self, snapshot: &Snapshot, changes: &ChangeLog) {
        let nodes = snapshot.nodes();
        self.resize(nodes.len());
        match changes.rows.since(self.cursor) {
            Some(missed) if missed.len() < nodes.len() => {
                for row in missed.iter().map(|row| *row as usize) {
                    if let Some(node) = nodes.get(row) {
                        self.set(row, node);
                    }
                }
            }
            _ => nodes.iter().enumerate().for_each(|(row, node)| self.set(row, node)),
        }
        self.cursor = changes.rows.end();
    }

    fn resize(&mut self, rows: usize) {
        for row in rows..self.is_irregular.len() {
            self.irregular_count -= usize::from(self.is_irregular[row]);
        }
        self.is_irregular.resize(rows, false);
        self.amounts.resize(rows);
    }

    fn set(&mut self, row: usize, node: &NodeInfo) {
        let amounts = Row::of(node);
        let is_irregular = amounts.is_none();
        self.irregular_count += usize::from(is_irregular);
        self.irregular_count -= usize::from(self.is_irregular[row]);
        self.is_irregular[row] = is_irregular;
        self.amounts.set(row, &amounts.unwrap_or(Row::FULL));
    }

    /// How many rows are left to the plugins.
    pub(super) fn irregular_count(&self) -> usize {
        self.irregular_count
    }

    /// Becomes a copy in its own memory.
    pub(super) fn copy_from(&mut self, other: &Self) {
        let Self { amounts, is_irregular, irregular_count, cursor } = self;
        amounts.copy_from(&other.amounts);
        is_irregular.clone_from(&other.is_irregular);
        (*irregular_count, *cursor) = (other.irregular_count, other.cursor);
    }

    /// One regular node's amounts.
    #[inline]
    pub(super) fn row(&self, row: usize) -> Row {
        self.amounts.get(row)
    }

    /// Puts a pod on a regular node ahead of the change log; false if the row is no longer exact.
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    pub(super) fn place(&mut self, row: usize, demand: &Demand) -> bool {
        let amounts = &mut self.amounts;
        let columns = [
            (&mut amounts.cpu_used, demand.cpu),
            (&mut amounts.memory_used, demand.memory),
            (&mut amounts.cpu_nonzero, demand.cpu_nonzero),
            (&mut amounts.memory_nonzero, demand.memory_nonzero),
        ];
        let mut is_exact = true;
        for (column, amount) in columns {
            column[row] += amount;
            is_exact &= column[row] < AMOUNT_MAX as f64;
        }
        amounts.free_storage[row] -= demand.storage;
        amounts.free_pods[row] -= 1.0;
        let least = -((1_i64 << 52) as f64);
        is_exact && amounts.free_storage[row] > least && amounts.free_pods[row] > least
    }

    /// The next so many changes of the log are what [`Columns::place`] did; if not `are_exact`, it is
    /// read anew.
    pub(super) fn skip(&mut self, changes: usize, are_exact: bool) {
        self.cursor = if are_exact { self.cursor + changes as u64 } else { u64::MAX };
    }

    /// Whether no row is left to the plugins.
    pub(super) fn is_regular(&self) -> bool {
        self.irregular_count == 0
    }

    /// The rows that are left to the plugins.
    pub(super) fn irregular(&self) -> impl Iterator<Item = usize> {
        let rows = if self.irregular_count == 0 { &[][..] } else { &self.is_irregular };
        rows.iter().enumerate().filter(|(_, is_irregular)| **is_irregular).map(|(row, _)| row)
    }

    /// The score of every regular node added to `base`; [`NONE`] where that is [`NONE`] or the pod
    /// does not fit. Irregular rows get a value of no meaning.
    pub(super) fn score_all(&self, demand: &Demand, base: &[i32], out: &mut [i32]) {
        score(&self.amounts.from(0, out.len()), demand, base, out);
    }
}

/// The score of every row of the view added to `base`, as [`Columns::score_all`] has it.
#[inline(always)]
fn score(view: &View<'_>, demand: &Demand, base: &[i32], out: &mut [i32]) {
    let rows = out.len();
    let base = &base[..rows];
    let demand = *demand;
    for row in 0..rows {
        out[row] = sum(base[row], integer(demand.value(&view.row(row))));
    }
}

/// `a + b`, or [`NONE`] if either is.
#[inline(always)]
pub(super) fn sum(a: i32, b: i32) -> i32 {
    if (a == NONE) | (b == NONE) { NONE } else { a.wrapping_add(b) }
}

#[expect(clippy::cast_precision_loss, reason = "small enough to be exact")]
fn exact(amount: i64) -> Option<f64> {
    (0..AMOUNT_MAX).contains(&amount).then_some(amount as f64)
}

/// Whether integers are divided exactly by an amount below [`AMOUNT_MAX`].
#[expect(clippy::cast_precision_loss, reason = "powers of two")]
fn is_divisor(amount: f64) -> bool {
    const ANY_BELOW: f64 = (1_i64 << 44) as f64;
    const LAST_PLACE: f64 = 1.0 / (1_i64 << 47) as f64;
    if amount < ANY_BELOW {
        return amount > 0.0;
    }
    let error = amount.mul_add(1.0 / amount, -1.0).abs();
    // A little more than 100, for what is rounded here.
    error * 101.0 + LAST_PLACE < 0.5 / amount
}

/// The smaller; neither is NaN.
#[inline(always)]
fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// The larger; neither is NaN.
#[inline(always)]
fn most(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// To the nearest integer, for values well below 2^51.
#[inline(always)]
fn rounded(value: f64) -> f64 {
    (value + ROUND) - ROUND
}

/// Toward zero, for small values that are not negative.
#[inline(always)]
fn truncated(value: f64) -> f64 {
    let nearest = rounded(value);
    if nearest > value { nearest - 1.0 } else { nearest }
}

/// A small integer held in a float; minus infinity becomes [`NONE`]. The low bits of the sum with
/// [`ROUND`] are the integer, which vectorises where a cast does not.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
fn integer(value: f64) -> i32 {
    if value < 0.0 { NONE } else { (value + ROUND).to_bits() as u32 as i32 }
}
