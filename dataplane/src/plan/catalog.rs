//! All Services and EndpointSlices of the cluster, and which Services have changed.
//!
//! Mirrors kube-proxy's ServiceChangeTracker and EndpointSliceCache: it keeps the little that the
//! dataplane needs of each object, and merges a Service's slices.

use std::collections::BTreeSet;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pintle_ebpf_common::{Endpoint, flag};
use rustc_hash::{FxHashMap, FxHashSet};

use super::desired::{
    DesiredFrontend, DesiredPort, DesiredService, Policy, PortId, SourceCidr, frontend_key,
};
use super::endpoint_slice::SliceSpec;
use super::node::NodeSpec;
use super::policy::Endpoints;
use super::service::{Family, Protocol, ServiceName, ServicePort, ServiceSpec};

/// The API's state as last heard.
#[derive(Debug, Default)]
pub struct Catalog {
    services: FxHashMap<ServiceName, Entry>,
    /// By namespace and name of the slice: the Service it was last seen to belong to.
    slices: FxHashMap<ServiceName, ServiceName>,
    node: NodeSpec,
    changed: BTreeSet<ServiceName>,
    /// The Services with a health check's port.
    health_checked: BTreeSet<ServiceName>,
}

/// How many ready endpoints of a Service are on this node. A load balancer that asks over a family
/// hears of the endpoints of that family, as kube-proxy has a server for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalEndpoints {
    /// Reached by IPv4.
    pub ipv4: usize,
    /// Reached by IPv6.
    pub ipv6: usize,
}

#[derive(Debug, Default)]
struct Entry {
    spec: Option<ServiceSpec>,
    slices: Slices,
}

/// A Service's slices in the order of their names. Most have one, so they take no more room than they
/// need.
#[derive(Debug, Default)]
struct Slices(Vec<(Arc<str>, SliceSpec)>);

impl Slices {
    /// Returns whether that is news.
    fn set(&mut self, name: &Arc<str>, spec: SliceSpec) -> bool {
        match self.place(name) {
            Ok(place) if self.0[place].1 == spec => return false,
            Ok(place) => self.0[place].1 = spec,
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (Arc::clone(name), spec));
            }
        }
        true
    }

    fn remove(&mut self, name: &str) {
        if let Ok(place) = self.place(name) {
            self.0.remove(place);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &SliceSpec> {
        self.0.iter().map(|(_, spec)| spec)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name))
    }
}

impl Catalog {
    /// A Service was added or changed, or (`None`) removed or is none of ours. Returns whether that
    /// is news.
    pub fn set_service(&mut self, name: &ServiceName, spec: Option<ServiceSpec>) -> bool {
        if spec.as_ref().is_some_and(|spec| spec.health_check_node_port != 0) {
            self.health_checked.insert(name.clone());
        } else {
            self.health_checked.remove(name);
        }
        let entry = self.services.entry(name.clone()).or_default();
        let news = entry.spec != spec;
        entry.spec = spec;
        self.settle(name, news);
        news
    }

    /// A slice was added or changed, or (`None`) removed or is none of ours. Returns whether that is
    /// news. `name` is the slice's own namespace and name.
    pub fn set_slice(&mut self, name: &ServiceName, spec: Option<SliceSpec>) -> bool {
        let mut news = false;
        let owner = self.slices.get(name).cloned();
        if let Some(owner) = owner
            && spec.as_ref().is_none_or(|spec| spec.service != owner)
        {
            self.slices.remove(name);
            if let Some(entry) = self.services.get_mut(&owner) {
                entry.slices.remove(&name.name);
            }
            self.settle(&owner, true);
            news = true;
        }
        if let Some(mut spec) = spec {
            // One copy of each name, however many objects bear it.
            if let Some((known, _)) = self.services.get_key_value(&spec.service) {
                spec.service = known.clone();
            }
            let service = spec.service.clone();
            let entry = self.services.entry(service.clone()).or_default();
            if entry.slices.set(&name.name, spec) {
                let namespace = Arc::clone(&service.namespace);
                let name = ServiceName { namespace, name: Arc::clone(&name.name) };
                self.slices.insert(name, service.clone());
                self.settle(&service, true);
                news = true;
            }
        }
        news
    }

    /// What is wrong with a Service's annotations, as last heard.
    #[must_use]
    pub fn warning(&self, name: &ServiceName) -> Option<&str> {
        self.services.get(name)?.spec.as_ref()?.warning.as_deref()
    }

    /// The node itself was added or changed. Returns whether that is news for the Services.
    pub fn set_node(&mut self, node: NodeSpec) -> bool {
        let news = self.node.zone != node.zone || self.node.addresses != node.addresses;
        self.node = node;
        if news {
            let services = self.services.iter();
            let ours = services.filter(|(_, entry)| entry.spec.is_some());
            self.changed.extend(ours.map(|(name, _)| name.clone()));
        }
        news
    }

