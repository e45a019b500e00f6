//! GangScheduling: the pods of a gang wait for each other.
//!
//! Mirrors the plugin of the same name (KEP-4671, alpha in 1.35). A pod that names a pod group of a
//! Workload waits until the Workload is there and, if the group is a gang, until it has `minCount`
//! pods. Upstream then holds pods that have their node at Permit until there are `minCount` of them;
//! here the whole group is decided at once, so nothing is held: see `scheduler/gang.rs`.

#[cfg(test)]
mod tests;

use crate::cache::{Object, Objects, PodGroupKey, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, Occurrence, Plugin, PluginName, Rejection, Resource, Subject,
    Verdict,
};
use crate::pod::PodInfo;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct GangScheduling;

/// A pod's gang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gang {
    /// The group.
    pub key: PodGroupKey,
    /// How many pods must run together; never negative.
    pub min_count: usize,
}

impl Gang {
    /// The gang of the pod; `None` if it is in no group, or in one without such a policy. An error,
    /// in upstream's words, if its group is not there.
    pub fn of(pod: &PodInfo, objects: &Objects) -> Result<Option<Self>, String> {
        let Some(key) = PodGroupKey::of(pod) else { return Ok(None) };
        let Some(workload) = objects.workloads.get(&key.namespace, &key.workload) else {
            return Err(format!(
                "waiting for pods's workload \"{}\" to appear in scheduling queue",
                key.workload
            ));
        };
        let group = workload.spec.pod_groups.iter().find(|group| *group.name == *key.pod_group);
        let Some(group) = group else {
            return Err(format!(
                "pod group \"{}\" doesn't exist for a workload \"{}\"",
                key.pod_group, key.workload
            ));
        };
        let min_count = group.policy.gang.as_ref().map(|gang| gang.min_count);
        Ok(min_count.map(|count| Self { key, min_count: usize::try_from(count).unwrap_or(0) }))
    }
}

impl Plugin for GangScheduling {
    fn name(&self) -> PluginName {
        PluginName::GangScheduling
    }

    fn pre_enqueue(&self, pod: &PodInfo, snapshot: &Snapshot) -> Verdict {
        let gang = Gang::of(pod, snapshot.objects()).map_err(Rejection::unresolvable)?;
        match gang {
            Some(gang) if snapshot.pod_groups().count(&gang.key) < gang.min_count => {
                Err(Rejection::unresolvable(
                    "waiting for minCount pods from a gang to appear in scheduling queue",
                ))
            }
            _ => Ok(()),
        }
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const {
            &[
                ClusterEvent::new(Resource::UnscheduledPod, Action::ADD),
                ClusterEvent::new(Resource::AssignedPod, Action::ADD),
                ClusterEvent::new(Resource::Workload, Action::ADD),
            ]
        }
    }

    /// Another pod of the group, or the Workload.
    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        let Some(key) = PodGroupKey::of(pod) else { return Hint::Skip };
        match &occurrence.subject {
            Subject::Pod(_, Some(added)) => {
                Hint::queue_if(PodGroupKey::of(added).as_ref() == Some(&key))
            }
            Subject::Object(Object::Workload(_, Some(workload))) => {
                let (namespace, name) = (&workload.metadata.namespace, &workload.metadata.name);
                Hint::queue_if(
                    namespace.as_deref() == Some(&*key.namespace)
                        && name.as_deref() == Some(&*key.workload),
                )
            }
            _ => Hint::Queue,
        }
    }
}
