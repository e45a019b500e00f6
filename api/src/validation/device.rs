//! The kinds of `resource.k8s.io`: device classes, claims, templates and slices.
//!
//! Not checked: that CEL expressions compile and stay within their cost, opaque parameters, and
//! what the feature gates of alpha features guard.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::api::resource::v1::{
    Device, DeviceClaim, DeviceClass, DeviceRequest, DeviceSelector, DeviceToleration,
    ExactDeviceRequest, ResourceClaim, ResourceClaimTemplate, ResourceSlice,
};
use k8s_openapi::api::resource::v1alpha3::DeviceTaintRule;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use super::persistent_volume::driver_name;
use super::{IMMUTABLE, one_of, required_one_of, scheduling_rule};
use crate::field::{Errors, Path};
use crate::syntax;

const SPEC: Path<'static> = Path::new("spec");
/// Requests, constraints and configurations of a claim.
const CLAIM_ITEMS_MAX: usize = 32;
/// Alternatives of one request.
const ALTERNATIVES_MAX: usize = 8;
/// Devices of a slice; half of it when they have taints or consume counters.
const DEVICES_MAX: usize = 128;
/// Attributes and capacities of a device together.
const ATTRIBUTES_MAX: usize = 32;
/// A CEL expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 10 << 10;
/// A pool's name, in bytes.
const POOL_NAME_MAX: usize = 253;
/// Who may share a claim.
const CONSUMERS_MAX: usize = 256;

pub(super) fn class(class: &DeviceClass, errors: &mut Errors) {
    selectors(class.spec.selectors.as_deref(), &SPEC.child("selectors"), errors);
    if let Some(name) = &class.spec.extended_resource_name {
        let path = SPEC.child("extendedResourceName");
        errors.each_invalid(&path, name, syntax::qualified_name(name));
        if !name.contains('/') {
            errors.invalid(&path, name.as_str(), "must be a valid extended resource name");
        }
    }
}

pub(super) fn claim(claim: &ResourceClaim, errors: &mut Errors) {
    if let Some(devices) = &claim.spec.devices {
        device_claim(devices, &SPEC.child("devices"), errors);
    }
}

pub(super) fn template(template: &ResourceClaimTemplate, errors: &mut Errors) {
    if let Some(devices) = &template.spec.spec.devices {
        let path = SPEC.child("spec");
        device_claim(devices, &path.child("devices"), errors);
    }
}

fn device_claim(claim: &DeviceClaim, path: &Path<'_>, errors: &mut Errors) {
    let requests = claim.requests.as_deref().unwrap_or_default();
    let list = path.child("requests");
    bounded(&list, requests.len(), CLAIM_ITEMS_MAX, errors);
    let mut names = FxHashMap::default();
    for (i, request) in requests.iter().enumerate() {
        let alternatives = request.first_available.as_deref().unwrap_or_default();
        let alternatives: FxHashSet<&str> =
            alternatives.iter().map(|it| it.name.as_str()).collect();
        let path = list.index(i);
        if names.insert(request.name.as_str(), alternatives).is_some() {
            errors.duplicate(&path.child("name"), request.name.as_str());
        }
        device_request(request, &path, errors);
    }
    let known = |reference: &str| match reference.split_once('/') {
        None => names.contains_key(reference),
        Some((request, alternative)) => {
            names.get(request).is_some_and(|all| all.contains(alternative))
        }
    };
    let refer = |references: Option<&Vec<String>>, path: &Path<'_>, errors: &mut Errors| {
        let list = path.child("requests");
        for (i, reference) in references.into_iter().flatten().enumerate() {
            if !known(reference) {
                let detail = "must be the name of a request in the claim or the name of a request \
                              and a subrequest separated by '/'";
                errors.invalid(&list.index(i), reference.as_str(), detail);
            }
        }
    };
    let constraints = claim.constraints.as_deref().unwrap_or_default();
    let list = path.child("constraints");
    bounded(&list, constraints.len(), CLAIM_ITEMS_MAX, errors);
    for (i, constraint) in constraints.iter().enumerate() {
        let path = list.index(i);
        refer(constraint.requests.as_ref(), &path, errors);
        match (&constraint.match_attribute, &constraint.distinct_attribute) {
            (Some(name), _) => qualified(&path.child("matchAttribute"), name, errors),
            (None, Some(name)) => qualified(&path.child("distinctAttribute"), name, errors),
            (None, None) => errors.required(&path.child("matchAttribute"), ""),
        }
    }
    let configurations = claim.config.as_deref().unwrap_or_default();
    let list = path.child("config");
    bounded(&list, configurations.len(), CLAIM_ITEMS_MAX, errors);
    for (i, configuration) in configurations.iter().enumerate() {
        let path = list.index(i);
        refer(configuration.requests.as_ref(), &path, errors);
        match &configuration.opaque {
            Some(opaque) => {
                let path = path.child("opaque");
                driver_name(&path.child("driver"), &opaque.driver, errors);
            }
            None => errors.required(&path.child("opaque"), ""),
        }
    }
}

