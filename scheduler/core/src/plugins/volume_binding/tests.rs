#![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cache::{Cache, Object};
use crate::plugins::testing::{added, cluster, filter_in, pod, wakes};
use crate::testing;

fn claimed(claims: &[&str]) -> PodInfo {
    let volume =
        |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
    let volumes: Value = claims.iter().map(volume).collect();
    pod(json!({"volumes": volumes}))
}

fn node(name: &str, zone: &str) -> Value {
    json!({"kind": "Node", "metadata": {"name": name, "labels": {"zone": zone}}})
}

fn class(more: Value) -> Value {
    let mut class = json!({"kind": "StorageClass", "metadata": {"name": "s"},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer"});
    class.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    class
}

fn claim(name: &str, size: &str) -> Value {
    json!({"kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default", "uid": name, "annotations": {}},
        "spec": {"storageClassName": "s", "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}}}})
}

fn volume(name: &str, size: &str, zone: &str) -> Value {
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
    json!({"kind": "PersistentVolume", "metadata": {"name": name, "resourceVersion": "7"},
        "spec": {"storageClassName": "s", "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": size},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}},
        "status": {"phase": "Available"}})
}

/// The claim, bound to the volume on both sides.
fn bound(mut claim: Value, volume: &str) -> Value {
    claim["spec"]["volumeName"] = json!(volume);
    claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
    claim
}

fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = value;
    object
}

/// A cluster with the nodes `a` and `b` in the zones of the same names.
fn zones(objects: Vec<Value>) -> Cache {
    cluster([node("a", "a"), node("b", "b")].into_iter().chain(objects).collect())
}

fn answer(objects: Vec<Value>, pod: &PodInfo, node: &str) -> Verdict {
    filter_in(&zones(objects), &VolumeBinding, pod, node)
}

/// What Reserve binds (`claim=volume`) or provisions (`claim@node`).
fn reserved(cache: &Cache, pod: &PodInfo, node: &str) -> Vec<String> {
    let node = cache.snapshot().get(node).unwrap();
    let steps = VolumeBinding.reserve(pod, cache.snapshot(), node).unwrap();
    let name = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        meta.name.clone().unwrap()
    };
    let text = |step: &Step| match step {
        Step::BindVolume { volume, claim } => {
            format!("{}={}", name(&claim.metadata), name(&volume.metadata))
        }
        Step::ProvisionVolume { claim } => {
            let node = annotation(&claim.metadata, SELECTED_NODE).unwrap();
            format!("{}@{node}", name(&claim.metadata))
        }
        other => panic!("{other:?}"),
    };
    steps.iter().map(text).collect()
}

#[test]
fn pods_without_claims_are_skipped() {
    let plain = pod(json!({"volumes": [{"name": "v", "emptyDir": {}}]}));
    let cache = zones(vec![]);
    let plugin = VolumeBinding;
    assert!(matches!(plugin.pre_filter(&plain, cache.snapshot()), PreFilter::Skip));
    assert_eq!(reserved(&cache, &plain, "a"), Vec::<String>::new());
}

