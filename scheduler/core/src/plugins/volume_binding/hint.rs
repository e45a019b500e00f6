//! Which changes could lift a refusal.

use pintle_api::quantity::Quantity;

use super::provision::limit;
use crate::cache::Object;
use crate::framework::{Action, ClusterEvent, Hint, Occurrence, Resource, Subject};
use crate::plugins::pod_volumes::{annotation, refers_to};
use crate::pod::PodInfo;

const SET: Action = Action::ADD.or(Action::UPDATE);

pub(super) const EVENTS: &[ClusterEvent] = &[
    ClusterEvent::new(Resource::StorageClass, SET),
    ClusterEvent::new(Resource::PersistentVolumeClaim, SET),
    ClusterEvent::new(Resource::PersistentVolume, SET),
    ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_NODE_LABEL)),
    ClusterEvent::new(Resource::CSINode, SET),
    ClusterEvent::new(Resource::CSIDriver, Action::UPDATE),
    ClusterEvent::new(Resource::CSIStorageCapacity, SET),
];

/// On a CSINode: the plugins whose volumes go to CSI drivers there.
const MIGRATED_PLUGINS: &str = "storage.alpha.kubernetes.io/migrated-plugins";

pub(super) fn hint(pod: &PodInfo, occurrence: &Occurrence) -> Hint {
    let Subject::Object(object) = &occurrence.subject else { return Hint::Queue };
    match object {
        Object::PersistentVolumeClaim(_, Some(claim)) => Hint::queue_if(refers_to(pod, claim)),
        Object::StorageClass(Some(old), Some(new)) => {
            Hint::queue_if(old.allowed_topologies != new.allowed_topologies)
        }
        Object::CSINode(Some(old), Some(new)) => {
            let migrated = |meta| annotation(meta, MIGRATED_PLUGINS);
            Hint::queue_if(migrated(&old.metadata) != migrated(&new.metadata))
        }
        // Upstream asks only if a volume in the pod itself names the driver, which no provisioned
        // volume does.
        Object::CSIDriver(Some(old), Some(new)) => {
            let publishes = |spec: Option<bool>| spec == Some(true);
            let (before, now) = (old.spec.storage_capacity, new.spec.storage_capacity);
            Hint::queue_if(publishes(before) && !publishes(now))
        }
        Object::CSIStorageCapacity(Some(old), Some(new)) => {
            let limit = |it| limit(it).map(Quantity::value);
            Hint::queue_if(limit(new) > limit(old))
        }
        _ => Hint::Queue,
    }
}
