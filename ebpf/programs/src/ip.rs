//! The IP headers of packets that the programs make themselves. None of them is ever cut (RFC 6864).

use pintle_ebpf_common::Address;

use crate::view::{fold, mended};

/// What is said in one.
#[derive(Clone, Copy)]
pub struct Header {
    pub source: Address,
    pub destination: Address,
    /// The protocol of what is behind it.
    pub number: u8,
    /// Bytes behind it.
    pub length: u16,
    /// The type of service, or traffic class.
    pub class: u8,
    /// The packet's number of IPv4, the lower 16 bits of IPv6's flow label.
    pub mark_be: u16,
}

impl Header {
    #[inline(always)]
    pub fn v4(&self) -> [u32; 5] {
        let [high, low] = self.length.wrapping_add(20).to_be_bytes();
        let [a, b] = self.mark_be.to_ne_bytes();
        let [.., source] = self.source.words();
        let [.., destination] = self.destination.words();
        let mut words = [
            u32::from_ne_bytes([0x45, self.class, high, low]),
            u32::from_ne_bytes([a, b, NEVER_CUT, 0]),
            u32::from_ne_bytes([HOPS, self.number, 0, 0]),
            source,
            destination,
        ];
        let sum = words.iter().fold(0, |sum, word| sum + *word as u64);
        let [a, b] = mended(0xffff, fold(sum)).to_ne_bytes();
        words[2] = u32::from_ne_bytes([HOPS, self.number, a, b]);
        words
    }

    #[inline(always)]
    pub fn v6(&self) -> [u32; 10] {
        let [high, low] = self.length.to_be_bytes();
        let [a, b] = self.mark_be.to_ne_bytes();
        let [e, f, g, h] = self.source.words();
        let [i, j, k, l] = self.destination.words();
        let first = u32::from_ne_bytes([0x60 | self.class >> 4, self.class << 4, a, b]);
        let second = u32::from_ne_bytes([high, low, self.number, HOPS]);
        [first, second, e, f, g, h, i, j, k, l]
    }
}

const HOPS: u8 = 64;
const NEVER_CUT: u8 = 0x40;
