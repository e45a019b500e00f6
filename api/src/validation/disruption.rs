//! PodDisruptionBudgets.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::workload::count_or_percent;
use super::{non_negative, one_of, selector};
use crate::field::{Errors, Path};

const SPEC: Path<'static> = Path::new("spec");

pub(super) fn budget(budget: &PodDisruptionBudget, errors: &mut Errors) {
    let Some(spec) = &budget.spec else { return };
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.invalid(&SPEC, json!(spec), detail);
    }
    for (field, value) in
        [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)]
    {
        let path = SPEC.child(field);
        let count = count_or_percent(&path, value.as_ref(), errors);
        if let Some(IntOrString::String(text)) = value
            && count > 100
        {
            errors.invalid(&path, text.as_str(), "must not be greater than 100%");
        }
    }
    if let Some(it) = &spec.selector {
        selector::label_selector(&SPEC.child("selector"), it, errors);
    }
    if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
        let path = SPEC.child("unhealthyPodEvictionPolicy");
        one_of(&path, policy, &["AlwaysAllow", "IfHealthyBudget"], errors);
    }
}

/// A write to a budget's status: its counts are not negative.
pub(super) fn status(new: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        non_negative(&path.child(field), new["status"][field].as_i64(), errors);
    }
}
