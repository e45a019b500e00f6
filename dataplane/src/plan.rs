//! What the kernel's tables are to say, and the map operations that get them there. Pure: no I/O, no
//! clock, no randomness.
//!
//! Mirrors what `pkg/proxy` of Kubernetes decides for ClusterIPs:
//!
//! ```text
//! Service ───────► ServiceSpec ─┐
//!                               ├─► Catalog ─► DesiredPort ─► Planner ─► Plan { Vec<MapOp>, .. }
//! EndpointSlice ─► SliceSpec ───┘   which       per Service    what is published, which slots are
//!                                   changed                    free, who owns an address
//! ```
//!
//! Every step is for one Service at a time, so that an update costs what changed and not what there
//! is. IPv4, TCP and UDP; not here: NodePorts, load-balancer and external addresses, session
//! affinity, topology hints.

mod catalog;
mod endpoint_slice;
mod op;
mod planner;
mod service;
mod slots;

pub use catalog::Catalog;
pub use endpoint_slice::{Condition, SliceEndpoint, SlicePort, SliceSpec};
pub use op::{MapOp, Plan, Rejected, Rejection};
pub use planner::Planner;
pub use service::{DesiredPort, DesiredService, Protocol, ServiceName, ServicePort, ServiceSpec};

pub(crate) use endpoint_slice::LABEL_HEADLESS;
pub(crate) use service::LABEL_SERVICE_PROXY_NAME;

#[cfg(test)]
pub(crate) mod tests;
