//! What to do about one ReplicaSet: objects and the time in, decisions out.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use super::rank::sort_for_deletion;
use crate::owner::controller_reference;
use crate::pod;

/// How the number of pods is to change.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scale {
    /// Create this many.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
    /// Nothing.
    Keep,
}

/// What creating or deleting came to, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Bring the active pods among `pods` to `spec.replicas`, by at most [`BURST_REPLICAS`] at a time.
/// `related` are the pods of all ReplicaSets with the same controller.
pub(super) fn scale(
    replica_set: &ReplicaSet,
    pods: &[Arc<Pod>],
    related: &[Arc<Pod>],
    now: Timestamp,
) -> Scale {
    if replica_set.metadata.deletion_timestamp.is_some() {
        return Scale::Keep;
    }
    let mut active: Vec<Arc<Pod>> =
        pods.iter().filter(|pod| pod::is_active(pod)).cloned().collect();
    let desired = usize::try_from(desired_replicas(replica_set)).unwrap_or(0);
    match active.len().cmp(&desired) {
        std::cmp::Ordering::Equal => Scale::Keep,
        std::cmp::Ordering::Less => Scale::Create((desired - active.len()).min(BURST_REPLICAS)),
        std::cmp::Ordering::Greater => {
            let surplus = (active.len() - desired).min(BURST_REPLICAS);
            sort_for_deletion(&mut active, related, now);
            active.truncate(surplus);
            Scale::Delete(active)
        }
    }
}

/// A pod of the ReplicaSet's template; the server names it.
pub(super) fn new_pod(replica_set: &ReplicaSet) -> Pod {
    let template = replica_set.spec.as_ref().and_then(|spec| spec.template.clone());
    let template = template.unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let name = replica_set.metadata.name.as_deref().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            generate_name: Some(format!("{name}-")),
            labels: meta.labels,
            namespace: replica_set.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(replica_set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The status over all of the ReplicaSet's pods.
pub(super) fn status(
    replica_set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let min_ready = min_ready(replica_set);
    let template = replica_set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let labels = template.and_then(|t| t.metadata.as_ref()).and_then(|meta| meta.labels.as_ref());
    let fully_labeled = |pod: &Pod| {
        let has = pod.metadata.labels.as_ref();
        let mut wanted = labels.into_iter().flatten();
        wanted.all(|(key, value)| has.and_then(|has| has.get(key)) == Some(value))
    };
    let active = || pods.iter().filter(|pod| pod::is_active(pod));
    let terminating =
        pods.iter().filter(|pod| pod::is_terminating(pod) && !pod::is_terminal(pod)).count();
    ReplicaSetStatus {
        available_replicas: count(
            active().filter(|p| pod::is_available(p, min_ready, now)).count(),
        ),
        conditions: conditions(replica_set, failure, now),
        fully_labeled_replicas: count(active().filter(|pod| fully_labeled(pod)).count()),
        observed_generation: replica_set.metadata.generation,
        ready_replicas: count(active().filter(|pod| pod::is_ready(pod)).count()),
        replicas: count(active().count()).unwrap_or(0),
        terminating_replicas: Some(count(terminating).unwrap_or(0)),
    }
}

/// When the next ready pod becomes available, if one is waiting out `minReadySeconds`.
pub(super) fn check_after(
    replica_set: &ReplicaSet,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Option<Duration> {
    let min_ready = min_ready(replica_set);
    let active = pods.iter().filter(|pod| pod::is_active(pod));
    let next = active
        .filter_map(|pod| pod::available_at(pod, min_ready))
        .filter(|available_at| *available_at > now)
        .min()?;
    Duration::try_from(next.duration_since(now)).ok()
}

/// Zero counts are absent, as upstream's `omitempty` has them.
fn count(number: usize) -> Option<i32> {
    (number != 0).then(|| i32::try_from(number).unwrap_or(i32::MAX))
}

fn conditions(
    replica_set: &ReplicaSet,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let status = replica_set.status.as_ref();
    let mut all = status.and_then(|status| status.conditions.clone()).unwrap_or_default();
    let at = all.iter().position(|condition| condition.type_ == "ReplicaFailure");
    match (failure, at) {
        (Some(failure), None) => all.push(ReplicaSetCondition {
            last_transition_time: Some(Time(now)),
            message: Some(failure.message.clone()),
            reason: Some(failure.reason.to_owned()),
            status: "True".to_owned(),
            type_: "ReplicaFailure".to_owned(),
        }),
        (None, Some(at)) => {
            all.remove(at);
        }
        _ => {}
    }
    (!all.is_empty()).then_some(all)
}

/// `spec.replicas` with its default.
pub(super) fn desired_replicas(replica_set: &ReplicaSet) -> i32 {
    replica_set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn min_ready(replica_set: &ReplicaSet) -> Duration {
    let seconds = replica_set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Upstream's BurstReplicas: the most pods made or deleted in one sync.
pub(super) const BURST_REPLICAS: usize = 500;
