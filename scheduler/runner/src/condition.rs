//! The pod's PodScheduled condition while it waits.
//!
//! Written only when status, reason or message differ from what the pod has. The write names the
//! resourceVersion it is based on: it must not overtake the pod's binding.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// Tries before a condition is given up: each fails only if the pod changed meanwhile, and the
/// pod's next attempt writes it again.
const TRIES_MAX: usize = 3;

/// Says on the pod why it is not scheduled. A pod that is gone, replaced or bound is left alone.
pub(crate) async fn write(
    client: &Client,
    pod: &Pod,
    reason: &str,
    message: &str,
) -> kube::Result<()> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut latest = pod.clone();
    for _ in 0..TRIES_MAX {
        let Some(patch) = patch(&latest, reason, message, Timestamp::now()) else { return Ok(()) };
        let patch = Patch::Strategic(patch);
        match api.patch_status(name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
        latest = match api.get_opt(name).await? {
            Some(found) if found.metadata.uid == pod.metadata.uid && !is_bound(&found) => found,
            _ => return Ok(()),
        };
    }
    Ok(())
}

fn is_bound(pod: &Pod) -> bool {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    name.is_some_and(|name| !name.is_empty())
}

/// The strategic merge patch that sets the condition; `None` if the pod has it already.
fn patch(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Value> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    let old = conditions.unwrap_or_default().iter().find(|c| c.type_ == "PodScheduled");
    let was_false = old.filter(|old| old.status == "False");
    let says = |text: &Option<String>, expected: &str| text.as_deref() == Some(expected);
    if was_false.is_some_and(|old| says(&old.reason, reason) && says(&old.message, message)) {
        return None;
    }
    let since = was_false.and_then(|old| old.last_transition_time.clone());
    let condition = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        ..PodCondition::default()
    };
    let metadata = json!({
        "resourceVersion": pod.metadata.resource_version,
        "uid": pod.metadata.uid,
    });
    Some(json!({"metadata": metadata, "status": {"conditions": [condition]}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(conditions: &Value) -> Pod {
        let object = json!({"metadata": {"uid": "u", "resourceVersion": "7"},
            "status": {"conditions": conditions}});
        serde_json::from_value(object).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn only_a_change_is_written() {
        let same = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "m", "lastTransitionTime": "1970-01-01T00:00:01Z"}]);
        assert_eq!(patch(&pod(&same), "Unschedulable", "m", at(9)), None);
        let other = patch(&pod(&same), "Unschedulable", "n", at(9)).unwrap();
        assert_eq!(other["metadata"], json!({"resourceVersion": "7", "uid": "u"}));
        let condition = &other["status"]["conditions"][0];
        assert_eq!(condition["message"], "n");
        // It has been false since then: only the text changed.
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn a_transition_is_timed() {
        for before in [json!([]), json!([{"type": "PodScheduled", "status": "True"}])] {
            let patch = patch(&pod(&before), "Unschedulable", "m", at(9)).unwrap();
            let condition = &patch["status"]["conditions"][0];
            assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:09Z");
            assert_eq!(condition["status"], "False");
        }
    }
}
