//! Health, taints and zones, by tables.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::health::{Grace, observe, ready, unknown_conditions};
use super::taints::{Eviction, taints, wants_eviction};
use super::zone::Zones;
use crate::Config;

const GRACE: Grace = Grace { monitor: Duration::from_secs(50), startup: Duration::from_secs(60) };

fn at(seconds: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn node(conditions: &Value, spec: &Value) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
        "status": {"conditions": conditions},
    }))
    .unwrap()
}

fn ready_node() -> Node {
    node(&json!([{"type": "Ready", "status": "True", "reason": "KubeletReady"}]), &json!({}))
}

fn lease(renewed: i64) -> Lease {
    // Far off this side's clock, as a node's may be.
    let time = at(renewed + 100_000).to_string();
    let time = time.replace('Z', ".000000Z");
    serde_json::from_value(json!({"spec": {"renewTime": time}})).unwrap()
}

#[test]
fn a_node_is_silent_when_neither_lease_nor_heartbeat_changes() {
    let node = ready_node();
    let mut health = observe(None, &node, Some(&lease(0)), at(1000));
    for tick in 1..10 {
        health = observe(Some(&health), &node, Some(&lease(tick)), at(1000 + tick * 10));
        assert_eq!(unknown_conditions(&node, &health, GRACE, at(1000 + tick * 10)), None);
    }
    // The last renewal was seen at 1090.
    let still = observe(Some(&health), &node, Some(&lease(9)), at(1140));
    assert_eq!(unknown_conditions(&node, &still, GRACE, at(1140)), None);
    let conditions = unknown_conditions(&node, &still, GRACE, at(1141)).unwrap();
    assert_eq!(conditions.len(), 4);
    let found = &conditions[0];
    assert_eq!((found.type_.as_str(), found.status.as_str()), ("Ready", "Unknown"));
    assert_eq!(found.reason.as_deref(), Some("NodeStatusUnknown"));
    assert_eq!(found.message.as_deref(), Some("Kubelet stopped posting node status."));
    assert_eq!(conditions[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
    let mut silent = node.clone();
    silent.status.as_mut().unwrap().conditions = Some(conditions);
    assert_eq!(ready(&silent), "Unknown");
    assert_eq!(unknown_conditions(&silent, &still, GRACE, at(9999)), None);
}

#[test]
fn a_node_that_never_reported_has_the_startup_grace_from_its_creation() {
    let node = node(&json!([]), &json!({}));
    let health = observe(None, &node, None, at(30));
    assert_eq!(unknown_conditions(&node, &health, GRACE, at(60)), None);
    let conditions = unknown_conditions(&node, &health, GRACE, at(61)).unwrap();
    assert!(conditions.iter().all(|c| c.reason.as_deref() == Some("NodeStatusNeverUpdated")));
}

#[test]
fn taints_follow_the_conditions_and_spare_those_of_others() {
    let own = json!([{"key": "dedicated", "effect": "NoSchedule"}]);
    let stale = json!([
        {"key": "dedicated", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
    ]);
    let cases = [
        (
            json!([{"type": "Ready", "status": "True"}]),
            json!({"taints": stale}),
            vec!["dedicated:NoSchedule"],
        ),
        (
            json!([{"type": "Ready", "status": "False"}]),
            json!({"taints": own}),
            vec![
                "dedicated:NoSchedule",
                "node.kubernetes.io/not-ready:NoSchedule",
                "node.kubernetes.io/not-ready:NoExecute",
            ],
        ),
        (
            json!([{"type": "Ready", "status": "Unknown"}, {"type": "DiskPressure", "status": "Unknown"}]),
            json!({}),
            vec![
                "node.kubernetes.io/unreachable:NoSchedule",
                "node.kubernetes.io/unreachable:NoExecute",
            ],
        ),
        (
            json!([{"type": "Ready", "status": "True"}, {"type": "MemoryPressure", "status": "True"}]),
            json!({"unschedulable": true}),
            vec![
                "node.kubernetes.io/memory-pressure:NoSchedule",
                "node.kubernetes.io/unschedulable:NoSchedule",
            ],
        ),
    ];
    for (conditions, spec, expected) in cases {
        let mut node = node(&conditions, &spec);
        let found = taints(&node, Eviction::Allowed, at(0)).unwrap();
        let names: Vec<String> =
            found.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
        assert_eq!(names, expected);
        node.spec.as_mut().unwrap().taints = Some(found);
        assert_eq!(taints(&node, Eviction::Limited, at(1)), None, "it settles");
        assert!(!wants_eviction(&node));
    }
}

#[test]
fn the_zones_rate_bounds_eviction() {
    let down = |count: usize, of: usize| -> Vec<Arc<Node>> {
        let status = |n| if n < count { "Unknown" } else { "True" };
        let make = |n| node(&json!([{"type": "Ready", "status": status(n)}]), &json!({}));
        (0..of).map(|n| Arc::new(make(n))).collect()
    };
    let config = Config::default();
    let mut zones = Zones::default();

    // One of four: at once, then one each ten seconds.
    let nodes = down(1, 4);
    zones.update(&nodes, &config);
    assert_eq!(zones.take(&nodes[0], at(0)), Eviction::Allowed);
    assert_eq!(zones.take(&nodes[0], at(5)), Eviction::Limited);
    assert_eq!(zones.take(&nodes[0], at(10)), Eviction::Allowed);

    // Three of four in a small cluster: not at all.
    let nodes = down(3, 4);
    zones.update(&nodes, &config);
    assert_eq!(zones.take(&nodes[0], at(1000)), Eviction::Limited);

    // Most of a large one: slowly.
    let nodes = down(40, 60);
    zones.update(&nodes, &config);
    assert_eq!(zones.take(&nodes[0], at(2000)), Eviction::Allowed);
    assert_eq!(zones.take(&nodes[0], at(2050)), Eviction::Limited);
    assert_eq!(zones.take(&nodes[0], at(2100)), Eviction::Allowed);

    // All of them: it is us.
    let nodes = down(4, 4);
    zones.update(&nodes, &config);
    assert_eq!(zones.take(&nodes[0], at(5000)), Eviction::Stopped);
    assert_eq!(zones.standing(), Eviction::Stopped);
    let mut tainted = (*nodes[0]).clone();
    tainted.spec.as_mut().unwrap().taints = taints(&tainted, Eviction::Allowed, at(0));
    let left = taints(&tainted, Eviction::Stopped, at(0)).unwrap();
    assert!(left.iter().all(|taint| taint.effect == "NoSchedule"));
}
