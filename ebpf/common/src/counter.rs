//! What the programs count, and what they say of the packets that they drop.

use crate::{Tuple, seal};

/// What went through one port of a Service, on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections and datagram flows that began, of sockets on the node and of clients elsewhere.
    pub connections: u64,
    /// Packets to its backends that were translated on a link of the node. A socket of the node names
    /// the backend itself, so its packets are nobody's to count.
    pub packets_to: u64,
    /// Their bytes, from the IP header on.
    pub bytes_to: u64,
    /// Packets from its backends, likewise.
    pub packets_from: u64,
    /// Their bytes.
    pub bytes_from: u64,
}
const _: () = assert!(size_of::<Counters>() == 40);

impl core::iter::Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            connections: sum.connections.wrapping_add(one.connections),
            packets_to: sum.packets_to.wrapping_add(one.packets_to),
            bytes_to: sum.bytes_to.wrapping_add(one.bytes_to),
            packets_from: sum.packets_from.wrapping_add(one.packets_from),
            bytes_from: sum.bytes_from.wrapping_add(one.bytes_from),
        })
    }
}

/// A packet that was dropped, or a socket's call that was refused: one entry of a CPU's ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drop {
    /// When, on the kernel's clock since boot. Zero: there is no entry.
    pub at_ns: u64,
    /// Of a socket's call the destination and the protocol alone; its `hook` is
    /// [`crate::hook::SOCKET`].
    pub tuple: Tuple,
    /// One of [`crate::event`].
    pub reason: u32,
    /// [`crate::Frontend::service`], or [`Drop::NO_SERVICE`].
    pub service: u32,
    /// The link that the packet came in or was to leave by; 0 for a socket's call.
    pub link: u32,
    /// The packet's bytes.
    pub length: u32,
    /// Over all fields above.
    pub seal: u64,
}
const _: () = assert!(size_of::<Drop>() == 72);

impl Drop {
    /// The number of no Service.
    pub const NO_SERVICE: u32 = u32::MAX;
    /// Entries of a CPU's ring; the oldest are written over.
    pub const RING: u32 = 256;
    /// How many a CPU writes in a second at most; those beyond are counted as
    /// [`crate::event::UNRECORDED`].
    pub const PER_SECOND_MAX: u64 = 100;

    /// The entry, sealed.
    #[must_use]
    #[inline(always)]
    pub fn sealed(mut self) -> Self {
        self.seal = self.seal_for();
        self
    }

    /// Whether there is an entry, and it is whole: a reader may be in the writer's way.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.at_ns != 0 && self.seal == self.seal_for()
    }

    #[inline(always)]
    fn seal_for(&self) -> u64 {
        let Tuple { source, destination, source_port_be, destination_port_be, .. } = self.tuple;
        let Tuple { protocol, hook, .. } = self.tuple;
        let ports = source_port_be as u64 | (destination_port_be as u64) << 16;
        let kind = (protocol as u64) << 32 | (hook as u64) << 40;
        seal([
            self.at_ns,
            source.high_be,
            source.low_be,
            destination.high_be,
            destination.low_be,
            ports | kind,
            (self.reason as u64) << 32 | self.service as u64,
            (self.link as u64) << 32 | self.length as u64,
        ])
    }
}

/// A CPU's place in its ring of [`Drop`]s.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCursor {
    /// How many were written since the programs were loaded: the next goes to this modulo
    /// [`Drop::RING`].
    pub written: u64,
    /// When the second began that [`DropCursor::in_second`] is about, on the kernel's clock.
    pub second_ns: u64,
    /// How many were written in it.
    pub in_second: u64,
}
const _: () = assert!(size_of::<DropCursor>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_entry_is_none() {
        let drop = Drop { at_ns: 7, reason: 3, service: 1, link: 2, ..Drop::default() }.sealed();
        assert!(drop.is_whole());
        assert!(!Drop { service: 2, ..drop }.is_whole());
        assert!(!Drop { tuple: Tuple { protocol: 6, ..drop.tuple }, ..drop }.is_whole());
        assert!(!Drop::default().sealed().is_whole());
    }

    #[test]
    fn counters_of_all_cpus_add_up() {
        let one =
            Counters { connections: 1, packets_to: 2, bytes_to: 3, packets_from: 4, bytes_from: 5 };
        let sum: Counters = [one, one].into_iter().sum();
        assert_eq!((sum.connections, sum.packets_to, sum.bytes_from), (2, 4, 10));
    }
}
