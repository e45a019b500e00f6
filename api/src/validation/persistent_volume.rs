//! PersistentVolumes and PersistentVolumeClaims.
//!
//! Not checked: the fields within volume sources other than the driver and handle of CSI volumes
//! and the path of local ones.

use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
    VolumeNodeAffinity,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::{Map, Value, json};

use super::{IMMUTABLE, one_of, scheduling_rule, selector};
use crate::field::{Errors, Path};
use crate::quantity::Quantity;
use crate::syntax;

const SPEC: Path<'static> = Path::new("spec");
const ACCESS_MODES: &[&str] =
    &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
/// A CSI driver's name, in bytes.
const DRIVER_NAME_MAX: usize = 63;
const NOT_POSITIVE: &str = "must be greater than zero";

pub(super) fn volume(volume: &PersistentVolume, errors: &mut Errors) {
    match &volume.spec {
        Some(it) => spec(it, false, &SPEC, errors),
        None => spec(&PersistentVolumeSpec::default(), false, &SPEC, errors),
    }
}

/// A volume's spec; `is_inline` for one that stands in a VolumeAttachment.
pub(super) fn spec(
    it: &PersistentVolumeSpec,
    is_inline: bool,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if is_inline {
        inline(it, path, errors);
    }
    let modes = it.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    access_modes(modes, path, errors);
    if !is_inline {
        capacity(it, path, errors);
        reclaim_policy(it, path, errors);
    }
    let has_affinity = !is_inline
        && it.node_affinity.as_ref().is_some_and(|affinity| {
            node_affinity(affinity, &path.child("nodeAffinity"), errors);
            affinity.required.is_some()
        });
    source(it, has_affinity, path, errors);
    if let Some(class) = it.storage_class_name.as_deref().filter(|class| !class.is_empty()) {
        let wrong = syntax::dns1123_subdomain(class);
        errors.each_invalid(&path.child("storageClassName"), class, wrong);
    }
    if let Some(mode) = &it.volume_mode {
        one_of(&path.child("volumeMode"), mode, VOLUME_MODES, errors);
    }
}

fn inline(it: &PersistentVolumeSpec, path: &Path<'_>, errors: &mut Errors) {
    let unfit = [
        ("claimRef", it.claim_ref.is_some()),
        ("capacity", it.capacity.as_ref().is_some_and(|capacity| !capacity.is_empty())),
        ("nodeAffinity", it.node_affinity.is_some()),
        ("storageClassName", it.storage_class_name.as_ref().is_some_and(|it| !it.is_empty())),
    ];
    for (field, is_set) in unfit {
        if is_set {
            let detail = "may not be specified in the context of inline volumes";
            errors.forbidden(&path.child(field), detail);
        }
    }
    if it.csi.is_none() {
        let detail = "has to be specified in the context of inline volumes";
        errors.required(&path.child("csi"), detail);
    }
}

