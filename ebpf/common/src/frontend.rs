//! What a client connects to: a Service's address and port.

use crate::seal;

/// The key of a frontend: where a client wants to go.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey {
    /// The Service's address.
    pub addr_be: u32,
    /// The Service's port.
    pub port_be: u16,
    /// One of [`crate::protocol`].
    pub protocol: u8,
    /// Zero.
    pub padding: u8,
}
const _: () = assert!(size_of::<FrontendKey>() == 8);

impl FrontendKey {
    /// A key from its parts.
    #[must_use]
    #[inline(always)]
    pub const fn new(addr_be: u32, port_be: u16, protocol: u8) -> Self {
        Self { addr_be, port_be, protocol, padding: 0 }
    }

    /// The key as one word.
    #[must_use]
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.addr_be as u64 | (self.port_be as u64) << 32 | (self.protocol as u64) << 48
    }
}

/// A frontend's record: which table of backends answers for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontend {
    /// The table's id. Never given twice in the life of the maps, so it is also the generation.
    pub table: u64,
    /// The table's first slot.
    pub slot_base: u32,
    /// The number of backends, which stand in the slots from `slot_base` on.
    pub count: u32,
    /// The Service port's index in the counters.
    pub counter: u32,
    /// Bits of [`crate::flag`].
    pub flags: u32,
    /// Over the key and all fields above.
    pub seal: u64,
}
const _: () = assert!(size_of::<Frontend>() == 32);

impl Frontend {
    /// The record for `key`, sealed.
    #[must_use]
    pub fn new(key: FrontendKey, word: FrontendWord) -> Self {
        let FrontendWord { table, slot_base, count, counter, flags } = word;
        let mut frontend = Self { table, slot_base, count, counter, flags, seal: 0 };
        frontend.seal = frontend.seal_for(key);
        frontend
    }

    /// Whether the record is whole and belongs to `key`.
    #[must_use]
    #[inline(always)]
    pub fn is_sealed_for(&self, key: FrontendKey) -> bool {
        self.seal == self.seal_for(key)
    }

    #[inline(always)]
    fn seal_for(&self, key: FrontendKey) -> u64 {
        let run = (self.slot_base as u64) << 32 | self.count as u64;
        let rest = (self.counter as u64) << 32 | self.flags as u64;
        seal([key.word(), self.table, run, rest])
    }
}

/// The parts of a [`Frontend`] before it is sealed; the fields mean the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of Frontend")]
pub struct FrontendWord {
    pub table: u64,
    pub slot_base: u32,
    pub count: u32,
    pub counter: u32,
    pub flags: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_belongs_to_one_key_and_one_state() {
        let key = FrontendKey::new(0x0a00_600a, 80_u16.to_be(), crate::protocol::TCP);
        let word = FrontendWord { table: 3, slot_base: 16, count: 2, counter: 1, flags: 0 };
        let frontend = Frontend::new(key, word);
        assert!(frontend.is_sealed_for(key));
        assert!(!frontend.is_sealed_for(FrontendKey { protocol: crate::protocol::UDP, ..key }));
        assert!(!Frontend { count: 3, ..frontend }.is_sealed_for(key));
        assert!(!Frontend { table: 4, ..frontend }.is_sealed_for(key));
        assert!(!Frontend::default().is_sealed_for(key));
    }
}
