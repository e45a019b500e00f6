//! The taints that follow from a node's conditions. Pure.
//!
//! Mirrors doNoScheduleTaintingPass and processTaintBaseEviction.

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use pintle_api::taint::{NO_EXECUTE, NO_SCHEDULE};

use super::health::{conditions, ready};

/// May a node that is not ready be given its NoExecute taint now?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// Yes.
    Allowed,
    /// Not yet: the zone's rate is used up. A taint that is there may be exchanged.
    Limited,
    /// The whole cluster is silent, so it is more likely us: take the taints away.
    Stopped,
}

/// The node's taints as they should be, if they are not.
pub(super) fn taints(node: &Node, eviction: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let before = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> =
        no_schedule_keys(node).into_iter().map(|key| (key, NO_SCHEDULE)).collect();
    wanted.extend(no_execute_key(node, before, eviction).map(|key| (key, NO_EXECUTE)));
    let managed = |taint: &Taint| match taint.effect.as_str() {
        NO_SCHEDULE => MANAGED.contains(&taint.key.as_str()),
        NO_EXECUTE => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut after: Vec<Taint> =
        before.iter().filter(|taint| !managed(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !after.iter().any(|taint| taint.key == key && taint.effect == effect) {
            after.push(Taint {
                effect: effect.to_owned(),
                key: key.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    (after != before).then_some(after)
}

fn no_schedule_keys(node: &Node) -> Vec<&'static str> {
    let by_condition = |(kind, status, key): &(&str, &str, &'static str)| {
        let holds = conditions(node).iter().any(|c| c.type_ == *kind && c.status == *status);
        holds.then_some(*key)
    };
    let mut keys: Vec<&'static str> = CONDITION_TAINTS.iter().filter_map(by_condition).collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false) {
        keys.push(UNSCHEDULABLE);
    }
    keys
}

fn no_execute_key(node: &Node, before: &[Taint], eviction: Eviction) -> Option<&'static str> {
    let key = match ready(node) {
        "True" => return None,
        "False" => NOT_READY,
        _ => UNREACHABLE,
    };
    let tainted = before.iter().any(|taint| {
        taint.effect == NO_EXECUTE && (taint.key == NOT_READY || taint.key == UNREACHABLE)
    });
    match eviction {
        Eviction::Allowed => Some(key),
        Eviction::Limited => tainted.then_some(key),
        Eviction::Stopped => None,
    }
}

/// Whether the node waits for a NoExecute taint.
pub(super) fn wants_eviction(node: &Node) -> bool {
    let before = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    no_execute_key(node, before, Eviction::Allowed).is_some()
        && no_execute_key(node, before, Eviction::Limited).is_none()
}

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, its status, the taint's key.
const CONDITION_TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

const MANAGED: [&str; 7] = [
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
];
