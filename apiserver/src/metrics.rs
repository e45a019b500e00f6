//! Metrics under kube-apiserver's names.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use pintle_component::Daemon;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;

use crate::request::{Info, Target};
use crate::watch_cache::WatchCache;

pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    inflight: Family<KindLabels, Gauge>,
    pub(crate) watches: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    request_kind: &'static str,
}

impl Metrics {
    pub(crate) fn register(daemon: &Daemon, cache: &Arc<WatchCache>) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_SECONDS)),
            inflight: Family::default(),
            watches: Gauge::default(),
        };
        let mut registry = daemon.registry.write();
        // The counter's `_total` is appended when it is written out.
        registry.register("apiserver_request", "Requests answered", metrics.requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "Seconds from a request's headers to its response; watches are left out",
            metrics.durations.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests being worked on",
            metrics.inflight.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Watches open",
            metrics.watches.clone(),
        );
        registry.register_collector(Box::new(ObjectCounts(Arc::clone(cache))));
        metrics
    }

    pub(crate) fn start(&self, info: &Info) -> Timer<'_> {
        let resource = info.target.as_ref().and_then(Target::scheme);
        let labels = DurationLabels {
            verb: shown(info.verb),
            group: resource.map_or("", |resource| resource.group()),
            resource: resource.map_or("", |resource| resource.plural),
        };
        let reading = matches!(info.verb, "get" | "list" | "watch");
        let kind = KindLabels { request_kind: if reading { "readOnly" } else { "mutating" } };
        self.inflight.get_or_create(&kind).inc();
        Timer { metrics: self, labels, kind, started: Instant::now() }
    }
}

/// Counts a request when it is done, and that it is in flight until dropped.
pub(crate) struct Timer<'a> {
    metrics: &'a Metrics,
    labels: DurationLabels,
    kind: KindLabels,
    started: Instant,
}

impl Timer<'_> {
    pub(crate) fn done(self, code: StatusCode) {
        let DurationLabels { verb, group, resource } = self.labels;
        let labels = RequestLabels { verb, group, resource, code: code.as_u16() };
        self.metrics.requests.get_or_create(&labels).inc();
        if verb != "WATCH" {
            let seconds = self.started.elapsed().as_secs_f64();
            self.metrics.durations.get_or_create(&self.labels).observe(seconds);
        }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.metrics.inflight.get_or_create(&self.kind).dec();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: String,
}

/// `apiserver_storage_objects`, counted when it is asked for.
struct ObjectCounts(Arc<WatchCache>);

impl std::fmt::Debug for ObjectCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectCounts")
    }
}

impl Collector for ObjectCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        const NAME: &str = "apiserver_storage_objects";
        let gauge = ConstGauge::<i64>::new(0);
        let mut family =
            encoder.encode_descriptor(NAME, "Objects stored", None, gauge.metric_type())?;
        for (resource, count) in self.0.counts() {
            let resource = match resource.group() {
                "" => resource.plural.to_owned(),
                group => format!("{}.{group}", resource.plural),
            };
            let count = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            count.encode(family.encode_family(&ResourceLabels { resource })?)?;
        }
        Ok(())
    }
}

fn shown(verb: &'static str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "OTHER",
    }
}

/// From a read in memory to the request timeout.
const DURATION_SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 60.0];
