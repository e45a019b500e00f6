//! The node lifecycle controller: marks silent nodes, taints nodes by their conditions, and says of
//! the pods on a node that is not ready that they are not either.
//!
//! Mirrors pkg/controller/nodelifecycle. [`health`], [`taints`] and [`zone`] decide. Two loops apply:
//! the monitor looks at all nodes each `--node-monitor-period`; the queue follows every change of a
//! node at once. Unlike upstream's, the queue also takes NoExecute taints off a node that recovered,
//! without waiting for the monitor. Evicting pods is `taint_eviction`'s part.

mod health;
mod taints;
mod zone;

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use pintle_client::{EventRecord, EventRecorder, Informer, ObjectKey, reference_to};
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::run::BY_NODE;
use crate::work_queue::WorkQueue;
use crate::worker::Sync;
use crate::{Config, Error};

use health::{Grace, Health, ready};
use taints::wants_eviction;
pub(crate) use zone::Zones;

/// Reads caches, applies decisions.
pub(crate) struct NodeLifecycleController {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) leases: Informer<Lease>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) queue: WorkQueue<ObjectKey>,
    pub(crate) recorder: EventRecorder,
    pub(crate) zones: Mutex<Zones>,
}

/// Where nodes keep their Leases.
pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";

impl NodeLifecycleController {
    /// Let changes of nodes, and pods that become ready, queue their node.
    pub(crate) fn subscribe(&self) {
        let queue = self.queue.clone();
        self.nodes.on_change(move |change| queue.add(ObjectKey::of(&**change.latest())));
        let (queue, nodes) = (self.queue.clone(), self.nodes.clone());
        self.pods.on_change(move |change| {
            let Some(pod) = change.new.as_ref().filter(|pod| crate::pod::is_ready(pod)) else {
                return;
            };
            let key = ObjectKey::cluster(crate::pod::node_name(pod));
            if nodes.get(&key).is_some_and(|node| ready(&node) != "True") {
                queue.add(key);
            }
        });
    }

    /// Look at all nodes' health for ever.
    pub(crate) async fn monitor(self: Arc<Self>) {
        let mut known: HashMap<String, Health> = HashMap::new();
        let mut tick = tokio::time::interval(self.config.node_monitor_period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let nodes = self.nodes.list();
            known.retain(|name, _| {
                nodes.iter().any(|node| node.metadata.name.as_ref() == Some(name))
            });
            self.zones.lock().update(&nodes, &self.config);
            for node in &nodes {
                if let Err(error) = self.check(node, &mut known).await {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "look at the node again");
                }
            }
        }
    }

    /// Mark the node if it has been silent for too long, and let it be tainted if it is its turn.
    async fn check(
        &self,
        node: &Arc<Node>,
        known: &mut HashMap<String, Health>,
    ) -> Result<(), Error> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let now = Timestamp::now();
        let lease = self.leases.get(&ObjectKey::new(LEASE_NAMESPACE, &name));
        let health = health::observe(known.get(&name), node, lease.as_deref(), now);
        let grace = Grace {
            monitor: self.config.node_monitor_grace_period,
            startup: self.config.node_startup_grace_period,
        };
        let unknown = health::unknown_conditions(node, &health, grace, now);
        known.insert(name.clone(), health);
        if let Some(conditions) = unknown {
            self.mark_unknown(node, &conditions).await?;
            return Ok(());
        }
        let eviction = if wants_eviction(node) {
            self.zones.lock().take(node, now)
        } else {
            self.zones.lock().standing()
        };
        if let Some(taints) = taints::taints(node, eviction, now) {
            self.write_taints(node, &taints).await?;
        }
        Ok(())
    }

    async fn mark_unknown(&self, node: &Node, conditions: &[NodeCondition]) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let was_ready = ready(node) == "True";
        // The version makes sure that a heartbeat that arrives just now is not written over.
        let patch = json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "status": { "conditions": conditions },
        });
        let api: Api<Node> = Api::all(self.client.clone());
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::api(format!("mark node {name} as unreachable")))?;
        tracing::warn!(node = name, "a node stopped posting its status");
        if was_ready {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.recorder.record(reference_to(node), EventRecord::normal("NodeNotReady", message));
        }
        Ok(())
    }

    async fn write_taints(&self, node: &Node, taints: &[Taint]) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let taints = if taints.is_empty() { None } else { Some(taints) };
        let patch = json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": taints },
        });
        let api: Api<Node> = Api::all(self.client.clone());
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::api(format!("taint node {name}")))?;
        Ok(())
    }

    /// Endpoints leave their slices by this.
    async fn mark_pods_not_ready(&self, node: &str) -> Result<(), Error> {
        let mut pods = self.pods.by_index(BY_NODE, node);
        pods.retain(|pod| crate::pod::is_ready(pod));
        for batch in pods.chunks(PODS_AT_ONCE) {
            let results = join_all(batch.iter().map(|pod| self.mark_pod_not_ready(pod))).await;
            results.into_iter().collect::<Result<(), Error>>()?;
        }
        Ok(())
    }

    async fn mark_pod_not_ready(&self, pod: &Pod) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        let mut status = pod.status.clone().unwrap_or_default();
        for condition in status.conditions.iter_mut().flatten() {
            if condition.type_ == "Ready" {
                condition.status = "False".to_owned();
                condition.last_transition_time = Some(Time(Timestamp::now()));
            }
        }
        let patch = json!({
            "metadata": { "resourceVersion": pod.metadata.resource_version },
            "status": { "conditions": status.conditions },
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let patched =
            api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match patched.map_err(Error::api(format!("mark pod {key} as not ready"))) {
            Ok(_) => {
                let event = EventRecord::warning("NodeNotReady", "Node is not ready");
                self.recorder.record(reference_to(pod), event);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Sync for NodeLifecycleController {
    const NAME: &'static str = "node_lifecycle_controller";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(node) = self.nodes.get(key) else { return Ok(()) };
        // The monitor alone hands out evictions; here the taints that are there are kept right.
        let eviction = self.zones.lock().standing();
        if let Some(taints) = taints::taints(&node, eviction, Timestamp::now()) {
            self.write_taints(&node, &taints).await?;
        }
        if health::condition(&node, "Ready").is_some_and(|ready| ready.status != "True") {
            self.mark_pods_not_ready(&key.name).await?;
        }
        Ok(())
    }
}

/// Status writes under way at once for one node; as many as upstream's pod update workers, doubled.
const PODS_AT_ONCE: usize = 8;

#[cfg(test)]
mod tests;
