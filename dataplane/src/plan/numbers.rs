//! The numbers that a plan gives out: of Services' ports, and of their source ranges.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::desired::SourceCidr;
use super::op::{MapOp, Rejection};

/// The numbers of Services' ports, one more than there may be frontends. One that is given up rests
/// for as long as there are others, and at least until the next plan if it can, so that its old
/// frontend no longer counts with it and its clients are forgotten.
#[derive(Debug, Default)]
pub(super) struct ServiceNumbers {
    next: u32,
    free: VecDeque<u32>,
    retired: Vec<u32>,
}

impl ServiceNumbers {
    /// A plan begins: the numbers given up since the last one are nobody's.
    pub(super) fn begin(&mut self, ops: &mut Vec<MapOp>) {
        for service in self.retired.drain(..) {
            ops.push(MapOp::RemoveService { service });
            self.free.push_back(service);
        }
    }

    /// An unused number below `max`; there is one while fewer than `max` are in use.
    pub(super) fn allocate(&mut self, max: u32) -> u32 {
        if self.next < max {
            self.next += 1;
            return self.next - 1;
        }
        // The last is for a caller that breaks its promise: two ports would share their counters.
        self.free.pop_front().or_else(|| self.retired.pop()).unwrap_or(0)
    }

    /// These numbers are in use, and no others. Those below the greatest may be given out again at
    /// the end of the queue.
    pub(super) fn restore(&mut self, used: impl Iterator<Item = u32>) {
        for number in used {
            self.free.extend(self.next..number);
            self.next = self.next.max(number.saturating_add(1));
        }
    }

    pub(super) fn retire(&mut self, service: u32) {
        self.retired.push(service);
    }
}

/// The sets of source ranges that frontends name.
#[derive(Debug)]
pub(super) struct RangeSets {
    ranges_max: u32,
    /// How many ranges the map holds.
    used: usize,
    sets: FxHashMap<u32, RangeSet>,
    /// The last number given out; 0 means no ranges and is never one.
    last: u32,
    loose: Vec<u32>,
    /// Oldest first, with the time they were retired.
    retired: VecDeque<(u64, u32, Arc<[SourceCidr]>)>,
}

#[derive(Debug)]
struct RangeSet {
    cidrs: Arc<[SourceCidr]>,
    users: u32,
}

impl RangeSets {
    pub(super) fn new(ranges_max: u32) -> Self {
        Self {
            ranges_max,
            used: 0,
            sets: FxHashMap::default(),
            last: 0,
            loose: Vec::new(),
            retired: VecDeque::new(),
        }
    }

    /// The map has room for more from now on.
    pub(super) fn grow(&mut self, ranges_max: u32) {
        self.ranges_max = ranges_max;
    }

    /// A set was found in the kernel.
    pub(super) fn restore(&mut self, ranges: u32, cidrs: Arc<[SourceCidr]>) {
        self.used += cidrs.len();
        self.last = self.last.max(ranges);
        self.sets.insert(ranges, RangeSet { cidrs, users: 0 });
        self.loose.push(ranges);
    }

    /// A plan begins: take away what was retired `grace_ms` ago or earlier. A program that looked
    /// its frontend up before would find its client in no range and turn it away.
    pub(super) fn begin(&mut self, now_ms: u64, grace_ms: u64, ops: &mut Vec<MapOp>) {
        while let Some((retired_ms, ..)) = self.retired.front()
            && now_ms.saturating_sub(*retired_ms) >= grace_ms
            && let Some((_, ranges, cidrs)) = self.retired.pop_front()
        {
            self.used -= cidrs.len();
            ops.extend(cidrs.iter().map(|cidr| MapOp::RemoveSourceRange { ranges, cidr: *cidr }));
        }
    }

    /// Whether something waits to be taken away.
    pub(super) fn is_waiting(&self) -> bool {
        !self.retired.is_empty()
    }

    /// The number of a set of `cidrs`: `current` if it is theirs, 0 if there are none.
    pub(super) fn hold(
        &mut self,
        current: Option<u32>,
        cidrs: &Arc<[SourceCidr]>,
        writes: &mut Vec<MapOp>,
    ) -> Result<u32, Rejection> {
        if cidrs.is_empty() {
            return Ok(0);
        }
        if let Some(ranges) = current
            && self.sets.get(&ranges).is_some_and(|set| set.cidrs == *cidrs)
        {
            return Ok(ranges);
        }
        if self.used + cidrs.len() > self.ranges_max as usize {
            let ranges_max = self.ranges_max;
            return Err(Rejection::RangesFull { ranges: cidrs.len(), ranges_max });
        }
        self.used += cidrs.len();
        self.last = self.last.wrapping_add(1).max(1);
        let ranges = self.last;
        writes.extend(cidrs.iter().map(|cidr| MapOp::PutSourceRange { ranges, cidr: *cidr }));
        self.sets.insert(ranges, RangeSet { cidrs: Arc::clone(cidrs), users: 0 });
        self.loose.push(ranges);
        Ok(ranges)
    }

    pub(super) fn use_set(&mut self, ranges: u32) {
        if let Some(set) = self.sets.get_mut(&ranges) {
            set.users += 1;
        }
    }

    pub(super) fn leave(&mut self, ranges: u32) {
        if let Some(set) = self.sets.get_mut(&ranges) {
            set.users -= 1;
            self.loose.push(ranges);
        }
    }

    /// The plan ends: retire the sets that no frontend names.
    pub(super) fn end(&mut self, now_ms: u64) {
        for ranges in std::mem::take(&mut self.loose) {
            if self.sets.get(&ranges).is_some_and(|set| set.users == 0)
                && let Some(set) = self.sets.remove(&ranges)
            {
                self.retired.push_back((now_ms, ranges, set.cidrs));
            }
        }
    }
}
