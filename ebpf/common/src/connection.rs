//! Connections whose packets are translated, for clients that are not on the node.

use crate::Address;

/// What the packets of one direction have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Where they come from.
    pub source: Address,
    /// Where they go.
    pub destination: Address,
    /// The port they come from.
    pub source_port_be: u16,
    /// The port they go to.
    pub destination_port_be: u16,
    /// One of [`crate::protocol`].
    pub protocol: u8,
    /// One of [`crate::hook`]: where they are seen so.
    pub hook: u8,
    /// Zero.
    pub padding: [u8; 2],
}
const _: () = assert!(size_of::<Tuple>() == 40);

impl Tuple {
    /// The other direction, seen where packets leave if these are seen where they come, and the other way
    /// round.
    #[must_use]
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port_be: self.destination_port_be,
            destination_port_be: self.source_port_be,
            hook: self.hook ^ 1,
            ..self
        }
    }
}

/// What packets of a direction become. Destinations are changed where packets come in and sources where
/// they leave, so that the kernel in between routes them by what is true. Each entry says all that its
/// pair in the other direction says, so that either can be made from the other:
///
/// ```text
/// ingress   client -> Service     becomes   client -> backend    ─┐
/// egress    client -> backend     becomes   node   -> backend  ─┐ │  if it is masqueraded
/// ingress   backend -> node       becomes   backend -> client  ─┘ │
/// egress    backend -> client     becomes   Service -> client    ─┘
/// ```
///
/// Where the backend's node answers the client itself ([`crate::tracked::TUNNEL`]) the second is put back
/// to what it was, which goes to the backend inside another packet. It and the first are made from each
/// other, and there is no third:
///
/// ```text
/// ingress   client -> Service     becomes   client -> backend    ─┐
/// egress    client -> backend     becomes   client -> Service    ─┘
/// ```
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// What the packets become.
    pub to: Tuple,
    /// When the other direction's entry was last seen to be there, in the kernel's ticks.
    pub paired_ticks: u64,
    /// Bits of [`crate::tracked`].
    pub flags: u32,
    /// [`crate::Frontend::service`].
    pub service: u32,
}
const _: () = assert!(size_of::<Tracked>() == 56);

impl Tracked {
    /// The entry of the other direction of the connection whose entry this is, under `key`: its key
    /// and itself.
    #[must_use]
    #[inline(always)]
    pub const fn other(&self, key: Tuple) -> (Tuple, Self) {
        let flags = self.flags ^ crate::tracked::REPLY;
        (self.to.reversed(), Self { to: key.reversed(), flags, ..*self })
    }
}

/// What tells the fragments of one packet from others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Where it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// The packet's number; of IPv4 the last 16 bits alone.
    pub id_be: u32,
    /// One of [`crate::protocol`].
    pub protocol: u32,
}
const _: () = assert!(size_of::<FragmentKey>() == 40);

/// A link of the node whose packets are translated.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its IPv4 address: what packets that leave by it are masqueraded with.
    pub v4: Address,
    /// Its IPv6 address.
    pub v6: Address,
    /// Bits of [`crate::device`].
    pub flags: u32,
    /// How long a packet may be that leaves by it, from its IP header on; 0: it is not known.
    pub mtu: u32,
}
const _: () = assert!(size_of::<Device>() == 40);

/// Two addresses, the one a client's and the other a backend's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressPair {
    /// The client's.
    pub one: Address,
    /// The backend's.
    pub other: Address,
}
const _: () = assert!(size_of::<AddressPair>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_direction_tells_of_the_other() {
        let address = |last: u8| Address::from_v4(u32::from_ne_bytes([10, 0, 0, last]));
        let client = Tuple {
            source: address(1),
            destination: address(2),
            source_port_be: 1,
            destination_port_be: 2,
            protocol: crate::protocol::TCP,
            hook: crate::hook::INGRESS,
            padding: [0; 2],
        };
        let to = Tuple { source: address(3), destination: address(4), source_port_be: 3, ..client };
        let forward = Tracked { to, paired_ticks: 5, flags: 0, service: 7 };
        let (key, reply) = forward.other(client);
        assert_eq!((key.source, key.destination), (address(4), address(3)));
        assert_eq!((reply.to.source, reply.to.destination), (address(2), address(1)));
        assert_eq!((key.hook, reply.flags), (crate::hook::EGRESS, crate::tracked::REPLY));
        assert_eq!(reply.other(key), (client, forward));
    }
}
