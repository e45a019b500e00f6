//! kube-proxy's backend-neutral metrics (`pkg/proxy/metrics`), labelled with the node, and what the
//! kernel's maps say when they are asked for ([`super::scrape`]).

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use pintle_component::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry;

use crate::kernel::Pins;

use super::scrape::Scraped;
use super::status::Probe;

/// One node's metrics.
#[derive(Clone)]
pub(super) struct Metrics {
    families: Families,
    node: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProbeLabels {
    code: u16,
    node: String,
}

type Seconds = Gauge<f64, std::sync::atomic::AtomicU64>;

#[derive(Clone)]
struct Families {
    sync_duration: Family<Labels, Histogram>,
    sync_last: Family<Labels, Seconds>,
    sync_last_queued: Family<Labels, Seconds>,
    service_changes: Family<Labels, Counter>,
    service_changes_pending: Family<Labels, Gauge>,
    endpoint_changes: Family<Labels, Counter>,
    endpoint_changes_pending: Family<Labels, Gauge>,
    service_ports: Family<Labels, Gauge>,
    rejected: Family<Labels, Gauge>,
    node_ports_taken: Family<Labels, Counter>,
    network_programming: Family<Labels, Histogram>,
    healthz: Family<ProbeLabels, Counter>,
    livez: Family<ProbeLabels, Counter>,
    scraped: Scraped,
}

/// Which kind of object has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    EndpointSlice,
    Service,
}

impl Metrics {
    /// The metrics of `node` in `registry`. Nodes that share a registry share its families.
    pub(super) fn of(registry: &Registry, node: &str) -> Self {
        Self { families: families(registry), node: Labels { node: node.to_owned() } }
    }

    /// An object has changed in what concerns us.
    pub(super) fn queued(&self, kind: Kind) {
        let Families { service_changes, service_changes_pending, .. } = &self.families;
        let Families { endpoint_changes, endpoint_changes_pending, .. } = &self.families;
        let (total, pending) = match kind {
            Kind::EndpointSlice => (endpoint_changes, endpoint_changes_pending),
            Kind::Service => (service_changes, service_changes_pending),
        };
        total.get_or_create(&self.node).inc();
        pending.get_or_create(&self.node).inc();
        self.families.sync_last_queued.get_or_create(&self.node).set(now_seconds());
    }

    /// All changes are in the kernel.
    pub(super) fn synced(&self, took: Duration, service_ports: usize, rejected: usize) {
        let families = &self.families;
        families.sync_duration.get_or_create(&self.node).observe(took.as_secs_f64());
        families.sync_last.get_or_create(&self.node).set(now_seconds());
        families.service_changes_pending.get_or_create(&self.node).set(0);
        families.endpoint_changes_pending.get_or_create(&self.node).set(0);
        families.service_ports.get_or_create(&self.node).set(service_ports as i64);
        families.rejected.get_or_create(&self.node).set(rejected as i64);
    }
}

impl Metrics {
    /// kube-proxy's health endpoints were asked.
    pub(super) fn probed(&self, probe: Probe, code: u16) {
        let family = match probe {
            Probe::Healthz => &self.families.healthz,
            Probe::Livez => &self.families.livez,
        };
        family.get_or_create(&ProbeLabels { code, node: self.node.node.clone() }).inc();
    }

    /// A process listens at a node port that is served from now on.
    pub(super) fn node_port_taken(&self) {
        self.families.node_ports_taken.get_or_create(&self.node).inc();
    }

    /// Endpoints that changed so long ago, somewhere, are in the kernel.
    pub(super) fn programmed(&self, took: Duration) {
        let family = &self.families.network_programming;
        family.get_or_create(&self.node).observe(took.as_secs_f64());
    }

    /// What the maps in these pins say is shown too, for as long as they are there.
    pub(super) fn show_maps(&self, pins: &Pins) {
        self.families.scraped.add(&self.node.node, pins);
    }

    /// The maps are not looked at any more.
    pub(super) fn hide_maps(&self) {
        self.families.scraped.remove(&self.node.node);
    }
}

/// The families of a registry, registered when first asked for: a family may stand in a registry
/// once, and all nodes of one process have the same registry.
fn families(registry: &Registry) -> Families {
    static KNOWN: Mutex<Vec<(Weak<RwLock<registry::Registry>>, Families)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock();
    known.retain(|(registry, _)| registry.strong_count() > 0);
    let found = known.iter().find(|(weak, _)| std::ptr::eq(weak.as_ptr(), Arc::as_ptr(registry)));
    if let Some((_, families)) = found {
        return families.clone();
    }
    let families = register(&mut registry.write());
    known.push((Arc::downgrade(registry), families.clone()));
    families
}

