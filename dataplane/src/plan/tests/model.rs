//! What kube-proxy's rules say of an address, worked out from all objects each time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use pintle_ebpf_common::flag;

use super::memory::{Answer, Client, Terms};
use crate::plan::{SourceCidr, Weights};

/// This node's name in the tests.
pub(super) const NODE: &str = "node-0";

/// The cluster's objects by name.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) slices: BTreeMap<String, EndpointSlice>,
    pub(super) node: Node,
    /// Where node ports answer.
    pub(super) node_addresses: BTreeSet<IpAddr>,
}

/// How a Service came to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
}

impl Model {
    /// What a client of `addr` is to get.
    pub(super) fn answer(&self, client: Client, addr: SocketAddr, protocol: &str) -> Answer {
        match self.owner(client, addr, protocol) {
            Some((service, port, way)) => {
                let local = match way {
                    Way::ClusterIp => is_local(&spec(service).internal_traffic_policy),
                    _ => {
                        let local = is_local(&spec(service).external_traffic_policy);
                        local && client == Client::Elsewhere
                    }
                };
                self.backends(service, port, addr.is_ipv4(), local)
            }
            None => Answer::NotService,
        }
    }

    /// The further terms of the address.
    pub(super) fn terms(&self, client: Client, addr: SocketAddr, protocol: &str) -> Option<Terms> {
        let (service, _, way) = self.owner(client, addr, protocol)?;
        let spec = spec(service);
        let kind = match way {
            Way::ClusterIp => flag::CLUSTER_IP,
            Way::ExternalIp => flag::EXTERNAL_IP,
            Way::LoadBalancer => flag::LOAD_BALANCER,
            Way::NodePort => flag::NODE_PORT,
        };
        // Traffic from outside under the policy Cluster is masqueraded always.
        let masquerade = way != Way::ClusterIp && !is_local(&spec.external_traffic_policy);
        let affine = spec.session_affinity.as_deref() == Some("ClientIP");
        let seconds = spec.session_affinity_config.as_ref().and_then(|config| {
            config.client_ip.as_ref().and_then(|client_ip| client_ip.timeout_seconds)
        });
        let annotations = service.metadata.annotations.clone().unwrap_or_default();
        let wanted = match annotations.get("pintle.dev/maglev").map(String::as_str) {
            Some("1021") => 1021,
            Some("4093") => 4093,
            _ => 0,
        };
        let choice = match self.answer(client, addr, protocol) {
            Answer::Backends(backends) => backends.len(),
            _ => 0,
        };
        Some(Terms {
            ring: if choice > 1 { wanted } else { 0 },
            affinity_seconds: if affine { seconds.unwrap_or(10800) as u32 } else { 0 },
            ranges: (way == Way::LoadBalancer).then(|| self.ranges(service, addr)).flatten(),
            flags: kind | if masquerade { flag::MASQUERADE } else { 0 },
        })
    }

    /// The weights of a Service's backends, if they are not equal.
    pub(super) fn weights(&self, service: &str) -> Option<Weights> {
        let annotations = self.services.get(service)?.metadata.annotations.as_ref()?;
        Weights::parse(annotations.get("pintle.dev/weights")?).ok()
    }

    /// The backends that datagram flows to `addr` may go on with.
    pub(super) fn serving(&self, addr: SocketAddr, protocol: &str) -> BTreeSet<SocketAddr> {
        let Some((service, port, _)) = self.owner(Client::Node, addr, protocol) else {
            return BTreeSet::new();
        };
        let endpoints = self.endpoints(service, port, addr.is_ipv4());
        endpoints.into_iter().map(|one| one.addr).collect()
    }

