//! The kinds of `storage.k8s.io`: classes, CSI nodes, drivers and capacities, attachments.

use k8s_openapi::api::core::v1::TopologySelectorTerm;
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSINodeDriver, CSIStorageCapacity, StorageClass, VolumeAttachment,
};
use rustc_hash::FxHashSet;
use serde_json::{Value, json};

use super::persistent_volume::driver_name;
use super::{IMMUTABLE, NOT_NEGATIVE, non_negative, one_of, persistent_volume, selector};
use crate::field::{Errors, Path};
use crate::quantity::Quantity;
use crate::syntax;

const SPEC: Path<'static> = Path::new("spec");
/// All keys and values of a class's parameters together, in bytes.
const PARAMETERS_BYTES_MAX: usize = 256 << 10;
/// How many parameters a class may have.
const PARAMETERS_MAX: usize = 512;
/// A CSI driver's id of a node, in bytes.
const NODE_ID_MAX: usize = 256;
/// The metadata of an attachment, and the message of its errors, in bytes.
const ATTACHMENT_METADATA_BYTES_MAX: usize = 256 << 10;

pub(super) fn class(class: &StorageClass, errors: &mut Errors) {
    let path = Path::new("provisioner");
    if class.provisioner.is_empty() {
        errors.required(&path, "");
    } else {
        let wrong = syntax::qualified_name(&class.provisioner.to_lowercase());
        errors.each_invalid(&path, &class.provisioner, wrong);
    }
    parameters(class, errors);
    let path = Path::new("reclaimPolicy");
    if let Some(policy) = class.reclaim_policy.as_deref().filter(|policy| !policy.is_empty()) {
        one_of(&path, policy, &["Delete", "Retain"], errors);
    }
    let path = Path::new("volumeBindingMode");
    match class.volume_binding_mode.as_deref() {
        None => errors.required(&path, ""),
        Some(mode) => one_of(&path, mode, &["Immediate", "WaitForFirstConsumer"], errors),
    }
    let list = Path::new("allowedTopologies");
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    for (i, term) in terms.iter().enumerate() {
        let path = list.index(i);
        topology_term(term, &path, errors);
        if terms[..i].contains(term) {
            errors.duplicate(&path.child("matchLabelExpressions"), "");
        }
    }
}

fn parameters(class: &StorageClass, errors: &mut Errors) {
    let path = Path::new("parameters");
    let Some(parameters) = &class.parameters else { return };
    if parameters.len() > PARAMETERS_MAX {
        return errors.too_long(&path, PARAMETERS_MAX);
    }
    if parameters.contains_key("") {
        errors.invalid(&path, "", "field can not be empty.");
    }
    let bytes: usize = parameters.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > PARAMETERS_BYTES_MAX {
        errors.too_long(&path, PARAMETERS_BYTES_MAX);
    }
}

fn topology_term(term: &TopologySelectorTerm, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("matchLabelExpressions");
    let mut keys = FxHashSet::default();
    for (i, expression) in term.match_label_expressions.iter().flatten().enumerate() {
        let path = list.index(i);
        let key = &expression.key;
        errors.each_invalid(&path.child("key"), key, syntax::qualified_name(key));
        if expression.values.is_empty() {
            errors.required(&path.child("values"), "");
        }
        let mut values = FxHashSet::default();
        for (j, value) in expression.values.iter().enumerate() {
            if !values.insert(value) {
                errors.duplicate(&path.child("values").index(j), value.as_str());
            }
        }
        if !keys.insert(key) {
            errors.duplicate(&path.child("key"), key.as_str());
        }
    }
}

pub(super) fn class_update(new: &Value, old: &Value, errors: &mut Errors) {
    for field in ["parameters", "provisioner"] {
        if new.get(field) != old.get(field) {
            errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
        }
    }
    for field in ["reclaimPolicy", "volumeBindingMode"] {
        if new.get(field) != old.get(field) {
            errors.invalid(&Path::new(field), new[field].clone(), IMMUTABLE);
        }
    }
}

pub(super) fn csi_node(node: &CSINode, errors: &mut Errors) {
    let list = SPEC.child("drivers");
    let mut names = FxHashSet::default();
    for (i, driver) in node.spec.drivers.iter().enumerate() {
        let path = list.index(i);
        csi_node_driver(driver, &path, errors);
        if !names.insert(&driver.name) {
            errors.duplicate(&path.child("name"), driver.name.as_str());
        }
    }
}

fn csi_node_driver(driver: &CSINodeDriver, path: &Path<'_>, errors: &mut Errors) {
    driver_name(&path.child("name"), &driver.name, errors);
    if driver.node_id.is_empty() {
        errors.required(&path.child("nodeID"), "");
    }
    if driver.node_id.len() > NODE_ID_MAX {
        let detail = format!("must be {NODE_ID_MAX} characters or less");
        errors.invalid(&path.child("nodeID"), driver.node_id.as_str(), detail);
    }
    let count = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
    let allocatable = path.child("allocatable");
    non_negative(&allocatable.child("count"), count.map(i64::from), errors);
    let mut keys = FxHashSet::default();
    for key in driver.topology_keys.iter().flatten() {
        if key.is_empty() {
            errors.required(path, "");
        }
        if !keys.insert(key) {
            errors.duplicate(path, key.as_str());
        }
        errors.each_invalid(path, key, syntax::qualified_name(key));
    }
}

