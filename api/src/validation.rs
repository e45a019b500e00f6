//! What makes an object acceptable, by kind, with upstream's field paths and words.
//!
//! Mirrors `pkg/apis/*/validation`. Objects come decoded and defaulted; each function returns
//! everything it finds wrong, an empty list if the object may be stored. Not checked: what the
//! feature gates of alpha features guard, windows-only fields, and volume types no runtime here
//! mounts.

use k8s_openapi::api::{core, policy};
use serde::Deserialize;
use serde_json::Value;

use crate::field::{Errors, Path};
use crate::scheme::{self, Kind};

mod cluster;
mod config;
mod container;
mod device;
mod disruption;
mod endpoint_slice;
mod meta;
mod persistent_volume;
mod pod;
mod pod_update;
mod review;
mod scheduling_group;
mod scheduling_rule;
mod selector;
mod service;
mod storage;
#[cfg(test)]
mod tests;
mod volume;
mod workload;

pub use scheduling_rule::node_affinity;

/// Checks an object that is to be created.
pub fn create(kind: Kind, object: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::object_meta(kind, &object["metadata"], &mut errors);
    spec(kind, object, None, &mut errors);
    errors
}

/// The same of a pod that was read already.
pub fn create_pod(object: &Value, pod: &core::v1::Pod) -> Errors {
    let mut errors = Errors::new();
    meta::object_meta(Kind::Pod, &object["metadata"], &mut errors);
    pod::pod(pod, false, &mut errors);
    errors
}

/// Checks an object that is to replace `old`.
pub fn update(kind: Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::object_meta(kind, &new["metadata"], &mut errors);
    meta::update(&new["metadata"], &old["metadata"], &mut errors);
    spec(kind, new, Some(old), &mut errors);
    match kind {
        Kind::Pod => pod_update::update(new, old, &mut errors),
        Kind::Service => service::update(new, old, &mut errors),
        Kind::DaemonSet | Kind::Deployment | Kind::ReplicaSet => {
            workload::update(new, old, &mut errors);
        }
        Kind::StatefulSet => workload::stateful_set_update(new, old, &mut errors),
        Kind::PersistentVolume => persistent_volume::update(new, old, &mut errors),
        Kind::PersistentVolumeClaim => persistent_volume::claim_update(new, old, &mut errors),
        Kind::StorageClass => storage::class_update(new, old, &mut errors),
        Kind::CsiNode => storage::csi_node_update(new, old, &mut errors),
        Kind::CsiDriver => storage::csi_driver_update(new, old, &mut errors),
        Kind::CsiStorageCapacity => {
            immutable(new, old, &["nodeTopology", "storageClassName"], &mut errors);
        }
        Kind::VolumeAttachment | Kind::ResourceClaim | Kind::ResourceClaimTemplate => {
            immutable(new, old, &["spec"], &mut errors);
        }
        Kind::ResourceSlice => device::slice_update(new, old, &mut errors),
        Kind::Workload => scheduling_group::update(new, old, &mut errors),
        Kind::Node => cluster::node_update(new, old, &mut errors),
        Kind::PriorityClass => cluster::priority_class_update(new, old, &mut errors),
        Kind::ConfigMap | Kind::Secret => config::update(kind, new, old, &mut errors),
        Kind::EndpointSlice => immutable(new, old, &["addressType"], &mut errors),
        _ => {}
    }
    errors
}

/// Checks a write to a pod's `/resize`: only what containers ask for is the request's.
pub fn resize(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    spec(Kind::Pod, new, Some(old), &mut errors);
    pod_update::resize(new, old, &mut errors);
    errors
}

/// Checks a write to `/status`: only metadata and status are the request's.
pub fn update_status(kind: Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::object_meta(kind, &new["metadata"], &mut errors);
    meta::update(&new["metadata"], &old["metadata"], &mut errors);
    match kind {
        Kind::Pod => pod_update::status(new, old, &mut errors),
        Kind::Node => cluster::node_status(new, &mut errors),
        Kind::Deployment | Kind::ReplicaSet | Kind::ReplicationController | Kind::StatefulSet => {
            workload::status(kind, new, &mut errors);
        }
        Kind::DaemonSet => workload::daemon_set_status(new, &mut errors),
        Kind::PodDisruptionBudget => disruption::status(new, &mut errors),
        Kind::ResourceClaim => device::claim_status(new, old, &mut errors),
        Kind::VolumeAttachment => storage::attachment_status(new, &mut errors),
        _ => {}
    }
    errors
}

