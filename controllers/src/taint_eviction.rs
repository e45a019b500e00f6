//! The taint eviction controller: deletes pods that do not tolerate their node's NoExecute taints,
//! or not for any longer.
//!
//! Mirrors pkg/controller/tainteviction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use parking_lot::Mutex;
use pintle_api::taint::{NO_EXECUTE, tolerates};
use pintle_client::{EventRecord, EventRecorder, Informer, ObjectKey, reference_to};
use serde_json::json;
use tokio::time::Instant;

use crate::Error;
use crate::run::BY_NODE;
use crate::work_queue::WorkQueue;
use crate::worker::Sync;

/// Works on pods.
pub(crate) struct TaintEvictionController {
    pub(crate) client: Client,
    pub(crate) nodes: Informer<Node>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) queue: WorkQueue<ObjectKey>,
    pub(crate) recorder: EventRecorder,
    /// Since when the pods that will be evicted have been under a taint, by uid.
    pub(crate) since: Arc<Mutex<HashMap<String, Instant>>>,
}

/// How long a pod stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// For as long as the taints are as they are.
    Forever,
    /// This long from when the taint was first seen.
    For(Duration),
}

/// How long `pod` tolerates `taints`: not at all, the shortest of its limits, or for ever.
fn stay(pod: &Pod, taints: &[Taint]) -> Stay {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
    let tolerations = tolerations.unwrap_or_default();
    let mut shortest: Option<i64> = None;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let mut fitting = tolerations.iter().filter(|toleration| tolerates(toleration, taint));
        let Some(first) = fitting.next() else { return Stay::For(Duration::ZERO) };
        for seconds in std::iter::once(first).chain(fitting).filter_map(|t| t.toleration_seconds) {
            shortest = Some(shortest.map_or(seconds, |shortest| shortest.min(seconds)));
        }
    }
    shortest.map_or(Stay::Forever, |seconds| {
        Stay::For(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    })
}

impl TaintEvictionController {
    /// Let changes of pods, and of the NoExecute taints of their node, queue the pods.
    pub(crate) fn subscribe(&self) {
        let (queue, since) = (self.queue.clone(), Arc::clone(&self.since));
        self.pods.on_change(move |change| match &change.new {
            Some(pod) => queue.add(ObjectKey::of(&**pod)),
            None => {
                let uid = change.latest().metadata.uid.as_deref().unwrap_or_default();
                since.lock().remove(uid);
            }
        });
        let (queue, pods) = (self.queue.clone(), self.pods.clone());
        self.nodes.on_change(move |change| {
            let before = change.old.as_deref().map(no_execute).unwrap_or_default();
            let after = change.new.as_deref().map(no_execute).unwrap_or_default();
            if before != after {
                let name = change.latest().metadata.name.as_deref().unwrap_or_default();
                for pod in pods.by_index(BY_NODE, name) {
                    queue.add(ObjectKey::of(&*pod));
                }
            }
        });
    }

    /// Since when the pod has been under a taint that it does not bear for ever.
    fn tainted_since(&self, uid: &str, now: Instant) -> Instant {
        *self.since.lock().entry(uid.to_owned()).or_insert(now)
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        let message = format!("Marking for deletion Pod {key}");
        let event = EventRecord::normal("TaintManagerEviction", message);
        self.recorder.record(reference_to(pod), event);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = disruption_patch(
            pod,
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
            None,
        );
        let marked =
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let deleted = match marked.map_err(Error::api(format!("mark pod {key} for eviction"))) {
            Ok(_) => api
                .delete(&key.name, &DeleteParams::default().preconditions(same))
                .await
                .map(|_| ())
                .map_err(Error::api(format!("evict pod {key}"))),
            Err(error) => Err(error),
        };
        match deleted {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Sync for TaintEvictionController {
    const NAME: &'static str = "taint_eviction";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let node = self.nodes.get(&ObjectKey::cluster(crate::pod::node_name(&pod)));
        let taints = node.as_deref().map(no_execute).unwrap_or_default();
        let stay = match stay(&pod, &taints) {
            Stay::For(stay) if crate::pod::is_active(&pod) => stay,
            _ => {
                if self.since.lock().remove(&uid).is_some() && crate::pod::is_active(&pod) {
                    let message = format!("Cancelling deletion of Pod {key}");
                    let event = EventRecord::normal("TaintManagerEviction", message);
                    self.recorder.record(reference_to(&*pod), event);
                }
                return Ok(());
            }
        };
        let now = Instant::now();
        let left = (self.tainted_since(&uid, now) + stay).saturating_duration_since(now);
        if !left.is_zero() {
            self.queue.add_after(key.clone(), left);
            return Ok(());
        }
        self.evict(&pod).await?;
        self.since.lock().remove(&uid);
        Ok(())
    }
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|taint| taint.effect == NO_EXECUTE).cloned().collect()
}

/// A merge patch of the pod's status that says why it is about to be deleted, and optionally sets
/// its phase.
pub(crate) fn disruption_patch(
    pod: &Pod,
    reason: &str,
    message: &str,
    phase: Option<&str>,
) -> serde_json::Value {
    let status = pod.status.as_ref();
    let mut conditions = status.and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        last_transition_time: Some(Time(Timestamp::now())),
        message: Some(message.to_owned()),
        reason: Some(reason.to_owned()),
        status: "True".to_owned(),
        type_: "DisruptionTarget".to_owned(),
        ..PodCondition::default()
    });
    let mut status = json!({ "conditions": conditions });
    if let Some(phase) = phase {
        status["phase"] = phase.into();
    }
    json!({ "metadata": { "uid": pod.metadata.uid }, "status": status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_toleration_of_every_taint_counts() {
        let taint = |key: &str, effect: &str| -> Taint {
            serde_json::from_value(json!({"key": key, "effect": effect})).unwrap()
        };
        let tolerating = |list: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "tolerations": list}}))
                .unwrap()
        };
        let not_ready = json!({"key": "not-ready", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 300});
        let unreachable = json!({"key": "unreachable", "operator": "Exists",
            "tolerationSeconds": -4});
        let all = json!({"operator": "Exists"});
        let after = |seconds| Stay::For(Duration::from_secs(seconds));
        let cases = [
            (json!([]), vec![], Stay::Forever),
            (json!([]), vec![taint("x", "NoSchedule")], Stay::Forever),
            (json!([]), vec![taint("not-ready", NO_EXECUTE)], after(0)),
            (json!([not_ready]), vec![taint("not-ready", NO_EXECUTE)], after(300)),
            (json!([not_ready]), vec![taint("other", NO_EXECUTE)], after(0)),
            (json!([unreachable]), vec![taint("unreachable", NO_EXECUTE)], after(0)),
            (json!([all]), vec![taint("other", NO_EXECUTE)], Stay::Forever),
            (json!([all, not_ready]), vec![taint("not-ready", NO_EXECUTE)], after(300)),
        ];
        for (tolerations, taints, expected) in cases {
            assert_eq!(stay(&tolerating(tolerations.clone()), &taints), expected, "{tolerations}");
        }
    }
}
