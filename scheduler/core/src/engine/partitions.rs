//! The partitions that are kept: of each class of pods, for each inquiry about them.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::partition::{Partition, Sources};
use crate::counters::Inquiry;

/// Partitions by class (its serial number) and inquiry.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    all: Vec<Kept>,
    by_key: FxHashMap<Key, usize>,
    /// Those that were asked for once.
    seen: FxHashSet<Key>,
    /// Where the search for a partition to give up goes on.
    hand: usize,
}

type Key = (u64, Arc<Inquiry>);

#[derive(Debug)]
struct Kept {
    key: Key,
    partition: Partition,
    is_recent: bool,
}

/// All partitions together take at most about this.
const BYTES_MAX: usize = 128 << 20;
/// What a partition takes a row: its place, its place in a list, and what it adds to the counts of a
/// few constraints.
const ROW_BYTES: usize = 48;
/// Fewer than this are not kept, however many nodes there are.
const PARTITIONS_MIN: usize = 8;
/// More are not kept, however few nodes there are.
const PARTITIONS_MAX: usize = 1024;
/// Inquiries that were made once are forgotten beyond this.
const SEEN_MAX: usize = 4096;

impl Partitions {
    /// The partition, up to date. `None` if it is asked for for the first time, as making one is more
    /// work than looking at all rows once, or if it is no use.
    pub(super) fn find(&mut self, sources: Sources<'_>) -> Option<&mut Partition> {
        let key = (sources.class.serial, Arc::clone(sources.inquiry));
        let at = match self.by_key.get(&key) {
            Some(at) => *at,
            None => self.make(key, sources.snapshot.nodes().len())?,
        };
        let kept = &mut self.all[at];
        kept.is_recent = true;
        kept.partition.catch_up(sources).then_some(&mut kept.partition)
    }

    fn make(&mut self, key: Key, rows: usize) -> Option<usize> {
        if !self.seen.remove(&key) {
            if self.seen.len() == SEEN_MAX {
                self.seen.clear();
            }
            self.seen.insert(key);
            return None;
        }
        let max = BYTES_MAX / (rows * ROW_BYTES).max(1);
        let kept = Kept { key: key.clone(), partition: Partition::default(), is_recent: true };
        let at = if self.all.len() < max.clamp(PARTITIONS_MIN, PARTITIONS_MAX) {
            self.all.push(kept);
            self.all.len() - 1
        } else {
            let at = self.give_up();
            self.all[at] = kept;
            at
        };
        self.by_key.insert(key, at);
        Some(at)
    }

    /// A partition that was not used for a while, which is forgotten.
    fn give_up(&mut self) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.all.len();
            let kept = &mut self.all[self.hand];
            if !std::mem::take(&mut kept.is_recent) {
                self.by_key.remove(&kept.key);
                return self.hand;
            }
        }
    }
}