fn bounded(path: &Path<'_>, count: usize, count_max: usize, errors: &mut Errors) {
    if count > count_max {
        errors.too_many(path, count, count_max);
    }
}

/// The name of an attribute or capacity with its domain.
fn qualified(path: &Path<'_>, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    match name.split_once('/') {
        None => errors.invalid(path, name, "must include a domain"),
        Some((domain, id)) => {
            errors.each_invalid(path, domain, syntax::dns1123_subdomain(domain));
            identifier(path, id, errors);
        }
    }
}

/// A C identifier of at most 32 bytes.
fn identifier(path: &Path<'_>, id: &str, errors: &mut Errors) {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if id.len() > 32 {
        errors.too_long(path, 32);
    }
    if id.is_empty() {
        errors.required(path, "the name must not be empty");
    } else if !id.bytes().all(inner) || id.starts_with(|c: char| c.is_ascii_digit()) {
        let detail = "a valid C identifier must start with alphabetic character or '_', followed \
                      by a string of alphanumeric characters or '_' (e.g. 'my_name',  or \
                      'MY_NAME',  or 'MyName', regex used for validation is \
                      '[A-Za-z_][A-Za-z0-9_]*')";
        errors.invalid(path, id, detail);
    }
}

fn device_request(request: &DeviceRequest, path: &Path<'_>, errors: &mut Errors) {
    label(&path.child("name"), &request.name, errors);
    let alternatives = request.first_available.as_deref().unwrap_or_default();
    match (&request.exactly, alternatives.is_empty()) {
        (None, true) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required";
            errors.required(path, detail);
        }
        (Some(_), false) => errors.invalid(
            path,
            Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (Some(exactly), true) => exact(exactly, &path.child("exactly"), errors),
        (None, false) => {
            let list = path.child("firstAvailable");
            bounded(&list, alternatives.len(), ALTERNATIVES_MAX, errors);
            let mut names = FxHashSet::default();
            for (i, it) in alternatives.iter().enumerate() {
                let path = list.index(i);
                label(&path.child("name"), &it.name, errors);
                if !names.insert(&it.name) {
                    errors.duplicate(&path.child("name"), it.name.as_str());
                }
                let it = ExactDeviceRequest {
                    admin_access: None,
                    allocation_mode: it.allocation_mode.clone(),
                    capacity: it.capacity.clone(),
                    count: it.count,
                    device_class_name: it.device_class_name.clone(),
                    selectors: it.selectors.clone(),
                    tolerations: it.tolerations.clone(),
                };
                exact(&it, &path, errors);
            }
        }
    }
}

fn label(path: &Path<'_>, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
    } else {
        errors.each_invalid(path, name, syntax::dns1123_label(name));
    }
}

