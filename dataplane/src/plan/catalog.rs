//! All Services and EndpointSlices of the cluster, and which Services have changed.
//!
//! Mirrors kube-proxy's ServiceChangeTracker and EndpointSliceCache: it keeps the little that the
//! dataplane needs of each object, and merges a Service's slices.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::Ipv4Addr;
use std::sync::Arc;

use pintle_ebpf_common::{Endpoint, flag};
use rustc_hash::{FxHashMap, FxHashSet};

use super::endpoint_slice::{Condition, SliceEndpoint, SliceSpec};
use super::service::{
    DesiredPort, DesiredService, ServiceName, ServicePort, ServiceSpec, endpoint, frontend_key,
};

/// The API's state as last heard.
#[derive(Debug, Default)]
pub struct Catalog {
    services: FxHashMap<ServiceName, Entry>,
    /// By namespace and name of the slice: the Service it was last seen to belong to.
    slices: FxHashMap<ServiceName, ServiceName>,
    changed: BTreeSet<ServiceName>,
}

#[derive(Debug, Default)]
struct Entry {
    spec: Option<ServiceSpec>,
    slices: BTreeMap<Arc<str>, SliceSpec>,
}

impl Catalog {
    /// A Service was added or changed, or (`None`) removed or is none of ours. Returns whether that
    /// is news.
    pub fn set_service(&mut self, name: &ServiceName, spec: Option<ServiceSpec>) -> bool {
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
        if let Some(spec) = spec {
            let service = spec.service.clone();
            let entry = self.services.entry(service.clone()).or_default();
            if entry.slices.get(&name.name) != Some(&spec) {
                entry.slices.insert(Arc::clone(&name.name), spec);
                self.slices.insert(name.clone(), service.clone());
                self.settle(&service, true);
                news = true;
            }
        }
        news
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
            Some(Entry { spec: Some(spec), slices }) => desired(spec, slices),
            _ => DesiredService::default(),
        }
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

fn desired(spec: &ServiceSpec, slices: &BTreeMap<Arc<str>, SliceSpec>) -> DesiredService {
    let mut ports = Vec::with_capacity(spec.ports.len() * spec.cluster_ips.len());
    for port in &spec.ports {
        let (backends, flags) = usable(&merge(port, slices), spec.internal_local);
        for address in &spec.cluster_ips {
            let frontend = frontend_key(*address, port.port, port.protocol);
            ports.push(DesiredPort { frontend, backends: Arc::clone(&backends), flags });
        }
    }
    DesiredService { created_ms: spec.created_ms, ports }
}

/// The endpoints that serve `port`, ordered. One that stands in several slices, as it may while it
/// moves between them, is taken at its best.
fn merge(
    port: &ServicePort,
    slices: &BTreeMap<Arc<str>, SliceSpec>,
) -> BTreeMap<(Ipv4Addr, u16), (Condition, bool)> {
    let mut merged = BTreeMap::new();
    for slice in slices.values() {
        let ports = slice.ports.iter();
        for served in ports.filter(|p| p.name == port.name && p.protocol == port.protocol) {
            for SliceEndpoint { address, condition, local } in &slice.endpoints {
                let best = merged.entry((*address, served.port)).or_insert((*condition, *local));
                best.0 = best.0.max(*condition);
                best.1 |= *local;
            }
        }
    }
    merged
}

/// The endpoints to use: the ready ones, or where none is ready those that terminate and still
/// serve; under the policy Local this is asked of the node's own. Where the policy leaves none of
/// those there are, callers are dropped and not refused (`pkg/proxy/topology.go`).
fn usable(
    endpoints: &BTreeMap<(Ipv4Addr, u16), (Condition, bool)>,
    internal_local: bool,
) -> (Arc<[Endpoint]>, u32) {
    let candidates = || endpoints.iter().filter(|(_, (_, local))| *local || !internal_local);
    let best = candidates().map(|(_, (condition, _))| *condition).max();
    let backends: Arc<[Endpoint]> = candidates()
        .filter(|(_, (condition, _))| Some(*condition) == best)
        .map(|((address, port), _)| endpoint(*address, *port))
        .collect();
    let flags = if backends.is_empty() && !endpoints.is_empty() { flag::DROP } else { 0 };
    (backends, flags)
}
