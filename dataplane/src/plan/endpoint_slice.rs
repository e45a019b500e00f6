//! An EndpointSlice, reduced to what the dataplane needs of it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1 as discovery;

use super::service::{LABEL_SERVICE_PROXY_NAME, Protocol, ServiceName};

/// The endpoints that one slice adds to its Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceSpec {
    /// The Service.
    pub service: ServiceName,
    /// The ports that each endpoint serves.
    pub ports: Vec<SlicePort>,
    /// The endpoints that take connections, be it as a last resort.
    pub endpoints: Vec<SliceEndpoint>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it takes connections.
    pub condition: Condition,
    /// Whether it is on this node.
    pub local: bool,
}

/// When an endpoint takes connections, the better one greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It is terminating and still serves: used where no endpoint is ready.
    ServingTerminating,
    /// Always.
    Ready,
}

impl SliceSpec {
    /// The slice as it concerns the dataplane of `node_name`; `None` if it does not: not of IPv4
    /// addresses, of no Service, of a headless one, or left to another proxy.
    #[must_use]
    pub fn from_object(slice: &discovery::EndpointSlice, node_name: &str) -> Option<Self> {
        let labels = slice.metadata.labels.as_ref()?;
        if slice.address_type != "IPv4"
            || labels.contains_key(LABEL_SERVICE_PROXY_NAME)
            || labels.contains_key(LABEL_HEADLESS)
        {
            return None;
        }
        let service = labels.get(LABEL_SERVICE_NAME).filter(|name| !name.is_empty())?;
        let namespace = slice.metadata.namespace.as_deref()?;
        let endpoints = slice.endpoints.iter();
        Some(Self {
            service: ServiceName::new(namespace, service),
            ports: slice.ports.iter().flatten().filter_map(SlicePort::from_object).collect(),
            endpoints: endpoints
                .filter_map(|endpoint| SliceEndpoint::from_object(endpoint, node_name))
                .collect(),
        })
    }
}

impl SlicePort {
    /// `None` for a port without a number, which kube-proxy ignores too, and for SCTP.
    fn from_object(port: &discovery::EndpointPort) -> Option<Self> {
        Some(Self {
            name: port.name.as_deref().unwrap_or_default().into(),
            protocol: Protocol::parse(port.protocol.as_deref())?,
            port: u16::try_from(port.port?).ok().filter(|port| *port != 0)?,
        })
    }
}

impl SliceEndpoint {
    /// The first of an endpoint's addresses, as kube-proxy takes it; `None` if it takes no
    /// connections.
    fn from_object(endpoint: &discovery::Endpoint, node_name: &str) -> Option<Self> {
        let node = endpoint.node_name.as_deref();
        Some(Self {
            address: endpoint.addresses.first()?.parse().ok()?,
            condition: Condition::from_object(endpoint.conditions.as_ref())?,
            local: node.is_some_and(|node| node == node_name),
        })
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
