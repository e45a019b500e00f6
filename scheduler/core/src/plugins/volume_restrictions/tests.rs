use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cache::Cache;
use crate::plugins::testing::{added, cluster, filter_in, pod, wakes};

fn with_volume(mut volume: Value) -> PodInfo {
    volume["name"] = json!("v");
    pod(json!({"volumes": [volume]}))
}

fn on_node(namespace: &str, mut volume: Value) -> Value {
    volume["name"] = json!("v");
    json!({"kind": "Pod", "metadata": {"name": "other", "namespace": namespace},
        "spec": {"nodeName": "a", "volumes": [volume]}})
}

fn claim(mode: &str) -> Value {
    json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "default"},
        "spec": {"accessModes": [mode]}})
}

fn nodes() -> [Value; 2] {
    ["a", "b"].map(|name| json!({"kind": "Node", "metadata": {"name": name}}))
}

fn with_nodes(objects: &[Value]) -> Cache {
    cluster(Value::Array([&nodes()[..], objects].concat()))
}

#[test]
fn disks_conflict_on_one_node() {
    let gce =
        |name: &str, read: bool| json!({"gcePersistentDisk": {"pdName": name, "readOnly": read}});
    let ebs = |id: &str| json!({"awsElasticBlockStore": {"volumeID": id, "readOnly": true}});
    let iscsi = |iqn: &str, read: bool| json!({"iscsi": {"iqn": iqn, "lun": 0, "targetPortal": "p", "readOnly": read}});
    let rbd = |monitors: &[&str], image: &str, read: bool| json!({"rbd": {"monitors": monitors, "pool": "rbd", "image": image, "readOnly": read}});
    for (mine, theirs, conflicts) in [
        (gce("d", false), gce("d", false), true),
        (gce("d", true), gce("d", false), true),
        (gce("d", true), gce("d", true), false),
        (gce("d", false), gce("e", false), false),
        (ebs("vol-1"), ebs("vol-1"), true),
        (ebs("vol-1"), ebs("vol-2"), false),
        (iscsi("q", false), iscsi("q", true), true),
        (iscsi("q", true), iscsi("q", true), false),
        (rbd(&["1", "2"], "i", false), rbd(&["2", "3"], "i", false), true),
        (rbd(&["1"], "i", false), rbd(&["2"], "i", false), false),
        (rbd(&["1"], "i", false), rbd(&["1"], "j", false), false),
        (rbd(&["1"], "i", true), rbd(&["1"], "i", true), false),
        (gce("vol-1", false), ebs("vol-1"), false),
    ] {
        let cache = with_nodes(&[on_node("default", theirs.clone())]);
        let pod = with_volume(mine.clone());
        let refused = Err(Rejection::unschedulable("node(s) had no available disk"));
        let expected = if conflicts { refused } else { Ok(()) };
        assert_eq!(filter_in(&cache, &VolumeRestrictions, &pod, "a"), expected, "{mine} {theirs}");
        assert_eq!(filter_in(&cache, &VolumeRestrictions, &pod, "b"), Ok(()), "{mine}");
    }
}

#[test]
fn a_claim_for_one_pod_is_one_pods_in_the_whole_cluster() {
    let used = json!({"persistentVolumeClaim": {"claimName": "c"}});
    let pod = with_volume(used.clone());
    let refused = Err(Rejection::unschedulable(
        "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access \
         mode",
    ));
    for (namespace, mode, expected) in [
        ("default", "ReadWriteOncePod", refused.clone()),
        ("default", "ReadWriteOnce", Ok(())),
        ("other", "ReadWriteOncePod", Ok(())),
    ] {
        let cache = with_nodes(&[claim(mode), on_node(namespace, used.clone())]);
        for node in ["a", "b"] {
            let got = filter_in(&cache, &VolumeRestrictions, &pod, node);
            assert_eq!(got, expected, "{namespace} {mode} {node}");
        }
    }
    // With the other pod gone, it is free: preemption helps.
    let cache = with_nodes(&[claim("ReadWriteOncePod"), on_node("default", used)]);
    let node = cache.snapshot().nodes().iter().position(|node| node.pod_count() == 1).unwrap();
    let mut what_if = cache.snapshot().what_if();
    let uid = what_if.nodes()[node].pods()[0].uid.clone();
    what_if.remove(node, &uid);
    assert!(matches!(VolumeRestrictions.pre_filter(&pod, &what_if), PreFilter::Skip));
}

#[test]
fn a_missing_claim_is_named() {
    let pod = with_volume(json!({"persistentVolumeClaim": {"claimName": "c"}}));
    assert_eq!(
        filter_in(&with_nodes(&[]), &VolumeRestrictions, &pod, "a"),
        Err(Rejection::unresolvable("persistentvolumeclaim \"c\" not found"))
    );
}

#[test]
fn what_shares_a_volume_wakes() {
    let waiting = with_volume(json!({"persistentVolumeClaim": {"claimName": "c"}}));
    let deleted = |namespace: &str, volume: Value| {
        let Value::Object(mut object) = on_node(namespace, volume) else { unreachable!() };
        object.remove("kind");
        object["spec"]["containers"] = json!([]);
        let pod = PodInfo::new(serde_json::from_value(Value::Object(object)).unwrap());
        let event = ClusterEvent::new(Resource::AssignedPod, Action::DELETE);
        let subject = Subject::Pod(Some(Arc::new(pod)), None);
        let occurrence = Occurrence { event, subject };
        VolumeRestrictions.hint(&waiting, &occurrence, &Snapshot::default())
    };
    let claimed = |name: &str| json!({"persistentVolumeClaim": {"claimName": name}});
    assert_eq!(deleted("default", claimed("c")), Hint::Queue);
    assert_eq!(deleted("default", claimed("d")), Hint::Skip);
    assert_eq!(deleted("other", claimed("c")), Hint::Skip);
    let claim = |name: &str| {
        let meta = json!({"name": name, "namespace": "default"});
        added("PersistentVolumeClaim", json!({"metadata": meta}))
    };
    assert!(wakes(&VolumeRestrictions, &waiting, claim("c")));
    assert!(!wakes(&VolumeRestrictions, &waiting, claim("d")));
}
