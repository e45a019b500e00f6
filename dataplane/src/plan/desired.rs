//! What is to be published for a Service.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use pintle_ebpf_common::{Address, Endpoint, FrontendKey, flag};

use super::service::{Family, Protocol};
use super::weights::Weights;

/// What is to be published for a whole Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredService {
    /// See [`super::ServiceSpec::created_ms`].
    pub created_ms: i64,
    /// Its ports. Empty removes the Service.
    pub ports: Vec<Arc<DesiredPort>>,
}

/// One port of a Service in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPort {
    /// What tells it from the Service's others.
    pub id: PortId,
    /// The endpoints for the traffic policy Cluster, in ascending order without duplicates.
    pub cluster: Arc<[Endpoint]>,
    /// The endpoints for the traffic policy Local, likewise; empty where no frontend has that policy.
    pub local: Arc<[Endpoint]>,
    /// The endpoints that datagram flows may go on with, likewise: all that serve, wherever they are,
    /// be it while they terminate. Empty for other protocols, whose connections end by themselves.
    pub serving: Arc<[Endpoint]>,
    /// For how long a client keeps its endpoint; 0 without session affinity.
    pub affinity_seconds: u32,
    /// How many places the rings of the endpoints have, with consistent hashing; 0 without.
    pub ring: u32,
    /// How many of these each endpoint has, if not all the same.
    pub weights: Option<Arc<Weights>>,
    /// Whom the frontends with [`DesiredFrontend::checks_source`] are for.
    pub source_ranges: Arc<[SourceCidr]>,
    /// The addresses.
    pub frontends: Vec<DesiredFrontend>,
}

/// What tells the ports of a Service apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId {
    /// The port's name.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The family of its addresses.
    pub family: Family,
}

/// One address of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredFrontend {
    /// The address, port and protocol.
    pub key: FrontendKey,
    /// Who answers clients on this node.
    pub internal: Policy,
    /// Who answers clients from elsewhere.
    pub external: Policy,
    /// Whether clients are checked against the port's source ranges, if it has any.
    pub checks_source: bool,
    /// Bits of [`flag`].
    pub flags: u32,
}

/// A traffic policy: which of a port's two sets of endpoints is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Those of the cluster.
    Cluster,
    /// Those of this node.
    Local,
}

impl Policy {
    /// The policy of a Service's field.
    #[must_use]
    pub const fn local_if(local: bool) -> Self {
        if local { Self::Local } else { Self::Cluster }
    }
}

/// A range of clients' addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceCidr {
    /// The first address.
    pub address: Address,
    /// How many of the 128 bits of [`Address`] count.
    pub bits: u8,
}

impl SourceCidr {
    /// Whether an address is in the range.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        let number = |address: Address| {
            let words = address.words().map(u32::from_be);
            words.into_iter().fold(0, |number: u128, word| number << 32 | u128::from(word))
        };
        let differing = number(self.address) ^ number(address);
        differing.leading_zeros() >= u32::from(self.bits)
    }
}

impl From<IpNet> for SourceCidr {
    fn from(net: IpNet) -> Self {
        let bits = match net {
            IpNet::V4(net) => 96 + net.prefix_len(),
            IpNet::V6(net) => net.prefix_len(),
        };
        Self { address: address(net.network()), bits }
    }
}

impl DesiredPort {
    /// A port with the one cluster IP `frontend`, served by `backends`.
    #[must_use]
    pub fn new(frontend: SocketAddr, protocol: Protocol, backends: &[SocketAddr]) -> Self {
        let mut cluster: Vec<Endpoint> = backends.iter().map(|addr| endpoint(*addr)).collect();
        cluster.sort_unstable();
        cluster.dedup();
        let cluster: Arc<[Endpoint]> = cluster.into();
        let is_datagram = protocol == Protocol::Udp;
        Self {
            id: PortId { name: "".into(), protocol, family: Family::of(frontend.ip()) },
            serving: if is_datagram { Arc::clone(&cluster) } else { [].into() },
            cluster,
            local: [].into(),
            affinity_seconds: 0,
            ring: 0,
            weights: None,
            source_ranges: [].into(),
            frontends: vec![DesiredFrontend {
                key: frontend_key(frontend, protocol),
                internal: Policy::Cluster,
                external: Policy::Cluster,
                checks_source: false,
                flags: flag::CLUSTER_IP,
            }],
        }
    }

    /// The endpoints of a policy.
    #[must_use]
    pub fn endpoints(&self, policy: Policy) -> &Arc<[Endpoint]> {
        match policy {
            Policy::Cluster => &self.cluster,
            Policy::Local => &self.local,
        }
    }
}

/// An address as the maps hold it.
#[must_use]
pub fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::from_v4(u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => {
            let octets = address.octets();
            let word =
                |at: usize| u32::from_ne_bytes(std::array::from_fn(|byte| octets[4 * at + byte]));
            Address::from_words(std::array::from_fn(word))
        }
    }
}

/// The address that the maps hold as this.
#[must_use]
pub fn ip_addr(address: Address) -> IpAddr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(address.words()) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(octets).to_canonical()
}

/// An address and port as the maps hold them.
#[must_use]
pub fn endpoint(addr: SocketAddr) -> Endpoint {
    Endpoint::new(address(addr.ip()), addr.port().to_be())
}

/// The address and port that the maps hold as this.
#[must_use]
pub fn socket_addr(endpoint: Endpoint) -> SocketAddr {
    SocketAddr::new(ip_addr(endpoint.address), u16::from_be(endpoint.port_be))
}

/// An address, port and protocol as the maps' key.
#[must_use]
pub fn frontend_key(addr: SocketAddr, protocol: Protocol) -> FrontendKey {
    FrontendKey::new(address(addr.ip()), addr.port().to_be(), protocol.number())
}
