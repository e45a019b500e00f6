//! Metrics under the kubelet's own names, with the node as a label, since several kubelets may share
//! a process and its registry.

use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use parking_lot::RwLock;
use pintle_component::Registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

type Labels = [(&'static str, String); 1];

/// The metrics of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NodeMetrics {
    /// Pods that are looked after.
    pub(crate) running_pods: Gauge,
    /// Containers that were started.
    pub(crate) started_containers: Counter,
    /// Containers that could not be started.
    pub(crate) started_containers_errors: Counter,
    /// From the node agent's first sight of a pod to its containers' all being started, in seconds.
    pub(crate) pod_start_duration: Histogram,
}

#[derive(Clone)]
struct Families {
    running_pods: Family<Labels, Gauge>,
    started_containers: Family<Labels, Counter>,
    started_containers_errors: Family<Labels, Counter>,
    pod_start_duration: Family<Labels, Histogram>,
}

/// One set a process; each registry learns of it once.
static FAMILIES: LazyLock<Families> = LazyLock::new(|| Families {
    running_pods: Family::default(),
    started_containers: Family::default(),
    started_containers_errors: Family::default(),
    pod_start_duration: Family::new_with_constructor(|| Histogram::new(START_BUCKETS_S)),
});

static REGISTERED: Mutex<Vec<Weak<RwLock<prometheus_client::registry::Registry>>>> =
    Mutex::new(Vec::new());

/// The metrics of `node`, served by `registry`.
pub(crate) fn of_node(registry: &Registry, node: &str) -> NodeMetrics {
    register(registry);
    let labels = [("node", node.to_owned())];
    NodeMetrics {
        running_pods: FAMILIES.running_pods.get_or_create_owned(&labels),
        started_containers: FAMILIES.started_containers.get_or_create_owned(&labels),
        started_containers_errors: FAMILIES.started_containers_errors.get_or_create_owned(&labels),
        pod_start_duration: FAMILIES.pod_start_duration.get_or_create_owned(&labels),
    }
}

fn register(registry: &Registry) {
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    registered.retain(|it| it.strong_count() > 0);
    if registered.iter().any(|it| std::ptr::eq(it.as_ptr(), Arc::as_ptr(registry))) {
        return;
    }
    registered.push(Arc::downgrade(registry));
    let Families {
        running_pods,
        started_containers,
        started_containers_errors,
        pod_start_duration,
    } = FAMILIES.clone();
    let mut registry = registry.write();
    registry.register("kubelet_running_pods", "Pods that have a worker", running_pods);
    registry.register(
        "kubelet_started_containers",
        "Cumulative number of containers started",
        started_containers,
    );
    registry.register(
        "kubelet_started_containers_errors",
        "Cumulative number of errors when starting containers",
        started_containers_errors,
    );
    registry.register(
        "kubelet_pod_start_duration_seconds",
        "Duration in seconds from the kubelet seeing a pod for the first time to the pod starting to run",
        pod_start_duration,
    );
}

/// A process starts in milliseconds; a crash loop waits minutes.
const START_BUCKETS_S: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0, 300.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_share_one_family_in_a_registry() {
        let registry = Registry::default();
        of_node(&registry, "metrics-a").started_containers.inc();
        of_node(&registry, "metrics-b").running_pods.set(2);
        let text = pintle_component::encode_metrics(&registry);
        let lines = |needle: &str| text.lines().filter(|line| line.contains(needle)).count();
        assert_eq!(lines("# TYPE kubelet_running_pods"), 1, "{text}");
        assert_eq!(lines("kubelet_running_pods{node=\"metrics-b\"} 2"), 1, "{text}");
        assert_eq!(lines("kubelet_started_containers_total{node=\"metrics-a\"} 1"), 1, "{text}");
    }
}
