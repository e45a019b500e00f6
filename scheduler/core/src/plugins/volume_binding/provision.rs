//! Whether a volume may be made for a claim on a node: provisioner, topology, space.

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use pintle_api::labels::Selector;
use pintle_api::quantity::Quantity;

use super::super::pod_volumes::{allows_topology, class_of_claim, requested};
use super::{BIND_CONFLICT, NOT_ENOUGH_SPACE};
use crate::cache::Objects;

/// The provisioner of classes whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

pub(super) fn check(
    claim: &PersistentVolumeClaim,
    node: &Node,
    objects: &Objects,
) -> Result<(), &'static str> {
    let class = objects.storage_classes.get("", class_of_claim(claim)).ok_or(BIND_CONFLICT)?;
    if matches!(class.provisioner.as_str(), "" | NO_PROVISIONER) {
        return Err(BIND_CONFLICT);
    }
    if !allows_topology(class.allowed_topologies.as_deref().unwrap_or_default(), node) {
        return Err(BIND_CONFLICT);
    }
    if !has_space(claim, class, node, objects) {
        return Err(NOT_ENOUGH_SPACE);
    }
    Ok(())
}

/// Only drivers that publish their capacity are asked for it.
fn has_space(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &Node,
    objects: &Objects,
) -> bool {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let driver = objects.csi_drivers.get("", &class.provisioner);
    let publishes = driver.is_some_and(|driver| driver.spec.storage_capacity == Some(true));
    if !publishes || !requests.is_some_and(|requests| requests.contains_key("storage")) {
        return true;
    }
    let bytes = requested(claim).value();
    let name = class.metadata.name.as_deref().unwrap_or_default();
    objects.csi_storage_capacities.iter().any(|capacity| {
        capacity.storage_class_name == name
            && limit(capacity).is_some_and(|limit| limit.value() >= bytes)
            && is_accessible(capacity, node)
    })
}

/// How large a volume may be.
pub(super) fn limit(capacity: &CSIStorageCapacity) -> Option<Quantity> {
    let text = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref())?;
    Quantity::try_from(text).ok()
}

/// Without a topology it is accessible from no node.
fn is_accessible(capacity: &CSIStorageCapacity, node: &Node) -> bool {
    let selector = capacity.node_topology.as_ref().and_then(|it| Selector::try_from(it).ok());
    selector.is_some_and(|selector| selector.matches(&node.metadata.labels))
}
