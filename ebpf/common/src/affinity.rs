//! Which backend a client is to come back to.

use crate::{Address, Endpoint};

/// A client of a Service's port that has session affinity.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AffinityKey {
    /// A packet's source address; for a socket, [`AffinityKey::namespace`].
    pub client: Address,
    /// [`crate::Frontend::service`]: shared by all addresses of the port.
    pub service: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<AffinityKey>() == 24);

impl AffinityKey {
    /// The client that stands for all sockets of a network namespace: they have its addresses, and
    /// which one is not known before the socket is connected. `cookie` is the kernel's number of it.
    #[must_use]
    #[inline(always)]
    pub const fn namespace(cookie: u64) -> Address {
        // 100::/64 is nobody's (RFC 6666).
        Address { high_be: 0x0100_0000_0000_0000_u64.to_be(), low_be: cookie }
    }
}

/// The backend that a client has, for as long as it is one of those it may have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// The backend.
    pub backend: Endpoint,
    /// When the client last made a connection, on the kernel's clock since boot.
    pub used_ns: u64,
}
const _: () = assert!(size_of::<Affinity>() == 32);

impl Affinity {
    /// Whether it still counts at `now_ns`.
    #[must_use]
    #[inline(always)]
    pub const fn is_current(&self, now_ns: u64, timeout_seconds: u32) -> bool {
        now_ns.wrapping_sub(self.used_ns) < timeout_seconds as u64 * 1_000_000_000
    }
}
