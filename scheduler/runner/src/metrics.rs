//! The scheduler's counters and histograms, under kube-scheduler's names (`pkg/scheduler/metrics`).
//! Its gauges are counted at scrape time, in [`crate::statistics`].

use std::time::Duration;

use pintle_component::Registry;
use pintle_scheduler_core::framework::{Code, ExtensionPoint};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::sample::Measured;

type Label = (&'static str, String);
type Histograms<const N: usize> = Family<[Label; N], Histogram, fn() -> Histogram>;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptResult {
    /// Bound.
    Scheduled,
    /// No node would do.
    Unschedulable,
    /// Something went wrong.
    Error,
}

impl AttemptResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

/// Cheap to clone; clones share the numbers.
#[derive(Clone)]
pub(crate) struct Metrics {
    attempts: Family<[Label; 2], Counter>,
    attempt_seconds: Histograms<2>,
    algorithm_seconds: Histogram,
    sli_seconds: Histograms<1>,
    pod_attempts: Histogram,
    point_seconds: Histograms<3>,
    plugin_seconds: Histograms<3>,
    preemption_attempts: Counter,
    preemption_victims: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Self {
        let metrics = Self {
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(attempt_histogram),
            algorithm_seconds: attempt_histogram(),
            sli_seconds: Family::new_with_constructor(sli_histogram),
            pod_attempts: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            point_seconds: Family::new_with_constructor(point_histogram),
            plugin_seconds: Family::new_with_constructor(plugin_histogram),
            preemption_attempts: Counter::default(),
            preemption_victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
        };
        metrics.register_attempts(registry);
        let mut registry = registry.write();
        registry.register(
            "scheduler_framework_extension_point_duration_seconds",
            "Latency for running all plugins of a specific extension point",
            metrics.point_seconds.clone(),
        );
        registry.register(
            "scheduler_plugin_execution_duration_seconds",
            "Duration for running a plugin at a specific extension point",
            metrics.plugin_seconds.clone(),
        );
        registry.register(
            "scheduler_preemption_attempts",
            "Total preemption attempts in the cluster till now",
            metrics.preemption_attempts.clone(),
        );
        registry.register(
            "scheduler_preemption_victims",
            "Number of selected preemption victims",
            metrics.preemption_victims.clone(),
        );
        drop(registry);
        metrics
    }

    fn register_attempts(&self, registry: &Registry) {
        let mut registry = registry.write();
        // The encoder adds `_total`.
        registry.register(
            "scheduler_schedule_attempts",
            "Number of attempts to schedule pods, by the result",
            self.attempts.clone(),
        );
        registry.register(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            self.attempt_seconds.clone(),
        );
        registry.register(
            "scheduler_scheduling_algorithm_duration_seconds",
            "Scheduling algorithm latency in seconds",
            self.algorithm_seconds.clone(),
        );
        registry.register(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "E2e latency for a pod being scheduled, from the time the pod enters the scheduling \
             queue and might involve multiple scheduling attempts",
            self.sli_seconds.clone(),
        );
        registry.register(
            "scheduler_pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod",
            self.pod_attempts.clone(),
        );
    }

    /// An attempt ended.
    pub(crate) fn attempt(&self, result: AttemptResult, profile: &str, took: Duration) {
        let labels = [("result", result.as_str().to_owned()), ("profile", profile.to_owned())];
        self.attempts.get_or_create(&labels).inc();
        self.attempt_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A decision was made, whatever it was.
    pub(crate) fn decided(&self, took: Duration) {
        self.algorithm_seconds.observe(took.as_secs_f64());
    }

    /// A pod was bound, so long after it first became active.
    pub(crate) fn scheduled(&self, attempts: u32, took: Duration) {
        self.pod_attempts.observe(f64::from(attempts));
        // Upstream's label: the number itself below 15.
        let attempts = if attempts >= 15 { "15+".to_owned() } else { attempts.to_string() };
        self.sli_seconds.get_or_create(&[("attempts", attempts)]).observe(took.as_secs_f64());
    }

    /// Everything at one point was done for a pod.
    pub(crate) fn point(&self, point: ExtensionPoint, code: Code, profile: &str, took: Duration) {
        let labels = [
            ("extension_point", format!("{point:?}")),
            ("status", code.as_str().to_owned()),
            ("profile", profile.to_owned()),
        ];
        self.point_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// What a sample took.
    pub(crate) fn sampled(&self, profile: &str, measured: &[Measured]) {
        for &Measured { plugin, point, code, took } in measured {
            let Some(plugin) = plugin else {
                self.point(point, code, profile, took);
                continue;
            };
            let labels = [
                ("plugin", plugin.as_str().to_owned()),
                ("extension_point", format!("{point:?}")),
                ("status", code.as_str().to_owned()),
            ];
            self.plugin_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// Preemption was tried; so many victims were found.
    #[expect(clippy::cast_precision_loss, reason = "a node's pods are few")]
    pub(crate) fn preemption(&self, victims: Option<usize>) {
        self.preemption_attempts.inc();
        if let Some(victims) = victims {
            self.preemption_victims.observe(victims as f64);
        }
    }
}

fn attempt_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn sli_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 20))
}

fn point_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 12))
}

fn plugin_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.00001, 1.5, 20))
}

#[cfg(test)]
mod tests {
    use pintle_scheduler_core::framework::PluginName;

    use super::*;

    #[test]
    fn names_are_upstreams() {
        let registry = Registry::default();
        let metrics = Metrics::register(&registry);
        let ms = Duration::from_millis;
        metrics.attempt(AttemptResult::Scheduled, "default-scheduler", ms(3));
        metrics.decided(ms(3));
        metrics.scheduled(1, ms(20));
        metrics.preemption(None);
        metrics.preemption(Some(3));
        let (point, code) = (ExtensionPoint::Filter, Code::Success);
        let fit = Some(PluginName::NodeResourcesFit);
        metrics.sampled(
            "default-scheduler",
            &[
                Measured { plugin: fit, point, code, took: Duration::from_micros(12) },
                Measured { plugin: None, point, code, took: ms(1) },
            ],
        );
        let text = pintle_component::encode_metrics(&registry);
        for line in [
            "scheduler_schedule_attempts_total{result=\"scheduled\",profile=\"default-scheduler\"} 1",
            "scheduler_preemption_attempts_total 2",
            "scheduler_preemption_victims_bucket{le=\"4.0\"} 1",
            "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"} 1",
            "scheduler_pod_scheduling_attempts_bucket{le=\"16.0\"} 1",
            "scheduler_scheduling_algorithm_duration_seconds_bucket{le=\"0.004\"} 1",
            "scheduler_scheduling_attempt_duration_seconds_bucket{le=\"0.004\",result=\"scheduled\",\
             profile=\"default-scheduler\"} 1",
            "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Filter\",\
             status=\"Success\",profile=\"default-scheduler\"} 1",
            "scheduler_plugin_execution_duration_seconds_count{plugin=\"NodeResourcesFit\",\
             extension_point=\"Filter\",status=\"Success\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
