//! Which packets can be of a Service at all: a few bits instead of the tables, since most packets of a
//! node are of none.

use crate::{Address, Tracked, Tuple, hook};

/// Two Bloom filters of one hash each. A mark that is set may mean nothing; one that is not set is
/// certain: whoever makes an entry in the tables that packets are looked up in sets its mark first.
///
/// Marks of addresses, a bit each, are set by user space and never cleared. Those of pairs are set by the
/// programs, so each is a byte, which two can set at once. They are there twice and set in both halves.
/// To clear them, user space clears the half where programs do not look, waits until no program is at
/// work that began before, sets the marks of all connections there are, and lets the programs look
/// there.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// The half of the pairs that counts, 0 or 1.
    pub current: u64,
    /// Where packets come in, by their destination. A cluster IP has the bit of its network, of which
    /// there are few; any other address of a Service or of the node has its own.
    pub addresses: [u64; ADDRESS_WORDS],
    /// Where packets leave: by the client and the backend of connections that are tracked.
    pub pairs: [[u8; PAIRS]; 2],
}
const _: () = assert!(size_of::<Filter>() == 8 * (1 + ADDRESS_WORDS) + 2 * PAIRS);

/// A bit in [`Filter::addresses`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterBit {
    /// The word.
    pub word: usize,
    /// The bit, as a number.
    pub mask: u64,
}

impl FilterBit {
    /// The bit of an address.
    #[must_use]
    #[inline(always)]
    pub const fn of_address(address: Address) -> Self {
        let number = mix(address) >> (64 - ADDRESS_BITS);
        Self { word: (number >> 6) as usize, mask: 1 << (number & 63) }
    }

    /// The bit of an address's network: of IPv4 24 bits, of IPv6 120.
    #[must_use]
    #[inline(always)]
    pub const fn of_network(address: Address) -> Self {
        let Address { high_be, low_be } = address;
        Self::of_address(Address { high_be, low_be: low_be & BUT_LAST_BYTE })
    }
}

impl Filter {
    /// The place in each half of [`Filter::pairs`] of two addresses, of which either may send to the
    /// other.
    #[must_use]
    #[inline(always)]
    pub const fn pair(one: Address, other: Address) -> usize {
        let (one, other) = (mix(one), mix(other));
        let sum = (one ^ one >> 32).wrapping_add(other ^ other >> 32);
        (sum.wrapping_mul(MULTIPLIER) >> (64 - PAIR_BITS)) as usize
    }

    /// That of a connection that this is an entry of.
    #[must_use]
    #[inline(always)]
    pub const fn pair_of(key: &Tuple, entry: &Tracked) -> usize {
        let routed = if key.hook == hook::INGRESS { entry.to } else { *key };
        Self::pair(routed.source, routed.destination)
    }
}

#[inline(always)]
const fn mix(address: Address) -> u64 {
    let Address { high_be, low_be } = address;
    (high_be.wrapping_mul(HIGH_MULTIPLIER) ^ low_be).wrapping_mul(MULTIPLIER)
}

/// 8 KiB: a whole cluster IP range of 20 bits has 4,096 networks, 6 % of the bits.
const ADDRESS_BITS: u32 = 16;
/// 128 KiB: of the default limit of 65,536 connections, were each of a client of its own, 39 %.
const PAIR_BITS: u32 = 17;
/// Words of [`Filter::addresses`].
pub const ADDRESS_WORDS: usize = 1 << (ADDRESS_BITS - 6);
/// Places in each half of [`Filter::pairs`].
pub const PAIRS: usize = 1 << PAIR_BITS;

const BUT_LAST_BYTE: u64 = u64::from_ne_bytes([255, 255, 255, 255, 255, 255, 255, 0]);
// Odd, with ones and zeros well spread: SplitMix64's two.
const MULTIPLIER: u64 = 0xbf58_476d_1ce4_e5b9;
const HIGH_MULTIPLIER: u64 = 0x94d0_49bb_1331_11eb;

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;

    fn v4(a: u8, b: u8, c: u8, d: u8) -> Address {
        Address::from_v4(u32::from_ne_bytes([a, b, c, d]))
    }

    fn number(bit: FilterBit) -> usize {
        bit.word * 64 + bit.mask.trailing_zeros() as usize
    }

    #[test]
    fn a_network_has_one_bit_and_its_addresses_have_their_own() {
        let networks: BTreeSet<_> =
            (0..=255).map(|last| number(FilterBit::of_network(v4(10, 96, 3, last)))).collect();
        assert_eq!(networks.len(), 1);
        let addresses: BTreeSet<_> =
            (0..=255).map(|last| number(FilterBit::of_address(v4(10, 244, 3, last)))).collect();
        assert_eq!(addresses.len(), 256);
        assert_ne!(
            FilterBit::of_network(v4(10, 96, 3, 1)),
            FilterBit::of_network(v4(10, 96, 4, 1))
        );
    }

    #[test]
    fn the_bits_are_used_evenly() {
        let networks = (0..16).flat_map(|b| (0..=255).map(move |c| v4(10, 96 + b, c, 1)));
        let used: BTreeSet<_> = networks.map(|one| number(FilterBit::of_network(one))).collect();
        assert!(used.len() > 3800, "{} bits for 4096 networks", used.len());
        let clients = (0..=255).flat_map(|c| (0..=255).map(move |d| v4(192, 0, c, d)));
        let pairs = clients.map(|client| Filter::pair(client, v4(10, 244, 1, 5)));
        let used: BTreeSet<_> = pairs.collect();
        // 65,536 at random would be at 51,600.
        assert!(used.len() > 50_000, "{} places for 65536 pairs", used.len());
        assert!(*used.last().unwrap() < PAIRS);
    }

    #[test]
    fn a_pair_is_the_same_in_both_directions() {
        let (client, backend) = (v4(192, 0, 2, 9), v4(10, 244, 1, 5));
        assert_eq!(Filter::pair(client, backend), Filter::pair(backend, client));
        assert_ne!(Filter::pair(client, backend), Filter::pair(client, client));
    }

    #[test]
    fn all_four_entries_of_a_connection_have_its_place() {
        let tuple = |source, destination, hook| Tuple {
            source,
            destination,
            source_port_be: 1,
            destination_port_be: 2,
            protocol: crate::protocol::TCP,
            hook,
            padding: [0; 2],
        };
        let (client, service) = (v4(192, 0, 2, 9), v4(192, 0, 2, 1));
        let (node, backend) = (v4(10, 244, 1, 1), v4(10, 244, 1, 5));
        let pair = Filter::pair(client, backend);
        let entry = |to| Tracked { to, ..Tracked::default() };
        let sent = tuple(client, service, hook::INGRESS);
        let routed = tuple(client, backend, hook::EGRESS);
        let to_backend = entry(Tuple { hook: hook::INGRESS, ..routed });
        let (answer, from_backend) = to_backend.other(sent);
        let masqueraded = entry(tuple(node, backend, hook::EGRESS));
        let (answer_to_node, to_client) = masqueraded.other(routed);
        for (key, entry) in [
            (sent, to_backend),
            (answer, from_backend),
            (routed, masqueraded),
            (answer_to_node, to_client),
        ] {
            assert_eq!(Filter::pair_of(&key, &entry), pair, "{key:?}");
        }
    }
}
