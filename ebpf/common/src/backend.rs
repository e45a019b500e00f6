//! Where a connection goes: a backend's address, and the slot it stands in.

use crate::{Address, seal};

/// An address and port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port.
    pub port_be: u16,
    /// Zero.
    pub padding: [u16; 3],
}
const _: () = assert!(size_of::<Endpoint>() == 24);

impl Endpoint {
    /// An endpoint from its parts in network byte order.
    #[must_use]
    #[inline(always)]
    pub const fn new(address: Address, port_be: u16) -> Self {
        Self { address, port_be, padding: [0; 3] }
    }
}

/// One entry of the flat backend array: a table is one or two runs of these, each in ascending order
///of their endpoints, so that a backend is found among many by halving.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The backend's address.
    pub address: Address,
    /// The backend's port, as a number of 64 bits.
    pub port_be: u64,
    /// Over the fields above and the id of the table that the slot belongs to.
    pub seal: u64,
}
const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    /// The slot of `backend` in the table `table`.
    #[must_use]
    pub fn new(backend: Endpoint, table: u64) -> Self {
        let Endpoint { address, port_be, .. } = backend;
        let mut slot = Self { address, port_be: port_be as u64, seal: 0 };
        slot.seal = slot.seal_for(table);
        slot
    }

    /// The backend, if this slot is whole and belongs to `table`.
    #[must_use]
    #[inline(always)]
    pub fn open(self, table: u64) -> Option<Endpoint> {
        if self.seal_for(table) == self.seal {
            Some(Endpoint::new(self.address, self.port_be as u16))
        } else {
            None
        }
    }

    #[inline(always)]
    fn seal_for(&self, table: u64) -> u64 {
        seal([self.address.high_be, self.address.low_be, self.port_be, table])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_opens_for_its_own_table_alone() {
        let backend = Endpoint::new(Address::from_v4(0x0100_f40a), 8080_u16.to_be());
        let slot = Slot::new(backend, 7);
        assert_eq!(slot.open(7), Some(backend));
        assert_eq!(slot.open(8), None);
        assert_eq!(Slot { port_be: slot.port_be ^ 1, ..slot }.open(7), None);
        let other = Address { high_be: 1, ..slot.address };
        assert_eq!(Slot { address: other, ..slot }.open(7), None);
        assert_eq!(Slot::default().open(0), None);
    }
}
