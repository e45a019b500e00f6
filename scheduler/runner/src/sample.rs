//! How long plugins take, measured on a sample of pods beside the scheduling loop.
//!
//! kube-scheduler times the plugins of one cycle in ten. Here the engine does not run plugins one by
//! one, and a clock in its innermost loop would be felt: so at most once a second a pod that was
//! just decided on is put before every plugin again, on a copy of the nodes and on another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pintle_scheduler_core::cache::Snapshot;
use pintle_scheduler_core::framework::{
    Code, ExtensionPoint, NodeFilter, NodeScore, PluginName, PreFilter, PreScore, Profile,
    Rejection,
};
use pintle_scheduler_core::{PodInfo, Time};
use tokio::time::Instant;

/// When the next sample is due. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    /// In milliseconds of the core's time.
    next_ms: Arc<AtomicU64>,
}

impl Schedule {
    /// Whether a sample is due; if so, the next one is due a second later.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        let now_ms = u64::try_from(now.since_origin().as_millis()).unwrap_or(u64::MAX);
        if now_ms < self.next_ms.load(Ordering::Relaxed) {
            return false;
        }
        self.next_ms.store(now_ms + INTERVAL_MS, Ordering::Relaxed);
        true
    }
}

/// What was measured: a plugin at a point, or all plugins at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    /// `None` for all of them together.
    pub(crate) plugin: Option<PluginName>,
    /// Where.
    pub(crate) point: ExtensionPoint,
    /// With which result.
    pub(crate) code: Code,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Runs the profile's plugins over the pod and every node.
pub(crate) fn measure(profile: &Profile, snapshot: &Snapshot, pod: &PodInfo) -> Vec<Measured> {
    let mut measured = Vec::new();
    let filters = pre_filter(profile, snapshot, pod, &mut measured);
    let Some(filters) = filters else { return measured };
    let feasible = filter(snapshot, &filters, &mut measured);
    if !feasible.is_empty() {
        score(profile, snapshot, pod, &feasible, &mut measured);
    }
    measured
}

type Filters<'a> = Vec<(PluginName, Box<dyn NodeFilter + 'a>)>;

fn pre_filter<'a>(
    profile: &'a Profile,
    snapshot: &'a Snapshot,
    pod: &'a PodInfo,
    measured: &mut Vec<Measured>,
) -> Option<Filters<'a>> {
    let (all, point) = (Instant::now(), ExtensionPoint::PreFilter);
    let mut filters = Vec::new();
    for plugin in &profile.filter {
        let start = Instant::now();
        let answer = plugin.pre_filter(pod, snapshot);
        let took = start.elapsed();
        let code = match &answer {
            PreFilter::Skip => Code::Skip,
            PreFilter::Reject(rejection) => rejection.code(),
            PreFilter::Filter { .. } => Code::Success,
        };
        measured.push(Measured { plugin: Some(plugin.name()), point, code, took });
        match answer {
            PreFilter::Skip => {}
            PreFilter::Reject(_) => {
                measured.push(Measured { plugin: None, point, code, took: all.elapsed() });
                return None;
            }
            PreFilter::Filter { filter, .. } => filters.push((plugin.name(), filter)),
        }
    }
    measured.push(Measured { plugin: None, point, code: Code::Success, took: all.elapsed() });
    Some(filters)
}

/// The feasible nodes.
fn filter(snapshot: &Snapshot, filters: &Filters<'_>, measured: &mut Vec<Measured>) -> Vec<usize> {
    let (all, point) = (Instant::now(), ExtensionPoint::Filter);
    let mut feasible = Vec::new();
    for (at, node) in snapshot.nodes().iter().enumerate() {
        let mut passes = true;
        for (plugin, filter) in filters {
            let start = Instant::now();
            let verdict = filter.filter(node);
            let took = start.elapsed();
            let code = verdict.as_ref().map_or_else(Rejection::code, |()| Code::Success);
            if at < CALLS_MAX {
                measured.push(Measured { plugin: Some(*plugin), point, code, took });
            }
            if verdict.is_err() {
                passes = false;
                break;
            }
        }
        if passes {
            feasible.push(at);
        }
    }
    let code = if feasible.is_empty() { Code::Unschedulable } else { Code::Success };
    measured.push(Measured { plugin: None, point, code, took: all.elapsed() });
    feasible
}

