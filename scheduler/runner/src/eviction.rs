//! Evicts the victims of a preemption, as upstream's preemption executor does.
//!
//! Each victim is told why on its status (the condition DisruptionTarget) and deleted with the grace
//! it asked for. All but the last go at once, and the last only if none of them failed.

use futures::future::join_all;
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use pintle_client::{EventRecord, EventRecorder, PodDeletion, PodEviction};
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::framework::Preemption;

use crate::condition;
use crate::writes::{Writes, reference};

/// Carries a preemption out; false if some of it could not be written.
pub(crate) async fn carry_out(
    writes: &Writes,
    events: &EventRecorder,
    preemptor: &PodInfo,
    preemption: &Preemption,
) -> bool {
    let Preemption { node, victims, outranked, .. } = preemption;
    let lost = outranked.iter().map(|pod| condition::clear_nomination(writes, pod));
    let lost = join_all(lost);
    let mut succeeded = true;
    for (pod, result) in outranked.iter().zip(lost.await) {
        succeeded &= logged(pod, "clear the nomination of a pod", &result);
    }
    let evict = async |victim: &PodInfo| {
        let result = evict(writes, victim, preemptor).await;
        if let Ok(Evicted::ByUs) = result {
            let message = format!("Preempted by pod {} on node {node}", uid(preemptor));
            let event = EventRecord::normal("Preempted", message);
            events.record(reference(victim), event);
        }
        logged(victim, "preempt a pod", &result)
    };
    let mut going = victims.iter().filter(|victim| !victim.is_terminating());
    let Some(last) = going.next_back() else { return succeeded };
    let evicted = join_all(going.map(|victim| evict(victim))).await;
    let others = evicted.into_iter().all(|evicted| evicted);
    others && evict(last).await && succeeded
}

fn logged<T>(pod: &PodInfo, act: &str, result: &kube::Result<T>) -> bool {
    if let Err(error) = result {
        tracing::warn!(namespace = pod.namespace(), pod = pod.name(), %error, "{act}");
    }
    result.is_ok()
}

enum Evicted {
    ByUs,
    /// It was gone already, or another pod has its name.
    ByOthers,
}

async fn evict(writes: &Writes, victim: &PodInfo, preemptor: &PodInfo) -> kube::Result<Evicted> {
    let (namespace, name, uid) = (victim.namespace(), victim.name(), victim.object_uid());
    let deletion = PodDeletion { namespace, name, uid: uid.as_deref() };
    let written = match disruption_target(victim, preemptor, Timestamp::now()) {
        Some(condition) => writes.evict(PodEviction { deletion, condition: &condition }).await,
        None => writes.delete(deletion).await,
    };
    match written {
        Err(error) if is_gone(&error) => Ok(Evicted::ByOthers),
        result => result.map(|()| Evicted::ByUs),
    }
}

/// The pod of this uid is no more: its name is free, or another pod's.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found() || status.is_conflict())
}

fn uid(pod: &PodInfo) -> String {
    pod.object_uid().unwrap_or_default()
}

/// The condition that tells the victim why it has to go; `None` if it is told already.
fn disruption_target(
    victim: &PodInfo,
    preemptor: &PodInfo,
    now: Timestamp,
) -> Option<PodCondition> {
    let status = victim.pod.status.as_ref().or(victim.status());
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let old = conditions.iter().find(|condition| condition.type_ == "DisruptionTarget");
    let scheduler = preemptor.scheduler_name();
    let message = format!("{scheduler}: preempting to accommodate a higher priority pod");
    let tracked = status.and_then(|status| status.observed_generation).is_some();
    let since = old.filter(|old| old.status == "True").and_then(|o| o.last_transition_time.clone());
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("PreemptionByScheduler".to_owned()),
        message: Some(message),
        observed_generation: victim.pod.metadata.generation.filter(|_| tracked),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        ..PodCondition::default()
    };
    let is_told = old.is_some_and(|old| {
        (&old.status, &old.reason, &old.message)
            == (&condition.status, &condition.reason, &condition.message)
    });
    (!is_told).then_some(condition)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn pod(object: Value) -> PodInfo {
        PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()))
    }

    #[test]
    fn a_victim_is_told_once() {
        let preemptor = pod(json!({"metadata": {"name": "p"},
            "spec": {"containers": [], "schedulerName": "mine"}}));
        let now = Timestamp::from_second(9).unwrap();
        let victim = json!({"metadata": {"uid": "u", "generation": 3}});
        let condition = disruption_target(&pod(victim.clone()), &preemptor, now).unwrap();
        let condition = json!(condition);
        assert_eq!(
            condition,
            json!({"type": "DisruptionTarget", "status": "True",
                "reason": "PreemptionByScheduler",
                "message": "mine: preempting to accommodate a higher priority pod",
                "lastTransitionTime": "1970-01-01T00:00:09Z"})
        );
        let mut told = victim;
        told["status"]["conditions"] = json!([condition]);
        assert_eq!(disruption_target(&pod(told), &preemptor, now), None);
    }
}
