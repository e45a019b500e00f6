//! What of a pod's change matters to scheduling (`PodSchedulingPropertiesChange`).

use crate::framework::Action;
use crate::pod::PodInfo;

/// The actions that turned `old` into `new`; [`Action::UPDATE_OTHER`] if none of them matters.
pub fn scheduling_change(old: &PodInfo, new: &PodInfo) -> Action {
    let mut action = Action::default();
    let mut note = |changed: bool, what: Action| {
        if changed {
            action = action.or(what);
        }
    };
    note(old.pod.metadata.labels != new.pod.metadata.labels, Action::UPDATE_POD_LABEL);
    note(asks_for_less(old, new), Action::UPDATE_POD_SCALE_DOWN);
    note(old.tolerations() != new.tolerations(), Action::UPDATE_POD_TOLERATION);
    let gates = |pod: &PodInfo| pod.scheduling_gates().count();
    note(gates(old) > 0 && gates(new) == 0, Action::UPDATE_POD_GATES_ELIMINATED);
    let claims =
        |pod: &PodInfo| pod.status().and_then(|status| status.resource_claim_statuses.clone());
    note(claims(old) != claims(new), Action::UPDATE_POD_GENERATED_RESOURCE_CLAIM);
    if action.is_empty() { Action::UPDATE_OTHER } else { action }
}

fn asks_for_less(old: &PodInfo, new: &PodInfo) -> bool {
    let (old, new) = (&old.requests, &new.requests);
    let scalar = |name: &String| new.scalar.get(name).copied().unwrap_or(0);
    new.milli_cpu < old.milli_cpu
        || new.memory_bytes < old.memory_bytes
        || new.ephemeral_storage_bytes < old.ephemeral_storage_bytes
        || old.scalar.iter().any(|(name, amount)| scalar(name) < *amount)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn pod(labels: &Value, spec: &Value) -> PodInfo {
        let object = json!({"metadata": {"name": "p", "labels": labels}, "spec": spec});
        PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()))
    }

    fn asking(cpu: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
    }

    #[test]
    fn changes_are_told_apart() {
        let gated = json!({"containers": [], "schedulingGates": [{"name": "g"}]});
        let plain = json!({"containers": []});
        let tolerant = json!({"containers": [], "tolerations": [{"operator": "Exists"}]});
        let none = json!({});
        for (old, new, expected) in [
            (pod(&none, &asking("2")), pod(&none, &asking("1")), Action::UPDATE_POD_SCALE_DOWN),
            (pod(&none, &asking("1")), pod(&none, &asking("2")), Action::UPDATE_OTHER),
            (pod(&none, &gated), pod(&none, &plain), Action::UPDATE_POD_GATES_ELIMINATED),
            (pod(&none, &plain), pod(&none, &tolerant), Action::UPDATE_POD_TOLERATION),
            (pod(&none, &plain), pod(&json!({"a": "b"}), &plain), Action::UPDATE_POD_LABEL),
        ] {
            assert_eq!(scheduling_change(&old, &new), expected);
        }
    }
}
