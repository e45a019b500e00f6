//! NodeUnschedulable: `spec.unschedulable` keeps pods off, unless they tolerate the taint that goes
//! with it.

use k8s_openapi::api::core::v1::{Node, Taint};
use pintle_api::taint;

use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeFilter, Occurrence, Plugin, PluginName, PreFilter, Rejection,
    Resource, Subject, Verdict,
};
use crate::pod::PodInfo;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> PluginName {
        PluginName::NodeUnschedulable
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::every_node(Filter { tolerated: tolerates_unschedulable(pod) })
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const {
            &[
                ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_NODE_TAINT)),
                ClusterEvent::new(Resource::TargetPod, Action::UPDATE_POD_TOLERATION),
            ]
        }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        match &occurrence.subject {
            Subject::Node(old, Some(new)) => {
                let was = old.as_deref().is_none_or(is_unschedulable);
                Hint::queue_if(was && !is_unschedulable(new))
            }
            Subject::Pod(_, Some(new)) => {
                Hint::queue_if(new.uid == pod.uid && tolerates_unschedulable(new))
            }
            _ => Hint::Queue,
        }
    }
}

struct Filter {
    tolerated: bool,
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if node.is_unschedulable() && !self.tolerated {
            return Err(Rejection::unresolvable("node(s) were unschedulable"));
        }
        Ok(())
    }
}

fn is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false)
}

fn tolerates_unschedulable(pod: &PodInfo) -> bool {
    let unschedulable = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: taint::NO_SCHEDULE.to_owned(),
        ..Taint::default()
    };
    taint::is_tolerated(pod.tolerations(), &unschedulable)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugins::testing::{filter, node, pod};

    #[test]
    fn cordoned_nodes_are_refused_unless_tolerated() {
        let cordoned = node(json!({"spec": {"unschedulable": true}}));
        let rejection = filter(&NodeUnschedulable, &pod(json!({})), &cordoned).unwrap_err();
        assert_eq!(rejection, Rejection::unresolvable("node(s) were unschedulable"));
        let tolerant = pod(json!({"tolerations": [
            {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}));
        assert_eq!(filter(&NodeUnschedulable, &tolerant, &cordoned), Ok(()));
        assert_eq!(filter(&NodeUnschedulable, &pod(json!({})), &node(json!({}))), Ok(()));
    }
}
