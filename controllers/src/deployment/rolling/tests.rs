//! The arithmetic, by tables.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::*;

fn deployment(replicas: i32, strategy: &Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": strategy,
            "template": {"metadata": {"labels": {"app": "web"}}},
        },
    }))
    .unwrap()
}

fn rolling(replicas: i32, surge: &Value, unavailable: &Value) -> Deployment {
    let update = json!({"maxSurge": surge, "maxUnavailable": unavailable});
    deployment(replicas, &json!({"type": "RollingUpdate", "rollingUpdate": update}))
}

/// A ReplicaSet of this age (smaller is older), size and availability, last scaled at `noted`
/// replicas with `max` at most.
fn draft(age: u32, replicas: i32, available: i32, noted: i32, max: i32) -> Draft {
    Draft::of(Arc::new(
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("web-{age}"),
                "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z"),
                "annotations": {
                    DESIRED_REPLICAS: noted.to_string(), MAX_REPLICAS: max.to_string(),
                },
            },
            "spec": {"replicas": replicas, "selector": {}},
            "status": {"replicas": replicas, "availableReplicas": available},
        }))
        .unwrap(),
    ))
}

#[test]
fn fenceposts_round_as_upstream_does() {
    let cases = [
        (10, json!("25%"), json!("25%"), (3, 2)),
        (1, json!("25%"), json!("25%"), (1, 0)),
        (3, json!(0), json!("1%"), (0, 1)),
        (3, json!(0), json!(0), (0, 1)),
        (4, json!("100%"), json!("50%"), (4, 2)),
        (2, json!(5), json!(7), (5, 2)),
        (0, json!("25%"), json!("25%"), (0, 0)),
    ];
    for (replicas, surge, unavailable, expected) in cases {
        let deployment = rolling(replicas, &surge, &unavailable);
        let found = (max_surge(&deployment), max_unavailable(&deployment));
        assert_eq!(found, expected, "{replicas} {surge} {unavailable}");
    }
    let recreate = deployment(4, &json!({"type": "Recreate"}));
    assert_eq!((max_surge(&recreate), max_unavailable(&recreate)), (0, 0));
}

#[test]
fn the_new_one_grows_into_the_surge() {
    let deployment = rolling(10, &json!(3), &json!(2));
    // (old, new, expected)
    for (old, new, expected) in [(10, 0, 3), (8, 3, 5), (13, 0, 0), (2, 8, 10), (0, 0, 10)] {
        let old = [draft(1, old, old, 10, 13)];
        assert_eq!(new_size(&deployment, &old, &draft(2, new, 0, 10, 13)), expected);
    }
}

#[test]
fn old_ones_shrink_as_availability_allows() {
    // 10 replicas, 2 may be unavailable: (old size, old available, new size, new available) -> old.
    let cases = [
        // Nothing new is available: 13 - 8 - 3 = 2 may go.
        ((10, 10, 3, 0), 8),
        // The new ones are: 5 may go.
        ((10, 10, 3, 3), 5),
        // The upstream example: new ones crash, an old one is lost, nothing may go.
        ((8, 7, 5, 0), 8),
        // Unhealthy old ones go first, beyond what availability alone allowed.
        ((10, 4, 3, 3), 5),
        ((0, 0, 10, 10), 0),
    ];
    for ((size, available, new_size, new_available), expected) in cases {
        let deployment = rolling(10, &json!(3), &json!(2));
        let mut old = [draft(1, size, available, 10, 13)];
        let new = draft(2, new_size, new_available, 10, 13);
        reconcile_old(&deployment, &mut old, &new);
        assert_eq!(old[0].replicas, expected, "{size}/{available} {new_size}/{new_available}");
    }
}

#[test]
fn a_status_that_lags_does_not_scale_down_too_far() {
    let deployment = rolling(10, &json!(3), &json!(2));
    // 10 were available before the old one was scaled to 8; the status still says so.
    let mut old = [draft(1, 8, 10, 10, 13)];
    reconcile_old(&deployment, &mut old, &draft(2, 5, 1, 10, 13));
    // 8 + 1 - 8: one may go; taking the status as it is would let 3 go.
    assert_eq!(old[0].replicas, 7);
    // The status says that it is of an earlier size: nothing goes.
    let mut old = [draft(1, 8, 8, 10, 13)];
    let mut stored = (*old[0].stored).clone();
    stored.metadata.generation = Some(3);
    stored.status.as_mut().unwrap().observed_generation = Some(2);
    old[0] = Draft::of(Arc::new(stored));
    reconcile_old(&deployment, &mut old, &draft(2, 5, 5, 10, 13));
    assert_eq!(old[0].replicas, 8);
}

#[test]
fn scaling_amid_a_rollout_is_shared_in_proportion() {
    // 10 replicas + surge 3 at 8 old + 5 new; now 20 (max 23): 10 more.
    let deployment = rolling(20, &json!(3), &json!(2));
    let mut old = [draft(1, 8, 8, 10, 13)];
    let mut new = draft(2, 5, 5, 10, 13);
    scale(&deployment, &mut old, Some(&mut new));
    assert_eq!((old[0].replicas, new.replicas), (14, 9));

    // Down to 5 (max 8): the largest takes the remainder.
    let deployment = rolling(5, &json!(3), &json!(2));
    let mut old = [draft(1, 8, 8, 10, 13)];
    let mut new = draft(2, 5, 5, 10, 13);
    scale(&deployment, &mut old, Some(&mut new));
    assert_eq!((old[0].replicas, new.replicas), (5, 3));

    // To nothing.
    let deployment = rolling(0, &json!(3), &json!(2));
    let mut old = [draft(1, 8, 8, 10, 13)];
    let mut new = draft(2, 5, 5, 10, 13);
    scale(&deployment, &mut old, Some(&mut new));
    assert_eq!((old[0].replicas, new.replicas), (0, 0));
}

#[test]
fn scaling_without_a_rollout_goes_to_the_only_one() {
    let deployment = rolling(7, &json!("25%"), &json!("25%"));
    let mut old = [draft(1, 0, 0, 3, 4)];
    let mut new = draft(2, 3, 3, 3, 4);
    assert!(is_scaling(&deployment, &[&old[0], &new]));
    scale(&deployment, &mut old, Some(&mut new));
    assert_eq!((old[0].replicas, new.replicas), (0, 7));
    assert!(!is_scaling(&deployment, &[&draft(1, 7, 7, 7, 9)]));
}