fn exact(it: &ExactDeviceRequest, path: &Path<'_>, errors: &mut Errors) {
    let class = &it.device_class_name;
    let class_path = path.child("deviceClassName");
    if class.is_empty() {
        errors.required(&class_path, "");
    } else {
        errors.each_invalid(&class_path, class, syntax::dns1123_subdomain(class));
    }
    selectors(it.selectors.as_deref(), &path.child("selectors"), errors);
    let count = it.count.unwrap_or(0);
    let count_path = path.child("count");
    match it.allocation_mode.as_deref().unwrap_or_default() {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.invalid(&count_path, count, detail);
        }
        "ExactCount" if count <= 0 => {
            errors.invalid(&count_path, count, "must be greater than zero");
        }
        "All" | "ExactCount" => {}
        other => {
            let path = path.child("allocationMode");
            errors.not_supported(&path, other, &["All", "ExactCount"]);
        }
    }
    let list = path.child("tolerations");
    for (i, it) in it.tolerations.iter().flatten().enumerate() {
        toleration(it, &list.index(i), errors);
    }
}

fn toleration(it: &DeviceToleration, path: &Path<'_>, errors: &mut Errors) {
    if let Some(key) = it.key.as_deref().filter(|key| !key.is_empty()) {
        errors.each_invalid(&path.child("key"), key, syntax::qualified_name(key));
    }
    let operator_path = path.child("operator");
    match it.operator.as_deref().unwrap_or_default() {
        "Exists" if it.value.as_ref().is_some_and(|value| !value.is_empty()) => {
            let value = it.value.as_deref().unwrap_or_default();
            let detail = "must be empty for operator `Exists`";
            errors.invalid(&path.child("value"), value, detail);
        }
        "Equal" if it.key.as_ref().is_none_or(String::is_empty) => {
            errors.required(&path.child("key"), "");
        }
        "Exists" | "Equal" => {}
        other => required_one_of(&operator_path, other, &["Equal", "Exists"], errors),
    }
    if let Some(effect) = it.effect.as_deref().filter(|effect| !effect.is_empty()) {
        one_of(&path.child("effect"), effect, &["NoExecute", "NoSchedule"], errors);
    }
}

fn selectors(all: Option<&[DeviceSelector]>, list: &Path<'_>, errors: &mut Errors) {
    let all = all.unwrap_or_default();
    bounded(list, all.len(), CLAIM_ITEMS_MAX, errors);
    for (i, selector) in all.iter().enumerate() {
        let path = list.index(i);
        let path = path.child("cel");
        match &selector.cel {
            None => errors.required(&path, ""),
            Some(cel) if cel.expression.is_empty() => {
                errors.required(&path.child("expression"), "");
            }
            Some(cel) if cel.expression.len() > EXPRESSION_BYTES_MAX => {
                errors.too_long(&path.child("expression"), EXPRESSION_BYTES_MAX);
            }
            Some(_) => {}
        }
    }
}

/// A write to a claim's status: what is allocated stays, and only what is allocated is reserved.
pub(super) fn claim_status(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let (now, before) = (&new["status"]["allocation"], &old["status"]["allocation"]);
    if !before.is_null() && !now.is_null() && now != before {
        errors.invalid(&path.child("allocation"), now.clone(), IMMUTABLE);
    }
    let consumers = new["status"]["reservedFor"].as_array().map(Vec::as_slice).unwrap_or_default();
    let list = path.child("reservedFor");
    bounded(&list, consumers.len(), CONSUMERS_MAX, errors);
    if !consumers.is_empty() && now.is_null() {
        errors.forbidden(&list, "may not be specified when `allocated` is not set");
    }
    let known = old["status"]["reservedFor"].as_array();
    let mut uids = FxHashSet::default();
    for (i, consumer) in consumers.iter().enumerate() {
        let path = list.index(i);
        for field in ["resource", "name", "uid"] {
            if consumer[field].as_str().unwrap_or_default().is_empty() {
                errors.required(&path.child(field), "");
            }
        }
        if !uids.insert(consumer["uid"].as_str()) {
            errors.duplicate(&path.child("uid"), consumer["uid"].clone());
        }
        let is_known = known.is_some_and(|known| known.contains(consumer));
        if !is_known && !new["metadata"]["deletionTimestamp"].is_null() {
            let detail = "new ReservedFor may not be added while `metadata.deletionTimestamp` is \
                          set";
            errors.forbidden(&list, detail);
        }
    }
}

