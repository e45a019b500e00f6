//! IPv4 and IPv6 addresses as one type, so that one table serves both.

use crate::seal;

/// An address in network byte order. An IPv4 address is held in its IPv6-mapped form,
/// `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2), as an IPv6 socket also names it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The first eight bytes as they stand in a packet.
    pub high_be: u64,
    /// The last eight bytes as they stand in a packet.
    pub low_be: u64,
}
const _: () = assert!(size_of::<Address>() == 16);

impl Address {
    /// What a node port's frontends have in the place of an address, for IPv4: `0.0.0.0`.
    pub const ANY_V4: Self = Self::from_v4(0);
    /// What a node port's frontends have in the place of an address, for IPv6: `::`.
    pub const ANY_V6: Self = Self { high_be: 0, low_be: 0 };

    /// An IPv4 address from its four bytes as they stand in a packet.
    #[must_use]
    #[inline(always)]
    pub const fn from_v4(addr_be: u32) -> Self {
        let low_be = if cfg!(target_endian = "little") {
            0xffff_0000 | (addr_be as u64) << 32
        } else {
            0x0000_ffff_0000_0000 | addr_be as u64
        };
        Self { high_be: 0, low_be }
    }

    /// An IPv6 address from its four words as they stand in a packet.
    #[must_use]
    #[inline(always)]
    pub const fn from_words(words_be: [u32; 4]) -> Self {
        let [a, b, c, d] = words_be;
        Self { high_be: join_words(a, b), low_be: join_words(c, d) }
    }

    /// The address as four words in network byte order.
    #[must_use]
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        let (a, b) = split_words(self.high_be);
        let (c, d) = split_words(self.low_be);
        [a, b, c, d]
    }

    /// The four bytes of an IPv4 address in network byte order; `None` for an IPv6 address.
    #[must_use]
    #[inline(always)]
    pub const fn v4(self) -> Option<u32> {
        if self.is_v4() { Some(split_words(self.low_be).1) } else { None }
    }

    /// Whether this is an IPv4 address.
    #[must_use]
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.high_be == 0 && split_words(self.low_be).0 == MAPPED_BE
    }

    /// `0.0.0.0` or `::`, by the family of this address.
    #[must_use]
    #[inline(always)]
    pub const fn any_of_family(self) -> Self {
        if self.is_v4() { Self::ANY_V4 } else { Self::ANY_V6 }
    }
}

/// Mixed well: the bytes that tell addresses apart stand in the upper half of a word on most machines,
/// and hash tables that take their buckets by the lower bits would have long chains.
impl core::hash::Hash for Address {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(seal([self.high_be, self.low_be]));
    }
}

const MAPPED_BE: u32 = 0x0000_ffff_u32.to_be();

#[inline(always)]
const fn join_words(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "little") {
        first as u64 | (second as u64) << 32
    } else {
        (first as u64) << 32 | second as u64
    }
}

#[inline(always)]
const fn split_words(word: u64) -> (u32, u32) {
    if cfg!(target_endian = "little") {
        (word as u32, (word >> 32) as u32)
    } else {
        ((word >> 32) as u32, word as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_its_mapped_ipv6_address() {
        let v4 = Address::from_v4(u32::from_ne_bytes([10, 96, 0, 1]));
        let mut bytes = [0; 16];
        bytes[10..12].fill(0xff);
        bytes[12..].copy_from_slice(&[10, 96, 0, 1]);
        let word = |at: usize| u32::from_ne_bytes(core::array::from_fn(|byte| bytes[at + byte]));
        let mapped = Address::from_words([word(0), word(4), word(8), word(12)]);
        assert_eq!(v4, mapped);
        assert_eq!(v4.v4(), Some(u32::from_ne_bytes([10, 96, 0, 1])));
        assert_eq!(mapped.words(), [word(0), word(4), word(8), word(12)]);
    }

    #[test]
    fn an_ipv6_address_is_no_ipv4_address() {
        let loopback = Address::from_words([0, 0, 0, 1_u32.to_be()]);
        assert_eq!(loopback.v4(), None);
        assert_eq!(loopback.any_of_family(), Address::ANY_V6);
        assert_eq!(Address::from_v4(7).any_of_family(), Address::ANY_V4);
        assert_ne!(Address::ANY_V4, Address::ANY_V6);
    }
}
