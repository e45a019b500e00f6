//! What pods want of the pods beside them.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Part, app};

/// Required and preferred pod affinity and anti-affinity; most pods have none.
pub(super) fn pod() -> Part {
    let kind = || option::weighted(0.4, affinity());
    let both = option::weighted(0.4, (kind(), kind()));
    both.prop_map(|both| {
        let (affinity, anti) = both.unwrap_or_default();
        json!({"spec": {"affinity": {"podAffinity": affinity, "podAntiAffinity": anti}}})
    })
    .boxed()
}

fn affinity() -> impl Strategy<Value = Value> {
    let preferred = (1..100_i32, term())
        .prop_map(|(weight, term)| json!({"weight": weight, "podAffinityTerm": term}));
    (vec(term(), 0..3), vec(preferred, 0..2)).prop_map(|(required, preferred)| {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": required,
            "preferredDuringSchedulingIgnoredDuringExecution": preferred})
    })
}

fn term() -> impl Strategy<Value = Value> {
    let key = super::topology_key();
    let namespaces = option::weighted(0.3, vec(super::namespace(), 0..3));
    (key, selector(), namespaces, option::weighted(0.3, namespace_selector())).prop_map(
        |(key, selector, namespaces, namespace_selector)| {
            json!({"topologyKey": key, "labelSelector": selector, "namespaces": namespaces,
                "namespaceSelector": namespace_selector})
        },
    )
}

fn selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => app().prop_map(|app| json!({"matchLabels": {"app": app}})),
        1 => Just(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]})),
        1 => Just(json!({})),
        1 => Just(Value::Null),
    ]
}

fn namespace_selector() -> impl Strategy<Value = Value> {
    let by = |operator, values| json!({"matchExpressions": [{"key": "team", "operator": operator, "values": values}]});
    prop_oneof![
        2 => Just(by("In", json!(["red"]))),
        1 => Just(by("NotIn", json!(["red"]))),
        1 => Just(json!({})),
    ]
}