pub(super) fn slice(slice: &ResourceSlice, errors: &mut Errors) {
    let spec = &slice.spec;
    driver_name(&SPEC.child("driver"), &spec.driver, errors);
    pool(slice, errors);
    let choices = [
        ("`nodeName`", spec.node_name.as_ref().is_some_and(|name| !name.is_empty())),
        ("`nodeSelector`", spec.node_selector.is_some()),
        ("`allNodes`", spec.all_nodes == Some(true)),
        ("`perDeviceNodeSelection`", spec.per_device_node_selection == Some(true)),
    ];
    let set: Vec<&str> = choices.iter().filter(|(_, is_set)| *is_set).map(|(it, _)| *it).collect();
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is \
               required";
    match set.as_slice() {
        [] => errors.required(&SPEC, one),
        [_] => {}
        _ => {
            let detail = format!("{one}, but multiple fields are set");
            errors.invalid(&SPEC, format!("{{{}}}", set.join(", ")), detail);
        }
    }
    if let Some(selector) = &spec.node_selector {
        let path = SPEC.child("nodeSelector");
        scheduling_rule::node_selector(selector, &path, errors);
        if selector.node_selector_terms.len() != 1 {
            let detail = "must have exactly one node selector term";
            let count = selector.node_selector_terms.len();
            errors.invalid(&path.child("nodeSelectorTerms"), count, detail);
        }
    }
    let list = SPEC.child("devices");
    let devices = spec.devices.as_deref().unwrap_or_default();
    bounded(&list, devices.len(), DEVICES_MAX, errors);
    let mut names = FxHashSet::default();
    for (i, it) in devices.iter().enumerate() {
        let path = list.index(i);
        if !names.insert(&it.name) {
            errors.duplicate(&path.child("name"), it.name.as_str());
        }
        device(it, &path, errors);
    }
}

fn pool(slice: &ResourceSlice, errors: &mut Errors) {
    let path = SPEC.child("pool");
    let pool = &slice.spec.pool;
    pool_name(&path.child("name"), &pool.name, errors);
    if pool.resource_slice_count <= 0 {
        let path = path.child("resourceSliceCount");
        errors.invalid(&path, pool.resource_slice_count, "must be greater than zero");
    }
    if pool.generation < 0 {
        let path = path.child("generation");
        errors.invalid(&path, pool.generation, super::NOT_NEGATIVE);
    }
}

fn pool_name(path: &Path<'_>, name: &str, errors: &mut Errors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > POOL_NAME_MAX {
        errors.too_long(path, POOL_NAME_MAX);
    }
    for part in name.split('/') {
        errors.each_invalid(path, part, syntax::dns1123_subdomain(part));
    }
}

