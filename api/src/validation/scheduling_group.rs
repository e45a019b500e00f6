//! Workloads: the groups of pods that are scheduled together.

use k8s_openapi::api::core::v1::WorkloadReference;
use k8s_openapi::api::scheduling::v1alpha1::{
    PodGroup, PodGroupPolicy, TypedLocalObjectReference, Workload,
};
use rustc_hash::FxHashSet;
use serde_json::Value;

use super::IMMUTABLE;
use crate::field::{Errors, Path};
use crate::syntax;

const SPEC: Path<'static> = Path::new("spec");
/// How many groups a Workload may have.
const POD_GROUPS_MAX: usize = 8;

pub(super) fn workload(workload: &Workload, errors: &mut Errors) {
    let spec = &workload.spec;
    if let Some(reference) = &spec.controller_ref {
        controller(reference, &SPEC.child("controllerRef"), errors);
    }
    let list = SPEC.child("podGroups");
    match spec.pod_groups.len() {
        0 => return errors.required(&list, "must have at least one item"),
        count if count > POD_GROUPS_MAX => return errors.too_many(&list, count, POD_GROUPS_MAX),
        _ => {}
    }
    let mut names = FxHashSet::default();
    for (i, group) in spec.pod_groups.iter().enumerate() {
        pod_group(group, names.insert(&group.name), &list.index(i), errors);
    }
}

fn controller(it: &TypedLocalObjectReference, path: &Path<'_>, errors: &mut Errors) {
    if let Some(group) = it.api_group.as_deref().filter(|group| !group.is_empty()) {
        let wrong = syntax::dns1123_subdomain(group);
        errors.each_invalid(&path.child("apiGroup"), group, wrong);
    }
    for (field, value) in [("kind", &it.kind), ("name", &it.name)] {
        if value.is_empty() {
            errors.required(&path.child(field), "");
        }
    }
}

fn pod_group(group: &PodGroup, is_new: bool, path: &Path<'_>, errors: &mut Errors) {
    let name = &group.name;
    errors.each_invalid(&path.child("name"), name, syntax::dns1123_label(name));
    if !is_new {
        errors.duplicate(&path.child("name"), name.as_str());
    }
    policy(&group.policy, &path.child("policy"), errors);
}

fn policy(policy: &PodGroupPolicy, path: &Path<'_>, errors: &mut Errors) {
    match (&policy.basic, &policy.gang) {
        (None, None) => errors.required(path, "exactly one of `basic`, `gang` is required"),
        (Some(_), Some(_)) => errors.invalid(
            path,
            "{`basic`, `gang`}",
            "exactly one of `basic`, `gang` is required, but multiple fields are set",
        ),
        (None, Some(gang)) if gang.min_count <= 0 => {
            let path = path.child("gang");
            errors.invalid(&path.child("minCount"), gang.min_count, "must be greater than zero");
        }
        _ => {}
    }
}

/// The group that a pod says it belongs to.
pub(super) fn reference(it: &WorkloadReference, path: &Path<'_>, errors: &mut Errors) {
    errors.each_invalid(&path.child("name"), &it.name, syntax::dns1123_subdomain(&it.name));
    let group = &it.pod_group;
    errors.each_invalid(&path.child("podGroup"), group, syntax::dns1123_label(group));
    if let Some(key) = it.pod_group_replica_key.as_deref().filter(|key| !key.is_empty()) {
        let wrong = syntax::dns1123_label(key);
        errors.each_invalid(&path.child("podGroupReplicaKey"), key, wrong);
    }
}

pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    for field in ["controllerRef", "podGroups"] {
        let (now, before) = (&new["spec"][field], &old["spec"][field]);
        if now != before && (field == "podGroups" || !before.is_null()) {
            errors.invalid(&Path::new(field), now.clone(), IMMUTABLE);
        }
    }
}
