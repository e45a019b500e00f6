//! Plans of a single ReplicaSet.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{BURST_REPLICAS, Failure, Scale, check_after, new_pod, scale, status};
use super::rank::sort_for_deletion;
use crate::owner::controller_of;

fn set(replicas: i32, min_ready_seconds: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "namespace": "default", "uid": "rs", "generation": 4},
        "spec": {
            "replicas": replicas,
            "minReadySeconds": min_ready_seconds,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c"}]},
            },
        },
    }))
    .unwrap()
}

/// A running, ready pod `uid` on node `n`, with the fields of `patch` instead.
fn pod(uid: &str, patch: &Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {
            "name": uid, "uid": uid, "labels": {"app": "web"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]},
    });
    merge(&mut value, patch);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn merge(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (Value::Object(value), Value::Object(patch)) => {
            for (key, patch) in patch {
                merge(value.entry(key.clone()).or_insert(Value::Null), patch);
            }
        }
        (value, patch) => *value = patch.clone(),
    }
}

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn not_ready() -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
}

#[test]
fn only_active_pods_count() {
    let pods = [
        pod("a", &json!({})),
        pod("b", &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:30:00Z"}})),
        pod("c", &json!({"status": {"phase": "Failed"}})),
    ];
    assert_eq!(scale(&set(3, 0), &pods, &pods, now()), Scale::Create(2));
    assert_eq!(scale(&set(1, 0), &pods, &pods, now()), Scale::Keep);
    assert_eq!(scale(&set(0, 0), &pods, &pods, now()), Scale::Delete(vec![Arc::clone(&pods[0])]));
    let mut going = set(3, 0);
    going.metadata.deletion_timestamp = set(0, 0)
        .metadata
        .creation_timestamp
        .clone()
        .or(Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now())));
    assert_eq!(scale(&going, &pods, &pods, now()), Scale::Keep);
    assert_eq!(scale(&set(9999, 0), &[], &[], now()), Scale::Create(BURST_REPLICAS));
}

#[test]
fn pods_are_deleted_in_upstreams_order() {
    // Each goes before all that follow it.
    let ready_at = |time: &str| {
        json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": time},
        ]}})
    };
    let ranked = [
        pod("unassigned", &json!({"spec": {"nodeName": ""}})),
        pod("pending", &json!({"status": {"phase": "Pending"}})),
        pod("not-ready", &not_ready()),
        pod(
            "cheap",
            &json!({"metadata": {"annotations": {
                "controller.kubernetes.io/pod-deletion-cost": "-5",
            }}}),
        ),
        pod("recently-ready", &ready_at("2026-01-01T00:59:00Z")),
        pod(
            "restarting",
            &json!({"status": {"containerStatuses": [{
                "name": "c", "restartCount": 3, "ready": true, "image": "", "imageID": "",
            }]}}),
        ),
        pod("young", &json!({"metadata": {"creationTimestamp": "2026-01-01T00:58:00Z"}})),
        pod("steady-a", &json!({})),
        pod("steady-b", &json!({})),
        pod(
            "dear",
            &json!({"metadata": {"annotations": {
                "controller.kubernetes.io/pod-deletion-cost": "100",
            }}}),
        ),
    ];
    let mut pods: Vec<Arc<Pod>> = ranked.iter().rev().cloned().collect();
    sort_for_deletion(&mut pods, &[], now());
    let names = |pods: &[Arc<Pod>]| -> Vec<String> {
        pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect()
    };
    assert_eq!(names(&pods), names(&ranked));
}

#[test]
fn a_node_with_more_of_them_gives_one_up_first() {
    let on = |uid: &str, node: &str| pod(uid, &json!({"spec": {"nodeName": node}}));
    let all = [on("a", "one"), on("b", "two"), on("c", "two")];
    let Scale::Delete(deleted) = scale(&set(2, 0), &all, &all, now()) else {
        panic!("no deletion")
    };
    assert_eq!(deleted[0].metadata.uid.as_deref(), Some("b"));
}

#[test]
fn min_ready_seconds_delays_availability() {
    let recent = json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:59:50Z"},
    ]}});
    let pods = [pod("a", &json!({})), pod("b", &recent), pod("c", &not_ready())];
    let found = status(&set(3, 30), &pods, None, now());
    assert_eq!(
        (found.replicas, found.ready_replicas, found.available_replicas),
        (3, Some(2), Some(1))
    );
    assert_eq!(found.observed_generation, Some(4));
    assert_eq!(check_after(&set(3, 30), &pods, now()), Some(Duration::from_secs(20)));
    assert_eq!(check_after(&set(3, 0), &pods, now()), None);
}

#[test]
fn a_failure_becomes_a_condition_and_goes_again() {
    let mut set = set(1, 0);
    let failure = Failure { reason: "FailedCreate", message: "pods is forbidden".to_owned() };
    let failed = status(&set, &[], Some(&failure), now());
    let conditions = failed.conditions.clone().unwrap();
    assert_eq!(conditions[0].type_, "ReplicaFailure");
    assert_eq!(conditions[0].reason.as_deref(), Some("FailedCreate"));
    set.status = Some(failed);
    assert_eq!(status(&set, &[], None, now()).conditions, None);
}

#[test]
fn a_new_pod_is_the_template_with_an_owner() {
    let pod = new_pod(&set(1, 0));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-1-"));
    assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
    let owner = controller_of(&pod.metadata).unwrap();
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("ReplicaSet", "rs"));
    assert_eq!(owner.api_version, "apps/v1");
}

proptest! {
    /// Applying the plan gives exactly the pods asked for, and never deletes a ready pod while it
    /// keeps one that is not.
    #[test]
    fn one_plan_reaches_the_number_and_spares_the_ready(
        ready in proptest::collection::vec(any::<bool>(), 0..12),
        replicas in 0..12_i32,
    ) {
        let pods: Vec<Arc<Pod>> = ready
            .iter()
            .enumerate()
            .map(|(n, ready)| {
                pod(&n.to_string(), &if *ready { json!({}) } else { not_ready() })
            })
            .collect();
        let wanted = usize::try_from(replicas).unwrap();
        match scale(&set(replicas, 0), &pods, &pods, now()) {
            Scale::Create(more) => prop_assert_eq!(pods.len() + more, wanted),
            Scale::Keep => prop_assert_eq!(pods.len(), wanted),
            Scale::Delete(gone) => {
                prop_assert_eq!(pods.len() - gone.len(), wanted);
                let gone_ready = gone.iter().any(|pod| crate::pod::is_ready(pod));
                let kept_unready =
                    pods.iter().any(|pod| !gone.contains(pod) && !crate::pod::is_ready(pod));
                prop_assert!(!(gone_ready && kept_unready));
            }
        }
    }
}