    /// Who may, if not everyone.
    fn ranges(&self, service: &Service, addr: SocketAddr) -> Option<BTreeSet<SourceCidr>> {
        let texts = spec(service).load_balancer_source_ranges.iter().flatten();
        let nets: Vec<IpNet> = texts
            .map(|text| text.trim().parse::<IpNet>().unwrap().trunc())
            .filter(|net| net.addr().is_ipv4() == addr.is_ipv4())
            .collect();
        let node: Option<IpAddr> = self
            .node
            .status
            .iter()
            .flat_map(|status| &status.addresses)
            .flatten()
            .map(|address| address.address.parse::<IpAddr>().unwrap())
            .find(|ip| ip.is_ipv4() == addr.is_ipv4());
        let mut ranges: BTreeSet<SourceCidr> = nets.iter().map(|net| (*net).into()).collect();
        if nets.iter().any(|net| node.is_some_and(|node| net.contains(&node))) {
            let vips = load_balancer_ips(service).into_iter();
            let vips = vips.filter(|vip| vip.is_ipv4() == addr.is_ipv4());
            ranges.extend(vips.map(|vip| SourceCidr::from(IpNet::from(vip))));
        }
        Some(ranges).filter(|ranges| !ranges.is_empty())
    }

    /// The oldest Service that claims the address; an address of its own before a node port.
    fn owner(
        &self,
        client: Client,
        addr: SocketAddr,
        protocol: &str,
    ) -> Option<(&Service, &ServicePort, Way)> {
        let mut services: Vec<&Service> =
            self.services.values().filter(|service| is_proxied(service)).collect();
        services.sort_by_key(|service| {
            let created = service.metadata.creation_timestamp.as_ref();
            (created.map(|time| time.0), service.metadata.name.clone())
        });
        let ports = |service: &'_ Service| spec(service).ports.iter().flatten().count();
        let claims = |wanted: &dyn Fn(&Service, &ServicePort) -> Option<Way>| {
            services.iter().find_map(|service| {
                (0..ports(service)).find_map(|index| {
                    let port = &spec(service).ports.as_ref().unwrap()[index];
                    let fits = port.protocol.as_deref() == Some(protocol)
                        && cluster_ips(service).iter().any(|ip| ip.is_ipv4() == addr.is_ipv4());
                    let way = if fits { wanted(service, port) } else { None };
                    way.map(|way| (*service, port, way))
                })
            })
        };
        let by_address = |service: &Service, port: &ServicePort| {
            if port.port != i32::from(addr.port()) {
                None
            } else if cluster_ips(service).contains(&addr.ip()) {
                Some(Way::ClusterIp)
            } else if parse(&spec(service).external_ips).contains(&addr.ip()) {
                Some(Way::ExternalIp)
            } else if load_balancer_ips(service).contains(&addr.ip()) {
                Some(Way::LoadBalancer)
            } else {
                None
            }
        };
        let by_node_port = |_: &Service, port: &ServicePort| {
            (port.node_port == Some(i32::from(addr.port()))).then_some(Way::NodePort)
        };
        let of_node = self.node_addresses.contains(&addr.ip())
            && (client == Client::Node || !addr.ip().is_loopback());
        claims(&by_address).or_else(|| of_node.then(|| claims(&by_node_port)).flatten())
    }

    fn backends(&self, service: &Service, port: &ServicePort, v4: bool, local: bool) -> Answer {
        let endpoints = self.endpoints(service, port, v4);
        let addr = |one: &Merged<'_>| one.addr;
        let ready: Vec<_> =
            endpoints.iter().filter(|one| one.ready && (one.local || !local)).collect();
        let leaving: Vec<_> = endpoints.iter().filter(|one| one.local || !local).collect();
        let chosen: BTreeSet<SocketAddr> = if ready.is_empty() {
            leaving.into_iter().map(addr).collect()
        } else if local {
            ready.into_iter().map(addr).collect()
        } else {
            let allowed = self.topology(&ready);
            ready.into_iter().filter(|one| allowed(one)).map(addr).collect()
        };
        match (chosen.is_empty(), endpoints.is_empty()) {
            (false, _) => Answer::Backends(chosen),
            (true, false) => Answer::Drop,
            (true, true) => Answer::Refuse,
        }
    }

