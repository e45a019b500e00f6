//! What of a node's change matters to scheduling (`NodeSchedulingPropertiesChange`).

use k8s_openapi::api::core::v1::{Node, NodeCondition};

use crate::framework::Action;

/// The actions that turned `old` into `new`; empty if none of them matters.
pub(super) fn scheduling_change(old: &Node, new: &Node) -> Action {
    let mut action = Action::default();
    let mut note = |changed: bool, what: Action| {
        if changed {
            action = action.or(what);
        }
    };
    let unschedulable =
        |node: &Node| node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false);
    let taints =
        |node: &Node| node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let allocatable =
        |node: &Node| node.status.as_ref().and_then(|s| s.allocatable.clone()).unwrap_or_default();
    note(
        unschedulable(old) != unschedulable(new) || taints(old) != taints(new),
        Action::UPDATE_NODE_TAINT,
    );
    note(allocatable(old) != allocatable(new), Action::UPDATE_NODE_ALLOCATABLE);
    note(old.metadata.labels != new.metadata.labels, Action::UPDATE_NODE_LABEL);
    note(conditions(old) != conditions(new), Action::UPDATE_NODE_CONDITION);
    action
}

/// Type and status alone: heartbeats are no change.
fn conditions(node: &Node) -> Vec<(&str, &str)> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.map(|c: &NodeCondition| (c.type_.as_str(), c.status.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn changes_are_told_apart_and_heartbeats_are_none() {
        let ready = |status: &str, time: &str| {
            node(json!({"metadata": {}, "status": {"conditions": [{"type": "Ready",
                "status": status, "lastHeartbeatTime": time}]}}))
        };
        let (early, late) = ("2025-01-01T00:00:00Z", "2025-01-01T00:00:10Z");
        let empty = || node(json!({"metadata": {}}));
        for (old, new, expected) in [
            (ready("True", early), ready("True", late), Action::default()),
            (ready("True", early), ready("False", late), Action::UPDATE_NODE_CONDITION),
            (
                empty(),
                node(json!({"metadata": {}, "spec": {"unschedulable": true}})),
                Action::UPDATE_NODE_TAINT,
            ),
            (
                empty(),
                node(json!({"metadata": {}, "status": {"allocatable": {"cpu": "1"}}})),
                Action::UPDATE_NODE_ALLOCATABLE,
            ),
            (empty(), node(json!({"metadata": {"labels": {"a": "b"}}})), Action::UPDATE_NODE_LABEL),
        ] {
            assert_eq!(scheduling_change(&old, &new), expected);
        }
    }
}
