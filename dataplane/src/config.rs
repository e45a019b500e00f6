//! What one instance of the dataplane is told.

use std::path::PathBuf;
use std::time::Duration;

/// The configuration of one node's dataplane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The node's name, as in EndpointSlices' `nodeName`.
    pub node_name: String,
    /// The cgroup v2 directory whose processes use the Services: the node's own, or the root of the
    /// cgroup2 mount. Made if it is missing.
    pub cgroup: PathBuf,
    /// The least time between two updates of the tables, as kube-proxy's `--min-sync-period`. Zero,
    /// the default, applies each event at once (an update costs microseconds, not seconds).
    pub min_sync_period: Duration,
    /// The sizes of the maps.
    pub limits: Limits,
}

/// How much the maps hold. What does not fit is reported and left out; the rest keeps working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Service ports (one a cluster IP, port and protocol). Memory is taken as they are used.
    pub frontends_max: u32,
    /// Places for backends, summed over all Service ports, 16 bytes each, taken at the start. Each
    /// Service port's number is rounded up to a power of two, and an update holds the old places
    /// for a moment longer.
    pub slots_max: u32,
    /// TCP connections to Services whose `getpeername` names the Service, about 80 bytes each, taken
    /// at the start. With more connections than this the least recently asked show their backend.
    pub tcp_peers_max: u32,
    /// Datagram flows from sockets that speak to more than one Service; the least recently used go
    /// first.
    pub flows_max: u32,
}

impl Config {
    /// The defaults for `node_name`, with the hooks on `cgroup`.
    #[must_use]
    pub fn new(node_name: impl Into<String>, cgroup: impl Into<PathBuf>) -> Self {
        Self {
            node_name: node_name.into(),
            cgroup: cgroup.into(),
            min_sync_period: Duration::ZERO,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    /// Room for 65,536 Service ports with four backends each, in about 12 MiB.
    fn default() -> Self {
        Self { frontends_max: 65_536, slots_max: 262_144, tcp_peers_max: 65_536, flows_max: 16_384 }
    }
}
