//! The ReplicaSet controller: keeps as many pods of a template as asked for.
//!
//! Mirrors k8s.io/kubernetes/pkg/controller/replicaset. [`plan`] and [`rank`] decide; this file
//! reads the caches, claims pods and remembers what is outstanding.

mod apply;
mod plan;
mod rank;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use pintle_api::labels::Selector;
use pintle_client::{Change, EventRecorder, Informer, ObjectKey};
use tokio::time::Instant;

use crate::Error;
use crate::expectations::Expectations;
use crate::owner::{self, claim, controller_of, controller_reference};
use crate::run::{BY_CONTROLLER, orphans_of};
use crate::work_queue::WorkQueue;
use crate::worker::Sync;

use plan::Scale;

/// Reads caches, applies plans.
pub(crate) struct ReplicaSetController {
    pub(crate) client: Client,
    pub(crate) expectations: Arc<Expectations>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) queue: WorkQueue<ObjectKey>,
    pub(crate) recorder: EventRecorder,
    pub(crate) replica_sets: Informer<ReplicaSet>,
}

impl ReplicaSetController {
    /// Let changes of ReplicaSets and pods queue the ReplicaSets they concern.
    pub(crate) fn subscribe(&self) {
        let (queue, expectations) = (self.queue.clone(), Arc::clone(&self.expectations));
        self.replica_sets.on_change(move |change| {
            let key = ObjectKey::of(&**change.latest());
            if change.new.is_none() {
                expectations.forget(&key);
            }
            queue.add(key);
        });
        let (queue, expectations) = (self.queue.clone(), Arc::clone(&self.expectations));
        let replica_sets = self.replica_sets.clone();
        self.pods.on_change(move |change| {
            observe(&expectations, change);
            for key in concerned(&replica_sets, change) {
                queue.add(key);
            }
        });
    }

    /// Adopt and release pods; those that are ours afterwards.
    async fn claim(&self, set: &ReplicaSet, selector: &Selector) -> Result<Vec<Arc<Pod>>, Error> {
        let key = ObjectKey::of(set);
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let mut candidates = self.pods.by_index(BY_CONTROLLER, uid);
        candidates.extend(self.pods.by_index(BY_CONTROLLER, &orphans_of(&key.namespace)));
        let mut claim = claim(&set.metadata, selector, candidates);
        claim.adopt.retain(|pod| crate::pod::is_active(pod));
        if !claim.adopt.is_empty() {
            self.check_alive(set, &key).await?;
        }
        for pod in &claim.adopt {
            let patch = owner::adoption_patch(&pod.metadata, controller_reference(set));
            self.patch_pod(pod, "adopt", patch).await?;
        }
        for pod in &claim.release {
            self.patch_pod(pod, "release", owner::release_patch(&pod.metadata, uid)).await?;
        }
        claim.owned.extend(claim.adopt);
        Ok(claim.owned)
    }

    /// Ask the server, not the cache: an owner that is going must not adopt.
    async fn check_alive(&self, set: &ReplicaSet, key: &ObjectKey) -> Result<(), Error> {
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let live =
            api.get(&key.name).await.map_err(Error::api(format!("get replica set {key}")))?;
        if live.metadata.uid == set.metadata.uid && live.metadata.deletion_timestamp.is_none() {
            return Ok(());
        }
        Err(Error::Object(format!("replica set {key} is gone: nothing is adopted")))
    }

    /// The pods of all ReplicaSets with the same controller as `set`, itself included.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let controller = controller_of(&set.metadata).map(|owner| &owner.uid);
        let siblings = self.replica_sets.in_namespace(namespace).into_iter().filter(|other| {
            other.metadata.uid == set.metadata.uid
                || controller.is_some()
                    && controller_of(&other.metadata).map(|owner| &owner.uid) == controller
        });
        let uids = siblings.filter_map(|sibling| sibling.metadata.uid.clone());
        uids.flat_map(|uid| self.pods.by_index(BY_CONTROLLER, &uid)).collect()
    }
}

impl Sync for ReplicaSetController {
    const NAME: &'static str = "replicaset";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(set) = self.replica_sets.get(key) else { return Ok(()) };
        // Before the cache is read: what is seen afterwards can only be more.
        let settled = self.expectations.are_met(key, Instant::now());
        let selector = set.spec.as_ref().map(|spec| &spec.selector);
        let selector = Selector::try_from(selector)
            .map_err(|error| Error::Object(format!("replica set {key}: spec.selector: {error}")))?;
        let mut pods = self.claim(&set, &selector).await?;
        let scale = if settled {
            plan::scale(&set, &pods, &self.related(&set), Timestamp::now())
        } else {
            Scale::Keep
        };
        let scaled = self.scale(&set, scale.clone()).await;
        let failure = scaled.as_ref().err().map(|error| apply::failure(&scale, error));
        // What was just deleted is no replica any more, even if the cache does not show it yet.
        pods.retain(|pod| {
            !self.expectations.is_deleting(key, pod.metadata.uid.as_deref().unwrap_or_default())
        });
        let now = Timestamp::now();
        self.update_status(&set, plan::status(&set, &pods, failure.as_ref(), now)).await?;
        if let Some(delay) = plan::check_after(&set, &pods, now) {
            self.queue.add_after(key.clone(), delay);
        }
        scaled
    }
}

/// Strike off the outstanding writes that this change shows.
fn observe(expectations: &Expectations, change: &Change<Pod>) {
    let pod = change.latest();
    let Some(owner) = controlling_set(pod) else { return };
    let deleted = change.new.is_none() || crate::pod::is_terminating(pod);
    if change.old.is_none() {
        expectations.creation_observed(&owner);
    }
    if deleted {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        expectations.deletion_observed(&owner, uid);
    }
}

/// The ReplicaSets that a change of a pod concerns: its controllers before and after, or, if it is
/// an orphan, all that could adopt it.
fn concerned(replica_sets: &Informer<ReplicaSet>, change: &Change<Pod>) -> Vec<ObjectKey> {
    let mut keys = Vec::new();
    for pod in [&change.old, &change.new].into_iter().flatten() {
        match controller_of(&pod.metadata) {
            Some(_) => keys.extend(controlling_set(pod)),
            None if change.new.is_some() => keys.extend(possible_owners(replica_sets, pod)),
            None => {}
        }
    }
    keys.dedup();
    keys
}

fn controlling_set(pod: &Pod) -> Option<ObjectKey> {
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(ObjectKey::new(namespace, &owner.name))
}

fn possible_owners(replica_sets: &Informer<ReplicaSet>, pod: &Pod) -> Vec<ObjectKey> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let matches = |set: &Arc<ReplicaSet>| {
        let selector = set.spec.as_ref().map(|spec| &spec.selector);
        Selector::try_from(selector).is_ok_and(|selector| selector.matches(&pod.metadata.labels))
    };
    let all = replica_sets.in_namespace(namespace);
    all.iter().filter(|set| matches(set)).map(|set| ObjectKey::of(&**set)).collect()
}

#[cfg(test)]
mod tests;