/// A driver that stays may change no more than how many volumes it takes.
pub(super) fn csi_node_update(new: &Value, old: &Value, errors: &mut Errors) {
    let drivers = |node: &Value| node["spec"]["drivers"].as_array().cloned().unwrap_or_default();
    let without_count = |driver: &Value| {
        let mut driver = driver.clone();
        driver.as_object_mut().map(|driver| driver.shift_remove("allocatable"));
        driver
    };
    for now in drivers(new) {
        for before in drivers(old).iter().filter(|before| before["name"] == now["name"]) {
            if without_count(&now) != without_count(before) {
                errors.invalid(&SPEC.child("drivers"), now.clone(), IMMUTABLE);
            }
        }
    }
}

pub(super) fn csi_driver(driver: &CSIDriver, errors: &mut Errors) {
    let name = driver.metadata.name.as_deref().unwrap_or_default();
    if name.len() > 63 {
        errors.too_long(&Path::new("metadata").child("name"), 63);
    }
    let spec = &driver.spec;
    for (field, is_set) in [
        ("attachedRequired", spec.attach_required.is_some()),
        ("podInfoOnMount", spec.pod_info_on_mount.is_some()),
        ("storageCapacity", spec.storage_capacity.is_some()),
    ] {
        if !is_set {
            errors.required(&SPEC.child(field), "");
        }
    }
    if let Some(policy) = &spec.fs_group_policy {
        let policies = &["File", "None", "ReadWriteOnceWithFSType"];
        one_of(&SPEC.child("fsGroupPolicy"), policy, policies, errors);
    }
    let path = SPEC.child("volumeLifecycleModes");
    for mode in spec.volume_lifecycle_modes.iter().flatten() {
        one_of(&path, mode, &["Persistent", "Ephemeral"], errors);
    }
    if let Some(period) = spec.node_allocatable_update_period_seconds.filter(|it| *it < 10) {
        let path = SPEC.child("nodeAllocatableUpdatePeriodSeconds");
        errors.invalid(&path, period, "must be greater than or equal to 10 seconds");
    }
    token_requests(driver, errors);
}

fn token_requests(driver: &CSIDriver, errors: &mut Errors) {
    let list = SPEC.child("tokenRequests");
    let mut audiences = FxHashSet::default();
    for (i, request) in driver.spec.token_requests.iter().flatten().enumerate() {
        let path = list.index(i);
        if !audiences.insert(&request.audience) {
            errors.duplicate(&path.child("audience"), request.audience.as_str());
            continue;
        }
        let detail = match request.expiration_seconds {
            Some(seconds) if seconds < 600 => "may not specify a duration less than 10 minutes",
            Some(seconds) if seconds > 1 << 32 => {
                "may not specify a duration larger than 2^32 seconds"
            }
            _ => continue,
        };
        errors.invalid(&path.child("expirationSeconds"), json!(request.expiration_seconds), detail);
    }
}

pub(super) fn csi_driver_update(new: &Value, old: &Value, errors: &mut Errors) {
    for (field, shown) in
        [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        let (now, before) = (&new["spec"][field], &old["spec"][field]);
        if now != before {
            errors.invalid(&SPEC.child(shown), now.clone(), IMMUTABLE);
        }
    }
}

pub(super) fn capacity(it: &CSIStorageCapacity, errors: &mut Errors) {
    if let Some(topology) = &it.node_topology {
        selector::label_selector(&Path::new("nodeTopology"), topology, errors);
    }
    let class = &it.storage_class_name;
    let wrong = syntax::dns1123_subdomain(class);
    errors.each_invalid(&Path::new("storageClassName"), class, wrong);
    if let Some(text) = &it.capacity
        && Quantity::try_from(text).is_ok_and(Quantity::is_negative)
    {
        errors.invalid(&Path::new("capacity"), text.0.as_str(), NOT_NEGATIVE);
    }
}

pub(super) fn attachment(it: &VolumeAttachment, errors: &mut Errors) {
    let spec = &it.spec;
    driver_name(&SPEC.child("attacher"), &spec.attacher, errors);
    let path = SPEC.child("source");
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&spec.source.inline_volume_spec, &spec.source.persistent_volume_name) {
        (None, None) => errors.required(&path, one),
        (Some(_), Some(_)) => errors.forbidden(&path, one),
        (None, Some(name)) if name.is_empty() => {
            let detail = "must specify non empty persistentVolumeName";
            errors.required(&path.child("persistentVolumeName"), detail);
        }
        (None, Some(name)) => {
            let wrong = syntax::dns1123_subdomain(name);
            errors.each_invalid(&path.child("persistentVolumeName"), name, wrong);
        }
        (Some(inline), None) => {
            persistent_volume::spec(inline, true, &path.child("inlineVolumeSpec"), errors);
        }
    }
    let node = &spec.node_name;
    errors.each_invalid(&SPEC.child("nodeName"), node, syntax::dns1123_subdomain(node));
}

/// A write to an attachment's status.
pub(super) fn attachment_status(new: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let status = &new["status"];
    let texts = status["attachmentMetadata"].as_object().into_iter().flatten();
    let bytes: usize =
        texts.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > ATTACHMENT_METADATA_BYTES_MAX {
        errors.too_long(&path.child("attachmentMetadata"), ATTACHMENT_METADATA_BYTES_MAX);
    }
    for field in ["attachError", "detachError"] {
        let message = status[field]["message"].as_str().unwrap_or_default();
        if message.len() > ATTACHMENT_METADATA_BYTES_MAX {
            let path = path.child(field);
            errors.too_long(&path.child("message"), ATTACHMENT_METADATA_BYTES_MAX);
        }
    }
}
