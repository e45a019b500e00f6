//! Volumes, claims, classes and CSI nodes, and pods that use them.
//!
//! Names are few: claims `c0`..`c3`, volumes `v0`..`v5`, classes `wait` and `now`. What a claim or a
//! volume refers to may be missing or fit badly; that is for the plugins to find.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{Part, added, namespace, zone};
use crate::cache::Object;

/// A zone label that VolumeZone reads; some nodes have none.
pub(super) fn node() -> Part {
    option::of(zone())
        .prop_map(|zone| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}))
        .boxed()
}

/// Claims and disks; most pods have none.
pub(super) fn pod() -> Part {
    let volumes = prop_oneof![3 => Just(vec![]), 1 => vec(pod_volume(), 1..3)];
    volumes
        .prop_map(|mut volumes| {
            for (i, volume) in volumes.iter_mut().enumerate() {
                volume["name"] = json!(format!("v{i}"));
            }
            json!({"spec": {"volumes": volumes}})
        })
        .boxed()
}

fn pod_volume() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => (0..4).prop_map(|n| json!({"persistentVolumeClaim": {"claimName": format!("c{n}")}})),
        1 => Just(json!({"ephemeral": {}})),
        1 => (0..2, any::<bool>()).prop_map(|(n, read)| {
            json!({"gcePersistentDisk": {"pdName": format!("d{n}"), "readOnly": read}})
        }),
        1 => (0..2).prop_map(|n| {
            json!({"awsElasticBlockStore": {"volumeID": format!("vol-{n}")}})
        }),
        1 => Just(json!({"configMap": {"name": "m"}})),
    ]
}

/// Something that volumes need, new or changed.
pub(super) fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        2 => claim().prop_map(|it| added("PersistentVolumeClaim", it)),
        2 => volume().prop_map(|it| added("PersistentVolume", it)),
        1 => class().prop_map(|it| added("StorageClass", it)),
        1 => csi_node().prop_map(|it| added("CSINode", it)),
        1 => capacity().prop_map(|it| added("CSIStorageCapacity", it)),
        1 => any::<bool>().prop_map(|publishes| added("CSIDriver", json!(
            {"metadata": {"name": "csi"}, "spec": {"storageCapacity": publishes}}))),
        1 => attachment().prop_map(|it| added("VolumeAttachment", it)),
    ]
}

fn size() -> impl Strategy<Value = &'static str> {
    select(&["1Gi", "2Gi", "3Gi", "-1", "0"][..])
}

fn class_name() -> impl Strategy<Value = &'static str> {
    select(&["wait", "wait", "now", "", "none"][..])
}

fn access_modes() -> impl Strategy<Value = Vec<&'static str>> {
    vec(select(&["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"][..]), 0..2)
}

fn claim() -> impl Strategy<Value = Value> {
    let names = (0..4, namespace(), class_name(), option::weighted(0.4, 0..6));
    let state = (any::<bool>(), select(&["Bound", "Pending", "Pending", "Lost"][..]));
    let selected = option::weighted(0.2, (0..6).prop_map(|n| format!("n{n}")));
    (names, state, size(), access_modes(), selected).prop_map(
        |((name, namespace, class, volume), (is_bound, phase), size, modes, selected)| {
            let volume = volume.map(|n| format!("v{n}"));
            let mut annotations = json!({});
            if is_bound && volume.is_some() {
                annotations["pv.kubernetes.io/bind-completed"] = json!("yes");
            }
            if let Some(node) = selected {
                annotations["volume.kubernetes.io/selected-node"] = json!(node);
            }
            let name = format!("c{name}");
            json!({"metadata": {"name": name, "namespace": namespace, "uid": name,
                    "annotations": annotations},
                "spec": {"storageClassName": class, "volumeName": volume, "accessModes": modes,
                    "resources": {"requests": {"storage": size}}},
                "status": {"phase": phase}})
        },
    )
}

fn volume() -> impl Strategy<Value = Value> {
    let reference = option::weighted(0.2, (0..4, namespace()));
    let zones = option::of(prop_oneof![zone(), Just("a__b"), Just("a__")]);
    let affinity = option::of(zone());
    let source = prop_oneof![
        Just(json!({"csi": {"driver": "csi", "volumeHandle": "h"}})),
        (0..3).prop_map(|n| json!({"csi": {"driver": "csi", "volumeHandle": format!("h{n}")}})),
        (0..2).prop_map(|n| json!({"awsElasticBlockStore": {"volumeID": format!("vol-{n}")}})),
        Just(json!({"local": {"path": "/x"}})),
    ];
    let phase = select(&["Available", "Available", "Bound", "Released"][..]);
    (0..6, class_name(), size(), access_modes(), reference, (zones, affinity), source, phase)
        .prop_map(|(name, class, size, modes, reference, (zones, affinity), source, phase)| {
            let mut spec = source;
            spec["storageClassName"] = json!(class);
            spec["capacity"] = json!({"storage": size});
            spec["accessModes"] = json!(modes);
            if let Some((claim, namespace)) = reference {
                spec["claimRef"] = json!({"name": format!("c{claim}"), "namespace": namespace});
            }
            if let Some(zone) = affinity {
                let term = json!({"matchExpressions": [
                    {"key": "zone", "operator": "In", "values": [zone]}]});
                spec["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [term]}});
            }
            let labels = zones.map(|zones| json!({"topology.kubernetes.io/zone": zones}));
            json!({"metadata": {"name": format!("v{name}"), "labels": labels}, "spec": spec,
                "status": {"phase": phase}})
        })
}

fn class() -> impl Strategy<Value = Value> {
    let name = select(&["wait", "now"][..]);
    let provisioner = select(&["csi", "csi", "kubernetes.io/no-provisioner"][..]);
    (name, provisioner, option::weighted(0.4, zone())).prop_map(|(name, provisioner, zone)| {
        let mode = if name == "wait" { "WaitForFirstConsumer" } else { "Immediate" };
        let topologies = zone
            .map(|zone| json!([{"matchLabelExpressions": [{"key": "zone", "values": [zone]}]}]));
        json!({"metadata": {"name": name}, "provisioner": provisioner,
            "volumeBindingMode": mode, "allowedTopologies": topologies})
    })
}

fn csi_node() -> impl Strategy<Value = Value> {
    (0..6, option::of(-1..3), any::<bool>()).prop_map(|(node, count, migrated)| {
        let plugins = if migrated { "kubernetes.io/aws-ebs,kubernetes.io/gce-pd" } else { "" };
        let driver =
            |name: &str| json!({"name": name, "nodeID": "n", "allocatable": {"count": count}});
        json!({"metadata": {"name": format!("n{node}"),
                "annotations": {"storage.alpha.kubernetes.io/migrated-plugins": plugins}},
            "spec": {"drivers": [driver("csi"), driver("ebs.csi.aws.com")]}})
    })
}

fn capacity() -> impl Strategy<Value = Value> {
    (0..3, option::of(zone()), size()).prop_map(|(name, zone, size)| {
        let topology = zone.map(|zone| json!({"matchLabels": {"zone": zone}}));
        json!({"metadata": {"name": format!("s{name}"), "namespace": "kube-system"},
            "storageClassName": "wait", "nodeTopology": topology, "capacity": size})
    })
}

fn attachment() -> impl Strategy<Value = Value> {
    (0..3, 0..6, 0..6).prop_map(|(name, node, volume)| {
        json!({"metadata": {"name": format!("a{name}")}, "spec": {"attacher": "csi",
            "nodeName": format!("n{node}"),
            "source": {"persistentVolumeName": format!("v{volume}")}}})
    })
}
