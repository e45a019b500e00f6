//! Taints, cordons and tolerations.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::Part;

/// Up to two taints, and whether the node is cordoned.
pub(super) fn node() -> Part {
    (vec(taint(), 0..3), option::weighted(0.3, any::<bool>()))
        .prop_map(|(taints, unschedulable)| {
            json!({"spec": {"taints": taints, "unschedulable": unschedulable}})
        })
        .boxed()
}

/// Up to one toleration.
pub(super) fn pod() -> Part {
    vec(toleration(), 0..2).prop_map(|all| json!({"spec": {"tolerations": all}})).boxed()
}

fn taint() -> impl Strategy<Value = Value> {
    let key = select(&["gpu", "spot"][..]);
    (key, effect()).prop_map(|(key, effect)| json!({"key": key, "effect": effect}))
}

fn toleration() -> impl Strategy<Value = Value> {
    (select(&["gpu", "spot", ""][..]), option::of(effect()))
        .prop_map(|(key, effect)| json!({"key": key, "operator": "Exists", "effect": effect}))
}

fn effect() -> impl Strategy<Value = &'static str> {
    select(&["NoSchedule", "PreferNoSchedule", "PreferNoSchedule", "NoExecute"][..])
}
