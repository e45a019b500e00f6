//! Owner references: who controls an object, and which orphans a controller may adopt.
//!
//! Mirrors metav1.GetControllerOf and the claim rules of controller_ref_manager.go.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use pintle_api::labels::Selector;

/// The reference with `controller: true`, if there is one.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// A controlling, deletion-blocking reference to `owner`.
pub(crate) fn controller_reference<K: kube::Resource<DynamicType = ()>>(
    owner: &K,
) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        block_owner_deletion: Some(true),
        controller: Some(true),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
    }
}

/// What an owner does with each object that it owns or whose labels match its selector.
pub(crate) struct Claim<K> {
    /// Already its own, and matching.
    pub(crate) owned: Vec<Arc<K>>,
    /// Matching orphans: to be given a controller reference.
    pub(crate) adopt: Vec<Arc<K>>,
    /// Its own, but no longer matching: to be let go.
    pub(crate) release: Vec<Arc<K>>,
}

/// Sort `candidates` by what the owner with this metadata does with them. An owner that is being
/// deleted neither adopts nor releases; an object that is being deleted is not adopted.
pub(crate) fn claim<K: kube::Resource>(
    owner: &ObjectMeta,
    selector: &Selector,
    candidates: impl IntoIterator<Item = Arc<K>>,
) -> Claim<K> {
    let mut claim = Claim { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    let deleting = owner.deletion_timestamp.is_some();
    for candidate in candidates {
        let meta = candidate.meta();
        let matches = selector.matches(&meta.labels);
        match controller_of(meta) {
            Some(controller) if Some(&controller.uid) != owner.uid.as_ref() => {}
            Some(_) if matches => claim.owned.push(candidate),
            Some(_) if !deleting => claim.release.push(candidate),
            None if matches && !deleting && meta.deletion_timestamp.is_none() => {
                claim.adopt.push(candidate);
            }
            Some(_) | None => {}
        }
    }
    claim
}

/// The merge patch that gives the object with this metadata the controller reference `owner`.
pub(crate) fn adoption_patch(meta: &ObjectMeta, owner: OwnerReference) -> serde_json::Value {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.retain(|other| other.uid != owner.uid);
    owners.push(owner);
    owners_patch(meta, &owners)
}

/// The merge patch that takes the reference to `owner_uid` away.
pub(crate) fn release_patch(meta: &ObjectMeta, owner_uid: &str) -> serde_json::Value {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.retain(|other| other.uid != owner_uid);
    owners_patch(meta, &owners)
}

/// The uid makes sure that it is still the same object, the version that nothing else changed.
fn owners_patch(meta: &ObjectMeta, owners: &[OwnerReference]) -> serde_json::Value {
    let owners = if owners.is_empty() { None } else { Some(owners) };
    serde_json::json!({ "metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "ownerReferences": owners,
    }})
}
