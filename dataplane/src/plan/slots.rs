//! Which slots of the backend array are free.
//!
//! A buddy allocator: runs are of a power of two, and two free halves of a larger run become that
//! run again, so what is free does not crumble. A retired run waits before it is used again: a
//! program that looked its frontend up a moment ago may still read it. (It would notice: see the
//! seals in `pintle_ebpf_common`. So where nothing else is left a run may be used early, though not
//! before the plan that retired it is carried out.)

use std::collections::{BTreeSet, VecDeque};

/// A run of slots: `1 << order` from `base` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) base: u32,
    pub(super) order: u32,
}

#[derive(Debug)]
pub(super) struct SlotAllocator {
    /// The bases of the free runs, by order.
    free: [BTreeSet<u32>; ORDERS],
    /// Oldest first, with the time it was retired.
    retired: VecDeque<(u64, Run)>,
    /// How many of `retired` are from before the plan being made.
    reclaimable: usize,
}

impl SlotAllocator {
    /// All of `slots_max` slots are free.
    pub(super) fn new(slots_max: u32) -> Self {
        let free = std::array::from_fn(|_| BTreeSet::new());
        let mut allocator = Self { free, retired: VecDeque::new(), reclaimable: 0 };
        allocator.grow(0, slots_max);
        allocator
    }

    /// The slots from `old_max` up to `slots_max` are there too, and free.
    pub(super) fn grow(&mut self, old_max: u32, slots_max: u32) {
        let mut base = old_max;
        while base < slots_max {
            // The largest run that may begin here and ends within the slots.
            let order = base.trailing_zeros().min((slots_max - base).ilog2());
            self.free_run(Run { base, order });
            base += 1 << order;
        }
    }

    /// A plan begins: free what was retired `grace_ms` ago or earlier.
    pub(super) fn begin(&mut self, now_ms: u64, grace_ms: u64) {
        while let Some((retired_ms, _)) = self.retired.front()
            && now_ms.saturating_sub(*retired_ms) >= grace_ms
        {
            self.reclaim_oldest();
        }
        self.reclaimable = self.retired.len();
    }

    /// A run for `count` slots, at least one.
    pub(super) fn allocate(&mut self, count: usize) -> Option<Run> {
        let count = u32::try_from(count).ok()?;
        let order = count.checked_next_power_of_two()?.trailing_zeros();
        loop {
            if let Some(run) = self.split(order) {
                return Some(run);
            }
            if self.reclaimable == 0 {
                return None;
            }
            self.reclaimable -= 1;
            self.reclaim_oldest();
        }
    }

    /// No frontend names `run` any more, once the plan being made is carried out.
    pub(super) fn retire(&mut self, run: Run, now_ms: u64) {
        self.retired.push_back((now_ms, run));
    }

    /// A run that was just allocated is not needed after all.
    pub(super) fn give_back(&mut self, run: Run) {
        self.free_run(run);
    }

    /// Take the run of `count` slots from `base` on, which an earlier process was given; `None` if it
    /// is not free.
    pub(super) fn reserve(&mut self, base: u32, count: usize) -> Option<Run> {
        let count = u32::try_from(count).ok()?;
        let order = count.checked_next_power_of_two()?.trailing_zeros();
        let start = |order: u32| base & (u32::MAX << order);
        let of_order = |found: &u32| self.free[*found as usize].contains(&start(*found));
        let found = (order..ORDERS as u32).find(of_order)?;
        if start(order) != base {
            return None;
        }
        self.free[found as usize].remove(&start(found));
        for half in (order..found).rev() {
            // The half that does not hold `base` stays free.
            self.free[half as usize].insert(start(half) ^ (1 << half));
        }
        Some(Run { base, order })
    }

    fn split(&mut self, order: u32) -> Option<Run> {
        let found = (order..ORDERS as u32).find(|order| !self.free[*order as usize].is_empty())?;
        let base = self.free[found as usize].pop_first()?;
        for half in order..found {
            self.free[half as usize].insert(base + (1 << half));
        }
        Some(Run { base, order })
    }

