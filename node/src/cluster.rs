//! A cluster of nodes on one machine: each node a network namespace with one address on a bridge.
//!
//! ```text
//!   host   pt<id>br 172.30.x.1/24 ── pt<id>n0 ═ eth0 172.30.x.2  node 0: cni0 10.244.0.1/24 ── pods
//!                                 └─ pt<id>n1 ═ eth0 172.30.x.3  node 1: cni0 10.244.1.1/24 ── pods
//! ```
//!
//! Pods' packets to another node's pods are routed by way of that node's address; nothing is
//! translated, and no firewall rule or setting of the host is changed.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::{ClusterId, NetNs, Netlink, NetworkError, NodeNetwork, Route, cleanup, set_sysctl};

/// What the network of a cluster of simulated nodes should be.
#[derive(Clone, Debug)]
pub struct ClusterNetworkConfig {
    /// From which all names follow.
    pub id: ClusterId,
    /// How many nodes.
    pub nodes: usize,
    /// The network of the nodes' own addresses; `None`: a free /24 of 172.30.0.0/16.
    pub subnet: Option<Ipv4Net>,
}

/// The network of a cluster of simulated nodes. It stays until [`teardown`](Self::teardown), or a
/// later [`cleanup`] with the same id.
#[derive(Debug)]
pub struct ClusterNetwork {
    id: ClusterId,
    subnet: Ipv4Net,
    nodes: Vec<NodeNetwork>,
}

impl ClusterNetwork {
    /// Remove what a predecessor with the same id left, then make the bridge and the nodes. On
    /// failure nothing is left.
    pub async fn create(config: ClusterNetworkConfig) -> Result<Self, NetworkError> {
        cleanup(&config.id).await?;
        let made = Self::make(&config).await;
        if made.is_err()
            && let Err(error) = cleanup(&config.id).await
        {
            tracing::warn!(%error, "remains of the cluster's network are left");
        }
        made
    }

    async fn make(config: &ClusterNetworkConfig) -> Result<Self, NetworkError> {
        let netlink = Netlink::open(None).await?;
        let subnet = match config.subnet {
            Some(subnet) => subnet.trunc(),
            None => choose_subnet(&config.id, &netlink.used_networks().await?)
                .ok_or(NetworkError::NoSubnet { range: NODE_RANGE, nodes: config.nodes })?,
        };
        let room = (subnet.hosts().count()).saturating_sub(1);
        if config.nodes > room {
            return Err(NetworkError::SubnetTooSmall { subnet, nodes: config.nodes, room });
        }
        let bridge = config.id.host_bridge();
        netlink.add_bridge(&bridge).await?;
        netlink.add_address(&bridge, address(subnet, 1)).await?;
        let mut cluster = Self { id: config.id.clone(), subnet, nodes: Vec::new() };
        for index in 0..config.nodes {
            let node = cluster.make_node(&netlink, index).await?;
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    async fn make_node(&self, host: &Netlink, index: usize) -> Result<NodeNetwork, NetworkError> {
        let namespace = NetNs::create(&self.id.node_namespace(index))?;
        let inside = namespace.file()?;
        let bridge = self.id.host_bridge();
        host.add_veth(&self.id.node_link(index), &bridge, NODE_LINK, &inside).await?;
        drop(inside);
        let own = address(self.subnet, index + 2);
        let netlink = Netlink::open(Some(&namespace)).await?;
        netlink.set_up("lo").await?;
        netlink.add_address(NODE_LINK, own).await?;
        netlink.set_up(NODE_LINK).await?;
        let gateway = address(self.subnet, 1).addr();
        netlink.add_route(Route { to: Ipv4Net::default(), via: gateway }).await?;
        for (name, value) in NODE_SYSCTLS {
            set_sysctl(Some(&namespace), name, value)?;
        }
        Ok(NodeNetwork::in_namespace(self.id.clone(), namespace, own.addr()))
    }

    /// The nodes, in order; node `n` has the address `n + 2` of the subnet.
    #[must_use]
    pub fn nodes(&self) -> &[NodeNetwork] {
        &self.nodes
    }

    /// The address of the host on the nodes' bridge.
    #[must_use]
    pub fn host_address(&self) -> Ipv4Addr {
        address(self.subnet, 1).addr()
    }

    /// Remove everything: links, namespaces (those of pods too), routes. The processes in them must
    /// be gone before.
    pub async fn teardown(self) -> Result<(), NetworkError> {
        cleanup(&self.id).await.map(drop)
    }
}

/// The `n`th address of a subnet, with its prefix length. The caller has checked that it fits.
fn address(subnet: Ipv4Net, n: usize) -> Ipv4Net {
    let offset = u32::try_from(n).unwrap_or(u32::MAX);
    let address = Ipv4Addr::from(u32::from(subnet.network()).saturating_add(offset));
    Ipv4Net::new_assert(address, subnet.prefix_len())
}

/// The first free /24 of [`NODE_RANGE`], beginning at one that the id picks.
fn choose_subnet(id: &ClusterId, used: &[Ipv4Net]) -> Option<Ipv4Net> {
    let first = id.spread(SUBNETS) as u32;
    (0..SUBNETS as u32)
        .map(|step| (first + step) % SUBNETS as u32)
        .map(|third| {
            let network = u32::from(NODE_RANGE.network()) + (third << 8);
            Ipv4Net::new_assert(Ipv4Addr::from(network), 24)
        })
        .find(|subnet| {
            !used.iter().any(|used| used.contains(subnet) || subnet.contains(&used.trunc()))
        })
}

const NODE_RANGE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 30, 0, 0), 16);
/// How many /24 there are in [`NODE_RANGE`].
const SUBNETS: u64 = 256;
const NODE_LINK: &str = "eth0";
/// A node forwards its pods' packets, and takes those whose way back is another one: a reply from a
/// pod may leave by the bridge while the request came by the node's link.
const NODE_SYSCTLS: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
];

#[cfg(test)]
mod tests;
