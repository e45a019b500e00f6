//! Which volume a claim is bound to on a node (`FindMatchingVolume`).
//!
//! A volume that is bound to the claim beforehand comes first. Else it is the smallest of those that
//! are available, free, large enough, of the claim's class and mode, that have its access modes and
//! the labels it selects, and that the node can reach. All but the last is the same for every node:
//! the volumes are sifted and sorted once a pod.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use pintle_api::labels::Selector;
use pintle_api::quantity::Quantity;

use super::super::pod_volumes::{
    capacity, class_of_claim, class_of_volume, is_reachable, requested,
};
use crate::cache::Objects;

/// The volumes that come into question for a claim.
pub(super) struct Candidates<'a> {
    requested: Quantity,
    /// Bound to the claim beforehand, in the listers' order.
    prebound: Vec<&'a Arc<PersistentVolume>>,
    /// The smallest first; of the same size in the listers' order.
    free: Vec<&'a Arc<PersistentVolume>>,
}

impl<'a> Candidates<'a> {
    pub(super) fn of(claim: &PersistentVolumeClaim, objects: &'a Objects) -> Self {
        let requested = requested(claim);
        let class = class_of_claim(claim);
        let volumes = objects.persistent_volumes.iter().filter(|volume| {
            class_of_volume(volume) == class
                && capacity(volume) >= requested
                && volume.metadata.deletion_timestamp.is_none()
                && same_mode(claim, volume)
                && same_attributes(volume, claim)
        });
        let (prebound, rest): (Vec<_>, Vec<_>) =
            volumes.partition(|volume| is_bound_to(volume, claim));
        let selector = selector(claim);
        let is_free = |volume: &&Arc<PersistentVolume>| is_free(volume, claim, &selector);
        let mut free: Vec<_> = rest.into_iter().filter(is_free).collect();
        free.sort_by_key(|volume| capacity(volume));
        Self { requested, prebound, free }
    }

    /// What the claim asks for.
    pub(super) fn requested(&self) -> Quantity {
        self.requested
    }

    /// The best volume on the node that is not among the `chosen`.
    pub(super) fn best(
        &self,
        node: &Node,
        chosen: &[&Arc<PersistentVolume>],
    ) -> Option<&'a Arc<PersistentVolume>> {
        let is_left = |volume: &&&Arc<PersistentVolume>| {
            !chosen.iter().any(|it| it.metadata.name == volume.metadata.name)
        };
        if let Some(volume) = self.prebound.iter().find(is_left) {
            // Where it cannot be had, the claim cannot.
            return is_reachable(volume, node).then_some(*volume);
        }
        self.free.iter().filter(is_left).find(|volume| is_reachable(volume, node)).copied()
    }
}

/// What the claim's selector says of volumes' labels.
fn selector(claim: &PersistentVolumeClaim) -> Selector {
    match claim.spec.as_ref().and_then(|spec| spec.selector.as_ref()) {
        None => Selector::everything(),
        Some(selector) => Selector::try_from(selector).unwrap_or_else(|_| Selector::nothing()),
    }
}

fn is_free(volume: &PersistentVolume, claim: &PersistentVolumeClaim, selector: &Selector) -> bool {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let spec = volume.spec.as_ref();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    let modes = spec.and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    phase == Some("Available")
        && spec.is_none_or(|spec| spec.claim_ref.is_none())
        && selector.matches(&volume.metadata.labels)
        && wanted.unwrap_or_default().iter().all(|mode| modes.contains(mode))
}

/// Claims and volumes of a class of attributes are only for each other.
fn same_attributes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let claim = claim.spec.as_ref().and_then(|it| it.volume_attributes_class_name.as_deref());
    let volume = volume.spec.as_ref().and_then(|it| it.volume_attributes_class_name.as_deref());
    claim.unwrap_or_default() == volume.unwrap_or_default()
}

fn same_mode(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let claim = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    let volume = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    claim.unwrap_or("Filesystem") == volume.unwrap_or("Filesystem")
}

/// Whether the volume is bound to the claim, by its user or by a controller.
pub(super) fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return false;
    };
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || claim.metadata.uid.as_deref() == Some(uid))
}