fn register(registry: &mut registry::Registry) -> Families {
    let families = Families {
        // 1 ms to 16 s, kube-proxy's own.
        sync_duration: Family::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 2.0, 15))
        }),
        sync_last: Family::default(),
        sync_last_queued: Family::default(),
        service_changes: Family::default(),
        service_changes_pending: Family::default(),
        endpoint_changes: Family::default(),
        endpoint_changes_pending: Family::default(),
        service_ports: Family::default(),
        rejected: Family::default(),
        node_ports_taken: Family::default(),
        network_programming: Family::new_with_constructor(|| Histogram::new(programming_buckets())),
        healthz: Family::default(),
        livez: Family::default(),
        scraped: Scraped::default(),
    };
    // The registry ends the help with a full stop, and counters' names with _total.
    registry.register(
        "kubeproxy_sync_proxy_rules_duration_seconds",
        "Time to bring the tables up to date",
        families.sync_duration.clone(),
    );
    registry.register(
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "When the tables were last brought up to date",
        families.sync_last.clone(),
    );
    registry.register(
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "When an update of the tables was last called for",
        families.sync_last_queued.clone(),
    );
    registry.register(
        "kubeproxy_sync_proxy_rules_service_changes",
        "Changes of Services",
        families.service_changes.clone(),
    );
    registry.register(
        "kubeproxy_sync_proxy_rules_service_changes_pending",
        "Changes of Services that are not in the tables yet",
        families.service_changes_pending.clone(),
    );
    registry.register(
        "kubeproxy_sync_proxy_rules_endpoint_changes",
        "Changes of EndpointSlices",
        families.endpoint_changes.clone(),
    );
    registry.register(
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
        "Changes of EndpointSlices that are not in the tables yet",
        families.endpoint_changes_pending.clone(),
    );
    registry.register(
        "pintle_dataplane_service_ports",
        "Service addresses and ports that are published",
        families.service_ports.clone(),
    );
    registry.register(
        "pintle_dataplane_rejected",
        "Service addresses and ports that could not be published at the last update",
        families.rejected.clone(),
    );
    registry.register(
        "pintle_dataplane_node_ports_taken",
        "Node ports at which a process of the node listened when they began to be served",
        families.node_ports_taken.clone(),
    );
    registry.register(
        "kubeproxy_network_programming_duration_seconds",
        "Time from the change of a pod or a Service, as the endpoints' controller saw it, to the tables",
        families.network_programming.clone(),
    );
    let (healthz, livez) = (families.healthz.clone(), families.livez.clone());
    registry.register("kubeproxy_proxy_healthz", "Answers of /healthz by HTTP status", healthz);
    registry.register("kubeproxy_proxy_livez", "Answers of /livez by HTTP status", livez);
    registry.register_collector(Box::new(families.scraped.clone()));
    families
}

/// 0.25 s, 0.5 s, each second to a minute, each five to two, each thirty to five.
fn programming_buckets() -> impl Iterator<Item = f64> {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from))
}

fn now_seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use pintle_component::encode_metrics;

    use super::*;

    #[test]
    fn nodes_of_one_registry_share_its_families() {
        let registry = Registry::default();
        let (one, two) = (Metrics::of(&registry, "node-0"), Metrics::of(&registry, "node-1"));
        one.queued(Kind::Service);
        one.queued(Kind::EndpointSlice);
        two.queued(Kind::Service);
        two.synced(Duration::from_millis(3), 5, 0);
        let text = encode_metrics(&registry);
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        has("kubeproxy_sync_proxy_rules_service_changes_total{node=\"node-0\"} 1");
        has("kubeproxy_sync_proxy_rules_service_changes_pending{node=\"node-0\"} 1");
        has("kubeproxy_sync_proxy_rules_service_changes_pending{node=\"node-1\"} 0");
        has("kubeproxy_sync_proxy_rules_duration_seconds_count{node=\"node-1\"} 1");
        two.programmed(Duration::from_millis(300));
        let text_now = encode_metrics(&registry);
        let bucket = "network_programming_duration_seconds_bucket{le=\"0.5\",node=\"node-1\"} 1";
        assert!(text_now.contains(bucket), "{text_now}");
        let types = text.matches("# TYPE kubeproxy_sync_proxy_rules_duration_seconds").count();
        assert_eq!(types, 1, "{text}");
    }
}
