#![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;

fn cluster(nodes: &[(&str, Value)]) -> Cache {
    let mut cache = Cache::default();
    for (name, object) in nodes {
        let mut object = object.clone();
        object["metadata"]["name"] = json!(name);
        cache.set_node(Arc::new(serde_json::from_value(object).unwrap()));
    }
    cache
}

fn with_cpu(cpu: &str) -> Value {
    json!({"status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}})
}

fn pod(spec: Value) -> PodInfo {
    let object = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec});
    PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()))
}

fn asking(cpu: &str) -> PodInfo {
    pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
}

fn message(cache: &Cache, pod: &PodInfo) -> String {
    let profile = Profile::default_plugins("default-scheduler");
    evaluate(&profile, cache.snapshot(), pod).diagnosis.to_string()
}

#[test]
fn every_documented_message() {
    let three = cluster(&[("a", with_cpu("1")), ("b", with_cpu("1")), ("c", with_cpu("1"))]);
    assert_eq!(message(&three, &asking("2")), "0/3 nodes are available: 3 Insufficient cpu.");
    assert_eq!(message(&cluster(&[]), &asking("1")), "no nodes available to schedule pods");
    let mixed = cluster(&[
        ("a", with_cpu("1")),
        ("b", json!({"spec": {"unschedulable": true}})),
        ("c", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})),
        ("d", json!({})),
    ]);
    assert_eq!(
        message(&mixed, &asking("2")),
        "0/4 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint(s), 1 node(s) \
         were unschedulable, 2 Insufficient cpu."
    );
    let zonal = pod(json!({"containers": [], "nodeSelector": {"zone": "z"}}));
    assert_eq!(
        message(&three, &zonal),
        "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
    );
    let named = |name: &str| {
        pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": [name]}]}]}}}}))
    };
    assert_eq!(
        message(&three, &named("b")),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) \
         [NodeAffinity]."
    );
    assert_eq!(
        message(&three, &named("gone")),
        "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
}

#[test]
fn scores_are_weighted_and_the_best_are_all_of_the_highest() {
    let cache = cluster(&[
        ("a", with_cpu("4")),
        ("b", with_cpu("4")),
        ("tainted", {
            let mut node = with_cpu("4");
            node["spec"] = json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]});
            node
        }),
    ]);
    let profile = Profile::default_plugins("default-scheduler");
    let evaluation = evaluate(&profile, cache.snapshot(), &asking("1"));
    assert_eq!(evaluation.best, [0, 1]);
    let NodeVerdict::Feasible { scores, total } = &evaluation.nodes[0] else { panic!() };
    let seen: Vec<_> =
        scores.iter().map(|s| (s.plugin.as_str(), s.raw, s.normalized, s.weight)).collect();
    // CPU 75 and memory (8 GiB less the assumed 200 MiB) 97: 86. Balance: 25% and 0%.
    let expected = [
        ("TaintToleration", 0, 100, 3),
        ("NodeResourcesFit", 86, 86, 1),
        ("NodeResourcesBalancedAllocation", 87, 87, 1),
        ("ImageLocality", 0, 0, 1),
    ];
    assert_eq!(seen, expected);
    assert_eq!(*total, 300 + 86 + 87);
    let NodeVerdict::Feasible { total, .. } = &evaluation.nodes[2] else { panic!() };
    assert_eq!(*total, 86 + 87);
}
