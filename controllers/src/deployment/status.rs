//! A Deployment's status: counts and the conditions Available, Progressing and ReplicaFailure.
//!
//! Mirrors calculateStatus in sync.go and progress.go.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::draft::Draft;
use super::rolling::max_unavailable;
use super::{desired_replicas, is_paused};

/// Conditions under change. [`Conditions::set`] has upstream's rules for the two times.
pub(super) struct Conditions {
    all: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    pub(super) fn of(deployment: &Deployment, now: Timestamp) -> Self {
        let status = deployment.status.as_ref();
        let all = status.and_then(|status| status.conditions.clone()).unwrap_or_default();
        Self { all, now }
    }

    pub(super) fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.all.iter().find(|condition| condition.type_ == kind)
    }

    /// Set a condition. With the same status and reason nothing changes, not even the message.
    pub(super) fn set(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let current = self.get(kind);
        if current.is_some_and(|c| c.status == status && c.reason.as_deref() == Some(reason)) {
            return;
        }
        self.renew(kind, status, reason, message);
    }

    /// Set a condition, updating its time even if only that changes.
    fn renew(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let now = Some(Time(self.now));
        let since = self
            .get(kind)
            .filter(|current| current.status == status)
            .map_or(now.clone(), |current| current.last_transition_time.clone());
        self.remove(kind);
        self.all.push(DeploymentCondition {
            last_transition_time: since,
            last_update_time: now,
            message: Some(message),
            reason: Some(reason.to_owned()),
            status: status.to_owned(),
            type_: kind.to_owned(),
        });
    }

    fn remove(&mut self, kind: &str) {
        self.all.retain(|condition| condition.type_ != kind);
    }
}

