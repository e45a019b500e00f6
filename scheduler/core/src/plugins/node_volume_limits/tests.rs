#![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::plugins::testing::{added, cluster, filter_in, pod, wakes};

const EBS: &str = "ebs.csi.aws.com";

fn claimed(claims: &[&str]) -> PodInfo {
    pod(json!({"volumes": volumes_of(claims)}))
}

fn volumes_of(claims: &[&str]) -> Value {
    let volume =
        |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
    claims.iter().map(volume).collect()
}

fn running(name: &str, claims: &[&str]) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": "a", "volumes": volumes_of(claims)}})
}

/// A claim bound to a volume of its name, of the driver `csi`.
fn bound(name: &str) -> [Value; 2] {
    let source = json!({"csi": {"driver": "csi", "volumeHandle": name}});
    [claim(name, json!({"volumeName": name})), volume(name, source)]
}

fn claim(name: &str, spec: Value) -> Value {
    json!({"kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
        "spec": spec})
}

fn volume(name: &str, spec: Value) -> Value {
    json!({"kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
}

fn csi_node(driver: &str, count: Value, migrated: &str) -> Value {
    json!({"kind": "CSINode", "metadata": {"name": "a", "annotations":
            {"storage.alpha.kubernetes.io/migrated-plugins": migrated}},
        "spec": {"drivers": [{"name": driver, "nodeID": "a", "allocatable": {"count": count}}]}})
}

fn attachment(volume: &str, node: &str) -> Value {
    json!({"kind": "VolumeAttachment", "metadata": {"name": volume}, "spec": {"attacher": "csi",
        "nodeName": node, "source": {"persistentVolumeName": volume}}})
}

fn answer(pod: &PodInfo, objects: &[Value]) -> Verdict {
    let node = json!({"kind": "Node", "metadata": {"name": "a"}});
    let objects = objects.iter().cloned().chain([node]).collect();
    filter_in(&cluster(objects), &NodeVolumeLimits, pod, "a")
}

fn exceeded() -> Verdict {
    Err(Rejection::unschedulable("node(s) exceed max volume count"))
}

#[test]
fn volumes_count_once_and_up_to_the_limit() {
    let limit = |count: i32| csi_node("csi", json!(count), "");
    let claims = || ["c0", "c1", "c2"].into_iter().flat_map(bound);
    for (what, wanted, others, expected) in [
        ("at the limit", vec!["c0"], vec![limit(2), running("x", &["c1"])], Ok(())),
        ("over it", vec!["c0"], vec![limit(1), running("x", &["c1"])], exceeded()),
        ("two of its own", vec!["c0", "c1"], vec![limit(1)], exceeded()),
        ("the same twice", vec!["c0", "c0"], vec![limit(1)], Ok(())),
        ("shared with another pod", vec!["c0"], vec![limit(1), running("x", &["c0"])], Ok(())),
        ("shared, though over", vec!["c0"], vec![limit(0), running("x", &["c0"])], Ok(())),
        (
            "shared among the others",
            vec!["c0"],
            vec![limit(2), running("x", &["c1"]), running("y", &["c1"])],
            Ok(()),
        ),
        ("zero", vec!["c0"], vec![limit(0)], exceeded()),
        ("below zero", vec!["c0"], vec![limit(-5)], exceeded()),
        ("no limit", vec!["c0"], vec![csi_node("csi", Value::Null, "")], Ok(())),
        ("another driver", vec!["c0"], vec![csi_node("other", json!(0), "")], Ok(())),
        ("no CSINode", vec!["c0"], vec![running("x", &["c1"])], Ok(())),
        ("still attached", vec!["c0"], vec![limit(1), attachment("c1", "a")], exceeded()),
        ("attached elsewhere", vec!["c0"], vec![limit(1), attachment("c1", "b")], Ok(())),
        ("attached for it", vec!["c0"], vec![limit(1), attachment("c0", "a")], Ok(())),
        (
            "attached and in use",
            vec!["c0"],
            vec![limit(2), attachment("c1", "a"), running("x", &["c1"])],
            Ok(()),
        ),
    ] {
        let objects: Vec<Value> = claims().chain(others).collect();
        assert_eq!(answer(&claimed(&wanted), &objects), expected, "{what}");
    }
}

#[test]
fn unbound_claims_count_for_their_provisioner() {
    let class = json!({"kind": "StorageClass", "metadata": {"name": "s"}, "provisioner": "csi"});
    let unbound = |name: &str| claim(name, json!({"storageClassName": "s"}));
    let objects = |limit: i32| {
        let node = csi_node("csi", json!(limit), "");
        [class.clone(), node, unbound("c0"), unbound("c1"), running("x", &["c1"])]
    };
    assert_eq!(answer(&claimed(&["c0"]), &objects(2)), Ok(()));
    assert_eq!(answer(&claimed(&["c0"]), &objects(1)), exceeded());
    // Bound to a volume that is not there: as if unbound.
    let lost = claim("c0", json!({"storageClassName": "s", "volumeName": "gone"}));
    let objects = [class, csi_node("csi", json!(0), ""), lost];
    assert_eq!(answer(&claimed(&["c0"]), &objects), exceeded());
}

#[test]
fn migrated_volumes_count_for_their_driver() {
    let source = json!({"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/vol-1"}});
    let disk = |id: &str| {
        pod(json!({"volumes": [{"name": "v", "awsElasticBlockStore": {"volumeID": id}}]}))
    };
    let objects = |limit: i32, migrated: &str| {
        [
            csi_node(EBS, json!(limit), migrated),
            claim("c0", json!({"volumeName": "v0"})),
            volume("v0", source.clone()),
            running("x", &["c0"]),
        ]
    };
    let on = "kubernetes.io/gce-pd,kubernetes.io/aws-ebs";
    assert_eq!(answer(&disk("vol-2"), &objects(1, on)), exceeded());
    assert_eq!(answer(&disk("vol-2"), &objects(2, on)), Ok(()));
    assert_eq!(answer(&disk("vol-1"), &objects(1, on)), Ok(()));
    assert_eq!(answer(&disk("vol-2"), &objects(0, "")), Ok(()));
}

#[test]
fn a_missing_claim_is_named() {
    assert_eq!(
        answer(&claimed(&["c"]), &[]),
        Err(Rejection::unresolvable(
            "looking up PVC default/c: persistentvolumeclaim \"c\" not found"
        ))
    );
    // Of a pod that runs already it is left out.
    let [c0, v0] = bound("c0");
    let objects = [c0, v0, running("x", &["gone"]), csi_node("csi", json!(1), "")];
    assert_eq!(answer(&claimed(&["c0"]), &objects), Ok(()));
    // A claim that happens to have the name is not the pod's.
    let ephemeral = pod(json!({"volumes": [{"name": "v", "ephemeral": {}}]}));
    assert_eq!(
        answer(&ephemeral, &[claim("p-v", json!({}))]),
        Err(Rejection::unresolvable(
            "PVC default/p-v was not created for pod default/p (pod is not owner)"
        ))
    );
}

#[test]
fn only_what_makes_room_wakes() {
    let waiting = claimed(&["c"]);
    let node = |count: i32| -> Arc<CSINode> {
        let Value::Object(mut node) = csi_node("csi", json!(count), "") else { unreachable!() };
        node.remove("kind");
        Arc::new(serde_json::from_value(Value::Object(node)).unwrap())
    };
    let changed = |from, to| Object::CSINode(Some(node(from)), Some(node(to)));
    assert!(wakes(&NodeVolumeLimits, &waiting, changed(1, 2)));
    assert!(!wakes(&NodeVolumeLimits, &waiting, changed(2, 1)));
    let claim = |name: &str| {
        let meta = json!({"name": name, "namespace": "default"});
        added("PersistentVolumeClaim", json!({"metadata": meta}))
    };
    assert!(wakes(&NodeVolumeLimits, &waiting, claim("c")));
    assert!(!wakes(&NodeVolumeLimits, &waiting, claim("d")));
}
