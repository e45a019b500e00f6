//! The scheduler's metrics, under kube-scheduler's names (`pkg/scheduler/metrics`).

use std::time::Duration;

use pintle_component::Registry;
use pintle_scheduler_core::queue::Counts;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

type ResultLabels = [(&'static str, String); 2];
type Label = [(&'static str, String); 1];
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

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
    profile: String,
    attempts: Family<ResultLabels, Counter>,
    attempt_seconds: Histograms<ResultLabels>,
    sli_seconds: Histograms<Label>,
    pending: Family<Label, Gauge>,
    preemption_attempts: Counter,
    preemption_victims: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry, profile: &str) -> Self {
        let metrics = Self {
            profile: profile.to_owned(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(attempt_histogram),
            sli_seconds: Family::new_with_constructor(sli_histogram),
            pending: Family::default(),
            preemption_attempts: Counter::default(),
            preemption_victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
        };
        let mut registry = registry.write();
        // The encoder adds `_total`.
        registry.register(
            "scheduler_schedule_attempts",
            "Number of attempts to schedule pods, by the result",
            metrics.attempts.clone(),
        );
        registry.register(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            metrics.attempt_seconds.clone(),
        );
        registry.register(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "E2e latency for a pod being scheduled, from the time the pod enters the scheduling \
             queue and might involve multiple scheduling attempts",
            metrics.sli_seconds.clone(),
        );
        registry.register(
            "scheduler_pending_pods",
            "Number of pending pods, by the queue type",
            metrics.pending.clone(),
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
        metrics.pending(Counts::default());
        metrics
    }

    /// An attempt ended.
    pub(crate) fn attempt(&self, result: AttemptResult, took: Duration) {
        let result = result.as_str().to_owned();
        let labels = [("result", result), ("profile", self.profile.clone())];
        self.attempts.get_or_create(&labels).inc();
        self.attempt_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A pod was bound, so long after it first became active.
    pub(crate) fn scheduled(&self, attempts: u32, took: Duration) {
        // Upstream's label: the number itself up to 15.
        let attempts = if attempts >= 16 { "16+".to_owned() } else { attempts.to_string() };
        self.sli_seconds.get_or_create(&[("attempts", attempts)]).observe(took.as_secs_f64());
    }

    /// Preemption was tried; so many victims were found.
    #[expect(clippy::cast_precision_loss, reason = "a node's pods are few")]
    pub(crate) fn preemption(&self, victims: Option<usize>) {
        self.preemption_attempts.inc();
        if let Some(victims) = victims {
            self.preemption_victims.observe(victims as f64);
        }
    }

    /// How many pods wait, and where.
    pub(crate) fn pending(&self, counts: Counts) {
        for (queue, count) in [
            ("active", counts.active),
            ("backoff", counts.backoff),
            ("unschedulable", counts.unschedulable),
            ("gated", counts.gated),
        ] {
            let gauge = self.pending.get_or_create(&[("queue", queue.to_owned())]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

fn attempt_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn sli_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_upstreams() {
        let registry = Registry::default();
        let metrics = Metrics::register(&registry, "default-scheduler");
        metrics.attempt(AttemptResult::Scheduled, Duration::from_millis(3));
        metrics.scheduled(1, Duration::from_millis(20));
        metrics.pending(Counts { active: 2, ..Counts::default() });
        metrics.preemption(None);
        metrics.preemption(Some(3));
        let text = pintle_component::encode_metrics(&registry);
        for line in [
            "scheduler_schedule_attempts_total{result=\"scheduled\",profile=\"default-scheduler\"} 1",
            "scheduler_preemption_attempts_total 2",
            "scheduler_preemption_victims_bucket{le=\"4.0\"} 1",
            "scheduler_pending_pods{queue=\"active\"} 2",
            "scheduler_pending_pods{queue=\"gated\"} 0",
            "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"} 1",
            "scheduler_scheduling_attempt_duration_seconds_bucket{le=\"0.004\",result=\"scheduled\",\
             profile=\"default-scheduler\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