/// Known modes, and ReadWriteOncePod only alone.
fn access_modes(modes: &[String], path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("accessModes");
    for mode in modes {
        one_of(&path, mode, ACCESS_MODES, errors);
    }
    let known = || modes.iter().filter(|mode| ACCESS_MODES.contains(&mode.as_str()));
    if known().any(|mode| mode == "ReadWriteOncePod")
        && known().any(|mode| mode != "ReadWriteOncePod")
    {
        errors.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn capacity(it: &PersistentVolumeSpec, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("capacity");
    let Some(capacity) = it.capacity.as_ref().filter(|capacity| !capacity.is_empty()) else {
        return errors.required(&path, "");
    };
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.not_supported(&path, &json!(capacity).to_string(), &["storage"]);
    }
    for (name, amount) in capacity {
        positive(&path.key(name), amount, errors);
    }
}

fn positive(path: &Path<'_>, text: &Text, errors: &mut Errors) {
    match Quantity::try_from(text) {
        Ok(amount) if amount.is_zero() || amount.is_negative() => {
            errors.invalid(path, text.0.as_str(), NOT_POSITIVE);
        }
        Ok(_) => {}
        Err(error) => errors.invalid(path, text.0.as_str(), error.to_string()),
    }
}

fn reclaim_policy(it: &PersistentVolumeSpec, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("persistentVolumeReclaimPolicy");
    let Some(policy) = it.persistent_volume_reclaim_policy.as_deref() else { return };
    one_of(&path, policy, &["Delete", "Recycle", "Retain"], errors);
    let is_root = it.host_path.as_ref().is_some_and(|host| {
        host.path.starts_with('/') && host.path.split('/').all(|part| matches!(part, "" | "."))
    });
    if is_root && policy == "Recycle" {
        errors.forbidden(&path, "may not be 'recycle' for a hostPath mount of '/'");
    }
}

fn node_affinity(affinity: &VolumeNodeAffinity, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("required");
    match &affinity.required {
        Some(required) => scheduling_rule::node_selector(required, &path, errors),
        None => errors.required(&path, "must specify required node constraints"),
    }
}

fn source(it: &PersistentVolumeSpec, has_affinity: bool, path: &Path<'_>, errors: &mut Errors) {
    let mut sources = sources(it).into_iter().filter(|(_, is_set)| *is_set);
    if sources.next().is_none() {
        errors.required(path, "must specify a volume type");
    }
    for (field, _) in sources {
        errors.forbidden(&path.child(field), "may not specify more than 1 volume type");
    }
    if let Some(local) = &it.local {
        let path = path.child("local");
        if local.path.is_empty() {
            errors.required(&path.child("path"), "");
        } else if local.path.split('/').any(|part| part == "..") {
            errors.invalid(&path.child("path"), local.path.as_str(), "must not contain '..'");
        }
    }
    if it.local.is_some() && !has_affinity {
        errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
    }
    if it.host_path.as_ref().is_some_and(|host| host.path.is_empty()) {
        errors.required(&path.child("hostPath").child("path"), "");
    }
    if let Some(csi) = &it.csi {
        let path = path.child("csi");
        driver_name(&path.child("driver"), &csi.driver, errors);
        if csi.volume_handle.is_empty() {
            errors.required(&path.child("volumeHandle"), "");
        }
    }
}

/// The name of a CSI driver where another object refers to it.
pub(super) fn driver_name(path: &Path<'_>, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    }
    if name.len() > DRIVER_NAME_MAX {
        errors.too_long(path, DRIVER_NAME_MAX);
    }
    for wrong in syntax::dns1123_subdomain(&name.to_lowercase()) {
        errors.invalid(path, name, wrong);
    }
}

fn sources(it: &PersistentVolumeSpec) -> [(&'static str, bool); 22] {
    [
        ("hostPath", it.host_path.is_some()),
        ("gcePersistentDisk", it.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", it.aws_elastic_block_store.is_some()),
        ("glusterfs", it.glusterfs.is_some()),
        ("flocker", it.flocker.is_some()),
        ("nfs", it.nfs.is_some()),
        ("rbd", it.rbd.is_some()),
        ("quobyte", it.quobyte.is_some()),
        ("cephFS", it.cephfs.is_some()),
        ("iscsi", it.iscsi.is_some()),
        ("cinder", it.cinder.is_some()),
        ("fc", it.fc.is_some()),
        ("flexVolume", it.flex_volume.is_some()),
        ("azureFile", it.azure_file.is_some()),
        ("vsphereVolume", it.vsphere_volume.is_some()),
        ("photonPersistentDisk", it.photon_persistent_disk.is_some()),
        ("portworxVolume", it.portworx_volume.is_some()),
        ("azureDisk", it.azure_disk.is_some()),
        ("scaleIO", it.scale_io.is_some()),
        ("local", it.local.is_some()),
        ("storageos", it.storageos.is_some()),
        ("csi", it.csi.is_some()),
    ]
}

/// What of a volume's spec is not its source; the source is set once.
const NOT_SOURCE: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (mut now, mut before) = (object(&new["spec"]), object(&old["spec"]));
    for map in [&mut now, &mut before] {
        map.retain(|key, _| !NOT_SOURCE.contains(&key.as_str()));
    }
    // A secret for expansion may be added to a CSI volume.
    if before.get("csi").is_some_and(|csi| csi.get("controllerExpandSecretRef").is_none())
        && let Some(csi) = now.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.shift_remove("controllerExpandSecretRef");
    }
    if now != before {
        errors.forbidden(
            &SPEC.child("persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation",
        );
    }
    volume_mode(new, old, errors);
    let (now, before) = (&new["spec"]["nodeAffinity"], &old["spec"]["nodeAffinity"]);
    if !before.is_null() && now != before {
        errors.invalid(&Path::new("nodeAffinity"), now.clone(), IMMUTABLE);
    }
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn volume_mode(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, before) = (&new["spec"]["volumeMode"], &old["spec"]["volumeMode"]);
    if now != before {
        errors.invalid(&Path::new("volumeMode"), now.clone(), IMMUTABLE);
    }
}

pub(super) fn claim(claim: &PersistentVolumeClaim, errors: &mut Errors) {
    match &claim.spec {
        Some(it) => claim_spec(it, &SPEC, errors),
        None => claim_spec(&PersistentVolumeClaimSpec::default(), &SPEC, errors),
    }
}

/// A claim's spec, also where a template has one.
pub(super) fn claim_spec(it: &PersistentVolumeClaimSpec, path: &Path<'_>, errors: &mut Errors) {
    let modes = it.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    if let Some(it) = &it.selector {
        selector::label_selector(&path.child("selector"), it, errors);
    }
    access_modes(modes, path, errors);
    let requests = it.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let resources = path.child("resources");
    let storage = resources.key("storage");
    match requests.and_then(|requests| requests.get("storage")) {
        Some(amount) => positive(&storage, amount, errors),
        None => errors.required(&storage, ""),
    }
    if let Some(class) = it.storage_class_name.as_deref().filter(|class| !class.is_empty()) {
        let wrong = syntax::dns1123_subdomain(class);
        errors.each_invalid(&path.child("storageClassName"), class, wrong);
    }
    if let Some(mode) = &it.volume_mode {
        one_of(&path.child("volumeMode"), mode, VOLUME_MODES, errors);
    }
    if let Some(source) = &it.data_source {
        let path = path.child("dataSource");
        data_source(source.api_group.as_deref(), &source.kind, &source.name, &path, errors);
    }
    if let Some(source) = &it.data_source_ref {
        let path = path.child("dataSourceRef");
        data_source(source.api_group.as_deref(), &source.kind, &source.name, &path, errors);
    }
}

fn data_source(group: Option<&str>, kind: &str, name: &str, path: &Path<'_>, errors: &mut Errors) {
    for (field, value) in [("name", name), ("kind", kind)] {
        if value.is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    let group = group.unwrap_or_default();
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.invalid(path, kind, detail);
    }
    if !group.is_empty() {
        let wrong = syntax::dns1123_subdomain(group);
        errors.each_invalid(&path.child("apiGroup"), group, wrong);
    }
}

/// A claim's spec stays, but for the volume's name once, the size of a bound claim, a class where
/// there was none, and the class of attributes.
pub(super) fn claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (mut now, mut before) = (object(&new["spec"]), object(&old["spec"]));
    let is_unset = |spec: &Map<String, Value>, key: &str| {
        spec.get(key).is_none_or(|value| value.is_null() || value == "")
    };
    if is_unset(&before, "volumeName") {
        now.shift_remove("volumeName");
        before.shift_remove("volumeName");
    }
    if before.get("storageClassName").is_none_or(Value::is_null) {
        now.shift_remove("storageClassName");
        before.shift_remove("storageClassName");
    }
    now.shift_remove("volumeAttributesClassName");
    before.shift_remove("volumeAttributesClassName");
    let size =
        |spec: &Map<String, Value>| spec.get("resources")?.get("requests")?.get("storage").cloned();
    let (new_size, old_size) = (size(&now), size(&before));
    if new["status"]["phase"] == "Bound"
        && let Some(requests) =
            now.get_mut("resources").and_then(|it| it.get_mut("requests")?.as_object_mut())
        && let Some(old_size) = &old_size
    {
        requests.insert("storage".into(), old_size.clone());
    }
    if now != before {
        errors.forbidden(
            &SPEC,
            "spec is immutable after creation except resources.requests and \
             volumeAttributesClassName for bound claims",
        );
    }
    let amount = |value: Option<&Value>| value?.as_str()?.parse::<Quantity>().ok();
    if let (Some(new_size), Some(old_size)) = (amount(new_size.as_ref()), amount(old_size.as_ref()))
        && new_size < old_size
        && amount(old["status"]["capacity"].get("storage")).is_some_and(|has| new_size <= has)
    {
        let path = SPEC.child("resources");
        let path = path.child("requests");
        errors.forbidden(&path.child("storage"), "field can not be less than status.capacity");
    }
    volume_mode(new, old, errors);
}
