//! What of a pod may change once it exists.

use serde_json::{Map, Value};

use super::pod;
use crate::field::{Errors, Path};

const SPEC: Path<'static> = Path::new("spec");

/// Only images, the deadline, more tolerations and fewer gates; a gated pod may also be told
/// more precisely where to run.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (&new["spec"], &old["spec"]);
    let mut allowed = new.clone();
    let Some(allowed) = allowed.as_object_mut() else { return };
    if !containers(allowed, old, errors) {
        return;
    }
    deadline(allowed, new, old, errors);
    tolerations(allowed, new, old, errors);
    gates(allowed, new, old, errors);
    if old["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s < 0)
        && new["terminationGracePeriodSeconds"] == 1
    {
        take(allowed, "terminationGracePeriodSeconds", old);
    }
    let changed = changed_fields(allowed, old);
    if !changed.is_empty() {
        errors.forbidden(
            &SPEC,
            format!(
                "pod updates may not change fields other than `spec.containers[*].image`,\
                 `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` \
                 (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
                 (allow it to be set to 1 if it was previously negative)\nchanged: {}",
                changed.join(", ")
            ),
        );
    }
}

/// Of what containers ask for, only CPU and memory may change.
pub(super) fn resize(new: &Value, old: &Value, errors: &mut Errors) {
    for field in ["containers", "initContainers"] {
        let list = SPEC.child(field);
        let lists = [&new["spec"][field], &old["spec"][field]].map(|it| it.as_array());
        let [Some(now), Some(before)] = lists else { continue };
        for (i, (now, before)) in now.iter().zip(before).enumerate() {
            let path = list.index(i);
            let others = |container: &Value| -> Vec<(String, Value)> {
                let lists = ["limits", "requests"].map(|kind| &container["resources"][kind]);
                let amounts = lists.into_iter().filter_map(Value::as_object).flatten();
                let others = amounts.filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"));
                others.map(|(name, amount)| (name.clone(), amount.clone())).collect()
            };
            if others(now) != others(before) {
                errors.forbidden(
                    &path.child("resources"),
                    "only cpu and memory resources are mutable",
                );
            }
        }
    }
}

/// Puts the old value of `field` into `allowed`, so that its change does not count.
fn take(allowed: &mut Map<String, Value>, field: &str, old: &Value) {
    match old.get(field) {
        Some(value) => {
            allowed.insert(field.to_owned(), value.clone());
        }
        None => {
            allowed.shift_remove(field);
        }
    }
}

/// Lets images change; whether the lists have the same length.
fn containers(allowed: &mut Map<String, Value>, old: &Value, errors: &mut Errors) -> bool {
    let mut same = true;
    for field in ["containers", "initContainers"] {
        let none = Vec::new();
        let before = old[field].as_array().unwrap_or(&none);
        let mut empty = Vec::new();
        let now = allowed.get_mut(field).and_then(Value::as_array_mut).unwrap_or(&mut empty);
        if now.len() != before.len() {
            let detail = "pod updates may not add or remove containers";
            errors.forbidden(&SPEC.child(field), detail);
            same = false;
            continue;
        }
        for (now, before) in now.iter_mut().zip(before) {
            if let Some(now) = now.as_object_mut() {
                take(now, "image", before);
            }
        }
    }
    same
}