fn score(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &PodInfo,
    feasible: &[usize],
    measured: &mut Vec<Measured>,
) {
    let (all, point) = (Instant::now(), ExtensionPoint::PreScore);
    let mut scores: Vec<(PluginName, Box<dyn NodeScore + '_>)> = Vec::new();
    for weighted in &profile.score {
        let (start, plugin) = (Instant::now(), weighted.plugin.name());
        let answer = weighted.plugin.pre_score(pod, snapshot, feasible);
        let took = start.elapsed();
        let code = if matches!(answer, PreScore::Skip) { Code::Skip } else { Code::Success };
        measured.push(Measured { plugin: Some(plugin), point, code, took });
        if let PreScore::Score(score) = answer {
            scores.push((plugin, score));
        }
    }
    measured.push(Measured { plugin: None, point, code: Code::Success, took: all.elapsed() });
    let (all, point, code) = (Instant::now(), ExtensionPoint::Score, Code::Success);
    for (plugin, score) in &scores {
        let mut raw = Vec::with_capacity(feasible.len());
        for (nth, &at) in feasible.iter().enumerate() {
            let start = Instant::now();
            raw.push(score.score(&snapshot.nodes()[at]));
            if nth < CALLS_MAX {
                let took = start.elapsed();
                measured.push(Measured { plugin: Some(*plugin), point, code, took });
            }
        }
        score.normalize(&mut raw);
    }
    measured.push(Measured { plugin: None, point, code, took: all.elapsed() });
}

/// A sample a second costs less than one in ten pods, at any rate worth measuring.
const INTERVAL_MS: u64 = 1_000;
/// Calls of a plugin that are told apart in one sample: nodes are much alike.
const CALLS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pintle_scheduler_core::cache::Cache;
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str) -> PodInfo {
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()))
    }

    fn cache(nodes: usize) -> Cache {
        let mut cache = Cache::default();
        for n in 0..nodes {
            let node = json!({"metadata": {"name": format!("n{n}")},
                "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}});
            cache.set_node(Arc::new(serde_json::from_value(node).unwrap()));
        }
        cache
    }

    fn totals(measured: &[Measured]) -> Vec<(ExtensionPoint, Code)> {
        let totals = measured.iter().filter(|it| it.plugin.is_none());
        totals.map(|it| (it.point, it.code)).collect()
    }

    #[test]
    fn every_point_is_measured_and_calls_are_bounded() {
        let (profile, cache) = (Profile::default_plugins("s"), cache(300));
        let measured = measure(&profile, cache.snapshot(), &pod("1"));
        assert_eq!(
            totals(&measured),
            [
                (ExtensionPoint::PreFilter, Code::Success),
                (ExtensionPoint::Filter, Code::Success),
                (ExtensionPoint::PreScore, Code::Success),
                (ExtensionPoint::Score, Code::Success),
            ]
        );
        let fit = |point| {
            let calls = measured.iter().filter(|it| it.point == point);
            calls.filter(|it| it.plugin == Some(PluginName::NodeResourcesFit)).count()
        };
        assert_eq!(fit(ExtensionPoint::PreFilter), 1);
        assert_eq!(fit(ExtensionPoint::Filter), CALLS_MAX);
        assert_eq!(fit(ExtensionPoint::Score), CALLS_MAX);
    }

    #[test]
    fn nothing_is_scored_where_nothing_fits() {
        let (profile, cache) = (Profile::default_plugins("s"), cache(3));
        let measured = measure(&profile, cache.snapshot(), &pod("99"));
        assert_eq!(
            totals(&measured)[1..],
            [(ExtensionPoint::Filter, Code::Unschedulable)],
            "{measured:?}"
        );
    }

    #[test]
    fn one_a_second() {
        let schedule = Schedule::default();
        let at = |ms| Time::new(Duration::from_millis(ms));
        let due: Vec<bool> =
            [0, 10, 999, 1_000, 1_500, 9_000].map(|ms| schedule.is_due(at(ms))).into();
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
