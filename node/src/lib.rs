//! What a node on Linux is made of: network namespaces, links, routes and cgroups.
//!
//! Three layers, lowest first: [`NetNs`] and [`Netlink`] are thin faces over the kernel; [`cgroup`]
//! is the same for cgroup v2; [`ClusterNetwork`] and [`NodeNetwork`] build from them what a cluster
//! of simulated nodes on one machine needs, and take it down again. Nothing here knows Kubernetes.
#![forbid(unsafe_code)]

pub mod cgroup;
mod cleanup;
mod cluster;
mod error;
mod id;
mod ipam;
mod netlink;
mod netns;
mod node;
mod sysctl;

pub use cleanup::{Cleaned, cleanup};
pub use cluster::{ClusterNetwork, ClusterNetworkConfig};
pub use error::NetworkError;
pub use id::{ClusterId, InvalidClusterId};
pub use ipam::{AddressPool, PoolError};
pub use ipnet::Ipv4Net;
pub use netlink::{Netlink, Route};
pub use netns::NetNs;
pub use node::{NodeNetwork, PodNetwork};
pub use sysctl::set_sysctl;
