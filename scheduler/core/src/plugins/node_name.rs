//! NodeName: a pod that names a node runs on no other.

use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeFilter, Occurrence, Plugin, PluginName, PreFilter, Rejection,
    Resource, Subject, Verdict,
};
use crate::pod::PodInfo;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> PluginName {
        PluginName::NodeName
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        match pod.node_name() {
            Some(name) => PreFilter::every_node(Filter { name }),
            None => PreFilter::Skip,
        }
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const { &[ClusterEvent::new(Resource::Node, Action::ADD)] }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        let Subject::Node(_, Some(node)) = &occurrence.subject else { return Hint::Queue };
        Hint::queue_if(
            pod.node_name().is_none_or(|name| node.metadata.name.as_deref() == Some(name)),
        )
    }
}

struct Filter<'a> {
    name: &'a str,
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if **node.name() == *self.name {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugins::testing::{filter, node, pod};

    #[test]
    fn only_the_named_node_will_do() {
        let named = pod(json!({"nodeName": "a"}));
        let at = |name: &str| node(json!({"metadata": {"name": name}}));
        assert_eq!(filter(&NodeName, &named, &at("a")), Ok(()));
        assert_eq!(filter(&NodeName, &pod(json!({})), &at("b")), Ok(()));
        assert_eq!(
            filter(&NodeName, &named, &at("b")),
            Err(Rejection::unresolvable("node(s) didn't match the requested node name"))
        );
    }
}