    fn reclaim_oldest(&mut self) {
        if let Some((_, run)) = self.retired.pop_front() {
            self.free_run(run);
        }
    }

    fn free_run(&mut self, Run { mut base, mut order }: Run) {
        while (order as usize) < ORDERS - 1
            && self.free[order as usize].remove(&(base ^ (1 << order)))
        {
            base &= !(1 << order);
            order += 1;
        }
        self.free[order as usize].insert(base);
    }
}

/// Runs of up to 2^31 slots.
const ORDERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_is_no_power_of_two_is_used_whole() {
        let mut slots = SlotAllocator::new(7);
        assert_eq!(slots.allocate(5), None);
        assert_eq!(slots.allocate(3), Some(Run { base: 0, order: 2 }));
        assert_eq!(slots.allocate(2), Some(Run { base: 4, order: 1 }));
        assert_eq!(slots.allocate(1), Some(Run { base: 6, order: 0 }));
        assert_eq!(slots.allocate(1), None);
    }

    #[test]
    fn slots_that_are_added_are_used_with_those_that_are_there() {
        let mut slots = SlotAllocator::new(3);
        assert_eq!(slots.allocate(1), Some(Run { base: 2, order: 0 }));
        slots.grow(3, 12);
        assert_eq!(slots.allocate(4), Some(Run { base: 4, order: 2 }));
        assert_eq!(slots.allocate(3), Some(Run { base: 8, order: 2 }));
        assert_eq!(slots.allocate(2), Some(Run { base: 0, order: 1 }));
        assert_eq!(slots.allocate(1), Some(Run { base: 3, order: 0 }));
        assert_eq!(slots.allocate(1), None);
        // Two halves of which one is old are whole again.
        let mut slots = SlotAllocator::new(4);
        slots.grow(4, 8);
        assert_eq!(slots.allocate(8), Some(Run { base: 0, order: 3 }));
    }

    #[test]
    fn halves_become_whole_again() {
        let mut slots = SlotAllocator::new(8);
        let runs: Vec<Run> = (0..8).map(|_| slots.allocate(1).unwrap()).collect();
        for run in [3, 0, 7, 5, 1, 2, 6, 4] {
            slots.retire(runs[run], 0);
        }
        assert_eq!(slots.allocate(1), None, "not within the plan that retires them");
        slots.begin(10, 10);
        assert_eq!(slots.allocate(8), Some(Run { base: 0, order: 3 }));
    }

    #[test]
    fn a_run_of_an_earlier_process_is_taken_out() {
        let mut slots = SlotAllocator::new(16);
        assert_eq!(slots.reserve(4, 3), Some(Run { base: 4, order: 2 }));
        assert_eq!(slots.reserve(6, 1), None, "within the first");
        assert_eq!(slots.reserve(1, 2), None, "no run begins there");
        assert_eq!(slots.reserve(16, 1), None, "beyond the end");
        assert_eq!(slots.allocate(8), Some(Run { base: 8, order: 3 }));
        assert_eq!(slots.allocate(4), Some(Run { base: 0, order: 2 }));
        assert_eq!(slots.allocate(1), None);
        slots.retire(Run { base: 4, order: 2 }, 0);
        slots.begin(0, 0);
        assert_eq!(slots.allocate(4), Some(Run { base: 4, order: 2 }));
    }

    #[test]
    fn a_retired_run_waits_unless_it_is_needed() {
        let mut slots = SlotAllocator::new(4);
        let first = slots.allocate(2).unwrap();
        slots.retire(first, 0);
        slots.begin(1, 1000);
        assert_eq!(slots.allocate(2), Some(Run { base: 2, order: 1 }));
        assert_eq!(slots.allocate(2), Some(first));
        assert_eq!(slots.allocate(1), None);
    }
}
