//! What is to be written for what a pod's claims get on a node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};

use super::match_volumes::is_bound_to;
use super::{Placed, SELECTED_NODE};
use crate::cache::NodeInfo;
use crate::framework::Step;

/// On a volume: its claim was chosen for it, not by its user.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Every step has an object of its own, also where nothing changes in it: another pod with the same
/// claim may have assumed it already, and one giving up must not end the assumption of the other.
pub(super) fn steps(placed: Vec<Placed<'_>>, node: &NodeInfo) -> Vec<Step> {
    placed
        .into_iter()
        .map(|placed| match placed {
            Placed::Bound(claim, volume) => {
                Step::BindVolume { volume: Arc::new(bound(volume, claim)), claim: claim.clone() }
            }
            Placed::Provisioned(claim) => {
                let mut claim = PersistentVolumeClaim::clone(claim);
                let annotations = claim.metadata.annotations.get_or_insert_default();
                annotations.insert(SELECTED_NODE.to_owned(), node.name().to_string());
                Step::ProvisionVolume { claim: Arc::new(claim) }
            }
        })
        .collect()
}

/// The volume with the claim as its own (`GetBindVolumeToClaim`).
fn bound(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolume {
    let mut bound = volume.clone();
    if !is_bound_to(volume, claim) {
        let annotations = bound.metadata.annotations.get_or_insert_default();
        annotations.entry(BOUND_BY_CONTROLLER.to_owned()).or_insert_with(|| "yes".to_owned());
    }
    let spec = bound.spec.get_or_insert_default();
    let has_uid = spec.claim_ref.as_ref().is_some_and(|it| it.uid == claim.metadata.uid);
    if !has_uid || !is_bound_to(volume, claim) {
        spec.claim_ref = Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            name: claim.metadata.name.clone(),
            namespace: claim.metadata.namespace.clone(),
            resource_version: claim.metadata.resource_version.clone(),
            uid: claim.metadata.uid.clone(),
            field_path: None,
        });
    }
    bound
}
