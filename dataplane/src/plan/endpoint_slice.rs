//! An EndpointSlice, reduced to what the dataplane needs of it.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1 as discovery;
use pintle_ebpf_common::Address;

use super::desired::address;
use super::service::{Family, LABEL_SERVICE_PROXY_NAME, Protocol, ServiceName};

/// The endpoints that one slice adds to its Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceSpec {
    /// The Service.
    pub service: ServiceName,
    /// The family of the addresses.
    pub family: Family,
    /// The ports that each endpoint serves.
    pub ports: Box<[SlicePort]>,
    /// The endpoints that take connections, be it as a last resort.
    pub endpoints: Box<[SliceEndpoint]>,
}

/// One port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port that it serves; empty if that has none.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The endpoints' port number.
    pub port: u16,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address.
    pub address: Address,
    /// Whether it takes connections.
    pub condition: Condition,
    /// Whether it is on this node.
    pub local: bool,
    /// Whether it is on another one, by name.
    pub elsewhere: bool,
    /// The nodes that it is meant for.
    pub node_hint: NodeHint,
    /// The zones that it is meant for; `None` if it says nothing. (A thin pointer: there are many
    /// endpoints, and few say anything.)
    pub zone_hints: Option<Arc<Vec<Arc<str>>>>,
}

/// When an endpoint takes connections, the better one greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It is terminating and still serves: used where no endpoint is ready.
    ServingTerminating,
    /// Always.
    Ready,
}

/// Which nodes an endpoint is meant for (`hints.forNodes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeHint {
    /// Others than this one.
    Elsewhere,
    /// It says nothing.
    None,
    /// This one, among others perhaps.
    ThisNode,
}

impl SliceSpec {
    /// The slice as it concerns the dataplane of `node_name`; `None` if it does not: not of IP
    /// addresses, of no Service, of a headless one, or left to another proxy.
    #[must_use]
    pub fn from_object(slice: &discovery::EndpointSlice, node_name: &str) -> Option<Self> {
        let labels = slice.metadata.labels.as_ref()?;
        if labels.contains_key(LABEL_SERVICE_PROXY_NAME) || labels.contains_key(LABEL_HEADLESS) {
            return None;
        }
        let family = match slice.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return None,
        };
        let service = labels.get(LABEL_SERVICE_NAME).filter(|name| !name.is_empty())?;
        let namespace = slice.metadata.namespace.as_deref()?;
        let endpoints = slice.endpoints.iter();
        let mut zones = ZoneLists::default();
        Some(Self {
            service: ServiceName::new(namespace, service),
            family,
            ports: slice.ports.iter().flatten().filter_map(SlicePort::from_object).collect(),
            endpoints: endpoints
                .filter_map(|one| SliceEndpoint::from_object(one, family, node_name, &mut zones))
                .collect(),
        })
    }
}

impl SlicePort {
    /// `None` for a port without a number, which kube-proxy ignores too.
    fn from_object(port: &discovery::EndpointPort) -> Option<Self> {
        Some(Self {
            name: port.name.as_deref().map(Arc::from).unwrap_or_default(),
            protocol: Protocol::parse(port.protocol.as_deref())?,
            port: u16::try_from(port.port?).ok().filter(|port| *port != 0)?,
        })
    }
}

impl SliceEndpoint {
    /// The first of an endpoint's addresses, as kube-proxy takes it; `None` if it takes no
    /// connections.
    fn from_object(
        endpoint: &discovery::Endpoint,
        family: Family,
        node_name: &str,
        lists: &mut ZoneLists,
    ) -> Option<Self> {
        let node = endpoint.node_name.as_deref();
        let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
        if Family::of(ip) != family {
            return None;
        }
        let hints = endpoint.hints.as_ref();
        let zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
        Some(Self {
            address: address(ip),
            condition: Condition::from_object(endpoint.conditions.as_ref())?,
            local: node.is_some_and(|node| node == node_name),
            elsewhere: node.is_some_and(|node| node != node_name && !node.is_empty()),
            node_hint: NodeHint::from_object(hints, node_name),
            zone_hints: (!zones.is_empty()).then(|| lists.share(zones)),
        })
    }
}

/// The lists of zones that a slice's endpoints name: few, each shared by many.
#[derive(Default)]
struct ZoneLists(Vec<Arc<Vec<Arc<str>>>>);

impl ZoneLists {
    fn share(&mut self, zones: &[discovery::ForZone]) -> Arc<Vec<Arc<str>>> {
        let names = || zones.iter().map(|zone| zone.name.as_str());
        let known = self.0.iter().find(|known| known.iter().map(|name| &**name).eq(names()));
        known.cloned().unwrap_or_else(|| {
            let list: Arc<Vec<_>> = Arc::new(names().map(Arc::from).collect());
            self.0.push(Arc::clone(&list));
            list
        })
    }
}

impl NodeHint {
    fn from_object(hints: Option<&discovery::EndpointHints>, node_name: &str) -> Self {
        let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
        if nodes.is_empty() {
            Self::None
        } else if nodes.iter().any(|node| node.name == node_name) {
            Self::ThisNode
        } else {
            Self::Elsewhere
        }
    }
}

impl Condition {
    /// Unknown means ready and serving, and not terminating (`pkg/proxy/endpointslicecache.go`).
    fn from_object(conditions: Option<&discovery::EndpointConditions>) -> Option<Self> {
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(true);
        let terminating = conditions.and_then(|conditions| conditions.terminating);
        match (ready, serving && terminating == Some(true)) {
            (true, _) => Some(Self::Ready),
            (false, true) => Some(Self::ServingTerminating),
            (false, false) => None,
        }
    }
}

/// Names the Service of a slice.
const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Slices with this label are of a headless Service, which has no cluster IP.
pub(crate) const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
