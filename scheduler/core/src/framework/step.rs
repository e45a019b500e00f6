//! What is to be written before a pod is bound: upstream's PreBind, as values.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ContainerExtendedResourceRequest, PersistentVolume, PersistentVolumeClaim,
};
use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::cache::Objects;

/// One thing that a plugin reserved for a pod and that must be written before the pod is bound (or,
/// from PostFilter, to make room). Until then it is assumed: [`crate::cache::Objects`] answers with
/// the objects of the step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Update the volume, whose `claimRef` is now set, and wait until the claim is bound to it.
    BindVolume {
        /// As it shall be written; its resourceVersion is that of what was read.
        volume: Arc<PersistentVolume>,
        /// The claim it is bound to, as it was read.
        claim: Arc<PersistentVolumeClaim>,
    },
    /// Update the claim, whose annotation `volume.kubernetes.io/selected-node` is now set, and wait
    /// until it is bound.
    ProvisionVolume {
        /// As it shall be written; its resourceVersion is that of what was read.
        claim: Arc<PersistentVolumeClaim>,
    },
    /// Wait until the claim is bound; what binds it was written before.
    AwaitVolume {
        /// As it was read.
        claim: Arc<PersistentVolumeClaim>,
    },
    /// Create the claim for the pod's extended resources with its finalizer, then write its status, and
    /// in the pod's which container has which of its requests.
    CreateClaim {
        /// As it shall be written.
        claim: Arc<ResourceClaim>,
        /// Which request is for which container.
        mappings: Vec<ContainerExtendedResourceRequest>,
    },
    /// Delete the claim, which an earlier attempt made for the pod.
    DeleteClaim {
        /// As it was read.
        claim: Arc<ResourceClaim>,
    },
    /// Write the claim: its finalizer if the object has one that the written one lacks, then its
    /// status (allocation and reservedFor).
    WriteClaim {
        /// As it was read.
        old: Arc<ResourceClaim>,
        /// As it shall be written.
        new: Arc<ResourceClaim>,
    },
}

impl Step {
    /// Makes `objects` answer as if the step were done.
    pub fn assume(&self, objects: &mut Objects) {
        match self {
            Self::BindVolume { volume, .. } => objects.persistent_volumes.assume(volume),
            Self::ProvisionVolume { claim } => objects.persistent_volume_claims.assume(claim),
            Self::AwaitVolume { .. } | Self::DeleteClaim { .. } => {}
            Self::CreateClaim { claim: new, .. } | Self::WriteClaim { new, .. } => {
                objects.resource_claims.assume(new);
            }
        }
    }

    /// Takes [`Step::assume`] back.
    pub fn forget(&self, objects: &mut Objects) {
        match self {
            Self::BindVolume { volume, .. } => objects.persistent_volumes.forget(volume),
            Self::ProvisionVolume { claim } => objects.persistent_volume_claims.forget(claim),
            Self::AwaitVolume { .. } | Self::DeleteClaim { .. } => {}
            Self::CreateClaim { claim: new, .. } | Self::WriteClaim { new, .. } => {
                objects.resource_claims.forget(new);
            }
        }
    }
}
