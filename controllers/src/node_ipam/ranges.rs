//! The node ranges of a cluster range, as a bitmap. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

/// One node's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    index: usize,
    pub(super) net: IpNet,
}

/// Which ranges are taken. Given out in turn, so that a freed one rests before it is used again.
pub(super) struct Ranges {
    cluster: IpNet,
    node_bits: u8,
    taken: Vec<bool>,
    next: usize,
}

impl Ranges {
    /// All ranges with the prefix length `node_bits` in `cluster`; the configuration's check keeps
    /// them at most 65536.
    pub(super) fn new(cluster: IpNet, node_bits: u8) -> Self {
        let count = 1_usize << u32::from(node_bits.saturating_sub(cluster.prefix_len())).min(16);
        Self { cluster: cluster.trunc(), node_bits, taken: vec![false; count], next: 0 }
    }

    /// A free range, now taken.
    pub(super) fn allocate(&mut self) -> Option<Range> {
        let count = self.taken.len();
        let mut order = (0..count).map(|step| (self.next + step) % count);
        let index = order.find(|index| !self.taken[*index])?;
        self.taken[index] = true;
        self.next = (index + 1) % count;
        self.range(index)
    }

    /// The range written as `cidr`, if it is one of these.
    pub(super) fn find(&self, cidr: &str) -> Option<Range> {
        let net: IpNet = cidr.parse().ok()?;
        if net.prefix_len() != self.node_bits || !self.cluster.contains(&net) {
            return None;
        }
        let offset = number(net.network()) - number(self.cluster.network());
        let index = usize::try_from(offset >> self.host_bits()).ok()?;
        self.range(index)
    }

    pub(super) fn occupy(&mut self, range: Range) {
        self.taken[range.index] = true;
    }

    pub(super) fn release(&mut self, range: Range) {
        self.taken[range.index] = false;
    }

    fn range(&self, index: usize) -> Option<Range> {
        let offset = u128::try_from(index).ok()? << self.host_bits();
        let start = number(self.cluster.network()) + offset;
        let address = match self.cluster {
            IpNet::V4(_) => IpAddr::V4(u32::try_from(start).ok()?.into()),
            IpNet::V6(_) => IpAddr::V6(start.into()),
        };
        Some(Range { index, net: IpNet::new(address, self.node_bits).ok()? })
    }

    fn host_bits(&self) -> u32 {
        u32::from(self.cluster.max_prefix_len() - self.node_bits)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_come_in_order_and_end() {
        let mut ranges = Ranges::new("10.244.0.0/22".parse().unwrap(), 24);
        let given: Vec<String> =
            std::iter::from_fn(|| ranges.allocate()).map(|range| range.net.to_string()).collect();
        assert_eq!(given, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
    }

    #[test]
    fn foreign_and_malformed_ranges_are_none_of_ours() {
        let ranges = Ranges::new("10.244.0.0/16".parse().unwrap(), 24);
        assert_eq!(ranges.find("10.244.7.0/24").unwrap().index, 7);
        for foreign in ["10.245.0.0/24", "10.244.0.0/25", "fd00::/24", "10.244.0.0", ""] {
            assert_eq!(ranges.find(foreign), None, "{foreign}");
        }
        let ranges = Ranges::new("fd00:1::/48".parse().unwrap(), 64);
        assert_eq!(ranges.find("fd00:1:0:a::/64").unwrap().index, 10);
    }

    proptest! {
        /// No two holders ever have overlapping ranges, and none is refused while one is free.
        #[test]
        fn ranges_are_never_shared(steps in proptest::collection::vec((any::<bool>(), 0..8_usize), 0..60)) {
            let mut ranges = Ranges::new("10.0.0.0/29".parse().unwrap(), 32);
            let mut held: BTreeMap<usize, Range> = BTreeMap::new();
            for (take, holder) in steps {
                if !take {
                    if let Some(range) = held.remove(&holder) {
                        ranges.release(range);
                    }
                } else if !held.contains_key(&holder) {
                    let range = ranges.allocate();
                    prop_assert!(range.is_some(), "8 ranges for 8 holders");
                    let range = range.unwrap();
                    prop_assert!(held.values().all(|other| other.net != range.net));
                    prop_assert_eq!(ranges.find(&range.net.to_string()), Some(range));
                    held.insert(holder, range);
                }
            }
        }
    }
}
