//! What makes an object acceptable, by kind, with upstream's field paths and words.
//!
//! Mirrors `pkg/apis/*/validation`. Objects come decoded and defaulted; each function returns
//! everything it finds wrong, an empty list if the object may be stored. Not checked: what the
//! feature gates of alpha features guard, windows-only fields, and volume types no runtime here
//! mounts.

use k8s_openapi::api::{apps, coordination, core, discovery, policy, scheduling};
use serde::Deserialize;
use serde_json::Value;

use crate::field::{Errors, Path};
use crate::scheme::{self, Kind};

mod cluster;
mod config;
mod container;
mod endpoint_slice;
mod meta;
mod pod;
mod pod_update;
mod scheduling_rule;
mod selector;
mod service;
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

/// Checks an object that is to replace `old`.
pub fn update(kind: Kind, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    meta::object_meta(kind, &new["metadata"], &mut errors);
    meta::update(&new["metadata"], &old["metadata"], &mut errors);
    spec(kind, new, Some(old), &mut errors);
    match kind {
        Kind::Pod => pod_update::update(new, old, &mut errors),
        Kind::Service => service::update(new, old, &mut errors),
        Kind::Deployment | Kind::ReplicaSet => workload::update(new, old, &mut errors),
        Kind::Node => cluster::node_update(new, old, &mut errors),
        Kind::PriorityClass => cluster::priority_class_update(new, old, &mut errors),
        Kind::ConfigMap | Kind::Secret => config::update(kind, new, old, &mut errors),
        Kind::EndpointSlice => immutable(new, old, &["addressType"], &mut errors),
        _ => {}
    }
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
        Kind::Deployment | Kind::ReplicaSet => workload::status(kind, new, &mut errors),
        _ => {}
    }
    errors
}

/// What must hold for a new object and for a changed one.
fn spec(kind: Kind, object: &Value, old: Option<&Value>, errors: &mut Errors) {
    match kind {
        Kind::Pod => with(object, errors, |it: core::v1::Pod, errors| {
            pod::pod(&it, old.is_some(), errors);
        }),
        Kind::Service => with(object, errors, |it: core::v1::Service, errors| {
            service::service(&it, errors);
        }),
        Kind::Deployment => with(object, errors, |it: apps::v1::Deployment, errors| {
            workload::deployment(&it, errors);
        }),
        Kind::ReplicaSet => with(object, errors, |it: apps::v1::ReplicaSet, errors| {
            workload::replica_set(&it, errors);
        }),
        Kind::Node => with(object, errors, |it: core::v1::Node, errors| {
            cluster::node(&it, errors);
        }),
        Kind::Lease => with(object, errors, |it: coordination::v1::Lease, errors| {
            cluster::lease(&it, errors);
        }),
        Kind::PriorityClass => with(object, errors, |it: scheduling::v1::PriorityClass, errors| {
            cluster::priority_class(&it, errors);
        }),
        Kind::ConfigMap => with(object, errors, |it: core::v1::ConfigMap, errors| {
            config::config_map(&it, errors);
        }),
        Kind::Secret => with(object, errors, |it: core::v1::Secret, errors| {
            config::secret(&it, errors);
        }),
        Kind::EndpointSlice => with(object, errors, |it: discovery::v1::EndpointSlice, errors| {
            endpoint_slice::endpoint_slice(&it, errors);
        }),
        Kind::Event if old.is_none() => with(object, errors, |it: core::v1::Event, errors| {
            cluster::event(&it, errors);
        }),
        Kind::Binding => with(object, errors, |it: core::v1::Binding, errors| {
            cluster::binding(&it, errors);
        }),
        Kind::Eviction => with(object, errors, |_: policy::v1::Eviction, _| {}),
        Kind::Event
        | Kind::Namespace
        | Kind::ServiceAccount
        | Kind::Scale
        | Kind::DeleteOptions => {}
    }
}

/// The typed view of an object. Decoding has checked the types, so that it cannot fail on what
/// came through the API; if it does, that is an error of the whole object.
fn with<'de, T: Deserialize<'de>>(
    object: &'de Value,
    errors: &mut Errors,
    check: impl FnOnce(T, &mut Errors),
) {
    match T::deserialize(object) {
        Ok(typed) => check(typed, errors),
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
