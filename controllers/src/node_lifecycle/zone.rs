//! How fast the nodes of a zone may be evicted, by how many of them are down. Pure.
//!
//! Mirrors ComputeZoneState and handleDisruption: the more nodes fail at once, the likelier it is
//! the network, and the slower their pods are given up.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;

use super::health::ready;
use super::taints::Eviction;
use crate::Config;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    FullDisruption,
    Normal,
    PartialDisruption,
}

/// The token buckets of all zones.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    buckets: BTreeMap<String, Bucket>,
    /// Nodes a second, per zone; nothing at all while every zone is down.
    rates: BTreeMap<String, f64>,
    stopped: bool,
}

/// One token is one node; upstream's burst is one as well.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Zones {
    /// Look at all nodes' readiness.
    pub(super) fn update(&mut self, nodes: &[Arc<Node>], config: &Config) {
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for node in nodes {
            let count = counts.entry(zone_of(node)).or_default();
            if ready(node) == "True" { count.0 += 1 } else { count.1 += 1 }
        }
        let states = counts.values().map(|count| state(*count, config.unhealthy_zone_threshold));
        self.stopped = !counts.is_empty() && states.clone().all(|s| s == State::FullDisruption);
        self.rates = counts
            .iter()
            .zip(states)
            .map(|((zone, count), state)| (zone.clone(), rate(state, count.0 + count.1, config)))
            .collect();
        self.buckets.retain(|zone, _| counts.contains_key(zone));
    }

    /// Whether `node`, which is not ready, may be evicted from now; if so, this takes the token.
    pub(super) fn take(&mut self, node: &Node, now: Timestamp) -> Eviction {
        if self.stopped {
            return Eviction::Stopped;
        }
        let zone = zone_of(node);
        let rate = self.rates.get(&zone).copied().unwrap_or(0.0);
        if rate <= 0.0 {
            return Eviction::Limited;
        }
        let bucket = self.buckets.entry(zone).or_insert(Bucket { tokens: 1.0, at: now });
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed * rate).min(1.0);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Eviction::Limited;
        }
        bucket.tokens -= 1.0;
        Eviction::Allowed
    }

    /// What holds for nodes that do not ask for a token.
    pub(super) fn standing(&self) -> Eviction {
        if self.stopped { Eviction::Stopped } else { Eviction::Limited }
    }
}

fn state((ready, not_ready): (usize, usize), threshold: f64) -> State {
    #[expect(clippy::cast_precision_loss, reason = "node counts are far below 2^52")]
    let share = not_ready as f64 / (ready + not_ready).max(1) as f64;
    match (ready, not_ready) {
        (0, 1..) => State::FullDisruption,
        // A single failure, or two, is never a disruption of the zone.
        (_, 3..) if share >= threshold => State::PartialDisruption,
        _ => State::Normal,
    }
}

fn rate(state: State, nodes: usize, config: &Config) -> f64 {
    match state {
        State::Normal | State::FullDisruption => config.node_eviction_rate,
        State::PartialDisruption if nodes > config.large_cluster_size_threshold => {
            config.secondary_node_eviction_rate
        }
        State::PartialDisruption => 0.0,
    }
}

fn zone_of(node: &Node) -> String {
    let label = |key| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let region = label("topology.kubernetes.io/region").map_or("", String::as_str);
    let zone = label("topology.kubernetes.io/zone").map_or("", String::as_str);
    format!("{region}:{zone}")
}
