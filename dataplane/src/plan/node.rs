//! What the tables have to know of the node itself.
//!
//! Mirrors `pkg/proxy/util/nodeport_addresses.go` and `pkg/proxy/util/localdetector.go`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use pintle_ebpf_common::{Address, node_address};

use super::desired::{SourceCidr, address};
use super::service::Family;

/// The node, reduced to what decides about endpoints and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its zone, of the label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// Its addresses in the API, `InternalIP` before `ExternalIP`: the first of a family is the
    /// primary one.
    pub addresses: Vec<IpAddr>,
    /// Its podCIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether it is on its way out: a load balancer should send it nothing new.
    pub leaving: bool,
}

impl NodeSpec {
    /// The node as it concerns its dataplane.
    #[must_use]
    pub fn from_object(node: &core::Node) -> Self {
        let labels = node.metadata.labels.as_ref();
        let spec = node.spec.as_ref();
        let listed = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
        let single = spec.and_then(|spec| spec.pod_cidr.as_ref());
        let mut pod_cidrs: Vec<IpNet> =
            listed.iter().chain(single).filter_map(|cidr| cidr.parse().ok()).collect();
        pod_cidrs.dedup();
        let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        Self {
            zone: labels
                .and_then(|labels| labels.get("topology.kubernetes.io/zone"))
                .filter(|zone| !zone.is_empty())
                .map(|zone| zone.as_str().into()),
            addresses: addresses(node),
            pod_cidrs,
            leaving: node.metadata.deletion_timestamp.is_some()
                || taints.iter().any(|taint| taint.key == "ToBeDeletedByClusterAutoscaler"),
        }
    }

    /// The node's main address in a family.
    #[must_use]
    pub fn primary(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }
}

fn addresses(node: &core::Node) -> Vec<IpAddr> {
    let listed = node.status.as_ref().and_then(|status| status.addresses.as_deref());
    let of = |kind| {
        let listed = listed.unwrap_or_default().iter().filter(move |one| one.type_ == kind);
        listed.filter_map(|one| one.address.parse().ok())
    };
    of("InternalIP").chain(of("ExternalIP")).collect()
}

/// One word of `nodePortAddresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePortAddress {
    /// Every address of the node.
    All,
    /// The addresses in a range. If a list has none of a family, that family has all its addresses.
    Cidr(IpNet),
    /// The loopback addresses.
    Localhost,
    /// The node's primary addresses.
    Primary,
}

/// A word of `nodePortAddresses` that is none of its words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nodePortAddresses: {0:?} is no CIDR, nor one of all, localhost and primary")]
pub struct NodePortAddressError(String);

impl FromStr for NodePortAddress {
    type Err = NodePortAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            "localhost" => Ok(Self::Localhost),
            "primary" => Ok(Self::Primary),
            cidr => {
                let cidr: IpNet = cidr.parse().map_err(|_| NodePortAddressError(cidr.into()))?;
                Ok(Self::Cidr(cidr.trunc()))
            }
        }
    }
}

/// Which of the node's addresses node ports answer at: those of `interfaces`, the addresses that its
/// links have, which `wanted` names. An empty list names all. The values are bits of
/// [`node_address`].
#[must_use]
pub fn node_port_addresses(
    wanted: &[NodePortAddress],
    node: &NodeSpec,
    interfaces: &[IpAddr],
) -> BTreeMap<Address, u32> {
    let is_wanted = |ip: IpAddr| {
        let of_family = |one: &NodePortAddress| match one {
            NodePortAddress::Cidr(cidr) => Family::of(cidr.addr()) == Family::of(ip),
            _ => true,
        };
        let mut words = wanted.iter().filter(|one| of_family(one)).peekable();
        words.peek().is_none()
            || words.any(|word| match word {
                NodePortAddress::All => true,
                NodePortAddress::Cidr(cidr) => cidr.contains(&ip),
                NodePortAddress::Localhost => ip.is_loopback(),
                NodePortAddress::Primary => node.primary(Family::of(ip)) == Some(ip),
            })
    };
    let mut addresses = BTreeMap::new();
    for ip in interfaces.iter().copied().filter(|ip| !is_link_local(*ip) && is_wanted(*ip)) {
        let loopback = ip.is_loopback();
        // kube-proxy serves node ports on the loopback network for IPv4 alone.
        if loopback && ip != IpAddr::V4(Ipv4Addr::LOCALHOST) {
            continue;
        }
        let loopback = if loopback { node_address::LOOPBACK } else { 0 };
        addresses.insert(address(ip), node_address::NODE_PORTS | loopback);
    }
    addresses
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// How it is told whether a packet is from one of the cluster's pods (`detectLocalMode`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalDetector {
    /// The source is in one of these: the cluster's pods, or with `NodeCIDR` this node's.
    Cidrs(Vec<IpNet>),
    /// It came in by the bridge of this name.
    Bridge(String),
    /// It came in by a link whose name begins so.
    InterfacePrefix(String),
    /// It cannot be told: then nothing is masqueraded for being from outside, and no traffic policy
    /// makes an exception for pods.
    None,
}

impl LocalDetector {
    /// Whether it can be told at all.
    #[must_use]
    pub fn is_implemented(&self) -> bool {
        match self {
            Self::Cidrs(cidrs) => !cidrs.is_empty(),
            Self::Bridge(name) | Self::InterfacePrefix(name) => !name.is_empty(),
            Self::None => false,
        }
    }

