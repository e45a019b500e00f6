//! What the kernel's tables are to say, and the map operations that get them there. Pure: no I/O, no
//! clock, no randomness.
//!
//! Mirrors what `pkg/proxy` of Kubernetes decides:
//!
//! ```text
//! Service ───────► ServiceSpec ─┐
//!                               ├─► Catalog ─► DesiredPort ─► Planner ─► Plan { Vec<MapOp>, .. }
//! EndpointSlice ─► SliceSpec ───┤   which       per Service    what is published, which slots are
//! Node ──────────► NodeSpec ────┘   changed                    free, who owns an address
//! ```
//!
//! Every step is for one Service at a time, so that an update costs what changed and not what there
//! is. [`policy`] says which endpoints a port uses, [`catalog`] at which addresses.

mod catalog;
mod desired;
mod endpoint_slice;
mod inventory;
pub mod maglev;
mod node;
mod numbers;
mod op;
mod planner;
mod policy;
mod room;
mod service;
mod slots;
mod table;
mod weights;

pub use catalog::{Catalog, LocalEndpoints};
pub use desired::{
    DesiredFrontend, DesiredPort, DesiredService, Policy, PortId, SourceCidr, address, endpoint,
    frontend_key, ip_addr, socket_addr,
};
pub use endpoint_slice::{Condition, NodeHint, SliceEndpoint, SlicePort, SliceSpec};
pub use inventory::Inventory;
pub use node::{
    LocalDetector, NodePortAddress, NodePortAddressError, NodeSpec, node_port_addresses,
};
pub use op::{MapOp, Plan, PortName, Rejected, Rejection};
pub use planner::Planner;
pub use service::{Family, Protocol, ServiceName, ServicePort, ServiceSpec};
pub use weights::{Weights, WeightsError};

pub(crate) use endpoint_slice::LABEL_HEADLESS;
pub(crate) use service::LABEL_SERVICE_PROXY_NAME;

#[cfg(test)]
pub(crate) mod tests;
