//! Whether a packet can be of a Service at all. Most are not, and they are to cost next to nothing:
//! one or two marks are looked at, and of the packet no more than its addresses.

use core::ptr::{addr_of, addr_of_mut};

use pintle_ebpf_common::{Address, Filter, FilterBit};

use crate::maps::FILTER;
use crate::packet::{ETH_IPV4, ETH_IPV6, L3};
use crate::quote::{ICMP, ICMP_V6};
use crate::tunnel::{IPIP, IPV6_IN_IPV6};
use crate::view::View;

/// Whether a packet that comes in can be: one to an address of a Service or of the node itself, an ICMP
/// message, or a packet that holds another.
#[inline(always)]
pub fn may_come_in(view: &impl View) -> bool {
    classify(view, false, true, |filter, _, destination| has_address(filter, destination))
}

#[inline(always)]
fn has_address(filter: *const Filter, address: Address) -> bool {
    // SAFETY: the map's memory, of which this is but the address.
    let addresses = unsafe { addr_of!((*filter).addresses).cast() };
    is_set(addresses, FilterBit::of_network(address))
        || is_set(addresses, FilterBit::of_address(address))
}

/// Whether there can be an address of a Service with this IP address. Node ports are published with none.
#[inline(always)]
pub fn may_be_published(address: Address) -> bool {
    if address == Address::ANY_V4 || address == Address::ANY_V6 {
        return true;
    }
    let Some(filter) = FILTER.get_ptr(0) else { return true };
    has_address(filter, address)
}

/// Whether a packet that goes out can be: one between a client and a backend of a connection that is
/// tracked, or an ICMP message, which may be about such a packet.
#[inline(always)]
pub fn may_go_out(view: &impl View) -> bool {
    classify(view, false, true, |filter, source, destination| has_pair(filter, source, destination))
}

/// What a packet that goes out can be.
#[derive(Clone, Copy)]
pub enum Leaving {
    /// Nothing that there is to do for.
    Other,
    /// One that [`may_go_out`] is for.
    Connection,
    /// One to a Service's address, which was translated nowhere.
    Stray,
}

/// Which of them one is.
#[inline(always)]
pub fn leaving(view: &impl View) -> Leaving {
    classify(view, Leaving::Other, Leaving::Connection, |filter, source, destination| {
        if has_pair(filter, source, destination) {
            Leaving::Connection
        } else if has_address(filter, destination) {
            Leaving::Stray
        } else {
            Leaving::Other
        }
    })
}

#[inline(always)]
fn has_pair(filter: *const Filter, source: Address, destination: Address) -> bool {
    // SAFETY: the map's memory, and a place is one of the array; read at once.
    unsafe {
        let current = addr_of!((*filter).current).read_volatile() as usize & 1;
        let pairs = addr_of!((*filter).pairs[current]).cast::<u8>();
        pairs.add(Filter::pair(source, destination)).read_volatile() != 0
    }
}

/// A connection between the two is about to be tracked.
#[inline(always)]
pub fn note_pair(client: Address, backend: Address) {
    let Some(filter) = FILTER.get_ptr_mut(0) else { return };
    let place = Filter::pair(client, backend);
    for half in 0..2 {
        // SAFETY: the map's memory, and a place is one of the array.
        unsafe { addr_of_mut!((*filter).pairs[half]).cast::<u8>().add(place).write_volatile(1) };
    }
}

/// `other` for what is not IP, `always` for messages about packets and for packets that hold another.
#[inline(always)]
fn classify<T: Copy>(
    view: &impl View,
    other: T,
    always: T,
    by_addresses: impl Fn(*const Filter, Address, Address) -> T,
) -> T {
    let (number, source, destination) = match view.ethertype() {
        ETH_IPV4 => {
            let Some([word, source, destination]) = view.load::<[u32; 3]>(L3 + 8) else {
                return other;
            };
            let [_, number, ..] = word.to_ne_bytes();
            if number == ICMP || number == IPIP {
                return always;
            }
            (number, Address::from_v4(source), Address::from_v4(destination))
        }
        ETH_IPV6 => {
            let Some(words) = view.load::<[u32; 9]>(L3 + 4) else { return other };
            let [_, _, number, _] = words[0].to_ne_bytes();
            let source = Address::from_words([words[1], words[2], words[3], words[4]]);
            let destination = Address::from_words([words[5], words[6], words[7], words[8]]);
            (number, source, destination)
        }
        _ => return other,
    };
    if number == ICMP_V6 || number == IPV6_IN_IPV6 {
        return always;
    }
    let Some(filter) = FILTER.get_ptr(0) else { return always };
    by_addresses(filter, source, destination)
}

#[inline(always)]
fn is_set(words: *const u64, bit: FilterBit) -> bool {
    // SAFETY: a bit is one of its array, of the map's memory; read at once.
    unsafe { words.add(bit.word).read_volatile() & bit.mask != 0 }
}
