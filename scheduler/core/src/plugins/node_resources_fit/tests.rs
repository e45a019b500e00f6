#![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

use serde_json::{Value, json};

use super::*;
use crate::framework::Code;
use crate::plugins::testing::{filter, node, node_with, pod, scores};

fn asking(requests: Value) -> PodInfo {
    pod(json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
}

fn having(allocatable: Value) -> Value {
    json!({"status": {"allocatable": allocatable}})
}

fn reasons(plugin: &NodeResourcesFit, pod: &PodInfo, node: &NodeInfo) -> Option<(Code, String)> {
    filter(plugin, pod, node).err().map(|r| (r.code(), r.message()))
}

#[test]
fn each_lacking_resource_is_named() {
    let fit = NodeResourcesFit::default();
    let node = node_with(
        having(json!({"cpu": "2", "memory": "1Gi", "pods": "2", "example.com/gpu": "1"})),
        vec![asking(json!({"cpu": "1500m", "memory": "512Mi", "example.com/gpu": "1"}))],
    );
    for (requests, expected) in [
        (json!({}), None),
        (json!({"cpu": "500m", "memory": "512Mi"}), None),
        (json!({"cpu": "501m"}), Some((Code::Unschedulable, "Insufficient cpu"))),
        (json!({"cpu": "3"}), Some((Code::UnschedulableAndUnresolvable, "Insufficient cpu"))),
        (
            json!({"cpu": "1", "memory": "1Gi"}),
            Some((Code::Unschedulable, "Insufficient cpu, Insufficient memory")),
        ),
        (
            json!({"example.com/gpu": "1"}),
            Some((Code::Unschedulable, "Insufficient example.com/gpu")),
        ),
        (
            json!({"ephemeral-storage": "1"}),
            Some((Code::UnschedulableAndUnresolvable, "Insufficient ephemeral-storage")),
        ),
        (json!({"example.com/none": "0"}), None),
    ] {
        let expected = expected.map(|(code, text)| (code, text.to_owned()));
        assert_eq!(reasons(&fit, &asking(requests.clone()), &node), expected, "{requests}");
    }
}

#[test]
fn the_pod_count_is_a_resource() {
    let fit = NodeResourcesFit::default();
    let full = node_with(having(json!({"pods": "1"})), vec![asking(json!({}))]);
    let expected = Some((Code::Unschedulable, "Too many pods".to_owned()));
    assert_eq!(reasons(&fit, &asking(json!({})), &full), expected);
    // A node that reports nothing takes nothing.
    assert_eq!(reasons(&fit, &asking(json!({})), &node(json!({}))), expected);
}

#[test]
fn init_containers_and_overhead_count() {
    let fit = NodeResourcesFit::default();
    let node = node(having(json!({"cpu": "1", "pods": "9"})));
    let heavy_init = pod(json!({
        "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "900m"}}}],
        "containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}],
        "overhead": {"cpu": "100m"}}));
    assert_eq!(heavy_init.requests.milli_cpu, 1000);
    assert_eq!(reasons(&fit, &heavy_init, &node), None);
}

#[test]
fn ignored_resources_are_not_checked() {
    let mut fit = NodeResourcesFit::default();
    let node = node(having(json!({"pods": "9"})));
    let wants = asking(json!({"example.com/gpu": "1"}));
    assert!(reasons(&fit, &wants, &node).is_some());
    fit.ignored_resource_groups.insert("example.com".to_owned());
    assert_eq!(reasons(&fit, &wants, &node), None);
    fit.ignored_resource_groups.clear();
    fit.ignored_resources.insert("example.com/gpu".to_owned());
    assert_eq!(reasons(&fit, &wants, &node), None);
}

fn score(strategy: ScoringStrategy, wanted: &PodInfo, on: Vec<PodInfo>) -> i64 {
    let node = node_with(having(json!({"cpu": "4", "memory": "10000", "pods": "110"})), on);
    let fit = NodeResourcesFit { strategy, ..NodeResourcesFit::default() };
    scores(&fit, wanted, &[node]).unwrap()[0]
}

#[test]
fn least_allocated_is_upstreams() {
    let wanted = asking(json!({"cpu": "3", "memory": "5000"}));
    // (4000-3000)*100/4000 = 25 and (10000-5000)*100/10000 = 50, mean 37.
    assert_eq!(score(ScoringStrategy::LeastAllocated, &wanted, vec![]), 37);
    // Over the limit counts 0: (0 + 50) / 2.
    let heavy = asking(json!({"cpu": "5", "memory": "5000"}));
    assert_eq!(score(ScoringStrategy::LeastAllocated, &heavy, vec![]), 25);
    // A container that asks for nothing counts 100m; its 200Mi is over the limit: (95 + 0) / 2.
    let nothing = asking(json!({}));
    assert_eq!(
        score(
            ScoringStrategy::LeastAllocated,
            &nothing,
            vec![asking(json!({"cpu": "100m",
        "memory": "0"}))]
        ),
        47
    );
}

/// What the pod asks as a whole is filtered by and not scored by, until it is on a node.
#[test]
fn a_pod_that_asks_as_a_whole_is_scored_by_its_containers() {
    let whole = pod(json!({"resources": {"requests": {"cpu": "1700m", "memory": "3Gi"}},
        "containers": [
            {"name": "a", "resources": {"requests": {"cpu": "400m", "memory": "700Mi"}}},
            {"name": "b", "resources": {"requests": {"memory": "64Mi"}}}]}));
    let node = |memory: &str, on: Vec<PodInfo>| {
        node_with(having(json!({"cpu": "2", "memory": memory, "pods": "9"})), on)
    };
    let fit = NodeResourcesFit::default();
    // As kube-scheduler 1.35.0 logs of these two nodes.
    for (memory, expected) in [("6000Mi", 81), ("4Gi", 78)] {
        assert_eq!(scores(&fit, &whole, &[node(memory, vec![])]), Some(vec![expected]), "{memory}");
    }
    let full = node("6000Mi", vec![whole.clone()]);
    assert_eq!(reasons(&fit, &whole, &full).unwrap().1, "Insufficient cpu, Insufficient memory");
}

#[test]
fn most_allocated_is_upstreams() {
    let wanted = asking(json!({"cpu": "3", "memory": "5000"}));
    assert_eq!(score(ScoringStrategy::MostAllocated, &wanted, vec![]), 62);
    let heavy = asking(json!({"cpu": "5", "memory": "5000"}));
    assert_eq!(score(ScoringStrategy::MostAllocated, &heavy, vec![]), 75);
}

#[test]
fn shapes_are_piecewise_linear() {
    let shape = vec![
        ShapePoint { utilization: 0, score: 10 },
        ShapePoint { utilization: 70, score: 5 },
        ShapePoint { utilization: 100, score: 0 },
    ];
    let strategy = ScoringStrategy::RequestedToCapacityRatio(shape);
    // CPU 75% -> 50 - 50*5/30 = 42; memory 50% -> 100 - 50*50/70 = 65; round(53.5) = 54.
    let wanted = asking(json!({"cpu": "3", "memory": "5000"}));
    assert_eq!(score(strategy.clone(), &wanted, vec![]), 54);
    // A resource with score 0 is left out of the mean.
    let heavy = asking(json!({"cpu": "5", "memory": "5000"}));
    assert_eq!(score(strategy, &heavy, vec![]), 65);
}

#[test]
fn scored_extended_resources_count_only_when_asked_for() {
    let fit = NodeResourcesFit {
        resources: vec![ResourceWeight { name: "example.com/gpu".into(), weight: 5 }],
        ..NodeResourcesFit::default()
    };
    let node = node(having(json!({"example.com/gpu": "8", "pods": "9"})));
    let nodes = [node];
    assert_eq!(scores(&fit, &asking(json!({"example.com/gpu": "2"})), &nodes), Some(vec![75]));
    assert_eq!(scores(&fit, &asking(json!({"cpu": "1"})), &nodes), Some(vec![0]));
}

#[test]
fn names_that_are_no_resources_are_not_counted() {
    let fit = NodeResourcesFit::default();
    let node = node(having(json!({"pods": "9"})));
    for (name, counts) in [
        ("example.com/gpu", true),
        ("hugepages-2Mi", true),
        ("attachable-volumes-csi", true),
        ("kubernetes.io/batch-cpu", true),
        ("gpu", false),
        ("requests.example.com/gpu", false),
    ] {
        assert_eq!(reasons(&fit, &asking(json!({name: "1"})), &node).is_some(), counts, "{name}");
    }
}

fn hint_after(pod: &PodInfo, resource: Resource, subject: Subject) -> Hint {
    let event = ClusterEvent::new(resource, Action::ALL);
    let occurrence = Occurrence { event, subject };
    NodeResourcesFit::default().hint(pod, &occurrence, &Snapshot::default())
}

#[test]
fn freed_resources_that_are_wanted_wake() {
    let wants = asking(json!({"cpu": "1", "example.com/none": "0"}));
    let other = |requests: Value, nominated: &str| {
        let pod = json!({"metadata": {"name": "o", "uid": "o"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]},
            "status": {"nominatedNodeName": nominated}});
        Some(Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()))))
    };
    let two = || other(json!({"cpu": "2", "memory": "2"}), "");
    let less_cpu = || other(json!({"cpu": "1", "memory": "2"}), "");
    let less_memory = || other(json!({"cpu": "2", "memory": "1"}), "");
    for (resource, old, new, expected) in [
        (Resource::AssignedPod, two(), None, Hint::Queue),
        (Resource::UnscheduledPod, two(), None, Hint::Skip),
        (Resource::UnscheduledPod, other(json!({}), "n"), None, Hint::Queue),
        (Resource::AssignedPod, two(), less_cpu(), Hint::Queue),
        (Resource::AssignedPod, two(), less_memory(), Hint::Skip),
        (Resource::UnscheduledPod, two(), less_cpu(), Hint::Skip),
    ] {
        let hint = hint_after(&wants, resource, Subject::Pod(old.clone(), new.clone()));
        assert_eq!(hint, expected, "{resource:?} {old:?} {new:?}");
    }
    let node = |cpu: &str, memory: &str| {
        let object = having(json!({"cpu": cpu, "memory": memory, "pods": "9"}));
        Arc::new(serde_json::from_value(object).unwrap())
    };
    for (old, new, expected) in [
        (None, node("1", "1"), Hint::Queue),
        (None, node("500m", "1"), Hint::Skip),
        (Some(node("500m", "1")), node("1", "1"), Hint::Queue),
        (Some(node("1", "1")), node("1", "2"), Hint::Skip),
    ] {
        let subject = Subject::Node(old, Some(new));
        assert_eq!(hint_after(&wants, Resource::Node, subject), expected);
    }
}
