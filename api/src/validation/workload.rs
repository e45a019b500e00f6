//! Deployments, ReplicaSets, ReplicationControllers, StatefulSets and DaemonSets.

use k8s_openapi::api::apps::v1::{
    DaemonSet, Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, StatefulSet,
    StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::{IMMUTABLE, meta, non_negative, one_of, pod, selector};
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
    pods("ReplicaSet", &spec.selector, &spec.template, errors);
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
        Some(template) => pods("ReplicaSet", &spec.selector, template, errors),
        None => errors.required(&SPEC.child("template"), ""),
    }
}

pub(super) fn replication_controller(controller: &ReplicationController, errors: &mut Errors) {
    let spec = controller.spec.clone().unwrap_or_default();
    non_negative(&SPEC.child("replicas"), spec.replicas.map(i64::from), errors);
    let min_ready = spec.min_ready_seconds.map(i64::from);
    non_negative(&SPEC.child("minReadySeconds"), min_ready, errors);
    let selector = LabelSelector { match_labels: spec.selector, match_expressions: None };
    match &spec.template {
        Some(template) => pods("ReplicationController", &selector, template, errors),
        None => errors.required(&SPEC.child("template"), ""),
    }
}

pub(super) fn daemon_set(set: &DaemonSet, errors: &mut Errors) {
    let Some(spec) = &set.spec else {
        errors.required(&SPEC.child("selector"), "");
        return;
    };
    pods("DaemonSet", &spec.selector, &spec.template, errors);
    let min_ready = spec.min_ready_seconds.map(i64::from);
    non_negative(&SPEC.child("minReadySeconds"), min_ready, errors);
    let limit = spec.revision_history_limit.map(i64::from);
    non_negative(&SPEC.child("revisionHistoryLimit"), limit, errors);
    let path = SPEC.child("updateStrategy");
    let Some(strategy) = &spec.update_strategy else { return };
    match (strategy.type_.as_deref(), &strategy.rolling_update) {
        (Some("OnDelete"), _) => {}
        (Some("RollingUpdate"), None) => errors.required(&path.child("rollingUpdate"), ""),
        (Some("RollingUpdate"), Some(rolling)) => {
            let path = path.child("rollingUpdate");
            let unavailable_path = path.child("maxUnavailable");
            let unavailable = rolling.max_unavailable.as_ref();
            let unavailable = count_or_percent(&unavailable_path, unavailable, errors);
            let surge = rolling.max_surge.as_ref();
            let surge = count_or_percent(&path.child("maxSurge"), surge, errors);
            if unavailable > 0 && surge > 0 {
                let value = json!(rolling.max_surge);
                let detail = "may not be set when maxUnavailable is non-zero";
                errors.invalid(&path.child("maxSurge"), value, detail);
            } else if unavailable == 0 && surge == 0 {
                let value = json!(rolling.max_unavailable);
                errors.invalid(&unavailable_path, value, "cannot be 0 when maxSurge is 0");
            }
        }
        (other, _) => {
            let supported = &["OnDelete", "RollingUpdate"];
            errors.not_supported(&path.child("type"), other.unwrap_or_default(), supported);
        }
    }
}

pub(super) fn stateful_set(set: &StatefulSet, errors: &mut Errors) {
    let Some(spec) = &set.spec else {
        errors.required(&SPEC.child("selector"), "");
        return;
    };
    let path = SPEC.child("podManagementPolicy");
    match spec.pod_management_policy.as_deref() {
        Some("OrderedReady" | "Parallel") => {}
        None | Some("") => errors.required(&path, ""),
        Some(other) => {
            errors.invalid(&path, other, "must be 'OrderedReady' or 'Parallel'");
        }
    }
    stateful_set_strategy(spec, errors);
    for (field, value) in [
        ("replicas", spec.replicas),
        ("minReadySeconds", spec.min_ready_seconds),
        ("revisionHistoryLimit", spec.revision_history_limit),
    ] {
        non_negative(&SPEC.child(field), value.map(i64::from), errors);
    }
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    let ordinals = SPEC.child("ordinals");
    non_negative(&ordinals.child("start"), start.map(i64::from), errors);
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let path = SPEC.child("persistentVolumeClaimRetentionPolicy");
        let supported = &["Delete", "Retain"];
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        one_of(&path.child("whenDeleted"), &text(&policy.when_deleted), supported, errors);
        one_of(&path.child("whenScaled"), &text(&policy.when_scaled), supported, errors);
    }
    pods("StatefulSet", &spec.selector, &spec.template, errors);
}

fn stateful_set_strategy(spec: &StatefulSetSpec, errors: &mut Errors) {
    let path = SPEC.child("updateStrategy");
    let Some(strategy) = &spec.update_strategy else { return };
    let rolling_path = path.child("rollingUpdate");
    match (strategy.type_.as_deref(), &strategy.rolling_update) {
        (None | Some(""), _) => errors.required(&path, ""),
        (Some("OnDelete"), Some(rolling)) => errors.invalid(
            &rolling_path,
            json!(rolling),
            "only allowed for updateStrategy 'RollingUpdate'",
        ),
        (Some("RollingUpdate"), Some(rolling)) => {
            let partition = rolling.partition.map(i64::from);
            non_negative(&rolling_path.child("partition"), partition, errors);
            let path = rolling_path.child("maxUnavailable");
            if let Some(value) = &rolling.max_unavailable
                && count_or_percent(&path, Some(value), errors) == 0
            {
                errors.invalid(&path, json!(value), "cannot be 0");
            }
        }
        (Some("OnDelete" | "RollingUpdate"), None) => {}
        _ => errors.invalid(&path, json!(strategy), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// Selector and template, which must fit each other.
fn pods(kind: &str, selector: &LabelSelector, template: &PodTemplateSpec, errors: &mut Errors) {
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
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
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
pub(super) fn count_or_percent(
    path: &Path<'_>,
    value: Option<&IntOrString>,
    errors: &mut Errors,
) -> i64 {
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

/// What of a StatefulSet's spec may change.
const STATEFUL_SET_MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(super) fn stateful_set_update(new: &Value, old: &Value, errors: &mut Errors) {
    let fixed = |set: &Value| {
        let mut spec = set["spec"].as_object().cloned().unwrap_or_default();
        spec.retain(|key, _| !STATEFUL_SET_MUTABLE.contains(&key.as_str()));
        spec
    };
    if fixed(new) != fixed(old) {
        errors.forbidden(
            &SPEC,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
             'template', 'updateStrategy', 'revisionHistoryLimit', \
             'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

/// A write to a DaemonSet's status: its counts are not negative.
pub(super) fn daemon_set_status(new: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    for field in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
    ] {
        non_negative(&path.child(field), new["status"][field].as_i64(), errors);
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
        Kind::StatefulSet => {
            &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"]
        }
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
