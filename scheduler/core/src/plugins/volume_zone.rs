//! VolumeZone: the zone and region labels of the pod's bound volumes must match the node's.
//!
//! A label may name several zones, separated by `__`. A node without any zone or region label takes
//! every volume.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PersistentVolume;

use super::pod_volumes::{
    WAIT_FOR_FIRST_CONSUMER, claim_not_found, class_of_claim, plain_claim_names, volume_name,
};
use crate::cache::{NodeInfo, Object, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeFilter, Occurrence, Plugin, PluginName, PreFilter, Reason,
    Rejection, Resource, Subject, Verdict,
};
use crate::pod::PodInfo;

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeZone;

const CONFLICT: &str = "node(s) had no available volume zone";

/// The labels, each with the name that it has now.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// A label of a volume and the values that it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Topology<'a> {
    label: &'static str,
    /// Where to look if the node does not have `label`.
    successor: &'static str,
    values: BTreeSet<&'a str>,
}

impl Plugin for VolumeZone {
    fn name(&self) -> PluginName {
        PluginName::VolumeZone
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        match topologies_of_pod(pod, snapshot) {
            Err(reason) => PreFilter::Reject(Rejection::unresolvable(reason)),
            Ok(topologies) if topologies.is_empty() => PreFilter::Skip,
            Ok(topologies) => PreFilter::every_node(Filter { topologies }),
        }
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const {
            let set = Action::ADD.or(Action::UPDATE);
            &[
                ClusterEvent::new(Resource::StorageClass, Action::ADD),
                ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_NODE_LABEL)),
                ClusterEvent::new(Resource::PersistentVolumeClaim, set),
                ClusterEvent::new(Resource::PersistentVolume, set),
            ]
        }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        let Subject::Object(object) = &occurrence.subject else { return Hint::Queue };
        match object {
            Object::StorageClass(_, Some(class)) => {
                let mode = class.volume_binding_mode.as_deref();
                Hint::queue_if(mode == Some(WAIT_FOR_FIRST_CONSUMER))
            }
            Object::PersistentVolumeClaim(_, Some(claim)) => {
                let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
                let name = claim.metadata.name.as_deref().unwrap_or_default();
                let is_used = plain_claim_names(pod).any(|wanted| wanted == name);
                Hint::queue_if(namespace == pod.namespace() && is_used)
            }
            Object::PersistentVolume(Some(old), Some(new)) => {
                Hint::queue_if(topologies(old) != topologies(new))
            }
            _ => Hint::Queue,
        }
    }
}

/// The labels of all bound volumes, or why the pod cannot be scheduled.
fn topologies_of_pod<'a>(
    pod: &PodInfo,
    snapshot: &'a Snapshot,
) -> Result<Vec<Topology<'a>>, Reason> {
    let objects = snapshot.objects();
    let mut all = Vec::new();
    for name in plain_claim_names(pod) {
        if name.is_empty() {
            return Err("PersistentVolumeClaim had no name".into());
        }
        let claim = objects.persistent_volume_claims.get(pod.namespace(), name);
        let claim = claim.ok_or_else(|| claim_not_found(name))?;
        let volume = volume_name(claim);
        if volume.is_empty() {
            check_waits(class_of_claim(claim), snapshot)?;
            continue;
        }
        let volume = objects
            .persistent_volumes
            .get("", volume)
            .ok_or_else(|| Reason::from(format!("persistentvolume {volume:?} not found")))?;
        all.extend(topologies(volume));
    }
    Ok(all)
}

/// An unbound claim is none of this plugin's business if its class waits for the pod.
fn check_waits(class: &str, snapshot: &Snapshot) -> Result<(), Reason> {
    if class.is_empty() {
        return Err("PersistentVolumeClaim had no pv name and storageClass name".into());
    }
    let found = snapshot.objects().storage_classes.get("", class);
    let found = found
        .ok_or_else(|| Reason::from(format!("storageclass.storage.k8s.io {class:?} not found")))?;
    match found.volume_binding_mode.as_deref() {
        None => Err(format!("VolumeBindingMode not set for StorageClass {class:?}").into()),
        Some(WAIT_FOR_FIRST_CONSUMER) => Ok(()),
        Some(_) => Err("PersistentVolume had no name".into()),
    }
}

/// The labels of one volume. One that names an empty zone is ignored.
fn topologies(volume: &PersistentVolume) -> Vec<Topology<'_>> {
    let labels = volume.metadata.labels.as_ref();
    let topology = |(label, successor): (&'static str, &'static str)| {
        let values = labels?.get(label)?.split("__").map(str::trim);
        let values: BTreeSet<&str> = values.collect();
        (!values.contains("")).then_some(Topology { label, successor, values })
    };
    LABELS.into_iter().filter_map(topology).collect()
}

struct Filter<'a> {
    topologies: Vec<Topology<'a>>,
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let labels = node.node().metadata.labels.as_ref();
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
        if LABELS.iter().all(|(key, _)| label(key).is_none()) {
            return Ok(());
        }
        let matches = |topology: &Topology<'_>| {
            let value = label(topology.label).or_else(|| label(topology.successor));
            value.is_some_and(|value| topology.values.contains(value))
        };
        if self.topologies.iter().all(matches) {
            return Ok(());
        }
        Err(Rejection::unresolvable(CONFLICT))
    }
}

#[cfg(test)]
mod tests;
