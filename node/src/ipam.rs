//! Addresses of pods out of a node's podCIDR, as the host-local CNI plugin hands them out: the next
//! free one after the last given, so that an address rests for as long as possible before it comes
//! back to another pod.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The addresses of one network. The network, gateway (first) and broadcast address are not given.
#[derive(Clone, Debug)]
pub struct AddressPool {
    network: Ipv4Net,
    taken: BTreeSet<u32>,
    last: u32,
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Every address is taken.
    #[error("all {room} addresses of {network} are taken")]
    Exhausted {
        /// The network.
        network: Ipv4Net,
        /// How many it holds.
        room: u32,
    },
    /// The node's podCIDR is not known yet.
    #[error("the node has no podCIDR yet")]
    NoNetwork,
}

impl AddressPool {
    /// All addresses of `network` free.
    #[must_use]
    pub fn new(network: Ipv4Net) -> Self {
        let network = network.trunc();
        let last = u32::from(network.network()).saturating_add(1);
        Self { network, taken: BTreeSet::new(), last }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> Ipv4Net {
        self.network
    }

    /// The first address: the bridge's own, and the pods' default route.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network.network()).saturating_add(1))
    }

    /// Take the next free address.
    pub fn allocate(&mut self) -> Result<Ipv4Addr, PoolError> {
        let first = u32::from(self.gateway()).saturating_add(1);
        let end = u32::from(self.network.broadcast());
        let room = end.saturating_sub(first);
        let start = self.last.max(first.saturating_sub(1));
        for step in 1..=room {
            let candidate = first + (start + step - first) % room;
            if self.taken.insert(candidate) {
                self.last = candidate;
                return Ok(Ipv4Addr::from(candidate));
            }
        }
        Err(PoolError::Exhausted { network: self.network, room })
    }

    /// Mark an address that was given out before this pool was made; whether it was free and in it.
    pub fn reserve(&mut self, address: Ipv4Addr) -> bool {
        self.network.contains(&address) && self.taken.insert(u32::from(address))
    }

    /// Give an address back; one that was not taken is ignored.
    pub fn release(&mut self, address: Ipv4Addr) {
        self.taken.remove(&u32::from(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(network: &str) -> AddressPool {
        AddressPool::new(network.parse().unwrap())
    }

    #[test]
    fn an_address_comes_back_only_after_all_others() {
        let mut pool = pool("10.244.1.0/29");
        let first = pool.allocate().unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 244, 1, 2));
        pool.release(first);
        let rest: Vec<_> = (0..4).map(|_| pool.allocate().unwrap().octets()[3]).collect();
        assert_eq!(rest, [3, 4, 5, 6]);
        assert_eq!(pool.allocate(), Ok(first));
        assert_eq!(
            pool.allocate(),
            Err(PoolError::Exhausted { network: "10.244.1.0/29".parse().unwrap(), room: 5 })
        );
        pool.release(Ipv4Addr::new(10, 244, 1, 4));
        assert_eq!(pool.allocate(), Ok(Ipv4Addr::new(10, 244, 1, 4)));
    }

    #[test]
    fn networks_without_room_say_so() {
        for network in ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.0/32", "255.255.255.255/32"] {
            let mut pool = pool(network);
            let first = pool.allocate();
            if network.ends_with("/30") {
                assert_eq!(first, Ok(Ipv4Addr::new(10, 0, 0, 2)));
            }
            assert!(matches!(pool.allocate(), Err(PoolError::Exhausted { .. })), "{network}");
        }
    }

    #[test]
    fn the_gateway_is_never_given() {
        let mut pool = pool("10.244.0.0/28");
        while let Ok(address) = pool.allocate() {
            assert_ne!(address, pool.gateway());
            assert_ne!(address, pool.network().broadcast());
            assert_ne!(address, pool.network().network());
        }
    }
}
