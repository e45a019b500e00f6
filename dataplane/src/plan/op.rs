//! The values that a plan is made of.

use std::net::SocketAddr;
use std::sync::Arc;

use pintle_ebpf_common::{Address, Endpoint, Frontend, FrontendKey};

use super::desired::{PortId, SourceCidr, socket_addr};
use super::service::{Family, Protocol, ServiceName};

/// One change of the kernel's maps. Doing one twice is the same as doing it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapOp {
    /// Set the counters of a number to zero on every CPU, and note whose it is from now on.
    PutService {
        /// [`Frontend::service`].
        service: u32,
        /// Whose.
        port: Arc<PortName>,
    },
    /// A number is nobody's any more.
    RemoveService {
        /// [`Frontend::service`].
        service: u32,
    },
    /// Write a run of backends into slots that no frontend names.
    WriteSlots {
        /// The first slot.
        base: u32,
        /// The id of the table that they are for.
        table: u64,
        /// The backends, one a slot.
        backends: Arc<[Endpoint]>,
    },
    /// Write a ring of places into slots that no frontend names, [`pintle_ebpf_common::Slot::PLACES`]
    /// to a slot.
    WriteRing {
        /// The first slot.
        base: u32,
        /// The id of the table that it is of.
        table: u64,
        /// Which of the run's backends has each place.
        places: Arc<[u16]>,
    },
    /// Let clients of a range in.
    PutSourceRange {
        /// [`Frontend::ranges`].
        ranges: u32,
        /// The clients.
        cidr: SourceCidr,
    },
    /// Take back a range that no frontend names any more.
    RemoveSourceRange {
        /// [`Frontend::ranges`].
        ranges: u32,
        /// The clients.
        cidr: SourceCidr,
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
    /// End the datagram flows to a frontend whose backend is not one of these. The last of a plan, when
    /// new flows do not find such a backend any more.
    EndFlows {
        /// Its address.
        key: FrontendKey,
        /// The backends that serve, in ascending order.
        serving: Arc<[Endpoint]>,
    },
    /// Node ports answer at this address of the node.
    PutNodeAddress {
        /// The address.
        address: Address,
        /// Bits of [`pintle_ebpf_common::node_address`].
        flags: u32,
    },
    /// The node has this address no more, or node ports no longer answer at it.
    RemoveNodeAddress {
        /// The address.
        address: Address,
    },
}

/// A port of a Service, and whose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    /// The Service.
    pub service: ServiceName,
    /// The port.
    pub port: PortId,
}

impl PortName {
    /// The name of a number that no Service has.
    pub(super) fn nobody(number: u32) -> Self {
        let (service, name) = (ServiceName::new("", ""), number.to_string().into());
        let port = PortId { name, protocol: Protocol::Tcp, family: Family::V4 };
        Self { service, port }
    }
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
    pub fn address(&self) -> SocketAddr {
        let FrontendKey { address, port_be, .. } = self.frontend;
        socket_addr(Endpoint::new(address, port_be))
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
    /// There are as many source ranges as the map was sized for.
    #[error("no room for {ranges} source ranges among {ranges_max}")]
    RangesFull {
        /// Those of the port.
        ranges: usize,
        /// The size of the map.
        ranges_max: u32,
    },
}
