//! What may let a pod in that PodTopologySpread refused.

use k8s_openapi::api::core::v1::Node;

use super::PodTopologySpread;
use super::constraint::{Constraint, has_all_keys, label};
use crate::cache::Snapshot;
use crate::framework::{Action, ClusterEvent, Hint, Occurrence, Resource, Subject};
use crate::pod::PodInfo;

pub(super) const EVENTS: &[ClusterEvent] = {
    let pod = Action::ADD.or(Action::DELETE).or(Action::UPDATE_POD_LABEL);
    let target = Action::UPDATE_POD_LABEL.or(Action::UPDATE_POD_TOLERATION);
    let node = Action::ADD.or(Action::DELETE).or(Action::UPDATE_NODE_LABEL);
    &[
        ClusterEvent::new(Resource::AssignedPod, pod),
        ClusterEvent::new(Resource::TargetPod, target),
        ClusterEvent::new(Resource::Node, node.or(Action::UPDATE_NODE_TAINT)),
    ]
};

pub(super) fn hint(
    plugin: &PodTopologySpread,
    pod: &PodInfo,
    occurrence: &Occurrence,
    snapshot: &Snapshot,
) -> Hint {
    let Ok(constraints) = plugin.hard_constraints(pod, snapshot) else { return Hint::Queue };
    match &occurrence.subject {
        Subject::Pod(old, new) => after_pod(pod, &constraints, old.as_deref(), new.as_deref()),
        Subject::Node(old, new) => after_node(&constraints, old.as_deref(), new.as_deref()),
        _ => Hint::Queue,
    }
}

/// A pod that is spread came, went, or is now spread or no longer.
fn after_pod(
    pod: &PodInfo,
    constraints: &[Constraint],
    old: Option<&PodInfo>,
    new: Option<&PodInfo>,
) -> Hint {
    if old.or(new).is_some_and(|other| other.namespace() != pod.namespace()) {
        return Hint::Skip;
    }
    if let (Some(old), Some(new)) = (old, new) {
        let is_tolerated = new.uid == pod.uid
            && old.tolerations() != new.tolerations()
            && constraints.iter().any(|constraint| constraint.honors_taints);
        let moves = |c: &Constraint| c.selects(old) != c.selects(new);
        return Hint::queue_if(is_tolerated || constraints.iter().any(moves));
    }
    let other = old.or(new);
    Hint::queue_if(other.is_some_and(|other| constraints.iter().any(|c| c.selects(other))))
}

/// A node with all the keys came, went, changed its domains, its taints, or whether it has them.
fn after_node(constraints: &[Constraint], old: Option<&Node>, new: Option<&Node>) -> Hint {
    let counts = |node: Option<&Node>| node.is_some_and(|node| has_all_keys(constraints, node));
    let (did, does) = (counts(old), counts(new));
    let (Some(old), Some(new)) = (old, new) else { return Hint::queue_if(did || does) };
    let moves = |c: &Constraint| label(old, &c.key) != label(new, &c.key);
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    let differs = || constraints.iter().any(moves) || taints(old) != taints(new);
    Hint::queue_if(did != does || (does && differs()))
}
