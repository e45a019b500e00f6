//! What a pod says about where it may run: affinity, tolerations, topology spread.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PodAffinityTerm, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use rustc_hash::FxHashSet;

use super::{one_of, required_one_of, selector};
use crate::field::{Errors, Path};
use crate::syntax;

pub(super) fn affinity(affinity: &Affinity, path: &Path<'_>, errors: &mut Errors) {
    if let Some(node) = &affinity.node_affinity {
        node_affinity(node, &path.child("nodeAffinity"), errors);
    }
    if let Some(pod) = &affinity.pod_affinity {
        let required = &pod.required_during_scheduling_ignored_during_execution;
        let preferred = &pod.preferred_during_scheduling_ignored_during_execution;
        let path = path.child("podAffinity");
        pod_terms(required.as_deref(), preferred.as_deref(), &path, errors);
    }
    if let Some(pod) = &affinity.pod_anti_affinity {
        let required = &pod.required_during_scheduling_ignored_during_execution;
        let preferred = &pod.preferred_during_scheduling_ignored_during_execution;
        let path = path.child("podAntiAffinity");
        pod_terms(required.as_deref(), preferred.as_deref(), &path, errors);
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks node affinity wherever it stands: in a pod, or in a scheduler's configuration.
pub fn node_affinity(affinity: &NodeAffinity, path: &Path<'_>, errors: &mut Errors) {
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        node_selector(required, &path.child(REQUIRED), errors);
    }
    let list = path.child(PREFERRED);
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter();
    for (i, term) in preferred.flatten().enumerate() {
        let path = list.index(i);
        weight(&path.child("weight"), term.weight, errors);
        node_term(&term.preference, &path.child("preference"), errors);
    }
}

/// The terms of a node selector, of which there is at least one.
pub(super) fn node_selector(selector: &NodeSelector, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.required(&list, "must have at least one node selector term");
    }
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        node_term(term, &list.index(i), errors);
    }
}

fn weight(path: &Path<'_>, weight: i32, errors: &mut Errors) {
    if !(1..=100).contains(&weight) {
        errors.invalid(path, weight, "must be in the range 1-100");
    }
}

fn node_term(term: &NodeSelectorTerm, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("matchExpressions");
    for (i, requirement) in term.match_expressions.iter().flatten().enumerate() {
        let path = list.index(i);
        node_requirement(requirement, &path, errors);
        let key = &requirement.key;
        errors.each_invalid(&path.child("key"), key, syntax::qualified_name(key));
    }
    let list = path.child("matchFields");
    for (i, requirement) in term.match_fields.iter().flatten().enumerate() {
        let path = list.index(i);
        let values = requirement.values.as_deref().unwrap_or_default();
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.len() != 1 => errors.required(
                &path.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            "In" | "NotIn" => {}
            other => {
                errors.invalid(&path.child("operator"), other, "not a valid selector operator");
            }
        }
        if requirement.key != "metadata.name" {
            let detail = "not a valid field selector key";
            errors.invalid(&path.child("key"), requirement.key.as_str(), detail);
        }
    }
}

fn node_requirement(it: &NodeSelectorRequirement, path: &Path<'_>, errors: &mut Errors) {
    let values = it.values.as_deref().unwrap_or_default();
    let path_values = path.child("values");
    match it.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&path_values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
            &path_values,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if values.len() != 1 => errors.required(
            &path_values,
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        ),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
}

fn pod_terms(
    required: Option<&[PodAffinityTerm]>,
    preferred: Option<&[WeightedPodAffinityTerm]>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let list = path.child(REQUIRED);
    for (i, term) in required.into_iter().flatten().enumerate() {
        pod_term(term, &list.index(i), errors);
    }
    let list = path.child(PREFERRED);
    for (i, term) in preferred.into_iter().flatten().enumerate() {
        let path = list.index(i);
        weight(&path.child("weight"), term.weight, errors);
        pod_term(&term.pod_affinity_term, &path.child("podAffinityTerm"), errors);
    }
}

