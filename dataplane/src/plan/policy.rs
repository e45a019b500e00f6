//! Which endpoints a Service's port uses on this node.
//!
//! Mirrors `CategorizeEndpoints` of `pkg/proxy/topology.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use pintle_ebpf_common::{Endpoint, locality};

use super::endpoint_slice::{Condition, NodeHint, SliceEndpoint, SliceSpec};
use super::service::{Family, ServicePort};

/// A port's endpoints, each once.
pub(super) struct Endpoints<'a>(BTreeMap<Endpoint, Known<'a>>);

#[derive(Clone, Copy)]
struct Known<'a> {
    condition: Condition,
    local: bool,
    elsewhere: bool,
    /// The one whose hints count.
    hints: &'a SliceEndpoint,
}

/// How the endpoints' hints are followed.
#[derive(Clone, Copy)]
enum Topology {
    Ignored,
    SameNode,
    SameZone,
}

impl<'a> Endpoints<'a> {
    /// The endpoints that serve `port`, ordered. One that stands in several slices, as it may while
    /// it moves between them, is taken at its best.
    pub(super) fn of(
        port: &ServicePort,
        family: Family,
        slices: impl Iterator<Item = &'a SliceSpec>,
    ) -> Self {
        let mut merged = BTreeMap::<Endpoint, Known<'a>>::new();
        for slice in slices.filter(|slice| slice.family == family) {
            let ports = slice.ports.iter();
            for served in ports.filter(|p| p.name == port.name && p.protocol == port.protocol) {
                for endpoint in &slice.endpoints {
                    let SliceEndpoint { address, condition, local, elsewhere, .. } = *endpoint;
                    let key = Endpoint::new(address, served.port.to_be());
                    let fresh = Known { condition, local, elsewhere, hints: endpoint };
                    let known = merged.entry(key).or_insert(fresh);
                    if condition > known.condition {
                        known.condition = condition;
                        known.hints = endpoint;
                    }
                    known.local |= local;
                    known.elsewhere |= elsewhere;
                }
            }
        }
        Self(merged)
    }

    /// Whether any endpoint in the cluster takes connections.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The endpoints for the policy Cluster: the ready ones that the hints allow, or where none is
    /// ready at all those that terminate and still serve, hints or not.
    pub(super) fn cluster(&self, zone: Option<&str>) -> Arc<[Endpoint]> {
        let topology = self.topology(zone);
        let best = self.best(|_| true);
        self.collect(|known| {
            Some(known.condition) == best
                && match (known.condition, topology) {
                    (Condition::ServingTerminating, _) | (_, Topology::Ignored) => true,
                    (_, Topology::SameNode) => known.hints.node_hint == NodeHint::ThisNode,
                    (_, Topology::SameZone) => known.is_for_zone(zone),
                }
        })
    }

    /// The endpoints for the policy Local: this node's ready ones, or where it has none those of its
    /// own that terminate and still serve.
    pub(super) fn local(&self) -> Arc<[Endpoint]> {
        let best = self.best(|known| known.local);
        self.collect(|known| known.local && Some(known.condition) == best)
    }

    /// All endpoints that serve, ready or terminating.
    pub(super) fn serving(&self) -> Arc<[Endpoint]> {
        self.0.keys().copied().collect()
    }

    /// How many endpoints on this node are ready, for the load balancers' health checks.
    pub(super) fn local_ready(&self) -> impl Iterator<Item = Endpoint> + '_ {
        let ready = |known: &Known<'_>| known.local && known.condition == Condition::Ready;
        self.0.iter().filter(move |(_, known)| ready(known)).map(|(endpoint, _)| *endpoint)
    }

    fn topology(&self, zone: Option<&str>) -> Topology {
        let ready = || self.0.values().filter(|known| known.condition == Condition::Ready);
        if ready().all(|known| known.hints.node_hint != NodeHint::None)
            && ready().any(|known| known.hints.node_hint == NodeHint::ThisNode)
        {
            Topology::SameNode
        } else if ready().all(|known| known.hints.zone_hints.is_some())
            && ready().any(|known| known.is_for_zone(zone))
        {
            Topology::SameZone
        } else {
            Topology::Ignored
        }
    }

    fn best(&self, among: impl Fn(&Known<'_>) -> bool) -> Option<Condition> {
        self.0.values().filter(|known| among(known)).map(|known| known.condition).max()
    }

    fn collect(&self, wanted: impl Fn(&Known<'_>) -> bool) -> Arc<[Endpoint]> {
        let wanted = self.0.iter().filter(|(_, known)| wanted(known));
        wanted.map(|(endpoint, known)| endpoint.at(known.locality())).collect()
    }
}

impl Known<'_> {
    fn locality(&self) -> u16 {
        match (self.local, self.elsewhere) {
            (true, _) => locality::THIS_NODE,
            (false, true) => locality::OTHER_NODE,
            (false, false) => locality::UNKNOWN,
        }
    }

    fn is_for_zone(&self, zone: Option<&str>) -> bool {
        // A node without the label has the zone "", which no hint names.
        let mut zones = self.hints.zone_hints.iter().flat_map(|zones| zones.iter());
        zone.is_some_and(|zone| zones.any(|hint| **hint == *zone))
    }
}
