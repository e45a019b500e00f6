//! Deployments and ReplicaSets.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::{IMMUTABLE, meta, non_negative, pod, selector};
use crate::field::{Errors, Path};
use crate::labels::Selector;
use crate::scheme::Kind;
use crate::syntax;

const SPEC: Path<'static> = Path::new("spec");

pub(super) fn deployment(deployment: &Deployment, errors: &mut Errors) {
    let Some(spec) = &deployment.spec else {
        errors.required(&SPEC.child("selector"), "");
        return;
    };
    non_negative(&SPEC.child("replicas"), spec.replicas.map(i64::from), errors);
    pods(&spec.selector, &spec.template, errors);
    strategy(spec.strategy.as_ref(), errors);
    let min_ready = spec.min_ready_seconds.map(i64::from);
    non_negative(&SPEC.child("minReadySeconds"), min_ready, errors);
    let limit = spec.revision_history_limit.map(i64::from);
    non_negative(&SPEC.child("revisionHistoryLimit"), limit, errors);
    progress_deadline(spec, errors);
}

fn progress_deadline(spec: &DeploymentSpec, errors: &mut Errors) {
    let Some(deadline) = spec.progress_deadline_seconds else { return };
    let path = SPEC.child("progressDeadlineSeconds");
    non_negative(&path, Some(i64::from(deadline)), errors);
    if deadline <= spec.min_ready_seconds.unwrap_or(0) {
        errors.invalid(&path, deadline, "must be greater than minReadySeconds");
    }
}

pub(super) fn replica_set(set: &ReplicaSet, errors: &mut Errors) {
    let Some(spec) = &set.spec else {
        errors.required(&SPEC.child("selector"), "");
        return;
    };
    non_negative(&SPEC.child("replicas"), spec.replicas.map(i64::from), errors);
    let min_ready = spec.min_ready_seconds.map(i64::from);
    non_negative(&SPEC.child("minReadySeconds"), min_ready, errors);
    match &spec.template {
        Some(template) => pods(&spec.selector, template, errors),
        None => errors.required(&SPEC.child("template"), ""),
    }
}

/// Selector and template, which must fit each other.
fn pods(selector: &LabelSelector, template: &PodTemplateSpec, errors: &mut Errors) {
    let path = SPEC.child("selector");
    if selector::is_empty(selector) {
        // The Go types tell an absent selector from an empty one; neither is accepted.
        errors.required(&path, "");
    } else {
        selector::label_selector(&path, selector, errors);
    }
    let path = SPEC.child("template");
    let metadata = template.metadata.as_ref();
    let labels = metadata.and_then(|metadata| metadata.labels.as_ref());
    let labels_path = path.child("metadata");
    let labels_path = labels_path.child("labels");
    let fits = Selector::try_from(selector).is_ok_and(|selector| selector.matches(&labels));
    if !fits && !selector::is_empty(selector) {
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&labels_path, json!(labels.cloned().unwrap_or_default()), detail);
    }
    meta::label_map(&labels_path, labels, errors);
    let path = path.child("spec");
    let Some(spec) = &template.spec else {
        errors.required(&path.child("containers"), "");
        return;
    };
    pod::spec(spec, &path, errors);
    match spec.restart_policy.as_deref() {
        None | Some("" | "Always") => {}
        Some(other) => errors.not_supported(&path.child("restartPolicy"), other, &["Always"]),
    }
    if spec.active_deadline_seconds.is_some() {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.forbidden(&path.child("activeDeadlineSeconds"), detail);
    }
}

fn strategy(strategy: Option<&DeploymentStrategy>, errors: &mut Errors) {
    let Some(strategy) = strategy else { return };
    let path = SPEC.child("strategy");
    let rolling_path = path.child("rollingUpdate");
    match strategy.type_.as_deref() {
        Some("Recreate") => {
            if strategy.rolling_update.is_some() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.forbidden(&rolling_path, detail);
            }
        }
        Some("RollingUpdate") => {
            let Some(rolling) = &strategy.rolling_update else {
                errors.required(&rolling_path, "this should be defaulted and never be nil");
                return;
            };
            let unavailable = rolling.max_unavailable.as_ref();
            let unavailable_path = rolling_path.child("maxUnavailable");
            let unavailable = count_or_percent(&unavailable_path, unavailable, errors);
            let surge = rolling.max_surge.as_ref();
            let surge = count_or_percent(&rolling_path.child("maxSurge"), surge, errors);
            if unavailable == 0 && surge == 0 {
                let value = json!(rolling.max_unavailable);
                errors.invalid(&unavailable_path, value, "may not be 0 when `maxSurge` is 0");
            }
            if let Some(IntOrString::String(text)) = &rolling.max_unavailable
                && unavailable > 100
            {
                errors.invalid(&unavailable_path, text.as_str(), "must not be greater than 100%");
            }
        }
        other => {
            let supported = &["Recreate", "RollingUpdate"];
            errors.not_supported(&path.child("type"), other.unwrap_or_default(), supported);
        }
    }
}

/// The number in front of an optional `%`; what is not well formed counts as 1.
fn count_or_percent(path: &Path<'_>, value: Option<&IntOrString>, errors: &mut Errors) -> i64 {
    match value {
        None => 0,
        Some(IntOrString::Int(count)) => {
            non_negative(path, Some(i64::from(*count)), errors);
            i64::from(*count)
        }
        Some(IntOrString::String(text)) => {
            errors.each_invalid(path, text, syntax::percent(text));
            text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or(1)
        }
    }
}

pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, before) = (&new["spec"]["selector"], &old["spec"]["selector"]);
    if now != before {
        errors.invalid(&SPEC.child("selector"), now.clone(), IMMUTABLE);
    }
}

/// A write to `/status`: counts are not negative and none exceeds the whole.
pub(super) fn status(kind: Kind, new: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let status = &new["status"];
    let count = |field: &str| status[field].as_i64();
    let whole = count("replicas").unwrap_or(0);
    non_negative(&path.child("replicas"), count("replicas"), errors);
    let parts: &[&str] = match kind {
        Kind::Deployment => &["updatedReplicas", "readyReplicas", "availableReplicas"],
        _ => &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
    };
    for part in parts {
        non_negative(&path.child(part), count(part), errors);
        if let Some(count) = count(part).filter(|count| *count > whole) {
            let detail = "cannot be greater than status.replicas";
            errors.invalid(&path.child(part), count, detail);
        }
    }
    if let (Some(available), Some(ready)) = (count("availableReplicas"), count("readyReplicas"))
        && available > ready
    {
        let detail = "cannot be greater than readyReplicas";
        errors.invalid(&path.child("availableReplicas"), available, detail);
    }
}
