//! Claims made for a pod's extended resources, and what becomes of claims when a pod could not be bound:
//! DynamicResources' Unreserve.
//!
//! A claim keeps the devices that were written for it: the pod's next attempt uses them, or gives
//! them free. One that was made for extended resources is deleted.

use k8s_openapi::api::core::v1::{ContainerExtendedResourceRequest, Pod};
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::framework::Step;
use serde_json::json;

/// Tries to write a claim that others write too. What stays reserved is found by the next attempt.
const TRIES_MAX: usize = 5;

/// Takes the pod from those that the steps' claims are reserved for.
pub(crate) async fn unreserve(client: &Client, pod: &PodInfo, steps: &[Step]) {
    for step in steps {
        let (claim, undone) = match step {
            Step::WriteClaim { new, .. } => (new, unreserve_one(client, pod, new).await),
            Step::CreateClaim { claim, .. } => (claim, take_back(client, pod, claim).await),
            _ => continue,
        };
        if let Err(error) = undone {
            let (namespace, claim) = (pod.namespace(), claim.name_any());
            tracing::warn!(namespace, claim, pod = pod.name(), %error, "unreserve a claim");
        }
    }
}

/// Creates the claim, writes its devices, and in the pod's status what is for which container.
pub(super) async fn create(
    client: &Client,
    pod: &PodInfo,
    claim: &ResourceClaim,
    mappings: &[ContainerExtendedResourceRequest],
) -> kube::Result<()> {
    let api = super::in_namespace_of::<ResourceClaim>(client, claim);
    let mut created = api.create(&PostParams::default(), claim).await?;
    created.status.clone_from(&claim.status);
    api.replace_status(&claim.name_any(), &PostParams::default(), &created).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    let status = json!({"status": {"extendedResourceClaimStatus":
        {"resourceClaimName": claim.name_any(), "requestMappings": mappings}}});
    pods.patch_status(pod.name(), &PatchParams::default(), &Patch::Merge(&status)).await.map(|_| ())
}

/// Deletes a claim, whoever keeps it from being deleted among schedulers.
pub(super) async fn delete(client: &Client, claim: &ResourceClaim) -> kube::Result<()> {
    let api = super::in_namespace_of::<ResourceClaim>(client, claim);
    let name = claim.name_any();
    let none = json!({"metadata": {"finalizers": null, "uid": claim.uid()}});
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(&none)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
            return Ok(());
        }
        patched => patched?,
    };
    let preconditions = Preconditions { uid: claim.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(&name, &params).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        deleted => deleted.map(|_| ()),
    }
}

/// Deletes the claim that was made for the pod, if it was.
async fn take_back(client: &Client, pod: &PodInfo, claim: &ResourceClaim) -> kube::Result<()> {
    let api = super::in_namespace_of::<ResourceClaim>(client, claim);
    let Some(there) = api.get_opt(&claim.name_any()).await? else { return Ok(()) };
    let uid = pod.object_uid();
    let is_own = there.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref());
    if is_own { delete(client, &there).await } else { Ok(()) }
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
