//! Is a node alive: what was last heard of it, and when that was here.
//!
//! Mirrors tryUpdateNodeHealth of node_lifecycle_controller.go. The times in a Lease or a condition
//! are of the node's clock, so they are only compared with one another; silence is measured on this
//! side from when they last changed.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// What is known of a node's signs of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    heartbeat: Option<Timestamp>,
    renewed: Option<Timestamp>,
    /// When one of these last changed.
    pub(super) heard_at: Timestamp,
}

/// How long a node may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    pub(super) monitor: Duration,
    pub(super) startup: Duration,
}

/// The health after a look at the node and its Lease.
pub(super) fn observe(
    before: Option<&Health>,
    node: &Node,
    lease: Option<&Lease>,
    now: Timestamp,
) -> Health {
    let ready = condition(node, READY);
    let heartbeat = ready.and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0);
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|t| t.0);
    let Some(before) = before else {
        // A node that never reported has been silent since it was made; one that did gets the whole
        // grace period from now, as this side may just have started.
        let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let heard_at = if ready.is_some() || renewed.is_some() { None } else { created };
        return Health { heartbeat, renewed, heard_at: heard_at.unwrap_or(now) };
    };
    let beat = heartbeat != before.heartbeat;
    let renewal = renewed > before.renewed;
    let heard_at = if beat || renewal { now } else { before.heard_at };
    Health { heartbeat, renewed: renewed.max(before.renewed), heard_at }
}

/// The conditions of a node that has been silent for too long, if they are to change: those that
/// its kubelet keeps become Unknown.
pub(super) fn unknown_conditions(
    node: &Node,
    health: &Health,
    grace: Grace,
    now: Timestamp,
) -> Option<Vec<NodeCondition>> {
    let allowed = if condition(node, READY).is_some() { grace.monitor } else { grace.startup };
    let silent = Duration::try_from(now.duration_since(health.heard_at)).unwrap_or_default();
    if silent <= allowed {
        return None;
    }
    let before = conditions(node);
    let mut after = before.to_vec();
    for kind in KUBELETS {
        match after.iter_mut().find(|condition| condition.type_ == kind) {
            None => after.push(never_posted(node, kind, now)),
            Some(condition) if condition.status != "Unknown" => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            Some(_) => {}
        }
    }
    (after != before).then_some(after)
}

fn never_posted(node: &Node, kind: &str, now: Timestamp) -> NodeCondition {
    NodeCondition {
        last_heartbeat_time: node.metadata.creation_timestamp.clone(),
        last_transition_time: Some(Time(now)),
        message: Some("Kubelet never posted node status.".to_owned()),
        reason: Some("NodeStatusNeverUpdated".to_owned()),
        status: "Unknown".to_owned(),
        type_: kind.to_owned(),
    }
}

/// The node's conditions.
pub(super) fn conditions(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// The node's condition of this type.
pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    conditions(node).iter().find(|condition| condition.type_ == kind)
}

/// The status of the condition Ready; Unknown if there is none.
pub(super) fn ready(node: &Node) -> &str {
    condition(node, READY).map_or("Unknown", |ready| ready.status.as_str())
}

const READY: &str = "Ready";

/// The conditions a kubelet posts; NetworkUnavailable is another's.
const KUBELETS: [&str; 4] = [READY, "MemoryPressure", "DiskPressure", "PIDPressure"];
