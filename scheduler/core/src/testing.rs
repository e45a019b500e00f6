//! Random clusters for property tests: small enough to read when shrunk, with every feature that a
//! plugin looks at, and names few enough to collide.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::pod::PodInfo;

/// A node of this name.
pub(crate) fn node(name: String) -> impl Strategy<Value = Arc<Node>> {
    let resources = (0_u32..5, 0_u32..5, 0_u32..8, option::of(0_u32..3));
    let images = vec((select(&["app:v1", "db:latest", "web:v2"][..]), Just(100_u64 << 20)), 0..3);
    (resources, option::of(zone()), vec(taint(), 0..3), any::<Option<bool>>(), images).prop_map(
        move |((cpu, memory, pods, gpus), zone, taints, unschedulable, images)| {
            let mut allocatable = json!({"cpu": cpu.to_string(), "memory": format!("{memory}Gi"),
                "pods": pods.to_string()});
            if let Some(gpus) = gpus {
                allocatable["example.com/gpu"] = json!(gpus.to_string());
            }
            let images: Vec<Value> = images
                .into_iter()
                .map(|(name, size)| json!({"names": [name], "sizeBytes": size}))
                .collect();
            let mut labels = json!({"kubernetes.io/hostname": name});
            if let Some(zone) = zone {
                labels["zone"] = json!(zone);
            }
            object(json!({"metadata": {"name": name, "labels": labels},
                "spec": {"taints": taints, "unschedulable": unschedulable},
                "status": {"allocatable": allocatable, "images": images}}))
        },
    )
}

/// A pod of this name, not bound.
pub(crate) fn pod(name: String) -> impl Strategy<Value = Pod> {
    let tolerations = vec(toleration(), 0..2);
    let selector = option::weighted(0.3, zone());
    let affinity = option::weighted(0.3, affinity());
    let spread = (select(&["x", "y"][..]), vec(spread_constraint(), 0..3));
    (vec(container(), 1..3), tolerations, selector, affinity, 0..3_i32, spread).prop_map(
        move |(containers, tolerations, selector, affinity, priority, (app, constraints))| {
            let selector = selector.map(|zone| json!({"zone": zone}));
            object(json!({"metadata": {"name": name, "namespace": "default", "uid": name,
                    "labels": {"app": app}},
                "spec": {"containers": containers, "tolerations": tolerations,
                    "nodeSelector": selector, "affinity": affinity, "priority": priority,
                    "topologySpreadConstraints": constraints}}))
        },
    )
}

/// The pod bound to a node.
pub(crate) fn bound(pod: &Pod, node: &str) -> Arc<PodInfo> {
    let mut pod = pod.clone();
    pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
    Arc::new(PodInfo::new(Arc::new(pod)))
}

fn zone() -> impl Strategy<Value = &'static str> {
    select(&["a", "b", "c"][..])
}

fn effect() -> impl Strategy<Value = &'static str> {
    select(&["NoSchedule", "PreferNoSchedule", "PreferNoSchedule", "NoExecute"][..])
}

fn taint() -> impl Strategy<Value = Value> {
    let key = select(&["gpu", "spot"][..]);
    (key, effect()).prop_map(|(key, effect)| json!({"key": key, "effect": effect}))
}

fn toleration() -> impl Strategy<Value = Value> {
    (select(&["gpu", "spot", ""][..]), option::of(effect()))
        .prop_map(|(key, effect)| json!({"key": key, "operator": "Exists", "effect": effect}))
}

fn container() -> impl Strategy<Value = Value> {
    let requests = (option::of(0_u32..30), option::of(0_u32..20), option::weighted(0.2, 0_u32..3));
    let image = select(&["app:v1", "db", "none"][..]);
    (requests, image, option::weighted(0.2, 80_u32..82)).prop_map(
        |((cpu, memory, gpus), image, port)| {
            let mut requests = json!({});
            if let Some(cpu) = cpu {
                requests["cpu"] = json!(format!("{}m", cpu * 100));
            }
            if let Some(memory) = memory {
                requests["memory"] = json!(format!("{}Mi", memory * 100));
            }
            if let Some(gpus) = gpus {
                requests["example.com/gpu"] = json!(gpus.to_string());
            }
            let ports = port.map(|port| json!([{"containerPort": 1, "hostPort": port}]));
            json!({"name": "c", "image": image, "resources": {"requests": requests},
                "ports": ports})
        },
    )
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

fn spread_constraint() -> impl Strategy<Value = Value> {
    let policy = || option::of(select(&["Honor", "Ignore"][..]));
    let key = select(&["zone", "zone", "kubernetes.io/hostname"][..]);
    let when = select(&["DoNotSchedule", "ScheduleAnyway"][..]);
    (key, when, 1..3, option::of(1..4), policy(), policy(), select(&["x", "y"][..])).prop_map(
        |(key, when, max_skew, min_domains, affinity, taints, app)| {
            json!({"topologyKey": key, "whenUnsatisfiable": when, "maxSkew": max_skew,
                "minDomains": min_domains, "nodeAffinityPolicy": affinity,
                "nodeTaintsPolicy": taints, "labelSelector": {"matchLabels": {"app": app}}})
        },
    )
}

fn in_zones(zones: &[&str]) -> Value {
    json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": zones}]})
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a generated object is well formed")
}
