//! Applies a ReplicaSet's plan: pods created in growing batches, pods deleted, the status written.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use pintle_client::{EventRecord, ObjectKey, reference_to};
use tokio::time::Instant;

use super::ReplicaSetController;
use super::plan::{Failure, Scale, new_pod};
use crate::Error;
use crate::patch::status_patch;

impl ReplicaSetController {
    /// Create or delete pods. What fails is told by an event and left to the next sync.
    pub(super) async fn scale(&self, set: &ReplicaSet, scale: Scale) -> Result<(), Error> {
        match scale {
            Scale::Create(number) => self.create_pods(set, number).await,
            Scale::Delete(pods) => self.delete_pods(set, &pods).await,
            Scale::Keep => Ok(()),
        }
    }

    /// Slow start: 1, 2, 4, ... pods at a time, and none further after a batch with a failure, so
    /// that a quota or a webhook is not asked 500 times in vain.
    async fn create_pods(&self, set: &ReplicaSet, number: usize) -> Result<(), Error> {
        let key = ObjectKey::of(set);
        self.expectations.expect(&key, number, [], Instant::now());
        let mut left = number;
        let mut batch = 1;
        let mut failed = None;
        while left > 0 && failed.is_none() {
            batch = batch.min(left);
            let creations: Vec<_> = (0..batch).map(|_| self.create_pod(set, &key)).collect();
            let creations = stream::iter(creations).buffer_unordered(REQUESTS_MAX);
            let results: Vec<_> = creations.collect().await;
            failed = results.into_iter().find_map(Result::err);
            left -= batch;
            batch *= 2;
        }
        // The pods that were not even tried will not be seen either.
        for _ in 0..left {
            self.expectations.creation_observed(&key);
        }
        match failed {
            // The namespace is going; so will the ReplicaSet.
            Some(error) if is_namespace_terminating(&error) => Ok(()),
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn create_pod(&self, set: &ReplicaSet, key: &ObjectKey) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let created = api.create(&PostParams::default(), &new_pod(set)).await;
        match created.map_err(Error::api(format!("create a pod of replica set {key}"))) {
            Ok(pod) => {
                let name = pod.metadata.name.unwrap_or_default();
                let message = format!("Created pod: {name}");
                self.tell(set, EventRecord::normal("SuccessfulCreate", message));
                Ok(())
            }
            Err(error) => {
                self.expectations.creation_observed(key);
                if !is_namespace_terminating(&error) {
                    let message = format!("Error creating: {}", cause(&error));
                    self.tell(set, EventRecord::warning("FailedCreate", message));
                }
                Err(error)
            }
        }
    }

    async fn delete_pods(&self, set: &ReplicaSet, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let key = ObjectKey::of(set);
        let uids = pods.iter().filter_map(|pod| pod.metadata.uid.clone());
        self.expectations.expect(&key, 0, uids, Instant::now());
        let deletions: Vec<_> = pods.iter().map(|pod| self.delete_pod(set, &key, pod)).collect();
        let deletions = stream::iter(deletions).buffer_unordered(REQUESTS_MAX);
        let results: Vec<_> = deletions.collect().await;
        results.into_iter().collect()
    }

    async fn delete_pod(&self, set: &ReplicaSet, key: &ObjectKey, pod: &Pod) -> Result<(), Error> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let deleted = api.delete(name, &DeleteParams::default().preconditions(same)).await;
        match deleted.map_err(Error::api(format!("delete pod {}/{name}", key.namespace))) {
            Ok(_) => {
                let message = format!("Deleted pod: {name}");
                self.tell(set, EventRecord::normal("SuccessfulDelete", message));
                Ok(())
            }
            Err(error) => {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                self.expectations.deletion_observed(key, uid);
                if error.is_not_found() {
                    return Ok(());
                }
                let message = format!("Error deleting: {}", cause(&error));
                self.tell(set, EventRecord::warning("FailedDelete", message));
                Err(error)
            }
        }
    }

    pub(super) async fn update_status(
        &self,
        set: &ReplicaSet,
        status: ReplicaSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let key = ObjectKey::of(set);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = status_patch(&set.metadata, set.status.as_ref(), &status);
        api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::api(format!("update the status of replica set {key}")))?;
        Ok(())
    }

    /// Change a pod's owner references by a merge patch. A pod that is gone needs none.
    pub(super) async fn patch_pod(
        &self,
        pod: &Pod,
        act: &str,
        patch: serde_json::Value,
    ) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let patched = api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match patched.map_err(Error::api(format!("{act} pod {key}"))) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    fn tell(&self, set: &ReplicaSet, event: EventRecord) {
        self.recorder.record(reference_to(set), event);
    }
}

/// The failure that the ReplicaSet's status shows.
pub(super) fn failure(scale: &Scale, error: &Error) -> Failure {
    let reason = match scale {
        Scale::Delete(_) => "FailedDelete",
        Scale::Create(_) | Scale::Keep => "FailedCreate",
    };
    Failure { reason, message: cause(error) }
}

/// What the server said.
fn cause(error: &Error) -> String {
    error.status().map_or_else(|| error.to_string(), |status| status.message.clone())
}

fn is_namespace_terminating(error: &Error) -> bool {
    let details = error.status().and_then(|status| status.details.as_ref());
    details.is_some_and(|details| {
        details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
    })
}

/// Requests of one ReplicaSet under way at once: a share of what a server takes before it answers
/// 429, for several ReplicaSets scale at a time.
const REQUESTS_MAX: usize = 32;
