//! Metrics that are counted when somebody scrapes, under kube-scheduler's names: the scheduling loop
//! pays nothing for them.

use std::fmt;

use pintle_component::Registry;
use pintle_scheduler_core::Statistics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::shared::Shared;

/// Registers them. A scrape takes the scheduler's lock once.
pub(crate) fn register(registry: &Registry, shared: &Shared) {
    registry.write().register_collector(Box::new(Scrape(shared.clone())));
}

struct Scrape(Shared);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let statistics = self.0.lock().statistics();
        encode(&statistics, &mut encoder)
    }
}

fn encode(statistics: &Statistics, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Statistics { pending, nodes, pods, assumed_pods, unschedulable, incoming } = statistics;
    let by_queue = [
        ([("queue", "active")], pending.active),
        ([("queue", "backoff")], pending.backoff),
        ([("queue", "unschedulable")], pending.unschedulable),
        ([("queue", "gated")], pending.gated),
    ];
    let help = "Number of pending pods, by the queue type";
    gauges(encoder, "scheduler_pending_pods", help, &by_queue)?;
    let by_type = [
        ([("type", "nodes")], *nodes),
        ([("type", "pods")], *pods),
        ([("type", "assumed_pods")], *assumed_pods),
    ];
    let help = "Number of nodes, pods, and assumed (bound) pods in the scheduler cache";
    gauges(encoder, "scheduler_cache_size", help, &by_type)?;
    let by_plugin: Vec<_> = unschedulable
        .iter()
        .map(|((plugin, profile), count)| {
            ([("plugin", plugin.as_str()), ("profile", profile.as_str())], *count)
        })
        .collect();
    let help = "The number of unschedulable pods broken down by plugin name";
    gauges(encoder, "scheduler_unschedulable_pods", help, &by_plugin)?;
    let mut family = encoder.encode_descriptor(
        "scheduler_queue_incoming_pods",
        "Number of pods added to scheduling queues by event and queue type",
        None,
        MetricType::Counter,
    )?;
    for (queue, cause, count) in incoming {
        let labels = [("queue", (*queue).to_owned()), ("event", cause.label())];
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: &[([(&str, &str); N], usize)],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        let value = i64::try_from(*value).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}
