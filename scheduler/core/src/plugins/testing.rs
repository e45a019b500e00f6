//! Builders and one-call runs of single plugins, for the tables beside the plugins.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cache::{Cache, NodeInfo, Snapshot};
use crate::framework::{NodeScore, Plugin, PreFilter, PreScore, Verdict};
use crate::pod::PodInfo;

/// A pod `default/p` with this spec (`containers` may be left out).
pub(crate) fn pod(mut spec: Value) -> PodInfo {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    let object = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec});
    PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()))
}

/// A node; its name is `node` unless the object says otherwise.
pub(crate) fn node(object: Value) -> Arc<NodeInfo> {
    node_with(object, vec![])
}

/// A node with pods on it.
pub(crate) fn node_with(mut object: Value, pods: Vec<PodInfo>) -> Arc<NodeInfo> {
    if object.pointer("/metadata/name").is_none() {
        object["metadata"]["name"] = json!("node");
    }
    let mut info = NodeInfo::new(Arc::new(serde_json::from_value(object).unwrap()));
    pods.into_iter().for_each(|pod| info.add_pod(Arc::new(pod)));
    Arc::new(info)
}

/// The plugin's answer for a pod and a node, PreFilter included.
pub(crate) fn filter(plugin: &dyn Plugin, pod: &PodInfo, node: &NodeInfo) -> Verdict {
    match plugin.pre_filter(pod, &Snapshot::default()) {
        PreFilter::Skip => Ok(()),
        PreFilter::Reject(rejection) => Err(rejection),
        PreFilter::Filter { filter, .. } => filter.filter(node),
    }
}

/// The names of nodes to which PreFilter narrows the choice, or why it refuses the pod.
pub(crate) fn pre_filter_nodes<'a>(
    plugin: &'a dyn Plugin,
    pod: &'a PodInfo,
) -> Result<Option<Vec<String>>, String> {
    match plugin.pre_filter(pod, &Snapshot::default()) {
        PreFilter::Skip => Ok(None),
        PreFilter::Reject(rejection) => Err(rejection.message()),
        PreFilter::Filter { nodes, .. } => {
            Ok(nodes.map(|nodes| nodes.into_iter().map(str::to_owned).collect()))
        }
    }
}

/// The raw scores of nodes; `None` if the plugin skips the pod.
pub(crate) fn scores(
    plugin: &dyn Plugin,
    pod: &PodInfo,
    nodes: &[Arc<NodeInfo>],
) -> Option<Vec<i64>> {
    with_score(plugin, pod, nodes, |score| nodes.iter().map(|n| score.score(n)).collect())
}

/// The normalised scores of nodes; `None` if the plugin skips the pod.
pub(crate) fn normalized(
    plugin: &dyn Plugin,
    pod: &PodInfo,
    nodes: &[Arc<NodeInfo>],
) -> Option<Vec<i64>> {
    with_score(plugin, pod, nodes, |score| {
        let mut scores: Vec<i64> = nodes.iter().map(|n| score.score(n)).collect();
        score.normalize(&mut scores);
        scores
    })
}

fn with_score<R>(
    plugin: &dyn Plugin,
    pod: &PodInfo,
    nodes: &[Arc<NodeInfo>],
    act: impl FnOnce(&dyn NodeScore) -> R,
) -> Option<R> {
    let mut cache = Cache::default();
    nodes.iter().for_each(|node| cache.set_node(node.node().clone()));
    let feasible: Vec<usize> = (0..nodes.len()).collect();
    match plugin.pre_score(pod, cache.snapshot(), &feasible) {
        PreScore::Skip => None,
        PreScore::Score(score) => Some(act(&*score)),
    }
}