fn device(it: &Device, path: &Path<'_>, errors: &mut Errors) {
    label(&path.child("name"), &it.name, errors);
    let count = it.attributes.as_ref().map_or(0, std::collections::BTreeMap::len)
        + it.capacity.as_ref().map_or(0, std::collections::BTreeMap::len);
    if count > ATTRIBUTES_MAX {
        let detail = format!(
            "the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}"
        );
        errors.invalid(path, count, detail);
    }
    let list = path.child("attributes");
    for (name, attribute) in it.attributes.iter().flatten() {
        let path = list.key(name);
        attribute_name(&path, name, errors);
        let set = usize::from(attribute.bool.is_some())
            + usize::from(attribute.int.is_some())
            + usize::from(attribute.string.is_some())
            + usize::from(attribute.version.is_some());
        match set {
            0 => errors.required(&path, "exactly one value must be specified"),
            1 => {}
            _ => errors.invalid(&path, Value::Null, "exactly one value must be specified"),
        }
    }
    let list = path.child("capacity");
    for name in it.capacity.iter().flatten().map(|(name, _)| name) {
        attribute_name(&list.key(name), name, errors);
    }
    let list = path.child("taints");
    for (i, taint) in it.taints.iter().flatten().enumerate() {
        taint_fields(&taint.key, taint.value.as_deref(), &taint.effect, &list.index(i), errors);
    }
}

pub(super) fn taint_rule(rule: &DeviceTaintRule, errors: &mut Errors) {
    let path = SPEC.child("deviceSelector");
    if let Some(selector) = &rule.spec.device_selector {
        if let Some(driver) = &selector.driver {
            driver_name(&path.child("driver"), driver, errors);
        }
        if let Some(pool) = &selector.pool {
            pool_name(&path.child("pool"), pool, errors);
        }
        if let Some(device) = &selector.device {
            errors.each_invalid(&path.child("device"), device, syntax::dns1123_label(device));
        }
    }
    let taint = &rule.spec.taint;
    let path = SPEC.child("taint");
    taint_fields(&taint.key, taint.value.as_deref(), &taint.effect, &path, errors);
}

fn taint_fields(
    key: &str,
    value: Option<&str>,
    effect: &str,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    errors.each_invalid(&path.child("key"), key, syntax::qualified_name(key));
    if let Some(value) = value {
        errors.each_invalid(&path.child("value"), value, syntax::label_value(value));
    }
    let effects = &["NoExecute", "NoSchedule", "None"];
    required_one_of(&path.child("effect"), effect, effects, errors);
}

/// An attribute's name may leave out the domain: it is then the driver's.
fn attribute_name(path: &Path<'_>, name: &str, errors: &mut Errors) {
    match name.split_once('/') {
        Some(_) => qualified(path, name, errors),
        None => identifier(path, name, errors),
    }
}

pub(super) fn slice_update(new: &Value, old: &Value, errors: &mut Errors) {
    let pool = SPEC.child("pool");
    for (path, now, before) in [
        (SPEC.child("driver"), &new["spec"]["driver"], &old["spec"]["driver"]),
        (SPEC.child("nodeName"), &new["spec"]["nodeName"], &old["spec"]["nodeName"]),
        (pool.child("name"), &new["spec"]["pool"]["name"], &old["spec"]["pool"]["name"]),
    ] {
        if now != before {
            errors.invalid(&path, now.clone(), IMMUTABLE);
        }
    }
}

/// The claims of a pod: named once, and each from one place.
pub(super) fn pod_claims(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("resourceClaims");
    let mut names = FxHashSet::default();
    for (i, claim) in spec.resource_claims.iter().flatten().enumerate() {
        let path = list.index(i);
        label(&path.child("name"), &claim.name, errors);
        if !names.insert(&claim.name) {
            errors.duplicate(&path.child("name"), claim.name.as_str());
        }
        match (&claim.resource_claim_name, &claim.resource_claim_template_name) {
            (None, None) => errors.invalid(
                &path,
                claim.name.as_str(),
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            (Some(_), Some(_)) => errors.invalid(
                &path,
                claim.name.as_str(),
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be \
                 specified",
            ),
            (Some(name), None) => {
                let wrong = syntax::dns1123_subdomain(name);
                errors.each_invalid(&path.child("resourceClaimName"), name, wrong);
            }
            (None, Some(name)) => {
                let wrong = syntax::dns1123_subdomain(name);
                errors.each_invalid(&path.child("resourceClaimTemplateName"), name, wrong);
            }
        }
    }
}
