//! What the volume plugins read of pods, claims and volumes.
//!
//! Mirrors `component-helpers/storage`: the claims behind a pod's volumes, classes, sizes, and
//! whether a volume can be had from a node.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
    PodSpec, TopologySelectorTerm, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_api::node_affinity;
use pintle_api::quantity::Quantity;

use crate::pod::PodInfo;

/// Set when the claim's volume is known to both sides.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Where the class stood before there was a field; it still counts.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The binding mode that waits for a pod.
pub(super) const WAIT_FOR_FIRST_CONSUMER: &str = "WaitForFirstConsumer";

/// A claim that a pod's volume names.
pub(super) struct ClaimName<'a> {
    pub(super) name: Cow<'a, str>,
    /// It is made for the pod, and must be its own.
    pub(super) is_ephemeral: bool,
}

/// The volumes of a pod.
pub(super) fn volumes(pod: &PodInfo) -> &[Volume] {
    let spec: Option<&PodSpec> = pod.pod.spec.as_ref();
    spec.and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

/// The claim behind a pod's volume, if there is one.
pub(super) fn claim_name<'a>(pod: &PodInfo, volume: &'a Volume) -> Option<ClaimName<'a>> {
    if let Some(claim) = &volume.persistent_volume_claim {
        let name = Cow::Borrowed(claim.claim_name.as_str());
        return Some(ClaimName { name, is_ephemeral: false });
    }
    volume.ephemeral.as_ref()?;
    let name = Cow::Owned(format!("{}-{}", pod.name(), volume.name));
    Some(ClaimName { name, is_ephemeral: true })
}

/// The claims behind all of a pod's volumes.
pub(super) fn claim_names(pod: &PodInfo) -> impl Iterator<Item = ClaimName<'_>> {
    volumes(pod).iter().filter_map(|volume| claim_name(pod, volume))
}

/// The names of the claims that the pod refers to itself, ephemeral ones left out.
pub(super) fn plain_claim_names(pod: &PodInfo) -> impl Iterator<Item = &str> {
    let claims = volumes(pod).iter().filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.map(|claim| claim.claim_name.as_str())
}

/// Whether one of the pod's volumes is this claim.
pub(super) fn refers_to(pod: &PodInfo, claim: &PersistentVolumeClaim) -> bool {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    pod.namespace() == claim.metadata.namespace.as_deref().unwrap_or_default()
        && claim_names(pod).any(|wanted| wanted.name == name)
}

/// Why a claim that an ephemeral volume needs is not the pod's (`ephemeral.VolumeIsForPod`).
pub(super) fn not_owned(pod: &PodInfo, claim: &PersistentVolumeClaim) -> Option<String> {
    let uid = pod.object_uid().unwrap_or_default();
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    if controllers.next().is_some_and(|owner| owner.uid == uid) {
        return None;
    }
    Some(format!(
        "PVC {}/{} was not created for pod {}/{} (pod is not owner)",
        claim.metadata.namespace.as_deref().unwrap_or_default(),
        claim.metadata.name.as_deref().unwrap_or_default(),
        pod.namespace(),
        pod.name(),
    ))
}

/// What a lister says of a claim that it does not have.
pub(super) fn claim_not_found(name: &str) -> String {
    format!("persistentvolumeclaim {name:?} not found")
}

/// The class that a claim asks for; empty if it asks for none.
pub(super) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    class(&claim.metadata, spec.and_then(|spec| spec.storage_class_name.as_deref()))
}

/// The class that a volume belongs to; empty if it is in none.
pub(super) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    class(&volume.metadata, spec.and_then(|spec| spec.storage_class_name.as_deref()))
}

fn class<'a>(meta: &'a ObjectMeta, field: Option<&'a str>) -> &'a str {
    annotation(meta, BETA_CLASS).or(field).unwrap_or_default()
}

pub(super) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The name of the volume that the claim is, or is to be, bound to.
pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    spec.and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// Whether claim and volume know of each other.
pub(super) fn is_fully_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && annotation(&claim.metadata, BIND_COMPLETED).is_some()
}

/// What a claim asks for, in bytes; zero if it does not say, or says nonsense.
pub(super) fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let requests = claim.spec.as_ref().and_then(|spec: &PersistentVolumeClaimSpec| {
        spec.resources.as_ref().and_then(|resources| resources.requests.as_ref())
    });
    storage(requests)
}

/// How large a volume is, in bytes; zero if it does not say, or says nonsense.
pub(super) fn capacity(volume: &PersistentVolume) -> Quantity {
    let spec: Option<&PersistentVolumeSpec> = volume.spec.as_ref();
    storage(spec.and_then(|spec| spec.capacity.as_ref()))
}

fn storage(amounts: Option<&BTreeMap<String, Text>>) -> Quantity {
    let amount = amounts.and_then(|amounts| amounts.get("storage"));
    amount.and_then(|text| Quantity::try_from(text).ok()).unwrap_or_default()
}

/// Whether the volume can be had from the node (`CheckNodeAffinity`). Only labels count: a term
/// that names fields of the node matches none.
pub(super) fn is_reachable(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|affinity| affinity.required.as_ref()) else {
        return true;
    };
    let has_fields = |fields: &Option<Vec<_>>| fields.as_ref().is_some_and(|it| !it.is_empty());
    let terms = required.node_selector_terms.iter().filter(|term| !has_fields(&term.match_fields));
    let mut terms = terms;
    terms.any(|term| node_affinity::term_matches(term, node))
}

/// Whether a volume may be made for the node: one of the class's terms matches its labels, or there
/// are none. A term without expressions matches nothing.
pub(super) fn allows_topology(terms: &[TopologySelectorTerm], node: &Node) -> bool {
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let matches = |term: &TopologySelectorTerm| {
        let expressions = term.match_label_expressions.as_deref().unwrap_or_default();
        !expressions.is_empty()
            && expressions
                .iter()
                .all(|it| label(&it.key).is_some_and(|value| it.values.contains(value)))
    };
    terms.is_empty() || terms.iter().any(matches)
}
