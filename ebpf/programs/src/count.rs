//! What the programs count, and what they say of the packets they drop.

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use pintle_ebpf_common::{Counters, Drop, Tuple, event};

use crate::maps::{COUNTERS, DROP_CURSOR, DROPS, EVENTS};

/// Count a translated connection or datagram flow.
#[inline(always)]
pub fn connection(service: u32) {
    if let Some(counters) = counters(service) {
        counters.connections = counters.connections.wrapping_add(1);
    }
}

/// Count a packet to a backend, of so many bytes with its Ethernet header.
#[inline(always)]
pub fn packet_to(service: u32, length: u32) {
    if let Some(counters) = counters(service) {
        counters.packets_to = counters.packets_to.wrapping_add(1);
        counters.bytes_to = counters.bytes_to.wrapping_add(length as u64 - ETHERNET);
    }
}

/// Count a packet from a backend.
#[inline(always)]
pub fn packet_from(service: u32, length: u32) {
    if let Some(counters) = counters(service) {
        counters.packets_from = counters.packets_from.wrapping_add(1);
        counters.bytes_from = counters.bytes_from.wrapping_add(length as u64 - ETHERNET);
    }
}

#[inline(always)]
fn counters(service: u32) -> Option<&'static mut Counters> {
    // SAFETY: this CPU's own, which nothing else writes but a program that interrupts this one, and a
    // number lost then does no harm.
    unsafe { COUNTERS.get_ptr_mut(service)?.as_mut() }
}

/// Count one of [`event`].
#[inline(always)]
pub fn event(kind: u32) {
    if let Some(number) = EVENTS.get_ptr_mut(kind) {
        // SAFETY: as in `counters`.
        unsafe { *number = (*number).wrapping_add(1) };
    }
}

/// A packet is dropped, or a call refused: count it, and if there were not too many of late, say in
/// this CPU's ring which.
#[inline(always)]
pub fn drop(reason: u32, tuple: &Tuple, service: u32, link: u32, length: u32) {
    event(reason);
    // SAFETY: this CPU's own. A program that interrupts this one may take the same entry; it is whole
    // either way, or its seal is broken.
    let Some(cursor) = (unsafe { DROP_CURSOR.get_ptr_mut(0).and_then(|cursor| cursor.as_mut()) })
    else {
        return;
    };
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now.wrapping_sub(cursor.second_ns) >= SECOND_NS {
        cursor.second_ns = now;
        cursor.in_second = 0;
    }
    if cursor.in_second >= Drop::PER_SECOND_MAX {
        return event(event::UNRECORDED);
    }
    cursor.in_second += 1;
    let entry = cursor.written as u32 % Drop::RING;
    cursor.written = cursor.written.wrapping_add(1);
    if let Some(entry) = DROPS.get_ptr_mut(entry) {
        let drop = Drop { at_ns: now, tuple: *tuple, reason, service, link, length, seal: 0 };
        // SAFETY: as above.
        unsafe { *entry = drop.sealed() };
    }
}

/// Bytes before the IP header.
const ETHERNET: u64 = 14;
const SECOND_NS: u64 = 1_000_000_000;