    /// The ranges of the cluster's pods.
    #[must_use]
    pub fn cidrs(&self) -> Vec<SourceCidr> {
        match self {
            Self::Cidrs(cidrs) => cidrs.iter().map(|cidr| SourceCidr::from(*cidr)).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a link of this name and with these addresses can be one of this node's pods' links.
    #[must_use]
    pub fn is_pod_link(&self, link: &str, addresses: &[IpAddr]) -> bool {
        let is_pods = |ip: &IpAddr| match self {
            Self::Cidrs(cidrs) => cidrs.iter().any(|cidr| cidr.contains(ip)),
            _ => false,
        };
        self.is_local_link(link) || addresses.iter().any(is_pods)
    }

    /// Whether this can be the address of a pod of the cluster.
    #[must_use]
    pub fn may_be_pod(&self, ip: IpAddr) -> bool {
        let Self::Cidrs(cidrs) = self else { return true };
        let mut of_family =
            cidrs.iter().filter(|cidr| Family::of(cidr.addr()) == Family::of(ip)).peekable();
        of_family.peek().is_none() || of_family.any(|cidr| cidr.contains(&ip))
    }

    /// Whether all packets that come in by this link are from pods.
    #[must_use]
    pub fn is_local_link(&self, link: &str) -> bool {
        match self {
            Self::Bridge(name) => link == name,
            Self::InterfacePrefix(prefix) => !prefix.is_empty() && link.starts_with(prefix),
            Self::Cidrs(_) | Self::None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn served(wanted: &[&str]) -> Vec<String> {
        let wanted: Vec<_> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        let node = NodeSpec { addresses: ips(&["192.168.1.5", "fd00::5"]), ..NodeSpec::default() };
        let interfaces = ips(&[
            "127.0.0.1",
            "192.168.1.5",
            "10.0.0.5",
            "169.254.1.1",
            "::1",
            "fd00::5",
            "fe80::1",
        ]);
        let served = node_port_addresses(&wanted, &node, &interfaces);
        let mut texts: Vec<String> = served
            .keys()
            .map(|address| super::super::desired::ip_addr(*address).to_string())
            .collect();
        texts.sort();
        texts
    }

    #[test]
    fn node_ports_answer_where_the_list_says() {
        let all = ["10.0.0.5", "127.0.0.1", "192.168.1.5", "fd00::5"];
        assert_eq!(served(&[]), all);
        assert_eq!(served(&["all"]), all);
        assert_eq!(served(&["primary"]), ["192.168.1.5", "fd00::5"]);
        assert_eq!(served(&["localhost"]), ["127.0.0.1"]);
        assert_eq!(served(&["primary", "localhost"]), ["127.0.0.1", "192.168.1.5", "fd00::5"]);
        // A list without a range of a family means all of that family.
        assert_eq!(served(&["10.0.0.0/8"]), ["10.0.0.5", "fd00::5"]);
        assert_eq!(served(&["10.0.0.0/8", "fd01::/16"]), ["10.0.0.5"]);
        assert_eq!(served(&["0.0.0.0/0", "primary"]), all);
    }

    #[test]
    fn a_word_that_is_none_is_named() {
        let error = "everywhere".parse::<NodePortAddress>().unwrap_err();
        assert!(error.to_string().contains("\"everywhere\" is no CIDR"), "{error}");
    }

    #[test]
    fn detection_by_link_or_range() {
        assert!(LocalDetector::Bridge("cni0".into()).is_local_link("cni0"));
        assert!(!LocalDetector::Bridge("cni0".into()).is_local_link("cni00"));
        assert!(LocalDetector::InterfacePrefix("veth".into()).is_local_link("veth12"));
        assert!(!LocalDetector::InterfacePrefix(String::new()).is_implemented());
        assert!(!LocalDetector::Cidrs(Vec::new()).is_implemented());
        let cidrs = LocalDetector::Cidrs(vec!["10.244.0.0/16".parse().unwrap()]);
        assert_eq!(cidrs.cidrs()[0].bits, 112);
        assert!(cidrs.is_pod_link("cni0", &ips(&["fe80::1", "10.244.1.1"])));
        assert!(!cidrs.is_pod_link("eth0", &ips(&["192.168.1.5"])));
        assert!(LocalDetector::Bridge("cni0".into()).is_pod_link("cni0", &[]));
        let may_be_pod = |ip: &str| cidrs.may_be_pod(ip.parse().unwrap());
        assert!(may_be_pod("10.244.1.2") && may_be_pod("fd00::2") && !may_be_pod("192.0.2.1"));
    }

    #[test]
    fn a_node_is_read_as_the_api_has_it() {
        let node: core::Node = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "n", "labels": { "topology.kubernetes.io/zone": "a" } },
            "spec": {
                "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"],
                "taints": [{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }],
            },
            "status": { "addresses": [
                { "type": "ExternalIP", "address": "203.0.113.9" },
                { "type": "Hostname", "address": "n" },
                { "type": "InternalIP", "address": "192.168.1.5" },
            ] },
        }))
        .unwrap();
        let spec = NodeSpec::from_object(&node);
        assert_eq!(spec.zone.as_deref(), Some("a"));
        assert_eq!(spec.primary(Family::V4), Some("192.168.1.5".parse().unwrap()));
        assert_eq!(spec.primary(Family::V6), None);
        assert_eq!(spec.pod_cidrs, ["10.244.1.0/24".parse().unwrap()]);
        assert!(spec.leaving);
    }
}