fn pod_term(term: &PodAffinityTerm, path: &Path<'_>, errors: &mut Errors) {
    for (field, selector) in
        [("labelSelector", &term.label_selector), ("namespaceSelector", &term.namespace_selector)]
    {
        if let Some(selector) = selector {
            selector::label_selector(&path.child(field), selector, errors);
        }
    }
    let list = path.child("namespaces");
    for (i, namespace) in term.namespaces.iter().flatten().enumerate() {
        errors.each_invalid(&list.index(i), namespace, syntax::dns1123_label(namespace));
    }
    topology_key(&path.child("topologyKey"), &term.topology_key, errors);
}

fn topology_key(path: &Path<'_>, key: &str, errors: &mut Errors) {
    if key.is_empty() {
        errors.required(path, "can not be empty");
    } else {
        errors.each_invalid(path, key, syntax::qualified_name(key));
    }
}

pub(super) fn tolerations(tolerations: &[Toleration], list: &Path<'_>, errors: &mut Errors) {
    for (i, it) in tolerations.iter().enumerate() {
        toleration(it, &list.index(i), errors);
    }
}

fn toleration(it: &Toleration, path: &Path<'_>, errors: &mut Errors) {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (key, operator) = (text(&it.key), text(&it.operator));
    let (value, effect) = (text(&it.value), text(&it.effect));
    if !key.is_empty() {
        errors.each_invalid(&path.child("key"), &key, syntax::qualified_name(&key));
    } else if operator != "Exists" {
        errors.invalid(
            &path.child("operator"),
            operator.as_str(),
            "operator must be Exists when `key` is empty, which means \"match all values and all \
             keys\"",
        );
    }
    if it.toleration_seconds.is_some() && effect != "NoExecute" {
        errors.invalid(
            &path.child("effect"),
            effect.as_str(),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    match operator.as_str() {
        "" | "Equal" => {
            let wrong = syntax::label_value(&value);
            errors.each_invalid(&path.child("operator"), &value, wrong);
        }
        "Exists" if !value.is_empty() => errors.invalid(
            &path.child("operator"),
            value.as_str(),
            "value must be empty when `operator` is 'Exists'",
        ),
        "Exists" => {}
        other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        one_of(&path.child("effect"), &effect, EFFECTS, errors);
    }
}

/// The effects of taints.
pub(super) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn spread(it: &[TopologySpreadConstraint], list: &Path<'_>, errors: &mut Errors) {
    let mut seen = FxHashSet::default();
    for (i, constraint) in it.iter().enumerate() {
        let path = list.index(i);
        if constraint.max_skew <= 0 {
            let value = constraint.max_skew;
            errors.invalid(&path.child("maxSkew"), value, "must be greater than zero");
        }
        topology_key(&path.child("topologyKey"), &constraint.topology_key, errors);
        let when = constraint.when_unsatisfiable.as_str();
        let supported = &["DoNotSchedule", "ScheduleAnyway"];
        required_one_of(&path.child("whenUnsatisfiable"), when, supported, errors);
        let key = format!("{{{}, {when}}}", constraint.topology_key);
        if !seen.insert(key.clone()) {
            errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), key);
        }
        min_domains(constraint, &path, errors);
        for (field, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            if let Some(policy) = policy {
                one_of(&path.child(field), policy, &["Honor", "Ignore"], errors);
            }
        }
        if let Some(selector) = &constraint.label_selector {
            selector::label_selector(&path.child("labelSelector"), selector, errors);
        }
    }
}

fn min_domains(constraint: &TopologySpreadConstraint, path: &Path<'_>, errors: &mut Errors) {
    let Some(count) = constraint.min_domains else { return };
    let path = path.child("minDomains");
    if count <= 0 {
        errors.invalid(&path, count, "must be greater than 0");
    }
    if constraint.when_unsatisfiable != "DoNotSchedule" {
        errors.invalid(
            &path,
            count,
            format!(
                "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                constraint.when_unsatisfiable
            ),
        );
    }
}
