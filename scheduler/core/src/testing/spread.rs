//! Zones, and constraints that spread pods over them.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{Part, app, zone};

/// A zone; some nodes are in none. A slot; mostly no two nodes are in the same.
pub(super) fn node() -> Part {
    let slot = option::weighted(0.9, (0..5000).prop_map(|slot| format!("s{slot}")));
    let labels = |(zone, slot): (Option<&str>, Option<String>)| {
        let labels = json!({"zone": zone, "topology.kubernetes.io/zone": zone, "slot": slot});
        json!({"metadata": {"labels": labels}})
    };
    (option::of(zone()), slot).prop_map(labels).boxed()
}

/// Constraints; most pods have none.
pub(super) fn pod() -> Part {
    let constraints = prop_oneof![2 => Just(vec![]), 1 => vec(constraint(), 1..4)];
    constraints
        .prop_map(|constraints| json!({"spec": {"topologySpreadConstraints": constraints}}))
        .boxed()
}

fn constraint() -> impl Strategy<Value = Value> {
    let policy = || option::of(select(&["Honor", "Ignore"][..]));
    let key = super::topology_key();
    let when = select(&["DoNotSchedule", "ScheduleAnyway"][..]);
    let keys = option::weighted(0.2, Just(json!(["app"])));
    (key, when, 1..3, option::of(1..4), policy(), policy(), selector(), keys).prop_map(
        |(key, when, max_skew, min_domains, affinity, taints, selector, keys)| {
            json!({"topologyKey": key, "whenUnsatisfiable": when, "maxSkew": max_skew,
                "minDomains": min_domains, "nodeAffinityPolicy": affinity,
                "nodeTaintsPolicy": taints, "labelSelector": selector, "matchLabelKeys": keys})
        },
    )
}

fn selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => app().prop_map(|app| json!({"matchLabels": {"app": app}})),
        1 => Just(json!({})),
        1 => Just(Value::Null),
    ]
}
