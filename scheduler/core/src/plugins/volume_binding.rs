//! VolumeBinding: whether a node can have the pod's claims, and which volumes it gets there.
//!
//! Of a bound claim the volume must be reachable from the node. A claim whose class waits for the
//! first consumer is matched with the smallest volume that will do (`match_volumes.rs`), or left to
//! the class's provisioner if the node fits its topology and has the space (`provision.rs`).
//! Reserve says what is to be written: the volume's `claimRef`, or the claim's selected node. It does
//! not score: upstream does so only behind an alpha feature gate.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};

use super::pod_volumes::{
    WAIT_FOR_FIRST_CONSUMER, annotation, claim_names, claim_not_found, class_of_claim,
    is_fully_bound, is_reachable, not_owned, volume_name,
};
use crate::cache::{NodeInfo, Objects, Snapshot};
use crate::framework::{
    ClusterEvent, Hint, NodeFilter, Occurrence, Plugin, PluginName, PreFilter, Reason, Rejection,
    Step, Verdict,
};
use crate::pod::PodInfo;

mod hint;
mod match_volumes;
mod progress;
mod provision;
mod reserve;
#[cfg(test)]
mod tests;

use match_volumes::Candidates;
pub use progress::is_carried_out;

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeBinding;

/// On a claim: the node that its volume is to be made for.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
const NODE_CONFLICT: &str = "node(s) had volume node affinity conflict";
const NOT_ENOUGH_SPACE: &str = "node(s) did not have enough free storage";
const VOLUME_MISSING: &str =
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const UNBOUND_IMMEDIATE: &str = "pod has unbound immediate PersistentVolumeClaims";

impl Plugin for VolumeBinding {
    fn name(&self) -> PluginName {
        PluginName::VolumeBinding
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        match Claims::of(pod, snapshot.objects()) {
            Err(reason) => PreFilter::Reject(Rejection::unresolvable(reason)),
            Ok(None) => PreFilter::Skip,
            Ok(Some(claims)) => PreFilter::every_node(claims),
        }
    }

    fn reserve(
        &self,
        pod: &PodInfo,
        snapshot: &Snapshot,
        node: &NodeInfo,
    ) -> Result<Vec<Step>, Rejection> {
        match Claims::of(pod, snapshot.objects()) {
            Err(reason) => Err(Rejection::unresolvable(reason)),
            Ok(None) => Ok(Vec::new()),
            Ok(Some(claims)) => {
                claims.place(node.node()).map(|placed| reserve::steps(placed, node))
            }
        }
    }

    fn events(&self) -> &'static [ClusterEvent] {
        hint::EVENTS
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        hint::hint(pod, occurrence)
    }
}

/// A pod's claims: those that are bound, and those whose class waits for the pod.
struct Claims<'a> {
    objects: &'a Objects,
    /// With their volumes; `None` if there is no such volume.
    bound: Vec<Option<&'a PersistentVolume>>,
    /// The smallest first, each with the volumes that it could be bound to.
    unbound: Vec<Unbound<'a>>,
}

struct Unbound<'a> {
    claim: &'a Arc<PersistentVolumeClaim>,
    candidates: Candidates<'a>,
}

/// What an unbound claim gets on a node.
#[derive(Clone, Copy)]
enum Placed<'a> {
    /// This volume.
    Bound(&'a Arc<PersistentVolumeClaim>, &'a Arc<PersistentVolume>),
    /// A volume that is made for it there.
    Provisioned(&'a Arc<PersistentVolumeClaim>),
}

impl<'a> Claims<'a> {
    /// `None` if the pod has no claims; an error if it cannot be scheduled for one of them.
    fn of(pod: &PodInfo, objects: &'a Objects) -> Result<Option<Self>, Reason> {
        let mut found = Vec::new();
        for named in claim_names(pod) {
            let claim = objects.persistent_volume_claims.get(pod.namespace(), &named.name);
            let Some(claim) = claim else {
                return Err(match named.is_ephemeral {
                    true => format!(
                        "waiting for ephemeral volume controller to create the \
                         persistentvolumeclaim {:?}",
                        named.name
                    ),
                    false => claim_not_found(&named.name),
                }
                .into());
            };
            check(claim)?;
            if named.is_ephemeral
                && let Some(why) = not_owned(pod, claim)
            {
                return Err(why.into());
            }
            found.push(claim);
        }
        if found.is_empty() {
            return Ok(None);
        }
        Self::sort(found, objects).map(Some)
    }

