//! Whether what was reserved has come true (`checkBindings`).
//!
//! The scheduler writes its choice and others carry it out: they bind the claim, make its volume, or
//! take the choice back. What is read here may lag behind what was written; an assumed object stands
//! for it until then.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::super::pod_volumes::{annotation, is_fully_bound, is_reachable, volume_name};
use super::SELECTED_NODE;
use crate::cache::{NodeInfo, Objects, Snapshot};
use crate::framework::Step;

/// Whether the claim of the step is bound, on behalf of a pod that was placed on this node. The
/// error is why it never will be as it was reserved.
pub fn is_carried_out(step: &Step, node: &str, snapshot: &Snapshot) -> Result<bool, String> {
    let objects = snapshot.objects();
    let found = || {
        let missing = || format!("failed to get node {node:?}: node {node:?} not found");
        snapshot.get(node).ok_or_else(missing)
    };
    match step {
        Step::BindVolume { volume, claim } => is_bound(volume, claim, found()?, objects),
        Step::ProvisionVolume { claim } => is_provisioned(claim, found()?, objects),
        Step::AwaitVolume { claim } => {
            let claim = find(claim, objects).ok_or_else(|| not_found("check binding", claim))?;
            Ok(is_fully_bound(claim))
        }
        Step::CreateClaim { .. } | Step::DeleteClaim { .. } | Step::WriteClaim { .. } => Ok(true),
    }
}

fn is_bound(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
    node: &NodeInfo,
    objects: &Objects,
) -> Result<bool, String> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let volume = objects.persistent_volumes.get("", name).ok_or_else(|| {
        format!("failed to check binding: could not find v1.PersistentVolume {name:?}")
    })?;
    let claim = find(claim, objects).ok_or_else(|| not_found("check binding", claim))?;
    check_reachable(volume, node)?;
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let uid = reference.and_then(|reference| reference.uid.as_deref());
    if uid.is_none_or(str::is_empty) {
        return Err(format!("ClaimRef got reset for pv {name:?}"));
    }
    Ok(is_fully_bound(claim))
}

fn is_provisioned(
    claim: &PersistentVolumeClaim,
    node: &NodeInfo,
    objects: &Objects,
) -> Result<bool, String> {
    let found = find(claim, objects);
    let claim = found.ok_or_else(|| not_found("check provisioning pvc", claim))?;
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    if claim.metadata.annotations.is_none() {
        return Err(format!("selectedNode annotation reset for PVC {name:?}"));
    }
    if annotation(&claim.metadata, SELECTED_NODE) != Some(&**node.name()) {
        return Err(format!("provisioning failed for PVC {name:?}"));
    }
    if !volume_name(claim).is_empty() {
        // The volume may be on its way; if it is gone, the claim will be unbound.
        let Some(volume) = objects.persistent_volumes.get("", volume_name(claim)) else {
            return Ok(false);
        };
        check_reachable(volume, node)?;
    }
    Ok(is_fully_bound(claim))
}

fn find<'a>(
    claim: &PersistentVolumeClaim,
    objects: &'a Objects,
) -> Option<&'a PersistentVolumeClaim> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    objects.persistent_volume_claims.get(namespace, name).map(|claim| &**claim)
}

fn not_found(act: &str, claim: &PersistentVolumeClaim) -> String {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    format!("failed to {act}: could not find v1.PersistentVolumeClaim \"{namespace}/{name}\"")
}

/// The volume that was made, or the node's labels, may not be what was reserved.
fn check_reachable(volume: &PersistentVolume, node: &NodeInfo) -> Result<(), String> {
    if is_reachable(volume, node.node()) {
        return Ok(());
    }
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let node = node.name();
    Err(format!(
        "pv {name:?} node affinity doesn't match node {node:?}: no matching NodeSelectorTerms"
    ))
}
