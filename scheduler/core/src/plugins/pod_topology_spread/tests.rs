#![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cache::{Cache, Object};
use crate::framework::{Action, Code, Resource, Subject};
use crate::plugins::testing::all_scores;

/// Nodes by name and zone (`-` for none), with so many pods labelled `app: x` on each.
fn cluster(nodes: &[(&str, &str, usize)]) -> Cache {
    let mut cache = Cache::default();
    for (name, zone, pods) in nodes {
        let mut labels = json!({"kubernetes.io/hostname": name});
        if *zone != "-" {
            labels["zone"] = json!(zone);
        }
        let node = json!({"metadata": {"name": name, "labels": labels}});
        cache.set_node(Arc::new(serde_json::from_value(node).unwrap()));
        for n in 0..*pods {
            cache.set_pod(resident(&format!("{name}-{n}"), name, json!({})));
        }
    }
    cache
}

fn resident(uid: &str, node: &str, extra: Value) -> Arc<PodInfo> {
    let mut metadata = json!({"name": uid, "uid": uid, "namespace": "default",
        "labels": {"app": "x"}});
    for (name, value) in extra.as_object().unwrap() {
        metadata[name] = value.clone();
    }
    let pod = json!({"metadata": metadata, "spec": {"nodeName": node, "containers": []}});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
}

fn pod(constraints: Value) -> PodInfo {
    pod_with(constraints, json!({}))
}

fn pod_with(constraints: Value, extra: Value) -> PodInfo {
    let mut spec = json!({"containers": [], "topologySpreadConstraints": constraints});
    for (name, value) in extra.as_object().unwrap() {
        spec[name] = value.clone();
    }
    let pod = json!({"metadata": {"name": "p", "uid": "p", "namespace": "default",
        "labels": {"app": "x"}}, "spec": spec});
    PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()))
}

fn constraint(key: &str, when: &str, max_skew: i32) -> Value {
    json!({"topologyKey": key, "whenUnsatisfiable": when, "maxSkew": max_skew,
        "labelSelector": {"matchLabels": {"app": "x"}}})
}

fn with(mut constraint: Value, name: &str, value: Value) -> Value {
    constraint[name] = value;
    constraint
}

/// For each node in order: `.` feasible, `u` unschedulable, `!` unresolvable.
fn verdicts(cache: &Cache, pod: &PodInfo) -> String {
    verdicts_of(&PodTopologySpread::default(), cache, pod)
}

fn verdicts_of(plugin: &PodTopologySpread, cache: &Cache, pod: &PodInfo) -> String {
    let nodes = cache.snapshot().nodes();
    match plugin.pre_filter(pod, cache.snapshot()) {
        PreFilter::Skip => ".".repeat(nodes.len()),
        PreFilter::Reject(_) => "!".repeat(nodes.len()),
        PreFilter::Filter { filter, .. } => nodes
            .iter()
            .map(|node| match filter.filter(node).map_err(|rejection| rejection.code()) {
                Ok(()) => '.',
                Err(Code::Unschedulable) => 'u',
                Err(_) => '!',
            })
            .collect(),
    }
}

#[test]
fn skew_refuses_full_domains() {
    let zonal = |max_skew| pod(json!([constraint("zone", DO_NOT_SCHEDULE, max_skew)]));
    // Zone a holds 3, zone b 2 with one node of 0.
    let cache = cluster(&[("1", "a", 1), ("2", "a", 2), ("3", "b", 2), ("4", "b", 0)]);
    assert_eq!(verdicts(&cache, &zonal(1)), "uu..");
    assert_eq!(verdicts(&cache, &zonal(2)), "....");
    let by_host = pod(json!([constraint(HOSTNAME, DO_NOT_SCHEDULE, 1)]));
    assert_eq!(verdicts(&cache, &by_host), "uuu.");
    let both = pod(json!([
        constraint("zone", DO_NOT_SCHEDULE, 1),
        constraint(HOSTNAME, DO_NOT_SCHEDULE, 2)
    ]));
    assert_eq!(verdicts(&cache, &both), "uuu.");
}

#[test]
fn a_node_without_the_key_is_unresolvable_and_no_domain() {
    let cache = cluster(&[("1", "a", 1), ("2", "-", 0)]);
    let zonal = pod(json!([constraint("zone", DO_NOT_SCHEDULE, 1)]));
    assert_eq!(verdicts(&cache, &zonal), ".!");
}

