//! Nodes, leases, priority classes, events and bindings.

use std::net::IpAddr;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Binding, Event, Node, Taint};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use rustc_hash::FxHashSet;
use serde_json::Value;

use super::scheduling_rule::EFFECTS;
use super::{IMMUTABLE, NOT_NEGATIVE, one_of, required_one_of};
use crate::field::{Errors, Path};
use crate::quantity::Quantity;
use crate::syntax;

const SPEC: Path<'static> = Path::new("spec");

pub(super) fn node(node: &Node, errors: &mut Errors) {
    let Some(spec) = &node.spec else { return };
    taints(spec.taints.as_deref().unwrap_or_default(), errors);
    let list = SPEC.child("podCIDRs");
    let cidrs = spec.pod_cidrs.as_deref().unwrap_or_default();
    for (i, text) in cidrs.iter().enumerate() {
        cidr(&list.index(i), text, errors);
    }
    if let Some(text) = spec.pod_cidr.as_deref().filter(|text| !text.is_empty()) {
        cidr(&SPEC.child("podCIDR"), text, errors);
        if cidrs.first().is_some_and(|first| first != text) {
            errors.invalid(&list.index(0), cidrs[0].as_str(), "must match `podCIDR`");
        }
    }
}

fn taints(taints: &[Taint], errors: &mut Errors) {
    let list = SPEC.child("taints");
    let mut seen = FxHashSet::default();
    for (i, taint) in taints.iter().enumerate() {
        let path = list.index(i);
        errors.each_invalid(&path.child("key"), &taint.key, syntax::qualified_name(&taint.key));
        if let Some(value) = &taint.value {
            errors.each_invalid(&path.child("value"), value, syntax::label_value(value));
        }
        required_one_of(&path.child("effect"), &taint.effect, EFFECTS, errors);
        if !seen.insert((&taint.key, &taint.effect)) {
            let text = format!("{}:{}", taint.key, taint.effect);
            errors.duplicate(&path, text);
        }
    }
}

fn cidr(path: &Path<'_>, text: &str, errors: &mut Errors) {
    let parsed = text.split_once('/').and_then(|(ip, bits)| {
        let ip: IpAddr = ip.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some(())
    });
    if parsed.is_none() {
        let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.invalid(path, text, detail);
    }
}

/// What of a node is set once and then stays.
pub(super) fn node_update(new: &Value, old: &Value, errors: &mut Errors) {
    for (field, what) in
        [("podCIDRs", "podCIDR"), ("podCIDR", "podCIDR"), ("providerID", "providerID")]
    {
        let (now, before) = (&new["spec"][field], &old["spec"][field]);
        let was_set = !before.is_null() && before != "" && *before != Value::Array(Vec::new());
        if was_set && now != before {
            errors.forbidden(
                &SPEC.child(field),
                format!("node updates may not change {what} except from \"\" to valid"),
            );
        }
    }
    node_status(new, errors);
}

/// Capacity and allocatable amounts are not negative.
pub(super) fn node_status(new: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    for field in ["capacity", "allocatable"] {
        let path = path.child(field);
        for (name, text) in new["status"][field].as_object().into_iter().flatten() {
            let text = text.as_str().unwrap_or_default();
            if text.parse::<Quantity>().is_ok_and(Quantity::is_negative) {
                errors.invalid(&path.key(name), text, NOT_NEGATIVE);
            }
        }
    }
}

pub(super) fn lease(lease: &Lease, errors: &mut Errors) {
    let Some(spec) = &lease.spec else { return };
    if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
        let path = SPEC.child("leaseDurationSeconds");
        errors.invalid(&path, seconds, "must be greater than 0");
    }
    let transitions = spec.lease_transitions.map(i64::from);
    super::non_negative(&SPEC.child("leaseTransitions"), transitions, errors);
}

/// The highest priority a user may give; above are the system's own classes.
const USER_PRIORITY_MAX: i32 = 1_000_000_000;
/// The two classes of the system, with their values.
const SYSTEM_CLASSES: [(&str, i32); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(super) fn priority_class(class: &PriorityClass, errors: &mut Errors) {
    let name = class.metadata.name.as_deref().unwrap_or_default();
    if name.starts_with("system-") {
        if !SYSTEM_CLASSES.contains(&(name, class.value)) {
            let path = Path::new("metadata");
            errors.forbidden(
                &path.child("name"),
                format!(
                    "priority class names with 'system-' prefix are reserved for system use \
                     only. error: {name} is not a known system priority class"
                ),
            );
        }
    } else if class.value > USER_PRIORITY_MAX {
        errors.forbidden(
            &Path::new("value"),
            format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}"),
        );
    }
    if let Some(policy) = &class.preemption_policy {
        let path = Path::new("preemptionPolicy");
        one_of(&path, policy, &["PreemptLowerPriority", "Never"], errors);
    }
}

pub(super) fn priority_class_update(new: &Value, old: &Value, errors: &mut Errors) {
    let value = |class: &Value| class["value"].as_i64().unwrap_or(0);
    if value(new) != value(old) {
        errors.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    if new["preemptionPolicy"] != old["preemptionPolicy"] {
        let path = Path::new("preemptionPolicy");
        errors.invalid(&path, new["preemptionPolicy"].clone(), IMMUTABLE);
    }
}

/// An event lives in the namespace of what it is about; those about the cluster in `default`.
pub(super) fn event(event: &Event, errors: &mut Errors) {
    let own = event.metadata.namespace.as_deref().unwrap_or_default();
    let path = Path::new("involvedObject");
    let path = path.child("namespace");
    match event.involved_object.namespace.as_deref().unwrap_or_default() {
        "" if !matches!(own, "" | "default" | "kube-system") => {
            errors.invalid(&path, "", "does not match event.namespace");
        }
        "" => {}
        other if other != own => errors.invalid(&path, other, "does not match event.namespace"),
        _ => {}
    }
}

pub(super) fn binding(binding: &Binding, errors: &mut Errors) {
    let path = Path::new("target");
    match binding.target.kind.as_deref() {
        None | Some("" | "Node") => {}
        Some(other) => errors.not_supported(&path.child("kind"), other, &["Node", "<empty>"]),
    }
    if binding.target.name.as_ref().is_none_or(String::is_empty) {
        errors.required(&path.child("name"), "");
    }
}
