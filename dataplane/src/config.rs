//! What one instance of the dataplane is told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::Serving;
use crate::kernel::{Express, NodeNamespace, Pins, PodLinks};
use crate::plan::{LocalDetector, NodePortAddress};

/// The configuration of one node's dataplane.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The node's name, as in EndpointSlices' `nodeName`.
    pub node_name: String,
    /// The cgroup v2 directory whose processes use the Services: the node's own, or the root of the
    /// cgroup2 mount. Made if it is missing.
    pub cgroup: PathBuf,
    /// The least time between two updates of the tables, as kube-proxy's `--min-sync-period`. Zero,
    /// the default, applies each event at once (an update costs microseconds, not seconds).
    pub min_sync_period: Duration,
    /// The node's own network namespace.
    pub node_namespace: NodeNamespace,
    /// Which of the node's addresses node ports answer at; empty: all of them.
    pub node_port_addresses: Vec<NodePortAddress>,
    /// Whether they answer at 127.0.0.1, if that is one of these addresses.
    pub localhost_node_ports: bool,
    /// The node's primary address of its family, if it is not the one in the API.
    pub node_ip: Option<IpAddr>,
    /// How it is told which clients are the cluster's pods.
    pub local_detector: LocalDetector,
    /// Whether that is by the node's podCIDRs, which may change.
    pub follows_pod_cidrs: bool,
    /// Whether all packets to cluster IPs from outside are masqueraded.
    pub masquerade_all: bool,
    /// Whether packets are translated on the node's links, for clients that are not on the node. If
    /// not, the processes in the cgroup alone are served.
    pub translates_packets: bool,
    /// Whether pods' links have the programs for packets from the start.
    pub pod_links: PodLinks,
    /// Whether packets that leave by the link that they came in by may do so before the kernel makes
    /// anything of them.
    pub express: Express,
    /// Whether clients from outside whose backend is on another node are answered by that one, and their
    /// packets are not masqueraded.
    pub direct_return: bool,
    /// Whether the sockets of pods are left alone, and their packets translated instead.
    pub node_sockets_only: bool,
    /// Where maps and links are pinned, so that they outlive the process; without, everything goes
    /// with it.
    pub pins: Option<Pins>,
    /// Whether the pins stay when [`crate::run`] returns, for the next process to take over. If not,
    /// what an earlier process left is removed at the start too.
    pub keep_pins: bool,
    /// The sizes of the maps.
    pub limits: Limits,
    /// An update that waits for longer than this is too late, which the health checks say.
    pub health_timeout: Duration,
    /// Where kube-proxy's health and metrics endpoints are answered, beside those of the process.
    pub serving: Serving,
}

/// How much the maps hold. With [`Config::pins`] the maps of addresses, backends and source ranges grow
/// as they fill, up to [`Limits::CEILING`]. What does not fit is reported and left out; the rest keeps
/// working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Addresses (one a Service's address, port and protocol). Memory is taken as they are used.
    pub frontends_max: u32,
    /// Places for backends, summed over all Service ports, 32 bytes each, taken at the start. Each
    /// Service port's number is rounded up to a power of two, and an update holds the old places
    /// for a moment longer.
    pub slots_max: u32,
    /// TCP connections to Services whose `getpeername` names the Service, 64 bytes each, taken at the
    /// start. With nearly as many as this, some older ones show their backend.
    pub tcp_peers_max: u32,
    /// Clients that keep their backend by session affinity; the least recently used are forgotten
    /// first.
    pub affinity_max: u32,
    /// Connections from outside the node, about 350 bytes each, taken at the start. The least recently
    /// used are forgotten first.
    pub connections_max: u32,
    /// `loadBalancerSourceRanges`, summed over all Services. Memory is taken as they are used.
    pub source_ranges_max: u32,
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
            node_namespace: NodeNamespace::Own,
            node_port_addresses: Vec::new(),
            localhost_node_ports: true,
            node_ip: None,
            local_detector: LocalDetector::None,
            follows_pod_cidrs: false,
            masquerade_all: false,
            translates_packets: false,
            pod_links: PodLinks::WhenNeeded,
            express: Express::Off,
            direct_return: false,
            node_sockets_only: false,
            pins: None,
            keep_pins: false,
            limits: Limits::default(),
            health_timeout: Duration::from_secs(60),
            serving: Serving::default(),
        }
    }
}

impl Limits {
    /// How far the maps that grow do so: 20 MiB a processor for the counters of as many Service ports as
    /// there are addresses, 256 MiB of slots. Kubernetes' own limits are 10,000 Services of a cluster and
    /// 250 endpoints of a Service.
    pub const CEILING: Self = Self {
        frontends_max: 1 << 19,
        slots_max: 1 << 23,
        source_ranges_max: 1 << 20,
        ..Self::DEFAULT
    };

    /// Room for 65,536 Service ports with four backends each, and 65,536 connections from outside, in
    /// about 45 MiB.
    const DEFAULT: Self = Self {
        frontends_max: 65_536,
        slots_max: 262_144,
        tcp_peers_max: 65_536,
        affinity_max: 65_536,
        connections_max: 65_536,
        source_ranges_max: 65_536,
        flows_max: 16_384,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
