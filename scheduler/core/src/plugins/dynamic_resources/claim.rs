//! The claims that a pod uses, and what their status says.
//!
//! Mirrors `k8s.io/dynamic-resource-allocation/resourceclaim` and the plugin's
//! `foreachPodResourceClaim`. A claim is named by the pod, or made for it from a template, with its
//! name in the pod's status.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceRequest, ResourceClaim, ResourceClaimConsumerReference,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::cache::Objects;
use crate::pod::PodInfo;

/// The claims of the pod, in its order, or why one of them is not there.
pub(super) fn of_pod<'a>(
    pod: &PodInfo,
    objects: &'a Objects,
) -> Result<Vec<&'a Arc<ResourceClaim>>, String> {
    let mut claims: Vec<&Arc<ResourceClaim>> = Vec::new();
    for wanted in references(&pod.pod) {
        let Some((name, must_own)) = name(pod, wanted)? else { continue };
        let Some(claim) = objects.resource_claims.get(pod.namespace(), name) else {
            return Err(format!("resourceclaim.resource.k8s.io \"{name}\" not found"));
        };
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("resourceclaim \"{name}\" is being deleted"));
        }
        if must_own && !is_controlled_by(claim, pod) {
            let (namespace, pod) = (pod.namespace(), pod.name());
            return Err(format!(
                "ResourceClaim {namespace}/{name} was not created for pod {namespace}/{pod} (pod \
                 is not owner)"
            ));
        }
        // A pod may name a claim twice.
        if !claims.iter().any(|other| Arc::ptr_eq(other, claim)) {
            claims.push(claim);
        }
    }
    Ok(claims)
}

/// Whether a claim of the pod names alternatives of what it wants.
pub(super) fn have_alternatives(pod: &PodInfo, objects: &Objects) -> bool {
    let claims = of_pod(pod, objects).unwrap_or_default();
    let mut wanted = claims.into_iter().flat_map(|claim| requests(claim));
    wanted.any(|request| request.first_available.as_ref().is_some_and(|any| any.len() > 1))
}

/// Whether the pod asks for claims.
pub(super) fn references(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default()
}

/// The claim's name and whether it must be the pod's own; `None` if none is needed.
fn name<'a>(
    pod: &'a PodInfo,
    wanted: &'a PodResourceClaim,
) -> Result<Option<(&'a str, bool)>, String> {
    let (namespace, pod_name) = (pod.namespace(), pod.name());
    if let Some(name) = &wanted.resource_claim_name {
        return Ok(Some((name, false)));
    }
    if wanted.resource_claim_template_name.is_none() {
        return Err(format!(
            "pod \"{namespace}/{pod_name}\", spec.resourceClaim {:?}: none of the supported fields \
             are set",
            wanted.name
        ));
    }
    let statuses = pod.status().and_then(|s| s.resource_claim_statuses.as_ref());
    let status = statuses.into_iter().flatten().find(|status| status.name == wanted.name);
    match status {
        Some(status) => Ok(status.resource_claim_name.as_deref().map(|name| (name, true))),
        None => Err(format!("pod \"{namespace}/{pod_name}\": ResourceClaim not created yet")),
    }
}

fn is_controlled_by(claim: &ResourceClaim, pod: &PodInfo) -> bool {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let is_controller = |owner: &&OwnerReference| owner.controller == Some(true);
    let uid = owners.iter().find(is_controller).map(|owner| owner.uid.as_str());
    uid.is_some() && uid == pod.object_uid().as_deref()
}

/// The allocation of the claim, if it is allocated.
pub(super) fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

/// Who the claim is reserved for.
pub(super) fn reserved_for(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default()
}

/// Whether the claim is reserved for the pod.
pub(super) fn is_reserved_for(claim: &ResourceClaim, pod: &PodInfo) -> bool {
    let uid = pod.object_uid().unwrap_or_default();
    reserved_for(claim).iter().any(|consumer| consumer.uid == uid)
}

/// What the claim asks for.
pub(super) fn requests(claim: &ResourceClaim) -> &[DeviceRequest] {
    let devices = claim.spec.devices.as_ref();
    devices.and_then(|devices| devices.requests.as_deref()).unwrap_or_default()
}

/// `namespace/name`, as messages have it.
pub(super) fn key(claim: &ResourceClaim) -> String {
    let (namespace, name) = (&claim.metadata.namespace, &claim.metadata.name);
    format!("{}/{}", namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default())
}
