//! The Deployment controller: rolls a pod template out over ReplicaSets.
//!
//! Mirrors k8s.io/kubernetes/pkg/controller/deployment. [`plan`] decides; this file reads the
//! caches, adopts, and applies the plan.

mod apply;
mod draft;
mod plan;
mod revision;
mod rolling;
mod status;
mod template;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use pintle_api::labels::Selector;
use pintle_client::{Change, EventRecord, EventRecorder, Informer, ObjectKey, reference_to};
use tokio::time::Instant;

use crate::Error;
use crate::owner::{self, claim, controller_of, controller_reference};
use crate::work_queue::WorkQueue;
use crate::worker::Sync;
use crate::written::{WRITTEN_TIMEOUT, Written};

use plan::Action;

/// Reads caches, applies plans.
pub(crate) struct DeploymentController {
    pub(crate) client: Client,
    pub(crate) deployments: Informer<Deployment>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) queue: WorkQueue<ObjectKey>,
    pub(crate) recorder: EventRecorder,
    pub(crate) replica_sets: Informer<ReplicaSet>,
    pub(crate) written: Arc<Written>,
}

impl DeploymentController {
    /// Let changes of Deployments, ReplicaSets and pods queue the Deployment they concern.
    pub(crate) fn subscribe(&self) {
        let (queue, written) = (self.queue.clone(), Arc::clone(&self.written));
        self.deployments.on_change(move |change| {
            let key = ObjectKey::of(&**change.latest());
            if change.new.is_none() {
                written.forget(&key);
            }
            queue.add(key);
        });
        let (queue, written) = (self.queue.clone(), Arc::clone(&self.written));
        let deployments = self.deployments.clone();
        self.replica_sets.on_change(move |change| {
            for key in concerned(&deployments, change) {
                if change.new.is_none() {
                    written.vanished(&key, &change.latest().metadata);
                }
                queue.add(key);
            }
        });
        let (queue, replica_sets) = (self.queue.clone(), self.replica_sets.clone());
        self.pods.on_change(move |change| {
            // Only Recreate waits for pods, and only for their end.
            let Change { old: Some(pod), new: None } = change else { return };
            if let Some(key) = deployment_of_pod(&replica_sets, pod) {
                queue.add(key);
            }
        });
    }

    /// Give matching orphans our reference, after asking the server whether we are still there.
    async fn adopt(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Result<(), Error> {
        if sets.is_empty() {
            return Ok(());
        }
        let key = ObjectKey::of(deployment);
        let live: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let live =
            live.get(&key.name).await.map_err(Error::api(format!("get deployment {key}")))?;
        let same = live.metadata.uid == deployment.metadata.uid;
        if !same || live.metadata.deletion_timestamp.is_some() {
            return Err(Error::Object(format!("deployment {key} is gone: nothing is adopted")));
        }
        for set in sets {
            let patch = owner::adoption_patch(&set.metadata, controller_reference(deployment));
            self.patch_replica_set(set, "adopt", patch).await?;
        }
        Ok(())
    }

    async fn release(
        &self,
        deployment: &Deployment,
        sets: &[Arc<ReplicaSet>],
    ) -> Result<(), Error> {
        for set in sets {
            let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
            let patch = owner::release_patch(&set.metadata, uid);
            self.patch_replica_set(set, "release", patch).await?;
        }
        Ok(())
    }
}

impl Sync for DeploymentController {
    const NAME: &'static str = "deployment";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(deployment) = self.deployments.get(key) else { return Ok(()) };
        let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
        let selector = Selector::try_from(selector)
            .map_err(|error| Error::Object(format!("deployment {key}: spec.selector: {error}")))?;
        if selector.is_everything() {
            let message =
                "This deployment is selecting all pods. A non-empty selector is required.";
            let event = EventRecord::warning("SelectingAll", message);
            self.recorder.record(reference_to(&*deployment), event);
            return Ok(());
        }
        let candidates = self.replica_sets.in_namespace(&key.namespace);
        let cached: Vec<_> = candidates.iter().map(|set| &set.metadata).collect();
        if !self.written.is_seen(key, &cached, Instant::now()) {
            // The cache will tell when it has caught up; if it never does, look again.
            self.queue.add_after(key.clone(), WRITTEN_TIMEOUT);
            return Ok(());
        }
        let claim = claim(&deployment.metadata, &selector, candidates);
        self.adopt(&deployment, &claim.adopt).await?;
        self.release(&deployment, &claim.release).await?;
        if !claim.adopt.is_empty() {
            // The cache will show them as ours; plan then.
            return Ok(());
        }
        let mut pods = Vec::new();
        for set in &claim.owned {
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            pods.extend(self.pods.by_index(crate::run::BY_CONTROLLER, uid));
        }
        let plan = plan::plan(&deployment, &claim.owned, &pods, Timestamp::now());
        let check_after = plan.check_after;
        self.apply(&deployment, plan).await?;
        if let Some(delay) = check_after {
            self.queue.add_after(key.clone(), delay);
        }
        Ok(())
    }
}

/// `spec.replicas` with its default.
fn desired_replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
}

/// The Deployments that a change of a ReplicaSet concerns: its controllers before and after, or, if
/// it is an orphan, all that could adopt it.
fn concerned(deployments: &Informer<Deployment>, change: &Change<ReplicaSet>) -> Vec<ObjectKey> {
    let mut keys = Vec::new();
    for set in [&change.old, &change.new].into_iter().flatten() {
        match controller_of(&set.metadata) {
            Some(owner) if owner.kind == "Deployment" => {
                let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
                keys.push(ObjectKey::new(namespace, &owner.name));
            }
            Some(_) => {}
            None => keys.extend(possible_owners(deployments, set)),
        }
    }
    keys.dedup();
    keys
}

fn possible_owners(deployments: &Informer<Deployment>, set: &ReplicaSet) -> Vec<ObjectKey> {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let matches = |deployment: &Arc<Deployment>| {
        let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
        Selector::try_from(selector).is_ok_and(|selector| selector.matches(&set.metadata.labels))
    };
    let all = deployments.in_namespace(namespace);
    all.iter().filter(|d| matches(d)).map(|deployment| ObjectKey::of(&**deployment)).collect()
}

fn deployment_of_pod(replica_sets: &Informer<ReplicaSet>, pod: &Pod) -> Option<ObjectKey> {
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let set = replica_sets.get(&ObjectKey::new(namespace, &owner.name))?;
    let owner = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
    Some(ObjectKey::new(namespace, &owner.name))
}

#[cfg(test)]
mod tests;
