//! Addresses of hollow pods: one pool a node, and one shared by the nodes that have no podCIDR.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use pintle_node::{AddressPool, Ipv4Net};

/// All pools.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    by_node: HashMap<String, AddressPool>,
    shared: Option<AddressPool>,
}

impl Addresses {
    /// An address for a pod of `node`: the `given` one if it has one already, else a free one.
    pub(super) fn take(
        &mut self,
        node: &str,
        cidr: Option<Ipv4Net>,
        given: Option<Ipv4Addr>,
    ) -> Option<Ipv4Addr> {
        let own = match cidr {
            Some(cidr) => {
                Some(self.by_node.entry(node.to_owned()).or_insert_with(|| AddressPool::new(cidr)))
            }
            None => None,
        };
        let shared = self.shared.get_or_insert_with(|| AddressPool::new(SHARED));
        if let Some(given) = given {
            // A foreign address is kept as it is: the pod has it already.
            let _reserved = own.is_some_and(|pool| pool.reserve(given)) || shared.reserve(given);
            return Some(given);
        }
        own.and_then(|pool| pool.allocate().ok()).or_else(|| shared.allocate().ok())
    }

    /// Give an address back.
    pub(super) fn release(&mut self, node: &str, address: Ipv4Addr) {
        let pool = self.by_node.get_mut(node).filter(|pool| pool.network().contains(&address));
        if let Some(pool) = pool.or(self.shared.as_mut()) {
            pool.release(address);
        }
    }
}

/// Carrier-grade NAT's range (RFC 6598).
const SHARED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