/// What must hold for a new object and for a changed one.
fn spec(kind: Kind, object: &Value, old: Option<&Value>, errors: &mut Errors) {
    match kind {
        Kind::Pod => with(object, errors, |it: &core::v1::Pod, errors| {
            pod::pod(it, old.is_some(), errors);
        }),
        Kind::Service => with(object, errors, service::service),
        Kind::Deployment => with(object, errors, workload::deployment),
        Kind::ReplicaSet => with(object, errors, workload::replica_set),
        Kind::Node => with(object, errors, cluster::node),
        Kind::Lease => with(object, errors, cluster::lease),
        Kind::PriorityClass => with(object, errors, cluster::priority_class),
        Kind::ConfigMap => with(object, errors, config::config_map),
        Kind::Secret => with(object, errors, config::secret),
        Kind::EndpointSlice => with(object, errors, endpoint_slice::endpoint_slice),
        Kind::ReplicationController => with(object, errors, workload::replication_controller),
        Kind::StatefulSet => with(object, errors, workload::stateful_set),
        Kind::DaemonSet => with(object, errors, workload::daemon_set),
        Kind::PersistentVolume => with(object, errors, persistent_volume::volume),
        Kind::PersistentVolumeClaim => with(object, errors, persistent_volume::claim),
        Kind::StorageClass => with(object, errors, storage::class),
        Kind::CsiNode => with(object, errors, storage::csi_node),
        Kind::CsiDriver => with(object, errors, storage::csi_driver),
        Kind::CsiStorageCapacity => with(object, errors, storage::capacity),
        Kind::VolumeAttachment => with(object, errors, storage::attachment),
        Kind::PodDisruptionBudget => with(object, errors, disruption::budget),
        Kind::DeviceClass => with(object, errors, device::class),
        Kind::DeviceTaintRule => with(object, errors, device::taint_rule),
        Kind::ResourceClaim => with(object, errors, device::claim),
        Kind::ResourceClaimTemplate => with(object, errors, device::template),
        Kind::ResourceSlice => with(object, errors, device::slice),
        Kind::Workload => with(object, errors, scheduling_group::workload),
        Kind::SubjectAccessReview => with(object, errors, review::subject_access),
        Kind::LocalSubjectAccessReview => with(object, errors, review::local_subject_access),
        Kind::SelfSubjectAccessReview => with(object, errors, review::self_subject_access),
        Kind::Event if old.is_none() => with(object, errors, cluster::event),
        Kind::Binding => with(object, errors, cluster::binding),
        Kind::Eviction => with(object, errors, |_: &policy::v1::Eviction, _| {}),
        Kind::Event
        | Kind::Namespace
        | Kind::ServiceAccount
        | Kind::TokenReview
        | Kind::SelfSubjectReview
        | Kind::Scale
        | Kind::DeleteOptions => {}
    }
}

/// The typed view of an object. Decoding has checked the types, so that it cannot fail on what
/// came through the API; if it does, that is an error of the whole object.
fn with<'de, T: Deserialize<'de>>(
    object: &'de Value,
    errors: &mut Errors,
    check: impl FnOnce(&T, &mut Errors),
) {
    match T::deserialize(object) {
        Ok(typed) => check(&typed, errors),
        Err(error) => errors.invalid(&Path::new("object"), Value::Null, error.to_string()),
    }
}

const IMMUTABLE: &str = "field is immutable";

/// The fields at the object's top that may not change.
fn immutable(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        if new.get(field) != old.get(field) {
            let value = new.get(field).cloned().unwrap_or_default();
            errors.invalid(&Path::new(field), value, IMMUTABLE);
        }
    }
}

/// Whether objects of this kind live in namespaces.
fn is_namespaced(kind: Kind) -> bool {
    scheme::of(kind).is_none_or(|resource| resource.namespaced)
}

/// One of the known texts.
fn one_of(path: &Path<'_>, value: &str, supported: &[&str], errors: &mut Errors) {
    if !supported.contains(&value) {
        errors.not_supported(path, value, supported);
    }
}

/// As [`one_of`], but there must be a text.
fn required_one_of(path: &Path<'_>, value: &str, supported: &[&str], errors: &mut Errors) {
    if value.is_empty() {
        errors.required(path, "");
    } else {
        one_of(path, value, supported, errors);
    }
}

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

fn non_negative(path: &Path<'_>, value: Option<i64>, errors: &mut Errors) {
    if let Some(value) = value.filter(|value| *value < 0) {
        errors.invalid(path, value, NOT_NEGATIVE);
    }
}
