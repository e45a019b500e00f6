//! Pods and pod templates: what is not about one container or volume.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use rustc_hash::FxHashSet;

use super::{
    container, device, meta, one_of, required_one_of, scheduling_group, scheduling_rule, volume,
};
use crate::field::{Errors, Path};
use crate::syntax;

/// The longest a pod may be told to live; what fits a time on all clients.
const ACTIVE_DEADLINE_S_MAX: i64 = i32::MAX as i64;

pub(super) fn pod(pod: &Pod, is_update: bool, errors: &mut Errors) {
    let path = Path::new("spec");
    let Some(pod_spec) = &pod.spec else {
        errors.required(&path.child("containers"), "");
        return;
    };
    spec(pod_spec, &path, errors);
    let has_node = pod_spec.node_name.as_ref().is_some_and(|name| !name.is_empty());
    let is_gated = pod_spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    if !is_update && has_node && is_gated {
        errors.forbidden(
            &path.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        );
    }
}

pub(super) fn spec(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let volumes = volume::volumes(spec.volumes.as_deref().unwrap_or_default(), path, errors);
    container::containers(spec, &volumes, path, errors);
    policies(spec, path, errors);
    meta::label_map(&path.child("nodeSelector"), spec.node_selector.as_ref(), errors);
    if let Some(affinity) = &spec.affinity {
        scheduling_rule::affinity(affinity, &path.child("affinity"), errors);
    }
    gates(spec, path, errors);
    let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    scheduling_rule::spread(constraints, &path.child("topologySpreadConstraints"), errors);
    names(spec, path, errors);
    if let Some(seconds) = spec.active_deadline_seconds {
        let wrong = syntax::in_range(seconds, 1, ACTIVE_DEADLINE_S_MAX);
        for detail in wrong {
            errors.invalid(&path.child("activeDeadlineSeconds"), seconds, detail);
        }
    }
    super::non_negative(
        &path.child("terminationGracePeriodSeconds"),
        spec.termination_grace_period_seconds,
        errors,
    );
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    scheduling_rule::tolerations(tolerations, &path.child("tolerations"), errors);
    host_aliases(spec, path, errors);
    device::pod_claims(spec, path, errors);
    if let Some(reference) = &spec.workload_ref {
        scheduling_group::reference(reference, &path.child("workloadRef"), errors);
    }
    if let Some(resources) = &spec.resources {
        container::resources(resources, &path.child("resources"), errors);
    }
    container::quantities(&path.child("overhead"), spec.overhead.as_ref(), errors);
}

fn policies(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    required_one_of(
        &path.child("restartPolicy"),
        &text(&spec.restart_policy),
        &["Always", "OnFailure", "Never"],
        errors,
    );
    required_one_of(
        &path.child("dnsPolicy"),
        &text(&spec.dns_policy),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        errors,
    );
    if let Some(policy) = &spec.preemption_policy {
        one_of(&path.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"], errors);
    }
}

fn gates(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("schedulingGates");
    let mut seen = FxHashSet::default();
    for (i, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let path = list.index(i);
        errors.each_invalid(&path.child("name"), &gate.name, syntax::qualified_name(&gate.name));
        if !seen.insert(&gate.name) {
            errors.duplicate(&path, gate.name.as_str());
        }
    }
    let list = path.child("readinessGates");
    for (i, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = list.index(i);
        let kind = &gate.condition_type;
        errors.each_invalid(&path.child("conditionType"), kind, syntax::qualified_name(kind));
    }
}

fn names(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let mut check = |field: &str, value: &Option<String>, syntax: fn(&str) -> Vec<String>| {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            errors.each_invalid(&path.child(field), value, syntax(value));
        }
    };
    check("serviceAccountName", &spec.service_account_name, syntax::dns1123_subdomain);
    check("nodeName", &spec.node_name, syntax::dns1123_subdomain);
    check("hostname", &spec.hostname, syntax::dns1123_label);
    check("subdomain", &spec.subdomain, syntax::dns1123_label);
    check("priorityClassName", &spec.priority_class_name, syntax::dns1123_subdomain);
    check("runtimeClassName", &spec.runtime_class_name, syntax::dns1123_subdomain);
    check("schedulerName", &spec.scheduler_name, syntax::qualified_name);
}

fn host_aliases(spec: &PodSpec, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("hostAliases");
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = list.index(i);
        ip(&path.child("ip"), &alias.ip, errors);
        let names = path.child("hostnames");
        for (j, name) in alias.hostnames.iter().flatten().enumerate() {
            errors.each_invalid(&names.index(j), name, syntax::dns1123_subdomain(name));
        }
    }
}

/// An IPv4 or IPv6 address.
pub(super) fn ip(path: &Path<'_>, value: &str, errors: &mut Errors) {
    if value.parse::<IpAddr>().is_err() {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.invalid(path, value, detail);
    }
}
