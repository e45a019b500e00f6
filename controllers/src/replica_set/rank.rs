//! Which pods go first when a ReplicaSet scales down.
//!
//! Mirrors ActivePodsWithRanks of controller_utils.go, with LogarithmicScaleDown.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::pod;

/// Sort so that the pods to delete come first. `related` are the active pods of all ReplicaSets of
/// the same controller: a node that runs more of them gives up one sooner.
pub(super) fn sort_for_deletion(pods: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut per_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pod::is_active(pod)) {
        *per_node.entry(pod::node_name(pod)).or_default() += 1;
    }
    let rank = |pod: &Pod| per_node.get(pod::node_name(pod)).copied().unwrap_or(0);
    pods.sort_by(|a, b| {
        compare_health(a, b)
            .then_with(|| rank(b).cmp(&rank(a)))
            .then_with(|| compare_age(pod::ready_since(a), pod::ready_since(b), now))
            .then_with(|| Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
            .then_with(|| compare_age(created(a), created(b), now))
            .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
    });
}

/// Unassigned, pending, not ready and cheap pods first.
fn compare_health(a: &Pod, b: &Pod) -> Ordering {
    let assigned = |pod: &Pod| !pod::node_name(pod).is_empty();
    let progress = |pod: &Pod| match pod::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    };
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| progress(a).cmp(&progress(b)))
        .then_with(|| pod::is_ready(a).cmp(&pod::is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
}

/// Younger first, where ages count by powers of two, so that among pods of like age the choice
/// spreads. One without a time is younger than all.
fn compare_age(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => magnitude(a, now).cmp(&magnitude(b, now)),
    }
}

/// The base-2 logarithm of the age in nanoseconds; -1 for the future.
fn magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let age = now.as_nanosecond() - since.as_nanosecond();
    u128::try_from(age).ok().and_then(u128::checked_ilog2).map_or(-1, i64::from)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// The most restarts of any of the pod's containers.
fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
}

/// The annotation's number; 0 if it is absent or not one.
fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DELETION_COST)).and_then(|t| t.parse().ok()).unwrap_or(0)
}

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
