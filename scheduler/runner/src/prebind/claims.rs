//! Takes the reservation of claims back when a pod could not be bound: DynamicResources' Unreserve.
//!
//! A claim keeps the devices that were written for it: the pod's next attempt uses them, or gives
//! them free.

use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::framework::Step;

/// Tries to write a claim that others write too. What stays reserved is found by the next attempt.
const TRIES_MAX: usize = 5;

/// Takes the pod from those that the steps' claims are reserved for.
pub(crate) async fn unreserve(client: &Client, pod: &PodInfo, steps: &[Step]) {
    for step in steps {
        let Step::WriteClaim { new, .. } = step else { continue };
        if let Err(error) = unreserve_one(client, pod, new).await {
            let (namespace, claim) = (pod.namespace(), new.name_any());
            tracing::warn!(namespace, claim, pod = pod.name(), %error, "unreserve a claim");
        }
    }
}

async fn unreserve_one(client: &Client, pod: &PodInfo, claim: &ResourceClaim) -> kube::Result<()> {
    let api: Api<ResourceClaim> = Api::namespaced(client.clone(), pod.namespace());
    let name = claim.name_any();
    for _ in 0..TRIES_MAX {
        let Some(latest) = api.get_opt(&name).await? else { return Ok(()) };
        let Some(without) = without(latest, claim, pod) else { return Ok(()) };
        match api.replace_status(&name, &PostParams::default(), &without).await {
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            written => return written.map(|_| ()),
        }
    }
    Ok(())
}

/// The claim without the pod; `None` if it is not reserved for it, or another claim by now.
fn without(
    mut latest: ResourceClaim,
    claim: &ResourceClaim,
    pod: &PodInfo,
) -> Option<ResourceClaim> {
    let uid = pod.object_uid()?;
    if latest.metadata.uid != claim.metadata.uid {
        return None;
    }
    let reserved = latest.status.as_mut()?.reserved_for.as_mut()?;
    let before = reserved.len();
    reserved.retain(|consumer| consumer.uid != uid);
    (reserved.len() < before).then_some(latest)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_pods_own_reservation_is_taken_back() {
        let claim = |uid: &str, reserved: &[&str]| -> ResourceClaim {
            let reserved =
                reserved.iter().map(|uid| json!({"name": uid, "uid": uid, "resource": "pods"}));
            let reserved: Vec<_> = reserved.collect();
            let status = json!({"allocation": {}, "reservedFor": reserved});
            let claim =
                json!({"metadata": {"name": "c", "uid": uid}, "spec": {}, "status": status});
            serde_json::from_value(claim).unwrap()
        };
        let pod = json!({"metadata": {"name": "p", "uid": "mine"}});
        let pod = PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()));
        let own = claim("u", &[]);
        let both = claim("u", &["theirs", "mine"]);
        assert_eq!(without(both.clone(), &own, &pod), Some(claim("u", &["theirs"])));
        assert_eq!(without(claim("u", &["theirs"]), &own, &pod), None);
        assert_eq!(without(claim("other", &["mine"]), &own, &pod), None);
    }
}