fn deadline(allowed: &mut Map<String, Value>, new: &Value, old: &Value, errors: &mut Errors) {
    const FIELD: &str = "activeDeadlineSeconds";
    let path = SPEC.child(FIELD);
    match (new[FIELD].as_i64(), old[FIELD].as_i64()) {
        (Some(now), Some(before)) if now > before => {
            errors.invalid(&path, now, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.invalid(&path, Value::Null, detail);
        }
        _ => {}
    }
    take(allowed, FIELD, old);
}

fn tolerations(allowed: &mut Map<String, Value>, new: &Value, old: &Value, errors: &mut Errors) {
    const FIELD: &str = "tolerations";
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(map) = toleration.as_object_mut() {
            map.shift_remove("tolerationSeconds");
        }
        toleration
    };
    let list = |spec: &Value| -> Vec<Value> {
        spec[FIELD].as_array().into_iter().flatten().map(without_seconds).collect()
    };
    let now = list(new);
    if list(old).iter().any(|toleration| !now.contains(toleration)) {
        errors.forbidden(
            &SPEC.child(FIELD),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
    take(allowed, FIELD, old);
}

fn gates(allowed: &mut Map<String, Value>, new: &Value, old: &Value, errors: &mut Errors) {
    const FIELD: &str = "schedulingGates";
    let none = Vec::new();
    let before = old[FIELD].as_array().unwrap_or(&none);
    for gate in new[FIELD].as_array().into_iter().flatten() {
        if !before.contains(gate) {
            let name = gate["name"].as_str().unwrap_or_default();
            errors.forbidden(
                &SPEC.child(FIELD),
                format!("only deletion is allowed, but found new scheduling gate '{name}'"),
            );
        }
    }
    take(allowed, FIELD, old);
    if before.is_empty() {
        return;
    }
    let selected = |spec: &Value| spec["nodeSelector"].as_object().cloned().unwrap_or_default();
    let now = selected(new);
    if selected(old).iter().all(|(key, value)| now.get(key) == Some(value)) {
        take(allowed, "nodeSelector", old);
    }
    if old.pointer("/affinity/nodeAffinity").is_none() {
        let affinity = allowed.get_mut("affinity").and_then(Value::as_object_mut);
        if let Some(affinity) = affinity {
            affinity.shift_remove("nodeAffinity");
        }
    }
}

fn changed_fields(new: &Map<String, Value>, old: &Value) -> Vec<String> {
    let none = Map::new();
    let old = old.as_object().unwrap_or(&none);
    let added = new.keys().filter(|key| !old.contains_key(*key));
    let keys = old.keys().chain(added);
    let null = Value::Null;
    keys.filter(|key| !same(new.get(*key).unwrap_or(&null), old.get(*key).unwrap_or(&null)))
        .map(|key| format!("spec.{key}"))
        .collect()
}

/// Equal, where absent is the same as empty: Go clients leave empty values out when they write
/// back what they read.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let null = Value::Null;
            a.iter().all(|(key, value)| same(value, b.get(key).unwrap_or(&null)))
                && b.iter().all(|(key, value)| a.contains_key(key) || is_empty(value))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => a == b || is_empty(a) && is_empty(b),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
    }
}

/// What was generated for the pod's claims: each named once, as the spec names it.
fn claim_statuses(new: &Value, status: &Path<'_>, errors: &mut Errors) {
    let list = status.child("resourceClaimStatuses");
    let claims = new["spec"]["resourceClaims"].as_array();
    let is_known =
        |name: &Value| claims.is_some_and(|all| all.iter().any(|it| it["name"] == *name));
    let statuses = new["status"]["resourceClaimStatuses"].as_array();
    let statuses = statuses.map(Vec::as_slice).unwrap_or_default();
    for (i, status) in statuses.iter().enumerate() {
        let path = list.index(i);
        let path = path.child("name");
        let name = &status["name"];
        if !is_known(name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid(&path, name.clone(), detail);
        }
        if statuses[..i].iter().any(|other| other["name"] == *name) {
            errors.duplicate(&path, name.clone());
        }
        if let Some(generated) = status["resourceClaimName"].as_str() {
            errors.each_invalid(&path, generated, crate::syntax::dns1123_subdomain(generated));
        }
    }
}

/// A write to `pods/status`.
pub(super) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let list = path.child("podIPs");
    for (i, entry) in new["status"]["podIPs"].as_array().into_iter().flatten().enumerate() {
        let ip = entry["ip"].as_str().unwrap_or_default();
        pod::ip(&list.index(i).child("ip"), ip, errors);
    }
    let nominated = new["status"]["nominatedNodeName"].as_str().unwrap_or_default();
    if !nominated.is_empty() {
        let wrong = crate::syntax::dns1123_subdomain(nominated);
        errors.each_invalid(&path.child("nominatedNodeName"), nominated, wrong);
    }
    claim_statuses(new, &path, errors);
    let class = |pod: &Value| pod["status"]["qosClass"].as_str().unwrap_or_default().to_owned();
    if !class(old).is_empty() && !class(new).is_empty() && class(old) != class(new) {
        errors.invalid(&path.child("qosClass"), class(new), super::IMMUTABLE);
    }
}
