//! The values that a plan is made of.

use std::net::SocketAddrV4;
use std::sync::Arc;

use pintle_ebpf_common::{Endpoint, Frontend, FrontendKey};

use super::service::ServiceName;

/// One change of the kernel's maps. Doing one twice is the same as doing it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapOp {
    /// Set a connection counter to zero on every CPU, before it is used for another Service port.
    ResetCounter {
        /// Its index.
        counter: u32,
    },
    /// Write a table's backends into slots that no frontend names.
    WriteSlots {
        /// The table's first slot.
        base: u32,
        /// The table's id.
        table: u64,
        /// The backends, one a slot.
        backends: Arc<[Endpoint]>,
    },
    /// Publish a frontend, or switch it to another table, in one step.
    PutFrontend {
        /// Its address.
        key: FrontendKey,
        /// Its record.
        frontend: Frontend,
    },
    /// Take a frontend away.
    RemoveFrontend {
        /// Its address.
        key: FrontendKey,
    },
}

/// What to do, in this order, and what could not be planned.
///
/// After any number of the operations a lookup of any address gives what it gave before the first
/// or what it gives after the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The operations.
    pub ops: Vec<MapOp>,
    /// The claims to addresses that could not be met and that no plan before had to reject for the
    /// same reason; the address is left as it was. Those for want of room are tried again with
    /// every plan.
    pub rejected: Vec<Rejected>,
}

/// An address that could not be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The Service that claims it.
    pub service: ServiceName,
    /// The address.
    pub frontend: FrontendKey,
    /// Why.
    pub reason: Rejection,
}

impl Rejected {
    /// The address in words.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        let FrontendKey { addr_be, port_be, .. } = self.frontend;
        SocketAddrV4::new(addr_be.to_ne_bytes().into(), u16::from_be(port_be))
    }
}

/// Why an address could not be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// An older Service has the address.
    #[error("the address belongs to Service {0}")]
    Claimed(ServiceName),
    /// There are as many Service ports as the maps were sized for.
    #[error("no room for more than {0} Service ports")]
    FrontendsFull(u32),
    /// No run of slots is free that is long enough.
    #[error("no room for {backends} backends among {slots_max} slots")]
    SlotsFull {
        /// The backends.
        backends: usize,
        /// The size of the map.
        slots_max: u32,
    },
}