    fn sort(
        found: Vec<&'a Arc<PersistentVolumeClaim>>,
        objects: &'a Objects,
    ) -> Result<Self, Reason> {
        let mut claims = Self { objects, bound: Vec::new(), unbound: Vec::new() };
        let mut is_immediate = false;
        for claim in found {
            if is_fully_bound(claim) {
                let volume = objects.persistent_volumes.get("", volume_name(claim));
                claims.bound.push(volume.map(|volume| &**volume));
            } else if waits(claim, objects)? && volume_name(claim).is_empty() {
                let candidates = Candidates::of(claim, objects);
                claims.unbound.push(Unbound { claim, candidates });
            } else {
                is_immediate = true;
            }
        }
        if is_immediate {
            return Err(UNBOUND_IMMEDIATE.into());
        }
        claims.unbound.sort_by_key(|unbound| unbound.candidates.requested());
        Ok(claims)
    }

    /// What the unbound claims get on this node, or why it will not do.
    fn place(&self, node: &Node) -> Result<Vec<Placed<'a>>, Rejection> {
        let mut reasons = Vec::new();
        reasons.extend(self.bound_conflict(node));
        let placed = match self.place_unbound(node) {
            Ok(placed) => placed,
            Err(reason) => {
                // The order in which upstream lists them.
                let at = if reasons.first() == Some(&VOLUME_MISSING) { 0 } else { reasons.len() };
                reasons.insert(at, reason);
                Vec::new()
            }
        };
        let mut reasons = reasons.into_iter();
        let Some(first) = reasons.next() else { return Ok(placed) };
        Err(reasons.fold(Rejection::unresolvable(first), |all, reason| all.and(reason, false)))
    }

    /// Of the bound volumes in turn, the first that is missing or out of the node's reach.
    fn bound_conflict(&self, node: &Node) -> Option<&'static str> {
        self.bound.iter().find_map(|volume| match volume {
            None => Some(VOLUME_MISSING),
            Some(volume) => (!is_reachable(volume, node)).then_some(NODE_CONFLICT),
        })
    }

    fn place_unbound(&self, node: &Node) -> Result<Vec<Placed<'a>>, &'static str> {
        let (mut placed, mut to_provision) = (Vec::new(), Vec::new());
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let selected = |claim: &PersistentVolumeClaim| {
            annotation(&claim.metadata, SELECTED_NODE).map(|selected| selected == name)
        };
        if self.unbound.iter().any(|unbound| selected(unbound.claim) == Some(false)) {
            return Err(BIND_CONFLICT);
        }
        let mut chosen: Vec<&Arc<PersistentVolume>> = Vec::new();
        for Unbound { claim, candidates } in &self.unbound {
            if selected(claim).is_some() {
                to_provision.push(*claim);
                continue;
            }
            match candidates.best(node, &chosen) {
                Some(volume) => {
                    chosen.push(volume);
                    placed.push(Placed::Bound(claim, volume));
                }
                None => to_provision.push(*claim),
            }
        }
        for claim in to_provision {
            provision::check(claim, node, self.objects)?;
            placed.push(Placed::Provisioned(claim));
        }
        Ok(placed)
    }
}

impl NodeFilter for Claims<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        self.place(node.node()).map(|_| ())
    }
}

/// A claim that lost its volume, or that is on its way out, holds its pods back.
fn check(claim: &PersistentVolumeClaim) -> Result<(), Reason> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Lost") {
        let volume = volume_name(claim);
        return Err(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
        )
        .into());
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted").into());
    }
    Ok(())
}

/// Whether the claim's class binds only once a pod needs it.
fn waits(claim: &PersistentVolumeClaim, objects: &Objects) -> Result<bool, Reason> {
    let name = class_of_claim(claim);
    let Some(class) = objects.storage_classes.get("", name).filter(|_| !name.is_empty()) else {
        return Ok(false);
    };
    match class.volume_binding_mode.as_deref() {
        Some(mode) => Ok(mode == WAIT_FOR_FIRST_CONSUMER),
        None => Err(format!("VolumeBindingMode not set for StorageClass {name:?}").into()),
    }
}
