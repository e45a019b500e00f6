//! What a client connects to: a Service's address and port.

use crate::{Address, flag, seal};

/// The key of a frontend: where a client wants to go. A node port has [`Address::ANY_V4`] or
/// [`Address::ANY_V6`] for an address, and is asked for by the node's own addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey {
    /// The Service's address.
    pub address: Address,
    /// The Service's port.
    pub port_be: u16,
    /// One of [`crate::protocol`].
    pub protocol: u8,
    /// Zero.
    pub padding: [u8; 5],
}
const _: () = assert!(size_of::<FrontendKey>() == 24);

impl FrontendKey {
    /// A key from its parts.
    #[must_use]
    #[inline(always)]
    pub const fn new(address: Address, port_be: u16, protocol: u8) -> Self {
        Self { address, port_be, protocol, padding: [0; 5] }
    }

    /// The same port at any address of the node.
    #[must_use]
    #[inline(always)]
    pub const fn node_port(self) -> Self {
        Self { address: self.address.any_of_family(), ..self }
    }

    /// The port and protocol as one word.
    #[must_use]
    #[inline(always)]
    pub const fn port_word(self) -> u64 {
        self.port_be as u64 | (self.protocol as u64) << 16
    }
}

/// A run of slots.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotRun {
    /// The first slot.
    pub base: u32,
    /// How many. No slots: nobody answers.
    pub count: u32,
}
const _: () = assert!(size_of::<SlotRun>() == 8);

impl SlotRun {
    #[inline(always)]
    const fn word(self) -> u64 {
        (self.base as u64) << 32 | self.count as u64
    }
}

/// Where a client is, as far as a Service's traffic policies ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// On this node: a process of the node or of one of its pods, or by the configured detection a
    /// pod of the cluster.
    Internal,
    /// Elsewhere.
    External,
}

/// A frontend's record: which table of backends answers for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontend {
    /// The table's id. Never given twice in the life of the maps, so it is also the generation.
    pub table: u64,
    /// Who answers clients of [`Scope::Internal`].
    pub internal: SlotRun,
    /// Who answers clients of [`Scope::External`].
    pub external: SlotRun,
    /// With consistent hashing, where the ring of [`Frontend::internal`] begins among the slots, and
    /// how many places it has, [`crate::Slot::PLACES`] to a slot: each says which backend of the run
    /// has the flows whose number falls on it. No places: every backend has an equal chance.
    pub internal_ring: SlotRun,
    /// Likewise of [`Frontend::external`].
    pub external_ring: SlotRun,
    /// The number of the Service's port: its counters, its clients' affinity, its name.
    pub service: u32,
    /// The number of the source ranges that clients are checked against; 0: everyone may.
    pub ranges: u32,
    /// How long a client keeps its backend after its latest connection; 0: for one connection.
    pub affinity_seconds: u32,
    /// Bits of [`crate::flag`].
    pub flags: u32,
    /// Over the key and all fields above.
    pub seal: u64,
}
const _: () = assert!(size_of::<Frontend>() == 64);

impl Frontend {
    /// The record for `key`, sealed, whatever its seal was.
    #[must_use]
    pub fn sealed_for(mut self, key: FrontendKey) -> Self {
        self.seal = self.seal_for(key);
        self
    }

    /// Whether the record is whole and belongs to `key`.
    #[must_use]
    #[inline(always)]
    pub fn is_sealed_for(&self, key: FrontendKey) -> bool {
        self.seal == self.seal_for(key)
    }

    /// Who answers a client.
    #[must_use]
    #[inline(always)]
    pub const fn run(&self, scope: Scope) -> SlotRun {
        match scope {
            Scope::Internal => self.internal,
            Scope::External => self.external,
        }
    }

    /// The ring of who answers a client.
    #[must_use]
    #[inline(always)]
    pub const fn ring(&self, scope: Scope) -> SlotRun {
        match scope {
            Scope::Internal => self.internal_ring,
            Scope::External => self.external_ring,
        }
    }

    /// Where nobody answers: whether to drop the client's packets, as kube-proxy does where a traffic
    /// policy leaves no endpoint, and not to reject them, as it does where there is none at all.
    #[must_use]
    #[inline(always)]
    pub const fn drops(&self, scope: Scope) -> bool {
        let bit = match scope {
            Scope::Internal => flag::DROP_INTERNAL,
            Scope::External => flag::DROP_EXTERNAL,
        };
        self.flags & bit != 0
    }

    #[inline(always)]
    fn seal_for(&self, key: FrontendKey) -> u64 {
        let ids = (self.service as u64) << 32 | self.ranges as u64;
        let rest = (self.affinity_seconds as u64) << 32 | self.flags as u64;
        seal([
            key.address.high_be,
            key.address.low_be,
            key.port_word(),
            self.table,
            self.internal.word(),
            self.external.word(),
            self.internal_ring.word(),
            self.external_ring.word(),
            ids,
            rest,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol;

    #[test]
    fn a_frontend_belongs_to_one_key_and_one_state() {
        let key = FrontendKey::new(Address::from_v4(0x0a00_600a), 80_u16.to_be(), protocol::TCP);
        let run = SlotRun { base: 16, count: 2 };
        let frontend = Frontend { table: 3, internal: run, external: run, ..Frontend::default() };
        let frontend = frontend.sealed_for(key);
        assert!(frontend.is_sealed_for(key));
        assert!(!frontend.is_sealed_for(FrontendKey { protocol: protocol::UDP, ..key }));
        assert!(!frontend.is_sealed_for(key.node_port()));
        let one_less = SlotRun { count: 1, ..run };
        for other in [
            Frontend { internal: one_less, ..frontend },
            Frontend { external: one_less, ..frontend },
            Frontend { internal_ring: one_less, ..frontend },
            Frontend { external_ring: one_less, ..frontend },
            Frontend { table: 4, ..frontend },
            Frontend { service: 1, ..frontend },
            Frontend { ranges: 1, ..frontend },
            Frontend { affinity_seconds: 1, ..frontend },
            Frontend { flags: 1, ..frontend },
        ] {
            assert!(!other.is_sealed_for(key), "{other:?}");
        }
        assert!(!Frontend::default().is_sealed_for(key));
    }

    #[test]
    fn the_scopes_are_told_apart() {
        let frontend = Frontend {
            internal: SlotRun { base: 0, count: 3 },
            flags: flag::DROP_EXTERNAL,
            ..Frontend::default()
        };
        assert_eq!(frontend.run(Scope::Internal).count, 3);
        assert_eq!(frontend.run(Scope::External).count, 0);
        assert!(frontend.drops(Scope::External) && !frontend.drops(Scope::Internal));
    }
}
