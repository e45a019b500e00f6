//! The settings of the API server, already checked: a value of these types is one that works.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// An IPv4 network such as `10.96.0.0/16`.
pub type Ipv4Cidr = ipnet::Ipv4Net;

/// The settings of an [`crate::ApiServer`]. The defaults are those of the cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients outside of the cluster find this server; the endpoint of the `kubernetes`
    /// Service.
    pub advertise_address: Ipv4Addr,
    /// The port of [`Config::advertise_address`].
    pub advertise_port: u16,
    /// Cluster IPs come from here; the first address belongs to the `kubernetes` Service.
    pub service_cidr: Ipv4Cidr,
    /// Node ports come from here.
    pub node_ports: PortRange,
    /// Bearer tokens, one `token,user,uid,"group1,group2"` a line, as kube-apiserver's
    /// `--token-auth-file`.
    pub token_file: Option<PathBuf>,
    /// Reads and writes in flight beyond this are answered 429; watches do not count.
    pub inflight_max: usize,
    /// Watches open at once beyond this are answered 429.
    pub watches_max: usize,
    /// How long a request other than a watch may take.
    pub request_timeout: Duration,
    /// How long an Event is kept after its last write.
    pub event_ttl: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            advertise_address: Ipv4Addr::LOCALHOST,
            advertise_port: 6443,
            service_cidr: Ipv4Cidr::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16),
            node_ports: PortRange::default(),
            token_file: None,
            inflight_max: INFLIGHT_MAX,
            watches_max: WATCHES_MAX,
            request_timeout: REQUEST_TIMEOUT,
            event_ttl: EVENT_TTL,
        }
    }
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port.
    pub last: u16,
}

impl Default for PortRange {
    /// kube-apiserver's `--service-node-port-range`.
    fn default() -> Self {
        Self { first: 30000, last: 32767 }
    }
}

impl PortRange {
    /// Whether the range holds `port`.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// kube-apiserver's `--max-requests-inflight` and `--max-mutating-requests-inflight` together.
const INFLIGHT_MAX: usize = 600;
/// 5000 nodes with some twenty informers each; a watch costs a task and a cursor.
const WATCHES_MAX: usize = 100_000;
/// kube-apiserver's `--request-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// kube-apiserver's `--event-ttl`.
const EVENT_TTL: Duration = Duration::from_secs(60 * 60);
