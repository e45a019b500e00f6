use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;

fn member(uid: &str, group: &str, replica: Option<&str>) -> PodInfo {
    let object = json!({"metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": {
        "containers": [], "workloadRef": {"name": "w", "podGroup": group,
            "podGroupReplicaKey": replica}}});
    PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()))
}

fn workload(groups: &Value) -> Object {
    let workload = json!({"metadata": {"name": "w", "namespace": "default"},
        "spec": {"podGroups": groups}});
    Object::Workload(None, Some(Arc::new(serde_json::from_value(workload).unwrap())))
}

#[test]
fn members_wait_for_the_workload_and_for_each_other() {
    let mut cache = Cache::default();
    let say = |cache: &Cache, pod: &PodInfo| {
        GangScheduling.pre_enqueue(pod, cache.snapshot()).err().map(|r| r.message())
    };
    let (a, b) = (member("a", "gang", None), member("b", "gang", None));
    let missing = "waiting for pods's workload \"w\" to appear in scheduling queue";
    assert_eq!(say(&cache, &a).as_deref(), Some(missing));
    cache.apply(&workload(&json!([
        {"name": "gang", "policy": {"gang": {"minCount": 2}}},
        {"name": "free", "policy": {"basic": {}}},
        {"name": "odd", "policy": {"gang": {"minCount": -3}}},
    ])));
    let few = "waiting for minCount pods from a gang to appear in scheduling queue";
    assert!(cache.join_group(&a) && !cache.join_group(&a));
    assert_eq!(say(&cache, &a).as_deref(), Some(few));
    // One of another copy does not count.
    cache.join_group(&member("c", "gang", Some("1")));
    assert_eq!(say(&cache, &a).as_deref(), Some(few));
    cache.join_group(&b);
    assert_eq!(say(&cache, &a), None);
    cache.leave_group(&b);
    assert_eq!(say(&cache, &a).as_deref(), Some(few));
    assert_eq!(say(&cache, &member("d", "free", None)), None);
    assert_eq!(say(&cache, &member("d", "odd", None)), None);
    assert_eq!(
        say(&cache, &member("d", "nope", None)).as_deref(),
        Some("pod group \"nope\" doesn't exist for a workload \"w\"")
    );
    assert_eq!(say(&cache, &crate::plugins::testing::pod(json!({}))), None);
}

#[test]
fn hints_are_for_the_own_group() {
    let cache = Cache::default();
    let pod = member("a", "gang", None);
    let hint = |pod: &PodInfo, resource, subject| {
        let event = ClusterEvent::new(resource, Action::ADD);
        GangScheduling.hint(pod, &Occurrence { event, subject }, cache.snapshot())
    };
    let added = |pod: PodInfo| Subject::Pod(None, Some(Arc::new(pod)));
    let unscheduled = Resource::UnscheduledPod;
    assert_eq!(hint(&pod, unscheduled, added(member("b", "gang", None))), Hint::Queue);
    assert_eq!(hint(&pod, unscheduled, added(member("b", "gang", Some("1")))), Hint::Skip);
    assert_eq!(hint(&pod, unscheduled, added(member("b", "other", None))), Hint::Skip);
    let alone = || crate::plugins::testing::pod(json!({}));
    assert_eq!(hint(&pod, unscheduled, added(alone())), Hint::Skip);
    assert_eq!(hint(&alone(), unscheduled, added(member("b", "gang", None))), Hint::Skip);
    let named = |name: &str| {
        let workload = json!({"metadata": {"name": name, "namespace": "default"},
            "spec": {"podGroups": []}});
        let workload = serde_json::from_value(workload).unwrap();
        Subject::Object(Object::Workload(None, Some(Arc::new(workload))))
    };
    assert_eq!(hint(&pod, Resource::Workload, named("w")), Hint::Queue);
    assert_eq!(hint(&pod, Resource::Workload, named("v")), Hint::Skip);
}
