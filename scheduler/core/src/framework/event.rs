//! What happens in a cluster that may make a waiting pod schedulable.
//!
//! Mirrors `fwk.ClusterEvent`: a resource and a set of actions. A plugin registers the events that
//! could lift its refusals; of an event that is registered it is then asked for a hint.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::cache::Object;
use crate::pod::PodInfo;

/// What kind of object an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A pod that is bound to a node.
    AssignedPod,
    /// Another pod that is not bound.
    UnscheduledPod,
    /// The waiting pod itself.
    TargetPod,
    /// Any pod; only for registering.
    Pod,
    /// A node.
    Node,
    /// A Namespace.
    Namespace,
    /// A Service.
    Service,
    /// A ReplicationController.
    ReplicationController,
    /// A ReplicaSet.
    ReplicaSet,
    /// A StatefulSet.
    StatefulSet,
    /// A PersistentVolume.
    PersistentVolume,
    /// A PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// A StorageClass.
    StorageClass,
    /// A CSINode.
    CSINode,
    /// A CSIDriver.
    CSIDriver,
    /// A CSIStorageCapacity.
    CSIStorageCapacity,
    /// A VolumeAttachment.
    VolumeAttachment,
    /// A PodDisruptionBudget.
    PodDisruptionBudget,
    /// A ResourceClaim.
    ResourceClaim,
    /// A ResourceSlice.
    ResourceSlice,
    /// A DeviceClass.
    DeviceClass,
    /// A DeviceTaintRule.
    DeviceTaintRule,
    /// A Workload.
    Workload,
    /// Anything: such an event wakes every pod.
    WildCard,
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Action(u32);

impl Action {
    /// The object is new.
    pub const ADD: Self = Self(1);
    /// The object is gone.
    pub const DELETE: Self = Self(1 << 1);
    /// `status.allocatable` of a node.
    pub const UPDATE_NODE_ALLOCATABLE: Self = Self(1 << 2);
    /// The labels of a node.
    pub const UPDATE_NODE_LABEL: Self = Self(1 << 3);
    /// The taints of a node, or `spec.unschedulable`.
    pub const UPDATE_NODE_TAINT: Self = Self(1 << 4);
    /// The conditions of a node.
    pub const UPDATE_NODE_CONDITION: Self = Self(1 << 5);
    /// The labels of a pod.
    pub const UPDATE_POD_LABEL: Self = Self(1 << 6);
    /// A pod asks for less than before.
    pub const UPDATE_POD_SCALE_DOWN: Self = Self(1 << 7);
    /// The tolerations of a pod.
    pub const UPDATE_POD_TOLERATION: Self = Self(1 << 8);
    /// The last scheduling gate of a pod is gone.
    pub const UPDATE_POD_GATES_ELIMINATED: Self = Self(1 << 9);
    /// Some other change; of objects other than pods and nodes, any change.
    pub const UPDATE_OTHER: Self = Self(1 << 10);
    /// The ResourceClaims that were generated for a pod (`status.resourceClaimStatuses`).
    pub const UPDATE_POD_GENERATED_RESOURCE_CLAIM: Self = Self(1 << 11);
    /// The annotations of a node.
    pub const UPDATE_NODE_ANNOTATION: Self = Self(1 << 12);
    /// `status.declaredFeatures` of a node.
    pub const UPDATE_NODE_DECLARED_FEATURES: Self = Self(1 << 13);
    /// Everything.
    pub const ALL: Self = Self((1 << 14) - 1);
    /// Every change of an object that stays.
    pub const UPDATE: Self = Self(Self::ALL.0 & !Self::ADD.0 & !Self::DELETE.0);

    /// The actions of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the two have an action in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is no action.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A resource and what was done to it, or (registered by a plugin) what may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterEvent {
    /// What it is about.
    pub resource: Resource,
    /// What was done.
    pub action: Action,
}

impl ClusterEvent {
    /// Pods that waited too long are tried again, whatever refused them.
    pub const UNSCHEDULABLE_TIMEOUT: Self =
        Self { resource: Resource::WildCard, action: Action::ALL };

    /// An event of `resource`.
    pub const fn new(resource: Resource, action: Action) -> Self {
        Self { resource, action }
    }

    /// Whether it wakes every pod.
    pub fn is_wild_card(self) -> bool {
        self.resource == Resource::WildCard
    }

    /// Whether a plugin that registered `self` wants to hear of `event`.
    pub fn covers(self, event: Self) -> bool {
        let is_pod = matches!(
            event.resource,
            Resource::AssignedPod | Resource::UnscheduledPod | Resource::TargetPod
        );
        let same = self.resource == event.resource || (self.resource == Resource::Pod && is_pod);
        (same || self.is_wild_card()) && self.action.intersects(event.action)
    }
}

/// The object of an event, before and after.
#[derive(Clone, Debug)]
pub enum Subject {
    /// None in particular.
    None,
    /// A node; one side is missing if it was added or deleted.
    Node(Option<Arc<Node>>, Option<Arc<Node>>),
    /// A pod; one side is missing if it was added or deleted.
    Pod(Option<Arc<PodInfo>>, Option<Arc<PodInfo>>),
    /// An object of another kind.
    Object(Object),
}

/// An event and its object.
#[derive(Clone, Debug)]
pub struct Occurrence {
    /// What happened.
    pub event: ClusterEvent,
    /// To what.
    pub subject: Subject,
}

/// What a plugin makes of an event for a pod that it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The pod may now be schedulable.
    Queue,
    /// The event changes nothing for the pod.
    Skip,
}

impl Hint {
    /// `Queue` if the condition holds.
    pub fn queue_if(condition: bool) -> Self {
        if condition { Self::Queue } else { Self::Skip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_events_cover_what_is_as_specific() {
        let pods = ClusterEvent::new(Resource::Pod, Action::DELETE);
        let assigned = ClusterEvent::new(Resource::AssignedPod, Action::DELETE);
        assert!(pods.covers(assigned));
        assert!(!assigned.covers(ClusterEvent::new(Resource::TargetPod, Action::DELETE)));
        assert!(!pods.covers(ClusterEvent::new(Resource::AssignedPod, Action::ADD)));
        assert!(!pods.covers(ClusterEvent::new(Resource::Node, Action::DELETE)));
        assert!(ClusterEvent::UNSCHEDULABLE_TIMEOUT.covers(assigned));
    }
}