#[test]
fn a_pod_that_does_not_select_itself_adds_nothing() {
    let cache = cluster(&[("1", "a", 1), ("2", "b", 0)]);
    let others = with(
        constraint("zone", DO_NOT_SCHEDULE, 1),
        "labelSelector",
        json!({"matchLabels": {"app": "y"}}),
    );
    assert_eq!(verdicts(&cache, &pod(json!([others]))), "..");
    // No selector selects nothing.
    let none = with(constraint("zone", DO_NOT_SCHEDULE, 1), "labelSelector", Value::Null);
    assert_eq!(verdicts(&cache, &pod(json!([none]))), "..");
}

#[test]
fn too_few_domains_measure_from_zero() {
    let cache = cluster(&[("1", "a", 1), ("2", "b", 1)]);
    let at_least = |min: i32| {
        let zonal = constraint("zone", DO_NOT_SCHEDULE, 1);
        pod(json!([with(zonal, "minDomains", json!(min))]))
    };
    assert_eq!(verdicts(&cache, &at_least(2)), "..");
    assert_eq!(verdicts(&cache, &at_least(3)), "uu");
}

#[test]
fn policies_choose_the_domains() {
    let mut cache = cluster(&[("1", "a", 1), ("2", "b", 0)]);
    let tainted = json!({"metadata": {"name": "2", "labels": {"zone": "b",
        "kubernetes.io/hostname": "2"}}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    cache.set_node(Arc::new(serde_json::from_value(tainted).unwrap()));
    let zonal = || constraint("zone", DO_NOT_SCHEDULE, 1);
    // By default taints are ignored: zone b is the emptiest.
    assert_eq!(verdicts(&cache, &pod(json!([zonal()]))), "u.");
    let honoring = with(zonal(), "nodeTaintsPolicy", json!("Honor"));
    assert_eq!(verdicts(&cache, &pod(json!([honoring]))), "..");
    // By default affinity is honoured: zone b does not count.
    let in_a = json!({"nodeSelector": {"zone": "a"}});
    assert_eq!(verdicts(&cache, &pod_with(json!([zonal()]), in_a.clone())), "..");
    let ignoring = with(zonal(), "nodeAffinityPolicy", json!("Ignore"));
    assert_eq!(verdicts(&cache, &pod_with(json!([ignoring]), in_a)), "u.");
}

#[test]
fn other_namespaces_and_leaving_pods_do_not_count() {
    let mut cache = cluster(&[("1", "a", 0), ("2", "b", 0)]);
    cache.set_pod(resident("o", "1", json!({"namespace": "other"})));
    cache.set_pod(resident("l", "1", json!({"deletionTimestamp": "2025-01-01T00:00:00Z"})));
    let zonal = pod(json!([constraint("zone", DO_NOT_SCHEDULE, 1)]));
    assert_eq!(verdicts(&cache, &zonal), "..");
    cache.set_pod(resident("c", "1", json!({})));
    assert_eq!(verdicts(&cache, &zonal), "u.");
    // Pods of another revision do not count with matchLabelKeys.
    let keyed = with(constraint("zone", DO_NOT_SCHEDULE, 1), "matchLabelKeys", json!(["app"]));
    let any = with(keyed, "labelSelector", json!({}));
    assert_eq!(verdicts(&cache, &pod(json!([any.clone()]))), "u.");
    cache.set_pod(resident("c", "1", json!({"labels": {"app": "old"}})));
    assert_eq!(verdicts(&cache, &pod(json!([any]))), "..");
}

/// Raw and normalised scores of all nodes.
fn scores(cache: &Cache, pod: &PodInfo) -> Option<(Vec<i64>, Vec<i64>)> {
    all_scores(&PodTopologySpread::default(), cache, pod)
}

#[test]
fn soft_constraints_prefer_empty_domains() {
    let cache = cluster(&[("1", "a", 3), ("2", "a", 0), ("3", "b", 1), ("4", "-", 0)]);
    assert_eq!(scores(&cache, &pod(json!([]))), None);
    // Two domains: ln 4 = 1.386. Zone a: 3 * 1.386 = 4.16, zone b: 1.386; 100*(4+1-1)/4.
    let zonal = pod(json!([constraint("zone", SCHEDULE_ANYWAY, 1)]));
    assert_eq!(scores(&cache, &zonal), Some((vec![4, 4, 1, 0], vec![25, 25, 100, 0])));
    // Four hosts: ln 6 = 1.792, and maxSkew 3 adds 2.
    let by_host = pod(json!([constraint(HOSTNAME, SCHEDULE_ANYWAY, 3)]));
    assert_eq!(scores(&cache, &by_host), Some((vec![7, 2, 4, 2], vec![28, 100, 71, 100])));
}

#[test]
fn when_nothing_is_there_yet_all_are_best() {
    let cache = cluster(&[("1", "a", 0), ("2", "b", 0)]);
    let zonal = pod(json!([constraint("zone", SCHEDULE_ANYWAY, 1)]));
    assert_eq!(scores(&cache, &zonal), Some((vec![0, 0], vec![100, 100])));
}

#[test]
fn a_selector_without_conditions_counts_only_the_pod_itself() {
    let cache = cluster(&[("1", "a", 2), ("2", "b", 0)]);
    let all = with(constraint("zone", DO_NOT_SCHEDULE, 1), "labelSelector", json!({}));
    assert_eq!(verdicts(&cache, &pod(json!([all]))), "..");
    let none = with(constraint("zone", SCHEDULE_ANYWAY, 1), "labelSelector", json!({}));
    assert_eq!(scores(&cache, &pod(json!([none]))).unwrap().0, [0, 0]);
    // Keys add nothing to no selector.
    let keyed = with(constraint("zone", DO_NOT_SCHEDULE, 1), "labelSelector", Value::Null);
    let keyed = with(keyed, "matchLabelKeys", json!(["app"]));
    assert_eq!(verdicts(&cache, &pod(json!([keyed]))), "..");
}

fn service(cache: &mut Cache, selector: Value) {
    let service = json!({"metadata": {"name": "s", "namespace": "default"},
        "spec": {"selector": selector}});
    let service = Arc::new(serde_json::from_value(service).unwrap());
    cache.apply(&Object::Service(None, Some(service)));
}

#[test]
fn pods_that_share_a_service_are_spread_by_default() {
    let mut cache = cluster(&[("1", "a", 3), ("2", "-", 1), ("3", "-", 0)]);
    let plain = pod(json!([]));
    assert_eq!(scores(&cache, &plain), None);
    service(&mut cache, json!({"app": "y"}));
    assert_eq!(scores(&cache, &plain), None);
    service(&mut cache, Value::Null);
    assert_eq!(scores(&cache, &plain), None);
    service(&mut cache, json!({"app": "x"}));
    // By host, of three: ln 5 = 1.609 and 2 for the skew of 3. The nodes are in no zone by the key of
    // the defaults, and take part all the same.
    assert_eq!(scores(&cache, &plain), Some((vec![7, 4, 2], vec![28, 71, 100])));
    // Who says anything about spreading gets no defaults.
    let own = pod(json!([constraint("zone", DO_NOT_SCHEDULE, 9)]));
    assert_eq!(scores(&cache, &own), None);
}

#[test]
fn zones_of_the_defaults_have_a_skew_of_five() {
    let mut cache = Cache::default();
    for (name, zone) in [("1", "a"), ("2", "a"), ("3", "b")] {
        let labels = json!({"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone});
        let node = json!({"metadata": {"name": name, "labels": labels}});
        cache.set_node(Arc::new(serde_json::from_value(node).unwrap()));
    }
    cache.set_pod(resident("x", "1", json!({})));
    service(&mut cache, json!({"app": "x"}));
    // Host: 1.609 n + 2. Zone, of two: 1.386 n + 4.
    assert_eq!(scores(&cache, &pod(json!([]))).unwrap().0, [9, 7, 6]);
}

#[test]
fn the_list_of_the_configuration_may_refuse() {
    let mut cache = cluster(&[("1", "a", 1), ("2", "b", 0), ("3", "-", 0)]);
    service(&mut cache, json!({"app": "x"}));
    let list = |kind: &str| {
        let constraint = json!([{"topologyKey": "zone", "whenUnsatisfiable": kind, "maxSkew": 1}]);
        PodTopologySpread { defaults: Defaults::List(serde_json::from_value(constraint).unwrap()) }
    };
    let plain = pod(json!([]));
    assert_eq!(verdicts_of(&list(DO_NOT_SCHEDULE), &cache, &plain), "u.!");
    // Unlike the system's, these want all keys: node 3 is left out.
    let scored = all_scores(&list(SCHEDULE_ANYWAY), &cache, &plain);
    assert_eq!(scored, Some((vec![1, 0, 0], vec![0, 100, 0])));
}

#[test]
fn controllers_select_as_services_do() {
    let mut cache = cluster(&[("1", "a", 1), ("2", "b", 0)]);
    let mut object = (*pod(json!([])).pod).clone();
    let owner = |version: &str, kind: &str, controller: bool| {
        json!([{"apiVersion": version, "kind": kind, "name": "o", "uid": "o",
            "controller": controller}])
    };
    let mut by = |owner: Value| {
        object.metadata.owner_references = serde_json::from_value(owner).unwrap();
        PodInfo::new(Arc::new(object.clone()))
    };
    let metadata = json!({"name": "o", "namespace": "default"});
    let replica_set = json!({"metadata": metadata,
        "spec": {"selector": {"matchLabels": {"app": "x"}}}});
    let replica_set = Arc::new(serde_json::from_value(replica_set).unwrap());
    cache.apply(&Object::ReplicaSet(None, Some(replica_set)));
    let controller = json!({"metadata": metadata, "spec": {"selector": {"app": "x"}}});
    let controller = Arc::new(serde_json::from_value(controller).unwrap());
    cache.apply(&Object::ReplicationController(None, Some(controller)));
    for (owner, is_spread) in [
        (owner("apps/v1", "ReplicaSet", true), true),
        (owner("v1", "ReplicationController", true), true),
        (owner("apps/v1", "ReplicaSet", false), false),
        (owner("apps/v1", "StatefulSet", true), false),
        (owner("extensions/v1beta1", "ReplicaSet", true), false),
    ] {
        let scored = scores(&cache, &by(owner.clone()));
        assert_eq!(scored.is_some_and(|(raw, _)| raw == [3, 2]), is_spread, "{owner}");
    }
}

fn hint_after(pod: &PodInfo, subject: Subject) -> Hint {
    let event = ClusterEvent::new(Resource::AssignedPod, Action::ALL);
    let occurrence = Occurrence { event, subject };
    PodTopologySpread::default().hint(pod, &occurrence, &Snapshot::default())
}

#[test]
fn what_is_spread_wakes() {
    let zonal = pod(json!([constraint("zone", DO_NOT_SCHEDULE, 1)]));
    let other = |node: &str, app: &str| Some(resident("o", node, json!({"labels": {"app": app}})));
    let elsewhere = Some(resident("o", "n", json!({"namespace": "other"})));
    for (old, new, expected) in [
        (None, other("n", "x"), Hint::Queue),
        (None, other("n", "y"), Hint::Skip),
        (None, elsewhere, Hint::Skip),
        (other("n", "x"), None, Hint::Queue),
        (other("n", "x"), other("n", "y"), Hint::Queue),
        (other("n", "x"), other("n", "x"), Hint::Skip),
    ] {
        let hint = hint_after(&zonal, Subject::Pod(old.clone(), new.clone()));
        assert_eq!(hint, expected, "{old:?} {new:?}");
    }
    let node = |zone: &str, taints: Value| {
        let mut node = json!({"metadata": {"name": "n", "labels": {}}, "spec": {"taints": taints}});
        if zone != "-" {
            node["metadata"]["labels"]["zone"] = json!(zone);
        }
        Some(Arc::new(serde_json::from_value(node).unwrap()))
    };
    let tainted = json!([{"key": "k", "effect": "NoSchedule"}]);
    for (old, new, expected) in [
        (None, node("a", json!([])), Hint::Queue),
        (None, node("-", json!([])), Hint::Skip),
        (node("a", json!([])), None, Hint::Queue),
        (node("a", json!([])), node("-", json!([])), Hint::Queue),
        (node("a", json!([])), node("b", json!([])), Hint::Queue),
        (node("a", json!([])), node("a", json!([])), Hint::Skip),
        (node("a", json!([])), node("a", tainted.clone()), Hint::Queue),
        (node("-", json!([])), node("-", tainted), Hint::Skip),
    ] {
        assert_eq!(hint_after(&zonal, Subject::Node(old.clone(), new.clone())), expected);
    }
}
