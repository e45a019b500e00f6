//! Where a connection goes: a backend's address, and the slot it stands in.

use crate::{Address, locality, seal};

/// An address and port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port.
    pub port_be: u16,
    /// One of [`crate::locality`], where that is known and of interest: among a table's backends.
    pub locality: u16,
    /// Zero.
    pub padding: [u16; 2],
}
const _: () = assert!(size_of::<Endpoint>() == 24);

impl Endpoint {
    /// An endpoint from its parts in network byte order.
    #[must_use]
    #[inline(always)]
    pub const fn new(address: Address, port_be: u16) -> Self {
        Self { address, port_be, locality: locality::UNKNOWN, padding: [0; 2] }
    }

    /// The same, of which it is known where it is: one of [`crate::locality`].
    #[must_use]
    #[inline(always)]
    pub const fn at(self, locality: u16) -> Self {
        Self { locality, ..self }
    }

    /// Whether two have one address and port.
    #[must_use]
    #[inline(always)]
    pub const fn is_same(&self, other: &Self) -> bool {
        self.address.high_be == other.address.high_be
            && self.address.low_be == other.address.low_be
            && self.port_be == other.port_be
    }
}

/// One entry of the flat backend array: a table is one or two runs of these, each in ascending order
///of their endpoints, so that a backend is found among many by halving.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The backend's address.
    pub address: Address,
    /// The backend's port, and above its 16 bits where it is.
    pub port_be: u64,
    /// Over the fields above and the id of the table that the slot belongs to.
    pub seal: u64,
}
const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    /// The slot of `backend` in the table `table`.
    #[must_use]
    pub fn new(backend: Endpoint, table: u64) -> Self {
        let Endpoint { address, port_be, locality, .. } = backend;
        let port_be = port_be as u64 | (locality as u64) << 16;
        let mut slot = Self { address, port_be, seal: 0 };
        slot.seal = slot.seal_for(table);
        slot
    }

    /// The backend, if this slot is whole and belongs to `table`.
    #[must_use]
    #[inline(always)]
    pub fn open(self, table: u64) -> Option<Endpoint> {
        if self.seal_for(table) == self.seal {
            let backend = Endpoint::new(self.address, self.port_be as u16);
            Some(backend.at((self.port_be >> 16) as u16))
        } else {
            None
        }
    }

    /// A slot of a ring of places (see [`Frontend::internal_ring`](crate::Frontend)): which of its
    /// table's run of backends has each.
    #[must_use]
    pub fn of_ring(places: [u16; Self::PLACES as usize], table: u64) -> Self {
        let word = |at: usize| {
            (0..4).fold(0, |word, place| word | (places[4 * at + place] as u64) << (16 * place))
        };
        let address = Address { high_be: word(0), low_be: word(1) };
        let mut slot = Self { address, port_be: word(2), seal: 0 };
        slot.seal = slot.seal_for(table ^ RING);
        slot
    }

    /// A place of a ring's slot, if the slot is whole and belongs to `table`.
    #[must_use]
    #[inline(always)]
    pub fn place(self, table: u64, place: u32) -> Option<u16> {
        if self.seal_for(table ^ RING) != self.seal {
            return None;
        }
        let word = match place >> 2 {
            0 => self.address.high_be,
            1 => self.address.low_be,
            _ => self.port_be,
        };
        Some((word >> (16 * (place & 3))) as u16)
    }

    /// Places in a slot of a ring.
    pub const PLACES: u32 = 12;

    #[inline(always)]
    fn seal_for(&self, table: u64) -> u64 {
        seal([self.address.high_be, self.address.low_be, self.port_be, table])
    }
}

/// Tells a table's slots of places from its slots of backends; ids of tables are far below.
const RING: u64 = 1 << 63;

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
        let elsewhere = backend.at(locality::OTHER_NODE);
        assert_eq!(Slot::new(elsewhere, 7).open(7), Some(elsewhere));
        assert!(elsewhere.is_same(&backend) && elsewhere != backend);
    }

    #[test]
    fn places_stand_in_their_order() {
        let places = core::array::from_fn(|place| 1000 + place as u16);
        let slot = Slot::of_ring(places, 7);
        for place in 0..Slot::PLACES {
            assert_eq!(slot.place(7, place), Some(1000 + place as u16));
            assert_eq!(slot.place(8, place), None);
        }
        assert_eq!(slot.open(7), None, "no backend");
        let backend = Slot::new(Endpoint::default(), 7);
        assert_eq!(backend.place(7, 0), None, "no ring");
    }
}