#[test]
fn claims_that_hold_every_node_back() {
    let immediate = class(json!({"volumeBindingMode": "Immediate"}));
    let lost = with(claim("c", "1Gi"), "/spec/volumeName", json!("gone"));
    let lost = with(lost, "/status", json!({"phase": "Lost"}));
    let going =
        with(claim("c", "1Gi"), "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    let prebound = with(claim("c", "1Gi"), "/spec/volumeName", json!("v"));
    let unbound = "pod has unbound immediate PersistentVolumeClaims";
    for (objects, expected) in [
        (vec![], "persistentvolumeclaim \"c\" not found"),
        (vec![claim("c", "1Gi"), immediate], unbound),
        // No class, or one that is not there, cannot wait for a pod.
        (vec![claim("c", "1Gi")], unbound),
        (vec![prebound, class(json!({}))], unbound),
        (vec![lost], "persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"gone\""),
        (vec![going], "persistentvolumeclaim \"c\" is being deleted"),
        (
            vec![claim("c", "1Gi"), class(json!({"volumeBindingMode": null}))],
            "VolumeBindingMode not set for StorageClass \"s\"",
        ),
    ] {
        assert_eq!(
            answer(objects, &claimed(&["c"]), "a"),
            Err(Rejection::unresolvable(expected)),
            "{expected}"
        );
    }
    let ephemeral = pod(json!({"volumes": [{"name": "v", "ephemeral": {}}]}));
    assert_eq!(
        answer(vec![], &ephemeral, "a"),
        Err(Rejection::unresolvable(
            "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\""
        ))
    );
    assert_eq!(
        answer(vec![claim("p-v", "1Gi")], &ephemeral, "a"),
        Err(Rejection::unresolvable(
            "PVC default/p-v was not created for pod default/p (pod is not owner)"
        ))
    );
}

#[test]
fn a_bound_volume_must_be_in_reach() {
    let objects = || vec![bound(claim("c", "1Gi"), "v"), volume("v", "1Gi", "a")];
    assert_eq!(answer(objects(), &claimed(&["c"]), "a"), Ok(()));
    assert_eq!(
        answer(objects(), &claimed(&["c"]), "b"),
        Err(Rejection::unresolvable("node(s) had volume node affinity conflict"))
    );
    assert_eq!(
        answer(vec![bound(claim("c", "1Gi"), "v")], &claimed(&["c"]), "a"),
        Err(Rejection::unresolvable(
            "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
        ))
    );
    // Nothing is left to be written.
    assert_eq!(reserved(&zones(objects()), &claimed(&["c"]), "a"), Vec::<String>::new());
    // Fields of the node say nothing of volumes.
    let by_name = json!({"required": {"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["a"]}]}]}});
    let by_name = with(volume("v", "1Gi", "a"), "/spec/nodeAffinity", by_name);
    assert_eq!(
        answer(vec![bound(claim("c", "1Gi"), "v"), by_name], &claimed(&["c"]), "a"),
        Err(Rejection::unresolvable("node(s) had volume node affinity conflict"))
    );
}

#[test]
fn the_smallest_volume_that_fits_is_taken() {
    let objects = vec![
        class(json!({})),
        claim("c", "2Gi"),
        volume("v1", "1Gi", "a"),
        volume("v5", "5Gi", "a"),
        volume("v3", "3Gi", "a"),
        volume("v2", "2Gi", "b"),
    ];
    let cache = zones(objects.clone());
    assert_eq!(reserved(&cache, &claimed(&["c"]), "a"), ["c=v3"]);
    assert_eq!(reserved(&cache, &claimed(&["c"]), "b"), ["c=v2"]);
    let none =
        Err(Rejection::unresolvable("node(s) didn't find available persistent volumes to bind"));
    for (what, change) in [
        ("another class", ("/spec/storageClassName", json!("t"))),
        ("another mode", ("/spec/volumeMode", json!("Block"))),
        ("other access modes", ("/spec/accessModes", json!(["ReadOnlyMany"]))),
        ("not available", ("/status/phase", json!("Released"))),
        ("another's", ("/spec/claimRef", json!({"name": "x", "namespace": "default"}))),
        ("too small", ("/spec/capacity", json!({"storage": "1Gi"}))),
        ("nonsense", ("/spec/capacity", json!({"storage": "much"}))),
        ("on its way out", ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))),
        ("other attributes", ("/spec/volumeAttributesClassName", json!("gold"))),
    ] {
        let changed = with(volume("v", "2Gi", "a"), change.0, change.1);
        let objects = vec![class(json!({})), claim("c", "2Gi"), changed];
        assert_eq!(answer(objects, &claimed(&["c"]), "a"), none, "{what}");
    }
    let selecting = json!({"matchLabels": {"disk": "ssd"}});
    let selecting = with(claim("c", "1Gi"), "/spec/selector", selecting);
    let labelled = with(volume("w", "9Gi", "a"), "/metadata/labels", json!({"disk": "ssd"}));
    let cache = zones(vec![class(json!({})), selecting, volume("v", "1Gi", "a"), labelled]);
    assert_eq!(reserved(&cache, &claimed(&["c"]), "a"), ["c=w"]);
}

#[test]
fn several_claims_take_several_volumes_the_smallest_first() {
    let cache = zones(vec![
        class(json!({})),
        claim("big", "3Gi"),
        claim("small", "1Gi"),
        volume("v3", "3Gi", "a"),
        volume("v4", "4Gi", "a"),
        volume("v9", "9Gi", "b"),
    ]);
    let pod = claimed(&["big", "small"]);
    assert_eq!(reserved(&cache, &pod, "a"), ["small=v3", "big=v4"]);
    assert_eq!(
        filter_in(&cache, &VolumeBinding, &pod, "b"),
        Err(Rejection::unresolvable("node(s) didn't find available persistent volumes to bind"))
    );
}

#[test]
fn a_volume_bound_beforehand_is_the_only_one() {
    let reference = json!({"name": "c", "namespace": "default"});
    let own = with(volume("v", "5Gi", "a"), "/spec/claimRef", reference);
    let objects = vec![class(json!({})), claim("c", "1Gi"), own, volume("w", "1Gi", "b")];
    let cache = zones(objects);
    assert_eq!(reserved(&cache, &claimed(&["c"]), "a"), ["c=v"]);
    let plugin = VolumeBinding;
    let none = "node(s) didn't find available persistent volumes to bind";
    assert_eq!(
        filter_in(&cache, &plugin, &claimed(&["c"]), "b"),
        Err(Rejection::unresolvable(none))
    );
}

#[test]
fn what_is_bound_is_written_as_the_volume_controller_does() {
    let cache = zones(vec![class(json!({})), claim("c", "1Gi"), volume("v", "1Gi", "a")]);
    let node = cache.snapshot().get("a").unwrap();
    let pod = claimed(&["c"]);
    let steps = VolumeBinding.reserve(&pod, cache.snapshot(), node).unwrap();
    let [Step::BindVolume { volume, .. }] = steps.as_slice() else { panic!("{steps:?}") };
    let reference = volume.spec.as_ref().unwrap().claim_ref.as_ref().unwrap();
    assert_eq!(reference.kind.as_deref(), Some("PersistentVolumeClaim"));
    assert_eq!(reference.uid.as_deref(), Some("c"));
    assert_eq!(volume.metadata.resource_version.as_deref(), Some("7"));
    let by = annotation(&volume.metadata, "pv.kubernetes.io/bound-by-controller");
    assert_eq!(by, Some("yes"));
}

#[test]
fn provisioning_needs_topology_and_space() {
    let provisioned = |more: Value| {
        let mut csi = json!({"provisioner": "csi"});
        csi.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        class(csi)
    };
    let zonal = provisioned(json!({"allowedTopologies": [
        {"matchLabelExpressions": [{"key": "zone", "values": ["a", "x"]}]}]}));
    let driver = |publishes: bool| {
        json!({"kind": "CSIDriver", "metadata": {"name": "csi"},
            "spec": {"storageCapacity": publishes}})
    };
    let capacity = |zone: &str, more: Value| {
        let mut capacity = json!({"kind": "CSIStorageCapacity", "storageClassName": "s",
            "metadata": {"name": "x", "namespace": "kube-system"},
            "nodeTopology": {"matchLabels": {"zone": zone}}});
        capacity.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        capacity
    };
    let bind = || Err(Rejection::unresolvable(BIND_CONFLICT));
    let space = || Err(Rejection::unresolvable("node(s) did not have enough free storage"));
    let anywhere = || provisioned(json!({}));
    for (what, objects, on_a, on_b) in [
        ("anywhere", vec![anywhere()], Ok(()), Ok(())),
        ("no provisioner", vec![class(json!({}))], bind(), bind()),
        ("topology", vec![zonal], Ok(()), bind()),
        (
            "a term without expressions",
            vec![provisioned(json!({"allowedTopologies": [{}]}))],
            bind(),
            bind(),
        ),
        ("publishes nothing", vec![anywhere(), driver(false)], Ok(()), Ok(())),
        ("no capacity known", vec![anywhere(), driver(true)], space(), space()),
        (
            "space in one zone",
            vec![anywhere(), driver(true), capacity("a", json!({"capacity": "2Gi"}))],
            Ok(()),
            space(),
        ),
        (
            "too little",
            vec![anywhere(), driver(true), capacity("a", json!({"capacity": "1Gi"}))],
            space(),
            space(),
        ),
        (
            "the largest volume counts",
            vec![
                anywhere(),
                driver(true),
                capacity("a", json!({"capacity": "9Gi", "maximumVolumeSize": "1Gi"})),
            ],
            space(),
            space(),
        ),
        (
            "accessible from nowhere",
            vec![
                anywhere(),
                driver(true),
                capacity("a", json!({"capacity": "9Gi", "nodeTopology": null})),
            ],
            space(),
            space(),
        ),
    ] {
        let objects = || objects.iter().cloned().chain([claim("c", "2Gi")]).collect();
        assert_eq!(answer(objects(), &claimed(&["c"]), "a"), on_a, "{what}");
        assert_eq!(answer(objects(), &claimed(&["c"]), "b"), on_b, "{what}");
    }
    let cache = zones(vec![anywhere(), claim("c", "2Gi")]);
    assert_eq!(reserved(&cache, &claimed(&["c"]), "b"), ["c@b"]);
}

#[test]
fn a_claim_with_a_selected_node_goes_nowhere_else() {
    let selected = with(claim("c", "1Gi"), "/metadata/annotations", json!({SELECTED_NODE: "a"}));
    let objects = vec![class(json!({"provisioner": "csi"})), selected, volume("v", "1Gi", "a")];
    let cache = zones(objects.clone());
    // Its volume is being made: it takes no other.
    assert_eq!(reserved(&cache, &claimed(&["c"]), "a"), ["c@a"]);
    assert_eq!(answer(objects, &claimed(&["c"]), "b"), Err(Rejection::unresolvable(BIND_CONFLICT)));
}

#[test]
fn reasons_are_listed_in_upstreams_order() {
    let objects = |volumes: Vec<Value>| {
        let claims = [class(json!({})), claim("c", "1Gi"), bound(claim("b", "1Gi"), "v")];
        claims.into_iter().chain(volumes).collect()
    };
    let pod = claimed(&["b", "c"]);
    assert_eq!(
        answer(objects(vec![volume("v", "1Gi", "b")]), &pod, "a").unwrap_err().message(),
        format!("{NODE_CONFLICT}, {BIND_CONFLICT}")
    );
    assert_eq!(
        answer(objects(vec![]), &pod, "a").unwrap_err().message(),
        format!("{BIND_CONFLICT}, {VOLUME_MISSING}")
    );
}

#[test]
fn a_reservation_comes_true_or_fails() {
    let step = |objects: Vec<Value>, node: &str| {
        let cache = zones(objects);
        let node = cache.snapshot().get(node).unwrap();
        let pod = claimed(&["c"]);
        let mut steps = VolumeBinding.reserve(&pod, cache.snapshot(), node).unwrap();
        steps.remove(0)
    };
    let answer =
        |step: &Step, objects: Vec<Value>| is_carried_out(step, "a", zones(objects).snapshot());
    let reference = json!({"name": "c", "namespace": "default", "uid": "c"});
    let taken = |zone| with(volume("v", "1Gi", zone), "/spec/claimRef", reference.clone());
    let bind = step(vec![class(json!({})), claim("c", "1Gi"), volume("v", "1Gi", "a")], "a");
    let no_reference = Err("ClaimRef got reset for pv \"v\"".to_owned());
    let unreachable =
        "pv \"v\" node affinity doesn't match node \"a\": no matching NodeSelectorTerms";
    for (what, objects, expected) in [
        ("not yet", vec![claim("c", "1Gi"), taken("a")], Ok(false)),
        ("bound", vec![bound(claim("c", "1Gi"), "v"), taken("a")], Ok(true)),
        ("reset", vec![claim("c", "1Gi"), volume("v", "1Gi", "a")], no_reference),
        ("moved", vec![claim("c", "1Gi"), taken("b")], Err(unreachable.to_owned())),
        (
            "no claim",
            vec![taken("a")],
            Err("failed to check binding: could not find v1.PersistentVolumeClaim \"default/c\""
                .to_owned()),
        ),
        (
            "no volume",
            vec![claim("c", "1Gi")],
            Err("failed to check binding: could not find v1.PersistentVolume \"v\"".to_owned()),
        ),
    ] {
        assert_eq!(answer(&bind, objects), expected, "{what}");
    }
    let provisioner = class(json!({"provisioner": "csi"}));
    let provision = step(vec![provisioner, claim("c", "1Gi")], "a");
    let selected =
        |node: &str| with(claim("c", "1Gi"), "/metadata/annotations", json!({SELECTED_NODE: node}));
    let failed = Err("provisioning failed for PVC \"c\"".to_owned());
    for (what, objects, expected) in [
        ("not yet", vec![selected("a")], Ok(false)),
        ("made", vec![bound(selected("a"), "v"), taken("a")], Ok(true)),
        ("the volume is on its way", vec![bound(selected("a"), "v")], Ok(false)),
        ("made elsewhere", vec![bound(selected("a"), "v"), taken("b")], Err(unreachable.into())),
        ("taken back", vec![claim("c", "1Gi")], failed.clone()),
        ("for another node", vec![selected("b")], failed),
    ] {
        assert_eq!(answer(&provision, objects), expected, "{what}");
    }
    assert_eq!(
        is_carried_out(&provision, "z", zones(vec![selected("a")]).snapshot()),
        Err("failed to get node \"z\": node \"z\" not found".to_owned())
    );
}

#[test]
fn only_what_could_help_wakes() {
    let plugin = VolumeBinding;
    let waiting = claimed(&["c"]);
    let claim = |name: &str| {
        let meta = json!({"name": name, "namespace": "default"});
        added("PersistentVolumeClaim", json!({"metadata": meta}))
    };
    assert!(wakes(&plugin, &waiting, claim("c")));
    assert!(!wakes(&plugin, &waiting, claim("d")));
    assert!(wakes(&plugin, &waiting, added("PersistentVolume", json!({}))));
    let capacity = |text: &str| {
        let object = json!({"capacity": text, "storageClassName": "s"});
        let Object::CSIStorageCapacity(_, new) = added("CSIStorageCapacity", object) else {
            unreachable!()
        };
        new
    };
    let changed = |from, to| Object::CSIStorageCapacity(capacity(from), capacity(to));
    assert!(wakes(&plugin, &waiting, changed("1Gi", "2Gi")));
    assert!(!wakes(&plugin, &waiting, changed("2Gi", "1Gi")));
    let class = |zone: &str| {
        let term = json!({"matchLabelExpressions": [{"key": "zone", "values": [zone]}]});
        let object = json!({"metadata": {"name": "s"}, "allowedTopologies": [term]});
        let Object::StorageClass(_, new) = added("StorageClass", object) else { unreachable!() };
        new
    };
    let changed = |from, to| Object::StorageClass(class(from), class(to));
    assert!(wakes(&plugin, &waiting, changed("a", "b")));
    assert!(!wakes(&plugin, &waiting, changed("a", "a")));
}

proptest! {
    /// Whatever pods come, one after another, no volume is given to two claims, and each claim's
    /// volume can be had from the node and is large enough.
    #[test]
    fn assumed_volumes_are_given_once(
        nodes in vec((0..4).prop_flat_map(|n| testing::node(format!("n{n}"))), 1..4),
        objects in vec(testing::other(), 0..40),
        pods in vec((0..9).prop_flat_map(|n| testing::pod(format!("p{n}"))), 1..10),
    ) {
        let plugin = VolumeBinding;
        let mut cache = Cache::default();
        nodes.into_iter().for_each(|node| cache.set_node(node));
        objects.iter().for_each(|object| cache.apply(object));
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        for pod in pods {
            let info = PodInfo::new(Arc::new(pod));
            for node in cache.snapshot().nodes().to_vec() {
                let name = node.name().to_string();
                let fits = filter_in(&cache, &plugin, &info, &name).is_ok();
                let reserved = plugin.reserve(&info, cache.snapshot(), &node);
                prop_assert_eq!(fits, reserved.is_ok());
                let Ok(steps) = reserved else { continue };
                for step in &steps {
                    let Step::BindVolume { volume, claim } = step else { continue };
                    let of = format!("{:?}", (&claim.metadata.namespace, &claim.metadata.name));
                    let volume_name = volume.metadata.name.clone().unwrap();
                    let before = given.insert(volume_name, of.clone());
                    prop_assert!(before.is_none_or(|before| before == of));
                    prop_assert!(is_reachable(volume, node.node()));
                    let size = super::super::pod_volumes::capacity(volume);
                    prop_assert!(size >= super::super::pod_volumes::requested(claim));
                }
                cache.assume_objects(&steps);
                break;
            }
        }
    }
}
