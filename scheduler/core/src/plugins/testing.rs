//! Builders and one-call runs of single plugins, for the tables beside the plugins.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cache::{Cache, NodeInfo, Object, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeScore, Occurrence, Plugin, PreFilter, PreScore, Subject,
    Verdict,
};
use crate::pod::PodInfo;
pub(crate) use crate::testing::added;

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

/// Raw and normalised scores of all nodes; `None` if the plugin has nothing to say.
pub(crate) fn all_scores(
    plugin: &dyn Plugin,
    cache: &Cache,
    pod: &PodInfo,
) -> Option<(Vec<i64>, Vec<i64>)> {
    let nodes = cache.snapshot().nodes();
    let feasible: Vec<usize> = (0..nodes.len()).collect();
    let PreScore::Score(score) = plugin.pre_score(pod, cache.snapshot(), &feasible) else {
        return None;
    };
    let raw: Vec<i64> = nodes.iter().map(|node| score.score(node)).collect();
    let mut normalized = raw.clone();
    score.normalize(&mut normalized);
    Some((raw, normalized))
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
    nodes.iter().for_each(|node| cache.set_node(Arc::new(node.object().into_owned())));
    let feasible: Vec<usize> = (0..nodes.len()).collect();
    match plugin.pre_score(pod, cache.snapshot(), &feasible) {
        PreScore::Skip => None,
        PreScore::Score(score) => Some(act(&*score)),
    }
}

/// A cluster of these objects; each says its kind, and pods the node they are on.
pub(crate) fn cluster(objects: Value) -> Cache {
    let Value::Array(objects) = objects else { panic!("a list of objects") };
    let mut cache = Cache::default();
    for mut object in objects {
        let kind = object.as_object_mut().unwrap().remove("kind").unwrap();
        match kind.as_str().unwrap() {
            "Node" => cache.set_node(Arc::new(serde_json::from_value(object).unwrap())),
            "Pod" => {
                let meta =
                    json!({"metadata": {"namespace": "default"}, "spec": {"containers": []}});
                lay_over(&mut object, meta);
                cache.set_pod(Arc::new(PodInfo::new(serde_json::from_value(object).unwrap())));
            }
            kind => cache.apply(&added(kind, object)),
        }
    }
    cache
}

/// Sets what is not set.
fn lay_over(object: &mut Value, defaults: Value) {
    match (object, defaults) {
        (Value::Object(object), Value::Object(defaults)) => {
            for (key, default) in defaults {
                lay_over(object.entry(key).or_insert(Value::Null), default);
            }
        }
        (object @ Value::Null, default) => *object = default,
        _ => {}
    }
}

/// The plugin's answer for a pod and a node of a cluster, PreFilter included.
pub(crate) fn filter_in(cache: &Cache, plugin: &dyn Plugin, pod: &PodInfo, node: &str) -> Verdict {
    let node = cache.snapshot().get(node).expect("the node is in the cluster");
    match plugin.pre_filter(pod, cache.snapshot()) {
        PreFilter::Skip => Ok(()),
        PreFilter::Reject(rejection) => Err(rejection),
        PreFilter::Filter { filter, .. } => filter.filter(node),
    }
}

/// Whether the plugin wakes the pod for an object that changed.
pub(crate) fn wakes(plugin: &dyn Plugin, pod: &PodInfo, object: Object) -> bool {
    let action = match object.sides() {
        (false, _) => Action::ADD,
        (true, true) => Action::UPDATE_OTHER,
        (true, false) => Action::DELETE,
    };
    let event = ClusterEvent::new(object.resource(), action);
    let mut cache = Cache::default();
    cache.apply(&object);
    let occurrence = Occurrence { event, subject: Subject::Object(object) };
    plugin.events().iter().any(|registered| registered.covers(event))
        && plugin.hint(pod, &occurrence, cache.snapshot()) == Hint::Queue
}
