#![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::plugins::testing::{added, cluster, filter_in, pod, wakes};

const ZONE: &str = "topology.kubernetes.io/zone";
const OLD_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

fn claimed() -> PodInfo {
    pod(json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}))
}

fn answer(objects: Value, node_labels: Value) -> Verdict {
    let Value::Array(mut objects) = objects else { panic!("a list") };
    objects.push(json!({"kind": "Node", "metadata": {"name": "a", "labels": node_labels}}));
    filter_in(&cluster(Value::Array(objects)), &VolumeZone, &claimed(), "a")
}

fn claim(spec: Value) -> Value {
    json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "default"},
        "spec": spec})
}

#[test]
fn labels_of_volume_and_node_must_agree() {
    let conflict = || Err(Rejection::unresolvable("node(s) had no available volume zone"));
    for (volume, node, expected) in [
        (json!({ZONE: "a"}), json!({ZONE: "a"}), Ok(())),
        (json!({ZONE: "a"}), json!({ZONE: "b"}), conflict()),
        (json!({ZONE: "a__b"}), json!({ZONE: "b"}), Ok(())),
        (json!({ZONE: "a__b"}), json!({ZONE: "c"}), conflict()),
        // A label that names an empty zone is ignored.
        (json!({ZONE: "a__"}), json!({ZONE: "c"}), Ok(())),
        // A node without any such label takes all.
        (json!({ZONE: "a"}), json!({}), Ok(())),
        // But one with another of them must have this one too.
        (json!({ZONE: "a"}), json!({REGION: "r"}), conflict()),
        (json!({ZONE: "a", REGION: "r"}), json!({ZONE: "a", REGION: "s"}), conflict()),
        // The old label of a volume is found under its new name, not the other way round.
        (json!({OLD_ZONE: "a"}), json!({ZONE: "a"}), Ok(())),
        (json!({OLD_ZONE: "a"}), json!({OLD_ZONE: "b", ZONE: "a"}), conflict()),
        (json!({ZONE: "a"}), json!({OLD_ZONE: "a"}), conflict()),
        (json!({}), json!({ZONE: "a"}), Ok(())),
    ] {
        let pv = json!({"kind": "PersistentVolume", "metadata": {"name": "v", "labels": volume}});
        let objects = json!([claim(json!({"volumeName": "v"})), pv]);
        assert_eq!(answer(objects, node.clone()), expected, "{volume} on {node}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let class = |mode: Value| {
        json!({"kind": "StorageClass", "metadata": {"name": "s"}, "provisioner": "p",
            "volumeBindingMode": mode})
    };
    let unbound = claim(json!({"storageClassName": "s"}));
    for (objects, expected) in [
        (json!([]), Err("persistentvolumeclaim \"c\" not found")),
        (json!([claim(json!({"volumeName": "v"}))]), Err("persistentvolume \"v\" not found")),
        (
            json!([claim(json!({}))]),
            Err("PersistentVolumeClaim had no pv name and storageClass name"),
        ),
        (json!([unbound]), Err("storageclass.storage.k8s.io \"s\" not found")),
        (
            json!([unbound, class(Value::Null)]),
            Err("VolumeBindingMode not set for StorageClass \"s\""),
        ),
        (json!([unbound, class(json!("Immediate"))]), Err("PersistentVolume had no name")),
        (json!([unbound, class(json!("WaitForFirstConsumer"))]), Ok(())),
    ] {
        let expected = expected.map_err(Rejection::unresolvable);
        assert_eq!(answer(objects.clone(), json!({ZONE: "a"})), expected, "{objects}");
    }
}

#[test]
fn only_what_could_help_wakes() {
    let waiting = claimed();
    let claim = |namespace: &str| {
        let meta = json!({"name": "c", "namespace": namespace});
        added("PersistentVolumeClaim", json!({"metadata": meta}))
    };
    assert!(wakes(&VolumeZone, &waiting, claim("default")));
    assert!(!wakes(&VolumeZone, &waiting, claim("other")));
    let class = |mode: &str| {
        added("StorageClass", json!({"metadata": {"name": "s"}, "volumeBindingMode": mode}))
    };
    assert!(wakes(&VolumeZone, &waiting, class("WaitForFirstConsumer")));
    assert!(!wakes(&VolumeZone, &waiting, class("Immediate")));
    let volume = |zone: &str| -> Arc<PersistentVolume> {
        let meta = json!({"name": "v", "labels": {ZONE: zone}});
        Arc::new(serde_json::from_value(json!({"metadata": meta})).unwrap())
    };
    let changed =
        |from: &str, to: &str| Object::PersistentVolume(Some(volume(from)), Some(volume(to)));
    assert!(wakes(&VolumeZone, &waiting, changed("a", "b")));
    assert!(!wakes(&VolumeZone, &waiting, changed("a", "a")));
}
