//! The pod garbage collector: deletes pods that nobody else will.
//!
//! Mirrors pkg/controller/podgc: finished pods beyond `--terminated-pod-gc-threshold`, pods bound to
//! a node that is gone, and pods that were deleted before they were ever bound. Not here: pods on
//! nodes with the out-of-service taint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use pintle_client::{Informer, ObjectKey};
use tokio::time::{Instant, MissedTickBehavior};

use crate::Error;
use crate::pod;
use crate::taint_eviction::disruption_patch;

/// Looks at all pods every 20 seconds.
pub(crate) struct PodGcController {
    pub(crate) client: Client,
    pub(crate) nodes: Informer<Node>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) terminated_pods_max: usize,
}

/// Why a pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Its node is gone.
    Orphaned,
    /// It finished, and there are too many of these.
    Terminated,
    /// It is being deleted and was never bound, so no kubelet will end it.
    Unscheduled,
}

/// The pods to delete. `gone` are the nodes that have been missing for long enough.
fn plan(
    pods: &[Arc<Pod>],
    gone: &BTreeSet<String>,
    terminated_max: usize,
) -> Vec<(Arc<Pod>, Reason)> {
    let mut doomed = Vec::new();
    let mut terminated: Vec<&Arc<Pod>> = Vec::new();
    for pod in pods {
        let node = pod::node_name(pod);
        if gone.contains(node) {
            doomed.push((Arc::clone(pod), Reason::Orphaned));
        } else if node.is_empty() && pod::is_terminating(pod) {
            doomed.push((Arc::clone(pod), Reason::Unscheduled));
        } else if pod::is_terminal(pod) && !pod::is_terminating(pod) {
            terminated.push(pod);
        }
    }
    if terminated_max > 0 {
        // Evicted pods go first, then the oldest.
        let evicted = |pod: &Pod| pod.status.as_ref()?.reason.as_deref().map(|r| r == "Evicted");
        terminated.sort_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.clone();
            (evicted(pod) != Some(true), created, pod.metadata.name.clone())
        });
        terminated.truncate(terminated.len().saturating_sub(terminated_max));
        doomed.extend(terminated.into_iter().map(|pod| (Arc::clone(pod), Reason::Terminated)));
    }
    doomed
}

impl PodGcController {
    /// Collect for ever.
    pub(crate) async fn run(self) {
        let mut missing: BTreeMap<String, Instant> = BTreeMap::new();
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let pods = self.pods.list();
            let gone = self.gone_nodes(&pods, &mut missing).await;
            for (pod, reason) in plan(&pods, &gone, self.terminated_pods_max) {
                if let Err(error) = self.delete(&pod, reason).await {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "collect the pod later");
                }
            }
        }
    }

    /// Nodes that pods are bound to, that have been missing for the quarantine, and that the server
    /// does not know either.
    async fn gone_nodes(
        &self,
        pods: &[Arc<Pod>],
        missing: &mut BTreeMap<String, Instant>,
    ) -> BTreeSet<String> {
        let named: BTreeSet<&str> =
            pods.iter().map(|pod| pod::node_name(pod)).filter(|name| !name.is_empty()).collect();
        let absent = |name: &str| self.nodes.get(&ObjectKey::cluster(name)).is_none();
        missing.retain(|name, _| named.contains(name.as_str()) && absent(name));
        let now = Instant::now();
        let mut gone = BTreeSet::new();
        for name in named.into_iter().filter(|name| absent(name)) {
            let since = *missing.entry(name.to_owned()).or_insert(now);
            if now.duration_since(since) >= QUARANTINE && self.is_unknown(name).await {
                gone.insert(name.to_owned());
            }
        }
        gone
    }

    async fn is_unknown(&self, node: &str) -> bool {
        let api: Api<Node> = Api::all(self.client.clone());
        matches!(api.get_opt(node).await, Ok(None))
    }

    async fn delete(&self, pod: &Pod, reason: Reason) -> Result<(), Error> {
        let key = ObjectKey::of(pod);
        tracing::info!(pod = %key, ?reason, "delete a pod that nobody else will");
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        if reason == Reason::Orphaned && !pod::is_terminal(pod) {
            let message = "PodGC: node no longer exists";
            let patch = disruption_patch(pod, "DeletionByPodGC", message, Some("Failed"));
            let marked =
                api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
            match marked.map_err(Error::api(format!("fail pod {key}"))) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        let same = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::default().grace_period(0).preconditions(same);
        match api.delete(&key.name, &params).await.map_err(Error::api(format!("delete pod {key}")))
        {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Upstream's gcCheckPeriod.
const PERIOD: Duration = Duration::from_secs(20);

/// Upstream's quarantineTime: a node's object may be replaced.
const QUARANTINE: Duration = Duration::from_secs(40);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, phase: &str, deleting: bool) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase},
        });
        if deleting {
            value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn only_pods_that_nobody_else_deletes_are() {
        let pods = [
            pod("alive", "here", "Running", false),
            pod("kubelets", "here", "Running", true),
            pod("orphan", "gone", "Running", false),
            pod("waiting", "", "Pending", false),
            pod("unscheduled", "", "Pending", true),
            pod("done-1", "here", "Succeeded", false),
            pod("done-2", "here", "Failed", false),
        ];
        let gone = ["gone".to_owned()].into();
        let named = |max| -> Vec<(String, Reason)> {
            let doomed = plan(&pods, &gone, max);
            doomed.iter().map(|(p, r)| (p.metadata.name.clone().unwrap(), *r)).collect()
        };
        let always = [
            ("orphan".to_owned(), Reason::Orphaned),
            ("unscheduled".to_owned(), Reason::Unscheduled),
        ];
        assert_eq!(named(0), always);
        assert_eq!(named(2), always);
        assert_eq!(named(1)[2], ("done-1".to_owned(), Reason::Terminated));
    }
}
