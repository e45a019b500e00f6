//! The work queues' metrics, under the names that client-go's workqueue gives them.

use std::sync::atomic::AtomicI64;

use pintle_component::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The metrics of all queues, by the queue's name.
#[derive(Clone)]
pub(crate) struct Metrics {
    adds: Family<Name, Counter>,
    depth: Family<Name, Gauge>,
    queue_duration: Family<Name, Histogram, fn() -> Histogram>,
    retries: Family<Name, Counter>,
    work_duration: Family<Name, Histogram, fn() -> Histogram>,
}

/// The metrics of one queue.
pub(crate) struct QueueMetrics {
    pub(crate) adds: Counter,
    pub(crate) depth: Gauge<i64, AtomicI64>,
    pub(crate) queue_duration: Histogram,
    pub(crate) retries: Counter,
    pub(crate) work_duration: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: &'static str,
}

impl Metrics {
    /// Register the families.
    pub(crate) fn register(registry: &Registry) -> Self {
        let metrics = Self {
            adds: Family::default(),
            depth: Family::default(),
            queue_duration: Family::new_with_constructor(seconds),
            retries: Family::default(),
            work_duration: Family::new_with_constructor(seconds),
        };
        let mut registry = registry.write();
        // The encoder appends `_total` to counters.
        registry.register(
            "workqueue_adds",
            "Total number of adds handled by workqueue",
            metrics.adds.clone(),
        );
        registry.register("workqueue_depth", "Current depth of workqueue", metrics.depth.clone());
        registry.register(
            "workqueue_queue_duration_seconds",
            "How long in seconds an item stays in workqueue before being requested",
            metrics.queue_duration.clone(),
        );
        registry.register(
            "workqueue_retries",
            "Total number of retries handled by workqueue",
            metrics.retries.clone(),
        );
        registry.register(
            "workqueue_work_duration_seconds",
            "How long in seconds processing an item from workqueue takes",
            metrics.work_duration.clone(),
        );
        drop(registry);
        metrics
    }

    /// The metrics of the queue `name`.
    pub(crate) fn queue(&self, name: &'static str) -> QueueMetrics {
        let name = Name { name };
        QueueMetrics {
            adds: self.adds.get_or_create(&name).clone(),
            depth: self.depth.get_or_create(&name).clone(),
            queue_duration: self.queue_duration.get_or_create(&name).clone(),
            retries: self.retries.get_or_create(&name).clone(),
            work_duration: self.work_duration.get_or_create(&name).clone(),
        }
    }
}

#[cfg(test)]
impl Default for QueueMetrics {
    fn default() -> Self {
        Metrics::register(&Registry::default()).queue("test")
    }
}

/// client-go's buckets: ten of them, from 10 ns by tens.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1e-8, 10.0, 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_client_gos() {
        let registry = Registry::default();
        let metrics = Metrics::register(&registry);
        metrics.queue("deployment").adds.inc();
        let text = pintle_component::encode_metrics(&registry);
        assert!(text.contains("workqueue_adds_total{name=\"deployment\"} 1"), "{text}");
        assert!(text.contains("workqueue_depth{name=\"deployment\"} 0"), "{text}");
    }
}
