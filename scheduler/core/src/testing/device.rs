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
    prop_oneof![4 => class(), 4 => slice(), 4 => claim(), 1 => rule()]
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

/// The resource, of those that pods ask for and nodes may have, that a class may stand for.
pub(crate) const DEVICES_STAND_FOR: &str = "example.com/gpu";

fn class() -> impl Strategy<Value = Object> {
    let stands_for = option::weighted(0.3, Just(DEVICES_STAND_FOR));
    (select(&["gpu", "nic"][..]), selectors(), stands_for).prop_map(
        |(name, selectors, resource)| {
            let spec = json!({"selectors": selectors, "extendedResourceName": resource});
            Object::DeviceClass(None, made(json!({"metadata": {"name": name}, "spec": spec})))
        },
    )
}

/// Devices with some key get a taint.
fn rule() -> impl Strategy<Value = Object> {
    let pool = option::of((0..4).prop_map(|pool| format!("p{pool}")));
    let device = option::of((0..3).prop_map(|device| format!("x{device}")));
    (pool, device, select(&["NoSchedule", "None"][..])).prop_map(|(pool, device, effect)| {
        let spec = json!({"deviceSelector": {"pool": pool, "device": device},
            "taint": {"key": "k", "effect": effect}});
        Object::DeviceTaintRule(None, made(json!({"metadata": {"name": "r"}, "spec": spec})))
    })
}

/// The kind of a device, whether it is tainted, whether it may be shared, and what of a counter it
/// consumes.
type DeviceDrawn = (Option<i64>, bool, bool, Option<u32>);

fn slice() -> impl Strategy<Value = Object> {
    let device = (
        option::of(0..2_i64),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        option::weighted(0.3, 1..3_u32),
    );
    let place = prop_oneof![
        4 => (0..6).prop_map(|n| json!({"nodeName": format!("n{n}")})),
        1 => Just(json!({"allNodes": true})),
        1 => Just(json!({"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["a"]}]}]}})),
    ];
    let counters = option::weighted(0.5, 1..4_u32);
    (0..6, 1..3_i64, 1..3_i64, place, vec(device, 0..4), counters).prop_map(
        |(name, generation, count, place, devices, counters)| {
            let device = |(at, (kind, is_tainted, is_shared, consumes)): (usize, DeviceDrawn)| {
                let attributes = kind.map(|kind| json!({"kind": {"int": kind}}));
                let taints = is_tainted.then(|| json!([{"key": "k", "effect": "NoSchedule"}]));
                let consumes = consumes.map(|amount| {
                    json!([{"counterSet": "s", "counters": {"n": {"value": amount.to_string()}}}])
                });
                let capacity = is_shared.then(|| {
                    json!({"memory": {"value": "4Gi",
                    "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi"}}}})
                });
                json!({"name": format!("x{at}"), "attributes": attributes, "taints": taints,
                    "consumesCounters": consumes, "allowMultipleAllocations": is_shared,
                    "capacity": capacity})
            };
            // A slice of counters has no devices.
            let devices = devices.into_iter().enumerate().filter(|_| counters.is_none());
            let devices: Vec<Value> = devices.map(device).collect();
            let pool = format!("p{}", name % 4);
            let mut spec = json!({"driver": "d", "devices": devices,
                "pool": {"name": pool, "generation": generation, "resourceSliceCount": count}});
            if let Some(amount) = counters {
                spec["sharedCounters"] =
                    json!([{"name": "s", "counters": {"n": {"value": amount.to_string()}}}]);
            }
            super::lay_over(&mut spec, place);
            let name = format!("s{name}");
            Object::ResourceSlice(None, made(json!({"metadata": {"name": name}, "spec": spec})))
        },
    )
}

fn claim() -> impl Strategy<Value = Object> {
    let wanted =
        (select(&["gpu", "gpu", "nic"][..]), option::of(1..3_i64), selectors(), any::<bool>());
    let held = option::weighted(0.3, (0..4, 0..3, 0..6, prop::bool::weighted(0.3)));
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
        let status = held.map(|(pool, device, node, is_share)| {
            let share = is_share.then_some("00000000-0000-4000-8000-000000000000");
            let consumed = is_share.then(|| json!({"memory": "1Gi"}));
            json!({"allocation": {"devices": {"results": [{"request": "r0", "driver": "d",
                    "pool": format!("p{pool}"), "device": format!("x{device}"),
                    "shareID": share, "consumedCapacity": consumed}]},
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
