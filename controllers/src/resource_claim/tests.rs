use serde_json::{Value, json};

use super::reservation::{Plan, plan};
use super::*;

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str) -> Pod {
    from(json!({"metadata": {"name": name, "namespace": "default", "uid": "u"}, "spec": {
        "containers": [], "resourceClaims": [
            {"name": "gpu", "resourceClaimTemplateName": "t"},
            {"name": "own", "resourceClaimName": "c"}]}}))
}

fn template() -> ResourceClaimTemplate {
    from(json!({"metadata": {"name": "t", "namespace": "default"}, "spec": {
        "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "x"}}]}}}}))
}

#[test]
fn claims_are_made_as_the_template_says() {
    let pod = pod("p");
    let wanted: Vec<_> = from_templates(&pod).collect();
    assert_eq!(wanted.len(), 1);
    let claim = draft(&pod, wanted[0], &template());
    assert_eq!(
        serde_json::to_value(&claim).unwrap(),
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": {"generateName": "p-gpu-", "namespace": "default", "labels": {"a": "b"},
                "annotations": {"c": "d", "resource.kubernetes.io/pod-claim-name": "gpu"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u",
                    "controller": true, "blockOwnerDeletion": true}]},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "x"}}]}}})
    );
    let long = draft(&self::pod(&"p".repeat(253)), wanted[0], &template());
    let name = long.metadata.generate_name.unwrap();
    assert!(name.len() == 57 && name.ends_with('-'), "{name}");
    let mut made = claim;
    made.metadata.name = Some("p-gpu-x".to_owned());
    let find = |claim: &ResourceClaim| made_for(&pod, wanted[0], &[Arc::new(claim.clone())]);
    assert_eq!(find(&made).as_deref(), Some("p-gpu-x"));
    let mut others = made.clone();
    others.metadata.owner_references.as_mut().unwrap()[0].uid = "other".to_owned();
    assert_eq!(find(&others), None);
    let mut going = made.clone();
    going.metadata.deletion_timestamp = from(json!("2025-01-01T00:00:00Z"));
    assert_eq!(find(&going), None);
}

fn claim(
    reserved_for: &[&str],
    is_allocated: bool,
    is_owned: bool,
    is_going: bool,
) -> ResourceClaim {
    let consumers: Vec<Value> = reserved_for
        .iter()
        .map(|name| json!({"resource": "pods", "name": name, "uid": name}))
        .collect();
    let owners = json!([{"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "gone",
        "controller": true}]);
    from(json!({
        "metadata": {"name": "c", "namespace": "default",
            "finalizers": is_allocated.then_some(["resource.kubernetes.io/delete-protection"]),
            "ownerReferences": is_owned.then_some(owners),
            "deletionTimestamp": is_going.then_some("2025-01-01T00:00:00Z")},
        "spec": {},
        "status": {"reservedFor": consumers, "allocation": is_allocated.then_some(json!({}))}}))
}

#[test]
fn reservations_end_with_their_pods() {
    let run = |claim: &ResourceClaim| plan(claim, |name, _| name.starts_with("live"));
    let nothing = Plan::default();
    for (claim, expected) in [
        (claim(&["live"], true, false, false), nothing.clone()),
        (claim(&["live"], true, true, true), nothing.clone()),
        // Allocated and not yet reserved: someone is about to.
        (claim(&[], true, false, false), nothing.clone()),
        (claim(&[], false, false, false), nothing.clone()),
        (
            claim(&["gone"], true, false, false),
            Plan { reserved_for: Some(vec![]), deallocate: true, unprotect: true, delete: false },
        ),
        (
            claim(&["gone"], true, true, false),
            Plan { reserved_for: Some(vec![]), deallocate: true, unprotect: true, delete: true },
        ),
        (
            claim(&[], true, false, true),
            Plan { deallocate: true, unprotect: true, ..Plan::default() },
        ),
        (claim(&[], false, true, false), Plan { delete: true, ..Plan::default() }),
    ] {
        assert_eq!(run(&claim), expected, "{claim:?}");
    }
    let left = run(&claim(&["gone", "live"], true, false, false));
    assert_eq!(left.reserved_for.as_ref().map(Vec::len), Some(1));
    assert!(!left.deallocate && !left.unprotect && !left.delete);
    let mut foreign = claim(&["gone"], true, false, false);
    foreign.status.as_mut().unwrap().reserved_for.as_mut().unwrap()[0].resource = "jobs".to_owned();
    assert_eq!(run(&foreign), nothing);
}
