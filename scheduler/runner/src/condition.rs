//! The pod's PodScheduled condition while it waits, and the node it is nominated for.
//!
//! Written only when status, reason, message or nomination differ from what the pod has. The write
//! names the resourceVersion it is based on: it must not overtake the pod's binding.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use pintle_client::PodStatusChange;
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::framework::Nomination;

use crate::writes::Writes;

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
pub(crate) async fn write(writes: &Writes, pod: &PodInfo, report: &Report<'_>) -> kube::Result<()> {
    write_change(writes, pod, |latest| Says {
        condition: new_condition(latest, report, Timestamp::now()),
        nominated: new_nomination(latest, report.nomination),
    })
    .await
}

/// Takes the pod's nomination away.
pub(crate) async fn clear_nomination(writes: &Writes, pod: &PodInfo) -> kube::Result<()> {
    set_nomination(writes, pod, &Nomination::Clear).await
}

/// Says on the pod which node it is nominated for, and no more.
pub(crate) async fn set_nomination(
    writes: &Writes,
    pod: &PodInfo,
    nomination: &Nomination,
) -> kube::Result<()> {
    let says =
        |latest: &PodInfo| Says { condition: None, nominated: new_nomination(latest, nomination) };
    write_change(writes, pod, says).await
}

/// What a pod is to say and does not say yet.
struct Says<'a> {
    condition: Option<PodCondition>,
    /// See [`PodStatusChange::nominated_node`].
    nominated: Option<Option<&'a str>>,
}

/// Writes what is to be said of the pod, and tries again with the latest if it changed meanwhile.
async fn write_change<'a>(
    writes: &Writes,
    pod: &PodInfo,
    says: impl Fn(&PodInfo) -> Says<'a>,
) -> kube::Result<()> {
    let (namespace, name, uid) = (pod.namespace(), pod.name(), pod.object_uid());
    let mut newer = None;
    for _ in 0..TRIES_MAX {
        let latest = newer.as_ref().unwrap_or(pod);
        let Says { condition, nominated } = says(latest);
        if condition.is_none() && nominated.is_none() {
            return Ok(());
        }
        let change = PodStatusChange {
            namespace,
            name,
            uid: uid.as_deref(),
            resource_version: latest.resource_version(),
            condition: condition.as_ref(),
            nominated_node: nominated,
        };
        match writes.change_status(change).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            result => return result,
        }
        let api: Api<Pod> = Api::namespaced(writes.client.clone(), namespace);
        newer = match api.get_opt(name).await?.map(|found| PodInfo::new(Arc::new(found))) {
            Some(found) if found.object_uid() == uid && found.node_name().is_none() => Some(found),
            _ => return Ok(()),
        };
    }
    Ok(())
}

/// The node's name, or that there is none; `None` if the pod says so already or it stays.
fn new_nomination<'a>(pod: &PodInfo, nomination: &'a Nomination) -> Option<Option<&'a str>> {
    let new = match nomination {
        Nomination::Keep => return None,
        Nomination::Clear => None,
        Nomination::Set(node) => Some(&**node),
    };
    let old = pod.status().and_then(|status| status.nominated_node_name.as_deref());
    (old.filter(|name| !name.is_empty()) != new).then_some(new)
}

/// The condition that says so; `None` if the pod has it already.
fn new_condition(pod: &PodInfo, report: &Report, now: Timestamp) -> Option<PodCondition> {
    let conditions = pod.status().and_then(|status| status.conditions.as_deref());
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
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> PodInfo {
        let mut object = json!({"metadata": {"uid": "u", "resourceVersion": "7"},
            "spec": {"containers": []}});
        object["status"] = status;
        PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn report(message: &str) -> Report<'_> {
        Report { reason: "Unschedulable", message, nomination: &Nomination::Keep }
    }

    #[test]
    fn only_a_change_is_written() {
        let same = json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "m",
            "lastTransitionTime": "1970-01-01T00:00:01Z"}]});
        assert_eq!(new_condition(&pod(same.clone()), &report("m"), at(9)), None);
        let other = new_condition(&pod(same), &report("n"), at(9)).unwrap();
        assert_eq!(other.message.as_deref(), Some("n"));
        // It has been false since then: only the text changed.
        assert_eq!(other.last_transition_time, Some(Time(at(1))));
    }

    #[test]
    fn a_transition_is_timed() {
        for before in [json!([]), json!([{"type": "PodScheduled", "status": "True"}])] {
            let pod = pod(json!({"conditions": before}));
            let condition = new_condition(&pod, &report("m"), at(9)).unwrap();
            assert_eq!(condition.last_transition_time, Some(Time(at(9))));
            assert_eq!(condition.status, "False");
        }
    }

    #[test]
    fn a_nomination_is_set_moved_and_taken_away() {
        let set = |node: &str| Nomination::Set(node.into());
        for (old, nomination, expected) in [
            (None, Nomination::Keep, None),
            (None, Nomination::Clear, None),
            (None, set("a"), Some(Some("a"))),
            (Some("a"), Nomination::Keep, None),
            (Some("a"), set("a"), None),
            (Some("a"), set("b"), Some(Some("b"))),
            (Some("a"), Nomination::Clear, Some(None)),
        ] {
            let pod = pod(json!({"nominatedNodeName": old}));
            assert_eq!(new_nomination(&pod, &nomination), expected, "{old:?}");
        }
    }
}
