//! A ReplicaSet as the plan would have it, beside what is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pintle_client::EventRecord;

use super::Action;
use super::rolling::max_surge;

/// The highest number of replicas at the time of the last scaling, surge included.
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// The Deployment's replicas at the time of the last scaling.
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";

/// One ReplicaSet and the changes planned for it.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// As stored; for a new one, as it is to be created but for the fields below.
    pub(super) stored: Arc<ReplicaSet>,
    /// Whether it is to be created.
    pub(super) is_new: bool,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) min_ready_seconds: Option<i32>,
    pub(super) replicas: i32,
}

impl Draft {
    pub(super) fn of(stored: Arc<ReplicaSet>) -> Self {
        let spec = stored.spec.as_ref();
        Self {
            is_new: false,
            annotations: stored.metadata.annotations.clone().unwrap_or_default(),
            min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds),
            replicas: stored_replicas(&stored),
            stored,
        }
    }

    pub(super) fn create(replica_set: ReplicaSet) -> Self {
        Self { is_new: true, ..Self::of(Arc::new(replica_set)) }
    }

    pub(super) fn name(&self) -> &str {
        self.stored.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn created_at(&self) -> Option<&Time> {
        self.stored.metadata.creation_timestamp.as_ref()
    }

    pub(super) fn status(&self) -> ReplicaSetStatus {
        self.stored.status.clone().unwrap_or_default()
    }

    /// Replicas that are available and will stay: more than `replicas` are about to go.
    pub(super) fn available(&self) -> i32 {
        self.status().available_replicas.unwrap_or(0).min(self.replicas)
    }

    /// Whether the status is of the stored size, or of a size that never had pods.
    pub(super) fn is_observed(&self) -> bool {
        let observed = self.status().observed_generation.unwrap_or(0);
        self.is_new || observed >= self.stored.metadata.generation.unwrap_or(0)
    }

    /// Scale to `replicas` and note the Deployment's size, which tells scaling from a rollout.
    pub(super) fn scale(&mut self, replicas: i32, deployment: &Deployment) {
        self.replicas = replicas;
        self.note_size(deployment);
    }

    pub(super) fn note_size(&mut self, deployment: &Deployment) {
        let desired = super::desired_replicas(deployment);
        let max = desired.saturating_add(max_surge(deployment));
        self.annotations.insert(DESIRED_REPLICAS.to_owned(), desired.to_string());
        self.annotations.insert(MAX_REPLICAS.to_owned(), max.to_string());
    }

    /// The number in an annotation of the stored ReplicaSet.
    pub(super) fn stored_number(&self, annotation: &str) -> Option<i32> {
        self.stored.metadata.annotations.as_ref()?.get(annotation)?.parse().ok()
    }

    /// The write that makes it so, if any is needed.
    pub(super) fn into_action(self) -> Option<Action> {
        let event = self.scaling_event();
        if self.is_new {
            let mut replica_set = Arc::unwrap_or_clone(self.stored);
            replica_set.metadata.annotations = Some(self.annotations);
            if let Some(spec) = &mut replica_set.spec {
                spec.replicas = Some(self.replicas);
            }
            return Some(Action::CreateReplicaSet { replica_set: Box::new(replica_set), event });
        }
        let unchanged = self.replicas == stored_replicas(&self.stored)
            && self.min_ready_seconds.unwrap_or(0)
                == self.stored.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
            && self.stored.metadata.annotations.clone().unwrap_or_default() == self.annotations;
        if unchanged {
            return None;
        }
        Some(Action::UpdateReplicaSet {
            annotations: self.annotations,
            event,
            min_ready_seconds: self.min_ready_seconds,
            replicas: self.replicas,
            stored: self.stored,
        })
    }

    fn scaling_event(&self) -> Option<EventRecord> {
        let before = if self.is_new { 0 } else { stored_replicas(&self.stored) };
        let after = self.replicas;
        let direction = match after.cmp(&before) {
            std::cmp::Ordering::Less => "down",
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Greater => "up",
        };
        let name = self.name();
        Some(EventRecord::normal(
            "ScalingReplicaSet",
            format!("Scaled {direction} replica set {name} from {before} to {after}"),
        ))
    }
}

/// `spec.replicas` with its default.
pub(super) fn stored_replicas(replica_set: &ReplicaSet) -> i32 {
    replica_set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}