    /// The node as last heard.
    #[must_use]
    pub fn node(&self) -> &NodeSpec {
        &self.node
    }

    /// A complete list of the Services has ended: those not `seen` in it are gone.
    pub fn retain_services(&mut self, seen: &FxHashSet<ServiceName>) {
        let known = self.services.iter().filter(|(_, entry)| entry.spec.is_some());
        let gone = known.map(|(name, _)| name).filter(|name| !seen.contains(name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.set_service(&name, None);
        }
    }

    /// A complete list of the EndpointSlices has ended: those not `seen` in it are gone.
    pub fn retain_slices(&mut self, seen: &FxHashSet<ServiceName>) {
        let gone = self.slices.keys().filter(|name| !seen.contains(name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.set_slice(&name, None);
        }
    }

    /// Whether something changed since [`Catalog::take_changes`].
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What the Services that changed since the last call are to be, in the order of their names.
    pub fn take_changes(&mut self) -> Vec<(ServiceName, DesiredService)> {
        let changed = mem::take(&mut self.changed);
        changed.into_iter().map(|name| (name.clone(), self.desired(&name))).collect()
    }

    /// What a Service is to be; nothing if it is not known.
    #[must_use]
    pub fn desired(&self, name: &ServiceName) -> DesiredService {
        match self.services.get(name) {
            Some(Entry { spec: Some(spec), slices }) => {
                let ports = ports(spec)
                    .map(|(port, family)| desired(spec, port, family, slices, &self.node))
                    .map(Arc::new)
                    .collect();
                DesiredService { created_ms: spec.created_ms, ports }
            }
            _ => DesiredService::default(),
        }
    }

    /// The Services whose load balancers ask for their endpoints on this node: the port to answer
    /// at, and how many ready ones there are. Kubernetes' `healthCheckNodePort`.
    pub fn health_checks(&self) -> impl Iterator<Item = (&ServiceName, u16, LocalEndpoints)> {
        self.health_checked.iter().filter_map(|name| {
            let Entry { spec, slices } = self.services.get(name)?;
            let spec = spec.as_ref().filter(|spec| spec.health_check_node_port != 0)?;
            let local: BTreeSet<_> = ports(spec)
                .flat_map(|(port, family)| {
                    let endpoints = Endpoints::of(port, family, slices.iter());
                    let local = endpoints.local_ready().map(|endpoint| (family, endpoint.address));
                    local.collect::<Vec<_>>()
                })
                .collect();
            let of = |family| local.iter().filter(|(its, _)| *its == family).count();
            let local = LocalEndpoints { ipv4: of(Family::V4), ipv6: of(Family::V6) };
            Some((name, spec.health_check_node_port, local))
        })
    }

    fn settle(&mut self, name: &ServiceName, news: bool) {
        if news {
            self.changed.insert(name.clone());
        }
        let entry = self.services.get(name);
        if entry.is_some_and(|entry| entry.spec.is_none() && entry.slices.is_empty()) {
            self.services.remove(name);
        }
    }
}

/// A Service has each port once for each family of its cluster IPs.
fn ports(spec: &ServiceSpec) -> impl Iterator<Item = (&ServicePort, Family)> {
    let families = spec.cluster_ips.iter().map(|ip| Family::of(*ip));
    families.flat_map(|family| spec.ports.iter().map(move |port| (port, family)))
}

fn desired(
    spec: &ServiceSpec,
    port: &ServicePort,
    family: Family,
    slices: &Slices,
    node: &NodeSpec,
) -> DesiredPort {
    let endpoints = Endpoints::of(port, family, slices.iter());
    let addresses = Addresses::of(spec, port, family);
    let uses_local = spec.internal_local || spec.external_local && addresses.is_exposed();
    let uses_cluster = !spec.internal_local || addresses.is_exposed();
    let none = Arc::<[Endpoint]>::default();
    let cluster = if uses_cluster { endpoints.cluster(node.zone.as_deref()) } else { none };
    let mut local = if uses_local { endpoints.local() } else { Arc::default() };
    if local == cluster {
        local = Arc::clone(&cluster);
    }
    let mut desired = DesiredPort {
        id: PortId { name: Arc::clone(&port.name), protocol: port.protocol, family },
        cluster,
        local,
        serving: if port.protocol == Protocol::Udp { endpoints.serving() } else { Arc::default() },
        affinity_seconds: spec.affinity_seconds,
        ring: spec.ring,
        weights: spec.weights.clone(),
        source_ranges: source_ranges(spec, &addresses, node.primary(family)),
        frontends: Vec::with_capacity(addresses.count()),
    };
    let frontends = addresses.frontends(spec, port);
    // Where a policy leaves none of the endpoints there are, clients are dropped and not rejected.
    let lacks = |policy| desired.endpoints(policy).is_empty() && !endpoints.is_empty();
    let frontends = frontends
        .map(|mut frontend| {
            frontend.flags |= if lacks(frontend.internal) { flag::DROP_INTERNAL } else { 0 };
            frontend.flags |= if lacks(frontend.external) { flag::DROP_EXTERNAL } else { 0 };
            frontend
        })
        .collect();
    desired.frontends = frontends;
    desired
}

/// A port's addresses of one family.
struct Addresses {
    cluster_ip: Option<IpAddr>,
    external_ips: Vec<IpAddr>,
    load_balancer_ips: Vec<IpAddr>,
    /// `0.0.0.0` or `::` if the port has a node port.
    node: Option<IpAddr>,
}

impl Addresses {
    fn of(spec: &ServiceSpec, port: &ServicePort, family: Family) -> Self {
        let of_family = |ips: &[IpAddr]| -> Vec<IpAddr> {
            ips.iter().copied().filter(|ip| Family::of(*ip) == family).collect()
        };
        let any = match family {
            Family::V4 => IpAddr::from([0; 4]),
            Family::V6 => IpAddr::from([0; 16]),
        };
        Self {
            cluster_ip: of_family(&spec.cluster_ips).first().copied(),
            external_ips: of_family(&spec.external_ips),
            load_balancer_ips: of_family(&spec.load_balancer_ips),
            node: (port.node_port != 0).then_some(any),
        }
    }

    /// Whether clients from elsewhere are expected.
    fn is_exposed(&self) -> bool {
        self.count() > usize::from(self.cluster_ip.is_some())
    }

    fn count(&self) -> usize {
        let several = self.external_ips.len() + self.load_balancer_ips.len();
        several + usize::from(self.cluster_ip.is_some()) + usize::from(self.node.is_some())
    }

    /// A frontend each, without those that say what happens where nobody answers.
    fn frontends<'a>(
        &'a self,
        spec: &'a ServiceSpec,
        port: &'a ServicePort,
    ) -> impl Iterator<Item = DesiredFrontend> + 'a {
        let inner = Policy::local_if(spec.internal_local);
        let outer = Policy::local_if(spec.external_local);
        let cluster_ip = self.cluster_ip.iter().map(move |ip| DesiredFrontend {
            key: frontend_key(SocketAddr::new(*ip, port.port), port.protocol),
            internal: inner,
            external: inner,
            checks_source: false,
            flags: flag::CLUSTER_IP,
        });
        let ips = &self.external_ips;
        let external_ips = ips.iter().map(|ip| (*ip, port.port, flag::EXTERNAL_IP));
        let ips = &self.load_balancer_ips;
        let load_balancer = ips.iter().map(|ip| (*ip, port.port, flag::LOAD_BALANCER));
        let node = self.node.iter().map(|any| (*any, port.node_port, flag::NODE_PORT));
        let exposed = external_ips.chain(load_balancer).chain(node);
        cluster_ip.chain(exposed.map(move |(ip, number, kind)| DesiredFrontend {
            key: frontend_key(SocketAddr::new(ip, number), port.protocol),
            // Clients on this node are spared the policy for those from elsewhere.
            internal: Policy::Cluster,
            external: outer,
            checks_source: kind == flag::LOAD_BALANCER,
            flags: kind | if outer == Policy::Cluster { flag::MASQUERADE } else { 0 },
        }))
    }
}

/// The ranges of the port's family; if the Service has none of that family, everyone may. Where the
/// node itself may, so may its load-balancer addresses: the node may have them as its own, and then
/// sends from them.
fn source_ranges(
    spec: &ServiceSpec,
    addresses: &Addresses,
    primary: Option<IpAddr>,
) -> Arc<[SourceCidr]> {
    let Some(first) = addresses.load_balancer_ips.first() else { return Arc::default() };
    let family = Family::of(*first);
    let of_family = spec.source_ranges.iter().filter(|net| Family::of(net.addr()) == family);
    let mut ranges: Vec<SourceCidr> = of_family.clone().map(|net| SourceCidr::from(*net)).collect();
    let node_may = primary.is_some_and(|node| of_family.clone().any(|net| net.contains(&node)));
    if node_may {
        let hosts = addresses.load_balancer_ips.iter().map(|ip| ipnet::IpNet::from(*ip));
        ranges.extend(hosts.map(SourceCidr::from));
    }
    ranges.sort_unstable();
    ranges.dedup();
    ranges.into()
}
