//! The change log of a batch: the rows that its pods took, in the order of the pods.
//!
//! One thread adds, any number of threads read, and nobody waits. A row is written before the length
//! that covers it (release) and read after that length (acquire): a reader sees a beginning of the
//! log, each time at least as long as before, and never a row that is not written.

use super::sync::{AtomicU32, AtomicUsize, Ordering};

/// Rows in the order in which they were taken.
#[derive(Debug, Default)]
pub(crate) struct RowsTaken {
    rows: Vec<AtomicU32>,
    length: AtomicUsize,
}

impl RowsTaken {
    /// Empties it and makes room for so many rows.
    pub(crate) fn restart(&mut self, capacity: usize) {
        if self.rows.len() < capacity {
            self.rows.resize_with(capacity, || AtomicU32::new(0));
        }
        self.length = AtomicUsize::new(0);
    }

    /// How many rows were taken.
    pub(crate) fn length(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    /// Adds a row; only one thread may, and only while there is room.
    pub(crate) fn push(&self, row: usize) {
        let at = self.length.load(Ordering::Relaxed);
        let row = u32::try_from(row).expect("a snapshot has fewer than 2^32 nodes");
        self.rows[at].store(row, Ordering::Relaxed);
        self.length.store(at + 1, Ordering::Release);
    }

    /// The rows from `from` to `to`, which is at most a length that this thread saw.
    pub(crate) fn between(&self, from: usize, to: usize) -> impl ExactSizeIterator<Item = usize> {
        self.rows[from..to].iter().map(|row| row.load(Ordering::Relaxed) as usize)
    }
}
