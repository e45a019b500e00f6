//! What kube-proxy's rules say of an address, worked out from all objects each time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::memory::Answer;

/// This node's name in the tests.
pub(super) const NODE: &str = "node-0";

/// The cluster's objects by name.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) slices: BTreeMap<String, EndpointSlice>,
}

impl Model {
    /// What a client of `addr` is to get.
    pub(super) fn answer(&self, addr: SocketAddrV4, protocol: &str) -> Answer {
        let mut owners: Vec<(&Service, &ServicePort)> = Vec::new();
        for service in self.services.values().filter(|service| is_proxied(service)) {
            let spec = service.spec.as_ref().unwrap();
            if spec.cluster_ips.iter().flatten().any(|ip| *ip == addr.ip().to_string()) {
                let serves = |port: &&ServicePort| {
                    port.port == i32::from(addr.port())
                        && port.protocol.as_deref() == Some(protocol)
                };
                owners.extend(spec.ports.iter().flatten().find(serves).map(|port| (service, port)));
            }
        }
        owners.sort_by_key(|(service, _)| {
            let created = service.metadata.creation_timestamp.as_ref();
            (created.map(|time| time.0), service.metadata.name.clone())
        });
        match owners.first() {
            Some((service, port)) => self.backends(service, port, protocol),
            None => Answer::NotService,
        }
    }

    fn backends(&self, service: &Service, port: &ServicePort, protocol: &str) -> Answer {
        let spec = service.spec.as_ref().unwrap();
        let local_only = spec.internal_traffic_policy.as_deref() == Some("Local");
        let (mut ready, mut terminating, mut elsewhere) = (BTreeSet::new(), BTreeSet::new(), false);
        for (endpoint, addr) in self.endpoints(service, port, protocol) {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let is_ready = conditions.ready != Some(false);
            let is_leaving =
                conditions.serving != Some(false) && conditions.terminating == Some(true);
            if local_only && !self.is_local_anywhere(service, port, protocol, addr) {
                elsewhere |= is_ready || is_leaving;
            } else if is_ready {
                ready.insert(addr);
            } else if is_leaving {
                terminating.insert(addr);
            }
        }
        match (ready.is_empty(), terminating.is_empty(), elsewhere) {
            (false, ..) => Answer::Backends(ready),
            (true, false, _) => Answer::Backends(terminating),
            (true, true, true) => Answer::Drop,
            (true, true, false) => Answer::Refuse,
        }
    }

    /// An endpoint that stands in several slices is on this node if one of them says so.
    fn is_local_anywhere(
        &self,
        service: &Service,
        port: &ServicePort,
        protocol: &str,
        addr: SocketAddrV4,
    ) -> bool {
        self.endpoints(service, port, protocol).iter().any(|(endpoint, other)| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let usable = conditions.ready != Some(false)
                || conditions.serving != Some(false) && conditions.terminating == Some(true);
            *other == addr && usable && endpoint.node_name.as_deref() == Some(NODE)
        })
    }

    fn endpoints(
        &self,
        service: &Service,
        port: &ServicePort,
        protocol: &str,
    ) -> Vec<(&Endpoint, SocketAddrV4)> {
        let mut found = Vec::new();
        for slice in self.slices.values() {
            let labels = slice.metadata.labels.clone().unwrap_or_default();
            let is_ours = labels.get("kubernetes.io/service-name")
                == service.metadata.name.as_ref()
                && slice.address_type == "IPv4"
                && !labels.contains_key("service.kubernetes.io/headless")
                && !labels.contains_key("service.kubernetes.io/service-proxy-name");
            if !is_ours {
                continue;
            }
            for served in slice.ports.iter().flatten() {
                let (name, number) = (served.name.clone().unwrap_or_default(), served.port);
                let matches = name == port.name.clone().unwrap_or_default()
                    && served.protocol.as_deref() == Some(protocol);
                let Some(number) = number.filter(|_| matches) else { continue };
                for endpoint in &slice.endpoints {
                    let ip: Ipv4Addr = endpoint.addresses[0].parse().unwrap();
                    found.push((endpoint, SocketAddrV4::new(ip, number as u16)));
                }
            }
        }
        found
    }
}

fn is_proxied(service: &Service) -> bool {
    let labels = service.metadata.labels.clone().unwrap_or_default();
    let spec = service.spec.as_ref().unwrap();
    !labels.contains_key("service.kubernetes.io/service-proxy-name")
        && spec.type_.as_deref() != Some("ExternalName")
        && spec.cluster_ip.as_deref() != Some("None")
}
