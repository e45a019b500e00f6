//! Where a connection goes: a backend's address, and the slot it stands in.

use crate::seal;

/// An IPv4 address and port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub addr_be: u32,
    /// The port.
    pub port_be: u16,
    /// Zero.
    pub padding: u16,
}
const _: () = assert!(size_of::<Endpoint>() == 8);

impl Endpoint {
    /// An endpoint from its parts in network byte order.
    #[must_use]
    #[inline(always)]
    pub const fn new(addr_be: u32, port_be: u16) -> Self {
        Self { addr_be, port_be, padding: 0 }
    }

    /// The endpoint as one word.
    #[must_use]
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.addr_be as u64 | (self.port_be as u64) << 32 | (self.padding as u64) << 48
    }

    /// The endpoint that [`Endpoint::word`] gave this word.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { addr_be: word as u32, port_be: (word >> 32) as u16, padding: (word >> 48) as u16 }
    }
}

/// One entry of the flat backend array: a table is a run of these.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// [`Endpoint::word`] of the backend.
    pub endpoint: u64,
    /// Over the endpoint and the id of the table that the slot belongs to.
    pub seal: u64,
}
const _: () = assert!(size_of::<Slot>() == 16);

impl Slot {
    /// The slot of `backend` in the table `table`.
    #[must_use]
    pub fn new(backend: Endpoint, table: u64) -> Self {
        Self { endpoint: backend.word(), seal: seal([backend.word(), table]) }
    }

    /// The backend, if this slot is whole and belongs to `table`.
    #[must_use]
    #[inline(always)]
    pub fn open(self, table: u64) -> Option<Endpoint> {
        if seal([self.endpoint, table]) == self.seal {
            Some(Endpoint::from_word(self.endpoint))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_opens_for_its_own_table_alone() {
        let backend = Endpoint::new(0x0100_f40a, 8080_u16.to_be());
        let slot = Slot::new(backend, 7);
        assert_eq!(slot.open(7), Some(backend));
        assert_eq!(slot.open(8), None);
        assert_eq!(Slot { endpoint: slot.endpoint ^ 1, ..slot }.open(7), None);
        assert_eq!(Slot::default().open(0), None);
    }
}
