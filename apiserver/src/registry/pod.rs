//! What the API server makes of a new pod for the scheduler.
//!
//! Mirrors `podStrategy.PrepareForCreate`.

use pintle_api::label_keys;
use serde_json::{Value, json};

use crate::object;

/// Sets the status of a new pod and completes its selectors.
pub(crate) fn create(pod: &mut Value) {
    let mut status = json!({"phase": "Pending"});
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
    }
    object::set(pod, "status", Some(status));
    label_keys::merge_into_selectors(pod);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(spec: &Value) -> Value {
        let mut pod = json!({"spec": spec});
        create(&mut pod);
        pod
    }

    #[test]
    fn a_gated_pod_says_so_from_the_start() {
        let pod = created(&json!({"schedulingGates": [{"name": "g"}]}));
        assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
        assert_eq!(created(&json!({}))["status"], json!({"phase": "Pending"}));
    }
}
