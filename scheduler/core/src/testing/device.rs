//! Devices, and claims for them.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{Part, namespace};
use crate::cache::Object;

/// Claims by name, now and then one that is not there, or one from a template.
pub(super) fn pod() -> Part {
    let named = (0..4).prop_map(|n| json!({"name": "a", "resourceClaimName": format!("c{n}")}));
    let made = Just(json!({"name": "b", "resourceClaimTemplateName": "t"}));
    let claim = prop_oneof![5 => named, 1 => made];
    option::weighted(0.3, vec(claim, 1..3))
        .prop_map(|claims| match claims {
            Some(claims) => json!({"spec": {"resourceClaims": claims},
                "status": {"resourceClaimStatuses": [{"name": "b"}]}}),
            None => Value::Null,
        })
        .boxed()
}

/// A class, a slice or a claim that appears or changes.
pub(super) fn object() -> impl Strategy<Value = Object> {
    prop_oneof![class(), slice(), claim()]
}

fn made<T: serde::de::DeserializeOwned>(value: Value) -> Option<Arc<T>> {
    Some(Arc::new(serde_json::from_value(value).expect("a generated object is well formed")))
}

fn selectors() -> impl Strategy<Value = Value> {
    let expressions = select(
        &["true", "device.attributes['d'].kind == 1", "has(device.attributes['d'].kind)", "("][..],
    );
    option::weighted(0.4, expressions).prop_map(|expression| match expression {
        Some(expression) => json!([{"cel": {"expression": expression}}]),
        None => Value::Null,
    })
}

fn class() -> impl Strategy<Value = Object> {
    (select(&["gpu", "nic"][..]), selectors()).prop_map(|(name, selectors)| {
        Object::DeviceClass(
            None,
            made(json!({"metadata": {"name": name}, "spec": {"selectors": selectors}})),
        )
    })
}

fn slice() -> impl Strategy<Value = Object> {
    let device = (option::of(0..2_i64), prop::bool::weighted(0.2));
    let place = prop_oneof![
        4 => (0..6).prop_map(|n| json!({"nodeName": format!("n{n}")})),
        1 => Just(json!({"allNodes": true})),
        1 => Just(json!({"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["a"]}]}]}})),
    ];
    (0..6, 1..3_i64, 1..3_i64, place, vec(device, 0..4)).prop_map(
        |(name, generation, count, place, devices)| {
            let device = |(at, (kind, is_tainted)): (usize, (Option<i64>, bool))| {
                let attributes = kind.map(|kind| json!({"kind": {"int": kind}}));
                let taints = is_tainted.then(|| json!([{"key": "k", "effect": "NoSchedule"}]));
                json!({"name": format!("x{at}"), "attributes": attributes, "taints": taints})
            };
            let devices: Vec<Value> = devices.into_iter().enumerate().map(device).collect();
            let pool = format!("p{}", name % 4);
            let mut spec = json!({"driver": "d", "devices": devices,
                "pool": {"name": pool, "generation": generation, "resourceSliceCount": count}});
            super::lay_over(&mut spec, place);
            let name = format!("s{name}");
            Object::ResourceSlice(None, made(json!({"metadata": {"name": name}, "spec": spec})))
        },
    )
}

fn claim() -> impl Strategy<Value = Object> {
    let wanted =
        (select(&["gpu", "gpu", "nic"][..]), option::of(1..3_i64), selectors(), any::<bool>());
    let held = option::weighted(0.3, (0..4, 0..3, 0..6));
    (0..4, namespace(), vec(wanted, 1..3), held).prop_map(|(name, namespace, wanted, held)| {
        let request =
            |(class, count, selectors, alternatives): (&str, Option<i64>, Value, bool)| {
                let mode = if count.is_some() { "ExactCount" } else { "All" };
                let wants = json!({"deviceClassName": class, "allocationMode": mode, "count": count,
                "selectors": selectors});
                if alternatives {
                    let mut second = json!({"name": "s1", "deviceClassName": class, "count": 1});
                    let mut first = wants;
                    first["name"] = json!("s0");
                    second["allocationMode"] = json!("ExactCount");
                    json!({"firstAvailable": [first, second]})
                } else {
                    json!({"exactly": wants})
                }
            };
        let requests = wanted.into_iter().enumerate().map(|(at, wanted)| {
            let mut request = request(wanted);
            request["name"] = json!(format!("r{at}"));
            request
        });
        let requests: Vec<Value> = requests.collect();
        let status = held.map(|(pool, device, node)| {
            json!({"allocation": {"devices": {"results": [{"request": "r0", "driver": "d",
                    "pool": format!("p{pool}"), "device": format!("x{device}")}]},
                "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name",
                    "operator": "In", "values": [format!("n{node}")]}]}]}}})
        });
        let name = format!("c{name}");
        Object::ResourceClaim(
            None,
            made(json!({"metadata": {"name": name, "namespace": namespace, "uid": name},
                "spec": {"devices": {"requests": requests}}, "status": status})),
        )
    })
}