    /// Which of the ready endpoints the hints allow.
    fn topology(&self, ready: &[&Merged<'_>]) -> Box<dyn Fn(&Merged<'_>) -> bool> {
        let nodes = |one: &Merged<'_>| -> Vec<String> {
            let hints =
                one.endpoint.hints.iter().flat_map(|hints| hints.for_nodes.iter().flatten());
            hints.map(|node| node.name.clone()).collect()
        };
        let zones = |one: &Merged<'_>| -> Vec<String> {
            let hints =
                one.endpoint.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
            hints.map(|zone| zone.name.clone()).collect()
        };
        let labels = self.node.metadata.labels.clone().unwrap_or_default();
        let zone = labels.get("topology.kubernetes.io/zone").cloned().unwrap_or_default();
        let here = NODE.to_owned();
        if ready.iter().all(|one| !nodes(one).is_empty())
            && ready.iter().any(|one| nodes(one).contains(&here))
        {
            Box::new(move |one| nodes(one).contains(&here))
        } else if ready.iter().all(|one| !zones(one).is_empty())
            && ready.iter().any(|one| zones(one).contains(&zone))
        {
            Box::new(move |one| zones(one).contains(&zone))
        } else {
            Box::new(|_| true)
        }
    }

    /// The endpoints that take connections, each once: at its best, and with that one's hints.
    fn endpoints(&self, service: &Service, port: &ServicePort, v4: bool) -> Vec<Merged<'_>> {
        let mut found = Vec::<Merged<'_>>::new();
        for slice in self.slices.values().filter(|slice| is_of(slice, service, v4)) {
            for served in slice.ports.iter().flatten() {
                let matches = served.name.clone().unwrap_or_default()
                    == port.name.clone().unwrap_or_default()
                    && served.protocol == port.protocol;
                let Some(number) = served.port.filter(|_| matches) else { continue };
                for endpoint in &slice.endpoints {
                    let Some(one) = Merged::of(endpoint, number as u16) else { continue };
                    match found.iter_mut().find(|other| other.addr == one.addr) {
                        Some(other) => other.merge(one),
                        None => found.push(one),
                    }
                }
            }
        }
        found
    }
}

#[derive(Clone, Copy)]
struct Merged<'a> {
    addr: SocketAddr,
    ready: bool,
    local: bool,
    endpoint: &'a Endpoint,
}

impl<'a> Merged<'a> {
    fn of(endpoint: &'a Endpoint, port: u16) -> Option<Self> {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let ready = conditions.ready != Some(false);
        let leaving = conditions.serving != Some(false) && conditions.terminating == Some(true);
        (ready || leaving).then(|| Self {
            addr: SocketAddr::new(endpoint.addresses[0].parse().unwrap(), port),
            ready,
            local: endpoint.node_name.as_deref() == Some(NODE),
            endpoint,
        })
    }

    fn merge(&mut self, other: Self) {
        if other.ready && !self.ready {
            self.ready = true;
            self.endpoint = other.endpoint;
        }
        self.local |= other.local;
    }
}

fn spec(service: &Service) -> &k8s_openapi::api::core::v1::ServiceSpec {
    service.spec.as_ref().unwrap()
}

fn is_local(policy: &Option<String>) -> bool {
    policy.as_deref() == Some("Local")
}

fn parse(texts: &Option<Vec<String>>) -> Vec<IpAddr> {
    texts.iter().flatten().filter_map(|text| text.parse().ok()).collect()
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    parse(&spec(service).cluster_ips)
}

fn load_balancer_ips(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.clone()).unwrap_or_default();
    let vips = ingress.into_iter().filter(|one| one.ip_mode.as_deref() != Some("Proxy"));
    vips.filter_map(|one| one.ip.and_then(|ip| ip.parse().ok())).collect()
}

fn is_of(slice: &EndpointSlice, service: &Service, v4: bool) -> bool {
    let labels = slice.metadata.labels.clone().unwrap_or_default();
    labels.get("kubernetes.io/service-name") == service.metadata.name.as_ref()
        && slice.address_type == if v4 { "IPv4" } else { "IPv6" }
        && !labels.contains_key("service.kubernetes.io/headless")
        && !labels.contains_key("service.kubernetes.io/service-proxy-name")
}

fn is_proxied(service: &Service) -> bool {
    let labels = service.metadata.labels.clone().unwrap_or_default();
    !labels.contains_key("service.kubernetes.io/service-proxy-name")
        && spec(service).type_.as_deref() != Some("ExternalName")
        && spec(service).cluster_ip.as_deref() != Some("None")
}
