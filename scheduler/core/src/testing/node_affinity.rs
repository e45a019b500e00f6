//! What pods want of the labels and names of nodes.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Part, zone};

/// A node selector, required and preferred node affinity; most pods have none.
pub(super) fn pod() -> Part {
    let selector = option::weighted(0.2, zone());
    (selector, option::weighted(0.3, affinity()))
        .prop_map(|(selector, affinity)| {
            let selector = selector.map(|zone| json!({"zone": zone}));
            json!({"spec": {"nodeSelector": selector, "affinity": affinity}})
        })
        .boxed()
}

fn affinity() -> impl Strategy<Value = Value> {
    let names = vec(0_usize..6, 1..4).prop_map(|names| {
        let term = |name| {
            json!({"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": [format!("n{name}")]}]})
        };
        names.into_iter().map(term).collect::<Vec<Value>>()
    });
    let zones = vec(zone(), 1..3).prop_map(|zones| vec![in_zones(&zones)]);
    let required = option::of(prop_oneof![names, zones]);
    let preferred = vec((1..100_i32, zone()), 0..3);
    (required, preferred).prop_map(|(required, preferred)| {
        let weigh = |(weight, zone)| json!({"weight": weight, "preference": in_zones(&[zone])});
        let preferred: Vec<Value> = preferred.into_iter().map(weigh).collect();
        let required = required.map(|terms| json!({"nodeSelectorTerms": terms}));
        json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": required,
            "preferredDuringSchedulingIgnoredDuringExecution": preferred}})
    })
}

fn in_zones(zones: &[&str]) -> Value {
    json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": zones}]})
}
