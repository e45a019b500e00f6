//! What nodes have and what is in use, a column each.

use super::{AMOUNT_MAX, is_divisor};
use crate::cache::NodeInfo;

/// One node's amounts.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Row {
    pub(super) cpu: f64,
    pub(super) memory: f64,
    pub(super) cpu_used: f64,
    pub(super) memory_used: f64,
    pub(super) cpu_nonzero: f64,
    pub(super) memory_nonzero: f64,
    pub(super) cpu_inverse: f64,
    pub(super) memory_inverse: f64,
    pub(super) free_storage: f64,
    pub(super) free_pods: f64,
}

impl Row {
    /// `None` if the row is irregular.
    #[expect(clippy::cast_precision_loss, reason = "amounts are small enough to be exact")]
    pub(in crate::engine) fn of(node: &NodeInfo) -> Option<Self> {
        let (has, used, nonzero) = (node.allocatable(), node.requested(), node.requested_nonzero());
        let free_storage = has.ephemeral_storage_bytes.saturating_sub(used.ephemeral_storage_bytes);
        let pods = i64::try_from(node.pod_count()).unwrap_or(i64::MAX);
        let free_pods = node.allowed_pods().saturating_sub(pods);
        let amounts = has.milli_cpu
            | has.memory_bytes
            | used.milli_cpu
            | used.memory_bytes
            | nonzero.milli_cpu
            | nonzero.memory_bytes;
        // A negative amount has the highest bit set, and so has the union.
        let is_regular = (0..AMOUNT_MAX).contains(&amounts)
            && is_divisor(has.milli_cpu as f64)
            && is_divisor(has.memory_bytes as f64)
            && free_storage.unsigned_abs() < 1 << 52
            && free_pods.unsigned_abs() < 1 << 52;
        is_regular.then(|| Self {
            cpu: has.milli_cpu as f64,
            memory: has.memory_bytes as f64,
            cpu_used: used.milli_cpu as f64,
            memory_used: used.memory_bytes as f64,
            cpu_nonzero: nonzero.milli_cpu as f64,
            memory_nonzero: nonzero.memory_bytes as f64,
            cpu_inverse: 1.0 / has.milli_cpu as f64,
            memory_inverse: 1.0 / has.memory_bytes as f64,
            free_storage: free_storage as f64,
            free_pods: free_pods as f64,
        })
    }

    /// A row on which nothing fits: the place of an irregular one.
    pub(super) const FULL: Self = Self {
        cpu: 1.0,
        memory: 1.0,
        cpu_used: 0.0,
        memory_used: 0.0,
        cpu_nonzero: 0.0,
        memory_nonzero: 0.0,
        cpu_inverse: 1.0,
        memory_inverse: 1.0,
        free_storage: 0.0,
        free_pods: 0.0,
    };
}

/// The amounts of many nodes.
#[derive(Debug, Default)]
pub(super) struct Amounts {
    pub(super) cpu: Vec<f64>,
    pub(super) memory: Vec<f64>,
    pub(super) cpu_used: Vec<f64>,
    pub(super) memory_used: Vec<f64>,
    pub(super) cpu_nonzero: Vec<f64>,
    pub(super) memory_nonzero: Vec<f64>,
    pub(super) cpu_inverse: Vec<f64>,
    pub(super) memory_inverse: Vec<f64>,
    pub(super) free_storage: Vec<f64>,
    pub(super) free_pods: Vec<f64>,
}

