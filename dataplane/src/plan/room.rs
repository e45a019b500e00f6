//! How much room the maps would need, and what changes when they are given more.

use super::maglev;
use super::op::Rejection;
use super::planner::Planner;
use super::table::ring_slots;
use crate::Limits;

impl Planner {
    /// The sizes that the maps should grow to, where a claim waits for room; `None` if none does, or
    /// it waits for a moment only (for slots that rest), or [`Limits::CEILING`] is reached.
    ///
    /// `insist`: room was wanting for a while. Then what is there is in pieces that are too small, or
    /// is held by what waits for that very room to be replaced; and it is doubled.
    #[must_use]
    pub fn wider(&self, insist: bool) -> Option<Limits> {
        if !self.lacks_room() {
            return None;
        }
        let [frontends, slots, ranges] = self.claimed();
        let lacks = |full: fn(&Rejection) -> bool| insist && self.rejected.values().any(full);
        let more_than = |size: u32, needed: u64, is_lacking: bool| {
            if is_lacking { needed.max(u64::from(size) + 1) } else { needed }
        };
        let Limits { frontends_max, slots_max, source_ranges_max, .. } = self.limits;
        let lacks_slots = lacks(|reason| matches!(reason, Rejection::SlotsFull { .. }));
        let slots = more_than(slots_max, slots, lacks_slots);
        let lacks_ranges = lacks(|reason| matches!(reason, Rejection::RangesFull { .. }));
        let ranges = more_than(source_ranges_max, ranges, lacks_ranges);
        let ceiling = Limits::CEILING;
        let wider = Limits {
            frontends_max: grown(frontends_max, frontends, ceiling.frontends_max),
            slots_max: grown(slots_max, slots, ceiling.slots_max),
            source_ranges_max: grown(source_ranges_max, ranges, ceiling.source_ranges_max),
            ..self.limits
        };
        (wider != self.limits).then_some(wider)
    }

    /// The maps have these sizes from now on, and hold all that they held. The next plan makes use of
    /// them.
    ///
    /// # Panics
    ///
    /// If one is smaller than before.
    pub fn grow(&mut self, limits: Limits) {
        assert!(
            limits.frontends_max >= self.limits.frontends_max
                && limits.slots_max >= self.limits.slots_max
                && limits.source_ranges_max >= self.limits.source_ranges_max,
            "maps grow"
        );
        self.limits = limits;
        self.tables.grow(limits.slots_max);
        self.ranges.grow(limits.source_ranges_max);
    }

    /// The addresses, slots and source ranges that all claims would take, met or not. Of an address
    /// that several claim all are counted: one of them may pass to the next at any time.
    fn claimed(&self) -> [u64; 3] {
        let mut sums = [0, 0, 0];
        for claim in self.claims.values().flatten() {
            sums[0] += 1;
            // A port's addresses share its table and its ranges.
            if claim.index != 0 {
                continue;
            }
            let port = &claim.port;
            let mut sets = vec![&port.cluster, &port.local];
            sets.retain(|set| !set.is_empty());
            sets.dedup();
            for set in sets {
                let ring = ring_slots(maglev::places(set.len(), port.ring));
                let ring = if ring == 0 { 0 } else { ring.next_power_of_two() };
                sums[1] += (set.len().next_power_of_two() + ring) as u64;
            }
            sums[2] += port.source_ranges.len() as u64;
        }
        sums
    }
}

/// Room for `needed` and a quarter more, for what changes: a power of two. A `size` that has it stays.
fn grown(size: u32, needed: u64, ceiling: u32) -> u32 {
    let wanted = needed.saturating_add(needed / 4);
    if wanted <= u64::from(size) {
        return size;
    }
    let wanted = wanted.checked_next_power_of_two().unwrap_or(u64::MAX);
    u32::try_from(wanted).unwrap_or(u32::MAX).min(ceiling).max(size)
}

#[cfg(test)]
mod tests {
    use super::grown;

    #[test]
    fn sizes_grow_to_powers_of_two_below_the_ceiling() {
        assert_eq!(grown(8, 6, 1024), 8);
        assert_eq!(grown(8, 7, 1024), 8);
        assert_eq!(grown(8, 8, 1024), 16);
        assert_eq!(grown(8, 100, 1024), 128);
        assert_eq!(grown(8, 1000, 1024), 1024);
        assert_eq!(grown(8, u64::MAX, 1024), 1024);
        assert_eq!(grown(2048, 4000, 1024), 2048, "never smaller");
    }
}
