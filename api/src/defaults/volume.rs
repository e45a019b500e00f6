//! Defaults of volumes, claims and storage classes, and of the drivers behind them.

use serde_json::json;

use super::{Object, object_mut, object_or_new, set};

/// What a pod's volume and a persistent volume have in common.
pub(super) fn source(volume: &mut Object) {
    if let Some(rbd) = object_mut(volume, "rbd") {
        set(rbd, "pool", "rbd");
        set(rbd, "user", "admin");
        set(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(iscsi) = object_mut(volume, "iscsi") {
        set(iscsi, "iscsiInterface", "default");
    }
    if let Some(host_path) = object_mut(volume, "hostPath")
        && !host_path.contains_key("type")
    {
        host_path.insert("type".into(), "".into());
    }
}

pub(super) fn persistent_volume(object: &mut Object) {
    if let Some(status) = object_or_new(object, "status") {
        set(status, "phase", "Pending");
    }
    if let Some(spec) = object_mut(object, "spec") {
        set(spec, "persistentVolumeReclaimPolicy", "Retain");
        set(spec, "volumeMode", "Filesystem");
        source(spec);
    }
}

pub(super) fn claim(object: &mut Object) {
    if let Some(status) = object_or_new(object, "status") {
        set(status, "phase", "Pending");
    }
    if let Some(spec) = object_mut(object, "spec") {
        claim_spec(spec);
    }
}

pub(super) fn claim_spec(spec: &mut Object) {
    set(spec, "volumeMode", "Filesystem");
}

pub(super) fn storage_class(object: &mut Object) {
    set(object, "reclaimPolicy", "Delete");
    set(object, "volumeBindingMode", "Immediate");
}

pub(super) fn csi_driver(object: &mut Object) {
    let Some(spec) = object_or_new(object, "spec") else { return };
    set(spec, "attachRequired", true);
    set(spec, "podInfoOnMount", false);
    set(spec, "storageCapacity", false);
    set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    set(spec, "requiresRepublish", false);
    set(spec, "seLinuxMount", false);
    let modes = spec.get("volumeLifecycleModes");
    if modes.is_none_or(|modes| modes.as_array().is_none_or(Vec::is_empty)) {
        spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
    }
}