impl Amounts {
    pub(super) fn resize(&mut self, rows: usize) {
        // Every field is named: a new column has to be thought of.
        let Self {
            cpu,
            memory,
            cpu_used,
            memory_used,
            cpu_nonzero,
            memory_nonzero,
            cpu_inverse,
            memory_inverse,
            free_storage,
            free_pods,
        } = self;
        for (column, full) in [
            (cpu, Row::FULL.cpu),
            (memory, Row::FULL.memory),
            (cpu_used, Row::FULL.cpu_used),
            (memory_used, Row::FULL.memory_used),
            (cpu_nonzero, Row::FULL.cpu_nonzero),
            (memory_nonzero, Row::FULL.memory_nonzero),
            (cpu_inverse, Row::FULL.cpu_inverse),
            (memory_inverse, Row::FULL.memory_inverse),
            (free_storage, Row::FULL.free_storage),
            (free_pods, Row::FULL.free_pods),
        ] {
            column.resize(rows, full);
        }
    }

    /// Becomes a copy in its own memory.
    pub(super) fn copy_from(&mut self, other: &Self) {
        let Self {
            cpu,
            memory,
            cpu_used,
            memory_used,
            cpu_nonzero,
            memory_nonzero,
            cpu_inverse,
            memory_inverse,
            free_storage,
            free_pods,
        } = self;
        for (column, other) in [
            (cpu, &other.cpu),
            (memory, &other.memory),
            (cpu_used, &other.cpu_used),
            (memory_used, &other.memory_used),
            (cpu_nonzero, &other.cpu_nonzero),
            (memory_nonzero, &other.memory_nonzero),
            (cpu_inverse, &other.cpu_inverse),
            (memory_inverse, &other.memory_inverse),
            (free_storage, &other.free_storage),
            (free_pods, &other.free_pods),
        ] {
            column.clone_from(other);
        }
    }

    #[inline]
    pub(super) fn set(&mut self, row: usize, amounts: &Row) {
        self.cpu[row] = amounts.cpu;
        self.memory[row] = amounts.memory;
        self.cpu_used[row] = amounts.cpu_used;
        self.memory_used[row] = amounts.memory_used;
        self.cpu_nonzero[row] = amounts.cpu_nonzero;
        self.memory_nonzero[row] = amounts.memory_nonzero;
        self.cpu_inverse[row] = amounts.cpu_inverse;
        self.memory_inverse[row] = amounts.memory_inverse;
        self.free_storage[row] = amounts.free_storage;
        self.free_pods[row] = amounts.free_pods;
    }

    #[inline]
    pub(super) fn get(&self, row: usize) -> Row {
        self.from(row, 1).row(0)
    }

    /// So many rows from one on.
    #[inline(always)]
    pub(super) fn from(&self, start: usize, rows: usize) -> View<'_> {
        let range = start..start + rows;
        View {
            cpu: &self.cpu[range.clone()],
            memory: &self.memory[range.clone()],
            cpu_used: &self.cpu_used[range.clone()],
            memory_used: &self.memory_used[range.clone()],
            cpu_nonzero: &self.cpu_nonzero[range.clone()],
            memory_nonzero: &self.memory_nonzero[range.clone()],
            cpu_inverse: &self.cpu_inverse[range.clone()],
            memory_inverse: &self.memory_inverse[range.clone()],
            free_storage: &self.free_storage[range.clone()],
            free_pods: &self.free_pods[range],
        }
    }
}

/// Columns of one length, so that a loop over them needs no checks and is vectorised.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    cpu: &'a [f64],
    memory: &'a [f64],
    cpu_used: &'a [f64],
    memory_used: &'a [f64],
    cpu_nonzero: &'a [f64],
    memory_nonzero: &'a [f64],
    cpu_inverse: &'a [f64],
    memory_inverse: &'a [f64],
    free_storage: &'a [f64],
    free_pods: &'a [f64],
}

impl View<'_> {
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Row {
        Row {
            cpu: self.cpu[row],
            memory: self.memory[row],
            cpu_used: self.cpu_used[row],
            memory_used: self.memory_used[row],
            cpu_nonzero: self.cpu_nonzero[row],
            memory_nonzero: self.memory_nonzero[row],
            cpu_inverse: self.cpu_inverse[row],
            memory_inverse: self.memory_inverse[row],
            free_storage: self.free_storage[row],
            free_pods: self.free_pods[row],
        }
    }
}
