//! A Service, reduced to what the dataplane needs of it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use pintle_ebpf_common::{Endpoint, FrontendKey, protocol};

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

/// The protocols that the hooks translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Kubernetes' name for a protocol; TCP if there is none, `None` for SCTP.
    #[must_use]
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some(_) => None,
        }
    }

    /// The number in an IPv4 header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }
}

/// A Service that has cluster IPs of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// When the Service was made, in milliseconds since 1970. Of two that claim one address the
    /// older one has it.
    pub created_ms: i64,
    /// The cluster IPs.
    pub cluster_ips: Vec<Ipv4Addr>,
    /// Whether `internalTrafficPolicy` is `Local`.
    pub internal_local: bool,
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
}

impl ServiceSpec {
    /// The Service as it concerns this dataplane; `None` if it does not: no IPv4 cluster IP
    /// (headless, `ExternalName`, not yet allocated, IPv6 alone), or left to another proxy by the
    /// label `service.kubernetes.io/service-proxy-name`.
    #[must_use]
    pub fn from_object(service: &core::Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let labels = service.metadata.labels.as_ref();
        if labels.is_some_and(|labels| labels.contains_key(LABEL_SERVICE_PROXY_NAME))
            || spec.type_.as_deref() == Some("ExternalName")
        {
            return None;
        }
        let cluster_ips = cluster_ips(spec);
        if cluster_ips.is_empty() {
            return None;
        }
        let created = service.metadata.creation_timestamp.as_ref();
        Some(Self {
            created_ms: created.map_or(0, |time| time.0.as_millisecond()),
            cluster_ips,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            ports: spec.ports.iter().flatten().filter_map(ServicePort::from_object).collect(),
        })
    }
}

impl ServicePort {
    fn from_object(port: &core::ServicePort) -> Option<Self> {
        Some(Self {
            name: port.name.as_deref().unwrap_or_default().into(),
            protocol: Protocol::parse(port.protocol.as_deref())?,
            port: u16::try_from(port.port).ok().filter(|port| *port != 0)?,
        })
    }
}

/// `clusterIPs` holds `clusterIP` as its first; one written before dual stack has the latter alone.
fn cluster_ips(spec: &core::ServiceSpec) -> Vec<Ipv4Addr> {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let mut addresses: Vec<Ipv4Addr> =
        listed.iter().chain(&spec.cluster_ip).filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// What is to be published for a whole Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredService {
    /// See [`ServiceSpec::created_ms`].
    pub created_ms: i64,
    /// Its addresses, each with what answers there. Empty removes the Service.
    pub ports: Vec<DesiredPort>,
}

/// What is to answer at one address, port and protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPort {
    /// The address.
    pub frontend: FrontendKey,
    /// Who answers, without duplicates; connections are refused if there is none.
    pub backends: Arc<[Endpoint]>,
    /// Bits of [`pintle_ebpf_common::flag`].
    pub flags: u32,
}

impl DesiredPort {
    /// The cluster IP and port `frontend`, served by `backends`.
    #[must_use]
    pub fn new(frontend: SocketAddrV4, protocol: Protocol, backends: &[SocketAddrV4]) -> Self {
        Self {
            frontend: frontend_key(*frontend.ip(), frontend.port(), protocol),
            backends: backends.iter().map(|addr| endpoint(*addr.ip(), addr.port())).collect(),
            flags: 0,
        }
    }
}

/// An address, port and protocol as the maps' key.
pub(super) fn frontend_key(ip: Ipv4Addr, port: u16, protocol: Protocol) -> FrontendKey {
    FrontendKey::new(u32::from_ne_bytes(ip.octets()), port.to_be(), protocol.number())
}

/// An address and port as the maps hold it.
pub(super) fn endpoint(ip: Ipv4Addr, port: u16) -> Endpoint {
    Endpoint::new(u32::from_ne_bytes(ip.octets()), port.to_be())
}

/// Services and EndpointSlices with this label belong to another proxy.
pub(crate) const LABEL_SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