/// Say that the Deployment is paused or resumed, so that the deadline does not run meanwhile. A
/// reported lack of progress stays.
pub(super) fn note_pause(deployment: &Deployment, conditions: &mut Conditions) {
    let reason = conditions.get(PROGRESSING).and_then(|condition| condition.reason.as_deref());
    if deadline(deployment).is_none() || reason == Some(TIMED_OUT) {
        return;
    }
    let noted = reason == Some(PAUSED);
    if is_paused(deployment) && !noted {
        conditions.set(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned());
    } else if !is_paused(deployment) && noted {
        conditions.set(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed".to_owned());
    }
}

/// Say that the new ReplicaSet was found or created.
pub(super) fn note_new(deployment: &Deployment, new: &Draft, conditions: &mut Conditions) {
    if deadline(deployment).is_none() {
        return;
    }
    let name = new.name();
    if new.is_new {
        let message = format!("Created new replica set {name:?}");
        conditions.set(PROGRESSING, "True", "NewReplicaSetCreated", message);
    } else if conditions.get(PROGRESSING).is_none() {
        let message = format!("Found new replica set {name:?}");
        conditions.set(PROGRESSING, "True", "FoundNewReplicaSet", message);
    }
}

/// The status from the ReplicaSets' own; with `progress`, how the rollout gets on.
pub(super) fn status(
    deployment: &Deployment,
    old: &[Draft],
    new: Option<&Draft>,
    mut conditions: Conditions,
    progress: bool,
) -> DeploymentStatus {
    let mut status = counts(deployment, old, new);
    let available = status.available_replicas.unwrap_or(0);
    if available >= desired_replicas(deployment) - max_unavailable(deployment) {
        let message = "Deployment has minimum availability.".to_owned();
        conditions.set("Available", "True", "MinimumReplicasAvailable", message);
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        conditions.set("Available", "False", "MinimumReplicasUnavailable", message);
    }
    if progress {
        note_progress(deployment, &status, new, &mut conditions);
        note_failure(old, new, &mut conditions);
    }
    status.conditions = (!conditions.all.is_empty()).then_some(conditions.all);
    status
}

fn counts(deployment: &Deployment, old: &[Draft], new: Option<&Draft>) -> DeploymentStatus {
    let current = deployment.status.as_ref();
    let mut status = DeploymentStatus {
        collision_count: current.and_then(|status| status.collision_count),
        observed_generation: deployment.metadata.generation,
        ..DeploymentStatus::default()
    };
    let (mut available, mut ready, mut replicas, mut terminating) = (0, 0, 0, None);
    for draft in old.iter().chain(new) {
        let part = draft.status();
        available += part.available_replicas.unwrap_or(0);
        ready += part.ready_replicas.unwrap_or(0);
        replicas += part.replicas;
        if let Some(count) = part.terminating_replicas {
            terminating = Some(terminating.unwrap_or(0) + count);
        }
    }
    let updated = new.map_or(0, |new| new.status().replicas);
    // Zero counts are absent, as upstream's `omitempty` has them.
    let non_zero = |count: i32| (count != 0).then_some(count);
    status.available_replicas = non_zero(available);
    status.ready_replicas = non_zero(ready);
    status.replicas = non_zero(replicas);
    status.terminating_replicas = terminating;
    status.unavailable_replicas = non_zero((replicas - available).max(0));
    status.updated_replicas = non_zero(updated);
    status
}

fn note_progress(
    deployment: &Deployment,
    status: &DeploymentStatus,
    new: Option<&Draft>,
    conditions: &mut Conditions,
) {
    let Some(deadline) = deadline(deployment) else {
        conditions.remove(PROGRESSING);
        return;
    };
    let reason = conditions.get(PROGRESSING).and_then(|condition| condition.reason.as_deref());
    let resync = status.replicas == status.updated_replicas && reason == Some(COMPLETE);
    if resync {
        return;
    }
    let subject = match new {
        Some(new) => format!("ReplicaSet {:?}", new.name()),
        None => format!("Deployment {:?}", deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        conditions.set(PROGRESSING, "True", COMPLETE, message);
    } else if has_progressed(deployment, status) {
        let message = format!("{subject} is progressing.");
        conditions.renew(PROGRESSING, "True", "ReplicaSetUpdated", message);
    } else if has_timed_out(conditions, deadline) {
        let message = format!("{subject} has timed out progressing.");
        conditions.set(PROGRESSING, "False", TIMED_OUT, message);
    }
}

/// The ReplicaSets' failure, the new one's first.
fn note_failure(old: &[Draft], new: Option<&Draft>, conditions: &mut Conditions) {
    let failure = new.into_iter().chain(old).find_map(|draft| {
        let all = draft.status().conditions.unwrap_or_default();
        all.into_iter().find(|condition| condition.type_ == REPLICA_FAILURE)
    });
    match failure {
        None => conditions.remove(REPLICA_FAILURE),
        Some(failure) => {
            let reason = failure.reason.unwrap_or_default();
            let message = failure.message.unwrap_or_default();
            conditions.set(REPLICA_FAILURE, &failure.status, &reason, message);
        }
    }
}

/// Whether all replicas are of the new template and available, and none of the old is left.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = desired_replicas(deployment);
    status.updated_replicas.unwrap_or(0) == desired
        && status.replicas.unwrap_or(0) == desired
        && status.available_replicas.unwrap_or(0) == desired
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let before = deployment.status.clone().unwrap_or_default();
    let old_left = |status: &DeploymentStatus| {
        status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0)
    };
    status.updated_replicas.unwrap_or(0) > before.updated_replicas.unwrap_or(0)
        || old_left(status) < old_left(&before)
        || status.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || status.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}

fn has_timed_out(conditions: &Conditions, deadline: Duration) -> bool {
    let Some(condition) = conditions.get(PROGRESSING) else { return false };
    match condition.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => expires_at(condition, deadline).is_some_and(|at| at < conditions.now),
    }
}

fn expires_at(condition: &DeploymentCondition, deadline: Duration) -> Option<Timestamp> {
    condition.last_update_time.as_ref()?.0.checked_add(deadline).ok()
}

/// When to look again whether an unfinished rollout has timed out.
pub(super) fn check_after(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let deadline = deadline(deployment)?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let condition = conditions.iter().find(|condition| condition.type_ == PROGRESSING)?;
    let reason = condition.reason.as_deref();
    if is_complete(deployment, status) || reason == Some(TIMED_OUT) || reason == Some(COMPLETE) {
        return None;
    }
    let left = expires_at(condition, deadline)?.duration_since(now);
    // Times are stored in whole seconds: one more, so that it has expired when we look.
    Some(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1))
}

/// `spec.progressDeadlineSeconds`, unless it is the number that means never.
fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    if seconds == i32::MAX {
        return None;
    }
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

const COMPLETE: &str = "NewReplicaSetAvailable";
const PAUSED: &str = "DeploymentPaused";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const RESUMED: &str = "DeploymentResumed";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
