//! A Service, reduced to what the dataplane needs of it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use pintle_ebpf_common::protocol;

use super::maglev;
use super::weights::Weights;

/// A Service's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ServiceName {
    /// A name from its parts.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The protocols of Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// SCTP. Its sockets have no hooks.
    Sctp,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Kubernetes' name for a protocol; TCP if there is none, `None` for what is not one of ours.
    #[must_use]
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// The number in an IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Sctp => protocol::SCTP,
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }
}

/// IPv4 or IPv6. A Service of both has one set of endpoints for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// A Service that has a cluster IP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    /// When the Service was made, in milliseconds since 1970. Of two that claim one address the
    /// older one has it.
    pub created_ms: i64,
    /// The cluster IPs, at most one a family.
    pub cluster_ips: Vec<IpAddr>,
    /// `externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// The addresses of `status.loadBalancer` that traffic arrives at (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Whom the load-balancer addresses are for; empty: everyone.
    pub source_ranges: Vec<IpNet>,
    /// Whether `internalTrafficPolicy` is `Local`.
    pub internal_local: bool,
    /// Whether `externalTrafficPolicy` is `Local`.
    pub external_local: bool,
    /// For how long a client keeps its endpoint; 0 without session affinity.
    pub affinity_seconds: u32,
    /// How many places the ring has that flows are hashed to; 0 without consistent hashing.
    pub ring: u32,
    /// How many places each endpoint has, if not all the same.
    pub weights: Option<Arc<Weights>>,
    /// What is wrong with the annotations, for people. What is wrong does not count.
    pub warning: Option<Arc<str>>,
    /// Where load balancers ask whether this node has endpoints; 0: nowhere.
    pub health_check_node_port: u16,
    /// The ports.
    pub ports: Vec<ServicePort>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, empty if it has none. The EndpointSlices' ports bear the same.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// The port of the node's own addresses, 0 if it has none.
    pub node_port: u16,
}

impl ServiceSpec {
    /// The Service as it concerns this dataplane; `None` if it does not: no cluster IP (headless,
    /// `ExternalName`, not yet allocated), or left to another proxy by the label
    /// `service.kubernetes.io/service-proxy-name`.
    #[must_use]
    pub fn from_object(service: &core::Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let labels = service.metadata.labels.as_ref();
        if labels.is_some_and(|labels| labels.contains_key(LABEL_SERVICE_PROXY_NAME))
            || spec.type_.as_deref() == Some("ExternalName")
            || spec.cluster_ip.as_deref() == Some("None")
        {
            return None;
        }
        let cluster_ips = cluster_ips(spec);
        if cluster_ips.is_empty() {
            return None;
        }
        let Hashing { ring, weights, warning } = Hashing::of(service);
        let created = service.metadata.creation_timestamp.as_ref();
        let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let health_checked = external_local && spec.type_.as_deref() == Some("LoadBalancer");
        let health_check_node_port = port_number(spec.health_check_node_port);
        Some(Self {
            created_ms: created.map_or(0, |time| time.0.as_millisecond()),
            cluster_ips,
            external_ips: addresses(spec.external_ips.iter().flatten()),
            load_balancer_ips: load_balancer_ips(service),
            source_ranges: source_ranges(spec),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local,
            affinity_seconds: affinity_seconds(spec),
            ring,
            weights,
            warning,
            health_check_node_port: if health_checked { health_check_node_port } else { 0 },
            ports: exact(spec.ports.iter().flatten().filter_map(ServicePort::from_object)),
        })
    }
}

/// What the annotations say of consistent hashing.
struct Hashing {
    ring: u32,
    weights: Option<Arc<Weights>>,
    warning: Option<Arc<str>>,
}

impl Hashing {
    fn of(service: &core::Service) -> Self {
        let annotations = service.metadata.annotations.as_ref();
        let said = |name| annotations.and_then(|annotations| annotations.get(name));
        let ring = said(ANNOTATION_MAGLEV).and_then(|text| maglev::parse(text));
        let (weights, warning) = match said(ANNOTATION_WEIGHTS).map(|text| Weights::parse(text)) {
            None => (None, None),
            Some(Ok(weights)) => (Some(Arc::new(weights)), None),
            Some(Err(error)) => {
                let warning = format!(
                    "annotation {ANNOTATION_WEIGHTS}: {error}; all endpoints have equal weights"
                );
                (None, Some(warning.into()))
            }
        };
        // Weights are shares of a ring.
        let default = if weights.is_some() { maglev::PLACES_DEFAULT } else { 0 };
        Self { ring: ring.unwrap_or(default), weights, warning }
    }
}

impl ServicePort {
    fn from_object(port: &core::ServicePort) -> Option<Self> {
        Some(Self {
            name: port.name.as_deref().map(Arc::from).unwrap_or_default(),
            protocol: Protocol::parse(port.protocol.as_deref())?,
            port: u16::try_from(port.port).ok().filter(|port| *port != 0)?,
            node_port: port_number(port.node_port),
        })
    }
}

/// `clusterIPs` holds `clusterIP` as its first; one written before dual stack has the latter alone.
/// kube-proxy takes the first of each family.
fn cluster_ips(spec: &core::ServiceSpec) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let mut first = Vec::with_capacity(1);
    for address in addresses(listed.iter().chain(&spec.cluster_ip)) {
        if first.iter().all(|other| Family::of(*other) != Family::of(address)) {
            first.push(address);
        }
    }
    first
}

/// Without room for more: there are many Services.
fn exact<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.shrink_to_fit();
    items
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
    let mut seen = Vec::with_capacity(addresses.len());
    addresses.retain(|address| {
        !seen.contains(address) && {
            seen.push(*address);
            true
        }
    });
    addresses
}

/// `ipMode: Proxy` means that traffic is to go out to the load balancer, so such an address is not
/// one of ours.
fn load_balancer_ips(service: &core::Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    let ours = ingress.iter().filter(|one| one.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"));
    addresses(ours.filter_map(|one| one.ip.as_ref()))
}

fn source_ranges(spec: &core::ServiceSpec) -> Vec<IpNet> {
    let texts = spec.load_balancer_source_ranges.iter().flatten();
    let mut ranges: Vec<IpNet> =
        texts.filter_map(|text| text.trim().parse().ok()).map(|net: IpNet| net.trunc()).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

fn affinity_seconds(spec: &core::ServiceSpec) -> u32 {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return 0;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|client_ip| client_ip.timeout_seconds);
    seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(AFFINITY_SECONDS_DEFAULT)
}

fn port_number(number: Option<i32>) -> u16 {
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}

/// Services and EndpointSlices with this label belong to another proxy.
pub(crate) const LABEL_SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// Asks for consistent hashing: `true`, or the number of the ring's places, 1021, 4093, 16381 or 65537.
pub(super) const ANNOTATION_MAGLEV: &str = "pintle.dev/maglev";

/// How much of the ring the endpoints have: see [`Weights`].
pub(super) const ANNOTATION_WEIGHTS: &str = "pintle.dev/weights";

/// Three hours, `DefaultClientIPServiceAffinitySeconds`.
const AFFINITY_SECONDS_DEFAULT: u32 = 10_800;
