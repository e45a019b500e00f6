//! A pod as an endpoint of a Service, and the ports it answers on.
//!
//! Mirrors podToEndpoint and getEndpointPorts of k8s.io/endpointslice.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod;

/// The kind of addresses in one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum AddressType {
    V4,
    V6,
}

impl AddressType {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn holds(self, address: &str) -> bool {
        match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => self == Self::V4,
            Ok(IpAddr::V6(_)) => self == Self::V6,
            Err(_) => false,
        }
    }
}

/// The kinds of addresses a Service asks for: its `ipFamilies`; without them the family of its
/// cluster IP, or IPv4.
pub(super) fn address_types(service: &Service) -> Vec<AddressType> {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let mut types: Vec<AddressType> = families
        .iter()
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some(AddressType::V4),
            "IPv6" => Some(AddressType::V6),
            _ => None,
        })
        .collect();
    if types.is_empty() {
        let ip = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
        types.push(if AddressType::V6.holds(ip) { AddressType::V6 } else { AddressType::V4 });
    }
    types
}

/// Whether the pod belongs into slices at all: it has an address and has not run to its end.
pub(super) fn is_endpoint(pod: &Pod) -> bool {
    !pod::is_terminal(pod) && !addresses(pod).is_empty()
}

/// The pod's addresses of one kind, the first only: an endpoint has one.
pub(super) fn address_of(pod: &Pod, kind: AddressType) -> Option<&str> {
    addresses(pod).into_iter().find(|address| kind.holds(address))
}

fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    let many = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut all: Vec<&str> = many.filter(|ip| !ip.is_empty()).collect();
    if let (true, Some(ip)) = (all.is_empty(), &status.pod_ip) {
        all.push(ip);
    }
    all.retain(|ip| !ip.is_empty());
    all
}

/// The pod as an endpoint at `address`. `ready` is serving and not terminating, or always for a
/// Service with `publishNotReadyAddresses`.
pub(super) fn endpoint(
    service: &Service,
    pod: &Pod,
    address: &str,
    node: Option<&Node>,
) -> Endpoint {
    let publish_all =
        service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let serving = pod::is_ready(pod);
    let terminating = pod::is_terminating(pod);
    let node_name = pod::node_name(pod);
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(publish_all || serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        deprecated_topology: None,
        hints: None,
        hostname: hostname(service, pod),
        node_name: (!node_name.is_empty()).then(|| node_name.to_owned()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone: node.and_then(zone),
    }
}

/// The pod's hostname, if this Service is its subdomain.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let subdomain = spec.subdomain.as_ref().filter(|subdomain| !subdomain.is_empty());
    if subdomain != service.metadata.name.as_ref() || subdomain.is_none() {
        return None;
    }
    spec.hostname.clone().filter(|hostname| !hostname.is_empty())
}

fn zone(node: &Node) -> Option<String> {
    node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned()
}

/// The Service's ports as this pod has them. A named `targetPort` that the pod lacks is left out,
/// so pods of one Service may differ.
pub(super) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut found: Vec<EndpointPort> = ports
        .iter()
        .filter_map(|port| {
            Some(EndpointPort {
                app_protocol: port.app_protocol.clone(),
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(port, pod)?),
                protocol: Some(protocol(port.protocol.as_deref()).to_owned()),
            })
        })
        .collect();
    found.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    found
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|candidate| {
            candidate.name.as_ref() == Some(name)
                && protocol(candidate.protocol.as_deref()) == protocol(port.protocol.as_deref())
        })
        .map(|candidate| candidate.container_port)
}

fn protocol(given: Option<&str>) -> &str {
    given.filter(|protocol| !protocol.is_empty()).unwrap_or("TCP")
}
