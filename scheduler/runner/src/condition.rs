//! The pod's PodScheduled condition while it waits, and the node it is nominated for.
//!
//! Written only when status, reason, message or nomination differ from what the pod has. The write
//! names the resourceVersion it is based on: it must not overtake the pod's binding.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use pintle_scheduler_core::framework::Nomination;
use serde_json::{Value, json};

use crate::unread;

/// Tries before a condition is given up: each fails only if the pod changed meanwhile, and the
/// pod's next attempt writes it again.
const TRIES_MAX: usize = 3;

/// What to say on a pod.
pub(crate) struct Report<'a> {
    /// `Unschedulable` or `SchedulerError`.
    pub(crate) reason: &'a str,
    /// For people.
    pub(crate) message: &'a str,
    /// What to do about `status.nominatedNodeName`.
    pub(crate) nomination: &'a Nomination,
}

/// Says on the pod why it is not scheduled. A pod that is gone, replaced or bound is left alone.
pub(crate) async fn write(client: &Client, pod: &Pod, report: &Report<'_>) -> kube::Result<()> {
    write_patch(client, pod, |latest| patch(latest, report, Timestamp::now())).await
}

/// Takes the pod's nomination away.
pub(crate) async fn clear_nomination(client: &Client, pod: &Pod) -> kube::Result<()> {
    set_nomination(client, pod, &Nomination::Clear).await
}

/// Says on the pod which node it is nominated for, and no more.
pub(crate) async fn set_nomination(
    client: &Client,
    pod: &Pod,
    nomination: &Nomination,
) -> kube::Result<()> {
    write_patch(client, pod, |latest| {
        let nominated = nomination_patch(latest, nomination)?;
        Some(json!({"metadata": identity(latest), "status": {"nominatedNodeName": nominated}}))
    })
    .await
}

/// Writes what `patch` makes of the pod, and tries again with the latest if it changed meanwhile.
async fn write_patch(
    client: &Client,
    pod: &Pod,
    patch: impl Fn(&Pod) -> Option<Value>,
) -> kube::Result<()> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut latest = pod.clone();
    for _ in 0..TRIES_MAX {
        let Some(patch) = patch(&latest) else { return Ok(()) };
        match unread::patch_status(client, namespace, name, &patch).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
            Ok(()) => return Ok(()),
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

/// The strategic merge patch that says so; `None` if the pod says it already.
fn patch(pod: &Pod, report: &Report, now: Timestamp) -> Option<Value> {
    let mut status = json!({});
    if let Some(condition) = condition_patch(pod, report, now) {
        status["conditions"] = json!([condition]);
    }
    if let Some(nominated) = nomination_patch(pod, report.nomination) {
        status["nominatedNodeName"] = nominated;
    }
    let says_all = status.as_object().is_some_and(serde_json::Map::is_empty);
    (!says_all).then(|| json!({"metadata": identity(pod), "status": status}))
}

fn identity(pod: &Pod) -> Value {
    json!({"resourceVersion": pod.metadata.resource_version, "uid": pod.metadata.uid})
}

/// The node's name, or null; `None` if the pod has it already or it stays.
fn nomination_patch(pod: &Pod, nomination: &Nomination) -> Option<Value> {
    let status = pod.status.as_ref();
    let old = status.and_then(|status| status.nominated_node_name.as_deref());
    let old = old.filter(|name| !name.is_empty());
    let new = match nomination {
        Nomination::Keep => return None,
        Nomination::Clear => None,
        Nomination::Set(node) => Some(&**node),
    };
    (old != new).then(|| json!(new))
}

fn condition_patch(pod: &Pod, report: &Report, now: Timestamp) -> Option<PodCondition> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    let old = conditions.unwrap_or_default().iter().find(|c| c.type_ == "PodScheduled");
    let was_false = old.filter(|old| old.status == "False");
    let says = |text: &Option<String>, expected: &str| text.as_deref() == Some(expected);
    let Report { reason, message, .. } = report;
    if was_false.is_some_and(|old| says(&old.reason, reason) && says(&old.message, message)) {
        return None;
    }
    let since = was_false.and_then(|old| old.last_transition_time.clone());
    Some(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some((*reason).to_owned()),
        message: Some((*message).to_owned()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        ..PodCondition::default()
    })
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

    fn report(message: &str) -> Report<'_> {
        Report { reason: "Unschedulable", message, nomination: &Nomination::Keep }
    }

    #[test]
    fn only_a_change_is_written() {
        let same = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "m", "lastTransitionTime": "1970-01-01T00:00:01Z"}]);
        assert_eq!(patch(&pod(&same), &report("m"), at(9)), None);
        let other = patch(&pod(&same), &report("n"), at(9)).unwrap();
        assert_eq!(other["metadata"], json!({"resourceVersion": "7", "uid": "u"}));
        let condition = &other["status"]["conditions"][0];
        assert_eq!(condition["message"], "n");
        // It has been false since then: only the text changed.
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn a_transition_is_timed() {
        for before in [json!([]), json!([{"type": "PodScheduled", "status": "True"}])] {
            let patch = patch(&pod(&before), &report("m"), at(9)).unwrap();
            let condition = &patch["status"]["conditions"][0];
            assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:09Z");
            assert_eq!(condition["status"], "False");
        }
    }

    #[test]
    fn a_nomination_is_set_moved_and_taken_away() {
        let same = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "m", "lastTransitionTime": "1970-01-01T00:00:01Z"}]);
        let set = |node: &str| Nomination::Set(node.into());
        for (old, nomination, expected) in [
            (None, Nomination::Keep, None),
            (None, Nomination::Clear, None),
            (None, set("a"), Some(json!({"nominatedNodeName": "a"}))),
            (Some("a"), Nomination::Keep, None),
            (Some("a"), set("a"), None),
            (Some("a"), set("b"), Some(json!({"nominatedNodeName": "b"}))),
            (Some("a"), Nomination::Clear, Some(json!({"nominatedNodeName": null}))),
        ] {
            let mut pod = pod(&same);
            pod.status.get_or_insert_default().nominated_node_name = old.map(str::to_owned);
            let report = Report { nomination: &nomination, ..report("m") };
            let patch = patch(&pod, &report, at(9));
            assert_eq!(patch.map(|patch| patch["status"].clone()), expected, "{old:?}");
        }
    }
}
